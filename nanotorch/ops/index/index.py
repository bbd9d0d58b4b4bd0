"""`x[index]` and `x[index] = value`; overwriting a whole tensor."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import CPU
from nanotorch.ops.rows.inplace import apply_inplace, overlaps
from nanotorch.ops.rows.row import ROWS, Array, Fitting, composite, op
from nanotorch.ops.rows.sample import real, sample
from nanotorch.ops.rows.tensors import TENSOR, raw
from nanotorch.ops.shape.views import select, unsqueeze

# ------------------------------------------------------------------------------------------------- x[index]


@op(
    self=lambda xp, grad, self_shape, index: xp.scatter_to_zeros(grad, self_shape, index),
    view=True,
    where="internal",
    node="SliceBackward0",
)
def _slice(xp: Any, self: Array, index: Any) -> Array:
    """Basic indexing, a view."""
    try:
        return self[index]
    except IndexError as error:
        raise IndexError(
            str(error).replace("axis", "dimension").replace("for array: array is", "for tensor: it is")
        ) from None


@op(
    self=lambda xp, grad, self_shape, index: xp.scatter_to_zeros(grad, self_shape, index),
    where="internal",
    node="IndexBackward0",
)
def _index(xp: Any, self: Array, index: Any) -> Array:
    """Indexing by integer or boolean tensors, a copy."""
    return self[index]


@op(
    self=lambda xp, grad, values_shape, index, accumulate: (
        grad if accumulate else xp.put(grad, index, xp.zeros(values_shape, dtype=grad.dtype))
    ),
    values=lambda grad, index: grad[index],
    where="internal",
    node="IndexPutBackward0",
)
def _index_put(xp: Any, self: Array, values: Array, index: Any, accumulate: bool = False) -> Array:
    """A copy with `self[index] = values`, or with `accumulate` the sum."""
    return xp.add_at(self, index, values) if accumulate else xp.put(self, index, values)


@TENSOR.define("put")
def _put(x: Tensor, position: Any, values: Tensor) -> Tensor:
    return _index_put(x, values.to(x.device, x.dtype), raw(position))


@op(self=lambda grad, position: grad[position], where="internal", node="IndexBackward0")
def _scatter_to_zeros(xp: Any, self: Array, size: Any, position: Any) -> Any:
    """Zeros with values added at an index."""
    return xp.scatter_to_zeros(self, size, position)


@TENSOR.define("scatter_to_zeros")
def _added_to_zeros(x: Tensor, shape: Sequence[int], index: Any) -> Tensor:
    return _scatter_to_zeros(x, tuple(shape), raw(index))


def check_position(input: Tensor, index: int, dim: int) -> int:
    """Return the index, or raise if it leaves the dimension."""
    shape = input._array.shape
    if not shape:
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` to convert a 0-dim tensor to a number")
    if not -shape[dim] <= index < shape[dim]:
        raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {shape[dim]}")
    return index


def _is_full(part: Any) -> bool:
    return type(part) is slice and part == slice(None)


def _basic(input: Tensor, parts: tuple[Any, ...]) -> Tensor:
    """Take a basic index: by `select` or `unsqueeze` where it is that, or else as a slice."""
    special = [place for place, part in enumerate(parts) if not (part is Ellipsis or _is_full(part))]
    if len(special) == 1 and (type(parts[special[0]]) is int or parts[special[0]] is None):
        place, ndim = special[0], input._array.ndim
        part = parts[place]
        dim = ndim - (len(parts) - place) + (part is None) if Ellipsis in parts[:place] else place
        if part is None and 0 <= dim <= ndim:
            return unsqueeze(input, dim)
        if part is not None and 0 <= dim < ndim:
            return select(input, dim, check_position(input, part, dim))
    return _slice(input, parts)


def split_index(input: Tensor, index: Any) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    """Do what `parse_index` does, in a fraction of its time for the usual cases, in which NumPy makes the checks."""
    if type(index) is list and any(
        isinstance(part, list | tuple | slice) or part is None or part is Ellipsis for part in index
    ):
        index = tuple(index)  # a list of indices is a tuple of them, as in PyTorch
    parts = index if type(index) is tuple else (index,)
    found: list[Any] = []
    plain = tensors = dots = False
    for part in parts:
        kind = type(part)
        if kind is slice:
            start, stop, step = part.start, part.stop, part.step
            if (start is not None and type(start) is not int) or (stop is not None and type(stop) is not int):
                return parse_index(input, index)
            if step is not None and (type(step) is not int or step <= 0):
                return parse_index(input, index)
            plain = plain or start is not None or stop is not None or step is not None
        elif part is Ellipsis:
            if dots:  # a second one stands for no dimension
                continue
            plain = dots = True
        elif kind is int or part is None:
            plain = True
        elif (
            isinstance(part, Tensor)
            and part.device is CPU
            and input.device is CPU
            and part._array.ndim
            and part._array.dtype.char in "lq?"
        ):
            tensors, part = True, part._array
        else:
            return parse_index(input, index)
        found.append(part)
    if tensors:
        return parse_index(input, index) if plain else (None, tuple(found))
    if not dots:
        found.append(Ellipsis)  # or NumPy would give a number instead of a view where no dimension is left
    return tuple(found), None


def parse_index(input: Tensor, index: Any) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    """Split an index into a basic one, to take first, and one of raw arrays for the result;
    None where there is nothing to do.

    As in PyTorch, and unlike in NumPy, an integer beside tensors is a slice taken first, not a tensor of its own.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    xp, shape = input.device.xp, input._array.shape
    basic: list[Any] = []
    advanced: list[Any] = []  # beside what is left of `basic`
    used = sum([_dims_of(part) for part in parts])
    if used > len(shape):
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}: {used}; input shape {tuple(shape)}")
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    dim, tensors = 0, False
    for part in parts:
        if part is Ellipsis:
            if Ellipsis in basic:  # a second one stands for no dimension
                continue
            rest = len(shape) - used
            basic.append(Ellipsis)
            advanced += [slice(None)] * rest
            dim += rest
        elif part is None:
            basic.append(None)
            advanced.append(slice(None))
        elif isinstance(part, slice):
            part = slice(*[None if v is None else operator.index(v) for v in (part.start, part.stop, part.step)])
            if part.step is not None and part.step <= 0:
                raise ValueError("step must be greater than zero; use .flip() to reverse")
            basic.append(part)
            advanced.append(slice(None))
            dim += 1
        elif isinstance(part, bool):
            basic.append(None)
            advanced.append(xp.asarray([part]))
            tensors = True
        elif type(part) is int or _is_integer(part):
            place = int(part.item()) if isinstance(part, Tensor) else part.__index__()
            basic.append(check_position(input, place, dim))
            dim += 1
        else:
            array, on_host = _array_of(input, part)
            if array.dtype.kind == "b":
                _check_mask(on_host if array is None else array, shape, dim)
                if array.ndim == 0:
                    basic.append(None)
                    array = xp.reshape(array, (1,))
                else:
                    basic += [slice(None)] * array.ndim
                    dim += array.ndim
            else:
                _check_bounds(xp, array, on_host, shape[dim], dim)
                basic.append(slice(None))
                dim += 1
            advanced.append(array)
            tensors = True
    nothing = all([part is Ellipsis or _is_full(part) for part in basic])
    if not tensors:
        return tuple(basic), None
    while _is_full(advanced[-1]):
        advanced.pop()
    return None if nothing else tuple(basic), tuple(advanced)


