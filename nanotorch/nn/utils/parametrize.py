"""Parametrizations: a parameter or buffer of a module that is computed, at every use, from others.

Note [Parametrized modules]
~~~~~~~~~~~~~~~~~~~~~~~~~~~
`register_parametrization(layer, "weight", f)` moves the weight to `layer.parametrizations.weight.original`, where
optimizers and state dicts find it, and gives this one layer a class of its own in which `weight` is a property: reading
it computes `f(original)`, so layers need to know nothing of it; writing it goes through `f.right_inverse` to the
original.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn.module import Module
from nanotorch.nn.modules.containers import ModuleDict, ModuleList
from nanotorch.nn.parameter import Parameter

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]

_cache: ContextVar[dict[tuple[int, str], Tensor] | None] = ContextVar("parametrizations", default=None)


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, applied in order, and what they start from:
    `original`, or `original0`, `original1` ...
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        super().__init__(modules)
        self.unsafe = unsafe
        self.is_tensor: bool = True
        self.ntensors: int = 1
        with no_grad():
            start: Any = original
            for module in reversed(modules):
                if hasattr(module, "right_inverse"):
                    start = module.right_inverse(start)
        if isinstance(start, Tensor):
            self._check("right_inverse", original, start)
            if start is not original:
                original.data = start.detach()
            self._keep("original", original)
        elif isinstance(start, Sequence) and all(isinstance(part, Tensor) for part in start):
            self.is_tensor, self.ntensors = False, len(start)
            for number, part in enumerate(start):
                kept = (
                    Parameter(part.detach(), original.requires_grad)
                    if isinstance(original, Parameter)
                    else part.detach()
                )
                self._keep(f"original{number}", kept)
        else:
            raise ValueError(
                "right_inverse of a parametrization returns a tensor or a sequence of tensors, got"
                f" {type(start).__name__}"
            )
        if not unsafe:
            self._check("a parametrization", original if self.is_tensor else start[0], self(), shape=self.is_tensor)

    def _keep(self, name: str, value: Tensor) -> None:
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        else:
            self.register_buffer(name, value)

    def _check(self, what: str, before: Tensor, after: Any, shape: bool = True) -> None:
        if not isinstance(after, Tensor):
            raise ValueError(f"{what} returns a tensor, got {type(after).__name__}")
        if after.dtype is not before.dtype:
            raise ValueError(f"{what} keeps the dtype: it made {after.dtype} of {before.dtype}")
        if shape and not self.unsafe and after.shape != before.shape:
            raise ValueError(
                f"{what} keeps the shape unless unsafe=True: it made {tuple(after.shape)} of {tuple(before.shape)}"
            )

    def _originals(self) -> list[Any]:
        names = ["original"] if self.is_tensor else [f"original{number}" for number in range(self.ntensors)]
        return [getattr(self, name) for name in names]

    def right_inverse(self, value: Tensor) -> None:
        """Write to the originals what gives this value."""
        with no_grad():
            start: Any = value
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"parametrization {type(module).__name__} does not implement right_inverse, so nothing can be"
                        " assigned"
                    )
                start = module.right_inverse(start)
            for original, part in zip(self._originals(), [start] if self.is_tensor else start, strict=True):
                original.data = part.detach()

    def forward(self) -> Any:
        """Return the value, computed from the originals."""
        modules = list(self)
        value = modules[0](*self._originals())
        for module in modules[1:]:
            value = module(value)
        return value


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Let a parameter or buffer be `parametrization(original)` from now on
    (Note [Parametrized modules]); returns the module.

    A tensor may have several, the last one registered is applied last. A parametrization with `right_inverse` starts
    from the original with which it gives the present value; one that returns several tensors gets them as arguments.
    With `unsafe` it may change the shape.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        found = module.parametrizations[tensor_name]  # type: ignore[attr-defined]
        found.unsafe = found.unsafe or unsafe
        before = getattr(module, tensor_name)
        found._check("a parametrization", before, parametrization(before))
        found.append(parametrization)
        return module
    original = module._parameters.get(tensor_name)
    if original is None:
        original = module._buffers.get(tensor_name)  # type: ignore[assignment]
    if original is None:
        raise ValueError(f"{type(module).__name__} has no parameter, buffer or parametrized tensor {tensor_name!r}")
    found = ParametrizationList([parametrization], original, unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        cls = type(module)
        body = {"__setattr__": _assign, "_unparametrized": cls, "__module__": cls.__module__, "__doc__": cls.__doc__}
        module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), body)
        module.add_module("parametrizations", ModuleDict())
    setattr(type(module), tensor_name, property(lambda self: _computed(self, tensor_name)))
    module.parametrizations[tensor_name] = found  # type: ignore[attr-defined]
    return module


def _computed(module: Any, name: str) -> Any:
    cache = _cache.get()
    if cache is None:
        return module.parametrizations[name]()
    key = (id(module), name)
    if key not in cache:
        cache[key] = module.parametrizations[name]()
    return cache[key]


def _assign(module: Any, name: str, value: Any) -> None:
    if is_parametrized(module, name):
        module.parametrizations[name].right_inverse(value)
    else:
        type(module)._unparametrized.__setattr__(module, name, value)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Return whether a module has parametrizations, or one of this tensor."""
    found = module.__dict__.get("parametrizations")
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Let a tensor be a parameter or buffer again, with its present value, or with `leave_parametrized=False` its
    original one; returns the module.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{type(module).__name__} has no parametrization of {tensor_name!r}")
    found: ParametrizationList = module.parametrizations[tensor_name]  # type: ignore[attr-defined]
    if not leave_parametrized and not found.is_tensor:
        raise ValueError(
            f"{tensor_name!r} is computed from {found.ntensors} tensors, so there is no original one to leave"
        )
    originals = found._originals()
    kept = originals[0]
    if leave_parametrized:
        with no_grad():
            value = getattr(module, tensor_name).detach()
        if not found.is_tensor:
            kept = (
                Parameter(value, any(part.requires_grad for part in originals))
                if isinstance(kept, Parameter)
                else value
            )
        else:
            kept.data = value
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]  # type: ignore[attr-defined]
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module)._unparametrized  # type: ignore[attr-defined]
    if isinstance(kept, Parameter):
        module.register_parameter(tensor_name, kept)
    else:
        module.register_buffer(tensor_name, kept)
    return module


def type_before_parametrizations(module: Module) -> type:
    """Return the class that a module had before it was parametrized."""
    return type(module)._unparametrized if is_parametrized(module) else type(module)  # type: ignore[attr-defined]


@contextmanager
def cached() -> Iterator[None]:
    """Compute every parametrized tensor once inside the `with` block:
    where one is read several times in a forward pass.
    """
    if _cache.get() is not None:
        yield
        return
    token = _cache.set({})
    try:
        yield
    finally:
        _cache.reset(token)
