"""`nanotorch.compile`: a compiled step does what the eager one does, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.compiled import Compiled

F = nn.functional


class Run:
    """A small classifier with its optimizer and its step."""

    def __init__(self, make_optimizer: Callable[[Any], Any], *layers: nn.Module) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 16), *[layer() for layer in layers], nn.ReLU(), nn.Linear(16, 3))
        self.optimizer = make_optimizer(self.model.parameters())

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss


def batches(count: int, rows: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = np.random.default_rng(0)
    arrays = [(draw.standard_normal((rows, 4)).astype(np.float32), draw.integers(0, 3, rows)) for _ in range(count)]
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in arrays]


def assert_same(one: Run, other: Run) -> None:
    """Parameters, gradients, buffers, optimizer state and versions."""
    for (name, mine), theirs in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=name)
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        np.testing.assert_array_equal(mine.grad.numpy(), theirs.grad.numpy())
        assert mine._version == theirs._version
        for name, value in one.optimizer.state[mine].items():
            np.testing.assert_array_equal(value.numpy(), other.optimizer.state[theirs][name].numpy(), err_msg=name)


OPTIMIZERS = [
    lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
]


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
@pytest.mark.parametrize("layers", [(), (lambda: nn.LayerNorm(16),), (lambda: nn.BatchNorm1d(16),)])
def test_a_compiled_step_is_the_eager_step(make_optimizer: Any, layers: Any) -> None:
    compiled, eager = Run(make_optimizer, *layers), Run(make_optimizer, *layers)
    step = torch.compile(compiled.step, backend="numpy")
    assert isinstance(step, Compiled)
    for number, batch in enumerate(batches(8)):
        for run in (compiled, eager):
            run.optimizer.param_groups[0]["lr"] *= 0.9 if number > 3 else 1.0
        ours = step(*batch) if number != 5 else compiled.step(*batch)  # one eager step in between
        assert ours.item() == eager.step(*batch).item()
        assert_same(compiled, eager)
    assert [captured.confirmed for programs in step._programs.values() for captured in programs].count(True) == 1
