"""Tensors filled in place with numbers of other distributions than the uniform and the normal one."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.random import Generator, overwrite, source
from nanotorch.ops.rows.row import composite

LARGEST_WHOLE = {2: 2**11, 4: 2**24, 8: 2**53}
"""Up to where the floating point numbers of so many bytes count without gaps."""


def _fill(name: str, input: Tensor, generator: Generator | None, method: str, *arguments: Any) -> Tensor:
    drawn = input.device.xp.draw(source(generator), method, arguments, input.dtype.numpy)
    return overwrite(name, input, drawn)


def _check(name: str, what: str, value: float, holds: bool) -> None:
    if not holds:
        raise RuntimeError(f"{name}: expects {what}, but found {value}")


@composite(where="method")
def random_(input: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with whole numbers from [from, to), or [0, from) with one bound;
    without bounds with all that its dtype counts.

    >>> torch.empty(100).random_(3, 5).unique()
    tensor([3., 4.])
    """
    dtype = input.dtype.numpy
    if dtype.kind == "f":
        low, high = 0, LARGEST_WHOLE[dtype.itemsize] + 1
    else:
        low, high = 0, 2 if dtype.kind == "b" else int(np.iinfo(dtype).max) + 1
    if to is not None:
        low, high = int(from_), int(to)
    elif from_:
        high = int(from_)
    _check("random_", "'from' to be less than 'to'", low, low < high)
    if dtype.kind != "f" and (
        high - 1 > (1 if dtype.kind == "b" else int(np.iinfo(dtype).max))
        or low < (0 if dtype.kind == "b" else int(np.iinfo(dtype).min))
    ):
        raise RuntimeError(f"random_: [{low}, {high}) is out of bounds for {input.dtype}")
    return _fill("random_", input, generator, "integers", low, high - 1, input.shape, np.int64, True)


def _need_floating(name: str, input: Tensor) -> None:
    if not input.is_floating_point():
        raise NotImplementedError(f"{name}: not implemented for {input.dtype}; it needs floating point numbers")


@composite(where="method")
def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with numbers of the density `lambd * exp(-lambd * x)`."""
    _need_floating("exponential_", input)
    _check("exponential_", "lambda > 0.0", lambd, lambd > 0)
    return _fill("exponential_", input, generator, "exponential", 1 / lambd, input.shape)


@composite(where="method")
def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with the number of trials until the first success, of probability `p` each."""
    _check("geometric_", "p to be in (0, 1)", p, 0 < p < 1)
    return _fill("geometric_", input, generator, "geometric", p, input.shape)


@composite(where="method")
def log_normal_(input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with exponentials of normal numbers of this mean and standard deviation."""
    _need_floating("log_normal_", input)
    _check("log_normal_", "std > 0.0", std, std > 0)
    return _fill("log_normal_", input, generator, "lognormal", mean, std, input.shape)


@composite(where="method")
def cauchy_(input: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with numbers of Cauchy's distribution."""
    _need_floating("cauchy_", input)
    _check("cauchy_", "sigma > 0.0", sigma, sigma > 0)
    xp = input.device.xp
    drawn = xp.draw(source(generator), "standard_cauchy", (input.shape,), np.dtype(np.float64))
    return overwrite("cauchy_", input, drawn * sigma + median)
