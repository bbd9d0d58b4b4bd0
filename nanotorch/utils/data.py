"""Datasets, samplers, and the DataLoader that makes batches of them.

Note [Batches in one gather]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A dataset may have `__getitems__(indices)`, which returns the samples of a whole batch as a sequence. The DataLoader
calls it, where it exists, in place of one `dataset[i]` per sample. TensorDataset answers with `Stacked`: a sequence of
samples that are already side by side in one tensor per field, cut out by one gather each; `default_collate` takes
these tensors as they are. A Subset passes the call on with its own indices. A `collate_fn` that wants single samples
finds them in the sequence, as if they had been fetched one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from nanotorch.autograd.tensor import Tensor, from_array
from nanotorch.backend.device import CPU
from nanotorch.dtypes import float64
from nanotorch.ops.create import tensor as make_tensor
from nanotorch.ops.join import stack
from nanotorch.ops.random import Generator, default_generator

__all__ = [
    "BatchSampler",
    "DataLoader",
    "Dataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Stacked",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "default_collate",
    "random_split",
]

Sample = TypeVar("Sample", covariant=True)
Item = TypeVar("Item")
Indices = Sequence[int] | np.ndarray[Any, Any]


# ------------------------------------------------------------------------------------------------- datasets


class Dataset(Generic[Sample]):
    """Samples by number: a subclass defines `__getitem__` and `__len__`, and `__getitems__` where that is faster."""

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define __len__")


class Stacked(Sequence[tuple[Tensor, ...]]):
    """Samples whose fields lie side by side in one tensor each (Note [Batches in one gather])."""

    def __init__(self, fields: Sequence[Tensor]) -> None:
        self.fields = list(fields)

    def __getitem__(self, index: Any) -> Any:
        return tuple(field[index] for field in self.fields)

    def __len__(self) -> int:
        return len(self.fields[0])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples that are rows of tensors of one length: `dataset[i]` is `(tensors[0][i], tensors[1][i], ...)`.

    >>> dataset = TensorDataset(torch.arange(6).reshape(3, 2), torch.tensor([0, 1, 0]))
    >>> dataset[1]
    (tensor([2, 3]), tensor(1))
    """

    def __init__(self, *tensors: Tensor) -> None:
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) != 1:
            raise ValueError(f"TensorDataset needs tensors of one length, got lengths {lengths}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Indices) -> Stacked:
        index = _as_index(indices)
        if isinstance(index, slice):  # a copy: writing to a batch never writes to the dataset
            return Stacked([tensor[index].clone() for tensor in self.tensors])
        return Stacked([_rows(tensor, index) for tensor in self.tensors])

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[Sample]):
    """The samples of a dataset at the given indices."""

    def __init__(self, dataset: Dataset[Sample], indices: Indices) -> None:
        self.dataset = dataset
        self.indices = indices
        self._positions = np.asarray(indices, dtype=np.int64)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self._positions[index])]

    def __getitems__(self, indices: Indices) -> Sequence[Sample]:
        return _samples(self.dataset, self._positions[_as_index(indices)])

    def __len__(self) -> int:
        return len(self._positions)


def random_split(
    dataset: Dataset[Sample], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[Sample]]:
    """Divide a dataset at random into parts of the given lengths, or of the given fractions of it.

    Lengths have to add up to the length of the dataset, fractions to 1; samples that remain after rounding fractions
    down go to the first parts, one each.

    >>> [len(part) for part in random_split(TensorDataset(torch.arange(10)), [0.75, 0.25])]
    [8, 2]
    """
    size = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        if any(not 0 <= fraction <= 1 for fraction in lengths):
            raise ValueError(f"a fraction is between 0 and 1, got {list(lengths)}")
        counts = [math.floor(size * fraction) for fraction in lengths]
        for part in range(size - sum(counts)):
            counts[part % len(counts)] += 1
    else:
        counts = [int(length) for length in lengths]
    if sum(counts) != size:
        raise ValueError(
            f"the lengths {list(lengths)} add up to {sum(lengths)}, but the dataset has {size} samples"
        )
    order = _numbers(generator).permutation(size)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - count : end]) for count, end in zip(counts, ends, strict=True)]


# ------------------------------------------------------------------------------------------------- samplers


class Sampler(Generic[Item]):
    """The order in which samples are visited: a subclass defines `__iter__` over their indices."""

    def __iter__(self) -> Iterator[Item]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")


