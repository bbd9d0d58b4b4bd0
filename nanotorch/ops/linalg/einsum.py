"""Sums of products named by subscripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import edge, real, sample
from nanotorch.ops.rows.tensors import TENSOR

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _einsum_terms(equation: str, operands: Sequence[Any]) -> tuple[list[str], str]:
    """Split an equation into input and output subscripts, with `...` spelt out as capital letters."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        word = "fewer" if len(operands) < len(inputs) else "more"
        raise ShapeError(
            f"einsum(): {word} operands were provided than specified in the equation: {equation!r} names {len(inputs)},"
            f" given {len(operands)}"
        )
    free = [letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in equation]
    ranks = [operand.ndim - len(term.replace("...", "")) for term, operand in zip(inputs, operands, strict=True)]
    width = max([rank for rank, term in zip(ranks, inputs, strict=True) if "..." in term], default=0)
    ellipsis = "".join(free[:width])
    for number, (term, rank) in enumerate(zip(inputs, ranks, strict=True)):
        if rank < 0 or (rank and "..." not in term):
            raise ShapeError(
                f"einsum(): the number of subscripts in the equation ({len(term.replace('...', ''))}) does not match"
                f" the number of dimensions ({operands[number].ndim}) for operand {number}: shape"
                f" {tuple(operands[number].shape)}, subscripts {term!r}"
            )
    inputs = [term.replace("...", ellipsis[width - rank :]) for term, rank in zip(inputs, ranks, strict=True)]
    if not arrow:
        letters = "".join(inputs).replace(ellipsis, "") if ellipsis else "".join(inputs)
        right = ellipsis + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return inputs, right.replace("...", ellipsis)


def _einsum_grads(xp: Any, grad: Any, equation: str, operands: Sequence[Any]) -> list[Any]:
    inputs, output = _einsum_terms(equation, operands)
    sizes = {
        c: n for term, x in zip(inputs, operands, strict=True) for c, n in zip(term, x.shape, strict=True) if n != 1
    }
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
        index = tuple(
            xp.reshape(xp.arange(sizes.get(c, 1)), (-1,) + (1,) * (len(letters) - 1 - letters.index(c))) for c in term
        )
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
    operands=lambda xp, grad, equation, operands: _einsum_grads(xp, grad, equation, operands),
    cast="promote",
    where="internal",
    node="EinsumBackward0",
    flops=_einsum_flops,
)
def _einsum(xp: Any, operands: Sequence[Array], equation: str) -> Array:
    """A sum of products named by subscripts."""
    inputs, output = _einsum_terms(equation, operands)
    result = xp.einsum(",".join(inputs) + "->" + output, *operands)
    return xp.array(result) if len(operands) == 1 else result  # of one operand it may be a view


def _spelt_out(*arguments: Any) -> tuple[str, tuple[Any, ...]]:
    """Turn operands that alternate with lists of numbers, and perhaps a list for the output,
    into an equation and operands.
    """

    def term(subscripts: Sequence[Any]) -> str:
        return "".join("..." if number is Ellipsis else LETTERS[number] for number in subscripts)

    pairs = len(arguments) // 2
    equation = ",".join(term(subscripts) for subscripts in arguments[1 : 2 * pairs : 2])
    return equation + ("->" + term(arguments[-1]) if len(arguments) % 2 else ""), arguments[0 : 2 * pairs : 2]


@TENSOR.define("einsum")
@composite(
    where="function",
    samples=[
        sample("ij,jk->ik", real(3, 2), real(2, 4)),
        sample("ij->ji", real(3, 2)),
        sample("ii->i", real(3, 3)),
        sample("ij,ij->", real(3, 2), real(3, 2)),
        sample("bij,bjk->bik", real(2, 3, 2), real(2, 2, 4)),
        sample("...i,i->...", real(2, 3, 4), real(4)),
        sample("i,j", real(3), real(2)),
        sample("ii", real(3, 3)),
        sample("ij,jk,kl->il", real(2, 3), real(3, 2), real(2, 2)),
        sample("ij->i", real(3, 2)),
        sample("...ij,...jk", real(2, 3, 2), real(2, 4)),
        sample("ij,jk->ik", real(0, 2), real(2, 4)),
        sample("ij,jk->ik", real(2, 0), real(0, 4)),
        sample("iij->ij", real(2, 2, 3)),
        sample("...ii->...i", real(2, 3, 3)),
        sample("i...->...", real(2, 3)),
        sample(",", real(), real()),
        sample("bA,bA->b", real(2, 3), real(2, 3)),
        sample("ij , ij -> j", real(2, 3), real(2, 3)),
        sample("ij->", edge([[1.0, float("inf")], [float("nan"), 2.0]])),
    ],
)
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products named by subscripts, as in Einstein's notation;
    `...` stands for any dimensions, which broadcast.

    Instead of letters, numbers may name the dimensions: `einsum(a, [0, 1], b, [1, 2], [0, 2])`.

    >>> torch.einsum("ij,j->i", torch.ones(2, 3), torch.tensor([1.0, 2.0, 3.0]))
    tensor([6., 6.])
    """
    if not isinstance(equation, str):
        equation, operands = _spelt_out(equation, *operands)
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    return _einsum(operands, equation)
