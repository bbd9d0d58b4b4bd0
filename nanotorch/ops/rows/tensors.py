"""The TENSOR column of the table of primitives: the `xp` of formulas that are recorded (Note [Array primitives]).

The files of the op rows fill it, each beside the row that does the work: a row or composite that is the primitive as it
stands is decorated, for the others a function says in which words the row is called. Here stand those that need no row,
for there is nothing to differentiate.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import Device
from nanotorch.backend.primitives import Column, Namespace
from nanotorch.dtypes import DType

TENSOR: Column = Column()

MAKERS = ("arange", "eye", "ones", "zeros")


def raw(value: Any) -> Any:
    """Return what arrays are computed with in place of a tensor, a dtype, or a tuple of them."""
    if isinstance(value, tuple):
        return tuple(raw(part) for part in value)
    return value._array if isinstance(value, Tensor) else value.numpy if isinstance(value, DType) else value


def _constant(name: str) -> Callable[..., Any]:
    """Return the array primitive of this name on tensors: nothing is recorded, the result is a constant."""

    def constant(*args: Any, device: Device | None = None, **options: Any) -> Any:
        place = args[0].device if device is None else device
        found = getattr(place.xp, name)(*map(raw, args), **{key: raw(value) for key, value in options.items()})
        return found if found is None or isinstance(found, bool) else from_array(found, place)

    return constant


for _name in (*MAKERS, "zeros_like", "ones_like", "one_hot", "all_in_range", "holds"):
    TENSOR.define(_name)(_constant(_name))
TENSOR.define("iadd")(operator.add)  # whoever records keeps both operands


_namespaces: dict[Device, Namespace] = {}


def namespace(device: Device) -> Any:
    """Return the column as an object whose makers put their tensors on a device."""
    if device not in _namespaces:
        _namespaces[device] = made = Namespace(TENSOR)
        for name in MAKERS:
            setattr(made, name, partial(TENSOR[name], device=device))
    return _namespaces[device]
