"""The directory of folds or repeats as one model: the mean of what its runs predict, each taken alone."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch.train.cli import evaluate, export, predict, report, train
from nanotorch.train.data.table_file import read_columns
from nanotorch.train.report import figures
from nanotorch.train.report.chart import inline
from nanotorch.train.use.loaded_run import RunError, load_run

KINDS = {"classes": 3, "two": 2, "numbers": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, folds for three classes and for numbers, repeats for two classes."""
    place = tmp_path_factory.mktemp("several")
    draw = np.random.default_rng(0)
    with open(place / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "kind", "classes", "two", "numbers"])
        for row in range(90):
            a, b = draw.normal(size=2)
            kind = "rare" if row % 45 == 7 else "uvw"[draw.integers(3)]
            score = a + len(kind) + 0.5 * draw.normal()
            texts = ["low" if score < 0.5 else "middle" if score < 1.5 else "high", "no" if score < 1 else "yes"]
            writer.writerow(["" if row % 9 == 4 else f"{a:.3f}", f"{b:.3f}", kind, *texts, f"{5e4 + 100 * score:.3f}"])
    for target in KINDS:
        others = [name for name in KINDS if name != target]
        loss = {"classes": "CrossEntropyLoss", "two": "BCEWithLogitsLoss", "numbers": "MSELoss"}[target]
        several = "repeats: 2" if target == "two" else "folds: 3"
        (place / f"{target}.yaml").write_text(
            f"name: {target}\ndata: {{file: {place / 'rows.csv'}, target: {target}, drop: {others}}}\n"
            f"model: {{hidden: [8]}}\nloss: {{name: {loss}}}\noptimizer: {{name: AdamW, lr: 0.01}}\n"
            f"train: {{epochs: 2, batch_size: 16, compile: false, {several}}}\n"
        )
        assert train.main([str(place / f"{target}.yaml"), "--output", str(place / target), "--quiet"]) == 0
    return place


def predictions(place: Path, run: Path, *options: str) -> dict[str, list[str]]:
    assert predict.main([str(run), "--input", str(place / "rows.csv"), "--output", str(place / "o.csv"), *options]) == 0
    with open(place / "o.csv", newline="") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def of_each(place: Path, target: str) -> list[dict[str, list[str]]]:
    found = [predictions(place, run) for run in sorted((place / target).iterdir()) if run.is_dir()]
    assert len(found) == (2 if target == "two" else 3)
    return found


def numbers(texts: list[str]) -> NDArray[np.float64]:
    return np.array(texts, np.float64)


@pytest.mark.parametrize("target", KINDS)
def test_the_mean_and_the_spread_are_those_of_the_runs(target: str, made: Path) -> None:
    found, each = predictions(made, made / target, "--spread"), of_each(made, target)
    assert list(found) == [*each[0], "prediction_spread"]
    if target == "numbers":
        values = np.stack([numbers(one["prediction"]) for one in each])
        assert np.allclose(numbers(found["prediction"]), values.mean(axis=0), rtol=1e-8)
    else:
        names = list(each[0])[1:]
        odds = np.stack([[numbers(one[name]) for name in names] for one in each])
        assert np.allclose([numbers(found[name]) for name in names], odds.mean(axis=0), atol=1e-6)
        called = odds.mean(axis=0).argmax(axis=0)
        assert found["prediction"] == [names[k].removeprefix("probability_") for k in called]
        values = odds[:, called, np.arange(odds.shape[2])]
    assert np.allclose(numbers(found["prediction_spread"]), values.std(axis=0, ddof=1), rtol=2e-3, atol=1e-6)
    assert numbers(found["prediction_spread"]).max() > 0


