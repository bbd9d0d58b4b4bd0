"""What gradient accumulation saves and costs: peak memory and time of one optimizer step by the number of its pieces.

    python -m benchmarks.accumulation_memory [--quick] [--rounds N] [--json FILE] [--figure FILE]

The MLP has 8 layers of width 256 with ReLU and 10 outputs, and a step takes 4096 rows: cross-entropy, backward once for
each piece, Adam. The peak is what Python and NumPy allocate above what is there before the step (parameters, gradients,
the optimizer's state, the batch itself), in MB (`tracemalloc`, which gives the same figure every time). Milliseconds
are medians over the rounds. `--figure` draws both as an SVG file.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import common

PIECES = (1, 2, 4, 8, 16, 32, 64)
LAYERS, WIDTH, CLASSES, ROWS = 8, 256, 10, 4096
MEMORY, TIME, DARK, QUIET, FAINT = "#2f6db3", "#e0722f", "#222222", "#666666", "#dddddd"


def step_of(rows: int) -> Callable[[int], None]:
    """Return an optimizer step over this many rows that can be told in how many pieces to take them."""
    import nanotorch as torch

    torch.manual_seed(0)
    layers: list[Any] = []
    for _ in range(LAYERS):
        layers += [torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, CLASSES))
    optimizer = torch.optim.Adam(model.parameters())
    sum_of_losses = torch.nn.CrossEntropyLoss(reduction="sum")
    features, labels = torch.randn(rows, WIDTH), torch.randint(CLASSES, (rows,))

    def step(pieces: int) -> None:
        optimizer.zero_grad(set_to_none=False)
        size = rows // pieces
        for x, y in zip(features.split(size), labels.split(size), strict=True):
            (sum_of_losses(model(x), y) / rows).backward()
        optimizer.step()

    return step


def peak(call: Callable[[], None]) -> float:
    """Return the megabytes that a call takes at most, above what is allocated before it."""
    call()
    gc.collect()
    tracemalloc.start()
    call()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found / 1e6


def draw(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Draw memory and time over the number of pieces, each relative to the step in one piece."""
    from matplotlib import rcParams
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.8), facecolor="white")
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0.075, 0.135, 0.865, 0.7))
    pieces = [result["pieces"] for result in results]
    for name, unit, color, word, side in (
        ("peak_mb", "MB", MEMORY, "memory", "left"),
        ("ms", "ms", TIME, "time", "center"),
    ):
        values = [result[name] for result in results]
        relative = [value / values[0] for value in values]
        axes.plot(
            pieces, relative, "o-", color=color, linewidth=1.9, markersize=5.5, mec="white", clip_on=False, label=word
        )
        for at, height, value in list(zip(pieces, relative, values, strict=True))[1:]:
            text = f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
            place: dict[str, Any] = {
                "xytext": (4 if side == "left" else -2, 8),
                "textcoords": "offset points",
                "ha": side,
            }
            axes.annotate(text, (at, height), **place, fontsize=8.5, color=color, annotation_clip=False)
    first = results[0]
    text = f"{first['peak_mb']:.0f} MB and {first['ms']:.0f} ms"
    axes.annotate(text, (1, 1), (-4, 22), textcoords="offset points", fontsize=8.5, color=QUIET)
    axes.set_xscale("log", base=2)
    axes.set_xticks(pieces, [str(number) for number in pieces])
    axes.minorticks_off()
    axes.set_ylim(0, 1.18 * max(result["ms"] / first["ms"] for result in results))
    axes.set_xlabel(f"pieces that make a step of {ROWS} rows", fontsize=9.5, color=QUIET)
    axes.tick_params(length=0, labelsize=9, labelcolor=QUIET)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.legend(frameon=False, labelcolor="linecolor", fontsize=10, loc="center right")
    figure.text(
        0.03,
        0.93,
        "Peak memory and time of a step, relative to one piece",
        fontsize=11.5,
        fontweight="bold",
        color=DARK,
    )
    rcParams["svg.hashsalt"] = "accumulation"  # the same figures make the same file
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure every number of pieces and print the table."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--figure", type=Path, metavar="FILE")
    mine, sys.argv[1:] = own.parse_known_args()
    options = common.arguments("Measure memory and time of gradient accumulation.")
    rounds, seconds = options.rounds or (1 if options.quick else 15), 0.0 if options.quick else 0.1
    counts = PIECES[:3] if options.quick else PIECES
    step = step_of(64 if options.quick else ROWS)
    calls = {str(count): partial(step, count) for count in counts}
    peaks = {name: peak(call) for name, call in calls.items()}
    times = {
        name: median / 1e3 for name, (median, _) in common.summary(common.interleave(calls, rounds, seconds)).items()
    }
    rows, results = [], []
    for name in calls:
        ratios = [f"{found[name] / found['1']:.2f}" for found in (peaks, times)]
        rows.append([name, f"{peaks[name]:.1f}", ratios[0], f"{times[name]:.1f}", ratios[1]])
        results.append({"pieces": int(name), "peak_mb": peaks[name], "ms": times[name]})
    title = f"one optimizer step in pieces, medians of {rounds} rounds"
    common.report(
        title, common.machine(), common.table(["pieces", "MB", "ratio", "ms", "ratio"], rows), results, options.json
    )
    if mine.figure is not None:
        draw(mine.figure, results)


if __name__ == "__main__":
    main()
