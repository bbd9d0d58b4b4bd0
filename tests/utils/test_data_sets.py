"""Datasets that are made of others, samplers and collating, as PyTorch has them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)
from oracle import outcome, pytorch

Point = namedtuple("Point", "x y")


def rows(library: Any, start: int, stop: int) -> Any:
    return library.utils.data.TensorDataset(library.arange(start, stop), library.arange(start, stop) * 2.0)


def counting(library: Any, *counts: int, sized: bool = False) -> Any:
    """An iterable dataset that counts, or a sum of them."""

    class Count(library.utils.data.IterableDataset):
        def __init__(self, count: int) -> None:
            self.count = count

        def __iter__(self) -> Any:
            return iter(range(self.count))

    class Sized(Count):
        def __len__(self) -> int:
            return self.count

    parts = [(Sized if sized else Count)(count) for count in counts]
    return sum(parts[1:], parts[0])


def listed(library: Any, dataset: Any, *args: Any, **kwargs: Any) -> Any:
    return [batch for batch in library.utils.data.DataLoader(dataset, *args, **kwargs)]


class Keys:
    """A dataset whose samples have names."""

    def __getitem__(self, key: str) -> int:
        return {"a": 1, "b": 2}[key]

    def __len__(self) -> int:
        return 2


PROGRAMS = {
    "concat": lambda t: [(rows(t, 0, 3) + rows(t, 5, 6) + rows(t, 8, 10))[i] for i in (0, 2, 3, -1, -6, 5)],
    "concat length": lambda t: len(rows(t, 0, 3) + rows(t, 5, 6)),
    "concat sizes": lambda t: t.utils.data.ConcatDataset([rows(t, 0, 3), range(4), "ab"]).cumulative_sizes,
    "concat too small": lambda t: (rows(t, 0, 3) + rows(t, 5, 6))[-5],
    "concat loaded": lambda t: listed(t, rows(t, 0, 3) + rows(t, 5, 8), 4),
    "concat of plain sequences": lambda t: listed(t, t.utils.data.ConcatDataset([[1, 2], range(3)]), 2),
    "stack": lambda t: listed(t, t.utils.data.StackDataset(rows(t, 0, 5), range(5)), 2),
    "stack by name": lambda t: listed(t, t.utils.data.StackDataset(x=rows(t, 0, 5), y=range(5)), 2),
    "stack one": lambda t: [t.utils.data.StackDataset(a="xyz", b=[1, 2, 3])[-1], len(t.utils.data.StackDataset("xyz"))],
    "stack of two lengths": lambda t: t.utils.data.StackDataset("xyz", [1]),
    "stack of both kinds": lambda t: t.utils.data.StackDataset("xyz", b="xyz"),
    "stack of none": lambda t: t.utils.data.StackDataset(),
    "iterable": lambda t: listed(t, counting(t, 7), 3),
    "iterable drop": lambda t: listed(t, counting(t, 7), 3, drop_last=True),
    "iterable exact": lambda t: listed(t, counting(t, 6), 3),
    "iterable of none": lambda t: listed(t, counting(t, 0), 3),
    "iterable single": lambda t: listed(t, counting(t, 3), None),
    "iterable twice": lambda t: (lambda loader: [list(loader), list(loader)])(
        t.utils.data.DataLoader(counting(t, 3), 2)
    ),
    "chain": lambda t: listed(t, counting(t, 2, 3, 1), 2),
    "chain length": lambda t: len(counting(t, 2, 3, sized=True)),
    "iterable lengths": lambda t: [
        len(t.utils.data.DataLoader(counting(t, 7, sized=True), size, drop_last=drop))
        for size, drop in ((3, False), (3, True), (1, False), (None, False))
    ],
    "iterable without length": lambda t: len(t.utils.data.DataLoader(counting(t, 7), 3)),
    "iterable shuffled": lambda t: t.utils.data.DataLoader(counting(t, 7), 3, shuffle=True),
    "iterable unshuffled": lambda t: listed(t, counting(t, 3), 3, shuffle=False),
    "iterable sampled": lambda t: t.utils.data.DataLoader(counting(t, 7), 3, sampler=[1]),
    "iterable batch-sampled": lambda t: t.utils.data.DataLoader(counting(t, 7), batch_sampler=[[1]]),
    "length of a dataset": lambda t: len(t.utils.data.Dataset()),
    "length of an iterable": lambda t: len(counting(t, 3)),
    "length of an iterator": lambda t: len(iter(t.utils.data.DataLoader(range(7), 2))),
    "keys": lambda t: listed(t, Keys(), batch_sampler=[["b", "a"], ["a"]]),
    "keys one by one": lambda t: listed(t, Keys(), None, sampler=["b", "a"]),
    "subset of a list": lambda t: t.utils.data.Subset(rows(t, 0, 9), [5, 3, 1])[[0, 2]],
    "subset of a range": lambda t: listed(t, t.utils.data.Subset(rows(t, 0, 9), range(1, 9, 2)), 3),
    "subset item": lambda t: t.utils.data.Subset(rows(t, 0, 9), [5, 3, 1])[-1],
    "split": lambda t: sorted(index for part in t.utils.data.random_split(range(7), [3, 4]) for index in part.indices),
    "split wrongly": lambda t: t.utils.data.random_split(range(7), [3, 3]),
    "split by a fraction too large": lambda t: t.utils.data.random_split(range(7), [1.5, -0.5]),
    "weights": lambda t: [
        list(t.utils.data.WeightedRandomSampler([0, 0, 2.5], 3)),
        len(t.utils.data.WeightedRandomSampler([1.0], 3)),
    ],
    "weights once": lambda t: sorted(t.utils.data.WeightedRandomSampler([0.1, 9, 0, 2.5], 3, replacement=False)),
    "weights of two dimensions": lambda t: t.utils.data.WeightedRandomSampler([[1.0]], 3),
    "weights of none": lambda t: t.utils.data.WeightedRandomSampler([1.0], 0),
    "weights of a bool": lambda t: t.utils.data.WeightedRandomSampler([1.0], True),
    "weights replaced oddly": lambda t: t.utils.data.WeightedRandomSampler([1.0], 1, replacement=3),
    "weights that are negative": lambda t: list(t.utils.data.WeightedRandomSampler([-1.0, 1.0], 1)),
    "shuffle nothing": lambda t: t.utils.data.DataLoader([], shuffle=True),
    "load nothing": lambda t: listed(t, [], 3),
    "random of none": lambda t: t.utils.data.RandomSampler(range(3), num_samples=0),
    "random of a float": lambda t: t.utils.data.RandomSampler(range(3), num_samples=2.0),
    "random replaced oddly": lambda t: t.utils.data.RandomSampler(range(3), replacement=3),
    "batches of drop": lambda t: t.utils.data.BatchSampler(range(3), 2, 1),
    "batches of a bool": lambda t: t.utils.data.BatchSampler(range(3), True, False),
    "batches of keys": lambda t: list(t.utils.data.BatchSampler(["a", "b", "c"], 2, False)),
    "positional": lambda t: listed(t, range(4), 3, False, None, None, 0, sum),
    "fixed": lambda t: setattr(t.utils.data.DataLoader(range(4)), "batch_size", 3),
    "fixed sampler": lambda t: setattr(t.utils.data.DataLoader(range(4)), "sampler", [1]),
    "negative workers": lambda t: t.utils.data.DataLoader(range(4), num_workers=-1),
    "sampler and shuffle": lambda t: t.utils.data.DataLoader(range(4), shuffle=True, sampler=[1]),
    "collate names": lambda t: (
        lambda loader: [loader.num_workers, loader.timeout, loader.prefetch_factor, loader.pin_memory]
    )(t.utils.data.DataLoader(range(3))),
    **{
        f"collate {name}": (lambda t, make=make: kinds(t.utils.data.default_collate(make(t))))
        for name, make in {
            "an ordered dict": lambda t: [OrderedDict(b=1, a=2.0), OrderedDict(b=3, a=4.0)],
            "a mapping that cannot change": lambda t: [MappingProxyType({"a": 1}), MappingProxyType({"a": 2})],
            "a missing key": lambda t: [{"a": 1}, {"b": 1}],
            "numbers of NumPy": lambda t: [np.float64(1), np.float64(2)],
            "truth of NumPy": lambda t: [np.bool_(True), np.bool_(False)],
            "strings of NumPy": lambda t: [np.str_("a"), np.str_("b")],
            "arrays of strings": lambda t: [np.array(["a"]), np.array(["b"])],
            "arrays of objects": lambda t: [np.array([None]), np.array([None])],
            "0-d arrays": lambda t: [np.array(1.5), np.array(2.5)],
            "deep": lambda t: [{"a": [(1, "x"), Point(2, t.ones(2))]}, {"a": [(3, "y"), Point(4, t.zeros(2))]}],
            "unlike fields": lambda t: [[1, 2], [3]],
            "unlike shapes": lambda t: [t.ones(2), t.ones(3)],
            "ints and floats": lambda t: [1, 2.5],
            "nothing known": lambda t: [None, None],
            "bytes": lambda t: [b"a", b"b"],
        }.items()
    },
    **{
        f"convert {name}": (lambda t, make=make: kinds(t.utils.data.default_convert(make(t))))
        for name, make in {
            "an array": lambda t: np.arange(3),
            "a number": lambda t: 3,
            "a number of NumPy": lambda t: np.float32(3),
            "a text": lambda t: "text",
            "a tuple": lambda t: (np.arange(2), 1, "a"),
            "a list": lambda t: [np.arange(2), [np.array(1.5)]],
            "a named tuple": lambda t: Point(np.arange(2), 0),
            "a dict": lambda t: {"a": np.arange(2), "b": t.ones(2)},
            "an ordered dict": lambda t: OrderedDict(a=np.arange(2)),
            "a range": lambda t: range(3),
            "an array of strings": lambda t: np.array(["a"]),
            "nothing": lambda t: None,
        }.items()
    },
}


def kinds(value: Any) -> Any:
    """A value with the types of its parts."""
    if isinstance(value, dict | MappingProxyType):
        return [type(value).__name__, {key: kinds(part) for key, part in value.items()}]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [kinds(part) for part in value]]
    if hasattr(value, "dtype"):
        return [type(value).__name__, str(value.dtype), value.tolist()]
    return [type(value).__name__, value]


@pytest.mark.parity
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_pytorchs(name: str) -> None:
    def run(library: Any) -> Any:
        try:
            return outcome(PROGRAMS[name], library)
        except (KeyError, IndexError) as error:
            return type(error)

    assert run(torch) == run(pytorch)


def test_errors_say_what_to_do() -> None:
    data = torch.utils.data
    with pytest.raises(ValueError, match="see ChainDataset"):
        data.ConcatDataset([range(3), counting(torch, 3)])
    with pytest.raises(ValueError, match="empty"):
        data.ConcatDataset([])
    with pytest.raises(ValueError, match="see ConcatDataset"):
        list(data.ChainDataset([range(3)]))
    with pytest.raises(IndexError, match="dataset length 4, got 4"):
        (rows(torch, 0, 3) + rows(torch, 5, 6))[4]
    with pytest.raises(ValueError, match="not negative"):
        random_split(rows(torch, 0, 10), [12, -2])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(rows(torch, 0, 1), [0.5, 0.5])

    class Ends(data.Dataset):
        def __getitem__(self, index: int) -> Any:
            raise StopIteration

        def __len__(self) -> int:
            return 3

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(DataLoader(Ends()))


def test_what_a_subclass_overrides_counts() -> None:
    """A loader takes whole batches from a class only where no subclass says what a single sample or step is."""

    class Doubled(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return tuple(2 * field for field in super().__getitem__(index))

    class Halved(Subset):
        def __getitem__(self, index: Any) -> Any:
            return tuple(field / 2 for field in super().__getitem__(index))

    class Backwards(RandomSampler):
        def __iter__(self) -> Any:
            return iter([3, 2])

    class Ends(BatchSampler):
        def __iter__(self) -> Any:
            return iter([[0, 3]])

    x = torch.arange(4)
    assert [batch.tolist() for (batch,) in DataLoader(Doubled(x), 4)] == [[0, 2, 4, 6]]
    assert [batch.tolist() for (batch,) in DataLoader(Subset(Doubled(x), [3, 1]), 4)] == [[6, 2]]
    assert [batch.tolist() for (batch,) in DataLoader(Halved(TensorDataset(x), [3, 1]), 4)] == [[1.5, 0.5]]
    assert [batch.tolist() for batch in DataLoader(x, 4, sampler=Backwards(x))] == [[3, 2]]
    assert [batch.tolist() for batch in DataLoader(x, batch_sampler=Ends(range(4), 2, False))] == [[0, 3]]
    subset = Subset(TensorDataset(x), [0, 1])
    subset.indices = [3]
    assert len(subset) == 1 and [batch.tolist() for (batch,) in DataLoader(subset, 4)] == [[3]]


def test_weighted_sampling_follows_the_weights() -> None:
    sampler = WeightedRandomSampler(torch.tensor([1.0, 0.0, 3.0]), 4000, generator=torch.Generator().manual_seed(1))
    drawn = np.bincount(list(sampler), minlength=3)
    assert drawn[1] == 0 and abs(drawn[2] / 4000 - 0.75) < 0.03
    assert list(sampler) != list(sampler) and all(type(index) is int for index in sampler)
