"""Datasets: samples by number, or as they come.

Note [Batches in one gather]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A dataset may have `__getitems__(indices)`, which returns the samples of a whole batch as a sequence. The DataLoader
calls it, where it exists, in place of one `dataset[i]` per sample. TensorDataset answers with `Stacked`: a sequence of
samples that are already side by side in one tensor per field, cut out by one gather each; `default_collate` takes
these tensors as they are. A Subset passes the call on with its own indices. A `collate_fn` that wants single samples
finds them in the sequence, as if they had been fetched one by one. A subclass that overrides `__getitem__` alone is
asked sample by sample: the `__getitems__` of its base class knows nothing of what it does.
"""

from __future__ import annotations

import bisect
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar, cast

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import CPU
from nanotorch.ops.create.random import Generator, numbers_of

Sample = TypeVar("Sample", covariant=True)
Indices = Sequence[int] | np.ndarray[Any, Any]


class Dataset(Generic[Sample]):
    """Samples by number: a subclass defines `__getitem__` and `__len__`, and `__getitems__` where that is faster."""

    def __getitem__(self, index: Any) -> Sample:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset[Any]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Sample]):
    """Samples that come one after the other: a subclass defines `__iter__`, and `__len__` if it knows.

    With worker processes each iterates over a copy of its own; `get_worker_info` tells it which part to give.

    >>> class Countdown(IterableDataset):
    ...     def __iter__(self):
    ...         return iter([3, 2, 1])
    >>> from nanotorch.utils.data import DataLoader
    >>> list(DataLoader(Countdown(), batch_size=2))
    [tensor([3, 2]), tensor([1])]
    """

    def __iter__(self) -> Iterator[Sample]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")

    def __add__(self, other: Dataset[Any]) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


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


