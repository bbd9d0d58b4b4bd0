"""Norms of matrices: of their elements, their row and column sums, their singular values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.linalg.decomposition import linalg_svdvals
from nanotorch.ops.linalg.norm import linalg_vector_norm, nuclear_norm
from nanotorch.ops.reduce.reductions import INF
from nanotorch.ops.rows.dims import need_tuple, wrap_dims
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.runtime import need_number
from nanotorch.ops.rows.sample import distinct, edge, real, sample

ORDERS = [
    sample(real(3, 2)),
    sample(real(2, 3), "fro"),
    sample(real(3, 2), "nuc"),
    sample(distinct(3, 2), 1),
    sample(distinct(3, 2), -1),
    sample(distinct(2, 3), INF),
    sample(distinct(2, 3), -INF),
    sample(real(3, 2), 2),
    sample(real(3, 2), -2),
    sample(real(2, 3, 2), 2, (0, 2)),
]


@composite(
    widens=True,
    samples=[
        *ORDERS,
        sample(distinct(2, 3, 2), 1, (-1, 0), True),
        sample(real(2, 3, 2), "nuc", (1, 0), keepdim=True),
        sample(real(2, 3, 2), 2, keepdim=True),
        sample(edge([[1.0, -1.0], [0.0, 2.0]]), 1),
        sample(real(0, 3, 2)),
    ],
    where="linalg",
)
def linalg_matrix_norm(
    A: Tensor,
    ord: float | str = "fro",
    dim: tuple[int, int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: dtypes.DType | None = None,
) -> Tensor:
    """A norm of matrices: "fro", "nuc" (the sum of the singular values), 2 and -2 (the largest and smallest of them),
    1 and -1 (the largest and smallest sum of magnitudes of a column), inf and -inf (of a row).

    >>> torch.linalg.matrix_norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "nuc")
    tensor(7.)
    """
    if A.ndim < 2:
        raise RuntimeError(
            f"linalg.matrix_norm: The input tensor A must have at least 2 dimensions, got shape {tuple(A.shape)}"
        )
    need_tuple("linalg.matrix_norm", "dim", dim)
    A = A if dtype is None else A.to(dtype)
    dims = wrap_dims("linalg.matrix_norm", dim, A.ndim)
    if len(dims) != 2:
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim}")
    rows, columns = dims
    if not isinstance(ord, str):
        ord = need_number("linalg.matrix_norm", "ord", ord)
    if ord == "nuc":
        return nuclear_norm("linalg.matrix_norm", A, dims, keepdim)
    largest: dict[float | str, tuple[int, ...]] = {1: (columns,), INF: (rows,), 2: dims}
    if 0 in [A.shape[d] for d in largest.get(ord, ())]:  # the largest of nothing
        return A.new_zeros([1 if d in dims else n for d, n in enumerate(A.shape) if keepdim or d not in dims])
    if ord == "fro":
        return linalg_vector_norm(A, 2, (rows, columns), keepdim)
    if ord in (1, -1, INF, -INF) and not isinstance(ord, str):
        summed, chosen = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = A.abs().sum(summed, keepdim=True)
        result = sums.amax(chosen, keepdim=True) if ord > 0 else sums.amin(chosen, keepdim=True)
    elif ord in (2, -2):
        rest = [d for d in range(A.ndim) if d not in (rows, columns)]
        values = linalg_svdvals(A.permute([*rest, rows, columns]))
        result = values.amax(-1) if ord == 2 else values.amin(-1)
        result = result.reshape([1 if d in (rows, columns) else n for d, n in enumerate(A.shape)])
    else:
        raise RuntimeError(
            f"linalg.matrix_norm: Order {ord} not supported: use 'fro', 'nuc', 1, -1, 2, -2, inf or -inf"
        )
    return result if keepdim else result.squeeze((rows, columns))


def need_pair(dim: Any) -> None:
    """Refuse what is not the two dimensions of matrices."""
    if len(dim) != 2:
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dim)}")


@composite(
    widens=True,
    samples=[
        *ORDERS,
        sample(real(2, 3, 2)),
        sample(real(3), 3),
        sample(real(2, 3), 1, 1),
        sample(real(2, 3), 0.5, -1, keepdim=True),
        sample(real(2, 3), dim=(0, 1)),
        sample(real(2, 3), dim=1),
        sample(real()),
        sample(real(0, 3)),
    ],
    where="linalg",
)
def linalg_norm(
    A: Tensor,
    ord: float | str | None = None,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: dtypes.DType | None = None,
) -> Tensor:
    """A vector norm over one `dim` or of a vector, a matrix norm over two or of a matrix;
    without `ord` the 2-norm of all elements.
    """
    if ord is not None and not isinstance(ord, str):
        ord = need_number("linalg.norm", "ord", ord)
    if ord is None:
        if isinstance(dim, tuple | list) and len(dim) != 1:
            need_pair(dim)
        return linalg_vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None:
        if A.ndim not in (1, 2):
            raise RuntimeError(
                f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D."
            )
        dim = tuple(range(A.ndim))
    if isinstance(ord, str):
        return linalg_matrix_norm(A, ord, dim if isinstance(dim, tuple | list) else (dim,), keepdim, dtype=dtype)
    if not isinstance(dim, tuple | list) or len(dim) == 1:
        return linalg_vector_norm(A, ord, dim, keepdim, dtype=dtype)
    need_pair(dim)
    return linalg_matrix_norm(A, ord, dim, keepdim, dtype=dtype)
