"""Linear systems of square matrices: solutions, inverses, powers."""

from __future__ import annotations

import functools
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.creation import eye
from nanotorch.ops.linalg.matrices import SQUARE, need_matrices, or_explain, solved, swapped
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import constant, invertible, real, sample
from nanotorch.ops.rows.tensors import TENSOR


@TENSOR.define("inv")
@op(
    self=lambda xp, grad, result: -xp.matmul(swapped(xp, result), xp.matmul(grad, swapped(xp, result))),
    where="linalg",
    node="LinalgInvExBackward0",
    samples=SQUARE,
)
def linalg_inv(xp: Any, self: Array) -> Array:
    """The inverse of square matrices (..., n, n); LinAlgError for singular ones.

    >>> torch.linalg.inv(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    need_matrices("linalg.inv", self)
    return or_explain(
        xp, "linalg.inv", xp.inv, self, "The inversion could not be completed because the input matrix is singular."
    )


def is_vector(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Return whether the right side of an equation is a vector,
    or as many vectors as there are matrices on the left.
    """
    return len(right) == 1 or (len(right) == len(left) - 1 and right == left[:-1])


def _solve_other(xp: Any, grad: Any, self: Any, other_shape: Any) -> Any:
    if is_vector(tuple(self.shape), tuple(other_shape)):
        return xp.squeeze(solved(xp, "gradient of linalg.solve", swapped(xp, self), xp.expand_dims(grad, -1)), -1)
    return solved(xp, "gradient of linalg.solve", swapped(xp, self), grad)


def _solve_self(xp: Any, grad: Any, self: Any, other_shape: Any, result: Any) -> Any:
    grad = _solve_other(xp, grad, self, other_shape)
    if is_vector(tuple(self.shape), tuple(other_shape)):
        return -xp.expand_dims(grad, -1) * xp.expand_dims(result, -2)
    return -xp.matmul(grad, swapped(xp, result))


@TENSOR.define("solve")
@op(self=_solve_self, other=_solve_other, where="internal", node="LinalgSolveExBackward0")
def _solve(xp: Any, self: Array, other: Array) -> Array:
    """The solution X of `self @ X = other`."""
    need_matrices("linalg.solve", self)
    vector = is_vector(tuple(self.shape), tuple(other.shape))
    right = xp.expand_dims(other, -1) if vector else other
    if right.ndim < 2 or right.shape[-2] != self.shape[-1]:
        raise ShapeError(
            f"linalg.solve: Incompatible shapes of A and B for the equation AX = B: {tuple(self.shape)} and"
            f" {tuple(other.shape)}"
        )
    result = solved(xp, "linalg.solve", self, right)
    return xp.squeeze(result, -1) if vector else result


def _solve_for_matrices(A: Tensor, B: Tensor) -> Tensor:
    """The solution X of `A @ X = B` for a B that is a matrix even where its shape is that of a batch of vectors."""
    return _solve(A, B.unsqueeze(0) if is_vector(tuple(A.shape), tuple(B.shape)) else B)


