"""Schedules that are told the epoch, floors of a plateau, LBFGS on a second device,
and a decay that stays decoupled.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from fake_gpu import fake_gpu
from oracle import pytorch

OPTIONS: dict[str, dict[str, Any]] = {
    "LambdaLR": {"lr_lambda": lambda epoch: 0.9**epoch},
    "MultiplicativeLR": {"lr_lambda": lambda epoch: 1 - 1 / (epoch + 3)},
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "MultiStepLR": {"milestones": [5, 2, 5], "gamma": 0.5},
    "ConstantLR": {"factor": 0.5, "total_iters": 3},
    "LinearLR": {"start_factor": 0.2, "end_factor": 0.8, "total_iters": 4},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 6, "power": 2.0},
    "CosineAnnealingLR": {"T_max": 5, "eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    "OneCycleLR": {"max_lr": 0.5, "total_steps": 12},
}


def optimizer_of(library: Any) -> Any:
    groups = [
        {"params": [library.zeros(2, requires_grad=True)]},
        {"params": [library.zeros(3, requires_grad=True)], "lr": 0.2},
    ]
    return library.optim.SGD(groups, lr=0.1, momentum=0.9)


@pytest.mark.parity
def test_rates_of_given_epochs_are_pytorchs() -> None:
    for name, options in OPTIONS.items():
        traces: list[Any] = []
        for library in (torch, pytorch):
            optimizer = optimizer_of(library)
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                schedule = getattr(library.optim.lr_scheduler, name)(optimizer, **options)
                optimizer.step()
                trace = []
                for epoch in (0, 3, 1, None, 7, None, 2):
                    schedule.step() if epoch is None else schedule.step(epoch)
                    trace += [
                        schedule.last_epoch,
                        *schedule.get_last_lr(),
                        *(group["momentum"] for group in optimizer.param_groups),
                    ]
            traces += [trace, ["epoch parameter" in str(warning.message) for warning in seen].count(True)]
        ours, warned, theirs, they_warned = traces
        assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-18) and warned == they_warned, name


@pytest.mark.parity
@pytest.mark.parametrize("lowest", [0.001, [0.05, 0.001]], ids=["one", "per group"])
def test_a_plateau_knows_its_floors(lowest: Any) -> None:
    results: list[Any] = []
    for library in (torch, pytorch):
        optimizer = optimizer_of(library)
        schedule = library.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, cooldown=1, min_lr=lowest)
        seen: list[Any] = [schedule.min_lrs]
        for step in range(12):
            if step == 6:
                optimizer.add_param_group({"params": [library.zeros(1, requires_grad=True)]})
                if isinstance(lowest, list):
                    schedule.min_lrs = [*lowest, 0.02]
            schedule.step(1.0)
            seen += [schedule.in_cooldown, *(group["lr"] for group in optimizer.param_groups)]
        with pytest.warns(UserWarning, match="epoch parameter"):
            schedule.step(0.5, 40)
        results.append([*seen, schedule.last_epoch, schedule.min_lrs])
    assert results[0] == results[1]


def test_a_plateau_with_floors_by_group_asks_for_those_of_new_groups() -> None:
    optimizer = optimizer_of(torch)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.0, 0.0])
    optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})
    schedule.step(1.0)
    with pytest.raises(ValueError, match="min_lr has 2 values for 3 parameter groups"):
        schedule.step(1.0)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_on_a_second_device(search: str | None) -> None:
    numbers = np.random.default_rng(0)
    data = numbers.standard_normal((20, 3))

    def losses(device: str) -> list[float]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double().to(device)
        x = torch.tensor(data).to(device)
        rate = torch.tensor(0.5, dtype=torch.float64, device=device)
        optimizer = torch.optim.LBFGS(model.named_parameters(), lr=rate, max_iter=5, line_search_fn=search)

        def closure() -> Any:
            optimizer.zero_grad()
            loss = (model(x) - x.sum(1, keepdim=True).sin()).square().mean()
            loss.backward()
            return loss

        found = []
        for _ in range(4):
            found.append(optimizer.step(closure).item())
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        return found

    here = losses("cpu")
    with fake_gpu():
        assert losses("cuda") == pytest.approx(here, rel=1e-10)
    assert here[-1] < 0.5 * here[0]


def test_the_decay_of_adamw_stays_decoupled() -> None:
    """Also after the state of an Adam, and of an AdamW from before the option had a name in it."""
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.AdamW([w], lr=0.1, weight_decay=0.5)
    states = [torch.optim.Adam([w], lr=0.1, weight_decay=0.5).state_dict(), optimizer.state_dict()]
    del states[1]["param_groups"][0]["decoupled_weight_decay"]
    for state in states:
        optimizer.load_state_dict(state)
        assert optimizer.param_groups[0]["decoupled_weight_decay"]
