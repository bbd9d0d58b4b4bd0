"""Several runs beside one another: what their configs do not have in common, and their scores, the best first."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotorch.registry import describe_value
from nanotorch.train.config.loading import read_resolved
from nanotorch.train.config.strict_yaml import LARGEST_TEXT, ConfigError, parse, read
from nanotorch.train.record.records import (
    HeldOut,
    RecordError,
    SeveralSummary,
    Summary,
    SweepSummary,
    by_key,
    read_json,
    read_lines,
)
from nanotorch.train.score.judgement import Estimate, means, over_runs, share
from nanotorch.train.score.meter import is_loss
from nanotorch.train.terminal.command import UsageError
from nanotorch.train.terminal.text_report import aligned, label, number, short

BESIDE = ("name", "output")  # keys that do not decide what a run computes
LONGEST_VALUE = 24
NARROW = 16  # a name may be cut to
OF_COLUMNS = ("data.drop", "data.standardize", "data.categor", "data.numeric", "data.max_categories", "data.text")
"""Keys that say what a model sees of a row, and not which rows there are."""


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """What the files of a run say of it.

    Attributes:
        place: its directory.
        config: the values of its config, by keys such as "optimizer.lr".
        history: the record of every epoch; empty where the directory holds several runs.
        summary: what `summary.json` holds; None while the run is not complete.
        notices: a sentence for each file that does not hold what it has to.
        held_out: how far off it was on rows of the validation part, (m, targets), (m, 1) for classes.
        variance: of each target there.
        rows: how many rows each part has; of several runs, of the first of them.
    """

    place: Path
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any] | None
    notices: tuple[str, ...] = ()
    held_out: NDArray[np.float64] | None = None
    variance: NDArray[np.float64] | None = None
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def progress(self) -> str:
        """How far the run has come, in words."""
        return f"{len(self.history)} of {self.config.get('train.epochs', '?')} epochs"

    def score(self, part: str, name: str) -> float | None:
        """Return a final score, or None where there is none (yet)."""
        value: float | None = None if self.summary is None else self.summary["scores"].get(part, {}).get(name)
        return value

    def scored(self, part: str) -> list[str]:
        """Return the names of the scores of a part; of a run that is not complete, those that its epochs have."""
        if self.summary is not None:
            return list(self.summary["scores"].get(part, ()))
        last = self.history[-1] if self.history else {}
        return [key.removeprefix("validation_") for key in last if key.startswith("validation_")] or ["loss"]

    def spread(self, part: str, name: str) -> float | None:
        """Return the spread of a score, where the directory holds several runs."""
        value: float | None = (self.summary or {}).get("spread", {}).get(part, {}).get(name)
        return value


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs in the order of a score.

    Attributes:
        runs: the runs, the best first; those that are not complete come last.
        names: what each is called: the name of its directory, or its path where names are alike.
        by: the name of the score that decides the order.
        part: the part of the data that was scored.
        scores: the names of all scores.
        differing: the keys of the config in which the runs differ.
    """

    runs: tuple[ComparedRun, ...]
    names: tuple[str, ...]
    by: str
    part: str
    scores: tuple[str, ...]
    differing: tuple[str, ...]


def read_run(place: str | Path) -> ComparedRun:
    """Read what a run's directory says; a UsageError if it holds no run.
    What is damaged is left out and told in `notices`.
    """
    root = Path(place)
    resolved = root / "resolved.yaml"
    if not resolved.is_file():
        reason = (
            "it has no resolved.yaml"
            if root.is_dir()
            else "it is no directory"
            if root.exists()
            else "there is no such directory"
        )
        raise UsageError(f"{place} is not the directory of a run: {reason}")
    notices: list[str] = []
    config: Any = {}
    try:
        node, _ = parse(read(resolved, LARGEST_TEXT), str(resolved))
        config = node.plain() if node is not None else {}
        read_resolved(resolved)
    except ConfigError as error:
        notices.append(
            f"{' '.join(str(error).splitlines()[0].split())}; it may differ from the others in more than is shown"
        )
    history, problem = read_lines(root / "metrics.jsonl")
    notices += [] if problem is None else [f"{problem}; the epochs before that are shown"]
    summary = None
    try:
        summary = read_json(root / "summary.json", Summary, SeveralSummary, SweepSummary)
    except FileNotFoundError:
        pass
    except RecordError as error:
        notices.append(f"{error}; the run is shown as if it were not complete")
    held_out = variance = None
    rows: Mapping[str, int] = (summary or {}).get("rows", {})
    try:
        kept = read_json(root / "held_out.json", HeldOut)
        of_targets = np.array(kept["held_out"]).T
        held_out = of_targets if of_targets.ndim == 2 and of_targets.size else None
        variance = np.array(kept["variance"]) if kept.get("variance") is not None else None
    except (FileNotFoundError, RecordError, ValueError):  # the last: targets of other lengths
        pass
    for name in list((summary or {}).get("runs", ()))[:1]:
        with suppress(FileNotFoundError, RecordError):
            rows = read_json(root / name / "summary.json", Summary)["rows"]
    flat = dict(by_key(config)) if isinstance(config, dict) else {}
    return ComparedRun(root, flat, history, summary, tuple(notices), held_out, variance, rows)


