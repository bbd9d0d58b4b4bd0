"""What a trained run predicts for new rows: `python -m nanotorch.predict RUN --input IN.csv --output OUT.csv`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nanotorch.train.terminal.command import note, path_option, run_command
from nanotorch.train.terminal.reading_options import add_reading_options, reading_options, told_as_options

EPILOG = """\
examples:
  {prog} RUN --input rows.csv --output predictions.csv
  {prog} RUN --input a.parquet --output b.parquet --keep id
  {prog} RUN --input rows.csv --output - --interval 0.9
  cat rows.csv | {prog} RUN --input - --output - | head

The input has the columns that the model was trained on, in any order; further
ones are left alone. The output has a row for each row of the input, in the same
order: for classes `prediction` and `probability_<class>`, for numbers
`prediction` in the units of the target, or `prediction_<target>` where there
are several; for several targets of classes `prediction_<target>` and
`probability_<target>=<class>`, of two classes for the second alone (a target
with = in its name is quoted: `probability_"a=b"=c`). With
--interval, numbers have `prediction_low` and `prediction_high` too, and classes
`prediction_set`, a JSON list; with --spread there is `prediction_spread`, a
standard deviation.

exit codes:
  0 done   1 failed   2 bad usage, or no run
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Predict new rows with the model of a run.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("run", type=path_option, metavar="RUN", help="the directory of a run, or of folds or repeats for their mean")
    add(
        "--input",
        type=path_option,
        required=True,
        metavar="FILE",
        help="the rows: .csv (also .gz, .zip), .xlsx, .parquet, .npy; '-' is CSV on standard input",
    )
    add(
        "--output",
        type=path_option,
        required=True,
        metavar="FILE",
        help="the predictions: .csv or .parquet; '-' is CSV on standard output",
    )
    add("--keep", action="append", default=[], metavar="COLUMN", help="copy this column of the input; may be repeated")
    add(
        "--quote-formulas",
        action="store_true",
        help="in CSV, put an apostrophe before texts that begin with = + - @, a tab or a carriage return",
    )
    add(
        "--interval",
        type=_share,
        metavar="SHARE",
        help="also give what holds the truth with this probability, as 0.9: an interval for numbers, a set of classes",
    )
    add("--spread", action="store_true", help="of folds, repeats and tabm, also give how far their members are apart")
    add("--checkpoint", type=path_option, default="best", metavar="best|last|PATH", help="which model (default: best)")
    add_reading_options(made)
    return made


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, such as 0.9, got {text}")
    return share


def main(argv: Sequence[str] | None = None, prog: str = "python -m nanotorch.predict") -> int:
    """Do what the arguments say and return the exit code."""
    return run_command(parser(prog).parse_args, _predict, argv)


def _predict(options: argparse.Namespace) -> None:
    from nanotorch.train.terminal.standard_streams import printable
    from nanotorch.train.use.loaded_run import load_told
    from nanotorch.train.use.prediction import predict_file

    run = load_told(options.run, options.checkpoint)
    with told_as_options():
        done = predict_file(
            run,
            options.input,
            options.output,
            options.keep,
            options.quote_formulas,
            reading_options(options),
            options.interval,
            options.spread,
        )
    for text in done.notes:
        note(text)
    if options.output != "-":
        counts = ", ".join(f"{printable(name, kept='')} {count:,}" for name, count in done.classes.most_common(10))
        more = f", and {len(done.classes) - 10} further classes" if len(done.classes) > 10 else ""
        print(
            f"{done.rows:,} {'row' if done.rows == 1 else 'rows'} in"
            f" {options.output}{f': {counts}{more}' if counts else ''}"
        )
