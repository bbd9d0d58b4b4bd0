"""What compiled rows call: conversions of arguments, wrapping of results, and the errors that name op and shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import DtypeError, LinAlgError, OutOfRangeError, ShapeError, describe_operand
from nanotorch.autograd.graph.grad_mode import recording
from nanotorch.autograd.graph.interpreter import InterpreterError
from nanotorch.autograd.graph.node import Node
from nanotorch.autograd.graph.tensor import Tensor, from_array, from_ndarray
from nanotorch.autograd.graph.version import INFERENCE, Version
from nanotorch.autograd.graph.view import MULTI_VIEW, NO_GRAD_VIEW, View
from nanotorch.backend.device import CPU
from nanotorch.dtypes import DType
from nanotorch.ops.rows.declaration import Declaration
from nanotorch.ops.rows.dims import sizes_of

HALF, FLOAT = np.dtype(np.float16), np.dtype(np.float32)


def not_differentiable(name: str, argument: str) -> RuntimeError:
    """Return the error of a tensor that requires grad where the row has no formula for it:
    it would get none in silence.
    """
    return RuntimeError(
        f"The function '{name}' is not differentiable with respect to argument '{argument}' (the derivative for"
        f" '{argument}' is not implemented). This input cannot have requires_grad True: detach() it first."
    )


def refuse_gradients(name: str, **arguments: Any) -> None:
    """Raise where an argument of a function of several ops requires grad though it is taken as a constant."""
    for argument, value in arguments.items():
        if isinstance(value, Tensor) and value._requires_grad and recording():
            raise not_differentiable(name, argument)


def need_number(name: str, argument: str, value: Any) -> bool | int | float:
    """Return a Python number, which a 0-d tensor without history and a NumPy scalar may stand for."""
    if isinstance(value, np.generic) or (
        isinstance(value, Tensor) and not value._array.ndim and not value._requires_grad
    ):
        value = value.item()
    if not isinstance(value, bool | int | float):
        history = " that requires grad" * (isinstance(value, Tensor) and value._requires_grad)
        raise TypeError(f"{name}(): argument '{argument}' must be Number, not {type(value).__name__}{history}")
    return value


def need_flag(name: str, argument: str, value: Any) -> bool:
    """Return a truth value; 1, None or a text that says no are not taken for one."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}(): argument '{argument}' must be bool, not {type(value).__name__}")
    return bool(value)


def floating(input: Tensor) -> Tensor:
    """Whole numbers as floating-point ones, for what would wrap around in their dtype."""
    return input if input._array.dtype.kind == "f" else input.to(dtypes.get_default_dtype())


def roomy(input: Tensor) -> Tensor:
    """Whole numbers in int64, where their sums and differences do not wrap around."""
    return input.to(dtypes.int64) if input._array.dtype.kind in "iu" else input


def need_tensor(name: str, argument: str, value: Any, scalar: Callable[..., Any] | None = None, *others: Any) -> Tensor:
    """Turn an array or (where `scalar` says how it becomes one of a dtype) a number into a tensor,
    or say that a tensor is needed.
    """
    if isinstance(value, np.ndarray):
        return from_ndarray(value)
    if scalar is not None and isinstance(value, bool | int | float | np.generic):
        reference = next((o for o in others if isinstance(o, Tensor)), None)
        device = CPU if reference is None else reference.device
        plain = value.item() if isinstance(value, np.generic) else value
        operands = [o for o in others if isinstance(o, Tensor)]
        dtype = dtypes.result_dtype([plain, *operands]) if operands else dtypes.scalar_dtype(plain)
        kind = FLOAT if dtype is dtypes.float16 and any(o._array.ndim for o in operands) else dtype.numpy
        plain = scalar(name, plain, dtypes.from_numpy_dtype(kind))
        return from_array(device.xp.asarray(plain, dtype=kind), device)
    raise TypeError(
        f"{name}(): argument '{argument}' must be Tensor{'' if scalar is None else ' or Number'}, not"
        f" {type(value).__name__}"
    )


def is_operand(value: Any) -> bool:
    """Return whether a tensor's operators know what to do with a value (Note [Operators])."""
    return isinstance(value, Tensor | bool | int | float | np.ndarray | np.generic)


