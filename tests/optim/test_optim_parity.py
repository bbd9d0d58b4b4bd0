"""What users of PyTorch do with optimizers and schedules, beside plain steps: the same numbers, or the same refusal."""

from __future__ import annotations

import copy
import importlib
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch, to_numpy

pytestmark = pytest.mark.parity
EVERY = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD")


def close(ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(to_numpy(mine), to_numpy(other), rtol=tolerance, atol=tolerance)


def both() -> tuple[Any, Any]:
    return nanotorch, pytorch


def params(lib: Any, *shapes: tuple[int, ...]) -> list[Any]:
    numbers = np.random.default_rng(3)
    return [lib.tensor(numbers.standard_normal(s), requires_grad=True) for s in shapes or ((3, 2), (4,), ())]


def set_gradients(lib: Any, ps: list[Any], step: int) -> None:
    numbers = np.random.default_rng(100 + step)
    for index, p in enumerate(ps):
        noise = numbers.standard_normal(tuple(p.shape))
        p.grad = None if (step + index) % 5 == 0 else lib.tensor(0.3 * to_numpy(p) + noise, dtype=lib.float64)


def steps(lib: Any, ps: list[Any], optimizer: Any, first: int, last: int) -> None:
    for step in range(first, last):
        set_gradients(lib, ps, step)
        optimizer.step()


@pytest.mark.parametrize("name", EVERY[1:])
def test_a_number_edited_for_one_parameter_is_that_parameters(name: str) -> None:
    results = []
    for lib in both():
        ps = params(lib)
        optimizer = getattr(lib.optim, name)(ps, lr=0.1)
        steps(lib, ps, optimizer, 0, 6)
        optimizer.state[ps[0]]["step"].fill_(40)
        optimizer.state[ps[1]]["step"] = lib.tensor(3.0)
        steps(lib, ps, optimizer, 6, 12)
        results.append(([p.detach() for p in ps], [optimizer.state[p]["step"] for p in ps]))
    close(results[0][0], results[1][0])
    close(results[0][1], results[1][1])


@pytest.mark.parametrize("name", EVERY)
def test_pytorchs_state_continues_here(name: str) -> None:
    ours, theirs = both()
    ps = params(theirs)
    reference = getattr(theirs.optim, name)(ps, lr=0.1)
    steps(theirs, ps, reference, 0, 7)
    saved = reference.state_dict()
    saved["state"] = {
        n: {k: nanotorch.tensor(v.numpy()) for k, v in record.items() if v is not None}
        for n, record in saved["state"].items()
    }
    mine = [nanotorch.tensor(to_numpy(p), requires_grad=True) for p in ps]
    optimizer = getattr(ours.optim, name)(mine, lr=9.0)
    optimizer.load_state_dict(saved)
    steps(theirs, ps, reference, 7, 20)
    steps(ours, mine, optimizer, 7, 20)
    close(mine, ps)


@pytest.mark.parametrize("name", EVERY)
def test_rates_given_as_tensors_are_read_at_every_step(name: str) -> None:
    results = []
    for lib in both():
        ps, rate = params(lib), lib.tensor(0.1, dtype=lib.float64)
        optimizer = getattr(lib.optim, name)(ps, lr=rate)
        schedule = lib.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        for step in range(8):
            set_gradients(lib, ps, step)
            optimizer.step()
            schedule.step()
        assert optimizer.param_groups[0]["lr"] is rate
        results.append([p.detach() for p in ps] + [rate, schedule.get_last_lr()[0]])
    close(*results)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_betas_may_be_tensors(name: str) -> None:
    results = []
    for lib in both():
        ps = params(lib)
        betas = tuple(lib.tensor(b, dtype=lib.float64) for b in (0.8, 0.9))
        steps(lib, ps, getattr(lib.optim, name)(ps, lr=0.1, betas=betas), 0, 6)
        results.append(ps)
    close(*results)


def test_names_of_parameters() -> None:
    results = []
    for lib in both():
        model = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.Linear(3, 1))
        optimizer = lib.optim.SGD(model.named_parameters(), lr=0.1)
        saved = optimizer.state_dict()
        other = lib.optim.SGD(model.parameters(), lr=0.2)
        other.load_state_dict(saved)
        saved["param_groups"][0].pop("param_names")
        optimizer.load_state_dict(saved)
        refused = []
        for group in ([("a", model[0].weight), model[0].bias], [("a", model[0].weight)]):
            plain = lib.optim.SGD([lib.zeros(1, requires_grad=True)])
            try:
                plain.add_param_group({"params": group})
            except ValueError:
                refused.append(len(group))
        results.append((other.param_groups[0]["param_names"], optimizer.param_groups[0]["param_names"], refused))
    assert results[0] == results[1]


