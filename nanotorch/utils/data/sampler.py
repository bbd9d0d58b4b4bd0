"""Samplers: the order in which samples are visited, and how they are divided into batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.dtypes import float64
from nanotorch.ops.create.creation import as_tensor
from nanotorch.ops.create.random import Generator, multinomial, numbers_of
from nanotorch.utils.data.dataset import Indices

Item = TypeVar("Item")


class Sampler(Generic[Item]):
    """The order in which samples are visited: a subclass defines `__iter__` over their indices."""

    def __iter__(self) -> Iterator[Item]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")


class _Order(Sampler[int]):
    """A sampler that knows the indices of a whole epoch at once, as an array or a range."""

    def order(self) -> Indices:
        """Return the indices of one epoch; drawn anew by every call."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        yield from map(int, self.order())


class SequentialSampler(_Order):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def order(self) -> Indices:
        """Return all indices, in order."""
        return range(len(self.data_source))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(_Order):
    """All indices in a random order, or with `replacement` each drawn from all; `num_samples` of them."""

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        _check_count(self.num_samples)

    @property
    def num_samples(self) -> int:
        """How many indices an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def order(self) -> Indices:
        """Return the indices, drawn from the generator."""
        size, numbers = len(self.data_source), numbers_of(self.generator)
        if self.replacement:
            return numbers.integers(size, size=self.num_samples)
        rounds = [numbers.permutation(size) for _ in range(math.ceil(self.num_samples / size))]
        return np.concatenate(rounds)[: self.num_samples] if len(rounds) != 1 else rounds[0][: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(_Order):
    """The given indices in a random order."""

    def __init__(self, indices: Indices, generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def order(self) -> Indices:
        """Return the indices, shuffled by the generator."""
        return numbers_of(self.generator).permutation(np.asarray(self.indices, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(_Order):
    """`num_samples` indices, each drawn with a probability proportional to its weight.

    Args:
        weights: one number per sample, which need not add up to 1; for balanced classes one over the size of its class.
        num_samples: how many indices an epoch has.
        replacement: draw each from all; without it none comes twice.
        generator: what draws; the default generator unless given.

    >>> list(WeightedRandomSampler([0.0, 3.0, 0.0], 4))
    [1, 1, 1, 1]
    """

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        _check_count(num_samples)
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.weights = as_tensor(weights, dtype=float64)
        if self.weights.ndim != 1:
            raise ValueError(
                f"weights should be a 1d sequence but given weights have shape {tuple(self.weights.shape)}"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def order(self) -> Indices:
        """Return the indices, drawn from the generator."""
        return multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator).cpu().numpy()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """The indices of another sampler in lists of `batch_size`; a shorter last list is left out with `drop_last`.

    >>> list(BatchSampler(SequentialSampler(range(5)), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise ValueError(f"batch_size is a positive integer, got {batch_size!r}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        for indices in self.chunks():
            yield list(map(int, indices)) if isinstance(indices, np.ndarray) else list(indices)

    def chunks(self) -> Iterator[Indices]:
        """Return the same batches, each as an array or a range if the sampler knows its whole order."""
        if isinstance(self.sampler, _Order) and type(self.sampler).__iter__ is _Order.__iter__:
            order = self.sampler.order()
            batches: Iterator[Indices] = (
                order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)
            )
        else:
            indices = iter(self.sampler)
            batches = iter(lambda: list(islice(indices, self.batch_size)), [])
        for batch in batches:
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        size = len(self.sampler)  # type: ignore[arg-type]
        return size // self.batch_size if self.drop_last else math.ceil(size / self.batch_size)


def chunks_of(batch_sampler: Iterable[Any]) -> Iterable[Any]:
    """Return the batches of a batch sampler, as arrays where it is a BatchSampler
    that nobody gave another `__iter__`.
    """
    if isinstance(batch_sampler, BatchSampler) and type(batch_sampler).__iter__ is BatchSampler.__iter__:
        return batch_sampler.chunks()
    return batch_sampler


def _check_count(num_samples: Any) -> None:
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples <= 0:
        raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
