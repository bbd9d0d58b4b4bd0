"""`nanotorch.compile.sweep`: every model of a sweep has the numbers of its own separate run."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.entry import sweep
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.sweep.group import Group
from nanotorch.capture.sweep.sweep import Sweep
from nanotorch.nn.utils.flat import flat_if_apart
from nanotorch.ops.create.counters import dropout_counters
from nanotorch.ops.create.random import drawing_from
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.fit.window_step import StepOptions, window_step
from step_cases import CASES, Running

F = nn.functional
optim = torch.optim
Layer = Callable[[], nn.Module]
Optimizer = Callable[[Any, int], Any]


def adam(parameters: Any, number: int) -> Any:
    return optim.AdamW(parameters, lr=0.01 * (number + 1), betas=(0.9, 0.9 + 0.002 * number), weight_decay=0.1 + number)


def momentum(parameters: Any, number: int) -> Any:
    return optim.SGD(parameters, lr=0.02 * (number + 1), momentum=0.9)


class Run:
    """A model of a sweep, with its optimizer and its step."""

    def __init__(self, number: int, *layers: Layer, optimizer: Optimizer = adam, width: int = 16) -> None:
        torch.manual_seed(number)
        self.model = nn.Sequential(nn.Linear(4, width), *[layer() for layer in layers], nn.ReLU(), nn.Linear(width, 3))
        self.optimizer = optimizer(self.model.parameters(), number)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        self.optimizer.zero_grad()
        outputs = self.model(x)
        loss = F.cross_entropy(outputs, y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss, {"outputs": outputs}

    def arrays(self) -> dict[str, Any]:
        kept = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            kept[f"{name}.grad"] = parameter.grad
            kept |= {f"{name}.{key}": value for key, value in self.optimizer.state[parameter].items()}
        return {name: tensor.numpy() for name, tensor in kept.items()}


def runs(count: int, *layers: Layer, **how: Any) -> list[Run]:
    return [Run(number, *layers, **how) for number in range(count)]


def batch(number: int, *lead: int, rows: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(number)
    x, y = draw.standard_normal((*lead, rows, 4)).astype(np.float32), draw.integers(0, 3, (*lead, rows))
    return torch.from_numpy(x), torch.from_numpy(y)


def assert_same(together: list[Run], apart: list[Run]) -> None:
    for number, (one, other) in enumerate(zip(together, apart, strict=True)):
        mine, theirs = one.arrays(), other.arrays()
        for name in theirs:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=f"{name} of {number}")


def confirmed(steps: Sweep) -> list[bool]:
    return [c.confirmed for _, group in steps.groups for programs in group._programs.values() for c in programs]


def compare(together: list[Run], apart: list[Run], steps: Sweep, numbers: Any, **how: Any) -> None:
    """Take steps with all models at once, and one after the other: losses, outputs and all that stays are the same."""
    for number in numbers:
        x, y = batch(number, **how)
        torch.manual_seed(number)
        losses, outputs = steps(x, y)
        torch.manual_seed(number)
        for place, run in enumerate(apart):
            loss, theirs = run.step(x, y)
            assert losses[place].item() == loss.item()
            np.testing.assert_array_equal(outputs["outputs"][place].numpy(), theirs["outputs"].detach().numpy())
        assert_same(together, apart)


@pytest.mark.parametrize("count", [1, 2, 7, pytest.param(32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimizer", [adam, momentum])
def test_numbers_of_separate_runs(count: int, optimizer: Optimizer) -> None:
    together, apart = runs(count, optimizer=optimizer), runs(count, optimizer=optimizer)
    steps = sweep([run.step for run in together])
    compare(together, apart, steps, range(4))
    for run in (*together, *apart):
        run.optimizer.param_groups[0]["lr"] *= 0.5
    compare(together, apart, steps, range(4, 6))
    for run in (together[0], apart[0]):  # one of them goes on alone for a step
        run.step(*batch(6))
    compare(together, apart, steps, range(7, 9))
    assert confirmed(steps) == [True]


LAYERS: dict[str, tuple[Layer, ...]] = {
    "LayerNorm": (lambda: nn.LayerNorm(16),),
    "BatchNorm": (lambda: nn.BatchNorm1d(16),),
    "Dropout": (lambda: nn.Dropout(0.3),),
    "GELU": (nn.GELU,),
    "Softmax": (lambda: nn.Softmax(1),),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    together, apart = runs(5, *LAYERS[name]), runs(5, *LAYERS[name])
    steps = sweep([run.step for run in together])
    compare(together, apart, steps, range(5))
    assert confirmed(steps) == [True]


@pytest.mark.parametrize("name", CASES)
def test_steps_of_all_kinds(name: str) -> None:
    def made(number: int) -> Running:
        running = Running(CASES[name])
        with torch.no_grad():
            for parameter in running.model.parameters():
                parameter.mul_(1 + 0.01 * number)
        running.optimizer.param_groups[0]["lr"] *= 1 + 0.1 * number
        return running

    together, apart = [made(number) for number in range(3)], [made(number) for number in range(3)]
    steps = sweep([running.step for running in together])
    for x, y in CASES[name].batches(5):
        results = steps(x, y)
        for place, running in enumerate(apart):
            for ours, theirs in zip(results, running.step(x, y), strict=True):
                np.testing.assert_array_equal(ours[place].numpy(), theirs.detach().numpy())
            mine, others = together[place].state(), running.state()
            for key, theirs in others.items():
                np.testing.assert_array_equal(mine[key].numpy(), theirs.numpy(), err_msg=f"{key} of {place}")
    assert name == "RAdam" or all(confirmed(steps))  # RAdam begins with steps of another kind


class Mixed:
    """A model whose step has many constants of its own: of dropout, slopes, norms, the loss, and what clips."""

    def __init__(self, number: int) -> None:
        torch.manual_seed(number)
        draw = np.random.default_rng(number)
        self.model = nn.Sequential(
            nn.Linear(4, 12), nn.BatchNorm1d(12, eps=draw.uniform(1e-5, 1e-3), momentum=draw.uniform(0.1, 0.9)),
            nn.LeakyReLU(draw.uniform(0.01, 0.3)), nn.Dropout(draw.uniform(0.1, 0.9)), nn.Linear(12, 8),
            nn.ELU(draw.uniform(0.5, 2.0)), nn.Dropout(0.5), nn.Linear(8, 3),
        )  # fmt: skip
        self.criterion = nn.CrossEntropyLoss(label_smoothing=draw.uniform(0.01, 0.2))
        self.optimizer = adam(self.model.parameters(), number)
        self.most, self.scale = draw.uniform(0.1, 2.0), draw.uniform(0.5, 2.0)
        self.generator = torch.Generator().manual_seed(number)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        with drawing_from(self.generator):
            self.optimizer.zero_grad()
            outputs = self.model(x)
            loss = self.criterion(outputs, y) * self.scale
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.most)
            self.optimizer.step()
        return loss, {"outputs": outputs}

    arrays = Run.arrays


def test_constants_of_each_model() -> None:
    together: Any = [Mixed(number) for number in range(5)]
    apart: Any = [Mixed(number) for number in range(5)]
    steps = sweep([run.step for run in together], backend="numpy")
    compare(together, apart, steps, range(4))
    assert [numbers for numbers, _ in steps.groups] == [[0, 1, 2, 3, 4]] and confirmed(steps) == [True]
    steps.drop(1)
    del together[1], apart[1]
    for run in (together[2], apart[2]):
        run.model[3].p = 0.25
    compare(together, apart, steps, range(4, 8))
    assert len(steps.groups) == 1 and confirmed(steps)[-1]


def test_rates_of_dropout_that_ask_for_another_program_are_apart() -> None:
    def made() -> list[Run]:
        layers = [functools.partial(nn.AlphaDropout, p) for p in (0.0, 0.1, 1.0, 0.2, 0.0)]
        return [Run(number, layer) for number, layer in enumerate(layers)]

    together, apart = made(), made()
    steps = sweep([run.step for run in together], backend="numpy")
    compare(together, apart, steps, range(6))
    assert sorted(numbers for numbers, _ in steps.groups) == [[0, 4], [1, 3], [2]]
    assert steps.explain().splitlines() == [
        "steps 0, 4",
        "steps 1, 3",
        "    self.model.1.p is 0.1, not 0.0",
        "step 2",
        "    self.model.1.p is 1.0, not 0.0",
    ]


def test_the_last_batch_may_be_smaller() -> None:
    together, apart = runs(3), runs(3)
    steps = sweep([run.step for run in together])
    for rows in (16, 5) * 5:
        compare(together, apart, steps, [rows], rows=rows)
    assert confirmed(steps) == [True, True]


@pytest.mark.parametrize("in_dims", [0, (0, None)])
def test_models_may_have_rows_of_their_own(in_dims: Any) -> None:
    together, apart = runs(4), runs(4)
    steps = sweep([run.step for run in together], in_dims=in_dims)
    for number in range(5):
        (xs, ys), y = batch(number, 4), batch(number)[1]
        losses, _ = steps(xs if number % 2 else list(xs), ys if in_dims == 0 else y)
        for place, run in enumerate(apart):
            assert run.step(xs[place], ys[place] if in_dims == 0 else y)[0].item() == losses[place].item()
        assert_same(together, apart)
    assert confirmed(steps) == [True]


def test_many_steps_in_one_call() -> None:
    together, apart = runs(3), runs(3)
    steps = sweep([run.step for run in together])
    x, y = batch(0, rows=100)
    order = np.random.default_rng(1).permutation(100)
    for _ in range(2):
        losses, outputs = steps.run([x, y], order, batch_size=16, steps=6)
        assert losses.shape == (3, 6) and outputs["outputs"].shape == (3, 6, 16, 3)
        for number in range(6):
            rows = torch.from_numpy(order[16 * number : 16 * number + 16])
            assert [run.step(x[rows], y[rows])[0].item() for run in apart] == losses[:, number].tolist()
        assert_same(together, apart)
    assert confirmed(steps) == [True]


@pytest.mark.parametrize("own_tables", [False, True])
@pytest.mark.parametrize("widths", [(16, 16, 16, 16), (16, 8, 16, 8)])
def test_each_model_may_have_an_order_and_tables_of_its_own(own_tables: bool, widths: tuple[int, ...]) -> None:
    def made() -> list[Run]:
        return [Run(number, width=width) for number, width in enumerate(widths)]

    together, apart = made(), made()
    folds = [batch(number, rows=60 + number) for number in range(2)]
    tables = [folds[number % 2 if own_tables else 0] for number in range(4)]
    fields = [[x for x, _ in tables], [y for _, y in tables]] if own_tables else list(folds[0])
    steps = sweep([run.step for run in together])
    for epoch in range(3):
        orders = [np.random.default_rng(epoch + number).permutation(60)[:55] for number in range(4)]
        losses, outputs = steps.run(fields, orders, batch_size=10)
        for number, (run, order, (x, y)) in enumerate(zip(apart, orders, tables, strict=True)):
            parts = [torch.from_numpy(order[start : start + 10]) for start in range(0, 55, 10)]
            found = [run.step(x[rows], y[rows]) for rows in parts]
            assert losses[number].tolist() == [loss.item() for loss, _ in found]
            for ours, (_, theirs) in zip(outputs["outputs"][number], found, strict=True):
                np.testing.assert_array_equal(ours.numpy(), theirs["outputs"].detach().numpy())
        assert_same(together, apart)
    assert all(confirmed(steps))


@pytest.mark.parametrize("widths", [(16, 16, 16), (16, 8, 16)])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("called", ["between", "schedule"])
def test_numbers_and_what_is_called_between(called: str, own: bool, widths: tuple[int, ...]) -> None:
    def stepping(run: Run) -> Callable[..., Any]:
        def step(x: torch.Tensor, y: torch.Tensor, number: int) -> Any:
            run.optimizer.zero_grad()
            with dropout_counters(number, rows=len(x)):
                loss = F.cross_entropy(run.model(x), y)
            loss.backward()
            run.optimizer.step()
            return loss

        return step

    def made() -> list[Run]:
        return [Run(number, lambda: nn.Dropout(0.4), width=width) for number, width in enumerate(widths)]

    together, apart = made(), made()
    steps = sweep([stepping(run) for run in together])
    x, y = batch(0, rows=64)
    numbers = [list(range(k, k + 4)) for k in range(3)] if own else [3, 4, 5, 6]

    def slower(models: list[Run]) -> None:
        for run in models:
            run.optimizer.param_groups[0]["lr"] *= 0.9

    for _ in range(3):
        losses = steps.run([x, y], batch_size=16, numbers=numbers, **{called: lambda: slower(together)})
        for step in range(4):
            rows = slice(16 * step, 16 * step + 16)
            for place, run in enumerate(apart):
                number = numbers[place][step] if own else numbers[step]  # type: ignore[index]
                assert stepping(run)(x[rows], y[rows], number).item() == losses[place, step].item()
            slower(apart)
        assert_same(together, apart)
    assert all(confirmed(steps))


@pytest.mark.parametrize("gone", [(2,), (0,), (4,), (3, 0, 1)])
def test_models_may_leave(gone: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded anew, and who has left stays as it is, and goes on alone."""
    together, apart = runs(5), runs(5)
    steps = sweep([run.step for run in together])
    compare(together, apart, steps, range(4))
    monkeypatch.setattr(Group, "_record", None)
    steps.drop(*gone)
    left = [together[k] for k in gone], [apart[k] for k in gone]
    together, apart = ([run for k, run in enumerate(of) if k not in gone] for of in (together, apart))
    for number in range(4, 9):
        compare(together, apart, steps, [number])
        assert_same(*left)
    for runs_left in left:
        for run in runs_left:
            run.step(*batch(9))
    compare(together, apart, steps, range(9, 12))
    assert_same(*left)


