"""Every operator of nanotorch, one row each (Note [Op rows] in `row.py`). Importing a family declares its rows."""

from __future__ import annotations

import nanotorch.ops.create.convert
import nanotorch.ops.create.creation
import nanotorch.ops.create.distributions
import nanotorch.ops.create.legacy
import nanotorch.ops.create.random
import nanotorch.ops.create.signal_windows
import nanotorch.ops.elementwise.activation
import nanotorch.ops.elementwise.arithmetic
import nanotorch.ops.elementwise.comparison
import nanotorch.ops.elementwise.extrema
import nanotorch.ops.elementwise.numbers
import nanotorch.ops.elementwise.rounding
import nanotorch.ops.elementwise.special
import nanotorch.ops.elementwise.transcendental
import nanotorch.ops.index.gather
import nanotorch.ops.index.index
import nanotorch.ops.index.indices
import nanotorch.ops.index.scatter
import nanotorch.ops.index.scattered_parts
import nanotorch.ops.linalg.decomposition
import nanotorch.ops.linalg.determinant
import nanotorch.ops.linalg.einsum
import nanotorch.ops.linalg.failure_info
import nanotorch.ops.linalg.matrix_norm
import nanotorch.ops.linalg.norm
import nanotorch.ops.linalg.products
import nanotorch.ops.linalg.pseudoinverse
import nanotorch.ops.linalg.solve
import nanotorch.ops.linalg.statistics
import nanotorch.ops.linalg.vandermonde
import nanotorch.ops.nn.attention
import nanotorch.ops.nn.classification
import nanotorch.ops.nn.convolution
import nanotorch.ops.nn.dense
import nanotorch.ops.nn.dropout
import nanotorch.ops.nn.likelihood_loss
import nanotorch.ops.nn.loss
import nanotorch.ops.nn.margin_loss
import nanotorch.ops.nn.normalization
import nanotorch.ops.nn.pixel_blocks
import nanotorch.ops.nn.pooling
import nanotorch.ops.nn.resample
import nanotorch.ops.nn.softmax_family
import nanotorch.ops.nn.windows
import nanotorch.ops.reduce.integral
import nanotorch.ops.reduce.order
import nanotorch.ops.reduce.reductions
import nanotorch.ops.reduce.scan
import nanotorch.ops.reduce.search
import nanotorch.ops.reduce.variance
import nanotorch.ops.rows.observe
import nanotorch.ops.shape.geometry
import nanotorch.ops.shape.inplace_views
import nanotorch.ops.shape.join
import nanotorch.ops.shape.padding
import nanotorch.ops.shape.query
import nanotorch.ops.shape.rearrange
import nanotorch.ops.shape.split
import nanotorch.ops.shape.views
from nanotorch.ops.rows.row import COMPOSITES, ROWS, Row

__all__ = ["COMPOSITES", "ROWS", "Row"]


def __getattr__(name: str) -> object:
    """Find an operator by its PyTorch name, as in `from nanotorch.ops import relu`."""
    entry = ROWS.get(name) or COMPOSITES.get(name)
    if entry is None:
        raise AttributeError(f"module 'nanotorch.ops' has no operator {name!r}")
    return entry.function
