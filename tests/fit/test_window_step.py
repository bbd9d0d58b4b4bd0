"""The training step as a value: a window of batches, the seat where ranks join theirs, and sums that merge."""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nanotorch as torch
from fake_gpu import fake_gpu
from nanotorch import nn
from nanotorch.optim import SGD, Adam
from nanotorch.optim.optimizer import register_optimizer_step_post_hook
from nanotorch.train.fit import part_on_device
from nanotorch.train.fit.loop import FitOptions, fit
from nanotorch.train.fit.moving_average import MovingAverage, ema
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.training import Training
from nanotorch.train.fit.window_step import Reduce, StepOptions, StepResult, window_step
from nanotorch.train.score.meter import Meter
from nanotorch.utils.data import DataLoader, Subset, TensorDataset


def problem(rows: int = 24) -> list[torch.Tensor]:
    """Features, classes and weights of rows."""
    numbers = np.random.default_rng(0)
    return [
        torch.tensor(numbers.normal(size=(rows, 4))),
        torch.tensor(numbers.integers(0, 3, rows)),
        torch.tensor(numbers.uniform(0.5, 2.0, rows)),
    ]


def batch(rows: slice, spoilt: bool = False) -> list[torch.Tensor]:
    """A batch as `fit` gives it: the last field is the factor of each row in the loss, which is its weight as well."""
    features, classes, weights = (column[rows] for column in problem())
    return [features * float("nan") if spoilt else features, classes, weights, weights]


def made() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def step(model: nn.Module, window: Sequence[Any], reduce: Reduce | None = None, **options: Any) -> StepResult:
    optimizer = SGD(model.parameters(), lr=0.5)
    joined = {} if reduce is None else {"reduce": reduce}
    criterion = nn.CrossEntropyLoss(reduction="none")
    chosen = StepOptions(**options)
    return window_step(model, criterion, optimizer, [*model.parameters()], window, chosen, measure=True, **joined)


def weights_of(model: nn.Module) -> np.ndarray:
    return np.concatenate([p.detach().numpy().reshape(-1) for p in model.parameters()])


def ranks(count: int) -> Callable[[int], Reduce]:
    """A `Reduce` for each of some threads: means of gradients by weight, sums of losses and weights."""
    met, seats = threading.Barrier(count, timeout=20), [(np.zeros(0), 0.0, 0.0)] * count

    def reduce(rank: int, parameters: Any, pieces: Any, loss: torch.Tensor, weight: torch.Tensor) -> Any:
        own = weight.item()
        flat = np.concatenate([p.grad.numpy().reshape(-1) for p in parameters])
        seats[rank] = (flat * own, loss.item(), own)
        met.wait()
        gradient, losses, total = (sum(values[1:], start=values[0]) for values in zip(*seats, strict=True))
        met.wait()
        start = 0
        for p in parameters:
            count = p.grad.numel()
            p.grad.copy_(torch.tensor((gradient / total)[start : start + count].reshape(tuple(p.grad.shape))))
            start += count
        return pieces, torch.tensor(losses, dtype=torch.float64), torch.tensor(total, dtype=torch.float64)

    return lambda rank: partial(reduce, rank)


def on_ranks(windows: list[list[Any]], **options: Any) -> list[tuple[nn.Module, StepResult]]:
    """A step of each window on a thread and a model of its own, joined between backward and clipping."""
    models, reduces = [made() for _ in windows], ranks(len(windows))
    found: dict[int, StepResult] = {}

    def work(rank: int) -> None:
        found[rank] = step(models[rank], windows[rank], reduces(rank), **options)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(windows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [(model, found[rank]) for rank, model in enumerate(models)]


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05}, {"clip_value": 0.01}, {"skip_nonfinite": True}])
def test_ranks_that_average_their_gradients_equal_the_big_batch(options: dict[str, Any]) -> None:
    big = made()
    expected = step(big, [batch(slice(0, 24))], **options)
    # shards of unequal size, the second in two pieces
    shards = on_ranks([[batch(slice(0, 7))], [batch(slice(7, 19)), batch(slice(19, 24))]], **options)
    for model, result in shards:
        np.testing.assert_allclose(weights_of(model), weights_of(big), rtol=0, atol=1e-15)
        for name in ("loss", "weight", "norm"):
            assert getattr(result, name).item() == pytest.approx(getattr(expected, name).item(), rel=1e-13)
    assert np.array_equal(*(weights_of(model) for model, _ in shards))
    assert np.abs(weights_of(big) - weights_of(made())).max() > 1e-3