@composite(
    samples=[
        sample(invertible(3, 3), real(3)),
        sample(invertible(3, 3), real(3, 2)),
        sample(invertible(2, 3, 3), real(2, 3)),
        sample(invertible(2, 3, 3), real(3)),
        sample(invertible(3, 3), real(2, 3, 2)),
        sample(invertible(2, 3, 3), real(3, 2)),
        sample(invertible(3, 3), real(2, 3), left=False),
        sample(invertible(3, 3), real(3, 0)),
        sample(invertible(0, 2, 2), real(0, 2)),
    ],
    where="linalg",
)
def linalg_solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """The solution X of `A @ X = B` (of `X @ A = B` with `left=False`); B may be a vector or a batch of vectors.

    >>> torch.linalg.solve(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    if left or is_vector(tuple(A.shape), tuple(B.shape)):
        return _solve(A if left else A.transpose(-1, -2), B)
    if B.ndim and B.shape[-1] != A.shape[-1]:
        raise ShapeError(
            f"linalg.solve: Incompatible shapes of A {tuple(A.shape)} and B {tuple(B.shape)} for the equation XA = B"
        )
    return _solve(A.transpose(-1, -2), B.transpose(-1, -2)).transpose(-1, -2)


@composite(
    samples=[
        sample(invertible(3, 3), real(3, 2), upper=True),
        sample(invertible(2, 3, 3), real(2, 3, 2), upper=False),
        sample(invertible(3, 3), real(2, 3), upper=True, left=False),
        sample(real(3, 3), real(3, 2), upper=False, unitriangular=True),
        sample(invertible(2, 2, 2), real(2, 2), upper=True),
        sample(invertible(2, 2, 2), real(2, 2), upper=False, left=False),
    ],
    where="linalg",
)
def linalg_solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """The solution of a triangular system: only one triangle of `A` is read,
    with ones on the diagonal if it is unitriangular.
    """
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        need_matrices("linalg.solve_triangular", A)
    if B.ndim < 2 or B.shape[-2 if left else -1] != A.shape[-1]:
        raise ShapeError(
            f"linalg.solve_triangular: Incompatible shapes of A {tuple(A.shape)} and B {tuple(B.shape)} for the"
            f" equation {'AX' if left else 'XA'} = B"
        )
    A = A.triu(int(unitriangular)) if upper else A.tril(-int(unitriangular))
    if unitriangular:
        A = A + eye(A.shape[-1], dtype=A.dtype, device=A.device)
    if left:
        return _solve_for_matrices(A, B)
    return _solve_for_matrices(A.transpose(-1, -2), B.transpose(-1, -2)).transpose(-1, -2)


@composite(samples=SQUARE)
def inverse(input: Tensor) -> Tensor:
    """The inverse of square matrices: `linalg.inv`."""
    return linalg_inv(input)


powers = [
    sample(real(3, 3), 2),
    sample(real(2, 2, 2), 5),
    sample(real(3, 3), 0),
    sample(real(3, 3), 1),
    sample(invertible(2, 3, 3), -2),
    sample(real(0, 2, 2), 3),
]


@composite(widens=True, samples=powers, where="linalg")
def linalg_matrix_power(A: Tensor, n: int) -> Tensor:
    """The `n`-th power of square matrices, by repeated squaring; negative powers are those of the inverse.

    >>> torch.linalg.matrix_power(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), 10)
    tensor([[ 1., 10.],
            [ 0.,  1.]])
    """
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        need_matrices("linalg.matrix_power", A)
    if n == 0:
        return A.masked_fill((A == A) | (A != A), 0.0) + eye(A.shape[-1], dtype=A.dtype, device=A.device)
    power, factors, n = (linalg_inv(A) if n < 0 else A), [], abs(n)
    while n:
        factors += [power] * (n % 2)
        n //= 2
        power = power @ power if n else power
    result = functools.reduce(lambda left, right: left @ right, factors)
    return A.clone() if result is A else result


@composite(widens=True, samples=powers)
def matrix_power(input: Tensor, n: int) -> Tensor:
    """The `n`-th power of square matrices: `linalg.matrix_power`."""
    return linalg_matrix_power(input, n)


@composite(
    widens=True,
    samples=[
        sample(real(3, 2), constant(3, 3)),
        sample(real(3, 1), constant(3, 3), True),
        sample(real(2, 3, 2), constant(2, 3, 3)),
        sample(real(2, 2), constant(2, 2, 2)),
    ],
)
def cholesky_solve(input: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """The solution X of `L @ L.T @ X = input` (of `L.T @ L @ X` with `upper`) for a triangular factor
    as `cholesky` gives it.
    """
    if input.ndim < 2 or L.ndim < 2 or L.shape[-1] != L.shape[-2] or input.shape[-2] != L.shape[-1]:
        raise ShapeError(
            f"cholesky_solve: expected right sides (..., n, k) and factors (..., n, n), got {tuple(input.shape)} and"
            f" {tuple(L.shape)}"
        )
    factor = L.triu() if upper else L.tril()
    lower = factor.transpose(-1, -2) if upper else factor
    return _solve_for_matrices(lower.transpose(-1, -2), _solve_for_matrices(lower, input))


@composite(widens=True, samples=[sample(constant(3, 3)), sample(constant(3, 3), True), sample(constant(2, 3, 3))])
def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """The inverse of the matrix whose triangular factor `cholesky` gave."""
    return cholesky_solve(
        eye(input.shape[-1], dtype=input.dtype, device=input.device).expand(input.shape), input, upper
    )
