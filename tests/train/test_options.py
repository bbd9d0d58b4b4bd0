"""What a config can ask for besides data, model and optimizer:
each option does what it says, by a computation beside it.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import sklearn.metrics
from sklearn.base import BaseEstimator
from sklearn.utils.class_weight import compute_class_weight

import nanotorch as torch
from nanotorch import nn
from nanotorch.optim import SGD
from nanotorch.registry import ACTIVATIONS, INITIALIZATIONS, METRICS, SCHEDULERS
from nanotorch.train.cli.train import main
from nanotorch.train.config import loading as config
from nanotorch.train.data.table import DataError, Table
from nanotorch.train.fit import build, loop
from nanotorch.train.fit.loss_and_parts import class_weights, mean_weights, summing_loss
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.fit.training import Training
from nanotorch.train.inspect.nonfinite import find_cause
from nanotorch.train.model.models import mlp, residual_mlp
from nanotorch.train.record import checkpoint, resume
from nanotorch.train.run import folds, side_by_side
from nanotorch.train.run.open_run import OpenRun, Wanted
from nanotorch.train.run.run import run
from nanotorch.train.score import sklearn_scores
from nanotorch.train.terminal.interrupt import Interrupt

IRIS = """
name: options
seed: 1
device: cpu
data: {name: iris}
model: {hidden: [8]}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.01}
train: {epochs: 4, batch_size: 16}
"""
MOONS = ["data={name: make_moons, n_samples: 120, noise: 0.2}", "loss={name: BCEWithLogitsLoss}"]
DIABETES = ["data={name: diabetes}", "loss={name: MSELoss}", "train.batch_size=64"]


def iris(*overrides: str) -> config.Config:
    return config.loads(IRIS, "run.yaml", overrides)


def made(*overrides: str) -> build.Setup:
    given = iris(*overrides)
    return build.build(given, prepare(given))


def trained(*overrides: str) -> Any:
    training, loader, parts, options = made(*overrides)
    for _ in loop.fit(training, loader, parts["validation"], options):
        pass
    return training


def refusal(*overrides: str) -> str:
    with pytest.raises(config.ConfigError) as caught:
        iris(*overrides)
    return str(caught.value).splitlines()[0]


# ------------------------------------------------------------ scores by name


class Fixed(BaseEstimator):
    """An estimator that gives what it was made of, so that scikit-learn's own scorers can judge it."""

    def __init__(self, kind: str, outputs: Any) -> None:
        self._estimator_type = kind
        self.outputs = outputs
        self.classes_ = np.arange(max(2, outputs.shape[1]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = self._estimator_type
        return tags

    def fit(self) -> None:
        pass

    def predict_proba(self, rows: Any) -> Any:
        outputs = self.outputs[rows[:, 0]]
        if outputs.shape[1] == 1:
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
        exponentials = np.exp(outputs)
        return exponentials / exponentials.sum(1, keepdims=True)

    def predict(self, rows: Any) -> Any:
        if self._estimator_type == "regressor":
            return self.outputs[rows[:, 0]]
        return self.predict_proba(rows).argmax(1)


ONE_TARGET = {*sklearn_scores.CLASSES, "regression"}  # several: tests/tables/test_several_targets.py


@pytest.mark.parametrize("name", [name for name in METRICS if set(METRICS.entry(name).facts["tasks"]) & ONE_TARGET])
def test_scores_are_those_of_scikit_learns_scorer_of_that_name(name: str) -> None:
    generator = np.random.default_rng(0)
    for task in set(METRICS.entry(name).facts["tasks"]) & ONE_TARGET:
        outputs = generator.standard_normal((60, {"binary": 1, "multiclass": 4, "regression": 2}[task]))
        targets = generator.integers(0, 2 if task == "binary" else 4, 60)
        if task == "regression":
            targets = outputs + generator.standard_normal((60, 2)) + 3
        scorer = sklearn.metrics.get_scorer(name)
        model = Fixed("regressor" if task == "regression" else "classifier", outputs)
        expected = scorer(model, np.arange(60).reshape(-1, 1), targets)
        assert sklearn_scores.score(name, task, outputs, targets) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("task", sklearn_scores.CLASSES)
def test_scores_that_count_rows_are_those_that_the_largest_class_alone_makes_high(task: str) -> None:
    """18 of 20 rows are of one class, and the model says it always; of two classes the rare one is the positive one."""
    names = [name for name in METRICS if task in METRICS.entry(name).facts["tasks"]]
    targets = np.array([0] * 18 + [1, 1 if task == "binary" else 2])
    outputs = np.full((20, 1), -2.0) if task == "binary" else np.tile([2.0, 0.0, -1.0], (20, 1))
    high = {name for name in names if sklearn_scores.score(name, task, outputs, targets) > 0.8}
    assert high == {name for name in names if sklearn_scores.counts_rows(name)} >= {"accuracy", "f1_weighted"}


def test_named_scores_are_in_every_record_and_table_in_original_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = iris(
        *DIABETES,
        "train.metrics=[neg_mean_absolute_error, r2]",
        "train.monitor=neg_mean_absolute_error",
        f"output={tmp_path}",
    )
    result = run(given)
    name = "neg_mean_absolute_error"
    record = result.history[result.best_epoch - 1]
    assert record[f"validation_{name}"] == max(line[f"validation_{name}"] for line in result.history)
    assert result.scores["validation"][name] == record[f"validation_{name}"]
    assert re.search("neg.mean.absolute.error", capsys.readouterr().out)

    data = prepare(given)
    with torch.no_grad():
        outputs = result.model.eval()(
            torch.tensor(data.preprocessing.features(data.parts["test"]), dtype=torch.float32)
        )
    assert data.preprocessing.target_scaler is not None
    predicted = data.preprocessing.target_scaler.inverse_transform(outputs.numpy())
    error = np.abs(predicted - data.parts["test"].targets).mean()
    assert result.scores["test"][name] == pytest.approx(-error, rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.metrics=[f1_macr]"], "train.metrics.0: unknown metric 'f1_macr' (did you mean 'f1_macro'?)"),
        (["train.metrics=f1"], "train.metrics: expected list of name of a registered metric, got the text 'f1'"),
        (
            ["train.metrics=[f1_macro, roc_auc]"],
            (
                "train.metrics.1: roc_auc is for binary or multilabel, but iris is multiclass; take roc_auc_ovo or"
                " roc_auc_ovo_weighted or roc_auc_ovr or roc_auc_ovr_weighted"
            ),
        ),
        (
            ["train.metrics=[neg_mean_squared_error]"],
            "train.metrics.0: neg_mean_squared_error is for regression, but iris is multiclass; take neg_log_loss",
        ),
        (["train.monitor=val_f1_macr"], "train.monitor: unknown score 'val_f1_macr' (did you mean 'f1_macro'?)"),
        (["train.monitor=validation_loss"], "train.monitor: unknown score 'validation_loss' (did you mean 'loss'?)"),
        (["train.monitor=rmse"], "train.monitor: rmse is for regression, but iris is multiclass"),
        (["train.monitor=r2"], "train.monitor: r2 is for regression, but iris is multiclass"),
        (["train.monitor=3"], "train.monitor: expected string, got 3"),
        (
            ["train.clip_norm=1", "train.clip_value=1"],
            "train.clip_value: gradients are clipped by clip_norm already; give one of the two",
        ),
        (
            ["model.batch_norm=true", "model.layer_norm=true"],
            "model.layer_norm: a layer takes batch_norm or layer_norm, not both",
        ),
        (
            ["model.init=kaiming_norm"],
            "model.init: unknown initialization 'kaiming_norm' (did you mean 'kaiming_normal'?)",
        ),
        (["model={name: residual_mlp, hidden: [3]}"], "model.hidden: unknown key; the keys of residual_mlp are: "),
        (["model={name: residual_mlp, blocks: 0}"], "model.blocks: expected int >= 1, got 0"),
        (
            ["loss.class_weight=balance"],
            (
                "loss.class_weight: expected 'balanced' or a mapping of string to float > 0 or null, got the text"
                " 'balance'"
            ),
        ),
        (["loss.class_weight={setosa: 0}"], "loss.class_weight.setosa: expected float > 0, got 0"),
        (
            ["loss.class_weight=balanced", "loss.weight=[1, 2, 3]"],
            "loss.class_weight: loss.weight weighs the classes already; give one of the two",
        ),
        (
            [*DIABETES, "loss.class_weight=balanced"],
            "loss.class_weight: a regression has no classes to weigh, and diabetes is one",
        ),
        (
            ["scheduler={name: StepLR, step_size: 3, warmup: 4}"],
            "scheduler.warmup: the run is over after 4 epochs, before 4 of warmup",
        ),
        (
            ["scheduler={name: ReduceLROnPlateau, warmup: 1}"],
            (
                "scheduler.warmup: ReduceLROnPlateau has no first value to rise to: it goes by the loss; leave out"
                " warmup, or take another schedule"
            ),
        ),
        (["scheduler={name: StepLR, step_size: 3, warmup: -1}"], "scheduler.warmup: expected int >= 0, got -1"),
        (["train.folds=1"], "train.folds: expected int >= 2 or null, got 1"),
        (["train.repeats=0"], "train.repeats: expected int >= 1, got 0"),
        (["data.fold=[3, 2]"], "data.fold.0: there is no fold 3 of 2"),
        (
            ["data.fold=[1, 2]", "train.folds=2"],
            "train.folds: data.fold makes this run one fold; leave out one of the two",
        ),
        (["seed=-1"], "seed: expected int >= 0 and <= 4294967295 or null, got -1"),
    ],
)
def test_mistakes_are_named(overrides: list[str], message: str) -> None:
    assert message in refusal(*overrides)


def test_a_mistake_in_a_mapping_of_class_weights_is_placed() -> None:
    text = IRIS.replace(
        "{name: CrossEntropyLoss}", "\n  name: CrossEntropyLoss\n  class_weight:\n    setosa: 1\n    virginica: heavy"
    )
    with pytest.raises(config.ConfigError) as caught:
        config.loads(text, "run.yaml")
    assert str(caught.value).startswith(
        "run.yaml:11:16: loss.class_weight.virginica: expected float > 0, got the text 'heavy'"
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=null"],
        [
            "train={epochs: 3, batch_size: 4, metrics: [f1_macro, neg_log_loss], monitor: f1_macro, folds: 3,"
            " repeats: 2}"
        ],
        ["loss.class_weight={setosa: 2, virginica: 0.5}"],
        ["scheduler={name: OneCycleLR, max_lr: 0.1, interval: step, warmup: 3}"],
        ["model={name: residual_mlp, init: orthogonal, layer_norm: true}"],
        ["data.fold=[2, 5]"],
    ],
)
def test_options_round_trip(overrides: list[str]) -> None:
    given = iris(*overrides)
    assert config.loads(config.resolved(given)) == given


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([*DIABETES, "train.monitor=rmse_x"], "train.monitor: there is no score 'rmse_x' here (did you mean 'rmse'?)"),
        (["loss.class_weight={Setosa: 2}"], "loss.class_weight: there is no class 'Setosa' (did you mean 'setosa'?)"),
        (
            ["scheduler={name: StepLR, step_size: 3, interval: step, warmup: 24}"],
            "scheduler.warmup of 24 steps is as long as the run, which has 24",
        ),
        (
            ["model.batch_norm=true", "train.batch_size=89"],
            "the last batch of 90 rows in batches of 89 is a single row",
        ),
    ],
)
def test_what_only_the_data_can_tell_is_refused_before_training(overrides: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        made(*overrides)
    assert str(caught.value).startswith(message)


# ------------------------------------------------------------ early stopping and the best state


@pytest.mark.parametrize("monitor", ["loss", "accuracy", "f1_macro", "neg_log_loss"])
@pytest.mark.slow
def test_early_stopping_goes_by_the_monitored_score_and_restores_its_best_state(tmp_path: Path, monitor: str) -> None:
    overrides = [
        f"train.monitor={monitor}",
        "train.epochs=60",
        "optimizer.lr=0.05",
        "early_stopping={patience: 3, min_delta: 0.001}",
    ]
    result = run(iris(*overrides, f"output={tmp_path}"))
    values = [record[f"validation_{monitor}"] for record in result.history]
    signed = [-value if monitor == "loss" else value for value in values]
    reference, waited, stopped = -np.inf, 0, None
    for epoch, value in enumerate(signed, start=1):
        waited = 0 if value > reference + 0.001 else waited + 1
        reference = value if waited == 0 else reference
        if waited >= 3:
            stopped = epoch
            break
    assert stopped == len(values) < 60
    assert signed[result.best_epoch - 1] == max(signed)
    assert result.scores["validation"][monitor] == values[result.best_epoch - 1]


def training(**arguments: Any) -> Training:
    model = nn.Linear(1, 1)
    meter = Mock(spec=[])
    return Training(model, nn.MSELoss(), SGD(model.parameters()), torch.Generator(), meter, **arguments)


@pytest.mark.parametrize(
    ("arguments", "waited"),
    [
        # the reference stays at 1.0 until 0.9 is beaten: small steps add up
        ({"min_delta": 0.1}, [0, 1, 0, 1, 0, 1, 2, 3]),
        # the best moves with every small step: none is ever large enough
        ({"tol": 0.1}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({}, [0, 0, 0, 0, 0, 0, 1, 2]),
    ],
)
def test_a_better_score_is_one_that_beats_its_reference(arguments: dict[str, float], waited: list[int]) -> None:
    judged = training(monitor="loss", patience=100, **arguments)
    found = []
    for loss in (1.0, 0.94, 0.88, 0.82, 0.76, 0.70, 0.70, 0.71):
        judged.judge({"loss": loss})
        found.append(judged.waited)
    assert found == waited
    assert judged.best_score[0] == -0.70


def test_the_reference_of_early_stopping_survives_a_checkpoint(tmp_path: Path) -> None:
    stopping = ["train.monitor=loss", "early_stopping={patience: 50, min_delta: 10}"]
    options = [*stopping, "train.epochs=6", f"output={tmp_path}"]
    whole = run(iris(*options))
    part = run(iris(*options, "train.epochs=3", "name=part"))
    longer = iris(*options, "name=part")
    found = resume.find(longer, str(part.directory), None)
    run(longer, resume=found)
    ends = [json.loads((made.directory / "checkpoints/last/state.json").read_text()) for made in (whole, part)]
    assert ends[0]["best"] == ends[1]["best"]
    assert ends[0]["best"]["reference"] < ends[0]["best"]["score"]["!tuple"][0]


# ------------------------------------------------------------ averages, clipping, skipped steps


def test_the_average_of_the_weights_is_the_one_computed_by_hand_and_is_what_is_used(tmp_path: Path) -> None:
    overrides = ["train.ema=0.6", "train.epochs=3", "optimizer={name: SGD, lr: 0.5}", "model.batch_norm=true"]
    training, loader, parts, options = made(*overrides)
    expected = {name: p.detach().numpy().copy() for name, p in training.model.named_parameters()}
    steps = 0
    for record in loop.fit(training, loader, parts["validation"], options):
        if not isinstance(record, dict):
            steps += 1
            decay = min(0.6, (1 + steps) / (10 + steps))
            for name, p in training.model.named_parameters():
                expected[name] = decay * expected[name] + (1 - decay) * p.detach().numpy()
            continue
        raw = {name: p.detach().numpy().copy() for name, p in training.model.named_parameters()}
        for name, value in expected.items():
            np.testing.assert_allclose(training.weights()[name].numpy(), value, rtol=1e-5, atol=1e-6)
        twin = made(*overrides).training
        twin.model.load_state_dict(training.weights())
        assert loop.evaluate(twin.model, twin.criterion, parts["validation"])["loss"] == record["validation_loss"]
        for name, p in training.model.named_parameters():
            assert np.array_equal(p.detach().numpy(), raw[name])  # evaluation has given the raw weights back

    result = run(iris(*overrides, f"output={tmp_path}"))
    best = checkpoint.load(result.directory / "checkpoints" / "best")
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(tensor, best.model[name])
    assert best.training is not None
    assert any(not torch.equal(best.model[name], best.training[name]) for name in best.model)


@pytest.mark.parametrize(("option", "bound"), [("clip_norm", 0.02), ("clip_value", 0.003)])
def test_gradients_are_clipped_and_their_norm_before_is_logged(option: str, bound: float) -> None:
    overrides = ["optimizer={name: SGD, lr: 1}", "train.batch_size=1000", "train.epochs=1", "dtype=float64"]
    training = made(*overrides, f"train.{option}={bound}").training
    before = [p.detach().numpy().copy() for p in training.model.parameters()]
    training = trained(*overrides, f"train.{option}={bound}")
    moved = np.concatenate(
        [(a - p.detach().numpy()).reshape(-1) for a, p in zip(before, training.model.parameters(), strict=True)]
    )
    free = trained(*overrides)
    gradient = np.concatenate(
        [(a - p.detach().numpy()).reshape(-1) for a, p in zip(before, free.model.parameters(), strict=True)]
    )
    norm = float(np.linalg.norm(gradient))
    assert training.history[0]["gradient_norm"] == pytest.approx(norm, rel=1e-9)
    wanted = gradient * min(1, bound / (norm + 1e-6)) if option == "clip_norm" else np.clip(gradient, -bound, bound)
    np.testing.assert_allclose(moved, wanted, atol=1e-12)


@pytest.mark.parametrize("more", [[], ["train.shuffle=false"], ["train.accumulate=2", "train.drop_last=true"]])
def test_the_rows_of_a_step_that_is_not_finite_are_those_that_the_loader_gave(more: list[str]) -> None:
    def spoilt() -> build.Setup:
        setup = made(*more)
        setup.parts["train"].dataset.tensors[0][7] = float("nan")
        return setup

    training, loader, parts, options = spoilt()
    with pytest.raises(loop.DivergedError) as caught:
        list(loop.fit(training, loader, parts["validation"], options))
    cause = find_cause(spoilt(), caught.value, Interrupt())
    assert cause is not None and 7 in cause.rows
    assert len(cause.rows) == options.accumulate * loader.batch_size == len(set(cause.rows))


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_batch_that_is_not_finite_ends_training_or_is_left_out(policy: str) -> None:
    overrides = [
        f"train.on_nonfinite={policy}",
        "model.batch_norm=true",
        "train.ema=0.9",
        "scheduler={name: StepLR, step_size: 5, interval: step}",
    ]
    training, loader, parts, options = made(*overrides)
    parts["train"].dataset.tensors[0][7] = float("nan")  # one row of 90: one batch of six in each epoch
    steps = loop.fit(training, loader, parts["validation"], options)
    if policy == "raise":
        with pytest.raises(loop.DivergedError, match="the training loss is nan at step"):
            list(steps)
        return
    list(steps)
    assert (training.skipped, training.step) == (4, 24)
    assert all(
        np.isfinite(t.numpy()).all() for t in (*training.model.state_dict().values(), *training.weights().values())
    )
    assert all(np.isfinite(record["train_loss"]) for record in training.history)


# ------------------------------------------------------------ weights of classes


def unbalanced() -> Table:
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(2), [30, 6]).astype(np.int64)
    return Table(generator.standard_normal((36, 3)), labels, "binary", ("a", "b", "c"), ("no", "yes"))


def test_balanced_is_scikit_learns() -> None:
    table = unbalanced()
    expected = compute_class_weight("balanced", classes=np.arange(2), y=table.targets)
    np.testing.assert_allclose(class_weights("balanced", table), expected)
    assert class_weights({"yes": 4}, table).tolist() == [1.0, 4.0]  # type: ignore[union-attr]


def test_two_classes_weigh_the_same_with_one_logit_as_with_two() -> None:
    table, given = unbalanced(), iris(*MOONS, "loss.class_weight=balanced")
    by_class = class_weights("balanced", table)
    total = summing_loss(given, table, by_class).double()
    logits = torch.randn(36, 1, dtype=torch.float64)
    targets = torch.tensor(table.targets).reshape(-1, 1).double()
    weights = mean_weights(total, targets, torch.float64, by_class)
    two = nn.CrossEntropyLoss(torch.tensor(by_class))(
        torch.cat([torch.zeros_like(logits), logits], 1), torch.tensor(table.targets)
    )
    assert (total(logits, targets) / weights.sum()).item() == pytest.approx(two.item(), rel=1e-12)


@pytest.mark.parametrize("task", ["binary", "multiclass", "hinge"])
def test_pieces_equal_the_whole_batch_with_class_weights(task: str) -> None:
    data = {"binary": MOONS, "multiclass": [], "hinge": ["loss={name: MultiMarginLoss}"]}[task]
    names = '{"0": 3, "1": 0.5}' if task == "binary" else "{setosa: 3, virginica: 0.5}"
    common = [*data, f"loss.class_weight={names}", "dtype=float64", "optimizer={name: SGD, lr: 0.3}"]
    whole = trained(*common, "train.batch_size=28")
    pieces = trained(*common, "train.batch_size=7", "train.accumulate=4")
    for mine, other in zip(pieces.model.parameters(), whole.model.parameters(), strict=True):
        assert (mine - other).abs().max().item() < 1e-12


# ------------------------------------------------------------ schedules with warmup

EXAMPLES = {
    "StepLR": "step_size: 2",
    "MultiStepLR": "milestones: [2, 4]",
    "ConstantLR": "total_iters: 2",
    "LinearLR": "total_iters: 3",
    "ExponentialLR": "gamma: 0.8",
    "CosineAnnealingLR": "T_max: 6",
    "OneCycleLR": "max_lr: 0.1",
    "ReduceLROnPlateau": "patience: 1",
    "CosineAnnealingWarmRestarts": "T_0: 2",
    "CyclicLR": "base_lr: 0.01, max_lr: 0.1, step_size_up: 2",
    "PolynomialLR": "total_iters: 5",
    "CosLogLR": "cycles: 2",
}


def rates(*overrides: str) -> list[float]:
    training, loader, parts, options = made(*overrides)
    found = []
    optimizer = training.optimizer
    step = optimizer.step
    optimizer.step = lambda: found.append(optimizer.param_groups[0]["lr"]) or step()
    list(loop.fit(training, loader, parts["validation"], options))
    return found


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_schedule_begins_after_its_warmup(name: str) -> None:
    whole = ["train.batch_size=1000", f"scheduler={{name: {name}, {EXAMPLES[name]}}}"]  # a step is an epoch
    if name == "ReduceLROnPlateau":
        assert len(rates(*whole)) == 4
        return
    plain = rates(*whole, "train.epochs=6")
    for interval in ("epoch", "step"):
        warmed = rates(*whole, "train.epochs=9", "scheduler.warmup=3", f"scheduler.interval={interval}")
        np.testing.assert_allclose(warmed[3:], plain, rtol=1e-12)
        start = 0.1 / 25 if name == "OneCycleLR" else 0.01
        np.testing.assert_allclose(warmed[:3], [start * k / 4 for k in (1, 2, 3)], rtol=1e-12)


def test_one_cycle_lasts_as_long_as_the_run() -> None:
    found = rates("scheduler={name: OneCycleLR, max_lr: 0.1, interval: step}")
    assert len(found) == 24
    assert max(found) == pytest.approx(0.1, rel=0.01)
    assert found[-1] == pytest.approx(0.1 / 25 / 1e4)


def test_one_cycle_takes_the_rate_of_the_optimizer_where_it_states_none() -> None:
    """The advice of the doctor and of --find-lr names the key that counts."""
    own, stated = "scheduler={name: OneCycleLR, interval: step}", "scheduler={name: OneCycleLR, max_lr: 0.1}"
    assert rates(own, "optimizer.lr=0.1") == rates(stated, "scheduler.interval=step", "optimizer.lr=9.0")
    assert build.key_of_rate(config.loads(IRIS, overrides=[own])) == "optimizer.lr"
    assert build.key_of_rate(config.loads(IRIS, overrides=[stated])) == "scheduler.max_lr"


@pytest.mark.slow
def test_a_warmup_and_all_else_goes_on_bit_for_bit(tmp_path: Path) -> None:
    given = [
        "scheduler={name: CosineAnnealingLR, T_max: 20, interval: step, warmup: 9}",
        "train.ema=0.9",
        "train.clip_value=0.1",
        "train.metrics=[f1_macro]",
        "train.monitor=neg_log_loss",
        "loss.class_weight={setosa: 2}",
        "loss.label_smoothing=0.1",
        "early_stopping={patience: 3}",
        "checkpoint={every_steps: 1, every_seconds: 0, keep: 100}",
        f"output={tmp_path}",
        "model={name: residual_mlp, width: 8, batch_norm: true, dropout: 0.2, init: orthogonal}",
    ]
    whole = run(iris(*given))
    saved = checkpoint.in_order(whole.directory / "checkpoints")
    found = resume.find(iris(*given), str(saved[7]), None)
    assert found is not None and found.checkpoint is not None
    assert found.checkpoint.state["step"] < 9  # in the warmup
    resumed = run(iris(*given), resume=found)
    timeless = [
        [{k: v for k, v in record.items() if k != "seconds"} for record in result.history]
        for result in (whole, resumed)
    ]
    assert timeless[0] == timeless[1]
    assert whole.scores == resumed.scores
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name])


