"""A column of anything, as new rows bring it, as numbers or as texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.columns.notation import Notation, is_missing, split_unit, text_of, truth_of
from nanotorch.train.data.table import DataError, FloatArray, shown


def as_numbers(
    values: Sequence[Any] | NDArray[Any],
    name: str,
    where: Callable[[int], str],
    notation: Notation,
    unit: str = "",
    truths: bool = False,
) -> FloatArray:
    """Return a column of anything as numbers, NaN where a value is missing; a DataError names what is none.

    Truth values are numbers where the column held `truths` in training, 0 and 1.
    """
    column = np.asarray(values)
    if column.ndim != 1:
        raise DataError(f"column {shown(name)} has shape {column.shape}; one value a row is needed")
    if column.dtype.kind in ("fiub" if truths else "fiu"):
        numbers = notation.without_missing(column.astype(np.float64))
    else:
        numbers = np.empty(len(column))
        for row, value in enumerate(np.asarray(values, object)):
            try:
                if isinstance(value, str):
                    truth = truth_of(value.strip()) if truths else None
                    numbers[row] = notation.number(value, unit) if truth is None else truth
                elif isinstance(value, bool | np.bool_) and not truths:
                    raise ValueError(value)
                else:
                    lacking = is_missing(value) or value in notation.missing_numbers
                    numbers[row] = np.nan if lacking else float(value)
            except (TypeError, ValueError):
                held = shown(value) if isinstance(value, str) else repr(value)
                raise DataError(
                    f"{where(row)}: column {shown(name)} holds {held}, {_no_number(value, notation, unit)}"
                ) from None
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise DataError(f"{where(row)}: column {shown(name)} is {numbers[row]}, which is not finite")
    return numbers


def _no_number(value: Any, notation: Notation, unit: str) -> str:
    """Return why a value is no number, or not one of that unit."""
    parts = split_unit(value.strip()) if isinstance(value, str) else None
    if parts is not None and parts[0] and notation.is_number(parts[1]):
        return f"and in training its numbers had {f'the unit {unit!r}' if unit else 'no unit'}"
    readings = notation.readings(parts[1], [parts[1]]) if parts is not None else ""
    return f"which is {readings}" if readings else "which is not a number"


def without_unit(values: Sequence[Any] | NDArray[Any], notation: Notation, unit: str) -> int:
    """Return how many numbers of a column lack its unit."""
    if not unit:
        return 0
    given = [value for value in np.asarray(values, object).tolist() if not is_missing(value)]
    texts = [value.strip() for value in given if isinstance(value, str)]
    bare = [text for text in texts if not notation.lacks(text) and (split_unit(text) or ("",))[0] != unit]
    return len(given) - len(texts) + len(bare)


def as_texts(values: Sequence[Any] | NDArray[Any], known: Mapping[str, int], notation: Notation) -> list[str | None]:
    """Return a column of anything as texts, None where a value is missing; of an unknown text the label of it."""
    seen: dict[str, str | None] = {}
    texts: list[str | None] = []
    for value in np.asarray(values, object).tolist():
        raw = None if is_missing(value) else text_of(value)
        if raw is not None and raw not in seen:
            label = raw if raw in known else notation.label(raw)
            seen[raw] = None if notation.lacks(raw) else label
        texts.append(None if raw is None else seen[raw])
    return texts
