"""Microseconds per training step against width, depth and batch, from 4 to 4096, with the limit of arithmetic.

    python -m benchmarks.scaling_with_size [--quick] [--rounds N] [--json FILE]

The contestants and the step are those of `benchmarks.train_step` (cross-entropy and Adam on float32, one core). The
MLP has `depth` square layers of `width` with ReLU between them. One of the three numbers goes through the powers of
two, the other two stay: width 64, 2 layers, batch 64. Who needs more than some seconds of the processor for its first
steps at a size (compilers do, on deep networks) leaves the axis there, and the result says so; torch.compile needs that
long for every size and is not asked, nor is JAX without its compiler.

Two limits go with the times: `products` are the step's matrix products alone, by NumPy into memory that is there;
`flop` over the highest rate that any product of the run reached is the time that no step can go below on this core.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.steps.contestants import assemble, builders, calls
from benchmarks.steps.problem import DeepProblem

BASE = {"width": 64, "depth": 2, "batch": 64}
SIZES = [2**power for power in range(2, 13)]
LEFT_OUT = {"torch.compile": "compiles for seconds at every size", "jax": "as slow at every size as in train_step"}
PATIENCE = 4.0
"""Seconds of the processor for the first steps, after which a contestant is not asked for a larger size."""
GUESS = 2e10
"""Operations a second, roughly: how many steps a call may take."""


def flop(width: int, depth: int, batch: int) -> int:
    """Return the multiplications and additions of a step's matrix products: the first layer hands nothing back."""
    return 2 * batch * width * width * (3 * depth - 1)


def products(width: int, depth: int, batch: int, seconds: float) -> tuple[float, float]:
    """Return the microseconds that the step's products take one after the other, and the best rate in GFLOP/s."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, batch, width), dtype=np.float32)
    w = rng.standard_normal((width, width), dtype=np.float32)
    row, square = np.empty_like(x), np.empty_like(w)
    three: list[Callable[[], object]] = [lambda: x.dot(w.T, row), lambda: g.T.dot(x, square), lambda: g.dot(w, row)]
    timings = common.interleave({str(n): call for n, call in enumerate(three)}, 5, seconds)
    forward, weights, back = (min(values) for values in timings.values())
    rate = flop(width, 1, batch) / 2 / min(forward, weights, back) / 1e3
    return depth * (forward + weights + back) - back, rate


def problem_of(width: int, depth: int, batch: int) -> DeepProblem:
    """Return the problem of these sizes, with as many steps a call as fit into a tenth of a second."""
    seconds = flop(width, depth, batch) / GUESS + depth * 1e-5
    return DeepProblem((width,) * (depth + 1), batch, many=min(100, max(1, int(0.1 / seconds))))


def main() -> None:
    """Go along the three axes and print the table."""
    options = common.arguments("Time training steps of growing networks.")
    common.pin()
    rounds, seconds = options.rounds or (1 if options.quick else 5), 0.0 if options.quick else 0.02
    building, absent = builders()
    for name, why in LEFT_OUT.items():
        building.pop(name, None)
        absent[name] = why
    assemble(problem_of(8, 2, 8), building)  # what is loaded or compiled once belongs to no size
    results: list[dict[str, Any]] = []
    for axis in BASE:
        going = dict(building)
        for size in SIZES[:1] if options.quick else SIZES:
            sizes = BASE | {axis: size}
            if sizes["depth"] > 3:
                going.pop("fused by hand", None)  # it knows two and three layers
            problem = problem_of(**sizes)
            if options.quick:
                problem = dataclasses.replace(problem, many=2)
            start = time.perf_counter()
            built, first = assemble(problem, going)
            timings = common.interleave(calls(built), rounds, seconds)
            timings = {name: [value / built[name].count for value in values] for name, values in timings.items()}
            alone, rate = products(**sizes, seconds=seconds)
            limits = {"flop": flop(**sizes), "products_us": alone, "gflops": rate}
            results.append({"axis": axis, **sizes, **limits, "first_s": first, "us": common.spread(timings)})
            for name in [name for name, took in first.items() if took > PATIENCE]:
                del going[name]
                if size < SIZES[-1]:
                    absent[f"{name} along {axis}"] = f"{first[name]:.0f} s for the first steps at {size}"
            del built
            gc.collect()
            print(f"{axis} {size}: {time.perf_counter() - start:.0f} s", flush=True)
    names = list(building)
    peak = max(result["gflops"] for result in results)
    rows = []
    for result in results:
        cells = [f"{result['us'][name]['median']:,.1f}" if name in result["us"] else "-" for name in names]
        limits = [f"{result['products_us']:,.1f}", f"{result['flop'] / peak / 1e3:,.2f}"]
        rows.append([f"{result['axis']} {result[result['axis']]}", *cells, *limits])
    title = f"training step, microseconds: medians of {rounds} rounds; width {BASE['width']}, depth {BASE['depth']}"
    title += f", batch {BASE['batch']} where not said; {peak:.0f} GFLOP/s at best"
    found = common.machine() | {f"without {name}": why for name, why in absent.items()}
    common.report(title, found, common.table(["", *names, "products", "limit"], rows), results, options.json)


if __name__ == "__main__":
    main()
