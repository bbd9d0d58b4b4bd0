"""What tests run as several ranks: each function here is a program, and what it returns goes back to the test.

`run("sums", 3)` starts three ranks by mpiexec and returns what each has returned, by rank.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import distributed, nn
from nanotorch.nn.parallel import DistributedDataParallel

MPIEXEC = Path(sys.executable).parent / "mpiexec"
REAL = ("float16", "float32", "float64")


def started(program: str, ranks: int, seconds: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this file in so many ranks; return how it ended."""
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, __file__, program]
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env={**os.environ, **one, **environment}, check=False
    )


def run(program: str, ranks: int) -> list[Any]:
    """Run a program of this file in so many ranks; return what it has returned in each."""
    with tempfile.TemporaryDirectory() as place:
        ended = started(program, ranks, RESULTS=place)
        assert ended.returncode == 0, ended.stderr
        return [json.loads((Path(place) / str(rank)).read_text()) for rank in range(ranks)]


def of_rank(rank: int, dtype: str) -> np.ndarray[Any, Any]:
    """The numbers that a rank has in the test of collectives."""
    draw = np.random.default_rng(rank)
    values = draw.integers(-9, 9, (3, 5)) if dtype in ("int64", "bool") else draw.standard_normal((3, 5))
    return (values > 0) if dtype == "bool" else values.astype(dtype)


def collectives() -> Any:
    """Sums and the like, gathers and broadcasts, of several dtypes, and of views with gaps."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    found: dict[str, Any] = {"rank": rank, "size": size, "backend": distributed.get_backend()}
    for dtype in (*REAL, "int64", "bool"):
        for op in distributed.ReduceOp:
            if op is distributed.ReduceOp.AVG and dtype not in REAL:
                continue
            for ordered in (False, True):
                wide = torch.from_numpy(of_rank(rank, dtype)).unsqueeze(-1).repeat(1, 1, 2)
                part, version = wide[..., 0], wide._version
                distributed.all_reduce(part, op, ordered)
                assert wide._version > version
                assert np.array_equal(wide[..., 1].numpy(), of_rank(rank, dtype))
                found[f"{op.name} {dtype} {ordered}"] = part.tolist()
        gathered = [torch.empty(3, 5, dtype=getattr(torch, dtype)) for _ in range(size)]
        distributed.all_gather(gathered, torch.from_numpy(of_rank(rank, dtype)))
        found[f"gather {dtype}"] = [one.tolist() for one in gathered]
        last = torch.from_numpy(of_rank(rank, dtype)).clone()
        distributed.broadcast(last, size - 1)
        found[f"broadcast {dtype}"] = last.tolist()
    single = torch.tensor(float(rank))
    distributed.all_reduce(single)
    found["single"] = single.item()
    empty = torch.zeros(0, 3)
    distributed.all_reduce(empty)
    distributed.barrier()
    found["texts"] = [said.decode() for said in distributed.group().all_gather_bytes(b"x" * rank)]
    return found


class Branches(nn.Module):
    """A network with a layer that some rows use, and one that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.extra, self.never = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(2, 2)
        self.last = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, extra: bool) -> torch.Tensor:
        hidden = self.first(x).tanh()
        return self.last(self.extra(hidden) + hidden if extra else hidden)


ROWS, STEPS = 24, 6
DRAW = np.random.default_rng(0)
X, Y = DRAW.standard_normal((STEPS, ROWS, 4)), DRAW.standard_normal((STEPS, ROWS, 2))


def trained(rank: int, size: int, wrap: Callable[[nn.Module], Any]) -> Any:
    """Train on the rows of a rank, two passes a step in every other step; return weights and the gradients seen."""
    model = Branches().double()
    if rank:
        with torch.no_grad():
            model.first.weight.add_(rank)  # as one that was built by another seed
    shared = wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    seen = []
    for step in range(STEPS):
        optimizer.zero_grad()
        x, y = (torch.from_numpy(rows[step].reshape(2, ROWS // 2, -1)[:, rank::size].copy()) for rows in (X, Y))
        if step % 2:
            with shared.no_sync() if size > 1 else torch.enable_grad():
                ((shared(x[0], False) - y[0]) ** 2).mean().div(2).backward()
            ((shared(x[1], False) - y[1]) ** 2).mean().div(2).backward()
        else:
            extra = step == 2
            loss = ((shared(x.flatten(0, 1), extra) - y.flatten(0, 1)) ** 2).mean()
            loss.backward()
        seen.append({name: p.grad is not None for name, p in model.named_parameters()})
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    return {"weights": {name: p.tolist() for name, p in model.named_parameters()}, "seen": seen}


def data_parallel() -> Any:
    """Train as ranks."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    in_order = partial(DistributedDataParallel, ordered=True)
    return [trained(rank, size, wrap) for wrap in (DistributedDataParallel, in_order)]


def some_use_a_layer() -> Any:
    """The last rank alone uses a layer."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    model = Branches()
    shared = DistributedDataParallel(model)
    shared(torch.ones(2, 4), rank == size - 1).sum().backward()
    return {name: None if p.grad is None else p.grad.tolist() for name, p in model.named_parameters()}


def buffers() -> Any:
    """The statistics of batch norm are those of rank 0."""
    model = DistributedDataParallel(nn.BatchNorm1d(2))
    for step in range(2):
        model(torch.full((4, 2), float(distributed.get_rank() + step)) + torch.arange(4.0)[:, None])
    model(torch.zeros(4, 2))  # what was computed last is each rank's own, until the next pass
    before = model.module.running_mean.tolist()
    model.eval()
    model(torch.ones(3, 2))
    assert model.module.running_mean.tolist() == before
    return before


def another_form() -> Any:
    """The last rank has a wider layer."""
    last = distributed.get_rank() == distributed.get_world_size() - 1
    try:
        DistributedDataParallel(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4 if last else 2)))
    except RuntimeError as error:
        return str(error)


def fails() -> Any:
    """One rank raises, while the others wait."""
    if distributed.get_rank() == 1:
        raise ValueError("rows that nobody expected")
    distributed.barrier()


def killed() -> Any:
    """One rank is killed, while the others wait."""
    if distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()


def fails_in_training() -> None:
    """Train by the command line; in one rank the third step is the last that the system has room for."""
    from nanotorch.train.cli.train import main as trainer
    from nanotorch.train.fit import ranked_step

    step, taken = ranked_step.window_step, []

    def failing(*args: Any, **kwargs: Any) -> Any:
        taken.append(1)
        if len(taken) > 3 and distributed.get_rank() == int(os.environ["FAILING"]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return step(*args, **kwargs)

    ranked_step.window_step = failing
    sys.exit(trainer(json.loads(os.environ["ARGUMENTS"])))


def main() -> None:
    """Run a program as a rank, and leave what it returns for the test."""
    if sys.argv[1] == "fails_in_training":
        fails_in_training()
    if sys.argv[1] == "without_mpi4py":
        sys.modules["mpi4py"] = None  # type: ignore[assignment]
    distributed.init_process_group()
    result = globals()[sys.argv[1]]()
    (Path(os.environ["RESULTS"]) / str(distributed.get_rank())).write_text(json.dumps(result))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
