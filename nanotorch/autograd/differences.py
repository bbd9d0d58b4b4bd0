"""Finite differences of functions of tensors, and what they say where a function has no derivative.

Note [Kinks]
~~~~~~~~~~~~
Central differences assume a derivative. Where an analytic entry disagrees with them, the one-sided differences at the
step and at a tenth of it tell why:

- Both sides agree at the step: the function is smooth there, and the entry is wrong.
- They disagree at the step, but not at a tenth of it: a kink lies beside the point, within the step. The smaller step
  decides.
- They keep disagreeing: a kink, as of `relu` and `abs` at 0, `clamp` at a bound, `max` where two elements are
  equal. Every convention for the derivative there, PyTorch's included, is a slope between the two sides, so an entry is
  accepted that lies between them, and refused outside.
- The slopes grow tenfold, as the step shrinks to a tenth: a jump, as of `floor` at an integer. No number is right
  there, and none is refused.

A disagreement counts only beyond the tolerances, and beyond what rounding can explain. A kink whose derivative is the
mean of both sides, as that of `abs` at 0, agrees with the central difference and is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array

Array = np.ndarray[Any, Any]


def floating_outputs(result: Any) -> list[Tensor]:
    """Return the floating point tensors that a function returned, one or several."""
    values = [result] if isinstance(result, Tensor) else list(result)
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]


def on_host(tensor: Tensor) -> Array:
    """Return the values of a tensor as a NumPy array."""
    return np.asarray(tensor.device.xp.to_numpy(tensor._array))


class Slopes(NamedTuple):
    """What is known of one derivative (Note [Kinks]):
    both sides at the smallest step, and `smooth`, `kink` or `jump`.
    """

    left: float
    right: float
    kind: str


class Differences:
    """Differences of a function's floating point outputs with respect to its inputs.

    Args:
        func: the function.
        arguments: where it is differentiated.
        eps: the step.
    """

    def __init__(self, func: Callable[..., Any], arguments: Sequence[Any], eps: float) -> None:
        self.func, self.arguments, self.eps = func, list(arguments), eps

    def outputs(self) -> list[Tensor]:
        """Return the outputs at the arguments themselves."""
        return floating_outputs(self.func(*self.arguments))

    def moved(self, k: int, direction: Array, step: float) -> list[Array]:
        """Return the flattened outputs with argument `k` moved; its memory order is kept."""
        argument = self.arguments[k]
        array = on_host(argument.detach()).copy(order="K")
        array += step * direction.reshape(array.shape)
        moved = list(self.arguments)
        moved[k] = from_array(argument.device.xp.asarray(array), argument.device).requires_grad_()
        return [on_host(output.detach()).reshape(-1).copy() for output in floating_outputs(self.func(*moved))]

    def central(self, k: int, direction: Array) -> list[Array]:
        """Return the central differences of all outputs along a direction of argument `k`."""
        plus, minus = self.moved(k, direction, self.eps), self.moved(k, direction, -self.eps)
        return [(p - m) / (2 * self.eps) for p, m in zip(plus, minus, strict=True)]

    def slopes(self, k: int, column: int, number: int, element: int, tolerance: Callable[[float], float]) -> Slopes:
        """Look closer at one entry: element `element` of output `number`
        by element `column` of argument `k`.
        """
        direction = np.zeros(self.arguments[k].numel())
        direction[column] = 1.0
        middle = self.moved(k, direction, 0.0)[number][element]

        def sides(step: float) -> tuple[float, float]:
            plus, minus = (
                self.moved(k, direction, step)[number][element],
                self.moved(k, direction, -step)[number][element],
            )
            return float((middle - minus) / step), float((plus - middle) / step)

        small = self.eps / 10
        (left, right), (left2, right2) = sides(self.eps), sides(small)
        steep, steep2 = max(abs(left), abs(right)), max(abs(left2), abs(right2))
        noise = 32 * float(np.finfo(np.float64).eps) * max(abs(float(middle)), 1.0) / small
        if steep > tolerance(0.0) and steep2 > noise and abs(steep2 - 10 * steep) <= 0.1 * steep2:
            return Slopes(left2, right2, "jump")
        if abs(right - left) <= tolerance(steep):
            return Slopes(left, right, "smooth")
        gap = abs(right2 - left2)
        if gap > max(0.5 * abs(right - left), noise, tolerance(steep2)):
            return Slopes(left2, right2, "kink")
        return Slopes(left2, right2, "smooth")
