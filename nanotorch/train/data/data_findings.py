"""What is odd about the rows of a run, before any model: ids, copies of the target, repeated rows and the like.

The bounds are rules of thumb, set where some 700 tables of textbooks have few false alarms: a finding says where to
look, not that something must be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import FloatArray, Table, quoted_columns, shown, spread_rows
from nanotorch.train.terminal.text_report import counted, listed

MOST_ROWS = 20_000  # of a part that are looked at where every one would take too long
FIRST_LOOK = 2000  # rows, enough to pass over a column
MOST_VALUES = 2_000_000  # of the first look
ROWS_AT_ONCE = 4096
FEWEST = 20  # rows that say something
MOST_COLUMNS = 1000  # that are tried alone
LEAST_VARYING = 5  # rows of other values than most, below which columns are alike by chance
ALIKE = 1 - 1e-6  # correlation of columns that say the same, but for rounding
FEW_SHARED = 0.01  # of the rows of validation and test, which change no score
LACKING = 0.5  # share of the rows
MOST_TEXTS = 0.7  # different ones, of the rows
CHANCE = 0.01  # rows that may be alike by chance, of all
AS_GOOD_AS_TOLD = 0.999  # rank correlation with the target, and share of its variance
LEAST_SEEN = 0.9  # share of the rows whose category others have too
MOST_WRONG = 0.01  # of the rows that are not of the most frequent class
ID = re.compile(r"(?:.*[\W_])?(?i:ids?|uuid|guid|key|index|row|rowid|rownames?|no|nr|number)|.*[a-z](?:ID|Id|No|Nr)")


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something odd: what it is, why it matters, and the columns that one may leave out, or what to do instead.

    `check` is the name of what was looked for, one of `CHECKS`.
    """

    check: str
    what: str
    why: str
    columns: tuple[str, ...] = ()
    instead: str = ""


