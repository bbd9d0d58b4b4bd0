"""Products of vectors and matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.elementwise.arithmetic import factor
from nanotorch.ops.rows.dims import need_tuple, whole, wrap_dim, wrap_dims
from nanotorch.ops.rows.row import Array, alias, composite, op
from nanotorch.ops.rows.sample import edge, integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR


def _need(name: str, self: Any, other: Any, left: int, right: int) -> None:
    if self.ndim != left or other.ndim != right:
        raise ShapeError(
            f"{name}: expected {left}-D and {right}-D tensors, got shapes {tuple(self.shape)} and {tuple(other.shape)}"
        )


def _inner(name: str, self: Any, other: Any) -> None:
    """Check that the inner lengths of a product agree."""
    inner = other.shape[-2] if other.ndim > 1 else other.shape[0]
    if self.shape[-1] != inner:
        raise ShapeError(
            f"{name}: mat1 and mat2 shapes cannot be multiplied: {tuple(self.shape)} and {tuple(other.shape)}: the last"
            f" dimension of the first is {self.shape[-1]}, the matching one of the second is {inner}"
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
    sample(real(3, 2), real(2, 4)),
    sample(real(3), real(3)),
    sample(real(3, 2), real(2)),
    sample(real(3), real(3, 2)),
    sample(real(2, 3, 2), real(2, 2, 4)),
    sample(real(2, 1, 3, 2), real(4, 2, 3)),
    sample(real(2, 3, 2), real(2)),
    sample(real(2), real(3, 2, 4)),
    sample(real(2, 3, 2), real(2, 4)),
    sample(real(0, 2), real(2, 4)),
    sample(real(3, 0), real(0, 4)),
    sample(real(0), real(0)),
    sample(real(2, 0, 3), real(3, 2)),
    sample(real(3, 0), real(0)),
    sample(real(1, 3, 2), real(5, 2, 1)),
    sample(real(1), real(3, 1, 4)),
    sample(real(2, 1, 3, 1), real(4, 1, 2)),
    sample(integers(2, 3), integers(3, 2)),
]


def _multiplications(self: Any, result: Any) -> int:
    """Return the floating-point operations of a product:
    a multiplication and an addition for each element and inner length.
    """
    return 2 * math.prod(result) * self[-1]


@TENSOR.define("matmul")
@op(
    self=_matmul_self,
    other=_matmul_other,
    operators="__matmul__",
    node="MmBackward0",
    samples=products,
    flops=_multiplications,
)
def matmul(xp: Any, self: Array, other: Array) -> Array:
    """Matrix product; batches broadcast, a vector is a row on the left and a column on the right.

    >>> torch.eye(2) @ torch.tensor([3.0, 4.0])
    tensor([3., 4.])
    """
    if not self.ndim or not other.ndim:
        raise ShapeError(
            f"both arguments to matmul need to be at least 1D, but they are {self.ndim}D and {other.ndim}D"
        )
    _inner("matmul", self, other)
    return xp.matmul(self, other)


@composite(where="method", operators="__rmatmul__")
def rmatmul(input: Tensor, other: Tensor) -> Tensor:
    """`other @ input` for a NumPy array `other`."""
    return matmul(other, input)


@op(
    self=lambda xp, grad, mat2: xp.matmul(grad, xp.swapaxes(mat2, -1, -2)),
    mat2=lambda xp, grad, self: xp.matmul(xp.swapaxes(self, -1, -2), grad),
    samples=[sample(real(3, 2), real(2, 4)), sample(real(3, 0), real(0, 4)), sample(real(0, 2), real(2, 4))],
    flops=_multiplications,
)
def mm(xp: Any, self: Array, mat2: Array) -> Array:
    """Product of two matrices."""
    _need("mm", self, mat2, 2, 2)
    _inner("mm", self, mat2)
    return xp.matmul(self, mat2)


@op(
    self=lambda xp, grad, mat2: xp.matmul(grad, xp.swapaxes(mat2, -1, -2)),
    mat2=lambda xp, grad, self: xp.matmul(xp.swapaxes(self, -1, -2), grad),
    samples=[
        sample(real(2, 3, 2), real(2, 2, 4)),
        sample(real(0, 3, 2), real(0, 2, 4)),
        sample(real(2, 3, 0), real(2, 0, 4)),
    ],
    flops=_multiplications,
)
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
    samples=[sample(real(3, 2), real(2)), sample(real(3, 0), real(0)), sample(real(0, 2), real(2))],
    flops=_multiplications,
)
def mv(xp: Any, self: Array, vec: Array) -> Array:
    """Product of a matrix and a vector."""
    _need("mv", self, vec, 2, 1)
    _inner("mv", self, vec)
    return xp.matmul(self, vec)


@op(
    self=lambda grad, tensor: grad * tensor,
    tensor=lambda grad, self: grad * self,
    samples=[sample(real(3), real(3)), sample(real(0), real(0))],
    flops=_multiplications,
)
def dot(xp: Any, self: Array, tensor: Array) -> Array:
    """The sum of products of two vectors."""
    _need("dot", self, tensor, 1, 1)
    _inner("dot", self, tensor)
    return xp.matmul(self, tensor)


@composite(samples=[sample(real(3), real(2)), sample(real(0), real(2))])
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The products of every pair of elements of two vectors."""
    _need("outer", input, vec2, 1, 1)
    return input.unsqueeze(1) * vec2


