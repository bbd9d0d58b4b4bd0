"""Elementwise rows: special functions."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.ops.row import Array, op
from nanotorch.ops.sample import unary

TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


@op(self=lambda xp, grad, self: grad * (TWO_OVER_SQRT_PI * xp.exp(-(self * self))), cast="float", inplace=True, samples=unary)
def erf(xp: Any, self: Array) -> Array:
    """The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t*t)`` from 0 to ``input``."""
    return xp.erf(self)
