"""NumPy's array files as tables that stay on the disk (Note [Rows on the disk] in disk_rows.py)."""

from __future__ import annotations

import hashlib
import lzma
import math
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nanotorch.registry import closest
from nanotorch.train.data.columns.columns import known_column
from nanotorch.train.data.columns.notation import PLAIN, text_of
from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.table import Table, TableError, one_line, shown
from nanotorch.train.data.targets import Labels, Targets, are_classes, class_targets, constant
from nanotorch.utils import files

MOST_INFLATED = 2**28  # bytes: a small file can claim any size, and only what is compressed costs nothing to store


DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, EOFError, ValueError, OSError)


def read_arrays(path: Path, target: str, task: str = "auto", drop: Collection[str] = ()) -> Table:
    """Return the table of a .npz file with an array of features and one named `target`, or of a .npy file.

    For a .npy file, `target` is the path of another .npy file, or one of the columns, which are called x0, x1 and so
    on. `drop` names columns not to use.
    """
    names: tuple[str, ...]
    if path.suffix.lower() == ".npz":
        features, targets = _arrays_of_archive(path, target)
        where = f"{path}, array {shown(target)}"
    else:
        features = _on_disk(path, str(path))
        names = tuple(f"x{column}" for column in range(features.matrix_shape[1]))
        if target.lower().endswith(".npy"):
            place = Path(files.expanded(target))
            if not place.exists():
                raise TableError(f"{target}, which data.target names: there is no such file", "data", "target")
            targets, where = _loaded(place, target), target
        elif target in names:
            column = names.index(target)
            targets, where = features[:, column], f"{path}, column {target}"
            features = replace(features, columns=np.delete(np.arange(len(names)), column))
        else:
            raise TableError(
                f"data.target: expected the path of a .npy file, or one of the columns x0 to {names[-1]} of {path}, got"
                f" {shown(target)}",
                "data",
                "target",
            )
    every = [f"x{column}" for column in range(features.matrix_shape[1])]
    for name in drop:
        known_column(name, every, str(path), "drop")
    if target in drop:
        raise TableError(f"data.drop names {shown(target)}, which is the target", "data", "drop")
    columns = list(range(features.matrix_shape[1])) if features.columns is None else features.columns.tolist()
    if drop:
        columns = [column for column in columns if every[column] not in drop]
        features = replace(features, columns=np.array(columns, np.int64))
    names = tuple(every[column] for column in columns)
    if not names or not len(features):
        raise TableError(f"{path} holds features of shape {features.shape}; there is nothing to learn from")
    if len(targets) != len(features):
        raise TableError(f"{where} has {len(targets)} targets for the {len(features)} rows of {path}", "data", "target")
    seen = hashlib.sha256()
    for start, block in features.blocks():
        seen.update(block.data)
        finite = np.isfinite(block)
        if not finite.all():
            row, column = np.argwhere(~finite)[0].tolist()
            raise TableError(
                f"{path}: feature {names[column]} is {block[row, column]} in row {start + row} (the first is 0); an"
                " array is taken as it is, so replace what is not finite, or train on a CSV or Parquet file, where"
                " missing values are filled in"
            )
    kind, numbers, target_names, notices, classes = _targets(targets, where, task)
    features = replace(features, digest=seen.hexdigest())
    return Table(features, numbers, kind, names, target_names, None, notices, classes=classes)


