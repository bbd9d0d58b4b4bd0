"""A small classifier that takes steps, and whether two of them have done the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import nn

F = nn.functional


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


class Run:
    """A classifier with its optimizer and its step."""

    def __init__(self, make: Callable[[Any], torch.optim.Optimizer] = adam, *layers: Callable[[], nn.Module]) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), *[layer() for layer in layers], nn.ReLU(), nn.Linear(8, 3))
        self.optimizer = make(self.model.parameters())

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss


def batch(seed: int, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    x, y = draw.standard_normal((rows, 4)).astype(np.float32), draw.integers(0, 3, rows)
    return torch.from_numpy(x), torch.from_numpy(y)


def state(run: Any) -> dict[str, Any]:
    """Everything that a step changes: parameters, buffers, gradients, state, versions, modes and random numbers."""
    found: dict[str, Any] = {"generator": torch.get_rng_state()}
    for name, tensor in run.model.state_dict().items():
        found[name] = tensor.numpy().copy()
    for name, parameter in run.model.named_parameters():
        found[f"{name}._version"] = parameter._version
        found[f"{name}.grad"] = None if parameter.grad is None else parameter.grad.numpy().copy()
        for kind, value in run.optimizer.state[parameter].items():
            found[f"{name}.{kind}"] = value.numpy().copy() if isinstance(value, torch.Tensor) else value
    return found


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names under which two states are not the same."""
    assert one.keys() == other.keys()
    return [name for name in one if not same(one[name], other[name])]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    return bool(one == other)


def programs(compiled: Any) -> int:
    """How many programs of a compiled function are in use."""
    return sum(captured.confirmed for known in compiled._programs.values() for captured in known)