def cast_first(name: str, value: Any, dtype: Any) -> Tensor:
    """Bring the first input of a row with a keyword `dtype` to that type; the cast is recorded."""
    dtype = dtypes.need_dtype(name, dtype)
    tensor = value if isinstance(value, Tensor) else need_tensor(name, "input", value)
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def harmonize(name: str, floating: bool, *operands: Any) -> tuple[Any, ...]:
    """Bring operands to one dtype and device (Note [Type promotion]); the casts are recorded."""
    values: list[Any] = []
    for operand in operands:
        if isinstance(operand, np.ndarray):
            operand = from_ndarray(operand)
        elif isinstance(operand, np.generic):
            operand = operand.item()
        if operand is not None and not isinstance(operand, Tensor | bool | int | float):
            raise TypeError(f"{name}(): operands must be Tensor or Number, not {type(operand).__name__}")
        values.append(operand)
    tensors = [value for value in values if isinstance(value, Tensor)]
    device = next((t.device for t in tensors if t._array.ndim), tensors[0].device)
    dtype = dtypes.result_dtype([value for value in values if value is not None])
    half = dtype is dtypes.float16 and any([t._array.dtype is HALF for t in tensors])
    if floating and not dtype.is_floating_point:
        dtype = dtypes.get_default_dtype()
    for position, value in enumerate(values):
        if isinstance(value, Tensor):
            if value.device is not device:
                if value._array.ndim or value.device is not CPU:
                    places = " and ".join(
                        f"argument {k + 1} on {v.device}" for k, v in enumerate(values) if isinstance(v, Tensor)
                    )
                    raise RuntimeError(
                        f"{name}(): expected all tensors to be on the same device, but found {places}; move one with"
                        " .to(device)"
                    )
                value = value.to(device)
            values[position] = cast = value if value.dtype is dtype else value.to(dtype)
            if half and cast is not value and not value._array.ndim:
                # Like a number, it may be beyond the range of float16.
                cast._array = device.xp.astype(value._array, FLOAT)
    return tuple(values)


def same(name: str, first: str, tensor: Tensor, second: str, other: Tensor, dtype: bool = True) -> None:
    """Raise unless two tensors share the device and, for values, the dtype."""
    if tensor.device is not other.device:
        raise RuntimeError(
            f"{name}(): expected all tensors to be on the same device, but found '{first}' on {tensor.device} and "
            f"'{second}' on {other.device}; move one with .to(device)"
        )
    if dtype and tensor._array.dtype != other._array.dtype:
        raise RuntimeError(
            f"{name}(): expected tensors of the same dtype, but '{first}' is {tensor.dtype} and '{second}' is"
            f" {other.dtype}; convert one, for example with .to({other.dtype!r})"
        )


def tensors_of(name: str, tensors: Any, cast: bool = False) -> tuple[Tensor, ...]:
    """Check a sequence of tensors, refresh views among them and (for casting rows) promote their dtypes."""
    if isinstance(tensors, Tensor):
        tensors = tensors.unbind(0)
    tensors = tuple(tensors)
    if not tensors:
        raise ShapeError(f"{name}(): expected a non-empty list of Tensors")
    for position, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{name}(): expected Tensor as element {position} of its argument, but got {type(tensor).__name__}"
            )
        if tensor._view is not None:
            tensor._refresh()
        if tensor.device is not tensors[0].device:
            same(name, "element 0", tensors[0], f"element {position}", tensor)
    if cast and any(t._array.dtype != tensors[0]._array.dtype for t in tensors):
        dtype = dtypes.result_dtype(tensors)
        tensors = tuple(t if t.dtype is dtype else t.to(dtype) for t in tensors)
    return tensors


def with_elements(arrays: Sequence[Any]) -> Any:
    """Return the first array of a list that is not a vector of no elements, which `cat` leaves out."""
    return next((array for array in arrays if array.shape != (0,)), arrays[0])


def star_argument(name: str, argument: str, positional: tuple[Any, ...], keyword: Any) -> tuple[int, ...]:
    """Return a size or a list of dims given as `f(x, 2, 3)`, `f(x, (2, 3))` or `f(x, size=(2, 3))`."""
    return sizes_of(name, positional if keyword is None else (keyword,), argument)


