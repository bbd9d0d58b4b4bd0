"""Functions that both backends compute by one formula:
`xp` is NumPy or CuPy, `special` finds its special functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Special = Callable[..., Any]

NEAR = {2: 2.0**-13, 4: 2.0**-26, 8: 2.0**-55}
"""By the size of a float's dtype: below this a number times 0.4 is lost beside 0.5."""


def lgamma(xp: Any, special: Special, array: Any) -> Any:
    """Return the logarithm of the absolute value of the gamma function of every element."""
    return xp.where(xp.isinf(array), xp.inf, special("gammaln", array))


def polygamma(xp: Any, special: Special, n: int, array: Any) -> Any:
    """Return the n-th derivative of the digamma function, for n > 0 by the Hurwitz zeta function.

    That sums so many terms as a negative argument is large; the first derivative is reflected to positive ones instead.
    """
    if n == 0:
        return special("digamma", array)
    if n == 1:
        low = array < 0.5
        reflected = special("zeta", xp.where(low, 1 - array, array), 2.0)
        return xp.where(low, (math.pi / xp.sin(math.pi * array)) ** 2 - reflected, reflected)
    return special("zeta", array, n + 1.0) * ((-1.0) ** (n + 1) * math.factorial(n))


def scaled_cumsum(xp: Any, logcumsumexp: Callable[..., Any], weights: Any, inner: Any, outer: Any, axis: int) -> Any:
    """Return `cumsum(weights * exp(inner)) * exp(outer)` by the logarithms of its positive and negative parts.

    The logarithm of nothing is a number whose exponential is 0: -inf would be added to an `inner` of infinity.
    """
    logs = xp.log(xp.absolute(xp.where(weights == 0, 1.0, weights)))

    def part(mask: Any) -> Any:
        return xp.exp(logcumsumexp(xp.where(mask, logs, -1e30) + inner, axis) + outer)

    return part((weights > 0) | (weights != weights)) - part(weights < 0)


def sigmoid(xp: Any, array: Any) -> Any:
    """Return `1 / (1 + exp(-array))`, which is 0 where the exponential overflows."""
    inverse = xp.exp(-array)
    inverse += 1
    return 1 / inverse


def framed(xp: Any, array: Any, shape: tuple[int, ...], index: Any, value: Any) -> Any:
    """Return one number in a shape, with the array at an index of slices."""
    out = xp.full(shape, value, dtype=array.dtype) if value else xp.zeros(shape, dtype=array.dtype)
    out[index] = array
    return out


def sliding(view: Callable[..., Any], array: Any, offset: int, axis: int, size: int, step: int) -> Any:
    """Return windows along an axis as the last axis, by what makes strided views of memory."""
    if not array.ndim:
        return view(array, (size,), (1,), offset)
    stride = [each // array.itemsize for each in array.strides]
    count = (array.shape[axis] - size) // step + 1
    shape = (*array.shape[:axis], count, *array.shape[axis + 1 :], size)
    return view(array, shape, (*stride[:axis], stride[axis] * step, *stride[axis + 1 :], stride[axis]), offset)


def softplus(xp: Any, array: Any) -> Any:
    """Return `log(1 + exp(array))` without overflow."""
    return xp.maximum(array, 0) + xp.log1p(xp.exp(-xp.absolute(array)))


def gelu_slope(xp: Any, array: Any, result: Any) -> Any:
    """Return the derivative of GELU from its input and result (Note [GELU])."""
    near = xp.absolute(array) < NEAR[array.dtype.itemsize]
    below = xp.where(near, 0.5, result / array)
    slope = array * array
    slope *= -0.5
    slope = xp.exp(slope)
    slope *= array
    slope *= 1 / math.sqrt(2 * math.pi)
    slope += below
    return slope
