"""Intervals, sets of classes and temperatures, against their formulas by hand, scikit-learn and counts."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from nanotorch.train.cli import evaluate, export, predict, report, train
from nanotorch.train.config import loading as config
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.run.run import run
from nanotorch.train.score import conformal
from nanotorch.train.score.temperature import LEAST, MOST, temperature
from nanotorch.train.use.loaded_run import LoadedRun, RunError, load_run

# ------------------------------------------------------------ formulas


@pytest.mark.parametrize("rows", [9, 10, 57, 400])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_limit_is_the_quantile_of_the_paper(rows: int, level: float) -> None:
    """That of NumPy at ceil((n + 1) * level) / n, as MAPIE takes it."""
    scores = np.random.default_rng(rows).exponential(size=(rows, 2))
    at = math.ceil(round((rows + 1) * level, 9)) / rows
    assert np.array_equal(conformal.limits(scores, level), np.quantile(scores, at, axis=0, method="inverted_cdf"))


def test_too_few_rows_have_no_limit() -> None:
    for level in (0.5, 0.8, 0.9, 0.95, 0.99):
        least = conformal.fewest(level)
        scores = np.arange(float(least))[:, None]
        assert conformal.limits(scores, level).tolist() == [least - 1]
        assert np.isinf(conformal.limits(scores[1:], level)).all()


def test_new_rows_are_within_the_limit_as_often_as_promised() -> None:
    """Over many draws of 19 rows and a new one, the mean share is ceil(20 * 0.9) / 20."""
    draw = np.random.default_rng(0)
    inside = [
        draw.standard_cauchy() ** 2 <= conformal.limits(draw.standard_cauchy((19, 1)) ** 2, 0.9)[0] for _ in range(4000)
    ]
    assert np.mean(inside) == pytest.approx(0.9, abs=3 * (0.09 / 4000) ** 0.5)


def test_the_temperature_is_that_of_scikit_learn_and_of_scipy() -> None:
    X, y = sklearn.datasets.make_classification(600, 8, n_informative=4, n_classes=3, flip_y=0.2, random_state=0)
    model = LogisticRegression(C=100).fit(5 * X[:60], y[:60])
    logits = model.decision_function(5 * X[300:])
    found = temperature(logits, y[300:])

    def loss(log_beta: float) -> float:
        return float(-log_softmax(logits * np.exp(log_beta), axis=1)[np.arange(300), y[300:]].mean())

    assert found == pytest.approx(np.exp(-minimize_scalar(loss, bounds=(-4, 4), options={"xatol": 1e-9}).x), rel=1e-6)
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(5 * X[300:], y[300:])
    assert np.allclose(softmax(logits / found, axis=1), theirs.predict_proba(5 * X[300:]), atol=1e-3)


def test_a_temperature_has_bounds() -> None:
    right, wrong = np.array([[4.0], [-3.0]]), np.array([[-4.0], [3.0]])
    assert temperature(right, np.array([1, 0])) == pytest.approx(LEAST)
    assert temperature(wrong, np.array([1, 0])) == pytest.approx(MOST)


# ------------------------------------------------------------ runs


def table(place: Path, rows: int, classes: int | None) -> Path:
    """A table with a column of numbers that lacks some, one of categories, and classes or a number."""
    draw = np.random.default_rng(0)
    X, kind = draw.normal(size=(rows, 2)), draw.integers(3, size=rows)
    score = X[:, 0] + kind + 0.7 * draw.normal(size=rows)
    path = place / "table.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "kind", "y"])
        bounds = np.quantile(score, np.linspace(0, 1, (classes or 1) + 1)[1:-1])
        for row in range(rows):
            target = f"{score[row]:.4f}" if classes is None else f"c, {np.searchsorted(bounds, score[row])}"
            lacking = row % 11 == 3
            writer.writerow(["" if lacking else f"{X[row, 0]:.4f}", f"{X[row, 1]:.4f}", "uvw"[kind[row]], target])
    return path


def trained(place: Path, classes: int | None, *overrides: str, rows: int = 240) -> LoadedRun:
    path, loss = table(place, rows, classes), {None: "MSELoss", 2: "BCEWithLogitsLoss"}.get(classes, "CrossEntropyLoss")
    text = f"""
name: held-out
data: {{file: {path}, target: y, test_size: 0.3, validation_size: 0.3}}
model: {{hidden: [8]}}
loss: {{name: {loss}}}
optimizer: {{name: AdamW, lr: 0.02}}
train: {{epochs: 3, batch_size: 16, compile: false}}
"""
    run(config.loads(text, "config", overrides), text, progress_bar=False, run_directory=place / "run")
    return load_run(place / "run")


def said(loaded: LoadedRun, part: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The outputs of the model for the rows of a part, and their targets, without the code under test."""
    rows = prepare(loaded.config).parts[part]
    return loaded.outputs(loaded.preprocessing.features(rows)), rows.targets


def predicted(loaded: LoadedRun, *options: str) -> list[dict[str, str]]:
    rows, out = loaded.directory.parent / "table.csv", loaded.directory.parent / "out.csv"
    assert predict.main([str(loaded.directory), "--input", str(rows), "--output", str(out), *options]) == 0
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


