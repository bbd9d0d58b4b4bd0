"""The trials of a sweep in their order: by the validation score that chooses the best epoch of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nanotorch.registry import describe_value
from nanotorch.train.score.meter import is_loss
from nanotorch.train.sweep.trials import Trial
from nanotorch.train.terminal.text_report import aligned, in_short, label, number, short

MOST_SHOWN = 10  # trials of the table at the end
LONGEST_VALUE = 20
LEFT = "left the sweep"  # how it is said of a trial that halving has ended


class Standing(NamedTuple):
    """The best epoch of a run so far, by the rule of `Training.judge`: the larger the better."""

    value: float
    loss: float
    epoch: int

    @property
    def order(self) -> tuple[float, float]:
        """What decides: the score, and among equals the smallest loss."""
        return self.value, -self.loss


@dataclass(slots=True)
class Ranked:
    """What a sweep knows of a trial.

    Attributes:
        trial: which one.
        score: the mean over its runs of the best validation score; None where there is none.
        loss: the mean loss of these epochs.
        best_epoch: the best epoch; None of a trial of several runs.
        epochs: how many epochs were trained in all.
        stopped: why it ended before its time, or None.
        error: what it failed by, or None.
        scores: of each part by the best model; the means over its runs.
        seconds: how long its runs took, each by itself.
    """

    trial: Trial
    score: float | None = None
    loss: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    stopped: str | None = None
    error: str | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float | None = None

    def facts(self) -> dict[str, Any]:
        """Return what `summary.json` of the sweep says of it."""
        return {
            "name": self.trial.name,
            "values": self.trial.values,
            "score": self.score,
            "loss": self.loss,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "stopped": self.stopped,
            "error": self.error,
            "scores": self.scores,
        }


def standing(history: Sequence[Mapping[str, Any]], monitor: str, epochs: int | None = None) -> Standing | None:
    """Return the best of these epochs, or of the first ones; None where there is none."""
    best = None
    for record in history[:epochs]:
        value = record[f"validation_{monitor}"]
        found = Standing(-value if is_loss(monitor) else value, record["validation_loss"], record["epoch"])
        if best is None or found.order > best.order:
            best = found
    return best


def over_runs(found: Sequence[Standing | None]) -> tuple[float, float]:
    """Return the order of a trial among others, from those of its runs: the means; of one that failed the least."""
    known = [one.order for one in found if one is not None]
    if len(known) < len(found) or not known:
        return -math.inf, -math.inf
    return math.fsum(value for value, _ in known) / len(known), math.fsum(loss for _, loss in known) / len(known)


def table(ranked: Sequence[Ranked], monitor: str) -> str:
    """Return the best trials as aligned text; how many epochs they had is told where it is not the same for all."""
    shown = ranked[:MOST_SHOWN]
    keys = in_short(shown[0].trial.values)
    epochs = len({one.epochs for one in ranked}) > 1
    lines = [["", "trial", label(monitor), *["epochs"] * epochs, *keys.values()]]
    for place, one in enumerate(shown, start=1):
        score = "failed" if one.score is None else number(one.score)
        values = [_in_few(one.trial.values.get(key)) for key in keys]
        lines.append([str(place), one.trial.name, score, *[str(one.epochs)] * epochs, *values])
    return aligned(lines, left=2)


def _in_few(value: Any) -> str:
    """Return a swept value as it stands in a table."""
    return f"{value:.4g}" if isinstance(value, float) else short(describe_value(value), LONGEST_VALUE)
