"""What a sweep leaves for its user: `report.html`, and `best.yaml`, which trains the best trial again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nanotorch.train.config.loading import resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.record.records import SeveralSummary, read_json, read_lines
from nanotorch.train.record.resume import environment_of
from nanotorch.train.report.sweep_page import BEST, SweepPage, Tried, page
from nanotorch.train.run.folds import is_several, single_runs
from nanotorch.train.sweep.ranking import LEFT, Ranked
from nanotorch.train.terminal.text_report import number
from nanotorch.utils import files

MOST_CURVES = 6


def write(root: Path, config: Config, ranked: Sequence[Ranked], monitor: str) -> bool:
    """Write both, of trials of which the first is the best; returns whether the page is there.

    What cannot be written or drawn is said on stderr: it is no reason to lose a sweep.
    """
    best = ranked[0]
    assert best.score is not None
    again = resolved(best.trial.config)
    said = f"{best.trial.name}, the best of {len(ranked)} trials by validation {monitor}: {number(best.score)}"
    try:
        files.write(root / BEST, f"# {config.name}: {said}\n{again}", own=True)
        files.write(root / "report.html", page(found(root, config, ranked, monitor, again)), own=True)
    except OSError as error:
        print(f"warning: {error.filename or root} cannot be written ({error.strerror})", file=sys.stderr)
    except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        print(f"warning: {root / 'report.html'} cannot be made ({type(error).__name__}: {error})", file=sys.stderr)
    else:
        return True
    return False


def found(root: Path, config: Config, ranked: Sequence[Ranked], monitor: str, again: str) -> SweepPage:
    """Return what the page tells."""
    assert config.sweep is not None
    given = {key: _choices(value) for key, value in config.sweep.axes.items()}
    return SweepPage(
        name=config.name,
        tried=[_tried(root, one, monitor, place <= MOST_CURVES) for place, one in enumerate(ranked, start=1)],
        by=monitor,
        axes={key: value if isinstance(value, list) else [] for key, value in given.items()},
        log={key: next(iter(value)).startswith("log") for key, value in given.items() if isinstance(value, dict)},
        best=again,
        command=f"python -m nanotorch.train {shlex.quote(str(root / BEST))}",
    )


def _choices(given: object) -> object:
    """Return the values to try of a key, be they written as a list or as a choice; else what is given."""
    return given["choice"] if isinstance(given, dict) and "choice" in given else given


def _tried(root: Path, one: Ranked, monitor: str, draws: bool) -> Tried:
    place, spread, history = root / one.trial.name, None, []
    runs = [place.joinpath(*filter(None, [name])) for name, _ in single_runs(one.trial.config)]
    ran = [str(environment_of(run)[0].get("compile", "")) for run in runs]
    if is_several(one.trial.config):
        if one.score is not None:
            spread = read_json(place / "summary.json", SeveralSummary)["spread"]["validation"][monitor]
    elif draws and one.score is not None:
        history = read_lines(place / "metrics.jsonl")[0]
    return Tried(
        name=one.trial.name,
        values=one.trial.values,
        score=one.score,
        place=place,
        ended=one.error or one.stopped or "",
        left=(one.stopped or "").startswith(LEFT),
        scores=one.scores,
        spread=spread,
        best_epoch=one.best_epoch,
        epochs=one.epochs,
        seconds=one.seconds,
        history=history,
        tables=frozenset([text.startswith("table") for text in ran if text]),
    )
