"""What there is to tell of a run when it is done: gathered once, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch import nn
from nanotorch.summary import Summary, summary
from nanotorch.train.config.loading import resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import Table
from nanotorch.train.fit.loop import rows_at_once
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.prepare import Data
from nanotorch.train.score import classification
from nanotorch.train.score.classification import Calibration, ClassScore
from nanotorch.utils.data import DataLoader


@dataclass(frozen=True)
class Findings:
    """All about a run.

    Attributes:
        config: what the run did.
        parts: the rows, by the name of their part.
        preprocessing: how rows are prepared for the model.
        layers: the table of the model.
        judged: the name of the part whose predictions are looked at: "test", where there is one.
        guessed: what the best model says of the rows of that part: class numbers (n,), or outputs (n, targets).
        stated: the probability that it gives the second of two classes, or of more the one that it chose, (n,).
        outputs_of: what the best model gives for rows as it sees them, (n, in_features).
        notices: what is to be known of the data.
    """

    config: Config
    parts: Mapping[str, Table]
    preprocessing: Preprocessing
    layers: Summary
    judged: str
    guessed: NDArray[Any]
    stated: NDArray[np.float64]
    outputs_of: Callable[[NDArray[np.float64]], NDArray[Any]]
    notices: Sequence[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, or the targets."""
        return self.preprocessing.target_names

    @property
    def is_regression(self) -> bool:
        """Whether numbers are predicted, not classes."""
        return self.preprocessing.task == "regression"

    @property
    def resolved(self) -> str:
        """The config with every value, as YAML."""
        return resolved(self.config)

    @property
    def true(self) -> NDArray[Any]:
        """The targets of the judged part: class numbers (n,), or values (n, targets)."""
        return self.parts[self.judged].targets

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """What a regression predicts for the judged part, in the units of the targets."""
        return self.preprocessing.in_units(self.guessed)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether a classifier has found the class of each row of the judged part."""
        found: NDArray[np.bool_] = self.true == self.guessed
        return found

    @property
    def certainty(self) -> NDArray[np.float64]:
        """The probability of the chosen class, for each row of the judged part."""
        return np.maximum(self.stated, 1 - self.stated) if len(self.names) == 2 else self.stated

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix of a classifier, on the judged part: classes times classes numbers."""
        return classification.confusion(self.true, self.guessed, len(self.names))

    @cached_property
    def classes(self) -> list[ClassScore]:
        """The scores of every class, on the judged part; none for a regression."""
        return [] if self.is_regression else classification.class_scores(self.true, self.guessed, self.names)

    @cached_property
    def calibration(self) -> Calibration:
        """How far the probabilities of a classifier can be believed, on the judged part."""
        return classification.calibration(self.stated, self.true == 1 if len(self.names) == 2 else self.right)

    def facts(self) -> dict[str, Any]:
        """Return what `summary.json` says beside the scores; nothing for a regression."""
        if self.is_regression:
            return {}
        return {"classes": [score._asdict() for score in self.classes], "calibration_error": self.calibration.error}


def gather(config: Config, data: Data, model: nn.Module, parts: Mapping[str, Part]) -> Findings:
    """Let the model predict the last part of the data, and look at its layers."""
    judged = list(parts)[-1]
    return Findings(
        config,
        data.parts,
        data.preprocessing,
        _layers(model, parts["train"], config.train.batch_size),
        judged,
        *_outputs(model, parts[judged]),
        partial(_outputs_of, model, parts[judged]),
        getattr(data, "notices", ()),
    )


def _outputs(model: nn.Module, part: Part) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return what the model says of the rows, and how sure it is of their classes."""
    guessed, stated = [], []
    model.eval()
    with torch.no_grad():
        for features, *_ in DataLoader(part.dataset, rows_at_once(part)):
            outputs = model(features).cpu().numpy()
            if part.scored_as["task"] == "regression":
                guessed.append(outputs)
                continue
            chances = classification.probabilities(outputs)
            guessed.append(classification.predicted(outputs))
            stated.append(chances[:, 1] if chances.shape[1] == 2 else chances.max(axis=1))
    return np.concatenate(guessed), np.concatenate(stated) if stated else np.empty(0)


def _outputs_of(model: nn.Module, part: Part, features: NDArray[np.float64]) -> NDArray[Any]:
    """Return what the model gives for prepared rows, some at once."""
    like, at_once = part.features(1), rows_at_once(part)
    pieces = []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(features), at_once):
            rows = torch.tensor(features[start : start + at_once], dtype=like.dtype, device=like.device)
            pieces.append(model(rows).cpu().numpy())
    return np.concatenate(pieces)


def _layers(model: nn.Module, part: Part, batch_size: int) -> Summary:
    """Return the table of the model for a training batch;
    what layers are and hold, for their times change from run to run.
    """
    rows = part.features(batch_size)
    model.train(len(rows) > 1)  # a batch norm cannot train on a single row
    try:
        return summary(model, rows, repeats=1)
    finally:
        model.eval()