# ------------------------------------------------------------ models


@pytest.mark.parametrize("activation", ACTIVATIONS.names())
def test_any_activation_in_any_model(activation: str) -> None:
    for model in (
        mlp(4, 3, hidden=[5], activation=activation),
        residual_mlp(4, 3, width=5, blocks=1, activation=activation),
    ):
        assert model(torch.randn(6, 4)).shape == (6, 3)


@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "dropout": 0.1}, {"layer_norm": True}])
def test_residual_blocks_add_to_their_input(options: dict[str, Any]) -> None:
    model = residual_mlp(4, 3, width=6, blocks=3, **options).eval()
    x = torch.randn(5, 4)
    blocks = [layer for layer in model if type(layer).__name__ == "Residual"]
    assert len(blocks) == 3
    hidden = model[0](x)
    for block in blocks:
        inner = hidden
        for layer in block:
            inner = layer(inner)
        hidden = hidden + inner
    for layer in list(model)[4:]:
        hidden = layer(hidden)
    assert torch.equal(hidden, model(x))


def test_a_residual_model_trains(tmp_path: Path) -> None:
    result = run(
        iris("model={name: residual_mlp, width: 16, batch_norm: true}", "train.epochs=20", f"output={tmp_path}")
    )
    assert result.scores["test"]["accuracy"] > 0.85


