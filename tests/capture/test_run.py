"""`Compiled.run`: many steps in one call are as many calls."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.program import CallNumber
from nanotorch.ops.create.counters import dropout_counters
from nanotorch.optim.lr_scheduler import ExponentialLR
from tests.support.captured_steps import Run, batch, momentum

F = nn.functional


class Told(NamedTuple):
    loss: torch.Tensor
    outputs: torch.Tensor


class Fit:
    """A classifier of some rows, with dropout by counters and a rate that falls in every step."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.x = torch.from_numpy(draw.standard_normal((50, 4)).astype(np.float32))
        self.y = torch.from_numpy(draw.integers(0, 3, 50))
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 3))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = ExponentialLR(self.optimizer, 0.99)

    def step(self, x: torch.Tensor, y: torch.Tensor, number: int) -> dict[str, Any]:
        self.optimizer.zero_grad()
        with dropout_counters(number, rows=len(x)):
            outputs = self.model(x)
        loss = F.cross_entropy(outputs, y)
        loss.backward()
        self.optimizer.step()
        return {"told": Told(loss.detach(), outputs.detach()), "fixed": 3}

    def state(self) -> list[bytes]:
        """Weights, gradients, statistics, versions, and what the optimizer knows."""
        parameters = list(self.model.parameters())
        kept = [*self.model.state_dict().values(), *[p.grad for p in parameters]]
        kept += [value for p in parameters for value in self.optimizer.state[p].values()]
        return [*[tensor.numpy().tobytes() for tensor in kept], repr([p._version for p in parameters]).encode()]


def test_a_run_is_as_many_calls() -> None:
    ours, eager = Fit(), Fit()
    step = torch.compile(ours.step)
    draw, number = np.random.default_rng(1), 0
    for _ in range(4):
        order = draw.permutation(50)
        result = step.run(
            [ours.x, ours.y],
            torch.from_numpy(order) if number else order,
            batch_size=16,
            numbers=range(number, number + 4),
            between=ours.scheduler.step,
        )
        wanted = []
        for start in range(0, 50, 16):
            rows = order[start : start + 16]
            wanted.append(eager.step(eager.x[rows], eager.y[rows], number)["told"])
            eager.scheduler.step()
            number += 1
        assert result["fixed"] == 3 and isinstance(result["told"], Told)
        np.testing.assert_array_equal(result["told"].loss.numpy(), [told.loss.item() for told in wanted])
        for mine, theirs in zip(result["told"].outputs, wanted, strict=True):  # a list, as the last one is shorter
            np.testing.assert_array_equal(mine.numpy(), theirs.outputs.numpy())
        assert ours.state() == eager.state()
        assert ours.optimizer.param_groups[0]["lr"] == eager.optimizer.param_groups[0]["lr"]
    programs = [captured for known in step._programs.values() for captured in known if captured.confirmed]
    assert len(programs) == 2  # of whole batches, and of the last one


def test_results_of_whole_batches_are_stacked_and_steps_bound_them() -> None:
    fit = Fit()
    step = torch.compile(fit.step)
    told = step.run([fit.x, fit.y], batch_size=16, steps=3, numbers=range(3))["told"]
    assert told.loss.shape == (3,) and told.outputs.shape == (3, 16, 3)
    assert step.run([fit.x, fit.y], batch_size=16, steps=0, numbers=()) is None


def test_a_number_of_a_call_is_no_part_of_the_program() -> None:
    fit = Fit()
    step = torch.compile(fit.step)
    x, y = fit.x[:16].clone(), fit.y[:16].clone()
    losses = {step(x, y, CallNumber(number))["told"].loss.item() for number in range(8)}
    assert len(losses) == 8
    assert [len(known) for known in step._programs.values()] == [1]


def test_several_updates_in_a_step_count_each() -> None:
    def made() -> tuple[Any, torch.optim.Adam, nn.Module]:
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

        def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            for _ in range(2):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
            return loss.detach()

        return step, optimizer, model

    fit = Fit()
    (step, optimizer, model), (ours, mine, compiled) = made(), made()
    losses = torch.compile(ours).run([fit.x, fit.y], batch_size=5)
    for number, start in enumerate(range(0, 50, 5)):
        assert losses[number].item() == step(fit.x[start : start + 5], fit.y[start : start + 5]).item()
    for one, other in zip(model.parameters(), compiled.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())
        assert optimizer.state[one]["step"].item() == mine.state[other]["step"].item() == 20


