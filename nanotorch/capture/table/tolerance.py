"""How far a table may be from NumPy, by primitive.

Note [Tolerance of tables]
~~~~~~~~~~~~~~~~~~~~~~~~~~
Sums, products, quotients, roots, comparisons and copies are rounded as NumPy rounds them: they have to be equal, but
for the sign of a zero that is the larger or smaller of two zeros. All else differs in the last places:

- `exp`, `log`, `tanh`, `erf` and their like by 4 units in the last place, those that are made of two of them by 8;
- `ndtr` and the slope of GELU by 4 and 8 rounding errors of 1;
- sums over elements add in another order: 64 rounding errors of the sum of magnitudes;
- products of matrices likewise: 8 + 2 sqrt(k) rounding errors of the product of magnitudes.

NaN and infinities are where NumPy has them. Each statement is checked alone, on what NumPy gave before it, so errors
do not add up unseen; and the program as it runs, with its groups and its shared memory, has to give the bits of the
statements run one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nanotorch.capture.numpy_code import same_bits
from nanotorch.capture.program import Statement

UNITS = dict.fromkeys(("exp", "log", "tanh", "sin", "cos", "erf"), 4) | dict.fromkeys(
    ("sigmoid", "softplus", "log1p", "expm1"), 8
)
ROUNDINGS = {"ndtr": 4, "gelu_slope": 8}
SUMS = {"sum", "column_sums", "row_sums"}
BY_OPERANDS = SUMS | {"matmul"}
"""Primitives whose tolerance depends on what their operands were."""


def agrees(statement: Statement, got: Any, want: Any, args: list[Any]) -> bool:
    """Whether a result of a table is that of NumPy to the tolerance of the primitive; `args` are its arguments."""
    if same_bits(got, want):
        return True
    name = statement.primitive
    if want.dtype.kind != "f":
        return False
    if name in ("maximum", "minimum", "amax", "amin"):
        return bool(np.array_equal(got, want, equal_nan=True))
    with np.errstate(all="ignore"):
        if name in UNITS:
            bound = UNITS[name] * np.spacing(np.abs(want))
        elif name in ROUNDINGS:
            bound = ROUNDINGS[name] * np.finfo(want.dtype).eps
        elif name in SUMS:
            options = statement.options | ({"axis": 0} if name == "column_sums" else {})
            options |= {"axis": 1, "keepdims": True} if name == "row_sums" else {}
            magnitude = np.sum(np.abs(args[0]), *args[1:], **options)
            bound = 64 * np.finfo(want.dtype).eps * magnitude
        elif name == "matmul":
            a, b = np.abs(args[0]), np.abs(args[1])
            bound = (8 + 2 * a.shape[-1] ** 0.5) * np.finfo(want.dtype).eps * np.matmul(a, b)
        else:
            return False
        finite = np.isfinite(want)
        if not np.array_equal(np.isnan(got), np.isnan(want)) or not np.array_equal(got[~finite], want[~finite], True):
            return False
        close = np.abs(got - want) <= bound
        return bool(np.all(close | ~finite))
