"""The DataLoader: batches of a dataset, made in this process or by others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import repeat
from typing import Any, Generic, TypeVar

import numpy as np

from nanotorch.ops.create.random import Generator, numbers_of
from nanotorch.utils.data.collate import default_collate, default_convert
from nanotorch.utils.data.dataset import Dataset, IterableDataset
from nanotorch.utils.data.fetch import END, ByNumber, InTurn
from nanotorch.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler, chunks_of

Sample = TypeVar("Sample", covariant=True)
FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class DataLoader(Generic[Sample]):
    """Iterates over a dataset in batches.

    Args:
        dataset: samples by number (anything with `__getitem__` and `__len__`), or an IterableDataset.
        batch_size: samples in a batch; None gives single samples.
        shuffle: visit the samples in a random order, another one in each epoch.
        sampler: the order of the samples, in place of `shuffle`: any iterable of indices.
        batch_sampler: the batches themselves: an iterable of lists of indices.
        num_workers: processes that make the batches; 0 makes them here. Batches and their order are the same.
        collate_fn: makes a batch of a list of samples; `default_collate` stacks tensors and numbers field by field.
        pin_memory: accepted; arrays of the CPU are never pinned.
        drop_last: leave out a last batch that is smaller than the others.
        timeout: seconds after which a batch of a worker is given up; 0 waits as long as the worker lives.
        worker_init_fn: called with its number in every worker, once it is seeded.
        multiprocessing_context: how workers start, "fork", "spawn", "forkserver" or a context; the platform's way by
            default.
        generator: where the random order comes from, and the seeds of the workers; the default generator unless given.
        prefetch_factor: batches that each worker makes ahead, 2 by default.
        persistent_workers: keep the workers from one epoch to the next.
        pin_memory_device: accepted, like `pin_memory`.
        in_order: accepted; batches always come in order.

    >>> from nanotorch.utils.data import TensorDataset
    >>> dataset = TensorDataset(torch.arange(5), torch.arange(5) ** 2)
    >>> for x, y in DataLoader(dataset, batch_size=2):
    ...     print(x, y)
    tensor([0, 1]) tensor([0, 1])
    tensor([2, 3]) tensor([4, 9])
    tensor([4]) tensor([16])
    """

    def __init__(
        self,
        dataset: Dataset[Sample] | Sequence[Sample],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Sequence[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers, multiprocessing_context)
        iterable = isinstance(dataset, IterableDataset)
        if iterable:
            given = {"shuffle": shuffle or None, "sampler": sampler, "batch_sampler": batch_sampler}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(
                        f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}"
                    )
        if sampler is not None and shuffle:
            raise ValueError(
                "sampler option is mutually exclusive with shuffle: a sampler decides the order itself; leave out"
                " shuffle"
            )
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError(
                "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler and drop_last: a"
                " batch_sampler decides everything; leave them out"
            )
        if batch_size is None and drop_last:
            raise ValueError(
                "batch_size=None option disables auto-batching and is mutually exclusive with drop_last: leave out"
                " drop_last"
            )
        if sampler is None:
            if iterable:
                sampler = repeat(None)
            else:
                sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is not None:
            batch_size = None
        elif batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset: Any = dataset
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.prefetch_factor: int | None = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.persistent_workers = persistent_workers
        self._pool: Any = None
        self._pools = 0
        self._ready = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and "_ready" in self.__dict__:
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized: make another one"
            )
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[Any]:
        tasks = iter(self.sampler if self.batch_sampler is None else chunks_of(self.batch_sampler))
        kind = InTurn if isinstance(self.dataset, IterableDataset) else ByNumber
        make_fetch = partial(kind, self.dataset, self.collate_fn, self.batch_sampler is not None, self.drop_last)
        if not self.num_workers:
            return Here(tasks, make_fetch(), self.__len__)
        from nanotorch.utils.data.worker import Epoch, Pool  # which imports multiprocessing

        pool = self._pool
        if pool is None or not pool.workers:
            pool = Pool(
                self._context(),
                self.num_workers,
                self.timeout,
                self._seed(),
                make_fetch,
                self.dataset,
                self.worker_init_fn,
            )
        if self.persistent_workers:
            self._pool = pool
        return Epoch(pool, tasks, self.prefetch_factor or 2, self.persistent_workers, self.__len__)

    def __len__(self) -> int:
        if isinstance(self.dataset, IterableDataset):
            size = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return size
            return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    def _context(self) -> Any:
        """Return what starts the workers."""
        import multiprocessing

        chosen = self.multiprocessing_context
        return multiprocessing.get_context(chosen) if chosen is None or isinstance(chosen, str) else chosen

    def _seed(self) -> int:
        """Return a seed for new workers: another one each time, and nothing drawn from the generator,
        whose numbers are the order's.
        """
        self._pools += 1
        copied = deepcopy(numbers_of(self.generator).bit_generator)
        drawn = int(np.random.Generator(copied).integers(2**63))
        return int(np.random.SeedSequence([drawn, self._pools]).generate_state(1, np.uint64)[0] >> 2)


class Here(Iterator[Any]):
    """The batches of one epoch, made in this process."""

    def __init__(self, tasks: Iterator[Any], fetch: Callable[[Any], Any], length: Callable[[], int]) -> None:
        self.tasks, self.fetch, self.length = tasks, fetch, length

    def __next__(self) -> Any:
        task = next(self.tasks)
        try:
            batch = self.fetch(task)
        except StopIteration as error:
            raise RuntimeError(
                "the dataset or the collate_fn raised StopIteration, which would end the epoch unnoticed"
            ) from error
        if batch is END:
            raise StopIteration
        return batch

    def __len__(self) -> int:
        return self.length()


def _check_workers(
    num_workers: Any, timeout: float, prefetch_factor: int | None, persistent_workers: bool, context: Any
) -> None:
    if isinstance(num_workers, bool) or not isinstance(num_workers, int):
        raise TypeError(f"num_workers is a number of processes, got {num_workers!r}")
    if num_workers < 0:
        raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
    if timeout < 0:
        raise ValueError(f"timeout option should be non-negative, got {timeout}")
    if prefetch_factor is not None and prefetch_factor <= 0:
        raise ValueError(f"prefetch_factor option should be positive, got {prefetch_factor}")
    if context is not None and not isinstance(context, str) and not hasattr(context, "Process"):
        raise TypeError(f"multiprocessing_context is a context or the name of a start method, got {context!r}")
    if isinstance(context, str):
        import multiprocessing

        if context not in multiprocessing.get_all_start_methods():
            raise ValueError(
                "multiprocessing_context option should specify a valid start method in"
                f" {multiprocessing.get_all_start_methods()!r}, but got multiprocessing_context={context!r}"
            )
    if num_workers:
        return
    for name, value in (
        ("timeout", timeout),
        ("persistent_workers", persistent_workers),
        ("prefetch_factor", prefetch_factor),
    ):
        if value:
            raise ValueError(f"{name} option needs num_workers > 0, got {name}={value}")
    if context is not None:
        raise ValueError("multiprocessing_context can only be used with multi-process loading (num_workers > 0)")
