"""What any matrix has, square or not: its pseudoinverse, least squares, rank, condition;
and the exponential of square ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.creation import eye
from nanotorch.ops.elementwise.extrema import where
from nanotorch.ops.linalg.decomposition import linalg_svdvals
from nanotorch.ops.linalg.determinant import linalg_slogdet
from nanotorch.ops.linalg.matrices import SQUARE, converging, need_matrices, swapped
from nanotorch.ops.linalg.matrix_norm import linalg_matrix_norm
from nanotorch.ops.linalg.solve import _solve, linalg_inv
from nanotorch.ops.rows.dims import need_tuple
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import constant, distinct, invertible, real, sample


class LeastSquares(NamedTuple):
    """What `linalg.lstsq` returns; of a rank-deficient system the residuals are empty."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def _pinv_self(xp: Any, grad: Any, self: Any, result: Any) -> Any:
    """Golub & Pereyra (1973): the derivative of a pseudoinverse where the rank stays."""
    across, turned = swapped(xp, grad), swapped(xp, result)
    left = xp.matmul(xp.matmul(across, result), turned)
    right = xp.matmul(turned, xp.matmul(result, across))
    total = left - xp.matmul(self, xp.matmul(result, left)) + right - xp.matmul(xp.matmul(right, result), self)
    return total - xp.matmul(turned, xp.matmul(grad, turned))


@op(self=_pinv_self, where="internal", node="LinalgPinvBackward0")
def _pinv(xp: Any, self: Array, atol: float, rtol: float) -> Array:
    """The pseudoinverse, of which singular values count
    that are larger than `atol` and `rtol` times the largest.
    """
    if not self.size:
        return xp.zeros((*self.shape[:-2], self.shape[-1], self.shape[-2]), dtype=self.dtype)
    u, s, vh = converging(xp, "linalg.pinv", lambda matrix: xp.svd(matrix, False), self)
    counts = s > xp.maximum(xp.amax(s, axis=-1, keepdims=True) * rtol, atol)
    inverted = xp.where(counts, 1 / xp.where(counts, s, 1.0), 0.0)
    return xp.asarray(xp.matmul(swapped(xp, vh) * xp.expand_dims(inverted, -2), swapped(xp, u)))


def _tolerances(A: Tensor, atol: float | None, rtol: float | None) -> tuple[float, float]:
    """Return the absolute and the relative bound below which singular values count as 0."""
    if rtol is None:
        rtol = float(np.finfo(A.dtype.numpy).eps) * max(A.shape[-2:]) if not atol else 0.0
    return atol or 0.0, rtol


oblong = [sample(real(3, 2)), sample(real(2, 4)), sample(real(2, 3, 2))]


@composite(
    widens=True,
    where="linalg",
    samples=[
        *oblong,
        sample(invertible(3, 3)),
        sample(real(0, 3)),
        sample(distinct(3, 2), atol=0.01, rtol=0.001),
        sample(distinct(3, 2), 0.02),
    ],
)
def linalg_pinv(
    A: Tensor,
    rcond: float | None = None,
    hermitian: bool = False,
    *,
    atol: float | None = None,
    rtol: float | None = None,
) -> Tensor:
    """The Moore-Penrose inverse of matrices (..., m, n); its gradient takes the rank for constant.

    Args:
        A: the matrices.
        rcond: an older name of `rtol`.
        hermitian: accepted: a symmetric matrix is taken as any other.
        atol: singular values up to this count as 0.
        rtol: singular values up to this part of the largest count as 0; by default the machine's precision times the
            larger side.
    """
    need_matrices("linalg.pinv", A, False)
    return _pinv(A, *_tolerances(A, atol, rcond if rtol is None else rtol))


