"""The page of a run, made anew: `python -m nanotorch.report RUN`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nanotorch.train.terminal.command import note, path_option, run_command

EPILOG = """\
examples:
  {prog} runs/iris-20260101T120000Z-1f2e
  {prog} SWEEP/trial-7
  {prog} RUN --png

A run that has stopped on its way is judged by its validation part, for its test
part is looked at once, at the end.

exit codes:
  0 done   1 failed   2 bad usage, or no run
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Write report.html and learning_curve.svg of a run from what the run left.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        "run",
        type=path_option,
        metavar="RUN",
        help="the directory of a run (of a sweep: its best trial), of folds or repeats",
    )
    add("--png", action="store_true", help="also write learning_curve.png (needs the extra pictures)")
    add("--device", metavar="D", help="auto, cpu, cuda or cuda:N instead of the run's")
    return made


def main(argv: Sequence[str] | None = None, prog: str = "python -m nanotorch.report") -> int:
    """Do what the arguments say and return the exit code."""
    return run_command(parser(prog).parse_args, _report, argv)


def _report(options: argparse.Namespace) -> None:
    from nanotorch.train.report import page_again
    from nanotorch.train.use.loaded_run import load_told

    for path in page_again.write(load_told(options.run, "best", options.device), png=options.png):
        note(f"{path} is written")
