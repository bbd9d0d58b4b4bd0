"""The dataset `file`: a table of one's own, `data: {file: table.csv, target: price}`.

Whatever is read from the file, its columns become one `Table`: numbers with NaN where a value is missing, and numbers
of categories. Nothing is learnt from the rows here. What a missing value is filled with, which categories there are and
how columns are scaled is for `Preprocessing`, which sees the training part alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nanotorch.registry import DATASETS, Checked, NonNegativeInt, PositiveInt, closest
from nanotorch.train.data.array_file import read_arrays
from nanotorch.train.data.csv_file import Columns, as_numbers, known_column, read_csv
from nanotorch.train.data.table import FloatArray, Table, TableError, shown
from nanotorch.train.data.targets import Targets, are_classes, class_targets, constant
from nanotorch.train.data.text_format import MISSING, TextFormat, cell_separator, text_encoding
from nanotorch.utils import files

Text = NDArray[np.object_]


@DATASETS.register("file", task="task", own=True)
def table_file(
    file: str,
    target: str | Sequence[str],
    task: Literal["auto", "classification", "regression"] = "auto",
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    missing: Literal["impute", "drop_rows", "refuse"] = "impute",
    missing_values: Sequence[str] = MISSING,
    categories: Literal["one_hot", "embedding"] = "one_hot",
    max_categories: PositiveInt = 100,
    separator: Annotated[str, Checked(cell_separator)] = "auto",
    encoding: Annotated[str, Checked(text_encoding)] = "utf-8",
    decimal: Literal[".", ","] = ".",
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
        target: the column to predict, or for a regression several.
        task: what to predict: classes or numbers; auto takes texts and whole numbers of at most 20 different values
            for classes.
        numeric: columns that hold numbers; a text in one is an error.
        categorical: columns that hold categories even where they look like numbers, such as postal codes.
        drop: columns not to use.
        missing: what to do with rows that lack a value: `impute` fills in the training part's median, with a
            further column that says so, and takes a missing category for a category of its own; `drop_rows` leaves them
            out; `refuse` is an error.
        missing_values: the texts that stand for a missing value.
        categories: what the model sees of a category: a column of 0 and 1 for each, or a learned vector (an embedding).
        max_categories: the most categories that a column may have.
        separator: what stands between two cells of a CSV file, or auto.
        encoding: the CSV file's.
        decimal: the decimal point of a CSV file's numbers.
        skip_rows: how many lines of a CSV file come before its table.
        header: whether its first line names the columns; null: unless `names` does. Without either they are x0, x1 ...
        names: the names of the columns, in their order.
        sheet: the sheet of a spreadsheet; null: its first.
    """
    form = TextFormat(separator, encoding, decimal, missing_values, skip_rows, header, names, sheet)
    targets = [target] if isinstance(target, str) else list(target)
    if file.lower().endswith((".npy", ".npz")):
        if len(targets) != 1 or numeric or categorical:
            raise TableError(
                f"{file}: an array has one data.target, and neither data.numeric nor data.categorical",
                "data",
                "target" if len(targets) != 1 else "numeric" if numeric else "categorical",
            )
        return read_arrays(existing(file), targets[0], task, drop)
    whole = read_columns(file, [*categorical, *targets], drop, form)
    table = table_of(whole, targets, task, numeric, categorical, drop, decimal)
    lacking = np.isnan(table.features).any(axis=1)
    if lacking.any() and missing != "impute":
        row = int(np.argmax(lacking))
        column = table.feature_names[int(np.argmax(np.isnan(table.features[row])))]
        if missing == "refuse":
            raise TableError(
                f"{whole.where(row)}: column {shown(column)} has no value, as one of {int(lacking.sum())} rows; "
                "fill it in, or set data.missing to impute or drop_rows",
                "data",
                "missing",
            )
        if lacking.all():
            raise TableError(
                f"{file}: every row lacks a value, and data.missing: drop_rows leaves none", "data", "missing"
            )
        kept = table.rows(np.flatnonzero(~lacking))
        note = f"{int(lacking.sum())} of {len(table)} rows lack a value and are left out (data.missing: drop_rows)"
        table = replace(kept, notices=(*kept.notices, note))
    return table