def explain(row: Declaration, error: Exception, operands: tuple[Any, ...]) -> Exception:
    """Turn an error of the array module into one that names the op and the shapes."""
    if isinstance(error, InterpreterError | MemoryError | KeyboardInterrupt | NotImplementedError):
        return error
    if isinstance(error, LinAlgError | ShapeError | DtypeError):
        return error
    for operand, p in zip(operands, row.parameters, strict=True):
        if isinstance(operand, Tensor) and not p.tensor:
            return TypeError(f"{row.public_name}(): argument '{p.public}' must be Number, not Tensor")
    shapes = [
        describe_operand(o)
        for o, p in zip(operands, row.parameters, strict=True)
        if p.tensor and not p.many and o is not None
    ]
    for operand, p in zip(operands, row.parameters, strict=True):
        if p.many:
            shapes += [describe_operand(o) for o in operand]
    text = " and ".join(shapes) if len(shapes) < 3 else ", ".join(shapes)
    plain = "".join(
        f", {p.public}={o!r}"
        for o, p in zip(operands, row.parameters, strict=True)
        if not p.tensor and o is not p.default
    )
    name, reason = row.public_name, str(error)
    if reason.startswith(f"{name}:"):
        return error  # the row's own words
    if row.where == "internal":
        plain = ""
    if isinstance(error, np.exceptions.AxisError):
        ndim = operands[0][0].ndim if row.parameters[0].many else operands[0].ndim
        bounds = f"[{-ndim}, {ndim - 1}]" if ndim else "[-1, 0]"
        return IndexError(
            f"{name}: Dimension out of range (expected to be in range of {bounds}, but got {error.axis}); input shape"
            f" {text}"
        )
    if isinstance(error, OverflowError):
        return RuntimeError(
            f"{name}: {reason}; convert the tensor to a dtype that holds the number (input shape {text})"
        )
    if isinstance(error, IndexError):
        kind = OutOfRangeError if isinstance(error, OutOfRangeError) else IndexError
        return kind(f"{name}: {reason}; input shape {text}{plain}")
    if isinstance(error, ValueError):
        if "broadcast" in reason:
            reason = "these shapes cannot be broadcast together: aligned at the right, lengths must be equal or 1"
        return ShapeError(f"{name}: shapes {text}{plain}: {reason}")
    if isinstance(error, RuntimeError):
        return RuntimeError(f"{name}: {reason}")
    if isinstance(error, TypeError):
        kinds = ", ".join(
            str(o.dtype) if isinstance(o, Tensor) else type(o).__name__
            for o in operands
            if not isinstance(o, tuple | list)
        )
        if "numpy boolean" in reason:
            return RuntimeError(f"{name}: not supported for truth values; convert them with .long(), or take ^ and ~")
        if "not supported for the input types" in reason:
            return NotImplementedError(f"{name}: not implemented for {kinds}")
        return TypeError(f"{name}(): {reason} (called with {kinds})")
    return error


def fitted(name: str, value: float, dtype: Any) -> Any:
    """Return a number that a dtype holds (Note [Op rows]), or raise."""
    known = dtype if isinstance(dtype, DType) else dtypes.from_numpy_dtype(dtype)
    if known is dtypes.bool_ and -(2**63) <= value < 2**63:
        return value  # with truth values an op may compute in int64
    return dtypes.wrapped(name, value, known)


def around(name: str, value: float, dtype: DType) -> Any:
    """Return a number as PyTorch's scalars become one of a dtype: integers of 64 bits wrap around."""
    if type(value) is not int or dtype.numpy.kind not in "iu":
        return value
    if not -(2**63) <= value < 2**64:
        raise RuntimeError(f"{name}: the number {value} does not fit in 64 bits; use a float")
    low = int(np.iinfo(dtype.numpy).min)
    return (value - low) % 2 ** (8 * dtype.itemsize) + low


def wrapped_around(
    row: Declaration, forward: Callable[..., Any], error: Exception, xp: Any, operands: list[Any]
) -> Any:
    """Compute again with numbers that fit the operands' integer dtype:
    operands wrap around, as PyTorch's scalars do, others raise.
    """
    name = row.public_name
    found = next((o.dtype for o in operands if hasattr(o, "dtype")), None)
    if found is None or found.kind not in "iu":
        raise RuntimeError(f"{name}: a number does not fit in 64 bits; use a float") from None
    dtype = dtypes.from_numpy_dtype(found)
    given = {
        p: (around if p.tensor else fitted)(name, o, dtype) if type(o) is int else o
        for p, o in zip(row.parameters, operands, strict=True)
    }
    return forward(
        xp,
        *[v for p, v in given.items() if not p.keyword_only],
        **{p.name: v for p, v in given.items() if p.keyword_only},
    )


