"""Inverses, determinants and factorisations of square matrices, batched over the leading dimensions.

Note [Singular matrices]
~~~~~~~~~~~~~~~~~~~~~~~~
What does not exist raises `LinAlgError`, as in PyTorch on both devices. On a GPU that means to wait for the answer: CuPy would
otherwise return whatever the aborted routine left.

The gradient of the determinant is the matrix of cofactors, which is usually written ``det(A) * inv(A).T``. That form fails
where ``A`` is singular, although the determinant is a polynomial, smooth everywhere. With the singular value decomposition
``A = U diag(s) Vh`` the cofactors are ``det(U) det(Vh) * U diag(d) Vh``, where ``d[i]`` is the product of all other singular
values: exact for every matrix. Their own derivative follows in the same way, from the products without two of the singular values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nanotorch.autograd.errors import LinAlgError, ShapeError
from nanotorch.autograd.tensor import Tensor
from nanotorch.ops.reduce import products_of_others
from nanotorch.ops.row import ROWS, Array, composite, op
from nanotorch.ops.sample import distinct, edge, invertible, positive_definite, real, sample


def _need_matrices(name: str, matrix: Any, square: bool = True) -> None:
    if matrix.ndim < 2:
        raise ShapeError(f"{name}: The input tensor A must have at least 2 dimensions, got shape {tuple(matrix.shape)}")
    rows, columns = matrix.shape[-2:]
    if square and rows != columns:
        raise ShapeError(
            f"{name}: A must be batches of square matrices, but they are {rows} by {columns} matrices (shape {tuple(matrix.shape)})"
        )
    if matrix.dtype.kind != "f":
        raise RuntimeError(f"{name}: Expected a floating point tensor as input. Got {matrix.dtype}: convert with .float()")


def _or_explain(name: str, function: Callable[[Any], Any], matrix: Any, reason: str) -> Any:
    """Call a function of matrices; name the first matrix of the batch that it cannot be computed for."""
    try:
        return function(matrix)
    except np.linalg.LinAlgError:
        where = ""
        for index in np.ndindex(*matrix.shape[:-2]) if matrix.ndim > 2 else []:
            try:
                function(matrix[index])
            except np.linalg.LinAlgError:
                where = f"(Batch element {index[0] if len(index) == 1 else index}): "
                break
        raise LinAlgError(f"{name}: {where}{reason} (shape {tuple(matrix.shape)})") from None


def _call(name: str, xp: Any, *arguments: Any) -> Any:
    """Call a row from a formula: on Tensors the row itself, so that it is recorded, on arrays its forward."""
    row = ROWS[name]
    return row.function(*arguments) if isinstance(arguments[0], Tensor) else row.forward(xp, *arguments)


def _t(xp: Any, matrix: Any) -> Any:
    return xp.swapaxes(matrix, -1, -2)


def _scaled(xp: Any, factor: Any, matrix: Any) -> Any:
    """Multiply every matrix of a batch by its number."""
    return xp.expand_dims(factor, (-2, -1)) * matrix


square = [sample(invertible(3, 3)), sample(invertible(2, 3, 3)), sample(invertible(1, 1)), sample(invertible(0, 2, 2)), sample(real(0, 0))]


@op(
    self=lambda xp, grad, result: -xp.matmul(_t(xp, result), xp.matmul(grad, _t(xp, result))), where="linalg", node="LinalgInvExBackward0",
    samples=square,
)  # fmt: skip
def linalg_inv(xp: Any, self: Array) -> Array:
    """The inverse of square matrices (..., n, n); LinAlgError for singular ones.

    >>> torch.linalg.inv(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    _need_matrices("linalg.inv", self)
    return _or_explain("linalg.inv", xp.inv, self, "The inversion could not be completed because the input matrix is singular.")


def _is_vector(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Whether the right side of an equation is a vector, or as many vectors as there are matrices on the left."""
    return len(right) == 1 or (len(right) == len(left) - 1 and right == left[:-1])


def _solve_other(xp: Any, grad: Any, self: Any, other_shape: Any) -> Any:
    if _is_vector(tuple(self.shape), tuple(other_shape)):
        return xp.squeeze(xp.solve(_t(xp, self), xp.expand_dims(grad, -1)), -1)
    return xp.solve(_t(xp, self), grad)


def _solve_self(xp: Any, grad: Any, self: Any, other_shape: Any, result: Any) -> Any:
    grad = _solve_other(xp, grad, self, other_shape)
    if _is_vector(tuple(self.shape), tuple(other_shape)):
        return -xp.expand_dims(grad, -1) * xp.expand_dims(result, -2)
    return -xp.matmul(grad, _t(xp, result))


@op(self=_solve_self, other=_solve_other, where="internal", node="LinalgSolveExBackward0")
def _solve(xp: Any, self: Array, other: Array) -> Array:
    """The solution X of ``self @ X = other``."""
    _need_matrices("linalg.solve", self)
    vector = _is_vector(tuple(self.shape), tuple(other.shape))
    right = xp.expand_dims(other, -1) if vector else other
    if right.ndim < 2 or right.shape[-2] != self.shape[-1]:
        raise ShapeError(
            f"linalg.solve: Incompatible shapes of A and B for the equation AX = B: {tuple(self.shape)} and {tuple(other.shape)}"
        )

    def solve(matrix: Any) -> Any:
        return xp.solve(matrix, right if matrix is self else xp.zeros((*matrix.shape[:1], 1), dtype=matrix.dtype))

    result = _or_explain("linalg.solve", solve, self, "The solver failed because the input matrix is singular.")
    return xp.squeeze(result, -1) if vector else result


@composite(
    samples=[
        sample(invertible(3, 3), real(3)), sample(invertible(3, 3), real(3, 2)), sample(invertible(2, 3, 3), real(2, 3)),
        sample(invertible(2, 3, 3), real(3)), sample(invertible(3, 3), real(2, 3, 2)), sample(invertible(2, 3, 3), real(3, 2)),
        sample(invertible(3, 3), real(2, 3), left=False), sample(invertible(3, 3), real(3, 0)), sample(invertible(0, 2, 2), real(0, 2)),
    ],
    where="linalg",
)  # fmt: skip
def linalg_solve(A: Any, B: Any, *, left: bool = True) -> Any:
    """The solution X of ``A @ X = B`` (of ``X @ A = B`` with ``left=False``); B may be a vector or a batch of vectors.

    >>> torch.linalg.solve(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    if left or _is_vector(tuple(A.shape), tuple(B.shape)):
        return _solve(A if left else A.transpose(-1, -2), B)
    return _solve(A.transpose(-1, -2), B.transpose(-1, -2)).transpose(-1, -2)


@composite(
    samples=[
        sample(invertible(3, 3), real(3, 2), upper=True), sample(invertible(2, 3, 3), real(2, 3, 2), upper=False),
        sample(invertible(3, 3), real(2, 3), upper=True, left=False), sample(real(3, 3), real(3, 2), upper=False, unitriangular=True),
    ],
    where="linalg",
)  # fmt: skip
def linalg_solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """The solution of a triangular system: only one triangle of ``A`` is read, with ones on the diagonal if it is unitriangular."""
    from nanotorch.ops.create import eye

    A = A.triu(int(unitriangular)) if upper else A.tril(-int(unitriangular))
    if unitriangular:
        A = A + eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return _solve(A, B) if left else _solve(A.transpose(-1, -2), B.transpose(-1, -2)).transpose(-1, -2)


# ------------------------------------------------------------------------------------------------- determinants


def _cofactor_derivative_self(xp: Any, grad: Any, self: Any, direction: Any) -> Any:
    """The third derivative of the determinant, of invertible matrices: that of the formula with the inverse."""
    m, g = _t(xp, xp.inv(self)), grad
    c = xp.matmul(m, xp.matmul(_t(xp, direction), m))
    d = xp.matmul(m, xp.matmul(_t(xp, g), m))
    along_c, along_d = (xp.sum(m * x, axis=(-2, -1)) for x in (direction, g))
    value = along_c * along_d - xp.sum(c * g, axis=(-2, -1))
    mixed = xp.matmul(c, xp.matmul(_t(xp, g), m)) + xp.matmul(d, xp.matmul(_t(xp, direction), m))
    terms = _scaled(xp, value, m) - _scaled(xp, along_d, c) - _scaled(xp, along_c, d) + mixed
    return _scaled(xp, xp.det(self), terms)


@op(
    self=_cofactor_derivative_self, direction=lambda xp, grad, self: _call("_cofactor_derivative", xp, self, grad), where="internal",
    node="CofactorBackwardBackward0",
)  # fmt: skip
def _cofactor_derivative(xp: Any, self: Array, direction: Array) -> Array:
    """The gradient of ``sum(cofactor(self) * direction)`` (Note [Singular matrices])."""
    u, s, vh = xp.svd(self, full_matrices=False)
    s = xp.where(s == 0, s.dtype.type(np.finfo(s.dtype).tiny ** 0.5), s)
    without_two = xp.expand_dims(products_of_others(xp, s), -1) / xp.expand_dims(s, -2)
    without_two = xp.where(xp.eye(s.shape[-1], dtype=bool), s.dtype.type(0), without_two)
    inner = xp.matmul(_t(xp, u), xp.matmul(direction, _t(xp, vh)))
    diagonal = xp.matmul(without_two, xp.expand_dims(xp.diagonal(inner, 0, -2, -1), -1))
    inner = xp.eye(s.shape[-1], dtype=s.dtype) * diagonal - without_two * _t(xp, inner)
    return _scaled(xp, xp.det(u) * xp.det(vh), xp.matmul(u, xp.matmul(inner, vh)))


@op(self=lambda xp, grad, self: _call("_cofactor_derivative", xp, self, grad), where="internal", node="CofactorBackward0")
def _cofactor(xp: Any, self: Array) -> Array:
    """The cofactors of square matrices: the derivatives of their determinants (Note [Singular matrices])."""
    u, s, vh = xp.svd(self, full_matrices=False)
    return _scaled(xp, xp.det(u) * xp.det(vh), xp.matmul(u * xp.expand_dims(products_of_others(xp, s), -2), vh))


@op(
    self=lambda xp, grad, self: _scaled(xp, grad, _call("_cofactor", xp, self)), where="linalg", node="LinalgDetBackward0",
    samples=[*square, sample(distinct(2, 2, low=-1, high=3)), sample(edge([[1.0, 2.0], [3.0, 4.0]]))],
)  # fmt: skip
def linalg_det(xp: Any, self: Array) -> Array:
    """The determinant of square matrices (..., n, n): (...); its gradient is exact for singular ones too.

    >>> x = torch.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    >>> torch.linalg.det(x).backward()
    >>> x.grad.round(decimals=4)
    tensor([[ 4., -2.],
            [-2.,  1.]])
    """
    _need_matrices("linalg.det", self)
    return xp.det(self)


def _slogdet_self(xp: Any, grads: Any, self: Any) -> Any:
    try:
        inverse = _t(xp, xp.inv(self))
    except (LinAlgError, np.linalg.LinAlgError):  # infinite, with the signs of the cofactors
        inverse = _scaled(xp, 1 / xp.det(self), _call("_cofactor", xp, self))
    return _scaled(xp, grads[1], inverse)


@op(self=_slogdet_self, outputs="sign logabsdet", where="linalg", samples=[*square, sample(distinct(3, 2, 2, low=0.3, high=3))])
def linalg_slogdet(xp: Any, self: Array) -> Array:
    """The sign of the determinant and the logarithm of its magnitude, -inf for singular matrices."""
    _need_matrices("linalg.slogdet", self)
    sign, logarithm = xp.slogdet(self)
    return sign, logarithm


@composite(samples=[*square, sample(edge([[0.0, 2.0], [1.0, 3.0]]))])
def logdet(input: Any) -> Any:
    """The logarithm of the determinant: NaN where it is negative, -inf where it is 0."""
    sign, logarithm = linalg_slogdet(input)
    return logarithm.masked_fill(sign < 0, float("nan"))


# ------------------------------------------------------------------------------------------------- factorisations


def _cholesky_self(xp: Any, grad: Any, result: Any) -> Any:
    """Murray (2016), "Differentiation of the Cholesky decomposition", eq. 8, made symmetric."""
    inner = xp.tril(xp.matmul(_t(xp, result), grad))
    inner = (inner + _t(xp, xp.tril(inner, -1))) * 0.5
    left = xp.solve(_t(xp, result), inner)
    return _t(xp, xp.solve(_t(xp, result), _t(xp, left)))


@op(self=_cholesky_self, where="internal", node="LinalgCholeskyExBackward0")
def _cholesky(xp: Any, self: Array) -> Array:
    """The lower triangular factor."""
    _need_matrices("linalg.cholesky", self)
    return _or_explain(
        "linalg.cholesky", xp.cholesky, self, "The factorization could not be completed because the input is not positive-definite."
    )


factors = [sample(positive_definite(3, 3)), sample(positive_definite(2, 3, 3)), sample(positive_definite(1, 1)), sample(real(0, 0))]


@composite(samples=[*factors, sample(positive_definite(3, 3), upper=True)], where="linalg")
def linalg_cholesky(input: Any, *, upper: bool = False) -> Any:
    """The lower triangular L with ``L @ L.T = input`` for positive definite matrices; ``upper`` returns its transpose.

    Only the lower triangle is read, and the gradient is symmetric, as in PyTorch.
    """
    return _cholesky(input).transpose(-1, -2) if upper else _cholesky(input)


@composite()
def cholesky(input: Any, upper: bool = False) -> Any:
    """The triangular factor of positive definite matrices: `linalg.cholesky` under its older name."""
    return linalg_cholesky(input, upper=upper)


def _eigh_self(xp: Any, grads: Any, eigenvalues: Any, eigenvectors: Any) -> Any:
    """Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic differentiation"."""
    inner = xp.matmul(_t(xp, eigenvectors), grads[1])
    gaps = xp.expand_dims(eigenvalues, -2) - xp.expand_dims(eigenvalues, -1)
    identity = xp.eye(eigenvalues.shape[-1], dtype=eigenvalues.dtype)
    inner = _over_gaps(xp, inner * (1 - identity), gaps) + identity * xp.expand_dims(grads[0], -1)
    total = xp.matmul(eigenvectors, xp.matmul(inner, _t(xp, eigenvectors)))
    return (total + _t(xp, total)) * 0.5


def _over_gaps(xp: Any, numerator: Any, gaps: Any) -> Any:
    """Divide by what separates eigenvalues; 0 over 0 is 0: nobody asked for those vectors."""
    return numerator / xp.where((gaps == 0) & (numerator == 0), 1.0, gaps)


@op(self=_eigh_self, outputs="eigenvalues eigenvectors", where="internal", node="LinalgEighBackward0")
def _eigh(xp: Any, self: Array) -> Array:
    """Eigenvalues and eigenvectors of symmetric matrices."""
    _need_matrices("linalg.eigh", self)
    return _or_explain("linalg.eigh", xp.eigh, self, "The algorithm failed to converge.")


@composite(where="linalg")
def linalg_eigh(A: Any, UPLO: str = "L") -> Any:
    """Eigenvalues, ascending, and eigenvectors, as columns, of symmetric matrices, of which one triangle is read.

    The vectors are defined up to their sign: only what does not depend on it has a gradient.
    """
    return _eigh(A if UPLO.upper() == "L" else A.transpose(-1, -2))


@composite(samples=factors, where="linalg")
def linalg_eigvalsh(A: Any, UPLO: str = "L") -> Any:
    """The eigenvalues of symmetric matrices, ascending."""
    return linalg_eigh(A, UPLO)[0]


def _svd_self(xp: Any, grads: Any, U: Any, S: Any, Vh: Any) -> Any:
    """Giles (2008), with the parts outside the spaces that U and Vh span, for matrices that are not square."""
    gu, gs, gv = grads[0], xp.expand_dims(grads[1], -2), _t(xp, grads[2])
    row, column, v = xp.expand_dims(S, -2), xp.expand_dims(S, -1), _t(xp, Vh)
    gaps = row * row - column * column
    left, right = xp.matmul(_t(xp, U), gu), xp.matmul(Vh, gv)
    inner = _over_gaps(xp, left - _t(xp, left), gaps) * row + column * _over_gaps(xp, right - _t(xp, right), gaps)
    inner = inner + xp.eye(S.shape[-1], dtype=S.dtype) * gs
    total = xp.matmul(U, xp.matmul(inner, Vh))
    if U.shape[-2] > S.shape[-1]:
        total = total + xp.matmul(_over_gaps(xp, gu - xp.matmul(U, left), row), Vh)
    if Vh.shape[-1] > S.shape[-1]:
        total = total + xp.matmul(U, _t(xp, _over_gaps(xp, gv - xp.matmul(v, right), row)))
    return total


@op(self=_svd_self, outputs="U S Vh", where="internal", node="LinalgSvdBackward0")
def _svd(xp: Any, self: Array) -> Array:
    """The thin singular value decomposition."""
    _need_matrices("linalg.svd", self, square=False)
    return _or_explain("linalg.svd", lambda matrix: xp.svd(matrix, full_matrices=False), self, "The algorithm failed to converge.")


@op(outputs="U S Vh", where="internal")
def _svd_full(xp: Any, self: Array) -> Array:
    """The singular value decomposition with square U and Vh, which have no derivative."""
    _need_matrices("linalg.svd", self, square=False)
    return _or_explain("linalg.svd", lambda matrix: xp.svd(matrix, full_matrices=True), self, "The algorithm failed to converge.")


@composite(where="linalg")
def linalg_svd(A: Any, full_matrices: bool = True) -> Any:
    """U, the singular values, descending, and Vh with ``A = U @ diag(S) @ Vh``.

    The vectors are defined up to their sign: only what does not depend on it has a gradient. ``full_matrices`` makes U and Vh
    square; the additional vectors are arbitrary, so of matrices that are not square only the singular values are then recorded.
    """
    thin = _svd(A)
    if not full_matrices or A.shape[-1] == A.shape[-2]:
        return thin
    full = _svd_full(A)
    return full._replace(S=thin.S)


@composite(samples=[sample(distinct(3, 3)), sample(distinct(2, 4, 3)), sample(distinct(2, 3)), sample(real(0, 2, 2))], where="linalg")
def linalg_svdvals(A: Any) -> Any:
    """The singular values, descending."""
    return _svd(A)[1]


def _qr_self(xp: Any, grads: Any, self: Any, Q: Any, R: Any) -> Any:
    """Walter, Lehmann and Lamour (2012), "On evaluating higher-order derivatives of the QR decomposition", section 3.

    Of a wide matrix the first columns are factorised; the others are Q times the rest of R.
    """
    rows, columns = Q.shape[-1], R.shape[-1]
    gq, gr = grads
    first, rest = R[..., :rows], None
    if columns > rows:
        rest = gr[..., rows:]
        gq, gr = gq + xp.matmul(self[..., rows:], _t(xp, rest)), gr[..., :rows]
    inner = xp.matmul(first, _t(xp, gr)) - xp.matmul(_t(xp, gq), Q)
    inner = xp.tril(inner) + _t(xp, xp.tril(inner, -1))
    total = _t(xp, xp.solve(first, _t(xp, gq + xp.matmul(Q, inner))))
    return total if rest is None else xp.concatenate([total, xp.matmul(Q, rest)], axis=-1)


@op(self=_qr_self, outputs="Q R", where="internal", node="LinalgQrBackward0")
def _qr(xp: Any, self: Array) -> Array:
    """The thin orthogonal-triangular factorisation."""
    _need_matrices("linalg.qr", self, square=False)
    return tuple(xp.qr(self, "reduced"))


@op(outputs="Q R", where="internal")
def _qr_complete(xp: Any, self: Array) -> Array:
    """The factorisation with a square Q, which has no derivative."""
    _need_matrices("linalg.qr", self, square=False)
    return tuple(xp.qr(self, "complete"))


@composite(
    samples=[
        sample(distinct(4, 3)), sample(distinct(2, 3, 3, low=0.3, high=3)), sample(distinct(2, 4)), sample(distinct(2, 2, 3, low=-1, high=3)),
        sample(distinct(2, 3, 2), mode="reduced"), sample(real(0, 3, 2)),
    ],
    where="linalg",
)  # fmt: skip
def linalg_qr(A: Any, mode: str = "reduced") -> Any:
    """Q with orthonormal columns and R, upper triangular, with ``A = Q @ R``.

    ``mode="complete"`` makes Q square, whose additional columns are arbitrary and have no gradient; "r" leaves Q empty.
    """
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"linalg.qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    if mode == "complete" and A.ndim > 1 and A.shape[-2] > A.shape[-1]:
        return _qr_complete(A)
    factors = _qr(A)
    return factors._replace(Q=factors.Q.new_zeros(0)) if mode == "r" else factors


# ------------------------------------------------------------------------------------------------- made of these


@composite(samples=square)
def inverse(input: Any) -> Any:
    """The inverse of square matrices: `linalg.inv`."""
    return linalg_inv(input)


@composite(samples=square)
def det(input: Any) -> Any:
    """The determinant of square matrices: `linalg.det`."""
    return linalg_det(input)


@composite(samples=square)
def slogdet(input: Any) -> Any:
    """The sign and the logarithm of the magnitude of the determinant: `linalg.slogdet`."""
    return linalg_slogdet(input)


powers = [
    sample(real(3, 3), 2), sample(real(2, 2, 2), 5), sample(real(3, 3), 0), sample(real(3, 3), 1), sample(invertible(2, 3, 3), -2),
    sample(real(0, 2, 2), 3),
]  # fmt: skip


@composite(samples=powers, where="linalg")
def linalg_matrix_power(A: Any, n: int) -> Any:
    """The ``n``-th power of square matrices, by repeated squaring; negative powers are those of the inverse.

    >>> torch.linalg.matrix_power(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), 10)
    tensor([[ 1., 10.],
            [ 0.,  1.]])
    """
    from nanotorch.ops.create import eye

    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        _need_matrices("linalg.matrix_power", A._array)
    if n == 0:
        return A.masked_fill((A == A) | (A != A), 0.0) + eye(A.shape[-1], dtype=A.dtype, device=A.device)
    power, factors, n = (linalg_inv(A) if n < 0 else A), [], abs(n)
    while n:
        factors += [power] * (n % 2)
        n //= 2
        power = power @ power if n else power
    result = functools.reduce(lambda left, right: left @ right, factors)
    return A.clone() if result is A else result


@composite(samples=powers)
def matrix_power(input: Any, n: int) -> Any:
    """The ``n``-th power of square matrices: `linalg.matrix_power`."""
    return linalg_matrix_power(input, n)
