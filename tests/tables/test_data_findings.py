"""What is odd about the rows of a run: each finding on a table that has it, and tables that seem to have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from html_page import Page
from nanotorch.train.cli.train import main
from nanotorch.train.config import loading
from nanotorch.train.data import data_findings
from nanotorch.train.data.data_findings import CHECKS, oddities
from nanotorch.train.data.table import Table
from nanotorch.train.fit.prepare import Data, prepare

RNG = np.random.default_rng
ROWS = 300


def plain(rows: int = ROWS, seed: int = 0) -> dict[str, Any]:
    """Return a table without anything odd: numbers, few categories, a noisy target."""
    draw = RNG(seed)
    height = draw.standard_normal(rows)
    return {
        "height": height,
        "width": draw.standard_normal(rows) * 3 - height,
        "children": draw.integers(0, 5, rows),
        "colour": draw.choice(["red", "green", "blue"], rows),
        "label": np.where(height + draw.standard_normal(rows) > 0, "yes", "no"),
    }


def prepared(folder: Path, table: dict[str, Any], **keys: Any) -> Data:
    path = folder / "t.csv"
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    task = {"classification": "auto", "regression": "MSELoss"}[keys.pop("task", "classification")]
    config = {
        "name": "odd",
        "seed": 3,
        "device": "cpu",
        "data": {"file": str(path), "target": "label", **keys},
        "model": {"hidden": [4]},
        "loss": {"name": task},
        "optimizer": {"name": "Adam", "lr": 0.01},
        "train": {"epochs": 1, "batch_size": 64},
    }
    (folder / "c.yaml").write_text(json.dumps(config))
    return prepare(loading.loads(json.dumps(config)))


def odd(folder: Path, table: dict[str, Any], **keys: Any) -> dict[str, tuple[str, ...]]:
    return {found.check: found.columns for found in prepared(folder, table, **keys).oddities}


def numeric_target(table: dict[str, Any]) -> dict[str, Any]:
    return {**table, "label": table["height"] * 2 + RNG(9).standard_normal(len(table["height"]))}


def shuffled(values: Any) -> Any:
    return RNG(5).permutation(values)


FOUND = {
    "one value": ("constant columns", ["c"], lambda t: {"c": np.full(ROWS, 7.5)}),
    "one category": ("constant columns", ["c"], lambda t: {"c": np.full(ROWS, "kg")}),
    "mostly missing": ("columns without most values", ["c"], lambda t: {"c": np.where(np.arange(ROWS) % 3, "", "4.5")}),
    "another unit": ("duplicated columns", ["c"], lambda t: {"c": t["height"] * -2.54 + 7}),
    "another unit, rounded": ("duplicated columns", ["c"], lambda t: {"c": np.round(t["height"] * 2.54, 3)}),
    "other names": ("duplicated columns", ["c"], lambda t: {"c": np.char.add("colour of ", t["colour"][::1])}),
    "shuffled numbers": ("row numbers among the columns", ["c"], lambda t: {"c": shuffled(np.arange(ROWS) + 1)}),
    "ids": ("row numbers among the columns", ["user_id"], lambda t: {"user_id": RNG(1).choice(10**9, ROWS, False)}),
    "IDs": ("row numbers among the columns", ["userID"], lambda t: {"userID": RNG(1).choice(10**9, ROWS, False)}),
    "long ids": (
        "numbers of more digits than a float has",
        ["c"],
        lambda t: {"c": 9007199254740993 + 7 * RNG(1).permutation(ROWS)},
    ),
    "names": ("names among the columns", ["c"], lambda t: {"c": [f"p{n}q" for n in RNG(1).choice(10**6, ROWS, False)]}),
    "decides": ("columns that give the target away", ["c"], lambda t: {"c": np.where(t["label"] == "yes", 3.5, 0.5)}),
    "a text": (
        "columns that give the target away",
        ["c"],
        lambda t: {"c": np.where(t["label"] == "yes", "ja", "nein")},
    ),
    "missing decides": (
        "columns that give the target away",
        ["c"],
        lambda t: {"c": np.where(t["label"] == "yes", "", RNG(2).standard_normal(ROWS).astype(str))},
    ),
    "file order": (
        "columns that give the target away",
        ["c"],
        lambda t: {"c": np.argsort(np.argsort(t["label"], kind="stable")) * 7.5},
    ),
}


@pytest.mark.parametrize("values", [(0, 1), (1, 0), (-1, 2.5)])
def test_a_text_and_its_dummy_are_copies(tmp_path: Path, values: tuple[float, float]) -> None:
    table = plain()
    texts = np.where(RNG(8).random(ROWS) < 0.3, "woman", "man")
    dummy = np.where(texts == "woman", *values[::-1])
    assert odd(tmp_path, {"sex": texts, "female": dummy, **table})["duplicated columns"] == ("female",)
    assert odd(tmp_path, {"female": dummy, "sex": texts, **table})["duplicated columns"] == ("sex",)
    other = np.where(np.arange(ROWS) % 40, dummy, values[1])
    assert "duplicated columns" not in odd(tmp_path, {"sex": texts, "female": other, **table})
    three = np.where(np.arange(ROWS) % 3, texts, "child")
    assert "duplicated columns" not in odd(tmp_path, {"who": three, "child": three == "child", **table})


@pytest.mark.parametrize("case", FOUND)
def test_each_oddity_is_found(tmp_path: Path, case: str) -> None:
    check, columns, made = FOUND[case]
    table = plain()
    assert odd(tmp_path, {**made(table), **table}).get(check, ()) in (tuple(columns), ("colour",), ("height",)), case


LEAKS = {
    "copy": lambda y: y,
    "another unit": lambda y: 32 - y * 1.8,
    "monotone": lambda y: np.exp(y),
    "rounded": lambda y: np.round(y, 3),
    "noise": lambda y: y + 1e-3 * RNG(4).standard_normal(len(y)),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_copy_of_a_number_to_predict_is_found(tmp_path: Path, case: str) -> None:
    table = numeric_target(plain())
    found = odd(tmp_path, {"c": LEAKS[case](table["label"]), **table}, task="regression")
    assert found == {"columns that give the target away": ("c",)}


def test_categories_that_give_a_number_away(tmp_path: Path) -> None:
    table = plain()
    table["label"] = np.round(numeric_target(table)["label"])
    found = odd(tmp_path, {"c": np.char.add("n", table["label"].astype(str)), **table}, task="regression")
    assert found == {"columns that give the target away": ("c",)}


HONEST = {
    "near-unique numbers": lambda t: {"price": RNG(1).choice(10**6, ROWS, False)},
    "years": lambda t: {"year": RNG(1).integers(1990, 2020, ROWS)},
    "two values": lambda t: {"smoker": RNG(1).integers(0, 2, ROWS)},
    "a function": lambda t: {"squared": t["height"] ** 2, "exp": np.exp(t["width"])},
    "strong": lambda t: {"strong": np.where((t["label"] == "yes") ^ (RNG(1).random(ROWS) < 0.05), 1.0, 0.0)},
    "some missing": lambda t: {"c": np.where(RNG(1).random(ROWS) < 0.3, "", RNG(2).standard_normal(ROWS).astype(str))},
    "constant where it is not missing": lambda t: {"c": np.where(RNG(1).random(ROWS) < 0.3, "", "1")},
    "rare": lambda t: {"rare": (np.arange(ROWS) % 15 == 0).astype(int)},
    "many categories": lambda t: {"town": [f"t{n}" for n in RNG(1).integers(0, 80, ROWS)]},
}


@pytest.mark.parametrize("case", HONEST)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_honest_columns_are_passed_over(tmp_path: Path, case: str, task: str) -> None:
    table = plain()
    table = table if task == "classification" else numeric_target(table)
    assert odd(tmp_path, {**HONEST[case](table), **table}, task=task) == {}


def test_rows_of_few_columns_of_few_values_are_alike_by_chance(tmp_path: Path) -> None:
    draw = RNG(0)
    few = {name: draw.integers(0, 3, ROWS) for name in "abc"} | {"label": draw.choice(["no", "yes"], ROWS)}
    assert odd(tmp_path, few) == {}
    assert odd(tmp_path, {name: np.r_[column, column] for name, column in plain().items()}) == {"rows in two parts": ()}


def test_two_rows_that_are_alike_are_passed_over(tmp_path: Path) -> None:
    table = {name: np.r_[column, column[:2]] for name, column in plain().items()}
    assert odd(tmp_path, table) == {}


def test_repeated_rows_are_counted_by_their_values(tmp_path: Path) -> None:
    """The number is that of a plain search, -0.0 is 0.0 and a missing value another missing one's like."""
    table = {name: np.r_[column, column[:60]].astype(object) for name, column in plain().items()}
    table["width"][:60:7] = ""
    table["width"][ROWS::7] = ""
    table["height"][1], table["height"][ROWS + 1] = "0.0", "-0.0"
    data = prepared(tmp_path, table)
    rows = {
        name: [
            (*np.nan_to_num(row, nan=1e9).tolist(), target)
            for row, target in zip(part.features, part.targets, strict=True)
        ]
        for name, part in data.parts.items()
    }
    (found,) = [found for found in data.oddities if found.check == "rows in two parts"]
    counts = {name: sum(row in rows["train"] for row in rows[name]) for name in ("validation", "test")}
    assert sum(counts.values()) > 10
    for name, count in counts.items():
        assert f"{count} of {len(rows[name])} {name} rows" in found.what