@pytest.mark.parametrize("name", INITIALIZATIONS.names())
def test_initial_weights_have_the_size_that_the_name_promises(name: str) -> None:
    model = mlp(300, 200, hidden=[400], activation="Tanh", init=name)
    gain = 5 / 3
    first, last = model[0].weight.detach().numpy(), model[2].weight.detach().numpy()
    deviation = {
        "kaiming_normal": (gain / 300**0.5, 1 / 400**0.5),
        "kaiming_uniform": (gain / 300**0.5, 1 / 400**0.5),
        "xavier_normal": (gain * (2 / 700) ** 0.5, (2 / 600) ** 0.5),
        "xavier_uniform": (gain * (2 / 700) ** 0.5, (2 / 600) ** 0.5),
        "orthogonal": (gain / 400**0.5, 1 / 400**0.5),
        "trunc_normal": (0.0176, 0.0176),
        "zeros": (0.0, 0.0),
    }[name]
    np.testing.assert_allclose([first.std(), last.std()], deviation, rtol=0.02)
    assert not model[0].bias.detach().numpy().any()


# ------------------------------------------------------------ a seed that is drawn


def test_a_seed_of_null_is_drawn_said_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(iris("seed=null", "train.epochs=1", f"output={tmp_path}"))
    said = capsys.readouterr().out
    recorded = config.load(first.directory / "resolved.yaml")
    assert recorded.seed is not None
    assert f"seed {recorded.seed} drawn" in said
    again = run(recorded)
    assert again.scores == first.scores
    with pytest.raises(ValueError, match="no seed yet"):
        prepare(iris("seed=null"))