@composite(samples=[sample(real(3, 2)), sample(real(2, 2, 3), 1e-6)])
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The Moore-Penrose inverse of matrices: `linalg.pinv`."""
    return linalg_pinv(input, rtol=rcond)


@composite(
    where="linalg",
    samples=[
        sample(real(3, 2)),
        sample(real(2, 3, 3)),
        sample(real(3, 2), atol=100.0),
        sample(real(3, 3), tol=1.0),
        sample(real(0, 3)),
    ],
)
def linalg_matrix_rank(
    A: Tensor,
    tol: float | None = None,
    hermitian: bool = False,
    *,
    atol: float | None = None,
    rtol: float | None = None,
) -> Tensor:
    """The number of singular values of matrices that do not count as 0;
    the arguments are those of `pinv`, `tol` an older name of `atol`.
    """
    need_matrices("linalg.matrix_rank", A, False)
    s = linalg_svdvals(A.detach())
    if not s.shape[-1]:
        return s.sum(-1).long()
    atol, rtol = _tolerances(A, tol if tol is not None else atol, 0.0 if tol is not None else rtol)
    return (s > (s.amax(-1, keepdim=True) * rtol).clamp(min=atol)).sum(-1)


@composite(
    widens=True,
    where="linalg",
    samples=[
        sample(distinct(3, 3)),
        sample(distinct(3, 2)),
        sample(distinct(2, 3, 3), -2),
        *[sample(constant(2, 2), p) for p in (1, -1, float("inf"), "fro", "nuc")],
    ],
)
def linalg_cond(A: Tensor, p: float | str | None = None) -> Tensor:
    """The condition number of matrices: how many times larger the norm of the inverse makes
    that of the matrix (2-norm by default).
    """
    if not A.numel():
        return A.sum((-2, -1))
    if p is None or p in (2, -2):
        s = linalg_svdvals(A)
        return s[..., 0] / s[..., -1] if p != -2 else s[..., -1] / s[..., 0]
    need_matrices("linalg.cond", A)
    singular = linalg_slogdet(A.detach())[0] == 0
    inverse = linalg_inv(where(singular[..., None, None], eye(A.shape[-1], dtype=A.dtype, device=A.device), A))
    return where(singular, math.inf, linalg_matrix_norm(A, p) * linalg_matrix_norm(inverse, p))


@composite(
    widens=True,
    where="linalg",
    samples=[
        sample(constant(4, 2), constant(4, 3)),
        sample(constant(2, 4), constant(2, 1)),
        sample(constant(2, 3, 2), constant(2, 3, 1)),
        sample(constant(2, 3, 2), constant(2, 3)),
    ],
)
def linalg_lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> LeastSquares:
    """The X of least norm that makes the norm of `A @ X - B` least, with residuals,
    rank and singular values as the driver gives them.

    Args:
        A: matrices (..., m, n).
        B: matrices (..., m, k), or for every matrix a vector (..., m).
        rcond: singular values up to this part of the largest count as 0.
        driver: "gelsy" (also None) gives the rank, "gels" nothing beside the solution, "gelsd" and "gelss" all three.
    """
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(
            f"linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss), got {driver!r}"
        )
    need_matrices("linalg.lstsq", A, False)
    if B.shape == A.shape[:-1]:
        found = linalg_lstsq(A, B.unsqueeze(-1), rcond, driver=driver)
        return found._replace(solution=found.solution.squeeze(-1))
    need_matrices("linalg.lstsq", B, False)
    if A.shape[-2] != B.shape[-2] or B.ndim > A.ndim:
        raise ShapeError(f"linalg.lstsq: A {tuple(A.shape)} and B {tuple(B.shape)} need the same number of rows")
    solution = linalg_pinv(A, rtol=rcond) @ B
    empty, whole = A.new_empty(0), driver in ("gelsd", "gelss")
    rank = A.new_empty(0).long() if driver == "gels" else linalg_matrix_rank(A, rtol=rcond)
    full = (
        driver != "gelsy"
        and driver is not None
        and A.shape[-2] > A.shape[-1]
        and bool((linalg_matrix_rank(A, rtol=rcond) == A.shape[-1]).all())
    )
    residuals = (A @ solution - B).square().sum(-2) if full else empty
    return LeastSquares(solution, residuals, rank, linalg_svdvals(A) if whole else empty)


@composite(
    where="linalg", samples=[sample(real(2, 3)), sample(real(2, 3, 4), offset=1), sample(real(2, 3, 4), dim1=0, dim2=1)]
)
def linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """A diagonal of matrices as the last dimension, a view."""
    return A.diagonal(offset, dim1, dim2)


@composite(where="linalg", samples=[sample(real(2, 3, 6), real(2, 3)), sample(invertible(3, 3), real(3))])
def linalg_tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """The X with `tensordot(A, X, X.ndim) = B`; `dims` are moved to the end of `A` first."""
    if dims is not None:
        need_tuple("linalg.tensorsolve", "dims", dims)
        A = A.movedim(tuple(dims), tuple(range(A.ndim - len(tuple(dims)), A.ndim)))
    rest = tuple(A.shape)[B.ndim :]
    if math.prod(rest) != B.numel() or math.prod(tuple(A.shape)[: B.ndim]) != B.numel():
        raise ShapeError(f"linalg.tensorsolve: A {tuple(A.shape)} is no square system for B {tuple(B.shape)}")
    return _solve(A.reshape(B.numel(), B.numel()), B.reshape(-1)).reshape(rest)


@composite(where="linalg", samples=[sample(real(2, 3, 6)), sample(invertible(3, 3), ind=1)])
def linalg_tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of `tensordot` with `A`, whose first `ind` dimensions count as its rows."""
    if not 0 < ind <= A.ndim:
        raise RuntimeError(
            f"linalg.tensorinv: Expected 'ind' to be positive and at most {A.ndim}, the dimensions of A, got {ind}"
        )
    rows, columns = tuple(A.shape)[:ind], tuple(A.shape)[ind:]
    if math.prod(rows) != math.prod(columns):
        raise ShapeError(f"linalg.tensorinv: expected as many rows {rows} as columns {columns} in A {tuple(A.shape)}")
    return linalg_inv(A.reshape(math.prod(rows), math.prod(columns))).reshape((*columns, *rows))


def _exponential(A: Tensor) -> Tensor:
    """Taylor's series of a matrix that was halved until its norm is at most 1/2, squared as often."""
    need_matrices("linalg.matrix_exp", A)
    if not A.numel():
        return A.clone()
    size = float(linalg_matrix_norm(A.detach(), 1).amax()) if A.shape[-1] else 0.0
    halvings = max(0, math.ceil(math.log2(size)) + 1) if math.isfinite(size) and size > 0 else 0
    identity = eye(A.shape[-1], dtype=A.dtype, device=A.device)
    small = A / 2.0**halvings
    result = identity + small / 18
    for k in range(17, 0, -1):
        result = identity + small @ result / k
    for _ in range(halvings):
        result = result @ result
    return result


@composite(widens=True, where="linalg", samples=[*SQUARE, sample(real(3, 3, low=-6, high=6))])
def linalg_matrix_exp(A: Tensor) -> Tensor:
    """The exponential `I + A + A @ A / 2 + ...` of square matrices."""
    return _exponential(A)


@composite(widens=True, samples=SQUARE[:2])
def matrix_exp(input: Tensor) -> Tensor:
    """The exponential of square matrices: `linalg.matrix_exp`."""
    return _exponential(input)
