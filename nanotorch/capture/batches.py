"""The batches that many steps of one call take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Between = Callable[[], Any]


class Batches:
    """Rows of tables on the CPU, in batches of one size.

    Args:
        tables: arrays of one length.
        order: the rows to take, `size` of them for each batch.
        numbers: for each batch the numbers that go with it.

    Iterating gives the arrays of each batch, in the same memory every time, and its numbers.
    """

    def __init__(
        self, tables: Sequence[Any], order: np.ndarray[Any, Any], size: int, numbers: Sequence[Sequence[int]]
    ) -> None:
        self.tables, self.order, self.size, self.numbers = tables, order, size, numbers

    def __iter__(self) -> Iterator[tuple[list[Any], Sequence[int]]]:
        memory = [np.empty((self.size, *table.shape[1:]), table.dtype) for table in self.tables]
        pairs = list(zip([table.take for table in self.tables], memory, strict=True))
        for start, numbers in zip(range(0, len(self.order), self.size), self.numbers, strict=True):
            rows = self.order[start : start + self.size]
            for take, batch in pairs:
                take(rows, 0, batch, "clip")  # the rows are there: with "raise" NumPy would gather into a copy first
            yield memory, numbers