def _is_integer(part: Any) -> bool:
    """Return whether a part of an index is one integer, such as a tensor of no dimension."""
    if isinstance(part, Tensor):
        return part._array.ndim == 0 and part._array.dtype.kind in "iu" and part._array.dtype != np.uint8
    return not isinstance(part, np.ndarray | list | tuple) and not _on_device(part) and hasattr(part, "__index__")


def _on_device(part: Any) -> bool:
    return hasattr(part, "__array_priority__") or (hasattr(part, "get") and hasattr(part, "dtype"))


def _dims_of(part: Any) -> int:
    """Return how many dimensions a part of an index takes."""
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    if isinstance(part, list):
        part = np.asarray([p.tolist() if isinstance(p, Tensor) else p for p in part])
    array = part._array if isinstance(part, Tensor) else part
    return (
        array.ndim
        if getattr(array, "dtype", None) is not None and (array.dtype.kind == "b" or array.dtype == np.uint8)
        else 1
    )


def _array_of(input: Tensor, part: Any) -> tuple[Any, Any]:
    """Return an index as an array of the input's device, and as one of the host if it comes from there."""
    on_host = None
    if isinstance(part, Tensor):
        if part._array.dtype.kind not in "iub":
            raise IndexError(f"tensors used as indices must be long, int, byte or bool tensors, not {part.dtype}")
        if part.device is not input.device:
            if part.device.type == "cpu":
                on_host = part._array
            part = part.to(input.device)
        array = part._array
    elif _on_device(part) and not isinstance(part, np.generic):
        array = part
    else:
        if isinstance(part, list | tuple):
            part = [p.tolist() if isinstance(p, Tensor) else p for p in part]
        on_host = np.asarray(part)
        if on_host.size == 0 and on_host.dtype.kind == "f":
            on_host = on_host.astype(np.int64)
        if on_host.dtype.kind not in "iub":
            raise (TypeError if on_host.dtype.kind in "US" else IndexError)(
                f"arrays and lists used as indices must hold integers or booleans, not {on_host.dtype}"
            )
        array = input.device.xp.receive(on_host, input.device)
    if array.dtype == np.uint8:  # PyTorch's older masks
        array, on_host = input.device.xp.astype(array, np.bool_), None
    return array, on_host