class _Order(Sampler[int]):
    """A sampler that knows the indices of a whole epoch at once, as an array or a range."""

    def order(self) -> Indices:
        """The indices of one epoch; drawn anew by every call."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return iter(map(int, self.order()))


class SequentialSampler(_Order):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def order(self) -> Indices:
        """All indices, in order."""
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
        if num_samples is not None and num_samples <= 0:
            raise ValueError(f"num_samples is a positive number, got {num_samples}")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator

    @property
    def num_samples(self) -> int:
        """How many indices an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def order(self) -> Indices:
        """The indices, drawn from the generator."""
        size, numbers = len(self.data_source), _numbers(self.generator)
        if self.replacement:
            return numbers.integers(size, size=self.num_samples)
        rounds = [numbers.permutation(size) for _ in range(math.ceil(self.num_samples / size) if size else 0)]
        return (
            np.concatenate(rounds)[: self.num_samples] if len(rounds) != 1 else rounds[0][: self.num_samples]
        )

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(_Order):
    """The given indices in a random order."""

    def __init__(self, indices: Indices, generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def order(self) -> Indices:
        """The indices, shuffled by the generator."""
        return _numbers(self.generator).permutation(np.asarray(self.indices, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.indices)


class BatchSampler(Sampler[list[int]]):
    """The indices of another sampler in lists of `batch_size`; a shorter last list is left out with `drop_last`.

    >>> list(BatchSampler(SequentialSampler(range(5)), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise ValueError(f"batch_size is a positive integer, got {batch_size!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        for indices in self.chunks():
            yield [int(index) for index in indices]

    def chunks(self) -> Iterator[Indices]:
        """The same batches, each as an array or a range if the sampler knows its whole order."""
        if isinstance(self.sampler, _Order):
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


# ------------------------------------------------------------------------------------------------- loading


class DataLoader(Generic[Sample]):
    """Iterates over a dataset in batches.

    Args:
        batch_size: samples in a batch; None gives single samples.
        shuffle: visit the samples in a random order, another one in each epoch.
        sampler: the order of the samples, in place of `shuffle`: any iterable of indices.
        batch_sampler: the batches themselves: an iterable of lists of indices.
        collate_fn: makes a batch of a list of samples; `default_collate` stacks tensors and numbers field by field.
        drop_last: leave out a last batch that is smaller than the others.
        generator: where the random order comes from; the default generator unless given.

    >>> dataset = TensorDataset(torch.arange(5), torch.arange(5) ** 2)
    >>> for x, y in DataLoader(dataset, batch_size=2):
    ...     print(x, y)
    tensor([0, 1]) tensor([0, 1])
    tensor([2, 3]) tensor([4, 9])
    tensor([4]) tensor([16])
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        *,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if sampler is not None and shuffle:
            raise ValueError("a sampler decides the order itself: leave out shuffle")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError(
                "a batch_sampler decides everything: leave out batch_size, shuffle, sampler and drop_last"
            )
        if batch_size is None and drop_last:
            raise ValueError("batch_size=None makes no batches: leave out drop_last")
        if sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is not None:
            batch_size = None
        elif batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.generator = generator

    def __iter__(self) -> Iterator[Any]:
        if self.batch_sampler is None:
            convert = self.collate_fn or _convert
            for index in self.sampler:
                yield convert(self.dataset[index])
            return
        collate = self.collate_fn or default_collate
        batches = (
            self.batch_sampler.chunks()
            if isinstance(self.batch_sampler, BatchSampler)
            else self.batch_sampler
        )
        for indices in batches:
            yield collate(_samples(self.dataset, indices))

    def __len__(self) -> int:
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]


def default_collate(batch: Sequence[Any]) -> Any:
    """Make one batch of a sequence of samples: tensors, arrays and numbers are stacked, field by field.

    >>> default_collate([(torch.tensor([1.0]), 3), (torch.tensor([2.0]), 4)])
    [tensor([[1.],
            [2.]]), tensor([3, 4])]
    """
    if isinstance(batch, Stacked):
        return batch.fields
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, np.ndarray | np.generic):
        return from_array(np.stack([np.asarray(sample) for sample in batch]))
    if isinstance(first, float):
        return make_tensor(batch, dtype=float64)
    if isinstance(first, int):
        return make_tensor(batch)
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError(
                f"samples of one batch have different numbers of fields: {[len(s) for s in batch]}"
            )
        fields = [default_collate(field) for field in zip(*batch, strict=True)]
        return type(first)(*fields) if hasattr(first, "_fields") else fields  # a named tuple stays one
    raise TypeError(
        f"default_collate stacks tensors, arrays, numbers, strings, and sequences or dicts of them, got "
        f"{type(first).__name__}; give the DataLoader a collate_fn"
    )


def _convert(sample: Any) -> Any:
    """A single sample as it leaves the loader: arrays as tensors."""
    if isinstance(sample, np.ndarray):
        return from_array(sample)
    if isinstance(sample, Mapping):
        return {key: _convert(value) for key, value in sample.items()}
    if isinstance(sample, tuple | list):
        return [_convert(value) for value in sample]
    return sample


def _samples(dataset: Any, indices: Indices) -> Sequence[Any]:
    """The samples of a batch, in one call where the dataset offers one."""
    fetch = getattr(dataset, "__getitems__", None)
    return fetch(indices) if callable(fetch) else [dataset[int(index)] for index in indices]


def _as_index(indices: Indices) -> Any:
    """Indices in the form that cuts out rows: a slice where they are a range, else an array."""
    if isinstance(indices, range) and indices.step > 0:
        return slice(indices.start, indices.stop, indices.step)
    return np.asarray(indices, dtype=np.int64)


def _rows(tensor: Tensor, positions: np.ndarray[Any, Any]) -> Tensor:
    """Some rows of a tensor; `take` copies them in a third of the time of an index, which is left the errors to tell."""
    if tensor.device is CPU and not tensor.requires_grad:
        try:
            return from_array(tensor._array.take(positions, 0))
        except IndexError:
            pass
    return tensor[from_array(positions)]


def _numbers(generator: Generator | None) -> np.random.Generator:
    return (default_generator if generator is None else generator).numpy