def training_of(rows: np.ndarray, batch_size: int) -> tuple[Training, DataLoader[Any]]:
    """A model in training on some rows, in their order."""
    part = Part(
        TensorDataset(*batch(slice(0, 24))), {"task": "multiclass", "target_names": ("a", "b", "c"), "weighted": True}
    )
    model = made()
    training = Training(
        model,
        nn.CrossEntropyLoss(reduction="none"),
        Adam(model.parameters(), lr=0.1),
        torch.Generator(),
        part.meter(),
        average=MovingAverage(model, 0.9),
    )
    return training, DataLoader(Subset(part.dataset, rows), batch_size)


def test_fit_on_ranks_equals_fit_on_all_rows() -> None:
    """Each rank has a loader of its own shard and a step that joins; their meters merge to the sums of all rows."""
    options = FitOptions(epochs=3, accumulate=2, clip_norm=0.5)
    rows = np.arange(24)
    whole, loader = training_of(rows, 6)
    list(fit(whole, loader, None, options))
    apart = [training_of(rows[rows % 6 < 2], 2), training_of(rows[rows % 6 >= 2], 4)]
    reduces = ranks(2)

    def work(rank: int) -> None:
        list(fit(*apart[rank], None, options, step=partial(window_step, reduce=reduces(rank))))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for training, _ in apart:
        assert (training.epoch, training.step) == (3, 6)
        np.testing.assert_allclose(weights_of(training.model), weights_of(whole.model), rtol=0, atol=1e-13)
        np.testing.assert_allclose(
            weights_of(training.model_for_use), weights_of(whole.model_for_use), rtol=0, atol=1e-13
        )
        norms = [record["gradient_norm"] for record in training.history]
        assert norms == pytest.approx([record["gradient_norm"] for record in whole.history], rel=1e-9)
    merged = apart[0][0].meter
    merged.merge(apart[1][0].meter)
    assert merged.compute() == pytest.approx(whole.meter.compute(), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "readings"), [({"clip_norm": 1.0, "clip_value": 0.1}, 0), ({"skip_nonfinite": True}, 1)]
)
def test_a_step_waits_for_the_device_only_to_know_whether_to_skip(options: dict[str, Any], readings: int) -> None:
    with fake_gpu() as counts:
        device = torch.device("cuda")
        model = made().to(device)
        window = [[column.to(device) for column in batch(rows)] for rows in (slice(0, 10), slice(10, 24))]
        step(model, window, **options)
        before = counts.device_to_host
        step(model, window, **options)
        assert counts.device_to_host - before == readings


def test_what_is_not_finite_on_one_rank_is_skipped_by_all() -> None:
    windows = [[batch(slice(0, 12))], [batch(slice(12, 24), spoilt=True)]]
    for model, result in on_ranks(windows, skip_nonfinite=True):
        assert not result.applied and not np.isfinite(result.loss.item())
        assert np.array_equal(weights_of(model), weights_of(made()))


def test_the_result_is_of_plain_values_without_a_graph() -> None:
    model = made()
    window = [batch(slice(0, 10)), batch(slice(10, 24))]
    result = step(model, window)
    weights = problem()[2]
    assert [len(piece.outputs) for piece in result.pieces] == [10, 14]
    assert not any(value.requires_grad for piece in result.pieces for value in piece)
    assert result.loss.item() == pytest.approx(sum(piece.loss.item() for piece in result.pieces))
    assert result.weight.item() == pytest.approx(weights.sum().item())
    gradients = np.concatenate([p.grad.numpy().reshape(-1) for p in model.parameters()])
    assert result.norm is not None and result.norm.item() == pytest.approx(np.linalg.norm(gradients))


