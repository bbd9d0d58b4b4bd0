"""Rprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Unpack

from nanotorch.optim.optimizer import Execution, Optimizer, arguments, number_of
from nanotorch.registry import OPTIMIZERS, Between, Fraction, NonNegativeFloat

Etas = tuple[Fraction, Annotated[float, Between(1, low_open=True)]]


def rprop(
    xp: Any,
    param: Any,
    grad: Any,
    prev: Any,
    step_size: Any,
    *,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
    maximize: bool,
) -> None:
    """Step by each element's own size, which grows while its gradient keeps its sign and shrinks when it turns."""
    if maximize:
        grad = -grad
    product = grad * prev
    turned = product < 0
    step_size *= xp.astype(xp.where(product > 0, etas[1], xp.where(turned, etas[0], 1)), step_size.dtype)
    xp.copyto(step_size, xp.minimum(xp.maximum(step_size, step_sizes[0]), step_sizes[1]))
    xp.copyto(prev, xp.where(turned, xp.zeros_like(grad), grad))
    param -= ((prev > 0) * step_size) - ((prev < 0) * step_size)


@OPTIMIZERS.register
class Rprop(Optimizer):
    """Goes by the signs of the gradient alone: each element has a step size of its own, which starts as `lr`.

    For full batches, since the sign of a small batch's gradient means little. `etas` are the factors by which a step
    size shrinks and grows, `step_sizes` are its bounds.

    Riedmiller and Braun, A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm (1993).
    """

    rule = staticmethod(rprop)

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1e-2,
        etas: Etas = (0.5, 1.2),
        step_sizes: tuple[NonNegativeFloat, NonNegativeFloat] = (1e-6, 50.0),
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Rprop: etas are a factor between 0 and 1 and one above 1, got {etas}")
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count, the gradient before, and the step sizes."""
        return ("step", "prev", "step_size")

    def initial_value(self, name: str, group: Mapping[str, Any]) -> float:
        """Step sizes start as the learning rate."""
        return float(number_of(group["lr"])) if name == "step_size" else 0.0
