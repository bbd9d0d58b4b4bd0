"""Dtypes, PyTorch's type promotion, and the default dtype.

Note [Type promotion]
~~~~~~~~~~~~~~~~~~~~~
PyTorch sorts dtypes into three categories, bool < integer < floating point, and operands into three ranks:
tensors with dimensions, 0-d tensors, Python scalars. The result takes its *category* from the highest one
present, but its *dtype* from the highest-ranking operands that have this category. So ``float32[3] * 2.0`` and
``float32[3] * tensor(2., float64)`` stay float32, ``int64[3] * 2.0`` becomes the default dtype, and
``int64[3] * float32[3]`` becomes float32, where NumPy would say float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DType", "from_numpy_dtype", "get_default_dtype", "promote_types", "result_dtype", "set_default_dtype"]

BOOL, INTEGER, FLOATING = 0, 1, 2


class DType:
    """The type of a tensor's elements, such as ``float32``; one object exists per type."""

    __slots__ = ("category", "itemsize", "name", "numpy")

    def __init__(self, name: str) -> None:
        self.name = name
        self.numpy = np.dtype(name)
        self.itemsize = self.numpy.itemsize
        self.category = {"b": BOOL, "i": INTEGER, "u": INTEGER, "f": FLOATING}[self.numpy.kind]

    @property
    def is_floating_point(self) -> bool:
        """Whether elements are floating point numbers, the only ones that can carry gradients."""
        return self.category == FLOATING

    @property
    def is_signed(self) -> bool:
        """Whether elements can be negative."""
        return self.numpy.kind in "if"

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return from_numpy_dtype, (self.name,)


float16, float32, float64 = DType("float16"), DType("float32"), DType("float64")
int8, int16, int32, int64, uint8 = DType("int8"), DType("int16"), DType("int32"), DType("int64"), DType("uint8")
bool_ = DType("bool")
half, float_, double, short, int_, long = float16, float32, float64, int16, int32, int64

DTYPES = {d.numpy: d for d in (float16, float32, float64, int8, int16, int32, int64, uint8, bool_)}
_default = [float32]


def get_default_dtype() -> DType:
    """Return the dtype that new floating point tensors get, ``float32`` unless it was set."""
    return _default[0]


def set_default_dtype(d: DType) -> None:
    """Set the dtype that new floating point tensors get; only floating point dtypes are accepted."""
    if not isinstance(d, DType) or not d.is_floating_point:
        raise TypeError(f"only floating point dtypes can be the default dtype, got {d!r}")
    _default[0] = d


def from_numpy_dtype(dtype: Any) -> DType:
    """Return the DType of a NumPy dtype (or of its name); raise TypeError for one that tensors do not have."""
    found = DTYPES.get(np.dtype(dtype).newbyteorder("="))
    if found is None:
        names = ", ".join(d.name for d in DTYPES.values())
        raise TypeError(f"tensors cannot hold NumPy dtype {np.dtype(dtype)}; convert to one of {names} first")
    return found


def scalar_dtype(value: Any) -> DType:
    """Return the dtype that a Python scalar stands for: bool, int64 or the default dtype."""
    if isinstance(value, bool):
        return bool_
    return int64 if isinstance(value, int) else _default[0]


def promote_types(type1: DType, type2: DType) -> DType:
    """Return the smallest dtype to which both convert, by PyTorch's table.

    >>> torch.promote_types(torch.int64, torch.float32)
    torch.float32
    """
    if type1.category != type2.category:
        return type1 if type1.category > type2.category else type2
    return DTYPES[np.promote_types(type1.numpy, type2.numpy)]


def result_dtype(operands: Any) -> DType:
    """Return the dtype of an operation over tensors and Python scalars (Note [Type promotion])."""
    ranked: list[DType | None] = [None, None, None]
    for operand in operands:
        if hasattr(operand, "_array"):
            rank, dtype = 0 if operand._array.ndim else 1, DTYPES[operand._array.dtype]
        else:
            rank, dtype = 2, scalar_dtype(operand)
        before = ranked[rank]
        ranked[rank] = dtype if before is None else promote_types(before, dtype)
    result = None
    for candidate in ranked:
        if candidate is not None and (result is None or candidate.category > result.category):
            result = candidate
    assert result is not None
    return result
