"""A part of the data as training and scoring want it: rows on a device, and how their outputs are scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nanotorch as torch
from nanotorch import Tensor
from nanotorch.ops.create.random import Generator
from nanotorch.train.data.disk_dataset import RowsOnDisk
from nanotorch.train.score.meter import Meter
from nanotorch.utils.data import DataLoader, TensorDataset


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
        return DataLoader(self.dataset, batch_size, shuffle=shuffle, drop_last=drop_last, generator=generator)

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
