"""Fits that are trained together, in one process and in one call, leave the bits of fits that are trained alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.backend.numpy_backend import owner
from nanotorch.ops.create.random import drawing_from
from nanotorch.train.fit import together as together_
from nanotorch.train.fit.build import Setup
from nanotorch.train.fit.chunks import Chunk, Chunks, DueSteps
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.fit.together import End, together
from nanotorch.train.fit.training import Training
from nanotorch.train.fit.window_step import StepResult
from nanotorch.train.record.checkpoint import Checkpoints, load
from tests.support.fits import SCHEDULES, differing, events_of, left, made


class Noise(nn.Module):
    """Draws without a generator, as a model of the user's may."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input + 0.1 * torch.randn_like(input)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("noise", [True, False])
def test_trainings_draw_side_by_side_what_each_draws_alone(compile: bool, noise: bool) -> None:
    def built(seed: int) -> tuple[Setup, Chunks]:
        setup, chunks = made(f"seed={seed}", compile=compile)
        if noise:
            setup.training.model.append(Noise())
        return setup, chunks

    alone = [built(seed) for seed in (1, 2)]
    for one in alone:
        list(events_of(*one))
    before = torch.get_rng_state()
    side = [built(seed) for seed in (1, 2)]
    torch.manual_seed(0)
    open_ = [events_of(*one) for one in side]
    while any([next(events, None) is not None for events in open_]):
        torch.rand(1)  # draws between the steps are nothing to them
    torch.set_rng_state(before)
    assert [left(setup) for setup, _ in side] == [left(setup) for setup, _ in alone]
    states = [setup.training.state()["generators"]["dropout"] for setup, _ in side]
    assert states[0]["seed"] != states[1]["seed"]
    assert (states[0] == setup_state(1)) is not noise


def setup_state(seed: int) -> Any:
    return made(f"seed={seed}")[0].training.generator.get_state()


def test_a_program_is_of_the_generator_that_it_was_recorded_with() -> None:
    ours = torch.Generator().manual_seed(5)
    step = torch.compile(lambda x: nn.functional.dropout(x, 0.5) + torch.rand(3), backend="numpy")
    x = torch.ones(3)
    drawn: list[Any] = []
    for number in range(12):
        torch.manual_seed(7)
        for generator in (ours.manual_seed(number), None):
            with drawing_from(torch.default_generator if generator is None else generator):
                drawn.append((step(x).tolist(), torch.get_rng_state()["state"]))
    expected: list[Any] = []
    for number in range(12):
        for seed in (number, 7):
            torch.manual_seed(seed)
            expected.append(((nn.functional.dropout(x, 0.5) + torch.rand(3)).tolist(), torch.get_rng_state()["state"]))
    assert drawn == expected