def sum_to(xp: Any, grad: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the dimensions along which its input was broadcast."""
    lead = grad.ndim - len(shape)
    if lead < 0:
        return xp.broadcast_to(grad, shape)
    axes = tuple(range(lead)) + tuple(
        lead + axis for axis, length in enumerate(shape) if length == 1 and grad.shape[lead + axis] != 1
    )
    if axes:
        grad = xp.sum(grad, axis=axes)
    return xp.reshape(grad, shape) if tuple(grad.shape) != tuple(shape) else grad


def in_float32(forward: Callable[..., Any], xp: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a row on float16 arrays in float32 (Note [Half precision])."""
    return forward(xp, *widened(args, xp), **{name: widened(a, xp) for name, a in kwargs.items()})


def rounded_outputs(out: Any, hidden: tuple[int, ...], xp: Any) -> Any:
    """Round what a row on float16 computed; the `hidden` outputs stay in float32."""
    if isinstance(out, tuple | list):
        return tuple([o if number in hidden else rounded(o, xp) for number, o in enumerate(out)])
    return rounded(out, xp)


def widening(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of several rows compute float16 in float32 too, and round once (Note [Half precision])."""

    @functools.wraps(function)
    def widens(*args: Any, **kwargs: Any) -> Any:
        said = kwargs.get("dtype") is not None or kwargs.get("out") is not None  # what the result is to be
        if said or not only_half((*args, *kwargs.values()) if kwargs else args):
            return function(*args, **kwargs)
        out = function(*widened(args), **{name: widened(a) for name, a in kwargs.items()})
        if not isinstance(out, tuple | list):
            return rounded(out)
        parts = map(rounded, out)
        return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)

    return widens


def only_half(values: Sequence[Any]) -> bool:
    """Return whether there are floating tensors among arguments, and all are float16."""
    found = False
    for value in values:
        if isinstance(value, Tensor):
            if value._array.dtype is HALF:
                found = True
            elif value._array.dtype.kind == "f":
                return False
        elif type(value) in (tuple, list) and value and isinstance(value[0], Tensor):
            if not only_half(value):
                return False
            found = True
    return found


def widened(value: Any, xp: Any = None) -> Any:
    """Return a float16 array of `xp` or tensor, or those of a sequence, as float32, and everything else as it is."""
    if isinstance(value, Tensor):
        return value.to(dtypes.float32) if value._array.dtype is HALF else value
    if type(value) in (tuple, list):
        return type(value)([widened(part, xp) for part in value])
    return xp.astype(value, FLOAT) if getattr(value, "dtype", None) is HALF else value


def rounded(value: Any, xp: Any = None) -> Any:
    """Return a float32 array of `xp` or tensor as float16, and everything else as it is."""
    if isinstance(value, Tensor):
        return value.to(dtypes.float16) if value._array.dtype is FLOAT else value
    return xp.astype(value, HALF) if getattr(value, "dtype", None) is FLOAT else value


def recorded_output(node: Node, array: Any, output_nr: int, cell: Version) -> Tensor:
    """Wrap a saved result again as an output of its node, for recorded backwards."""
    result = from_array(array, node.device, True)
    result._edge = (node, output_nr)
    result._cell = cell
    return result


def exact_output(node: Node, result: Tensor | None, output_nr: int) -> Tensor | None:
    """Give the saved result of a row on float16, which is not rounded,
    the history of the one that was (Note [Half precision]).
    """
    if result is None:
        return None
    xp = node.device.xp
    exact = recorded_output(node, rounded(result._array, xp), output_nr, result._version_cell()).to(dtypes.float32)
    exact._array = widened(result._array, xp)
    return exact


def wrap_outputs(kind: Any, out: Sequence[Any], device: Any) -> Any:
    """Wrap the arrays of a row with several outputs in a tuple, or in a named one."""
    tensors = [from_array(device.xp.asarray(array), device) for array in out]
    return tuple(tensors) if kind is tuple else kind(*tensors)


def make_view(parent: Tensor, result: Any) -> None:
    """Note that `result` views `parent` (Note [Views and in-place])."""
    cell = parent._cell
    if cell is None:
        cell = parent._version_cell()
    version = 0 if cell is INFERENCE else cell.number
    many = type(result) is tuple
    refusal = NO_GRAD_VIEW if not recording() else MULTI_VIEW if many else None
    base = parent
    if parent._view is not None:
        base, refusal = parent._view.base, refusal or parent._view.refusal
    for tensor in result if many else (result,):
        tensor._cell = cell
        tensor._view = View(base, refusal, version)
