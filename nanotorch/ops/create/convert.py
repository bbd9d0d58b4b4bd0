"""Conversions of dtype and device."""

from __future__ import annotations

import builtins
from typing import Any, overload

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.grad_mode import announce, is_grad_enabled
from nanotorch.autograd.graph.node import Edge, Node
from nanotorch.autograd.graph.tensor import Tensor, from_array, gradient_edge
from nanotorch.backend.device import Device
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.tensors import TENSOR


@op(
    self=lambda xp, grad, self_dtype: xp.astype(grad, self_dtype) if grad.dtype != self_dtype else grad,
    where="internal",
    node="ToCopyBackward0",
    widens=False,
)
def _cast(xp: Any, self: Array, dtype: Any, self_dtype: Any) -> Array:
    """A copy with another dtype."""
    return xp.astype(self, dtype)


NAMES = {*dtypes.ABSENT, *(d.name for d in dtypes.DTYPES.values())}


def result_type(tensor1: Any, tensor2: Any) -> dtypes.DType:
    """Return the dtype of an operation over two tensors or numbers (Note [Type promotion]).

    >>> torch.result_type(torch.tensor([1, 2], dtype=torch.int8), 1.5)
    torch.float32
    """
    tensor1, tensor2 = (value.item() if isinstance(value, np.generic) else value for value in (tensor1, tensor2))
    for operand in (tensor1, tensor2):
        if not isinstance(operand, Tensor | builtins.bool | builtins.int | builtins.float):
            raise TypeError(f"result_type(): operands must be Tensor or Number, not {builtins.type(operand).__name__}")
    return dtypes.result_dtype([tensor1, tensor2])


def to_dtype(input: Tensor, dtype: dtypes.DType) -> Tensor:
    """Return the tensor with another dtype; itself if it has that one. Integers and booleans have no history."""
    if input.dtype is dtype:
        return input
    source = input.detach() if input.requires_grad and not dtype.is_floating_point else input
    return _cast(source, dtype.numpy, input.dtype.numpy)


@TENSOR.define("astype")
def _astype(x: Tensor, dtype: Any) -> Tensor:
    return to_dtype(x, dtype if isinstance(dtype, dtypes.DType) else dtypes.from_numpy_dtype(dtype))


class ToDeviceBackward0(Node):
    """The history of a tensor that was copied to another device: its gradient travels back."""

    __slots__ = ("source",)

    def __init__(self, source: Device, target: Device, edge: Edge) -> None:
        super().__init__(target, (edge,))
        self.source = source

    def name(self) -> str:
        """Return PyTorch's name of the node."""
        return "ToCopyBackward0"

    def apply(self, grad: Any, wanted: Any = None) -> tuple[Any, ...]:
        """Copy the gradient to the source device."""
        return (self.source.xp.receive(grad, self.source),)

    def apply_recorded(self, grad: Tensor, wanted: Any = None) -> tuple[Any, ...]:
        """Copy the gradient to the source device, recording."""
        return (to_device(grad, self.source),)

    def release(self) -> None:
        """Keep everything: nothing is saved."""


def to_device(input: Tensor, target: Device) -> Tensor:
    """Return the tensor on another device; itself if it is there."""
    if input.device is target:
        return input
    result = from_array(target.xp.receive(input._array, target), target)
    edge = gradient_edge(input)
    if edge is not None and is_grad_enabled():
        node = ToDeviceBackward0(input.device, target, edge)
        result._edge, result._requires_grad = (node, 0), True
        announce(node)
    return result


