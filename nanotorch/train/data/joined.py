"""How rows are prepared for several models of one table, each of which has learnt its own medians, scales and
categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.data_notices import Noticed
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import FloatArray, Table

ALIKE = (
    *("task", "target_names", "classes", "column_names", "columns_of_numbers", "missing_values", "units", "rare"),
    "dates",
)


@dataclass(frozen=True, slots=True)
class Joined(Preprocessing):
    """What the model sees of a row: what each of several models sees of it, side by side.

    All else is that of the first.

    Attributes:
        members: how rows are prepared for each.
    """

    members: tuple[Preprocessing, ...] = ()

    @classmethod
    def of(cls, members: Sequence[Preprocessing]) -> Self:
        """Join what takes the same columns."""
        first = members[0]
        return cls(**{one.name: getattr(first, one.name) for one in fields(Preprocessing)}, members=tuple(members))

    @property
    def input_names(self) -> tuple[str, ...]:
        """A name for each number of a row that the model sees."""
        return tuple(f"{name}, {k}" for k, member in enumerate(self.members, 1) for name in member.input_names)

    def features(self, table: Table) -> FloatArray:
        """Return the rows of a table as the model sees them, (n, in_features) float64."""
        return np.concatenate([member.features(table) for member in self.members], axis=1)

    def encode_piece(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]], noticed: Noticed) -> FloatArray:
        """As `encode`, for some of many rows; what any of the models does not know is counted once."""
        each = [Noticed() for _ in self.members]
        pieces = [member.encode_piece(columns, one) for member, one in zip(self.members, each, strict=True)]
        noticed.add_most(each)
        return np.concatenate(pieces, axis=1)


def unlike(one: Preprocessing, other: Preprocessing) -> list[str]:
    """Return what two models of one table would have to agree in and do not."""
    return [name.replace("_", " ") for name in ALIKE if getattr(one, name) != getattr(other, name)]
