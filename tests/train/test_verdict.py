"""What the report judges, against scikit-learn, SciPy and counts by hand."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics
from numpy.typing import NDArray

from html_page import Page
from nanotorch.train.config import loading as config
from nanotorch.train.report import verdict
from nanotorch.train.run.run import run
from nanotorch.train.score import classification, judgement, linear
from nanotorch.train.score.judgement import Estimate

# ------------------------------------------------------------ intervals


@pytest.mark.parametrize(("hits", "rows"), [(0, 5), (3, 7), (97, 100), (40, 40)])
def test_the_interval_of_a_share_is_that_of_wilson(hits: int, rows: int) -> None:
    expected = scipy.stats.binomtest(hits, rows).proportion_ci(0.95, method="wilson")
    assert judgement.share(hits, rows) == pytest.approx((hits / rows, expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("rows", [200, 30_000])
def test_the_bootstrap_of_a_mean_is_the_usual_interval(rows: int) -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (rows, 2))
    for found, column in zip(judgement.means(values), values.T, strict=True):
        half = 1.96 * column.std() / rows**0.5
        assert found.value == pytest.approx(column.mean())
        assert (found.low, found.high) == pytest.approx((column.mean() - half, column.mean() + half), abs=0.12 * half)


def test_r2_is_that_of_scikit_learn_and_its_interval_holds_the_true_one() -> None:
    """Of 200 tables with a true R2 of 0.5, about 190 intervals hold it."""
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        guessed = draw.normal(size=(150, 1))
        true = guessed + draw.normal(size=guessed.shape)
        found = judgement.r2(true, guessed)
        assert found.value == pytest.approx(sklearn.metrics.r2_score(true, guessed))
        held += found.low <= 0.5 <= found.high
    assert 180 <= held <= 198


def test_a_gain_is_judged_on_the_same_rows() -> None:
    """Two models that err by the same noise differ by little, though each interval is wide."""
    draw = np.random.default_rng(0)
    true = draw.normal(size=(80, 2))
    noise = draw.normal(size=true.shape)
    better, worse = true + 0.9 * noise, true + noise
    gain = judgement.r2_gain(true, better, worse)
    expected = sklearn.metrics.r2_score(true, better) - sklearn.metrics.r2_score(true, worse)
    assert gain.value == pytest.approx(expected)
    assert 0 < gain.low < gain.high < 0.5
    alone = judgement.r2(true, better)
    assert alone.high - alone.low > 2 * (gain.high - gain.low)


def test_draws_without_variance_are_the_worst_however_their_sums_round() -> None:
    """Of twelve rows with one that differs, a third of the draws have one value."""
    for usual in np.random.default_rng(0).normal(size=50):
        true = np.where(np.arange(12) == 3, usual + 1, usual)[:, None]
        found = judgement.r2(true, true + 0.1)
        assert found.low == -judgement.MOST
        assert found.high < 1


# ------------------------------------------------------------ the linear model


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_logistic_regression_is_nearly_that_of_scikit_learn(name: str) -> None:
    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    classes = len(set(y.tolist()))
    found = linear.fit(x, y, classes)
    strength = 1.0 if classes > 2 else 2.0  # a softmax of two classes shares the weights among them
    theirs = sklearn.linear_model.LogisticRegression(C=strength, max_iter=10_000)
    theirs.fit((x - found.mean) / found.scale, y)
    chances = classification.probabilities(found.outputs(x))
    assert np.abs(chances - theirs.predict_proba((x - found.mean) / found.scale)).max() < 0.06
    assert (found.outputs(x).argmax(axis=1) == y).mean() == pytest.approx(
        theirs.score((x - found.mean) / found.scale, y), abs=0.01
    )


def test_least_squares_are_those_of_ridge_and_constant_columns_do_no_harm() -> None:
    x, y = sklearn.datasets.load_diabetes(return_X_y=True)
    x = np.concatenate([x, np.full((len(x), 1), 7.0)], axis=1)
    found = linear.fit(x, y[:, None], None)
    rows = (x - found.mean) / found.scale
    theirs = sklearn.linear_model.Ridge(1.0).fit(rows, y).predict(rows)
    np.testing.assert_allclose(found.outputs(x)[:, 0], theirs, rtol=1e-6)


# ------------------------------------------------------------ curves, columns, bins


def test_curves_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    stated = draw.random(300).round(2)  # many are equal
    positive = draw.random(300) < stated
    found = judgement.curves(stated, positive)
    assert found.auc == pytest.approx(sklearn.metrics.roc_auc_score(positive, stated))
    assert found.average_precision == pytest.approx(sklearn.metrics.average_precision_score(positive, stated))
    alarms, recall, thresholds = sklearn.metrics.roc_curve(positive, stated, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positives, alarms[1:])
    np.testing.assert_allclose(found.true_positives, recall[1:])
    np.testing.assert_allclose(found.thresholds, thresholds[1:])


def test_a_column_that_the_model_leaves_out_is_worth_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(300, 4))

    def losses(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        differences = rows.reshape(-1, *features.shape) - features
        return (differences[..., 0] + 0.2 * differences[..., 2]).reshape(-1) ** 2

    places = {"strong": [0], "none": [1], "pair": [2, 3]}
    strong, pair, none = judgement.worths(features, places, losses, 3)
    assert [strong.name, pair.name, none.name] == ["strong", "pair", "none"]
    assert strong.loss.value == pytest.approx(2.0, abs=0.3)  # twice the variance
    assert strong.loss.low > pair.loss.high > pair.loss.low > 0
    assert none.loss == Estimate(0.0, 0.0, 0.0)


def test_merged_bins_keep_rows_and_means() -> None:
    draw = np.random.default_rng(0)
    stated = draw.random(90) ** 3
    came_true = draw.random(90) < stated
    found = classification.calibration(stated, came_true)
    merged = classification.merged(found)
    assert merged.rows.sum() == 90 and merged.rows.min() >= 20
    assert (merged.stated * merged.rows).sum() == pytest.approx(stated.sum())
    assert (merged.observed * merged.rows).sum() == pytest.approx(came_true.sum())
    assert merged.error == found.error


# ------------------------------------------------------------ sentences and page


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([1.0, 0.6, 0.5, 0.6, 0.9], "It overfits from epoch 4: until epoch 5 the validation loss rises from 0.5000 to"),
        ([1.0, 0.8, 0.6, 0.5, 0.4], "still fell when training ended: more epochs may do better"),
        ([1.0, 0.5, 0.5, 0.5, 0.49, 0.5], "From epoch 2 on the validation loss changes little."),
        ([1.0, float("nan"), 0.6, 0.5, 0.4], ""),
        ([1.0, 0.5], ""),
    ],
)
def test_the_learning_curve_is_read(losses: list[float], said: str) -> None:
    history = [{"epoch": k, "train_loss": 1 / k, "validation_loss": loss} for k, loss in enumerate(losses, start=1)]
    read = verdict.reading(history)
    assert said in read and bool(said) == bool(read)


PLAIN = """
name: plain
device: cpu
data: {{{data}}}
model: {{hidden: [16]}}
loss: {{name: {loss}}}
optimizer: {{name: Adam, lr: 0.01}}
train: {{epochs: 15, batch_size: 32}}
output: {output}
"""


def told(folder: Path, data: str, loss: str) -> tuple[str, str, Path]:
    """Return the words of a run's page, its source, and the run."""
    result = run(config.loads(PLAIN.format(data=data, loss=loss, output=folder)), progress_bar=False)
    source = (result.directory / "report.html").read_text(encoding="utf-8")
    return "".join(Page(source).text), source, result.directory