@composite(where="method")
def to(
    input: Tensor,
    *args: Any,
    dtype: dtypes.DType | builtins.type | str | None = None,
    device: Device | str | None = None,
    copy: builtins.bool = False,
    non_blocking: builtins.bool = False,
) -> Tensor:
    """The tensor with another dtype, device, or those of another tensor; itself where nothing changes."""
    for argument in args:
        if isinstance(argument, dtypes.DType | builtins.type) or (isinstance(argument, str) and argument in NAMES):
            dtype = argument
        elif isinstance(argument, Tensor):
            dtype, device = argument.dtype, argument.device
        elif isinstance(argument, str | Device):
            device = argument
        elif not isinstance(argument, builtins.bool):
            raise TypeError(f"to: expected a dtype, a device or a Tensor, got {argument!r}")
    result = input
    if dtype is not None:
        result = to_dtype(result, dtypes.need_dtype("to", dtype))
    if device is not None:
        result = to_device(result, Device(device))
    return result.clone() if copy and result is input else result


@composite(where="method")
def cpu(input: Tensor) -> Tensor:
    """The tensor in host memory."""
    return to_device(input, Device("cpu"))


@composite(where="method")
def cuda(input: Tensor, device: Device | str | None = None) -> Tensor:
    """The tensor on a GPU, the first unless `device` says which."""
    return to_device(input, Device("cuda", device) if isinstance(device, builtins.int) else Device(device or "cuda"))


TYPE_NAMES = {
    "float16": "Half",
    "float32": "Float",
    "float64": "Double",
    "int8": "Char",
    "int16": "Short",
    "int32": "Int",
    "int64": "Long",
    "uint8": "Byte",
    "bool": "Bool",
}


@overload
def type(input: Tensor) -> str: ...
@overload
def type(input: Tensor, dtype: dtypes.DType | builtins.type | str) -> Tensor: ...
@composite(where="method")
def type(input: Tensor, dtype: Any = None) -> Any:
    """The tensor with another dtype, which may be named `torch.FloatTensor`;
    without an argument the name of its type.
    """
    if isinstance(dtype, str) and dtype.startswith("torch."):
        name = dtype.removeprefix("torch.").removesuffix("Tensor")
        dtype = next((known for known, title in TYPE_NAMES.items() if title == name), name.lower())
        dtype = (
            getattr(dtypes, dtype + "_" * (dtype == "bool"))
            if dtype in TYPE_NAMES
            else dtypes.need_dtype("type", dtype)
        )
    if dtype is not None:
        return to_dtype(input, dtypes.need_dtype("type", dtype))
    return f"torch.{'cuda.' if input.is_cuda else ''}{TYPE_NAMES[input.dtype.name]}Tensor"


@composite(where="method")
def type_as(input: Tensor, other: Tensor) -> Tensor:
    """The tensor with the dtype of another."""
    return to_dtype(input, other.dtype)


@composite(where="method")
def float(input: Tensor) -> Tensor:
    """The tensor as float32."""
    return to_dtype(input, dtypes.float32)


@composite(where="method")
def double(input: Tensor) -> Tensor:
    """The tensor as float64."""
    return to_dtype(input, dtypes.float64)


@composite(where="method")
def half(input: Tensor) -> Tensor:
    """The tensor as float16."""
    return to_dtype(input, dtypes.float16)


@composite(where="method")
def long(input: Tensor) -> Tensor:
    """The tensor as int64."""
    return to_dtype(input, dtypes.int64)


@composite(where="method")
def int(input: Tensor) -> Tensor:
    """The tensor as int32."""
    return to_dtype(input, dtypes.int32)


@composite(where="method")
def short(input: Tensor) -> Tensor:
    """The tensor as int16."""
    return to_dtype(input, dtypes.int16)


@composite(where="method")
def char(input: Tensor) -> Tensor:
    """The tensor as int8."""
    return to_dtype(input, dtypes.int8)


@composite(where="method")
def byte(input: Tensor) -> Tensor:
    """The tensor as uint8."""
    return to_dtype(input, dtypes.uint8)


@composite(where="method")
def bool(input: Tensor) -> Tensor:
    """The tensor as booleans: whether elements are non-zero."""
    return to_dtype(input, dtypes.bool_)


@composite(where="method")
def bfloat16(input: Tensor) -> Tensor:
    """Raise TypeError, which says why there are no such numbers."""
    return to(input, dtype="bfloat16")
