"""What `Module.load_state_dict` does: compare everything first, then copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nanotorch.autograd.grad_mode import no_grad
from nanotorch.autograd.tensor import Tensor, from_array
from nanotorch.dtypes import from_numpy_dtype
from nanotorch.nn.parameter import Parameter

if TYPE_CHECKING:
    from nanotorch.nn.module import Module

__all__ = ["IncompatibleKeys", "load_state_dict"]


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found only on one side."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def load_state_dict(
    module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool
) -> IncompatibleKeys:
    """Copy or assign values to the parameters and persistent buffers of the same names."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"a state_dict is a dict, got {type(state_dict).__name__}")
    own = module.state_dict(keep_vars=True)
    found = IncompatibleKeys(
        [key for key in own if key not in state_dict], [key for key in state_dict if key not in own]
    )
    problems = []
    if strict and found.missing_keys:
        problems.append(f"Missing key(s) in state_dict: {_quoted(found.missing_keys)}.")
    if strict and found.unexpected_keys:
        problems.append(f"Unexpected key(s) in state_dict: {_quoted(found.unexpected_keys)}.")
    values: dict[str, Tensor] = {}
    for key in own:
        if key not in state_dict:
            continue
        try:
            values[key] = _as_tensor(state_dict[key])
        except TypeError as error:
            problems.append(f"value of {key} is a {type(state_dict[key]).__name__}: {error}.")
            continue
        if values[key].shape != own[key].shape:
            problems.append(
                f"size mismatch for {key}: {tuple(values[key].shape)} in the state_dict, "
                f"{tuple(own[key].shape)} in this model."
            )
    if problems:
        raise RuntimeError(
            "\n\t".join([f"Error(s) in loading state_dict for {type(module).__name__}:", *problems])
        )
    with no_grad():
        for key, given in values.items():
            if assign:
                path, _, name = key.rpartition(".")
                setattr(module.get_submodule(path), name, _in_place_of(own[key], given))
            else:
                own[key].copy_(given)
    return found


def _as_tensor(value: Any) -> Tensor:
    """A value of a state dict: a tensor, or what converts itself to a NumPy array, such as PyTorch's tensors."""
    if isinstance(value, Tensor):
        return value
    if not hasattr(value, "__array__"):
        raise TypeError("not a tensor or an array")
    array = np.asarray(value)
    from_numpy_dtype(array.dtype)
    return from_array(array)


def _in_place_of(former: Tensor, given: Tensor) -> Tensor:
    """The tensor itself, made a parameter that requires grad as the former one does, if that was one."""
    if not isinstance(former, Parameter):
        return given
    parameter = given if isinstance(given, Parameter) else Parameter(given.detach(), requires_grad=False)
    parameter.requires_grad_(former.requires_grad)
    return parameter


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