def compare(runs: Sequence[ComparedRun], by: str | None = None, part: str = "test") -> Comparison:
    """Put runs in the order of a score; without `by` it is the first beside the loss that all of them have.

    Runs that have no such score in common, and a name that none has, are a UsageError.
    """
    complete = [run for run in runs if run.summary is not None]
    begun = [run for run in runs if run.summary is None]
    scored = [run.scored(part) for run in runs]
    if not all(scored):
        raise UsageError(
            f"{runs[scored.index([])].place} has no scores of a part {part!r}; its parts are"
            f" {_parts(runs[scored.index([])])}"
        )
    every = tuple(dict.fromkeys(name for names in scored for name in names))
    common = [name for name in every if all(name in names for names in scored)]
    if not set(common) - {"loss"}:
        listed = "\n  ".join(f"{run.place}: {', '.join(names)}" for run, names in zip(runs, scored, strict=True))
        raise UsageError(f"these runs have different scores, so none is the best:\n  {listed}")
    if by is None:
        by = next(name for name in common if name != "loss")
    elif by not in common:
        where = "only some of the runs have" if by in every else "no run has"
        raise UsageError(f"{where} a score {by!r}; they all have {', '.join(common)}")

    def rank(run: ComparedRun) -> tuple[float, float]:
        value = run.score(part, by)
        assert value is not None
        second = run.score(part, "loss") or 0.0  # among equals the smallest loss, as in training
        return (math.inf if math.isnan(value) else value if is_loss(by) else -value, second)

    ordered = (*sorted(complete, key=rank), *begun)
    keys = dict.fromkeys(key for run in ordered for key in run.config if key not in BESIDE)
    absent = object()
    differing = tuple(
        key for key in keys if any(run.config.get(key, absent) != ordered[0].config.get(key, absent) for run in ordered)
    )
    return Comparison(ordered, _names(ordered), by, part, every, differing)


def as_text(found: Comparison, width: int = 100) -> str:
    """Return the comparison as two tables of at most `width` columns, as far as names and numbers leave room."""
    numbers = [f"#{place}" for place in range(1, len(found.runs) + 1)]
    heads = [*(f"{found.part} {label(name)}" for name in found.scores)]
    intervals = [_interval(run, found.part, found.by) for run in found.runs]
    heads += ["95% interval"] * any(intervals) + [f"test {label(found.by)}"] * (found.part != "test")
    lines = [["", "run", "best epoch", *heads, "seconds"]]
    for place, run, name, interval in zip(numbers, found.runs, found.names, intervals, strict=True):
        summary = run.summary or {}
        scores = [_score_text(run, found.part, score) for score in found.scores]
        if any(intervals):
            scores.append("" if interval is None else f"{number(interval.low)} to {number(interval.high)}")
        if found.part != "test":
            scores.append(_score_text(run, "test", found.by))
        best = str(summary.get("best_epoch", "")) if run.summary is not None else run.progress
        seconds = summary.get("seconds")
        lines.append([place, name, best, *scores, "" if seconds is None else f"{seconds:.1f}"])
    beside = [k for k, name in enumerate(found.scores, start=3) if name != found.by]
    for k in (len(lines[0]) - 1, *reversed(beside)):  # what is missed least where there is no room for all
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        if sum([*widths[:1], min(widths[1], NARROW), *widths[2:]]) + 2 * (len(widths) - 1) > width:
            lines = [[*line[:k], *line[k + 1 :]] for line in lines]
    room = width - sum(max(len(line[k]) for line in lines) + 2 for k in range(len(lines[0])) if k != 1)
    for line in lines:
        line[1] = short(line[1], max(room, NARROW))
    text = [aligned(lines, left=2)]
    judged = [textwrap.fill(_told(one, found.by), width, subsequent_indent="    ") for one in chances(found)]
    text += ["\n".join(judged)] if judged else []
    if not found.differing:
        return "\n\n".join([*text, "the configs do not differ"])
    rows = [
        [
            key,
            *(
                short(describe_value(run.config.get(key)) if key in run.config else "-", LONGEST_VALUE)
                for run in found.runs
            ),
        ]
        for key in found.differing
    ]
    for first, last in _columns_that_fit([["config", *numbers], *rows], width):
        text.append(aligned([[line[0], *line[first:last]] for line in [["config", *numbers], *rows]]))
    return "\n\n".join(text)


