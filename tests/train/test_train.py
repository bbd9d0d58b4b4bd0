"""The training loop: what it computes, what it leaves, and how it ends when something ends it."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from fake_gpu import fake_gpu
from html_page import Page
from nanotorch import nn
from nanotorch.ops.create.random import default_generator
from nanotorch.registry import DATASETS, LOSSES, MODELS, OPTIMIZERS, SCHEDULERS
from nanotorch.train.config import loading as config
from nanotorch.train.data import datasets
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.split import split
from nanotorch.train.data.standardizer import Standardizer
from nanotorch.train.data.table import DataError, Table
from nanotorch.train.fit import loop, loss_and_parts
from nanotorch.train.record import checkpoint, directory, progress
from nanotorch.train.run.open_run import RunResult
from nanotorch.train.run.run import run
from nanotorch.train.score.meter import Meter, scored_as
from nanotorch.train.terminal import interrupt
from nanotorch.utils.data import DataLoader, TensorDataset
from own_runs import write_table

IRIS = """
name: iris_test
seed: 1
device: cpu
data: {name: iris}
model: {hidden: [16], dropout: 0.1, batch_norm: true}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.01}
scheduler: {name: CosineAnnealingLR, T_max: 60, interval: step}
train: {epochs: 4, batch_size: 16, accumulate: 2, drop_last: true}
"""


def iris(output: Path, *overrides: str) -> config.Config:
    return config.loads(IRIS, overrides=[f"output={output}", *overrides])


def records(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


# ------------------------------------------------------------ what a run leaves


def test_a_run_leaves_everything_that_one_wants_to_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(iris(tmp_path), source=IRIS)
    directory = result.directory
    assert directory.parent == tmp_path
    assert re.fullmatch(r"iris_test-\d{8}T\d{6}Z-[0-9a-f]{4}", directory.name)
    names = {"config.yaml", "resolved.yaml", "env.json", "train.log", "metrics.jsonl", "metrics.csv", "summary.json"}
    names |= {"checkpoints", "learning_curve.svg", "report.html", "held_out.json"}
    assert {path.name for path in directory.iterdir()} == names
    assert (directory / "config.yaml").read_text() == IRIS
    assert config.load(directory / "resolved.yaml") == iris(tmp_path)
    assert Page((directory / "learning_curve.svg").read_text()).all("svg")

    lines = records(directory)
    assert lines == result.history
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]  # 90 rows are 5 full batches, which are 3 windows
    assert list(lines[0]) == [
        *("epoch", "step", "learning_rate", "gradient_norm", "train_loss", "train_accuracy"),
        *("validation_loss", "validation_accuracy", "seconds"),
    ]

    printed = capsys.readouterr()
    assert printed.err == ""  # no bar where nobody watches
    epochs = [line for line in printed.out.splitlines() if line.startswith("epoch")]
    assert len(epochs) == 4
    assert epochs[0] == (
        f"epoch 1/4  loss {lines[0]['train_loss']:.4f}  validation loss {lines[0]['validation_loss']:.4f}  "
        f"validation accuracy {lines[0]['validation_accuracy']:.4f}"
    )
    for part, rows in (("train", 90), ("validation", 30), ("test", 30)):
        scores = result.scores[part]
        assert re.search(rf"^{part} +{rows} +{scores['loss']:.4f} +{scores['accuracy']:.4f}$", printed.out, re.M)
    assert f"results in {directory}" in printed.out


def test_the_best_epoch_is_kept_and_tested(tmp_path: Path) -> None:
    result = run(iris(tmp_path, "train.epochs=8"))
    keys = [(record["validation_accuracy"], -record["validation_loss"]) for record in result.history]
    assert result.best_epoch == 1 + keys.index(max(keys))
    best = checkpoint.load(result.directory / "checkpoints" / "best")
    assert best.state["epoch"] == result.best_epoch
    assert (best.state["best"]["epoch"], best.state["best"]["score"]) == (result.best_epoch, max(keys))
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(tensor, best.model[name])
    assert result.scores["validation"]["loss"] == result.history[result.best_epoch - 1]["validation_loss"]
    last = checkpoint.load(result.directory / "checkpoints" / "last")
    assert last.state["epoch"] == 8
    assert last.state["preprocessing"]["target_names"] == ("setosa", "versicolor", "virginica")
    assert result.scores["test"]["accuracy"] > 0.6


def test_directories_of_the_same_second_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suffixes = iter(["aaaa", "aaaa", "aaaa", "bbbb", "cccc"])
    monkeypatch.setattr("secrets.token_hex", lambda size: next(suffixes))
    first, second = (directory.create(tmp_path / "runs", "name") for _ in range(2))
    assert first != second
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        directory.create(tmp_path / "file", "name")


# ------------------------------------------------------------ numbers


def test_the_same_config_gives_the_same_bits(tmp_path: Path) -> None:
    first, second = (run(iris(tmp_path)) for _ in range(2))
    for one, other in zip(first.history, second.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    files = [(run.directory / "checkpoints" / "last") for run in (first, second)]
    for name in ("model.safetensors", "optimizer.safetensors", "optimizer.json"):
        assert (files[0] / name).read_bytes() == (files[1] / name).read_bytes()
    states = [re.sub(r'"seconds": .*', "", (path / "state.json").read_text()) for path in files]
    assert states[0] == states[1]
    different = run(iris(tmp_path, "seed=2"))
    assert different.history[0]["train_loss"] != first.history[0]["train_loss"]


def test_training_borrows_the_default_generator(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(iris(tmp_path, "train.epochs=1"))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_more_dropout_does_not_change_the_order_of_rows_or_the_first_weights(tmp_path: Path) -> None:
    """Each purpose has its own stream: the same init and shuffles whatever the other layers draw."""
    base = ["model.batch_norm=false", "train.epochs=1", "optimizer={name: SGD, lr: 1e-30}", "scheduler=null"]
    plain = run(iris(tmp_path, *base, "model.dropout=0.0"))
    dropping = run(iris(tmp_path, *base, "model.dropout=0.5"))
    weights = [list(run.model.parameters()) for run in (plain, dropping)]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    generators = [checkpoint.load(run.directory / "checkpoints/last").state["generators"] for run in (plain, dropping)]
    assert generators[0] == generators[1]  # masks have an address, and take nothing from the generator


REGRESSION = """
name: linnerud_test
dtype: float64
data: {name: linnerud, standardize_target: %s}
model: {hidden: [8]}
loss: {name: MSELoss}
optimizer: {name: Adam, lr: 0.01}
train: {epochs: 5, batch_size: 5}
output: %s
"""


@pytest.mark.parametrize("standardize", ["auto", "true", "false"])
@pytest.mark.slow
def test_regression_scores_are_in_the_original_units(tmp_path: Path, standardize: str) -> None:
    from sklearn.metrics import r2_score, root_mean_squared_error

    run_config = config.loads(REGRESSION % (standardize, tmp_path))
    result = run(run_config)
    table = datasets.load("linnerud", {}, 0)
    splits = split(table, 0.2, 0.2, 0)
    features = Standardizer.fit(splits.train.features)
    targets = Standardizer.fit(splits.train.targets)
    for part, scores in ((splits.train, result.scores["train"]), (splits.test, result.scores["test"])):
        with torch.no_grad():
            predicted = result.model(torch.tensor(features.transform(part.features))).numpy()
        if standardize != "false":
            predicted = targets.inverse_transform(predicted)
        assert scores["r2"] == pytest.approx(r2_score(part.targets, predicted), rel=1e-9)
        errors = root_mean_squared_error(part.targets, predicted, multioutput="raw_values")
        assert [scores[f"rmse_{name}"] for name in ("Weight", "Waist", "Pulse")] == pytest.approx(errors.tolist())
    saved = checkpoint.load(result.directory / "checkpoints" / "last").state["preprocessing"]
    prepared = Preprocessing.from_state(saved)
    assert prepared.scaler is not None and np.array_equal(prepared.scaler.mean, features.mean)
    assert (prepared.target_scaler is not None) == (standardize != "false")


def test_r2_of_a_constant_target_is_defined() -> None:
    part = Table(np.ones((2, 1)), np.full((2, 1), 3.0), "regression", ("x",), ("y",))
    for predicted, r2 in ((3.0, 1.0), (4.0, 0.0)):
        meter = Meter(**scored_as(part))
        outputs, targets = torch.full((2, 1), predicted), torch.full((2, 1), 3.0)
        meter.update(outputs, targets, torch.tensor(0.0), torch.tensor(2.0))
        assert meter.compute()["r2"] == r2


@pytest.mark.parametrize("output", [1.0, float("nan")])
def test_a_meter_goes_on_from_its_state(output: float) -> None:
    part = Table(np.ones((2, 1)), np.array([0, 1]), "multiclass", ("x",), ("a", "b"))
    whole, begun, resumed = (Meter(**scored_as(part)) for _ in range(3))
    outputs, rest = (
        torch.tensor([[1.0, 0.0], [0.0, output]]),
        (torch.tensor([0, 1]), torch.tensor(0.5), torch.tensor(2)),
    )
    for meter in (whole, begun):
        meter.update(outputs, *rest)
    resumed.load_state(json.loads(json.dumps(begun.state())))
    for meter in (whole, resumed):
        meter.update(torch.ones(2, 2), *rest)
    assert repr(resumed.compute()) == repr(whole.compute())


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_a_score_of_outputs_that_are_not_finite_is_none(place: str) -> None:
    part = Table(np.ones((2, 1)), np.array([0, 1]), "multiclass", ("x",), ("a", "b"))
    with fake_gpu():
        meters = []
        for output in (1.0, math.inf):
            meters.append(Meter(**scored_as(part)))
            outputs = torch.tensor([[1.0, 0.0], [0.0, output]]).to(place)
            rest = torch.tensor([0, 1]).to(place), torch.tensor(0.5).to(place), torch.tensor(2.0).to(place)
            meters[-1].update(outputs, *rest)
        right, wrong = meters
        assert right.compute()["accuracy"] == 1.0 and math.isnan(wrong.compute()["accuracy"])
        right.merge(wrong)
        assert math.isnan(right.compute()["accuracy"])


def test_two_classes_are_one_logit(tmp_path: Path) -> None:
    text = """
