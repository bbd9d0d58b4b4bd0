"""What `Module.load_state_dict` does: compare everything first, then copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.dtypes import from_numpy_dtype
from nanotorch.nn.parameter import Parameter

EXTRA_STATE = "_extra_state"
"""The last part of the key of what `Module.get_extra_state` gives."""


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found only on one side."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def load_state_dict(
    modules: list[tuple[str, Any]], state_dict: Mapping[str, Any], strict: bool, assign: bool
) -> IncompatibleKeys:
    """Copy or assign values to the parameters and persistent buffers of the same names.

    Args:
        modules: a module and those inside with their paths, also those that occur twice; the path of the first is "".
        state_dict: the values by path and name.
        strict: raise for names that are only on one side.
        assign: put the values in the place of the parameters and buffers.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"a state_dict is a dict, got {type(state_dict).__name__}")
    state_dict = dict(state_dict)
    found = IncompatibleKeys([], [])
    errors: list[str] = []
    for path, part in modules:
        for hook in () if part._hooks is None else tuple(part._hooks.load_pre.values()):
            hook(part, state_dict, f"{path}." if path else "", {}, True, *found, errors)
    own = _members(modules)
    found.missing_keys.extend([key for key in own if key not in state_dict])
    found.unexpected_keys.extend([key for key in state_dict if key not in own])
    values = _fitting(own, state_dict, errors)
    after = [
        (part, hook) for _, part in reversed(modules) if part._hooks is not None for hook in part._hooks.load.values()
    ]
    if not after:
        errors = _wrong_keys(found, strict) + errors
    if not errors:
        _write(dict(modules), own, values, assign)
        for part, hook in after:  # they may strike keys off the lists
            if hook(part, found) is not None:
                raise RuntimeError("a load_state_dict post-hook changes the lists of keys in place and returns None")
        errors = _wrong_keys(found, strict)
    if errors:
        raise RuntimeError(
            "\n\t".join([f"Error(s) in loading state_dict for {type(modules[0][1]).__name__}:", *errors])
        )
    return found


def _members(modules: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the parameters and persistent buffers by dotted name,
    and the modules that have a state beside them, by its name.
    """
    own: dict[str, Any] = {}
    for path, part in modules:
        prefix, attributes = f"{path}." if path else "", part.__dict__
        persistent = [name for name, kept in attributes["_buffer_names"].items() if kept]
        names = [*attributes["_parameter_names"], *persistent]
        own |= {prefix + name: attributes[name] for name in names if attributes[name] is not None}
        if part._has_extra_state():
            own[prefix + EXTRA_STATE] = part
    return own


def _fitting(own: Mapping[str, Any], state_dict: Mapping[str, Any], errors: list[str]) -> dict[str, Any]:
    """Return the values of a state dict as tensors of the right shapes; what does not fit goes to `errors`."""
    values: dict[str, Any] = {}
    for key, former in own.items():
        if key not in state_dict:
            continue
        if not isinstance(former, Tensor):
            values[key] = state_dict[key]
            continue
        try:
            values[key] = _as_tensor(state_dict[key])
        except TypeError as error:
            errors.append(f"value of {key} is a {type(state_dict[key]).__name__}: {error}.")
            continue
        if values[key].shape != former.shape:
            errors.append(
                f"size mismatch for {key}: {tuple(values[key].shape)} in the state_dict, {tuple(former.shape)} in this"
                " model."
            )
    return values


def _wrong_keys(found: IncompatibleKeys, strict: bool) -> list[str]:
    errors = []
    if strict and found.missing_keys:
        errors.append(f"Missing key(s) in state_dict: {_quoted(found.missing_keys)}.")
    if strict and found.unexpected_keys:
        errors.append(f"Unexpected key(s) in state_dict: {_quoted(found.unexpected_keys)}.")
    return errors


def _write(modules: Mapping[str, Any], own: Mapping[str, Any], values: Mapping[str, Any], assign: bool) -> None:
    with no_grad():
        for key, given in values.items():
            if not isinstance(own[key], Tensor):
                own[key].set_extra_state(given)
            elif assign:
                path, _, name = key.rpartition(".")
                setattr(modules[path], name, _in_place_of(own[key], given))
            else:
                own[key].copy_(given)


def _as_tensor(value: Any) -> Tensor:
    """Return a value of a state dict: a tensor, or what converts itself to a NumPy array, such as PyTorch's tensors."""
    if isinstance(value, Tensor):
        return value
    if not hasattr(value, "__array__"):
        raise TypeError("not a tensor or an array")
    array = np.asarray(value)
    from_numpy_dtype(array.dtype)
    return from_array(array)


def _in_place_of(former: Tensor, given: Tensor) -> Tensor:
    """Return the tensor itself, made a parameter that requires grad as the former one does, if that was one."""
    if not isinstance(former, Parameter):
        return given
    parameter = given if isinstance(given, Parameter) else Parameter(given.detach(), requires_grad=False)
    parameter.requires_grad_(former.requires_grad)
    return parameter


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