def test_small_tables_and_single_columns_say_nothing(tmp_path: Path) -> None:
    table = plain(24)
    assert odd(tmp_path, table) == {}
    label = table["label"]
    assert odd(tmp_path, {"only": np.where(label == "yes", 1.5, 0.5), "label": label}) == {}


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "linnerud", "make_moons"])
def test_tables_of_textbooks_have_nothing_odd(name: str) -> None:
    loss = "MSELoss" if name in ("diabetes", "linnerud") else "auto"
    text = f"""{{name: x, seed: 1, data: {{name: {name}}}, model: {{}}, loss: {{name: {loss}}},
        optimizer: {{name: Adam, lr: 1}}, train: {{epochs: 1, batch_size: 32}}}}"""
    assert [found for found in prepare(loading.loads(text)).oddities] == []


def test_digits_have_constant_columns_alone() -> None:
    text = """{name: x, seed: 1, data: {name: digits}, model: {}, loss: {name: auto},
        optimizer: {name: Adam, lr: 1}, train: {epochs: 1, batch_size: 32}}"""
    (found,) = prepare(loading.loads(text)).oddities
    assert found.what == "columns 'pixel_0_0', 'pixel_4_0', 'pixel_4_7' have one value in all rows for training"


def test_what_is_odd_in_some_rows_only_is_not_said_of_all() -> None:
    """More rows than are looked at: the one that differs is between them."""
    rows = 30_000
    features = RNG(0).standard_normal((rows, 3))
    features[:, 1] = 4.0
    features[:, 2] = features[:, 0] * 3
    parts = {name: Table(features.copy(), RNG(1).standard_normal((rows, 1)), "regression", ("a", "b", "c"), ("y",))
             for name in ("train", "validation", "test")}  # fmt: skip
    assert {found.check: found.columns for found in oddities(parts)}["constant columns"] == ("b",)
    parts["train"].features[1, 1] = 5.0
    assert "constant columns" not in {found.check for found in oddities(parts)}


