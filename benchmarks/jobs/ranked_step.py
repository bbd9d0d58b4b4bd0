"""python -m benchmarks.jobs.ranked_step LIBRARY ROWS STEPS: seconds of a step that this process takes with others.

One of several ranks, which mpiexec or torchrun has started, of `benchmarks.scaling`. Rank 0 prints as JSON the seconds
of each step of ROWS rows, and those that a sum over the ranks of few and of many numbers takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np

WIDTHS = (54, 256, 256, 10)
WARM, FEW, MANY = 5, 2, 1 << 18  # steps before those that count; numbers of float32 in a sum


def main() -> None:
    """Take the steps, and say how long they took."""
    library, rows, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch: Any
    if library == "nanotorch":
        import nanotorch as torch
        from nanotorch.nn.parallel import DistributedDataParallel

        torch.distributed.init_process_group()
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    else:
        import torch
        from torch.nn.parallel import DistributedDataParallel

        torch.set_num_threads(1)
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if size > 1:
            torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(*pair) for pair in pairwise(WIDTHS)]
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    optimizer = torch.optim.Adam(model.parameters())
    shared = DistributedDataParallel(model) if size > 1 else model
    draw = np.random.default_rng(rank)
    x = torch.from_numpy(draw.standard_normal((rows // size, WIDTHS[0])).astype(np.float32))
    y = torch.from_numpy(draw.integers(0, WIDTHS[-1], rows // size))
    taken = []
    for number in range(WARM + steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(shared(x), y).backward()
        optimizer.step()
        if number >= WARM:
            taken.append(time.perf_counter() - start)
    sums: dict[str, list[float]] = {}
    for count in (FEW, MANY):
        numbers = torch.ones(count)
        sums[str(count)] = []
        for _ in range(steps if size > 1 else 0):
            torch.distributed.barrier()
            start = time.perf_counter()
            torch.distributed.all_reduce(numbers)
            sums[str(count)].append(time.perf_counter() - start)
            numbers.fill_(1)
    if rank == 0:
        print(json.dumps({"steps": taken, "sums": sums}))
    if size > 1 and library == "nanotorch":
        torch.distributed.destroy_process_group()
    elif size > 1:
        torch.distributed.barrier()
        sys.stdout.flush()
        os._exit(0)  # the threads of gloo abort a process that ends by itself


if __name__ == "__main__":
    main()
