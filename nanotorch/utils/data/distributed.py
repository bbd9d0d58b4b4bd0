"""The part of a dataset that a process trains on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nanotorch import distributed
from nanotorch.ops.create.random import Generator, randperm
from nanotorch.utils.data.sampler import Sampler


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th index, from the own rank on, of an order that is the same for all ranks.

    All ranks get as many: some of the first ones twice, at the end, or with `drop_last` those that are left over not at
    all. Call `set_epoch` before each epoch, else it has the order of the one before.

    Args:
        dataset: what has a length.
        num_replicas: how many ranks there are; by default those of the process group.
        rank: which one this is; by default that of this process.
        shuffle: in a random order, by `seed` and epoch.
        seed: the same on all ranks.
        drop_last: leave out what cannot be divided evenly.

    >>> torch.utils.data.distributed.DistributedSampler(range(7), num_replicas=2, rank=1, shuffle=False).indices()
    [1, 3, 5, 0]
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.num_replicas = distributed.group().size if num_replicas is None else num_replicas
        self.rank = distributed.group().rank if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(f"Invalid rank {self.rank}, rank should be in the interval [0, {self.num_replicas - 1}]")
        self.dataset, self.shuffle, self.seed, self.drop_last, self.epoch = dataset, shuffle, seed, drop_last, 0

    @property
    def num_samples(self) -> int:
        """How many indices each rank gets."""
        count = len(self.dataset)
        return count // self.num_replicas if self.drop_last else -(-count // self.num_replicas)

    def indices(self) -> list[int]:
        """Return those of this rank."""
        count, total = len(self.dataset), self.num_samples * self.num_replicas
        order = list(range(count))
        if self.shuffle:
            order = randperm(count, generator=Generator().manual_seed(self.seed + self.epoch)).tolist()
        if order:
            order = (order * -(-total // count))[:total]
        return order[self.rank :: self.num_replicas]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices())

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Have the next order be that of an epoch."""
        self.epoch = epoch
