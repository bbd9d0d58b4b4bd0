"""CSV through pyarrow gives the cells of Python's own reader and the same errors, and steps aside where it must."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotorch.train.data import csv_file
from nanotorch.train.data.csv_file import CSVFile, read_csv
from nanotorch.train.data.formats import arrow_csv
from nanotorch.train.data.formats.arrow_csv import NotPlainError, arrow_blocks
from nanotorch.train.data.table import TableError
from nanotorch.train.data.text_format import TextFormat

NUMBERS = ["1", "-2.5", "1e300", "0.1", "9007199254740993", "5e-324", "1e999", ".5", "5.", "+3", " 4 ", "1_0", "0x1F"]
TEXTS = [
    "",
    "NA",
    "nan",
    "-nan",
    "inf",
    "a",
    "a b",
    " a",
    "a ",
    "é字",
    'x"y',
    '"',
    "a,b",
    "a\nb",
    "\r\n",
    "1,5",
    "٣",
    "\t",
]
CELLS = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.text('1.,;" \n\ra-e', max_size=4))


def both(path: Path, form: TextFormat, block: int = 64) -> list[Any]:
    """What either reader makes of a file: its columns, or what it says is wrong."""
    found: list[Any] = []
    for pays in (0, 2**60):
        with (
            mock.patch.object(arrow_csv, "PAYS", pays),
            mock.patch.object(arrow_csv, "BLOCK", block),
            mock.patch.object(csv_file, "ROWS_AT_ONCE", 3),
        ):
            try:
                columns = read_csv(path, form)
                whole = {name: column.tolist() for name, column in columns.items()}
                file = CSVFile(path, form, any_size=True)
                file.begin()
                names = [name for name in file.header if name]
                kept: dict[str, list[Any]] = {name: [] for name in names}
                for piece in file.pieces([], names, names, 2):
                    for name in names:
                        kept[name] += zip(piece[name].tolist(), piece.kept[name].tolist(), strict=True)
                found.append((repr(whole), kept, columns.notices, columns.where(columns.rows - 1)))
            except TableError as error:
                found.append(str(error))
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 3).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=8)),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([(".", None), (",", None), (".", ","), (",", ".")]),
    st.integers(1, 100),
)
def test_both_readers_read_the_same(
    rows: list[list[str]], end: str, quoting: Any, separator: str, notation: Any, block: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end, quoting=quoting, delimiter=separator)
    writer.writerow([*"xyz"[: len(rows[0]) if rows else 2], "w"])
    writer.writerows([*row, "1"] for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "t.csv")).write_text(text.getvalue(), encoding="utf-8", newline="")
        arrow, own = both(path, TextFormat(separator, decimal=notation[0], thousands=notation[1]), block)
    assert arrow == own


@settings(max_examples=150, deadline=None)
@given(
    st.text('a1.,"\n\r \0', max_size=40),
    st.sampled_from(["x,y\n", "", '"x","y"\n', "\n\nx,y\r\n"]),
    st.integers(0, 2),
    st.integers(1, 100),
)
def test_any_text_is_read_the_same_or_refused_the_same(text: str, header: str, skip_rows: int, block: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "t.csv")).write_text(header + text, encoding="utf-8", newline="")
        arrow, own = both(
            path, TextFormat(separator=",", skip_rows=skip_rows, names=() if header else ("x", "y")), block
        )
    # of several mistakes, that which is said depends on how many rows were read at once
    assert arrow == own or (isinstance(arrow, str) and isinstance(own, str))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_other_encodings(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("größe,y\n1,a\n2.5,é\n".encode(encoding))
    arrow, own = both(tmp_path / "t.csv", TextFormat(encoding="latin-1" if encoding == "latin-1" else "utf-8"), 3)
    assert arrow == own and "2.5" in arrow[0]


def test_bytes_that_are_no_text_are_named_as_ever(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"x,y\n" + b"1,2\n" * 40 + b"\xe9,3\n")
    arrow, own = both(tmp_path / "t.csv", TextFormat())
    assert arrow == own and "line 42, byte 164: 0xe9 is not utf-8" in arrow


def blocks(path: Path, as_it_is: bool = False) -> Iterator[dict[int, Any]]:
    return arrow_blocks(path, TextFormat(), "utf-8-sig", ",", 2, [0, 1], as_it_is)


def test_plain_files_do_go_through_pyarrow_and_others_from_their_first_row_on(tmp_path: Path) -> None:
    path, rows = tmp_path / "t.csv", '1,"a, ""b"""\n2,"c\nd"\n'
    path.write_text("x,y\n" + rows * 20)
    with mock.patch.object(arrow_csv, "BLOCK", 50):
        found = list(blocks(path))
    assert len(found) > 5 and sum(len(block[0]) for block in found) == 40
    for odd in ('3, "a"\n', '3,a"b\n4,c"d\n', '3,"a"b\n', "3,a\rb\n", "3,a\0\n", "3\n", "3,4,5\n"):
        path.write_text("x,y\n" + rows * 5 + odd + rows, newline="")
        with mock.patch.object(arrow_csv, "BLOCK", 30):
            seen = []
            with pytest.raises(NotPlainError):
                for block in blocks(path):
                    seen += block[0].to_pylist()
        assert seen == ["1", "2"] * (len(seen) // 2) and 4 <= len(seen) <= 10
        arrow, own = both(path, TextFormat(), 30)
        assert arrow == own


def test_a_large_file_takes_that_way_by_itself(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60_000, 2))
    np.savetxt(tmp_path / "t.csv", values, fmt="%.17g", delimiter=",", header="x,y", comments="")
    with mock.patch.object(csv_file, "arrow_blocks", side_effect=arrow_blocks) as through_arrow:
        columns = read_csv(tmp_path / "t.csv")
    assert through_arrow.called
    np.testing.assert_array_equal(np.stack([columns["x"], columns["y"]], 1), values)