# ------------------------------------------------------------ columns that count the rows


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", ["Unnamed: 0", "id", "t"])
def test_a_column_that_counts_the_rows_is_left_out(tmp_path: Path, name: str, start: int) -> None:
    table = {name: np.arange(start, ROWS + start), **plain()}
    data = prepared(tmp_path, table)
    assert data.preprocessing.feature_names == ("height", "width", "children", "colour")
    (notice,) = [notice for notice in data.notices if "counts the rows" in notice]
    assert notice.endswith("data.numeric keeps it")
    assert data.oddities == []
    kept = prepared(tmp_path, table, numeric=[name])
    assert name in kept.preprocessing.feature_names
    assert [found.check for found in kept.oddities] == ["row numbers among the columns"]
    assert name in prepared(tmp_path, table, categorical=[name]).preprocessing.feature_names


def test_rows_without_a_target_do_not_hide_a_count(tmp_path: Path) -> None:
    table = {"n": np.arange(ROWS), **plain()}
    table["label"] = np.where(np.arange(ROWS) % 10 == 3, "", table["label"])
    assert "n" not in prepared(tmp_path, table, missing_target="drop").preprocessing.feature_names


@pytest.mark.parametrize(
    "column",
    [np.arange(2, ROWS + 2), np.arange(ROWS) * 2, np.arange(ROWS)[::-1], np.r_[np.arange(ROWS - 1), 7]],
    ids=["from 2", "every other", "backwards", "all but one"],
)
def test_what_does_not_count_the_rows_in_order_stays(tmp_path: Path, column: Any) -> None:
    assert "n" in prepared(tmp_path, {"n": column, **plain()}).preprocessing.feature_names


def test_a_count_that_is_the_only_column_stays(tmp_path: Path) -> None:
    table = {"x": np.arange(ROWS), "label": plain()["label"]}
    assert prepared(tmp_path, table).preprocessing.feature_names == ("x",)


# ------------------------------------------------------------ where it is said


def test_a_run_and_its_page_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path, {"Unnamed: 0": np.arange(ROWS), "unit": np.full(ROWS, 2), **plain()})
    assert main([str(tmp_path / "c.yaml"), "--output", str(tmp_path / "run"), "--no-progress"]) == 0, (
        capsys.readouterr()
    )
    out = capsys.readouterr().out
    assert "note: column 'Unnamed: 0' counts the rows from the first to the last and is left out" in out
    assert "note: column 'unit' has one value in all rows for training; a model learns nothing from it" in out
    text = " ".join(Page((tmp_path / "run" / "report.html").read_text()).text)
    assert "What the data hold" in text
    assert "column 'unit' has one value in all rows for training; a model learns nothing from it" in text
    assert "counts the rows from the first to the last" in text


def test_the_checks_are_those_that_are_named() -> None:
    source = Path(data_findings.__file__).read_text()
    assert all(source.count(f'"{check}"') == 2 for check in CHECKS)
