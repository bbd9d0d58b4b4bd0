"""Array files as tables: rows stay on the disk, and one sentence for every bad file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanotorch.train.config.loading import loads
from nanotorch.train.data.disk_dataset import RowsOnDisk
from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.standardizer import Standardizer
from nanotorch.train.data.table import DataError, TableError
from nanotorch.train.data.table_file import table_file
from nanotorch.train.fit.build import build
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.run.run import run

CONFIG = """\
name: arrays
data: {file: x.npy, target: y.npy}
model: {name: mlp, hidden: [8]}
loss: {name: BCEWithLogitsLoss}
optimizer: {name: Adam, lr: 0.02}
train: {epochs: 3, batch_size: 32}
"""


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    monkeypatch.chdir(tmp_path)
    numbers = np.random.default_rng(0)
    x = numbers.normal(2, 3, (200, 5)).astype(np.float32)
    y = np.where(x[:, 0] + x[:, 1] > 4, "yes", "no")
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.savez("xy.npz", more=y, target=y, X=x)
    np.savez_compressed("small.npz", y=y, x=x)
    return x, y


def test_rows_are_those_of_numpy(arrays: tuple[Any, Any]) -> None:
    x, _ = arrays
    rows = table_file("x.npy", "y.npy").features
    assert isinstance(rows, DiskRows) and rows.shape == x.shape and rows.size == x.size
    index = np.array([7, 3, 4, 5, 190, 7, -1])
    for key in (
        index,
        slice(3, 90, 2),
        slice(None),
        5,
        x[:, 0] > 0,
        (index, 2),
        (slice(None), [1, 3]),
        (slice(2, 9), slice(1, 3)),
    ):
        np.testing.assert_array_equal(rows[key], x[key])
    np.testing.assert_array_equal(rows.rows(index[:6]).rows(np.array([4, 1]))[:], x[[190, 3]])
    np.testing.assert_array_equal(np.asarray(rows), x)
    with pytest.raises(IndexError):
        rows[np.array([200])]


@pytest.mark.parametrize(("file", "target"), [("x.npy", "y.npy"), ("xy.npz", "target")])
def test_train_on_arrays(arrays: tuple[Any, Any], file: str, target: str) -> None:
    x, y = arrays
    config = loads(CONFIG, overrides=[f"data={{file: {file}, target: {target}}}"])
    data = prepare(config)
    train = data.parts["train"]
    assert (train.task, train.target_names, train.feature_names) == (
        "binary",
        ("no", "yes"),
        ("x0", "x1", "x2", "x3", "x4"),
    )
    for part in data.parts.values():
        np.testing.assert_array_equal(np.array(part.target_names)[part.targets], y[part.features.index])
    scaler, whole = data.preprocessing.scaler, Standardizer.fit(np.asarray(train.features, np.float64))
    assert scaler is not None
    np.testing.assert_allclose(scaler.mean, whole.mean)
    np.testing.assert_allclose(scaler.scale, whole.scale)
    parts = build(config, data).parts
    dataset = parts["train"].dataset
    assert isinstance(dataset, RowsOnDisk)
    features, targets, weights = dataset.__getitems__([5, 0, 7]).fields
    expected = scaler.transform(x[train.features.index[[5, 0, 7]]].astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(features.numpy(), expected)
    assert targets[:, 0].tolist() == train.targets[[5, 0, 7]].tolist() and weights.tolist() == [1, 1, 1]
    assert run(config, progress_bar=False).scores["test"]["accuracy"] > 0.8


@pytest.mark.slow
def test_the_disk_gives_the_same_run_as_memory(arrays: tuple[Any, Any]) -> None:
    """A CSV file with the same numbers is read into memory; the statistics are summed in another order."""
    x, y = arrays
    lines = [",".join([*map(repr, map(float, row)), label]) for row, label in zip(x, y, strict=True)]
    Path("t.csv").write_text("\n".join(["a,b,c,d,e,y", *lines]))
    on_disk = run(loads(CONFIG, overrides=["dtype=float64"]), progress_bar=False)
    in_memory = run(loads(CONFIG, overrides=["dtype=float64", "data={file: t.csv, target: y}"]), progress_bar=False)
    for one, other in zip(on_disk.history, in_memory.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-12)


def test_a_column_may_be_the_target(arrays: tuple[Any, Any]) -> None:
    x, _ = arrays
    table = table_file("x.npy", "x3")
    assert (table.task, table.feature_names) == ("regression", ("x0", "x1", "x2", "x4"))
    np.testing.assert_array_equal(table.targets, x[:, 3:4])
    np.testing.assert_array_equal(table.features[np.array([4, 2])], x[[4, 2]][:, [0, 1, 2, 4]])
    fewer = table_file("x.npy", "x3", drop=["x0", "x2"])
    assert fewer.feature_names == ("x1", "x4")
    np.testing.assert_array_equal(np.asarray(fewer.features), x[:, [1, 4]])
    np.save("several.npy", x[:, :2])
    assert table_file("x.npy", "several.npy").target_names == ("y0", "y1")
    np.save("flags.npy", x[:, 0] > 0)
    assert table_file("x.npy", "flags.npy").target_names == ("False", "True")
    np.save("whole.npy", np.arange(200) % 3)
    assert table_file("x.npy", "whole.npy").task == "multiclass"
    assert table_file("x.npy", "whole.npy", "regression").task == "regression"


def save(name: str, values: Any, **options: Any) -> None:
    np.save(name, np.asarray(values), **options)


def cut() -> None:
    os.truncate("x.npy", 1000)


BAD = {
    "not finite": (
        lambda: save("x.npy", [[1.0, 2], [3, np.nan]] * 100),
        {},
        r"x.npy: feature x1 is nan in row 1 \(the first is 0\); an arr",
    ),
    "cut off": (cut, {}, r"x.npy is cut off: 4,128 bytes expected, 1,000 found"),
    "empty": (lambda: os.truncate("x.npy", 0), {}, r"x.npy is empty"),
    "no array": (
        lambda: Path("x.npy").write_text("a,b\n1,2\n"),
        {},
        r"x.npy cannot be read as a NumPy array: the magic string",
    ),
    "objects": (
        lambda: save("x.npy", [[1, None]], allow_pickle=True),
        {},
        r"holds Python objects, which are never unpickled",
    ),
    "texts": (
        lambda: save("x.npy", [["a", "b"]]),
        {},
        r"x.npy holds <U1 of shape \(1, 2\); features are numbers of shape",
    ),
    "one dimension": (lambda: save("x.npy", [1.0, 2]), {}, r"x.npy holds float64 of shape \(2,\)"),
    "by columns": (
        lambda: np.save("x.npy", np.ones((3, 4)).T),
        {},
        r"x.npy is stored by columns, so that a row lies all over",
    ),
    "no rows": (lambda: save("x.npy", np.ones((0, 4))), {}, r"there is nothing to learn from"),
    "lengths": (lambda: save("y.npy", [0, 1]), {}, r"y.npy has 2 targets for the 200 rows of x.npy"),
    "no target": (lambda: None, {"target": "z.npy"}, r"z.npy, which data.target names: there is no such file"),
    "no column": (
        lambda: None,
        {"target": "x5"},
        r"expected the path of a .npy file, or one of the columns x0 to x4 of x.npy",
    ),
    "nan target": (
        lambda: save("y.npy", [0.5, np.nan] * 100),
        {},
        r"y.npy: the target is nan in row 1 \(the first is 0\)",
    ),
    "one class": (lambda: save("y.npy", [1] * 200), {}, r"y.npy is '1' in every row; there is nothing to learn"),
    "constant": (
        lambda: save("y.npy", [1.5] * 200),
        {},
        r"y.npy is 1.5 in every row of column 0; there is nothing to learn",
    ),
    "archive": (
        lambda: None,
        {"file": "xy.npz", "target": "targt"},
        r"xy.npz has no array 'targt', which data.target names \(did you m",
    ),
    "which": (
        lambda: np.savez("xy.npz", y=[1], a=[1], b=[1]),
        {"file": "xy.npz", "target": "y"},
        r"which array holds the features\? Be",
    ),
    "compressed": (
        lambda: None,
        {"file": "small.npz", "target": "y"},
        r"array 'x' is compressed and cannot be read in parts; save it wi",
    ),
    "no archive": (
        lambda: Path("xy.npz").write_text("x"),
        {"file": "xy.npz"},
        r"xy.npz cannot be read as a .npz file: File is not a zip",
    ),
    "options": (
        lambda: None,
        {"numeric": ["x0"]},
        r"an array has one data.target, and neither data.numeric nor data.categorical",
    ),
    "dropped": (lambda: None, {"drop": ["x9"]}, r"x.npy has no column 'x9', which data.drop names"),
    "dropped target": (lambda: None, {"target": "x1", "drop": ["x1"]}, r"data.drop names 'x1', which is the target"),
    "all dropped": (lambda: None, {"drop": ["x0", "x1", "x2", "x3", "x4"]}, r"there is nothing to learn from"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_array_is_one_sentence(case: str, arrays: tuple[Any, Any]) -> None:
    break_it, options, message = BAD[case]
    break_it()
    with pytest.raises(TableError, match=message) as caught:
        table_file(**{"file": "x.npy", "target": "y.npy", **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "target"), [("x.npy", "x1"), ("xy.npz", "target"), ("t.parquet", "y"), ("t.csv", "y")]
)
def test_damaged_bytes_never_raise_anything_else(arrays: tuple[Any, Any], name: str, target: str) -> None:
    x, y = arrays
    Path("t.csv").write_text(
        "\n".join(["a,y", *(f"{value:.2f},{label}" for value, label in zip(x[:40, 0], y, strict=False))])
    )
    if name == "t.parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"a": x[:40, 0], "y": y[:40].tolist()}), name)
    whole, numbers = Path(name).read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in numbers.integers(min(len(whole), 400), size=2):
            damaged[place] = numbers.integers(256)
        damaged = damaged[: numbers.integers(len(whole))] if numbers.random() < 0.3 else damaged
        Path(name).write_bytes(damaged)
        try:
            table_file(name, target)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 30


MEASURE = """
import re, sys
from nanotorch.train.fit.build import build
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.config.loading import loads
from nanotorch.train.fit.loop import fit

