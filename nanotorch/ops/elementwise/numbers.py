"""Rows of number theory and of the representation of numbers; sums of the logarithm of the gamma function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import edge, integers, real, sample

if TYPE_CHECKING:
    from nanotorch import return_types

whole = [
    sample(integers(3, 2, low=-12, high=13), integers(2, low=-9, high=10)),
    sample(integers(4, high=9), integers(4, high=9)),
]


def _need_integers(name: str, x: Any) -> None:
    if x.dtype.kind not in "iu":
        raise NotImplementedError(f"{name}: not implemented for {x.dtype}; it takes tensors of integers")


@op(cast="promote", inplace=True, samples=whole)
def gcd(xp: Any, self: Array, other: Array) -> Array:
    """The greatest common divisor of integers; of two zeros it is 0."""
    _need_integers("gcd", self)
    return xp.gcd(self, other)


@op(cast="promote", inplace=True, samples=whole)
def lcm(xp: Any, self: Array, other: Array) -> Array:
    """The least common multiple of integers, not negative."""
    _need_integers("lcm", self)
    return xp.absolute(xp.lcm(self, other))  # which wraps around below 0


@op(
    self=lambda xp, grads, exponent: grads[0] / xp.exp2(xp.astype(exponent, grads[0].dtype)),
    outputs="mantissa exponent",
    where="internal",
)
def _frexp(xp: Any, self: Array) -> Array:
    """The mantissa and the exponent."""
    if self.dtype.kind != "f":
        raise RuntimeError(f"frexp: only supports floating-point dtypes, got {self.dtype}")
    mantissa, exponent = xp.frexp(self)
    return mantissa, xp.astype(xp.where(xp.isfinite(self), exponent, 0), dtypes.int32.numpy)


@composite(samples=[sample(real(3, 2)), sample(edge([1.0, 0.0, -3.5, 8.0])), sample(real())])
def frexp(input: Tensor) -> return_types.frexp:
    """The mantissa, of magnitude 1/2 to 1, and the exponent of `mantissa * 2 ** exponent`, a pair."""
    return _frexp(input)


@op(
    self=lambda grad, self, other: grad * (self != other),
    other=lambda xp, grad: xp.zeros_like(grad),
    cast="promote",
    inplace=True,
    samples=[
        sample(real(2, 3), real(3)),
        sample(real(3), real(2, 1, low=-1.0, high=0.0)),
        sample(edge([0.0, 1.0, 2.0]), edge([0.0, 1.0, 1.0])),
    ],
)
def nextafter(xp: Any, self: Array, other: Array) -> Array:
    """The next number after each element in the direction of `other`."""
    if self.dtype.kind != "f":
        raise NotImplementedError(f"nextafter: not implemented for {self.dtype}; convert with .float()")
    return xp.nextafter(self, other)


@composite(
    widens=True,
    samples=[
        sample(real(3, low=2.0, high=4.0), 2),
        sample(real(2, 2, low=3.0, high=5.0), p=3),
        sample(integers(3, low=3, high=6), 1),
    ],
)
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension `p`."""
    if p < 1:
        raise RuntimeError(f"mvlgamma: p has to be greater than or equal to 1, got {p}")
    x = input if input.is_floating_point() else input.to(dtypes.get_default_dtype())
    total = x.lgamma()
    for step in range(1, p):
        total = total + (x - step / 2).lgamma()
    return total + p * (p - 1) / 4 * math.log(math.pi)
