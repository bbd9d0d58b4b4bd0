"""Fits whose steps run as a table: near the plain ones, and the same bytes when repeated, stopped or resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from nanotorch.capture.sweep.tabled_step import TabledStep
from nanotorch.capture.table.machine import MACHINE
from nanotorch.estimators import MLPClassifier, MLPSearchCV
from nanotorch.train.config.loading import load as load_config
from nanotorch.train.config.loading import loads
from nanotorch.train.fit import chunks, together
from nanotorch.train.fit.build import build
from nanotorch.train.fit.chunks import Chunks
from nanotorch.train.fit.loop import fit
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.fit.window_step import StepResult
from nanotorch.train.record.checkpoint import load
from nanotorch.train.record.resume import find
from nanotorch.train.run.run import run
from nanotorch.train.sweep.run_sweep import run_sweep
from run_results import EVERYTHING, all_left, trained

EVERY_STEP = "checkpoint={every_seconds: 0, every_steps: 1, keep: 100}"
PLAIN_OPTIMIZER = "optimizer={name: SGD, lr: 0.1}"  # begins no state, so its first step is of the table, too


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the interpreter there, and few steps pay."""
    assert MACHINE.wait() is not None, MACHINE.reason
    monkeypatch.setattr(chunks, "PAYS", 8)


def said(directory: Path) -> str:
    found: str = json.loads((directory / "env.json").read_text())["compile"]
    return found


def weights(directory: Path) -> dict[str, Any]:
    return load(directory / "checkpoints" / "last").model


@pytest.mark.parametrize("overrides", [[], [PLAIN_OPTIMIZER, "train.accumulate=1", "train.batch_size=32"]])
def test_a_table_run_is_repeated_and_resumed_with_its_bytes(overrides: list[str], tmp_path: Path) -> None:
    options = ["train.epochs=4", "early_stopping.patience=6", EVERY_STEP, *overrides]
    whole = trained(EVERYTHING, tmp_path / "whole", *options)
    assert said(tmp_path / "whole") == "table"
    assert trained(EVERYTHING, tmp_path / "again", *options) == whole
    config = loads(EVERYTHING, overrides=options)
    places = sorted((tmp_path / "whole" / "checkpoints").glob("step-*"))
    for number in (0, len(places) - 3):
        parts = tmp_path / f"from {number}"
        shutil.copytree(tmp_path / "again", parts, symlinks=True)
        run(config, None, False, None, find(config, str(parts / "checkpoints" / places[number].name), None))
        resumed = all_left(parts)
        assert [key for key in whole if resumed[key] != whole[key]] == [], places[number]
        assert "may differ" not in (parts / "train.log").read_text()


def test_a_table_run_is_near_the_plain_one(tmp_path: Path) -> None:
    """After 24 steps, weights differ by no more than 1e-4 of the largest."""
    options = ["train.epochs=6", "early_stopping.patience=6", "model.batch_norm=false"]
    for name, compile in (("table", "auto"), ("plain", "false")):
        trained(EVERYTHING, tmp_path / name, f"train.compile={compile}", *options)
    table, plain = weights(tmp_path / "table"), weights(tmp_path / "plain")
    assert any(not np.array_equal(table[name].numpy(), plain[name].numpy()) for name in plain)
    for name, value in plain.items():
        np.testing.assert_allclose(table[name].numpy(), value.numpy(), atol=1e-4 * np.abs(value.numpy()).max())


