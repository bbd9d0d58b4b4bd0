"""Dtypes, PyTorch's type promotion, and the default dtype.

Note [Type promotion]
~~~~~~~~~~~~~~~~~~~~~
PyTorch sorts dtypes into three categories, bool < integer < floating point, and operands into three ranks:
tensors with dimensions, 0-d tensors, Python scalars. The result takes its *category* from the highest one
present, but its *dtype* from the highest-ranking operands that have this category. So `float32[3] * 2.0` and
`float32[3] * tensor(2., float64)` stay float32, `int64[3] * 2.0` becomes the default dtype, and
`int64[3] * float32[3]` becomes float32, where NumPy would say float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "DType",
    "can_cast",
    "finfo",
    "from_numpy_dtype",
    "get_default_dtype",
    "iinfo",
    "need_dtype",
    "promote_types",
    "result_dtype",
    "set_default_dtype",
]

BOOL, INTEGER, FLOATING = 0, 1, 2


class DType:
    """The type of a tensor's elements, such as `float32`; one object exists per type."""

    __slots__ = ("category", "itemsize", "kind", "name", "numpy")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.numpy: np.dtype[Any] = np.dtype(name)
        self.itemsize: int = self.numpy.itemsize
        self.kind: str = self.numpy.kind
        self.category: int = {"b": BOOL, "i": INTEGER, "u": INTEGER, "f": FLOATING}[self.kind]

    @property
    def is_floating_point(self) -> bool:
        """Whether elements are floating point numbers, the only ones that can carry gradients."""
        return self.category == FLOATING

    @property
    def is_signed(self) -> bool:
        """Whether elements can be negative."""
        return self.kind in "if"

    @property
    def is_complex(self) -> bool:
        """Whether elements are complex numbers, which none are."""
        return False

    def to_real(self) -> DType:
        """Return the dtype of real numbers of the same precision: this one."""
        return self

    def to_complex(self) -> DType:
        """Raise TypeError: there are no complex dtypes."""
        raise TypeError(f"{self}.to_complex(): {ABSENT['complex64']}")

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return from_numpy_dtype, (self.name,)


float16: DType = DType("float16")
float32: DType = DType("float32")
float64: DType = DType("float64")
int8: DType = DType("int8")
int16: DType = DType("int16")
int32: DType = DType("int32")
int64: DType = DType("int64")
uint8: DType = DType("uint8")
bool_: DType = DType("bool")
half: DType = float16
float_: DType = float32
double: DType = float64
short: DType = int16
int_: DType = int32
long: DType = int64

_REAL = "tensors hold real numbers only; keep real and imaginary parts in two tensors"
_SMALL = "NumPy, on which tensors are built, has no such numbers; use torch.float16 or torch.float32"
_QUANTISED = "there is no quantisation; use torch.int8, torch.uint8 or torch.int32 with a scale of your own"
_UNSIGNED = "of unsigned integers there is torch.uint8 only; use the next wider signed type"
_SIZES = ("uint16", "uint32", "uint64")
_FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2")
ABSENT = {
    "bfloat16": _SMALL,
    **dict.fromkeys(_FLOAT8, _SMALL),
    **dict.fromkeys(_SIZES, _UNSIGNED),
    **dict.fromkeys(("complex32", "complex64", "complex128", "chalf", "cfloat", "cdouble"), _REAL),
    **dict.fromkeys(("qint8", "quint8", "qint32", "quint4x2", "quint2x4"), _QUANTISED),
}
"""The dtypes of PyTorch that are not here, and why."""

DTYPES = {d.numpy: d for d in (float16, float32, float64, int8, int16, int32, int64, uint8, bool_)}
_default = [float32]


def need_dtype(name: str, dtype: Any) -> DType:
    """Return what was given as a dtype, Python's `float`, `int` and `bool` included;
    raise TypeError with the reason if it is none.
    """
    if isinstance(dtype, DType):
        return dtype
    if dtype in (float, int, bool):
        return float64 if dtype is float else int64 if dtype is int else bool_
    text = str(dtype).removeprefix("torch.")
    hint = f": {ABSENT[text]}" if text in ABSENT else "; a dtype is an object such as torch.float32"
    raise TypeError(f"{name}(): argument 'dtype' must be torch.dtype, not {dtype!r}{hint}")


def get_default_dtype() -> DType:
    """Return the dtype that new floating point tensors get, `float32` unless it was set."""
    return _default[0]


def set_default_dtype(d: DType) -> None:
    """Set the dtype that new floating point tensors get; only floating point dtypes are accepted."""
    dtype = need_dtype("set_default_dtype", d)
    if not isinstance(d, DType) or not dtype.is_floating_point:
        raise TypeError(f"only floating point dtypes can be the default dtype, got {d!r}")
    _default[0] = dtype


def from_numpy_dtype(dtype: Any) -> DType:
    """Return the DType of a NumPy dtype (or of its name); raise TypeError for one that tensors do not have."""
    found = DTYPES.get(np.dtype(dtype).newbyteorder("="))
    if found is None:
        names = ", ".join(d.name for d in DTYPES.values())
        reason = f" ({ABSENT[np.dtype(dtype).name]})" if np.dtype(dtype).name in ABSENT else ""
        raise TypeError(f"tensors cannot hold NumPy dtype {np.dtype(dtype)}{reason}; convert to one of {names} first")
    return found


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "b":
        return 0, 1
    info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return (float(info.min), float(info.max)) if dtype.kind == "f" else (int(info.min), int(info.max))


