"""What a sweep leaves for its user: `report.html`, and `best.yaml`, which trains the best trial again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from nanotorch.train.config.loading import resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.report.comparison import read_run
from nanotorch.train.report.sweep_page import SweepPage, Tried, page, ranked
from nanotorch.train.score.meter import main_metric
from nanotorch.train.sweep.trials import Trial, trials
from nanotorch.train.terminal.text_report import number
from nanotorch.utils import files


def standing(root: Path, config: Config, ended: Mapping[str, str] | None = None) -> SweepPage:
    """Return the trials of a sweep in `root`, the best first, as far as their directories say.

    `ended` says of a trial that could not come to its end why.
    """
    every = trials(config)
    tried = [_tried(root, one, (ended or {}).get(one.name, "")) for one in every]
    by = config.train.monitor
    if by == "auto":
        names = {name for one in tried if one.run is not None for name in one.run.scored("validation")}
        by = next((main_metric(task) for task in ("binary", "regression") if main_metric(task) in names), "loss")
    tried = ranked(tried, by)
    first = tried[0]
    best = next(one.config for one in every if one.name == first.name)
    assert config.sweep is not None
    given = config.sweep.axes
    lists = {
        key: value["choice"] if isinstance(value, dict) and "choice" in value else value for key, value in given.items()
    }
    return SweepPage(
        name=config.name,
        tried=tried,
        by=by,
        axes={key: value if isinstance(value, list) else [] for key, value in lists.items()},
        log={key: next(iter(value)).startswith("log") for key, value in lists.items() if isinstance(value, dict)},
        best=resolved(best) if first.is_complete else "",
        command=f"python -m nanotorch.train {shlex.quote(str(root / 'best.yaml'))}",
    )


def write(root: Path, config: Config, ended: Mapping[str, str] | None = None) -> SweepPage:
    """Write `report.html` and, where a trial is complete, `best.yaml`; what cannot be written is said on stderr."""
    found = standing(root, config, ended)
    try:
        if found.best:
            score = number(found.complete[0].score(found.by))
            best = f"{found.complete[0].name}, the best of {len(found.tried)} trials by validation {found.by}: {score}"
            files.write(root / "best.yaml", f"# {config.name}: {best}\n{found.best}", own=True)
        files.write(root / "report.html", page(found), own=True)
    except OSError as error:
        print(f"warning: {error.filename or root} cannot be written ({error.strerror})", file=sys.stderr)
    return found


def _tried(root: Path, trial: Trial, ended: str) -> Tried:
    begun = (root / trial.name / "resolved.yaml").is_file()
    return Tried(trial.name, trial.values, read_run(root / trial.name) if begun else None, ended)