class _Looked:
    """The rows of a table that are looked at, and what several checks need to know of them."""

    def __init__(self, parts: Mapping[str, Table]) -> None:
        self.parts = parts
        self.table = table = parts["train"]
        made = {part for name, dates in table.dates.items() for part in dates.columns(name)}
        words = tuple(f"{name}: words " for name in table.texts)
        self.columns = {
            name: index
            for index, name in enumerate(table.feature_names)
            if name not in made and not (words and name.startswith(words))
        }
        self.texts = table.categories or {}
        self.rows = table.features[_at(len(table), MOST_ROWS)].astype(np.float64, copy=False)
        few = max(FEWEST, min(FIRST_LOOK, MOST_VALUES // table.features.shape[1]))
        self.few = self.rows[_at(len(self.rows), few)]
        self.ordered = np.sort(self.few, axis=0)  # NaN last
        self.targets = table.targets[_at(len(table), MOST_ROWS)]

    def different(self) -> NDArray[np.int64]:
        """Return how many values each column has in the rows of the first look; missing ones are one."""
        return 1 + _changes(self.ordered).sum(0)

    @cached_property
    def numbers(self) -> dict[str, NDArray[np.int64]]:
        """A number for each row of each part, the same for the same values; nothing where rows may be alike by chance,
        as few columns of few values make it.
        """
        counts = [np.diff(np.flatnonzero(np.r_[True, column, True])) for column in _changes(self.ordered).T]
        alike = sum(float(np.log(((count / len(self.few)) ** 2).sum())) for count in counts)
        if alike + np.log(len(self.table)) > np.log(CHANCE) or len(self.table) < FEWEST:
            return {}
        return {name: _numbers_of_rows(part.features[_looked_at(part)]) for name, part in self.parts.items()}

    @cached_property
    def numbers_with_target(self) -> dict[str, NDArray[np.int64]]:
        """The same for the rows with their targets."""
        targets = {name: self.parts[name].targets[_looked_at(self.parts[name])] for name in self.numbers}
        return {
            name: _numbers_of_rows(np.c_[rows, targets[name].reshape(len(rows), -1).astype(np.float64).view(np.int64)])
            for name, rows in self.numbers.items()
        }


def oddities(parts: Mapping[str, Table]) -> list[Oddity]:
    """Return what is odd about the parts of a table."""
    looked = _Looked(parts)
    return [oddity for check in CHECKS.values() for oddity in check(looked)]


def _looked_at(table: Table) -> slice | NDArray[np.int64]:
    """Return where all rows of a table are, or some of one on the disk."""
    return _at(len(table), len(table) if isinstance(table.features, np.ndarray) else MOST_ROWS)


def _at(rows: int, most: int) -> slice | NDArray[np.int64]:
    """Return where so many of the rows are, from all over them."""
    return slice(None) if rows <= most else spread_rows(rows, most)


def _changes(ordered: FloatArray) -> NDArray[np.bool_]:
    """Return where a value differs from that above it; missing ones are alike."""
    above, below = ordered[:-1], ordered[1:]
    return (above != below) & ~(np.isnan(above) & np.isnan(below))


def _constant(looked: _Looked) -> Iterator[Oddity]:
    table, one = looked.table, looked.different() == 1
    there = ~np.isnan(looked.few[0])
    names = [name for name, index in looked.columns.items() if one[index] and there[index]]
    if isinstance(table.features, np.ndarray):
        column = {name: table.features[:, looked.columns[name]] for name in names}
        names = [name for name in names if (column[name] == column[name][0]).all()]
    else:
        names = [name for name in names if np.ptp(looked.rows[:, looked.columns[name]]) == 0]
    if names:
        has, it = ("has", "it") if len(names) == 1 else ("have", "them")
        yield Oddity(
            "constant columns",
            f"{quoted_columns(names)} {has} one value in all rows for training",
            f"a model learns nothing from {it}, and what another value would do is left to chance",
            tuple(names),
        )


def _lacking(looked: _Looked) -> Iterator[Oddity]:
    share = np.isnan(looked.rows).mean(0)
    names = [name for name, index in looked.columns.items() if share[index] > LACKING]
    if names:
        yield Oddity(
            "columns without most values",
            f"{quoted_columns(names)} {'lacks' if len(names) == 1 else 'lack'} a value in more than half of the rows",
            "most of what a model sees there was filled in",
            tuple(names),
        )


def _copies(looked: _Looked) -> Iterator[Oddity]:
    """Columns that are each other's multiple (a text and its dummy too), or that tell the same categories apart."""
    middle = looked.ordered[len(looked.ordered) // 2]
    varying = (looked.few != middle).sum(0) >= LEAST_VARYING
    first: dict[bytes, str] = {}
    pairs: dict[str, str] = {}
    numbers = [
        name for name, index in looked.columns.items() if varying[index] and len(looked.texts.get(name, ("", ""))) == 2
    ]
    numbers = numbers[:MOST_COLUMNS]
    values = looked.few[:, [looked.columns[name] for name in numbers]]
    with np.errstate(all="ignore"):
        values = np.nan_to_num((values - np.nanmean(values, 0)) / np.nanstd(values, 0)) if numbers else values
        values /= np.sqrt((values**2).sum(0))
    for later, earlier in np.argwhere(np.tril(np.abs(values.T @ values), -1) > ALIKE).tolist():
        if _same(looked, numbers[earlier], numbers[later]):
            pairs.setdefault(numbers[later], numbers[earlier])
    for name in looked.texts:
        if varying[looked.columns[name]] and len(looked.texts[name]) != 2:
            other = first.setdefault(_by_appearance(looked.few[:, looked.columns[name]]), name)
            if other != name and _same(looked, other, name):
                pairs[name] = other
    if pairs:
        told = [f"{shown(name)} says what {shown(other)} says" for name, other in pairs.items()]
        yield Oddity(
            "duplicated columns",
            f"column {listed(told, 5)}",
            "a copy adds weights and nothing to learn from; it hides which column matters",
            tuple(pairs),
        )


def _by_appearance(codes: FloatArray) -> bytes:
    """Return a column with its values numbered in the order in which they come."""
    _, first, number = np.unique(codes, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[number].tobytes()


def _same(looked: _Looked, one: str, other: str) -> bool:
    """Return whether columns that are alike at a first look are so in more rows."""
    a, b = (looked.rows[:, looked.columns[name]] for name in (one, other))
    if one in looked.texts and len(looked.texts[one]) != 2:
        return _by_appearance(a) == _by_appearance(b)
    there = ~np.isnan(a)
    if (np.isnan(b) == there).any():
        return False
    return bool(abs(np.corrcoef(a[there], b[there])[0, 1]) > ALIKE)


def _row_numbers(looked: _Looked) -> Iterator[Oddity]:
    """Columns of another whole number in nearly every row that are called as ids are, or count."""
    if len(looked.rows) <= FEWEST:
        return
    near_unique = looked.different() > 0.9 * len(looked.few)
    whole = np.isfinite(looked.few).all(0) & (looked.few == np.round(looked.few)).all(0)
    names = [
        name
        for name, index in looked.columns.items()
        if near_unique[index]
        and whole[index]
        and name not in looked.texts
        and (ID.fullmatch(name) or _has_no_gaps(looked, index))
    ]
    if names:
        yield Oddity(
            "row numbers among the columns",
            f"{quoted_columns(names)} {'has' if len(names) == 1 else 'have'} another whole number in nearly every row",
            "a number of a row says where it stood in a file, and means nothing for a new one",
            tuple(names),
        )


def _long_numbers(looked: _Looked) -> Iterator[Oddity]:
    """Columns of whole numbers of which a float holds the nearest only."""
    with np.errstate(invalid="ignore"):
        far = (np.abs(np.nan_to_num(looked.few)) > 2**53).any(0) & ~(looked.few != np.round(looked.few)).any(0)
    names = [name for name, index in looked.columns.items() if far[index] and name not in looked.texts]
    if names:
        yield Oddity(
            "numbers of more digits than a float has",
            f"{quoted_columns(names)} {'has' if len(names) == 1 else 'have'} whole numbers beyond 2**53, as ids are",
            "of such numbers the nearest is read that a float holds: two rows may get the same",
            tuple(names),
        )


def _names(looked: _Looked) -> Iterator[Oddity]:
    """Columns of another text in most rows."""
    many = looked.different() > MOST_TEXTS * len(looked.few)
    names = [name for name, index in looked.columns.items() if many[index] and name in looked.texts]
    if names and len(looked.rows) > FEWEST:
        yield Oddity(
            "names among the columns",
            f"{quoted_columns(names)} {'has' if len(names) == 1 else 'have'} another text in most rows",
            "a name says nothing about a new row, and a model can learn the training rows by it",
            tuple(names),
        )


def _has_no_gaps(looked: _Looked, index: int) -> bool:
    """Return whether a column counts: whole numbers of which hardly one is left out."""
    parts = [table.features[_at(len(table), MOST_ROWS), index] for table in looked.parts.values()]
    of = sum(len(table) for table in looked.parts.values())
    values = np.concatenate(parts)
    return bool(values.max() - values.min() < 1.1 * of and len(np.unique(values)) > 0.9 * len(values))


# ------------------------------------------------------------ rows that are alike


def _shared(looked: _Looked) -> Iterator[Oddity]:
    """Rows of validation and test that were trained on."""
    whole = looked.numbers_with_target
    shared = {name: int(np.isin(whole[name], whole["train"]).sum()) for name in whole if name != "train"}
    if sum(shared.values()) > max(2, FEW_SHARED * sum(len(whole[name]) for name in shared)):
        told = " and ".join(
            f"{count:,} of {counted(len(whole[name]), f'{name} row')}" for name, count in shared.items() if count
        )
        yield Oddity(
            "rows in two parts",
            f"{told} {'has' if sum(shared.values()) == 1 else 'have'} the same values as a row for training, in all"
            " columns and the target",
            "a score on rows that were trained on says nothing about new ones",
            instead="remove repeated rows from",
        )


def _contradictions(looked: _Looked) -> Iterator[Oddity]:
    """Rows that have the columns of another one, and another target."""
    if not looked.numbers:
        return
    rows, whole = looked.numbers["train"], looked.numbers_with_target["train"]
    _, first, number = np.unique(rows, return_index=True, return_inverse=True)
    contradicting = int((whole != whole[first][number]).sum())
    if contradicting > max(1, 0.01 * len(rows)):
        yield Oddity(
            "rows that contradict each other",
            f"{contradicting:,} of {len(rows):,} rows for training have the columns of another row and another target",
            "no model can be right for both; a column that tells them apart may be missing",
            instead="add the missing column to",
        )


def _numbers_of_rows(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return a number of 64 bits for each row, a hash: the same for the same values."""
    found: list[int] = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = np.ascontiguousarray(rows[start : start + ROWS_AT_ONCE] + 0)  # -0.0 is 0.0
        found += map(hash, block.view(f"V{block.itemsize * block.shape[1]}")[:, 0].tolist())
    return np.array(found, np.int64)


# ------------------------------------------------------------ columns that give the target away


def _leaks(looked: _Looked) -> Iterator[Oddity]:
    """Columns of which one alone says the target: a copy, a monotone function of it, or what decides the class."""
    if len(looked.rows) < FEWEST or len(looked.columns) < 2:
        return
    at = _at(len(looked.rows), len(looked.few))
    few = looked.targets[at]
    found = []
    numbers = looked.table.task == "regression"
    tells, one = (_tells_number, "the target") if numbers else (_tells_class, "the class")
    targets = looked.table.target_names if numbers or looked.table.classes else ("",)
    for name, index in [*looked.columns.items()][:MOST_COLUMNS]:
        for number, target in enumerate(targets):
            of_few, of_all = (each.reshape(len(each), -1)[:, number] for each in (few, looked.targets))
            if tells(looked, name, looked.few[:, index], of_few) and tells(looked, name, looked.rows[:, index], of_all):
                several = f"{one} {shown(target)}" if numbers else f"{one} of target {shown(target)}"
                found.append((name, several if len(targets) > 1 else one))
    if found:
        names = tuple(dict.fromkeys(name for name, _ in found))
        told = " and ".join(dict.fromkeys(what for _, what in found))
        yield Oddity(
            "columns that give the target away",
            f"{quoted_columns([*names])} alone {'says' if len(names) == 1 else 'say'} {told} of (nearly) every row",
            "is it known when a prediction is asked for? A column made from the target, or after it, is not",
            names,
        )


def _tells_number(looked: _Looked, name: str, values: FloatArray, target: FloatArray) -> bool:
    there = ~np.isnan(values)
    if there.sum() < FEWEST or there.mean() < 0.5:
        return False
    values, target = values[there], target[there]
    if name not in looked.texts:
        one, other = _ranks(values), _ranks(target)
        spread = one.std() * other.std()
        return bool(spread > 0 and abs(((one - one.mean()) * (other - other.mean())).mean()) > AS_GOOD_AS_TOLD * spread)
    _, number, count = np.unique(values, return_inverse=True, return_counts=True)
    means = np.bincount(number, target) / count
    seen = count[number] > 1  # elsewhere too
    if seen.mean() < LEAST_SEEN:
        return False
    wrong = ((means[number] - target) * count[number] / np.maximum(count[number] - 1, 1))[seen]
    return bool((wrong**2).sum() < (1 - AS_GOOD_AS_TOLD) * ((target - target.mean()) ** 2)[seen].sum())


def _ranks(values: FloatArray) -> FloatArray:
    """Return the ranks of values, those of equal ones being their mean."""
    _, number, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[number]


def _tells_class(looked: _Looked, name: str, values: FloatArray, classes: NDArray[np.int64]) -> bool:
    """Return whether equal values, or intervals as few as there are classes, are of one class each."""
    of_class = np.bincount(classes)
    others = len(classes) - int(of_class.max())
    if others < FEWEST / 2:
        return False
    _, number, count = np.unique(values, return_inverse=True, return_counts=True)
    pairs, many = np.unique(number * len(of_class) + classes, return_counts=True)
    value, which = np.divmod(pairs, len(of_class))
    order = np.lexsort((many, value))
    last = np.r_[value[order][1:] != value[order][:-1], True]  # the most frequent class of each value
    most, frequent = many[order][last], which[order][last]
    impure = len(classes) - int(most.sum())
    wrong = float(impure + (count == 1).sum())
    if name not in looked.texts:
        intervals = 1 + int((frequent[1:] != frequent[:-1]).sum())
        wrong = min(wrong, impure + max(0, intervals - int((of_class > 0).sum())) / 2)
    return wrong <= MOST_WRONG * others


CHECKS = {
    "constant columns": _constant,
    "columns without most values": _lacking,
    "duplicated columns": _copies,
    "row numbers among the columns": _row_numbers,
    "numbers of more digits than a float has": _long_numbers,
    "names among the columns": _names,
    "rows in two parts": _shared,
    "rows that contradict each other": _contradictions,
    "columns that give the target away": _leaks,
}
