"""Batches fetched from a dataset: by the numbers of their samples, or in turn; what the loader and its workers run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from nanotorch.utils.data.dataset import samples_of

END = object()


class ByNumber:
    """Makes batches, or single samples, of a dataset with samples by number."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any], batched: bool, drop_last: bool) -> None:
        self.dataset, self.collate, self.batched = dataset, collate, batched

    def __call__(self, task: Any) -> Any:
        """Return the batch, or the sample, at these positions."""
        return self.collate(samples_of(self.dataset, task) if self.batched else self.dataset[task])


class InTurn:
    """Makes batches, or single samples, of what an iterable dataset gives, and END when that has ended."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any], batched: bool, drop_last: bool) -> None:
        self.samples, self.collate, self.batched, self.drop_last = iter(dataset), collate, batched, drop_last

    def __call__(self, task: Any) -> Any:
        """Return the next batch, or sample; END when there is none."""
        size = len(task) if self.batched else 1
        samples = list(islice(self.samples, size))
        if len(samples) < size:
            self.samples = iter(())
            if self.drop_last or not samples:
                return END
        return self.collate(samples if self.batched else samples[0])