def _check_mask(mask: Any, shape: tuple[int, ...], dim: int) -> None:
    for number, length in enumerate(mask.shape):
        if length != shape[dim + number]:
            raise IndexError(
                f"The shape of the mask {list(mask.shape)} at index {number} does not match the shape of the indexed"
                f" tensor {list(shape)} at index {dim + number}"
            )


def _check_bounds(xp: Any, index: Any, on_host: Any, length: int, dim: int) -> None:
    """Raise if an index array, which may have come from the host, leaves a dimension: CuPy would wrap it around
    silently.
    """
    known = index if on_host is None else on_host
    inside = (known >= -length) & (known < length)
    if (xp.holds(inside) if on_host is None else bool(inside.all())) is False:
        numbers = xp.to_numpy(index)
        bad = int(numbers.max()) if int(numbers.max()) >= length else int(numbers.min())
        raise IndexError(f"index {bad} is out of bounds for dimension {dim} with size {length}")


@composite(where="method", operators="__getitem__")
def getitem(input: Tensor, index: Any) -> Tensor:
    """`input[index]`: a view for integers and slices, a copy for tensors of indices or masks."""
    if type(index) is int:
        return select(input, 0, check_position(input, index, 0))
    basic, advanced = split_index(input, index)
    if advanced is None:
        return _basic(input, basic or ())
    try:
        return _index(input if basic is None else _basic(input, basic), advanced)
    except IndexError:
        parse_index(input, index)  # says it in our words
        raise


def one_value(name: str, value: Any) -> Any:
    """Raise if a value that fills is a tensor with dimensions, which would broadcast."""
    if isinstance(value, list | tuple):
        raise TypeError(f"{name}(): argument 'value' must be Tensor or Number, not {type(value).__name__}")
    if getattr(value, "ndim", 0):
        raise ShapeError(
            f"{name}: only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s), of"
            f" shape {list(value.shape)}"
        )
    return value