def test_hooks_run_around_steps_and_states() -> None:
    def called(lib: Any) -> list[Any]:
        p = lib.zeros(2, requires_grad=True)
        optimizer, calls = lib.optim.SGD([p], lr=1.0), []
        module = importlib.import_module(f"{lib.__name__}.optim.optimizer")
        handles = [
            optimizer.register_step_pre_hook(lambda o, a, k: calls.append(("pre", a[0] is o, len(a), k))),
            optimizer.register_step_post_hook(lambda o, a, k: calls.append("post")),
            module.register_optimizer_step_pre_hook(lambda o, a, k: calls.append("all pre")),
            module.register_optimizer_step_post_hook(lambda o, a, k: calls.append("all post")),
            optimizer.register_state_dict_pre_hook(lambda o: calls.append("save")),
            optimizer.register_state_dict_post_hook(lambda o, s: {**s, "more": 1}),
            optimizer.register_state_dict_post_hook(lambda o, s: calls.append(sorted(s)), prepend=True),
            optimizer.register_load_state_dict_pre_hook(lambda o, s: calls.append(sorted(s))),
            optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded")),
        ]
        p.grad = lib.ones(2)
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        copy.deepcopy(optimizer).step()
        for handle in handles:
            handle.remove()
        optimizer.step()
        return calls

    ours, theirs = map(called, both())
    assert ours == theirs


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("options", [{}, {"history_size": 3, "max_iter": 7}, {"max_eval": 4, "lr": 0.3}])
def test_lbfgs(search: str | None, options: dict[str, Any]) -> None:
    results = []
    for lib in both():
        numbers = np.random.default_rng(0)
        x, y = (lib.tensor(numbers.standard_normal(s)) for s in ((30, 4), (30, 1)))
        ps = params(lib, (4, 5), (5,), (5, 1))
        optimizer = lib.optim.LBFGS(ps, line_search_fn=search, **{"lr": 0.5, **options})
        losses = []

        def closure(ps: Any = ps, x: Any = x, y: Any = y, optimizer: Any = optimizer, lib: Any = lib) -> Any:
            optimizer.zero_grad()
            loss = ((lib.tanh(x @ ps[0] + ps[1]) @ ps[2] - y) ** 2).mean()
            loss.backward()
            return loss

        for step in range(4):
            losses.append(optimizer.step(closure).detach())
            if step == 1:
                saved = copy.deepcopy(optimizer.state_dict())
                optimizer = lib.optim.LBFGS(ps, line_search_fn=search)
                optimizer.load_state_dict(saved)
        state = optimizer.state_dict()["state"][0]
        results.append((losses, ps, state["n_iter"], state["func_evals"]))
    close(results[0][0], results[1][0], 1e-9)
    close(results[0][1], results[1][1], 1e-8)
    assert results[0][2:] == results[1][2:]


def quiet(lib: Any, steps_of: Callable[[Any, Any, Any], list[Any]]) -> list[Any]:
    groups = [
        {"params": [lib.zeros(2, requires_grad=True)], "lr": 0.05},
        {"params": [lib.zeros(3, requires_grad=True)]},
    ]
    optimizer = lib.optim.SGD(groups, lr=0.2, momentum=0.9)
    with warnings.catch_warnings(action="ignore"):
        return steps_of(lib.optim.lr_scheduler, optimizer, lib)


