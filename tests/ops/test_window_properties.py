"""Convolutions, pools and padding with random arguments, against PyTorch: values, gradients, second derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nanotorch as torch
from oracle import pytorch, to_numpy

pytestmark = pytest.mark.parity
examples = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def outcome(library: Any, name: str, arrays: list[np.ndarray[Any, Any]], arguments: dict[str, Any]) -> list[Any] | None:
    """Return outputs, gradients and second derivatives; None where the library refuses."""
    leaves = [library.tensor(array).requires_grad_() for array in arrays]
    try:
        result = getattr(library.nn.functional, name)(*leaves, **arguments)
    except (RuntimeError, ValueError, NotImplementedError):
        return None
    outputs = list(result) if isinstance(result, tuple) else [result]
    seed = library.tensor(
        np.cos(np.arange(to_numpy(outputs[0]).size)).reshape(tuple(outputs[0].shape))
    ).requires_grad_()
    first = library.autograd.grad(outputs[0], leaves, seed, create_graph=True)
    total = sum((g * g).sum() for g in first)
    second = library.autograd.grad(total, [*leaves, seed], allow_unused=True)
    return [None if value is None else to_numpy(value) for value in (*outputs, *first, *second)]


def check(name: str, arrays: list[np.ndarray[Any, Any]], **arguments: Any) -> None:
    ours, theirs = (outcome(library, name, arrays, arguments) for library in (torch, pytorch))
    assert (ours is None) == (theirs is None)
    for actual, expected in zip(ours or [], theirs or [], strict=True):
        if actual is None or expected is None:
            rest = actual if expected is None else expected
            assert rest is None or not rest.any()
        else:
            assert actual.dtype == expected.dtype
            np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-9)


def distinct(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).permutation(np.linspace(-2, 2, int(np.prod(shape)))).reshape(shape)


def options(draw: Any, dimensions: int, low: int, high: int) -> Any:
    """One int for all dimensions, or one for each."""
    ints = st.integers(low, high)
    return draw(ints | st.tuples(*[ints] * dimensions))


@st.composite
def convolutions(draw: Any, transposed: bool) -> tuple[str, list[np.ndarray[Any, Any]], dict[str, Any]]:
    d, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    inputs, outs = (groups * draw(st.integers(1, 2)) for _ in range(2))
    lead = draw(st.sampled_from([(), (1,), (2,)]))
    x = distinct(*lead, inputs, *draw(st.tuples(*[st.integers(1, 6)] * d)))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * d))
    weight = distinct(*((inputs, outs // groups) if transposed else (outs, inputs // groups)), *kernel)
    arguments = {"stride": options(draw, d, 1, 3), "dilation": options(draw, d, 1, 2), "groups": groups}
    arguments["padding"] = options(draw, d, 0, 2)
    if transposed:
        arguments["output_padding"] = options(draw, d, 0, 1)
    elif draw(st.booleans()):
        arguments["padding"] = "valid" if max(kernel) > 2 else "same"
    arrays = [x, weight, distinct(outs)] if draw(st.booleans()) else [x, weight]
    return f"conv_transpose{d}d" if transposed else f"conv{d}d", arrays, arguments


@examples
@given(case=convolutions(False) | convolutions(True))
def test_convolutions(case: tuple[str, list[np.ndarray[Any, Any]], dict[str, Any]]) -> None:
    name, arrays, arguments = case
    assume(arguments["padding"] != "same" or all(k % 2 for k in arrays[1].shape[2:]))  # PyTorch warns of even ones
    check(name, arrays, **arguments)


@examples
@given(data=st.data(), maximum=st.booleans(), d=st.integers(1, 2))
def test_pools(data: Any, maximum: bool, d: int) -> None:
    x = distinct(*data.draw(st.sampled_from([(), (1,), (2,)])), 2, *data.draw(st.tuples(*[st.integers(2, 7)] * d)))
    arguments: dict[str, Any] = {
        name: options(data.draw, d, low, high) for name, low, high in (("kernel_size", 1, 3), ("padding", 0, 1))
    }
    arguments |= {"stride": data.draw(st.none() | st.integers(1, 3)), "ceil_mode": data.draw(st.booleans())}
    if maximum:
        arguments |= {"dilation": options(data.draw, d, 1, 2), "return_indices": True}
    else:
        arguments["count_include_pad"] = data.draw(st.booleans())
    check(f"{'max' if maximum else 'avg'}_pool{d}d", [x], **arguments)


@examples
@given(data=st.data(), maximum=st.booleans(), d=st.integers(1, 2))
def test_adaptive_pools(data: Any, maximum: bool, d: int) -> None:
    x = distinct(*data.draw(st.sampled_from([(), (2,)])), 2, *data.draw(st.tuples(*[st.integers(1, 7)] * d)))
    size = options(data.draw, d, 1, 5)
    check(
        f"adaptive_{'max' if maximum else 'avg'}_pool{d}d",
        [x],
        output_size=size,
        **({"return_indices": True} if maximum else {}),
    )


@examples
@given(data=st.data(), mode=st.sampled_from(["constant", "reflect", "replicate"]), d=st.integers(1, 3))
def test_padding(data: Any, mode: str, d: int) -> None:
    x = distinct(*data.draw(st.tuples(*[st.integers(1, 4)] * data.draw(st.integers(d + 1, d + 2)))))
    sizes = data.draw(st.tuples(*[st.integers(0, 3)] * 2 * d))
    check("pad", [x], pad=sizes, mode=mode)
