"""Time of a data-parallel step against the number of ranks and of rows, beside PyTorch's over gloo.

    python -m benchmarks.scaling [--quick] [--rounds N] [--json FILE]

An MLP 54-256-256-10, ReLU, Adam, float32; the rows of a step are shared out among as many ranks as the machine has
cores, each with one thread: nanotorch's by mpiexec, PyTorch's by torchrun. Contestants take turns. Milliseconds are the
medians of all steps by the clock; a sum over the ranks is timed by itself, for the model that `docs/distributed.md`
draws to more ranks than there are here.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import common

ROWS = (256, 1024, 4096, 16384)
STEPS = 60


def launched(library: str, ranks: int, rows: int, steps: int) -> dict[str, Any]:
    """Return what the ranks of a library say of their steps."""
    program = ["-m", "benchmarks.jobs.ranked_step", library, str(rows), str(steps)]
    command = [sys.executable, *program]
    if ranks > 1 and library == "nanotorch":
        command = [str(Path(sys.executable).parent / "mpiexec"), "-n", str(ranks), *command]
    elif ranks > 1:
        started = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = [sys.executable, *started, *program]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **one}, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} has failed:\n{ended.stderr}")
    found: dict[str, Any] = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith("{")))
    return found


def main() -> None:
    """Measure all sizes and print the table."""
    options = common.arguments("Measure data-parallel steps.")
    rounds = options.rounds or (1 if options.quick else 3)
    sizes = ROWS[:1] if options.quick else ROWS
    libraries = ["nanotorch", *["PyTorch"] * (find_spec("torch") is not None)]
    ranks = sorted({1, min(2, os.cpu_count() or 1), os.cpu_count() or 1})
    lines, results = [], []
    for rows in sizes:
        taken: dict[tuple[str, int], dict[str, list[float]]] = {}
        for _ in range(rounds):
            for library in libraries:
                for count in ranks:
                    found = launched(library, count, rows, 3 if options.quick else STEPS)
                    into = taken.setdefault((library, count), {"steps": []})
                    into["steps"] += found["steps"]
                    for numbers, seconds in found["sums"].items():
                        into.setdefault(numbers, []).extend(seconds)
        for (library, count), of in taken.items():
            medians = {key: statistics.median(values) * 1e3 for key, values in of.items() if values}
            alone = statistics.median(taken[library, 1]["steps"]) * 1e3
            cells = [f"{medians['steps']:.2f}", f"{medians['steps'] / alone:.2f}"]
            lines.append([f"{rows:,} rows, {library}, {count} rank{'s' * (count > 1)}", *cells])
            results.append({"rows": rows, "library": library, "ranks": count, "ms": medians})
    header = ["rows of a step", "ms", "of one rank's"]
    title = f"data-parallel steps of an MLP, medians of {rounds} rounds"
    common.report(title, common.machine(), common.table(header, lines), results, options.json)


if __name__ == "__main__":
    main()
