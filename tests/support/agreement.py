"""Programs that are written once, run with PyTorch and with nanotorch, and have to come to the same result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import nanotorch
from parity import require_torch

Program = Callable[[Any], Any]


def plain(value: Any) -> Any:
    """A result without the library that computed it: tensors as lists, errors as their type."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


def outcome(program: Program, library: Any) -> Any:
    """What a program returns, or the name of the error that it raises."""
    try:
        return plain(program(library))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        return f"raises {'RuntimeError' if isinstance(error, RuntimeError) else type(error).__name__}"


def programs(cls: type) -> type:
    """Make a test of every method of a class that takes a library: both libraries must agree on its outcome."""
    for name, method in list(vars(cls).items()):
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        setattr(cls, f"test_{name}", _test(method))
        delattr(cls, name)
    return cls


def _test(program: Callable[[Any, Any], Any]) -> Callable[[Any], None]:
    @pytest.mark.parity
    @pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")  # PyTorch's, about its own cycle
    def test(self: Any) -> None:
        expected = outcome(lambda library: program(self, library), require_torch())
        assert outcome(lambda library: program(self, library), nanotorch) == expected

    test.__doc__ = program.__doc__
    return test


def ones(library: Any, *shape: int) -> Any:
    return library.ones(shape, requires_grad=True)
