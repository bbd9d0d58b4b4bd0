"""Anomaly detection: which operation is named, with which line, layer and statistics, and what is not reported."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.autograd.graph.anomaly import AnomalyError
from nanotorch.autograd.graph.grad_mode import recording
from oracle import pytorch


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        return (self.linear(x) * 0 - 1).log()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(3, 3), Block()])

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def message(action: Any) -> str:
    with pytest.raises(AnomalyError) as caught, torch.autograd.detect_anomaly():
        action()
    return str(caught.value)


def test_forward_names_op_line_layer_and_inputs() -> None:
    text = message(lambda: Net()(torch.ones(2, 3)))
    first, *rest = text.splitlines()
    assert first == "log() returned nan values: 6 of 6, the first at index (0, 0)"
    assert "test_anomaly.py" in rest[0] and rest[0].endswith("in forward, in layer 'blocks.1' (Block)")
    assert rest[1] == "  self: float32, shape (2, 3), from -1 to -1, mean -1"


def test_forward_is_watched_without_recording_too() -> None:
    def action() -> None:
        with torch.no_grad():
            torch.tensor([[1.0, 2.0], [0.0, 3.0]]).log()

    assert message(action).startswith("log() returned inf values: 1 of 4, the first at index (1, 0)\n  called at ")


def test_backward_names_node_line_layer_and_saved_values() -> None:
    class Root(nn.Module):
        def forward(self, x: Any) -> Any:
            return (x * torch.tensor([1.0, 0.0])).sqrt()

    x = torch.tensor([4.0, 9.0], requires_grad=True)
    text = message(lambda: nn.Sequential(nn.Identity(), Root())(x).sum().backward())
    lines = text.splitlines()
    assert lines[0] == "Function 'SqrtBackward0' returned inf values in its 0th output: 1 of 2, the first at index (1,)"
    assert "test_anomaly.py" in lines[1] and lines[1].endswith("in forward, in layer '1' (Root)")
    assert lines[2:] == [
        "  gradient that arrived: float32, shape (2,), from 1 to 1, mean 1",
        "  saved result: float32, shape (2,), from 0 to 2, mean 1",
    ]


def test_backward_of_a_function_is_watched() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            return x + y

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return grad, torch.full_like(grad, float("nan"))

    x, y = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    text = message(lambda: Broken.apply(x, y).sum().backward())
    assert text.startswith("Function 'BrokenBackward' returned nan values in its 1th output: 3 of 3")


def test_recorded_backwards_are_watched() -> None:
    x = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)

    def action() -> None:
        torch.autograd.grad(torch.autograd.grad(x.abs().pow(1.5), x, create_graph=True)[0], x)

    assert "PowBackward" in message(action)


def test_what_passes_through_is_not_reported() -> None:
    """Masks of -inf, and data that hold NaN, are made by nobody."""
    mask = torch.tensor([[False, True], [False, False]])
    x = torch.ones(2, 2, requires_grad=True)
    with torch.autograd.detect_anomaly():
        x.masked_fill(mask, float("-inf")).softmax(1).sum().backward()
        (torch.tensor([float("nan"), 1.0]) * 2).sum()
        torch.full((2,), float("inf")).add(1)
        torch.tensor([1, 2]) // torch.tensor([1, 2])
    assert x.grad.isfinite().all()


def test_nan_from_infinities_is_reported() -> None:
    x = torch.tensor([float("inf")])
    assert message(lambda: x - x).startswith("sub() returned nan values: 1 of 1")


def test_layers_only() -> None:
    with torch.autograd.detect_anomaly(check_nan=False):
        assert torch.autograd.is_anomaly_enabled() and not torch.autograd.is_anomaly_check_nan_enabled()
        x = torch.tensor([0.0], requires_grad=True)
        x.log().sum().backward()
    assert not torch.autograd.is_anomaly_enabled()


def test_other_threads_are_left_alone() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            x = torch.tensor([0.0], requires_grad=True)
            x.log().sum().backward()
        except BaseException as error:
            failures.append(error)

    with torch.autograd.detect_anomaly():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert failures == []


def test_everything_is_off_again_after_the_block() -> None:
    message(lambda: torch.tensor(0.0).log())
    assert torch.tensor(0.0).log().item() == float("-inf")
    x = torch.tensor(0.0, requires_grad=True)
    x.sqrt().backward()
    assert x.grad.item() == float("inf")


def test_the_switch() -> None:
    torch.autograd.set_detect_anomaly(True)
    try:
        assert torch.autograd.is_anomaly_enabled()
        with pytest.raises(AnomalyError):
            torch.tensor(0.0).log()
        with torch.autograd.set_detect_anomaly(False):
            assert torch.tensor(0.0).log().item() == float("-inf")
        assert torch.autograd.is_anomaly_check_nan_enabled()
    finally:
        torch.autograd.set_detect_anomaly(False)
    assert not torch.autograd.is_anomaly_enabled()
    assert torch.tensor(0.0).log().item() == float("-inf")


def test_the_device_is_watched(device: Any) -> None:
    x = torch.tensor([1.0, 0.0]).to(device).requires_grad_()
    assert "'SqrtBackward0' returned inf values in its 0th output: 1 of 2" in message(lambda: x.sqrt().sum().backward())
    assert message(lambda: x.log()).startswith("log() returned inf values: 1 of 2, the first at index (1,)")


@pytest.mark.parity
def test_the_words_are_those_that_users_of_pytorch_search_for() -> None:
    x = pytorch.tensor([0.0], requires_grad=True)
    with pytest.warns(UserWarning), pytest.raises(RuntimeError) as caught, pytorch.autograd.detect_anomaly():
        (x.sqrt() * 0).backward()
    theirs = str(caught.value).rstrip(".")
    y = torch.tensor([0.0], requires_grad=True)
    assert message(lambda: (y.sqrt() * 0).backward()).startswith(theirs)


def watched() -> tuple[bool, bool]:
    """Whether anomalies are reported now, in forward and in backward, and whether ops run at full speed."""
    from nanotorch.autograd.graph.interpreter import at_rest

    try:
        torch.tensor(0.0).log()
        forward = False
    except AnomalyError:
        forward = True
    x = torch.tensor([0.0], requires_grad=True)
    y = x.sqrt()
    try:
        y.backward()
        backward = False
    except AnomalyError:
        backward = True
    assert forward == backward == torch.is_anomaly_enabled()
    return forward, at_rest()


@pytest.mark.parity
@pytest.mark.parametrize("calls", [(), ("on",), ("on", "on"), ("on", "off")], ids="-".join)
@pytest.mark.parametrize("outer", ["on", "off", "detect"])
@pytest.mark.parametrize("inner", ["on", "off", "detect"])
@pytest.mark.parametrize("call", [None, "on", "off"])
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_scopes_nest_as_in_pytorch(calls: Any, outer: str, inner: str, call: str | None) -> None:
    """Calls before, blocks in blocks, a call inside: the same states as PyTorch's at every point, errors included."""

    def states(library: Any) -> list[bool]:
        anomaly, found = library.autograd, []

        def make(kind: str) -> Any:
            return anomaly.detect_anomaly() if kind == "detect" else anomaly.set_detect_anomaly(kind == "on")

        def note() -> None:
            found.append(library.is_anomaly_enabled())
            if library is torch:
                watched()

        try:
            for kind in calls:
                make(kind)
            note()
            try:
                with make(outer):
                    note()
                    with make(inner):
                        note()
                        if call:
                            make(call)
                        note()
                        raise KeyError
            except KeyError:
                pass
            note()
            with make(outer):
                with make(inner):
                    if call:
                        make(call)
                note()
            note()
        finally:
            make("off")
        assert library is not torch or watched() == (False, True)
        return found

    assert states(torch) == states(pytorch)


