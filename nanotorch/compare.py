"""Trained runs beside one another: `python -m nanotorch.compare`."""

from nanotorch.train.cli.compare import main

if __name__ == "__main__":
    raise SystemExit(main())