def test_the_norm_is_computed_only_where_somebody_asks() -> None:
    model = made()
    parameters, optimizer = [*model.parameters()], Adam(model.parameters())
    criterion, window = nn.CrossEntropyLoss(reduction="none"), [batch(slice(0, 24))]
    assert window_step(model, criterion, optimizer, parameters, window, StepOptions()).norm is None
    for options in (StepOptions(clip_norm=1.0), StepOptions(skip_nonfinite=True)):
        assert window_step(model, criterion, optimizer, parameters, window, options).norm is not None


def test_the_moving_average_is_its_rule_with_the_decay_of_the_step() -> None:
    """What a compiled step repeats: a function of arrays and one number, bit for bit what `update` does."""
    model = nn.Sequential(made().float(), nn.BatchNorm1d(3))
    average = MovingAverage(model, decay=0.4)
    by_hand = [p.detach().numpy().copy() for p in model.parameters()]
    for count in range(1, 9):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * count)
        model[1].running_mean.fill_(count)
        average.update(model)
        decay = min(0.4, (1 + count) / (10 + count))
        for mine, present in zip(by_hand, model.parameters(), strict=True):
            ema(np, mine, present.detach().numpy(), decay=decay)
        for mine, held in zip(by_hand, average.module.parameters(), strict=True):
            assert np.array_equal(mine, held.detach().numpy()) and held.grad is None
    assert average.updates == 8 and average.module[1].running_mean[0].item() == 8
    average.restart(model)
    assert average.updates == 0 and np.array_equal(weights_of(average.module), weights_of(model))


# ------------------------------------------------------------ sums of ranks


def meter(task: str) -> Meter:
    if task == "regression":
        return Meter(
            task,
            ("a", "b"),
            np.array([2.0, 0.5]),
            np.array([4.0, 0.25]),
            np.array([1.0, -1.0]),
            ("neg_median_absolute_error",),
        )
    return Meter(task, ("a", "b", "c"), metrics=("f1_macro",) if task == "multiclass" else ())


@settings(max_examples=25, deadline=None)
@given(
    task=st.sampled_from(["regression", "multiclass", "multilabel"]),
    cuts=st.lists(st.integers(0, 30), max_size=5),
    ends=st.lists(st.booleans(), min_size=6, max_size=6),
    spoilt=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_merged_meters_are_the_meter_of_all_rows(
    task: str, cuts: list[int], ends: list[bool], spoilt: bool, seed: int
) -> None:
    """However the rows are cut into batches and the batches into meters."""
    numbers = np.random.default_rng(seed)
    width = 2 if task == "regression" else 3
    outputs = numbers.normal(size=(30, width))
    outputs[numbers.integers(30)] *= np.nan if spoilt else 1.0
    targets = {
        "regression": numbers.normal(size=(30, width)),
        "multiclass": numbers.permutation(np.arange(30) % 3),
        "multilabel": numbers.integers(0, 2, (30, width)).astype(float),
    }[task]
    whole, parts = meter(task), [meter(task)]
    edges = [0, *sorted(cuts), 30]
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        if start == stop:
            continue
        rows = slice(start, stop)
        loss, weight = torch.tensor(numbers.uniform()), torch.tensor(float(stop - start))
        for one in (whole, parts[-1]):
            one.update(torch.tensor(outputs[rows]), torch.tensor(targets[rows]), loss, weight)
        if ends[number]:
            parts.append(meter(task))
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    assert merged.rows == whole.rows == 30
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-12, nan_ok=True)