@pytest.mark.parametrize("target", KINDS)
def test_evaluate_scores_the_mean(target: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = predictions(made, made / target)
    with open(made / "rows.csv", newline="") as file:
        true = [row[target] for row in csv.DictReader(file)]
    capsys.readouterr()
    assert evaluate.main([str(made / target), "--input", str(made / "rows.csv"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["members"]) == (2 if target == "two" else 3)
    scores = told["scores"]["rows"]
    if target == "numbers":
        assert scores["r2"] == pytest.approx(sklearn.metrics.r2_score(numbers(true), numbers(found["prediction"])))
    else:
        assert scores["accuracy"] == sklearn.metrics.accuracy_score(true, found["prediction"])
        odds = np.stack([numbers(column) for name, column in found.items() if name != "prediction"], axis=1)
        labels = [name.removeprefix("probability_") for name in found if name != "prediction"]
        assert scores["loss"] == pytest.approx(sklearn.metrics.log_loss(true, odds, labels=labels), rel=1e-5)


@pytest.mark.parametrize("target", KINDS)
def test_exports_are_of_the_mean(target: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx.reference")
    found = predictions(made, made / target)
    files = [made / f"model_{target}.{kind}" for kind in ("onnx", "py")]
    assert export.main([str(made / target), "--onnx", str(files[0]), "--python", str(files[1])]) == 0
    run = [sys.executable, str(files[1]), str(made / "rows.csv")]
    header, *rows = csv.reader(subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines())
    assert header == list(found)
    columns = read_columns(made / "rows.csv", ["kind"], list(KINDS))
    given = {name: np.asarray(columns[name])[:, None] for name in ("a", "b", "kind")}
    *_, last = onnx.ReferenceEvaluator(str(files[0])).run(None, given)
    for k, name in enumerate(name for name in found if target == "numbers" or name != "prediction"):
        by_python = numbers([row[header.index(name)] for row in rows])
        assert np.allclose(by_python, numbers(found[name]), rtol=1e-6, atol=1e-6)
        assert np.allclose(last[:, k], numbers(found[name]), rtol=1e-6, atol=1e-6)
    capsys.readouterr()
    assert export.main([str(made / target), "--safetensors", str(made / "w.safetensors")]) == 2
    assert "each with weights of its own: export one of them" in capsys.readouterr().err


@pytest.mark.parametrize("target", KINDS)
def test_the_page_tells_of_all_test_parts_together(target: str, made: Path) -> None:
    summaries = [
        json.loads((run / "summary.json").read_text()) for run in sorted((made / target).iterdir()) if run.is_dir()
    ]
    page = (made / target / "report.html").read_text()
    rows = np.array([one["rows"]["test"] for one in summaries])
    assert target == "two" or rows.sum() == 90
    if target == "numbers":
        squares = np.array([one["scores"]["test"]["rmse"] for one in summaries]) ** 2
        shown = float(re.findall('<th scope="row">numbers</th>.*?<data value="(.*?)">', page, re.DOTALL)[0])
        assert shown == pytest.approx(float((rows @ squares / rows.sum()) ** 0.5), rel=1e-5)
        assert "Of 90 rows, each by the run that was not trained on it" in page
    else:
        share = rows @ [one["scores"]["test"]["accuracy"] for one in summaries] / rows.sum()
        assert f"{share:.1%}" in page
        assert (f"Of {rows.sum()} rows, each by the run that was not trained on it" in page) == (target == "classes")
    assert page.count("with the standard deviation as a band") >= 2
    (made / target / "report.html").unlink()
    assert report.main([str(made / target)]) == 0
    assert (made / target / "report.html").read_text() == page


def test_the_mean_of_curves_is_of_the_runs_that_still_train() -> None:
    runs = [
        [{"validation_loss": value, "train_loss": 2 * value} for value in of] for of in ([3.0, 2.0, 4.0], [1.0, 6.0])
    ]
    chart = figures.mean_of_runs(runs, "loss")
    assert [line.name for line in chart.lines] == ["train", "validation"]
    assert chart.lines[1].y == [2.0, 4.0, 4.0]
    assert np.allclose(chart.lines[1].band, [np.std([3, 1], ddof=1), np.std([2, 6], ddof=1), 0])
    assert 'class="band validation"' in inline(chart)


def test_what_has_no_mean_is_refused(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(made / "classes")]) == 2
    assert "was trained on by some of the 3 runs" in capsys.readouterr().err
    arguments = ["--input", str(made / "rows.csv"), "--output", "-"]
    assert predict.main([str(made / "classes"), *arguments, "--interval", "0.9"]) == 2
    assert "no rows were held out for their mean" in capsys.readouterr().err
    assert predict.main([str(made / "classes" / "fold-1"), *arguments, "--spread"]) == 2
    assert "is one model, which agrees with itself" in capsys.readouterr().err
    mixed = tmp_path / "mixed"
    shutil.copytree(made / "classes", mixed, symlinks=True)
    shutil.rmtree(mixed / "fold-2")
    shutil.copytree(made / "two" / "repeat-1", mixed / "fold-2", symlinks=True)
    with pytest.raises(RunError, match=r"fold-2 and .*fold-1 have no mean: they differ in task, target names, loss"):
        load_run(mixed)
    (mixed / "summary.json").unlink()
    with pytest.raises(RunError, match=r"holds several runs that are not complete: .* --resume"):
        load_run(mixed)


def test_the_spread_of_tabm_is_that_of_its_members(made: Path) -> None:
    options = ["model.name=tabm", "model.members=4", "model.hidden=[8]", "train.epochs=2", "train.compile=false"]
    drop = "data.drop=[two, numbers]"
    arguments = [str(made / "rows.csv"), "--target", "classes", *options, drop, "--output", str(made / "t"), "--quiet"]
    assert train.main(arguments) == 0
    found, run = predictions(made, made / "t", "--spread"), load_run(made / "t")
    columns = read_columns(made / "rows.csv", ["kind"], list(KINDS))
    rows = torch.tensor(run.preprocessing.encode(columns)[0], dtype=torch.float32)
    with torch.no_grad():
        *before, mean = run.model
        assert type(mean).__name__ == "MeanOfMembers"
        for module in before:
            rows = module(rows)
        odds = rows.softmax(-1).numpy()
    called = odds.mean(axis=1).argmax(axis=1)
    expected = odds[np.arange(len(odds)), :, called].std(axis=1, ddof=1)
    assert np.allclose(numbers(found["prediction_spread"]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", KINDS)
def test_one_member_is_one_model(target: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["model.name=tabm", "model.members=1", "model.hidden=[8]", "train.epochs=2"]
    drop = f"data.drop={[name for name in KINDS if name != target]}"
    arguments = [str(made / "rows.csv"), "--target", target, *options, drop, "--output", str(tmp_path / "t"), "--quiet"]
    assert train.main(arguments) == 0
    assert "Where the members disagree" not in (tmp_path / "t" / "report.html").read_text()
    arguments = ["--input", str(made / "rows.csv"), "--output", "-", "--spread"]
    assert predict.main([str(tmp_path / "t"), *arguments]) == 2
    assert "is one model, which agrees with itself" in capsys.readouterr().err


def shown_rows(page: Path, after: str) -> list[list[str]]:
    """Return the cells of the first table after a text, exact where they are numbers."""
    table = page.read_text().split(after)[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = [re.findall("<t[hd].*?</t[hd]>", row) for row in re.findall("<tr>.*?</tr>", table, re.DOTALL)]
    return [
        [of[1] if (of := re.search('value="(.*?)"', cell)) else re.sub("<[^>]+>", "", cell) for cell in row]
        for row in rows
    ]


@pytest.mark.parametrize("target", KINDS)
def test_the_page_shows_the_rows_on_which_the_runs_disagree_most(target: str, made: Path) -> None:
    found = predictions(made, made / target, "--spread")
    spread, page = numbers(found["prediction_spread"]), made / target / "report.html"
    with open(made / "rows.csv", newline="") as file:
        table = list(csv.DictReader(file))
    rows = shown_rows(page, '<h2 id="apart-title">Where the runs disagree</h2>')
    places = [int(row[0]) for row in rows]
    assert len(rows) == 10
    assert np.allclose(spread[places], np.sort(spread)[::-1][:10], rtol=2e-3, atol=1e-6)
    assert np.allclose(numbers([row[3] for row in rows]), spread[places], rtol=2e-3, atol=1e-6)
    for place, row in zip(places, rows, strict=True):
        if target == "numbers":
            expected = [float(table[place][target]), float(found["prediction"][place])]
            assert np.allclose(numbers(row[1:3]), expected, rtol=1e-6)
        else:
            assert row[1:3] == [table[place][target], found["prediction"][place]]
        assert row[4] == (f"{float(table[place]['a']):g}" if table[place]["a"] else "missing")
    before = page.read_bytes()
    assert report.main([str(made / target)]) == 0
    assert page.read_bytes() == before


def test_without_the_table_the_page_of_runs_leaves_out_where_they_disagree(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = shutil.copytree(made / "classes", tmp_path / "classes", symlinks=True)
    for name in ("", "fold-1", "fold-2", "fold-3"):
        config = place / name / "resolved.yaml"
        config.write_text(config.read_text().replace("rows.csv", "gone.csv"))
    assert report.main([str(place)]) == 0
    assert "where the runs disagree is left out: " in capsys.readouterr().err
    assert "Where the runs disagree" not in (place / "report.html").read_text()


def test_the_page_of_tabm_shows_the_rows_on_which_its_members_disagree_most(made: Path, tmp_path: Path) -> None:
    options = ["model.name=tabm", "model.members=4", "model.hidden=[8]", "train.epochs=2", "data.test_size=0.6"]
    for target in ("classes", "numbers"):
        run = tmp_path / target
        drop = f"data.drop={[name for name in KINDS if name != target]}"
        assert train.main([str(made / "rows.csv"), "--target", target, *options, drop, "--output", str(run)]) == 0
        found = predictions(made, run, "--spread")
        spread, page = numbers(found["prediction_spread"]), (run / "report.html").read_text()
        tested = [int(row[0]) for row in shown_rows(run / "report.html", "<h3>Where the members disagree</h3>")]
        assert np.array_equal(np.sort(spread[tested])[::-1], spread[tested])
        said = re.search(r"tenth of the rows with the largest spread \(5 rows\) (.*?)\. <code>", page)
        assert "4 members answer, and their mean counts" in page and said is not None
        with open(made / "rows.csv", newline="") as file:
            true = [row[target] for row in csv.DictReader(file)]
        first = tested[:5]
        if target == "classes":
            wrong = np.mean([true[k] != found["prediction"][k] for k in first])
            assert said[1].startswith(f"the model is wrong in {wrong:.0%}, ")
        else:
            error = np.sqrt(np.mean((numbers(true) - numbers(found["prediction"]))[first] ** 2))
            assert said[1].startswith(f"the typical error (RMSE) is {error:.3g}, ")
    assert "Where the members disagree" not in (made / "classes" / "fold-1" / "report.html").read_text()
