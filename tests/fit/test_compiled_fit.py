"""Fits whose steps run as a program leave the bytes of fits that run step by step; either goes on where one stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.estimators import MLPRegressor
from nanotorch.train.config.loading import loads
from nanotorch.train.config.sections import Config
from nanotorch.train.config.strict_yaml import ConfigError
from nanotorch.train.data.table import DataError
from nanotorch.train.fit import chunks
from nanotorch.train.fit.build import build
from nanotorch.train.fit.chunks import Chunk, Chunks, Due
from nanotorch.train.fit.loop import DivergedError, fit
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.record.resume import find
from nanotorch.train.run.run import run
from nanotorch.train.score.meter import Meter
from nanotorch.train.terminal.interrupt import TrainingInterrupted
from run_results import EVERYTHING, all_left, trained

SHIPPED = ["breast_cancer_mlp", "diabetes_mlp", "digits_sgd_cosine"]
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", [*SHIPPED, "everything"])
def test_a_compiled_run_leaves_the_bytes_of_the_plain_one(name: str, tmp_path: Path) -> None:
    text = EVERYTHING if name == "everything" else (CONFIGS / f"{name}.yaml").read_text()
    options = ["train.epochs=5", "checkpoint={every_seconds: 0, every_steps: 5, keep: 100}", "device=cpu"]
    plain = trained(text, tmp_path / "plain", "train.compile=false", *options)
    assert trained(text, tmp_path / "compiled", "train.compile=true", *options) == plain
    assert len([key for key in plain if key.endswith("model.safetensors")]) > 5
    environments = [json.loads((tmp_path / run / "env.json").read_text()) for run in ("plain", "compiled")]
    assert [facts["compile"].partition(":")[0] for facts in environments] == ["no", "numpy"]


@pytest.mark.parametrize("first", ["true", "false"])
@pytest.mark.parametrize("batch", [26, 61])
def test_a_stopped_run_goes_on_the_other_way(
    first: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(EVERYTHING, tmp_path / "whole", "train.compile=false")
    update, calls = Meter.update, [0]

    def stopping(self: Meter, *args: Any) -> None:
        update(self, *args)
        calls[0] += 1
        if calls[0] == batch:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Meter, "update", stopping)
    with pytest.raises(TrainingInterrupted):
        trained(EVERYTHING, tmp_path / "parts", f"train.compile={first}")
    config = loads(EVERYTHING, overrides=[f"train.compile={'false' if first == 'true' else 'true'}"])
    run(config, None, False, None, find(config, str(tmp_path / "parts"), None))
    parts = all_left(tmp_path / "parts")
    assert [key for key in whole if parts[key] != whole[key]] == []


def made(*overrides: str, compile: Any = True) -> tuple[Any, Chunks]:
    config = loads(EVERYTHING, overrides=overrides)
    setup = build(config, prepare(config))
    training, loader, _, options = setup
    return setup, Chunks(training, loader, options, options.accumulate, options.epochs, compile)


def test_steps_come_in_chunks_that_end_where_losses_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LONGEST", 1e9)
    setup, compiled = made("train={epochs: 3, batch_size: 4}", "early_stopping=null")
    training, loader, parts, options = setup
    ends = [
        (training.step, event.steps)
        for event in fit(training, loader, parts["validation"], options, chunks=compiled)
        if isinstance(event, Chunk)
    ]
    assert ends == [(20, 20), (22, 2), (23, 1), (40, 17), (45, 5), (46, 1), (60, 14), (68, 8), (69, 1)]


def test_the_step_with_a_loss_that_is_not_finite_is_named() -> None:
    def message(compile: bool) -> str:
        overrides = ["train={epochs: 9, batch_size: 4}", "optimizer={name: SGD, lr: 1e18}", "scheduler=null"]
        setup, compiled = made(*overrides, "model={hidden: [12]}")
        training, loader, parts, options = setup
        with pytest.raises(DivergedError) as error:
            list(fit(training, loader, parts["validation"], options, chunks=compiled if compile else None))
        return f"{error.value} {error.value.step}"

    assert message(True) == message(False)


def test_auto_compiles_where_so_many_steps_are_sure_or_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PAYS", 30)
    monkeypatch.setattr(chunks, "PAYS_LATE", 8)

    def kinds(*overrides: str) -> list[bool]:
        setup, compiled = made(*overrides, compile="auto")
        training, loader, _, options = setup
        events = fit(training, loader, None, options, chunks=compiled)
        return [isinstance(event, Chunk) for event in events if not isinstance(event, dict | Due)]

    assert not any(kinds("train.epochs=8", "early_stopping=null"))  # 3 whole steps an epoch
    assert all(kinds("train.epochs=10", "early_stopping=null"))
    impatient = ["early_stopping.patience=9", "early_stopping.min_delta=1"]
    assert not any(kinds("train.epochs=12", *impatient))
    assert kinds("train.epochs=13", *impatient)[:14] == [False] * 12 + [True] * 2
    monkeypatch.setattr(chunks, "PAYS_LATE", 1000)
    monkeypatch.setattr(chunks, "LARGE", 1)  # parameters: twice as many steps
    assert not any(kinds("train.epochs=19", "early_stopping=null"))
    assert all(kinds("train.epochs=20", "early_stopping=null"))


def test_what_cannot_be_compiled_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"train.compile.*on_nonfinite"):
        loads(EVERYTHING, overrides=["train.compile=true", "train.on_nonfinite=skip"])
    with pytest.raises(ConfigError, match="compile"):
        loads(EVERYTHING, overrides=["train.compile=maybe"])
    trained(EVERYTHING, tmp_path / "skip", "train.on_nonfinite=skip", "train.epochs=1")
    said = json.loads((tmp_path / "skip" / "env.json").read_text())["compile"]
    assert said == "no: on_nonfinite: skip looks at the gradients of each step"
    monkeypatch.setattr(chunks, "PAYS", 0)

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        assert input.sum().item() > -np.inf
        return input.relu()

    monkeypatch.setattr(torch.nn.ReLU, "forward", forward)
    plain = trained(EVERYTHING, tmp_path / "plain", "train.epochs=3", "train.compile=false")
    assert trained(EVERYTHING, tmp_path / "auto", "train.epochs=3") == plain
    with pytest.raises(DataError, match=r"train.compile: .*values of a tensor"):
        trained(EVERYTHING, tmp_path / "true", "train.epochs=3", "train.compile=true")


def test_the_choice_may_change_between_the_parts_of_a_run(tmp_path: Path) -> None:
    config: Config = loads(EVERYTHING, overrides=["train.epochs=1"])
    run(config, None, False, tmp_path / "run")
    changed = loads(EVERYTHING, overrides=["train.epochs=2", "train.compile=true"])
    resumed = find(changed, str(tmp_path / "run"), None)
    assert resumed is not None and not resumed.changed


@pytest.mark.parametrize("arguments", [{}, {"learning_rate": "adaptive", "solver": "sgd", "dropout": 0.2, "ema": 0.9}])
def test_estimators_leave_the_same_bytes_either_way(arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    X = draw.standard_normal((70, 5)).astype(np.float32)
    y, weights = X[:, 0] * 2 + draw.standard_normal(70), draw.uniform(0.5, 2, 70)

    def fitted(pays: int) -> tuple[list[bytes], list[float]]:
        monkeypatch.setattr(chunks, "PAYS", pays)
        fixed = {"hidden_layer_sizes": (8,), "batch_size": 16, "max_iter": 8, "n_iter_no_change": np.inf}
        model = MLPRegressor(**fixed, random_state=0, **arguments)
        model.fit(X, y, sample_weight=weights)
        return [array.tobytes() for array in model.weights_.values()], model.loss_curve_

    assert fitted(1) == fitted(10**9)
