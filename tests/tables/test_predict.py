"""`python -m nanotorch.predict`: raw rows in, class names with probabilities or values in original units out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from safetensors.numpy import load_file

import nanotorch.train.data.input_rows as rows_module
import nanotorch.train.use.prediction as prediction
from nanotorch.train.cli.evaluate import main as evaluate
from nanotorch.train.cli.predict import main
from nanotorch.train.use.loaded_run import load_run
from own_runs import CLASSES, NUMBERS, TWO_CLASSES, numbers, read_rows, trained, write_rows, write_table


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("classes"), CLASSES, "CrossEntropyLoss", "{hidden: [8], batch_norm: true}")


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("two"), TWO_CLASSES, "BCEWithLogitsLoss")


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("values"), NUMBERS, "MSELoss")


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("iris"), "{name: iris}", "CrossEntropyLoss")


def predicted(run: Path, rows: Path, output: Path, *options: str) -> list[dict[str, str]]:
    assert main([str(run), "--input", str(rows), "--output", str(output), *options]) == 0
    return read_rows(output)


# ------------------------------------------------------------ what is predicted


def test_iris_as_computed_by_hand(iris: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_iris

    data = load_iris()
    names = data.feature_names[::-1]  # in any order
    write_rows(
        tmp_path / "rows.csv", [dict(zip(names, map(str, row[::-1]), strict=True)) for row in data.data.tolist()]
    )
    found = predicted(iris, tmp_path / "rows.csv", tmp_path / "out.csv")

    state = json.loads((iris / "checkpoints" / "best" / "state.json").read_text())["preprocessing"]
    weights = load_file(iris / "checkpoints" / "best" / "model.safetensors")
    features = (data.data - np.array(state["scaler"]["mean"])) / np.array(state["scaler"]["scale"])
    hidden = np.maximum(features @ weights["0.weight"].T + weights["0.bias"], 0)
    logits = hidden @ weights["2.weight"].T + weights["2.bias"]
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert list(found[0]) == ["prediction", "probability_setosa", "probability_versicolor", "probability_virginica"]
    np.testing.assert_allclose(numbers(found, "probability_"), odds, atol=1e-5)
    assert [row["prediction"] for row in found] == data.target_names[odds.argmax(axis=1)].tolist()


def test_predictions_of_classes_have_the_accuracy_that_evaluate_gives(
    classes: Path, two_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write_table(tmp_path / "new.csv", seed=1)
    for run, target in ((classes, "kind"), (two_classes, "sold")):
        found = predicted(run, tmp_path / "new.csv", tmp_path / "out.csv")
        np.testing.assert_allclose(numbers(found, "probability_").sum(axis=1), 1.0, atol=1e-12)
        largest = numbers(found, "probability_").argmax(axis=1)
        names = [name.removeprefix("probability_") for name in found[0] if name.startswith("probability_")]
        assert names == sorted({row[target] for row in truth})
        assert [row["prediction"] for row in found] == [names[index] for index in largest]
        capsys.readouterr()
        assert evaluate([str(run), "--input", str(tmp_path / "new.csv"), "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)
        right = np.mean([row["prediction"] == known[target] for row, known in zip(found, truth, strict=True)])
        assert scores["scores"]["rows"]["accuracy"] == right
        assert scores["rows"] == {"rows": len(truth)}


def test_predicted_numbers_are_in_the_units_of_the_targets(
    values: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write_table(tmp_path / "new.csv", seed=1)
    found = predicted(values, tmp_path / "new.csv", tmp_path / "out.csv")
    assert list(found[0]) == ["prediction_price", "prediction_year"]
    errors = numbers(found, "prediction_") - [[float(row["price"]), float(row["year"])] for row in truth]
    rmse = np.sqrt((errors**2).mean(axis=0))
    capsys.readouterr()
    assert evaluate([str(values), "--input", str(tmp_path / "new.csv"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]["rows"]
    np.testing.assert_allclose(rmse, [scores["rmse_price"], scores["rmse_year"]], rtol=1e-5)


def test_rows_one_by_one_or_in_pieces_give_the_same(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "new.csv", rows=40, seed=1)
    for number in (3, 17, 18, 39):
        table[number]["city"] = "Ulm"
    table[30]["year"] = ""
    write_rows(tmp_path / "new.csv", table)
    whole = predicted(classes, tmp_path / "new.csv", tmp_path / "whole.csv")
    told = capsys.readouterr()
    monkeypatch.setattr(rows_module, "ROWS_AT_ONCE", 7)
    pieces = predicted(classes, tmp_path / "new.csv", tmp_path / "pieces.csv")
    np.testing.assert_allclose(numbers(pieces, "prob"), numbers(whole, "prob"), rtol=1e-5)
    assert [row["prediction"] for row in pieces] == [row["prediction"] for row in whole]
    again = capsys.readouterr()
    assert sorted(again.err.splitlines()) == sorted(told.err.splitlines())
    assert "column 'city': 4 rows with 1 category unknown to the model, taken for '(missing)': 'Ulm' (4)" in told.err
    assert "column 'year': 1 missing value, though none was missing in training; filled with" in told.err
    assert told.out.startswith(f"40 rows in {tmp_path / 'whole.csv'}: ")


# ------------------------------------------------------------ what goes in and out


def test_columns_in_any_order_further_ones_and_columns_to_keep(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "rows.csv", rows=20)
    expected = predicted(classes, tmp_path / "rows.csv", tmp_path / "expected.csv")
    told = capsys.readouterr().err
    assert "the target 'kind' is in the file and is not looked at" in told and "'price'" not in told
    shuffled = [{"new": "x", **{name: row[name] for name in ("year", "city", "id", "age")}} for row in table]
    write_rows(tmp_path / "shuffled.csv", shuffled)
    found = predicted(
        classes, tmp_path / "shuffled.csv", tmp_path / "out.csv", "--keep", "id", "--keep", "city", "--keep", "year"
    )
    assert "1 column is not used: 'new'" in capsys.readouterr().err
    assert [row["id"] for row in found] == [row["id"] for row in table]  # 0007 is not 7
    assert [row["city"] for row in found] == [row["city"] for row in table]
    assert [float(row["year"]) for row in found] == [float(row["year"]) for row in table]
    assert [{name: row[name] for name in expected[0]} for row in found] == expected


def test_parquet_in_and_out(classes: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "rows.csv", rows=20)
    expected = predicted(classes, tmp_path / "rows.csv", tmp_path / "expected.csv", "--keep", "id")
    columns: dict[str, list[Any]] = {name: [row[name] or None for row in table] for name in table[0]}
    columns |= {name: [None if cell is None else float(cell) for cell in columns[name]] for name in ("age", "year")}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    output = tmp_path / "out.parquet"
    assert main([str(classes), "--input", str(tmp_path / "rows.parquet"), "--output", str(output), "--keep", "id"]) == 0
    found = pyarrow.parquet.read_table(output).to_pylist()
    assert [[str(value) for value in row.values()] for row in found] == [list(row.values()) for row in expected]


IDS = ["00017", "9007199254740993", "1.50", "NA", "", "-2", "Zürich, so to say", ' "x"\n']


def test_kept_cells_of_csv_stay_as_they_stand(classes: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "rows.csv", rows=len(IDS))
    rows = [{**row, "id": cell, "year": f"0{row['year']}.0"} for row, cell in zip(table, IDS, strict=True)]
    write_rows(tmp_path / "rows.csv", rows)
    found = predicted(
        classes, tmp_path / "rows.csv", tmp_path / "out.csv", "--keep", "id", "--keep", "year", "--keep", "age"
    )
    for name in ("id", "year", "age"):
        assert [row[name] for row in found] == [row[name] for row in rows]
    output = tmp_path / "out.parquet"
    assert main([str(classes), "--input", str(tmp_path / "rows.csv"), "--output", str(output), "--keep", "id"]) == 0
    assert pyarrow.parquet.read_table(output)["id"].to_pylist() == IDS
    quoted = predicted(classes, tmp_path / "rows.csv", tmp_path / "out.csv", "--keep", "id", "--quote-formulas")
    assert [row["id"] for row in quoted] == IDS  # -2 is a number, not a formula


KEPT = {
    "int64": (pyarrow.array([2**53 + 1, None]), [str(2**53 + 1), ""]),
    "uint64": (pyarrow.array([2**64 - 1, 0], pyarrow.uint64()), [str(2**64 - 1), "0"]),
    "float": (pyarrow.array([0.1, None], pyarrow.float32()), ["0.1", ""]),
    "double": (pyarrow.array([1e300, 0.1]), ["1e+300", "0.1"]),
    "decimal": (pyarrow.array([1, None], pyarrow.decimal128(20, 3)), ["1.000", ""]),
    "text": (pyarrow.array(["00017", " NA "]), ["00017", " NA "]),
    "few": (pyarrow.array(["a", None]).dictionary_encode(), ["a", ""]),
    "flag": (pyarrow.array([True, None]), ["True", ""]),
    "day": (pyarrow.array([0, None], pyarrow.date32()), ["1970-01-01", ""]),
    "time": (pyarrow.array([1, None], pyarrow.timestamp("ns")), ["1970-01-01 00:00:00.000000001", ""]),
    "zoned": (pyarrow.array([0, None], pyarrow.timestamp("ms", "UTC")), ["1970-01-01 00:00:00.000Z", ""]),
}


def test_kept_cells_of_parquet_stay_what_they_are(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {"age": [30.0, 40.0], "city": ["Rome", "Oslo"], "year": [2001, 2002]}
    columns = {name: column for name, (column, _) in KEPT.items()} | {"list": pyarrow.array([[1], []])}
    for rows, place in ((2, "rows.parquet"), (0, "none.parquet")):
        table = pyarrow.table({**needed, **columns}).slice(0, rows)
        pyarrow.parquet.write_table(table, tmp_path / place)
        output, keep = tmp_path / "out.parquet", [word for name in columns for word in ("--keep", name)]
        assert main([str(classes), "--input", str(tmp_path / place), "--output", str(output), *keep]) == 0
        found = pyarrow.parquet.read_table(output)
        for name, column in columns.items():
            assert found[name].type == column.type and found[name].combine_chunks().equals(column.slice(0, rows)), name
        assert [field.type for field in found.schema][-4:] == [pyarrow.string(), *[pyarrow.float64()] * 3]
    keep = [word for name in KEPT for word in ("--keep", name)]
    csv_rows = predicted(classes, tmp_path / "rows.parquet", tmp_path / "out.csv", *keep)
    for name, (_, cells) in KEPT.items():
        assert [row[name] for row in csv_rows] == cells, name
    arguments = ["--input", str(tmp_path / "rows.parquet"), "--output", "-", "--keep", "list"]
    assert main([str(classes), *arguments]) == 2
    assert "column 'list' holds list<element: int64>, which CSV cannot hold" in capsys.readouterr().err


def test_columns_of_an_array_are_kept_in_its_type(iris: Path, tmp_path: Path) -> None:
    rows = np.arange(12).reshape(3, 4) + 2**53 + 1
    np.save(tmp_path / "rows.npy", rows)
    name = load_run(iris).preprocessing.feature_names[1]
    found = predicted(iris, tmp_path / "rows.npy", tmp_path / "out.csv", "--keep", name)
    assert [row[name] for row in found] == list(map(str, rows[:, 1]))
    assert (
        main([str(iris), "--input", str(tmp_path / "rows.npy"), "--output", f"{tmp_path}/o.parquet", "--keep", name])
        == 0
    )
    assert pyarrow.parquet.read_table(tmp_path / "o.parquet")[name].to_pylist() == rows[:, 1].tolist()


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_no_rows_in_are_no_rows_out(
    classes: Path, tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("id,age,city,year\n\n")
    assert (
        main([str(classes), "--input", f"{tmp_path}/rows.csv", "--output", f"{tmp_path}/{output}", "--keep", "id"]) == 0
    )
    told = capsys.readouterr()
    assert told.out.startswith("0 rows in") and "note: " in told.err and "rows.csv has no row" in told.err
    written = pyarrow.parquet.read_table(tmp_path / output) if output.endswith("parquet") else None
    names = (tmp_path / output).read_text().strip().split(",") if written is None else written.column_names
    assert names[:2] == ["id", "prediction"] and (written is None or written.num_rows == 0)
    assert evaluate([str(classes), "--input", f"{tmp_path}/rows.csv", "--target", "age"]) == 1
    assert "rows.csv has no row" in capsys.readouterr().err


def test_an_array_has_the_columns_of_training_in_their_order(
    iris: Path, values: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sklearn.datasets import load_iris

    data = load_iris()
    write_rows(
        tmp_path / "rows.csv", [dict(zip(data.feature_names, map(str, row), strict=True)) for row in data.data.tolist()]
    )
    np.save(tmp_path / "rows.npy", data.data)
    expected = predicted(iris, tmp_path / "rows.csv", tmp_path / "expected.csv")
    assert predicted(iris, tmp_path / "rows.npy", tmp_path / "out.csv") == expected
    np.save(tmp_path / "narrow.npy", data.data[:, :3])
    capsys.readouterr()
    assert main([str(iris), "--input", str(tmp_path / "narrow.npy"), "--output", "-"]) == 1
    assert "has 3 columns, and the model takes 4" in capsys.readouterr().err
    np.save(tmp_path / "three.npy", data.data[:, :2])
    assert main([str(values), "--input", str(tmp_path / "three.npy"), "--output", "-"]) == 1
    assert "holds numbers alone, and column 'city' has texts" in capsys.readouterr().err
    np.savez(tmp_path / "rows.npz", X=data.data, y=data.target)
    assert predicted(iris, tmp_path / "rows.npz", tmp_path / "out.csv") == expected


def test_an_array_that_holds_the_target_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((60, 4))
    rows[:, 1] = rows[:, 0] + rows[:, 3]
    np.save(tmp_path / "rows.npy", rows)
    run = trained(tmp_path / "run", f"{{file: {tmp_path / 'rows.npy'}, target: x1}}", "MSELoss")
    with_target = predicted(run, tmp_path / "rows.npy", tmp_path / "out.csv")
    np.save(tmp_path / "without.npy", np.delete(rows, 1, axis=1))
    assert predicted(run, tmp_path / "without.npy", tmp_path / "out.csv") == with_target
    capsys.readouterr()
    assert evaluate([str(run), "--input", str(tmp_path / "rows.npy"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]["rows"]
    rmse = np.sqrt(np.mean((numbers(with_target, "prediction")[:, 0] - rows[:, 1]) ** 2))
    assert scores["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert evaluate([str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == json.loads((run / "summary.json").read_text())["scores"]


def test_terminated_it_leaves_no_half_of_a_file(classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "rows.csv", rows=20)
    monkeypatch.setattr(rows_module, "ROWS_AT_ONCE", 7)
    predict, seen = prediction.predict, []

    def terminated(*arguments: Any) -> Any:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(*arguments)

    monkeypatch.setattr(prediction, "predict", terminated)
    with pytest.raises(SystemExit) as stopped:
        main([str(classes), "--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "out.csv")])
    assert stopped.value.code == 143
    assert seen[0] == seen[1] and len(seen) == 2
    assert seen[0][0].endswith(".writing") and seen[0][1:] == ["rows.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_pipe_in_and_out(classes: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "rows.csv", rows=3)
    write_rows(tmp_path / "rows.csv", [row | {"city": "Zürich"} for row in table])
    expected = predicted(classes, tmp_path / "rows.csv", tmp_path / "expected.csv")
    command = [sys.executable, "-m", "nanotorch.predict", str(classes), "--input", "-", "--output", "-"]
    with (tmp_path / "rows.csv").open("rb") as rows:
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        process = subprocess.run(
            [*command, "--keep", "city"], stdin=rows, capture_output=True, timeout=60, check=True, env=environment
        )
    (tmp_path / "piped.csv").write_bytes(process.stdout)
    piped = read_rows(tmp_path / "piped.csv")
    assert [row.pop("city") for row in piped] == [row["city"] for row in read_rows(tmp_path / "rows.csv")]
    assert piped == expected
    assert process.stderr.startswith(b"note: the target 'kind'")


def test_a_reader_that_stops_reading_is_no_error(classes: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "rows.csv", rows=3000)
    predict = f"{sys.executable} -m nanotorch.predict {classes} --input {tmp_path / 'rows.csv'} --output -"
    command = f"{predict} | head -1; echo ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert process.stdout.splitlines()[1:] == ["0"] and "Traceback" not in process.stderr


def test_scores_that_are_no_probabilities_are_said_not_to_be(classes: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "rows.csv", rows=3)
    run = load_run(classes)
    loss = run.config.loss.model_copy(update={"name": "MultiMarginLoss"})
    margin = replace(run, config=run.config.model_copy(update={"loss": loss}))
    for given, said in ((run, False), (margin, True)):
        done = prediction.predict_file(given, str(tmp_path / "rows.csv"), str(tmp_path / "out.csv"))
        assert any("MultiMarginLoss trains scores, not probabilities" in text for text in done.notes) == said


def test_a_model_of_one_column_takes_a_file_of_one_column(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "{file: TABLE, target: price, drop: [id, city, year, kind, sold]}", "MSELoss")
    (tmp_path / "rows.csv").write_text("age\n30\n40\n")
    found = numbers(predicted(run, tmp_path / "rows.csv", tmp_path / "out.csv"), "prediction")
    assert found.shape == (2, 1) and found[0] < found[1]


# ------------------------------------------------------------ what is wrong


HEADER = "age,city,year\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Age,town,year\n30,Rome,2001\n",
            "lacks 2 columns that the model was trained on: 'age' (did you mean 'Age'?), 'city'; it has",
        ),
        (
            HEADER + "30,Rome,2001\n30,Rome,soon\n",
            "rows.csv, line 3: column 'year' holds 'soon', which is not a number",
        ),
        (
            HEADER + '30,"Ro\nme",2001\n\n' + "30,Rome,2001\n" * 9 + "30,Rome,2e999\n",
            "rows.csv, line 14: column 'year' is inf, which is not finite",
        ),
        (HEADER + "30,Rome\n", "rows.csv, line 2: 2 cells, but the header has 3 columns"),
        ("", "rows.csv is empty"),
        ("age,city,year,age\n30,Rome,2001,1\n", "two columns, 1 and 4, have the name 'age'"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(
    classes: Path,
    tmp_path: Path,
    text: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows_module, "ROWS_AT_ONCE", 4)
    (tmp_path / "rows.csv").write_text(text)
    (tmp_path / "out.csv").write_text("what was here before")
    assert main([str(classes), "--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "out.csv")]) == 1
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and printed.out == ""
    assert (tmp_path / "out.csv").read_text() == "what was here before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "row.csv", "--output", "out.csv"], 1, "row.csv: there is no such file (did you mean 'rows.csv'?)"),
        (["--input", "rows.csv", "--output", "out.xlsx"], 2, "expected a name that ends in .csv or .parquet, or '-'"),
        (["--input", "rows.csv", "--output", "nowhere/out.csv"], 1, "No such file or directory"),
        (["--input", "rows.csv", "--output", "/dev/full"], 2, "expected a name that ends in .csv"),
        (
            ["--input", "rows.csv", "--output", "out.csv", "--keep", "idd"],
            2,
            "has no column 'idd' to keep (did you mean 'id'?)",
        ),
        (["--input", "rows.csv", "--output", "out.csv", "--keep", "prediction"], 2, "two columns 'prediction'"),
        (["--input", "array.npz", "--output", "out.csv"], 1, "array.npz cannot be read as a .npz file"),
        (["--input", "rows.npy", "--output", "out.csv"], 1, "rows.npy cannot be read as a NumPy array"),
        (["--input", "rows.parquet", "--output", "out.csv"], 1, "rows.parquet cannot be read as Parquet"),
    ],
)
def test_mistakes_are_sentences(
    classes: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_table(tmp_path / "rows.csv", rows=3)
    for name in ("array.npz", "rows.npy", "rows.parquet"):
        (tmp_path / name).write_bytes(b"no such thing")
    monkeypatch.chdir(tmp_path)
    if "prediction" in arguments:
        write_rows(tmp_path / "rows.csv", [{"prediction": "1", **row} for row in read_rows(tmp_path / "rows.csv")])
    assert main([str(classes), *arguments]) == code
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err
    assert not (tmp_path / "out.csv").exists()


def test_a_full_disk_is_one_sentence(classes: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "rows.csv", rows=2000)
    os.symlink("/dev/full", tmp_path / "out.csv")
    command = [
        sys.executable,
        "-m",
        "nanotorch.predict",
        str(classes),
        "--input",
        str(tmp_path / "rows.csv"),
        "--output",
        str(tmp_path / "out.csv"),
    ]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1 and "No space left on device" in process.stderr and "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "free"}, "line 3: the target 'kind' is 'free', which is none of the model's classes (cheap, dear, "),
        ({"kind": ""}, "line 3: the target 'kind' has no value"),
        (None, "scores need the truth, and "),
    ],
)
def test_scores_need_the_truth(
    classes: Path, tmp_path: Path, change: dict[str, str] | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "rows.csv", rows=3)
    if change is None:
        table = [{name: row[name] for name in row if name != "kind"} for row in table]
    else:
        table[1] |= change
    write_rows(tmp_path / "rows.csv", table)
    assert evaluate([str(classes), "--input", str(tmp_path / "rows.csv")]) == (2 if change is None else 1)
    assert message in capsys.readouterr().err


def test_scores_of_rows_of_a_dataset_without_a_name_for_its_target(
    iris: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sklearn.datasets import load_iris

    data = load_iris()
    rows = [dict(zip(data.feature_names, map(str, row), strict=True)) for row in data.data.tolist()]
    named = [{**row, "species": str(data.target_names[label])} for row, label in zip(rows, data.target, strict=True)]
    write_rows(tmp_path / "rows.csv", named)
    capsys.readouterr()
    assert evaluate([str(iris), "--input", str(tmp_path / "rows.csv"), "--target", "species", "--json"]) == 0
    every_row = json.loads(capsys.readouterr().out)["scores"]["rows"]
    assert evaluate([str(iris), "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    mean = sum(own["scores"][part]["accuracy"] * own["rows"][part] for part in own["rows"]) / 150
    assert every_row["accuracy"] == pytest.approx(mean)


@pytest.mark.parametrize("separator", [",", ";"])
def test_spaces_before_a_cell_are_kept(classes: Path, tmp_path: Path, separator: str) -> None:
    """A cell whose quotes come after a space is what stands between them, as everywhere."""
    rows = write_table(tmp_path / "rows.csv", rows=4, seed=2)
    cells = ["  a", "b ", f' "c{separator} d"', f'" e{separator} f"']
    lines = [separator.join(["note", *rows[0]])]
    lines += [
        separator.join([cell, *(f'"{value}"' for value in row.values())]) for cell, row in zip(cells, rows, strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    found = predicted(classes, tmp_path / "rows.csv", tmp_path / "out.csv", "--keep", "note")
    assert [row["note"] for row in found] == ["  a", "b ", f"c{separator} d", f" e{separator} f"]
