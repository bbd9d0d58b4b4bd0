"""What operations on batches of matrices share: checks, errors, transposes.

What does not exist, such as the inverse of a singular matrix, raises `LinAlgError`, as in PyTorch on both devices. On a
GPU that means to wait for the answer: CuPy would otherwise return whatever the aborted routine left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nanotorch.autograd.graph.errors import LinAlgError, ShapeError
from nanotorch.ops.rows.sample import invertible, real, sample
from nanotorch.ops.rows.tensors import raw

SQUARE = [
    sample(invertible(3, 3)),
    sample(invertible(2, 3, 3)),
    sample(invertible(1, 1)),
    sample(invertible(0, 2, 2)),
    sample(real(0, 0)),
]


def need_matrices(name: str, matrix: Any, square: bool = True) -> None:
    """Refuse what is no batch of (square) matrices of floating point numbers, array or tensor, in PyTorch's words."""
    dtype = raw(matrix.dtype)
    if matrix.ndim < 2:
        raise ShapeError(f"{name}: The input tensor A must have at least 2 dimensions, got shape {tuple(matrix.shape)}")
    rows, columns = matrix.shape[-2:]
    if square and rows != columns:
        raise ShapeError(
            f"{name}: A must be batches of square matrices, but they are {rows} by {columns} matrices (shape"
            f" {tuple(matrix.shape)})"
        )
    if dtype.kind != "f":
        raise RuntimeError(f"{name}: Expected a floating point tensor as input. Got {dtype}: convert with .float()")


def or_explain(xp: Any, name: str, function: Callable[[Any], Any], matrix: Any, reason: str) -> Any:
    """Call a function of matrices; name the first matrix of the batch that it cannot be computed for, and say so if it
    holds NaN or infinities.
    """
    try:
        return function(matrix)
    except np.linalg.LinAlgError:
        where, failed = "", matrix
        for index in np.ndindex(*matrix.shape[:-2]) if matrix.ndim > 2 else []:
            try:
                function(matrix[index])
            except np.linalg.LinAlgError:
                where, failed = f"(Batch element {index[0] if len(index) == 1 else index}): ", matrix[index]
                break
        if xp.holds(xp.isfinite(failed)) is False:
            reason += " It contains NaN or infinities."
        raise LinAlgError(f"{name}: {where}{reason} (shape {tuple(matrix.shape)})") from None


def solved(xp: Any, name: str, matrix: Any, right: Any) -> Any:
    """Return X with `matrix @ X = right`, in the name of an operation or its derivative."""

    def solve(part: Any) -> Any:
        return xp.solve(part, right if part is matrix else xp.zeros((*part.shape[:1], 1), dtype=part.dtype))

    return or_explain(xp, name, solve, matrix, "The solver failed because the input matrix is singular.")


def converging(xp: Any, name: str, function: Callable[[Any], Any], matrix: Any) -> Any:
    """Call an iteration of LAPACK's, which need not come back from an infinity or a NaN."""

    def checked(matrix: Any) -> Any:
        if xp.holds(xp.isfinite(matrix)) is False:
            raise np.linalg.LinAlgError
        return function(matrix)

    return or_explain(xp, name, checked, matrix, "The algorithm failed to converge for the input matrix.")


def swapped(xp: Any, matrix: Any) -> Any:
    """Transpose every matrix of a batch."""
    return xp.swapaxes(matrix, -1, -2)


def scaled(xp: Any, factor: Any, matrix: Any) -> Any:
    """Multiply every matrix of a batch by its number."""
    return xp.expand_dims(factor, (-2, -1)) * matrix
