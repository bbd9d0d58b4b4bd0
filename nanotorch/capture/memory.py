"""What a function can reach: tensors and arrays that live on when a call is over, and the plain values beside them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.numpy_backend import owner

PLAIN = (bool, int, float, complex, str, bytes, type(None))
LIBRARIES = {"_thread", "builtins", "io", "itertools", "logging", "numpy", "pathlib", "re", "threading", "weakref"}
PREFIXES = ("_parameters", "_buffers", "_modules")


class Reachable:
    """What a function can reach through its closure, its globals, its object and their attributes.

    Attributes:
        tensors: by path, such as `model.0.weight`.
        names: paths by the id of the array that owns the memory of a tensor, or of a plain array.
        fingerprint: by path what a plain value is, and for tensors and arrays their identity: where it is the same, the
            function finds what it found before.
        objects: all of them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}
        self.fingerprint: dict[str, Any] = {}
        self._seen: set[int] = set()
        self.objects: list[Any] = []
        for name, value in roots(function):
            self._visit(name, value)
        for path, tensor in self.tensors.items():  # last: they may lie in memory that has a name of its own
            grad = tensor._grad
            if grad is not None and isinstance(grad._array, np.ndarray):
                self.names.setdefault(id(owner(grad._array)), f"{path}.grad")
                self.objects.append(grad)

    def _visit(self, path: str, value: Any) -> None:
        todo = [(path, value)]
        while todo:
            path, value = todo.pop()
            if isinstance(value, PLAIN):
                self.fingerprint[path] = value
                continue
            if id(value) in self._seen:
                continue
            self._seen.add(id(value))
            self.objects.append(value)
            if isinstance(value, Tensor):
                self._tensor(path, value)
            elif isinstance(value, np.ndarray):
                self.fingerprint[path] = id(value)
                self.names.setdefault(id(owner(value)), path)
            else:
                todo += [(_joined(path, name), part) for name, part in reversed(list(parts(value)))]

    def _tensor(self, path: str, tensor: Tensor) -> None:
        self.fingerprint[path] = id(tensor), tensor._requires_grad
        self.tensors[path] = tensor
        if isinstance(tensor._array, np.ndarray):
            self.names.setdefault(id(owner(tensor._array)), path)


def roots(function: Any) -> Iterator[tuple[str, Any]]:
    """Give what a function can reach directly, by name."""
    if isinstance(function, functools.partial):
        yield from roots(function.func)
        yield "args", function.args
        yield "keywords", function.keywords
    elif isinstance(function, MethodType):
        yield from roots(function.__func__)
        yield "self", function.__self__
    elif isinstance(function, FunctionType):
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        for name in sorted(global_names(code)):
            if name in function.__globals__:
                yield name, function.__globals__[name]
        yield "defaults", (function.__defaults__, function.__kwdefaults__)
    else:
        yield "self", function


def global_names(code: CodeType) -> set[str]:
    """Return the global names that a code object and those within it may read."""
    inner = [global_names(part) for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*inner)


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Give what an object holds, by name; nothing of modules, classes and what belongs to a library."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield str(key) if isinstance(key, PLAIN) else "state", part
            if isinstance(key, Tensor):
                yield "key", key
    elif isinstance(value, list | tuple | set | frozenset):
        for number, part in enumerate(value):
            yield str(number), part
    elif isinstance(value, FunctionType | MethodType | functools.partial):
        yield from roots(value)
    elif isinstance(value, ModuleType | type | np.generic | np.dtype) or _foreign(value):
        return
    else:
        for name in [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)
        yield from getattr(value, "__dict__", {}).items()


def _foreign(value: Any) -> bool:
    """Whether an object is of a library that holds no tensors of ours."""
    return type(value).__module__.partition(".")[0] in LIBRARIES


def _joined(path: str, name: str) -> str:
    return path if name in PREFIXES else f"{path}.{name}"
