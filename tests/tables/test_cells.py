"""What the cells of a table mean: numbers in any notation, units, labels that are the same; every mistake at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from nanotorch.train.cli.evaluate import main as evaluate
from nanotorch.train.cli.export import main as export
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.cli.train import main as train
from nanotorch.train.config.loading import loads
from nanotorch.train.data.columns.notation import MISSING, Notation, spellings
from nanotorch.train.data.table import DataError
from nanotorch.train.data.table_file import table_file
from nanotorch.train.fit.loss_and_parts import class_weights
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.use.evaluation import score_rows
from nanotorch.train.use.loaded_run import load_run
from own_runs import read_rows

SECTIONS = (
    "name: t\nmodel: {hidden: [4]}\noptimizer: {name: Adam}\ntrain: {epochs: 1, batch_size: 16}\n"
    "loss: {name: LOSS}\ndata: {DATA}\n"
)


def config_of(data: str, loss: str = "BCEWithLogitsLoss") -> str:
    return SECTIONS.replace("LOSS", loss).replace("DATA", data)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str, name: str = "t.csv") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def column(cells: Sequence[str], name: str = "x") -> str:
    """A table with this column and a target, separated by semicolons."""
    return f"{name};y\n" + "".join(f"{cell};{row % 2}\n" for row, cell in enumerate(cells))


# ------------------------------------------------------------ numbers

IN_NOTATION: list[tuple[dict[str, Any], list[str], list[float]]] = [
    ({}, ["1.5", "-2e-3", " 7", "+1", "\u22124"], [1.5, -0.002, 7, 1, -4]),
    ({"decimal": ","}, ["1,5", "-2,25", "3"], [1.5, -2.25, 3]),
    ({"thousands": ","}, ["1,250", "999", "-1,234,567.5"], [1250, 999, -1234567.5]),
    ({"decimal": ",", "thousands": "."}, ["1.234,5", "1.250", "0,5"], [1234.5, 1250, 0.5]),
    ({"decimal": ",", "thousands": " "}, ["1 234,5", "1\u00a0250", "12\u202f000,25"], [1234.5, 1250, 12000.25]),
    ({"thousands": "'"}, ["1'234.5", "1\u2019250", "7"], [1234.5, 1250, 7]),
    ({"thousands": "_"}, ["1_000", "2_000_000.5", "7"], [1000, 2000000.5, 7]),
]


@pytest.mark.parametrize(("options", "cells", "values"), IN_NOTATION)
def test_numbers_in_the_notation_that_is_stated(
    written: Callable[[str], str], options: dict[str, Any], cells: list[str], values: list[float]
) -> None:
    table = table_file(written(column(cells)), "y", task="classification", separator=";", **options)
    assert table.features[:, 0].tolist() == values


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1,250", "2,500"], r"'1,250', which is 1.25 with data.decimal: ',' and 1250 with data.thousands: ','; set"),
        (
            ["950", "1,250", "12,000"],
            r"line 3: column 'x' holds '1,250', which is 1.25 with .* and 1250 with data.thou",
        ),
        (["1,5", "2,250"], r"'1,5', which is 1.5 with data.decimal: ','; set"),
        (["1,250", "1,250,000"], r"'1,250', which is 1250 with data.thousands: ','; set"),
        (
            ["7", "1.234,5", "8"],
            r"line 3: .*'1.234,5', which is 1234.5 with data.decimal: ',' and data.thousands: '\.';",
        ),
        (["1 234,5", "12"], r"'1 234,5', which is 1234.5 with data.decimal: ',' and data.thousands: ' '; set"),
        (["1'250", "900"], '1\'250", which is 1250 with data.thousands: "\'"; set'),
        (["1.250.000", "1.250"], r"'1.250.000', which is 1250000 with data.decimal: ',' and data.thousands: '\.';"),
        (["1_000", "2"], r"'1_000', which is 1000 with data.thousands: '_'; set"),
        (["$1,250", "$900"], r"'\$1,250', which is 1.25 with data.decimal: ',' and 1250 with data.thousands: ',';"),
        (["1,250", "1.5", "2"], r"'1,250', which is 1250 with data.thousands: ','; set"),
        (["1,5", "1.5", "2"], r"'1,5', and others in another notation; write all in one"),
        (
            ["$5", "5 \u20ac", "$7"],
            r"line 3: .* holds '5 \u20ac', and '\$5' in line 2: give all of its numbers one unit",
        ),
        (["5 kg", "5", "7 kg"], r"line 3: column 'x' holds '5', and '5 kg' in line 2: give all"),
        (["5", "7 kg", "8"], r"line 3: column 'x' holds '7 kg', and '5' in line 2: give all"),
        (["5 kg", "6 kg", "heavy"], r"line 4: column 'x' holds 'heavy', which is not a number, among 2 numbers in 3"),
        (["001", "2", "136A"], r"line 4: column 'x' holds '136A', which is not a number, among 2 numbers in 3 rows"),
        (["1", "2", "?"], r"line 4: column 'x' holds '\?', which is not a number, among 2 numbers in 3 rows; mend"),
    ],
)
def test_numbers_in_another_notation_are_never_another_value(
    written: Callable[[str], str], cells: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        table_file(written(column(cells)), "y", separator=";")


WAYS = [Notation(decimal, thousands) for decimal in ".," for thousands in (None, *",. '_") if decimal != thousands]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(WAYS), st.sampled_from(WAYS), st.lists(st.integers(-(10**9), 10**9), min_size=1), st.integers(0, 4)
)
def test_no_notation_reads_the_numbers_of_another_as_others(
    written_in: Notation, read_in: Notation, hundredths: list[int], digits: int
) -> None:
    values = [value / 10**digits for value in hundredths]
    cells = [
        f"{value:,.{digits}f}".translate(str.maketrans({",": written_in.thousands or "", ".": written_in.decimal}))
        for value in values
    ]
    assert written_in.numbers(cells) is not None and written_in.numbers(cells).tolist() == values  # type: ignore[union-attr]
    found = read_in.numbers(cells)
    doubtful = read_in.thousands is None and read_in.may_be_thousands(cells) != "no"
    if found is not None and not doubtful:
        assert found.tolist() == values or all(re.fullmatch(r"-?\d{1,3}[.,]\d{3}|-?\d{1,3}", cell) for cell in cells)


def test_a_full_stop_is_no_decimal_point_beside_a_decimal_comma(written: Callable[[str], str]) -> None:
    with pytest.raises(
        DataError, match=r"'1.250', which is 1.25 with data.decimal: '\.' and 1250 with data.thousands: '"
    ):
        table_file(written(column(["1.250", "2.500"])), "y", separator=";", decimal=",")
    with pytest.raises(DataError, match=r"data.thousands: ',' is data.decimal already"):
        table_file(written(column(["1"])), "y", decimal=",", thousands=",")
    with pytest.raises(DataError, match=r"'1,25', which is 1.25 with data.decimal: ','"):
        table_file(written(column(["1,25", "1,251"])), "y", separator=";", thousands=",")


def test_a_point_that_may_stand_before_thousands_is_said(written: Callable[[str], str]) -> None:
    said = (
        r"line 3: column 'x' holds '1.250', which is 1.25, and 1250 with data.decimal: ',' and data.thousands: '.'; the"
    )
    path = written(column(["950", "1.250", "12.400"]))
    with pytest.raises(DataError, match=re.escape(said)):
        table_file(path, "y", task="classification")
    stated = table_file(path, "y", task="classification", numeric=["x"])
    assert stated.features[:, 0].tolist() == [950, 1.25, 12.4] and not stated.notices
    cells = ["950", "1.250", "12.400"]
    as_target = written("x;y\n" + "".join(f"{k};{cell}\n" for k, cell in enumerate(cells)), "u.csv")
    for task in ("auto", "regression"):
        with pytest.raises(DataError, match=r"and 1250 with data.decimal"):
            table_file(as_target, "y", task=task, separator=";")
        assert table_file(as_target, "y", task=task, separator=";", numeric=["y"]).targets[1, 0] == 1.25
    german = table_file(path, "y", task="classification", decimal=",", thousands=".")
    assert german.features[:, 0].tolist() == [950, 1250, 12400]
    table = table_file(written(column(["1.250", "2.345", "-3.100", "NA"])), "y", task="classification")
    assert table.notices == (
        "column 'x': '1.250' is read as 1.25; it would be 1250 with data.decimal: ',' and data.thousands: '.'",
    )
    for cells in (["1.25", "950"], ["0.125", "1.250"], ["1.250", "1234"], ["5.1", "4.9"], ["1", "2"], ["1.250", "1.2"]):
        assert table_file(written(column(cells)), "y", task="classification").notices == ()
    said = "'1,250', which is 1.25, and 1250 with data.decimal: '.' and data.thousands: ','"
    with pytest.raises(DataError, match=re.escape(said)):
        table_file(written(column(["950", "1,250"])), "y", separator=";", task="classification", decimal=",")


@pytest.mark.parametrize(
    ("cells", "unit", "values"),
    [
        (["12%", "7.5 %", "NA"], "%", [12, 7.5, np.nan]),
        (["$1.50", "-$2", "$-3"], "$", [1.5, -2, -3]),
        (["3 kg", "4kg"], "kg", [3, 4]),
        (["EUR 3", "EUR 4.5"], "EUR", [3, 4.5]),
        (["20\u00b0C", "-3\u00b0C"], "\u00b0C", [20, -3]),
    ],
)
def test_one_unit_of_a_column_is_known_and_said(
    written: Callable[[str], str], cells: list[str], unit: str, values: list[float]
) -> None:
    table = table_file(written(column(cells)), "y", task="classification", separator=";")
    np.testing.assert_array_equal(table.features[:, 0], values)
    assert table.units == {"x": unit}
    assert table.notices[0] == f"column 'x' holds numbers with the unit {unit!r}: {cells[0]!r} is {values[0]:g}"
    assert table_file(written(column(cells)), "y", categorical=["x"], separator=";").categories


@pytest.mark.parametrize(
    "cells", [["Q1", "Q2"], ["1st", "2nd"], ["3k", "2M"], ["v1", "v2"], ["2020-1-2-3", "2020-1-2-4"]]
)
def test_what_only_looks_like_a_unit_is_none(written: Callable[[str], str], cells: list[str]) -> None:
    table = table_file(written(column(cells)), "y", task="classification")
    assert table.categories == {"x": tuple(sorted(cells))} and not table.units


def test_a_unit_that_is_not_well_known_is_read_where_it_is_stated(written: Callable[[str], str]) -> None:
    path = written(column(["3 parsecs", "4 parsecs", "5 parsecs"]))
    guessed = table_file(path, "y", task="classification")
    assert guessed.categories and "most look like numbers with units ('3 parsecs', " in guessed.notices[0]
    stated = table_file(path, "y", task="classification", numeric=["x"])
    assert stated.features[:, 0].tolist() == [3, 4, 5] and stated.units == {"x": "parsecs"}


def test_numbers_among_many_texts_are_categories_and_said(written: Callable[[str], str]) -> None:
    table = table_file(written(column(["2", "more", "many", "few"])), "y", task="classification")
    assert table.categories == {"x": ("2", "few", "many", "more")}
    assert table.notices[0].startswith(
        "column 'x' holds categories, though 1 of 4 values are numbers (others: 'more', "
    )


def rows_with_units(rows: int = 60) -> str:
    numbers = np.random.default_rng(0)
    lines = [
        f'"${price:,.2f}";{weight:.1f} kg;{price * 2 + weight:,.1f} \u20ac'
        for price, weight in numbers.uniform(500, 5000, (rows, 2))
    ]
    return "price;weight;cost\n" + "\n".join(lines) + "\n"


def test_units_and_notation_are_those_of_predict_evaluate_and_onnx(
    written: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = written(rows_with_units()), str(tmp_path / "run")
    config = written(config_of(f"file: {path}, target: cost, thousands: ','", "MSELoss"), "c.yaml")
    assert train([config, "--output", run, "--quiet"]) == 0
    preprocessing = load_run(run).preprocessing
    assert preprocessing.units == {"price": "$", "weight": "kg", "cost": "\u20ac"}
    assert "holds numbers with the unit" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert predict([run, "--input", path, "--output", str(tmp_path / "p.csv")]) == 0
    expected = [float(row["prediction"]) for row in read_rows(tmp_path / "p.csv")]
    # the same numbers without units, in a file of numbers
    plain = "price,weight\n" + "".join(
        f"{price},{weight}\n"
        for price, weight in (
            (row.split(";")[0].strip('"$').replace(",", ""), row.split(";")[1][:-3])
            for row in Path(path).read_text(encoding="utf-8").splitlines()[1:]
        )
    )
    capsys.readouterr()
    assert predict([run, "--input", written(plain, "plain.csv"), "--output", str(tmp_path / "q.csv")]) == 0
    assert (
        "column 'price': 60 numbers without the unit '$' that all had in training, taken as they"
        in capsys.readouterr().err
    )
    assert [float(row["prediction"]) for row in read_rows(tmp_path / "q.csv")] == expected
    assert predict([run, "--input", written("price,weight\n3 \u20ac,4 kg\n", "bad.csv"), "--output", "-"]) == 1
    assert (
        "line 2: column 'price' holds '3 \u20ac', and in training its numbers had the unit '$'"
        in capsys.readouterr().err
    )
    assert evaluate([run, "--input", path, "--json"]) == 0
    of_rows = json.loads(capsys.readouterr().out)["scores"]["rows"]["rmse"]
    truth = [
        float(row.split(";")[2][:-2].replace(",", ""))
        for row in Path(path).read_text(encoding="utf-8").splitlines()[1:]
    ]
    assert of_rows == pytest.approx(np.sqrt(np.mean((np.array(expected) - truth) ** 2)))
    assert export([run, "--onnx", str(tmp_path / "m.onnx")]) == 0
    values = table_file(path, "cost", thousands=",").features
    given = {name: values[:, [k]] for k, name in enumerate(("price", "weight"))}
    found = ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, given)[0]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


# ------------------------------------------------------------ labels


def test_one_and_one_point_nought_are_one_class_and_one_category(written: Callable[[str], str]) -> None:
    rows = [f"{('3', '3.0', '4', '4.')[row % 4]},{row},{('1', '1.0', '0', '-0.0')[row % 4]}" for row in range(16)]
    table = table_file(written("c,x,y\n" + "\n".join(rows)), "y", categorical=["c"])
    assert table.target_names == ("0", "1") and table.targets.tolist() == [1, 1, 0, 0] * 4
    assert table.categories == {"c": ("3", "4")} and table.features[:, 0].tolist() == [0, 0, 1, 1] * 4


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (("0", "1"), [("1", 1), ("1.0", 1), ("True", 1), ("false", 0), ("TRUE", 1)]),
        (("False", "True"), [("1", 1), ("0.0", 0), ("true", 1)]),
        (("no", "yes"), [("1", None), ("True", None)]),
        (("1", "2", "3"), [("1.0", 0), ("True", None)]),
        (("-1.0", "1.0"), [("-1", 0), ("1", 1)]),  # of a run that an earlier version trained
        (("+1", "-1"), [("1", 0), ("1.0", 0)]),
        (("01", "1"), [("1.0", 1), ("01.0", 0)]),
        (("1.1", "1.10"), [("1.1", 0), ("1.10", 1)]),
    ],
)
def test_spellings_of_the_same_name(names: Sequence[str], same: list[tuple[str, int | None]]) -> None:
    assert [(text, spellings(names).get(text)) for text, _ in same] == same


CONTAINERS: dict[str, Callable[[list[int]], Any]] = {
    "int64": lambda labels: pyarrow.array(labels, pyarrow.int64()),
    "double": lambda labels: pyarrow.array(labels, pyarrow.float64()),
    "bool": lambda labels: pyarrow.array([label == 1 for label in labels]),
    "string": lambda labels: pyarrow.array([f"{label}.0" for label in labels]),
}


@pytest.mark.parametrize("stored", ["csv", *CONTAINERS])
def test_a_class_is_the_same_from_every_file(
    stored: str, written: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, x = [row % 2 for row in range(40)], [float(row % 5) for row in range(40)]
    for name, container in CONTAINERS.items():
        columns = {"c": container(labels), "x": x, "y": container(labels)}
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
    for name, texts in {"csv": ("0", "1"), "floats": ("0.0", "1.0"), "words": ("False", "True")}.items():
        written(
            "c,x,y\n" + "".join(f"{texts[a]},{b},{texts[a]}\n" for a, b in zip(labels, x, strict=True)), f"{name}.csv"
        )
    file = tmp_path / ("csv.csv" if stored == "csv" else f"{stored}.parquet")
    data = f"file: {file}, target: y, categorical: [c], task: classification"
    config = written(config_of(data), "c.yaml")
    run = str(tmp_path / "run")
    assert train([config, "--output", run, "--quiet"]) == 0
    assert load_run(run).preprocessing.target_names == (("False", "True") if stored == "bool" else ("0", "1"))
    told = set()
    for other in ["csv.csv", "floats.csv", "words.csv", *(f"{name}.parquet" for name in CONTAINERS)]:
        capsys.readouterr()
        assert evaluate([run, "--input", str(tmp_path / other), "--json"]) == 0
        out, err = capsys.readouterr()
        told.add(json.dumps(json.loads(out)["scores"]))
        assert "unknown to the model" not in err
    assert len(told) == 1


@pytest.mark.parametrize("labels", [[0.0, 1.0, 1.0], [False, True, True], ["0", "1", "1.0"], [b"0", b"1", b"1.0"]])
def test_labels_of_arrays(labels: list[Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=np.arange(60.0).reshape(30, 2), y=np.array(labels * 10))
    table = table_file(str(tmp_path / "t.npz"), "y", task="classification")
    assert table.target_names == (("False", "True") if labels[0] is False else ("0", "1"))
    assert table.targets.tolist() == [0, 1, 1] * 10


def test_truth_values_are_numbers_where_the_model_takes_numbers(written: Callable[[str], str]) -> None:
    path = written("x,y\n" + "1,0\n0,1\n" * 20)
    config = config_of(f"file: {path}, target: y")
    preprocessing = prepare(loads(config)).preprocessing
    expected = preprocessing.encode({"x": [1, 0]})[0]
    for values in ([True, False], ["True", "FALSE"], [" true", 0.0], np.array([True, False])):
        np.testing.assert_array_equal(preprocessing.encode({"x": values})[0], expected)


@pytest.mark.parametrize("value", ["true", "False", True])
def test_truth_values_are_no_numbers_where_the_column_held_others(written: Callable[[str], str], value: Any) -> None:
    path = written("x,z,y\n" + "1,0,0\n2,1,1\n" * 20)
    preprocessing = prepare(loads(config_of(f"file: {path}, target: y"))).preprocessing
    assert preprocessing.truths == ("z",) == type(preprocessing).from_state(preprocessing.state()).truths
    for values in (np.array([1, value], object), np.array([value, value])):
        with pytest.raises(DataError, match=r"column 'x' holds '?(true|True|False)'?, which is not a number"):
            preprocessing.encode({"x": values, "z": [0, 1]})
    same = 0 if value == "False" else 1
    expected = preprocessing.encode({"x": [1], "z": [same]})[0]
    np.testing.assert_array_equal(preprocessing.encode({"x": [1], "z": [value]})[0], expected)


def test_what_is_read_as_nan_is_a_number_only_where_it_is_missing(written: Callable[[str], str]) -> None:
    path = written("x,y\n" + "".join(f"{row % 7},{row % 2}\n" for row in range(40)) + "nan,1\n")
    assert np.isnan(table_file(path, "y").features[-1, 0])
    with pytest.raises(DataError, match="holds 'nan', which is not a number"):
        table_file(path, "y", missing_values={"only": [""]})
    assert np.isnan(table_file(path, "y", missing_values={"only": ["", "nan"]}).features[-1, 0])
    names = written("x,y\n" + "nan,1\nana,0\n" * 9)
    assert table_file(names, "y", missing_values={"only": [""]}).categories == {"x": ("ana", "nan")}
    assert Notation(missing=frozenset([""])).numbers(["1", "NaN"]) is None


def test_onnx_knows_the_spellings_and_the_other_category(written: Callable[[str], str], tmp_path: Path) -> None:
    lines = [f"{row % 3},{'' if row % 7 == 0 else f'k{row % 11}'},{row % 2}" for row in range(110)]
    path, run = written("a,b,y\n" + "\n".join(lines)), str(tmp_path / "run")
    data = f"file: {path}, target: y, categorical: [a], max_categories: 5"
    assert train([written(config_of(data), "c.yaml"), "--output", run, "--quiet"]) == 0
    category = load_run(run).preprocessing.categories["b"]
    assert category.names[-2:] == ("(other)", "(missing)") and len(category.values) == 4
    assert export([run, "--onnx", str(tmp_path / "m.onnx")]) == 0
    rows = {
        "a": ["1", "1.0", "2.0", "0"] * 3,
        "b": [*category.values, "k99", "", "NA", "n/a", "what", "k0", "k1", "k2"],
    }
    given = {name: np.array(texts, object)[:, None] for name, texts in rows.items()}
    found = ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, given)[1]
    written("a,b\n" + "".join(f"{a},{b}\n" for a, b in zip(rows["a"], rows["b"], strict=True)), "new.csv")
    assert predict([run, "--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "p.csv")]) == 0
    expected = [float(row["probability_1"]) for row in read_rows(tmp_path / "p.csv")]
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-6)


# ------------------------------------------------------------ missing values, and every mistake at once


def test_missing_values_are_added_or_all_of_them(written: Callable[[str], str]) -> None:
    path = written("x,c,y\n1,?,0\n?,a,1\nn/a,<NA>,0\n4,None,1\n")
    added = table_file(path, "y", missing_values=["?"], task="classification")
    assert np.isnan(added.features[:, 0]).tolist() == [False, True, True, False]
    assert added.categories == {"c": ("a",)}
    only = table_file(path, "y", missing_values={"only": ["?", "n/a"]}, task="classification")
    assert only.categories == {"c": ("<NA>", "None", "a")} and np.isnan(only.features[1:3, 0]).all()
    with pytest.raises(DataError, match=r"line 3: column 'x' holds '\?', which is not a number"):
        table_file(path, "y")
    assert {"", "NA", "n/a", "<NA>", "nan", "None"} <= set(MISSING)
    config = config_of("file: t.csv, target: y, missing_values: {only: ['?']}")
    assert loads(config).data.arguments["missing_values"] == {"only": ["?"]}


def test_a_number_that_stands_for_a_missing_value_does_so_however_it_is_written(
    written: Callable[[str], str], tmp_path: Path
) -> None:
    cells = ["-999", "-999.0", "-999.00", " -999", "5", "-99", "-9990", ""]
    rows = "".join(f"{cell};{cell};{row / 3}\n" for row, cell in enumerate(cells))
    of_csv = table_file(written("x;c;y\n" + rows), "y", categorical=["c"], missing_values=["-999"])
    numbers = [-999, -999, -999, -999, 5, -99, -9990, None]
    whole = pandas.DataFrame({"x": pandas.array(numbers, "Int64"), "c": pandas.array(numbers, "Float64")})
    whole.assign(y=np.arange(8) / 3).to_parquet(tmp_path / "t.parquet")
    of_parquet = table_file(str(tmp_path / "t.parquet"), "y", categorical=["c"], missing_values=["-999.0"])
    assert of_csv.categories == of_parquet.categories == {"c": ("-99", "-9990", "5")}
    for table in (of_csv, of_parquet):
        np.testing.assert_array_equal(table.features[:, 0], [*[np.nan] * 4, 5, -99, -9990, np.nan])
        np.testing.assert_array_equal(table.features[:, 1], [*[np.nan] * 4, 2, 0, 1, np.nan])
    preprocessing = prepare(
        loads(
            config_of(
                f"file: {tmp_path / 't.csv'}, target: c, missing_values: ['-999'], "
                "missing_target: drop, task: regression, validation_size: 0.25, test_size: 0.25",
                "MSELoss",
            )
        )
    ).preprocessing
    columns: dict[str, Any] = {"x": np.array([-999.0, 5.0]), "y": ["-999.0", "1"]}
    lacking = {"x": [None, 5.0], "y": ["", "1"]}
    np.testing.assert_array_equal(preprocessing.encode(columns)[0], preprocessing.encode(lacking)[0])


def test_truth_values_in_other_letters_are_one_class(written: Callable[[str], str]) -> None:
    path = written("x,c,y\n1,TRUE,false\n2,true,True\n3,False,FALSE\n4,True,true\n")
    table = table_file(path, "y")
    assert table.target_names == ("False", "True") and table.targets.tolist() == [0, 1, 0, 1]
    assert table.categories == {"c": ("False", "True")} and table.features[:, 1].tolist() == [1, 1, 0, 1]
    assert table_file(written("x,y\n1,true\n2,false\n3,true\n4,false\n"), "y").target_names == ("false", "true")


def test_a_class_named_none_says_how(written: Callable[[str], str]) -> None:
    path = written("x,y\n" + "1,None\n2,b\n3,None\n" * 8)
    with pytest.raises(DataError, match=r"line 2: the target 'y' has no value, as one of 16 rows; fill it in, or remo"):
        table_file(path, "y")
    with pytest.raises(DataError, match=r"\(if 'None' is a class: data.missing_values: \{only: \[''\]\}\)"):
        table_file(path, "y")
    table = table_file(path, "y", missing_values={"only": [""]})
    assert table.target_names == ("None", "b")


def test_rows_without_a_target_are_left_out_if_that_is_asked_for(
    written: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written("x,y\n" + "".join(f"{row},{'' if row == 3 else row % 2}\n" for row in range(30)))
    table = table_file(path, "y", missing_target="drop")
    assert len(table) == 29 and table.numbers is not None and table.numbers.tolist() == [0, 1, 2, *range(4, 30)]
    assert (
        table.notices[0]
        == "1 of 30 rows have no target and are left out (data.missing_target: drop), the first in line 5"
    )
    with pytest.raises(DataError, match=r"line 9: column 'x' is inf"):
        table_file(written("x,y\n" + "1,0\n2,1\n3,\n" * 2 + "4,1\ninf,0\n"), "y", missing_target="drop")
    path = written("x,y\n" + "".join(f"{row},{'' if row == 3 else row % 2}\n" for row in range(30)))
    data = f"file: {path}, target: y, missing_target: drop"
    config, run = (written(config_of(data), "c.yaml"), str(tmp_path / "run"))
    assert train([config, "--output", run, "--quiet"]) == 0
    capsys.readouterr()
    assert evaluate([run, "--input", path]) == 0
    out, err = capsys.readouterr()
    assert "1 rows without a target are left out" in err and " 29 " in out


def test_every_mistake_of_a_table_at_once(written: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = '1,?,x,"1,250",5 kg,2,\n2,2,y,"2,500",6,inf,0\n3,3,z,"3,000",7 kg,4,1\n'
    path = written("a,b,c,d,e,f,y\n" + rows * 4)
    data = f"file: {path}, target: y, numeric: [c, g], drop: [h, y]"
    config = config_of(data)
    assert train([written(config, "c.yaml"), "--quiet"]) == 2
    told = capsys.readouterr().err
    for said in (
        "data.numeric: ",
        "no column 'g', which data.numeric names",
        "no column 'h', which data.drop names",
        "data.drop: names 'y', which is the target",
        "line 2: column 'b' holds '?', which is not a number, among 8 numbers in 12 rows",
        "line 2: column 'c' holds 'x', which is not a number; mend it",
        "line 2: column 'd' holds '1,250', which is 1.25 with data.decimal: ',' and 1250 with data.thousands: ','",
        "line 3: column 'e' holds '6', and '5 kg' in line 2",
        "line 3: column 'f' is inf, which is not finite",
        "8 problems in the data",
    ):
        assert said in told, said
    with pytest.raises(DataError) as caught:
        table_file(path, "y")
    assert len(caught.value.problems) == 5  # b, d, e, f and the target
    wide = written(",".join(f"c{k}" for k in range(40)) + ",y\n" + (",".join(["inf"] * 40) + ",1\n") * 2)
    with pytest.raises(DataError) as caught:
        table_file(wide, "y")
    assert len(caught.value.problems) == 41 and str(caught.value).endswith("... and 16 more")


def test_the_first_mistake_of_every_column_of_new_rows(
    written: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{row * 3},2020-01-{row % 28 + 1:02},{row % 5},{row % 2}\n" for row in range(40))
    config = written(config_of(f"file: {written('a,when,b,y' + chr(10) + rows)}, target: y"), "c.yaml")
    assert train([config, "--output", str(tmp_path / "run"), "--quiet"]) == 0
    capsys.readouterr()
    new = written("a,when,b,y\nx,2020-01-01,1,0\n1,soon,2,0\n2,later,1 kg,3\n", "new.csv")
    assert predict([str(tmp_path / "run"), "--input", new, "--output", "-"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 3 and "line 3: column 'when' holds 'soon'" in said
    assert "line 2: column 'a' holds 'x'" in said and "line 4: column 'b' holds '1 kg'" in said
    assert evaluate([str(tmp_path / "run"), "--input", new]) == 1
    assert capsys.readouterr().err.endswith(
        "line 4: the target 'y' is '3', which is none of the model's classes (0, 1)\n"
    )


def test_mistakes_in_new_rows_name_options(
    written: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = written("a,y\n" + "".join(f"{k / 8},{k % 2}\n" for k in range(40)))
    config = written(config_of(f"file: {rows}, target: y"), "c.yaml")
    assert train([config, "--output", str(tmp_path / "run"), "--quiet"]) == 0
    capsys.readouterr()
    new = written('a,y\n"1,250",0\n2,1\n', "new.csv")
    for command in ([predict, "--output", "-"], [evaluate]):
        assert command[0]([str(tmp_path / "run"), "--input", new, *command[1:]]) == 1
        said = capsys.readouterr().err
        assert "1.25 with --decimal ','" in said and "1250 with --thousands ','" in said and "data." not in said


def test_a_column_is_not_called_as_a_part_of_another(written: Callable[[str], str]) -> None:
    path = written("when: year,when,y\n" + "".join(f"{row},{2000 + row}-01-01,{row}.5\n" for row in range(9)))
    with pytest.raises(DataError, match=r"column 'when: year' is called as what the model sees of column 'when'; rena"):
        table_file(path, "y")
    assert "when: elapsed (days)" in table_file(path, "y", drop=["when: year"]).feature_names


def test_every_row_of_another_length_and_every_name_that_comes_twice(written: Callable[[str], str]) -> None:
    rows = ["1,2"] * 30
    for number in (2, 5, 6):
        rows[number] = "1,2,3"
    said = "line 4: 3 cells, but the header has 2 columns, and 2 further lines have too few or too many: 7, 8$"
    with pytest.raises(DataError, match=said):
        table_file(written("\n".join(["x,y", *rows])), "y")
    rows[10:29] = ["1"] * 19
    with pytest.raises(
        DataError, match=r"line 4: 3 cells, .* 21 further lines have too few or too many: 7, .* \.\.\.$"
    ):
        table_file(written("\n".join(["x,y", *rows])), "y")
    with pytest.raises(
        DataError, match=r"columns, 1 and 2, have the name 'a'; rename one; so have others the names 'b'$"
    ):
        table_file(written("a,a,b,b,y\n1,2,3,4,5\n"), "y")


def test_weights_of_classes_by_any_spelling_of_their_names(written: Callable[[str], str]) -> None:
    path = written("x,y\n" + "1,1.0\n2,0.0\n" * 20)
    config = config_of(f"file: {path}, target: y")
    for name in ("1", "1.0", "true"):
        data = prepare(loads(config))
        weights = class_weights({name: 3.0}, data.parts["train"])
        assert weights is not None and weights.tolist() == [1.0, 3.0]


def test_a_frame_with_texts_of_numbers(written: Callable[[str], str]) -> None:
    path = written("x,c,y\n" + "1,1,0\n2,2,1\n3,1,0\n" * 8)
    config = config_of(f"file: {path}, target: y, categorical: [c]")
    preprocessing = prepare(loads(config)).preprocessing
    frame = pandas.DataFrame({"x": ["1", "2.0", None], "c": [1.0, 2.0, 1.0]})
    same = pandas.DataFrame({"x": [1, 2, np.nan], "c": ["1", "2", "1"]})
    np.testing.assert_array_equal(preprocessing.encode(frame)[0], preprocessing.encode(same)[0])
    with pytest.raises(DataError, match=r"row 1: column 'x' holds '1,5', which is 1.5 with data.decimal: ','"):
        preprocessing.encode({"x": ["1,5"], "c": ["1"]})
    with pytest.raises(DataError, match=r"row 1: column 'x' holds '5 kg', and in training its numbers had no unit"):
        preprocessing.encode({"x": ["5 kg"], "c": ["1"]})


def test_notation_refuses_what_is_not_grouped_in_threes() -> None:
    notation = Notation(".", ",")
    assert [notation.is_number(text) for text in ("1,25", "1,2500", ",250", "1,250,00", "12,345", "1.2,345")] == [
        *[False] * 4,
        True,
        False,
    ]


# ------------------------------------------------------------ rare classes


def rare_classes() -> str:
    labels = ["a", "b"] * 20 + ["r1", "r2", "r2", "r3"] + ["a"]
    return "x,y\n" + "".join(f"{row},{label}\n" for row, label in enumerate(labels))


def test_rare_classes_are_refused_all_at_once(written: Callable[[str], str]) -> None:
    config = config_of(f"file: {written(rare_classes())}, target: y", "CrossEntropyLoss")
    with pytest.raises(DataError) as caught:
        prepare(loads(config))
    assert [str(problem).partition(":")[0] for problem in caught.value.problems] == [
        f"class {name!r} has {count} rows" for name, count in (("r1", 1), ("r2", 2), ("r3", 1))
    ]
    assert all("data.rare: group puts such classes together" in str(problem) for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("how", "names", "loss"),
    [("group", ("a", "b", "(other)"), "CrossEntropyLoss"), ("drop", ("a", "b"), "BCEWithLogitsLoss")],
)
def test_rare_classes_are_grouped_or_left_out(
    how: str,
    names: Sequence[str],
    loss: str,
    written: Callable[[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, run = written(rare_classes()), str(tmp_path / "run")
    data = f"file: {path}, target: y, rare: {how}"
    config = loads(config_of(data, loss))
    parts = prepare(config).parts
    assert all(part.target_names == names for part in parts.values())
    assert sum(map(len, parts.values())) == (45 if how == "group" else 41)
    texts = [row["y"] for row in read_rows(Path(path))]
    for part in parts.values():
        assert part.numbers is not None
        told = [texts[int(x)] if texts[int(x)] in names else "(other)" for x in part.features[:, 0]]
        assert [names[label] for label in part.targets] == told
    assert train([written(config_of(data, loss), "c.yaml"), "--output", run, "--no-progress"]) == 0
    assert re.search("3 classes (of|that have) too few", capsys.readouterr().out)
    assert evaluate([run, "--input", path, "--json"]) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["rows"] == {"rows": 45 if how == "group" else 41}
    assert evaluate([run]) == 0 and "the data are not what" not in capsys.readouterr().err
    assert (
        train(
            [written(config_of(data, loss), "c.yaml"), "--output", run, "--quiet", "--resume", "auto", "train.epochs=2"]
        )
        == 0
    )
    with pytest.raises(DataError, match=r"line 2: the target 'y' is 'new', which is none of the model's classes"):
        score_rows(load_run(run), written("x,y\n1,new\n", "new.csv"))


@pytest.mark.parametrize(
    ("how", "said"), [("group", "class 'b' (1) alone has too few rows"), ("drop", "no two others")]
)
def test_rare_classes_that_leave_too_little(how: str, said: str, written: Callable[[str], str]) -> None:
    path = written("x,y\n" + "1,a\n" * 20 + "2,b\n")
    with pytest.raises(DataError, match=re.escape(said)):
        prepare(loads(config_of(f"file: {path}, target: y, rare: {how}")))


def test_folds_agree_on_the_rare_classes(written: Callable[[str], str]) -> None:
    labels = ["a", "b"] * 12 + ["c"] * 3 + ["d"] * 2 + ["e"] * 2
    path = written("x,y\n" + "".join(f"{k},{label}\n" for k, label in enumerate(labels)))
    config = config_of(f"file: {path}, target: y, rare: group", "CrossEntropyLoss")
    folds = [prepare(loads(config, overrides=[f"data.fold=[{fold}, 3]"])) for fold in (1, 2, 3)]
    assert {fold.parts["test"].target_names for fold in folds} == {("a", "b", "c", "(other)")}


def test_long_names_do_not_flood_notices(written: Callable[[str], str]) -> None:
    name, text = "n" * 500, "t" * 500
    path = written(f"{name},c,y\n" + "".join(f"{row / 4},{text}{row % 3},{row % 2}\n" for row in range(60)))
    preprocessing = prepare(loads(config_of(f"file: {path}, target: y"))).preprocessing
    _, told = preprocessing.encode({name: [None, 1], "c": ["u" * 500, None]})
    assert len(told) == 3 and max(map(len, told)) < 250
    with pytest.raises(DataError) as refused:
        preprocessing.encode({name: ["x" * 500], "c": ["a"]})
    assert len(str(refused.value)) < 250
    with pytest.raises(DataError) as refused:
        preprocessing.encode({"c": ["a"]})
    assert len(str(refused.value)) < 250
