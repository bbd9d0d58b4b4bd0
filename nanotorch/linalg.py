"""Linear algebra, as `torch.linalg`: matrices are the last two dimensions, batches the ones before.

What does not exist, such as the inverse of a singular matrix, raises `LinAlgError`.

>>> A = torch.tensor([[4.0, 2.0], [2.0, 3.0]])
>>> L = torch.linalg.cholesky(A)
>>> torch.allclose(L @ L.T, A)
True
"""

from __future__ import annotations

from nanotorch.autograd.graph.errors import LinAlgError
from nanotorch.ops.linalg.decomposition import linalg_cholesky as cholesky
from nanotorch.ops.linalg.decomposition import linalg_eigh as eigh
from nanotorch.ops.linalg.decomposition import linalg_eigvalsh as eigvalsh
from nanotorch.ops.linalg.decomposition import linalg_qr as qr
from nanotorch.ops.linalg.decomposition import linalg_svd as svd
from nanotorch.ops.linalg.decomposition import linalg_svdvals as svdvals
from nanotorch.ops.linalg.determinant import linalg_det as det
from nanotorch.ops.linalg.determinant import linalg_slogdet as slogdet
from nanotorch.ops.linalg.failure_info import linalg_cholesky_ex as cholesky_ex
from nanotorch.ops.linalg.failure_info import linalg_inv_ex as inv_ex
from nanotorch.ops.linalg.failure_info import linalg_solve_ex as solve_ex
from nanotorch.ops.linalg.matrix_norm import linalg_matrix_norm as matrix_norm
from nanotorch.ops.linalg.matrix_norm import linalg_norm as norm
from nanotorch.ops.linalg.norm import linalg_vector_norm as vector_norm
from nanotorch.ops.linalg.products import linalg_cross as cross
from nanotorch.ops.linalg.products import linalg_multi_dot as multi_dot
from nanotorch.ops.linalg.products import linalg_vecdot as vecdot
from nanotorch.ops.linalg.products import matmul
from nanotorch.ops.linalg.pseudoinverse import linalg_cond as cond
from nanotorch.ops.linalg.pseudoinverse import linalg_diagonal as diagonal
from nanotorch.ops.linalg.pseudoinverse import linalg_lstsq as lstsq
from nanotorch.ops.linalg.pseudoinverse import linalg_matrix_exp as matrix_exp
from nanotorch.ops.linalg.pseudoinverse import linalg_matrix_rank as matrix_rank
from nanotorch.ops.linalg.pseudoinverse import linalg_pinv as pinv
from nanotorch.ops.linalg.pseudoinverse import linalg_tensorinv as tensorinv
from nanotorch.ops.linalg.pseudoinverse import linalg_tensorsolve as tensorsolve
from nanotorch.ops.linalg.solve import linalg_inv as inv
from nanotorch.ops.linalg.solve import linalg_matrix_power as matrix_power
from nanotorch.ops.linalg.solve import linalg_solve as solve
from nanotorch.ops.linalg.solve import linalg_solve_triangular as solve_triangular
from nanotorch.ops.linalg.vandermonde import linalg_vander as vander

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_ex",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "inv_ex",
    "lstsq",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_ex",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
    "vander",
    "vecdot",
    "vector_norm",
]