def resident(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

def train(file, target):
    config = loads(open("c.yaml").read(), overrides=[f"data={{file: {file}, target: {target}}}"])
    data = prepare(config)
    training, loader, parts, options = build(config, data)
    for _ in fit(training, loader, parts["validation"], options):
        pass

train("tiny.npy", "x0")  # whatever is allocated once, such as BLAS's buffers
before = resident("VmHWM")
train(sys.argv[1], "x0")
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
def test_the_resident_set_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """The peak of a run over 48 MB stays below twice that of a run over one batch for each part."""
    batch, width = 1024, 512
    numbers = np.random.default_rng(0).normal(size=(24 * batch, width)).astype(np.float32)
    np.save(tmp_path / "big.npy", numbers)
    np.save(tmp_path / "few.npy", numbers[: 3 * batch])
    np.save(tmp_path / "tiny.npy", numbers[:10])
    (tmp_path / "c.yaml").write_text(
        "name: m\ndata: {file: x.npy, target: y.npy}\nmodel: {name: mlp, hidden: [8]}\nloss: {name: MSELoss}\n"
        f"optimizer: {{name: SGD, lr: 0.001}}\ntrain: {{epochs: 1, batch_size: {batch}}}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    grown = []
    for name in ("few.npy", "big.npy"):
        command = [sys.executable, "-c", MEASURE, name]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        grown.append(int(done.stdout))
    assert grown[1] < 2 * grown[0] and grown[1] < numbers.nbytes / 2, (grown, numbers.nbytes)
