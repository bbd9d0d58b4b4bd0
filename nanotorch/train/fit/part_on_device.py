"""A part of the data as training and scoring want it: rows on a device, and how their outputs are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import Tensor
from nanotorch.autograd.graph.tensor import from_array
from nanotorch.ops.create.random import Generator
from nanotorch.train.data.disk_dataset import RowsOnDisk
from nanotorch.train.score.meter import Meter
from nanotorch.utils.data import DataLoader, TensorDataset
from nanotorch.utils.data.sampler import chunks_of

AT_ONCE = 2**18  # bytes of rows that are gathered in one call


class RowLoader(DataLoader[Any]):
    """A DataLoader of tensors that nobody writes to meanwhile, so that it may gather the rows of many batches at once.

    A gather of a few rows is mostly the cost of the call: the batches are views of a larger one that stays in the
    cache.
    """

    def __iter__(self) -> Iterator[list[Tensor]]:
        assert self.batch_sampler is not None and self.batch_size is not None
        batches = iter(chunks_of(self.batch_sampler))
        row = sum(tensor[:1].nbytes for tensor in self.dataset.tensors)
        at_once = max(1, AT_ONCE // (row * self.batch_size))
        while several := list(islice(batches, at_once)):
            fields = self.dataset.__getitems__(np.concatenate(several)).fields
            start = 0
            for batch in several:
                stop = start + len(batch)
                yield [from_array(field._array[start:stop], field.device) for field in fields]
                start = stop


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the data on its device, and how to score it.

    The dataset gives features, targets, and for each row its weight in the mean of the loss; where rows have factors of
    their own (sample weights), these come fourth.
    """

    dataset: TensorDataset | RowsOnDisk
    scored_as: Mapping[str, Any]

    def loader(self, batch_size: int, shuffle: bool, drop_last: bool, generator: Generator) -> DataLoader[Any]:
        """Return the rows in batches, for training; the generator draws their order."""
        kind: Any = RowLoader if isinstance(self.dataset, TensorDataset) else DataLoader
        loader: DataLoader[Any] = kind(
            self.dataset, batch_size, shuffle=shuffle, drop_last=drop_last, generator=generator
        )
        return loader

    def batches(self, size: int) -> Iterator[Sequence[Tensor]]:
        """Give the rows as they lie, so many at a time; the features are a copy, for a model may write to them."""
        if not isinstance(self.dataset, TensorDataset):
            yield from DataLoader(self.dataset, size)
            return
        tensors = self.dataset.tensors
        for start in range(0, len(self), size):
            part = tensors if len(self) <= size else [tensor[start : start + size] for tensor in tensors]
            yield [part[0].clone(), *part[1:]]

    def meter(self, every_metric: bool = False) -> Meter:
        """Return a new meter for one pass over this part:
        of sums only, or of the scores as well that need all rows at once.
        """
        return Meter(**(self.scored_as if every_metric else {**self.scored_as, "metrics": ()}))

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.dataset.tensors[-1].device

    def features(self, rows: int) -> Tensor:
        """Return what the model sees of the first rows."""
        first: Tensor = self.dataset.__getitems__(range(min(rows, len(self)))).fields[0]
        return first

    def __len__(self) -> int:
        return len(self.dataset)