def test_a_checkpointed_region_draws_again_from_the_generator_of_its_forward_pass() -> None:
    ours = torch.Generator().manual_seed(5)
    x = torch.ones(8, requires_grad=True)
    with drawing_from(ours):
        y = torch.utils.checkpoint.checkpoint(lambda x: x.sin() * torch.rand(8), x, use_reentrant=False)
    state = ours.get_state()
    y.sum().backward()
    assert ours.get_state() == state
    assert torch.equal(x.grad, x.detach().cos() * torch.rand(8, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("compile", ["auto", True])
def test_steps_that_are_due_may_be_taken_by_whoever_iterates(compile: Any) -> None:
    """Some or all of them, in the first epoch or later; what is not taken the fit takes."""
    alone, _ = made()
    list(events_of(alone, None))
    for taken in (set(range(20)), {0}, {1, 2}, set[int]()):
        setup, chunks = made(compile=compile)
        seen = 0
        for event in events_of(setup, chunks):
            if isinstance(event, DueSteps):
                assert setup.training.step == event.numbers[0] - 1
                if seen in taken:
                    event.count = min(event.count, 2)
                    event.given = chunks._run(event)
                seen += 1
        assert left(setup) == left(alone)


def both(*trials: list[str], **named: Any) -> tuple[dict[int, Setup], list[tuple[int, Any]]]:
    """Train trials each alone, step by step, and all of them together; they have to leave the same."""
    alone = {number: made(*overrides)[0] for number, overrides in enumerate(trials)}
    ends: dict[int, Any] = {}
    for number, setup in alone.items():
        try:
            list(events_of(setup, None))
        except DivergedError as error:
            ends[number] = str(error)
    side = {number: made(*overrides, **named) for number, overrides in enumerate(trials)}
    events = list(together({number: events_of(*one) for number, one in side.items()}))
    assert {number: str(event) for number, event in events if isinstance(event, DivergedError)} == ends
    for number, (setup, _) in side.items():
        assert differing(left(setup), left(alone[number])) == [], number
    return alone, events


def test_fits_that_differ_in_everything_that_a_sweep_may_vary() -> None:
    trials = [
        [
            f"seed={number}",
            f"optimizer={{name: AdamW, lr: {0.001 * 3**number}, weight_decay: {0.1 * (number % 2)}}}",
            f"model.dropout={0.2 * (number % 3)}",
            SCHEDULES[number],
        ]
        for number in range(5)
    ]
    _, events = both(*trials)
    assert sorted([number for number, event in events if isinstance(event, dict)]) == sorted([*range(5)] * 4)
    assert all(isinstance(event, Chunk | dict | End) for _, event in events)


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.accumulate=4", "train.clip_norm=0.5"],
        ["train.ema=0.9", "train.clip_value=0.01", "model.batch_norm=true"],
        ["loss.class_weight=balanced", "train.drop_last=true"],
        ["train.shuffle=false", "optimizer={name: SGD, lr: 0.1, momentum: 0.9, nesterov: true}"],
        ["data={name: diabetes}", "loss={name: HuberLoss}", "train.batch_size=100", "train.epochs=2"],
        ["dtype=float64", "train.batch_size=500"],
    ],
)
def test_fits_with_every_option_of_a_step(overrides: list[str]) -> None:
    both(*[[f"seed={seed}", *overrides] for seed in (1, 2, 3)])


def test_a_fit_that_stops_early_leaves_the_others() -> None:
    early = ["train.epochs=12", "early_stopping={patience: 2, min_delta: 0.02}"]
    alone, events = both(*[[f"seed={seed}", *early] for seed in range(6)])
    lasts = [setup.training.epoch for setup in alone.values()]
    assert len(set(lasts)) > 2 and min(lasts) < 12
    records = [(event["epoch"], number) for number, event in events if isinstance(event, dict)]
    assert records == sorted([(epoch, number) for number in range(6) for epoch in range(1, lasts[number] + 1)])


def test_folds_have_other_rows_and_other_numbers_of_them() -> None:
    folds = [f"data={{name: iris, validation_size: 0.2, fold: [{fold}, 4]}}" for fold in (1, 2, 3, 4)]
    alone, _ = both(*[[f"seed={seed}", fold] for fold in folds for seed in (1, 2)])
    assert len({len(setup.parts["train"]) for setup in alone.values()}) == 2


def test_one_that_diverges_is_told_and_the_others_go_on() -> None:
    rates = [1e-3, 1e30, 1e-2]
    _, events = both(*[[f"optimizer={{name: SGD, lr: {rate}}}", "train.epochs=6"] for rate in rates])
    assert [number for number, event in events if isinstance(event, DivergedError)] == [1]
    assert sum(isinstance(event, dict) and number == 2 for number, event in events) == 6


def test_fits_of_several_forms_are_several_groups() -> None:
    forms = [["model.hidden=[6]"], ["model.hidden=[7, 5]"], ["train.batch_size=32"], ["optimizer={name: SGD, lr: 0.1}"]]
    both(*[[f"seed={seed}", *form] for seed in (1, 2) for form in forms])


@pytest.mark.parametrize("compile", ["auto", False])
def test_what_is_no_program_or_does_not_pay_runs_as_ever(compile: Any) -> None:
    _, events = both(["seed=1"], ["seed=2"], ["train.on_nonfinite=skip"], compile=compile)
    assert {type(event) for _, event in events} == {StepResult, dict, End}