def test_two_classes_are_judged(tmp_path: Path) -> None:
    text, source, place = told(tmp_path, "name: breast_cancer", "BCEWithLogitsLoss")
    accuracy = json.loads((place / "summary.json").read_text())["scores"]["test"]["accuracy"]
    assert f"Of 113 rows not seen before the model calls {100 * accuracy:.1f}% right (95% interval " in text
    assert "to call all of them 'benign', the most frequent class, is right for 6" in text
    assert "a linear model for 9" in text
    assert re.search("is within chance: by these rows the network is worth no more|than the linear model by", text)
    labels = [each.get("aria-label") or "" for each in Page(source).all("svg")]
    assert any(label.startswith("ROC curve: the area under it is 0.9") for label in labels)
    assert any(label.startswith("Precision over recall") for label in labels)
    assert "Calling a row benign from a stated probability on" in text
    assert f"python -m nanotorch.predict {place} --input rows.csv --output predictions.csv" in text


def test_the_largest_mistakes_are_rows_of_the_table_with_their_values(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    lines = ["size,noise,colour,kind"]
    for k in range(200):
        kind, size = ("big", 5 + draw.random()) if k % 2 else ("small", draw.random())
        lines.append(f"{size:.3f},{draw.random():.3f},{'red' if k % 3 else ''},{kind if k != 61 else 'small'}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    _, source, _ = told(
        tmp_path, f"file: {tmp_path / 'table.csv'}, target: kind, validation_size: 0.05, test_size: 0.9", "auto"
    )
    table = source.split("with the columns that are worth most</figcaption>")[1].split("</table>")[0]
    (row,) = [row for row in re.findall("<tr>.*?</tr>", table, re.DOTALL)[1:] if ">61<" in row]
    cells = [re.sub("<[^>]+>", "", cell) for cell in re.findall("<t[hd].*?</t[hd]>", row)]
    size, noise, colour, _ = lines[62].split(",")
    assert cells[:3] == ["61", "small", "big"]
    assert sorted(cells[4:]) == sorted([f"{float(size):g}", f"{float(noise):g}", colour or "missing"])
    first = source.split("What columns are worth</figcaption>")[1]
    assert re.findall('<th scope="row"[^>]*>(\\w+)<', first)[0] == "size"


def test_a_regression_is_judged_and_its_residuals_are_drawn(tmp_path: Path) -> None:
    text, source, place = told(tmp_path, "name: diabetes", "MSELoss")
    score = json.loads((place / "summary.json").read_text())["scores"]["test"]["r2"]
    assert f"On 88 rows not seen before the model predicts y with an R2 of {score:.2f} (95% interval" in text
    assert "that of the mean is" in text and "of a linear model" in text
    assert "Residuals of y over its predicted values" in source


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([k // 9 for k in range(12)], "2 rows of the test part are too few to say how good the model is."),
        ([1.5] * 76 + [2.5] * 4, "The target does not vary among the"),
        ([0.3] * 56 + [2.5] * 4, "The target does not vary among the 12 rows"),  # of deviation 6e-17
        ([2.5 * (k % 12 == 8) for k in range(60)], "The target varies too little among the 12 rows of the test part"),
        ([0.5 * (k % 7) for k in range(80)], "R2"),
    ],
)
def test_odd_runs_have_a_page_without_warnings(tmp_path: Path, values: list[float], said: str) -> None:
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{k},{value}\n" for k, value in enumerate(values)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text, _, _ = told(tmp_path, f"file: {tmp_path / 't.csv'}, target: y, task: regression", "MSELoss")
    assert said in text


def test_what_is_worse_has_an_interval_of_how_much_worse() -> None:
    assert verdict._against_linear(Estimate(-0.19, -0.28, -0.12), 1, "") == (
        "It is worse than the linear model by 0.19 (95% interval 0.12 to 0.28): take that one."
    )
    assert verdict._against_linear(Estimate(0.19, 0.12, 0.28), 1, "") == (
        "It is better than the linear model by 0.19 (95% interval 0.12 to 0.28): more than chance."
    )
    assert "-0.020 (95% interval -0.060 to 0.020), is within chance" in verdict._against_linear(
        Estimate(-0.02, -0.06, 0.02), 1, ""
    )
