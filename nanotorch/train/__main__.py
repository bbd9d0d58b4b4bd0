"""Training from a config: `python -m nanotorch.train CONFIG [key=value ...]`."""

from nanotorch.train.cli.train import main

if __name__ == "__main__":
    raise SystemExit(main())
