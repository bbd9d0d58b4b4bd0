"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.optimizer import Execution, Optimizer, arguments
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat, Probability


def adadelta(
    xp: Any,
    param: Any,
    grad: Any,
    square_avg: Any,
    acc_delta: Any,
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """Step against the gradient times the running size of the steps, divided by the running size of the gradients."""
    if maximize:
        grad = -grad
    if weight_decay:
        grad = grad + weight_decay * param
    square_avg *= rho
    square_avg += (1 - rho) * (grad * grad)
    delta = xp.sqrt(acc_delta + eps)
    delta /= xp.sqrt(square_avg + eps)
    delta *= grad
    acc_delta *= rho
    acc_delta += (1 - rho) * (delta * delta)
    param -= lr * delta


@OPTIMIZERS.register
class Adadelta(Optimizer):
    """Scales each gradient so that the step has the running size of the steps before it.

    Zeiler, ADADELTA: An Adaptive Learning Rate Method (2012).
    """

    rule = staticmethod(adadelta)

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1.0,
        rho: Probability = 0.9,
        eps: NonNegativeFloat = 1e-6,
        weight_decay: NonNegativeFloat = 0.0,
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count, and the running mean squares of the gradient and of the step."""
        return ("step", "square_avg", "acc_delta")