def _times(value: Any, factor: float) -> Any:
    return value if factor == 1 else value * factor


def _added(name: str, self: Any, product: Any, beta: float, alpha: float) -> Any:
    """Return `beta * self + alpha * product`; with `beta=0` not even a NaN of `self` counts."""
    if self.shape != product.shape and not _expands(self.shape, product.shape):
        raise ShapeError(
            f"{name}: The expanded size of the tensor must match the existing size: input of shape {tuple(self.shape)}"
            f" does not broadcast to the product's shape {tuple(product.shape)}"
        )
    if beta == 0:
        return _times(product, factor(name, "alpha", alpha, product))
    return _times(self, factor(name, "beta", beta, self)) + _times(product, factor(name, "alpha", alpha, product))


def _expands(shape: Sequence[int], size: Sequence[int]) -> bool:
    lead = len(size) - len(shape)
    return lead >= 0 and all(n in (1, m) for n, m in zip(shape, size[lead:], strict=True))


def _transposed(xp: Any, matrix: Any) -> Any:
    return xp.swapaxes(matrix, -1, -2)


NAN = float("nan")


@op(
    self=lambda grad, beta: _times(grad, beta),
    mat1=lambda xp, grad, mat2, alpha: _times(xp.matmul(grad, _transposed(xp, mat2)), alpha),
    mat2=lambda xp, grad, mat1, alpha: _times(xp.matmul(_transposed(xp, mat1), grad), alpha),
    inplace=True,
    flops=lambda mat1, result: _multiplications(mat1, result),
    samples=[
        sample(real(4), real(3, 2), real(2, 4)),
        sample(real(3, 4), real(3, 2), real(2, 4), beta=0.5, alpha=2.0),
        sample(real(), real(3, 2), real(2, 4)),
        sample(real(3, 1), real(3, 2), real(2, 4), alpha=0),
        sample(real(3, 4), real(3, 0), real(0, 4)),
        sample(edge([[NAN]]), real(3, 2), real(2, 4), beta=0),
        sample(real(0, 4), real(0, 2), real(2, 4)),
    ],
)
def addmm(xp: Any, self: Array, mat1: Array, mat2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """`beta * input + alpha * (mat1 @ mat2)`; `beta=0` leaves the input out, NaN and all."""
    _need("addmm", mat1, mat2, 2, 2)
    _inner("addmm", mat1, mat2)
    return _added("addmm", self, xp.matmul(mat1, mat2), beta, alpha)


@op(
    self=lambda grad, beta: _times(grad, beta),
    mat=lambda xp, grad, vec, alpha: _times(xp.expand_dims(grad, -1) * vec, alpha),
    vec=lambda xp, grad, mat, alpha: _times(xp.matmul(_transposed(xp, mat), grad), alpha),
    inplace=True,
    flops=lambda mat, result: _multiplications(mat, result),
    samples=[
        sample(real(3), real(3, 2), real(2)),
        sample(real(1), real(3, 2), real(2), beta=0.5, alpha=-2.0),
        sample(real(), real(3, 2), real(2)),
        sample(real(3), real(3, 0), real(0)),
        sample(edge([NAN]), real(3, 2), real(2), beta=0),
    ],
)
def addmv(xp: Any, self: Array, mat: Array, vec: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """`beta * input + alpha * (mat @ vec)`."""
    _need("addmv", mat, vec, 2, 1)
    _inner("addmv", mat, vec)
    return _added("addmv", self, xp.matmul(mat, vec), beta, alpha)


@op(
    self=lambda grad, beta: _times(grad, beta),
    vec1=lambda xp, grad, vec2, alpha: _times(xp.matmul(grad, vec2), alpha),
    vec2=lambda xp, grad, vec1, alpha: _times(xp.matmul(_transposed(xp, grad), vec1), alpha),
    cast="promote",
    inplace=True,
    samples=[
        sample(real(3, 2), real(3), real(2)),
        sample(real(2), real(3), real(2), beta=0.5, alpha=-2.0),
        sample(real(0, 2), real(0), real(2)),
        sample(edge([[NAN]]), real(3), real(2), beta=0),
        sample(real(), real(3), real(2)),
    ],
)
def addr(xp: Any, self: Array, vec1: Array, vec2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """`beta * input + alpha * outer(vec1, vec2)`."""
    _need("addr", vec1, vec2, 1, 1)
    return _added("addr", self, xp.expand_dims(vec1, -1) * vec2, beta, alpha)


def _need_batches(name: str, batch1: Any, batch2: Any) -> None:
    _need(name, batch1, batch2, 3, 3)
    if batch1.shape[0] != batch2.shape[0]:
        raise ShapeError(f"{name}: batches differ: shapes {tuple(batch1.shape)} and {tuple(batch2.shape)}")
    _inner(name, batch1, batch2)


batches = [
    sample(real(3, 4), real(2, 3, 2), real(2, 2, 4)),
    sample(real(4), real(2, 3, 2), real(2, 2, 4), beta=0.5, alpha=-2.0),
    sample(edge([[NAN]]), real(2, 3, 2), real(2, 2, 4), beta=0),
    sample(real(3, 4), real(2, 3, 0), real(2, 0, 4)),
]


@op(
    self=lambda grad, beta: _times(grad, beta),
    batch1=lambda xp, grad, batch2, alpha: _times(xp.matmul(grad, _transposed(xp, batch2)), alpha),
    batch2=lambda xp, grad, batch1, alpha: _times(xp.matmul(_transposed(xp, batch1), grad), alpha),
    inplace=True,
    flops=lambda batch1, result: _multiplications(batch1, result),
    samples=[*batches, sample(real(2, 3, 4), real(2, 3, 2), real(2, 2, 4))],
)
def baddbmm(xp: Any, self: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """`beta * input + alpha * bmm(batch1, batch2)`."""
    _need_batches("baddbmm", batch1, batch2)
    return _added("baddbmm", self, xp.matmul(batch1, batch2), beta, alpha)


@op(
    self=lambda grad, beta: _times(grad, beta),
    batch1=lambda xp, grad, batch2, alpha: _times(xp.matmul(xp.expand_dims(grad, 0), _transposed(xp, batch2)), alpha),
    batch2=lambda xp, grad, batch1, alpha: _times(xp.matmul(_transposed(xp, batch1), xp.expand_dims(grad, 0)), alpha),
    inplace=True,
    flops=lambda batch1, result: _multiplications(batch1, result) * batch1[0],
    samples=[*batches, sample(real(3, 4), real(0, 3, 2), real(0, 2, 4))],
)
def addbmm(xp: Any, self: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """`beta * input + alpha * bmm(batch1, batch2).sum(0)`."""
    _need_batches("addbmm", batch1, batch2)
    return _added("addbmm", self, xp.sum(xp.matmul(batch1, batch2), axis=0), beta, alpha)


@composite(samples=[sample(real(3), real(3))])
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The sum of products of two vectors: `dot`, for real numbers."""
    return dot(input, other)


@composite(
    samples=[
        sample(real(3), real(3)),
        sample(real(2, 3), real(4, 3)),
        sample(real(2, 1, 3), real(3)),
        sample(real(), real(2, 3)),
        sample(real(2, 3), real()),
    ]
)
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions; a number scales.

    >>> torch.inner(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    tensor(11.)
    """
    if not input.ndim or not other.ndim:
        return input * other
    if input.shape[-1] != other.shape[-1]:
        raise ShapeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(input.shape)} and"
            f" {list(other.shape)}"
        )
    return tensordot(input, other, ([-1], [-1]))


@composite(
    samples=[
        sample(real(2, 3), real(3, 2), 1),
        sample(real(2, 3, 4), real(3, 4, 2)),
        sample(real(2, 3), real(4, 2), ([0], [1])),
        sample(real(2), real(3), 0),
        sample(real(2, 3, 4), real(4, 3), ([1, -1], [1, 0])),
        sample(real(0, 3), real(3, 2), 1),
        sample(real(2, 0), real(0, 3), 1),
    ],
    where="function",
)
def tensordot(a: Tensor, b: Tensor, dims: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Sums of products over pairs of dimensions: the last `dims` of `a` with the first of `b`,
    or those that two lists name.

    >>> torch.tensordot(torch.ones(2, 3), torch.ones(3, 4), dims=1).shape
    torch.Size([2, 4])
    """
    if isinstance(dims, tuple | list):
        pair = dims
        for part in pair:
            need_tuple("tensordot", "dims", part)
    else:
        count = whole("tensordot", "dims", dims)
        if not 0 <= count <= min(a.ndim, b.ndim):
            raise RuntimeError(
                f"tensordot: expects 0 <= dims <= {min(a.ndim, b.ndim)} for tensors of {a.ndim} and {b.ndim}"
                f" dimensions, but got dims={count}"
            )
        pair = (tuple(range(-count, 0)), tuple(range(count)))
    if len(pair) != 2 or len(pair[0]) != len(pair[1]):
        raise RuntimeError(
            f"tensordot: there must be two dimension lists, and both should have same length, got dims={dims}"
        )
    left, right = (wrap_dims("tensordot", part, x.ndim, "dims") for part, x in zip(pair, (a, b), strict=True))
    for p, q in zip(left, right, strict=True) if a.ndim and b.ndim else []:
        if a.shape[p] == 1 or b.shape[q] == 1:  # a length of one broadcasts
            a, b = (a, b.sum(q, keepdim=True)) if a.shape[p] == 1 else (a.sum(p, keepdim=True), b)
        elif a.shape[p] != b.shape[q]:
            raise ShapeError(
                f"tensordot: contracted dimensions need to match, but first has size {a.shape[p]} in dim {p} and second"
                f" has size {b.shape[q]} in dim {q}: shapes {tuple(a.shape)} and {tuple(b.shape)}"
            )
    free_a, free_b = ([d for d in range(x.ndim) if d not in used] for x, used in ((a, left), (b, right)))
    length = math.prod([a.shape[d] for d in left if a.ndim])
    rows, columns = [a.shape[d] for d in free_a], [b.shape[d] for d in free_b]
    flat_a = a.permute([*free_a, *left]).reshape(math.prod(rows), length)
    flat_b = b.permute([*right, *free_b]).reshape(length, math.prod(columns))
    return mm(flat_a, flat_b).reshape([*rows, *columns])


@composite(
    samples=[
        sample(real(2, 3), real(3, 2)),
        sample(real(2), real(3)),
        sample(real(), real(2, 2)),
        sample(real(2, 3), real(2)),
        sample(real(2), real(1, 2, 3)),
    ]
)
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker's product: every element of the first times the whole second.

    >>> torch.kron(torch.eye(2), torch.tensor([[1.0, 2.0]]))
    tensor([[1., 2., 0., 0.],
            [0., 0., 1., 2.]])
    """
    ndim = max(input.ndim, other.ndim)
    first, second = ([1] * (ndim - x.ndim) + list(x.shape) for x in (input, other))
    spread = input.reshape([n for size in first for n in (size, 1)]) * other.reshape(
        [n for size in second for n in (1, size)]
    )
    return spread.reshape([m * n for m, n in zip(first, second, strict=True)])


@composite(widens=True, samples=[sample(real(2, 3), real(2, 3), dim=1), sample(real(3, 2), real(3, 1), 0)])
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector product along `dim`, of length 3; by default the first dimension of that length."""
    if dim is None:
        dim = next((d for d, n in enumerate(input.shape) if n == 3), None)
        if dim is None:
            raise ShapeError(f"cross: no dimension of size 3 in input of shape {tuple(input.shape)}")
    return linalg_cross(input, other, dim=dim)


@composite(
    widens=True,
    samples=[sample(real(2, 3), real(2, 3)), sample(real(3, 2), real(3, 1), dim=0), sample(real(3), real(3))],
    where="linalg",
)
def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector product along `dim`, of length 3; other dimensions broadcast."""
    if input.ndim != other.ndim:
        raise ShapeError(
            f"linalg.cross: inputs must have the same number of dimensions, got shapes {tuple(input.shape)} and"
            f" {tuple(other.shape)}"
        )
    dim = wrap_dim("linalg.cross", dim, input.ndim)
    if not input.ndim:
        raise IndexError("linalg.cross: Dimension specified as -1 but tensor has no dimensions")
    if input.shape[dim] != 3 or other.shape[dim] != 3:
        raise ShapeError(
            f"linalg.cross: inputs dimension {dim} must have length 3, got shapes {tuple(input.shape)} and"
            f" {tuple(other.shape)}"
        )
    return input.roll(-1, dim) * other.roll(-2, dim) - input.roll(-2, dim) * other.roll(-1, dim)


@composite(widens=True, samples=[sample(real(2, 3), real(2, 3)), sample(real(3, 2), real(2), dim=0)], where="linalg")
def linalg_vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Sums of products along `dim`."""
    product = x * y
    return product.sum(wrap_dim("linalg.vecdot", dim, product.ndim))


@composite(
    widens=True,
    samples=[
        sample([real(2, 3), real(3, 4)]),
        sample([real(2, 3), real(3, 4), real(4, 1), real(1, 5)]),
        sample([real(3), real(3, 4), real(4)]),
    ],
    where="linalg",
)
def linalg_multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of a chain of matrices, in the order that takes the fewest multiplications;
    vectors may stand at the ends.
    """
    chain = list(tensors)
    if len(chain) < 2:
        raise RuntimeError(f"linalg.multi_dot: expected at least 2 tensors but got {len(chain)}")
    first, last = chain[0].ndim == 1, chain[-1].ndim == 1
    chain[0] = chain[0].unsqueeze(0) if first else chain[0]
    chain[-1] = chain[-1].unsqueeze(1) if last else chain[-1]
    for matrix in chain:
        if matrix.ndim != 2:
            raise ShapeError(f"linalg.multi_dot: expected matrices inside the chain, got shape {tuple(matrix.shape)}")
    sizes = [chain[0].shape[0], *[matrix.shape[1] for matrix in chain]]
    cost, split = {(k, k): 0 for k in range(len(chain))}, {}
    for width in range(1, len(chain)):
        for i in range(len(chain) - width):
            j = i + width
            cost[i, j], split[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )

    def product(i: int, j: int) -> Any:
        return chain[i] if i == j else mm(product(i, split[i, j]), product(split[i, j] + 1, j))

    result = product(0, len(chain) - 1)
    result = result.squeeze(0) if first else result
    return result.squeeze(-1) if last else result


ger = alias("ger", "outer")
