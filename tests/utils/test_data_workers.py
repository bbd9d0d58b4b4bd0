"""Worker processes of a DataLoader: the same batches in the same order, and nothing that hangs, leaks or hides."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)


class Numbers(Dataset):
    """Its own indices; one of them may do something else."""

    def __init__(self, size: int, at: int = -1, what: Any = None) -> None:
        self.size, self.at, self.what = size, at, what

    def __getitem__(self, index: int) -> Any:
        if index == self.at:
            self.what()
        return torch.tensor([float(index)]), index

    def __len__(self) -> int:
        return self.size


class Shares(IterableDataset):
    """Numbers, of which worker 0 gives the first three."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Any:
        info = get_worker_info()
        if info is None:
            return iter(range(self.size))
        return iter(range(3) if info.id == 0 else range(3, self.size))


class Draws(Dataset):
    """Random numbers and what the worker knows of itself."""

    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        assert info is not None and isinstance(info.dataset, Draws) and info.num_workers == 2
        return torch.rand(1).item(), random.random(), np.random.rand(), info.id, str(info.seed)

    def __len__(self) -> int:
        return 4


class OwnError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(first, second)


def fails() -> None:
    raise KeyError("this very sample")


def fails_oddly() -> None:
    raise OwnError(1, 2)


def fails_locally() -> None:
    class Local(Exception):
        pass

    raise Local("a type that pickle cannot find")


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leaves() -> None:
    sys.exit(3)


def sleeps() -> None:
    time.sleep(60)


def labels(loader: Any) -> list[Any]:
    return [batch[1].tolist() for batch in loader]


def children() -> set[int | None]:
    """The processes of loaders: those of joblib's pools, which other tests may have begun,
    stay as long as this process.
    """
    return {process.pid for process in multiprocessing.active_children() if "Loky" not in type(process).__name__}


@pytest.fixture(autouse=True)
def no_process_is_left() -> Any:
    yield
    assert children() == set()


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"drop_last": True}, {"prefetch_factor": 1}, {"prefetch_factor": 7}, {"pin_memory": True}]
)
@pytest.mark.slow
def test_the_same_batches_in_the_same_order(workers: int, options: dict[str, Any]) -> None:
    epochs = []
    for count in (0, workers):
        given = {k: v for k, v in options.items() if count or k != "prefetch_factor"}
        loader = DataLoader(
            Numbers(23), 3, shuffle=True, num_workers=count, generator=torch.Generator().manual_seed(5), **given
        )
        assert len(loader) == (7 if options.get("drop_last") else 8)
        epochs.append([labels(loader) for _ in range(3)])
        assert len(iter(loader)) == len(loader)
    assert epochs[0] == epochs[1] and epochs[0][0] != epochs[0][1]


@pytest.mark.parametrize("method", ["spawn", multiprocessing.get_context("fork")], ids=["spawn", "a context"])
def test_other_ways_to_start(method: Any) -> None:
    data = Subset(TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6)), [5, 0, 3, 1])
    batches = list(DataLoader(data, 2, num_workers=1, multiprocessing_context=method))
    assert [batch[1].tolist() for batch in batches] == [[5, 0], [3, 1]]
    assert batches[0][0].tolist() == [[10, 11], [0, 1]]


def test_samples_without_batches_and_large_batches() -> None:
    assert [i for _, i in DataLoader(Numbers(5), None, num_workers=2)] == [0, 1, 2, 3, 4]
    big = TensorDataset(torch.arange(200_000))
    batches = [x for (x,) in DataLoader(big, 50_000, num_workers=2, shuffle=True, prefetch_factor=4)]
    assert sorted(torch.cat(batches).tolist()) == list(range(200_000))
    weighted = WeightedRandomSampler([0.0, 1.0, 0.0], 4)
    assert labels(DataLoader(Numbers(3), 2, sampler=weighted, num_workers=1)) == [[1, 1], [1, 1]]


def test_iterable_datasets_take_turns() -> None:
    """The order is PyTorch's: worker 0 gives two batches, the others go on in turn."""
    assert [b.tolist() for b in DataLoader(Shares(9), 2, num_workers=2)] == [[0, 1], [3, 4], [2], [5, 6], [7, 8]]
    assert [b.tolist() for b in DataLoader(Shares(8), 2, num_workers=2, drop_last=True)] == [[0, 1], [3, 4], [5, 6]]
    assert list(DataLoader(Shares(5), None, num_workers=2)) == [0, 3, 1, 4, 2]
    assert [b.tolist() for b in DataLoader(Shares(5), 2)] == [[0, 1], [2, 3], [4]]


def test_an_error_arrives_with_its_traceback_and_the_rest_of_the_epoch_after_it() -> None:
    iterator = iter(DataLoader(Numbers(9, 4, fails), 2, num_workers=2))
    seen = []
    with pytest.raises(KeyError) as caught:
        for batch in iterator:
            seen.append(batch[1].tolist())
    assert seen == [[0, 1], [2, 3]]
    for words in (
        "Caught KeyError in DataLoader worker process 0",
        "Original Traceback",
        "in fails\n",
        "this very sample",
    ):
        assert words in str(caught.value)
    assert labels(iterator) == [[6, 7], [8]]


