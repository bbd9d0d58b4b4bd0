"""Sheets of .xlsx files are tables as CSV files are, and damaged ones are one sentence."""

from __future__ import annotations

import datetime
import io
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest

from nanotorch.train.cli.predict import main as predict
from nanotorch.train.data.csv_file import read_csv
from nanotorch.train.data.formats import unpacked
from nanotorch.train.data.table import TableError
from nanotorch.train.data.table_file import read_columns, table_file
from nanotorch.train.data.text_format import TextFormat
from own_runs import numbers, read_rows, trained, write_table

ROWS: list[list[Any]] = [
    ["id", "x", "y", "when", "flag", None],
    [12345678, 1.5, "a", datetime.datetime(2020, 1, 2, 3, 4), True],
    [None] * 6,
    ["00017", None, " b ", datetime.date(2020, 1, 1), False],
    [None, 1e300, "NA", datetime.time(3, 4), None],
]


def write_book(path: Path, rows: Sequence[Sequence[Any]] = ROWS, name: str = "Data", more: Sequence[str] = ()) -> Path:
    book = openpyxl.Workbook()
    book.active.title = name
    for row in rows:
        book.active.append(list(row))
    for other in more:
        book.create_sheet(other).append(["only", "this"])
    book.save(path)
    return path


def changed(path: Path, name: str, pattern: bytes, by: bytes) -> None:
    """Change a file of the archive."""
    with zipfile.ZipFile(path) as archive:
        contents = {one: archive.read(one) for one in archive.namelist()}
    assert re.search(pattern, contents[name])
    contents[name] = re.sub(pattern, by, contents[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in contents.items():
            archive.writestr(one, content)


def test_cells_are_those_of_csv(tmp_path: Path) -> None:
    columns = read_columns(write_book(tmp_path / "t.xlsx"), as_text=["id"])
    assert columns["id"].tolist() == ["12345678", "00017", None]
    np.testing.assert_array_equal(columns["x"], [1.5, np.nan, 1e300])
    assert columns["y"].tolist() == ["a", "b", None]
    assert columns["when"].tolist() == ["2020-01-02 03:04:00", "2020-01-01", "03:04:00"]
    assert columns["flag"].tolist() == ["True", "False", None]
    assert columns.where(1) == f"{tmp_path / 't.xlsx'}, row 4"
    decimal = read_csv(write_book(tmp_path / "c.xlsx", [["x", "y"], [1.5, 1], ["2,5", 2]]), TextFormat(decimal=","))
    assert decimal["x"].tolist() == [1.5, 2.5]


def test_sheets_lines_before_the_table_and_names(tmp_path: Path) -> None:
    path = write_book(tmp_path / "t.xlsx", [["A title"], [], ["x", "y"], [1, "a"], [2, "b"]], more=["Other"])
    columns = read_columns(path, form=TextFormat(skip_rows=2))
    assert columns["x"].tolist() == [1, 2] and columns.where(0).endswith("row 4")
    assert columns.notices[0].endswith("t.xlsx has 2 sheets, and 'Data' is read (data.sheet names another)")
    assert list(read_columns(path, form=TextFormat(skip_rows=3, names=["p", "q"], sheet="Data"))) == ["p", "q"]
    with pytest.raises(TableError, match=r"has no sheet 'data', which data.sheet names \(did you mean 'Data'"):
        read_columns(path, form=TextFormat(sheet="data"))
    with pytest.raises(TableError, match=r"has a header of 2 columns and no row"):
        read_columns(path, form=TextFormat(sheet="Other"))
    wide = write_book(tmp_path / "w.xlsx", [["x", "y"], [1, 2], [1, 2, 3]])
    with pytest.raises(TableError, match=r"w.xlsx, row 3: 3 cells, but the header has 2 columns"):
        read_columns(wide)


def test_a_formula_is_what_it_gave_or_an_error(tmp_path: Path) -> None:
    path = write_book(tmp_path / "t.xlsx", [["x", "y"], [1, "=A2+1"], [2, 5]])
    with pytest.raises(TableError, match=r"row 2: the formula '=A2\+1' has no value in the file; open it in a spread"):
        read_columns(path)
    changed(path, "xl/worksheets/sheet1.xml", rb"</f><v ?/>|</f><v></v>", b"</f><v>2</v>")
    assert read_columns(path)["y"].tolist() == [2, 5]
    changed(path, "xl/worksheets/sheet1.xml", rb'<c r="B2"([^>]*)>(.*?)<v>2</v>', rb'<c r="B2" t="str">\2<v></v>')
    np.testing.assert_array_equal(read_columns(path)["y"], [np.nan, 5])  # =IF(A2>1,A2,"")


def test_spreadsheets_that_inflate_or_claim_a_size_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_book(tmp_path / "t.xlsx")
    changed(path, "xl/worksheets/sheet1.xml", rb'<dimension ref="[^"]*" ?/>', b'<dimension ref="A1:XFD1048576"/>')
    assert len(read_columns(path)["x"]) == 3
    monkeypatch.setattr(unpacked, "MOST_UNPACKED", 2**16)
    monkeypatch.setattr(unpacked, "MOST_TIMES", 10)
    changed(path, "xl/workbook.xml", rb"<workbook", b" " * 2**20 + b"<workbook")
    with pytest.raises(TableError, match=r"unpacks to [\d,]+ bytes, more than [\d,]+; save it as CSV"):
        read_columns(path)


def test_entities_do_not_grow(tmp_path: Path) -> None:
    path = write_book(tmp_path / "t.xlsx", [["x", "y"], [1, "a"], [2, "b"]])
    entities = b"".join(b'<!ENTITY e%d "%s">' % (level, b"&e%d;" % (level - 1) * 10) for level in range(1, 12))
    bomb = b'<?xml version="1.0"?><!DOCTYPE sst [<!ENTITY e0 "ha">' + entities + b"]><worksheet"
    changed(path, "xl/worksheets/sheet1.xml", rb"^<worksheet", bomb)
    changed(path, "xl/worksheets/sheet1.xml", rb"<t>a</t>", b"<t>&e11;</t>")
    with pytest.raises(TableError, match=r"t.xlsx cannot be read as a spreadsheet: "):
        read_columns(path)


def test_damaged_spreadsheets_are_one_sentence(tmp_path: Path) -> None:
    whole, generator = write_book(tmp_path / "t.xlsx").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole[: generator.integers(len(whole)) if generator.random() < 0.2 else None])
        for place in generator.integers(max(len(damaged), 1), size=3):
            damaged[place : place + 1] = bytes([generator.integers(256)])
        (tmp_path / "d.xlsx").write_bytes(damaged)
        try:
            read_columns(tmp_path / "d.xlsx")
        except TableError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    (tmp_path / "d.xlsx").write_bytes(empty.getvalue())
    with pytest.raises(TableError, match="cannot be read as a spreadsheet"):
        read_columns(tmp_path / "d.xlsx")


def test_without_the_package_and_other_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_book(tmp_path / "t.xlsx")
    for ending in ("xls", "ods"):
        (tmp_path / f"t.{ending}").write_bytes(b"x")
        with pytest.raises(TableError, match=r"is a spreadsheet; save it as \.xlsx or CSV"):
            table_file(str(tmp_path / f"t.{ending}"), "y")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(TableError, match="needs the package openpyxl: pip install openpyxl; or save the table as CSV"):
        table_file(str(tmp_path / "t.xlsx"), "y")


def test_train_and_predict(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", rows=60)
    typed = [[float(row[name]) if row[name] and name == "age" else row[name] or None for name in row] for row in table]
    write_book(tmp_path / "t.xlsx", [list(table[0]), *typed])
    data = "{file: %s, target: kind, drop: [id, price, sold, year]}"
    found = []
    for ending in ("csv", "xlsx"):
        run = trained(tmp_path / ending, data % (tmp_path / f"t.{ending}"), "CrossEntropyLoss", epochs=1)
        out = tmp_path / f"{ending}.csv"
        arguments = ["--input", str(tmp_path / f"t.{ending}"), "--output", str(out), "--keep", "id"]
        assert predict([str(run), *arguments]) == 0
        found.append(read_rows(out))
    assert [row["id"] for row in found[0]] == [row["id"] for row in found[1]] == [row["id"] for row in table]
    np.testing.assert_array_equal(numbers(found[0], "prob"), numbers(found[1], "prob"))
