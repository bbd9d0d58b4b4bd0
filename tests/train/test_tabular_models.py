"""RealMLP and TabM as models of configs: what they compute, and that all that a run can do works with them."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.table.machine import MACHINE
from nanotorch.registry import MODELS
from nanotorch.train.cli.train import main as train
from nanotorch.train.config.loading import loads
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.build import build, parameter_groups, schedule, shares_of_rate
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.model.tabular import OnNumbers
from nanotorch.train.record.checkpoint import load
from nanotorch.train.record.resume import find
from nanotorch.train.run.folds import run_all
from nanotorch.train.run.run import run
from nanotorch.train.score.meter import Meter
from nanotorch.train.sweep.run_sweep import run_sweep
from nanotorch.train.use import onnx_export, python_export
from nanotorch.train.use.evaluation import score
from nanotorch.train.use.loaded_run import load_run
from nanotorch.train.use.prediction import predict
from own_runs import write_table
from run_results import all_left, trained

REALMLP = """
name: realmlp
data: {name: iris, standardize: robust}
model: {name: realmlp, hidden: [12, 8], dropout: 0.1}
loss: {name: CrossEntropyLoss, label_smoothing: 0.1}
optimizer: {name: AdamW, lr: 0.04, betas: [0.9, 0.95], weight_decay: 0.02}
scheduler: {name: CosLogLR, interval: step}
train: {epochs: 4, batch_size: 20}
checkpoint: {every_seconds: 0, every_steps: 3, keep: 100}
"""
TABM = """
name: tabm
data: {name: iris, standardize: quantile}
model: {name: tabm, hidden: [12, 8], members: 3, dropout: 0.1}
loss: {name: CrossEntropyLoss}
optimizer: {name: AdamW, lr: 0.01, weight_decay: 3e-4}
train: {epochs: 4, batch_size: 20, accumulate: 2, ema: 0.9, metrics: [f1_macro]}
checkpoint: {every_seconds: 0, every_steps: 3, keep: 100}
"""
APART = TABM.replace("members: 3", "members: 3, shared: false")
TWO_CLASSES = ["data={name: breast_cancer, standardize: robust}", "loss={name: BCEWithLogitsLoss}", "train.epochs=2"]
NUMBERS = ["data={name: linnerud, standardize: robust}", "loss={name: MSELoss}", "train.metrics=[]"]


def test_numbers_are_embedded_and_other_columns_go_by() -> None:
    layer = OnNumbers(nn.PeriodicEmbedding(2), 2)
    rows = torch.randn(5, 4)
    assert torch.equal(layer(rows)[:, 8:], rows[:, 2:]) and torch.equal(layer(rows)[:, :2], rows[:, :2])
    for name in ("realmlp", "tabm"):
        for numeric, embedding in (
            (0, "periodic"),
            (2, "none"),
            (2, "piecewise"),
            (4, "periodic"),
            (None, "piecewise"),
        ):
            model = MODELS.get(name)(4, 3, numeric=numeric, hidden=[5], embedding=embedding)
            assert model.eval()(rows).shape == (5, 3)
    kinds = [type(MODELS.get("realmlp")(4, 1, kind=kind)[3].activation) for kind in ("values", "binary")]
    assert kinds == [nn.Mish, nn.SELU]


@pytest.mark.parametrize("kind", ["values", "multiclass"])
def test_an_ensemble_predicts_the_mean_of_its_members(kind: Any) -> None:
    torch.manual_seed(0)
    model = MODELS.get("tabm")(4, 3, kind=kind, members=5, hidden=[6], dropout=0.0)
    rows = torch.randn(7, 4)
    members = model(rows).detach().numpy()
    assert members.shape == (7, 5, 3) and np.ptp(members, 1).min() > 1e-4
    found = model.eval()(rows).detach().numpy()
    if kind == "multiclass":
        members, found = (np.exp(each) / np.exp(each).sum(-1, keepdims=True) for each in (members, found))
    np.testing.assert_allclose(found, members.mean(1), atol=1e-6)


@pytest.mark.parametrize(("task", "outputs"), [("multiclass", 3), ("binary", 1), ("multilabel", 2), ("regression", 2)])
def test_training_scores_of_an_ensemble_are_the_means_of_its_members(task: str, outputs: int) -> None:
    generator = np.random.default_rng(0)
    given = generator.standard_normal((9, 4, outputs)).astype("float32")
    wanted: Any = (
        generator.integers(0, 3, 9)
        if task == "multiclass"
        else generator.standard_normal((9, 2))
        if task == "regression"
        else generator.integers(0, 2, (9, outputs)).astype(float)
    )
    variance = wanted.var(0) if task == "regression" else None

    def of(outputs: Any) -> dict[str, float]:
        meter = Meter(task, ("a", "b"), target_variance=variance)
        for rows in (slice(0, 5), slice(5, 9)):
            meter.update(outputs[rows], wanted[rows], np.float64(1.0), np.float64(len(outputs[rows])))
        return meter.compute()

    each = [of(given[:, member]) for member in range(4)]
    key = "r2" if task == "regression" else "accuracy"
    assert of(given)[key] == pytest.approx(np.mean([scores[key] for scores in each]), rel=1e-12)


@pytest.mark.parametrize("text", [REALMLP, TABM, APART], ids=["realmlp", "tabm", "apart"])
@pytest.mark.parametrize("overrides", [[], TWO_CLASSES, NUMBERS], ids=["classes", "two", "numbers"])
def test_a_run_is_scored_predicted_and_exported(text: str, overrides: list[str], tmp_path: Path) -> None:
    given = [line for line in overrides if "metrics" not in line or "metrics" in text]
    summary = run(loads(text, overrides=given), None, False, tmp_path / "run").scores
    saved = load_run(tmp_path / "run")
    assert {name: dict(scores) for name, scores in score(saved).scores.items()} == summary
    onnx_export.save(saved, tmp_path / "model.onnx")  # which compares it with predict
    python_export.save(saved, tmp_path / "model.py")  # likewise
    nothing = runpy.run_path(str(tmp_path / "model.py"))["predict"](dict.fromkeys(saved.preprocessing.column_names, ()))
    assert {len(column) for column in nothing.values()} == {0}
    data = prepare(saved.config)
    answer = predict(saved, data.preprocessing.features(data.parts["test"]))
    if data.preprocessing.task != "regression":
        classes = np.array(data.preprocessing.target_names)[data.parts["test"].targets]
        assert (answer["prediction"] == classes).mean() == pytest.approx(summary["test"]["accuracy"])


@pytest.mark.parametrize("text", [REALMLP, TABM, APART], ids=["realmlp", "tabm", "apart"])
def test_compiled_and_resumed_runs_leave_the_bytes_of_the_plain_one(text: str, tmp_path: Path) -> None:
    plain = trained(text, tmp_path / "plain", "train.compile=false")
    assert trained(text, tmp_path / "compiled", "train.compile=true") == plain
    said = json.loads((tmp_path / "compiled" / "env.json").read_text())["compile"]
    assert said.startswith("numpy")
    shutil.copytree(tmp_path / "plain", tmp_path / "parts", symlinks=True)
    place = sorted((tmp_path / "plain" / "checkpoints").glob("step-*"))[1]
    config = loads(text, overrides=["train.compile=false"])
    run(config, None, False, None, find(config, str(tmp_path / "parts" / "checkpoints" / place.name), None))
    assert all_left(tmp_path / "parts") == plain


@pytest.mark.parametrize("text", [REALMLP, TABM, APART], ids=["realmlp", "tabm", "apart"])
def test_folds_side_by_side_are_the_runs_alone(text: str, tmp_path: Path) -> None:
    text = text.replace("epochs: 4", "epochs: 2, folds: 2")
    run_all(loads(text), None, tmp_path / "folds")
    alone = loads(text.replace(", folds: 2", "").replace("name: iris,", "name: iris, fold: [2, 2],"))
    run(alone, None, False, tmp_path / "alone")
    one, other = (load_run(tmp_path / name) for name in ("folds/fold-2", "alone"))
    for name, value in one.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), other.model.state_dict()[name].numpy(), name)


@pytest.mark.parametrize("text", [REALMLP, TABM, APART], ids=["realmlp", "tabm", "apart"])
def test_trials_of_a_sweep_are_the_runs_alone(text: str, tmp_path: Path) -> None:
    text = text.replace("epochs: 4", "epochs: 2")
    run_sweep(loads(text + "sweep: {optimizer.lr: [0.003, 0.03]}\n"), None, tmp_path / "sweep")
    run(loads(text, overrides=["optimizer.lr=0.03"]), None, False, tmp_path / "alone")
    place = next(path.parent for path in (tmp_path / "sweep").glob("*/resolved.yaml") if "lr: 0.03" in path.read_text())
    one, other = (load_run(directory).model.state_dict() for directory in (place, tmp_path / "alone"))
    for name, value in one.items():
        np.testing.assert_array_equal(value.numpy(), other[name].numpy(), name)


@pytest.mark.parametrize("text", [REALMLP, TABM, APART], ids=["realmlp", "tabm", "apart"])
def test_a_table_run_is_near_the_plain_one(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 20 steps, weights differ by no more than 1e-4 of the largest."""
    monkeypatch.undo()
    assert MACHINE.wait() is not None, MACHINE.reason
    for name, compile in (("table", "true"), ("plain", "false")):
        trained(text, tmp_path / name, f"train.compile={compile}")
    assert json.loads((tmp_path / "table" / "env.json").read_text())["compile"] == "table"
    table, plain = (load(tmp_path / name / "checkpoints" / "last").model for name in ("table", "plain"))
    assert any(not np.array_equal(table[name].numpy(), plain[name].numpy()) for name in plain)
    for name, value in plain.items():
        np.testing.assert_allclose(table[name].numpy(), value.numpy(), atol=1e-4 * np.abs(value.numpy()).max())