@pytest.mark.parametrize(("what", "name"), [(fails_oddly, "OwnError"), (fails_locally, "Local")])
def test_an_error_that_cannot_be_made_again_is_a_runtime_error(what: Any, name: str) -> None:
    with pytest.raises(RuntimeError, match=f"Caught {name} in DataLoader worker process 0(?s:.*)in {what.__name__}"):
        list(DataLoader(Numbers(4, 1, what), 2, num_workers=1))


def test_a_batch_that_cannot_be_sent() -> None:
    with pytest.raises((AttributeError, TypeError), match=r"Caught .* in DataLoader worker process 0"):
        list(DataLoader(Numbers(4), 2, num_workers=1, collate_fn=lambda samples: lambda: 1))


def test_a_worker_that_dies_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid \d+\) is killed by signal: Killed"):
        list(DataLoader(Numbers(9, 4, is_killed), 2, num_workers=2))
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid\(s\) \d+\) exited unexpectedly, with exit code 3"):
        list(DataLoader(Numbers(9, 4, leaves), 2, num_workers=2))


def test_timeout() -> None:
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0\.3 seconds"):
        list(DataLoader(Numbers(3, 2, sleeps), 2, num_workers=1, timeout=0.3))


def test_workers_end_when_the_loop_is_left() -> None:
    for _ in DataLoader(Numbers(1000), 2, num_workers=2):
        break
    assert children() == set()


def test_persistent_workers() -> None:
    loader = DataLoader(Numbers(7), 2, num_workers=2, persistent_workers=True)
    first = labels(loader)
    processes = children()
    assert len(processes) == 2
    for _ in loader:
        break
    older = iter(loader)
    next(older)
    assert labels(loader) == first == [[0, 1], [2, 3], [4, 5], [6]]
    assert children() == processes
    with pytest.raises(RuntimeError, match="another iteration"):
        next(older)
    shares = DataLoader(Shares(5), 2, num_workers=2, persistent_workers=True)
    assert [[b.tolist() for b in shares] for _ in range(2)] == [[[0, 1], [3, 4], [2]]] * 2
    os.kill(min(processes), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="is killed"):
        labels(loader)
    assert labels(loader) == first
    del loader, older, shares


def test_seeds() -> None:
    """Every worker and every epoch draws other numbers; the same seed of the program gives the same ones."""

    def epochs() -> list[Any]:
        torch.manual_seed(3)
        loader = DataLoader(Draws(), 1, num_workers=2)
        return [
            [[field[0] if isinstance(field, tuple) else field.item() for field in batch] for batch in loader]
            for _ in range(2)
        ]

    first = epochs()
    assert first == epochs()
    samples = [sample for epoch in first for sample in epoch]
    assert [sample[3] for sample in samples] == [0, 1, 0, 1] * 2
    for column in range(3):
        assert len({sample[column] for sample in samples}) == 8
    assert len({sample[4] for sample in samples}) == 4
    assert get_worker_info() is None


def remember(number: int) -> None:
    os.environ["NUMBER_OF_WORKER"] = str(number)


def refuse(number: int) -> None:
    raise ValueError(f"worker {number} does not like it here")


def test_worker_init_fn() -> None:
    def collate(samples: Any) -> str:
        return os.environ["NUMBER_OF_WORKER"]

    assert list(DataLoader(Numbers(3), 1, num_workers=2, worker_init_fn=remember, collate_fn=collate)) == [
        "0",
        "1",
        "0",
    ]
    with pytest.raises(ValueError, match="worker 0 does not like it here"):
        list(DataLoader(Numbers(3), 1, num_workers=2, worker_init_fn=refuse))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_workers": -1}, ValueError, "non-negative"),
        ({"num_workers": 1.5}, TypeError, "number of processes"),
        ({"num_workers": 1, "timeout": -1}, ValueError, "timeout"),
        ({"num_workers": 1, "prefetch_factor": 0}, ValueError, "prefetch_factor"),
        ({"num_workers": 1, "multiprocessing_context": "threads"}, ValueError, "valid start method"),
        ({"num_workers": 1, "multiprocessing_context": 3}, TypeError, "name of a start method"),
        ({"prefetch_factor": 2}, ValueError, "num_workers > 0"),
        ({"persistent_workers": True}, ValueError, "num_workers > 0"),
        ({"timeout": 3}, ValueError, "num_workers > 0"),
        ({"multiprocessing_context": "spawn"}, ValueError, "num_workers > 0"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        DataLoader(Numbers(3), **options)


PROGRAM = """
import time
from nanotorch.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index > 3:
            time.sleep(30)
        return index

for batch in DataLoader(Slow(), 1, num_workers=2, multiprocessing_context="fork"):
    print(batch.item(), flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_no_orphans(how: signal.Signals) -> None:
    """Workers in the middle of a sample end with their parent, however that ends; Ctrl-C prints one traceback."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    assert program.stdout is not None
    while program.stdout.readline() != "3\n":
        pass
    if how is signal.SIGINT:
        os.killpg(program.pid, how)  # as a terminal does
    else:
        program.kill()
    _, errors = program.communicate(timeout=20)  # which waits until nobody holds the pipe any more: the workers too
    assert errors.count("Traceback") == (how is signal.SIGINT)
