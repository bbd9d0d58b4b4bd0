"""A column of categories: those of the training part, and what any other is taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.columns.notation import spellings
from nanotorch.train.data.table import FloatArray


@dataclass(frozen=True, slots=True)
class Category:
    """What the training part had in a categorical column.

    Attributes:
        values: its categories, sorted.
        missing: whether it lacked values, so that "missing" is a category too, the last one.
        fallback: the number of the category that an unknown one is taken for.
        other: whether it had further ones, which are the category after `values`.
    """

    values: tuple[str, ...]
    missing: bool
    fallback: int
    other: bool = False

    @classmethod
    def fit(cls, codes: FloatArray, texts: Sequence[str], most: int | None = None) -> Self:
        """Learn from numbers of categories, NaN for missing, and the texts that they stand for."""
        lacking = np.isnan(codes)
        used, counts = np.unique(codes[~lacking].astype(np.int64), return_counts=True)
        found = sorted(zip([texts[code] for code in used.tolist()], counts.tolist(), strict=True))
        other = most is not None and len(found) > most
        frequent = sorted(found, key=lambda pair: -pair[1])
        values = tuple(sorted(value for value, _ in frequent[: most - 1])) if most and other else tuple(dict(found))
        missing = bool(lacking.any())
        fallback = len(values) if missing or other else values.index(frequent[0][0])
        return cls(values, missing, fallback, other)

    @property
    def names(self) -> tuple[str, ...]:
        """The categories, "other" and "missing" included."""
        return (*self.values, *(("(other)",) if self.other else ()), *(("(missing)",) if self.missing else ()))

    @property
    def of_missing(self) -> int:
        """The number of the category that a missing value is taken for."""
        return len(self.names) - 1 if self.missing else self.fallback

    def numbers(self, codes: FloatArray, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return numbers among `texts`, NaN for missing, as numbers of these categories."""
        known = spellings(self.values)
        table = np.array([*(known.get(text, self.fallback) for text in texts), self.of_missing], np.int64)
        return table[np.where(np.isnan(codes), len(texts), codes).astype(np.int64)]

    def state(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        plain = {"values": self.values, "missing": self.missing, "fallback": self.fallback}
        return plain | ({"other": True} if self.other else {})

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from what `state` returned."""
        return cls(tuple(state["values"]), state["missing"], state["fallback"], state.get("other", False))
