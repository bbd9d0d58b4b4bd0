"""Tensors from data, and tensors of constants and ranges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import CPU, Device
from nanotorch.dtypes import DType
from nanotorch.ops.rows.dims import sizes_of
from nanotorch.ops.rows.inplace import write_out
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.runtime import need_number


def place_of(device: Any) -> Device:
    """Return the device that an argument `device=` names, the CPU for None."""
    return CPU if device is None else Device(device)


def finished(array: Any, place: Device, requires_grad: bool = False) -> Tensor:
    """Return a leaf around an array that is on its device."""
    result = from_array(array, place)
    return result.requires_grad_() if requires_grad else result


def placed(array: Any, device: Any, requires_grad: bool = False) -> Tensor:
    """Return a leaf around a NumPy array, on a device (None is the CPU)."""
    place = place_of(device)
    return finished(place.xp.asarray(array), place, requires_grad)


def _plain(data: Any) -> Any:
    """Replace tensors inside nested sequences by what NumPy understands."""
    if isinstance(data, Tensor):
        return data.detach().cpu().numpy()
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return data


def _first(data: Any) -> Any:
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return data


def _read(data: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    """Turn data into a NumPy array, with PyTorch's inferred dtype where none is given."""
    if dtype is not None:
        dtype = dtypes.need_dtype("tensor", dtype)
    if isinstance(data, np.ndarray | np.generic):
        array = np.asarray(data)
        return array.astype(dtype.numpy if dtype else dtypes.from_numpy_dtype(array.dtype).numpy, copy=False)
    try:
        array = np.array(_plain(data))
    except ValueError:
        raise ValueError(
            "expected sequences of equal length at each level of nesting (the data is ragged): pad the rows, or make a"
            " tensor of each"
        ) from None
    # integers beyond 64 bits
    if array.dtype.kind == "O" and all(isinstance(number, int | float) for number in array.flat):
        if (dtype is None and all(isinstance(number, int) for number in array.flat)) or (
            dtype is not None and dtype.numpy.kind in "iu"
        ):
            dtypes.check_fits("tensor", max(array.flat, key=abs), dtype or dtypes.int64)
        array = array.astype(bool if dtype is dtypes.bool_ else np.float64)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"new(): a tensor cannot be made from {type(data).__name__} with elements of kind {array.dtype}; real"
            " numbers are needed"
        )
    if dtype is not None:
        if dtype.numpy.kind in "iu":
            _check_range(array, dtype)
        return array.astype(dtype.numpy)
    if array.dtype.kind == "f" and array.size and type(_first(data)) is int:
        numbers = list(np.array(_plain(data), object).flat)  # NumPy makes floats of integers beyond int64 among others
        if all(isinstance(number, int) for number in numbers):
            dtypes.check_fits("tensor", max(numbers, key=abs), dtypes.int64)
    if array.dtype.kind == "f" or array.size == 0:
        return array.astype(dtypes.get_default_dtype().numpy)
    if array.dtype.kind == "u":  # larger than int64's
        _check_range(array, dtypes.int64)
    return array.astype(np.bool_ if array.dtype.kind == "b" else np.int64)


def _check_range(array: np.ndarray[Any, Any], dtype: DType) -> None:
    """Raise where numbers of Python do not fit an integer dtype; one comparison tells for all that do."""
    if array.size and array.dtype.kind != "b":
        low, high = array.min(), array.max()  # a NaN is both
        for value in (low, high):
            dtypes.check_fits("tensor", value.item(), dtype)


