"""Columns to a common size, by the statistics of the training part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, Self

import numpy as np

from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.table import DataError, FloatArray

CLIP = 3.0
How = bool | Literal["robust", "quantile"]


@dataclass(frozen=True, slots=True)
class Standardizer:
    """Shifts and scales columns to mean 0 and standard deviation 1, as they had them when it was fitted.

    Fit it on the training part alone: a test score is honest only if nothing about the test rows was
    known. A constant column is shifted and not scaled. With `clip`, what lies far out is drawn in smoothly:
    `z / sqrt(1 + (z / clip) ** 2)` is z where that is small, and never as large as `clip`.
    """

    mean: FloatArray
    scale: FloatArray
    clip: float | None = None

    @classmethod
    def fit(cls, values: FloatArray | DiskRows, key: str = "standardize") -> Self:
        """Take the statistics of the columns of `values`, (n, d); `key` of a config's data asks for it."""
        if isinstance(values, DiskRows):
            return cls._fit_in_blocks(values, key)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = values.mean(axis=0), values.std(axis=0)
        _check_size(values, deviation, key)
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

    @classmethod
    def fit_robustly(cls, values: FloatArray) -> Self:
        """Take medians and distances between quartiles, which no outlier moves, and clip smoothly at 3.

        Where the quartiles are one, half the range is the scale. Holzmueller, Grinsztajn and Steinwart, "Better by
        Default" (2024).
        """
        with np.errstate(over="ignore", invalid="ignore"):
            low, center, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            scale = np.where(high > low, high - low, values.max(axis=0) / 2 - values.min(axis=0) / 2)
        _check_size(values, scale, "standardize")
        return cls(center, np.where(scale > 0, scale, 1.0), CLIP)

    def transform(self, values: FloatArray) -> FloatArray:
        """Standardised values."""
        scaled = (values - self.mean) / self.scale
        return scaled if self.clip is None else scaled / np.hypot(1, scaled / self.clip)

    def inverse_transform(self, values: FloatArray) -> FloatArray:
        """Return values in the original units."""
        return values * self.scale + self.mean

    def state(self) -> dict[str, Any]:
        """Return the statistics as lists, exact in JSON: `Standardizer.from_state` gives the same object back."""
        statistics = {"mean": self.mean.tolist(), "scale": self.scale.tolist()}
        return statistics if self.clip is None else {**statistics, "clip": self.clip}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from what `state` returned."""
        return cls(np.asarray(state["mean"], np.float64), np.asarray(state["scale"], np.float64), state.get("clip"))


@dataclass(frozen=True, slots=True)
class QuantileScaler:
    """Makes columns normal: each quantile of a column goes to that of the normal distribution, and what lies between
    two of them is on the line between.

    Values beyond the outermost quantiles go where these go; equal quantiles go to the mean of their places; a constant
    column goes to 0. Fit it on the training part alone.

    Attributes:
        edges: the quantiles of each column, rising.
        places: where they go.
    """

    edges: tuple[FloatArray, ...]
    places: tuple[FloatArray, ...]

    @classmethod
    def fit(cls, values: FloatArray) -> Self:
        """Take quantiles of the columns of `values`, (n, d): one for each 30 rows, at least 10 and at most 100."""
        count = min(100, max(10, len(values) // 30)) + 1
        normal = np.array([NormalDist().inv_cdf((number + 0.5) / count) for number in range(count)])
        edges, places = [], []
        ordered = np.sort(values, axis=0)
        at, beyond = np.divmod(np.arange(count) * (len(values) - 1), count - 1)  # exact: a row's own value stays itself
        low, high = ordered[at], ordered[np.minimum(at + 1, len(values) - 1)]
        for column in (low + (high - low) * (beyond / (count - 1))[:, None]).T:
            different, which, times = np.unique(column, return_inverse=True, return_counts=True)
            edges.append(different)
            places.append(np.bincount(which, normal) / times)
        return cls(tuple(edges), tuple(places))

    @property
    def scale(self) -> FloatArray:
        """A sixth of the range of each column."""
        return np.array([(edges[-1] - edges[0]) / 6 or 1.0 for edges in self.edges])

    def transform(self, values: FloatArray) -> FloatArray:
        """Values as those of a normal distribution."""
        columns = zip(values.T, self.edges, self.places, strict=True)
        return np.stack([np.interp(column, edges, places) for column, edges, places in columns], 1)

    def state(self) -> dict[str, Any]:
        """Return all of it as lists, exact in JSON."""
        return {name: [column.tolist() for column in getattr(self, name)] for name in ("edges", "places")}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from what `state` returned."""
        return cls(*(tuple(np.asarray(column, np.float64) for column in state[name]) for name in ("edges", "places")))


def _check_size(values: FloatArray, spread: FloatArray, key: str) -> None:
    if not np.isfinite(spread).all():
        column = int(np.argmin(np.isfinite(spread)))
        largest = np.abs(values[:, column]).max()
        raise DataError(f"column {column} is too large to be standardised: it reaches {largest:g}", "data", key)


def fit_scaler(values: FloatArray, how: How) -> Standardizer | QuantileScaler | None:
    """Return what brings the columns of `values` to a common size; None where they stay as they are."""
    if how == "quantile":
        return QuantileScaler.fit(values)
    if how == "robust":
        return Standardizer.fit_robustly(values)
    return Standardizer.fit(values) if how else None


def scaler_from_state(state: Mapping[str, Any] | None) -> Any:
    """Return the scaler whose state this is."""
    return None if state is None else (QuantileScaler if "edges" in state else Standardizer).from_state(state)