def dropping() -> nn.Sequential:
    """A model of small binary fractions, whose sums have no rounding in any order."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 3), nn.Dropout(0.75)).double()
    numbers = np.random.default_rng(1)
    for p in model.parameters():
        p.data.copy_(torch.tensor(numbers.integers(-8, 9, tuple(p.shape)) / 8.0))
    return model


def test_pieces_of_a_window_and_ranks_drop_what_the_whole_batch_drops() -> None:
    """Bit for bit: the masks of a row do not depend on the cut of the batch, nor on the rank."""
    numbers = np.random.default_rng(2)
    columns = [torch.tensor(numbers.integers(-4, 5, (16, n)) / 4.0) for n in (4, 3)]

    def windows(*cuts: int) -> list[list[torch.Tensor]]:
        bounds = itertools.pairwise((0, *cuts, 16))
        return [[*(c[start:stop] for c in columns), torch.ones(stop - start).double()] for start, stop in bounds]

    def gradients(window: list[list[torch.Tensor]], number: int = 3, first_row: int = 0) -> np.ndarray:
        model = dropping()
        torch.manual_seed(11)
        optimizer = SGD(model.parameters(), lr=0.0)
        parameters = [*model.parameters()]
        criterion = nn.L1Loss(reduction="sum")
        window_step(model, criterion, optimizer, parameters, window, StepOptions(), number=number, first_row=first_row)
        return np.concatenate([p.grad.numpy().reshape(-1) for p in parameters])

    whole = gradients(windows())
    for cuts in [(8,), (5,), (4, 8, 12), tuple(range(1, 16))]:
        assert np.array_equal(gradients(windows(*cuts)), whole)
    first, second = windows(8)
    by_rank = gradients([first]), gradients([second], first_row=8)
    assert np.array_equal((by_rank[0] + by_rank[1]) / 2, whole)
    assert not np.array_equal(gradients(windows(), number=4), whole)
    assert not np.array_equal(gradients([second]), by_rank[1])


def test_parameters_that_share_memory_are_trained_where_they_are() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = nn.Parameter(model[0].weight.detach().t())
    average = MovingAverage(model, 0.9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    meter = Meter("regression", ("a", "b", "c", "d"))
    training = Training(model, nn.MSELoss(reduction="sum"), optimizer, torch.Generator(), meter, average=average)
    assert all(map(operator.is_, training.flat, model.parameters()))
    before = model[0].weight.detach().clone()
    x = torch.ones(2, 4)
    window_step(model, training.criterion, optimizer, training.flat, [(x, x, x[:, 0])], StepOptions(), average)
    assert torch.equal(model[2].weight, model[0].weight.t()) and not torch.equal(model[0].weight, before)


def test_a_moving_average_is_no_step_for_the_hooks_of_all_optimizers() -> None:
    model, steps = made(), []
    average = MovingAverage(model, 0.9)
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(type(optimizer)))
    try:
        average.update(model)
        SGD(model.parameters()).step()
    finally:
        handle.remove()
    assert steps == [SGD]


def test_a_moving_average_copies_parameters_of_whole_numbers() -> None:
    model = nn.Linear(2, 1)
    model.steps = nn.Parameter(torch.tensor([3]), requires_grad=False)
    average = MovingAverage(model, 0.9)
    before = model.weight.tolist()
    with torch.no_grad():
        model.steps += 4
        model.weight += 1.1
    average.update(model)
    assert average.module.steps.tolist() == [7]
    expected = [value + 1.1 * 9 / 11 for value in before[0]]  # the first decay is (1 + 1) / (10 + 1)
    assert average.module.weight.tolist()[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 64, 300])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_rows_gathered_for_many_batches_are_those_of_each(
    monkeypatch: pytest.MonkeyPatch, batch: int, shuffle: bool, drop_last: bool
) -> None:
    monkeypatch.setattr(part_on_device, "AT_ONCE", 2000)
    rows = 131
    dataset = TensorDataset(torch.randn(rows, 5), torch.arange(rows), torch.ones(rows))

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    mine = Part(dataset, {}).loader(batch, shuffle, drop_last, generator())
    theirs: Any = DataLoader(dataset, batch, shuffle=shuffle, drop_last=drop_last, generator=generator())
    for _ in range(2):
        found, expected = list(mine), list(theirs)
        assert len(found) == len(expected) == len(mine)
        for one, other in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
            one[0].zero_()  # a batch is a copy
    assert dataset.tensors[0].all()
