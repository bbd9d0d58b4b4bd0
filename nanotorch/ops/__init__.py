"""Every operator of nanotorch, one row each (Note [Op rows] in `row.py`). Importing a family declares its rows."""

from __future__ import annotations

from nanotorch.ops.create import convert, distributions, legacy, random
from nanotorch.ops.create import creation as create
from nanotorch.ops.elementwise import activation, comparison, extrema, numbers, rounding, special, transcendental
from nanotorch.ops.elementwise import arithmetic as elementwise
from nanotorch.ops.index import gather, index, indices, scatter, scattered_parts
from nanotorch.ops.linalg import (
    attempts,
    decomposition,
    determinant,
    einsum,
    matrix_norm,
    norm,
    pseudoinverse,
    solve,
    statistics,
)
from nanotorch.ops.linalg import products as linalg
from nanotorch.ops.nn import (
    attention,
    classification,
    convolution,
    dense,
    dropout,
    likelihood_loss,
    loss,
    margin_loss,
    normalization,
    pixel_blocks,
    pooling,
    resample,
    softmax_family,
    windows,
)
from nanotorch.ops.reduce import integral, order, scan, search, variance
from nanotorch.ops.reduce import reductions as reduce
from nanotorch.ops.rows import observe
from nanotorch.ops.rows.row import COMPOSITES, ROWS, Row
from nanotorch.ops.shape import geometry, inplace_views, join, padding, query, rearrange, split
from nanotorch.ops.shape import views as shape

__all__ = ["COMPOSITES", "ROWS", "Row"]


def __getattr__(name: str) -> object:
    """Find an operator by its PyTorch name, as in `from nanotorch.ops import relu`."""
    entry = ROWS.get(name) or COMPOSITES.get(name)
    if entry is None:
        raise AttributeError(f"module 'nanotorch.ops' has no operator {name!r}")
    return entry.function