def read_columns(
    path: str | os.PathLike[str],
    as_text: Collection[str] = (),
    leave_out: Collection[str] = (),
    form: TextFormat = TextFormat(),  # noqa: B008
) -> Columns:
    """Return the columns of a CSV or Parquet file, by the ending of its name."""
    place = existing(path)
    if place.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(place, as_text, leave_out, form.missing_values)
    if place.suffix.lower() in (".xls", ".xlsb", ".ods", ".numbers"):
        raise TableError(f"{place} is a spreadsheet; save it as .xlsx or CSV (UTF-8)")
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
            if twice:
                raise TableError(f"{path}: two columns have the name {shown(twice[0])}; rename one")
            yield file
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise TableError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def _read_parquet(path: Path, as_text: Collection[str], leave_out: Collection[str], missing: Sequence[str]) -> Columns:
    with parquet_file(path) as file:
        names = file.schema_arrow.names
        index = [name for name in names if re.fullmatch(r"__index_level_\d+__", name)]
        table = file.read([name for name in names if name not in (*leave_out, *index)])
        if not table.num_rows:
            raise TableError(f"{path} has {len(names)} columns and no row")
        columns = parquet_columns(path, table, as_text, missing)
    notices = [f"{shown(name)} of {path} is the index of pandas and is not used" for name in index]
    left_out = tuple(name for name in names if name in leave_out)
    return Columns(str(path), columns, tuple(notices), left_out=left_out)


