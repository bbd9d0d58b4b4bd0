"""The copy and pickle protocols of tensors: methods of Tensor, which need nothing else of it.

Note [Copies and pickles]
~~~~~~~~~~~~~~~~~~~~~~~~~
Only leaves can be copied: a history would have to be copied with everything it refers to. A shallow copy is another leaf
over the same memory. A deep copy has memory and gradient of its own. A pickle holds the plain array, on the host, with
the device and whether the leaf requires grad; gradient and hooks stay behind, as in PyTorch. Unlike there, memory that
several tensors share is copied or pickled once per tensor; one tensor that occurs several times, such as a tied weight,
stays one. Modules and optimizers need no more than that: their other attributes are ordinary Python objects.

A pickle can run any code when it is loaded. This package takes objects apart and puts them together where Python's
``copy``, ``multiprocessing`` or joblib asks for it, but never loads a pickle: `load` reads safetensors only.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from nanotorch.backend.device import CPU, Device

if TYPE_CHECKING:
    from nanotorch.autograd.tensor import Tensor

__all__ = ["deep_copy", "rebuild", "shallow_copy", "take_apart"]


def shallow_copy(tensor: Tensor) -> Tensor:
    """Make another leaf over the same memory, with the same version."""
    _check_leaf(tensor, "copy")
    result: Tensor = object.__new__(type(tensor))
    result._set(tensor._array, tensor.device, tensor._requires_grad)
    result._cell = tensor._version_cell()
    _adopt_attributes(result, getattr(tensor, "__dict__", None))
    return result


def deep_copy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Copy a leaf with its memory and gradient; history cannot be copied."""
    _check_leaf(tensor, "deepcopy")
    if id(tensor) in memo:
        return memo[id(tensor)]
    result: Tensor = object.__new__(type(tensor))
    memo[id(tensor)] = result
    result._set(tensor._array.copy(), tensor.device, tensor._requires_grad)
    if tensor._grad is not None:
        result._grad = deep_copy(tensor._grad, memo)
    _adopt_attributes(result, copy.deepcopy(getattr(tensor, "__dict__", None), memo))
    return result


def take_apart(tensor: Tensor, protocol: Any) -> tuple[Any, ...]:
    """Take a leaf apart for pickle: its array on the host, its device, and whether it requires grad."""
    _check_leaf(tensor, "pickle")
    hooks = None if tensor._leaf is None else tensor._leaf[0]._hooks
    if hooks is not None and (hooks.tensor or hooks.accumulated):
        warnings.warn(f"the backward hooks on a tensor of shape {tuple(tensor.shape)} will not be serialized", UserWarning, stacklevel=2)
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
            f"Only Tensors created explicitly by the user (graph leaves) support the {protocol} protocol at the moment; "
            f"this is a non-leaf tensor, the result of {node.name()} with shape {tuple(tensor.shape)}: use .detach() first."
        )


def _adopt_attributes(tensor: Tensor, attributes: dict[str, Any] | None) -> None:
    """Give a copy the attributes that a subclass without ``__slots__`` allows."""
    if attributes:
        tensor.__dict__.update(attributes)
