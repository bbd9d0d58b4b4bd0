"""Gradients that lie around between compiled calls: added to, dropped, kept and assigned in random sequences."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
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
