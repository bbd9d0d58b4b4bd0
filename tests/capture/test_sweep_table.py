"""Sweeps that run as tables: each model has the bits of its own table, whatever the others do."""

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
from nanotorch.capture.sweep import batched_step, tabled_step
from nanotorch.capture.sweep.tabled_step import TabledStep
from nanotorch.capture.table.machine import MACHINE
from nanotorch.ops.create.counters import dropout_counters
from nanotorch.ops.create.random import drawing_from

MODELS, ROWS, BATCH = 3, 40, 8
OPTIMIZERS: dict[str, Callable[[Any, float], Any]] = {
    "Adam": lambda p, rate: torch.optim.Adam(p, lr=rate),
    "momentum": lambda p, rate: torch.optim.SGD(p, lr=rate, momentum=0.9, weight_decay=rate / 10),
    "NAdam": lambda p, rate: torch.optim.NAdam(p, lr=rate),
    "SGD": lambda p, rate: torch.optim.SGD(p, lr=rate),
}


@pytest.fixture(autouse=True)
def ready() -> None:
    assert MACHINE.wait() is not None, MACHINE.reason


class Task:
    """A model with its rate and its random numbers, and a step of it."""

    def __init__(self, number: int, optimizer: str = "Adam", norm: bool = False, *more: nn.Module) -> None:
        torch.manual_seed(number)
        extra = [*([nn.BatchNorm1d(6)] if norm else []), *more]
        self.model = nn.Sequential(nn.Linear(4, 6), *extra, nn.ReLU(), nn.Linear(6, 3))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters(), 0.02 * (number + 1))

    def step(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        self.optimizer.zero_grad()
        scores = self.model(x)
        loss = nn.functional.cross_entropy(scores, y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        return scores, (loss, norm)

    def left(self) -> list[bytes]:
        moments = [v for state in self.optimizer.state_dict()["state"].values() for v in state.values()]
        grads = [p.grad for p in self.model.parameters()]
        tensors = [*self.model.state_dict().values(), *moments, *[grad for grad in grads if grad is not None]]
        return [tensor.detach().numpy().tobytes() for tensor in tensors]


def data(seed: int = 0) -> list[torch.Tensor]:
    draw = np.random.default_rng(seed)
    return [torch.from_numpy(draw.standard_normal((ROWS, 4)).astype("f4")), torch.from_numpy(draw.integers(0, 3, ROWS))]


def leaves(result: Any) -> list[bytes]:
    scores, (loss, norm) = result
    return [np.ascontiguousarray(tensor.numpy()).tobytes() for tensor in (scores, loss, norm)]


def alone(tasks: list[Task], tables: Any, orders: Any) -> list[list[bytes]]:
    """What each model gives and leaves with a table of its own: many steps in a call, then one, then a smaller one."""
    found = []
    for number, task in enumerate(tasks):
        step = Compiled(task.step, "table", None, ahead=True)
        given = step.run(tables[number], orders[number], batch_size=BATCH)
        after = [step(*[table[:rows] for table in tables[number]]) for rows in (BATCH, 3)]
        found.append([leaf for each in (given, *after) for leaf in leaves(each)] + task.left())
    return found


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_model_has_the_bits_of_its_own_table(optimizer: str, norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabled_step, "threads", lambda: 1 + norm)
    tables = [data(number) for number in range(MODELS)]
    orders = [np.random.default_rng(number).permutation(ROWS) for number in range(MODELS)]
    want = alone([Task(number, optimizer, norm) for number in range(MODELS)], tables, orders)
    tasks = [Task(number, optimizer, norm) for number in range(MODELS)]
    sweep = torch.compile.sweep([task.step for task in tasks], in_dims=0, backend="table")
    given = sweep.run([list(each) for each in zip(*tables, strict=True)], orders, batch_size=BATCH)
    after = [sweep(*[[of[k][:rows] for of in tables] for k in (0, 1)]) for rows in (BATCH, 3)]
    assert all(isinstance(group._latest, TabledStep) for _, group in sweep.groups)
    for number, task in enumerate(tasks):
        mine = [(scores[number], (loss[number], norms[number])) for scores, (loss, norms) in (given, *after)]
        assert [leaf for each in mine for leaf in leaves(each)] + task.left() == want[number]


def test_a_schedule_may_be_called_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call takes all steps but the two that are recorded; results may lie with other axes first."""
    tables = data()
    calls = []
    taken = TabledStep._batches
    monkeypatch.setattr(TabledStep, "_batches", lambda *args: calls.append(1) or taken(*args))
    found = {}
    for called in ("between", "schedule"):
        tasks = [Task(number) for number in range(MODELS)]
        schedulers = [torch.optim.lr_scheduler.OneCycleLR(task.optimizer, 0.1, 2 * ROWS // BATCH) for task in tasks]

        def step_of(task: Task) -> Any:
            def step(x: torch.Tensor, y: torch.Tensor) -> Any:
                scores, rest = task.step(x, y)
                return scores.reshape(-1, 1, 3).expand(-1, 2, -1).transpose(0, 1).add(1).transpose(0, 1), rest

            return step

        def on(schedulers: Any = schedulers) -> None:
            for scheduler in schedulers:
                scheduler.step()

        sweep = torch.compile.sweep([step_of(task) for task in tasks], backend="table")
        calls.clear()
        given = [sweep.run(tables, batch_size=BATCH, **{called: on}) for _ in range(2)]
        found[called] = [leaves(each) for each in given] + [task.left() for task in tasks]
        assert all(isinstance(group._latest, TabledStep) for _, group in sweep.groups)
        assert len(calls) == (2 * ROWS // BATCH - 2 if called == "between" else 2)
    assert found["between"] == found["schedule"]


def test_numbers_of_calls_that_a_step_decides_by() -> None:
    def counted(task: Task) -> Any:
        def step(x: torch.Tensor, y: torch.Tensor, number: int) -> Any:
            with dropout_counters(number, 0, rows=len(x)):
                return task.step(x, y)

        return step

    tables, numbers = data(), range(1, ROWS // BATCH + 1)
    whole, parts = [[Task(number, norm=number == 2) for number in range(4)] for _ in range(2)]
    for task in whole:
        alone = Compiled(counted(task), "table", None, ahead=True)
        for _ in range(2):
            alone.run(tables, batch_size=BATCH, numbers=numbers)
    sweep = torch.compile.sweep([counted(task) for task in parts], backend="table")
    for _ in range(2):
        sweep.run(tables, batch_size=BATCH, numbers=[numbers] * 4)
    assert [numbers for numbers, _ in sweep.groups] == [[0, 1, 3], [2]]
    assert [task.left() for task in parts] == [task.left() for task in whole]


def test_constants_of_each_model_are_numbers_of_one_table() -> None:
    def made() -> list[Task]:
        draw = np.random.default_rng(0)
        layers = [(nn.LeakyReLU(draw.uniform(0.1, 0.3)), nn.Dropout(draw.uniform(0.1, 0.9))) for _ in range(MODELS)]
        return [Task(number, "momentum", False, *layers[number]) for number in range(MODELS)]

    def drawing(task: Task, number: int) -> Any:
        generator = torch.Generator().manual_seed(number)

        def step(x: torch.Tensor, y: torch.Tensor) -> Any:
            with drawing_from(generator):
                return task.step(x, y)

        return step

    tables = data()
    whole, parts = made(), made()
    for number, task in enumerate(whole):
        step = Compiled(drawing(task, number), "table", None, ahead=True)
        for _ in range(2 - (number == 0)):
            step.run(tables, batch_size=BATCH)
    sweep = torch.compile.sweep([drawing(task, number) for number, task in enumerate(parts)], backend="table")
    sweep.run(tables, batch_size=BATCH)
    sweep.drop(0)
    sweep.run(tables, batch_size=BATCH)
    ((numbers, group),) = sweep.groups
    assert sorted(numbers) == [0, 1] and isinstance(group._latest, TabledStep)
    assert [task.left() for task in parts] == [task.left() for task in whole]


def test_steps_that_turn_out_to_be_unlike_have_the_bits_of_their_own_tables() -> None:
    def made() -> list[Task]:
        return [Task(number, "SGD", False, nn.AlphaDropout(p)) for number, p in enumerate((0.5, 1.0, 0.2, 1.0))]

    tables, (whole, parts) = data(), (made(), made())
    for task in whole:
        Compiled(task.step, "table", None, ahead=True).run(tables, batch_size=BATCH)
    sweep = torch.compile.sweep([task.step for task in parts], backend="table")
    torch.manual_seed(0)
    sweep.run(tables, batch_size=BATCH)
    assert [numbers for numbers, _ in sweep.groups] == [[0, 2], [1, 3]]
    assert [parts[number].left() for number in (1, 3)] == [whole[number].left() for number in (1, 3)]


def test_a_model_leaves_and_the_others_go_on() -> None:
    tables = data()
    whole, parts = [[Task(number) for number in range(4)] for _ in range(2)]
    steps = [Compiled(task.step, "table", None, ahead=True) for task in whole]
    for number, step in enumerate(steps):
        for _ in range(1 if number == 1 else 2):
            step.run(tables, batch_size=BATCH)
    sweep = torch.compile.sweep([task.step for task in parts], backend="table")
    sweep.run(tables, batch_size=BATCH)
    sweep.drop(1)
    sweep.run(tables, batch_size=BATCH)
    assert [task.left() for task in parts] == [task.left() for task in whole]
    assert [group._recorded for _, group in sweep.groups] == [1]


def test_a_proven_program_is_recorded_once_and_checked_with_two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "PROVEN", {})
    counts = {"recorded": 0, "tried": 0}

    class Counting(compiled.Recording):
        def __init__(self, *args: Any) -> None:
            counts["recorded"] += 1
            super().__init__(*args)

    class Trying(batched_step.Trials):
        def run(self, *args: Any) -> Any:
            counts["tried"] += 1
            return super().run(*args)

    monkeypatch.setattr(compiled, "Recording", Counting)
    monkeypatch.setattr(batched_step, "Trials", Trying)
    tables = data()
    want = alone([Task(number) for number in range(MODELS)], [tables] * MODELS, [np.arange(ROWS)] * MODELS)
    found = []
    for _ in range(2):
        tasks, counts["recorded"], counts["tried"] = [Task(number) for number in range(MODELS)], 0, 0
        sweep = torch.compile.sweep([task.step for task in tasks], backend="table")
        sweep.run(tables, batch_size=BATCH)
        for rows in (BATCH, 3):
            sweep(*[table[:rows] for table in tables])
        for task, each in zip(tasks, want, strict=True):
            left = task.left()
            assert each[-len(left) :] == left
        found.append(dict(counts))
    # Once for each model with the first program; the second one, of fewer rows, has the same in its places.
    assert found == [{"recorded": 4, "tried": MODELS + 1}, {"recorded": 2, "tried": 2 + 1}]


def test_a_proven_program_is_no_proof_for_a_model_that_is_otherwise() -> None:
    def made(other: bool) -> list[Callable[[], Any]]:
        return [of_pair(number, other and number == MODELS - 1) for number in range(MODELS)]

    def of_pair(number: int, otherwise: bool) -> Callable[[], Any]:
        array = np.full(6, number, "f4")
        written = torch.from_numpy(array[:3])
        read = torch.from_numpy(array[:3] if otherwise else array[:3].copy())

        def step() -> Any:
            before = read * 2.0
            written.add_(1.0)
            return before.sum(), (read * 2.0).sum()

        return step

    for other in (False, True):
        sweep = torch.compile.sweep(made(other), backend="table")
        for _ in range(3):
            found = sweep()
        alone = [[step() for _ in range(3)][-1] for step in made(other)]
        assert [part.numpy().tolist() for part in found] == [[float(each[k]) for each in alone] for k in range(2)]
        assert [numbers for numbers, _ in sweep.groups] == ([[0, 1], [2]] if other else [[0, 1, 2]])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_how_many_steps_there_are_in_a_call_changes_no_bit(optimizer: str) -> None:
    x, y = data()
    apart, at_once, swept = (Task(0, optimizer) for _ in range(3))
    for task in (apart, at_once, swept):
        task.model.double()
    step = Compiled(apart.step, "table", None, ahead=True)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(ROWS), (80, 1)), axis=1).ravel()
    for start in range(0, len(order), BATCH):
        rows = torch.from_numpy(order[start : start + BATCH])
        step(x.double()[rows], y[rows])
    Compiled(at_once.step, "table", None, ahead=True).run([x.double(), y], order, batch_size=BATCH)
    torch.compile.sweep([swept.step], backend="table").run([x.double(), y], order, batch_size=BATCH)
    assert apart.left() == at_once.left() == swept.left()


def test_a_step_that_no_table_takes_whole_runs_as_numpy_or_is_refused() -> None:
    def steps() -> tuple[list[Task], list[Any]]:
        tasks = [Task(number) for number in range(2)]

        def sorting(task: Task) -> Any:
            return lambda x, y: task.step(x.sort(dim=0).values, y)

        return tasks, [sorting(task) for task in tasks]

    tables = data()
    plain, each = steps()
    for _ in range(4):
        for step in each:
            step(*tables)
    tasks, each = steps()
    sweep = torch.compile.sweep(each)
    for _ in range(4):
        sweep(*tables)
    assert [task.left() for task in tasks] == [task.left() for task in plain]
    assert type(sweep.groups[0][1]._latest).__name__ == "BatchedStep"
    sweep = torch.compile.sweep(steps()[1], backend="table")
    with pytest.raises(CaptureError, match="no table takes its steps: sort"):
        for _ in range(4):
            sweep(*tables)


def test_a_second_program_that_no_table_takes_leaves_each_model_where_it_was() -> None:
    torch.linalg.inv(torch.eye(2))

    class Inverting(Task):
        def step(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            return super().step(x @ torch.linalg.inv(x.T @ x + torch.eye(4)) if len(x) == 3 else x, y)

    tables = data()
    parts, whole = [[Inverting(number) for number in range(MODELS)] for _ in range(2)]
    sweep = torch.compile.sweep([task.step for task in parts], backend="auto")
    for _ in range(2):
        sweep.run(tables, batch_size=BATCH)
        sweep(*[table[:3] for table in tables])
        for task in whole:
            for start in (*range(0, ROWS, BATCH), None):
                rows = slice(3) if start is None else slice(start, start + BATCH)
                task.step(*[table[rows] for table in tables])
    for one, other in zip(parts, whole, strict=True):
        for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
            np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=0, atol=1e-6)


def test_rows_out_of_range_are_the_errors_of_the_step_before_anything_is_written() -> None:
    tasks, (x, y) = [Task(number) for number in range(2)], data()
    sweep = torch.compile.sweep([task.step for task in tasks], backend="table")
    sweep.run([x, y], batch_size=BATCH)
    before = [task.left() for task in tasks]
    wrong = y.clone()
    wrong[3 * BATCH] = 7
    with pytest.raises(IndexError):
        sweep.run([x, wrong], batch_size=BATCH)
    assert [task.left() for task in tasks] != before
    again = [Task(number) for number in range(2)]
    sweep = torch.compile.sweep([task.step for task in again], backend="table")
    sweep.run([x, y], batch_size=BATCH)
    sweep.run([x[: 3 * BATCH], y[: 3 * BATCH]], batch_size=BATCH)
    assert [task.left()[:4] for task in tasks] == [task.left()[:4] for task in again]


def test_models_draw_from_one_generator_in_the_order_of_steps() -> None:
    """As without tables: a step of each model, and then the next one."""
    together, apart = [Task(k, "SGD") for k in range(MODELS)], [Task(k, "SGD") for k in range(MODELS)]
    for task in (*together, *apart):
        task.model.insert(2, nn.Dropout(0.5))
    x, y = data()
    steps = torch.compile.sweep([task.step for task in together], backend="table")
    torch.manual_seed(9)
    losses = torch.stack([steps.run([x, y], batch_size=BATCH)[1][0] for _ in range(2)])
    torch.manual_seed(9)
    for epoch in range(2):
        for step in range(ROWS // BATCH):
            rows = slice(step * BATCH, (step + 1) * BATCH)
            expected = [task.step(x[rows], y[rows])[1][0].item() for task in apart]
            np.testing.assert_allclose(losses[epoch, :, step].numpy(), expected, rtol=1e-5)
