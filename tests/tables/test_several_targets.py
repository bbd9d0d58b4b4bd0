"""Several targets of classes, from the table to the exported file, against scikit-learn and PyTorch."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nanotorch as torch
from html_page import Page
from nanotorch import nn
from nanotorch.train.cli import evaluate, export, predict, train
from nanotorch.train.config.loading import loads
from nanotorch.train.config.strict_yaml import ConfigError
from nanotorch.train.data.class_targets import encoded, widths
from nanotorch.train.data.data_findings import oddities
from nanotorch.train.data.split import split
from nanotorch.train.data.table import DataError, Table
from nanotorch.train.data.table_file import table_file
from nanotorch.train.fit.decided import settled
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.model.usual_loss import LossOfTargets
from nanotorch.train.record.records import Prepared, RecordError, checked
from nanotorch.train.score.classification import target_scores
from nanotorch.train.score.meter import Meter, scored_as
from nanotorch.train.use.loaded_run import load_run
from nanotorch.train.use.onnx_export import answer_of, exported
from oracle import pytorch

SKY = ("clear", "cloud", "storm")
KINDS: dict[str, tuple[str, ...]] = {"multilabel": ("rain", "wind"), "multioutput": ("rain", "wind", "sky")}
METRICS = ["f1_macro", "neg_hamming_loss"]
ROWS = 240


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with two labels, a target of three classes and one of numbers; a run and folds of either kind."""
    root = tmp_path_factory.mktemp("targets")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, 3))
    noise = 0.4 * draw.normal(size=(ROWS, 3))
    colour = draw.choice(["red", "blue"], ROWS)
    columns = {
        **{name: [f"{value:.3f}" for value in column] for name, column in zip("abc", x.T, strict=True)},
        "colour": colour,
        "rain": np.where(x[:, 0] + noise[:, 0] > 0, "yes", "no"),
        "wind": np.where(x[:, 1] + noise[:, 1] + (colour == "red") > 0.8, "1", "0"),
        "sky": np.array(SKY)[np.digitize(x[:, 2] + noise[:, 2], [-0.7, 0.7])],
        "number": [f"{value:.2f}" for value in 2 * x[:, 0]],
    }
    with open(root / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    for kind in KINDS:
        for name, more in (("run", []), ("folds", ["train.folds=3"])):
            (root / f"{kind}.yaml").write_text(config_of(root, kind))
            options = [*more, "--output", str(root / f"{kind}-{name}"), "--quiet"]
            assert train.main([str(root / f"{kind}.yaml"), *options]) == 0
    return root


def config_of(root: Path, kind: str) -> str:
    targets = KINDS[kind]
    drop = [name for name in ("sky", "number") if name not in targets]
    model = "tabm, members: 3, hidden: [8]" if kind == "multioutput" else "mlp, hidden: [8]"
    return (
        f"name: {kind}\nseed: 1\ndata: {{file: {root / 't.csv'}, target: {list(targets)}, drop: {drop}}}\n"
        f"model: {{name: {model}}}\noptimizer: {{name: AdamW, lr: 0.02}}\n"
        f"train: {{epochs: 4, batch_size: 32, compile: false, metrics: {METRICS}}}\n"
    )


def rows_of(path: Path) -> dict[str, NDArray[Any]]:
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    return {name: np.array(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def table_of(classes: Sequence[Sequence[str]], targets: NDArray[np.int64], features: Any = None) -> Table:
    kind: Any = "multilabel" if all(len(names) == 2 for names in classes) else "multioutput"
    features = np.arange(len(targets), dtype=np.float64)[:, None] if features is None else features
    names = tuple(f"t{k}" for k in range(len(classes)))
    return Table(features, targets, kind, ("x",), names, classes=tuple(map(tuple, classes)))


# ------------------------------------------------------------ what the targets of a file are


def test_columns_of_classes_are_several_targets(place: Path) -> None:
    table = table_file(str(place / "t.csv"), ["rain", "wind", "sky"], drop=["number"])
    assert (table.task, table.target_names) == ("multioutput", ("rain", "wind", "sky"))
    assert table.classes == (("no", "yes"), ("0", "1"), SKY)
    raw = rows_of(place / "t.csv")
    for names, numbers, name in zip(table.classes, table.targets.T, table.target_names, strict=True):
        assert np.array(names)[numbers].tolist() == raw[name].tolist()
    labels = table_file(str(place / "t.csv"), ["wind", "rain"], drop=["sky", "number"])
    assert labels.task == "multilabel" and labels.classes == (("0", "1"), ("no", "yes"))
    stated = table_file(str(place / "t.csv"), ["rain", "number"], task="classification", drop=["sky"])
    assert stated.task == "multioutput" and len(stated.classes[1]) > 100


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (["rain", "number"], {}, r"classes \('rain'\) and numbers \('number'\), .* train a model for each kind$"),
        (["wind", "number"], {}, r"classes \('wind'\) and numbers .*, or take all of them .* data.task: regression$"),
        (["rain", "same", "other"], {}, r"'same' is 'x' in every row.*\n.*'other' is 'z' in every row"),
        (["rain", "rain"], {}, r"data.target names one column, or several different ones"),
        (["rain", "wind"], {"task": "regression"}, r"column 'rain' holds 'yes', which is not a number"),
    ],
)
def test_targets_that_do_not_go_together(
    targets: list[str], options: dict[str, Any], message: str, place: Path, tmp_path: Path
) -> None:
    lines = (place / "t.csv").read_text().splitlines()
    more = ["same,other", *["x,z"] * ROWS]
    (tmp_path / "u.csv").write_text("".join(f"{line},{cell}\n" for line, cell in zip(lines, more, strict=True)))
    with pytest.raises(DataError, match=message):
        table_file(str(tmp_path / "u.csv"), targets, **options)


def test_arrays_hold_several_targets_too(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, [2, 3], size=(60, 2))
    np.savez(tmp_path / "t.npz", X=draw.normal(size=(60, 3)), y=labels)
    table = table_file(str(tmp_path / "t.npz"), "y")
    assert table.task == "multioutput" and table.classes == (("0", "1"), ("0", "1", "2"))
    assert (table.targets == labels).all()
    np.savez(tmp_path / "n.npz", X=draw.normal(size=(60, 3)), y=draw.normal(size=(60, 2)))
    assert table_file(str(tmp_path / "n.npz"), "y").task == "regression"


def test_a_table_refuses_targets_that_are_not_of_its_classes() -> None:
    good = np.array([[0, 1], [1, 2]])
    assert table_of([("n", "y"), SKY], good).task == "multioutput"
    with pytest.raises(DataError, match=r"label 2 in row 1 is outside 0 to 1"):
        table_of([("n", "y"), ("n", "y")], good)
    with pytest.raises(DataError, match=r"must be \(n, k\)"):
        table_of([("n", "y")], good)
    with pytest.raises(DataError, match=r"more than two classes"):
        replace(table_of([("n", "y"), SKY], good), task="multilabel")


# ------------------------------------------------------------ parts


@pytest.mark.parametrize("fold", [None, (2, 5)])
def test_every_combination_has_the_same_share_in_each_part(fold: tuple[int, int] | None) -> None:
    combinations = np.repeat([[0, 0], [0, 1], [1, 0], [1, 2]], [200, 100, 50, 25], axis=0)
    table = table_of([("n", "y"), SKY], np.random.default_rng(0).permutation(combinations))
    parts = split(table, 0.2, 0.2, 3, fold)
    for part in (parts.train, parts.validation, parts.test):
        assert part is not None
        counts = np.bincount(part.targets @ [3, 1], minlength=6)[[0, 1, 3, 5]]
        assert np.abs(counts - len(part) * np.array([8, 4, 2, 1]) / 15).max() <= 1
    rows = np.concatenate([part.numbers for part in (parts.train, parts.validation, parts.test) if part is not None])
    assert sorted(rows.tolist()) == list(range(375))


def test_rare_combinations_are_divided_together() -> None:
    """None of them has a row for each part, and each class has many."""
    targets = np.array([[row % 2, row % 5, row % 7] for row in range(70)])
    classes = [tuple("abcdefg"[:count]) for count in (2, 5, 7)]
    parts = split(table_of(classes, targets), 0.2, 0.2, 0)
    assert [len(part) for part in (parts.train, parts.validation, parts.test) if part is not None] == [42, 14, 14]
    lonely = np.concatenate([np.repeat([[0, 0], [1, 1]], 20, axis=0), [[0, 1]]])
    parts = split(table_of([("n", "y")] * 2, lonely), 0.2, 0.2, 0)
    assert sum(len(part) for part in (parts.train, parts.validation, parts.test) if part is not None) == 41


def test_a_class_without_a_row_for_training_is_refused() -> None:
    targets = np.zeros((40, 2), np.int64)
    targets[::2, 0] = 1
    targets[7, 1] = 2
    targets[[3, 5, 9], 1] = 1
    table = table_of([("n", "y"), SKY], targets)
    outcomes = set()
    for seed in range(30):
        try:
            train = split(table, 0.4, 0.2, seed).train
            assert set(train.targets[:, 1]) == {0, 1, 2}
            outcomes.add("whole")
        except DataError as error:
            assert "of target 't1' has" in str(error) and "none of them for training" in str(error)
            outcomes.add("refused")
    assert outcomes == {"whole", "refused"}


def test_uneven_classes_of_any_target_choose_the_loss(place: Path) -> None:
    config = loads(config_of(place, "multilabel"), overrides=["train.monitor=auto"])
    table = prepare(config).parts["train"]
    assert settled(config, table)[0].train.monitor == "auto"
    uneven = table.targets.copy()
    uneven[:, 1] = np.arange(len(uneven)) % 10 == 0
    found, notes = settled(config, replace(table, targets=uneven))
    assert found.train.monitor == "loss"
    assert any("always '0' would have an accuracy of 89.6%" in note and "for target 'wind'" in note for note in notes)


def test_a_column_that_says_one_target_is_found() -> None:
    draw = np.random.default_rng(0)
    targets = draw.integers(0, [2, 3], size=(200, 2))
    features = np.c_[draw.normal(size=200), targets[:, 1] * 7.0]
    table = replace(
        table_of([("n", "y"), SKY], targets, draw.normal(size=(200, 1))), features=features, feature_names=("x", "s")
    )
    found = [odd for odd in oddities({"train": table}) if odd.check == "columns that give the target away"]
    assert [odd.columns for odd in found] == [("s",)] and "the class of target 't1'" in found[0].what


# ------------------------------------------------------------ loss, scores


@pytest.mark.parity
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_the_mean_of_those_of_the_targets(reduction: str) -> None:
    draw = np.random.default_rng(0)
    classes = [("n", "y"), SKY, ("n", "y"), tuple("abcde")]
    targets = draw.integers(0, [2, 3, 2, 5], size=(7, 4))
    outputs = draw.normal(size=(7, 10))
    ours = torch.tensor(outputs, requires_grad=True)
    loss = LossOfTargets(widths(classes), reduction)(ours, torch.tensor(encoded(targets, classes)))
    loss.backward()
    theirs = pytorch.tensor(outputs, requires_grad=True)
    F = pytorch.nn.functional
    each = [
        F.binary_cross_entropy_with_logits(theirs[:, 0], pytorch.tensor(targets[:, 0]).double(), reduction=reduction),
        F.cross_entropy(theirs[:, 1:4], pytorch.tensor(targets[:, 1]), reduction=reduction),
        F.binary_cross_entropy_with_logits(theirs[:, 4], pytorch.tensor(targets[:, 2]).double(), reduction=reduction),
        F.cross_entropy(theirs[:, 5:], pytorch.tensor(targets[:, 3]), reduction=reduction),
    ]
    expected = sum(each) / (4 if reduction == "mean" else 1)
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_the_mean_of_members_is_that_of_the_probabilities_of_each_target() -> None:
    outputs = np.random.default_rng(0).normal(size=(6, 4, 4))
    found = nn.MeanOfMembers((1, 3)).eval()(torch.tensor(outputs)).numpy()
    first = 1 / (1 + np.exp(-outputs[..., :1]))
    powers = np.exp(outputs[..., 1:])
    rest = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(1 / (1 + np.exp(-found[:, :1])), first.mean(axis=1), rtol=1e-12)
    powers = np.exp(found[:, 1:])
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), rest.mean(axis=1), rtol=1e-12)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_scikit_learn(data: st.DataObject) -> None:
    """Of batches of any size, with weights of rows or without."""
    counts = data.draw(st.lists(st.integers(2, 4), min_size=2, max_size=4))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    classes = [tuple("abcd"[:count]) for count in counts]
    targets = np.concatenate(
        [np.stack([draw.permutation(count)[np.arange(4) % count] for count in counts], axis=1)] * 9
    )
    outputs = draw.normal(size=(36, sum(widths(classes))))
    table = table_of(classes, targets)
    weights = draw.uniform(0.5, 2, 36) if data.draw(st.booleans()) else None
    names = ["f1_macro", "f1_micro", "jaccard_weighted", "neg_hamming_loss"]
    labels = table.task == "multilabel"
    names += ["roc_auc", "average_precision", "f1_samples"] if labels else ["balanced_accuracy", "neg_log_loss"]
    meter = Meter(**scored_as(replace(table, weights=weights), metrics=names))
    truth = encoded(targets, classes)
    edges = [0, *sorted(data.draw(st.sets(st.integers(1, 35), max_size=3))), 36]
    for start, stop in pairwise(edges):
        factors = None if weights is None else weights[start:stop]
        meter.update(outputs[start:stop], truth[start:stop], np.float64(0), np.float64(1), factors=factors)
    found = meter.compute()
    ends = np.cumsum(widths(classes))
    pieces = [outputs[:, end - size : end] for end, size in zip(ends, widths(classes), strict=True)]
    called = np.stack([one[:, 0] > 0 if one.shape[1] == 1 else one.argmax(1) for one in pieces], axis=1).astype(int)
    right = called == targets
    assert found["accuracy"] == pytest.approx(np.average(right.all(axis=1), weights=weights))
    for k in range(len(classes)):
        assert found[f"accuracy_t{k}"] == pytest.approx(np.average(right[:, k], weights=weights))
    assert found["neg_hamming_loss"] == pytest.approx(np.average(right.mean(axis=1), weights=weights) - 1)
    options: dict[str, Any] = {"sample_weight": weights}
    if labels:
        for name in ("f1_macro", "f1_micro", "f1_samples", "jaccard_weighted"):
            kind, average = name.split("_")
            expected = getattr(sklearn.metrics, f"{kind}_score")(
                targets, called, average=average, zero_division=0.0, **options
            )
            assert found[name] == pytest.approx(expected)
        for name in ("roc_auc", "average_precision"):
            expected = getattr(sklearn.metrics, f"{name}_score")(targets, outputs, **options)
            assert found[name] == pytest.approx(expected)
        return
    each: dict[str, list[float]] = {name: [] for name in ("f1_macro", "balanced_accuracy", "neg_log_loss")}
    for k, one in enumerate(pieces):
        of = targets[:, k], called[:, k]
        logits = np.c_[np.zeros(36), one] if one.shape[1] == 1 else one
        odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        each["f1_macro"].append(sklearn.metrics.f1_score(*of, average="macro", zero_division=0.0, **options))
        each["balanced_accuracy"].append(sklearn.metrics.balanced_accuracy_score(*of, **options))
        each["neg_log_loss"].append(-sklearn.metrics.log_loss(targets[:, k], odds, **options))
    for name, values in each.items():
        assert found[name] == pytest.approx(np.mean(values))


