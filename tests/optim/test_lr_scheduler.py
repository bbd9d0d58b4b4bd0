"""Schedules: the sequences of learning rates are PyTorch's, and state_dict continues them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

import nanotorch as torch
from oracle import pytorch

LENGTH = 80

SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "StepLR": lambda s, o: s.StepLR(o, step_size=7, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, milestones=[30, 5, 30, 61], gamma=0.3),
    "ConstantLR": lambda s, o: s.ConstantLR(o, factor=0.25, total_iters=9),
    "LinearLR": lambda s, o: s.LinearLR(o, start_factor=0.1, end_factor=0.8, total_iters=25),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, gamma=0.95),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, T_max=20, eta_min=1e-4),
    "CosineAnnealingLR to 0": lambda s, o: s.CosineAnnealingLR(o, T_max=33),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, max_lr=0.3, total_steps=LENGTH),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(
        o, max_lr=[0.3, 0.1], epochs=10, steps_per_epoch=9, anneal_strategy="linear"
    ),
    "OneCycleLR three phases": lambda s, o: s.OneCycleLR(
        o, max_lr=0.3, total_steps=90, pct_start=0.4, three_phase=True, base_momentum=[0.8, 0.7], div_factor=10.0
    ),
    "OneCycleLR without momentum": lambda s, o: s.OneCycleLR(o, max_lr=0.3, total_steps=100, cycle_momentum=False),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    "LambdaLR per group": lambda s, o: s.LambdaLR(o, [lambda epoch: 1 / (1 + epoch), lambda epoch: 0.9**epoch]),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o,
        [s.LinearLR(o, 0.1, total_iters=10), s.ExponentialLR(o, 0.9), s.CosineAnnealingLR(o, 30)],
        milestones=[10, 25],
    ),
    "SequentialLR of steps": lambda s, o: s.SequentialLR(
        o,
        [
            s.ConstantLR(o, 0.1, total_iters=4),
            s.StepLR(o, 6, 0.7),
            s.MultiStepLR(o, [3, 9], 0.5),
            s.LambdaLR(o, math.cos),
        ],
        milestones=[5, 30, 50],
    ),
    "SequentialLR out of order": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, total_iters=4), s.StepLR(o, 6, 0.7), s.ExponentialLR(o, 0.9)], milestones=[30, 5]
    ),
}


def optimizers(make: str = "SGD", **options: Any) -> list[tuple[Any, Any]]:
    """The same optimizer with two groups, ours and PyTorch's, each with its module."""
    pairs = []
    for library in (torch, pytorch):
        groups = [
            {"params": [library.zeros(2, requires_grad=True)], "lr": 0.05},
            {"params": [library.zeros(3, requires_grad=True)]},
        ]
        pairs.append((library, getattr(library.optim, make)(groups, lr=0.2, **options)))
    return pairs


def trace(optimizer: Any, step: Callable[[int], None], get_last_lr: Callable[[], list[float]]) -> list[Any]:
    """What a schedule did to the groups, step by step."""
    seen = []
    for epoch in range(LENGTH):
        momentum = [group["betas"][0] if "betas" in group else group["momentum"] for group in optimizer.param_groups]
        rates = [group["lr"] for group in optimizer.param_groups]
        assert get_last_lr() == rates
        seen += rates + momentum
        optimizer.step()
        step(epoch)
    return seen


@pytest.mark.parity
@pytest.mark.parametrize("make", [{"make": "SGD", "momentum": 0.9}, {"make": "Adam"}], ids=["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_pytorchs(name: str, make: dict[str, Any]) -> None:
    traces = []
    for library, optimizer in optimizers(**make):
        schedule = SCHEDULES[name](library.optim.lr_scheduler, optimizer)
        traces.append(trace(optimizer, lambda _, s=schedule: s.step(), schedule.get_last_lr))
    ours, theirs = traces
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-18)
    assert len(set(ours[:: len(ours) // LENGTH])) > 1


@pytest.mark.parity
@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 1, "cooldown": 3, "factor": 0.5, "min_lr": [0.01, 0.001]},
        {"patience": 0, "mode": "max", "threshold": 0.05, "threshold_mode": "abs"},
        {"patience": 3, "mode": "max", "threshold": 0.01, "min_lr": 0.004},
        {"patience": 0, "eps": 0.01},
    ],
)
def test_plateau_is_pytorchs(options: dict[str, Any]) -> None:
    metrics = [math.exp(-epoch / 20) * (1 + 0.4 * math.cos(epoch)) for epoch in range(LENGTH - 1)] + [math.nan]
    traces = []
    for library, optimizer in optimizers(momentum=0.9):
        schedule = library.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        traces.append(trace(optimizer, lambda epoch, s=schedule: s.step(metrics[epoch]), schedule.get_last_lr))
    ours, theirs = traces
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-18)
    assert len(set(ours)) > 4


def test_plateau_takes_a_tensor() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    for loss in (1.0, 2.0, 2.0):
        schedule.step(torch.tensor(loss))
    assert optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parity
def test_schedules_chain() -> None:
    """Two schedules on one optimizer multiply, as in PyTorch."""
    traces = []
    for library, optimizer in optimizers(momentum=0.9):
        schedules = [
            library.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=20),
            library.optim.lr_scheduler.StepLR(optimizer, 15, 0.5),
            library.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40),
            library.optim.lr_scheduler.ExponentialLR(optimizer, 0.98),
        ]
        traces.append(trace(optimizer, lambda _, s=schedules: [one.step() for one in s], schedules[-1].get_last_lr))
    assert traces[0] == pytest.approx(traces[1], rel=1e-12, abs=1e-18)


