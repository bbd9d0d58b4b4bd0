"""Factorisations of matrices: Cholesky's, eigenvalues, singular values, QR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.linalg.matrices import converging, need_matrices, or_explain, solved, swapped
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import distinct, positive_definite, real, sample

if TYPE_CHECKING:
    from nanotorch import return_types


def _cholesky_self(xp: Any, grad: Any, result: Any) -> Any:
    """Murray (2016), "Differentiation of the Cholesky decomposition", made symmetric."""
    inner = xp.tril(xp.matmul(swapped(xp, result), grad))
    inner = (inner + swapped(xp, xp.tril(inner, -1))) * 0.5
    name, factor = "gradient of linalg.cholesky", swapped(xp, result)
    return swapped(xp, solved(xp, name, factor, swapped(xp, solved(xp, name, factor, inner))))


@op(self=_cholesky_self, where="internal", node="LinalgCholeskyExBackward0")
def _cholesky(xp: Any, self: Array) -> Array:
    """The lower triangular factor."""
    need_matrices("linalg.cholesky", self)
    return or_explain(
        xp,
        "linalg.cholesky",
        xp.cholesky,
        self,
        "The factorization could not be completed because the input is not positive-definite.",
    )


factors = [
    sample(positive_definite(3, 3)),
    sample(positive_definite(2, 3, 3)),
    sample(positive_definite(1, 1)),
    sample(real(0, 0)),
]


@composite(samples=[*factors, sample(positive_definite(3, 3), upper=True)], where="linalg")
def linalg_cholesky(input: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L with `L @ L.T = input` for positive definite matrices; `upper` returns its transpose.

    Only that triangle of the input is read, and the gradient is symmetric, as in PyTorch.
    """
    return _cholesky(input.transpose(-1, -2)).transpose(-1, -2) if upper else _cholesky(input)


@composite()
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """The triangular factor of positive definite matrices: `linalg.cholesky` under its older name."""
    return linalg_cholesky(input, upper=upper)


def _eigh_self(xp: Any, grads: Any, eigenvalues: Any, eigenvectors: Any) -> Any:
    """Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic differentiation"."""
    inner = xp.matmul(swapped(xp, eigenvectors), grads[1])
    gaps = xp.expand_dims(eigenvalues, -2) - xp.expand_dims(eigenvalues, -1)
    identity = xp.eye(eigenvalues.shape[-1], dtype=eigenvalues.dtype)
    inner = _over_gaps(xp, inner * (1 - identity), gaps) + identity * xp.expand_dims(grads[0], -1)
    total = xp.matmul(eigenvectors, xp.matmul(inner, swapped(xp, eigenvectors)))
    return (total + swapped(xp, total)) * 0.5


def _over_gaps(xp: Any, numerator: Any, gaps: Any) -> Any:
    """Divide by what separates eigenvalues; 0 over 0 is 0: nobody asked for those vectors."""
    return numerator / xp.where((gaps == 0) & (numerator == 0), 1.0, gaps)


@op(self=_eigh_self, outputs="eigenvalues eigenvectors", where="internal", node="LinalgEighBackward0")
def _linalg_eigh(xp: Any, self: Array) -> Array:
    """Eigenvalues and eigenvectors of symmetric matrices."""
    need_matrices("linalg.eigh", self)
    return converging(xp, "linalg.eigh", xp.eigh, self)


@composite(where="linalg")
def linalg_eigh(A: Tensor, UPLO: str = "L") -> return_types.linalg_eigh:
    """Eigenvalues, ascending, and eigenvectors, as columns, of symmetric matrices, of which one triangle is read.

    The vectors are defined up to their sign: only what does not depend on it has a gradient.
    """
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"linalg.eigh: expected UPLO to be 'L' or 'U', but got {UPLO!r}")
    return _linalg_eigh(A if UPLO.upper() == "L" else A.transpose(-1, -2))


