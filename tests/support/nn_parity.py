"""The same module in both libraries: its outputs, gradients and buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

import nanotorch as torch
from parity import require_torch, to_numpy

NUMBERS = np.random.default_rng(0)


def close(ours: Any, theirs: Any, what: str = "") -> None:
    ours, theirs = to_numpy(ours), to_numpy(theirs)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, what
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12, err_msg=what)


def both(make: Any) -> list[tuple[Any, Any]]:
    """The same module in both libraries, with the same float64 weights; their state dicts fit both ways."""
    oracle = require_torch()
    theirs = make(oracle.nn).double()
    ours = make(torch.nn).double()
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict({key: oracle.tensor(to_numpy(value)) for key, value in ours.state_dict().items()})
    return [(torch, ours), (oracle, theirs)]


def outputs_of(result: Any) -> list[Any]:
    """The tensors that a module returned."""
    values = result if isinstance(result, tuple) else (result,)
    return [value for value in values if value is not None]


def compare(make: Any, *inputs: np.ndarray[Any, Any], calls: int = 1, training: bool = True, **options: Any) -> None:
    """Outputs, gradients of inputs and parameters, and buffers after `calls` calls; options may be arrays."""
    results = []
    for library, module in both(make):
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


def real(*shape: int) -> np.ndarray[Any, Any]:
    return NUMBERS.standard_normal(shape)
