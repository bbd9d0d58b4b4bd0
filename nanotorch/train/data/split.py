"""The division of a table into three parts that share no row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import DataError, Table


@dataclass(frozen=True, slots=True)
class Splits:
    """Three parts of a table that share no row."""

    train: Table
    validation: Table
    test: Table


def split(
    table: Table, test_size: float, validation_size: float, seed: int, fold: tuple[int, int] | None = None
) -> Splits:
    """Divide the rows at random, with the same share of every class in each part.

    Sizes are fractions of all rows. With `fold`, say (2, 5), the test part is the second of five parts that share no
    row and are the same for each of the five numbers. The division depends on the seed, the sizes and the targets, and
    on nothing else. A class (for regression: a table) that cannot give each part a row is a DataError.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0x5EED]))
    groups = _groups([table])
    by_class = [np.arange(len(table))]
    if table.task != "regression":
        by_class = np.split(np.argsort(table.targets, kind="stable"), np.cumsum([count for _, count in groups])[:-1])
    parts: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for turn, ((what, count), rows) in enumerate(zip(groups, by_class, strict=True)):
        train, validation, end = _division(what, count, test_size, validation_size, fold, turn)
        shuffled = np.roll(generator.permutation(rows), count - end)  # the fold stands at the end
        pieces = np.split(shuffled, [train, train + validation])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return Splits(*(table.rows(np.sort(np.concatenate(part))) for part in parts))


def training_rows(parts: Sequence[Table], test_size: float, validation_size: float, fold: tuple[int, int]) -> int:
    """Return how many rows another fold of the table that was divided into these parts trains on;
    a DataError where `split` raises one.
    """
    groups = enumerate(_groups(parts))
    return sum(_division(what, count, test_size, validation_size, fold, turn)[0] for turn, (what, count) in groups)


def _groups(parts: Sequence[Table]) -> list[tuple[str, int]]:
    """Return what is divided into parts of the same shares, in words, and how many rows it has."""
    names = parts[0].target_names
    if parts[0].task == "regression":
        rows = sum(map(len, parts))
        return [(f"the table has {rows} rows", rows)]
    counts = np.bincount(np.concatenate([part.targets for part in parts]), minlength=len(names)).tolist()
    return [(f"class {name!r} has {count} rows", count) for name, count in zip(names, counts, strict=True)]


def _division(
    what: str, count: int, test_size: float, validation_size: float, fold: tuple[int, int] | None, turn: int
) -> tuple[int, int, int]:
    """Return how many of so many rows are for training and validation, and where those for the test end.

    Where a class's share of a fold is no whole number of rows, its extra rows go to other folds than the last class's:
    it is their `turn`.
    """
    test, end = max(1, int(count * test_size + 0.5)), count
    if fold is not None:
        if count < fold[1]:
            raise DataError(f"{what}: too few for one in each of {fold[1]} folds; lower train.folds", "data", "fold")
        mine = (fold[0] - 1 + turn) % fold[1]
        end = (mine + 1) * count // fold[1]
        test = end - mine * count // fold[1]
    validation = max(1, int(count * validation_size + 0.5))
    if test + validation >= count:
        raise DataError(
            f"{what}: too few for one in each of the training, validation and test parts with "
            f"data.test_size={test_size:g} and data.validation_size={validation_size:g}",
            "data",
            "test_size",
        )
    return count - test - validation, validation, end