@pytest.mark.parametrize(
    "cut",
    [
        lambda whole: whole[:, :5],
        lambda whole: whole[:, ::2],
        lambda whole: whole.transpose(0, 1).contiguous().transpose(0, 1),
        lambda whole: whole[:1].expand(3, *whole.shape[1:]),
    ],
    ids=["part", "gaps", "turned", "expanded"],
)
def test_arguments_of_each_model_may_lie_in_any_way(cut: Callable[[torch.Tensor], torch.Tensor]) -> None:
    together, apart = runs(3), runs(3)
    steps = sweep([run.step for run in together], in_dims=0)
    for number in range(5):
        x, y = map(cut, batch(number, 3, rows=10))
        losses = steps(x, y)[0]
        assert losses.tolist() == [run.step(x[k], y[k])[0].item() for k, run in enumerate(apart)]
    assert_same(together, apart)
    assert confirmed(steps) == [True]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_model_leaves_with_its_generator(gone: int) -> None:
    """Each of the others goes on with its own, also the one that takes the place."""
    generators = [[torch.Generator().manual_seed(number) for number in range(3)] for _ in range(2)]
    together, apart = ([functools.partial(drawn, generator) for generator in of] for of in generators)
    steps, x = sweep(together), torch.zeros(4, 3)
    for number in range(8):
        if number == 5:
            steps.drop(gone)
            del apart[gone]
        np.testing.assert_array_equal(steps(x).numpy(), np.stack([step(x).numpy() for step in apart]))


