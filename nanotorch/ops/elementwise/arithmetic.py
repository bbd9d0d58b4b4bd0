"""Elementwise rows: sums, products, quotients, remainders, powers."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from math import inf, nan
from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.inplace import write_out
from nanotorch.ops.rows.row import Array, Number, alias, composite, op
from nanotorch.ops.rows.sample import above_zero, binary, edge, integers, integral, real, sample, unary
from nanotorch.ops.rows.tensors import TENSOR


def not_implemented(name: str, instead: str) -> Callable[[Any], Any]:
    """Return the formula of an op that records, as in PyTorch, but has no derivative."""

    def formula(grad: Any) -> Any:
        raise RuntimeError(f"derivative for aten::{name} is not implemented; use {instead}")

    return formula


def factor(name: str, argument: str, value: Any, array: Any) -> Any:
    """Return a factor of an array; refuse one with which whole numbers would be truncated or turn into others."""
    if isinstance(value, float) and array.dtype.kind != "f":
        raise RuntimeError(
            f"{name}: For integral input tensors, argument {argument} must not be a floating point number, got {value}"
        )
    return value


@op(
    self=lambda grad: grad,
    other=lambda grad, alpha: grad if alpha == 1 else grad * alpha,
    cast="promote",
    inplace=True,
    operators="__add__ __radd__",
    samples=[*binary, *integral, sample(real(3), real(3), alpha=2)],
)
def add(xp: Any, self: Array, other: Array | Number, *, alpha: float = 1) -> Array:
    """`input + alpha * other`, broadcasting."""
    return self + other if alpha == 1 else self + other * factor("add", "alpha", alpha, self)


@op(
    self=lambda grad: grad,
    other=lambda grad, alpha: -grad if alpha == 1 else grad * -alpha,
    cast="promote",
    inplace=True,
    operators="__sub__",
    samples=[*binary, *integral, sample(real(3), real(3), alpha=2)],
)
def sub(xp: Any, self: Array, other: Array | Number, *, alpha: float = 1) -> Array:
    """`input - alpha * other`, broadcasting."""
    return self - other if alpha == 1 else self - other * factor("sub", "alpha", alpha, self)


@op(
    self=lambda grad, alpha: -grad if alpha == 1 else grad * -alpha,
    other=lambda grad: grad,
    cast="promote",
    operators="__rsub__",
    where="function",
    node="RsubBackward1",
    samples=[*binary, sample(real(3), real(3), alpha=2)],
)
def rsub(xp: Any, self: Array, other: Array | Number, *, alpha: float = 1) -> Array:
    """`other - alpha * input`, broadcasting."""
    return other - self if alpha == 1 else other - self * factor("rsub", "alpha", alpha, self)


@op(
    self=lambda grad, other: grad * other,
    other=lambda grad, self: grad * self,
    cast="promote",
    inplace=True,
    operators="__mul__ __rmul__",
    samples=[*binary, *integral],
)
def mul(xp: Any, self: Array, other: Array | Number) -> Array:
    """Elementwise product, broadcasting.

    >>> torch.mul(torch.tensor([1.0, 2.0]), 3)
    tensor([3., 6.])
    """
    return self * other


@op(
    self=lambda grad, other: grad / other,
    other=lambda grad, self, other: -grad * (self / other / other),
    cast="float",
    inplace=True,
    operators="__truediv__",
    node="DivBackward0",
    samples=[sample(real(3, 2), real(2, low=0.5)), sample(real(), real(2, low=0.5)), sample(real(3), 2.0), *integral],
)
def true_divide(xp: Any, self: Array, other: Array | Number) -> Array:
    """Elementwise quotient, floating point even for integers.

    >>> torch.tensor([1, 2]) / 2
    tensor([0.5000, 1.0000])
    """
    return self / other


@op(
    self=lambda xp, grad: xp.zeros_like(grad),
    other=lambda xp, grad: xp.zeros_like(grad),
    cast="promote",
    inplace=True,
    node="DivBackward2",
    where="internal",
)
def _div_rounded(xp: Any, self: Array, other: Array | Number, rounding_mode: str) -> Array:
    """The quotient rounded down ("floor") or towards zero ("trunc"); its derivative is zero."""
    if rounding_mode == "floor":
        return xp.floor_divide(self, other)
    if rounding_mode != "trunc":
        raise RuntimeError(f"div: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}")
    return xp.trunc_divide(self, other)


@TENSOR.define("floor_divide")
def _floor_divide(x: Tensor, y: Any) -> Tensor:
    return _div_rounded(x, y, "floor")


@TENSOR.define("trunc_divide")
def _trunc_divide(x: Tensor, y: Any) -> Tensor:
    return _div_rounded(x, y, "trunc")


@composite(
    samples=[
        sample(real(3, 2), real(2, low=0.5)),
        sample(real(3), 0.7, rounding_mode="floor"),
        sample(real(3, 2), real(2, low=0.5), rounding_mode="trunc"),
        sample(integers(6, low=-9, high=9), 4, rounding_mode="trunc"),
        sample(edge([1.0, -2.0, inf, 0.0, -0.0, nan]), edge([0.0, 0.0, 2.0, 0.0, -3.0, 1.0]), rounding_mode="trunc"),
    ]
)
def div(input: Tensor, other: Tensor | float, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    """Elementwise quotient; `rounding_mode` is None, "floor" or "trunc".

    >>> torch.div(torch.tensor([7, -7]), 2, rounding_mode="trunc")
    tensor([ 3, -3])
    """
    if out is not None:
        return write_out("div", div, out, {"input": input, "other": other, "rounding_mode": rounding_mode})
    return true_divide(input, other) if rounding_mode is None else _div_rounded(input, other, rounding_mode)


@composite(where="method")
def div_(input: Tensor, other: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
    """In-place version of `div`."""
    return input.true_divide_(other) if rounding_mode is None else input.div_rounded_(other, rounding_mode)


@op(self=lambda grad, result: -grad * (result * result), cast="float", inplace=True, samples=above_zero)
def reciprocal(xp: Any, self: Array) -> Array:
    """`1 / input`."""
    return 1 / self


_no_derivative = not_implemented("floor_divide", 'torch.div(..., rounding_mode="floor"), whose derivative is zero')


@op(
    self=_no_derivative,
    other=_no_derivative,
    node="NotImplemented",
    cast="promote",
    inplace=True,
    operators="__floordiv__",
    samples=[
        sample(real(3, 2), real(2, low=0.5)),
        sample(real(3), 0.7),
        *integral,
        sample(integers(6, low=-9, high=9), -4),
        sample(edge([1.0, -2.0, 7.0, -7.0, inf, 0.0, 5.0]), edge([0.0, 0.0, -2.0, 2.0, 2.0, 0.0, -inf])),
    ],
)
def floor_divide(xp: Any, self: Array | Number, other: Array | Number) -> Array:
    """The quotient rounded down; integers stay integers, and there is no derivative.

    >>> torch.tensor([7, -7]) // 2
    tensor([ 3, -4])
    """
    return xp.floor_divide(self, other)


@op(
    self=lambda grad: grad,
    other=lambda xp, grad, self, other: -grad * xp.floor_divide(self, other),
    cast="promote",
    inplace=True,
    operators="__mod__",
    samples=[
        sample(real(3, 2), real(2, low=0.6)),
        sample(real(3, 2), real(2, low=-2, high=-0.6)),
        sample(real(3), 0.7),
        sample(real(3), -0.7),
        *integral,
        sample(integers(6, low=-9, high=9), -4),
        sample(edge([4.0, -4.0, 5.5, -5.5, 1.0]), edge([2.0, 2.0, -2.0, inf, 0.0])),
    ],
)
def remainder(xp: Any, self: Array | Number, other: Array | Number) -> Array:
    """Python's modulus: `input - floor(input / other) * other`, with the sign of `other`.

    >>> torch.tensor([5, -5]) % 3
    tensor([2, 1])
    """
    return xp.remainder(self, other)


@op(
    self=lambda grad: grad,
    other=lambda xp, grad, self, other: -grad * xp.trunc_divide(self, other),
    cast="promote",
    inplace=True,
    samples=[
        sample(real(3, 2), real(2, low=0.6)),
        sample(real(3, 2), real(2, low=-2, high=-0.6)),
        sample(real(3), 0.7),
        sample(real(3), -0.7),
        *integral,
        sample(integers(6, low=-9, high=9), -4),
        sample(edge([4.0, -4.0, 5.5, -5.5, 1.0]), edge([2.0, 2.0, -2.0, inf, 0.0])),
    ],
)
def fmod(xp: Any, self: Array, other: Array | Number) -> Array:
    """C's modulus: `input - trunc(input / other) * other`, with the sign of `input`.

    >>> torch.fmod(torch.tensor([5, -5]), 3)
    tensor([ 2, -2])
    """
    return xp.fmod(self, other)


@op(self=lambda grad: -grad, inplace=True, operators="__neg__", samples=[*unary, sample(integers(3))])
def neg(xp: Any, self: Array) -> Array:
    """`-input`."""
    return -self


@composite(operators="__pos__", samples=unary)
def positive(input: Tensor) -> Tensor:
    """`+input`: the tensor itself."""
    return input


@TENSOR.define("absolute")
@op(
    self=lambda xp, grad, self: grad * xp.sign(self),
    inplace=True,
    operators="__abs__",
    samples=[*unary, sample(integers(3, low=-3))],
)
def abs(xp: Any, self: Array) -> Array:
    """Absolute value; the derivative at 0 is 0."""
    return xp.absolute(self)


@op(self=lambda grad, self: grad * (2 * self), inplace=True, samples=unary, node="PowBackward0")
def square(xp: Any, self: Array) -> Array:
    """`input * input`."""
    return self * self if self.dtype.kind != "b" else xp.astype(self, dtypes.int64.numpy)


def _pow_self(xp: Any, grad: Any, self: Any, exponent: Any) -> Any:
    if isinstance(exponent, int | float):
        return xp.zeros_like(grad) if exponent == 0 else grad * (exponent * _power(xp, self, exponent - 1))
    return grad * xp.where(exponent == 0, 0.0, exponent * self ** (exponent - 1))


def _pow_exponent(xp: Any, grad: Any, self: Any, exponent: Any, result: Any) -> Any:
    undefined = (self == 0) & (exponent >= 0)
    return grad * xp.where(undefined, 0.0, result * xp.log(xp.where(undefined, 1.0, self)))


@op(
    self=lambda xp, grad, self, exponent: _pow_self(xp, grad, self, exponent),
    exponent=lambda xp, grad, self, exponent, result: _pow_exponent(xp, grad, self, exponent, result),
    cast="promote",
    inplace=True,
    operators="__pow__",
    samples=[
        sample(real(3, 2), 2),
        sample(real(3), 3),
        sample(real(3, low=0.5), -0.5),
        sample(real(3), 0),
        sample(real(), 2.0),
        sample(real(3, 2, low=0.5), real(2)),
        sample(1.7, real(3)),
        sample(integers(3), 2),
        sample(integers(5, low=-2, high=3), integers(5, low=-3, high=3)),
        sample(2, integers(4, low=-2, high=4)),
        sample(edge([0.0, 0.0, 0.0, -2.0, -2.0, 1.0, inf, 0.0]), edge([0.0, 2.0, -1.0, 0.5, 3.0, nan, -1.0, 1.0])),
        sample(edge([0.0, -0.0, -1.5, inf, -inf, nan]), 0),
        sample(edge([0.0, -1.5, inf, nan]), 0.5),
        sample(edge([0.0, -0.0, -1.5, inf, -inf, nan]), -1),
        sample(0, edge([0.0, 1.0, -1.0, 0.5, inf])),
    ],
)
def pow(xp: Any, self: Array | Number, exponent: Array | Number) -> Array:
    """`input ** exponent`; the derivative with exponent 0 is 0 everywhere, and so is that by the exponent at base 0.

    >>> torch.tensor([2, 3]) ** 2
    tensor([4, 9])
    """
    if self.dtype.kind != "f":
        return _integer_power(xp, self, exponent)
    return _power(xp, self, exponent) if type(exponent) is float else self**exponent


def _power(xp: Any, base: Any, exponent: Any) -> Any:
    """Return a power; that to -1/2 is the reciprocal of the root, also at -0 and -infinity."""
    return 1 / xp.sqrt(base) if isinstance(exponent, float) and exponent == -0.5 else base**exponent


def _integer_power(xp: Any, base: Any, exponent: Any) -> Any:
    """Return a power of integers; those to negative powers are fractions, which truncate to -1, 0 or 1."""
    if base.dtype.kind == "b" and (isinstance(exponent, bool) or not isinstance(exponent, int)):
        raise RuntimeError("pow: not implemented for torch.bool; convert the tensors with .long()")
    if isinstance(exponent, int):
        if exponent < 0:
            raise RuntimeError(
                "pow: Integers to negative integer powers are not allowed. Convert the base with .float()"
            )
        if base.dtype.kind != "b":
            dtypes.check_fits("pow", exponent, dtypes.from_numpy_dtype(base.dtype))
        return base**exponent
    if exponent.dtype.kind == "u":
        return base**exponent
    fraction = xp.where(base == 1, 1, xp.where(base == -1, 1 - 2 * (exponent & 1), 0))
    negative = exponent < 0
    return xp.where(negative, xp.astype(fraction, base.dtype), base ** xp.where(negative, 0, exponent))


@composite(samples=[sample(real(3, low=0.3), real(3)), sample(2, real(3)), sample(integers(3, low=1), 2)])
def float_power(input: Tensor, exponent: Tensor | float) -> Tensor:
    """`input ** exponent` in double precision."""
    from nanotorch.dtypes import float64

    base, power = (x.to(float64) if isinstance(x, Tensor) else float(x) for x in (input, exponent))
    return pow(base, power)


@composite(where="method")
def float_power_(input: Tensor, exponent: Tensor | float) -> Tensor:
    """In-place version of `float_power`, for tensors of double precision."""
    if input.dtype.numpy != "float64":
        raise RuntimeError(
            f"the base given to float_power_ has dtype {input.dtype} but the operation's result requires dtype"
            " torch.float64"
        )
    return input.pow_(exponent)


@composite(widens=True, where="internal", operators="__rpow__", samples=[sample(real(3), 1.7), sample(integers(3), 2)])
def _rpow(input: Any, other: Any) -> Any:
    """`other ** input` for a number `other`."""
    return pow(other, input)


@composite(
    widens=True,
    where="internal",
    operators="__rtruediv__",
    samples=[sample(real(3, low=0.3), 1.7), sample(integers(3, low=1), 2)],
)
def _rdiv(input: Any, other: Any) -> Any:
    """`other / input` for a number `other`."""
    return mul(reciprocal(input), other)


@composite(
    widens=True,
    where="internal",
    operators="__rfloordiv__",
    samples=[sample(real(3), 1.7), sample(integers(3, low=1), 7)],
)
def _rfloordiv(input: Any, other: Any) -> Any:
    """`other // input` for a number `other`."""
    return floor_divide(other, input)


@composite(
    widens=True, where="internal", operators="__rmod__", samples=[sample(real(3), 1.7), sample(integers(3, low=1), 7)]
)
def _rmod(input: Any, other: Any) -> Any:
    """`other % input` for a number `other`."""
    return remainder(other, input)


@composite(
    widens=True, samples=[sample(real(3, 2), real(2)), sample(real(3), integers(3)), sample(integers(3), integers(3))]
)
def ldexp(input: Tensor, other: Tensor | float) -> Tensor:
    """`input * 2 ** other`."""
    return mul(input, pow(2.0, _exponent(input, other)))


def _exponent(input: Any, other: Any) -> Any:
    """Return the exponent of `ldexp`, in the dtype of the input where only that is a floating one."""
    return other.to(input.dtype) if input.is_floating_point() and not other.is_floating_point() else other


@composite(where="method")
def ldexp_(input: Tensor, other: Tensor | float) -> Tensor:
    """In-place version of `ldexp`."""
    return input.mul_(pow(2.0, _exponent(input, other)))


@TENSOR.define("sqrt")
@op(self=lambda grad, result: grad / (2 * result), cast="float", inplace=True, samples=above_zero)
def sqrt(xp: Any, self: Array) -> Array:
    """Square root."""
    return xp.sqrt(self)


@op(self=lambda grad, result: grad * (-0.5 * result * result * result), cast="float", inplace=True, samples=above_zero)
def rsqrt(xp: Any, self: Array) -> Array:
    """`1 / sqrt(input)`."""
    return 1 / xp.sqrt(self)


@op(
    self=lambda grad, self, result: grad * (self / result),
    other=lambda grad, other, result: grad * (other / result),
    cast="float",
    inplace=True,
    samples=[
        sample(real(3, 2), real(2)),
        sample(real(), real(2)),
        sample(edge([0.0, 3.0, inf, nan, -0.0]), edge([0.0, -4.0, nan, 1.0, 1.0])),
    ],
)
def hypot(xp: Any, self: Array, other: Array) -> Array:
    """`sqrt(input ** 2 + other ** 2)` without overflow; NaN in both gradients at (0, 0)."""
    return xp.hypot(self, other)


@op(
    self=lambda grad: grad,
    tensor1=lambda grad, tensor2, value: grad * (tensor2 * value),
    tensor2=lambda grad, tensor1, value: grad * (tensor1 * value),
    cast="promote",
    inplace=True,
    samples=[
        sample(real(3, 2), real(2), real(3, 1)),
        sample(real(3), real(3), real(3), value=0.3),
        sample(real(2), real(), real(2)),
        sample(integers(3), integers(3), integers(3), value=2),
    ],
)
def addcmul(xp: Any, self: Array, tensor1: Array, tensor2: Array, *, value: float = 1) -> Array:
    """`input + value * tensor1 * tensor2`, broadcasting."""
    if self.dtype.kind != "f":
        value = int(dtypes.wrapped("addcmul", value, dtypes.from_numpy_dtype(self.dtype)))
    return self + tensor1 * tensor2 if value == 1 else self + value * tensor1 * tensor2


@op(
    self=lambda grad: grad,
    tensor1=lambda grad, tensor2, value: grad * (value / tensor2),
    tensor2=lambda grad, tensor1, tensor2, value: -grad * (value * tensor1 / (tensor2 * tensor2)),
    cast="promote",
    inplace=True,
    samples=[
        sample(real(3, 2), real(2), real(3, 1, low=0.5)),
        sample(real(3), real(3), real(3, low=0.5), value=0.3),
        sample(edge([1.0, 1.0, 1.0]), edge([1.0, 0.0, -2.0]), edge([0.0, 0.0, inf])),
    ],
)
def addcdiv(xp: Any, self: Array, tensor1: Array, tensor2: Array, *, value: float = 1) -> Array:
    """`input + value * tensor1 / tensor2`, broadcasting."""
    if self.dtype.kind != "f":
        raise RuntimeError(
            "addcdiv: Integer division with addcdiv is no longer supported; convert the tensors with .float()"
        )
    return self + tensor1 / tensor2 if value == 1 else self + value * tensor1 / tensor2


@op(
    self=lambda grad, weight: grad * (1 - weight),
    end=lambda grad, weight: grad * weight,
    weight=lambda grad, self, end: grad * (end - self),
    inplace=True,
    samples=[
        sample(real(3, 2), real(2), 0.3),
        sample(real(3), real(3), 0.8),
        sample(real(3), real(3), 1),
        sample(real(3, 2), real(2), real(3, 1)),
        sample(edge([1.0, 1.0, 1.0]), edge([3.0, inf, inf]), edge([0.5, 0.0, 1.0])),
    ],
)
def lerp(xp: Any, self: Array, end: Array, weight: Array | Number) -> Array:
    """`input + weight * (end - input)`, exact at weights 0 and 1.

    >>> torch.lerp(torch.tensor([0.0, 10.0]), torch.tensor([10.0, 20.0]), 0.5)
    tensor([ 5., 15.])
    """
    if self.dtype.kind != "f":
        raise NotImplementedError("lerp: expects floating point tensors; convert them with .float()")
    difference = end - self
    if isinstance(weight, int | float):
        return self + weight * difference if builtins.abs(weight) < 0.5 else end - difference * (1 - weight)
    return xp.where(xp.absolute(weight) < 0.5, self + weight * difference, end - difference * (1 - weight))


absolute = alias("absolute", "abs")
divide = alias("divide", "div")
multiply = alias("multiply", "mul")
negative = alias("negative", "neg")
subtract = alias("subtract", "sub")