@composite(where="method", operators="__setitem__")
def setitem(input: Tensor, index: Any, value: Any) -> None:
    """`input[index] = value`: a differentiable write."""
    basic, advanced = ((index, ...), None) if type(index) is int else split_index(input, index)
    if not isinstance(value, Tensor):
        if isinstance(value, int | float):
            value = dtypes.wrapped("setitem", value, dtypes.float64 if input.dtype is dtypes.float16 else input.dtype)
        elif np.asarray(value).dtype.kind not in "biuf":
            raise TypeError(f"setitem: can't assign a {type(value).__name__} to a tensor of {input.dtype}")
        value = from_array(input.device.xp.asarray(np.asarray(value, input._array.dtype)), input.device)
    part = input if basic is None else _basic(input, basic)
    if advanced is not None:
        try:
            _put_into(part, advanced, value, False, "setitem")
        except IndexError:
            parse_index(input, index)
            raise
        return
    surplus = value._array.ndim - part._array.ndim
    if surplus > 0 and value._array.shape[:surplus] == (1,) * surplus:
        value = value.reshape(value._array.shape[surplus:])
    part.copy_(value.expand(part._array.shape) if overlaps(part, value) else value)


def _put_into(part: Tensor, index: tuple[Any, ...], value: Tensor, accumulate: bool, name: str) -> None:
    if value.dtype is not part.dtype or value.device is not part.device:
        value = value.to(part.device, part.dtype)
    apply_inplace(ROWS["_index_put"], part, (value, index, accumulate), {}, name)


def _indices(name: str, input: Tensor, indices: Any, values: Tensor) -> tuple[Any, ...]:
    """Return the arrays of a tuple of index tensors."""
    if not isinstance(indices, tuple | list) or not all(isinstance(part, Tensor) for part in indices):
        raise TypeError(f"{name}(): argument 'indices' must be a tuple of Tensors")
    if values.dtype is not input.dtype:
        raise RuntimeError(
            f"{name}: Index put requires the source and destination dtypes match, got {input.dtype} for the destination"
            f" and {values.dtype} for the source."
        )
    _, advanced = parse_index(input, tuple([part.reshape(1) if part._array.ndim == 0 else part for part in indices]))
    return advanced or ()


@composite(samples=[])
def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `copy[indices] = values`, or with `accumulate` with all values added,
    those of repeated indices too.

    >>> torch.zeros(3).index_put((torch.tensor([0, 0]),), torch.tensor([1.0, 2.0]), accumulate=True)
    tensor([3., 0., 0.])
    """
    return _index_put(input, values, _indices("index_put", input, indices, values), accumulate)


@composite(where="method")
def index_put_(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """In-place version of `index_put`."""
    _put_into(input, _indices("index_put_", input, indices, values), values, accumulate, "index_put_")
    return input


@op(
    self=lambda xp, grad: xp.zeros_like(grad),
    other=lambda grad: grad,
    where="internal",
    cast=None,
    node="CopyBackwards",
)
def _copy(xp: Any, self: Array, other: Array) -> Array:
    """The values of `other` in the shape of `self`."""
    return xp.array(xp.broadcast_to(other, self.shape))


@composite(where="method")
def copy_(input: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write the values of `src`, broadcast, converted and moved as needed, into the tensor."""
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_(): argument 'src' must be Tensor, not {type(src).__name__}")
    return apply_inplace(ROWS["_copy"], input, (src.to(input.device, input.dtype),), {})


@op(
    self=lambda xp, grad: xp.zeros_like(grad),
    value=lambda xp, grad: xp.sum(grad),
    inplace=True,
    where="method",
    cast=None,
    node="FillBackward0",
    widens=False,
    samples=[sample(real(3, 2), 1.5)],
)
def fill(xp: Any, self: Array, value: Array | Fitting) -> Array:
    """The shape of `input` filled with one value."""
    value = one_value("fill", value)
    return xp.full_like(self, value)


@op(self=lambda xp, grad: xp.zeros_like(grad), inplace=True, where="method", node="ZeroBackward0")
def zero(xp: Any, self: Array) -> Array:
    """Zeros in the shape of `input`."""
    return xp.zeros_like(self)
