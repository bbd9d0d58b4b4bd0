"""What there is to tell of a run when it is done: gathered once, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch import nn
from nanotorch.summary import Summary, summary
from nanotorch.train import classification
from nanotorch.train.build import Data
from nanotorch.train.classification import Calibration, ClassScore
from nanotorch.train.config import Config, resolved
from nanotorch.train.datasets import Table
from nanotorch.train.loop import EVALUATION_BATCH
from nanotorch.train.preprocessing import Preprocessing
from nanotorch.train.training import Part
from nanotorch.utils.data import DataLoader

__all__ = ["Findings", "gather"]


@dataclass(frozen=True)
class Findings:
    """All about a run.

    Attributes:
        config: what the run did.
        parts: the rows, by the name of their part.
        preprocessing: how rows are prepared for the model.
        layers: the table of the model.
        judged: the name of the part whose predictions are looked at: "test", where there is one.
        outputs: what the best model gives for the rows of that part, (rows, outputs).
        notices: what is to be known of the data.
    """

    config: Config
    parts: Mapping[str, Table]
    preprocessing: Preprocessing
    layers: Summary
    judged: str
    outputs: NDArray[Any]
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
        scaler = self.preprocessing.target_scaler
        outputs = self.outputs.astype(np.float64)
        return outputs if scaler is None else scaler.inverse_transform(outputs)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """What a classifier says of each class, for the judged part."""
        return classification.probabilities(self.outputs)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix of a classifier, on the judged part."""
        return classification.confusion(self.true, classification.predicted(self.outputs), len(self.names))

    @cached_property
    def classes(self) -> list[ClassScore]:
        """The scores of every class, on the judged part; none for a regression."""
        return [] if self.is_regression else classification.class_scores(self.confusion, self.names)

    @cached_property
    def calibration(self) -> Calibration:
        """How far the probabilities of a classifier can be believed, on the judged part."""
        return classification.calibration(self.probabilities, self.true)

    def facts(self) -> dict[str, Any]:
        """What `summary.json` says beside the scores; nothing for a regression."""
        if self.is_regression:
            return {}
        return {"classes": [score._asdict() for score in self.classes], "calibration_error": self.calibration.error}


def gather(config: Config, data: Data, model: nn.Module, parts: Mapping[str, Part]) -> Findings:
    """Let the model predict the last part of the data, and look at its layers."""
    judged = list(parts)[-1]
    return Findings(
        config, data.parts, data.preprocessing, _layers(model, parts["train"], config.train.batch_size), judged,
        _outputs(model, parts[judged]), getattr(data, "notices", ()),
    )  # fmt: skip


def _outputs(model: nn.Module, part: Part) -> NDArray[Any]:
    model.eval()
    with torch.no_grad():
        loader: DataLoader[Any] = DataLoader(part.dataset, getattr(part.dataset, "rows_at_once", EVALUATION_BATCH))
        return np.concatenate([model(features).cpu().numpy() for features, *_ in loader])


def _layers(model: nn.Module, part: Part, batch_size: int) -> Summary:
    """The table of the model for a training batch; what layers are and hold, for their times change from run to run."""
    rows = part.features(batch_size)
    model.train(len(rows) > 1)  # a batch norm cannot train on a single row
    try:
        return summary(model, rows, repeats=1)
    finally:
        model.eval()