def parquet_columns(
    path: Path, table: Any, as_text: Collection[str], missing: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return the columns of a pyarrow Table or RecordBatch, numbers or texts by their types, or by `as_text`."""
    from pyarrow import types as is_type

    columns: dict[str, NDArray[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if is_type.is_dictionary(column.type) else column.type
        numbers = (
            is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind) or is_type.is_null(kind)
        )
        if numbers and name not in as_text:
            if is_type.is_integer(column.type) or is_type.is_floating(column.type):
                columns[name] = column.to_numpy(zero_copy_only=False).astype(np.float64)  # a null is NaN
            else:
                floats = [np.nan if value is None else float(value) for value in column.to_pylist()]
                columns[name] = np.array(floats, np.float64)
        elif numbers or is_type.is_boolean(kind) or is_type.is_string(kind) or is_type.is_large_string(kind):
            lacking = {None, *missing}
            texts = [None if value is None else str(value).strip() for value in column.to_pylist()]
            columns[name] = np.array([None if text in lacking else text for text in texts], object)
        else:
            raise TableError(
                f"{path}: column {shown(name)} holds {kind}, neither numbers nor texts; list it under data.drop"
            )
    return columns


# ------------------------------------------------------------ columns to a Table


def table_of(
    whole: Columns,
    target: Sequence[str],
    task: str = "auto",
    numeric: Collection[str] = (),
    categorical: Collection[str] = (),
    drop: Collection[str] = (),
    decimal: str = ".",
) -> Table:
    """Decide what each column holds, and make a Table of them; a TableError says what speaks against it."""
    source = whole.source
    available = [*whole, *whole.left_out]
    for key, names in {"target": target, "numeric": numeric, "categorical": categorical, "drop": drop}.items():
        for name in names:
            known_column(name, available, source, key)
    for name in target:
        if name in drop:
            raise TableError(f"data.drop names {shown(name)}, which is the target", "data", "drop")
    both = sorted(set(numeric) & set(categorical))
    if both:
        raise TableError(f"data.numeric and data.categorical both name {shown(both[0])}", "data", "categorical")
    names = [name for name in whole if name not in target and name not in drop]
    if not names:
        raise TableError(f"{source} has no column beside the target; there is nothing to learn from", "data", "target")
    kind, targets, target_names, note = _targets(whole, target, task, decimal)
    features = np.empty((whole.rows, len(names)))
    categories: dict[str, tuple[str, ...]] = {}
    for index, name in enumerate(names):
        column = whole[name]
        if name not in categorical and column.dtype == object:
            column = _numbers_of_texts(whole, name, column, name in numeric, decimal)
        if column.dtype == object:
            categories[name], features[:, index] = _codes(column)
        else:
            _refuse_infinite(whole, name, column)
            features[:, index] = column
        if np.isnan(features[:, index]).all():
            raise TableError(f"{source}: column {shown(name)} has no value in any row; list it under data.drop")
    notices = (*whole.notices, *note)
    return Table(features, targets, kind, tuple(names), target_names, categories, notices)


def _codes(column: Text) -> tuple[tuple[str, ...], FloatArray]:
    """Return the categories of a column, sorted, and the number of each row's; NaN for a missing one."""
    values = sorted(set(column.tolist()) - {None})
    number: dict[str | None, float] = {value: float(index) for index, value in enumerate(values)}
    number[None] = np.nan
    return tuple(values), np.array([number[value] for value in column.tolist()], np.float64)


def _numbers_of_texts(whole: Columns, name: str, column: Text, stated: bool, decimal: str) -> NDArray[Any]:
    """Return a column of texts as it is, if that is what it holds; one of numbers with texts among them is an error."""
    texts = column.tolist()
    all_of_them = as_numbers(["nan" if text is None else text for text in texts], (), decimal)
    if all_of_them is not None:
        return all_of_them
    different = set(texts) - {None}
    numbers = {text for text in different if as_numbers([text], (), decimal) is not None}
    present = [row for row, text in enumerate(texts) if text is not None]
    count = sum(texts[row] in numbers for row in present)
    if not stated and count * 2 <= len(present):
        if decimal == "." and count == 0 and all(as_numbers([text], (), ",") is not None for text in different):
            raise TableError(
                f"{whole.where(present[0])}: column {shown(name)} holds {shown(texts[present[0]])}, a number with a"
                " decimal comma; set data.decimal: ',' or list the column under data.categorical",
                "data",
                "decimal",
            )
        return column
    row = next(row for row in present if texts[row] not in numbers)
    among = "" if stated else f", among {count} numbers in {len(present)} rows"
    raise TableError(
        f"{whole.where(row)}: column {shown(name)} holds {shown(texts[row])}, which is not a number{among}; mend it, or"
        " add it to data.missing_values, or list the column under data.categorical or data.drop"
    )


def _refuse_infinite(whole: Columns, name: str, column: FloatArray) -> None:
    infinite = np.isinf(column)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise TableError(f"{whole.where(row)}: column {shown(name)} is {column[row]}, which is not finite; replace it")


def _targets(whole: Columns, target: Sequence[str], task: str, decimal: str) -> Targets:
    if not target or len(set(target)) != len(target):
        raise TableError("data.target names one column, or several different ones", "data", "target")
    columns = [whole[name] for name in target]
    for name, column in zip(target, columns, strict=True):
        lacking = [row for row, text in enumerate(column.tolist()) if text is None or text != text]
        if lacking:
            more = f", as one of {len(lacking)} rows" if len(lacking) > 1 else ""
            raise TableError(
                f"{whole.where(lacking[0])}: the target {shown(name)} has no value{more}; fill it in, or remove the row"
            )
    if task == "classification" and len(target) > 1:
        raise TableError(f"data.target names {len(target)} columns, and a classification has one", "data", "target")
    notices: tuple[str, ...] = ()
    if task != "regression" and len(target) == 1:
        labels = columns[0].tolist()
        different = sorted(set(labels))
        numbers = as_numbers(different, (), decimal)
        if numbers is None and task == "auto":
            _numbers_of_texts(whole, target[0], columns[0], False, decimal)
        integral = numbers is not None and bool(np.all(np.isfinite(numbers) & (numbers == np.round(numbers))))
        classes, notices = are_classes(
            task, shown(target[0]), len(different), len(labels), texts=numbers is None, whole=integral
        )
        if classes:
            if numbers is not None:
                different = [name for _, name in sorted(zip(numbers.tolist(), different, strict=True))]
            number = {label: index for index, label in enumerate(different)}
            codes = np.array([number[label] for label in labels], np.int64)
            return class_targets(f"{whole.source}: the target {shown(target[0])}", tuple(different), codes, notices)
    values = np.stack(
        [_numbers_of_texts(whole, name, column, True, decimal) for name, column in zip(target, columns, strict=True)], 1
    ).astype(np.float64)
    for name, column in zip(target, values.T, strict=True):
        _refuse_infinite(whole, name, column)
        if (column == column[0]).all():
            raise constant(f"{whole.source}: the target {shown(name)}", f"{column[0]:g}")
    return Targets("regression", values, tuple(target), notices)
