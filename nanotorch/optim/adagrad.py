"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.optimizer import Execution, Optimizer, arguments
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat


def adagrad(
    xp: Any,
    param: Any,
    grad: Any,
    sum: Any,
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
    step: float,
) -> None:
    """Step against the gradient divided by the root of the sum of all its squares so far."""
    if maximize:
        grad = -grad
    if weight_decay:
        grad = grad + weight_decay * param
    sum += grad * grad
    param -= (lr / (1 + (step - 1) * lr_decay)) * grad / (xp.sqrt(sum) + eps)


@OPTIMIZERS.register
class Adagrad(Optimizer):
    """Gives each element a learning rate that falls with the squares of its gradients so far.

    Duchi et al., Adaptive Subgradient Methods for Online Learning and Stochastic Optimization (2011).
    """

    rule = staticmethod(adagrad)

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1e-2,
        lr_decay: NonNegativeFloat = 0.0,
        weight_decay: NonNegativeFloat = 0.0,
        initial_accumulator_value: NonNegativeFloat = 0.0,
        eps: NonNegativeFloat = 1e-10,
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count and the sum of squares."""
        return ("step", "sum")

    def initial_value(self, name: str, group: Mapping[str, Any]) -> float:
        """Return the sum starts at `initial_accumulator_value`."""
        return float(group["initial_accumulator_value"])