def test_a_row_with_an_index_that_is_not_there_raises_as_ever() -> None:
    """The steps before it are done, and nothing of its own."""

    def made() -> tuple[Any, nn.Embedding, torch.optim.Adam]:
        torch.manual_seed(0)
        table = nn.Embedding(5, 3)
        optimizer = torch.optim.Adam(table.parameters(), lr=0.1)

        def step(rows: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (table(rows) ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step, table, optimizer

    rows = torch.tensor([0, 1, 2, 3, 4, 1, 2, 2, 0, 1, 2, 1, 2, 7, 0, 1])
    step, table, _ = made()
    for start in range(0, 12, 2):
        step(rows[start : start + 2])
    ours, mine, optimizer = made()
    with pytest.raises(IndexError):
        torch.compile(ours).run([rows], batch_size=2)
    np.testing.assert_array_equal(mine.weight.detach().numpy(), table.weight.detach().numpy())
    assert optimizer.state[mine.weight]["step"].item() == 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "positive integer"),
        ({"batch_size": 8.0}, ValueError, "batch_size is an integer, got 8.0"),
        ({"batch_size": True}, ValueError, "batch_size is an integer, got True"),
        ({"batch_size": 8, "steps": 8}, ValueError, "enough for 7 steps"),
        ({"batch_size": 8, "steps": 1.5}, ValueError, "steps is an integer, got 1.5"),
        ({"batch_size": 8, "order": [0.5]}, ValueError, "numbers of rows"),
        ({"batch_size": 8, "order": [0, 50]}, IndexError, "50 rows"),
        ({"batch_size": 8, "order": [-1, 5]}, IndexError, "from -1"),
        ({"batch_size": 8, "numbers": [1]}, ValueError, "1 numbers"),
    ],
)
def test_what_cannot_be_run_is_said(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    fit = Fit()
    with pytest.raises(error, match=message):
        torch.compile(fit.step).run([fit.x, fit.y], **arguments)


@pytest.mark.parametrize("backend", ["numpy", "table"])
def test_gradients_add_up_over_the_steps_of_a_run(backend: Any) -> None:
    found = []
    for compiled in (False, True):
        run = Run()

        def step(x: Any, y: Any, model: Any = run.model) -> Any:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        x, y = batch(0, 24)
        steps = torch.compile(step, backend=backend)
        for _ in range(6):
            run.optimizer.zero_grad()
            if compiled:
                steps.run([x, y], batch_size=4)
            else:
                for start in range(0, 24, 4):
                    step(x[start : start + 4], y[start : start + 4])
            found.append(torch.cat([p.grad.flatten() for p in run.model.parameters()]).numpy())
    np.testing.assert_allclose(found[6:], found[:6], rtol=0 if backend == "numpy" else 1e-5)


def test_integers_of_numpy_are_integers() -> None:
    fit = Fit()
    losses = torch.compile(lambda x: x.sum()).run([fit.x], batch_size=np.int64(8), steps=np.int32(3))
    assert losses.shape == (3,)


def test_a_tensor_alone_is_no_list_of_tensors() -> None:
    fit = Fit()
    with pytest.raises(TypeError, match=r"run\(\[x\]"):
        torch.compile(fit.step).run(fit.x, batch_size=2)


def test_tables_have_one_length() -> None:
    fit = Fit()
    with pytest.raises(ValueError, match=r"\[50, 7\]"):
        torch.compile(fit.step).run([fit.x, fit.y[:7]], batch_size=2)


@pytest.mark.parametrize("backend", ["numpy", "table"])
@pytest.mark.parametrize("change", ["eval", "freeze", "closure"])
def test_what_is_changed_between_steps_holds_from_the_next_one_on(backend: Any, change: str) -> None:
    results = []
    for compiled in (False, True):
        run, factor, calls = Run(momentum, lambda: nn.Dropout(0.5)), [1.0], []

        def step(x: Any, y: Any, run: Any = run, factor: Any = factor) -> Any:
            return run.step(x, y) * factor[0]

        def between(run: Any = run, factor: Any = factor, calls: Any = calls) -> None:
            calls.append(1)
            if len(calls) == 7 and change == "eval":
                run.model.eval()
            elif len(calls) == 7 and change == "freeze":
                run.model[0].requires_grad_(False)
            elif len(calls) == 7:
                factor[0] = 3.0

        x, y = batch(0, 60)
        if compiled:
            losses = torch.compile(step, backend=backend).run((x, y), batch_size=4, between=between)
        else:
            losses = torch.stack([(step(x[k : k + 4], y[k : k + 4]), between())[0].detach() for k in range(0, 60, 4)])
        results.append(losses.numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)