def test_a_run_keeps_to_what_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["train.epochs=3", "early_stopping.patience=8"], ["train.epochs=8", "early_stopping.patience=8"]
    plain = trained(EVERYTHING, tmp_path / "plain", "train.compile=false", *parts[1])
    with monkeypatch.context() as cold:
        cold.setattr(MACHINE, "soon", lambda: None)
        cold.setattr(MACHINE, "reason", "it is being compiled")
        trained(EVERYTHING, tmp_path / "cold", *parts[0])
        assert said(tmp_path / "cold") == "numpy: it is being compiled"
    trained(EVERYTHING, tmp_path / "warm", *parts[0])
    config = loads(EVERYTHING, overrides=parts[1])
    run(config, None, False, None, find(config, str(tmp_path / "cold"), None))
    assert said(tmp_path / "cold") == "numpy: as the run began"
    assert all_left(tmp_path / "cold") == plain
    monkeypatch.setattr(MACHINE, "soon", lambda: None)
    monkeypatch.setattr(MACHINE, "reason", "numba is not installed")
    run(config, None, False, None, find(config, str(tmp_path / "warm"), None))
    assert "compile: table -> numpy: numba is not installed" in (tmp_path / "warm" / "train.log").read_text()


def test_the_first_epoch_of_a_table_follows_from_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PAYS", 20)
    monkeypatch.setattr(chunks, "PAYS_LATE", 12)

    def begun(*overrides: str, compile: Any = "auto") -> tuple[int | None, str, Any]:
        config = loads(EVERYTHING, overrides=overrides)
        setup = build(config, prepare(config))
        program = Chunks(
            setup.training, setup.loader, setup.options, setup.options.accumulate, setup.options.epochs, compile
        )
        said = program.plan(setup.training)
        return setup.training.table_from, said, (setup, program)

    assert begun("train.epochs=7")[:2] == (1, "table")  # 3 whole steps an epoch
    assert begun("train.epochs=6")[0] is None
    assert begun("train.epochs=6", compile=True)[0] == 1
    assert begun("train.epochs=6", compile=False)[0] is None
    assert begun("train.epochs=11", "early_stopping.patience=3")[0] == 5
    assert begun("train.epochs=10", "early_stopping.patience=3")[0] is None
    first, said, (setup, program) = begun("train.epochs=11", "early_stopping.patience=6")
    assert first == 5
    assert said.startswith("table from epoch 5: 18 steps are sure to come")
    kinds = []
    for event in fit(setup.training, setup.loader, None, setup.options, chunks=program):
        if isinstance(event, chunks.Chunk | StepResult):
            kinds.append((setup.training.epoch, isinstance(event, chunks.Chunk)))
    assert {epoch for epoch, table in kinds if table} == {5, 6, 7, 8, 9, 10, 11}
    assert {epoch for epoch, table in kinds if not table} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.accumulate=1"],
        ["scheduler.interval=epoch", "scheduler.T_max=8"],
        ["scheduler=null", "train.ema=null", "train.accumulate=1", "train.batch_size=16"],  # many steps at once
    ],
)
def test_fits_side_by_side_have_the_bytes_of_their_own_runs(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one form, with seeds and rates of their own; the second stops early."""
    taken, take = [0], TabledStep._take
    monkeypatch.setattr(together, "PAYS", 8)

    def counting(self: Any, *args: Any) -> Any:
        taken[0] += 1
        return take(self, *args)

    def begun(number: int) -> tuple[Any, Any]:
        rate = f"optimizer.lr={0.0 if number == 1 else 0.01 * (number + 1)}"
        options = [f"seed={number}", rate, "train.epochs=6", "early_stopping.patience=3", *overrides]
        setup = build(config := loads(EVERYTHING, overrides=options), prepare(config))
        training, loader, parts, options_ = setup
        program = Chunks(training, loader, options_, options_.accumulate, options_.epochs)
        return training, fit(training, loader, parts["validation"], options_, chunks=program)

    def all_left(training: Any) -> Any:
        history = [{k: v for k, v in record.items() if k != "seconds"} for record in training.history]
        return [value.numpy().tobytes() for value in training.weights().values()], history

    alone = []
    for number in range(3):
        training, events = begun(number)
        list(events)
        alone.append(all_left(training))
    monkeypatch.setattr(TabledStep, "_take", counting)
    several = [begun(number) for number in range(3)]
    list(together.together({number: events for number, (_, events) in enumerate(several)}))
    assert [all_left(training) for training, _ in several] == alone
    assert len({len(history) for _, history in alone}) > 1
    assert taken[0] > 12


def test_estimators_have_the_same_bytes_each_time_and_go_on_with_them() -> None:
    draw = np.random.default_rng(0)
    X = draw.standard_normal((70, 5)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    fixed = {"hidden_layer_sizes": (8,), "batch_size": 16, "n_iter_no_change": np.inf, "dropout": 0.2, "ema": 0.9}

    def bytes_of(model: Any) -> list[bytes]:
        return [array.tobytes() for array in model.weights_.values()]

    def fitted(epochs: int) -> Any:
        return MLPClassifier(**fixed, max_iter=epochs, random_state=0).fit(X, y)

    assert bytes_of(fitted(8)) == bytes_of(fitted(8))
    assert bytes_of(fitted(8).partial_fit(X, y)) == bytes_of(fitted(9))
    short = MLPClassifier(**fixed, random_state=0)
    for _ in range(8):
        short.partial_fit(X, y, classes=[0, 1])
    assert bytes_of(short) != bytes_of(fitted(8))
    for one, other in zip(short.weights_.values(), fitted(8).weights_.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_fits_of_a_search_pay_for_a_table_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits too short for one, of which the search has enough: each has the bits of its own fit as a program."""
    monkeypatch.setattr(chunks, "PAYS", 40)
    monkeypatch.setattr(chunks, "PAYS_AHEAD", 40)
    draw = np.random.default_rng(0)
    X = draw.standard_normal((50, 5))
    y = (X[:, 0] > 0).astype(int)
    network = MLPClassifier((6,), batch_size=16, n_iter_no_change=np.inf, max_iter=4, random_state=0)
    how: dict[str, Any] = {"cv": 3, "scoring": "neg_log_loss"}
    few, grid = {"alpha": [0.1]}, {"alpha": [0.0, 0.1, 1.0], "dropout": [0.0, 0.1]}
    assert not MLPSearchCV(network, few, **how).fit(X, y).tables_.any()
    ours = MLPSearchCV(network, grid, **how).fit(X, y)
    assert ours.tables_.shape == (6, 3)
    assert ours.tables_.all()
    theirs = GridSearchCV(clone(network).set_params(compile=True), grid, **how).fit(X, y)
    plain = GridSearchCV(network, grid, **how).fit(X, y)
    for fold in range(3):
        score = f"split{fold}_test_score"
        np.testing.assert_array_equal(ours.cv_results_[score], theirs.cv_results_[score])
        np.testing.assert_allclose(ours.cv_results_[score], plain.cv_results_[score], rtol=1e-5)
    assert any(
        (ours.cv_results_[f"split{k}_test_score"] != plain.cv_results_[f"split{k}_test_score"]).any() for k in range(3)
    )
    mixed = MLPSearchCV(network, {"compile": [False, True], "alpha": [0.0]}, **how).fit(X, y)
    assert mixed.tables_.tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize(
    "more",
    [[], ["scheduler=null", "train={epochs: 4, batch_size: 8}", "model={hidden: [6], dropout: 0.2}"]],
    ids=["stepwise", "many"],
)
def test_trials_of_a_sweep_are_tables_with_the_bytes_of_their_own_runs(more: list[str], tmp_path: Path) -> None:
    options = ["train.epochs=4", "early_stopping.patience=6", "checkpoint.every_seconds=0", *more]
    swept = loads(EVERYTHING, overrides=[*options, "sweep={optimizer.lr: [1e-3, 2e-2], model.dropout: [0.1, 0.3]}"])
    found = run_sweep(swept, None, tmp_path / "sweep", progress_bar=False)
    for one in found.trials:
        place, own = tmp_path / "sweep" / one.trial.name, tmp_path / one.trial.name
        run(load_config(place / "resolved.yaml"), None, False, own)
        assert said(place) == said(own) == "table"
        assert all_left(place) == all_left(own)
