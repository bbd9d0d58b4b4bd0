"""Tables that say how they are divided: by groups, by time, by a column, by files, or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, TimeSeriesSplit

from nanotorch.train.cli.evaluate import main as evaluate
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.cli.train import main as train
from nanotorch.train.config.loading import loads
from nanotorch.train.data.division.groups_and_times import divided_by_groups, divided_by_time
from nanotorch.train.fit.prepare import prepare
from own_runs import read_rows

SECTIONS = (
    "name: t\nmodel: {hidden: [4]}\noptimizer: {name: Adam}\ntrain: {epochs: 2, batch_size: 16}\ndata:\n  file: FILE\n"
    "  target: y\n"
)
Write = Callable[..., str]


class AsTheyAre:
    """Leaves groups in their order, as scikit-learn does without shuffling."""

    def permutation(self, count: int) -> Any:
        return np.arange(count)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows of patient, day, part, a and y to a CSV file."""

    def written(name: str = "t.csv", rows: range = range(80), **changed: Callable[[int], object]) -> str:
        columns: dict[str, Callable[[int], object]] = {
            "patient": lambda row: f"p{row * row % 17}",
            "day": lambda row: f"2024-{1 + row * 7 % 12:02}-{1 + row * 3 % 28:02}",
            "part": lambda row: ("train", " Training", "val", "TEST")[row % 4],
            "a": lambda row: row % 5 - 2.5,
            "y": lambda row: "yes" if row % 5 > 2 else "no",
        }
        columns |= changed
        lines = [",".join(str(cell(row)) for cell in columns.values()) for row in rows]
        (tmp_path / name).write_text("\n".join([",".join(columns), *lines]) + "\n")
        return str(tmp_path / name)

    return written


def config_of(file: str, data: Sequence[str] = (), rest: str = "") -> str:
    text = SECTIONS.replace("FILE", file) + "".join(f"  {line}\n" for line in data)
    return f"{text}output: {Path(file).parent / 'runs'}\n{rest}"


def parts_of(file: str, *data: str, rest: str = "") -> dict[str, list[int]]:
    """The rows of each part."""
    parts = prepare(loads(config_of(file, data, rest))).parts
    return {
        name: list(range(len(part))) if part.numbers is None else part.numbers.tolist() for name, part in parts.items()
    }


# ------------------------------------------------------------ as scikit-learn


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_of_groups_are_those_of_scikit_learn(seed: int, folds: int) -> None:
    drawn = np.random.default_rng(seed)
    groups = np.unique(drawn.integers(0, 23, 150), return_inverse=True)[1]
    classes = np.concatenate([np.arange(3), drawn.integers(0, 3, 147)])
    found = [divided_by_groups(groups, classes, (0.0, 0.2), (k, folds), AsTheyAre(), "g") for k in range(1, folds + 1)]
    for mine, (others, test) in zip(found, StratifiedGroupKFold(folds).split(groups, classes, groups), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(mine == 2), test)
        np.testing.assert_array_equal(np.flatnonzero(mine == 0), others)
    numbers = [
        (divided_by_groups(groups, 0 * classes, (0.2, 0.2), (k, folds), drawn, "g") == 2).sum()
        for k in range(1, folds + 1)
    ]
    assert min(numbers) > 0


def test_folds_of_groups_without_classes_have_the_sizes_of_group_k_fold() -> None:
    drawn = np.random.default_rng(0)
    groups = np.unique(drawn.integers(0, 23, 150), return_inverse=True)[1]
    found = [divided_by_groups(groups, 0 * groups, (0.2, 0.2), (k, 4), AsTheyAre(), "g") for k in range(1, 5)]
    sizes = sorted(int((one == 2).sum()) for one in found)
    assert sizes == sorted(len(test) for _, test in GroupKFold(4).split(groups, groups=groups))
    np.testing.assert_array_equal(sum((one == 2).astype(int) for one in found), 1)


