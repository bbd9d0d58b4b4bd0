"""Which worker process of a DataLoader this is."""

from __future__ import annotations

from typing import Any, NamedTuple


class WorkerInfo(NamedTuple):
    """What `get_worker_info` tells.

    Attributes:
        id: the number of this worker, from 0.
        num_workers: how many there are.
        seed: what the random generators of this process were seeded with.
        dataset: this process's copy of the dataset.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


_here: list[WorkerInfo] = []


def get_worker_info() -> WorkerInfo | None:
    """Who this process is among the workers of a DataLoader; None in every other process.

    An IterableDataset asks, to give each worker another part of the samples:

    >>> def __iter__(self):
    ...     info = get_worker_info()
    ...     return iter(self.files if info is None else self.files[info.id :: info.num_workers])
    """
    return _here[0] if _here else None


def become(info: WorkerInfo) -> None:
    """Make this process the worker."""
    _here[:] = [info]
