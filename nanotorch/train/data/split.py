"""The division of a table into three parts that share no row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.division.groups_and_times import divided_by_groups, divided_by_time
from nanotorch.train.data.table import DataError, Division, FloatArray, Mistakes, Rare, Table, shown
from nanotorch.train.terminal.text_report import counted, listed

Numbers = NDArray[np.int64]
LISTED = 5  # classes in one message
PARTS = ("training", "validation", "test")


@dataclass(frozen=True, slots=True)
class Splits:
    """Three parts of a table that share no row, of which the last two may be missing.

    Attributes:
        notices: what the user should know of them.
    """

    train: Table
    validation: Table | None
    test: Table | None
    notices: tuple[str, ...] = ()


def split(
    table: Table, test_size: float, validation_size: float, seed: int, fold: tuple[int, int] | None = None
) -> Splits:
    """Divide the rows at random, with the same share of every class in each part, or as the table says (`Division`).

    Sizes are fractions of all rows, 0 for no such part. With `fold`, say (2, 5), the test part is the second of five
    parts that share no row and are the same for each of the five numbers. The division depends on the seed, the sizes,
    the targets and what the table says, and on nothing else. A class (for regression: a table) that cannot give each
    part a row is a DataError.
    """
    parts = divided(table, test_size, validation_size, seed, fold)
    if table.division is not None or table.classes:
        _refuse_unlearnt_classes(table, parts[0])
    tables = [table.rows(rows) if len(rows) else None for rows in parts]
    assert tables[0] is not None, "a part without rows is refused"
    return Splits(tables[0], tables[1], tables[2], tuple(_notices(table, parts)))


def divided(
    table: Table, test_size: float, validation_size: float, seed: int, fold: tuple[int, int] | None = None
) -> list[Numbers]:
    """Return the rows of each part, as `split` divides them, in their order."""
    how = table.division
    sizes = (validation_size, test_size)
    if how is None:
        return [np.sort(rows) for rows in _at_random(table, sizes, seed, fold)]
    sizes = _sizes_left(how, sizes)
    parts, free = how.parts.astype(np.int64), np.flatnonzero(how.parts < 0)
    if how.by == "rows" and len(free):
        _refuse_unlearnt_classes(table, free)
        for number, rows in enumerate(_at_random(table.rows(free), sizes, seed, fold)):
            parts[free[rows]] = number
    elif how.by == "group" and how.values is not None:
        _refuse_shared_groups(how, how.values)
        generator = _shuffler(seed)
        classes = np.zeros(len(free), np.int64)
        if table.task != "regression":
            classes = np.unique(table.targets[free], axis=0, return_inverse=True)[1].reshape(-1)
        groups = how.values[free].astype(np.int64)
        parts[free] = divided_by_groups(groups, classes, sizes, fold, generator, how.column)
    elif how.by == "time" and how.values is not None:
        parts[free] = divided_by_time(how.values[free], sizes, fold, how.column)
    found = [np.flatnonzero(parts == number) for number in range(3)]
    if not len(found[0]):
        raise DataError(f"no row is for training: {how.stated[0]} says so", *how.stated[0].split("."))
    return found


def training_rows(
    table: Table, test_size: float, validation_size: float, seed: int, fold: tuple[int, int] | None = None
) -> Numbers:
    """Return the rows that are for training; a DataError where `split` raises one."""
    rows = divided(table, test_size, validation_size, seed, fold)[0]
    if table.division is not None or table.classes:
        _refuse_unlearnt_classes(table, rows)
    return rows


def about_training_rows(table: Table, test_size: float, validation_size: float) -> int:
    """Return about how many rows are for training, before they are divided."""
    how, sizes, rows, known = table.division, (validation_size, test_size), len(table), 0
    if how is not None:
        sizes, rows, known = _sizes_left(how, sizes), int((how.parts < 0).sum()), int((how.parts == 0).sum())
    return max(1, known + round(rows * (1 - sum(sizes))))


def _sizes_left(how: Division, sizes: tuple[float, float]) -> tuple[float, float]:
    """Return the shares of validation and test in the rows that are still to be divided."""
    return (0.0 if how.stated[1] else sizes[0], 0.0 if how.stated[2] else sizes[1])


def _at_random(
    table: Table, sizes: tuple[float, float], seed: int, fold: tuple[int, int] | None
) -> tuple[Numbers, Numbers, Numbers]:
    validation_size, test_size = sizes
    generator = _shuffler(seed)
    groups, strata = _groups(table, test_size, validation_size, fold)
    by_class = np.split(np.argsort(strata, kind="stable"), np.cumsum([count for _, count in groups])[:-1])
    parts: tuple[list[Numbers], ...] = ([], [], [])
    mistakes, divisions = Mistakes(), list[tuple[int, int, int]]()
    for turn, (what, count) in enumerate(groups):
        with mistakes.gathered():
            divisions.append(_division(what, count, test_size, validation_size, fold, turn))
    for problem in mistakes.found if table.task in ("binary", "multiclass") else ():
        problem.args = (f"{problem}; data.rare: group puts such classes together, drop leaves them out",)
    mistakes.tell()
    for (_, count), rows, (train, validation, end) in zip(groups, by_class, divisions, strict=True):
        shuffled = np.roll(generator.permutation(rows), count - end)  # the fold stands at the end
        pieces = np.split(shuffled, [train, train + validation])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    first, second, third = map(np.concatenate, parts)
    return first, second, third


def _shuffler(seed: int) -> np.random.Generator:
    """Return the random numbers of the division, which are no part of those of training."""
    return np.random.default_rng(np.random.SeedSequence([seed, 0x5EED]))


def _refuse_shared_groups(how: Division, groups: FloatArray) -> None:
    """A DataError where a file of another part holds rows of a group that the table has too."""
    for part in (1, 2):
        others = np.isin(groups, groups[how.parts == part])
        shared = len(np.unique(groups[others & (how.parts != part)]))
        if shared:
            raise DataError(
                f"{counted(shared, 'group')} of column {shown(how.column)} in the file of {how.stated[part]} also have"
                " rows in another file; no group may be in two parts",
                *how.stated[part].split("."),
            )


def _refuse_unlearnt_classes(table: Table, training: Numbers) -> None:
    """A DataError for classes that have rows, and none for training: no model can know them."""
    mistakes = Mistakes()
    for target, (names, numbers) in enumerate(table.class_numbers):
        for number in _unlearnt(names, numbers[training]).tolist():
            with mistakes.gathered():
                rows = counted(int((numbers == number).sum()), "row")
                advice = (
                    f"leave {shown(table.target_names[target])} out of data.target, or such rows out of the file"
                    if table.classes
                    else "data.rare: drop leaves such classes out"
                )
                raise DataError(
                    f"class {names[number]!r}{_of(table, target)} has {rows}, none of them for training, and a model"
                    f" knows no class that it has not seen; {advice}",
                    "data",
                    "split" if table.division is not None else "target",
                )
    mistakes.tell()


def _of(table: Table, target: int) -> str:
    """Return of which target a class is, where there are several."""
    return f" of target {shown(table.target_names[target])}" if table.classes else ""


def _unlearnt(names: Sequence[str], numbers: Numbers) -> Numbers:
    """Return the classes that none of these rows has."""
    return np.flatnonzero(np.bincount(numbers, minlength=len(names)) == 0)


def _notices(table: Table, parts: Sequence[Numbers]) -> Iterator[str]:
    """Say how a table was divided that says how, and what a part lacks."""
    how = table.division
    if how is None:
        return
    names = [(name, rows) for name, rows in zip(PARTS, parts, strict=True) if len(rows)]
    if how.values is not None and how.by == "group":
        values = how.values
        counts = ", ".join(
            f"{counted(len(np.unique(values[rows])), 'group')} ({counted(len(rows), 'row')}) for {name}"
            for name, rows in names
        )
        yield f"data.split: no group of column {shown(how.column)} is in two parts: {counts}"
    if how.values is not None and how.by == "time":
        spans = "; ".join(
            f"{name} from {_time(how, how.values[rows].min())} to {_time(how, how.values[rows].max())}"
            for name, rows in names
        )
        left = len(table) - sum(map(len, parts))
        later = f"; {counted(left, 'row')} after that are not used by this fold" if left else ""
        yield f"data.split, by column {shown(how.column)}: {spans}{later}"
    for name, rows in names[1:]:
        for target, (classes, numbers) in enumerate(table.class_numbers):
            absent = [repr(classes[k]) for k in _unlearnt(classes, numbers[rows]).tolist()]
            if absent:
                yield f"the {name} part has no row of class {listed(absent, LISTED)}{_of(table, target)}"


def _time(how: Division, value: float) -> str:
    if not how.dates:
        return f"{value:.15g}"
    return str(np.datetime64(int(value), "us")).removesuffix(".000000").removesuffix("T00:00:00")


def without_rare(
    table: Table,
    test_size: float,
    validation_size: float,
    fold: tuple[int, int] | None,
    how: Literal["drop", "group"],
    seed: int = 0,
) -> Table:
    """Return a table without the classes that cannot give each part (of any fold) a row: their rows are left out, or
    are of one class, "(other)". Where the table says how it is divided, these are the classes without rows for
    training.
    """
    if table.task == "regression":
        return table
    if table.classes:
        raise DataError(
            f"data.rare is for one target of classes, and data.target names {len(table.classes)}: leave it out, or"
            " leave targets with very rare classes out",
            "data",
            "rare",
        )
    folds = [None] if fold is None else [(number, fold[1]) for number in range(1, fold[1] + 1)]
    counts = np.bincount(table.targets, minlength=len(table.target_names))
    said, free, left = table.division, counts, (validation_size, test_size)
    if said is not None:
        free, left = np.bincount(table.targets[said.parts < 0], minlength=len(counts)), _sizes_left(said, left)
    at_random = said is None or (said.by == "rows" and bool(free.any()))

    def too_few(count: int) -> bool:
        try:
            for one in folds:
                _division("", count, left[1], left[0], one, 0)
        except DataError:
            return True
        return not at_random

    if at_random:
        rare = np.array([too_few(count) for count in free.tolist()])
    else:
        rare = np.zeros(len(counts), bool)
        for one in folds:
            known = table.targets[divided(table, test_size, validation_size, seed, one)[0]]
            rare[_unlearnt(table.target_names, known)] = True
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
        if too_few(int(free[rare].sum())):
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
    before = () if table.rare is None else table.rare.classes
    some = table if how == "group" else table.rows(kept)
    found = replace(
        some,
        targets=number[some.targets],
        target_names=tuple(names),
        task="binary" if len(names) == 2 else "multiclass",
        notices=(*table.notices, told),
        rare=Rare((*before, *classes), other),
    )
    # fewer rows may be divided in another way
    return found if at_random else without_rare(found, test_size, validation_size, fold, how, seed)


def _groups(
    table: Table, test_size: float, validation_size: float, fold: tuple[int, int] | None
) -> tuple[list[tuple[str, int]], Numbers]:
    """Return what is divided into parts of the same shares, in words, and how many rows it has; and which of them each
    row belongs to.

    Of several targets of classes these are the rows that agree in all of them (the label powerset of Sechidis,
    Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", 2011); those of combinations that are too rare
    for that are divided together.
    """
    names, whole = table.target_names, f"the table has {len(table)} rows"
    if table.task == "regression":
        return [(whole, len(table))], np.zeros(len(table), np.int64)
    if not table.classes:
        counts = np.bincount(table.targets, minlength=len(names)).tolist()
        every = [(f"class {shown(name)} has {count} rows", count) for name, count in zip(names, counts, strict=True)]
        return every, table.targets
    combined = np.unique(table.targets, axis=0, return_inverse=True)[1].reshape(-1)

    def too_few(count: int) -> bool:
        try:
            _division("", count, test_size, validation_size, fold, 0)
        except DataError:
            return True
        return False

    sizes = np.bincount(combined)
    rare = np.array([too_few(size) for size in sizes.tolist()])
    if rare.any() and not rare.all() and too_few(int(sizes[rare].sum())):
        rare[np.where(rare, 0, sizes).argmax()] = True  # the rare ones join the most frequent one
    strata = np.where(rare, np.count_nonzero(~rare), np.cumsum(~rare) - 1)[combined]
    return [(whole, size) for size in np.bincount(strata).tolist()], strata


def _division(
    what: str, count: int, test_size: float, validation_size: float, fold: tuple[int, int] | None, turn: int
) -> tuple[int, int, int]:
    """Return how many of so many rows are for training and validation, and where those for the test end.

    Where a class's share of a fold is no whole number of rows, its extra rows go to other folds than the last class's:
    it is their `turn`.
    """
    test, end = max(1, int(count * test_size + 0.5)) if test_size else 0, count
    if fold is not None:
        if count < fold[1]:
            raise DataError(f"{what}: too few for one in each of {fold[1]} folds; lower train.folds", "data", "fold")
        mine = (fold[0] - 1 + turn) % fold[1]
        end = (mine + 1) * count // fold[1]
        test = end - mine * count // fold[1]
    validation = max(1, int(count * validation_size + 0.5)) if validation_size else 0
    if test + validation >= count:
        parts = ["training", *(["validation"] * (validation > 0)), *(["test"] * (test > 0))]
        each = f"each of the {', '.join(parts[:-1])} and {parts[-1]} parts" if parts[1:] else "the training part"
        raise DataError(
            f"{what}: too few for one in {each} with "
            f"data.test_size={test_size:g} and data.validation_size={validation_size:g}",
            "data",
            "test_size",
        )
    return count - test - validation, validation, end
