"""A dataset whose features stay on the disk until a batch of them is wanted."""

from __future__ import annotations

import numpy as np

import nanotorch as torch
from nanotorch import Tensor
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import Table
from nanotorch.utils.data import Dataset, Indices, Stacked

PIECE = 2**15  # numbers that are prepared at once


class RowsOnDisk(Dataset[tuple[Tensor, ...]]):
    """Rows of a table whose features are `DiskRows`, prepared batch by batch; targets and weights are in memory.

    Args:
        table: the rows.
        preprocessing: from the table to what the model sees.
        tensors: targets and weights of all rows, on the device.
        dtype: of the features.
        rows_at_once: the most rows to take where the size of a batch does not matter.
    """

    def __init__(
        self,
        table: Table,
        preprocessing: Preprocessing,
        tensors: tuple[Tensor, ...],
        dtype: torch.dtype,
        rows_at_once: int,
    ) -> None:
        self.table, self.preprocessing, self.tensors = table, preprocessing, tensors
        self.dtype, self.rows_at_once = dtype, rows_at_once

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(field[0] for field in self.__getitems__([index]).fields)

    def __getitems__(self, indices: Indices) -> Stacked:
        index = np.asarray(indices, np.int64)
        features = np.empty((len(index), self.preprocessing.in_features), self.dtype.numpy)
        # what preprocessing computes with is float64, and several times as large
        step = max(1, PIECE // features.shape[1])
        for start in range(0, len(index), step):
            rows = self.table.rows(index[start : start + step])
            features[start : start + step] = self.preprocessing.features(rows)
        first = torch.from_numpy(features).to(self.tensors[0].device)
        return Stacked([first, *(tensor[index] for tensor in self.tensors)])

    def __len__(self) -> int:
        return len(self.table)
