"""Operations on matrices that say which of them they failed for, instead of raising:
`info` is 0 where there is a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.errors import LinAlgError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.create.creation import eye
from nanotorch.ops.elementwise.extrema import where
from nanotorch.ops.linalg.decomposition import linalg_cholesky
from nanotorch.ops.linalg.matrices import SQUARE
from nanotorch.ops.linalg.solve import linalg_inv, linalg_solve
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.sample import invertible, positive_definite, real, sample


class Inverse(NamedTuple):
    """An inverse; `info` is 0 where there is one."""

    inverse: Tensor
    info: Tensor


class Factor(NamedTuple):
    """A factor; `info` is 0 where there is one."""

    L: Tensor
    info: Tensor


class Solution(NamedTuple):
    """A solution; `info` is 0 where there is one."""

    result: Tensor
    info: Tensor


def _zero_pivot(matrix: np.ndarray[Any, Any]) -> int:
    """Return the number of the first pivot that is 0 when a matrix is eliminated,
    the last one where rounding hides it.
    """
    rest, size = matrix.astype(np.float64), len(matrix)
    for k in range(size):
        chosen = k + int(np.argmax(np.abs(rest[k:, k])))
        rest[[k, chosen]] = rest[[chosen, k]]
        if rest[k, k] == 0:
            return k + 1
        rest[k + 1 :] -= np.outer(rest[k + 1 :, k] / rest[k, k], rest[k])
    return size


def _bad_minor(matrix: np.ndarray[Any, Any]) -> int:
    """Return the order of the first leading minor that is not positive definite."""
    for k in range(1, len(matrix)):
        try:
            np.linalg.cholesky(matrix[:k, :k])
        except np.linalg.LinAlgError:
            return k
    return len(matrix)


def _attempt(
    A: Tensor, function: Callable[[Tensor], Tensor], place: Callable[[Any], int], check_errors: bool
) -> tuple[Tensor, Tensor]:
    """Return what a function makes of matrices, NaN for those that it raises for, and for each where it failed."""
    batch = tuple(A.shape[:-2])
    codes = np.zeros(batch, np.int32)
    xp = A.device.xp
    try:
        found = function(A)
    except LinAlgError:
        if check_errors:
            raise
        matrices = xp.to_numpy(A._array)
        for index in np.ndindex(*batch):
            try:
                function(from_array(xp.receive(matrices[index], A.device), A.device))
            except LinAlgError:
                codes[index] = place(matrices[index])
        broken = from_array(xp.receive(np.asarray(codes > 0), A.device), A.device)[..., None, None]
        found = where(
            broken, float("nan"), function(where(broken, eye(A.shape[-1], dtype=A.dtype, device=A.device), A))
        )
    return found, from_array(xp.receive(codes, A.device), A.device)


@composite(where="linalg", samples=SQUARE)
def linalg_inv_ex(A: Tensor, *, check_errors: bool = False) -> Inverse:
    """The inverses of square matrices, and for each 0 or the number of the pivot that is 0,
    where the inverse here is NaN.

    >>> torch.linalg.inv_ex(torch.zeros(2, 2)).info
    tensor(1, dtype=torch.int32)
    """
    return Inverse(*_attempt(A, linalg_inv, _zero_pivot, check_errors))


@composite(
    where="linalg",
    samples=[sample(positive_definite(3, 3)), sample(positive_definite(2, 3, 3), upper=True), sample(real(0, 0))],
)
def linalg_cholesky_ex(input: Tensor, *, upper: bool = False, check_errors: bool = False) -> Factor:
    """`cholesky`, and for each matrix 0 or the order of the leading minor that is not positive definite,
    where the factor here is NaN.
    """
    return Factor(*_attempt(input, lambda A: linalg_cholesky(A, upper=upper), _bad_minor, check_errors))


@composite(
    where="linalg",
    samples=[
        sample(invertible(3, 3), real(3, 2)),
        sample(invertible(2, 3, 3), real(2, 3)),
        sample(invertible(3, 3), real(2, 3), left=False),
    ],
)
def linalg_solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Solution:
    """`solve`, and for each matrix 0 or the number of the pivot that is 0, where the solution here is NaN."""
    info = linalg_inv_ex(A.detach(), check_errors=check_errors).info
    broken = (info > 0)[..., None, None]
    found = linalg_solve(where(broken, eye(A.shape[-1], dtype=A.dtype, device=A.device), A), B, left=left)
    return Solution(where(broken if found.ndim >= A.ndim else broken.squeeze(-1), float("nan"), found), info)