# ------------------------------------------------------------ factors of rates and decays


def groups_of(*overrides: str) -> dict[str, tuple[float, float]]:
    """The rate and decay of each parameter, in the order of groups."""
    config = loads(REALMLP, overrides=overrides)
    training = build(config, prepare(config)).training
    names = {id(parameter): name for name, parameter in training.model.named_parameters()}
    return {
        names[id(parameter)]: (group["initial_lr"], group["weight_decay"])
        for group in training.optimizer.param_groups
        for parameter in group["params"]
    }


def test_a_model_brings_the_factors_of_its_rates() -> None:
    found = groups_of()
    assert next(iter(found)) == "linear0.weight"
    assert found["linear0.weight"] == found["output.weight"] == (0.04, 0.02)
    assert found["scale.scale"] == (0.24, 0.02) and found["linear1.bias"] == (0.004, 0.0)
    assert found["activation0.slope"] == (0.004, 0.02)
    assert found["numbers.layer.mixture.bias"] == found["numbers.layer.frequency"] == (0.004, 0.02)


def test_a_config_names_factors_of_its_own() -> None:
    found = groups_of("optimizer.factors={bias: {weight_decay: 0}, linear0.*: {lr: 0.5}}")
    assert found["linear0.bias"] == (0.02, 0.0) and found["linear1.bias"] == (0.04, 0.0)
    assert found["linear0.weight"] == (0.02, 0.02) and found["scale.scale"] == (0.04, 0.02)
    assert set(groups_of("optimizer.factors={}").values()) == {(0.04, 0.02)}


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ("{biases: {lr: 2}}", "no parameter is called 'biases'; there are numbers.layer.frequency"),
        ("{bias: {rate: 2}}", "AdamW has no number 'rate' to multiply; it has lr, eps, weight_decay"),
        ("{bias: {betas: 2}}", "AdamW has no number 'betas' to multiply"),
    ],
)
def test_factors_that_mean_nothing_are_refused(factors: str, message: str) -> None:
    config = loads(REALMLP, overrides=[f"optimizer.factors={factors}"])
    with pytest.raises(DataError, match=message):
        build(config, prepare(config))


