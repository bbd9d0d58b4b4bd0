"""Random calls agree with PyTorch, or differ as stated; and the fuzzer itself:
repeatable draws, programs that run, planted faults found.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch
from tests.fuzz.calls import Call, TensorArgument
from tests.fuzz.compare import compare
from tests.fuzz.draw import ENTRIES, draw
from tests.fuzz.shrink import shrink
from tests.fuzz.stated import ROUGH, STATED

pytestmark = pytest.mark.parity


DRAWS, SEED = 2000, 8
"""What runs with the tests; `python -m tests.fuzz --draws 1000000 --seed 1` draws more, and others."""


def test_random_calls_agree_with_pytorch() -> None:
    differing = []
    for number in range(DRAWS):
        call = draw(SEED, number)
        finding = compare(call)
        if finding:
            call, finding = shrink(call, finding, 60)
            differing.append(f"# draw {number}: {call.name} ({call.form}) {finding}\n{call.program()}\n")
    assert not differing, "\n".join(differing)


def test_what_is_stated_stands_on_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "differences.md").read_text()
    for line in {entry.line for entry in STATED}:
        assert f"\n| {line}" in page, line
    for name in ROUGH:
        name = {"special.psi": "digamma"}.get(name, name)
        assert re.search(rf"\n\| (digits of|derivatives of).*`{name}`", page), name


def test_a_call_depends_on_its_number_alone() -> None:
    assert draw(1, 7).program() == draw(1, 7).program() != draw(1, 8).program()


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "expanded"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "bool"])
def test_a_call_that_agrees_says_nothing(layout: str, dtype: str) -> None:
    array = np.broadcast_to(np.array([[1.0], [2.0]]), (2, 3)).astype(dtype)
    assert compare(Call("mul", "method", (TensorArgument(array, layout, dtype[0] == "f"), 2))) == ""


def wrong_at_negative_dim(input: Any, dim: Any = None, *args: Any, **options: Any) -> Any:
    return SUM(input, -1 if dim == -2 else dim, *args, **options)


class Unreduced(nanotorch.autograd.Function):  # type: ignore[misc]
    """A product whose gradient is that of one element of what broadcast."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensors
        return tuple((grad * b).flatten()[: a.numel()].reshape(a.shape) for a, b in ((x, y), (y, x)))


SUM, MUL, LOG = nanotorch.sum, nanotorch.mul, nanotorch.log
PLANTED = {
    "sum": (wrong_at_negative_dim, "output 0"),
    "mul": (
        lambda x, y, **o: Unreduced.apply(x, y) if hasattr(y, "shape") and x.dtype is y.dtype else MUL(x, y, **o),
        "gradient",
    ),
    "log": (lambda x, **o: LOG(x, **o).to(nanotorch.float32), "output 0 is float32, not float64"),
    "amax": (lambda x, dim=(), keepdim=False: nanotorch.Tensor.amax(x, dim if x.ndim else (), keepdim), "computes"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_faults_of_every_kind_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, says = PLANTED[name]
    monkeypatch.setattr(nanotorch, name, fault)
    entry = next(e for e in ENTRIES if e.name == name)
    monkeypatch.setattr("tests.fuzz.draw.ENTRIES", [entry])
    found = [compare(call) for call in (draw(0, number) for number in range(300)) if call.form == "function"]
    assert any(finding.startswith(says) for finding in found), set(found)


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
