"""Adamax."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.adam import Betas
from nanotorch.optim.optimizer import Execution, Optimizer, arguments
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat


def adamax(
    xp: Any,
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_inf: Any,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    maximize: bool,
    step: float,
) -> None:
    """Step along the running mean of the gradient, divided by its largest size, which fades."""
    beta1, beta2 = betas
    if maximize:
        grad = -grad
    if weight_decay:
        grad = grad + weight_decay * param
    exp_avg += (1 - beta1) * (grad - exp_avg)
    exp_inf *= beta2
    xp.copyto(exp_inf, xp.maximum(exp_inf, xp.absolute(grad) + eps))
    param -= (lr / (1 - beta1**step)) * exp_avg / exp_inf


@OPTIMIZERS.register
class Adamax(Optimizer):
    """Adam with the largest gradient so far, faded by `beta2`, in place of the root mean square.

    Kingma and Ba, Adam: A Method for Stochastic Optimization (2015), section 7.1.
    """

    rule = staticmethod(adamax)

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: NonNegativeFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.0,
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count, the running mean and the fading maximum."""
        return ("step", "exp_avg", "exp_inf")
