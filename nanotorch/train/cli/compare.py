"""Trained runs beside one another: `python -m nanotorch.compare RUN RUN ...`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from nanotorch.train.terminal.command import note, path_option, run_command

EPILOG = """\
examples:
  {prog} runs/digits_mlp-*
  {prog} RUN RUN --by loss --output compare.svg
  {prog} RUN RUN --output compare.html

exit codes:
  0 done   1 failed   2 bad usage, or no run
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Show the scores of several runs, the best first, and where their configs differ.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        "runs", type=path_option, nargs="+", metavar="RUN", help="the directory of a run (of a sweep alone: its trials)"
    )
    add("--by", metavar="SCORE", help="the score that decides the order (default: the first beside the loss)")
    add(
        "--part",
        metavar="PART",
        help="whose scores: test, validation or train (default: validation: to choose by the test part flatters)",
    )
    add(
        "--output",
        type=path_option,
        metavar="FILE",
        help="draw the learning curves over one another: .html, .svg, .png or .pdf",
    )
    return made


def main(argv: Sequence[str] | None = None, prog: str = "python -m nanotorch.compare") -> int:
    """Do what the arguments say and return the exit code."""
    return run_command(parser(prog).parse_intermixed_args, _compare, argv)


def _trials(place: str) -> Iterator[str]:
    """Yield the runs that a directory alone stands for: the complete trials of a sweep, else itself."""
    from pathlib import Path

    found = sorted(Path(place).glob("trial-*/summary.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    yield from [str(path.parent) for path in found] or [place]


def _monitor(place: str) -> str | None:
    """Return the score that ranks the trials of a sweep, where it is complete."""
    from pathlib import Path

    from nanotorch.train.record.records import RecordError, SweepSummary, read_json

    try:
        return str(read_json(Path(place) / "summary.json", SweepSummary)["monitor"])
    except (FileNotFoundError, RecordError):
        return None


def _best(place: str) -> str:
    """Return the run that a directory among others stands for: the best trial of a sweep, else itself."""
    from pathlib import Path

    from nanotorch.train.use.loaded_run import best_trial

    best = best_trial(Path(place))
    if best is not None:
        note(f"{place} is a sweep, and this is of its best trial, {best}")
    return place if best is None else str(Path(place) / best)


def _compare(options: argparse.Namespace) -> None:
    import shutil
    from pathlib import Path

    from nanotorch.train.record.layout import refuse_to_replace
    from nanotorch.train.report.comparison import as_text, compare, read_run
    from nanotorch.train.report.comparison_page import write
    from nanotorch.train.terminal.command import UsageError

    given = [*_trials(options.runs[0])] if len(options.runs) == 1 else [*map(_best, options.runs)]
    places = list({Path(run).resolve(): run for run in given}.values())
    if len(places) < 2:
        raise UsageError("a comparison needs two runs or more")
    if options.output is not None:
        refuse_to_replace(options.output, [], map(Path, places))
    runs, without = [], []
    for place in places:
        try:
            run = read_run(place)
            if run.summary is None and not run.history:
                raise UsageError(f"{place} has nothing to compare yet: no epoch of this run is complete")
            runs.append(run)
        except UsageError as error:
            if not Path(place).exists():
                raise
            without.append(str(error))  # a pattern such as runs/* has found it
    if len(runs) < 2:
        raise UsageError(without[0])
    for text in (*without, *(text for run in runs for text in run.notices)):
        note(text)
    by = options.by or (_monitor(options.runs[0]) if len(options.runs) == 1 else None)
    found = compare(runs, by, options.part or "validation")
    for run in found.runs:
        if run.summary is None:
            note(f"{run.place} is not complete ({run.progress}), so it has no {found.part} scores yet")
    print(as_text(found, max(60, shutil.get_terminal_size((100, 24)).columns)))
    if options.output is not None:
        write(Path(options.output), found)
        print(f"\ncurves in {options.output}")