def test_a_schedule_that_states_its_rates_keeps_the_factors() -> None:
    one_cycle = "scheduler={name: OneCycleLR, max_lr: 0.1, interval: step}"
    config = loads(REALMLP, overrides=[one_cycle, "optimizer.factors={bias: {lr: 0.1}}"])
    model = MODELS.get("realmlp")(4, 3, hidden=[5])
    optimizer = torch.optim.AdamW(parameter_groups(config, model), 0.04)
    assert shares_of_rate(optimizer) == pytest.approx([1.0, 0.1])
    schedule(config, optimizer, 5)
    assert [group["max_lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.01])


def test_the_rate_rises_and_falls_by_the_logarithm() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
    scheduler, found = torch.optim.lr_scheduler.CosLogLR(optimizer, 40, 3), []
    for _ in range(42):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    shares = (np.minimum(np.arange(42), 39) + 0.5) / 40
    np.testing.assert_allclose(found, 0.25 * (1 - np.cos(2 * np.pi * np.log2(1 + 7 * shares))))
    assert min(found) > 0


# ------------------------------------------------------------ a table without a config


def test_a_table_trains_without_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "my table.csv")
    given = [str(tmp_path / "my table.csv"), "--target", "kind", "data.drop=[id, price]"]
    assert train([*given, "--print-config"]) == 0
    made = loads(capsys.readouterr().out)
    assert made.name == "my_table" and made.loss.name == "CrossEntropyLoss"
    assert (made.train.epochs, made.train.batch_size) == (60, 16)  # 72 rows: so many epochs as there may be
    assert train([*given, "train.epochs=2", "--output", str(tmp_path / "run"), "--no-progress"]) == 0
    assert load_run(tmp_path / "run").preprocessing.target_names == ("cheap", "dear", "middling, so to say")
    again = loads((tmp_path / "run" / "config.yaml").read_text(), overrides=["data.drop=[id, price]"])
    assert again.model == made.model and again.train == made.train and made.model.name == "tabm"
    capsys.readouterr()
    assert train([str(tmp_path / "my table.csv"), "--target", "price", "data.drop=[id]", "--print-config"]) == 0
    assert loads(capsys.readouterr().out).loss.name == "MSELoss"


@pytest.mark.parametrize(("file", "target", "message"), [("table.csv", "kid", "kid"), ("no.csv", "kind", "no.csv")])
def test_a_table_that_cannot_be_trained_is_refused_in_a_sentence(
    file: str, target: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "table.csv")
    assert train([str(tmp_path / file), "--target", target, "--output", str(tmp_path / "run")]) != 0
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and not (tmp_path / "run").exists()