SCHEDULES: dict[str, Callable[..., Any]] = {
    "warm restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7, 2, 1e-3),
    "warm restarts of one length": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5),
    "polynomial": lambda s, o: s.PolynomialLR(o, 20, 2.0),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 1 - 1 / (epoch + 3)),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.3, 4, 9),
    "cyclic, halving": lambda s, o: s.CyclicLR(o, [0.01, 0.02], [0.3, 0.2], 5, mode="triangular2"),
    "cyclic, exponential": lambda s, o: s.CyclicLR(o, 0.01, 0.3, 5, mode="exp_range", gamma=0.97, cycle_momentum=False),
    "cyclic, own": lambda s, o: s.CyclicLR(o, 0.01, 0.3, 5, scale_fn=lambda x: 1 / x, base_momentum=[0.7, 0.6]),
    "chained": lambda s, o: s.ChainedScheduler([s.LinearLR(o, 0.1), s.ExponentialLR(o, 0.9), s.StepLR(o, 6)]),
    "chained sequence": lambda s, o: s.ChainedScheduler(
        [s.SequentialLR(o, [s.ConstantLR(o, 0.1), s.ExponentialLR(o, 0.9)], [4]), s.StepLR(o, 6)]
    ),
    "sequence": lambda s, o: s.SequentialLR(
        o, [s.PolynomialLR(o, 6), s.CosineAnnealingWarmRestarts(o, 4), s.MultiplicativeLR(o, lambda e: 0.9)], [5, 20]
    ),
    "sequence with cycles": lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1), s.CyclicLR(o, 0.01, 0.3, 4)], [6]),
    "one cycle first": lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1), s.OneCycleLR(o, 0.3, 60)], [6]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_pytorchs(name: str) -> None:
    def trace(s: Any, optimizer: Any, lib: Any) -> list[Any]:
        schedule, seen = SCHEDULES[name](s, optimizer), []
        for _ in range(55):
            seen += [value for group in optimizer.param_groups for value in (group["lr"], group["momentum"])]
            assert schedule.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
            optimizer.step()
            schedule.step()
        return seen

    ours, theirs = (quiet(lib, trace) for lib in both())
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize(
    "name", [name for name in SCHEDULES if name not in ("multiplicative", "sequence", "cyclic, own")]
)
def test_state_dicts_continue(name: str) -> None:
    def trace(s: Any, optimizer: Any, lib: Any, broken: bool) -> list[Any]:
        schedule, seen = SCHEDULES[name](s, optimizer), []
        for epoch in range(40):
            if broken and epoch == 23:
                saved = json.loads(json.dumps(schedule.state_dict())), optimizer.state_dict()
                schedule = SCHEDULES[name](s, optimizer)
                schedule.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
            seen += [value for group in optimizer.param_groups for value in (group["lr"], group["momentum"])]
            optimizer.step()
            schedule.step()
        return seen

    straight, broken = (quiet(nanotorch, lambda s, o, lib, b=b: trace(s, o, lib, b)) for b in (False, True))
    assert straight == broken


@pytest.mark.parametrize("last_epoch", [0, 3, 9, 30])
def test_a_sequence_goes_on_after_its_last_epoch(last_epoch: int) -> None:
    def trace(s: Any, optimizer: Any, lib: Any, at: int) -> list[Any]:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        parts = [s.LinearLR(optimizer, 0.1), s.ExponentialLR(optimizer, 0.9), s.StepLR(optimizer, 3)]
        schedule = s.SequentialLR(optimizer, parts, [5, 12], last_epoch=at)
        seen = [schedule.get_last_lr()]
        for _ in range(35):
            schedule.step()
            seen.append(schedule.get_last_lr())
        return seen

    straight = quiet(nanotorch, lambda s, o, lib: trace(s, o, lib, -1))
    resumed = quiet(nanotorch, lambda s, o, lib: trace(s, o, lib, last_epoch))
    assert resumed[: 35 - last_epoch] == straight[last_epoch + 1 :]


def test_warm_restarts_between_epochs_and_after_an_epoch() -> None:
    def trace(s: Any, optimizer: Any, lib: Any) -> list[float]:
        schedule, seen = s.CosineAnnealingWarmRestarts(optimizer, 3, 2), []
        for epoch in (0.5, 2.9, 3.0, 8.7, 20.25, 4):
            schedule.step(epoch)
            seen += schedule.get_last_lr()
        return seen

    ours, theirs = (quiet(lib, trace) for lib in both())
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_when_the_order_of_steps_is_warned_of() -> None:
    def warned(lib: Any, order: str) -> bool:
        optimizer = lib.optim.SGD([lib.zeros(1, requires_grad=True)], lr=0.1)
        schedule = None
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for action in order:
                if action == "o":
                    optimizer.step()
                elif action == "m":
                    schedule = lib.optim.lr_scheduler.StepLR(optimizer, 3)
                else:
                    schedule.step()
        return bool(seen)

    for order in ("ms", "mos", "oms", "omos", "mosms", "mms", "moss"):
        ours, theirs = (warned(lib, order) for lib in both())
        assert ours == theirs, order


