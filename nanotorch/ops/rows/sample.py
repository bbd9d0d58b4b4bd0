"""Sample inputs of op rows: what the tests call every op with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(slots=True)  # frozen ones take six times as long to make, and there are 3,000
class Drawn:
    """An array to draw: its shape, its kind and the range of its values."""

    shape: tuple[int, ...]
    kind: str
    low: float = 0.0
    high: float = 0.0
    values: Any = None

    def draw(self, rng: np.random.Generator) -> np.ndarray[Any, Any]:
        """Return the array; floating point values are float64 and lie off the integers' halves, where kinks are."""
        if self.kind == "edge":
            return np.array(self.values, np.float64)
        if self.kind == "integer":
            return rng.integers(int(self.low), int(self.high), self.shape)
        if self.kind == "boolean":
            return rng.random(self.shape) < 0.5
        if self.kind == "distinct":
            count = int(np.prod(self.shape))
            return rng.permutation(np.linspace(self.low, self.high, count)).reshape(self.shape)
        if self.kind == "invertible":
            return rng.uniform(-1, 1, self.shape) + 2 * np.eye(self.shape[-1])
        if self.kind == "positive definite":
            factor = rng.uniform(-1, 1, self.shape)
            return factor @ factor.swapaxes(-1, -2) + np.eye(self.shape[-1])
        return rng.uniform(self.low, self.high, self.shape)


@dataclass(slots=True)
class Sample:
    """Arguments to call an op with; `Drawn` ones become tensors."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def sample(*args: Any, **kwargs: Any) -> Sample:
    """Return a sample from positional and keyword arguments."""
    return Sample(args, kwargs)


def real(*shape: int, low: float = -2.0, high: float = 2.0) -> Drawn:
    """Draw floating point numbers from [low, high)."""
    return Drawn(shape, "real", low, high)


def distinct(*shape: int, low: float = -2.0, high: float = 2.0) -> Drawn:
    """Draw floating point numbers that differ from each other by a margin, in random order."""
    return Drawn(shape, "distinct", low, high)


def constant(*shape: int, low: float = 0.5, high: float = 2.0) -> Drawn:
    """Draw floating point numbers for an argument that PyTorch does not differentiate."""
    return Drawn(shape, "constant", low, high)


def edge(values: Any) -> Drawn:
    """Take exactly these numbers: ties, zeros, bounds, infinities, NaN.

    Finite differences say nothing there, so such samples are compared with PyTorch only.
    """
    return Drawn(np.shape(values), "edge", values=values)


def invertible(*shape: int) -> Drawn:
    """Draw square matrices that are far from singular."""
    return Drawn(shape, "invertible")


def positive_definite(*shape: int) -> Drawn:
    """Draw symmetric positive definite matrices.

    Functions of those read one triangle or take symmetry for granted, so differences of single elements say nothing.
    """
    return Drawn(shape, "positive definite")


def integers(*shape: int, low: int = 0, high: int = 3) -> Drawn:
    """Draw integers from [low, high)."""
    return Drawn(shape, "integer", low, high)


def booleans(*shape: int) -> Drawn:
    """Draw truth values."""
    return Drawn(shape, "boolean", 0, 1)


unary = [sample(real(3, 2)), sample(real())]
above_zero = [sample(real(3, 2, low=0.3)), sample(real(low=0.3))]
binary = [sample(real(3, 2), real(2)), sample(real(2, 1), real(1, 3)), sample(real(), real(2)), sample(real(3), 2.5)]
integral = [sample(integers(3, 2, high=5), integers(2, low=1, high=5)), sample(integers(3, high=5), 2)]
