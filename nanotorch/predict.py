"""What a trained run predicts for new rows: `python -m nanotorch.predict`."""

from nanotorch.train.cli.predict import main

if __name__ == "__main__":
    raise SystemExit(main())