def test_intervals_of_numbers(tmp_path: Path) -> None:
    loaded = trained(tmp_path, None)
    outputs, true = said(loaded, "validation")
    errors = np.sort(np.abs(loaded.preprocessing.in_units(outputs) - true)[:, 0])
    limit = errors[math.ceil((len(errors) + 1) * 0.8) - 1]
    for row in predicted(loaded, "--interval", "0.8"):
        assert list(row) == ["prediction", "prediction_low", "prediction_high"]
        middle, low, high = map(float, row.values())
        assert (middle - low, high - middle) == pytest.approx((limit, limit), rel=1e-5)
    outputs, true = said(loaded, "test")
    inside = np.abs(loaded.preprocessing.in_units(outputs) - true)[:, 0] <= limit
    page = (loaded.directory / "report.html").read_text()
    assert f'<data value="{float(inside.mean())!r}">' in page
    assert "By 72 rows of the validation part, the truth is at most so far above or below it" in page


@pytest.mark.parametrize("classes", [2, 3])
def test_sets_of_classes(classes: int, tmp_path: Path) -> None:
    loaded = trained(tmp_path, classes)
    outputs, true = said(loaded, "validation")
    odds = softmax(np.concatenate([0 * outputs, outputs], axis=1) if classes == 2 else outputs, axis=1)
    scores = np.sort(1 - odds[np.arange(len(true)), true])
    limit = scores[math.ceil((len(scores) + 1) * 0.9) - 1]
    sizes = set()
    for row in predicted(loaded, "--interval", "0.9"):
        chances = {
            name.removeprefix("probability_"): float(text) for name, text in row.items() if "probability" in name
        }
        found = json.loads(row["prediction_set"])
        expected = {name for name, chance in chances.items() if 1 - chance <= limit + 1e-6} | {row["prediction"]}
        assert set(found) == expected
        assert found[0] == row["prediction"]
        assert [chances[name] for name in found] == sorted((chances[name] for name in found), reverse=True)
        sizes.add(len(found))
    assert sizes == {1, 2} if classes == 2 else sizes >= {1, 2}
    page = (loaded.directory / "report.html").read_text()
    outputs, true = said(loaded, "test")
    odds = softmax(np.concatenate([0 * outputs, outputs], axis=1) if classes == 2 else outputs, axis=1)
    held = (1 - odds <= limit) | (odds == odds.max(axis=1, keepdims=True))
    assert f'<data value="{float(held[np.arange(len(true)), true].mean())!r}">' in page
    assert f'<data value="{float(held.sum(axis=1).mean())!r}">' in page


def test_intervals_that_cannot_be_given_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = trained(tmp_path, None, rows=40)
    with pytest.raises(RunError, match=r"0\.95 needs 19 rows for validation, and this run has 12"):
        loaded.limits(0.95)
    with pytest.raises(SystemExit):
        predict.main([str(loaded.directory), "--input", "-", "--output", "-", "--interval", "90"])
    assert "expected a share between 0 and 1, such as 0.9, got 90" in capsys.readouterr().err
    (loaded.directory / "held_out.json").write_text('{"held_out": [[0.1], [0.2]]}')
    with pytest.raises(RunError, match="held_out should have 1 columns"):
        loaded.limits(0.5)
    (loaded.directory / "summary.json").unlink()
    with pytest.raises(RunError, match="says how far off its best model is, when it is complete"):
        loaded.limits(0.5)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_temperature_is_part_of_the_model_everywhere(
    classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain").mkdir()
    plain = trained(tmp_path / "plain", classes)
    loaded = trained(tmp_path, classes, "train.calibration=temperature")
    outputs, true = said(plain, "validation")
    found = temperature(outputs, true)
    summary = json.loads((loaded.directory / "summary.json").read_text())
    assert summary["temperature"] == pytest.approx(found, rel=1e-5)
    assert np.allclose(said(loaded, "test")[0], said(plain, "test")[0] / found, rtol=1e-5)
    for one, other in zip(predicted(loaded), predicted(plain), strict=True):
        assert one["prediction"] == other["prediction"]
    outputs, true = said(plain, "test")
    logits = np.concatenate([0 * outputs, outputs], axis=1) if classes == 2 else outputs
    losses = [float(-log_softmax(each, axis=1)[np.arange(len(true)), true].mean()) for each in (logits, logits / found)]
    assert summary["scores"]["test"]["loss"] == pytest.approx(losses[1], rel=1e-5)
    page = (loaded.directory / "report.html").read_text()
    on_page = [float(text) for text in re.findall(r'(?:from|to) <data value="(.*?)">', page)]
    assert on_page[2:4] == pytest.approx(losses, rel=1e-5)
    capsys.readouterr()
    assert evaluate.main([str(loaded.directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == summary["scores"]
    for kind, name in (("--onnx", "m.onnx"), ("--python", "m.py"), ("--safetensors", "m.safetensors")):
        assert export.main([str(loaded.directory), kind, str(tmp_path / name)]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["temperature"] == summary["temperature"]
    assert "differs from predict by at most" in capsys.readouterr().out
    assert report.main([str(loaded.directory)]) == 0
    again = (loaded.directory / "report.html").read_text()
    assert [float(text) for text in re.findall(r'(?:from|to) <data value="(.*?)">', again)] == on_page


def test_a_stopped_run_has_no_temperature_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = trained(tmp_path, 2, "train.calibration=temperature")
    (loaded.directory / "summary.json").unlink()
    assert load_run(loaded.directory).model.state_dict().keys() == loaded.model.model.state_dict().keys()
    assert report.main([str(loaded.directory)]) == 0
    assert "without its temperature" in capsys.readouterr().err
    assert "Logits are divided" not in (loaded.directory / "report.html").read_text()


def test_a_regression_has_no_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, 40, None)
    arguments = [str(path), "--target", "y", "train.calibration=temperature", "--output", str(tmp_path / "run")]
    assert train.main(arguments) == 2
    assert "train.calibration: is for classes, and the data are a regression" in capsys.readouterr().err
