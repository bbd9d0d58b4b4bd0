"""Epochs taken ahead, many in one call, leave the bytes of fits that each run alone, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nanotorch.capture.sweep.sweep import Sweep
from nanotorch.capture.table.machine import MACHINE
from nanotorch.train.fit import together as together_
from nanotorch.train.fit.build import Setup
from nanotorch.train.fit.chunks import Chunks
from nanotorch.train.fit.loop import DivergedError, fit
from nanotorch.train.fit.together import together
from tests.support.fits import SCHEDULES, differing, left, made


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MACHINE.wait() is not None, MACHINE.reason
    monkeypatch.setattr(together_, "LONGEST_AHEAD", 1e9)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many epochs were taken in one call, of each call."""
    calls: list[int] = []
    passes = Sweep.passes

    def counting(self: Sweep, tensors: Any, order: Any, *args: Any) -> Any:
        found = passes(self, tensors, order, *args)
        calls.append(order.shape[1] if found is not None else 0)
        return found

    monkeypatch.setattr(Sweep, "passes", counting)
    return calls


def events_of(setup: Setup, chunks: Chunks) -> Iterator[Any]:
    return fit(setup.training, setup.loader, None, setup.options, chunks=chunks)


def both(*trials: list[str]) -> dict[int, str]:
    """Train trials each alone, and all together and ahead; they have to leave the same. Return how some ended."""
    alone, ends, ended = {}, {}, {}
    for number, overrides in enumerate(trials):
        setup, chunks = made(*overrides)
        alone[number] = setup
        try:
            list(events_of(setup, chunks))
        except DivergedError as error:
            ends[number] = str(error)
    side = {number: made(*overrides) for number, overrides in enumerate(trials)}
    for _, chunks in side.values():
        chunks.watched = False
    for number, event in together({number: events_of(*one) for number, one in side.items()}):
        if isinstance(event, DivergedError):
            ended[number] = str(event)
    assert ended == ends
    for number, (setup, _) in side.items():
        if number not in ends:
            assert differing(left(setup), left(alone[number])) == [], number
    return ends


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train.accumulate=2", "train.clip_norm=0.5", "model.dropout=0"],
        ["train.batch_size=45", "model.batch_norm=true"],
        ["train.drop_last=true", "train.shuffle=false", "optimizer={name: SGD, lr: 0.1, momentum: 0.9}"],
        ["data={name: diabetes}", "loss={name: HuberLoss}", "train.batch_size=100", "dtype=float64"],
    ],
)
def test_fits_with_every_option_of_a_step(overrides: list[str], ahead: list[int]) -> None:
    rates = [] if "optimizer" in "".join(overrides) else ["optimizer.lr=0.02", "optimizer.lr=0.001", "optimizer.lr=0.3"]
    both(*[[f"seed={seed}", "train.epochs=9", *overrides, *rates[seed : seed + 1]] for seed in range(3)])
    assert sum(ahead) >= 7


def test_a_single_fit_is_taken_ahead_as_well(ahead: list[int]) -> None:
    both(["train.epochs=9"])
    assert sum(ahead) == 8


def test_a_table_that_is_taken_ahead_pays_sooner() -> None:
    def plan(watched: bool, *overrides: str) -> str:
        setup, chunks = made("train.batch_size=30", *overrides, compile="auto")  # 3 steps an epoch, each counts 1.075
        chunks.watched = watched
        return chunks.plan(setup.training).partition(":")[0]

    assert plan(False, "train.epochs=69") == "table"
    assert plan(False, "train.epochs=68") == "no"
    assert plan(True, "train.epochs=69") == plan(False, "train.epochs=69", SCHEDULES[1]) == "no"


def test_fits_that_go_on_in_another_sweep_draw_their_rows_once(ahead: list[int]) -> None:
    """It has no programs yet, so the epochs that were to be taken ahead are not."""
    trials = [[f"seed={seed}", "train.epochs=8"] for seed in range(2)]
    alone, side = ([made(*overrides) for overrides in trials] for _ in range(2))
    for one in alone:
        list(events_of(*one))
    fits = {number: events_of(*one) for number, one in enumerate(side)}
    for _, event in together(fits):
        if isinstance(event, dict) and event["epoch"] == 3:
            break
    for _, chunks in side:
        chunks.watched = False
    list(together(fits))
    assert ahead[0] == 0 and sum(ahead) >= 4
    for (setup, _), (one, _) in zip(side, alone, strict=True):
        assert differing(left(setup), left(one)) == []


@pytest.mark.parametrize("schedule", [SCHEDULES[0], SCHEDULES[4]])
def test_a_fit_that_begins_beside_others_leaves_them_their_bits(schedule: str) -> None:
    """Its first step runs as ever, and theirs as tables."""
    trials = [[f"seed={seed}", "train.epochs=6", schedule] for seed in range(3)]
    alone, side = ([made(*overrides) for overrides in trials] for _ in range(2))
    for one in alone:
        list(events_of(*one))
    fits = {number: events_of(*one) for number, one in enumerate(side)}
    for _, event in together({1: fits[1], 2: fits[2]}):
        if isinstance(event, dict) and event["epoch"] == 2:
            break
    list(together(fits))
    for (setup, _), (one, _) in zip(side, alone, strict=True):
        assert differing(left(setup), left(one)) == []


def test_patience_says_how_far_ahead_they_may_be_taken(ahead: list[int]) -> None:
    impatient = "early_stopping={patience: 3, min_delta: 0.02}"
    both(*[[f"seed={seed}", "train.epochs=14", impatient, "model.dropout=0"] for seed in range(4)])
    assert ahead and max(ahead) <= 3


def test_what_moves_on_otherwise_is_taken_epoch_by_epoch(ahead: list[int]) -> None:
    both(*[[f"seed={seed}", "optimizer={name: NAdam, lr: 0.01}"] for seed in range(2)])
    both(*[[f"seed={seed}", "train.ema=0.9"] for seed in range(2)])
    both(*[[f"seed={seed}", "scheduler={name: StepLR, step_size: 2}"] for seed in range(2)])
    assert not any(ahead)


def test_losses_and_weights_that_are_not_finite_are_told_as_ever(ahead: list[int]) -> None:
    """Most diverge in epochs that were taken ahead, some of them in the last step of one."""
    rates = [
        0.1,
        *[5.0 + number for number in range(6)],
        *[1500.0 + 100 * number for number in range(6)],
    ]  # the decay alone makes the weights grow
    grow = [f"optimizer={{name: SGD, lr: {rate}, weight_decay: {1.0 if rate > 1 else 0.0}}}" for rate in rates]
    ends = both(*[["model={hidden: []}", "train={epochs: 12, batch_size: 16}", each] for each in grow])
    assert sorted(ends) == [*range(1, 13)] and {end.split()[1] for end in ends.values()} == {"training", "weights"}, (
        ends
    )
    assert max(ahead) > 8
