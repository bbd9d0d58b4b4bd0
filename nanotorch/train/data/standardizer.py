"""Columns to mean 0 and standard deviation 1, by the statistics of the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.table import DataError, FloatArray


@dataclass(frozen=True, slots=True)
class Standardizer:
    """Shifts and scales columns to mean 0 and standard deviation 1, as they had them when it was fitted.

    Fit it on the training part alone: a test score is honest only if nothing about the test rows was
    known. A constant column is shifted and not scaled.
    """

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, values: FloatArray | DiskRows, key: str = "standardize") -> Self:
        """Take the statistics of the columns of `values`, (n, d); `key` of a config's data asks for it."""
        if isinstance(values, DiskRows):
            return cls._fit_in_blocks(values, key)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = values.mean(axis=0), values.std(axis=0)
        if not np.isfinite(deviation).all():
            column = int(np.argmin(np.isfinite(deviation)))
            largest = np.abs(values[:, column]).max()
            raise DataError(f"column {column} is too large to be standardised: it reaches {largest:g}", "data", key)
        constant = values.max(axis=0) == values.min(axis=0)
        unscaled = constant | (deviation == 0)
        return cls(np.where(constant, values[0], mean), np.where(unscaled, 1.0, deviation))

    @classmethod
    def _fit_in_blocks(cls, values: DiskRows, key: str) -> Self:
        first = values[0].astype(np.float64)
        total, squares, low, high = np.zeros_like(first), np.zeros_like(first), first, first
        for _, block in values.blocks():
            total += block.sum(axis=0, dtype=np.float64)
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        mean = total / len(values)
        for _, block in values.blocks():
            squares += ((block - mean) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / len(values))
        if not np.isfinite(deviation).all():
            raise DataError(
                f"column {int(np.argmin(np.isfinite(deviation)))} is too large to be standardised", "data", key
            )
        constant = low == high
        return cls(np.where(constant, first, mean), np.where(constant | (deviation == 0), 1.0, deviation))

    def transform(self, values: FloatArray) -> FloatArray:
        """Standardised values."""
        return (values - self.mean) / self.scale

    def inverse_transform(self, values: FloatArray) -> FloatArray:
        """Return values in the original units."""
        return values * self.scale + self.mean

    def state(self) -> dict[str, list[float]]:
        """Return the statistics as lists, exact in JSON: `Standardizer.from_state` gives the same object back."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Sequence[float]]) -> Self:
        """Rebuild from what `state` returned."""
        return cls(np.asarray(state["mean"], np.float64), np.asarray(state["scale"], np.float64))