def drawn(generator: torch.Generator, x: torch.Tensor) -> torch.Tensor:
    return x + torch.randn(4, 3, generator=generator)


@pytest.mark.parametrize(("loaded", "gone"), [((1,), 1), ((2,), 1), ((2,), 2), ((0, 1), 0), ((0, 1, 2), 1)])
def test_a_model_leaves_when_optimizers_have_loaded_a_state(loaded: tuple[int, ...], gone: int) -> None:
    """They have no plans until their next step, and the others have."""
    together, apart = runs(3), runs(3)
    steps = sweep([run.step for run in together])
    compare(together, apart, steps, range(4))
    for run in [of[number] for of in (together, apart) for number in loaded]:
        run.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
    steps.drop(gone)
    del together[gone], apart[gone]
    compare(together, apart, steps, range(4, 9))


def test_models_leave_a_run() -> None:
    """One after the other, until none is left; each has an order of rows, and the last batch is smaller."""
    together, apart = runs(5, lambda: nn.BatchNorm1d(16)), runs(5, lambda: nn.BatchNorm1d(16))
    steps = sweep([run.step for run in together])
    x, y = batch(0, rows=40)
    everyone = list(zip(together, apart, strict=True))
    for epoch in range(8):
        orders = [np.random.default_rng((epoch, number)).permutation(40) for number in range(len(together))]
        losses, _ = steps.run([x, y], orders, batch_size=16)
        for place, (order, run) in enumerate(zip(orders, apart, strict=True)):
            rows = [torch.from_numpy(order[start : start + 16]) for start in (0, 16, 32)]
            assert [run.step(x[part], y[part])[0].item() for part in rows] == losses[place].tolist()
        assert_same(*map(list, zip(*everyone, strict=True)))
        if epoch > 2:
            number = (2, 0, 2, 1, 0)[epoch - 3]
            steps.drop(number)
            del together[number], apart[number]
    assert not steps.steps