@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.sampled_from([(0.2, 0.2), (0.1, 0.0), (0.0, 0.3), (0.0, 0.0)]))
@settings(max_examples=30, deadline=None)
def test_no_group_is_in_two_parts_and_none_is_empty(seed: int, count: int, sizes: tuple[float, float]) -> None:
    drawn = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(count), drawn.integers(0, count, 60)])
    classes = drawn.integers(0, 3, len(groups))
    parts = divided_by_groups(groups, classes, sizes, None, drawn, "g")
    assert len({(group, part) for group, part in zip(groups.tolist(), parts.tolist(), strict=True)}) == count
    assert set(parts.tolist()) == {0, *([1] if sizes[0] else []), *([2] if sizes[1] else [])}


@pytest.mark.parametrize("folds", [2, 4])
def test_folds_of_time_are_those_of_time_series_split(folds: int) -> None:
    times = np.random.default_rng(1).permutation(47).astype(float)
    order = np.argsort(times)
    for number, (others, test) in enumerate(TimeSeriesSplit(folds).split(times), 1):
        parts = divided_by_time(times, (0.2, 0.2), (number, folds), "t")
        np.testing.assert_array_equal(np.flatnonzero(parts == 2), np.sort(order[test]))
        np.testing.assert_array_equal(np.flatnonzero((parts == 0) | (parts == 1)), np.sort(order[others]))
        assert times[parts == 0].max() < times[parts == 1].min() <= times[parts == 1].max() < times[parts == 2].min()


def test_rows_of_one_time_are_of_one_part() -> None:
    times = np.repeat(np.arange(10.0), 10)
    parts = divided_by_time(times, (0.25, 0.15), None, "t")
    assert [sorted(set(parts[times == time].tolist())) for time in range(10)] == [[0]] * 5 + [[1]] * 3 + [[2]] * 2


# ------------------------------------------------------------ through a config


def test_by_group(write: Write) -> None:
    parts = parts_of(write(), "split: {by: group, column: patient}", "drop: [day, part]")
    groups = {name: {row * row % 17 for row in rows} for name, rows in parts.items()}
    assert sorted(row for rows in parts.values() for row in rows) == list(range(80))
    assert not groups["train"] & groups["validation"] and not (groups["train"] | groups["validation"]) & groups["test"]
    data = prepare(loads(config_of(write(), ["split: {by: group, column: patient}", "drop: [day, part]"])))
    assert data.preprocessing.feature_names == ("a",)
    asked = config_of(write(), ["split: {by: group, column: patient}", "drop: [day, part]", "categorical: [patient]"])
    assert prepare(loads(asked)).preprocessing.feature_names == ("patient", "a")


def test_by_time_of_dates_and_of_numbers(write: Write) -> None:
    file = write(stamp=lambda row: (row * 37) % 80)
    days = np.array([f"2024-{1 + row * 7 % 12:02}-{1 + row * 3 % 28:02}" for row in range(80)])
    parts = parts_of(file, "split: {by: time, column: day}", "drop: [patient, part, stamp]")
    assert max(days[parts["train"]]) < min(days[parts["validation"]])
    assert max(days[parts["validation"]]) < min(days[parts["test"]])
    parts = parts_of(file, "split: {by: time, column: stamp}", "drop: [patient, part, day]")
    assert sorted(row * 37 % 80 for row in parts["test"]) == list(range(64, 80))
    assert sorted(row * 37 % 80 for row in parts["validation"]) == list(range(48, 64))


def test_by_a_column(write: Write) -> None:
    data = ("split: {by: column, column: part}", "drop: [patient, day]")
    parts = parts_of(write(), *data)
    assert [[row % 4 for row in rows[:2]] for rows in parts.values()] == [[0, 1], [2, 2], [3, 3]]
    two = parts_of(write(part=lambda row: "test" if row % 4 == 3 else "train"), *data)
    assert list(two) == ["train", "test"]


