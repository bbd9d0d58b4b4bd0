"""The fuzzer itself: its draws can be repeated, its programs run, and a planted fault is found and made small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch
from fuzz.calls import Call, TensorArgument
from fuzz.compare import compare
from fuzz.draw import draw
from fuzz.shrink import shrink

pytestmark = pytest.mark.parity


def test_a_call_depends_on_its_number_alone() -> None:
    assert draw(1, 7).program() == draw(1, 7).program() != draw(1, 8).program()


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "expanded"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "bool"])
def test_a_call_that_agrees_says_nothing(layout: str, dtype: str) -> None:
    array = np.broadcast_to(np.array([[1.0], [2.0]]), (2, 3)).astype(dtype)
    assert compare(Call("mul", "method", (TensorArgument(array, layout, dtype[0] == "f"), 2))) == ""


def test_a_planted_fault_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(input: Any, **options: Any) -> Any:
        return nanotorch.exp2(input)

    monkeypatch.setattr(nanotorch, "exp", wrong)
    array = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    call = Call("exp", "function", (TensorArgument(array, "sliced", True),))
    small, finding = shrink(call, compare(call))
    assert finding.startswith("output 0: values")
    (tensor,) = small.tensors()
    assert tensor.array.size == 1 and tensor.layout == "contiguous" and not tensor.requires_grad
    program = small.program()
    assert "lib.exp(x0)" in program
    exec(program.rsplit("print(run(torch))", 1)[0], {})
