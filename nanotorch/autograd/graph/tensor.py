"""Tensor: an array with a device, a place in the graph and a version. Its arithmetic comes from op rows."""

from __future__ import annotations

import operator
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex, overload

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph import formatting
from nanotorch.autograd.graph.copying import deep_copy, shallow_copy, take_apart
from nanotorch.autograd.graph.errors import user_line
from nanotorch.autograd.graph.grad_mode import (
    is_grad_enabled,
    is_inference_mode_enabled,
    restore_recording,
    set_recording,
)
from nanotorch.autograd.graph.interpreter import add_site
from nanotorch.autograd.graph.locks import ACCUMULATING
from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.autograd.graph.node import AccumulateGrad, Edge, Node, RemovableHandle
from nanotorch.autograd.graph.version import INFERENCE, InferenceError, Version
from nanotorch.autograd.graph.view import View, geometry, refused
from nanotorch.backend.device import CPU, Device
from nanotorch.dtypes import DTYPES, DType

new: Callable[[type[Tensor]], Tensor] = object.__new__
add_site(globals())  # `inference_mode` replaces `new`, here and in compiled rows (Note [Interpreters])
UNPOPULATED = (
    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be"
    " populated during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor,"
    " use .retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the"
    " leaf Tensor instead."
)


class Size(tuple[int, ...]):
    """The shape of a tensor: a tuple of ints with `numel()`."""

    __slots__ = ()

    def numel(self) -> int:
        """Return the number of elements of a tensor of this shape."""
        count = 1
        for length in self:
            count *= length
        return count

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"


