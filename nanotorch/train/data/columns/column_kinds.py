"""What a column of texts holds: numbers or categories. One that may be either is an error or said, never a guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.columns.columns import Columns
from nanotorch.train.data.columns.notation import UNITS, Notation, split_unit, truth_of
from nanotorch.train.data.table import FloatArray, Mistakes, TableError, quoted, shown

LISTED = 3  # texts in one message


class Kind(NamedTuple):
    """What a column holds.

    Attributes:
        numbers: its values, NaN where one is missing; None if it holds categories.
        unit: what stands beside each number, or "".
        notices: what was decided for the user.
    """

    numbers: FloatArray | None
    unit: str = ""
    notices: tuple[str, ...] = ()


def kind_of(
    whole: Columns,
    name: str,
    notation: Notation,
    stated: bool = False,
    sure: bool = False,
    otherwise: str = "list the column under data.categorical or data.drop",
) -> Kind:
    """Return what a column holds (Note [Notation]); a TableError where that cannot be told.

    Where it is `stated` that these are numbers, nothing else is taken, and an error says what to do `otherwise`; where
    the notation is `sure`, it is not doubted.
    """
    column = whole[name]
    if column.dtype != object:
        return Kind(column)
    texts: list[str | None] = column.tolist()
    numbers = _numbers(texts, notation)
    if numbers is not None:
        return Kind(numbers, notices=() if sure else tuple(_doubted(whole, name, notation)))
    counts = Counter(text for text in texts if text is not None)
    parts = {text: found for text in counts if (found := _parts(text, notation, stated)) is not None}
    many, present = sum(counts[text] for text in parts), counts.total()
    if not stated and many * 2 <= present:
        return Kind(None, notices=tuple(_said_of_categories(name, counts, parts)))
    mistakes = Mistakes()
    with mistakes.gathered():
        if len(parts) < len(counts):
            row = next(row for row, text in enumerate(texts) if text is not None and text not in parts)
            among = "" if stated else f", among {many} numbers in {present} rows"
            raise TableError(
                f"{whole.where(row)}: column {shown(name)} holds {shown(texts[row])}, which is not a number{among};"
                f" mend it, or add it to data.missing_values, or {otherwise}"
            )
    with mistakes.gathered():
        _refuse_other_notation(whole, name, notation, {text: number for text, (_, number) in parts.items()})
    with mistakes.gathered():
        unit = _one_unit(whole, name, {text: unit for text, (unit, _) in parts.items()})
    mistakes.tell()
    first = next(text for text in texts if text is not None)
    value = notation.number(first, unit)
    notice = f"column {shown(name)} holds numbers with the unit {shown(unit)}: {shown(first)} is {value:.15g}"
    return Kind(_numbers(texts, notation, unit), unit, (notice,))


def _numbers(texts: Sequence[str | None], notation: Notation, unit: str = "") -> FloatArray | None:
    there = [row for row, text in enumerate(texts) if text is not None]
    found = notation.numbers([texts[row] or "" for row in there], unit)
    if found is None:
        return None
    numbers = np.full(len(texts), np.nan)
    numbers[there] = found
    return numbers


def _doubted(whole: Columns, name: str, notation: Notation) -> Iterator[str]:
    """Return what is to be said of numbers whose points may stand before thousands; if they seem to, a TableError."""
    texts = whole[name].tolist()
    doubt = notation.may_be_thousands(text for text in texts if text is not None)
    if doubt == "no":
        return
    row = next(row for row, text in enumerate(texts) if text is not None and notation.decimal in text)
    value, other = notation.number(texts[row]), notation.readings(texts[row], [texts[row]])
    if doubt == "likely":
        raise TableError(
            f"{whole.where(row)}: column {shown(name)} holds {shown(texts[row])}, which is {value:.15g}, and {other};"
            " the column's other numbers speak for the latter: set it, or list the column under data.numeric"
        )
    yield f"column {shown(name)}: {shown(texts[row])} is read as {value:.15g}; it would be {other}"


def _parts(text: str, notation: Notation, any_unit: bool) -> tuple[str, str] | None:
    """Return a well-known unit (or any), or "", and the rest; None if that is a number in no notation."""
    parts = split_unit(text)
    if parts is None:
        return ("", text) if notation.is_number(text) else None
    if parts[0] and not (any_unit or parts[0] in UNITS):
        return None
    return parts if any(way.is_number(parts[1]) for way in (notation, *notation.others())) else None


def _refuse_other_notation(whole: Columns, name: str, notation: Notation, bare: Mapping[str, str]) -> None:
    """Raise a TableError where not all numbers are written as the config says."""
    row = next((row for row, text in enumerate(whole[name]) if not notation.is_number(bare.get(text, "0"))), None)
    if row is None:
        return
    text = whole[name][row]
    readings = notation.readings(bare[text], bare.values())
    said = f"which is {readings}; set what is meant" if readings else "and others in another notation; write all in one"
    raise TableError(
        f"{whole.where(row)}: column {shown(name)} holds {shown(text)}, {said}, or list the column under"
        " data.categorical or data.drop"
    )


def _one_unit(whole: Columns, name: str, units: Mapping[str, str]) -> str:
    """Return the unit that all numbers have; a TableError where they have several, or some have none."""
    texts = whole[name].tolist()
    rows = {units[text]: row for row, text in reversed([*enumerate(texts)]) if text in units}
    if len(rows) > 1:
        first, second = sorted(rows.values())[:2]
        raise TableError(
            f"{whole.where(second)}: column {shown(name)} holds {shown(texts[second])}, and {shown(texts[first])} in"
            f" {whole.where(first).removeprefix(f'{whole.source}, ')}: give all of its numbers one unit or none, or"
            " list it under data.categorical or data.drop"
        )
    return next(iter(rows), "")


def _said_of_categories(name: str, counts: Counter[str], like: Collection[str]) -> Iterator[str]:
    """Return what the user should know of a column of texts that becomes one of categories."""
    present = counts.total()
    units = {text: parts[0] for text in counts if (parts := split_unit(text)) is not None and parts[0]}
    if like:
        others = quoted([text for text in counts if text not in like], LISTED)
        yield (
            f"column {shown(name)} holds categories, though {sum(counts[text] for text in like)} of {present} values"
            f" are numbers (others: {others}); data.categorical states that, data.numeric or data.missing_values the"
            " contrary"
        )
    elif sum(counts[text] for text in units) * 2 > present and len(set(units.values())) <= LISTED:
        yield (
            f"column {shown(name)} holds categories, though most look like numbers with units"
            f" ({quoted(units, LISTED)}); data.categorical states that, and data.numeric reads"
            " numbers that all have the same unit"
        )


def codes(column: NDArray[Any], notation: Notation) -> tuple[tuple[str, ...], FloatArray]:
    """Return the categories of a column, sorted, and the number of each row's; NaN for a missing one."""
    texts: list[str | None] = column.tolist()
    labels = {text: notation.label(text) for text in set(texts) if text is not None}
    truths = {text: truth_of(text) for text in labels}
    if len(truths) > 2 and None not in truths.values():  # "true" and "TRUE" are one
        labels = {text: str(truth) for text, truth in truths.items()}
    values = sorted(set(labels.values()))
    place = {label: float(index) for index, label in enumerate(values)}
    number: dict[str | None, float] = {text: place[label] for text, label in labels.items()}
    number[None] = np.nan
    return tuple(values), np.array([number[text] for text in texts], np.float64)