def test_files_are_parts_of_their_own(write: Write) -> None:
    file, test = write("train.csv", range(50)), write("test.csv", range(50, 80), a=lambda row: 1000.0 + row)
    drop = "drop: [patient, day, part]"
    data = prepare(loads(config_of(file, [drop, f"test_file: {test}"])))
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 40, "validation": 10, "test": 30}
    assert data.preprocessing.scaler is not None and abs(data.preprocessing.scaler.mean[0]) < 3  # type: ignore[union-attr]
    other = parts_of(file, drop, f"test_file: {test}", f"validation_file: {write('v.csv', range(20))}")
    assert {name: len(rows) for name, rows in other.items()} == {"train": 50, "validation": 20, "test": 30}
    folds = parts_of(file, drop, f"validation_file: {write('v.csv', range(20))}", "fold: [1, 5]")
    assert {name: len(rows) for name, rows in folds.items()} == {"train": 40, "validation": 20, "test": 10}


def test_what_training_has_not_seen_in_another_file(write: Write) -> None:
    city = {"city": lambda row: "ab"[row % 2]}
    file, drop = write("train.csv", range(50), **city), "drop: [patient, day, part]"
    test = write("test.csv", range(50, 80), city=lambda row: "abc"[row % 3])
    notices = prepare(loads(config_of(file, [drop, f"test_file: {test}"]))).notices
    assert any("test part: column 'city': 10 rows with 1 category unknown to the model" in text for text in notices)


