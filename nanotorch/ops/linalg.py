"""Products of vectors and matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.errors import ShapeError
from nanotorch.ops.row import Array, composite, op
from nanotorch.ops.sample import real, sample


def _need(name: str, self: Any, other: Any, left: int, right: int) -> None:
    if self.ndim != left or other.ndim != right:
        raise ShapeError(f"{name}: expected {left}-D and {right}-D tensors, got shapes {tuple(self.shape)} and {tuple(other.shape)}")


def _inner(name: str, self: Any, other: Any) -> None:
    """Check that the inner lengths of a product agree."""
    inner = other.shape[-2] if other.ndim > 1 else other.shape[0]
    if self.shape[-1] != inner:
        raise ShapeError(
            f"{name}: shapes {tuple(self.shape)} and {tuple(other.shape)} cannot be multiplied: the last dimension of the "
            f"first is {self.shape[-1]}, the matching one of the second is {inner}"
        )


def _matmul_self(xp: Any, grad: Any, self_shape: Any, other: Any) -> Any:
    if len(self_shape) == 1 and other.ndim == 1:
        return grad * other
    if other.ndim == 1:
        return xp.expand_dims(grad, -1) * other
    if len(self_shape) == 1:
        return xp.squeeze(xp.matmul(other, xp.expand_dims(grad, -1)), -1)
    return xp.matmul(grad, xp.swapaxes(other, -1, -2))


def _matmul_other(xp: Any, grad: Any, self: Any, other_shape: Any) -> Any:
    if self.ndim == 1 and len(other_shape) == 1:
        return grad * self
    if self.ndim == 1:
        return xp.expand_dims(self, -1) * xp.expand_dims(grad, -2)
    if len(other_shape) == 1:
        return xp.squeeze(xp.matmul(xp.swapaxes(self, -1, -2), xp.expand_dims(grad, -1)), -1)
    return xp.matmul(xp.swapaxes(self, -1, -2), grad)


products = [
    sample(real(3, 2), real(2, 4)), sample(real(3), real(3)), sample(real(3, 2), real(2)), sample(real(3), real(3, 2)),
    sample(real(2, 3, 2), real(2, 2, 4)), sample(real(2, 1, 3, 2), real(4, 2, 3)), sample(real(2, 3, 2), real(2)),
    sample(real(2), real(3, 2, 4)), sample(real(2, 3, 2), real(2, 4)),
]  # fmt: skip


def _multiplications(self: Any, result: Any) -> int:
    """Return the floating-point operations of a product: a multiplication and an addition for each element and inner length."""
    return 2 * math.prod(result) * self[-1]


@op(
    self=_matmul_self, other=_matmul_other, operators="__matmul__", node="MmBackward0", samples=products, flops=_multiplications
)  # fmt: skip
def matmul(xp: Any, self: Array, other: Array) -> Array:
    """Matrix product; batches broadcast, a vector is a row on the left and a column on the right.

    >>> torch.eye(2) @ torch.tensor([3.0, 4.0])
    tensor([3., 4.])
    """
    if not self.ndim or not other.ndim:
        raise ShapeError(f"matmul: both arguments need at least 1 dimension, got shapes {tuple(self.shape)} and {tuple(other.shape)}")
    _inner("matmul", self, other)
    return xp.matmul(self, other)


@composite(where="method", operators="__rmatmul__")
def rmatmul(input: Any, other: Any) -> Any:
    """``other @ input`` for a NumPy array ``other``."""
    return matmul(other, input)


@op(
    self=lambda xp, grad, mat2: xp.matmul(grad, xp.swapaxes(mat2, -1, -2)),
    mat2=lambda xp, grad, self: xp.matmul(xp.swapaxes(self, -1, -2), grad),
    samples=[sample(real(3, 2), real(2, 4))], flops=_multiplications,
)  # fmt: skip
def mm(xp: Any, self: Array, mat2: Array) -> Array:
    """Product of two matrices."""
    _need("mm", self, mat2, 2, 2)
    _inner("mm", self, mat2)
    return xp.matmul(self, mat2)


@op(
    self=lambda xp, grad, mat2: xp.matmul(grad, xp.swapaxes(mat2, -1, -2)),
    mat2=lambda xp, grad, self: xp.matmul(xp.swapaxes(self, -1, -2), grad),
    samples=[sample(real(2, 3, 2), real(2, 2, 4))], flops=_multiplications,
)  # fmt: skip
def bmm(xp: Any, self: Array, mat2: Array) -> Array:
    """Products of two batches of matrices."""
    _need("bmm", self, mat2, 3, 3)
    if self.shape[0] != mat2.shape[0]:
        raise ShapeError(f"bmm: batches differ: shapes {tuple(self.shape)} and {tuple(mat2.shape)}")
    _inner("bmm", self, mat2)
    return xp.matmul(self, mat2)


@op(
    self=lambda xp, grad, vec: xp.expand_dims(grad, -1) * vec,
    vec=lambda xp, grad, self: xp.matmul(xp.swapaxes(self, -1, -2), grad),
    samples=[sample(real(3, 2), real(2))], flops=_multiplications,
)  # fmt: skip
def mv(xp: Any, self: Array, vec: Array) -> Array:
    """Product of a matrix and a vector."""
    _need("mv", self, vec, 2, 1)
    _inner("mv", self, vec)
    return xp.matmul(self, vec)


@op(
    self=lambda grad, tensor: grad * tensor, tensor=lambda grad, self: grad * self, samples=[sample(real(3), real(3))],
    flops=_multiplications,
)  # fmt: skip
def dot(xp: Any, self: Array, tensor: Array) -> Array:
    """The sum of products of two vectors."""
    _need("dot", self, tensor, 1, 1)
    _inner("dot", self, tensor)
    return xp.matmul(self, tensor)


@composite(samples=[sample(real(3), real(2))])
def outer(input: Any, vec2: Any) -> Any:
    """The products of every pair of elements of two vectors."""
    _need("outer", input, vec2, 1, 1)
    return input.unsqueeze(1) * vec2


@op(
    self=lambda grad, beta: grad if beta == 1 else grad * beta,
    mat1=lambda xp, grad, mat2, alpha: _times(xp.matmul(grad, xp.swapaxes(mat2, -1, -2)), alpha),
    mat2=lambda xp, grad, mat1, alpha: _times(xp.matmul(xp.swapaxes(mat1, -1, -2), grad), alpha),
    samples=[sample(real(4), real(3, 2), real(2, 4)), sample(real(3, 4), real(3, 2), real(2, 4), beta=0.5, alpha=2.0)],
    flops=lambda mat1, result: _multiplications(mat1, result),
)  # fmt: skip
def addmm(xp: Any, self: Array, mat1: Array, mat2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """``beta * input + alpha * (mat1 @ mat2)``."""
    _need("addmm", mat1, mat2, 2, 2)
    _inner("addmm", mat1, mat2)
    return _times(self, beta) + _times(xp.matmul(mat1, mat2), alpha)


def _times(value: Any, factor: float) -> Any:
    return value if factor == 1 else value * factor


def _einsum_terms(equation: str, operands: Sequence[Any]) -> tuple[list[str], str]:
    """Split an equation into input and output subscripts, with ``...`` spelt out as capital letters."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise ShapeError(f"einsum: the equation {equation!r} has {len(inputs)} operands, {len(operands)} were given")
    free = [letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in equation]
    ranks = [operand.ndim - len(term.replace("...", "")) for term, operand in zip(inputs, operands, strict=True)]
    width = max([rank for rank, term in zip(ranks, inputs, strict=True) if "..." in term], default=0)
    ellipsis = "".join(free[:width])
    for number, (term, rank) in enumerate(zip(inputs, ranks, strict=True)):
        if rank < 0 or (rank and "..." not in term):
            raise ShapeError(f"einsum: operand {number} has shape {tuple(operands[number].shape)}, its subscripts are {term!r}")
        inputs[number] = term.replace("...", ellipsis[width - rank :])
    if not arrow:
        letters = "".join(inputs).replace(ellipsis, "") if ellipsis else "".join(inputs)
        right = ellipsis + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return inputs, right.replace("...", ellipsis)