@composite(samples=factors, where="linalg")
def linalg_eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of symmetric matrices, ascending."""
    return linalg_eigh(A, UPLO)[0]


def _svd_self(xp: Any, grads: Any, U: Any, S: Any, Vh: Any) -> Any:
    """Giles (2008), with the parts outside the spaces that U and Vh span, for matrices that are not square."""
    gu, gs, gv = grads[0], xp.expand_dims(grads[1], -2), swapped(xp, grads[2])
    row, column, v = xp.expand_dims(S, -2), xp.expand_dims(S, -1), swapped(xp, Vh)
    gaps = row * row - column * column
    left, right = xp.matmul(swapped(xp, U), gu), xp.matmul(Vh, gv)
    inner = _over_gaps(xp, left - swapped(xp, left), gaps) * row + column * _over_gaps(
        xp, right - swapped(xp, right), gaps
    )
    inner = inner + xp.eye(S.shape[-1], dtype=S.dtype) * gs
    total = xp.matmul(U, xp.matmul(inner, Vh))
    if U.shape[-2] > S.shape[-1]:
        total = total + xp.matmul(_over_gaps(xp, gu - xp.matmul(U, left), row), Vh)
    if Vh.shape[-1] > S.shape[-1]:
        total = total + xp.matmul(U, swapped(xp, _over_gaps(xp, gv - xp.matmul(v, right), row)))
    return total


@op(self=_svd_self, outputs="U S Vh", where="internal", node="LinalgSvdBackward0")
def _linalg_svd(xp: Any, self: Array) -> Array:
    """The thin singular value decomposition."""
    need_matrices("linalg.svd", self, square=False)
    return converging(xp, "linalg.svd", lambda matrix: xp.svd(matrix, full_matrices=False), self)


@op(outputs="U S Vh", where="internal")
def _linalg_svd_full(xp: Any, self: Array) -> Array:
    """The singular value decomposition with square U and Vh, which have no derivative."""
    need_matrices("linalg.svd", self, square=False)
    return converging(xp, "linalg.svd", lambda matrix: xp.svd(matrix, full_matrices=True), self)


@composite(where="linalg")
def linalg_svd(A: Tensor, full_matrices: bool = True) -> return_types.linalg_svd:
    """U, the singular values, descending, and Vh with `A = U @ diag(S) @ Vh`.

    The vectors are defined up to their sign: only what does not depend on it has a gradient. `full_matrices` makes U
    and Vh square; the additional vectors are arbitrary, so of matrices that are not square only the singular values are
    then recorded.
    """
    thin = _linalg_svd(A)
    if not full_matrices or A.shape[-1] == A.shape[-2]:
        return thin
    full = _linalg_svd_full(A)
    return type(thin)(full.U, thin.S, full.Vh)


@composite(
    samples=[sample(distinct(3, 3)), sample(distinct(2, 4, 3)), sample(distinct(2, 3)), sample(real(0, 2, 2))],
    where="linalg",
)
def linalg_svdvals(A: Tensor) -> Tensor:
    """The singular values, descending."""
    return _linalg_svd(A)[1]


def _qr_self(xp: Any, grads: Any, self: Any, Q: Any, R: Any) -> Any:
    """Walter, Lehmann and Lamour (2012), on the QR decomposition of tall matrices.

    Of a wide matrix the first columns are factorised; the others are Q times the rest of R.
    """
    rows, columns = Q.shape[-1], R.shape[-1]
    gq, gr = grads
    first, rest = R[..., :rows], None
    if columns > rows:
        rest = gr[..., rows:]
        gq, gr = gq + xp.matmul(self[..., rows:], swapped(xp, rest)), gr[..., :rows]
    inner = xp.matmul(first, swapped(xp, gr)) - xp.matmul(swapped(xp, gq), Q)
    inner = xp.tril(inner) + swapped(xp, xp.tril(inner, -1))
    total = swapped(xp, solved(xp, "gradient of linalg.qr", first, swapped(xp, gq + xp.matmul(Q, inner))))
    return total if rest is None else xp.concatenate([total, xp.matmul(Q, rest)], axis=-1)


@op(self=_qr_self, outputs="Q R", where="internal", node="LinalgQrBackward0")
def _linalg_qr(xp: Any, self: Array) -> Array:
    """The thin orthogonal-triangular factorisation."""
    need_matrices("linalg.qr", self, square=False)
    return tuple(xp.qr(self, "reduced"))


@op(outputs="Q R", where="internal")
def _linalg_qr_complete(xp: Any, self: Array) -> Array:
    """The factorisation with a square Q, which has no derivative."""
    need_matrices("linalg.qr", self, square=False)
    return tuple(xp.qr(self, "complete"))


@composite(
    samples=[
        sample(distinct(4, 3)),
        sample(distinct(2, 3, 3, low=0.3, high=3)),
        sample(distinct(2, 4)),
        sample(distinct(2, 2, 3, low=-1, high=3)),
        sample(distinct(2, 3, 2), mode="reduced"),
        sample(real(0, 3, 2)),
    ],
    where="linalg",
)
def linalg_qr(A: Tensor, mode: str = "reduced") -> return_types.linalg_qr:
    """Q with orthonormal columns and R, upper triangular, with `A = Q @ R`.

    `mode="complete"` makes Q square, whose additional columns are arbitrary and have no gradient; "r" leaves Q empty.
    """
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"linalg.qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    factors = _linalg_qr(A)
    if mode == "complete" and A.shape[-2] > A.shape[-1]:
        return type(factors)(*_linalg_qr_complete(A))
    return factors._replace(Q=factors.Q.new_zeros(0)) if mode == "r" else factors