@pytest.mark.parity
@pytest.mark.parametrize("name", [name for name in SCHEDULES if "Lambda" not in name])
def test_state_dict_continues(name: str) -> None:
    """A schedule and an optimizer restored half-way, through JSON, give the same rates as an unbroken run."""
    runs = []
    for broken in (False, True):
        optimizer = optimizers("Adam")[0][1]
        schedule = SCHEDULES[name](torch.optim.lr_scheduler, optimizer)
        rates = []
        for epoch in range(LENGTH):
            if broken and epoch == 37:
                saved = json.loads(json.dumps(schedule.state_dict())), optimizer.state_dict()
                optimizer = optimizers("Adam")[0][1]
                schedule = SCHEDULES[name](torch.optim.lr_scheduler, optimizer)
                schedule.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
                assert schedule.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
            rates.append([(group["lr"], group["betas"][0]) for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
        runs.append(rates)
    assert runs[0] == runs[1]


@pytest.mark.parity
def test_plateau_state_dict_continues() -> None:
    runs = []
    for broken in (False, True):
        optimizer = optimizers()[0][1]
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, cooldown=2)
        rates = []
        for epoch in range(30):
            if broken and epoch == 11:
                saved = json.loads(json.dumps(schedule.state_dict()))
                schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
                schedule.load_state_dict(saved)
            schedule.step(math.cos(epoch))
            rates.append(schedule.get_last_lr())
        runs.append(rates)
    assert runs[0] == runs[1]


@pytest.mark.parity
def test_lambda_state_keeps_callable_objects() -> None:
    class Warmup:
        def __init__(self, steps: int) -> None:
            self.steps = steps

        def __call__(self, epoch: int) -> float:
            return min(1.0, (epoch + 1) / self.steps)

    optimizer = optimizers()[0][1]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [Warmup(10), lambda epoch: 1.0])
    state = schedule.state_dict()
    assert state["lr_lambdas"] == [{"steps": 10}, None]
    other = torch.optim.lr_scheduler.LambdaLR(optimizers()[0][1], [Warmup(3), lambda epoch: 1.0])
    other.load_state_dict(state)
    assert other.lr_lambdas[0].steps == 10


@pytest.mark.parity
@pytest.mark.parametrize("name", ["StepLR", "ExponentialLR", "CosineAnnealingLR", "LinearLR", "LambdaLR"])
def test_last_epoch_continues(name: str) -> None:
    makers: dict[str, Callable[..., Any]] = {
        "StepLR": lambda s, o, **k: s.StepLR(o, 4, **k),
        "ExponentialLR": lambda s, o, **k: s.ExponentialLR(o, 0.9, **k),
        "CosineAnnealingLR": lambda s, o, **k: s.CosineAnnealingLR(o, 10, **k),
        "LinearLR": lambda s, o, **k: s.LinearLR(o, 0.5, **k),
        "LambdaLR": lambda s, o, **k: s.LambdaLR(o, lambda epoch: 1 / (1 + epoch), **k),
    }
    rates = []
    for library, optimizer in optimizers():
        for group in optimizer.param_groups:
            group["initial_lr"] = 0.4
        schedule = makers[name](library.optim.lr_scheduler, optimizer, last_epoch=6)
        for _ in range(12):
            rates.append(schedule.get_last_lr())
            optimizer.step()
            schedule.step()
    assert rates[:12] == [pytest.approx(them, rel=1e-12) for them in rates[12:]]


def test_errors() -> None:
    schedulers = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(TypeError, match="optimizer"):
        schedulers.StepLR(torch.zeros(1), 3)
    with pytest.raises(KeyError, match="initial_lr"):
        schedulers.StepLR(optimizer, 3, last_epoch=5)
    with pytest.raises(ValueError, match="start_factor"):
        schedulers.LinearLR(optimizer, start_factor=0.0)
    with pytest.raises(ValueError, match="total_steps"):
        schedulers.OneCycleLR(optimizer, 0.1)
    with pytest.raises(ValueError, match="neither momentum nor betas"):
        schedulers.OneCycleLR(torch.optim.Adagrad([torch.zeros(1, requires_grad=True)]), 0.1, total_steps=3)
    with pytest.raises(ValueError, match="2 values for 1 parameter groups"):
        schedulers.OneCycleLR(optimizer, [0.1, 0.2], total_steps=3)
    with pytest.raises(ValueError, match="2 functions"):
        schedulers.LambdaLR(optimizer, [float, float])
    with pytest.raises(ValueError, match="mode"):
        schedulers.ReduceLROnPlateau(optimizer, mode="best")
    step = schedulers.StepLR(optimizer, 3)
    with pytest.raises(ValueError, match="milestones"):
        schedulers.SequentialLR(optimizer, [step], milestones=[3])
    with pytest.raises(ValueError, match="metric"):
        schedulers.SequentialLR(optimizer, [step, schedulers.ReduceLROnPlateau(optimizer)], milestones=[3])
    with pytest.raises(ValueError, match="another optimizer"):
        other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        schedulers.SequentialLR(other, [step], milestones=[])


def test_one_cycle_ends() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
    optimizer.step()
    for _ in range(3):
        schedule.step()
    with pytest.raises(ValueError, match="3 steps"):
        schedule.step()


def test_warns_when_stepped_before_the_optimizer() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.warns(UserWarning, match=r"before the first optimizer\.step"):
        schedule.step()
