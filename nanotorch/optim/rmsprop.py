"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.optimizer import Execution, Optimizer, arguments
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat


def rmsprop(
    xp: Any,
    param: Any,
    grad: Any,
    square_avg: Any,
    grad_avg: Any = None,
    momentum_buffer: Any = None,
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> None:
    """Step against the gradient divided by the root of its running mean square, or by its running deviation."""
    if maximize:
        grad = -grad
    if weight_decay:
        grad = grad + weight_decay * param
    square_avg *= alpha
    square_avg += (1 - alpha) * (grad * grad)
    if grad_avg is None:
        scale = xp.sqrt(square_avg)
    else:
        grad_avg += (1 - alpha) * (grad - grad_avg)
        scale = xp.sqrt(xp.maximum(square_avg - grad_avg * grad_avg, 0))  # rounding may take it below 0
    scale += eps
    if momentum_buffer is None:
        param -= lr * grad / scale
    else:
        momentum_buffer *= momentum
        momentum_buffer += grad / scale
        param -= lr * momentum_buffer


@OPTIMIZERS.register
class RMSprop(Optimizer):
    """Divides each gradient by a running root mean square of its own size.

    Hinton, Neural Networks for Machine Learning, lecture 6 (2012); `centered` subtracts the running mean first
    (Graves, Generating Sequences With Recurrent Neural Networks, 2013).
    """

    rule = staticmethod(rmsprop)

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1e-2,
        alpha: NonNegativeFloat = 0.99,
        eps: NonNegativeFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.0,
        momentum: NonNegativeFloat = 0.0,
        centered: bool = False,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count, the mean square, the momentum where there is one, and the mean with `centered`."""
        momentum = ("momentum_buffer",) if group["momentum"] else ()
        mean = ("grad_avg",) if group["centered"] else ()
        return ("step", "square_avg", *momentum, *mean)