def test_models_that_have_begun_and_new_ones_are_one_group() -> None:
    together, apart = runs(4), runs(4)
    for made in (together, apart):
        for number in range(3):
            made[1].step(*batch(number))
        other = Run(9)
        other.step(*batch(20))
        made[2].optimizer.load_state_dict(other.optimizer.state_dict())
    steps = sweep([run.step for run in together])
    compare(together, apart, steps, range(4))
    assert confirmed(steps) == [True]


def test_an_error_of_one_model_is_its_own() -> None:
    """Those before it have taken their steps, as one after the other would; all go on."""
    together, apart = runs(4), runs(4)
    steps = sweep([run.step for run in together], in_dims=0)
    for number in range(8):
        xs, ys = batch(number, 4)
        if number == 4:
            ys[2, 3] = 7
        errors = []
        for alone in (False, True):
            try:
                if alone:
                    for run, x, y in zip(apart, xs, ys, strict=True):
                        run.step(x, y)
                else:
                    steps(xs, ys)
            except IndexError as error:
                errors.append(str(error))
        assert errors == errors[:1] * (2 if number == 4 else 0)
        for one, other in zip(together, apart, strict=True):
            for name, tensor in other.model.state_dict().items():
                np.testing.assert_array_equal(one.model.state_dict()[name].numpy(), tensor.numpy())


