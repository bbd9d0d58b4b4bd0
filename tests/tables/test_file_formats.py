"""How tables come: packed, in other encodings, with lines before them or without a header, and in large cells."""

from __future__ import annotations

import bz2
import datetime
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from nanotorch.train.cli.evaluate import main as evaluate
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.data import csv_file
from nanotorch.train.data import table_file as table_files
from nanotorch.train.data.csv_file import read_csv
from nanotorch.train.data.formats import unpacked
from nanotorch.train.data.table import TableError
from nanotorch.train.data.table_file import table_file
from nanotorch.train.data.text_format import TextFormat
from own_runs import NUMBERS, numbers, read_rows, trained, write_rows, write_table

TEXT = 'a,b,y\n1,x,0.5\n2,"y, z",1.5\n'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("numbers")
    return trained(place, "{file: TABLE, target: price, drop: [id, kind, sold, year]}", "MSELoss", epochs=1)


def zipped(content: bytes, *more: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/table.csv", content)
        for name in more:
            archive.writestr(name, "x")
    return file.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": zipped,
}

# ------------------------------------------------------------ packed


@pytest.mark.parametrize("ending", PACK)
def test_packed_files_are_read(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.csv{ending.upper()}"
    path.write_bytes(PACK[ending](TEXT.encode()))
    columns = read_csv(path)
    assert columns["a"].tolist() == [1, 2] and columns["b"].tolist() == ["x", "y, z"]
    assert columns.where(1) == f"{path}, line 3"
    assert table_file(str(path), "y").features.tolist() == [[1, 0], [2, 1]]


@pytest.mark.parametrize("ending", PACK)
def test_damaged_packed_files_are_one_sentence(ending: str, tmp_path: Path) -> None:
    whole = PACK[ending](TEXT.encode() * 50)
    path, generator = tmp_path / f"t.csv{ending}", np.random.default_rng(0)
    refused = 0
    for cut in (0, 5, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(TableError) as caught:
            read_csv(path)
        assert "\n" not in str(caught.value)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[generator.integers(len(damaged))] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_csv(path)
        except TableError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("ending", PACK)
def test_what_unpacks_to_the_most_is_read_and_a_byte_more_is_not(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"a,b\n" + b"0,1\n" * 50
    path = tmp_path / f"t.csv{ending}"
    path.write_bytes(PACK[ending](content))
    monkeypatch.setattr(unpacked, "MOST_TIMES", 0)
    monkeypatch.setattr(unpacked, "MOST_UNPACKED", len(content))
    assert read_csv(path).rows == 50
    monkeypatch.setattr(unpacked, "MOST_UNPACKED", len(content) - 1)
    with pytest.raises(TableError, match="unpacks to more than 203 bytes"):
        read_csv(path)


@pytest.mark.parametrize("ending", PACK)
def test_what_inflates_is_refused(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "MOST_UNPACKED", 2**16)
    path = tmp_path / f"t.csv{ending}"
    path.write_bytes(PACK[ending](b"a,b\n" + b"0,0\n" * 2**16))
    with pytest.raises(TableError, match=r"unpacks to more than [\d,]+ bytes, 100 times its size or more"):
        read_csv(path)
    monkeypatch.setattr(csv_file, "LONGEST_LINE", 2**12)
    path.write_bytes(PACK[ending](b"a,b\n" + b"0" * 2**14))
    with pytest.raises(TableError, match="has a line of more than 4,096 characters"):
        read_csv(path)


def test_a_zip_has_one_table(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    path.write_bytes(zipped(TEXT.encode(), "read.me", "__MACOSX/._table.csv"))
    assert list(read_csv(path)) == ["a", "b", "y"]
    path.write_bytes(zipped(TEXT.encode(), "other.csv"))
    with pytest.raises(TableError, match=r"has to hold one table, and this one has 2 files: 'folder/table.csv', 'oth"):
        read_csv(path)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip"])
def test_what_is_packed_under_a_name_that_does_not_say_so(ending: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(PACK[ending](TEXT.encode()))
    with pytest.raises(TableError, match=r"is not CSV but an? (gzip|bzip2|xz|zip or Excel) file; its name's"):
        read_csv(tmp_path / "t.csv")


# ------------------------------------------------------------ encodings, large cells, lines before the table


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("größe\ty\n1,5\t字\n2\tb\n".encode(encoding))
    columns = read_csv(tmp_path / "t.csv", TextFormat(decimal=","))
    assert columns["größe"].tolist() == [1.5, 2] and columns["y"].tolist() == ["字", "b"]
    assert columns.where(1).endswith("line 3")


def test_large_cells(tmp_path: Path) -> None:
    page = "word, \n" * 50_000
    (tmp_path / "t.csv").write_text(f'a,y\n1,"{page}"\n2,{"x" * 200_000}\n', newline="")
    assert read_csv(tmp_path / "t.csv")["y"].tolist() == [page.strip(), "x" * 200_000]


def test_lines_before_the_table_and_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('report "of, today\n\n; 3\n\na;b\n1;x\n2;y z\n')
    columns = read_csv(path, TextFormat(skip_rows=3))
    assert dict(columns.items())["a"].tolist() == [1, 2] and list(columns) == ["a", "b"]
    assert columns.where(1) == f"{path}, line 7"
    renamed = read_csv(path, TextFormat(skip_rows=3, header=True, names=["c", "d"]))
    assert list(renamed) == ["c", "d"] and renamed["c"].tolist() == [1, 2] and renamed.where(0).endswith("line 6")
    path.write_text("1,x\n2,y\n")
    for form, names in ((TextFormat(names=["p", "q"]), ["p", "q"]), (TextFormat(header=False), ["x0", "x1"])):
        columns = read_csv(path, form)
        assert list(columns) == names and columns[names[0]].tolist() == [1, 2] and columns.where(1).endswith("line 2")
    assert table_file(str(path), "q", header=False, names=["p", "q"]).target_names == ("x", "y")
    with pytest.raises(TableError, match=r"line 1: 2 cells, but data.names has 3 names"):
        read_csv(path, TextFormat(names=["p", "q", "r"]))
    path.write_text("1,3\n2,4\n")
    with pytest.raises(
        TableError, match=r"'1' is no name of a column; add a line with names, or state data\.names, or"
    ):
        read_csv(path)


def test_predict_and_evaluate_take_files_written_in_another_way(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "new.csv", rows=30, seed=1)
    expected = numbers(read_rows(_predicted(run, tmp_path / "new.csv", tmp_path)), "prediction")
    lines = [";".join(row[name].replace(".", ",") for name in ("age", "city", "price")) for row in table]
    other = tmp_path / "other.txt.gz"
    other.write_bytes(gzip.compress("\n".join(["made by; a 'machine", *lines]).encode("latin-1")))
    options = ["--separator", ";", "--decimal", ",", "--encoding", "latin-1", "--skip-rows", "1"]
    options += ["--names", "age,city,price"]
    found = numbers(read_rows(_predicted(run, other, tmp_path, *options)), "prediction")
    np.testing.assert_array_equal(found, expected)
    scores = []
    for arguments in (["--input", f"{tmp_path}/new.csv"], ["--input", str(other), *options]):
        capsys.readouterr()
        assert evaluate([str(run), *arguments, "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out)["scores"])
    assert scores[0] == scores[1]
    assert evaluate([str(run), "--skip-rows", "1"]) == 2
    assert "--skip-rows says how --input is written, and there is none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict([str(run), "--input", "x", "--output", "y", "--skip-rows", "-1"])


def test_names_of_the_file_and_of_the_run_are_not_mixed(tmp_path: Path) -> None:
    table = write_table(tmp_path / "named.csv", rows=40)
    columns = ("age", "city", "price")
    rows = "".join(",".join(row[name] for name in columns) + "\n" for row in table)
    (tmp_path / "bare.csv").write_text(rows, encoding="utf-8")
    run = trained(tmp_path, f"{{file: {tmp_path}/bare.csv, target: price, names: [age, city, price]}}", "MSELoss")
    expected = numbers(read_rows(_predicted(run, tmp_path / "bare.csv", tmp_path)), "prediction")
    (tmp_path / "turned.csv").write_text("city,age\n" + "".join(f"{row['city']},{row['age']}\n" for row in table))
    found = numbers(read_rows(_predicted(run, tmp_path / "turned.csv", tmp_path, "--header")), "prediction")
    np.testing.assert_array_equal(found, expected)


def _predicted(run: Path, rows: Path, folder: Path, *options: str) -> Path:
    assert predict([str(run), "--input", str(rows), "--output", str(folder / "out.csv"), *options]) == 0
    return folder / "out.csv"


# ------------------------------------------------------------ names of files


def test_paths_that_are_no_utf_8(run: Path, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    table = write_table(tmp_path / "new.csv", rows=5)
    os.rename(tmp_path / "new.csv", folder + b"/n\xff.csv")
    place = os.fsdecode(folder)
    frame = {"age": [30.0], "city": ["Rome"], "id": [1]}
    with open(folder + b"/n\xff.parquet", "wb") as file:
        pyarrow.parquet.write_table(pyarrow.table(frame), file)
    for ending, rows in (("csv", len(table)), ("parquet", 1)):
        rows_in, out = f"{place}/n\udcff.{ending}", f"{place}/o\udcff.{ending}"
        command = [sys.executable, "-m", "nanotorch.predict", str(run), "--input", rows_in, "--output", out]
        done = subprocess.run([*command, "--keep", "id"], capture_output=True, text=True)
        assert done.returncode == 0, done
        assert f"{rows} row" in done.stdout and "\\udcff" in done.stdout
    assert sorted(os.listdir(folder)) == [b"n\xff.csv", b"n\xff.parquet", b"o\xff.csv", b"o\xff.parquet"]
    with open(folder + b"/bad\xff.csv", "w") as text:
        text.write("age,city\nx,Rome\n")
    command = [
        sys.executable,
        "-m",
        "nanotorch.predict",
        str(run),
        "--input",
        f"{place}/bad\udcff.csv",
        "--output",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "holds 'x', which is not a number" in done.stderr and done.stderr.count("\n") == 1


def test_a_run_in_a_folder_that_is_no_utf_8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    write_table(folder / "table.csv")
    (folder / "c.yaml").write_text(
        f"name: own\ndata: {NUMBERS.replace('TABLE', 'table.csv')}\nmodel: {{hidden: [4]}}\nloss: {{name: MSELoss}}\n"
        "optimizer: {name: SGD, lr: 1e-3}\ntrain: {epochs: 1, batch_size: 16}\n"
    )
    for arguments in (["train", "c.yaml", "--output", "run"], ["evaluate", "run"]):
        done = subprocess.run(
            [sys.executable, "-m", "nanotorch", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(csv_file.__file__).parents[3])},
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done


def test_a_table_to_train_on_is_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(TableError, match="is a pipe, and a table is read more than once: save it as a file"):
        table_file(str(tmp_path / "t.csv"), "y")


def test_a_small_parquet_file_may_claim_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "MOST_CELLS", 1000)
    pyarrow.parquet.write_table(pyarrow.table({"x": [1.0] * 501, "y": [2] * 501}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="has 501 rows of 2 columns, more than fit into memory"):
        table_file(str(tmp_path / "t.parquet"), "y")


def test_rows_from_a_named_pipe(run: Path, tmp_path: Path) -> None:
    rows: Any = write_table(tmp_path / "new.csv", rows=5)
    write_rows(tmp_path / "new.csv", rows)
    command = f"{sys.executable} -m nanotorch.predict {run} --input <(cat {tmp_path}/new.csv) --output {tmp_path}/o.csv"
    subprocess.run(["bash", "-c", command], check=True, timeout=60)
    assert len(read_rows(tmp_path / "o.csv")) == 5


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_are_seconds_in_any_unit(tmp_path: Path, unit: str) -> None:
    given = [None if row % 5 == 0 else datetime.timedelta(seconds=row) for row in range(40)]
    table = pyarrow.table({"d": pyarrow.array(given, pyarrow.duration(unit)), "y": [row % 2 for row in range(40)]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    read = table_file(str(tmp_path / "t.parquet"), "y")
    expected = [np.nan if one is None else one.total_seconds() for one in given]
    np.testing.assert_array_equal(read.features[:, 0], expected)
    assert "column 'd' holds durations, which are taken in seconds" in read.notices
    named = table_file(str(tmp_path / "t.parquet"), "y", categorical=["d"])
    assert named.categories is not None and named.categories["d"][:3] == ("1", "11", "12")