class Chance(NamedTuple):
    """Whether a run differs from the best one by more than chance.

    Attributes:
        place: of the run in the comparison, from 1 on.
        gap: by how much its score is larger, with the interval of 95 % around that.
        rows: which rows both were judged by, in words.
    """

    place: int
    gap: Estimate
    rows: str

    @property
    def verdict(self) -> str:
        """What that says."""
        return "within chance" if self.gap.low <= 0 <= self.gap.high else "more than chance"


def chances(found: Comparison) -> list[Chance]:
    """Return of each run whether it differs from the best one by more than chance, where that is known."""
    each = [_chance(found, place) for place in range(2, len(found.runs) + 1)]
    return [one for one in each if one is not None]


def _chance(found: Comparison, place: int) -> Chance | None:
    """Return whether the difference between a run and the best one is more than chance; None where that is not known.

    Of the same rows pairs are compared (Note [Intervals]), of folds and repeats pairs of runs (Note [Several runs]);
    else both intervals tell.
    """
    best, run, by, part = found.runs[0], found.runs[place - 1], found.by, found.part
    pair = [_interval(one, part, by) for one in (run, best)]
    if pair[0] is None or pair[1] is None:
        return None
    gap = pair[0].value - pair[1].value
    low = gap - math.hypot(pair[0].value - pair[0].low, pair[1].high - pair[1].value)
    high = gap + math.hypot(pair[0].high - pair[0].value, pair[1].value - pair[1].low)
    rows = "other rows"
    if _same_rows(run, best, part):
        rows = "the same rows"
        paired = _paired(run, best, part, by)
        if paired is not None:
            low, high = sorted(gap + edge - paired.value for edge in (paired.low, paired.high))
    return Chance(place, Estimate(gap, low, high), rows)


def _told(one: Chance, by: str) -> str:
    gap, low, high = one.gap
    around = f"95% interval {low:+.4f} to {high:+.4f}, {one.rows}"
    return f"#{one.place}: {label(by)} {gap:+.4f} against #1 ({around}): {one.verdict}"


def _paired(run: ComparedRun, best: ComparedRun, part: str, by: str) -> Estimate | None:
    """Return the interval around the difference of two runs that were judged by the same rows, by pairs."""
    several = [_scores_of_runs(one, part, by) for one in (run, best)]
    if several[0] is not None and several[1] is not None:
        return over_runs(several[0] - several[1], run.rows[part] / run.rows["train"])
    errors = [_errors(one, part, by) for one in (run, best)]
    if errors[0] is None or errors[1] is None:
        return None
    [mean] = means((errors[0] - errors[1])[:, None])
    scale = _scale(best, part, by, float(errors[1].mean()))
    return Estimate(*(scale * each for each in mean))


def _interval(run: ComparedRun, part: str, by: str) -> Estimate | None:
    """Return the interval of 95 % around a score (Note [Intervals]), where the files of the run tell it."""
    value = run.score(part, by)
    if value is None or not math.isfinite(value) or not run.rows.get(part):
        return None
    several = _scores_of_runs(run, part, by)
    if several is not None:
        return within(over_runs(several, run.rows[part] / run.rows["train"]), by)
    if by == "accuracy":
        return share(round(value * run.rows[part]), run.rows[part])
    errors = _errors(run, part, by)
    if errors is None:
        return None
    [mean] = means(errors[:, None])
    scale = _scale(run, part, by, mean.value)
    low, high = sorted(value + scale * (edge - mean.value) for edge in (mean.low, mean.high))
    return Estimate(value, low, high)


