"""Figures of results, as small SVG files that are readable on a light page and on a dark one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.jobs.ranked_step import FEW, MANY, WIDTHS

INK, FAINT = "#010203", "#8a8f98"
"""What stands for the page's own colour of text, and a grey that shows on both kinds of page."""
STYLES: dict[str, tuple[str, str]] = {
    "nanotorch": ("#9ec5fe", "o"),
    "compiled": ("#4d94ff", "o"),
    "table": ("#1668e3", "o"),
    "PyTorch": ("#f0a35e", "s"),
    "torch.compile": ("#d9480f", "s"),
    "jax": ("#8fd19e", "^"),
    "jax.jit": ("#40b05c", "^"),
    "jax.lax.scan": ("#1f9347", "^"),
    "handwritten": ("#c08ad8", "x"),
    "fused by hand": ("#a050c8", "x"),
}
"""Colour and marker of each contestant."""


def save(figure: Figure, path: Path, name: str, date: str) -> None:
    """Write the figure without a background, its text as text in the colour that the page asks for.

    The file keeps `date`, that of the results; the same results make the same file.
    """
    settings = {"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Source": date})
    style = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
    drawn = path.read_text().replace(INK, "currentColor")
    path.write_text(drawn.replace("<defs>", f"{style}\n <defs>", 1))


def plain(axes: Any, title: str, label: str) -> None:
    """Give axes their title and label, and take away what is not needed to read them."""
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel(label, fontsize=9, color=INK)
    axes.tick_params(length=0, which="both", labelsize=8.5, labelcolor=INK)
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def train_step(results: Sequence[Mapping[str, Any]], machine: Mapping[str, str], path: Path) -> None:
    """Draw how many times faster than PyTorch eager each contestant takes each step."""
    names = [name for name in STYLES if any(name in result["us"] for result in results)]
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in names:
        colour, marker = STYLES[name]
        points = [
            (result["us"]["PyTorch"]["median"] / result["us"][name]["median"], row)
            for row, result in enumerate(results)
            if name in result["us"]
        ]
        drawn = {"markersize": 7, "markeredgewidth": 2, "zorder": 3 if marker == "o" else 2}
        axes.plot(*zip(*points, strict=True), marker, color=colour, label=name, **drawn)
    axes.set_xscale("log")
    axes.set_yticks(range(len(results)), [result["model"].replace(" batch", "\nbatch") for result in results])
    axes.invert_yaxis()
    axes.axvline(1, color=STYLES["PyTorch"][0], linewidth=1)
    plain(axes, "A step of training", "times as fast as PyTorch eager (logarithmic)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.legend(loc="outside right center", frameon=False, labelcolor=INK, fontsize=8.5)
    save(figure, path, "train_step", machine["date"])


def scaling_with_size(results: Sequence[Mapping[str, Any]], machine: Mapping[str, str], path: Path) -> None:
    """Draw the time of a step along each axis, with the time of its products and the limit of arithmetic."""
    axes_names = list(dict.fromkeys(result["axis"] for result in results))
    peak = max(result["gflops"] for result in results)
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    for panel, axis in zip(figure.subplots(1, len(axes_names), sharey=True), axes_names, strict=True):
        rows = [result for result in results if result["axis"] == axis]
        sizes = [row[axis] for row in rows]
        for name, (colour, marker) in STYLES.items():
            points = [(row[axis], row["us"][name]["median"]) for row in rows if name in row["us"]]
            ours = marker == "o"  # on top, for lines lie close to each other
            if points:
                width, order = (2.4, 3) if ours else (1.3, 2)
                panel.plot(*zip(*points, strict=True), color=colour, label=name, linewidth=width, zorder=order)
        panel.plot(sizes, [row["products_us"] for row in rows], ":", color=INK, label="products alone")
        panel.plot(sizes, [row["flop"] / peak / 1e3 for row in rows], "--", color=INK, label="limit of arithmetic")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks([4, 16, 64, 256, 1024, 4096], ["4", "16", "64", "256", "1024", "4096"])
        fixed = {name: rows[0][name] for name in axes_names if name != axis}
        plain(panel, axis, ", ".join(f"{name} {size}" for name, size in fixed.items()))
    panel = figure.axes[0]
    panel.set_ylabel("microseconds a step (logarithmic)", fontsize=9, color=INK)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    legend = {"loc": "outside lower center", "ncols": 6, "frameon": False, "labelcolor": INK, "fontsize": 8.5}
    figure.legend(*panel.get_legend_handles_labels(), **legend)
    save(figure, path, "scaling_with_size", machine["date"])


def scaling(results: Sequence[Mapping[str, Any]], machine: Mapping[str, str], path: Path) -> None:
    """Draw by how much many ranks would be faster: the measured step of one rank, and a sum over the ranks that costs
    twice `log2(ranks)` latencies and the numbers of a rank twice over the bandwidth, here and on a fast network.
    """
    ours = [result for result in results if result["library"] == "nanotorch"]
    alone = {result["rows"]: result["ms"]["steps"] / 1e3 for result in ours if result["ranks"] == 1}
    two = next(result["ms"] for result in ours if result["ranks"] == 2)
    few, many = (two[numbers] / 1e3 for numbers in (str(FEW), str(MANY)))
    here = few / 2, 4 * (MANY - FEW) / max(many - few, 1e-9)
    sent = 4 * sum(above * (below + 1) for below, above in pairwise(WIDTHS))
    counts = 2 ** np.arange(11)
    figure = Figure(figsize=(8.2, 3.6), layout="constrained")
    cases = {"this machine's memory": here, "a network of 2 us and 12 GB/s": (2e-6, 12e9)}
    for panel, (name, (latency, bandwidth)) in zip(figure.subplots(1, 2, sharey=True), cases.items(), strict=True):
        for rows, colour in zip((4096, 65_536, 1_048_576), ("#9ec5fe", "#4d94ff", "#1668e3"), strict=True):
            computed = np.interp(rows / counts, list(alone), list(alone.values()))
            beyond = max(alone)
            computed = np.where(rows / counts > beyond, alone[beyond] * rows / counts / beyond, computed)
            summed = 2 * np.log2(counts) * latency + 2 * (counts - 1) / counts * sent / bandwidth
            panel.plot(counts, computed[0] / (computed + summed), color=colour, label=f"{rows:,} rows a step")
        panel.plot(counts, counts, ":", color=INK, label="ranks")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
        panel.set_yticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
        plain(panel, f"by a model: {name}", "ranks")
    panel = figure.axes[0]
    panel.set_ylabel("times as fast as one rank", fontsize=9, color=INK)
    legend = {"loc": "outside lower center", "ncols": 4, "frameon": False, "labelcolor": INK, "fontsize": 8.5}
    figure.legend(*panel.get_legend_handles_labels(), **legend)
    save(figure, path, "scaling", machine["date"])
