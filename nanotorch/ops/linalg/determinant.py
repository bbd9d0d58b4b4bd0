"""Determinants and their logarithms.

Note [Singular matrices]
~~~~~~~~~~~~~~~~~~~~~~~~
The gradient of the determinant is the matrix of cofactors, which is usually written `det(A) * inv(A).T`. That form
fails where `A` is singular, although the determinant is a polynomial, smooth everywhere. With the singular value
decomposition `A = U diag(s) Vh` the cofactors are `det(U) det(Vh) * U diag(d) Vh`, where `d[i]` is the product of
all other singular values: exact for every matrix. Their own derivative follows in the same way, from the products
without two of the singular values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nanotorch.autograd.graph.errors import LinAlgError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.linalg.matrices import SQUARE, need_matrices, scaled, swapped
from nanotorch.ops.reduce.reductions import products_of_others
from nanotorch.ops.rows.row import ROWS, Array, composite, op
from nanotorch.ops.rows.sample import distinct, edge, sample
from nanotorch.ops.rows.tensors import TENSOR

if TYPE_CHECKING:
    from nanotorch import return_types


def _call(name: str, xp: Any, *arguments: Any) -> Any:
    """Call a row from a formula: on Tensors the row itself, so that it is recorded, on arrays its forward."""
    row = ROWS[name]
    return row.function(*arguments) if isinstance(arguments[0], Tensor) else row.forward(xp, *arguments)


def _cofactor_derivative_self(xp: Any, grad: Any, self: Any, direction: Any) -> Any:
    """Return the third derivative of the determinant, of invertible matrices: that of the formula with the inverse."""
    m, g = swapped(xp, xp.inv(self)), grad
    c = xp.matmul(m, xp.matmul(swapped(xp, direction), m))
    d = xp.matmul(m, xp.matmul(swapped(xp, g), m))
    along_c, along_d = (xp.sum(m * x, axis=(-2, -1)) for x in (direction, g))
    value = along_c * along_d - xp.sum(c * g, axis=(-2, -1))
    mixed = xp.matmul(c, xp.matmul(swapped(xp, g), m)) + xp.matmul(d, xp.matmul(swapped(xp, direction), m))
    terms = scaled(xp, value, m) - scaled(xp, along_d, c) - scaled(xp, along_c, d) + mixed
    return scaled(xp, xp.det(self), terms)


@op(
    self=_cofactor_derivative_self,
    direction=lambda xp, grad, self: _call("_cofactor_derivative", xp, self, grad),
    where="internal",
    node="CofactorBackwardBackward0",
)
def _cofactor_derivative(xp: Any, self: Array, direction: Array) -> Array:
    """The gradient of `sum(cofactor(self) * direction)` (Note [Singular matrices])."""
    finite = xp.all(xp.isfinite(self), axis=(-2, -1), keepdims=True)
    u, s, vh = xp.svd(xp.where(finite, self, self.dtype.type(0)), full_matrices=False)
    s = xp.where(s == 0, s.dtype.type(np.finfo(s.dtype).tiny ** 0.5), s)
    without_two = xp.expand_dims(products_of_others(xp, s), -1) / xp.expand_dims(s, -2)
    without_two = xp.where(xp.eye(s.shape[-1], dtype=bool), s.dtype.type(0), without_two)
    inner = xp.matmul(swapped(xp, u), xp.matmul(direction, swapped(xp, vh)))
    diagonal = xp.matmul(without_two, xp.expand_dims(xp.diagonal(inner, 0, -2, -1), -1))
    inner = xp.eye(s.shape[-1], dtype=s.dtype) * diagonal - without_two * swapped(xp, inner)
    return xp.where(
        finite, scaled(xp, xp.det(u) * xp.det(vh), xp.matmul(u, xp.matmul(inner, vh))), self.dtype.type(np.nan)
    )


@op(
    self=lambda xp, grad, self: _call("_cofactor_derivative", xp, self, grad),
    where="internal",
    node="CofactorBackward0",
)
def _cofactor(xp: Any, self: Array) -> Array:
    """The cofactors of square matrices: the derivatives of their determinants (Note [Singular matrices])."""
    finite = xp.all(xp.isfinite(self), axis=(-2, -1), keepdims=True)
    # LAPACK need not come back from an infinity
    u, s, vh = xp.svd(xp.where(finite, self, self.dtype.type(0)), full_matrices=False)
    cofactors = scaled(xp, xp.det(u) * xp.det(vh), xp.matmul(u * xp.expand_dims(products_of_others(xp, s), -2), vh))
    return xp.where(finite, cofactors, self.dtype.type(np.nan))


@TENSOR.define("det")
@op(
    self=lambda xp, grad, self: scaled(xp, grad, _call("_cofactor", xp, self)),
    where="linalg",
    node="LinalgDetBackward0",
    samples=[*SQUARE, sample(distinct(2, 2, low=-1, high=3)), sample(edge([[1.0, 2.0], [3.0, 4.0]]))],
)
def linalg_det(xp: Any, self: Array) -> Array:
    """The determinant of square matrices (..., n, n): (...); its gradient is exact for singular ones too.

    >>> x = torch.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    >>> torch.linalg.det(x).backward()
    >>> x.grad.round(decimals=4)
    tensor([[ 4., -2.],
            [-2.,  1.]])
    """
    need_matrices("linalg.det", self)
    return xp.det(self)


def _slogdet_self(xp: Any, grads: Any, self: Any) -> Any:
    try:
        inverse = swapped(xp, xp.inv(self))
    except (LinAlgError, np.linalg.LinAlgError):  # infinite, with the signs of the cofactors
        inverse = scaled(xp, 1 / xp.det(self), _call("_cofactor", xp, self))
    return scaled(xp, grads[1], inverse)


@op(
    self=_slogdet_self,
    outputs="sign logabsdet",
    where="linalg",
    samples=[*SQUARE, sample(distinct(3, 2, 2, low=0.3, high=3))],
)
def linalg_slogdet(xp: Any, self: Array) -> Array:
    """The sign of the determinant and the logarithm of its magnitude, -inf for singular matrices."""
    need_matrices("linalg.slogdet", self)
    sign, logarithm = xp.slogdet(self)
    return sign, logarithm


@composite(widens=True, samples=[*SQUARE, sample(edge([[0.0, 2.0], [1.0, 3.0]]))])
def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant: NaN where it is negative, -inf where it is 0."""
    sign, logarithm = linalg_slogdet(input)
    return logarithm.masked_fill(sign < 0, float("nan"))


@composite(samples=SQUARE)
def det(input: Tensor) -> Tensor:
    """The determinant of square matrices: `linalg.det`."""
    return linalg_det(input)


@composite(samples=SQUARE)
def slogdet(input: Tensor) -> return_types.linalg_slogdet:
    """The sign and the logarithm of the magnitude of the determinant: `linalg.slogdet`."""
    return linalg_slogdet(input)
