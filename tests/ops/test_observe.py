"""Observing ops: who is told of what, and that nothing stays behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import nanotorch as torch
from nanotorch.autograd.graph.interpreter import at_rest
from nanotorch.ops.rows.observe import observing
from nanotorch.ops.rows.row import ROWS
from op_cases import ROW_CASES, Call, ours


def untouched() -> bool:
    return at_rest()


class Log(list[str]):
    def __call__(self, row: Any, arguments: dict[str, Any], out: Any) -> None:
        self.append(row.name)


def test_the_callback_gets_arguments_by_name_and_the_result() -> None:
    seen: list[tuple[Any, dict[str, Any], Any]] = []
    x, w = torch.ones(2, 3), torch.ones(4, 3)
    with observing(lambda *call: seen.append(call)):
        y = torch.nn.functional.linear(x, w)
        torch.sum(y, 1, keepdim=True)
        torch.cat([x, w])
    (linear, of_linear, out), (_, of_sum, _), (_, of_cat, _) = seen
    assert linear is ROWS["linear"] and out is y._array
    assert of_linear["self"] is x._array and of_linear["weight"] is w._array and of_linear["bias"] is None
    assert of_sum["keepdim"] is True
    assert [a.shape for a in of_cat["tensors"]] == [(2, 3), (4, 3)]


def test_composites_modules_methods_and_in_place_variants_are_seen() -> None:
    log, x = Log(), torch.ones(2, 3)
    layer = torch.nn.Linear(3, 2)
    with observing(log):
        layer(x)
        torch.div(x, 2.0)
        x.mul_(2)
    assert log == ["linear", "true_divide", "mul"]


def test_first_order_backward_shows_nothing_and_recorded_backward_its_ops() -> None:
    x = torch.ones(3, requires_grad=True)
    log = Log()
    with observing(log):
        (g,) = torch.autograd.grad((x * x).sum(), x)
    assert log == ["mul", "sum"]
    log.clear()
    loss = torch.nn.functional.cross_entropy(torch.randn(2, 3, requires_grad=True), torch.tensor([0, 1]))
    with observing(log):
        loss.backward(create_graph=True)
    assert log and "_cross_entropy" not in log  # its hidden outputs are recomputed by ops on tensors
    assert untouched() and g.tolist() == [2.0] * 3


def test_nested_observers_and_ops_inside_callbacks() -> None:
    outer, inner = Log(), Log()

    def curious(row: Any, arguments: dict[str, Any], out: Any) -> None:
        torch.exp(torch.ones(1))
        inner(row, arguments, out)

    x = torch.ones(2)
    with observing(outer):
        x + 1
        with observing(curious):
            x * 2
        x - 1
    assert outer == ["add", "mul", "sub"] and inner == ["mul"]
    assert untouched()


def test_all_is_restored_after_an_error() -> None:
    def refuse(row: Any, arguments: dict[str, Any], out: Any) -> None:
        raise ArithmeticError(row.name)

    x = torch.ones(2)
    with pytest.raises(ArithmeticError, match="mul"), observing(refuse):
        x * 2
    assert untouched()
    log = Log()
    with observing(log), pytest.raises(torch.ShapeError):
        torch.ones(2) + torch.ones(3)
    assert log == [] and untouched()


def test_other_threads_are_not_told() -> None:
    log, ready, done = Log(), threading.Event(), threading.Event()
    results = []

    def work() -> None:
        ready.wait(10)
        results.append((torch.ones(3) * 3).tolist())
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    with observing(log):
        ready.set()
        done.wait(10)
    thread.join()
    assert log == [] and results == [[3.0] * 3] and untouched()


def test_two_threads_observe_at_once() -> None:
    logs, together = [Log(), Log()], threading.Barrier(2)

    def work(log: Log, op: Any) -> None:
        with observing(log):
            together.wait(10)
            op(torch.ones(2))
            together.wait(10)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(logs, (torch.exp, torch.tanh), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logs == [["exp"], ["tanh"]] and untouched()


def test_arguments_of_every_row_are_complete() -> None:
    """Positional and keyword arguments together name every parameter of the forward."""
    incomplete = []

    def check(row: Any, arguments: dict[str, Any], out: Any) -> None:
        if set(arguments) != {p.name for p in row.parameters}:
            incomplete.append(row.name)

    with observing(check):
        for case in ROW_CASES:
            call = Call(case, ours())
            case.entry.function(*call.args, **call.kwargs)
    assert not incomplete
