"""The dataset `file`: a table of one's own, `data: {file: table.csv, target: price}`.

Whatever is read from the file, its columns become one `Table`: numbers with NaN where a value is missing, and numbers
of categories. Nothing is learnt from the rows here. What a missing value is filled with, which categories there are and
how columns are scaled is for `Preprocessing`, which sees the training part alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nanotorch.registry import DATASETS, Checked, NonNegativeInt, PositiveInt, closest
from nanotorch.train.data.array_file import read_arrays
from nanotorch.train.data.columns.column_kinds import Kind, codes, kind_of
from nanotorch.train.data.columns.columns import Columns, joined, known_column, refuse_missing
from nanotorch.train.data.columns.dates import PARTS, Dates, columns_of, date_format, dates_of, like_dates
from nanotorch.train.data.columns.hashed_texts import WIDTH, hashed, hashed_columns, is_free_text
from nanotorch.train.data.columns.notation import Notation, is_missing, only_or_more, text_of
from nanotorch.train.data.csv_file import read_csv
from nanotorch.train.data.data_findings import FEWEST
from nanotorch.train.data.division.from_file import RowMetadata
from nanotorch.train.data.formats.arrow_values import each_once, floats_of, given_back
from nanotorch.train.data.table import FloatArray, Mistakes, Table, TableError, one_line, quoted, shown
from nanotorch.train.data.targets import Labels, Targets, are_classes, class_targets, constant
from nanotorch.train.data.text_format import TextFormat, cell_separator, text_encoding
from nanotorch.utils import files

PARQUET, ARRAYS = (".parquet", ".pq"), (".npy", ".npz")  # endings of names
MOST_CELLS = 2**33  # of a Parquet file, which packs equal ones into a few bytes
CELLS_AT_ONCE = 2**20  # that are taken from Arrow together


@DATASETS.register("file", task="task", own=True)
def table_file(
    file: str,
    target: str | Sequence[str],
    task: Literal["auto", "classification", "regression"] = "auto",
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    dates: Sequence[str] = (),
    date_format: Annotated[str, Checked(date_format)] = "auto",
    text: Literal["refuse", "hash"] = "refuse",
    drop: Sequence[str] = (),
    split: dict[str, str] | None = None,
    validation_file: str | None = None,
    test_file: str | None = None,
    weight: str | None = None,
    missing: Literal["impute", "drop_rows", "refuse"] = "impute",
    missing_values: Annotated[Sequence[str] | dict[Literal["only"], Sequence[str]], Checked(only_or_more)] = (),
    missing_target: Literal["refuse", "drop"] = "refuse",
    categories: Literal["one_hot", "embedding"] = "one_hot",
    max_categories: PositiveInt | Literal["auto"] = "auto",
    separator: Annotated[str, Checked(cell_separator)] = "auto",
    encoding: Annotated[str, Checked(text_encoding)] = "utf-8",
    decimal: Literal[".", ","] = ".",
    thousands: Literal[",", ".", " ", "'", "_"] | None = None,
    skip_rows: NonNegativeInt = 0,
    header: bool | None = None,
    names: Sequence[str] = (),
    sheet: str | None = None,
) -> Table:
    """A table of your own: CSV (also packed, as .csv.gz or .zip), Parquet (extra `parquet`), .xlsx (extra `excel`),
    .npy or .npz; `name` may be left out: {file: t.csv, target: price}.

    The rows of a .npy or .npz file stay on the disk. Of a .npz file, `target` names an array, and the features are the
    other one, or the one called X, features or data. For a .npy file of features, `target` is another .npy file, or one
    of the columns, which are called x0, x1 and so on.

    Args:
        file: its path, from the current directory.
        target: the column to predict, or several: all numbers, or all classes.
        task: what to predict: classes or numbers; auto takes texts and whole numbers of at most 20 different values
            for classes.
        numeric: columns that hold numbers; a text in one is an error.
        categorical: columns that hold categories even where they look like numbers, such as postal codes.
        dates: columns that hold dates or times; others that do are found.
        date_format: how they are written, such as day/month/year or %d.%m.%y; auto finds out.
        text: what to do with columns of free text: an error, or the sums of their hashed words.
        drop: columns not to use.
        split: how rows are divided, if not one by one at random: {by: group, column: C} (rows with one value in C are
            of one part), {by: time, column: C} (the last ones are for the test, those before them for validation), or
            {by: column, column: C} (the cells of C say train, validation or test).
        validation_file: another file, with the rows to validate by.
        test_file: another file, with the rows to test on.
        weight: a column that says how much each row counts in the loss and in the scores. It and the column of `split`
            are not seen by the model, unless `numeric`, `categorical` or `dates` lists them.
        missing: what to do with rows that lack a value: `impute` fills in the training part's median, with a
            further column that says so, and takes a missing category for a category of its own; `drop_rows` leaves them
            out; `refuse` is an error.
        missing_values: further texts that stand for a missing value, beside the empty one, NA and the like; or
            {only: [...]}, all of them.
        missing_target: what to do with rows without a target: an error, or `drop` leaves them out.
        categories: what the model sees of a category: a column of 0 and 1 for each, or a learned vector (an embedding).
        max_categories: the most categories of a column, of which the last stands for all but the most frequent; auto is
            100 for one_hot, and no limit for an embedding.
        separator: what stands between two cells of a CSV file, or auto.
        encoding: the CSV file's.
        decimal: the decimal point of numbers that are texts.
        thousands: what stands between groups of three digits in them.
        skip_rows: how many lines of a CSV file come before its table.
        header: whether its first line names the columns; null: unless `names` does. Without either they are x0, x1 ...
        names: the names of the columns, in their order.
        sheet: the sheet of a spreadsheet; null: its first.
    """
    form = TextFormat(separator, encoding, decimal, thousands, missing_values, skip_rows, header, names, sheet)
    targets = [target] if isinstance(target, str) else list(target)
    if file.lower().endswith(ARRAYS):
        if len(targets) != 1 or numeric or categorical:
            raise TableError(
                f"{file}: an array has one data.target, and neither data.numeric nor data.categorical",
                "data",
                "target" if len(targets) != 1 else "numeric" if numeric else "categorical",
            )
        further = {"split": split, "weight": weight, "validation_file": validation_file, "test_file": test_file}
        for key in [key for key, value in further.items() if value is not None]:
            raise TableError(f"{file}: data.{key} is for tables in CSV, Parquet or .xlsx, not for arrays", "data", key)
        return read_arrays(existing(file), targets[0], task, drop)
    paths: dict[Literal["validation_file", "test_file"], str | None]
    paths = {"validation_file": validation_file, "test_file": test_file}
    others = {key: path for key, path in paths.items() if path is not None}
    whole = _read_all(file, others, [*categorical, *targets, *dates], drop, form)
    dropped, metadata = missing_target == "drop", RowMetadata(split, weight, tuple(others))
    table = table_of(whole, targets, task, numeric, categorical, drop, dropped, dates, date_format, text, metadata)
    features = table.features[:]
    lacking = np.isnan(features).any(axis=1)
    if lacking.any() and missing == "refuse":
        mistakes = Mistakes()
        for name, values in zip(table.feature_names, features.T, strict=True):
            with mistakes.gathered():
                places = np.flatnonzero(np.isnan(values))
                rows = places if table.numbers is None else table.numbers[places]
                refuse_missing(whole, name, rows, "; fill it in, or set data.missing to impute or drop_rows", "missing")
        mistakes.tell()
    if lacking.any() and missing == "drop_rows":
        if lacking.all():
            raise TableError(
                f"{file}: every row lacks a value, and data.missing: drop_rows leaves none", "data", "missing"
            )
        kept = table.rows(np.flatnonzero(~lacking))
        note = f"{int(lacking.sum())} of {len(table)} rows lack a value and are left out (data.missing: drop_rows)"
        table = replace(kept, notices=(*kept.notices, note))
    return table


def _read_all(
    file: str,
    others: Mapping[Literal["validation_file", "test_file"], str],
    as_text: Sequence[str],
    leave_out: Sequence[str],
    form: TextFormat,
) -> Columns:
    """Return the columns of a file, with the rows of others behind its own."""
    paths: dict[str, str] = {"file": file}
    paths.update({str(key): path for key, path in others.items()})
    mistakes, pieces = Mistakes(), dict[str, Columns]()
    for key, path in paths.items():
        with mistakes.gathered():
            try:
                if path.lower().endswith(ARRAYS):
                    raise TableError(f"{path} is an array, and {file} is not; give a table", "data", key)
                pieces[key] = read_columns(path, as_text, leave_out, form)
            except TableError as error:
                if error.path == ("data", "file"):
                    error.path = ("data", key)
                raise
            first = pieces.get("file", pieces[key])
            absent = [name for name in first if name not in pieces[key]]
            if absent:
                raise TableError(f"{path} lacks columns that {file} has: {quoted(absent)}", "data", key)
    mistakes.tell()
    first = pieces.pop("file")
    if not pieces:
        return first
    every = {"file": first, **{key: piece.only(first) for key, piece in pieces.items()}}
    texts = {name for piece in every.values() for name, column in piece.items() if column.dtype == object}
    for key, piece in every.items():  # a text in one file makes texts of the column in all
        if any(piece[name].dtype != object for name in texts):
            every[key] = read_columns(paths[key], [*as_text, *texts], leave_out, form).only(first)
    further = {paths[key]: [name for name in piece if name not in first] for key, piece in pieces.items()}
    notes = [
        f"{path} has columns that {file} lacks, not used: {quoted(names)}" for path, names in further.items() if names
    ]
    whole = joined(list(every.values()))
    return replace(whole, notices=(*whole.notices, *notes))


def read_columns(
    path: str | os.PathLike[str],
    as_text: Collection[str] = (),
    leave_out: Collection[str] = (),
    form: TextFormat = TextFormat(),  # noqa: B008
) -> Columns:
    """Return the columns of a CSV or Parquet file, by the ending of its name."""
    place = existing(path)
    if place.suffix.lower() in PARQUET:
        return _read_parquet(place, as_text, leave_out, form.notation)
    if place.suffix.lower() in (".xls", ".xlsb", ".ods", ".numbers"):
        raise TableError(f"{place} is a spreadsheet; save it as .xlsx or CSV (UTF-8)")
    if place.is_fifo():
        raise TableError(f"{place} is a pipe, and a table is read more than once: save it as a file", "data", "file")
    return read_csv(place, form, as_text, leave_out)


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file; a TableError says which file was probably meant, if there is none."""
    place = Path(files.expanded(os.fspath(path)))
    if not os.path.exists(place):
        folder = place.parent if place.parent.is_dir() else None
        near = closest(place.name, os.listdir(folder)) if folder else None
        hint = f"did you mean {shown(near)}?" if near else f"the current directory is {Path.cwd()}"
        raise TableError(f"{place}: there is no such file ({hint})", "data", "file")
    return place


