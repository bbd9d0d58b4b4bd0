"""The scores of a run, computed again from what it left: the same code as at its end, so the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nanotorch.train.build import Data, build, prepare
from nanotorch.train.command import UsageError
from nanotorch.train.loaded import LoadedRun
from nanotorch.train.loop import evaluate
from nanotorch.train.threads import blas_threads
from nanotorch.train.training import borrowed_generator

__all__ = ["Scores", "score"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Loss and scores by the name of the part of the data, how many rows each has, and what the user should know."""

    scores: dict[str, dict[str, float]]
    rows: dict[str, int]
    notes: tuple[str, ...] = ()


def score(run: LoadedRun, names: Sequence[str] = ()) -> Scores:
    """The scores of these parts of the run's own data, or of all of them.

    The data are loaded and split as for training. Where they are not what the run was trained on, a note says so.
    """
    with borrowed_generator():
        data = prepare(run.config)
        unknown = [name for name in names if name not in data.parts]
        if unknown:
            raise UsageError(f"this run has no part {unknown[0]!r}; it has {', '.join(data.parts)}")
        notes = []
        if not _alike(data.preprocessing.state(), run.preprocessing.state()):
            notes.append("the data are not what they were when the run was trained, so neither are its parts")
        training, parts = build(run.config, Data(data.parts, run.preprocessing))
        training.use(run.model.state_dict())
        chosen = {name: part for name, part in parts.items() if name in (names or parts)}
        with blas_threads(training.model, run.config.train.batch_size):
            scores = {name: evaluate(training, part) for name, part in chosen.items()}
    return Scores(scores, {name: len(part) for name, part in chosen.items()}, tuple(notes))


def _alike(one: Any, other: Any) -> bool:
    """Whether plain values agree, numbers up to what another machine's sums may change."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)
