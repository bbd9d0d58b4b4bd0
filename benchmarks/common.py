"""What the benchmarks share: interleaved timing, the table, and a description of the machine."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Timings = dict[str, list[float]]
LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
"""Of the machine, when the benchmark began."""
_clock = time.perf_counter


def interleave(
    calls: Mapping[str, Callable[[], object]], rounds: int, seconds: float, collector: bool = True
) -> Timings:
    """Time every call in turn, `rounds` times over: a change in the machine's load meets all.

    One measurement repeats its call for about `seconds`; each round starts with another call.

    Args:
        calls: what to time, by name.
        rounds: how many figures to take of each.
        seconds: how long to measure for one figure.
        collector: leave Python's garbage collector on, as in a real program; else it is off, as in `timeit`.

    Returns:
        for each call the microseconds it took, one figure per round.
    """
    repeats = {name: _repeats(call, seconds) for name, call in calls.items()}
    timings: Timings = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            call, count = calls[name], repeats[name]
            if not collector:
                gc.collect()
                gc.disable()
            start = _clock()
            for _ in range(count):
                call()
            timings[name].append((_clock() - start) / count * 1e6)
            gc.enable()
    return timings


def _repeats(call: Callable[[], object], seconds: float) -> int:
    """Warm the call up and return how often it fits into `seconds`."""
    for _ in range(4):
        start = time.perf_counter()
        call()
        took = time.perf_counter() - start
        if took > 0.1:  # longer than what there is to warm up
            break
    return max(1, round(seconds / took))


def summary(timings: Timings) -> dict[str, tuple[float, float]]:
    """Return the median and the minimum of every series."""
    return {name: (statistics.median(values), min(values)) for name, values in timings.items()}


def spread(timings: Timings) -> dict[str, dict[str, float]]:
    """Return the median, the quartiles around it and the minimum of every series."""
    found = {}
    for name, values in timings.items():
        low, median, high = statistics.quantiles([*values, *values], n=4)  # twice: two values at least
        found[name] = {"median": median, "low": low, "high": high, "min": min(values)}
    return found


def pin(device: str = "cpu") -> None:
    """Keep the process on one core, the last that it may use, before a library counts them; time it by that core.

    The time of the processor, of all threads of the process, is on one core what the clock would say if no other
    program ran.
    """
    global _clock
    if device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        _clock = time.process_time


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns, the first one flush left and the others flush right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(width) if not n else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def machine(device: str = "cpu") -> dict[str, str]:
    """Describe the hardware and the versions that figures depend on."""
    from nanotorch.train.record.environment import processor  # not before the threads of BLAS are chosen

    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{processor() or platform.machine()}, {os.cpu_count()} cores",
        "clock": "of the processor" if _clock is time.process_time else "of the wall",
        "cores used": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "load": f"{LOAD:.1f} when it began",
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", "?") + " (BLAS)",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    if device != "cpu":
        found["gpu"] = _gpu()
    found["BLAS"] = _blas()
    for package in ("numpy", "torch", "jax", "numba", "scikit-learn", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _blas() -> str:
    """Return the library of matrix products, and for which processor its loops are: an environment may name another
    one than it would take, of half its speed.
    """
    import numpy as np
    from threadpoolctl import threadpool_info

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload, index]
    loops = {pool["architecture"] for pool in threadpool_info() if pool.get("architecture")}
    named = {name: value for name, value in os.environ.items() if name == "OPENBLAS_CORETYPE"}
    return f"{blas['name']} {blas['version']} ({', '.join([*loops, *map('='.join, named.items())])})"


def _gpu() -> str:
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return f"{name}, CUDA runtime {cupy.cuda.runtime.runtimeGetVersion()}"


def arguments(description: str) -> argparse.Namespace:
    """Parse the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a few repeats only: shows that it runs, measures nothing")
    parser.add_argument("--rounds", type=int, help="rounds in which the contestants take turns")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where to compute (default: cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    return parser.parse_args()


def report(title: str, found: Mapping[str, str], text: str, results: Any, path: Path | None) -> None:
    """Print the machine and the table; write both to `path` as JSON where one is given."""
    print(title)
    for name, value in found.items():
        print(f"  {name}: {value}")
    print()
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"benchmark": title, "machine": dict(found), "results": results}, indent=2) + "\n")
