"""Softmax and its relatives, as rows with their own formulas."""

from __future__ import annotations

import math
from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.creation import zeros_like
from nanotorch.ops.create.random import Generator, rand
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import edge, real, sample

inf = math.inf


def softmax_of(xp: Any, x: Any, axis: int) -> Any:
    """Return the softmax along an axis."""
    e = xp.exp(x - xp.amax(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


@op(
    self=lambda xp, grad, dim, result: result * (grad - xp.sum(grad * result, axis=dim, keepdims=True)),
    cast="float",
    samples=[
        sample(real(3, 4), 1),
        sample(real(3, 4), dim=0),
        sample(real(2, 3, 2), -2),
        sample(real(), 0),
        sample(edge([[1000.0, -1000.0, 0.0], [inf, 1.0, 2.0], [-inf, 1.0, 2.0], [-inf, -inf, -inf]]), -1),
    ],
)
def softmax(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """`exp(input) / sum(exp(input))` along `dim`, without overflow."""
    need_floating("softmax", dtype)
    if not self.size:
        return xp.array(self)
    return softmax_of(xp, self, dim)


def need_floating(name: str, dtype: Any) -> None:
    """Refuse to give probabilities as whole numbers."""
    if dtype is not None and not dtype.is_floating_point:
        raise RuntimeError(f"{name}: dtype must be a floating-point one, got {dtype}")


def log_softmax_of(xp: Any, x: Any, axis: int) -> Any:
    """Return the logarithm of the softmax along an axis."""
    if not x.size:
        return xp.array(x)
    shifted = x - xp.amax(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


@op(
    self=lambda xp, grad, dim, result: grad - xp.exp(result) * xp.sum(grad, axis=dim, keepdims=True),
    cast="float",
    samples=[
        sample(real(3, 4), 1),
        sample(real(3, 4), dim=0),
        sample(real(2, 3, 2), -2),
        sample(real(), 0),
        sample(edge([[1000.0, -1000.0, 0.0], [inf, 1.0, 2.0], [-inf, 1.0, 2.0], [-inf, -inf, -inf]]), -1),
    ],
)
def log_softmax(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """The logarithm of `softmax` along `dim`."""
    need_floating("log_softmax", dtype)
    return log_softmax_of(xp, self, dim)


@op(
    self=lambda xp, grad, dim, result: result * (grad - xp.sum(grad * result, axis=dim, keepdims=True)),
    where="internal",
    node="SafeSoftmaxBackward0",
    samples=[sample(real(3, 4), 1), sample(edge([[1.0, -inf, 2.0], [-inf, -inf, -inf]]), -1)],
)
def _safe_softmax(xp: Any, self: Array, dim: int) -> Array:
    """`softmax`, with zeros where all elements along `dim` are -inf."""
    if not self.size:
        return xp.array(self)
    highest = xp.amax(self, axis=dim, keepdims=True)
    e = xp.exp(self - xp.where(highest == -inf, 0.0, highest))
    total = xp.sum(e, axis=dim, keepdims=True)
    return e / xp.where(total == 0, 1.0, total)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(3, 4), 1),
        sample(real(3, 4), dim=0),
        sample(real(2, 3, 2), -2),
        sample(real(0, 3), 1),
        sample(real(0, 3), 0),
    ],
)
def softmin(input: Tensor, dim: int, *, dtype: dtypes.DType | None = None) -> Tensor:
    """`softmax` of `-input`."""
    return softmax(-(input if input.is_floating_point() else input.to(dtypes.get_default_dtype())), dim, dtype=dtype)


@composite(widens=True, where="functional")
def gumbel_softmax(
    logits: Tensor,
    tau: float = 1.0,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Draw a differentiable, nearly one-hot sample of the categorical distribution
    (Jang et al. 2017; Maddison et al. 2017).

    Args:
        logits: unnormalised log-probabilities.
        tau: the temperature: the smaller, the closer to one-hot.
        hard: give one-hot samples, with the gradient of the soft ones.
        eps: unused, as in PyTorch.
        dim: the dimension of the categories.
        generator: where the noise comes from.
    """
    noise = -(-rand(logits.shape, dtype=logits.dtype, device=logits.device, generator=generator).log()).log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.argmax(dim, keepdim=True)
    return zeros_like(soft).scatter(dim, index, 1.0) - soft.detach() + soft
