"""From a table to what a model sees: fitted on the training part alone, saved with the model as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nanotorch.train.datasets import FloatArray, Standardizer, Table, Task

__all__ = ["Preprocessing"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What was done to the columns of the training part, and is done to every other row that the model sees.

    Attributes:
        task: "binary", "multiclass" or "regression".
        feature_names: the columns that go in.
        target_names: the classes, or the columns of the targets.
        scaler: standardises the features, or None.
        target_scaler: standardises the targets of a regression, or None.
    """

    task: Task
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    scaler: Standardizer | None
    target_scaler: Standardizer | None

    @classmethod
    def fit(cls, table: Table, standardize: bool, standardize_target: bool) -> Self:
        """Learn from the training part."""
        scaler = Standardizer.fit(table.features) if standardize else None
        regression = table.task == "regression"
        target_scaler = Standardizer.fit(table.targets) if regression and standardize_target else None
        return cls(table.task, table.feature_names, table.target_names, scaler, target_scaler)

    @property
    def in_features(self) -> int:
        """How many numbers a row has for the model."""
        return len(self.feature_names)

    @property
    def out_features(self) -> int:
        """How many outputs the model has: a logit for two classes, one for each of more, or one for each target."""
        return 1 if self.task == "binary" else len(self.target_names)

    def features(self, table: Table) -> FloatArray:
        """The rows of a table as the model sees them, (n, in_features) float64."""
        return table.features if self.scaler is None else self.scaler.transform(table.features)

    def targets(self, table: Table) -> Any:
        """The targets as the loss sees them: class numbers (n,), or values (n, k) float64."""
        return table.targets if self.target_scaler is None else self.target_scaler.transform(table.targets)

    @property
    def target_scale(self) -> FloatArray | None:
        """What an error of the model is multiplied by to be in the units of the targets."""
        return None if self.target_scaler is None else self.target_scaler.scale

    def state(self) -> dict[str, Any]:
        """All of it as plain values, exact in JSON: `from_state` gives an equal object back."""
        return {
            "task": self.task,
            "feature_names": self.feature_names,
            "target_names": self.target_names,
            "scaler": None if self.scaler is None else self.scaler.state(),
            "target_scaler": None if self.target_scaler is None else self.target_scaler.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from what `state` returned."""
        scalers = {
            name: None if state[name] is None else Standardizer.from_state(state[name]) for name in ("scaler", "target_scaler")
        }
        return cls(state["task"], tuple(state["feature_names"]), tuple(state["target_names"]), **scalers)