def _einsum_grads(xp: Any, grad: Any, equation: str, operands: Sequence[Any]) -> list[Any]:
    inputs, output = _einsum_terms(equation, operands)
    sizes = {c: n for term, x in zip(inputs, operands, strict=True) for c, n in zip(term, x.shape, strict=True) if n != 1}
    results = []
    for position, (term, operand) in enumerate(zip(inputs, operands, strict=True)):
        others = [x for k, x in enumerate(operands) if k != position]
        terms = [t for k, t in enumerate(inputs) if k != position]
        letters = "".join(dict.fromkeys(term))  # a repeated letter takes a diagonal
        known = [c for c in letters if c in output or any(c in t for t in terms)]
        got = xp.einsum(",".join([output, *terms]) + "->" + "".join(known), grad, *others)
        shape = tuple(got.shape[known.index(c)] if c in known else 1 for c in letters)
        got = xp.broadcast_to(xp.reshape(got, shape), tuple(sizes.get(c, 1) for c in letters))
        if len(letters) == len(term):
            results.append(_narrowed(xp, got, operand.shape))
            continue
        index = tuple(xp.reshape(xp.arange(sizes.get(c, 1)), (-1,) + (1,) * (len(letters) - 1 - letters.index(c))) for c in term)
        results.append(xp.scatter_to_zeros(got, operand.shape, index))
    return results