def within(of: Estimate, by: str) -> Estimate:
    """Return an interval that ends where a score does: losses at 0, others at 1."""
    return of._replace(low=max(of.low, 0.0)) if is_loss(by) else of._replace(high=min(of.high, 1.0))


def _scores_of_runs(run: ComparedRun, part: str, by: str) -> NDArray[np.float64] | None:
    """Return the score of each run of folds or repeats; None where it is one run, or where that is not known."""
    runs = (run.summary or {}).get("runs", {})
    found = np.array([scores.get(part, {}).get(by, math.nan) for scores in runs.values()])
    return found if len(found) > 1 and np.isfinite(found).all() and run.rows.get(part) else None


def _errors(run: ComparedRun, part: str, by: str) -> NDArray[np.float64] | None:
    """Return of what the rows that a run kept a score is a function of the mean; None where it is of none."""
    off, task = run.held_out, (run.summary or {}).get("task")
    if off is None or part != "validation":
        return None
    if task != "regression":
        if by == "accuracy" and task in ("binary", "multilabel"):
            return np.where((off >= 0.5).any(axis=1), 1.0, 0.0)
        losses = np.mean(-np.log(np.maximum(1 - off, np.finfo(float).tiny)), axis=1)
        plain = math.isclose(losses.mean(), run.score(part, "loss") or 0.0, rel_tol=0.01)
        return losses if by == "loss" and plain else None
    loss = run.config.get("loss.name") if by == "loss" else "MSELoss"
    if by not in ("r2", "rmse", "loss") or loss not in ("MSELoss", "L1Loss") or (by == "rmse" and off.shape[1] > 1):
        return None
    if off.shape[1] > 1:  # each in units of its own
        if run.variance is None or not (run.variance > 0).all():
            return None
        off = off / np.sqrt(run.variance)
    found: NDArray[np.float64] = (off if loss == "L1Loss" else off**2).mean(axis=1)
    return found


def _scale(run: ComparedRun, part: str, by: str, mean: float) -> float:
    """Return by how much a score changes where the mean error of a row grows by one."""
    value = run.score(part, by)
    if by == "accuracy" or not mean or value is None:
        return -1.0
    if by == "r2":
        return -(1 - value) / mean
    return value / mean / (2 if by == "rmse" else 1)


def _same_rows(one: ComparedRun, other: ComparedRun, part: str) -> bool:
    """Return whether two runs were judged by the same rows: of the same table, divided in the same way."""
    keys = [key for key in {**one.config, **other.config} if key == "seed" or key.startswith("data.")]
    runs = [list((run.summary or {}).get("runs", ())) for run in (one, other)]
    if runs[0] and runs[0] == runs[1]:
        keys += ["train.folds", "train.repeats"]
    elif (
        any(runs)
        or part != "validation"
        or one.held_out is None
        or other.held_out is None
        or len(one.held_out) != len(other.held_out)
    ):
        return False
    return all(one.config.get(key) == other.config.get(key) for key in keys if not key.startswith(OF_COLUMNS))


def _score_text(run: ComparedRun, part: str, name: str) -> str:
    value, spread = run.score(part, name), run.spread(part, name)
    return "-" if value is None else number(value) if spread is None else f"{number(value)} ± {number(spread)}"


def _parts(run: ComparedRun) -> str:
    return ", ".join(run.summary["scores"]) if run.summary is not None else "not known yet"


def _names(runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    short_names = [run.place.resolve().name for run in runs]
    return tuple(
        name if short_names.count(name) == 1 else str(run.place) for run, name in zip(runs, short_names, strict=True)
    )


def _columns_that_fit(lines: Sequence[Sequence[str]], width: int) -> Iterable[tuple[int, int]]:
    """Return the columns beside the first in pieces, each of which fits beside the first."""
    widths = [max(len(line[k]) for line in lines) + 2 for k in range(len(lines[0]))]
    first, used = 1, widths[0]
    for k in range(1, len(widths)):
        if used + widths[k] - 2 > width and k > first:
            yield first, k
            first, used = k, widths[0]
        used += widths[k]
    yield first, len(widths)
