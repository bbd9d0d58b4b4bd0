"""All commands behind one: `python -m nanotorch`, or `nanotorch` where the package is installed."""

from nanotorch.train.cli.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