@pytest.mark.slow
def test_an_interrupted_run_keeps_the_seed_that_it_drew(tmp_path: Path) -> None:
    run(iris("seed=null", "train.epochs=2", f"output={tmp_path}"))
    found = resume.find(iris("seed=null", f"output={tmp_path}"), "auto", None)
    assert found is not None
    longer = iris("seed=null", "train.epochs=3", f"output={tmp_path}")
    assert resume.differences(longer, found.directory) == []
    before = config.load(found.directory / "resolved.yaml").seed
    result = run(longer, resume=found)
    assert config.load(result.directory / "resolved.yaml").seed == before
    assert json.loads((result.directory / "summary.json").read_text())["epochs"] == 3


# ------------------------------------------------------------ folds and repeats


def test_folds_share_no_row_and_together_are_all_rows() -> None:
    for overrides in ([], DIABETES, ["data={name: wine}"]):
        given = iris(*overrides, "train.folds=5")
        tests: list[list[bytes]] = []
        everything: list[bytes] = []
        for _, single in folds.single_runs(given):
            parts = prepare(single).parts
            tests.append([row.tobytes() for row in parts["test"].features])
            rows = [row.tobytes() for part in parts.values() for row in part.features]
            everything = everything or sorted(rows)
            assert sorted(rows) == everything
            if parts["test"].task != "regression":
                shares = [np.bincount(part.targets) / len(part) for part in parts.values()]
                assert np.abs(np.diff(shares, axis=0)).max() < 0.06  # every class has its share in every part
        sizes = [len(test) for test in tests]
        assert max(sizes) - min(sizes) <= 2
        assert sorted(row for test in tests for row in test) == everything


