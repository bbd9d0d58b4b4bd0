"""The copy and pickle protocols of tensors: methods of Tensor, which need nothing else of it.

Note [Copies and pickles]
~~~~~~~~~~~~~~~~~~~~~~~~~
Only leaves can be copied: a history would have to be copied with everything it refers to. A shallow copy is another
leaf over the same memory. A deep copy has memory and gradient of its own, and tensors that share memory share the copy
of it, which is one of the whole memory: a view's copy shows what is written to that of its base, and a saved value
notices (there PyTorch forgets the version that they have in common). A Parameter's copy is alone, as there. A pickle
holds the plain array, on the host, with the device and whether the leaf requires grad; gradient and hooks stay behind,
as in PyTorch, and memory that several tensors share is pickled once per tensor. One tensor that occurs several times,
such as a tied weight, stays one. Modules and optimizers need no more than that: their other attributes are ordinary
Python objects.

A pickle can run any code when it is loaded. This package takes objects apart and puts them together where Python's
`copy`, `multiprocessing` or joblib asks for it, but never loads a pickle: `load` reads safetensors only.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from nanotorch.autograd.graph.version import Version
from nanotorch.autograd.graph.view import geometry
from nanotorch.backend.device import CPU, Device

if TYPE_CHECKING:
    from nanotorch.autograd.graph.tensor import Tensor


def shallow_copy(tensor: Tensor) -> Tensor:
    """Make another leaf over the same memory, with the same version."""
    _check_leaf(tensor, "copy")
    result: Tensor = object.__new__(type(tensor))
    result._set(tensor._array, tensor.device, tensor._requires_grad)
    result._cell = tensor._version_cell()
    _adopt_attributes(result, getattr(tensor, "__dict__", None))
    return result


def deep_copy(tensor: Tensor, memo: dict[Any, Any], alone: bool = False) -> Tensor:
    """Copy a leaf with its memory, unless it is to be alone the whole that others may see, and its gradient;
    history cannot be copied.
    """
    _check_leaf(tensor, "deepcopy")
    if id(tensor) in memo:
        return memo[id(tensor)]
    result: Tensor = object.__new__(type(tensor))
    memo[id(tensor)] = result
    result._set(
        tensor._array.copy(order="K") if alone else _copied_part(tensor, memo), tensor.device, tensor._requires_grad
    )
    if not alone and tensor._cell is not None:
        result._cell = memo.setdefault(("version", id(tensor._cell)), Version())
    if tensor._grad is not None:
        result._grad = deep_copy(tensor._grad, memo, alone)
    _adopt_attributes(result, copy.deepcopy(getattr(tensor, "__dict__", None), memo))
    return result


def _copied_part(tensor: Tensor, memo: dict[Any, Any]) -> Any:
    """Return a tensor's part of the copy of the memory that it lies in."""
    array, xp = tensor._array, tensor.device.xp
    width, count, (size, stride, offset) = array.itemsize, xp.storage_size(array), geometry(tensor)
    start = tensor.data_ptr() - offset * width
    whole = memo.get(("memory", tensor.device, start))
    if whole is None or whole.size < count * width:
        whole = xp.view_strided(array, (count,), (1,), 0).copy().view(np.uint8)
        memo["memory", tensor.device, start] = whole
    return xp.view_strided(whole[: count * width].view(array.dtype), size, stride, offset)


def take_apart(tensor: Tensor, protocol: Any) -> tuple[Any, ...]:
    """Take a leaf apart for pickle: its array on the host, its device, and whether it requires grad."""
    _check_leaf(tensor, "pickle")
    hooks = None if tensor._leaf is None else tensor._leaf[0]._hooks
    if hooks is not None and (hooks.tensor or hooks.accumulated):
        warnings.warn(
            f"the backward hooks on a tensor of shape {tuple(tensor.shape)} will not be serialized",
            UserWarning,
            stacklevel=2,
        )
    array = tensor.device.xp.to_numpy(tensor._array)
    return rebuild, (type(tensor), array, tensor.device, tensor._requires_grad), getattr(tensor, "__dict__", None)


def rebuild(cls: type[Tensor], array: np.ndarray[Any, Any], device: Device, requires_grad: bool) -> Tensor:
    """Put a tensor together that `take_apart` took apart; it goes back to its device.

    An array that cannot be written to is copied: joblib gives memory maps of large arrays to its workers.
    """
    array = np.require(array, array.dtype.newbyteorder("="), ("W", "E"))
    result: Tensor = object.__new__(cls)
    result._set(array if device is CPU else device.xp.receive(array, device), device, requires_grad)
    return result


def _check_leaf(tensor: Tensor, protocol: str) -> None:
    node = tensor.grad_fn
    if node is not None:
        raise RuntimeError(
            f"Only Tensors created explicitly by the user (graph leaves) support the {protocol} protocol at the moment;"
            f" this is a non-leaf tensor, the result of {node.name()} with shape {tuple(tensor.shape)}: use .detach()"
            " first."
        )


def _adopt_attributes(tensor: Tensor, attributes: dict[str, Any] | None) -> None:
    """Give a copy the attributes that a subclass without `__slots__` allows."""
    if attributes:
        tensor.__dict__.update(attributes)