@contextmanager
def parquet_file(path: Path) -> Iterator[Any]:
    """Return a pyarrow.ParquetFile; what is wrong with it is a TableError, also while it is read."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TableError(
            f"{path}: Parquet needs the package pyarrow: pip install pyarrow; or save the table as CSV"
        ) from None
    try:
        # opened here, since pyarrow knows no path that is not UTF-8
        with open(path, "rb") as content, pyarrow.parquet.ParquetFile(content) as file:
            names = file.schema_arrow.names
            twice = sorted({name for name in names if names.count(name) > 1})
            rows = file.metadata.num_rows
            if rows * len(names) > MOST_CELLS:
                raise TableError(f"{path} has {rows:,} rows of {len(names):,} columns, more than fit into memory")
            if twice:
                raise TableError(f"{path}: two columns have the name {shown(twice[0])}; rename one")
            yield file
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise TableError(f"{path} cannot be read as Parquet: {one_line(error)}") from None


def _read_parquet(path: Path, as_text: Collection[str], leave_out: Collection[str], notation: Notation) -> Columns:
    with parquet_file(path) as file:
        names = file.schema_arrow.names
        index = [name for name in names if re.fullmatch(r"__index_level_\d+__", name)]
        wanted, rows = [name for name in names if name not in (*leave_out, *index)], file.metadata.num_rows
        if not rows:
            raise TableError(f"{path} has {len(names)} columns and no row")
        columns: dict[str, NDArray[Any]] = {}
        mistakes, at_once = Mistakes(), max(1, CELLS_AT_ONCE // rows)
        for start in range(0, len(wanted), at_once):  # what Arrow takes for a whole table it keeps
            with mistakes.gathered():
                piece = file.read(wanted[start : start + at_once])
                columns |= parquet_columns(path, piece, as_text, notation)
        mistakes.tell()
        kinds = {field.name: str(field.type) for field in file.schema_arrow}
        durations = [name for name in wanted if kinds[name].startswith("duration")]
    given_back()
    notices = [f"{shown(name)} of {path} is the index of pandas and is not used" for name in index]
    notices += [f"column {shown(name)} holds durations, which are taken in seconds" for name in durations]
    left_out = tuple(name for name in names if name in leave_out)
    return Columns(str(path), columns, tuple(notices), left_out=left_out, notation=notation)


def parquet_columns(path: Path, table: Any, as_text: Collection[str], notation: Notation) -> dict[str, NDArray[Any]]:
    """Return the columns of a pyarrow Table or RecordBatch, numbers or texts by their types, or by `as_text`."""
    from pyarrow import types as is_type

    columns: dict[str, NDArray[Any]] = {}
    mistakes = Mistakes()
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if is_type.is_dictionary(column.type) else column.type
        numbers = (
            is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind) or is_type.is_null(kind)
        )
        if is_type.is_duration(kind):
            in_second = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
            seconds = floats_of(column.cast(kind).cast("int64")) / in_second
            columns[name] = notation.without_missing(seconds)
            if name in as_text:
                labels = [None if one != one else text_of(one) for one in columns[name].tolist()]
                columns[name] = np.array(labels, object)
        elif numbers and name not in as_text:
            if is_type.is_integer(column.type) or is_type.is_floating(column.type):
                columns[name] = floats_of(column)
            else:
                floats = [np.nan if value is None else float(value) for value in column.to_pylist()]
                columns[name] = np.array(floats, np.float64)
            columns[name] = notation.without_missing(columns[name])
        elif is_type.is_temporal(kind):
            columns[name] = np.array(iso_texts(column), object)
        elif numbers or is_type.is_boolean(kind) or str(kind) in ("string", "large_string", "string_view"):
            plain = column.cast("string" if str(kind) == "string_view" else kind)
            columns[name] = each_once(plain, partial(_texts_of, notation))
        else:
            with mistakes.gathered():
                raise TableError(
                    f"{path}: column {shown(name)} holds {kind}, neither numbers nor texts; list it under data.drop"
                )
    mistakes.tell()
    return columns


def _texts_of(notation: Notation, values: Sequence[object]) -> NDArray[Any]:
    """Return values as texts, None for those that are missing."""
    texts = [None if value is None else text_of(value) for value in values]
    return np.array([None if text is None or notation.lacks(text) else text for text in texts], object)


def iso_texts(column: Any) -> list[str | None]:
    """Return dates and times of pyarrow as texts, to the microsecond, and in UTC where they have a time zone."""
    import pyarrow
    from pyarrow import types as is_type

    kind = column.type.value_type if is_type.is_dictionary(column.type) else column.type
    zoned = is_type.is_timestamp(kind) and kind.tz is not None
    plain = {True: pyarrow.timestamp("us"), False: pyarrow.time64("us")}[not is_type.is_time(kind)]
    texts = column.cast(kind).cast(pyarrow.timestamp("us", "UTC") if zoned else plain, safe=False)
    if zoned:
        texts = texts.cast(plain)
    return [None if text is None else text + "Z" * zoned for text in texts.cast(pyarrow.string()).to_pylist()]


# ------------------------------------------------------------ columns to a Table


def table_of(
    whole: Columns,
    target: Sequence[str],
    task: str = "auto",
    numeric: Collection[str] = (),
    categorical: Collection[str] = (),
    drop: Collection[str] = (),
    drop_missing_targets: bool = False,
    dates: Collection[str] = (),
    date_format: str = "auto",
    text: str = "refuse",
    metadata: RowMetadata = RowMetadata(),  # noqa: B008
) -> Table:
    """Decide what each column holds, and make a Table of them; a DataError says all that speaks against it."""
    source, mistakes = whole.source, Mistakes()
    available = [*whole, *whole.left_out]
    stated = {"target": target, "numeric": numeric, "categorical": categorical, "dates": dates, "drop": drop}
    for key, names in stated.items():
        for name in names:
            with mistakes.gathered():
                if key != "drop" or not _is_part(name, available):
                    known_column(name, available, source, key)
                if key == "drop" and name in target:
                    raise TableError(f"data.drop names {shown(name)}, which is the target", "data", "drop")
                if key == "dates" and name in {*numeric, *categorical, *target}:
                    raise TableError(f"data.dates names {shown(name)}, as another key does too", "data", "dates")
                if key == "categorical" and name in numeric:
                    raise TableError(
                        f"data.numeric and data.categorical both name {shown(name)}", "data", "categorical"
                    )
    with mistakes.gathered():
        metadata.refuse_unknown(available, source, target, drop)
    asked = {*numeric, *categorical, *dates}
    aside = {name for name in metadata.columns().values() if name not in asked}
    names = [name for name in whole if name not in target and name not in drop and name not in aside]
    with mistakes.gathered():
        if not names:
            raise TableError(
                f"{source} has no column beside {', '.join(['the target', *map(shown, sorted(aside))])}; there is"
                " nothing to learn from",
                "data",
                "target",
            )
        if not target or len(set(target)) != len(target):
            raise TableError("data.target names one column, or several different ones", "data", "target")
    all_rows, of_kind = whole, {*numeric, *categorical, *dates}
    if set(target) <= set(whole):  # else that is said, and the columns are looked at all the same
        with mistakes.gathered():
            whole = _with_targets(whole, target, drop_missing_targets)
    of_file = all_rows.piece_of_rows
    counting = [
        name for name in names if name in all_rows and name not in of_kind and counts_rows(all_rows[name], of_file)
    ]
    if len(counting) < len(names):
        names = [name for name in names if name not in counting]
    else:
        counting = []
    features: dict[str, FloatArray] = {}
    of_dates: dict[str, Dates] = {}
    free: list[str] = []
    categories: dict[str, tuple[str, ...]] = {}
    units: dict[str, str] = {}
    notices = [*whole.notices, *map(_said_of_row_numbers, counting)]
    for name in names:
        with mistakes.gathered():
            if name not in {*categorical, *numeric} and whole[name].dtype == object:
                found_dates = dates_of(whole, name, date_format, name in dates)
                if found_dates is not None:
                    of_dates[name], parts, said = columns_of(whole, name, found_dates, drop)
                    _refuse_names_of_parts(source, name, of_dates[name].columns(name), names)
                    features |= zip(of_dates[name].columns(name), parts, strict=True)
                    notices.append(said)
                    continue
            sure = name in numeric
            kind = Kind(None) if name in categorical else kind_of(whole, name, whole.notation, sure, sure)
            notices += kind.notices
            if kind.unit:
                units[name] = kind.unit
            if kind.numbers is None and name not in categorical and is_free_text(whole[name]):
                if text == "refuse":
                    example = next(cell for cell in whole[name] if cell is not None)
                    raise TableError(
                        f"{source}: column {shown(name)} holds free text, such as {shown(example)}; list it under"
                        " data.drop, or set data.text: hash, or list it under data.categorical"
                    )
                _refuse_names_of_parts(source, name, hashed_columns(name), names)
                free.append(name)
                features |= zip(hashed_columns(name), hashed(whole[name]).T, strict=True)
                notices.append(f"column {shown(name)} holds free text; the model sees {WIDTH} sums of its words")
                continue
            if kind.numbers is None:
                categories[name], features[name] = codes(whole[name], whole.notation)
            else:
                _refuse_infinite(whole, name, kind.numbers)
                features[name] = kind.numbers
                notices += [said] if not sure and (said := like_dates(name, kind.numbers)) else []
            if np.isnan(features[name]).all():
                raise TableError(f"{source}: column {shown(name)} has no value in any row; list it under data.drop")
    for name in drop:
        column = name.rpartition(": ")[0]
        if _is_part(name, available) and name not in available and column not in of_dates and not mistakes.found:
            with mistakes.gathered():
                known_column(name, available, source, "drop")
    if set(metadata.columns().values()) <= set(whole):
        with mistakes.gathered():
            division = metadata.division(whole, date_format)
        with mistakes.gathered():
            weights = metadata.weights(whole, numeric)
    if not mistakes.found or set(target) <= set(whole):
        with mistakes.gathered():
            found = _targets(whole, target, task, numeric, units)
    mistakes.tell()
    return Table(
        np.stack(list(features.values()), axis=1),
        found.values,
        found.task,
        tuple(features),
        found.names,
        categories,
        (*notices, *found.notices),
        whole.numbers,
        units,
        of_dates,
        tuple(free),
        division=division,
        weights=weights,
        classes=found.classes,
    )


def counts_rows(column: NDArray[Any], pieces: NDArray[np.int64]) -> bool:
    """Return whether a column holds nothing but the number of each row, from 0 or 1; in the pieces behind the first it
    may begin anywhere.
    """
    if column.dtype == object or len(column) < FEWEST or column[0] not in (0, 1):
        return False
    return bool((np.diff(column)[np.diff(pieces) == 0] == 1).all())


def _said_of_row_numbers(name: str) -> str:
    return (
        f"column {shown(name)} counts the rows from the first to the last and is left out, since it means nothing for a"
        " new one; data.numeric keeps it"
    )


def _is_part(name: str, columns: Collection[str]) -> bool:
    """Return whether a name is that of a part of a column of dates, if it holds dates."""
    column, _, part = name.rpartition(": ")
    return column in columns and part in PARTS


def _refuse_names_of_parts(source: str, name: str, parts: Sequence[str], columns: Sequence[str]) -> None:
    clash = next((part for part in parts if part in columns), None)
    if clash is not None:
        raise TableError(
            f"{source}: column {shown(clash)} is called as what the model sees of column {shown(name)}; rename it"
        )


def lacks_target(whole: Columns, target: str) -> NDArray[np.bool_]:
    """Return which rows have no value in a column of targets."""
    column = whole[target]
    if column.dtype.kind == "f":
        return np.isnan(column)
    values = column.tolist()
    if set(map(type, values)) <= {str}:
        return np.zeros(len(values), bool)
    return np.array([is_missing(value) for value in values], bool)


def _with_targets(whole: Columns, target: Sequence[str], drop: bool) -> Columns:
    """Return the rows that have a target; unless the others may be dropped, a DataError where there are any."""
    mistakes, lacking = Mistakes(), np.zeros(whole.rows, bool)
    for name in target:
        rows = np.flatnonzero(lacks_target(whole, name))
        lacking[rows] = True
        if len(rows) and not drop:
            with mistakes.gathered():
                more = f", as one of {len(rows)} rows" if len(rows) > 1 else ""
                raise TableError(
                    f"{whole.where(rows[0])}: the target {shown(name)} has no value{more}; fill it in, or remove the"
                    f" row, or set data.missing_target: drop{_of_its_text(whole, name, rows[0])}"
                )
    mistakes.tell()
    if not lacking.any():
        return whole
    first = int(np.argmax(lacking))
    if lacking.all():
        raise TableError(f"{whole.source}: no row has a target, and data.missing_target: drop leaves none")
    note = (
        f"{int(lacking.sum())} of {whole.rows} rows have no target and are left out (data.missing_target: drop), the"
        f" first in {whole.where(first).removeprefix(f'{whole.source}, ')}"
        + "".join(_of_its_text(whole, name, first) for name in target)
    )
    kept = whole.take(np.flatnonzero(~lacking))
    return replace(kept, notices=(*kept.notices, note))


def _of_its_text(whole: Columns, name: str, row: int) -> str:
    """Return what to do where the text of a missing target is the name of a class."""
    text = whole.cell(row, name)
    if not text or text not in whole.notation.missing:
        return ""
    return f" (if {shown(text)} is a class: data.missing_values: {{only: ['']}})"


def _refuse_infinite(whole: Columns, name: str, column: FloatArray) -> None:
    infinite = np.isinf(column)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise TableError(f"{whole.where(row)}: column {shown(name)} is {column[row]}, which is not finite; replace it")


def _targets(
    whole: Columns, target: Sequence[str], task: str, numeric: Collection[str], units: dict[str, str]
) -> Targets:
    """Return the targets; what stands beside their numbers is added to `units`."""
    notices: tuple[str, ...] = ()
    mistakes = Mistakes()
    if task != "regression":
        looked = []
        for name in target:
            with mistakes.gathered():
                looked.append(_labels(whole, name, task, name in numeric))
        mistakes.tell()
        found = class_targets(looked)
        if found is not None:
            return found
        notices = tuple(notice for one in looked for notice in one.notices)
    columns = list[FloatArray]()
    for name in target:
        with mistakes.gathered():
            otherwise = "for classes take a loss for classes, and data.task: classification"
            kind = kind_of(whole, name, whole.notation, stated=True, sure=name in numeric, otherwise=otherwise)
            assert kind.numbers is not None, "stated"
            _refuse_infinite(whole, name, kind.numbers)
            if (kind.numbers == kind.numbers[0]).all():
                raise constant(f"{whole.source}: the target {shown(name)}", f"{kind.numbers[0]:g}")
            columns.append(kind.numbers)
            notices = (*notices, *(notice for notice in kind.notices if notice not in notices))
            if kind.unit:
                units[name] = kind.unit
    mistakes.tell()
    return Targets("regression", np.stack(columns, 1), tuple(target), notices)


def _labels(whole: Columns, name: str, task: str, sure: bool) -> Labels:
    """Return a column of targets with its classes, and whether it is taken for them."""
    notation = whole.notation
    names, places = codes(whole[name], notation)
    labels = places.astype(np.int64)
    kind = Kind(notation.numbers(names)) if task == "classification" else kind_of(whole, name, notation, sure=sure)
    numbers = kind.numbers
    whole_numbers = numbers is not None and bool(np.all(np.isfinite(numbers) & (numbers == np.round(numbers))))
    classes, told = are_classes(task, shown(name), len(names), whole.rows, texts=numbers is None, whole=whole_numbers)
    if task == "auto" and classes and dates_of(whole, name) is not None:
        raise TableError(
            f"{whole.source}: the target {shown(name)} holds dates, which are neither classes nor numbers; write"
            " them as numbers, such as days since one of them, or state data.task: classification",
            "data",
            "target",
        )
    values = notation.numbers(names, kind.unit) if classes else None
    if values is not None:  # in the order of the numbers, not of their texts
        order = np.argsort(values, kind="stable")
        names, labels = tuple(names[place] for place in order), np.argsort(order)[labels]
    place = f"{whole.source}: the target {shown(name)}"
    return Labels(name, place, names, labels, numbers is None, classes, (*kind.notices, *told))