class Tensor(TensorMethods):
    """A multi-dimensional array that can record what is done with it.

    Make tensors with `tensor()`, `zeros()` and the other creation functions. Methods and operators come from
    the op rows under `nanotorch/ops`.

    Attributes:
        device: where the elements live.
    """

    __slots__ = ("__weakref__", "_array", "_cell", "_edge", "_grad", "_leaf", "_requires_grad", "_view", "device")
    _array: Any
    _cell: Version | None
    _edge: Edge | None
    _leaf: Edge | None
    _grad: Tensor | None
    _requires_grad: bool
    _view: View | None
    device: Device

    def __init__(self, data: Any = ()) -> None:
        """Make a float tensor from nested sequences; `nanotorch.tensor` infers the dtype instead."""
        source = data._array if isinstance(data, Tensor) else np.array(data, dtypes.get_default_dtype().numpy)
        self._set(source, data.device if isinstance(data, Tensor) else CPU, False)

    def _set(self, array: Any, device: Device, requires_grad: bool) -> None:
        self._array, self.device, self._requires_grad = array, device, requires_grad
        self._grad = self._edge = self._cell = self._view = self._leaf = None

    def _same_device(self, array: Any) -> Tensor:
        """Make a tensor without history around an array of this tensor's device."""
        return from_array(array, self.device)

    # ------------------------------------------------------------------------------------------- what it is

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return DTYPES[self._array.dtype]

    @property
    def shape(self) -> Size:
        """The length of every dimension."""
        return Size(self._array.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim

    @overload
    def size(self) -> Size: ...
    @overload
    def size(self, dim: int) -> int: ...
    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the length of one dimension."""
        return self.shape if dim is None else self._array.shape[dim]

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self._array.ndim

    @property
    def T(self) -> Tensor:
        """A view with the dimensions in reverse order."""
        return self.permute(tuple(range(self._array.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """A view with the last two dimensions swapped."""
        return self.transpose(-2, -1)

    @property
    def mH(self) -> Tensor:
        """The adjoint: a view with the last two dimensions swapped, for numbers that are all real."""
        return self.adjoint()

    @property
    def H(self) -> Tensor:
        """The adjoint of a matrix: a view with its dimensions swapped, for numbers that are all real."""
        if self._array.ndim not in (0, 2):
            raise RuntimeError(
                f"tensor.H is only supported on matrices (2-D tensors). Got {self._array.ndim}-D tensor; use .mH for"
                " batches."
            )
        return self.T

    @property
    def real(self) -> Tensor:
        """The tensor itself, as all numbers are real."""
        return self

    def numel(self) -> int:
        """Return the number of elements."""
        return int(self._array.size)

    nelement = numel
    ndimension = dim

    @property
    def itemsize(self) -> int:
        """The size of one element in bytes."""
        return self._array.itemsize

    def element_size(self) -> int:
        """Return the size of one element in bytes."""
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        """The size of all elements in bytes."""
        return self._array.size * self._array.itemsize

    @overload
    def stride(self) -> tuple[int, ...]: ...
    @overload
    def stride(self, dim: int) -> int: ...
    def stride(self, dim: int | None = None) -> Any:
        """Return how many elements apart neighbours along each dimension are."""
        strides = tuple(step // self._array.itemsize for step in self._array.strides)
        return strides if dim is None else strides[dim]

    def storage_offset(self) -> int:
        """Return how many elements lie before the first one in the memory that the tensor sees."""
        return self.device.xp.storage_offset(self._array)

    def is_contiguous(self) -> bool:
        """Return whether the elements lie in memory in row-major order without gaps."""
        return bool(self._array.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        """Return whether the elements are floating point numbers."""
        return self._array.dtype.kind == "f"

    def data_ptr(self) -> int:
        """Return the address of the first element."""
        return self._array.__array_interface__["data"][0] if self.device is CPU else self._array.data.ptr

    @property
    def is_cpu(self) -> bool:
        """Whether the tensor lives in the host's memory."""
        return self.device is CPU

    @property
    def is_cuda(self) -> bool:
        """Whether the tensor lives on a GPU."""
        return self.device.type == "cuda"

    # ------------------------------------------------------------------------------------------- autograd

    def _refresh(self) -> None:
        """Derive the history of a view anew if its memory was written since (Note [Views and in-place])."""
        view = self._view
        if view is None:
            return
        base = view.base
        if self._edge is None:
            self._requires_grad = view.requires_grad or base._requires_grad
            if not base._requires_grad:
                return
        try:
            version = self._cell.number  # type: ignore[union-attr]  # a view has a cell
        except InferenceError:
            return
        if view.version == version:
            return
        if view.refusal is not None:
            if is_grad_enabled():
                raise refused(self, True)
            return
        known = base._requires_grad
        source = base if known else from_array(base._array, base.device, True)  # a base that was detached since
        token = set_recording(True)
        try:
            edge = source.as_strided(*geometry(self))._edge
        finally:
            restore_recording(token)
        if edge is not None and not known:
            edge[0].edges = (None,)
        self._set_history(edge)
        view.version = version

    def _set_history(self, edge: Edge | None) -> None:
        """Move to another place in the graph; `retain_grad()` stays in force."""
        before = self._edge
        self._edge, self._requires_grad = edge, edge is not None
        if before is not None and edge is not None and before[0]._hooks is not None:
            keep = before[0]._hooks.retain.pop(before[1], None)
            if keep is not None:
                edge[0]._ensure_hooks().retain[edge[1]] = keep

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded; can be set on leaves."""
        if self._view is not None and self._edge is None:
            return self._view.requires_grad or self._view.base._requires_grad
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switch recording of operations on this leaf on or off; return the tensor itself."""
        if self.grad_fn is not None and not requires_grad:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a"
                " subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        if requires_grad and self._array.dtype.kind != "f":
            raise RuntimeError(
                f"only Tensors of floating point dtype can require gradients, this one is {self.dtype}; convert it with"
                " .float()"
            )
        if requires_grad and self._cell is INFERENCE and not is_inference_mode_enabled():
            raise RuntimeError(
                "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed: take a clone()"
                " of it."
            )
        self._requires_grad = requires_grad
        if self._view is not None:
            self._view.requires_grad = requires_grad
        return self

    @property
    def grad_fn(self) -> Node | None:
        """The node that computed this tensor, None for a leaf."""
        if self._view is not None:
            token = set_recording(True)
            try:
                self._refresh()
            finally:
                restore_recording(token)
        return None if self._edge is None else self._edge[0]

    @property
    def output_nr(self) -> int:
        """Which of its node's outputs this tensor is."""
        return 0 if self._edge is None else self._edge[1]

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was made by the user rather than by a recorded operation."""
        return self.grad_fn is None

    def detach(self) -> Tensor:
        """Return a tensor that shares memory and version but has no history and records nothing."""
        result = from_array(self._array, self.device)
        result._cell = self._version_cell()
        return result

    def detach_(self) -> Tensor:
        """Forget the history of this tensor in place."""
        if self._view is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._edge, self._requires_grad = None, False
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` accumulated in this leaf, or None; can be set.

        Raises:
            TypeError: what is assigned is no tensor.
            RuntimeError: its shape, dtype or device is not that of this tensor.
        """
        if self._grad is None and self._edge is not None and not self.retains_grad:
            warnings.warn(UNPOPULATED, UserWarning, stacklevel=2)
        return self._grad

    @grad.setter
    def grad(self, grad: Tensor | None) -> None:
        if grad is not None:
            self._check_grad(grad)
        self._grad = grad

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def _check_grad(self, grad: Any) -> None:
        """Raise unless a tensor can be the gradient of this one."""
        if not isinstance(grad, Tensor):
            raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(grad).__name__}")
        if grad is self:
            raise RuntimeError("can't assign Variable as its own grad")
        if grad._array.shape != self._array.shape:
            raise RuntimeError(
                f"attempting to assign a gradient of size {list(grad.shape)} to a tensor of size {list(self.shape)}."
                " Please ensure that the gradient and the tensor are the same size"
            )
        if grad._array.dtype != self._array.dtype:
            raise RuntimeError(
                f"attempting to assign a gradient with dtype {grad.dtype} to a tensor with dtype {self.dtype}. Please"
                " ensure that the gradient and the tensor have the same dtype"
            )
        if grad.device is not self.device:
            raise RuntimeError(
                f"attempting to assign a gradient located on device {grad.device} to a tensor located on device"
                f" {self.device}. Please ensure that the gradient and the tensor are on the same device"
            )

    def _accumulate(self, grad: Any, owned: bool) -> None:
        """Add an array to `grad`; an array that nobody else holds is taken without a copy."""
        device = self.device
        with ACCUMULATING:
            before = self._grad
            if before is not None:
                device.xp.add_into(before._array, grad)
                before._bump_version("accumulation")
                return
            leaf: Any = None if self._leaf is None else self._leaf[0]
            place = None if leaf is None else leaf.place
            if place is None or place._array is not leaf.memory or place._array.shape != self._array.shape:
                self._grad = from_array(device.xp.asarray(grad) if owned else device.xp.array(grad), device)
                return
            device.xp.write(place._array, grad)
            place._cell.number += 1
            if place._requires_grad:  # somebody wrote a recorded value to the gradient before this one
                place._set_history(None)
            self._grad = place

    def _accumulate_recorded(self, grad: Tensor) -> None:
        """Add a tensor with history to `grad`, out of place."""
        with ACCUMULATING:
            self._grad = grad.clone() if self._grad is None else self._grad + grad

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in `.grad` at the next backward."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self._edge is None or self.retains_grad:
            return
        node, output_nr = self._edge
        reference = weakref.ref(self)

        def keep(gradient: Tensor) -> None:
            tensor = reference()
            if tensor is not None:
                tensor._accumulate_recorded(gradient)

        node._ensure_hooks().retain[output_nr] = keep

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad()` is in force."""
        if self.grad_fn is None:
            return False
        assert self._edge is not None
        node, output_nr = self._edge
        return node._hooks is not None and output_nr in node._hooks.retain

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(grad)` whenever the gradient of this tensor is computed; what it returns replaces it.

        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> handle = x.register_hook(lambda grad: grad * 10)
        >>> (x * 2).backward()
        >>> x.grad
        tensor(20.)
        """
        edge = gradient_edge(self)
        if edge is None:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        return edge[0]._add_hook("tensor", (edge[1], hook))

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], Any]) -> RemovableHandle:
        """Call `hook(tensor)` after every backward pass that added to the `.grad` of this leaf (Note [Hooks]).

        The hook runs as soon as the gradient is complete, while the backward pass goes on: it can take an optimizer
        step and drop the gradient, so that all gradients are never in memory together. What it returns is ignored.

        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> handle = x.register_post_accumulate_grad_hook(lambda leaf: leaf.sub_(0.5 * leaf.grad))
        >>> (x * 2).backward()
        >>> x
        tensor(2., requires_grad=True)
        """
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self._edge is not None:
            raise RuntimeError(
                "post accumulate grad hooks cannot be registered on non-leaf tensors: no gradient is accumulated there."
                " Use register_hook() for the gradient of this tensor."
            )
        edge = leaf_edge(self)
        if edge is None:
            raise RuntimeError("cannot register a hook on a view that requires grad only because its base does")
        return edge[0]._add_hook("accumulated", hook)

    # ------------------------------------------------------------------------------------------- versions

    @property
    def _version(self) -> int:
        """How often the memory was written in place."""
        if self._cell is INFERENCE:
            raise RuntimeError("Inference tensors do not track version counter.")
        return 0 if self._cell is None else self._cell.number

    def _version_cell(self) -> Version:
        if self._cell is None:
            self._cell = Version()
        return self._cell

    def _bump_version(self, writer: str = "a write", depth: int = 2) -> None:
        """Note that the memory was written, and by which line outside the library."""
        cell = self._version_cell()
        try:
            cell.number += 1
        except InferenceError:
            raise RuntimeError(
                f"{writer}: Inplace update to inference tensor outside InferenceMode is not allowed. You can make a"
                " clone to get a normal tensor before doing inplace update."
            ) from None
        cell.writer = writer, *user_line(sys._getframe(depth))

    @property
    def _base(self) -> Tensor | None:
        return None if self._view is None else self._view.base

    def _is_view(self) -> bool:
        return self._view is not None

    def is_inference(self) -> bool:
        """Return whether the tensor was made inside `inference_mode`, and not as a view of an ordinary one."""
        return self._cell is INFERENCE

    @property
    def data(self) -> Tensor:
        """The same memory as a tensor without history; assigning replaces the memory."""
        return from_array(self._array, self.device)

    @data.setter
    def data(self, value: Tensor) -> None:
        self._array, self.device = value._array, value.device
        if self._leaf is not None:
            self._leaf[0].device, self._leaf[0].place = value.device, None  # type: ignore[attr-defined]
        self._bump_version("an assignment to .data")

    # ------------------------------------------------------------------------------------------- to Python and NumPy

    def item(self) -> Any:
        """Return the value of a one-element tensor as a Python number."""
        if self._array.size != 1:
            raise RuntimeError(
                f"a Tensor with {self._array.size} elements cannot be converted to Scalar; it has shape"
                f" {tuple(self.shape)}"
            )
        return self.device.xp.to_numpy(self._array).item()

    def tolist(self) -> Any:
        """Return the values as nested lists of Python numbers."""
        return self.device.xp.to_numpy(self._array).tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """Return a NumPy array that shares the tensor's memory.

        Args:
            force: do `detach().cpu()` first where it is needed.
        """
        if not force:
            if self.device is not CPU:
                raise TypeError(
                    f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to"
                    " host memory first."
                )
            if self.requires_grad:
                raise RuntimeError(
                    "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
                )
        return self.device.xp.to_numpy(self._array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Answer NumPy's functions of elements: operators as tensors do, recorded,
        anything else on the arrays, without history.

        `array * tensor` arrives here as `np.multiply(array, tensor)`; if NumPy answered, the graph would be lost
        silently.
        """
        if ufunc in OPERATORS and method == "__call__" and not options:
            return OPERATORS[ufunc](*[_operand(value) for value in inputs])
        if any(isinstance(value, Tensor) for value in (*options.get("out", ()), *inputs[: method == "at"])):
            raise TypeError(
                f"np.{ufunc.__name__} writes to arrays, not to tensors; write to tensor.numpy(), or use the tensor's"
                " own methods"
            )
        arrays = [value.numpy() if isinstance(value, Tensor) else value for value in inputs]
        options = {name: value.numpy() if isinstance(value, Tensor) else value for name, value in options.items()}
        result = getattr(ufunc, method)(*arrays, **options)
        if "out" in options:
            return result
        return tuple([_result(part) for part in result]) if isinstance(result, tuple) else _result(result)

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise RuntimeError(
                f"Boolean value of Tensor with {self._array.size} elements is ambiguous; use .any() or .all(), shape"
                f" {tuple(self.shape)}"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._array.dtype.kind == "f" or self._array.size != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        if self._array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self._array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self._array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self, element: Any) -> bool:
        if not isinstance(element, Tensor | bool | int | float | np.ndarray | np.generic):
            raise RuntimeError(
                f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element).__name__}"
            )
        found: Any = self == element
        return bool(found.any().item())

    def __repr__(self) -> str:
        return formatting.tensor_repr(self)

    def __format__(self, spec: str) -> str:
        if self._array.ndim == 0:
            return format(self.item(), spec)
        return object.__format__(self, spec)

    __copy__ = shallow_copy  # Note [Copies and pickles]
    __deepcopy__ = deep_copy

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return take_apart(self, protocol)