def test_threads_that_share_an_object_or_switch_by_calls() -> None:
    shared, failures = torch.autograd.detect_anomaly(), []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        try:
            for _ in range(5):
                barrier.wait()
                if number % 2:
                    with shared:
                        assert watched()[0]
                else:
                    torch.autograd.set_detect_anomaly(number == 0)
                    assert watched()[0] == (number == 0)
                    torch.autograd.set_detect_anomaly(False)
                assert not torch.is_anomaly_enabled()
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and watched() == (False, True)


def test_a_task_that_switches_off_what_it_inherited_leaves_the_others_as_they_are() -> None:
    async def inner() -> None:
        assert watched()[0]
        torch.autograd.set_detect_anomaly(False)
        assert not watched()[0]

    async def outer() -> None:
        with torch.autograd.detect_anomaly():
            await asyncio.create_task(inner())
            assert watched()[0]

    asyncio.run(outer())
    assert watched() == (False, True)


def test_blocks_that_do_not_end_in_the_order_of_a_stack() -> None:
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
    with hooks:
        torch.autograd.set_detect_anomaly(True)
    assert watched()[0]
    with hooks, torch.no_grad():
        torch.autograd.set_detect_anomaly(False)
    assert watched() == (False, True) and recording() is True
    with torch.no_grad():
        torch.autograd.set_detect_anomaly(True)
    assert len(recording()) == 1  # the layers of nodes are noted again
    torch.autograd.set_detect_anomaly(False)
    assert recording() is True


def test_it_decorates_functions_and_generators() -> None:
    @torch.autograd.detect_anomaly()
    def function() -> bool:
        return torch.is_anomaly_enabled()

    @torch.autograd.detect_anomaly()
    def steps() -> Any:
        yield torch.is_anomaly_enabled()
        yield torch.is_anomaly_enabled()

    assert function() and not torch.is_anomaly_enabled()
    for inside in steps():
        assert inside and not torch.is_anomaly_enabled()
