"""Every operator of nanotorch, one row each (Note [Op rows] in ``row.py``)."""

from __future__ import annotations

from nanotorch.ops import (
    classification,
    convert,
    create,
    dense,
    elementwise,
    index,
    linalg,
    loss,
    normalization,
    random,
    reduce,
    shape,
    softmax_family,
    tensor_namespace,
)
from nanotorch.ops.row import COMPOSITES, ROWS, Row

__all__ = [
    "COMPOSITES", "ROWS", "Row", "classification", "convert", "create", "dense", "elementwise", "index", "linalg", "loss",
    "normalization", "random", "reduce", "shape", "softmax_family", "tensor_namespace",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Find an operator by its PyTorch name, as in ``from nanotorch.ops import relu``."""
    entry = ROWS.get(name) or COMPOSITES.get(name)
    if entry is None:
        raise AttributeError(f"module 'nanotorch.ops' has no operator {name!r}")
    return entry.function
