"""Rows that count as much as a column says: in the loss, in the scores, and everywhere that shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight

from nanotorch.estimators import MLPClassifier, MLPRegressor
from nanotorch.train.cli.evaluate import main as evaluate
from nanotorch.train.cli.train import main as train
from nanotorch.train.config.loading import loads
from nanotorch.train.fit.build import build
from nanotorch.train.fit.chunks import Chunks
from nanotorch.train.fit.loop import fit
from nanotorch.train.fit.loss_and_parts import class_weights
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.fit.random_numbers import seeds
from nanotorch.train.run.run import run
from nanotorch.train.use.loaded_run import load_run
from tests.support.oracle import pytorch

WEIGHTS = (0.25, 1.0, 2.0, 3.5, 7.0)


@pytest.fixture
def table(tmp_path: Path) -> str:
    """61 rows of a, b, a weight w, a class y of two, a class z of three and a number t."""
    drawn = np.random.default_rng(3)
    rows = []
    for row in range(61):
        a, b = drawn.normal(size=2)
        z = "klm"[int(a > 0.4) + int(b > 0.0)]
        y = "yes" if a + b + drawn.normal() * 0.5 > 0 else "no"
        rows.append(f"{a:.6f},{b:.6f},{WEIGHTS[row % 5]},{y},{z},{2 * a - b:.6f}")
    (tmp_path / "t.csv").write_text("\n".join(["a,b,w,y,z,t", *rows]) + "\n")
    return str(tmp_path / "t.csv")


def text_of(table: str, target: str = "y", *lines: str, data: str = "weight: w", train: str = "") -> str:
    drop = [name for name in "yzt" if name != target]
    data = f"data: {{file: {table}, target: {target}, drop: {drop}, {data}}}"
    train = f"train: {{epochs: 3, batch_size: 7, accumulate: 2, {train}}}"
    head = "name: t\nmodel: {hidden: [5]}\noptimizer: {name: SGD, lr: 0.1, momentum: 0.9}\n"
    return "\n".join([head, data, train, f"output: {Path(table).parent / 'runs'}", *lines]) + "\n"


LOSSES = {"y": "binary_cross_entropy_with_logits", "z": "cross_entropy", "t": "mse_loss"}


@pytest.mark.parity
@pytest.mark.parametrize("target", "yzt")
@pytest.mark.parametrize("balanced", [False, True])
def test_training_is_that_of_pytorch_with_a_weighted_mean(target: str, balanced: bool, table: str) -> None:
    """Windows of two batches, unequal last ones, and weights of classes: each step is one on sum w l / sum w."""
    if balanced and target == "t":
        return
    loss = "loss: {name: auto, class_weight: balanced}" if balanced else ""
    config = loads(text_of(table, target, "dtype: float64", loss, train="shuffle: false, compile: false"))
    data = prepare(config)
    setup = build(config, data)
    theirs = pytorch.nn.Sequential(
        pytorch.nn.Linear(2, 5), pytorch.nn.ReLU(), pytorch.nn.Linear(5, 3 if target == "z" else 1)
    ).double()
    for mine, parameter in zip(setup.training.model.parameters(), theirs.parameters(), strict=True):
        parameter.data = pytorch.tensor(mine.detach().numpy().copy())
    optimizer = pytorch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    part = data.parts["train"]
    assert part.weights is not None
    rows = pytorch.tensor(data.preprocessing.features(part))
    wanted = pytorch.tensor(np.asarray(data.preprocessing.targets(part)))
    wanted = wanted if target == "z" else wanted.reshape(len(part), -1).double()
    weights = pytorch.tensor(part.weights)
    if balanced:
        classes = np.unique(part.targets)
        by_class = compute_class_weight("balanced", classes=classes, y=part.targets, sample_weight=part.weights)
        weights = weights * pytorch.tensor(by_class[part.targets])
    losses, loss_of = [], getattr(pytorch.nn.functional, LOSSES[target])
    for _ in range(3):
        total = 0.0
        for start in range(0, len(rows), 14):
            window = slice(start, start + 14)
            each = loss_of(theirs(rows[window]), wanted[window], reduction="none").reshape(len(rows[window]), -1)
            value = (each.mean(1) * weights[window]).sum() / weights[window].sum()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item() * weights[window].sum().item()
        losses.append(total / weights.sum().item())
    for _ in fit(setup.training, setup.loader, setup.parts["validation"], setup.options):
        pass
    found = [record["train_loss"] for record in setup.training.history]
    np.testing.assert_allclose(found, losses, rtol=1e-12)
    for mine, parameter in zip(setup.training.model.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), parameter.detach().numpy(), rtol=1e-10, atol=1e-12)


METRICS = {
    "y": ["f1", "balanced_accuracy", "roc_auc", "average_precision", "neg_log_loss", "neg_brier_score"],
    "z": ["f1_macro", "balanced_accuracy", "neg_log_loss", "roc_auc_ovr", "matthews_corrcoef"],
    "t": ["neg_mean_absolute_error", "neg_median_absolute_error", "explained_variance"],
}


@pytest.mark.parametrize("target", "yzt")
def test_scores_are_those_of_scikit_learn_with_sample_weight(target: str, table: str) -> None:
    metrics = METRICS[target]
    result = run(loads(text_of(table, target, "train_: 0"[:0], train=f"metrics: {metrics}")), progress_bar=False)
    loaded = load_run(result.directory)
    part = prepare(loaded.config).parts["test"]
    outputs = loaded.outputs(loaded.preprocessing.features(part))
    if target == "t":
        values = loaded.preprocessing.in_units(outputs)
        expected = sklearn.metrics.r2_score(part.targets, values, sample_weight=part.weights)
        assert result.scores["test"]["r2"] == pytest.approx(expected, rel=1e-5)
        error = sklearn.metrics.root_mean_squared_error(part.targets, values, sample_weight=part.weights)
        assert result.scores["test"]["rmse"] == pytest.approx(error, rel=1e-5)
        said: Any = values
    else:
        logits = np.concatenate([0 * outputs, outputs], 1) if target == "y" else outputs
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        chosen = logits.argmax(1)
        expected = sklearn.metrics.accuracy_score(part.targets, chosen, sample_weight=part.weights)
        assert result.scores["test"]["accuracy"] == pytest.approx(expected, rel=1e-6)
        said = {"labels": chosen, "probabilities": chances[:, 1] if target == "y" else chances}
    computed: dict[str, Callable[..., float]] = {
        "f1": sklearn.metrics.f1_score,
        "f1_macro": lambda *args, **kwargs: sklearn.metrics.f1_score(*args, average="macro", **kwargs),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
        "matthews_corrcoef": sklearn.metrics.matthews_corrcoef,
        "roc_auc": sklearn.metrics.roc_auc_score,
        "roc_auc_ovr": lambda *args, **kwargs: sklearn.metrics.roc_auc_score(*args, multi_class="ovr", **kwargs),
        "average_precision": sklearn.metrics.average_precision_score,
        "neg_log_loss": lambda *args, **kwargs: -sklearn.metrics.log_loss(*args, **kwargs),
        "neg_brier_score": lambda *args, **kwargs: -sklearn.metrics.brier_score_loss(*args, **kwargs),
        "neg_mean_absolute_error": lambda *args, **kwargs: -sklearn.metrics.mean_absolute_error(*args, **kwargs),
        "neg_median_absolute_error": lambda *args, **kwargs: -sklearn.metrics.median_absolute_error(*args, **kwargs),
        "explained_variance": sklearn.metrics.explained_variance_score,
    }
    labels = ("f1", "f1_macro", "balanced_accuracy", "matthews_corrcoef")
    for name in metrics:
        given = said if target == "t" else said["labels" if name in labels else "probabilities"]
        theirs = computed[name](part.targets, given, sample_weight=part.weights)
        assert result.scores["test"][name] == pytest.approx(theirs, rel=1e-5), name


def command(table: str, text: str, *options: str) -> Path:
    place = Path(table).parent
    (place / "c.yaml").write_text(text)
    assert train([str(place / "c.yaml"), *options]) == 0
    return max(place.glob("runs/*"), key=lambda path: path.stat().st_mtime)


@pytest.mark.parametrize("target", "yt")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_compiled_steps_are_plain_ones(target: str, accumulate: int, table: str) -> None:
    """Programs of tables give plain steps to rounding."""
    found = []
    for compile in (False, True):
        config = loads(
            text_of(table, target, train=f"compile: {str(compile).lower()}").replace(
                "accumulate: 2", f"accumulate: {accumulate}"
            )
        )
        setup = build(config, prepare(config))
        chunks = Chunks(setup.training, setup.loader, setup.options, accumulate, 3, compile)
        for _ in fit(setup.training, setup.loader, setup.parts["validation"], setup.options, chunks=chunks):
            pass
        found.append([{**record, "seconds": 0} for record in setup.training.history])
    names = [name for name in found[0][0] if name.startswith(("train_", "validation_"))]
    for plain, compiled in zip(*found, strict=True):
        np.testing.assert_allclose([plain[name] for name in names], [compiled[name] for name in names], rtol=2e-5)


def test_weights_of_one_are_no_weights(table: str) -> None:
    """The sums are the same, so the weights of the model are too."""
    lines = Path(table).read_text().splitlines()
    alike = [re.sub(r"^([^,]*,[^,]*),[^,]*", r"\1,1", line) for line in lines[1:]]
    Path(table).write_text("\n".join([lines[0], *alike]) + "\n")
    without = text_of(table, "z", data="max_categories: 7").replace("drop: [", "drop: [w, ")
    histories = [run(loads(text), progress_bar=False).history for text in (text_of(table, "z"), without)]
    for one, other in zip(*histories, strict=True):
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert one[name] == pytest.approx(other[name], rel=1e-6)


@pytest.mark.parametrize("target", "yt")
def test_a_run_is_judged_and_evaluated_by_weight(target: str, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = command(table, text_of(table, target))
    said = " ".join(capsys.readouterr().out.split())
    assert "rows count as column 'w' says" in said and "counted by their weights" in said
    scores = json.loads((place / "summary.json").read_text())["scores"]
    assert evaluate([str(place), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == scores
    rows = Path(table).parent / "rows.csv"
    lines = Path(table).read_text().splitlines()
    numbers = prepare(load_run(place).config).parts["test"].numbers
    assert numbers is not None
    rows.write_text("\n".join([lines[0], *(lines[1 + row] for row in numbers)]) + "\n")
    assert evaluate([str(place), "--input", str(rows), "--json"]) == 0
    by_file = json.loads(capsys.readouterr().out)["scores"]["rows"]
    for name, value in scores["test"].items():
        assert by_file[name] == pytest.approx(value, rel=1e-6)
    cells = [line.split(",") for line in rows.read_text().splitlines()]
    rows.write_text("\n".join(",".join(line[:2] + line[3:]) for line in cells) + "\n")
    assert evaluate([str(place), "--input", str(rows), "--json"]) == 0
    assert "has no column 'w': each row counts once" in capsys.readouterr().err


def test_a_run_goes_on_bit_for_bit(table: str) -> None:
    """Stopped in the middle of an epoch, with sums of weights in the checkpoint."""
    config = loads(text_of(table, "t", "checkpoint: {every_seconds: 0, every_steps: 1}", train="compile: false"))
    whole, begun = (build(config, prepare(config)) for _ in range(2))
    for _ in fit(whole.training, whole.loader, whole.parts["validation"], whole.options):
        pass
    steps = fit(begun.training, begun.loader, begun.parts["validation"], begun.options)
    for _ in range(5):
        next(steps)
    assert begun.training.step_in_epoch
    sums = begun.training.meter.state()
    again = build(config, prepare(config)).training.meter
    again.load_state(json.loads(json.dumps(sums)))
    assert again.compute() == begun.training.meter.compute() and sums["row_weight"] > 0
    for _ in steps:
        pass
    for one, other in zip(whole.training.history, begun.training.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_folds_and_sweeps_of_weighted_rows(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    command(table, text_of(table, "y", train="folds: 3"))
    command(table, text_of(table, "y", "sweep: {optimizer.lr: [0.1, 0.01]}"))
    assert "best" in capsys.readouterr().out
    for option in ("--dry-run", "--doctor"):
        command(table, text_of(table, "y"), option)


@pytest.mark.parametrize(
    ("cells", "messages"),
    [
        (["0"], ["line 2: the weight 'w' is 0: a row of weight 0 would not count at all"]),
        (
            ["", "-2", "-3"],
            ["line 2: the weight 'w' has no value", r"line 3: the weight 'w' is -2.*\(one of 2 such rows\)"],
        ),
        (["heavy"], ["line 2: column 'w' holds 'heavy', which is not a number"]),
    ],
)
def test_weights_that_are_none(
    cells: Sequence[str], messages: Sequence[str], table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Path(table).read_text().splitlines()
    for row, cell in enumerate(cells, 1):
        lines[row] = re.sub(r"^([^,]*,[^,]*),[^,]*", rf"\g<1>,{cell}", lines[row])
    Path(table).write_text("\n".join(lines) + "\n")
    place = Path(table).parent / "c.yaml"
    place.write_text(text_of(table))
    assert train([str(place)]) in (1, 2)
    error = capsys.readouterr().err
    for message in messages:
        assert re.search(message, error), error


def test_balanced_classes_count_by_weight(table: str) -> None:
    part = prepare(loads(text_of(table, "z"))).parts["train"]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=part.targets, sample_weight=part.weights)
    np.testing.assert_allclose(class_weights("balanced", part), expected)


def test_estimators_score_their_validation_rows_by_weight() -> None:
    """As scikit-learn does from 1.7 on: weights count in the score that stops early too."""
    drawn = np.random.default_rng(0)
    rows = drawn.normal(size=(200, 3))
    classes, weights = (rows[:, 0] > 0).astype(int), drawn.uniform(0.1, 5, 200)
    options: dict[str, Any] = {"hidden_layer_sizes": (4,), "early_stopping": True, "max_iter": 1, "random_state": 5}
    options["n_iter_no_change"] = np.inf
    seed = seeds(5, 4)[3] % 2**32
    for estimator, targets, scored in (
        (MLPClassifier, classes, sklearn.metrics.accuracy_score),
        (MLPRegressor, rows[:, 0] * 3 + 1, sklearn.metrics.r2_score),
    ):
        fitted = estimator(**options).fit(rows, targets, weights)
        stratify = targets if estimator is MLPClassifier else None
        _, apart = train_test_split(np.arange(200), test_size=0.1, random_state=seed, stratify=stratify)
        expected = scored(targets[apart], fitted.predict(rows[apart]), sample_weight=weights[apart])
        assert fitted.validation_scores_ == [pytest.approx(expected, rel=1e-5)]