def test_row_numbers_of_each_file_are_left_out(write: Write) -> None:
    numbers = {"Unnamed: 0": lambda row: row % 60, "place": lambda row: (row % 60) // 2}
    file, test = write(rows=range(60), **numbers), write("test.csv", range(60, 80), **numbers)
    data = prepare(loads(config_of(file, [f"test_file: {test}"])))
    assert "Unnamed: 0" not in data.parts["train"].feature_names
    assert "place" in data.parts["train"].feature_names
    assert any("'Unnamed: 0' counts the rows" in notice for notice in data.notices)


def test_none(write: Write) -> None:
    file, drop = write(), "drop: [patient, day, part]"
    assert {name: len(rows) for name, rows in parts_of(file, drop, "test_size: 0", "validation_size: 0").items()} == {
        "train": 80
    }
    assert list(parts_of(file, drop, "test_size: 0")) == ["train", "validation"]
    assert list(parts_of(file, drop, "validation_size: 0")) == ["train", "test"]


# ------------------------------------------------------------ whole runs


def run(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    (tmp_path / "c.yaml").write_text(text)
    code = train([str(tmp_path / "c.yaml"), "--output", str(tmp_path / "run"), *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out + said.err


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (["split: {by: group, column: patient}", "drop: [day, part]"], ["train", "validation", "test"]),
        (["split: {by: time, column: day}", "drop: [patient, part]"], ["train", "validation", "test"]),
        (["drop: [patient, day, part]", "test_size: 0", "validation_size: 0"], ["train"]),
        (["drop: [patient, day, part]", "validation_size: 0"], ["train", "test"]),
    ],
)
def test_train_evaluate_and_predict(
    data: list[str], parts: list[str], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write()
    said = run(config_of(file, data, "early_stopping: {patience: 1}\n"), tmp_path, capsys)
    assert ("there is no validation part" in said) == ("validation" not in parts)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["scores"]) == parts and (tmp_path / "run" / "report.html").is_file()
    assert evaluate([str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == summary["scores"]
    assert predict([str(tmp_path / "run"), "--input", file, "--output", str(tmp_path / "o.csv")]) == 0
    assert "not used" not in capsys.readouterr().err and len(read_rows(tmp_path / "o.csv")) == 80
    for option in ("--dry-run", "--doctor"):
        assert train([str(tmp_path / "c.yaml"), option]) == 0, capsys.readouterr().err
        capsys.readouterr()


@pytest.mark.parametrize("split", ["{by: group, column: patient}", "{by: time, column: day}"])
def test_folds_of_a_split(split: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop = "drop: [part, day]" if "patient" in split else "drop: [part, patient]"
    text = config_of(write(), [f"split: {split}", drop]).replace("epochs: 2", "epochs: 1, folds: 3")
    run(text, tmp_path, capsys)
    rows = [json.loads(path.read_text())["rows"] for path in sorted(tmp_path.glob("run/fold-*/summary.json"))]
    if "patient" in split:
        assert sum(each["test"] for each in rows) == 80
    else:
        assert rows[0]["train"] < rows[1]["train"] < rows[2]["train"]


# ------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (["split: {by: grup, column: patient}"], 8, "expected group, time or column, got 'grup'"),
        (["split:", "  by: group", "  colum: patient"], 10, "unknown key; the keys are by and column"),
        (
            ["split: {by: group, column: patint}"],
            8,
            "has no column 'patint', which data.split names .did you mean 'pat",
        ),
        (["split: {by: group, column: y}"], 8, "names 'y', which is the target"),
        (["split: {by: group, column: part}", "drop: [part]"], 8, "names 'part', which data.drop leaves out"),
        (
            ["split: {by: column, column: patient}"],
            8,
            "line 2: column 'patient' is 'p0', as one of 5 rows; by data.split",
        ),
        (["split: {by: time, column: patient}"], 0, "line 2: column 'patient' holds 'p0', which is not a number"),
        (["split: {by: group, column: two}"], 8, "column 'two' has 2 groups, too few for one in each of 3 parts"),
        (["split: {by: time, column: two}"], 8, "column 'two' has 2 different times, too few for training and each"),
        (
            ["split: {by: column, column: part}", "test_size: 0.3"],
            9,
            "data.split: .by: column. says which rows are the",
        ),
        (
            ["split: {by: column, column: part}", "fold: [1, 3]"],
            9,
            "says which rows are for the test, and each fold has",
        ),
        (
            ["split: {by: group, column: holes}"],
            8,
            "line 4: column 'holes' has no value, as one of 26 rows, and data.sp",
        ),
        (["test_file: nowhere.csv"], 8, "nowhere.csv: there is no such file"),
        (["test_file: other.csv"], 8, "lacks columns that .* has: 'patient', 'part'"),
        (["test_file: late.csv"], 0, "class 'new' has 2 rows, none of them for training"),
        (
            ["test_file: late.csv", "split: {by: group, column: two}"],
            8,
            "2 groups of column 'two' in the file of data.t",
        ),
        (["validation_size: 0", "fold: [1, 200]"], 9, "too few for one in each of 200 folds"),
        (["test_file: strange.csv"], 0, "strange.csv, line 3: column 'a' holds 'oops', which is not a number"),
    ],
)
def test_mistakes_name_their_line(
    data: list[str], line: int, message: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    further: dict[str, Any] = {"two": lambda row: row % 2, "holes": lambda row: "" if row % 3 == 2 else "x"}
    file = write(**further)
    write("late.csv", range(10), **further, y=lambda row: "new" if row > 7 else "no")
    write("strange.csv", range(10), **further, a=lambda row: "oops" if row == 1 else row)
    (tmp_path / "other.csv").write_text("day,a,y,two,holes\n2024-01-01,1,yes,1,x\n")
    (tmp_path / "c.yaml").write_text(config_of(file, data))
    assert train(["c.yaml"]) in (1, 2)
    error = capsys.readouterr().err
    assert re.search(message, error) and "Traceback" not in error, error
    if line:
        assert f"c.yaml:{line}:" in error, error


def test_rare_classes_of_a_split_are_dropped(write: Write) -> None:
    file = write(stamp=lambda row: row, y=lambda row: "late" if row > 75 else "yes" if row % 5 > 2 else "no")
    data = ["split: {by: time, column: stamp}", "drop: [patient, part, day]", "rare: drop"]
    prepared = prepare(loads(config_of(file, data)))
    assert prepared.preprocessing.target_names == ("no", "yes")
    assert sum(map(len, prepared.parts.values())) == 76
    assert any("the 4 rows of 1 class that have too few are left out" in text for text in prepared.notices)
