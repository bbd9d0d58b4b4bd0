"""The interpreter slot: a toy that the package does not know sees all that runs, and leaves nothing behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import fake_cupy
import nanotorch as torch
from nanotorch.autograd.graph.interpreter import Interpreter, InterpreterError, at_rest, installed
from nanotorch.ops.rows.observe import observing
from op_cases import ROW_CASES, Call, ours


class Recorder(Interpreter):
    """Notes the rows that run, and the primitives that backward passes and optimizers ask for."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.asked: list[str] = []

    def run(self, row: Any, forward: Any, xp: Any, *args: Any, **kwargs: Any) -> Any:
        assert isinstance(xp, Noting)
        self.rows.append(row.name)
        torch.ones(2).exp()  # its own affair
        return forward(xp.inner, *args, **kwargs)

    def primitives(self, device: Any, xp: Any) -> Any:
        return Noting(xp, self.asked)


class Noting:
    def __init__(self, inner: Any, asked: list[str]) -> None:
        self.inner, self.asked = inner, asked

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self.inner, name)


class Counter(Interpreter):
    def __init__(self) -> None:
        self.rows = 0
        self.tensors = 0

    def run(self, row: Any, forward: Any, xp: Any, *args: Any, **kwargs: Any) -> Any:
        self.rows += 1
        return forward(xp, *args, **kwargs)

    def make(self, new: Any) -> Any:
        def counted(cls: type) -> Any:
            self.tensors += 1
            return new(cls)

        return counted


def test_it_sees_every_row() -> None:
    recorder = Recorder()
    with installed(recorder):
        for case in ROW_CASES:
            call = Call(case, ours())
            case.entry.function(*call.args, **call.kwargs)
    assert {case.name for case in ROW_CASES} <= set(recorder.rows) and at_rest()


def test_writes_and_views_are_rows_too() -> None:
    recorder, x = Recorder(), torch.ones(2, 3)
    with installed(recorder):
        x.mul_(2)
        x[0].exp_()
        x.view(3, 2).t()
        x[1] = 5.0
        x += 1
    assert recorder.rows == ["mul", "select", "exp", "_view", "t", "select", "_copy", "add"]
    assert "copyto" in recorder.asked and x[1].tolist() == [6.0] * 3


def test_backward_passes_and_optimizers_ask_for_primitives() -> None:
    w = torch.ones(3, requires_grad=True)
    optimizer, recorder = torch.optim.Adam([w]), Recorder()
    loss = (w.log1p() * torch.arange(3.0)).sum()
    with installed(recorder):
        loss.backward()
    assert recorder.rows == [] and "broadcast_to" in recorder.asked
    recorder.asked.clear()
    with installed(recorder):
        optimizer.step()
    assert "sqrt" in recorder.asked and at_rest()


def test_it_can_run_something_else() -> None:
    class Doubles(Interpreter):
        def run(self, row: Any, forward: Any, xp: Any, *args: Any, **kwargs: Any) -> Any:
            return 2 * forward(xp, *args, **kwargs)

    x = torch.ones(2, requires_grad=True)
    with installed(Doubles()):
        y = x.exp()
        with installed(Doubles()):
            z = x.exp()
    assert torch.equal(z, 4 * x.exp()) and torch.equal(y, 2 * x.exp())
    y.sum().backward()
    assert torch.equal(x.grad, y)  # the formula of exp is its result


def test_the_inner_one_goes_on_with_the_outer_one() -> None:
    order: list[str] = []

    class Named(Interpreter):
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, row: Any, forward: Any, xp: Any, *args: Any, **kwargs: Any) -> Any:
            order.append(self.name)
            return forward(xp, *args, **kwargs)

    outer, inner, x = Named("outer"), Named("inner"), torch.ones(2)
    with installed(outer):
        with installed(inner), observing(lambda row, arguments, out: order.append(row.name)):
            x * 2
        x + 1
    assert order == ["inner", "outer", "mul", "outer"] and at_rest()


def test_with_inference_mode_and_observers_in_any_order_of_ends() -> None:
    counter, log = Counter(), []
    blocks = [installed(counter), torch.inference_mode(), observing(lambda *call: log.append(call[0].name))]
    for block in blocks:
        block.__enter__()
    y = torch.ones(2) * 2
    assert y.is_inference() and counter.rows == 1 and counter.tensors >= 2 and log == ["mul"]
    for block in blocks:
        block.__exit__(None, None, None)
    assert at_rest() and not (torch.ones(2) * 2).is_inference() and counter.rows == 1


def test_what_is_installed_inside_a_run_is_in_force_there() -> None:
    log: list[str] = []

    def callback(row: Any, arguments: dict[str, Any], out: Any) -> None:
        with observing(lambda inner, *_: log.append(inner.name)), torch.inference_mode():
            assert torch.ones(2).exp().is_inference()
        torch.ones(2).tanh()

    with observing(callback):
        torch.ones(2) * 2
    assert log == ["exp"] and at_rest()


def test_an_error_of_an_interpreter_reaches_the_user_as_it_is() -> None:
    class Refuses(Interpreter):
        def run(self, row: Any, forward: Any, xp: Any, *args: Any, **kwargs: Any) -> Any:
            raise InterpreterError("not recorded")

    with pytest.raises(InterpreterError, match=r"^not recorded$"), installed(Refuses()):
        torch.ones(2) * 2
    assert at_rest()


def test_it_is_the_threads_own() -> None:
    counter, found = Counter(), []

    def work() -> None:
        found.append((torch.ones(3) * 3).tolist())
        with installed(counter), pytest.raises(ValueError, match="empty"):
            installed(Counter()).__exit__()

    with installed(Recorder()) as nothing:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert nothing is None and found == [[3.0] * 3] and counter.rows == 0 and at_rest()


def test_numbers_beyond_a_dtype_run_under_it_too() -> None:
    counter = Counter()
    with installed(counter):
        y = torch.tensor([1], dtype=torch.uint8) + 300
    assert counter.rows == 2 and y.tolist() == [45]  # the second time with the number wrapped around


@pytest.mark.parametrize("place", ["cpu", "cuda:1"])
def test_primitives_of_every_device_that_is_named_inside(place: str) -> None:
    with fake_cupy.installed(device_count=2):
        recorder = Recorder()
        with installed(recorder):
            device = torch.device(place)
            y = torch.ones(2, device=device, requires_grad=True).exp()
            assert recorder.rows == ["exp"] and y.device is device
            y.sum().backward()
            assert isinstance(device.xp, Noting)
        assert "broadcast_to" in recorder.asked and not isinstance(device.xp, Noting) and at_rest()
