"""Rows of a matrix in a file, read when they are wanted.

Note [Rows on the disk]
~~~~~~~~~~~~~~~~~~~~~~~
A file that is larger than memory is usually mapped (`numpy.load(..., mmap_mode="r")`). But a page of a map counts as
resident from when it was touched, and brings its neighbours along (64 KiB of them on Linux, 2 MiB where the kernel
caches huge pages): one epoch in random order ends with the whole file resident. To give the pages back after every
batch (`madvise(MADV_DONTNEED)`) costs 9.4 us a row of 2 KB, where a plain read of that row into its place in the batch
costs 1.8 us. So `DiskRows` maps nothing and reads: what is resident is the batch, to the byte. The kernel's cache still
holds what it has room for, so that the next epoch need not wait for the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**20  # bytes that are looked at at once where all rows are
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DiskRows:
    """Rows of a matrix in a file: `rows[index]` reads some of them (Note [Rows on the disk]).

    Attributes:
        source: the file, for messages.
        path: its path; the file is open only while it is read.
        offset: the byte at which the matrix begins; it is stored row by row.
        matrix_shape: rows and columns of the matrix.
        dtype: the type of its numbers.
        columns: the columns that are wanted; None for all.
        index: the rows that these are, in the matrix; None for all.
        digest: a hash of the numbers, as they were when the table was loaded.
    """

    source: str
    path: Path
    offset: int
    matrix_shape: tuple[int, int]
    dtype: np.dtype[Any]
    columns: Index | None = None
    index: Index | None = None
    digest: str = ""

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.matrix_shape[1] if self.columns is None else len(self.columns)

    @property
    def size(self) -> int:
        """How many numbers."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.matrix_shape[0] if self.index is None else len(self.index)

    def rows(self, index: Index) -> DiskRows:
        """These rows only; nothing is read."""
        return replace(self, index=index if self.index is None else self.index[index])

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return some rows, or with a pair of keys some columns of some rows, as NumPy has it for `matrix[key]`."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if isinstance(rows, slice):
            wanted = np.arange(*rows.indices(len(self)))
        else:
            given = np.asarray(rows)
            wanted = np.flatnonzero(given) if given.dtype == bool else given.astype(np.int64)
        if self.columns is not None or not (isinstance(columns, slice) and columns == slice(None)):
            columns = (np.arange(self.matrix_shape[1]) if self.columns is None else self.columns)[columns]
        read = self._read(np.arange(len(self))[np.atleast_1d(wanted)], columns)
        return read if wanted.ndim else read[0]

    def _read(self, wanted: Index, columns: Any) -> NDArray[Any]:
        """Return rows of the matrix; where only some columns are wanted, a few rows at once."""
        places = wanted if self.index is None else self.index[wanted]
        if isinstance(columns, slice):
            return self._read_whole(places)
        step = max(1, BLOCK // (self.matrix_shape[1] * self.dtype.itemsize))
        taken = np.empty((len(places), *np.shape(columns)), self.dtype)
        for start in range(0, len(places), step):
            taken[start : start + step] = self._read_whole(places[start : start + step])[:, columns]
        return taken

    def _read_whole(self, places: Index) -> NDArray[Any]:
        width = self.matrix_shape[1]
        taken = np.empty((len(places), width), self.dtype)
        row_bytes = width * self.dtype.itemsize
        if not taken.size:
            return taken
        view = taken.data.cast("B")
        # Rows that follow each other are read in one go.
        starts = np.flatnonzero(np.diff(places, prepend=places[0] - 2) != 1)
        ends = np.append(starts[1:], len(places))
        with open(self.path, "rb", buffering=0) as file:
            for start, end, place in zip(starts.tolist(), ends.tolist(), places[starts].tolist(), strict=True):
                file.seek(self.offset + place * row_bytes)
                done, until = start * row_bytes, end * row_bytes
                while done < until:
                    count = file.readinto(view[done:until])
                    if not count:
                        raise OSError(f"{self.source} became shorter while it was in use")
                    done += count
        return taken

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Return all rows, some at once, each time with the number of the first."""
        step = max(1, BLOCK // (self.matrix_shape[1] * self.dtype.itemsize))
        for start in range(0, len(self), step):
            yield start, self[start : start + step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it in memory."""
        return np.asarray(self[:], dtype)
