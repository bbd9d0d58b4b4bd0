"""The scores of a trained run, again: `python -m nanotorch.evaluate`."""

from nanotorch.train.cli.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
