"""Microseconds per training step of small and large MLPs: nanotorch and its peers, in one run on one core.

    python -m benchmarks.train_step [--quick] [--rounds N] [--device cpu|cuda] [--json FILE]

One step is zero_grad, forward, loss, backward, Adam and loss.item(), on float32: cross-entropy, and in the last row
half the summed squared error, the workload that SimpleChains.jl publishes. nanotorch runs plain, compiled to NumPy
calls, and as a table; beside it PyTorch plain and by torch.compile, JAX op by op, by jax.jit and by jax.lax.scan, the
step over NumPy by hand, and as one function of numba by hand. The table and the scan take many steps in a call. Who is
not installed is left out, and the result says so. All start from the same parameters, must agree before anything is
timed, and then take turns in one process on one core. Machines are noisy: read the ratios.
"""

from __future__ import annotations

import dataclasses

from benchmarks import common
from benchmarks.steps.contestants import assemble, builders, calls
from benchmarks.steps.problem import Problem

PROBLEMS = {
    "4-16-3 batch 16": Problem((4, 16, 3), 16),
    "64-128-64-10 batch 64": Problem((64, 128, 64, 10), 64),
    "64-256-256-8 batch 256": Problem((64, 256, 256, 8), 256),
    "784-1024-1024-10 batch 512": Problem((784, 1024, 1024, 10), 512, many=10),
    "4-32-16-4 batch 10000": Problem((4, 32, 16, 4), 10_000, activation="Tanh", squared=True),
}
BY_HAND = ("handwritten", "fused by hand")
"""They know ReLU and cross-entropy alone."""


def main() -> None:
    """Time every model and print the table."""
    options = common.arguments("Time one training step of small and large MLPs.")
    common.pin(options.device)
    rounds, seconds = options.rounds or (1 if options.quick else 15), 0.0 if options.quick else 0.05
    building, absent = builders(options.device)
    if options.quick and building.pop("torch.compile", None) is not None:
        absent["torch.compile"] = "compiles for seconds, so --quick leaves it out"
    results = []
    for name, problem in list(PROBLEMS.items())[:: 4 if options.quick else 1]:
        chosen = {k: build for k, build in building.items() if not problem.squared or k not in BY_HAND}
        if options.quick:
            sizes = tuple(min(size, 32) for size in problem.sizes)
            problem = dataclasses.replace(problem, sizes=sizes, batch=min(problem.batch, 32), many=2)
        built, first = assemble(problem, chosen)
        timings = common.interleave(calls(built), rounds, seconds)
        timings = {k: [value / built[k].count for value in values] for k, values in timings.items()}
        results.append({"model": name, "many": problem.many, "first_s": first, "us": common.spread(timings)})
    rows = []
    for result in results:
        for name, us in result["us"].items():
            theirs = result["us"].get("PyTorch")
            ratio = "-" if theirs is None else f"{theirs['median'] / us['median']:.2f}"
            rows.append([f"{result['model']}  {name}", *(f"{us[key]:,.1f}" for key in us), ratio])
    header = ["MLP, contestant", "median", "lower quartile", "upper quartile", "least", "PyTorch/it"]
    title = f"training step, microseconds over {rounds} rounds, {options.device}"
    found = common.machine(options.device) | {f"without {name}": why for name, why in absent.items()}
    common.report(title, found, common.table(header, rows), results, options.json)


if __name__ == "__main__":
    main()