def _arrays_of_archive(path: Path, target: str) -> tuple[DiskRows, NDArray[Any]]:
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")
            members = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
            if target not in members:
                near = closest(target, members)
                hint = f"did you mean {shown(near)}?" if near else f"its arrays are {', '.join(map(shown, members))}"
                raise TableError(
                    f"{path} has no array {shown(target)}, which data.target names ({hint})", "data", "target"
                )
            others = [name for name in members if name != target]
            chosen = _of_features(others)
            if len(chosen) != 1:
                raise TableError(
                    f"{path}: which array holds the features? Beside {shown(target)} it has"
                    f" {', '.join(map(shown, others)) or 'none'}; one of them has to be called X, features or data"
                )
            info, label = members[chosen[0]], f"{path}, array {shown(chosen[0])}"
            targets = _member(archive, members[target], f"{path}, array {shown(target)}")
            if info.compress_type == zipfile.ZIP_STORED:
                with open(path, "rb") as file:
                    file.seek(info.header_offset + 26)  # the local header: 30 bytes, the name, the extra field
                    sizes = file.read(4)
                    start = (
                        info.header_offset
                        + 30
                        + int.from_bytes(sizes[:2], "little")
                        + int.from_bytes(sizes[2:], "little")
                    )
                return _on_disk(path, label, start), targets
            raise TableError(
                f"{label} is compressed and cannot be read in parts; save it with numpy.savez, or as a .npy file"
            )
    except DAMAGED as error:
        raise _unreadable(path, error) from None


def _of_features(names: list[str]) -> list[str]:
    """Return the arrays of an archive that may be its features: the only one, or those called so."""
    return names if len(names) == 1 else [name for name in names if name.lower() in ("x", "features", "data")]


def array_of_rows(path: Path) -> NDArray[Any]:
    """Return the array of a .npy file, left on the disk;
    of a .npz file the only one, or the one called X, features or data.
    """
    if path.suffix.lower() != ".npz":
        with open(path, "rb") as file:
            shape, fortran, dtype = _header(file, str(path))
            offset = file.tell()
            _complete(str(path), shape, dtype, os.fstat(file.fileno()).st_size - offset)
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
            chosen = _of_features(list(members))
            if len(chosen) != 1:
                raise TableError(
                    f"{path} has the arrays {', '.join(map(shown, members))}; the one of the rows has to be called X"
                )
            return _member(archive, members[chosen[0]], f"{path}, array {shown(chosen[0])}")
    except DAMAGED as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> Exception:
    if isinstance(error, TableError) or (isinstance(error, OSError) and error.filename is not None):
        return error
    return TableError(f"{path} cannot be read as a .npz file: {one_line(error).rstrip('.')}")


def _header(file: BinaryIO, label: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type from the header of a .npy file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
                version
            )
            if read is None:
                raise ValueError(f"its format has the version {version}")
            shape, fortran, dtype = read(file)
    except (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError):
        raise
    except Exception as error:  # a header is a Python literal, of which NumPy's reader fails in a dozen ways
        raise TableError(f"{label} cannot be read as a NumPy array: {one_line(error)}") from None
    if any(type(size) is not int or size < 0 for size in shape) or dtype.itemsize == 0 or dtype.subdtype is not None:
        raise TableError(f"{label} cannot be read as a NumPy array: its header says {dtype} of shape {shape}")
    if dtype.hasobject:
        raise TableError(
            f"{label} holds Python objects, which are never unpickled; save numbers, or texts as fixed-width texts"
        )
    return shape, fortran, dtype