def test_fits_go_on_from_where_each_of_them_stands(tmp_path: Path) -> None:
    """From the steps 0, 2, 6 (the end of an epoch), 9, and 9 once more."""
    stops = [0, 2, 6, 9, 9]
    trials = [[f"seed={seed}", SCHEDULES[seed % 5], "early_stopping={patience: 3}"] for seed in range(5)]
    side: dict[int, tuple[Setup, Chunks]] = {}
    for number, (overrides, stop) in enumerate(zip(trials, stops, strict=True)):
        first, _ = made(*overrides)
        training, events = first.training, events_of(first, None)
        while training.step < stop:
            next(events)
        save(training, tmp_path / str(number))
        side[number] = made(*overrides)
        side[number][0].training.load(load(tmp_path / str(number) / "last"))
    list(together({number: events_of(*one) for number, one in side.items()}))
    for number, overrides in enumerate(trials):
        whole, _ = made(*overrides)
        list(events_of(whole, None))
        del whole.training.history[: 4 - len(side[number][0].training.history)]  # which other files keep
        assert differing(left(side[number][0]), left(whole)) == [], number


def test_whoever_iterates_may_stop_after_an_epoch_and_go_on_with_some() -> None:
    side = {seed: made(f"seed={seed}") for seed in range(4)}
    fits = {seed: events_of(*one) for seed, one in side.items()}
    records = 0
    for _, event in together(fits):
        records += isinstance(event, dict)
        if records == 4:
            break
    assert {setup.training.step for setup, _ in side.values()} == {6}
    fits.pop(2).close()
    for _ in together(fits):
        pass
    for seed in fits:
        alone, _ = made(f"seed={seed}")
        list(events_of(alone, None))
        assert differing(left(side[seed][0]), left(alone)) == []


def test_a_fit_that_is_closed_leaves() -> None:
    side = {seed: made(f"seed={seed}") for seed in range(3)}
    fits = {seed: events_of(*one) for seed, one in side.items()}
    for seed, event in together(fits):
        if isinstance(event, dict) and event["epoch"] == 2 and seed == 0:
            fits[1].close()
    assert [setup.training.epoch for setup, _ in side.values()] == [4, 2, 4]
    alone, _ = made("seed=2")
    list(events_of(alone, None))
    assert differing(left(side[2][0]), left(alone)) == []


def test_other_errors_are_raised() -> None:
    def broken() -> Iterator[Any]:
        yield {"epoch": 1}
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        list(together({"a": broken(), "b": iter([{"epoch": 1}] * 3)}))


def test_steps_that_cannot_be_recorded_run_as_ever_which_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        assert input.sum().item() > -float("inf")
        return input.relu()

    monkeypatch.setattr(nn.ReLU, "forward", forward)
    monkeypatch.setattr(together_, "PAYS", 1)
    with pytest.warns(UserWarning, match="3 fits run one after the other: .*values of a tensor") as said:
        both(*[[f"seed={seed}"] for seed in range(3)], compile="auto")
    assert len(said) == 1


def test_whoever_stops_iterating_leaves_each_model_with_memory_of_its_own() -> None:
    side = {seed: made(f"seed={seed}") for seed in range(3)}
    events = together({seed: events_of(*one) for seed, one in side.items()})
    while side[2][0].training.step < 5:
        next(events)
    events.close()
    owners = [owner(p.detach().numpy()) for setup, _ in side.values() for p in setup.training.model.parameters()]
    assert len({id(each) for each in owners}) == 3  # the parameters of each lie side by side


@pytest.mark.parametrize("stop", [1, 2, 5, 8])
def test_all_trainings_may_be_saved_at_any_event(stop: int, tmp_path: Path) -> None:
    trials = [[f"seed={seed}", SCHEDULES[0]] for seed in range(3)]
    side = {number: made(*overrides) for number, overrides in enumerate(trials)}
    events = together({number: events_of(*one) for number, one in side.items()})
    for _ in range(stop):
        next(events)
    again = {}
    for number, (setup, _) in side.items():
        save(setup.training, tmp_path / str(number))
        again[number] = made(*trials[number])
        again[number][0].training.load(load(tmp_path / str(number) / "last"))
    list(together({number: events_of(*one) for number, one in again.items()}))
    for number, overrides in enumerate(trials):
        whole, _ = made(*overrides)
        list(events_of(whole, None))
        del whole.training.history[: 4 - len(again[number][0].training.history)]
        assert differing(left(again[number][0]), left(whole)) == [], number


def save(training: Training, place: Path) -> None:
    kept = Checkpoints(place, 0, None, 1)
    optimizer, state, history = training.optimizer.state_dict(), training.state(), training.history
    kept.save(training.step, training.weights(), optimizer, state, False, None, history)
    kept.flush()