name: moons_test
data: {name: make_moons, n_samples: 200, noise: 0.1}
model: {hidden: [16], activation: Tanh}
loss: {name: BCEWithLogitsLoss}
optimizer: {name: Adam, lr: 0.02}
train: {epochs: 15, batch_size: 16}
"""
    result = run(config.loads(text, overrides=[f"output={tmp_path}"]))
    assert result.model[-1].out_features == 1
    splits = split(datasets.load("make_moons", {"n_samples": 200, "noise": 0.1}, 0), 0.2, 0.2, 0)
    features = Standardizer.fit(splits.train.features).transform(splits.test.features)
    with torch.no_grad():
        logits = result.model(torch.tensor(features, dtype=torch.float32)).numpy()[:, 0]
    assert result.scores["test"]["accuracy"] == pytest.approx(((logits > 0) == splits.test.targets).mean())
    assert result.scores["test"]["accuracy"] > 0.8


@pytest.mark.parametrize(
    "scheduler, rates",
    [
        ("{name: StepLR, step_size: 1, gamma: 0.5}", [0.01, 0.005, 0.0025, 0.00125]),
        ("{name: StepLR, step_size: 3, gamma: 0.5, interval: step}", [0.01, 0.005, 0.0025, 0.00125]),
        (
            "{name: ReduceLROnPlateau, factor: 0.1, patience: 0, threshold: 1e9, threshold_mode: abs}",
            [0.01, 0.01, 1e-3, 1e-4],
        ),
        ("null", [0.01, 0.01, 0.01, 0.01]),
    ],
)
@pytest.mark.slow
def test_the_schedule_advances_by_epochs_or_by_steps(tmp_path: Path, scheduler: str, rates: list[float]) -> None:
    result = run(iris(tmp_path, f"scheduler={scheduler}"))
    assert [record["learning_rate"] for record in result.history] == pytest.approx(rates)


# ------------------------------------------------------------ what is refused, before anything is written


def broken_labels() -> Table:
    labels = np.array([0, 1, 2, 3, 1, 0], dtype=np.int64)
    return Table(np.zeros((6, 2)), labels, "multiclass", ("a", "b"), ("x", "y", "z"))


def test_labels_out_of_range_are_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = DATASETS.entries["iris"]
    monkeypatch.setitem(DATASETS.entries, "iris", type(entry)("iris", broken_labels, entry.facts))
    with pytest.raises(DataError, match=r"label 3 in row 3 is outside 0 to 2"):
        run(iris(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["train.batch_size=91", "train.accumulate=1"], r"train\.drop_last drops the only batch: 90 rows are fewer"),
        (["loss.weight=[1.0, 2.0]"], r"loss\.weight has 2 values for 3 classes"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        run(iris(tmp_path, *overrides))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------ divergence


def test_divergence_stops_names_the_step_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted_loss(loss: nn.Module):
        forward, calls = loss.forward, []

        def planted(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            calls.append(None)
            value = forward(outputs, targets)
            return value * math.nan if len(calls) == 14 else value  # 5 + 1 calls an epoch, validation included

        return planted

    make = loss_and_parts.summing_loss

    def broken(*arguments: object) -> nn.Module:
        loss = make(*arguments)
        loss.forward = planted_loss(loss)
        return loss

    monkeypatch.setattr(loss_and_parts, "summing_loss", broken)
    with pytest.raises(loop.DivergedError, match=r"the training loss is nan at step 7, in epoch 3") as caught:
        run(iris(tmp_path))
    assert caught.value.exit_code == 3
    (directory,) = tmp_path.iterdir()
    assert str(directory / "checkpoints" / "last") in str(caught.value)
    last = checkpoint.load(directory / "checkpoints" / "last")
    assert last.state["epoch"] == 2
    assert all(np.isfinite(tensor.numpy()).all() for tensor in last.model.values())
    assert len(records(directory)) == 2


def test_a_learning_rate_far_too_high_is_a_divergence(tmp_path: Path) -> None:
    overrides = [
        "optimizer={name: SGD, lr: 1e30}",
        "model.batch_norm=false",
        "scheduler=null",
        "model.activation=LeakyReLU",
    ]
    with pytest.raises(
        loop.DivergedError, match=r"loss is (nan|inf) at step \d+, in epoch 1; last good checkpoint: none"
    ):
        run(iris(tmp_path, *overrides))


# ------------------------------------------------------------ interruption


def interrupted_run(output: Path, at_call: int, number: int = signal.SIGINT) -> RunResult:
    """Run iris; while the loss is computed for the `at_call`-th time, the signal arrives."""
    make, calls = loss_and_parts.summing_loss, []

    def signalling(*arguments: object) -> nn.Module:
        loss = make(*arguments)
        forward = loss.forward

        def signalled(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            calls.append(None)
            if len(calls) == at_call:
                os.kill(os.getpid(), number)
            return forward(outputs, targets)

        loss.forward = signalled
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_and_parts, "summing_loss", signalling)
        return run(iris(output))


@pytest.mark.parametrize("number, exit_code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_the_step_and_its_checkpoint(tmp_path: Path, number: int, exit_code: int) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(interrupt.TrainingInterrupted) as caught:
        interrupted_run(tmp_path, at_call=8, number=number)  # the second call of epoch 2, in its first window
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert caught.value.exit_code == exit_code
    (directory,) = tmp_path.iterdir()
    assert str(caught.value) == (
        f"{signal.Signals(number).name}: stopped after step 4, in epoch 2 of 4; "
        f"the checkpoint of this step is {directory / 'checkpoints' / 'last'}"
    )
    last = checkpoint.load(directory / "checkpoints" / "last")
    assert (last.state["epoch"], last.state["step"], last.state["step_in_epoch"]) == (2, 4, 1)
    assert last.state["training_sums"]["rows"] == 32
    assert checkpoint.load(directory / "checkpoints" / "best").state["epoch"] == 1
    assert len(records(directory)) == 1


def test_a_signal_during_validation_ends_the_run_after_the_epoch(tmp_path: Path) -> None:
    with pytest.raises(interrupt.TrainingInterrupted, match="stopped after step 3, in epoch 1 of 4"):
        interrupted_run(tmp_path, at_call=6)
    (directory,) = tmp_path.iterdir()
    assert len(records(directory)) == 1
    assert checkpoint.load(directory / "checkpoints" / "last").state["step_in_epoch"] == 0


def test_outside_the_main_thread_signals_are_left_alone(tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    seen = []

    def train() -> None:
        run(iris(tmp_path, "train.epochs=1"))
        seen.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [handlers]


def test_the_second_signal_acts_as_before() -> None:
    arrived = []
    before = signal.signal(signal.SIGINT, lambda number, frame: arrived.append(number))
    try:
        with interrupt.Interrupt() as stop:
            assert not stop
            os.kill(os.getpid(), signal.SIGINT)
            assert stop
            assert arrived == []
            os.kill(os.getpid(), signal.SIGINT)
            assert arrived == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_in_the_middle_of_the_first_does_no_harm() -> None:
    class Handlers(dict[Any, Any]):
        """Handlers, of which the first is taken out while another signal arrives."""

        def popitem(self) -> Any:
            if len(self) == 2 and not again:
                again.append(True)
                os.kill(os.getpid(), signal.SIGINT)
            return super().popitem()

    again: list[bool] = []
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupt.Interrupt() as stop:
        stop._previous = Handlers(stop._previous)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
    assert again == [True]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_a_signal_that_is_ignored_stays_so() -> None:
    """A shell has Ctrl-C ignored by what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt.Interrupt() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