def _on_disk(path: Path, label: str, start: int = 0) -> DiskRows:
    """Return the matrix in a file from a byte on; its numbers are not read."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise TableError(f"{path} is empty")
        file.seek(start)
        shape, fortran, dtype = _header(file, label)
        offset, length = file.tell(), os.fstat(file.fileno()).st_size
        if len(shape) != 2 or dtype.kind not in "fiub":
            raise TableError(f"{label} holds {dtype} of shape {shape}; features are numbers of shape (rows, columns)")
        if 0 in shape:
            raise TableError(f"{label} holds features of shape {shape}; there is nothing to learn from")
        needed = offset + dtype.itemsize * shape[0] * shape[1]
        if length < needed:
            raise TableError(f"{label} is cut off: {needed:,} bytes expected, {length:,} found")
        if fortran and min(shape) > 1:
            raise TableError(
                f"{label} is stored by columns, so that a row lies all over the file; save np.ascontiguousarray of it"
            )
    return DiskRows(label, path.absolute(), offset, (shape[0], shape[1]), dtype)


def _loaded(path: Path, label: str) -> NDArray[Any]:
    with open(path, "rb") as file:
        return _array(file, label, os.fstat(file.fileno()).st_size)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> NDArray[Any]:
    """Return an array of a .npz file in memory, unless it would inflate to more than MOST_INFLATED."""
    if info.compress_type != zipfile.ZIP_STORED and info.file_size > MOST_INFLATED:
        raise TableError(
            f"{label} is compressed and would take {info.file_size:,} bytes, more than {MOST_INFLATED:,}; save it with"
            " numpy.savez"
        )
    with archive.open(info) as member:
        return _array(member, label, info.file_size)


def _array(file: Any, label: str, length: int) -> NDArray[Any]:
    """Return an array in memory, from a file of `length` bytes with its header."""
    shape, fortran, dtype = _header(file, label)
    if not shape:
        raise TableError(f"{label} holds a single value; one for each row is needed")
    needed = _complete(label, shape, dtype, length - file.tell())
    data = file.read(needed)
    _complete(label, shape, dtype, len(data))
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _complete(label: str, shape: tuple[int, ...], dtype: np.dtype[Any], found: int) -> int:
    """Return how many bytes the numbers take; a TableError where fewer are there."""
    needed = math.prod(shape) * dtype.itemsize
    if found < needed:
        raise TableError(f"{label} is cut off: {needed:,} bytes of numbers expected, {max(found, 0):,} found")
    return needed


def _targets(targets: NDArray[Any], where: str, task: str) -> Targets:
    if targets.dtype.kind not in "fiubUS" or targets.ndim not in (1, 2) or 0 in targets.shape:
        raise TableError(
            f"{where} holds {targets.dtype} of shape {targets.shape}; targets are numbers or texts, one or more a row"
        )
    column = targets.reshape(len(targets), -1)
    if targets.dtype.kind == "f" and not np.isfinite(column).all():
        row, which = np.argwhere(~np.isfinite(column))[0].tolist()
        raise TableError(f"{where}: the target is {column[row, which]} in row {row} (the first is 0)")
    several, texts = column.shape[1] > 1, targets.dtype.kind in "US"
    if texts and task == "regression":
        raise TableError(f"{where} holds texts, and data.task is regression", "data", "task")
    notices: tuple[str, ...] = ()
    names = tuple(f"y{index}" for index in range(column.shape[1])) if several else ("y",)
    if task != "regression":
        looked = [
            _labels(values, name, f"{where}, column {k}" if several else where, task)
            for k, (name, values) in enumerate(zip(names, column.T, strict=True))
        ]
        found = class_targets(looked)
        if found is not None:
            return found
        notices = tuple(notice for one in looked for notice in one.notices)
    floats = column.astype(np.float64)
    alike = np.flatnonzero((floats == floats[0]).all(axis=0))
    if alike.size:
        raise constant(where, f"{floats[0, alike[0]]:g}", f" of column {alike[0]}")
    return Targets("regression", floats, names, notices)


def _labels(column: NDArray[Any], name: str, place: str, task: str) -> Labels:
    """Return a column of targets with its classes, and whether it is taken for them."""
    values, numbers = np.unique(column, return_inverse=True)
    texts = column.dtype.kind in "US"
    whole = not texts and (column.dtype.kind != "f" or bool((values == np.round(values)).all()))
    classes, notices = are_classes(task, place, len(values), len(column), texts, whole)
    if not classes:
        return Labels(name, place, (), numbers, texts, classes, notices)
    labels = [PLAIN.label(text_of(value)) for value in values.tolist()]
    names = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    classes_of = np.array([names[label] for label in labels], np.int64)
    return Labels(name, place, tuple(names), classes_of[numbers.reshape(-1)], texts, classes, notices)