def test_checkpoints_of_one_model() -> None:
    together, apart = runs(3), runs(3)
    steps = sweep([run.step for run in together])
    compare(together, apart, steps, range(4))
    for made in (together, apart):
        other = Run(7)
        other.step(*batch(20))
        made[1].model.load_state_dict(other.model.state_dict())
        made[1].optimizer.load_state_dict(other.optimizer.state_dict())
    compare(together, apart, steps, range(5, 10))
    assert confirmed(steps)[-1]


def test_other_architectures_are_groups_of_their_own() -> None:
    def made() -> list[Run]:
        first, second = [Run(0), Run(1, width=8), Run(2)], [Run(4, nn.Tanh), Run(5, width=8), Run(6, nn.Tanh)]
        return [*first, Run(3, optimizer=momentum), *second]

    together, apart = made(), made()
    steps = sweep([run.step for run in together])
    compare(together, apart, steps, range(5))
    assert [numbers for numbers, _ in steps.groups] == [[0, 2], [1, 5], [3], [4, 6]]
    assert steps.explain().splitlines() == [
        "steps 0, 2",
        "steps 1, 5",
        "    self.model.0.out_features is 8, not 16",
        "step 3",
        "    self.optimizer is of SGD, not of AdamW",
        "steps 4, 6",
        "    self.model.1 is of Tanh, not of ReLU",
    ]
    assert confirmed(steps) == [True] * 4


def test_the_option_that_asks_for_another_program_is_said() -> None:
    made = runs(2)
    made[1].optimizer.param_groups[0]["weight_decay"] = 0
    steps = sweep([run.step for run in made])
    steps(*batch(0))
    assert steps.explain().splitlines()[2] == "    weight_decay of AdamW is 0, not 0.1"


def test_models_with_flat_parameters_are_one_group() -> None:
    def step_of(rate: float) -> Any:
        model = torch.nn.Linear(3, 2)
        flat = torch.nn.utils.flatten_parameters(model.parameters())
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)

        def step(x: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flat, 1.0)
            optimizer.step()
            return loss.detach()

        return step

    torch.manual_seed(0)
    sweep = torch.compile.sweep([step_of(rate) for rate in (0.1, 0.2, 0.3)])
    for _ in range(3):
        sweep(torch.randn(5, 3))
    assert [numbers for numbers, _ in sweep.groups] == [[0, 1, 2]]


