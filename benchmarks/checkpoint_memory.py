"""What recomputation saves and costs: peak memory and time of a training step of deep MLPs.

    python -m benchmarks.checkpoint_memory [--quick] [--rounds N] [--json FILE]

The MLP has n layers of width 256 with tanh, and gets a batch of 1024: every layer saves 1.05 MB, and its gradients take
0.26 MB. A step is forward and backward. Its peak is what Python and NumPy allocate above what is there before it,
gradients included, in MB (`tracemalloc`, which gives the same figure every time). Contestants: everything saved, and
`checkpoint_sequential` with sqrt(n) segments. Milliseconds are medians over the rounds.
"""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks import common

DEPTHS = (4, 16, 64)
WIDTH, BATCH = 256, 1024


def steps(depth: int, batch: int) -> dict[str, Callable[[], Any]]:
    """Return the training steps to compare."""
    import nanotorch as torch
    from nanotorch.utils.checkpoint import checkpoint_sequential

    torch.manual_seed(0)
    blocks = [torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh()) for _ in range(depth)]
    model = torch.nn.Sequential(*blocks)
    x = torch.randn(batch, WIDTH)
    segments = math.isqrt(depth)

    def saved() -> None:
        model.zero_grad()
        model(x).sum().backward()

    def recomputed() -> None:
        model.zero_grad()
        checkpoint_sequential(model, segments, x).sum().backward()

    return {"saved": saved, "recomputed": recomputed}


def peak(step: Callable[[], Any]) -> float:
    """Return the megabytes that a step takes at most, above what is allocated before it."""
    step()
    gc.collect()
    tracemalloc.start()
    step()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found / 1e6


def main() -> None:
    """Measure all depths and print the table."""
    options = common.arguments("Measure memory and time of recomputation.")
    rounds, seconds = options.rounds or (1 if options.quick else 15), 0.0 if options.quick else 0.1
    rows, results = [], []
    for depth in DEPTHS[:1] if options.quick else DEPTHS:
        calls = steps(depth, 16 if options.quick else BATCH)
        peaks = {name: peak(call) for name, call in calls.items()}
        times = {
            name: median / 1e3
            for name, (median, _) in common.summary(common.interleave(calls, rounds, seconds)).items()
        }
        ratios = [f"{found['recomputed'] / found['saved']:.2f}" for found in (peaks, times)]
        values = [[f"{found[name]:.1f}" for name in calls] for found in (peaks, times)]
        rows.append([str(depth), *values[0], ratios[0], *values[1], ratios[1]])
        results.append({"layers": depth, "peak_mb": peaks, "ms": times})
    header = ["layers", "MB saved", "MB recomputed", "ratio", "ms saved", "ms recomputed", "ratio"]
    title = f"training steps of MLPs with and without recomputation, medians of {rounds} rounds"
    common.report(title, common.machine(), common.table(header, rows), results, options.json)


if __name__ == "__main__":
    main()
