"""The scores of a trained run, again: `python -m nanotorch.evaluate RUN`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from nanotorch.train.terminal.command import note, path_option, run_command
from nanotorch.train.terminal.reading_options import add_reading_options, reading_options, told_as_options

EPILOG = """\
examples:
  {prog} runs/iris-20260101T120000Z-1f2e
  {prog} RUN --part test --json
  {prog} RUN --input rows.csv

exit codes:
  0 done   1 failed   2 bad usage, or no run
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Compute the scores of a run again, on its own data or on rows with the target.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("run", type=path_option, metavar="RUN", help="the directory of a run, or of folds or repeats for their mean")
    add("--checkpoint", type=path_option, default="best", metavar="best|last|PATH", help="which model (default: best)")
    add(
        "--part",
        action="append",
        default=[],
        metavar="NAME",
        help="train, validation or test; may be repeated (default: all)",
    )
    add(
        "--input",
        type=path_option,
        metavar="FILE",
        help="score these rows instead (.csv, .xlsx, .parquet, .npy; '-' is CSV on standard input)",
    )
    add(
        "--target",
        metavar="COLUMN",
        help="the column of --input with the true class, where the run knows no name for it",
    )
    add("--device", metavar="D", help="auto, cpu, cuda or cuda:N instead of the run's")
    add("--json", action="store_true", help="print JSON, every score in full precision")
    add_reading_options(made)
    return made


def main(argv: Sequence[str] | None = None, prog: str = "python -m nanotorch.evaluate") -> int:
    """Do what the arguments say and return the exit code."""
    return run_command(parser(prog).parse_args, _evaluate, argv)


def _evaluate(options: argparse.Namespace) -> None:
    from nanotorch.train.terminal.command import UsageError
    from nanotorch.train.terminal.text_report import table
    from nanotorch.train.use.evaluation import score, score_rows
    from nanotorch.train.use.loaded_run import load_told

    if options.input is not None and options.part:
        raise UsageError("--part names a part of the run's own data, and --input gives other rows: one of the two")
    written_as = reading_options(options)
    if options.input is None and written_as:
        raise UsageError(f"--{next(iter(written_as)).replace('_', '-')} says how --input is written, and there is none")
    run = load_told(options.run, options.checkpoint, options.device)
    if options.input is None:
        found = score(run, options.part)
    else:
        with told_as_options():
            found = score_rows(run, options.input, options.target, written_as)
    for text in found.notes:
        note(text)
    if options.json:
        facts: dict[str, Any] = {"run": str(run.directory)}
        if run.members:
            facts["members"] = [member.directory.name for member in run.members]
        else:
            facts |= {"checkpoint": run.checkpoint.name, "epoch": run.state["epoch"]}
        print(json.dumps({**facts, "rows": found.rows, "scores": found.scores}, indent=1))
    else:
        print(f"{run.config.name}: scores of {run.when}\n{table(found.scores, found.rows)}")