def test_the_scores_of_each_target_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    true, guessed = (draw.integers(0, [2, 3], size=(50, 2)) for _ in range(2))
    for k, found in enumerate(target_scores(true, guessed, ["a", "b"], [("n", "y"), SKY])):
        of = true[:, k], guessed[:, k]
        assert found.accuracy == sklearn.metrics.accuracy_score(*of)
        assert found.balanced_accuracy == pytest.approx(sklearn.metrics.balanced_accuracy_score(*of))
        assert found.f1 == pytest.approx(sklearn.metrics.f1_score(*of, average="macro"))
        assert found.most_frequent == np.bincount(true[:, k]).max() / 50


# ------------------------------------------------------------ runs


def predicted(place: Path, run: Path, *options: str) -> dict[str, NDArray[Any]]:
    output = run.parent / "out.csv"
    assert predict.main([str(run), "--input", str(place / "t.csv"), "--output", str(output), *options]) == 0
    return rows_of(output)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["run", "folds"])
def test_predictions_have_a_column_for_each_target(kind: str, which: str, place: Path) -> None:
    run = place / f"{kind}-{which}"
    found, names = predicted(place, run), KINDS[kind]
    odds = ["probability_rain=yes", "probability_wind=1", *(f"probability_sky={one}" for one in SKY)]
    assert list(found) == [*(f"prediction_{name}" for name in names), *odds[: None if "sky" in names else 2]]
    for name, first, second in (("rain", "no", "yes"), ("wind", "0", "1")):
        expected = np.where(found[f"probability_{name}={second}"].astype(float) > 0.5, second, first)
        assert found[f"prediction_{name}"].tolist() == expected.tolist()
    if "sky" in names:
        chances = np.stack([found[f"probability_sky={one}"].astype(float) for one in SKY], axis=1)
        np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
        assert found["prediction_sky"].tolist() == np.array(SKY)[chances.argmax(axis=1)].tolist()
    if which == "folds":
        members = [predicted(place, one) for one in sorted(run.iterdir()) if one.is_dir()]
        for column in odds[: 5 if "sky" in names else 2]:
            mean = np.mean([one[column].astype(float) for one in members], axis=0)
            np.testing.assert_allclose(found[column].astype(float), mean, rtol=1e-5)
        spread = predicted(place, run, "--spread")
        yes = np.stack([one["probability_rain=yes"].astype(float) for one in members])
        of_called = np.where(found["prediction_rain"] == "yes", yes, 1 - yes)
        np.testing.assert_allclose(
            spread["prediction_rain_spread"].astype(float), of_called.std(axis=0, ddof=1), rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_scores_what_predict_says(kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, raw = place / f"{kind}-run", rows_of(place / "t.csv")
    found = predicted(place, run)
    capsys.readouterr()
    assert evaluate.main([str(run), "--input", str(place / "t.csv"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]["rows"]
    right = np.stack([found[f"prediction_{name}"] == raw[name] for name in KINDS[kind]])
    assert scores["accuracy"] == pytest.approx(right.all(axis=0).mean())
    for name, of in zip(KINDS[kind], right, strict=True):
        assert scores[f"accuracy_{name}"] == pytest.approx(of.mean())
    assert scores["neg_hamming_loss"] == pytest.approx(right.mean() - 1)
    assert evaluate.main([str(run), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["scores"]
    assert again == json.loads((run / "summary.json").read_text())["scores"]


def test_evaluate_names_a_class_that_is_not_known(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (place / "t.csv").read_text().replace("storm", "snow", 1)
    (tmp_path / "t.csv").write_text(text)
    assert evaluate.main([str(place / "multioutput-run"), "--input", str(tmp_path / "t.csv")]) != 0
    told = capsys.readouterr().err
    assert "the target 'sky' is 'snow', which is none of the model's classes (clear, cloud, storm)" in told


@pytest.mark.parametrize("kind", KINDS)
def test_sets_hold_the_class_of_each_target(kind: str, place: Path) -> None:
    raw, found = rows_of(place / "t.csv"), predicted(place, place / f"{kind}-run", "--interval", "0.9")
    for name in KINDS[kind]:
        sets = [json.loads(cell) for cell in found[f"prediction_{name}_set"]]
        assert all(one[0] == said for one, said in zip(sets, found[f"prediction_{name}"], strict=True))
        held = np.mean([truth in one for truth, one in zip(raw[name], sets, strict=True)])
        assert held > 0.84
        limit = load_run(place / f"{kind}-run").limits(0.9)[KINDS[kind].index(name)]
        for truth in set(raw[name]):
            column = found.get(f"probability_{name}={truth}")
            if column is not None:
                inside = np.array([truth in one for one in sets])
                assert (inside >= (1 - column.astype(float) <= limit - 1e-9)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["run", "folds"])
def test_exports_say_what_predict_says(kind: str, which: str, place: Path, tmp_path: Path) -> None:
    run = place / f"{kind}-{which}"
    expected = predicted(place, run)
    assert export.main([str(run), "--onnx", str(tmp_path / "m.onnx"), "--python", str(tmp_path / "m.py")]) == 0
    command = [sys.executable, str(tmp_path / "m.py"), str(place / "t.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    header, *rows = csv.reader(done.stdout.splitlines())
    assert header == list(expected)
    for name, column in zip(header, zip(*rows, strict=True), strict=True):
        if name.startswith("prediction"):
            assert list(column) == expected[name].tolist()
        else:
            np.testing.assert_allclose(np.array(column, float), expected[name].astype(float), atol=1e-6)
    loaded, raw = load_run(run), rows_of(place / "t.csv")
    columns = {name: raw[name].astype(float) for name in "abc"} | {"colour": raw["colour"].astype(object)}
    model = exported(loaded)
    outputs = [one.name for one in model.graph.output]
    assert outputs == [f"{what}: {name}" for name in KINDS[kind] for what in ("label", "probabilities")]
    for (name, want), got in zip(expected.items(), answer_of(model, loaded, columns), strict=True):
        if name.startswith("prediction"):
            assert got.tolist() == want.tolist()
        else:
            np.testing.assert_allclose(got, want.astype(float), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compiled", [False, True])
def test_compiled_and_resumed_runs_are_the_same(kind: str, compiled: bool, place: Path, tmp_path: Path) -> None:
    config = str(place / f"{kind}.yaml")

    def scores(run: Path) -> Any:
        return json.loads((run / "summary.json").read_text())["scores"]

    options = [config, f"train.compile={compiled}".lower(), "--quiet"]
    half, whole = tmp_path / "half", tmp_path / "whole"
    assert train.main([*options, "--output", str(whole)]) == 0
    for name, values in scores(place / f"{kind}-run").items():
        assert scores(whole)[name] == (pytest.approx(values, rel=1e-4) if compiled else values)
    assert train.main([*options, "train.epochs=2", "--output", str(half)]) == 0
    assert train.main([*options, "--resume", str(half), "--allow-config-change"]) == 0
    assert scores(half) == scores(whole)


def test_a_sweep_trains_several_targets(place: Path, tmp_path: Path) -> None:
    config = (place / "multioutput.yaml").read_text().replace("train:", "sweep: {optimizer.lr: [0.01, 0.02]}\ntrain:")
    (tmp_path / "c.yaml").write_text(config)
    assert train.main([str(tmp_path / "c.yaml"), "--output", str(tmp_path / "s"), "--quiet"]) == 0
    trials = rows_of(tmp_path / "s" / "trials.csv")
    own = json.loads((place / "multioutput-run" / "summary.json").read_text())["scores"]["validation"]["accuracy"]
    assert any(np.isclose(float(cell), own) for column in trials.values() for cell in column if _is_number(cell))


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdigit()


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_judges_each_target(kind: str, place: Path) -> None:
    run = place / f"{kind}-run"
    page = Page((run / "report.html").read_text())
    text, summary = " ".join(" ".join(page.text).split()), json.loads((run / "summary.json").read_text())
    test = summary["scores"]["test"]
    assert [one["name"] for one in summary["targets"]] == list(KINDS[kind])
    for one in summary["targets"]:
        assert one["accuracy"] == pytest.approx(test[f"accuracy_{one['name']}"])
    assert test["f1_macro"] == pytest.approx(
        np.mean([one["f1"] for one in summary["targets"]]) if kind == "multioutput" else test["f1_macro"]
    )
    for heading in ("Every target", "Labels", "Sets of classes", "Largest mistakes", "What columns are worth"):
        assert heading in text, heading
    assert ("Confusion matrices" in text) == (kind == "multioutput")
    verdict = " ".join(summary["verdict"])
    count = len(KINDS[kind])
    assert f"Of the {count} answers for each of {summary['rows']['test']} rows not seen before" in verdict
    assert "the most frequent class of each target" in verdict and "linear model" in verdict
    assert "nan" not in text.lower().split()
    Page((place / f"{kind}-folds" / "report.html").read_text())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.name=CrossEntropyLoss", "CrossEntropyLoss is for multiclass"),
        ("train.metrics=[f1]", "f1 is for binary, .* take f1_macro"),
        ("train.monitor=accuracy_rain data.target=rain", "accuracy_rain is for several targets of classes"),
    ],
)
def test_what_does_not_go_with_several_targets_is_told_by_the_config(override: str, message: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        loads(config_of(place, "multilabel"), overrides=override.split())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.class_weight=balanced", "for one target of classes, and this run has 2; a loss of"),
        ("train.calibration=temperature", "for one target of classes, and this run has several"),
        ("data.rare=drop", "for one target of classes, and data.target names 2"),
        ("train.monitor=accuracy_snow", "no score 'accuracy_snow' here"),
        ("loss={name: BCEWithLogitsLoss, pos_weight: [1, 2, 3]}", "has 3 values for 2 labels"),
    ],
)
def test_what_several_targets_do_not_have_is_told_by_the_data(
    override: str, message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([str(place / "multilabel.yaml"), override, "--output", str(place / "no"), "--quiet"]) == 2
    assert message in capsys.readouterr().err


def test_labels_may_be_weighed_and_one_target_may_choose_the_epoch(place: Path, tmp_path: Path) -> None:
    loss = "loss={name: BCEWithLogitsLoss, pos_weight: [1, 5]}"
    options = [loss, "train.monitor=accuracy_wind", "--output", str(tmp_path / "r"), "--quiet"]
    assert train.main([str(place / "multilabel.yaml"), *options]) == 0
    odds = [
        predicted(place, run)["probability_wind=1"].astype(float) for run in (tmp_path / "r", place / "multilabel-run")
    ]
    assert odds[0].mean() > odds[1].mean() + 0.05
    history = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    best = max(range(len(history)), key=lambda k: history[k]["validation_accuracy_wind"])
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["best_epoch"] == best + 1


def test_zero_config_takes_several_targets(place: Path, tmp_path: Path) -> None:
    options = ["data.drop=[number]", "train.epochs=1", "--output", str(tmp_path / "z"), "--quiet"]
    assert train.main([str(place / "t.csv"), "--target", "rain", "--target", "sky", *options]) == 0
    assert json.loads((tmp_path / "z" / "summary.json").read_text())["task"] == "multioutput"


@pytest.mark.parametrize(
    "changes",
    [{"classes": (("n", "y"),)}, {"classes": (("n",), ("n", "y"))}, {"task": "multioutput"}, {"task": "regression"}],
)
def test_a_damaged_record_of_classes_is_refused(changes: dict[str, Any], place: Path) -> None:
    state = load_run(place / "multilabel-run").preprocessing.state()
    checked(state, Prepared, "state.json")
    with pytest.raises(RecordError, match=r"classes|of the task"):
        checked(state | changes, Prepared, "state.json")


def test_no_column_of_a_prediction_has_the_name_of_another(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    names = ["x", "y", "a", "a=b", "prediction_a=b=c", "a_set", "r", "r_low"]
    columns = [
        *draw.normal(size=(2, 90)).round(2).tolist(),
        draw.choice(["b=c", "d", "e"], 90), draw.choice(["c", "d", "f"], 90), range(90), draw.choice(["1", "2"], 90),
        *draw.normal(size=(2, 90)).round(2).tolist(),
    ]  # fmt: skip
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([names, *zip(*columns, strict=True)])
    for targets, rest, count in ((["a", "a=b", "a_set"], ["r", "r_low"], 3 + 7 + 3), (["r", "r_low"], ["a"], 2 + 4)):
        run = tmp_path / targets[0]
        options = [f"--target={name}" for name in targets]
        options += [f"data.drop={[*rest, 'prediction_a=b=c']}", "model={name: mlp, hidden: [4]}", "train.epochs=1"]
        assert train.main([str(tmp_path / "t.csv"), *options, "--output", str(run), "--quiet"]) == 0
        arguments = [str(run), "--input", str(tmp_path / "t.csv"), "--output", str(tmp_path / "p.csv")]
        assert predict.main([*arguments, "--interval", "0.8"]) == 0
        with open(tmp_path / "p.csv", newline="") as file:
            header, first, *_ = csv.reader(file)
        assert len(header) == len(set(header)) == len(first) == count
        if "a" in targets:
            assert header[3:9] == [f"probability_{name}" for name in (
                "a=b=c", "a=d", "a=e", '"a=b"=c', '"a=b"=d', '"a=b"=f'
            )]  # fmt: skip
            assert header[-3:] == ["prediction_a_set (2)", "prediction_a=b_set", "prediction_a_set_set"]
            odds = np.array(first[3:9], float)
            assert odds[:3].sum() == pytest.approx(1) == odds[3:].sum()
        else:
            assert header[2] == "prediction_r_low (2)"
            low, high = float(first[2]), float(first[3])
            assert (low + high) / 2 == pytest.approx(float(first[0]), abs=1e-6)