def from_array(array: Any, device: Device = CPU, requires_grad: bool = False) -> Tensor:
    """Return a leaf around a raw array of the device, sharing its memory."""
    result = new(Tensor)
    result._array = array
    result.device = device
    result._requires_grad = requires_grad
    result._grad = result._edge = result._cell = result._view = result._leaf = None
    return result


def from_ndarray(array: np.ndarray[Any, Any]) -> Tensor:
    """Return a tensor that shares the memory of a NumPy array; raise TypeError for a dtype that tensors do not have."""
    if array.dtype in DTYPES:
        return from_array(array)
    return from_array(array.astype(dtypes.from_numpy_dtype(array.dtype).numpy))


OPERATORS: dict[np.ufunc, Callable[..., Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.true_divide: operator.truediv,
    np.floor_divide: operator.floordiv,
    np.remainder: operator.mod,
    np.power: operator.pow,
    np.matmul: operator.matmul,
    np.bitwise_and: operator.and_,
    np.bitwise_or: operator.or_,
    np.bitwise_xor: operator.xor,
    np.left_shift: operator.lshift,
    np.right_shift: operator.rshift,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
}
"""NumPy's functions behind the operators of its arrays."""


def _operand(value: Any) -> Any:
    """Return an operand of one of `OPERATORS` as a tensor or a Python number, which hand nothing back to NumPy."""
    if isinstance(value, np.ndarray):
        return from_ndarray(value)
    return value.item() if isinstance(value, np.generic) else value


def _result(value: Any) -> Any:
    """Return what NumPy computed as a tensor, if tensors can hold it."""
    return from_array(np.asarray(value)) if getattr(value, "dtype", None) in DTYPES else value


def clear_grad(tensor: Tensor, set_to_none: bool) -> None:
    """Forget the gradient of a tensor, or fill with zeros what holds it: others that refer to it see them."""
    grad = None if set_to_none else tensor.grad
    if grad is None:
        tensor._grad = None  # the slot: reading and setting .grad is checked
    elif grad.grad_fn is None:
        grad.requires_grad_(False).zero_()
    else:
        grad.detach_().zero_()


def gradient_edge(tensor: Tensor) -> Edge | None:
    """Return the edge to which a tensor's gradient flows; None if it does not require grad."""
    if tensor._view is not None:
        tensor._refresh()
    if not tensor._requires_grad:
        return None
    return tensor._edge or leaf_edge(tensor)


def leaf_edge(tensor: Tensor) -> Edge | None:
    """Return the edge to a leaf's AccumulateGrad, made at the first use.

    A view without history that requires grad only because its base does gathers no gradient, as in PyTorch: None.
    """
    if tensor._view is not None and not tensor._view.requires_grad:
        return None
    with ACCUMULATING:  # two threads that use a leaf for the first time must find the same node
        if tensor._leaf is None:
            tensor._leaf = AccumulateGrad(tensor), 0
        return tensor._leaf