_RANGES = {dtype: _range(dtype.numpy) for dtype in DTYPES.values()}


def check_fits(name: str, value: Any, dtype: DType) -> None:
    """Raise where a number, or one of an array, would wrap or be cut in an integer dtype,
    or overflow in float16 or float32.

    Unsigned dtypes take negative numbers of their size, which wrap, as in PyTorch.
    """
    kind = dtype.numpy.kind
    if isinstance(value, bool) or kind == "b" or (kind == "f" and dtype.numpy.itemsize > 4):
        return
    values = value.ravel() if isinstance(value, np.ndarray) else (value,)
    low, high = _RANGES[dtype]
    if kind == "f":
        wrong = [v for v in values if high < abs(v) < np.inf]
    else:
        wrong = [v for v in values if not (low or (-high if isinstance(v, int) else 0)) <= v <= high]
    if wrong:
        raise RuntimeError(f"{name}: value cannot be converted to type {dtype} without overflow: {wrong[0]}")


def wrapped(name: str, value: Any, dtype: DType) -> Any:
    """Return a number that fits a dtype, a negative one for an unsigned dtype as what it wraps to; or raise."""
    low, high = _RANGES[dtype]
    if low <= value <= high:
        return value
    if dtype.numpy.kind == "b":
        return bool(value)
    check_fits(name, value, dtype)
    return int(value) % 2 ** (8 * dtype.itemsize) if dtype.numpy.kind == "u" and value < 0 else value


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
    return _wider(need_dtype("promote_types", type1), need_dtype("promote_types", type2))


def _wider(type1: DType, type2: DType) -> DType:
    if type1.category != type2.category:
        return type1 if type1.category > type2.category else type2
    return DTYPES[np.promote_types(type1.numpy, type2.numpy)]


def can_cast(from_: DType, to: DType) -> bool:
    """Return whether an in-place operation may convert so:
    not from floating point to integers, nor from numbers to truth values.

    >>> torch.can_cast(torch.float64, torch.float16), torch.can_cast(torch.float32, torch.int64)
    (True, False)
    """
    return need_dtype("can_cast", from_).category <= need_dtype("can_cast", to).category


class finfo:
    """The limits of a floating point dtype, the default dtype without an argument.

    Attributes:
        bits: how many bits a number takes.
        eps: the difference between 1 and the next larger number.
        max: the largest number.
        min: the smallest one, `-max`.
        tiny: the smallest positive normal number; `smallest_normal` is the same.
        resolution: the precision in decimal digits, as a power of ten.
        dtype: the name of the dtype.

    >>> torch.finfo(torch.float32).eps
    1.1920928955078125e-07
    """

    __slots__ = ("bits", "dtype", "eps", "max", "min", "resolution", "smallest_normal", "tiny")
    __hash__: None  # type: ignore[assignment]  # as in PyTorch, since `__eq__` is there
    bits: int
    dtype: str
    eps: float
    max: float
    min: float
    resolution: float
    smallest_normal: float
    tiny: float

    def __init__(self, type: DType | None = None) -> None:
        dtype = _default[0] if type is None else need_dtype("finfo", type)
        if not dtype.is_floating_point:
            raise TypeError(
                f"torch.finfo() requires a floating point input type, got {dtype}. Use torch.iinfo to handle integers"
            )
        limits = np.finfo(dtype.numpy)
        self.bits, self.dtype = dtype.itemsize * 8, dtype.name
        self.eps, self.max, self.min, self.resolution = (
            float(v) for v in (limits.eps, limits.max, limits.min, str(limits.resolution))
        )
        self.tiny = self.smallest_normal = float(limits.smallest_normal)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    def __repr__(self) -> str:
        values = [
            (name, getattr(self, name)) for name in ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        ]
        return f"finfo({', '.join(f'{name}={value:g}' for name, value in values)}, dtype={self.dtype})"


class iinfo:
    """The limits of an integer dtype.

    Attributes:
        bits: how many bits a number takes.
        max: the largest number.
        min: the smallest one.
        dtype: the name of the dtype.

    >>> torch.iinfo(torch.uint8).max
    255
    """

    __slots__ = ("bits", "dtype", "max", "min")
    __hash__: None  # type: ignore[assignment]  # as in PyTorch, since `__eq__` is there
    bits: int
    dtype: str
    max: int
    min: int

    def __init__(self, type: DType) -> None:
        dtype = need_dtype("iinfo", type)
        if dtype.category != INTEGER:
            hint = ". Use torch.finfo to handle floating point numbers" if dtype.is_floating_point else ""
            raise TypeError(f"torch.iinfo() requires an integer input type, got {dtype}{hint}")
        limits = np.iinfo(dtype.numpy)
        self.bits, self.dtype, self.max, self.min = limits.bits, dtype.name, int(limits.max), int(limits.min)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"


def result_dtype(operands: Any) -> DType:
    """Return the dtype of an operation over tensors and Python scalars (Note [Type promotion])."""
    ranked: list[DType | None] = [None, None, None]
    for operand in operands:
        if hasattr(operand, "_array"):
            rank, dtype = 0 if operand._array.ndim else 1, DTYPES[operand._array.dtype]
        else:
            rank, dtype = 2, scalar_dtype(operand)
        before = ranked[rank]
        ranked[rank] = dtype if before is None else _wider(before, dtype)
    result = None
    for candidate in ranked:
        if candidate is not None and (result is None or candidate.category > result.category):
            result = candidate
    assert result is not None
    return result