def test_a_model_that_becomes_another_one_leaves_its_group() -> None:
    together, apart = runs(4), runs(4)
    steps = sweep([run.step for run in together])
    compare(together, apart, steps, range(4))
    for run in (together[2], apart[2]):
        run.model.eval()
    compare(together, apart, steps, range(4, 9))
    assert [numbers for numbers, _ in steps.groups] == [[0, 1, 3], [2]]
    for run in (together[1], apart[1]):
        run.optimizer.param_groups[0]["weight_decay"] = 0.0
    compare(together, apart, steps, range(9, 14))
    assert all(confirmed(steps))


def test_models_that_write_to_the_same_memory_are_refused() -> None:
    shared = torch.zeros(3)

    def counting(run: Run) -> Callable[..., Any]:
        def step(x: torch.Tensor, y: torch.Tensor) -> Any:
            with torch.no_grad():
                shared.add_(1)
            return run.step(x, y)

        return step

    steps = sweep([counting(run) for run in runs(2)])
    steps(*batch(0))
    with pytest.raises(CaptureError, match=r"shared.* is used by steps 0 and 1 of the sweep, and written to"):
        steps(*batch(1))
    assert shared[0] == 2


def test_what_groups_share() -> None:
    """They may read the same, not write it; a generator gives its numbers to one group after the other."""
    weights, counted = torch.tensor([1.0, 2.0, 0.5]), torch.zeros(())

    def step_of(run: Run, counts: bool = False) -> Callable[..., Any]:
        def step(x: torch.Tensor, y: torch.Tensor) -> Any:
            run.optimizer.zero_grad()
            loss = F.cross_entropy(run.model(x), y, weights)
            loss.backward()
            run.optimizer.step()
            return loss

        def counting(x: torch.Tensor, y: torch.Tensor) -> Any:
            with torch.no_grad():
                counted.add_(1)
            return step(x, y)

        return counting if counts else step

    def made() -> list[Run]:
        return [Run(number, lambda: nn.Dropout(0.3), width=(16, 8, 16)[number]) for number in range(3)]

    together, apart = made(), made()
    steps = sweep([step_of(run) for run in together])
    for number in range(5):
        x, y = batch(number)
        torch.manual_seed(number)
        losses = steps(x, y)
        torch.manual_seed(number)
        for place in (0, 2, 1):
            assert step_of(apart[place])(x, y).item() == losses[place].item()
        assert_same(together, apart)
    assert [numbers for numbers, _ in steps.groups] == [[0, 2], [1]] and confirmed(steps) == [True, True]
    steps = sweep([step_of(run, counts=True) for run in made()])
    steps(*batch(0))
    with pytest.raises(CaptureError, match="counted is written to, and other steps of the sweep can reach it"):
        steps(*batch(1))


def test_a_value_that_changes_in_one_of_the_steps_is_refused() -> None:
    together = runs(3)
    count = [0.0]

    def counted(x: torch.Tensor, y: torch.Tensor) -> Any:
        count[0] += 1
        loss, outputs = together[2].step(x * count[0], y)
        return loss, outputs

    steps = sweep([together[0].step, together[1].step, counted])
    steps(*batch(0))
    with pytest.raises(CaptureError):
        steps(*batch(1))


def test_what_is_given_is_checked() -> None:
    with pytest.raises(ValueError, match="one step at least"):
        sweep([])
    with pytest.raises(ValueError, match="in_dims is 0 or None"):
        sweep([Run(0).step], in_dims=(0,))(*batch(0))
    with pytest.raises(ValueError, match="an entry for each of 2 steps"):
        sweep([run.step for run in runs(2)], in_dims=0)(*batch(0))


