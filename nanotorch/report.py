"""The page of a run, made anew: `python -m nanotorch.report`."""

from nanotorch.train.cli.report import main

if __name__ == "__main__":
    raise SystemExit(main())