LONG = IRIS.replace("epochs: 4", "epochs: 100000")


def test_ctrl_c_in_a_real_process(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv")  # without scikit-learn, whose import takes longer than the rest
    data = f"{{file: {tmp_path / 'table.csv'}, target: kind, task: classification}}"
    (tmp_path / "long.yaml").write_text(LONG.replace("{name: iris}", data))
    command = [sys.executable, "-m", "nanotorch.train", str(tmp_path / "long.yaml"), f"output={tmp_path / 'runs'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert re.search(r"SIGINT: stopped after step \d+, in epoch \d+ of 100000; the checkpoint of this step is", errors)
    (directory,) = (tmp_path / "runs").iterdir()
    last = checkpoint.load(directory / "checkpoints" / "last")
    assert last.state["epoch"] >= len(records(directory)) >= 1


# ------------------------------------------------------------ what a checkpoint restores


def continue_from(directory: Path, run_config: config.Config) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Load `last` into freshly built objects and train the remaining steps, all by hand."""
    saved = checkpoint.load(directory / "checkpoints" / "last")
    state = saved.state
    splits = split(datasets.load("iris", {}, run_config.seed), 0.2, 0.2, run_config.seed)
    scaler = Standardizer.from_state(state["preprocessing"]["scaler"])
    features = torch.tensor(scaler.transform(splits.train.features), dtype=torch.float32)
    labels = torch.tensor(splits.train.targets)

    model = MODELS.get("mlp")(4, 3, **run_config.model.arguments)
    model.load_state_dict(saved.model)
    optimizer = OPTIMIZERS.get("Adam")(model.parameters(), **run_config.optimizer.arguments)
    scheduler = SCHEDULERS.get("CosineAnnealingLR")(optimizer, **run_config.scheduler.arguments)
    optimizer.load_state_dict(saved.optimizer)
    scheduler.load_state_dict(state["scheduler"])
    shuffle = torch.Generator()
    shuffle.set_state(state["generators"]["shuffle"])
    default_generator.set_state(state["generators"]["dropout"])
    criterion = LOSSES.get("CrossEntropyLoss")(reduction="sum")

    loader = DataLoader(TensorDataset(features, labels), 16, shuffle=True, drop_last=True, generator=shuffle)
    first, done = (state["epoch"], state["step_in_epoch"]) if state["step_in_epoch"] else (state["epoch"] + 1, 0)
    step = state["step"]
    model.train()
    for epoch in range(first, run_config.train.epochs + 1):
        for number, window in enumerate(loop.windows(loader, 2), start=1):
            if epoch == first and number <= done:
                continue
            step += 1
            optimizer.zero_grad()
            for piece, (batch, targets) in enumerate(window):
                with torch.random.dropout_counters(step, row=16 * piece):
                    outputs = model(batch)
                (criterion(outputs, targets) / float(16 * len(window))).backward()
            optimizer.step()
            scheduler.step()
    return model, optimizer


@pytest.mark.parametrize("at_call", [1, 5, 6, 8, 17])
@pytest.mark.slow
def test_a_checkpoint_holds_all_that_a_bit_exact_continuation_needs(tmp_path: Path, at_call: int) -> None:
    whole = run(iris(tmp_path / "whole"))
    expected = checkpoint.load(whole.directory / "checkpoints" / "last")
    with pytest.raises(interrupt.TrainingInterrupted):
        interrupted_run(tmp_path / "parts", at_call)
    (directory,) = (tmp_path / "parts").iterdir()
    before = default_generator.get_state()
    try:
        model, optimizer = continue_from(directory, iris(tmp_path / "parts"))
        assert default_generator.get_state() == expected.state["generators"]["dropout"]
    finally:
        default_generator.set_state(before)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected.model[name]), name
    assert optimizer.state_dict()["param_groups"] == expected.optimizer["param_groups"]
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            other = expected.optimizer["state"][index][name]
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


# ------------------------------------------------------------ a terminal, a GPU


def test_on_a_terminal_there_is_a_bar_with_loss_and_score(tmp_path: Path) -> None:
    (tmp_path / "iris.yaml").write_text(IRIS)
    rows = [f"{number % 3 + number / 1000},{'abc'[number % 3]}" for number in range(150)]
    (tmp_path / "iris.csv").write_text("\n".join(["size,kind", *rows]))
    controller, terminal = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "nanotorch.train",
        str(tmp_path / "iris.yaml"),
        f"output={tmp_path / 'runs'}",
        f"data={{file: '{tmp_path / 'iris.csv'}', target: kind}}",
    ]
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 4096):
            shown += chunk
    except OSError:  # the terminal's other end is closed
        pass
    os.close(controller)
    assert process.wait(timeout=30) == 0
    text = shown.decode()
    assert re.search(r"4/4 100%\|.*\| 00:.*accuracy [01]\.\d+  best [01]\.\d+ in \d  loss \d\.\d+\]?", text)
    # what is said before the first step is above the bar
    assert re.match(r"loading the libraries \.\.\.\r\nnote: target 'kind'[^\r\n]*\r\n\r+  0%\|", text)
    assert re.search(r"epoch 1/4  loss", text) and re.search(r"epoch 4/4  loss", text)  # the lines stay above the bar
    assert re.search(r"^test +30 ", text, re.M)


def test_the_bar_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress(2, 3, "accuracy") as shown:
        shown.steps(1, 0.5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_run_on_a_gpu_equals_the_run_on_the_cpu(tmp_path: Path, device: torch.device) -> None:
    overrides = ["dtype=float64", "train.epochs=2"]
    on_cpu = run(iris(tmp_path / "cpu", *overrides))
    on_device = run(iris(tmp_path / "device", *overrides, f"device={device}"))
    assert next(on_device.model.parameters()).device is device
    saved = [checkpoint.load(run.directory / "checkpoints" / "last").model for run in (on_cpu, on_device)]
    for name, tensor in saved[0].items():
        np.testing.assert_allclose(saved[1][name].numpy(), tensor.numpy(), rtol=1e-7, atol=1e-9)
    for one, other in zip(on_cpu.history, on_device.history, strict=True):
        assert {**one, "seconds": 0} == pytest.approx({**other, "seconds": 0}, rel=1e-7)


def test_steps_wait_for_the_gpu_only_to_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two readings of the losses nothing is copied to the host."""
    monkeypatch.setattr(loop, "READ_EVERY", 10**9)
    with fake_gpu() as counts:
        step, seen = torch.optim.Adam.step, []

        def counted(self: torch.optim.Adam, *arguments: object) -> None:
            step(self, *arguments)
            seen.append((counts.device_to_host, counts.synchronizations))

        monkeypatch.setattr(torch.optim.Adam, "step", counted)
        run(iris(tmp_path, "device=cuda", "train.epochs=2"))
    assert seen[0] == seen[1] == seen[2]
    assert seen[3] == seen[4] == seen[5]


def test_small_models_train_with_one_blas_thread_and_large_ones_keep_theirs() -> None:
    from threadpoolctl import threadpool_info

    from nanotorch.train.terminal.blas_threads import blas_threads

    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    before = threads()
    with blas_threads(torch.nn.Linear(64, 128), rows=64):
        assert threads() == {1}
    assert threads() == before
    with blas_threads(torch.nn.Linear(784, 1024), rows=512):
        assert threads() == before