class Trained:
    """A model and its step as the trainer takes it: dropout of its own seed, flat gradients, clipping, an average."""

    def __init__(self, number: int, options: StepOptions, decay: float | None, norm: bool, rate: float) -> None:
        torch.manual_seed(number)
        layers = [nn.Linear(4, 12), *([nn.BatchNorm1d(12)] if norm else []), nn.ReLU(), nn.Dropout(rate)]
        self.model = nn.Sequential(*layers, nn.Linear(12, 3))
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.01 * (number + 1), weight_decay=0.1)
        self.flat = flat_if_apart(self.model.parameters())
        self.average = None if decay is None else MovingAverage(self.model, decay)
        self.generator = torch.Generator().manual_seed(100 + number)
        self.criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, number + 1.0]), reduction="sum")
        self.options = options

    def step(self, x: torch.Tensor, y: torch.Tensor, number: int) -> Any:
        weights = self.criterion.weight[y]  # type: ignore[index]
        with drawing_from(self.generator):
            told = window_step(
                self.model, self.criterion, self.optimizer, self.flat, [[x, y, weights]], self.options, self.average,
                True, number=number,
            )  # fmt: skip
        return [(piece.outputs, piece.loss) for piece in told.pieces], told.norm

    def arrays(self) -> list[Any]:
        kept = [*self.model.state_dict().values(), *[p.grad for p in self.model.parameters()]]
        kept += [value for p in self.model.parameters() for value in self.optimizer.state[p].values()]
        kept += [] if self.average is None else [*self.average.module.state_dict().values()]
        counts = [] if self.average is None else [np.array(self.average.updates)]
        return [*[tensor.detach().numpy() for tensor in kept], *counts]


@pytest.mark.parametrize("seed", [0, 1, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 40)]])
def test_random_sweeps(seed: int) -> None:
    """Models of several kinds, which leave or change on the way; the oracle is each of them alone, step by step."""
    draw = np.random.default_rng(seed)
    options = StepOptions(clip_norm=1.0) if draw.random() < 0.5 else StepOptions(clip_value=0.1)
    kinds = [(options, None if draw.random() < 0.5 else 0.9, bool(draw.random() < 0.3), 0.2 * k) for k in range(3)]
    chosen = draw.integers(0, 2 + draw.integers(0, 2), 7)
    together, apart = ([Trained(number, *kinds[kind]) for number, kind in enumerate(chosen)] for _ in range(2))
    steps = sweep([each.step for each in together])
    folds = [batch(number, rows=50 + number) for number in range(2)]
    begun = draw.integers(0, 9, 7).tolist()
    for _ in range(7):
        count = len(together)
        apart_rows = draw.random() < 0.4
        own = [folds[number % 2 if apart_rows else 0] for number in range(count)]
        fields = [[x for x, _ in own], [y for _, y in own]] if apart_rows else list(folds[0])
        orders = [draw.permutation(50)[:40] for _ in range(count)]
        numbers = [list(range(start, start + 3)) for start in begun]
        outputs, norms = steps.run(fields, orders, batch_size=16, numbers=numbers)
        for place, (each, order, (x, y)) in enumerate(zip(apart, orders, own, strict=True)):
            for step in range(3):
                rows = torch.from_numpy(order[16 * step : 16 * step + 16])
                [(found, loss)], norm = each.step(x[rows], y[rows], numbers[place][step])
                assert norms[place, step].item() == norm.item()
                assert outputs[0][1][place, step].item() == loss.item()
                np.testing.assert_array_equal(outputs[0][0][place][step].numpy(), found.detach().numpy())
        for mine, theirs in zip(together, apart, strict=True):
            for one, other in zip(mine.arrays(), theirs.arrays(), strict=True):
                np.testing.assert_array_equal(one, other)
        begun = [start + 3 for start in begun]
        if draw.random() < 0.3 and count > 2:
            gone = draw.permutation(count)[: draw.integers(1, 3)]
            steps.drop(*gone)
            left = [number for number in range(count) if number not in gone]
            together, apart, begun = [together[k] for k in left], [apart[k] for k in left], [begun[k] for k in left]
        if draw.random() < 0.3:
            changed, decay = int(draw.integers(0, len(together))), float(draw.integers(0, 2)) * 0.2
            for each in (together[changed], apart[changed]):
                each.optimizer.param_groups[0]["weight_decay"] = decay
                each.optimizer.param_groups[0]["lr"] *= 0.9
    assert any(confirmed(steps))
