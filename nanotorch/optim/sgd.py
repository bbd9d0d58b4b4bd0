"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.optimizer import Execution, Optimizer, arguments
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat


def sgd(
    xp: Any,
    param: Any,
    grad: Any,
    momentum_buffer: Any = None,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """Step against the gradient, or against its running sum; the sum starts as the first gradient, undampened."""
    if maximize:
        grad = -grad
    if weight_decay:
        grad = grad + weight_decay * param
    if momentum_buffer is not None:
        momentum_buffer *= momentum
        momentum_buffer += grad if first or not dampening else (1 - dampening) * grad
        grad = grad + momentum * momentum_buffer if nesterov else momentum_buffer
    param -= lr * grad


@OPTIMIZERS.register
class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum.

    Sutskever et al., On the importance of initialization and momentum in deep learning (2013), for `nesterov`.

    >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = torch.optim.SGD([weight], lr=0.5)
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> weight
    tensor([0.5000, 1.5000], requires_grad=True)
    """

    rule = staticmethod(sgd)

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1e-3,
        momentum: NonNegativeFloat = 0.0,
        dampening: float = 0.0,
        weight_decay: NonNegativeFloat = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and a dampening of 0")
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return a buffer for the running sum, where there is momentum."""
        return ("momentum_buffer",) if group["momentum"] else ()