@pytest.mark.slow
def test_folds_and_repeats_are_runs_of_their_own_with_mean_and_spread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = iris("train.epochs=1", "train.folds=2", "train.repeats=2", "train.metrics=[f1_macro]", f"output={tmp_path}")
    result = folds.run_all(given, IRIS)
    names = ["repeat-1-fold-1", "repeat-1-fold-2", "repeat-2-fold-1", "repeat-2-fold-2"]
    assert list(result.runs) == names
    files = {path.name for path in result.directory.iterdir()}
    assert files == {*names, "config.yaml", "resolved.yaml", "env.json", "train.log", "summary.json", "report.html"}
    values = [result.runs[name]["test"]["f1_macro"] for name in names]
    assert result.mean["test"]["f1_macro"] == pytest.approx(np.mean(values))
    assert result.spread["test"]["f1_macro"] == pytest.approx(np.std(values, ddof=1))
    summary = json.loads((result.directory / "summary.json").read_text())
    assert (summary["scores"], summary["spread"], summary["runs"]) == (result.mean, result.spread, result.runs)
    out = capsys.readouterr().out
    assert "repeat-2-fold-2 (4 of 4)  test loss" in out
    assert [line.split()[0] for line in out.splitlines()[-7:-1]] == [*names, "mean", "spread"]
    alone = run(config.load(result.directory / names[2] / "resolved.yaml", [f"output={tmp_path}"]))
    assert alone.scores == result.runs[names[2]]


