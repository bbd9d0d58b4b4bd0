"""What is left to look at after a run: the final table and the learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["learning_curve", "number", "table"]

TRAIN, VALIDATION = "#2f6db3", "#e0722f"
DARK, QUIET, FAINT = "#222222", "#666666", "#dddddd"
LABELS = {"accuracy": "accuracy", "r2": "R2", "loss": "loss", "rmse": "RMSE"}


def table(scores: Mapping[str, Mapping[str, float]], rows: Mapping[str, int]) -> str:
    """The scores of every part of the data as aligned text.

    >>> print(table({"train": {"loss": 0.02, "accuracy": 1.0}, "test": {"loss": 0.1, "accuracy": 0.975}},
    ...             rows={"train": 120, "test": 40}))
           rows    loss  accuracy
    train   120  0.0200    1.0000
    test     40  0.1000    0.9750
    """
    names = list(next(iter(scores.values())))
    lines = [["", "rows", *(label(name) for name in names)]]
    for part, values in scores.items():
        lines.append([part, str(rows[part]), *(number(values[name]) for name in names)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    )


def number(value: float) -> str:
    """A score with four decimals; one of 100,000 or more, as a loss that explodes is, in powers of ten.

    >>> number(0.25), number(123456789.0)
    ('0.2500', '1.2346e+08')
    """
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4e}"


def label(name: str) -> str:
    """A score's name as people write it: `rmse_Weight` is "RMSE Weight"."""
    kind, _, target = name.partition("_")
    return f"{LABELS.get(kind, kind)} {target}".strip()


def learning_curve(
    path: Path,
    history: Sequence[Mapping[str, Any]],
    metric: str,
    best_epoch: int,
    title: str,
    test_score: float,
) -> None:
    """Draw loss and score of the training and the validation part over the epochs into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    figure = Figure(figsize=(9.6, 4.2), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.8, bottom=0.115, wspace=0.17)
    epochs = [record["epoch"] for record in history]
    best = epochs.index(best_epoch)
    for axes, name in zip(panels, ("loss", metric), strict=True):
        axes.axvline(best_epoch, color=FAINT, linewidth=1.2, zorder=1)
        for part, color in (("train", TRAIN), ("validation", VALIDATION)):
            values = [record[f"{part}_{name}"] for record in history]
            axes.plot(epochs, values, color=color, linewidth=1.9, label=part, zorder=3)
            axes.plot(best_epoch, values[best], "o", color=color, markersize=6.5, mec="white", zorder=4)
        if name == "loss" and _spans_decades(history):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        if len(epochs) == 1:
            axes.set_xlim(0, 2)
        axes.margins(x=0.02, y=0.08)
        axes.set_title(label(name), loc="left", fontsize=10.5, color=DARK)
        axes.set_xlabel("epoch", fontsize=9.5, color=QUIET)
        axes.tick_params(length=0, labelsize=9.5, labelcolor=QUIET)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)
        axes.legend(frameon=False, labelcolor="linecolor", handlelength=1.4, fontsize=9.5)
    figure.text(0.015, 0.965, title, va="top", fontsize=14, fontweight="bold", color=DARK)
    validation_score = history[best][f"validation_{metric}"]
    summary = (
        f"best epoch {best_epoch} of {len(history)}: validation {label(metric)} {number(validation_score)}, "
        f"test {label(metric)} {number(test_score)}"
    )
    figure.text(0.015, 0.9, summary, va="top", fontsize=10, color=QUIET)
    figure.savefig(path)


def _spans_decades(history: Sequence[Mapping[str, Any]]) -> bool:
    losses = [record[f"{part}_loss"] for record in history for part in ("train", "validation")]
    return min(losses) > 0 and max(losses) / min(losses) > 30
