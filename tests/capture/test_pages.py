"""The page of a captured step is what the step does: run as Python, it gives the eager step's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.backend.numpy_backend import NUMPY
from nanotorch.backend.primitives import Namespace
from nanotorch.capture.numpy_code import LEAF
from nanotorch.capture.page import Page
from step_cases import CASES, Running


def view(array: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """What a page means by `view`: elements of the memory of an array, counted as they lie."""
    flat = array.ravel(order="K")
    assert np.shares_memory(flat, array) or not array.size
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, [step * array.itemsize for step in strides])


def run_page(page: Page, memory: dict[str, Any], scalars: list[Any], *inputs: Any) -> Any:
    """Run a page on copies of what lives on; return what it returns."""
    given: dict[str, Any] = {"xp": Namespace(NUMPY), "view": view, "dtype": np.dtype, **page.arrays}
    exec(page.text.replace("def step(", f"def step({', '.join(memory)}, ", 1), given)
    code = given["step"].__code__
    wanted = code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
    places = {name: LEAF.match(number) for number, name in page.numbers.items()}
    numbers = {name: scalars[int(place[1])][place[2]] for name, place in places.items() if place and name in wanted}
    return given["step"](*memory.values(), *inputs, **numbers)


@pytest.mark.parametrize("name", CASES)
def test_a_page_run_as_python_has_the_bits_of_the_eager_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    running = Running(case)
    step = torch.compile(running.step, backend="numpy")
    *before, (x, y) = case.batches(4)
    for batch in before:
        step(*batch)
    [page] = step._last().pages()
    memory = {name: np.array(value) for name, value in page.arrays.items() if isinstance(value, np.ndarray)}
    scalars: list[Any] = []
    passed = type(running.optimizer).next_scalars
    monkeypatch.setattr(
        type(running.optimizer), "next_scalars", lambda *args: scalars.append(passed(*args)) or scalars[-1]
    )
    theirs = running.step(x, y)
    ours = run_page(page, memory, scalars, x.numpy(), y.numpy())
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other.detach().numpy())
    for name, array in memory.items():
        np.testing.assert_array_equal(array, page.arrays[name], err_msg=f"{name}\n{page.text}")
