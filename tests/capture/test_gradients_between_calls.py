"""Gradients that lie around between compiled calls: added to, dropped, kept and assigned in random sequences."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.compiled import Compiled
from nanotorch.capture.table.machine import MACHINE
from tests.support.captured_steps import F, differing, state

OPTIMIZERS: list[Any] = [
    lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    lambda parameters: torch.optim.Adam(parameters, lr=0.01),
]
KINDS = ("backward alone", "zero_grad first", "zeros first", "step", "step and zero_grad", "clip")
EVENTS = ("call", "call", "call", "rows", "run", "run", "drop", "zeros", "step", "keep", "assign", "drop one", "rate")


class Trained:
    """A small network whose step treats gradients in one of some ways."""

    def __init__(self, seed: int) -> None:
        choice = random.Random(seed)
        torch.manual_seed(seed)
        width = choice.choice([1, 3, 8])
        norm = [nn.BatchNorm1d(width)] * choice.choice([0, 0, 1])
        self.model = nn.Sequential(nn.Linear(4, width), *norm, nn.Tanh(), nn.Linear(width, 3))
        if choice.random() < 0.4:
            nn.utils.flatten_parameters(self.model.parameters())
        self.optimizer = choice.choice(OPTIMIZERS)(self.model.parameters())
        self.kind = choice.choice(KINDS)
        self.kept: list[Any] = []

    def step(self, x: Any, y: Any) -> Any:
        if self.kind in ("zero_grad first", "zeros first"):
            self.optimizer.zero_grad(set_to_none=self.kind == "zero_grad first")
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        if self.kind == "clip":
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        if "step" in self.kind or "first" in self.kind:
            self.optimizer.step()
        if self.kind == "step and zero_grad":
            self.optimizer.zero_grad()
        return loss.detach()

    def change(self, event: str) -> None:
        weight, bias = list(self.model.parameters())[:2]
        if event in ("drop", "zeros"):
            self.optimizer.zero_grad(set_to_none=event == "drop")
        elif event == "step":
            self.optimizer.step()
        elif event == "keep" and weight.grad is not None:
            self.kept.append(weight.grad)
        elif event == "assign":
            bias.grad = torch.ones_like(bias)
        elif event == "drop one":
            weight.grad = None
        elif event == "rate":
            self.optimizer.param_groups[0]["lr"] *= 0.9


def assert_a_sequence_is_as_without(seed: int) -> None:
    choice, draw = random.Random(seed), np.random.default_rng(seed)
    x = torch.from_numpy(draw.standard_normal((60, 4)).astype(np.float32))
    y = torch.from_numpy(draw.integers(0, 3, 60))
    mine, eager = Trained(seed), Trained(seed)
    compiled = torch.compile(mine.step, backend="numpy")
    for number in range(30):
        event = choice.choice(EVENTS)
        rows = np.arange(start := choice.randrange(10), start + choice.choice([6, 6, 6, 5]))
        if event == "call":
            batch = [tensor[rows[0] : rows[-1] + 1].clone() for tensor in (x, y)]
            assert compiled(*batch).item() == eager.step(*batch).item()
        elif event == "rows":
            batch = [tensor[rows[0] : 2 * rows[-1] : 2] for tensor in (x, y)]
            assert compiled(*batch).item() == eager.step(*batch).item()
        elif event == "run":
            size, order = choice.choice([6, 7, 12]), draw.permutation(60)[: choice.choice([60, 40, 6])]
            losses = compiled.run([x, y], order, batch_size=size).tolist()
            parts = [torch.from_numpy(order[at : at + size]) for at in range(0, len(order), size)]
            assert losses == [eager.step(x[part], y[part]).item() for part in parts]
        else:
            mine.change(event)
            eager.change(event)
        assert differing(state(mine), state(eager)) == [], f"after event {number}, {event}"
        assert [grad.tolist() for grad in mine.kept] == [grad.tolist() for grad in eager.kept]


@pytest.mark.filterwarnings("ignore:the compiled function")
@pytest.mark.parametrize("seed", range(6))
def test_a_few_sequences(seed: int) -> None:
    assert_a_sequence_is_as_without(seed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the compiled function")
@pytest.mark.parametrize("seed", range(6, 100))
def test_many_sequences(seed: int) -> None:
    assert_a_sequence_is_as_without(seed)


@pytest.mark.parametrize("backend", ["numpy", "table"])
@pytest.mark.parametrize("several", [False, True], ids=["alone", "sweep"])
def test_gradients_add_up_where_calls_are_recorded_ahead(several: bool, backend: Any) -> None:
    def made(seed: int) -> Any:
        torch.manual_seed(seed)
        return nn.Linear(4, 3)

    def step_of(model: Any) -> Any:
        def accumulate(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        return accumulate

    x, y = torch.from_numpy(np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32)), torch.arange(24) % 3
    models, others = [list(map(made, range(2 if several else 1))) for _ in range(2)]
    steps = list(map(step_of, models))
    function: Any = torch.compile.sweep(steps, backend=backend) if several else None
    function = function or Compiled(steps[0], backend, None, ahead=True)
    if backend == "table":
        assert MACHINE.wait() is not None
    for number in range(6):
        if number % 2:
            function.run([x, y], batch_size=6)
        for at in range(0, 24, 6):
            batch = x[at : at + 6].clone(), y[at : at + 6].clone()
            for other in others:
                step_of(other)(*batch)
            if number % 2 == 0:
                function(*batch)
        for model, other in zip(models, others, strict=True):
            for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
                np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-4, atol=1e-6)
                mine.grad = theirs.grad = None
