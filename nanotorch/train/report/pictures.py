"""Charts as pictures: SVG of our own; PNG and PDF by matplotlib, which is imported where one is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanotorch.train.report.chart import Chart, alone, colours, ticks
from nanotorch.train.terminal.text_report import short
from nanotorch.utils import files

KINDS = (".svg", ".png", ".pdf")
DPI = 72  # of a file at the size of a page; a PNG has twice as many dots


def save(path: Path, charts: Sequence[Chart], title: str = "", lead: str = "", own: bool = False) -> None:
    """Write charts beside one another into a file of the kind that its name says.

    A RuntimeError says what to install where the kind needs matplotlib.

    Args:
        path: a name that ends as one of `KINDS`.
        charts: what to draw.
        title: above them, and below it the `lead`.
        lead: in words, what they show.
        own: the file is one of a run, and nothing is written through a link.
    """
    if path.suffix.lower() == ".svg":
        files.write(path, alone(charts, title, lead), own=own)
        return
    figure = _figure(charts, title, lead)
    with warnings.catch_warnings(), files.writing(path, own=own) as file:
        warnings.filterwarnings("ignore", message="Glyph")  # letters that matplotlib's font has not
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=2 * DPI)


def _figure(charts: Sequence[Chart], title: str, lead: str) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RuntimeError(
            "a picture as PNG or PDF needs matplotlib, which is not installed: pip install matplotlib; one as SVG does"
            " not"
        ) from None

    known = colours()
    size = (sum(chart.width for chart in charts) / DPI * 1.1, (max(c.height for c in charts) + 60 * bool(title)) / DPI)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    if title:
        heading = f"{_plain(short(title, 90))}\n{_plain(lead)}"
        figure.suptitle(heading, x=0.01, ha="left", fontsize=10.5, color=known["ink"])
    for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        axes.set_title(_plain(chart.title), loc="left", fontsize=10, color=known["ink"])
        axes.set_xlabel(_plain(chart.across), fontsize=9, color=known["quiet"])
        axes.tick_params(which="both", length=0, labelsize=8.5, labelcolor=known["quiet"])
        axes.grid(axis="y", color=known["faint"], linewidth=0.7)
        axes.spines[["top", "right", "left"]].set_visible(False)
        for line in chart.lines:
            dashes = (0, tuple(map(float, line.dashes.split()))) if line.dashes else "-"
            axes.plot(
                line.x, line.y, linestyle=dashes, color=known[line.colour], linewidth=0.8 if line.thin else 1.6,
                label=_plain(short(line.name, 60)) if line.name else None, marker="o" if len(line.x) == 1 else None,
            )  # fmt: skip
            marked = [(x, y) for x, y in zip(line.x, line.y, strict=True) if x == line.marked]
            axes.plot(*zip(*marked, strict=True), "o", color=known[line.colour]) if marked else None
        if chart.rule is not None:
            axes.axvline(chart.rule, color=known["quiet"], linewidth=0.8, linestyle=":")
        if chart.log_y:
            axes.set_yscale("log")
        if chart.log_x:
            axes.set_xscale("log")
        if chart.whole:
            low, high = axes.get_xlim()
            axes.set_xticks([tick for tick in ticks(low, high, False) if tick == round(tick)])
        if chart.names:
            axes.legend(frameon=False, labelcolor="linecolor", fontsize=8.5, handlelength=1.6)
    return figure


def _plain(text: str) -> str:
    """Return the text so that matplotlib takes no part of it for mathematics."""
    return text.replace("$", r"\$")
