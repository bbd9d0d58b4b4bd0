"""Steps that are recorded ahead: a training that stops and goes on has the bits of one that never stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture import captured, compiled
from nanotorch.capture.compiled import Compiled
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.table.machine import MACHINE

STEPS, ROWS = 5, 7
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
}


class Task:
    """A network that is trained, and where it stands."""

    def __init__(self, optimizer: str, backend: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.step = Compiled(self.plain, backend, None, ahead=True)

    def plain(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def again(self, optimizer: str, backend: str) -> Task:
        """Return what another process makes of what this one has saved."""
        drawn = torch.get_rng_state()
        other = Task(optimizer, backend)
        other.model.load_state_dict(self.model.state_dict())
        other.optimizer.load_state_dict(self.optimizer.state_dict())
        torch.set_rng_state(drawn)
        return other

    def left(self, losses: list[Any]) -> list[Any]:
        moments = [value for state in self.optimizer.state_dict()["state"].values() for value in state.values()]
        tensors = [*self.model.state_dict().values(), *moments, *losses]
        return [torch.get_rng_state(), *[tensor.detach().numpy().tobytes() for tensor in tensors]]


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((STEPS * ROWS, 5)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(draw.integers(0, 3, len(x)))


def trained(optimizer: str, backend: str, stops: tuple[int, ...] = (), plain: bool = False) -> list[Any]:
    task, (x, y), losses = Task(optimizer, backend), tables(), []
    for number in range(STEPS):
        if number in stops:
            task = task.again(optimizer, backend)
        rows = slice(number * ROWS, (number + 1) * ROWS - (number == 2))  # the third batch is smaller
        losses.append((task.plain if plain else task.step)(x[rows], y[rows]))
    return task.left(losses)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("backend", ["numpy", "table"])
def test_a_training_goes_on_with_the_bits_of_one_that_never_stopped(optimizer: str, backend: str) -> None:
    if backend == "table":
        assert MACHINE.wait() is not None
    whole = trained(optimizer, backend)
    for stops in [(1,), (2, 4)]:
        assert trained(optimizer, backend, stops) == whole
    if backend == "numpy":
        assert trained(optimizer, backend, plain=True) == whole


def test_the_first_call_of_what_has_no_state_to_begin_runs_as_a_program() -> None:
    task, (x, y) = Task("SGD", "numpy"), tables()
    task.step(x, y)
    for parameter in task.model.parameters():  # of calls that find gradients there is another program
        parameter.grad = None
    assert task.step.known((), lambda: (x, y)) is not None
    other = Task("Adam", "numpy")
    other.step(x, y)
    assert other.step.known((), lambda: (x, y)) is None
    other.step(x, y)
    assert other.step.known((), lambda: (x, y)) is not None


def test_a_program_that_was_proven_is_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MACHINE.wait() is not None
    monkeypatch.setattr(captured, "PROVEN", {})
    whole, recorded = trained("SGD", "table"), [0]

    class Counting(compiled.Recording):
        def __init__(self, *args: Any) -> None:
            recorded[0] += 1
            super().__init__(*args)

    monkeypatch.setattr(compiled, "Recording", Counting)
    assert trained("SGD", "table") == whole
    assert recorded[0] == 3  # one for each size of batches, one for the first call, which finds no gradients


def test_a_step_that_counts_its_calls_runs_as_ever_and_counts_right() -> None:
    def trained(compiled: bool) -> list[Any]:
        task, (x, y), said = Task("SGD", "numpy"), tables(), list[str]()
        task.model.calls = 0  # type: ignore[assignment]

        def counting(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            task.model.calls += 1  # type: ignore[operator,assignment]
            return task.plain(x * task.model.calls, y)

        step = Compiled(counting, "table", said.append, ahead=True) if compiled else counting
        losses = [step(x, y) for _ in range(4)]
        assert len(said) == compiled
        return [task.model.calls, *task.left(losses)]

    assert trained(True) == trained(False)


def test_what_cannot_be_recorded_leaves_all_as_it_was() -> None:
    task, (x, y) = Task("SGD", "numpy"), tables()
    refused = Compiled(lambda x, y: task.plain(x, y) + task.model[4].bias.sum().item(), "numpy", None, ahead=True)
    before = task.left([])
    with pytest.raises(CaptureError, match="values of a tensor"):
        refused(x, y)
    assert task.left([]) == before
