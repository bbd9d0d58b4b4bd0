"""What a whole job costs, from the command to the last file: the trainer, a PyTorch and a scikit-learn script.

    python -m benchmarks.job [--quick] [--rounds N] [--json FILE]

Every job is a process of its own that loads its table (scikit-learn's, or a Parquet file), splits and scales it, trains
a network of 128 and 64 units (GELU and dropout; scikit-learn has ReLU without), validates every epoch but for
scikit-learn, keeps the best one and tests it. The scripts, `benchmarks/jobs/`, write nothing more than the weights; the
trainer writes its checkpoints, logs, page and figures. Contestants take turns. Seconds are of the wall and of the
processor, with all threads; megabytes are the largest that a process held.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import common

CONFIG = """\
name: job
device: cpu
data: {{{data}, test_size: 0.2, validation_size: 0.1}}
model: {{hidden: [128, 64], activation: GELU, dropout: 0.2}}
loss: {{name: {loss}}}
optimizer: {{name: Adam, lr: {rate}}}
train: {{epochs: {epochs}, batch_size: {batch}}}
"""
CASES = {  # epochs, batch, learning rate
    "digits": (30, 32, 4e-3),
    "breast_cancer": (30, 32, 4e-3),
    "100,000 x 54": (5, 256, 2e-3),
}
QUICK = {"breast_cancer": (1, 256, 4e-3)}


def commands(case: str, folder: Path, numbers: Sequence[float]) -> dict[str, list[str]]:
    """Return the command lines of the contestants."""
    epochs, batch, rate = numbers
    data = case if case in ("digits", "breast_cancer") else str(folder / "table.parquet")
    named = f"name: {case}" if data == case else f"file: {data}, target: y, task: classification"
    config = folder / f"{case.replace(' ', '')}.yaml"
    loss = "BCEWithLogitsLoss" if case == "breast_cancer" else "CrossEntropyLoss"
    config.write_text(CONFIG.format(data=named, loss=loss, epochs=epochs, batch=batch, rate=rate))
    plain = [data, *map(str, numbers), str(folder)]
    pytorch = {"PyTorch script": ["benchmarks.jobs.pytorch", *plain]} if find_spec("torch") else {}
    return {
        "nanotorch.train": [
            "nanotorch.train", str(config), "--output", str(folder / "run"), "--overwrite", "--no-progress"
        ],
        **pytorch,
        "scikit-learn script": ["benchmarks.jobs.scikit_learn", *plain],
    }  # fmt: skip


def job(command: Sequence[str]) -> dict[str, float]:
    """Run a module in a process of its own; return its seconds, its megabytes, and the accuracy that it says last."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} has failed")
    line = next(line for line in said.splitlines() if line.startswith("test"))
    return {
        "wall": wall,
        "processor": used.ru_utime + used.ru_stime,
        "mb": used.ru_maxrss / 1024,
        "accuracy": float(line.split()[-1]),
    }


def main() -> None:
    """Measure all cases and print the table."""
    options = common.arguments("Measure whole jobs of training.")
    rounds = options.rounds or (1 if options.quick else 5)
    results: list[dict[str, Any]] = []
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.quick:
            # in another process: what this one holds counts as held by each that it starts
            subprocess.run([sys.executable, "-m", "benchmarks.jobs.data", str(folder)], check=True)
        for case, numbers in (QUICK if options.quick else CASES).items():
            contestants = commands(case, folder, numbers)
            found: dict[str, list[dict[str, float]]] = {contestant: [] for contestant in contestants}
            for _ in range(rounds):
                for contestant, command in contestants.items():
                    found[contestant].append(job(command))
            figures = {
                contestant: {key: [each[key] for each in runs] for key in runs[0]} for contestant, runs in found.items()
            }
            results.append({"case": case, "epochs": numbers[0], "batch": numbers[1], "figures": figures})
            for contestant, values in figures.items():
                ours = figures["nanotorch.train"]
                shown = [f"{min(values[key]):.2f}" for key in ("wall", "processor")]
                ratios = [f"{min(values[key]) / min(ours[key]):.2f}" for key in ("wall", "processor", "mb")]
                row = [f"{case}: {contestant}", *shown, f"{max(values['mb']):.0f}", *ratios]
                rows.append([*row, f"{statistics.mean(values['accuracy']):.3f}"])
    header = ["job", "wall s", "cpu s", "MB", "wall ratio", "cpu ratio", "MB ratio", "accuracy"]
    common.report(
        f"whole jobs, the least of {rounds} rounds", common.machine(), common.table(header, rows), results, options.json
    )


if __name__ == "__main__":
    main()