def test_a_fold_too_many_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class 'setosa' has 50 rows: too few for one in each of 51 folds"):
        folds.run_all(iris("train.folds=51", f"output={tmp_path / 'runs'}"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_finished_folds_are_kept_and_the_interrupted_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iris("seed=null", "train.folds=2", f"output={tmp_path}", "checkpoint={every_seconds: 0}")
    opened: list[Any] = []
    take, opens = OpenRun.take, side_by_side.open_run

    def open_run(wanted: Wanted, *arguments: Any, **named: Any) -> OpenRun:
        opened.append((wanted.config.data.fold, wanted.resume))
        return opens(wanted, *arguments, **named)

    def stopped_once(self: OpenRun, event: Any) -> None:
        take(self, event)
        if self.config.data.fold == (2, 2) and self.setup.training.epoch == 2 and len(opened) == 2:
            raise loop.DivergedError("stopped by the test")

    monkeypatch.setattr(side_by_side, "open_run", open_run)
    monkeypatch.setattr(OpenRun, "take", stopped_once)
    with pytest.raises(loop.DivergedError):
        folds.run_all(given, run_directory=tmp_path / "cv")
    assert not (tmp_path / "cv" / "summary.json").exists()
    assert len(opened) == 2
    resumed = folds.run_all(given, run_directory=tmp_path / "cv", resume=True)
    again = [(fold, begun) for fold, begun in opened[2:] if fold == (2, 2)]
    assert len(again) == 1 and again[0][1].checkpoint.state["epoch"] in (1, 2)
    whole = folds.run_all(config.load(tmp_path / "cv" / "resolved.yaml"))
    assert whole.runs == resumed.runs
    before = len(opened)
    assert folds.run_all(given, run_directory=tmp_path / "cv", resume=True).runs == resumed.runs
    assert len(opened) == before


@pytest.mark.slow
def test_folds_of_another_config_are_never_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, cv = tmp_path / "iris.yaml", tmp_path / "cv"
    path.write_text(IRIS)
    given = [str(path), "train.epochs=1", "train.folds=2", "--output", str(cv)]
    assert main(given) == 0
    (cv / "summary.json").unlink()
    (cv / "fold-2" / "summary.json").unlink()  # as if it were half done
    before = {
        file: file.read_bytes() for file in cv.rglob("*") if file.is_file() and file.name not in (".lock", "train.log")
    }
    capsys.readouterr()
    for change in ("optimizer.lr=0.5", "seed=5"):
        assert main([*given, change, "--resume", "auto", "--allow-config-change"]) == 1
        message = capsys.readouterr().err
        key = change.partition("=")[0]
        assert f"{cv / 'fold-1'} was trained with another config" in message and f"{key}: " in message, message
        assert "A mean over both would be of neither" in message
        # What is there says what was done: with the old config, in each of its files.
        assert before == {
            file: file.read_bytes()
            for file in cv.rglob("*")
            if file.is_file() and file.name not in (".lock", "train.log")
        }
    assert main([*given, "--resume", "auto", "--allow-config-change"]) == 0
    assert json.loads((cv / "summary.json").read_text())["runs"].keys() == {"fold-1", "fold-2"}


@pytest.mark.slow
def test_folds_of_other_data_or_of_more_epochs_are_never_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, cv = tmp_path / "t.csv", tmp_path / "cv"
    table.write_text("a,b,y\n" + "".join(f"{row},{row % 7},{row * 0.5}\n" for row in range(40)))
    path = tmp_path / "t.yaml"
    path.write_text(
        f"name: t\ndata: {{file: {table}, target: y}}\nmodel: {{hidden: []}}\nloss: {{name: MSELoss}}\n"
        "optimizer: {name: SGD, lr: 1e-3}\ntrain: {epochs: 2, batch_size: 8, folds: 2}\n"
    )
    given = [str(path), "--output", str(cv), "--resume", "auto", "--quiet"]
    assert main(given) == 0
    assert main([*given, "train.epochs=1"]) == 1
    assert f"{cv / 'fold-1'} is in epoch 2 already, and train.epochs is 1 now" in capsys.readouterr().err
    (cv / "summary.json").unlink()
    (cv / "fold-2" / "resolved.yaml").unlink()  # as if it had not begun
    table.write_text(table.read_text().replace("5,5,2.5", "5,5,3.5"))
    assert main(given) == 1
    assert f"{cv / 'fold-1'}: the data are not what they were" in capsys.readouterr().err
    assert not (cv / "summary.json").exists()


@pytest.mark.parametrize("values", [(1.0, math.nan), (math.inf, 1.0), (1e308, 1e308, 1e308), (1e308, -1e308)])
def test_means_over_scores_that_are_not_finite_or_overflow(values: tuple[float, ...]) -> None:
    runs = {f"fold-{number}": {"test": {"loss": value}} for number, value in enumerate(values)}
    for statistic in (statistics.fmean, statistics.stdev):
        assert isinstance(folds._over(runs, statistic)["test"]["loss"], float)
    if not all(map(math.isfinite, values)):
        assert math.isnan(folds._over(runs, statistics.fmean)["test"]["loss"])


def test_the_command_cross_validates_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "iris.yaml"
    path.write_text(IRIS)
    arguments = [str(path), "train.epochs=1", "train.folds=2", "--output", str(tmp_path / "cv")]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert main([*arguments, "--resume", "auto"]) == 0
    assert capsys.readouterr().out == first
    assert main([*arguments[:2], "train.folds=3", *arguments[3:], "--resume", "auto"]) == 1
    assert "train.folds: 2 -> 3" in capsys.readouterr().err


# ------------------------------------------------------------ schedules as long as the run


@pytest.mark.parametrize(
    ("written", "length"),
    [
        ("{name: CosineAnnealingLR}", {"T_max": 4}),
        ("{name: CosineAnnealingLR, interval: step}", {"T_max": 24}),
        ("{name: CosineAnnealingLR, interval: step, warmup: 5}", {"T_max": 19}),
        ("{name: CosineAnnealingLR, T_max: 3}", {"T_max": 3}),
        ("{name: OneCycleLR, max_lr: 0.1, interval: step}", {"total_steps": 24}),
        ("{name: OneCycleLR, max_lr: 0.1, epochs: 3, steps_per_epoch: 8, interval: step}", {"total_steps": 24}),
    ],
)
def test_a_schedule_that_states_no_length_is_as_long_as_the_run(written: str, length: dict[str, int]) -> None:
    scheduler = made(f"scheduler={written}").training.scheduler
    last = getattr(scheduler, "_schedulers", [scheduler])[-1]
    assert {key: getattr(last, key) for key in length} == length


def test_a_rate_that_climbs_again_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rising = "scheduler={name: CosineAnnealingLR, T_max: 2, warmup: 1}"
    run(iris(rising, f"output={tmp_path}"))
    said = "scheduler.T_max=2: the learning rate is at its lowest after 3 of 4 epochs, and climbs again"
    assert said in " ".join(capsys.readouterr().out.split())


# ------------------------------------------------------------ the loss of the task, and the task of a loss


@pytest.mark.parametrize(
    ("dataset", "loss"),
    [
        ("{name: iris}", nn.CrossEntropyLoss),
        ("{name: breast_cancer}", nn.BCEWithLogitsLoss),
        ("{name: diabetes}", nn.MSELoss),
    ],
)
def test_a_config_that_names_no_loss_has_that_of_its_task(dataset: str, loss: type[nn.Module]) -> None:
    given = config.loads(IRIS.replace("loss: {name: CrossEntropyLoss}\n", ""), "run.yaml", [f"data={dataset}"])
    assert type(build.build(given, prepare(given)).training.criterion) is loss
    assert config.loads(config.resolved(given)) == given


@pytest.mark.parametrize(
    ("loss", "task"), [("MSELoss", "regression"), ("L1Loss", "regression"), ("CrossEntropyLoss", "multiclass")]
)
def test_the_loss_tells_what_whole_numbers_are(tmp_path: Path, loss: str, task: str) -> None:
    """Ratings are numbers where the loss is one for numbers, and else classes."""
    lines = [f"{row % 7},{row % 5 + 1}" for row in range(200)]
    (tmp_path / "table.csv").write_text("\n".join(["a,stars", *lines]))
    given = iris(f"data={{file: {tmp_path}/table.csv, target: stars}}", f"loss={{name: {loss}}}")
    data = prepare(given)
    assert data.preprocessing.task == task
    assert any("data.task" in notice for notice in data.notices) == (task == "multiclass")


def test_a_list_for_the_groups_of_parameters_that_a_model_makes_is_named() -> None:
    given = ["model={name: realmlp, hidden: [4]}", "optimizer={name: SGD, lr: 0.1, momentum: 0.9}"]
    with pytest.raises(DataError, match="max_momentum has 1 values for 4 parameter groups; a number") as refused:
        made(*given, "scheduler={name: OneCycleLR, max_lr: 0.1, max_momentum: [0.9]}")
    assert refused.value.path == ("scheduler", "max_momentum")