def tensor(data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a new leaf with a copy of the data.

    Args:
        data: a number, nested sequences of numbers, a NumPy array or a tensor.
        dtype: the dtype; inferred without it: floats become the default dtype, ints int64; arrays keep theirs.
        device: where the tensor shall live; the CPU by default.
        requires_grad: record operations on the tensor.

    >>> torch.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    if isinstance(data, Tensor):
        device = data.device if device is None else device
        return data.detach().clone().to(device, dtype or data.dtype).requires_grad_(requires_grad)
    return placed(np.array(_read(data, dtype)), device, requires_grad)


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """Return a tensor that shares memory with the data where that is possible."""
    if isinstance(data, Tensor):
        return data.to(data.device if device is None else device, dtype or data.dtype)
    return placed(_read(data, dtype), device)


def from_numpy(ndarray: np.ndarray[Any, Any]) -> Tensor:
    """Return a tensor that shares the memory of a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    dtypes.from_numpy_dtype(ndarray.dtype)
    if not ndarray.dtype.isnative:
        raise ValueError(
            "the array's byte order is not this machine's: convert with .astype(array.dtype.newbyteorder('='))"
        )
    return placed(ndarray, None)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """Return a tensor that shares the memory of an object with `__dlpack__`."""
    return from_numpy(np.from_dlpack(ext_tensor))


def is_tensor(obj: Any) -> bool:
    """Return whether an object is a tensor."""
    return isinstance(obj, Tensor)


def scalar_tensor(s: Any, *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """Return a 0-d tensor of a number, floating point by default."""
    return full((), s, dtype=dtype or dtypes.get_default_dtype(), device=device)


def create_into(name: str, out: Any, dtype: DType | None, create: Callable[..., Tensor]) -> Tensor:
    """Write what `create(dtype=, device=)` makes to the tensor given as `out=`,
    in whose dtype and on whose device it is made.
    """
    if isinstance(out, Tensor):
        if dtype is not None and dtypes.need_dtype(name, dtype) is not out.dtype:
            raise RuntimeError(f"{name}: dtype {dtype} does not match dtype of out ({out.dtype})")
        write_out(name, create, out, {"dtype": out.dtype, "device": out.device})
        return out
    raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")


def _sizes(name: str, size: tuple[Any, ...]) -> tuple[int, ...]:
    shape = sizes_of(name, size)
    if any(n < 0 for n in shape):
        raise RuntimeError(f"Trying to create tensor with negative dimension: {list(shape)}")
    return shape


def _dtype(dtype: DType | None) -> np.dtype[Any]:
    return dtypes.need_dtype("new", dtype or dtypes.get_default_dtype()).numpy


def zeros(
    *size: Any, out: Tensor | None = None, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return zeros; the size is given as ints or as one sequence."""
    if out is not None:
        return create_into("zeros", out, dtype, lambda **place: zeros(*size, **place))
    place = place_of(device)
    return finished(place.xp.zeros(_sizes("zeros", size), _dtype(dtype)), place, requires_grad)


def ones(
    *size: Any, out: Tensor | None = None, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return ones; the size is given as ints or as one sequence."""
    if out is not None:
        return create_into("ones", out, dtype, lambda **place: ones(*size, **place))
    place = place_of(device)
    return finished(place.xp.ones(_sizes("ones", size), _dtype(dtype)), place, requires_grad)


def empty(
    *size: Any, out: Tensor | None = None, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return uninitialised memory; the size is given as ints or as one sequence."""
    if out is not None:
        return create_into("empty", out, dtype, lambda **place: empty(*size, **place))
    place = place_of(device)
    return finished(place.xp.empty(_sizes("empty", size), _dtype(dtype)), place, requires_grad)


def full(
    size: Any,
    fill_value: Any,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor filled with one value, whose type decides the dtype unless one is given."""
    if out is not None:
        return create_into("full", out, dtype, lambda **place: full(size, fill_value, **place))
    value = need_number("full", "fill_value", fill_value)
    dtype = dtypes.need_dtype("full", dtype or dtypes.scalar_dtype(value))
    place = place_of(device)
    array = place.xp.full(_sizes("full", (size,)), dtypes.wrapped("full", value, dtype), dtype.numpy)
    return finished(array, place, requires_grad)


def zeros_like(input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return zeros in the shape, dtype and device of a tensor."""
    return zeros(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return ones in the shape, dtype and device of a tensor."""
    return ones(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def empty_like(input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return uninitialised memory in the shape, dtype and device of a tensor."""
    return empty(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return one value in the shape, dtype and device of a tensor."""
    return full(
        input.shape, fill_value, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )


def eye(
    n: int,
    m: int | None = None,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return an n x m matrix (n x n by default) with ones on the diagonal."""
    if out is not None:
        return create_into("eye", out, dtype, lambda **place: eye(n, m, **place))
    return placed(np.eye(n, m, dtype=_dtype(dtype)), device, requires_grad)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return numbers from `start` (0 by default) up to but without `end`, `step` apart.

    >>> torch.arange(1, 7, 2)
    tensor([1, 3, 5])
    """
    if out is not None:
        return create_into("arange", out, dtype, lambda **place: arange(start, end, step, **place))
    if end is None:
        start, end = 0, start
    start, end, step = (need_number("arange", n, v) for n, v in (("start", start), ("end", end), ("step", step)))
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"arange: step {step} does not lead from {start} to {end}")
    if dtype is None:
        whole = all(isinstance(v, int | np.integer) for v in (start, end, step))
        dtype = dtypes.int64 if whole else dtypes.get_default_dtype()
    dtype = dtypes.need_dtype("arange", dtype)
    if dtype is dtypes.int64:
        for value in (start, end, step):
            dtypes.check_fits("arange", value, dtypes.int64)
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise ValueError(f"arange: step must be nonzero, and of {dtype} it is cut to 0")
    if not math.isfinite(start) or not math.isfinite(end):
        raise RuntimeError(f"arange: unsupported range: {start} -> {end}")
    count = math.ceil((end - start) / step)
    if dtype.is_floating_point:
        values = (start + step * np.arange(count, dtype=np.float64)).astype(dtype.numpy)
    else:
        values = (int(start) + int(step) * np.arange(count)).astype(dtype.numpy)
    return placed(values, device, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `steps` evenly spaced numbers from `start` to `end`, both included."""
    if out is not None:
        return create_into("linspace", out, dtype, lambda **place: linspace(start, end, steps, **place))
    start, end = need_number("linspace", "start", start), need_number("linspace", "end", end)
    if _dtype(dtype).kind in "iu":
        for end_point in (start, end):
            dtypes.check_fits("linspace", end_point, dtypes.from_numpy_dtype(_dtype(dtype)))
    return placed(np.linspace(start, end, steps).astype(_dtype(dtype)), device, requires_grad)


def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `base ** x` for `steps` evenly spaced `x` from `start` to `end`."""
    if out is not None:
        return create_into("logspace", out, dtype, lambda **place: logspace(start, end, steps, base, **place))
    start, end, base = (need_number("logspace", n, v) for n, v in (("start", start), ("end", end), ("base", base)))
    return placed(np.logspace(start, end, steps, base=base).astype(_dtype(dtype)), device, requires_grad)


@composite(where="method")
def new_tensor(
    input: Tensor,
    data: Any,
    *,
    dtype: DType | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of the data with this tensor's dtype and device."""
    return tensor(data, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


@composite(where="method")
def new_zeros(
    input: Tensor,
    *size: int | Sequence[int],
    dtype: DType | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return zeros with this tensor's dtype and device."""
    return zeros(*size, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


@composite(where="method")
def new_ones(
    input: Tensor,
    *size: int | Sequence[int],
    dtype: DType | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ones with this tensor's dtype and device."""
    return ones(*size, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


@composite(where="method")
def new_empty(
    input: Tensor,
    *size: int | Sequence[int],
    dtype: DType | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return uninitialised memory with this tensor's dtype and device."""
    return empty(*size, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


@composite(where="method")
def new_full(
    input: Tensor,
    size: int | Sequence[int],
    fill_value: float | Tensor,
    *,
    dtype: DType | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return one value with this tensor's dtype and device."""
    return full(
        size, fill_value, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )
