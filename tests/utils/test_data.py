"""Datasets, samplers and the DataLoader: PyTorch's batches, and one gather per batch."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from fake_gpu import fake_gpu
from nanotorch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    random_split,
)
from oracle import pytorch, to_numpy


class Squares(Dataset):
    """Counts how its samples are fetched."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fetched: list[int] = []

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self.fetched.append(index)
        return torch.tensor([float(index), index**2]), index

    def __len__(self) -> int:
        return self.size


class Counting(TensorDataset):
    """A TensorDataset that counts fetches of single samples and of batches."""

    singles = batches = 0

    def __getitem__(self, index: Any) -> Any:
        self.singles += 1
        return super().__getitem__(index)

    def __getitems__(self, indices: Any) -> Any:
        self.batches += 1
        return super().__getitems__(indices)


def rows(size: int) -> TensorDataset:
    return TensorDataset(torch.arange(size * 2.0).reshape(size, 2), torch.arange(size))


def labels(loader: DataLoader) -> list[list[int]]:
    return [y.tolist() for _, y in loader]


def flat(loader: DataLoader) -> list[int]:
    return [label for batch in labels(loader) for label in batch]


def test_batches_in_order() -> None:
    loader = DataLoader(rows(10), batch_size=4)
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(loader) == 3
    x, y = next(iter(loader))
    assert x.shape == (4, 2) and x.dtype is torch.float32 and y.dtype is torch.int64
    assert x.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert isinstance(next(iter(loader)), list)


def test_drop_last() -> None:
    loader = DataLoader(rows(10), batch_size=4, drop_last=True)
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(loader) == 2
    assert labels(DataLoader(rows(3), batch_size=4, drop_last=True)) == []


def test_shuffle_is_a_new_permutation_each_epoch() -> None:
    loader = DataLoader(rows(50), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3))
    first, second = (flat(loader) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second and first != list(range(50))
    again = DataLoader(rows(50), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3))
    assert flat(again) == first
    x, y = next(iter(loader))
    assert (x[:, 0] == 2 * y).all()


def test_shuffle_follows_the_default_generator() -> None:
    epochs = []
    for _ in range(2):
        torch.manual_seed(7)
        epochs.append(labels(DataLoader(rows(20), batch_size=6, shuffle=True)))
    assert epochs[0] == epochs[1]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("subset", [False, True])
def test_one_gather_per_batch(shuffle: bool, subset: bool) -> None:
    dataset = Counting(torch.arange(100.0), torch.arange(100))
    source: Any = Subset(Subset(dataset, range(90)), np.arange(0, 80)) if subset else dataset
    loader = DataLoader(source, batch_size=16, shuffle=shuffle)
    seen = [y for x, y in loader if (x == y).all()]
    assert dataset.singles == 0 and dataset.batches == len(seen) == len(loader)


def test_batches_of_a_second_device_stay_there() -> None:
    with fake_gpu() as counts:
        dataset = TensorDataset(torch.arange(100.0).to("cuda"), torch.arange(100).to("cuda"))
        counts.reset()
        seen = []
        for shuffle in (False, True):
            for x, y in DataLoader(dataset, batch_size=25, shuffle=shuffle):
                assert x.device.type == "cuda"
                seen.append(y)
        assert counts.device_to_host == 0 and counts.host_to_device <= 2 * 4  # one array of indices per gather
        assert sorted(to_numpy(torch.cat(seen[4:]))) == list(range(100))


def test_random_split_gathers() -> None:
    dataset = Counting(torch.arange(100.0), torch.arange(100))
    train, test = random_split(dataset, [80, 20], generator=torch.Generator().manual_seed(0))
    parts = [flat(DataLoader(part, batch_size=16)) for part in (train, test)]
    assert sorted(parts[0] + parts[1]) == list(range(100))
    assert dataset.singles == 0 and dataset.batches == 5 + 2


def test_a_dataset_without_getitems_is_asked_sample_by_sample() -> None:
    dataset = Squares(5)
    (x, y), (x2, _), _ = DataLoader(dataset, batch_size=2)
    assert dataset.fetched == [0, 1, 2, 3, 4]
    assert all(type(index) is int for index in dataset.fetched)
    assert x.tolist() == [[0, 0], [1, 1]] and y.tolist() == [0, 1] and x2.tolist() == [[2, 4], [3, 9]]
    assert labels(DataLoader(Subset(dataset, [4, 2, 0]), batch_size=2)) == [[4, 2], [0]]


def test_writing_to_a_batch_leaves_the_dataset() -> None:
    dataset = rows(6)
    for loader in (DataLoader(dataset, batch_size=3), DataLoader(dataset, batch_size=3, shuffle=True)):
        for x, y in loader:
            x.zero_()
            y.add_(1)
    assert dataset[5][0].tolist() == [10, 11] and dataset[5][1].item() == 5


def test_collate_fn_gets_samples() -> None:
    seen = []

    def collate(samples: Any) -> Any:
        seen.append([(x.tolist(), y.item()) for x, y in samples])
        return len(samples)

    assert list(DataLoader(rows(5), batch_size=2, collate_fn=collate)) == [2, 2, 1]
    assert seen[0] == [([0, 1], 0), ([2, 3], 1)]
    x, y = next(iter(DataLoader(rows(5), batch_size=2, collate_fn=default_collate)))
    assert x.shape == (2, 2) and y.tolist() == [0, 1]


def test_samplers() -> None:
    dataset = rows(8)
    assert labels(DataLoader(dataset, batch_size=3, sampler=[5, 1, 1, 0])) == [[5, 1, 1], [0]]
    assert labels(DataLoader(dataset, batch_sampler=[[7], [0, 2]])) == [[7], [0, 2]]
    assert list(SequentialSampler(dataset)) == list(range(8))
    assert sorted(RandomSampler(dataset)) == list(range(8))
    drawn = list(RandomSampler(dataset, replacement=True, num_samples=100))
    assert len(drawn) == 100 and set(drawn) == set(range(8))
    longer = list(RandomSampler(dataset, num_samples=20))
    assert sorted(longer[:8]) == sorted(longer[8:16]) == list(range(8)) and len(set(longer[16:])) == 4
    subset = SubsetRandomSampler([3, 5, 6], generator=torch.Generator().manual_seed(1))
    assert sorted(subset) == [3, 5, 6] and len(subset) == 3
    assert sorted(flat(DataLoader(dataset, batch_size=2, sampler=subset))) == [3, 5, 6]
    for sampler in (SequentialSampler(dataset), RandomSampler(dataset), subset):
        assert all(type(index) is int for index in sampler)


def test_batch_sampler() -> None:
    assert list(BatchSampler(SequentialSampler(range(5)), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(SequentialSampler(range(5)), 2, True)) == [[0, 1], [2, 3]]
    assert list(BatchSampler(iter([4, 3, 2]), 2, False)) == [[4, 3], [2]]
    assert [len(BatchSampler(range(5), 2, drop)) for drop in (False, True)] == [3, 2]

    def endless() -> Iterator[int]:
        while True:
            yield 1

    assert next(iter(BatchSampler(endless(), 3, True))) == [1, 1, 1]


def test_batch_size_none_gives_samples() -> None:
    samples = list(DataLoader(rows(3), batch_size=None))
    assert len(samples) == 3 and samples[1][0].tolist() == [2, 3]


def test_a_tensor_is_a_dataset() -> None:
    assert [batch.tolist() for batch in DataLoader(torch.arange(5), batch_size=2)] == [[0, 1], [2, 3], [4]]


def test_random_split_fractions() -> None:
    parts = random_split(rows(10), [0.75, 0.25], generator=torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [8, 2]
    again = random_split(rows(10), [0.75, 0.25], generator=torch.Generator().manual_seed(0))
    assert list(parts[0].indices) == list(again[0].indices)
    assert [len(part) for part in random_split(rows(1), [1])] == [1]
    assert [len(part) for part in random_split(rows(7), [0.5, 0.3, 0.2])] == [4, 2, 1]
    with pytest.raises(ValueError, match="add up to 9"):
        random_split(rows(10), [5, 4])


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"lengths \[3, 2\]"):
        TensorDataset(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="positive integer"):
        DataLoader(rows(3), batch_size=0)
    with pytest.raises(ValueError, match="positive integer"):
        DataLoader(rows(3), batch_size=2.0)
    with pytest.raises(ValueError, match="leave out shuffle"):
        DataLoader(rows(3), sampler=[0], shuffle=True)
    with pytest.raises(ValueError, match="batch_sampler"):
        DataLoader(rows(3), batch_size=2, batch_sampler=[[0]])
    with pytest.raises(TypeError, match="collate_fn"):
        default_collate([object()])
    with pytest.raises(RuntimeError, match="numbers of fields"):
        default_collate([(1, 2), (1,)])
    with pytest.raises(NotImplementedError, match="__getitem__"):
        Dataset()[0]


Point = namedtuple("Point", "x y")


@pytest.mark.parity
@pytest.mark.parametrize(
    "make",
    [
        lambda t: [t.tensor([1.0, 2.0]), t.tensor([3.0, 4.0])],
        lambda t: [1, 2, 3],
        lambda t: [1.5, 2.5],
        lambda t: [True, False],
        lambda t: ["a", "b"],
        lambda t: [(t.tensor(1), 2.0, "a"), (t.tensor(3), 4.0, "b")],
        lambda t: [[1, 2], [3, 4]],
        lambda t: [{"x": 1, "y": t.tensor([1.0])}, {"x": 2, "y": t.tensor([2.0])}],
        lambda t: [Point(1, 2.0), Point(3, 4.0)],
        lambda t: [np.arange(3), np.arange(3) + 1],
        lambda t: [np.float32(1), np.float32(2)],
    ],
)
def test_default_collate_is_pytorchs(make: Any) -> None:

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(*map(plain, value)) if hasattr(value, "_fields") else type(value)(map(plain, value))
        if hasattr(value, "dtype"):
            array = to_numpy(value)
            return str(array.dtype), array.tolist()
        return value

    assert plain(default_collate(make(torch))) == plain(pytorch.utils.data.default_collate(make(pytorch)))


@pytest.mark.parity
@pytest.mark.parametrize("options", [{}, {"batch_size": 4}, {"batch_size": 4, "drop_last": True}, {"batch_size": None}])
def test_loader_is_pytorchs(options: dict[str, Any]) -> None:
    batches = []
    for library in (torch, pytorch):
        data = library.utils.data
        dataset = data.TensorDataset(library.arange(22).reshape(11, 2), library.arange(11))
        loader = data.DataLoader(data.Subset(dataset, [9, 0, 3, 3, 5, 1]), **options)
        batches.append([type(loader).__name__, len(loader), [[field.tolist() for field in batch] for batch in loader]])
    assert batches[0] == batches[1]