class StackDataset(Dataset[Any]):
    """Samples of several datasets of one length side by side: tuples, or dicts where the datasets are given by name.

    >>> StackDataset(images=["a", "b"], labels=[0, 1])[1]
    {'images': 'b', 'labels': 1}
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError(
                "StackDataset takes datasets by position, for tuples, or by name, for dicts; got "
                + ("both" if args else "none")
            )
        self.datasets: tuple[Any, ...] | dict[str, Any] = args or kwargs
        lengths = [len(dataset) for dataset in self._columns()]
        if len(set(lengths)) != 1:
            raise ValueError(f"StackDataset: Size mismatch between datasets: they have lengths {lengths}")

    def _columns(self) -> list[Any]:
        return list(self.datasets.values() if isinstance(self.datasets, dict) else self.datasets)

    def _side_by_side(self, values: Iterable[Any]) -> Any:
        return dict(zip(self.datasets, values, strict=True)) if isinstance(self.datasets, dict) else tuple(values)

    def __getitem__(self, index: Any) -> Any:
        return self._side_by_side(dataset[index] for dataset in self._columns())

    def __getitems__(self, indices: Indices) -> list[Any]:
        columns = [samples_of(dataset, indices) for dataset in self._columns()]
        for column in columns:
            if len(column) != len(indices):
                raise ValueError(
                    f"StackDataset: Nested dataset's output size mismatch. Expected {len(indices)}, got {len(column)}"
                )
        return [self._side_by_side(sample) for sample in zip(*columns, strict=True)]

    def __len__(self) -> int:
        return len(self._columns()[0])


class ConcatDataset(Dataset[Sample]):
    """The samples of several datasets one after the other; `first + second` makes one, too.

    >>> (TensorDataset(torch.arange(2)) + TensorDataset(torch.arange(10, 13)))[3]
    (tensor(11),)
    """

    def __init__(self, datasets: Iterable[Dataset[Sample]]) -> None:
        self.datasets: list[Any] = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: datasets should not be an empty iterable")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise ValueError(
                "ConcatDataset does not support IterableDataset, which has no samples by number; see ChainDataset"
            )
        self.cumulative_sizes = self.cumsum(self.datasets)

    @staticmethod
    def cumsum(sequence: Iterable[Any]) -> list[int]:
        """Return where each dataset ends, counted over all."""
        return list(accumulate(len(dataset) for dataset in sequence))

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            kind = IndexError if index >= 0 else ValueError
            raise kind(
                f"ConcatDataset: absolute value of index should not exceed dataset length {len(self)}, got {index}"
            )
        index = index % len(self)
        number = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[number][index - (self.cumulative_sizes[number - 1] if number else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset[Any]):
    """The samples of several iterable datasets one after the other; `first + second` makes one, too."""

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            yield from self._checked(dataset)

    def __len__(self) -> int:
        return sum(len(self._checked(dataset)) for dataset in self.datasets)

    def _checked(self, dataset: Any) -> Any:
        if not isinstance(dataset, IterableDataset):
            raise ValueError(
                f"ChainDataset only supports IterableDataset, got {type(dataset).__name__}; see ConcatDataset"
            )
        return dataset


class Subset(Dataset[Sample]):
    """The samples of a dataset at the given indices."""

    def __init__(self, dataset: Dataset[Sample], indices: Indices) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Sample:
        if isinstance(index, list | slice):
            return self.dataset[[int(i) for i in self._positions(index)]]
        return self.dataset[int(self.indices[index])]

    def __getitems__(self, indices: Indices) -> Sequence[Sample]:
        return samples_of(self.dataset, self._positions(_as_index(indices)))

    def _positions(self, index: Any) -> Indices:
        """Return the indices at several places, or in a slice."""
        if isinstance(index, slice) or isinstance(self.indices, np.ndarray):
            return self.indices[index]
        return np.asarray([self.indices[i] for i in index], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset[Sample], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[Sample]]:
    """Divide a dataset at random into parts of the given lengths, or of the given fractions of it.

    Lengths have to add up to the length of the dataset, fractions to 1; samples that remain after rounding fractions
    down go to the first parts, one each.

    >>> [len(part) for part in random_split(TensorDataset(torch.arange(10)), [0.75, 0.25])]
    [8, 2]
    """
    size = len(cast(Any, dataset))
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        if any(not 0 <= fraction <= 1 for fraction in lengths):
            raise ValueError(f"random_split: a fraction is between 0 and 1, got {list(lengths)}")
        counts = [math.floor(size * fraction) for fraction in lengths]
        for part in range(size - sum(counts)):
            counts[part % len(counts)] += 1
        for part, count in enumerate(counts):
            if not count:
                warnings.warn(
                    f"Length of split at index {part} is 0. This might result in an empty dataset.", stacklevel=2
                )
    else:
        counts = [int(length) for length in lengths]
    if sum(counts) != size:
        raise ValueError(
            f"random_split: the lengths {list(lengths)} add up to {sum(lengths)}, but the dataset has {size} samples"
        )
    if min(counts, default=0) < 0:
        raise ValueError(f"random_split: a length is not negative, got {list(lengths)}")
    order = numbers_of(generator).permutation(size)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - count : end].tolist()) for count, end in zip(counts, ends, strict=True)]


def samples_of(dataset: Any, indices: Indices) -> Sequence[Any]:
    """Return the samples of a batch, in one call where the dataset offers one (Note [Batches in one gather])."""
    for kind in type(dataset).__mro__:
        if "__getitems__" in vars(kind):
            return dataset.__getitems__(indices)
        if "__getitem__" in vars(kind):
            break
    return [dataset[_plain(index)] for index in indices]


def _plain(index: Any) -> Any:
    """Return a number of NumPy's as Python's; what else a sampler may give, such as the keys of a dict, as it is."""
    return int(index) if isinstance(index, np.integer) else index


def _as_index(indices: Indices) -> Any:
    """Return indices in the form that cuts out rows: a slice where they are a range, else an array."""
    if isinstance(indices, range) and indices.step > 0:
        return slice(indices.start, indices.stop, indices.step)
    return np.asarray(indices, dtype=np.int64)


def _rows(tensor: Tensor, positions: np.ndarray[Any, Any]) -> Tensor:
    """Return some rows of a tensor; `take` copies them in a third of the time of an index,
    which is left the errors to tell.
    """
    if tensor.device is CPU and not tensor.requires_grad:
        try:
            return from_array(tensor._array.take(positions, 0))
        except IndexError:
            pass
    return tensor[from_array(positions)]
