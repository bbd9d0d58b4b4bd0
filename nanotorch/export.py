"""A trained run for other programs: `python -m nanotorch.export`."""

from nanotorch.train.cli.export import main

if __name__ == "__main__":
    raise SystemExit(main())
