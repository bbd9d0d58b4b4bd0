"""What one recorded operation costs: a chain of 2,000 multiplications of 8x8 matrices, against PyTorch.

    python -m benchmarks.op_overhead [--quick] [--rounds N] [--device cpu|cuda] [--json FILE]

The matrices are so small that the time is all overhead. Forward, backward and forward under no_grad are given
in nanoseconds per multiplication: medians over the rounds, minima in brackets, measured with Python's garbage
collector off, as `timeit` does. One row tells what it costs that every node remembers the line that called the
operation (the chain with and without). A further row has it on, after `gc.freeze()`: without that, every full
collection also searches all modules of both libraries, which costs 25 ms. Resident memory is what the process grows by
per recorded multiplication.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.steps.frameworks import import_pytorch

LENGTH = 2000
PARTS = {
    "forward": "forward",
    "backward": "backward",
    "no_grad": "forward under no_grad",
    "collected forward": "forward, collector on",
}


def chains(torch: ModuleType, device: str, length: int) -> dict[str, Callable[[], Any]]:
    """Return the three things to time, written once in PyTorch's API."""
    start = torch.ones(8, 8, device=device).requires_grad_()
    factor = torch.full((8, 8), 0.999, device=device)
    gradient = torch.ones(8, 8, device=device)
    end = [start]

    def forward() -> None:
        value = start
        for _ in range(length):
            value = value * factor
        end[0] = value

    def backward() -> None:
        start.grad = None
        end[0].backward(gradient, retain_graph=True)

    def forward_without_recording() -> None:
        with torch.no_grad():
            value = start
            for _ in range(length):
                value = value * factor

    forward()
    return {"forward": forward, "backward": backward, "no_grad": forward_without_recording}


def numpy_chain(length: int) -> Callable[[], None]:
    """Return the same chain in bare NumPy: what an operation costs before any framework."""
    start, factor = np.ones((8, 8), np.float32), np.full((8, 8), 0.999, np.float32)

    def forward() -> None:
        value = start
        for _ in range(length):
            value = value * factor

    return forward


def chain_without_lines(length: int) -> Callable[[], None]:
    """Return the recorded chain with a multiplication that does not note the line of the caller in its node."""
    import nanotorch
    from nanotorch.ops.rows.row import ROWS

    row = ROWS["mul"]
    lines = row.source.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("def mul("))
    end = next((k for k, line in enumerate(lines) if k > start and line and not line.startswith(" ")), len(lines))
    first = next(k for k in range(start, end) if "frame = getframe(1)" in lines[k])
    last = next(k for k in range(start, end) if "note_line(" in lines[k])
    namespace = dict(row.compiler.namespace)
    exec("\n".join([*lines[start:first], *lines[last + 1 : end]]), namespace)
    multiply, value_of = namespace["mul"], nanotorch.ones(8, 8).requires_grad_()
    factor = nanotorch.full((8, 8), 0.999)
    multiply(value_of, factor)

    def forward() -> None:
        value = value_of
        for _ in range(length):
            value = multiply(value, factor)

    return forward


def chain_of_calls(length: int) -> Callable[[], None]:
    """Return the recorded chain with calls of the function, as `chain_without_lines` makes them."""
    import nanotorch

    multiply, start = nanotorch.mul, nanotorch.ones(8, 8).requires_grad_()
    factor = nanotorch.full((8, 8), 0.999)

    def forward() -> None:
        value = start
        for _ in range(length):
            value = multiply(value, factor)

    return forward


def resident_bytes() -> int:
    """Return the memory that the process holds, 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def memory_per_operation(torch: ModuleType, device: str, length: int) -> tuple[float, float]:
    """Return how many bytes the process grows by per multiplication, and how many it keeps after release."""
    start = torch.ones(8, 8, device=device).requires_grad_()
    factor = torch.full((8, 8), 0.999, device=device)
    gc.collect()
    before = resident_bytes()
    value = start
    for _ in range(length):
        value = value * factor
    held = resident_bytes() - before
    del value
    kept = resident_bytes() - before
    return held / length, max(kept, 0) / length


def main() -> None:
    """Time the chains and print the table."""
    import nanotorch

    options = common.arguments("Time single recorded operations.")
    common.pin(options.device)
    rounds, seconds = options.rounds or (1 if options.quick else 25), 0.0 if options.quick else 0.05
    length, memory_length = (50, 500) if options.quick else (LENGTH, 50_000)
    frameworks: dict[str, ModuleType] = {"nanotorch": nanotorch}
    pytorch = import_pytorch(options.device)
    if pytorch is not None:
        frameworks["PyTorch"] = pytorch
    # Memory first: a process that has grown before reuses what it holds.
    memory = {name: memory_per_operation(module, options.device, memory_length) for name, module in frameworks.items()}
    calls: dict[str, Callable[[], Any]] = {"NumPy forward": numpy_chain(length)}
    calls |= {"with lines": chain_of_calls(length), "without lines": chain_without_lines(length)}
    for name, module in frameworks.items():
        calls |= {f"{name} {part}": call for part, call in chains(module, options.device, length).items()}
    timings = common.summary(common.interleave(calls, rounds, seconds, collector=False))
    collected = {name.replace(" ", " collected ", 1): call for name, call in calls.items() if name.endswith("forward")}
    gc.freeze()
    timings |= common.summary(common.interleave(collected, rounds, seconds))
    rows, results = [], []
    for part, title in PARTS.items():
        row = [title]
        for name in ("nanotorch", "PyTorch", "NumPy"):
            median, least = (value * 1e3 / length for value in timings.get(f"{name} {part}", (float("nan"),) * 2))
            row.append(f"{median:.0f} ({least:.0f})" if median == median else "-")
            if median == median:
                results.append({"part": part, "library": name, "median_ns": median, "min_ns": least})
        ratio = "-"
        if pytorch is not None:
            ratio = f"{timings[f'PyTorch {part}'][0] / timings[f'nanotorch {part}'][0]:.2f}"
        rows.append([*row, ratio])
    noted, bare = (timings[name][0] * 1e3 / length for name in ("with lines", "without lines"))
    rows.append(["the line of the caller", f"{noted - bare:.0f} ({100 * (noted / bare - 1):.1f} %)", "-", "-", "-"])
    results.append({"part": "the line of the caller", "library": "nanotorch", "with_ns": noted, "without_ns": bare})
    held = [
        "memory, bytes",
        *(f"{memory[name][0]:.0f}" if name in memory else "-" for name in ("nanotorch", "PyTorch")),
        "-",
    ]
    rows.append([*held, f"{memory['PyTorch'][0] / memory['nanotorch'][0]:.2f}" if "PyTorch" in memory else "-"])
    results += [
        {"part": "memory", "library": name, "bytes": held, "kept": kept} for name, (held, kept) in memory.items()
    ]
    header = ["per multiplication", "nanotorch", "PyTorch", "NumPy", "PyTorch/nanotorch"]
    title = f"one recorded 8x8 operation, nanoseconds: median (minimum) of {rounds} rounds, {options.device}"
    common.report(title, common.machine(options.device), common.table(header, rows), results, options.json)


if __name__ == "__main__":
    main()