def _einsum_flops(operands: Any, equation: str) -> int:
    """Return the operations of multiplying and adding up everything at once, over all indices."""
    inputs, _ = _einsum_terms(equation, [np.broadcast_to(0, shape) for shape in operands])
    sizes: dict[str, int] = {}
    for term, shape in zip(inputs, operands, strict=True):
        sizes |= {c: max(n, sizes.get(c, 1)) for c, n in zip(term, shape, strict=True)}
    return len(operands) * math.prod(sizes.values())


def _narrowed(xp: Any, grad: Any, shape: Sequence[int]) -> Any:
    axes = tuple(d for d, n in enumerate(shape) if n == 1 and grad.shape[d] != 1)
    return xp.sum(grad, axis=axes, keepdims=True) if axes else grad


@op(
    operands=lambda xp, grad, equation, operands: _einsum_grads(xp, grad, equation, operands), where="internal",
    node="EinsumBackward0", flops=_einsum_flops,
)  # fmt: skip
def _einsum(xp: Any, operands: Sequence[Array], equation: str) -> Array:
    """A sum of products named by subscripts."""
    inputs, output = _einsum_terms(equation, operands)
    return xp.einsum(",".join(inputs) + "->" + output, *operands)


@composite(
    where="function",
    samples=[
        sample("ij,jk->ik", real(3, 2), real(2, 4)), sample("ij->ji", real(3, 2)), sample("ii->i", real(3, 3)),
        sample("ij,ij->", real(3, 2), real(3, 2)), sample("bij,bjk->bik", real(2, 3, 2), real(2, 2, 4)),
        sample("...i,i->...", real(2, 3, 4), real(4)), sample("i,j", real(3), real(2)), sample("ii", real(3, 3)),
        sample("ij,jk,kl->il", real(2, 3), real(3, 2), real(2, 2)), sample("ij->i", real(3, 2)),
    ],
)  # fmt: skip
def einsum(equation: str, *operands: Any) -> Any:
    """Sums of products named by subscripts, as in Einstein's notation.

    >>> torch.einsum("ij,j->i", torch.ones(2, 3), torch.tensor([1.0, 2.0, 3.0]))
    tensor([6., 6.])
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    return _einsum(operands, equation)
