"""Tables of one's own: what is read, what is learnt from the training part, and one sentence for every bad file."""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nanotorch as torch
from nanotorch.train.cli.train import main
from nanotorch.train.config.loading import loads, resolved
from nanotorch.train.config.strict_yaml import ConfigError
from nanotorch.train.data import datasets
from nanotorch.train.data.csv_file import read_csv
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.split import split
from nanotorch.train.data.table import DataError, Table, TableError
from nanotorch.train.data.table_file import read_columns, table_file
from nanotorch.train.data.text_format import TextFormat
from nanotorch.train.fit.build import build
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.model.embedding import EmbeddedColumns
from nanotorch.train.run.run import run
from nanotorch.train.use.loaded_run import load_run

CONFIG = """\
name: people
data: {file: people.csv, target: churn, drop: [id]}
model: {name: mlp, hidden: [8]}
loss: {name: BCEWithLogitsLoss}
optimizer: {name: Adam, lr: 0.02}
train: {epochs: 3, batch_size: 32}
"""


def write_people(path: Path, rows: int = 160) -> None:
    """Text labels, a categorical column, missing values in numbers and in categories."""
    numbers = random.Random(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "age", "income", "city", "churn"])
        for row in range(rows):
            city = numbers.choice(["Graz", "Wien", "Linz", "Zürich"])
            income = numbers.gauss(3000, 500)
            churn = "yes" if (income - 3000) / 500 + 1.5 * (city == "Graz") > 0.3 else "no"
            age = "" if row % 9 == 4 else numbers.randint(18, 80)
            writer.writerow([row, age, round(income, 2), "NA" if row % 20 == 7 else city, churn])


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "people.csv")
    return tmp_path / "people.csv"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    """Write a text to table.csv and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "table.csv"
        path.write_text(text, encoding="utf-8", newline="")
        return str(path)

    return write


# ------------------------------------------------------------ the config


def test_a_file_stands_in_for_the_name() -> None:
    config = loads(CONFIG)
    assert config.data.name == "file" and config.data.arguments["target"] == "churn"
    assert "name: file" not in resolved(config)
    assert loads(resolved(config)) == config
    assert loads(CONFIG, overrides=["data.target=[a, b]", "loss.name=MSELoss"]).data.arguments["target"] == ("a", "b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.name=iris", "data.name: give either name, for a registered dataset, or file, not both"),
        ("data={target: y}", "data.name: required key is missing; or give file: PATH; the known names are:"),
        ("data={file: a.csv}", "data.target: required key is missing (string or list of string)"),
        ("data.targt=x", "data.targt: unknown key (did you mean 'target'?)"),
        ("data.task=clustering", "expected 'auto' or 'classification' or 'regression', got the text 'clustering'"),
        ("data.task=regression", "BCEWithLogitsLoss is for binary or multilabel, but file is regression"),
        ("data.max_categories=0", "expected int >= 1 or 'auto', got 0"),
    ],
)
def test_mistakes_in_the_section_are_config_errors(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(CONFIG, "c.yaml", [override])
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


# ------------------------------------------------------------ from a file to a trained model


def test_train_on_a_table(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(loads(CONFIG), progress_bar=False)
    assert result.scores["test"]["accuracy"] > 0.5
    assert "note: target 'churn': classification, 2 different values (data.task states it)" in capsys.readouterr().out
    preprocessing = load_run(result.directory).preprocessing
    assert preprocessing.target_names == ("no", "yes")
    assert preprocessing.input_names == (
        "age",
        "income",
        "age is missing",
        "city=Graz",
        "city=Linz",
        "city=Wien",
        "city=Zürich",
        "city=(missing)",
    )


def test_embeddings_are_learnt(people: Path) -> None:
    config = loads(CONFIG, overrides=["data.categories=embedding"])
    data = prepare(config)
    training, _, parts, _ = build(config, data)
    front = training.model[0]
    assert isinstance(front, EmbeddedColumns)
    assert data.preprocessing.input_names == ("age", "income", "age is missing", "city")
    assert data.preprocessing.embeddings == (5,)  # four cities and "missing"
    assert front.tables[0].weight.shape == (5, 3) and front.out_features == 6
    assert parts["train"].dataset.tensors[0][:, 3].max().item() == 4
    before = front.tables[0].weight.detach().clone()
    result = run(config, progress_bar=False)
    assert not torch.equal(before, result.model[0].tables[0].weight)


@pytest.mark.parametrize("categories", ["one_hot", "embedding"])
def test_classes_and_splits_are_stratified_and_keep_their_names(people: Path, categories: str) -> None:
    data = prepare(loads(CONFIG, overrides=[f"data.categories={categories}"]))
    shares = [float(part.targets.mean()) for part in data.parts.values()]
    assert max(shares) - min(shares) < 0.03
    assert all(part.target_names == ("no", "yes") for part in data.parts.values())


def test_several_targets_are_a_regression(written: Callable[[str], str]) -> None:
    path = written("a,b,x\n1.5,2,3\n2.5,3,1\n4,5,5\n")
    table = table_file(path, ["b", "a"])
    assert (table.task, table.target_names, table.feature_names) == ("regression", ("b", "a"), ("x",))
    assert table.targets.tolist() == [[2, 1.5], [3, 2.5], [5, 4]]


@pytest.mark.parametrize(
    ("labels", "task", "kind", "names"),
    [
        (["b", "a", "c"], "auto", "multiclass", ("a", "b", "c")),
        (["10", "9", "10"], "auto", "binary", ("9", "10")),
        (["1", "0", "1"], "regression", "regression", ("y",)),
        (["1.5", "2", "3"], "auto", "regression", ("y",)),
        (["1.5", "2", "3"], "classification", "multiclass", ("1.5", "2", "3")),
        (["true", "false", "true"], "auto", "binary", ("false", "true")),
    ],
)
def test_the_task_follows_from_the_target(
    written: Callable[[str], str], labels: Sequence[str], task: Any, kind: str, names: tuple[str, ...]
) -> None:
    rows = [f"{index},{label}" for index, label in enumerate(labels * 4)]
    table = table_file(written("\n".join(["x,y", *rows])), "y", task)
    assert (table.task, table.target_names) == (kind, names)
    if kind != "regression":
        assert [table.target_names[label] for label in table.targets.tolist()] == labels * 4


def test_many_whole_numbers_are_a_regression(written: Callable[[str], str]) -> None:
    rows = [f"{index},{1000 * index}" for index in range(30)]
    table = table_file(written("\n".join(["x,price", *rows])), "price")
    assert table.task == "regression"
    assert table.notices == ("target 'price': regression, 30 different values (data.task states it)",)


# ------------------------------------------------------------ reading CSV


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(written: Callable[[str], str], separator: str) -> None:
    rows = ["x", "name of it", "y"], ["1", "a b", "2"], ["3", "c d, e" if separator != "," else "c", "4"]
    columns = read_csv(written("\n".join(separator.join(row) for row in rows)))
    assert list(columns) == ["x", "name of it", "y"]
    assert columns["x"].tolist() == [1, 3]


def test_quotes_blank_lines_spaces_and_a_byte_order_mark(written: Callable[[str], str]) -> None:
    path = written('\ufeffname, x\r\n"Doe, ""Jo""\nJr.", 1\r\n\r\n  Al , 2e-3\r\n')
    columns = read_csv(path)
    assert columns["name"].tolist() == ['Doe, "Jo"\nJr.', "Al"]
    assert columns["x"].tolist() == [1.0, 0.002]
    assert columns.where(0).endswith("line 3") and columns.where(1).endswith("line 5")


def test_missing_values_are_those_that_are_stated(written: Callable[[str], str]) -> None:
    path = written("a,b,c\n-999,?,1\n2,x,\n3,NA,3\n")
    columns = read_csv(path, TextFormat(missing_values={"only": ["-999", "?", ""]}))
    assert np.isnan(columns["a"][0]) and columns["a"][1:].tolist() == [2, 3]
    assert columns["b"].tolist() == [None, "x", "NA"]
    assert np.isnan(columns["c"][1])


def test_a_decimal_comma(written: Callable[[str], str]) -> None:
    path = written("a;b;y\n1,5;2;x\n-2,25;3;z\n")
    with pytest.raises(TableError, match=r"line 2: column 'a' holds '1,5', which is 1.5 with data.decimal: ','; set"):
        table_file(path, "y")
    assert table_file(path, "y", decimal=",").features.tolist() == [[1.5, 2], [-2.25, 3]]


def test_pieces_of_a_long_file_are_put_together(written: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanotorch.train.data.csv_file.ROWS_AT_ONCE", 2)
    columns = read_csv(written("a,b,c,d\n1,01,,\n2,02,,\n3,03,,5\n4,x,y,6\n5,04,z,7\n"))
    assert columns["a"].tolist() == [1, 2, 3, 4, 5]
    assert columns["b"].tolist() == ["01", "02", "03", "x", "04"]  # not 1.0: what stands there
    assert columns["c"].tolist() == [None, None, None, "y", "z"]
    assert np.isnan(columns["d"][:2]).all() and columns["d"][2:].tolist() == [5, 6, 7]


def test_stated_kinds_win(written: Callable[[str], str]) -> None:
    path = written("code,y\n01,1.5\n02,2.5\n01,3.5\n")
    assert table_file(path, "y").categories == {}
    table = table_file(path, "y", categorical=["code"])
    assert table.categories == {"code": ("01", "02")} and table.features.tolist() == [[0], [1], [0]]


def test_a_column_without_a_name_is_left_out_and_said(written: Callable[[str], str]) -> None:
    table = table_file(written(",x,y\n0,1.5,a\n1,2.5,b\n"), "y")
    assert table.feature_names == ("x",)
    assert table.notices[0].endswith("table.csv has no name and is not used")


@pytest.mark.parametrize(("policy", "rows"), [("impute", 3), ("drop_rows", 1)])
def test_what_to_do_with_missing_values(written: Callable[[str], str], policy: Any, rows: int) -> None:
    path = written("x,c,y\n1,a,0.5\n,b,1.5\n3,,2.5\n")
    assert len(table_file(path, "y", missing=policy)) == rows
    message = r"line 3: column 'x' has no value; fill it in[^\n]*\n.*line 4: column 'c' has no value; fill it in"
    with pytest.raises(DataError, match=message):
        table_file(path, "y", missing="refuse")


# ------------------------------------------------------------ what is learnt, and from whom


def random_table(seed: int, rows: int, labels: bool) -> Table:
    """Numbers and categories, some of both missing."""
    numbers = np.random.default_rng(seed)
    texts = ("a", "b", "c", "only in a few")
    features = np.stack([numbers.normal(5, 3, rows), numbers.normal(size=rows), numbers.integers(4, size=rows)], axis=1)
    features[numbers.random((rows, 3)) < [0.3, 0.0, 0.2]] = np.nan
    features[0] = [1.0, 2.0, 0.0]
    targets = np.arange(rows) % 2 if labels else numbers.normal(size=(rows, 1))
    kind: Any = "binary" if labels else "regression"
    return Table(features, targets, kind, ("x", "z", "c"), ("no", "yes") if labels else ("y",), {"c": texts})


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(10, 40), st.booleans(), st.booleans(), st.sampled_from(["one_hot", "embedding"])
)
def test_state_is_json_and_gives_the_same_rows_back(
    seed: int, rows: int, labels: bool, standardize: bool, encoding: Any
) -> None:
    table = random_table(seed, rows, labels)
    fitted = Preprocessing.fit(table, standardize, True, encoding, missing_values=["", "NA"])
    again = Preprocessing.from_state(json.loads(json.dumps(fitted.state())))
    features = fitted.features(table)
    assert features.shape == (rows, fitted.in_features) == (rows, len(fitted.input_names))
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(again.features(table), features)
    np.testing.assert_array_equal(again.targets(table), fitted.targets(table))
    assert json.dumps(again.state()) == json.dumps(fitted.state())
    # The same rows, raw: in another order of columns, with texts for the numbers of categories.
    texts = [None if np.isnan(code) else table.categories["c"][int(code)] for code in table.features[:, 2]]
    raw = {"c": texts, "z": [repr(value) for value in table.features[:, 1].tolist()], "x": table.features[:, 0]}
    encoded, notices = again.encode(raw)
    np.testing.assert_array_equal(encoded, features)
    assert not notices


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_rows_for_validation_and_test_do_not_influence_it(seed: int, labels: bool) -> None:
    table = random_table(seed, 40, labels)
    splits = split(table, 0.25, 0.25, seed)
    before = Preprocessing.fit(splits.train, True, True).state()
    kept = {tuple(row) for row in np.nan_to_num(splits.train.features, nan=-7).tolist()}
    others = np.array([tuple(row) not in kept for row in np.nan_to_num(table.features, nan=-7).tolist()])
    features = table.features.copy()
    features[others] = [1e9, np.nan, 4.0]  # a category that the training part never saw
    changed = replace(table, features=features, categories={"c": (*table.categories["c"], "new")})
    again = split(changed, 0.25, 0.25, seed)
    assert Preprocessing.fit(again.train, True, True).state() == before


def test_median_indicator_and_a_category_of_its_own() -> None:
    features = np.array([[1.0, 0], [3.0, 1], [np.nan, np.nan], [8.0, 1]])
    table = Table(features, np.array([[1.0], [2], [3], [4]]), "regression", ("x", "c"), ("y",), {"c": ("a", "b")})
    fitted = Preprocessing.fit(table, False, False)
    assert fitted.input_names == ("x", "x is missing", "c=a", "c=b", "c=(missing)")
    assert fitted.features(table).tolist() == [[1, 0, 1, 0, 0], [3, 0, 0, 1, 0], [3, 1, 0, 0, 1], [8, 0, 0, 1, 0]]


# ------------------------------------------------------------ raw rows


def fitted_on_few(**options: Any) -> Preprocessing:
    features = np.array([[1.0, 0], [3.0, 1], [2.0, 1]])
    targets = np.array([[1.0], [2], [3]])
    table = Table(features, targets, "regression", ("x", "c"), ("y",), {"c": ("1", "b")})
    return Preprocessing.fit(table, False, False, missing_values=["", "NA"], **options)


def test_raw_rows_and_what_is_said_of_them() -> None:
    raw = {"more": [0] * 6, "c": ["b", " 1 ", 1.0, "z", "NA", "z"], "x": ["2", 5, np.nan, None, " 7.5 ", "NA"]}
    features, notices = fitted_on_few().encode(raw)
    assert features.tolist() == [[2, 0, 1], [5, 1, 0], [2, 1, 0], [2, 0, 1], [7.5, 0, 1], [2, 0, 1]]
    assert notices == [
        "1 further column is not used: 'more'",
        "column 'x': 3 missing values, though none was missing in training; filled with 2",
        "column 'c': 2 rows with 1 category unknown to the model, taken for 'b': 'z' (2)",
        "column 'c': 1 missing value, though none was missing in training; taken for 'b'",
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"x": [1.0]}, r"the table lacks column 'c' that the model was trained on; it has 'x'"),
        ({"y": [1.0]}, r"the table lacks columns 'x', 'c' that"),
        ({"x": ["1", "two"], "c": ["b", "b"]}, r"row 2: column 'x' holds 'two', which is not a number"),
        ({"x": [1.0, -np.inf], "c": ["b", "b"]}, r"row 2: column 'x' is -inf, which is not finite"),
        ({"x": [[1.0]], "c": ["b"]}, r"column 'x' has shape \(1, 1\); one value a row is needed"),
    ],
)
def test_raw_rows_that_cannot_be_used(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fitted_on_few().encode(raw)


def test_a_file_of_raw_rows(people: Path) -> None:
    config = loads(CONFIG)
    data = prepare(config)
    rows = read_columns(people, as_text=[*data.preprocessing.categories])
    encoded, notices = data.preprocessing.encode(rows)
    whole = datasets.load("file", config.data.arguments, 0)
    np.testing.assert_array_equal(encoded, data.preprocessing.features(whole))
    assert notices == ["2 further columns are not used: 'id', 'churn'"]


def test_what_only_the_other_parts_have_is_said(written: Callable[[str], str]) -> None:
    overrides = [
        "data={file: FILE, target: y}".replace("FILE", written("x,c,y\n" + "1,a,0.5\n2,b,1.5\n" * 20)),
        "loss.name=MSELoss",
    ]
    config = loads(CONFIG, overrides=overrides)
    before = prepare(config)
    assert before.notices == ()
    # The same rows go to the same parts: change one for validation and one for testing.
    numbered = split(
        replace(
            datasets.load("file", config.data.arguments, 0), features=np.arange(80.0).reshape(40, 2), categories=None
        ),
        0.2,
        0.2,
        0,
    )
    rows = ["1,a,0.5", "2,b,1.5"] * 20
    rows[int(numbered.validation.features[0, 0]) // 2] = ",new,0.5"
    rows[int(numbered.test.features[0, 0]) // 2] = "1,,0.5"
    written("x,c,y\n" + "\n".join(rows))
    after = prepare(config)
    assert after.notices == (
        (
            "validation part: column 'x': 1 missing value, though none was missing in training; filled with "
            f"{after.preprocessing.fills[0]:g}"
        ),
        (
            "validation part: column 'c': 1 row with 1 category unknown to the model, taken for "
            f"{after.preprocessing.categories['c'].names[after.preprocessing.categories['c'].fallback]!r}: 'new' (1)"
        ),
        (
            "test part: column 'c': 1 missing value, though none was missing in training; taken for "
            f"{after.preprocessing.categories['c'].names[after.preprocessing.categories['c'].fallback]!r}"
        ),
    )
    assert after.preprocessing.state() == before.preprocessing.state()


@pytest.mark.parametrize(
    ("overrides", "most"),
    [
        (["data.max_categories=20"], 20),  # with "other"
        ([], 100),
        (["data.max_categories=200"], None),
        (["data.categories=embedding"], None),
        (["data.categories=embedding", "data.max_categories=20"], 20),
    ],
)
def test_more_categories_than_may_be_are_grouped(
    written: Callable[[str], str], overrides: list[str], most: int | None
) -> None:
    rows = [f"c{row % 7 if row % 2 else row:03},{row % 2}" for row in range(400)]
    path = written("c,y\n" + "\n".join(rows))
    data = prepare(loads(CONFIG, overrides=[f"data={{file: {path}, target: y, categorical: [c]}}", *overrides]))
    category = data.preprocessing.categories["c"]
    told = [notice for notice in data.notices if "most frequent are told apart" in notice]
    assert len(told) == category.other == ("(other)" in category.names) == (most is not None)
    assert len(category.names) == most or (most is None and len(category.names) > 100)
    assert {f"c{number:03}" for number in range(7)} <= set(category.values)  # the frequent ones are kept
    train = data.parts["train"]
    texts = train.categories["c"]  # type: ignore[index]
    seen = [texts[int(code)] for code in train.features[:, 0]]
    alone = [text if text in category.values else "(other)" for text in seen]
    numbers = category.numbers(train.features[:, 0], texts)
    assert [category.names[number] for number in numbers] == alone
    encoded, notices = data.preprocessing.encode({"c": ["c001", "new", None]})
    fallback = category.names[category.fallback]
    assert any(f"taken for {fallback!r}: 'new' (1)" in notice for notice in notices)
    again = Preprocessing.from_state(json.loads(json.dumps(data.preprocessing.state())))
    np.testing.assert_array_equal(again.encode({"c": ["c001", "new", None]})[0], encoded)


def test_too_few_of_a_class(written: Callable[[str], str]) -> None:
    path = written("x,y\n" + "1,a\n2,b\n" * 20 + "3,rare\n")
    with pytest.raises(
        DataError, match=r"class 'rare' has 1 rows: too few for one in each of the training, validation"
    ):
        prepare(loads(CONFIG, overrides=[f"data={{file: {path}, target: y}}", "loss={name: CrossEntropyLoss}"]))


def test_a_data_frame_is_a_mapping_of_columns() -> None:
    frame = pandas.DataFrame({"c": pandas.Series(["b", None]), "x": pandas.Series([1, None], dtype="Int64")})
    features, notices = fitted_on_few().encode(frame)
    assert features.tolist() == [[1, 0, 1], [2, 0, 1]] and len(notices) == 2


# ------------------------------------------------------------ Parquet


def test_parquet(people: Path, tmp_path: Path) -> None:
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    table = pyarrow.csv.read_csv(people, convert_options=options)
    when = pyarrow.array([[row] for row in range(len(table))])
    table = table.append_column("when", when).append_column("__index_level_0__", pyarrow.array(range(len(table))))
    pyarrow.parquet.write_table(table, tmp_path / "people.parquet")
    from_csv = table_file(str(people), "churn", drop=["id"])
    from_parquet = table_file(str(tmp_path / "people.parquet"), "churn", drop=["id", "when"])
    np.testing.assert_array_equal(from_csv.features, from_parquet.features)
    assert (from_csv.categories, from_csv.target_names) == (from_parquet.categories, from_parquet.target_names)
    with pytest.raises(
        TableError, match=r"column 'when' holds list<.*>, neither numbers nor texts; list it under data"
    ):
        table_file(str(tmp_path / "people.parquet"), "churn")
    assert from_parquet.notices[0].endswith("people.parquet is the index of pandas and is not used")
    with pytest.raises(TableError, match=r"has no column 'wen', which data.drop names"):
        table_file(str(tmp_path / "people.parquet"), "churn", drop=["wen", "when"])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError, match=r"bad.parquet cannot be read as Parquet: "):
        table_file(str(tmp_path / "bad.parquet"), "churn")


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()], ids=str)
def test_texts_of_parquet_of_any_layout(kind: Any, tmp_path: Path) -> None:
    columns = {"c": pyarrow.array(["a", None, "b"], kind), "y": [1.5, 2.5, 3.5]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert table_file(str(tmp_path / "t.parquet"), "y").categories == {"c": ("a", "b")}


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        TableError, match="Parquet needs the package pyarrow: pip install pyarrow; or save the table as CSV"
    ):
        table_file(str(tmp_path / "t.parquet"), "y")


# ------------------------------------------------------------ bad files

BAD = {
    "empty": ("", r"table.csv is empty: there is neither a header nor a row"),
    "only blank lines": ("\n\n", r"is empty"),
    "header only": ("x,y\n", r"table.csv has a header of 2 columns and no row"),
    "no target": ("x,z\n1,2\n", r"has no column 'y', which data.target names \(its columns are 'x', 'z'\)"),
    "near target": ("x,Y\n1,2\n", r"has no column 'y', which data.target names \(did you mean 'Y'\?\)"),
    "only the target": ("y;\n1;\n2;\n", r"has no column beside the target"),
    "one column": (
        "y\n1\n",
        r"line 1: the header is the one column 'y'; a table needs a target and features; lines before",
    ),
    "no header": ("1.5,2\n3,4\n", r"line 1: '1.5' is no name of a column; add a line with names"),
    "twice the same name": ("x,y,x\n1,2,3\n", r"line 1: two columns, 1 and 3, have the name 'x'; rename one"),
    "a short row": ("x,y\n1,a\n\n2\n", r"table.csv, line 4: 1 cells, but the header has 2 columns"),
    "a long row": ("x,y\n1,a\n2,b,3\n", r"table.csv, line 3: 3 cells, but the header has 2 columns"),
    "mixed types": (
        "x,y\n1,0.5\n2,1.5\nunknown,2.5\n",
        r"line 4: column 'x' holds 'unknown', which is not a number, among 2 numbers in 3 rows; mend it, or add it to",
    ),
    "no value at all": ("x,z,y\n,1,0.5\n,2,1.5\n", r"column 'x' has no value in any row; list it under data.drop"),
    "infinite": ("x,y\n1,0.5\n-inf,1.5\n", r"line 3: column 'x' is -inf, which is not finite; replace it"),
    "infinite target": ("x,y\n1,0.5\n2,inf\n", r"line 3: column 'y' is inf, which is not finite"),
    "no target value": (
        "x,y\n1,0.5\n2,\n3,NaN\n",
        r"line 3: the target 'y' has no value, as one of 2 rows; fill it in",
    ),
    "a text in the target": (
        "x,y\n1,0.5\n2,1.5\n3,x\n",
        r"line 4: column 'y' holds 'x', which is not a number, among 2",
    ),
    "one class": ("x,y\n1,a\n2,a\n", r"the target 'y' is 'a' in every row; there is nothing to learn"),
    "a constant target": ("x,y\n1,2.5\n2,2.5\n", r"the target 'y' is 2.5 in every row; there is nothing to learn"),
    "an open quote": ('x,y\n1,"a\n2,b\n', r"line 3: a quoted cell has no end; a quote \(\"\) before this line"),
    "a quote inside": ('x,y\n1,"a"b\n', r"line 2: ',' expected after '\"'"),
    "a million columns": (
        "x," * 10**6 + "y\n1\n",
        r"line 1: 1,000,001 columns, and a table has at most 10,000; is the table",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_sentence(case: str, written: Callable[[str], str]) -> None:
    text, message = BAD[case]
    with pytest.raises(TableError, match=message) as caught:
        table_file(written(text), "y")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"x,y\n1,a\n2,caf\xe9\n3,b\n",
            r"line 3, byte 13: 0xe9 is not utf-8; save the file as UTF-8, or state data.encoding, such as latin-1",
        ),
        (b"x,y\n1,caf\xe9\n2,5 \x80\n", r"line 2, byte 9: 0xe9 is not utf-8; .*data.encoding, such as cp1252"),
        ("x,y\n1,2\n3,4\n".encode("utf-16")[:-1], r"table.csv: its text is not utf-16; state data.encoding"),
        (b"PAR1\x15\x04\x15\x10", r"is not CSV but a Parquet file; its name's ending has to say so"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "table.csv").write_bytes(data)
    with pytest.raises(TableError, match=message):
        table_file(str(tmp_path / "table.csv"), "y")


def test_other_encodings_are_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("x,y\n1,Zürich\n2,b\n".encode("latin-1"))
    assert table_file(str(tmp_path / "table.csv"), "y", encoding="latin-1").target_names == ("Zürich", "b")
    for encoding, mark in {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.items():
        (tmp_path / "marked.csv").write_bytes(mark + "x,y\n1,Zürich\n2,b\n".encode(encoding))
        assert table_file(str(tmp_path / "marked.csv"), "y", encoding=encoding).feature_names == ("x",)
    with pytest.raises(TableError, match=r"data.encoding: Python knows no encoding 'latin-99'"):
        table_file(str(tmp_path / "table.csv"), "y", encoding="latin-99")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separator": ";"}, r"the header is the one column 'x,c,y'; it looks separated by ',': state data.separator"),
        ({"separator": ",,"}, r"data.separator: expected auto or one character, got ',,'"),
        ({"drop": ["y"]}, r"data.drop names 'y', which is the target"),
        ({"numeric": ["z"]}, r"has no column 'z', which data.numeric names"),
        (
            {"numeric": ["c"]},
            r"line 2: column 'c' holds 'a', which is not a number; mend it, or add it to data.missing_values",
        ),
        ({"numeric": ["c"], "categorical": ["c"]}, r"data.numeric and data.categorical both name 'c'"),
        ({"file": "tabel.csv"}, r"tabel.csv: there is no such file \(did you mean 'table.csv'\?\)"),
        ({"file": "."}, r"is a directory, not a table"),
        ({"target": ["y", "c"]}, r"data.target names classes \('c'\) and numbers \('y'\)"),
    ],
)
def test_options_that_do_not_fit_the_file(written: Callable[[str], str], options: dict[str, Any], message: str) -> None:
    path = written("x,c,y\n1,a,0.5\n2,b,1.5\n")
    if "file" in options:
        options = options | {"file": str(Path(path).parent / options["file"])}
    with pytest.raises(TableError, match=message):
        table_file(**{"file": path, "target": "y", **options})


def test_the_command_line_fails_in_one_line(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (people.parent / "c.yaml").write_text(CONFIG)
    assert main(["c.yaml", "data.target=chrun", "--no-progress"]) == 2
    assert (
        capsys.readouterr().err.splitlines()[0]
        == "override 'data.target=chrun': data.target: people.csv has no column 'chrun', which data.target names (did"
        " you mean 'churn'?)"
    )


def test_a_run_does_not_go_on_with_other_data(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (people.parent / "c.yaml").write_text(CONFIG)
    assert main(["c.yaml", "--output", "run", "--quiet", "train.epochs=1"]) == 0
    text = people.read_text(encoding="utf-8")
    people.write_text(text.replace("Wien", "Bern"), encoding="utf-8")
    assert main(["c.yaml", "--output", "run", "--resume", "auto", "--quiet"]) == 1
    assert "run: the data are not what they were when this run was trained" in capsys.readouterr().err
    people.write_text(text, encoding="utf-8")
    assert main(["c.yaml", "--output", "run", "--resume", "auto", "--quiet"]) == 0
