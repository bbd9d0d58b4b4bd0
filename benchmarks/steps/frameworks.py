"""The step in PyTorch's API: nanotorch plain, as a program and as a table, PyTorch plain and by torch.compile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.steps.problem import Contestant, Problem


def import_pytorch(device: str) -> ModuleType | None:
    """Return PyTorch, limited to one thread; None where it is not installed or cannot use the device."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch if device == "cpu" or torch.cuda.is_available() else None


class Parts:
    """Model, optimizer, loss and batch in PyTorch's API, for any module that has it."""

    def __init__(self, torch: ModuleType, problem: Problem, device: str) -> None:
        parameters, x, y = problem.draw()
        layers: list[Any] = []
        for inputs, outputs in itertools.pairwise(problem.sizes):
            layers += [torch.nn.Linear(inputs, outputs), getattr(torch.nn, problem.activation)()]
        self.model = torch.nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), parameters, strict=True):
                parameter.copy_(torch.from_numpy(value.copy()))
        self.model.to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=problem.lr)
        functional = torch.nn.functional
        if problem.squared:
            self.loss = lambda out, y: 0.5 * functional.mse_loss(out, y, reduction="sum")
        else:
            self.loss = functional.cross_entropy
        self.x, self.y = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)

    def read(self) -> list[np.ndarray]:
        """Return the parameters."""
        return [parameter.detach().cpu().numpy() for parameter in self.model.parameters()]

    def step_by(self, forward: Callable[[Any, Any], Any], update: Callable[[], Any]) -> Callable[[Any, Any], Any]:
        """Return the step, with this for forward and loss and this for the optimizer's step."""

        def step(x: Any, y: Any) -> Any:
            self.optimizer.zero_grad()
            loss = forward(x, y)
            loss.backward()
            update()
            return loss

        return step

    def forward(self, x: Any, y: Any) -> Any:
        """Return the loss."""
        return self.loss(self.model(x), y)


def eager(torch: ModuleType, problem: Problem, device: str = "cpu") -> Contestant:
    """The step as it stands."""
    parts = Parts(torch, problem, device)
    step = parts.step_by(parts.forward, parts.optimizer.step)
    return Contestant(lambda: step(parts.x, parts.y).item(), parts.read)


def torch_compile(torch: ModuleType, problem: Problem) -> Contestant:
    """PyTorch's compiled step: forward and loss (with their backward) as one function, the optimizer as another."""
    parts = Parts(torch, problem, "cpu")
    step = parts.step_by(torch.compile(parts.forward, dynamic=False), torch.compile(parts.optimizer.step))
    return Contestant(lambda: step(parts.x, parts.y).item(), parts.read)


def compiled(problem: Problem) -> Contestant:
    """The step as a program of NumPy calls, a step in a call."""
    import nanotorch

    parts = Parts(nanotorch, problem, "cpu")
    step = nanotorch.compile(parts.step_by(parts.forward, parts.optimizer.step), backend="numpy")
    return Contestant(lambda: step(parts.x, parts.y).item(), parts.read)


def table(problem: Problem) -> Contestant:
    """The step as a table, many steps in a call, each of which gathers the rows of its batch."""
    import nanotorch

    parts = Parts(nanotorch, problem, "cpu")
    step = nanotorch.compile(parts.step_by(parts.forward, parts.optimizer.step), backend="table")
    order = np.tile(np.arange(problem.batch), problem.many)

    def many() -> float:
        return step.run((parts.x, parts.y), order, batch_size=problem.batch)[-1].item()

    return Contestant(lambda: step(parts.x, parts.y).item(), parts.read, many, problem.many)
