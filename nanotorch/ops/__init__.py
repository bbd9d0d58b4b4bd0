"""Every operator of nanotorch, one row each (Note [Op rows] in ``row.py``). Importing a family declares its rows."""

from __future__ import annotations

from nanotorch.ops import (
    activation,
    attempts,
    attention,
    blocks,
    classification,
    comparison,
    convert,
    convolution,
    create,
    decomposition,
    dense,
    determinant,
    dropout_variants,
    einsum,
    elementwise,
    extrema,
    fills,
    gather,
    geometry,
    index,
    indices,
    inplace_views,
    integral,
    join,
    legacy,
    likelihood_loss,
    linalg,
    loss,
    margin_loss,
    matrix_norm,
    norm,
    normalization,
    numbers,
    observe,
    order,
    padding,
    parts,
    pooling,
    pseudoinverse,
    query,
    random,
    rearrange,
    reduce,
    resample,
    rounding,
    scan,
    scatter,
    search,
    shape,
    softmax_family,
    solve,
    special,
    split,
    statistics,
    tensor_namespace,
    transcendental,
    variance,
    windows,
)
from nanotorch.ops.row import COMPOSITES, ROWS, Row

__all__ = ["COMPOSITES", "ROWS", "Row"]


def __getattr__(name: str) -> object:
    """Find an operator by its PyTorch name, as in ``from nanotorch.ops import relu``."""
    entry = ROWS.get(name) or COMPOSITES.get(name)
    if entry is None:
        raise AttributeError(f"module 'nanotorch.ops' has no operator {name!r}")
    return entry.function
