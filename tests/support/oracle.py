"""PyTorch as the oracle: every comparison with it goes through here.

`pytorch` is the real library, imported when a test first uses it; a test that uses it is marked `parity`. What is
compared are programs (`agree`, `programs`: a function of the library, run with both) or modules (`in_both`,
`compare_modules`).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch

CI = os.environ.get("CI_PARITY") == "1"
"""Whether PyTorch is installed and every test of its kind has to run."""

running: list[pytest.Item] = []
"""The test that runs now, so that none gets the oracle without the marker by which CI finds it (see conftest.py)."""

Program = Callable[[Any], Any]
Array = np.ndarray[Any, Any]
NUMBERS = np.random.default_rng(0)


# ------------------------------------------------------------ the library


def require(module: str = "torch") -> Any:
    """Import PyTorch or a module of its; skip the test where it is not installed, or fail it if CI_PARITY=1."""
    if running and running[-1].get_closest_marker("parity") is None:
        pytest.fail("this test compares with PyTorch: mark it with @pytest.mark.parity, or CI does not run it")
    return _imported(module)


@functools.cache
def _imported(module: str) -> Any:
    try:
        importlib.import_module("torch").set_num_threads(1)
    except ImportError:
        if CI:
            pytest.fail("CI_PARITY=1, but PyTorch, the oracle of the parity tests, cannot be imported")
        pytest.skip("parity tests need PyTorch", allow_module_level=True)
    return importlib.import_module(module)


class _PyTorch:
    """The library by attribute; naming it in a module imports nothing, so collecting tests does not need it."""

    __name__ = "torch"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest and doctest ask whatever a module holds for such names
            raise AttributeError(name)
        return getattr(require(), name)


pytorch: Any = _PyTorch()


def to_numpy(value: Any) -> Array:
    """Return the values of a tensor, ours or PyTorch's, as an array of their own."""
    return np.array(value.detach().cpu().numpy())


# ------------------------------------------------------------ programs


def plain(value: Any) -> Any:
    """Return a result without the library that computed it: tensors as lists."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


def outcome(program: Program, library: Any) -> Any:
    """Return what a program returns, or the name of the error that it raises."""
    try:
        return plain(program(library))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        return f"raises {'RuntimeError' if isinstance(error, RuntimeError) else type(error).__name__}"


def agree(program: Program) -> None:
    """Assert that a program comes to the same in both libraries."""
    assert outcome(program, nanotorch) == outcome(program, require())


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
        agree(functools.partial(program, self))

    test.__doc__ = program.__doc__
    return test


def ones(library: Any, *shape: int) -> Any:
    """Return ones that require grad."""
    return library.ones(shape, requires_grad=True)


# ------------------------------------------------------------ modules


def real(*shape: int) -> Array:
    """Return random numbers for the input of a module."""
    return NUMBERS.standard_normal(shape)


def close(ours: Any, theirs: Any, what: str = "") -> None:
    """Assert that two tensors agree in shape, dtype and values."""
    ours, theirs = to_numpy(ours), to_numpy(theirs)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, what
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12, err_msg=what)


def in_both(make: Any) -> list[tuple[Any, Any]]:
    """Return a module in both libraries, with the same float64 weights; their state dicts fit both ways."""
    theirs = make(pytorch.nn).double()
    ours = make(nanotorch.nn).double()
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict({key: pytorch.tensor(to_numpy(value)) for key, value in ours.state_dict().items()})
    return [(nanotorch, ours), (pytorch, theirs)]


def outputs_of(result: Any) -> list[Any]:
    """Return the tensors that a module returned."""
    values = result if isinstance(result, tuple) else (result,)
    return [value for value in values if value is not None]


def compare_modules(make: Any, *inputs: Array, calls: int = 1, training: bool = True, **options: Any) -> None:
    """Compare outputs, gradients of inputs and parameters, and buffers after `calls` calls; options may be arrays."""
    results = []
    for library, module in in_both(make):
        module.train(training)
        tensors = [library.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
        given = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        for _ in range(calls):
            outputs = outputs_of(module(*tensors, **given))
        numbers = np.random.default_rng(5)
        weights = [library.tensor(numbers.standard_normal(tuple(output.shape))) for output in outputs]
        loss = sum((y * w).sum() for y, w in zip(outputs, weights, strict=True) if y.requires_grad)
        if not isinstance(loss, int):
            loss.backward()
        results.append((outputs, tensors, module))
    (ours, my_inputs, mine), (theirs, other_inputs, other) = results
    assert len(ours) == len(theirs)
    for x, y in zip(ours, theirs, strict=True):
        close(x, y, "output")
    for x, y in zip(my_inputs, other_inputs, strict=True):
        assert (x.grad is None) == (y.grad is None)
        if x.grad is not None:
            close(x.grad, y.grad, "gradient of an input")
    assert [name for name, _ in mine.named_parameters()] == [name for name, _ in other.named_parameters()]
    for (name, x), (_, y) in zip(mine.named_parameters(), other.named_parameters(), strict=True):
        close(x.grad, y.grad, f"gradient of {name}")
    for (name, x), (_, y) in zip(mine.named_buffers(), other.named_buffers(), strict=True):
        close(x, y, name)
