"""The division of a table into three parts that share no row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import DataError, Mistakes, Rare, Table, shown
from nanotorch.train.terminal.text_report import listed

LISTED = 5  # classes in one message


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
    mistakes, divisions = Mistakes(), list[tuple[int, int, int]]()
    for turn, (what, count) in enumerate(groups):
        with mistakes.gathered():
            divisions.append(_division(what, count, test_size, validation_size, fold, turn))
    for problem in mistakes.found if table.task != "regression" else ():
        problem.args = (f"{problem}; data.rare: group puts such classes together, drop leaves them out",)
    mistakes.tell()
    for (_, count), rows, (train, validation, end) in zip(groups, by_class, divisions, strict=True):
        shuffled = np.roll(generator.permutation(rows), count - end)  # the fold stands at the end
        pieces = np.split(shuffled, [train, train + validation])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return Splits(*(table.rows(np.sort(np.concatenate(part))) for part in parts))


def without_rare(
    table: Table, test_size: float, validation_size: float, fold: tuple[int, int] | None, how: Literal["drop", "group"]
) -> Table:
    """Return a table without the classes that cannot give each part (of any fold) a row: their rows are left out, or
    are of one class, "(other)".
    """
    if table.task == "regression":
        return table
    folds = [None] if fold is None else [(number, fold[1]) for number in range(1, fold[1] + 1)]
    counts = np.bincount(table.targets, minlength=len(table.target_names))

    def too_few(count: int) -> bool:
        try:
            for one in folds:
                _division("", count, test_size, validation_size, one, 0)
        except DataError:
            return True
        return False

    rare = np.array([too_few(count) for count in counts.tolist()])
    if not rare.any():
        return table
    names = [name for name, few in zip(table.target_names, rare, strict=True) if not few]
    listing = listed([f"{shown(table.target_names[k])} ({counts[k]})" for k in np.flatnonzero(rare)], LISTED)
    number, kept = np.cumsum(~rare) - 1, np.arange(len(table))
    what, rows = "1 class" if rare.sum() == 1 else f"{rare.sum()} classes", int(counts[rare].sum())
    if how == "group" and rare.sum() == 1:
        raise DataError(
            f"class {listing} alone has too few rows, and there is no other to put it with; data.rare: drop leaves its"
            " rows out",
            "data",
            "rare",
        )
    if how == "group":
        other = "(other)"
        while other in names:
            other = f"({other})"
        number[rare] = len(names)
        names.append(other)
        if too_few(rows):
            raise DataError(
                f"{what} of too few rows have {rows} together, and that is too few as well: {listing}; data.rare: drop",
                "data",
                "rare",
            )
        told = f"{what} of too few rows each are taken for one class, {other!r} (data.rare: group): {listing}"
    else:
        kept, other = np.flatnonzero(~rare[table.targets]), ""
        told = f"the {rows:,} rows of {what} that have too few are left out (data.rare: drop): {listing}"
    if len(names) < 2:
        raise DataError(
            f"{what} of too few rows and no two others: {listing}; there is nothing to learn", "data", "rare"
        )
    classes = tuple(name for name, few in zip(table.target_names, rare, strict=True) if few)
    some = table if how == "group" else table.rows(kept)
    return replace(
        some,
        targets=number[some.targets],
        target_names=tuple(names),
        task="binary" if len(names) == 2 else "multiclass",
        notices=(*table.notices, told),
        rare=Rare(classes, other),
    )


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
    return [(f"class {shown(name)} has {count} rows", count) for name, count in zip(names, counts, strict=True)]


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
