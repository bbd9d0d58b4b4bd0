"""Indices of captured steps are checked before anything is written: the plain step then says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.capture.entry import compile

Loss = Callable[[Tensor, Tensor], Tensor]


def indexed(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[torch.arange(len(outputs)), targets].sum()


def written(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.index_put((torch.arange(len(outputs)), targets), torch.zeros(len(outputs))) ** 2).sum()


class Training:
    def __init__(self, loss: Loss) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Embedding(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.loss = loss

    def step(self, indices: Tensor, targets: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(indices), targets)
        loss.backward()
        self.optimizer.step()
        return loss

    def arrays(self) -> list[Any]:
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        return [tensor.numpy() for tensor in [*self.model.state_dict().values(), *state]]


@pytest.mark.parametrize("loss", [indexed, written])
def test_a_wrong_index_is_what_it_is_in_the_plain_step(loss: Loss) -> None:
    plain, captured = Training(loss), Training(loss)
    compiled = compile(captured.step)
    draw = np.random.default_rng(0)
    for number in range(9):
        indices, targets = draw.integers(0, 5, 8), draw.integers(0, 3, 8)
        indices[3], targets[5] = (5 if number == 6 else 0), (3 if number == 7 else -1 if loss is indexed else 1)
        told = []
        if number == 6:
            assert any(program.confirmed for programs in compiled._programs.values() for program in programs)
        for step in (plain.step, compiled):
            try:
                told.append(step(torch.from_numpy(indices.copy()), torch.from_numpy(targets.copy())).item())
            except IndexError as error:
                told.append(str(error))
        assert told[0] == told[1] and isinstance(told[0], str) is (number in (6, 7))
        for ours, theirs in zip(plain.arrays(), captured.arrays(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
