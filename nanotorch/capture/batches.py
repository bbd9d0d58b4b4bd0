"""The batches that many steps of one call take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Between = Callable[[], Any]


class Batches:
    """Rows of tables on the CPU, in batches of one size.

    Args:
        tables: arrays of one length; or a list of such for each of several models.
        order: the rows to take, `size` of them for each batch; in two dimensions, a row of it for each model.
        numbers: for each batch the numbers that go with it.

    Attributes:
        each: whether `tables` are those of each model.

    Iterating gives the arrays of each batch, in the same memory every time, and its numbers. With rows for each model
    the arrays have one more axis in front.
    """

    def __init__(
        self, tables: Sequence[Any], order: np.ndarray[Any, Any], size: int, numbers: Sequence[Sequence[int]]
    ) -> None:
        self.tables, self.order, self.size, self.numbers = tables, order, size, numbers
        self.each = bool(tables) and isinstance(tables[0], list | tuple)

    def first(self) -> Batches:
        """Return the first batch alone."""
        return Batches(self.tables, self.order[..., : self.size], self.size, self.numbers[:1])

    def __iter__(self) -> Iterator[tuple[list[Any], Sequence[int]]]:
        for start, numbers in zip(range(0, self.order.shape[-1], self.size), self.numbers, strict=True):
            if not start:
                memory = taken(self.tables, self.order[..., : self.size])
                takes = self._takes(memory)
            else:
                rows = self.order[..., start : start + self.size]
                for take, models, batch in takes:
                    take(rows[models], 0, batch, "clip")  # the rows are there: with "raise" NumPy would copy them twice
            yield memory, numbers

    def _takes(self, memory: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        """Return what takes rows of a table, for which models, and where they go."""
        if not self.each:
            return [(table.take, ..., batch) for table, batch in zip(self.tables, memory, strict=True)]
        return [
            (tables[field].take, models, memory[field][models])
            for tables, models in together(self.tables)
            for field in range(len(memory))
        ]


def taken(tables: Sequence[Any], rows: np.ndarray[Any, Any]) -> list[Any]:
    """Return rows of tables, or of those of each model."""
    if not isinstance(tables[0], list | tuple):
        return [table.take(rows, 0) for table in tables]
    found = [np.empty((*rows.shape, *table.shape[1:]), table.dtype) for table in tables[0]]
    for of, models in together(tables):
        for table, batch in zip(of, found, strict=True):
            batch[models] = table.take(rows[models], 0)
    return found


def together(tables: Sequence[Sequence[Any]]) -> list[tuple[Sequence[Any], slice]]:
    """Return the tables of models, each with the models that have it, as far as these lie evenly apart."""
    known: dict[tuple[int, ...], list[int]] = {}
    for number, of in enumerate(tables):
        known.setdefault(tuple(map(id, of)), []).append(number)
    found = []
    for numbers in known.values():
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        even = numbers == list(range(numbers[0], numbers[-1] + 1, step))
        parts = [slice(numbers[0], numbers[-1] + 1, step)] if even else [slice(k, k + 1) for k in numbers]
        found += [(tables[numbers[0]], part) for part in parts]
    return found