@pytest.mark.parametrize("name", ["StepLR", "ExponentialLR", "LambdaLR", "CosineAnnealingLR", "PolynomialLR"])
def test_groups_added_later(name: str) -> None:
    makers: dict[str, Callable[..., Any]] = {
        "StepLR": lambda s, o: s.StepLR(o, 2),
        "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
        "LambdaLR": lambda s, o: s.LambdaLR(o, lambda e: 0.9**e),
        "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 20),
        "PolynomialLR": lambda s, o: s.PolynomialLR(o, 9),
    }

    def trace(s: Any, optimizer: Any, lib: Any) -> list[Any]:
        schedule = makers[name](s, optimizer)
        optimizer.add_param_group({"params": [lib.zeros(1, requires_grad=True)], "lr": 0.7})
        try:
            for _ in range(5):
                schedule.step()
        except ValueError:
            return ["ValueError"]
        return list(schedule.get_last_lr())

    ours, theirs = (quiet(lib, trace) for lib in both())
    assert ours == (theirs if theirs == ["ValueError"] else pytest.approx(theirs, rel=1e-12))


@pytest.mark.parametrize("kind", ["mean", "ema", "ema of lists", "mean of lists", "own", "buffers"])
def test_averaged_models(kind: str) -> None:
    results = []
    for lib in both():
        swa = lib.optim.swa_utils
        options = {
            "mean": {},
            "ema": {"avg_fn": swa.get_ema_avg_fn(0.8)},
            "ema of lists": {"multi_avg_fn": swa.get_ema_multi_avg_fn(0.8)},
            "mean of lists": {"multi_avg_fn": swa.get_swa_multi_avg_fn()},
            "own": {"avg_fn": lambda a, c, n: a + (c - a) / (n + 2)},
            "buffers": {"avg_fn": swa.get_ema_avg_fn(0.8), "use_buffers": True},
        }[kind]
        model = lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.BatchNorm1d(4), lib.nn.Linear(4, 1)).double()
        numbers = np.random.default_rng(0)
        with lib.no_grad():
            for p in model.parameters():
                p.copy_(lib.tensor(numbers.standard_normal(tuple(p.shape))))
        average = swa.AveragedModel(model, **options)
        optimizer = lib.optim.SGD(model.parameters(), lr=0.1)
        schedule = swa.SWALR(optimizer, 0.02, anneal_epochs=4)
        batches = [lib.tensor(numbers.standard_normal((6, 3))) for _ in range(5)]
        rates = []
        for _ in range(6):
            optimizer.zero_grad()
            (model(batches[0]) ** 2).mean().backward()
            optimizer.step()
            average.update_parameters(model)
            schedule.step()
            rates.append(lib.tensor(schedule.get_last_lr()[0]))
        before = {name: lib.tensor(to_numpy(value)) for name, value in average.state_dict().items()}
        swa.update_bn([(batch, 0) for batch in batches], average)
        after = average.state_dict()
        assert average.training and average.module[1].momentum == 0.1
        results.append((list(before), [*before.values(), *after.values(), *rates, average(batches[1])]))
    assert results[0][0] == results[1][0]
    close(results[0][1], results[1][1], 1e-7 if kind in ("buffers", "mean of lists") else 1e-12)


def test_what_says_how_to_compute_and_not_what() -> None:
    for name in EVERY:
        make = getattr(nanotorch.optim, name)
        p = nanotorch.zeros(1, requires_grad=True)
        assert make([p], foreach=True).param_groups[0]["foreach"] is True
        make([p], fused=True, capturable=False, differentiable=False)
        with pytest.raises(ValueError, match="gradients flow through"):
            make([p], differentiable=True)
        with pytest.raises(ValueError, match="CUDA graph"):
            make([p], capturable=True)
        with pytest.raises(TypeError, match="unexpected keyword argument 'rate'"):
            make([p], rate=1)
    assert math.isfinite(float(p))
