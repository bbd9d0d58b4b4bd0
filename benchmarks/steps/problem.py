"""What a step trains on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg


@dataclass(frozen=True)
class Problem:
    """An MLP with its batch: cross-entropy of classes, or half the summed squared error of a matrix exponential."""

    sizes: tuple[int, ...]
    batch: int
    activation: str = "ReLU"
    squared: bool = False
    lr: float = 1e-3
    many: int = 100
    """Steps in a call of those contestants that can take many."""
    seed: int = 0
    """Of the parameters; the batch is always the same."""

    def draw(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Draw parameters (weight and bias of every layer), a batch of inputs and its targets."""
        rng = np.random.default_rng(0)
        parameters = self._parameters(rng)
        if self.seed:
            parameters = self._parameters(np.random.default_rng(self.seed))
        x = rng.standard_normal((self.batch, self.sizes[0])).astype(np.float32)
        if self.squared:
            side = round(self.sizes[0] ** 0.5)
            return parameters, x, scipy.linalg.expm(x.reshape(-1, side, side)).reshape(self.batch, -1)
        return parameters, x, rng.integers(0, self.sizes[-1], self.batch)

    def _parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        parameters = []
        for inputs, outputs in itertools.pairwise(self.sizes):
            bound = inputs**-0.5
            parameters.append(rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32))
            parameters.append(rng.uniform(-bound, bound, outputs).astype(np.float32))
        return parameters


@dataclass(frozen=True)
class DeepProblem(Problem):
    """Layers close to the identity, so that thousands of them neither blow values up nor let them vanish."""

    lr: float = 1e-9

    def draw(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Draw parameters, a batch of inputs and its classes."""
        parameters, x, y = super().draw()
        for number, parameter in enumerate(parameters):
            parameter *= 1e-4
            if number % 2 == 0:
                parameter += np.eye(len(parameter), dtype=np.float32)
        return parameters, np.abs(x), y


@dataclass(frozen=True)
class Contestant:
    """Someone who takes the step.

    Args:
        step: take a step; return the loss before it.
        read: return the parameters.
        many: take `count` steps in a call, where that is possible; return the loss before the last one.
    """

    step: Callable[[], float]
    read: Callable[[], list[np.ndarray]]
    many: Callable[[], float] | None = None
    count: int = 1
