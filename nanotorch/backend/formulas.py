"""Functions that both backends compute by one formula: ``xp`` is NumPy or CuPy, ``special`` finds its special
functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Special = Callable[..., Any]


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
    """Return ``cumsum(weights * exp(inner)) * exp(outer)`` by the logarithms of its positive and negative parts.

    The logarithm of nothing is a number whose exponential is 0: -inf would be added to an ``inner`` of infinity.
    """
    logs = xp.log(xp.absolute(xp.where(weights == 0, 1.0, weights)))

    def part(mask: Any) -> Any:
        return xp.exp(logcumsumexp(xp.where(mask, logs, -1e30) + inner, axis) + outer)

    return part((weights > 0) | (weights != weights)) - part(weights < 0)


def sigmoid(xp: Any, array: Any) -> Any:
    """Return ``1 / (1 + exp(-array))``, which is 0 where the exponential overflows."""
    inverse = xp.exp(-array)
    inverse += 1
    return 1 / inverse


def softplus(xp: Any, array: Any) -> Any:
    """Return ``log(1 + exp(array))`` without overflow."""
    return xp.maximum(array, 0) + xp.log1p(xp.exp(-xp.absolute(array)))
