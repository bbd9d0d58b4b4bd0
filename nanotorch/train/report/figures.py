"""The drawings of a run, by matplotlib: SVG that takes its colours from the page it stands in,
and the learning curve as PNG.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.report.markup import Html, fill
from nanotorch.train.terminal.text_report import label, number, short
from nanotorch.utils import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nanotorch.train.score.classification import Calibration

Record = Mapping[str, Any]

# What the page calls its colours, and what they are where there is no page. No two may be the same.
COLOURS = {
    "ink": "#222222",
    "quiet": "#666666",
    "faint": "#dddddd",
    "train": "#2f6db3",
    "validation": "#e0722f",
    "test": "#2a8f5b",
    "other": "#8a4fbf",
    "fifth": "#b8860b",
    "sixth": "#c2417c",
    "seventh": "#4a7a8c",
    "eighth": "#7a5c3e",
}
LINES = ("train", "validation", "test", "other", "fifth", "sixth", "seventh", "eighth")
PANEL = (4.7, 2.9)  # inches; the page scales it
MOST_POINTS = 1500  # of a scatter plot: each is a piece of the file


def matplotlib_is_there() -> bool:
    """Return whether figures can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


# ------------------------------------------------------------ figures of one run


def parts_by_epoch(history: Sequence[Record], name: str, best_epoch: int) -> Html:
    """Return a score of the training and the validation part over the epochs."""
    figure, axes = _panel()
    parts = _parts(history, name)
    _draw_parts(axes, history, name, best_epoch)
    ends = ", ".join(
        f"{part} from {_shown(history[0][f'{part}_{name}'])} to {_shown(history[-1][f'{part}_{name}'])}"
        for part in parts
    )
    return _svg(figure, f"{label(name)} over {len(history)} epochs: {ends}; the best epoch is {best_epoch}")


def value_by_epoch(history: Sequence[Record], key: str, title: str, logarithmic: bool = False) -> Html:
    """Return one value of the records over the epochs."""
    figure, axes = _panel()
    records = [record for record in history if record.get(key) is not None]
    epochs, values = [record["epoch"] for record in records], [record[key] for record in records]
    axes.plot(epochs, values, color=COLOURS["train"], linewidth=1.9, marker="o" if len(values) == 1 else None)
    if logarithmic and min(values) > 0 and max(values) / min(values) > 30:
        _logarithmic(axes)
    else:
        axes.set_ylim(bottom=0)
    _over_epochs(axes, epochs)
    _titled(axes, title)
    return _svg(
        figure,
        f"{title} over the epochs: from {_shown(values[0])} to {_shown(values[-1])}, at most {_shown(max(values))}",
    )


def confusion_map(matrix: NDArray[np.int64], part: str) -> Html:
    """Return a confusion matrix of many classes as shades, each row in shares of its class."""
    figure, axes = _panel((6.4, 6.0))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows, columns = np.nonzero(matrix)
    side = max(0.6, 330.0 / len(matrix)) ** 2
    for hit, colour in ((True, "train"), (False, "validation")):
        here = (rows == columns) == hit
        if not here.any():
            continue
        strength = 0.15 + 0.85 * shares[rows[here], columns[here]]
        axes.scatter(columns[here], rows[here], s=side, marker="s", c=COLOURS[colour], alpha=strength, linewidths=0)
    axes.set_xlim(-0.5, len(matrix) - 0.5)
    axes.set_ylim(len(matrix) - 0.5, -0.5)
    axes.set_aspect("equal")
    _titled(axes, "number of the true class", "number of the class that the model chose")
    share = np.trace(matrix) / max(matrix.sum(), 1)
    return _svg(
        figure,
        f"Confusion matrix of {len(matrix)} classes on the {part} part: {share:.1%} of the rows are on the diagonal",
    )


def predicted_versus_true(true: NDArray[Any], guessed: NDArray[Any], target: str) -> Html:
    """Return what the model says of each row against what is so; a good model stays on the diagonal."""
    figure, axes = _panel((4.2, 4.1))
    chosen = np.unique(np.linspace(0, len(true) - 1, min(len(true), MOST_POINTS)).astype(np.int64))
    low, high = (float(bound(np.concatenate([true, guessed]))) for bound in (np.min, np.max))
    room = 0.04 * ((high - low) or 1.0)
    low, high = low - room, high + room
    axes.plot([low, high], [low, high], color=COLOURS["quiet"], linewidth=1.0, zorder=2)
    size = 6.5 if len(chosen) < 60 else 4.5 if len(chosen) < 400 else 3.0
    axes.plot(true[chosen], guessed[chosen], "o", color=COLOURS["train"], alpha=0.5, markersize=size, mew=0, zorder=3)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    _titled(axes, f"predicted {short(target, 40)}", f"true {short(target, 40)}")
    every = "" if len(chosen) == len(true) else f", {len(chosen)} of them drawn"
    error = float(np.sqrt(np.mean((true - guessed) ** 2)))
    return _svg(
        figure,
        f"Predicted against true values of {target} for {len(true)} rows{every}: the typical error is {error:.4g}",
    )


def reliability(found: Calibration, of: str) -> Html:
    """Return how often came true what the model stated with a certain probability."""
    figure, axes = _panel((4.2, 4.1))
    axes.plot([0, 1], [0, 1], color=COLOURS["quiet"], linewidth=1.0, zorder=2)
    axes.plot(found.stated, found.observed, color=COLOURS["train"], linewidth=1.9, zorder=3)
    sizes = 18 + 170 * found.rows / found.rows.max()
    axes.scatter(
        found.stated, found.observed, s=sizes, color=COLOURS["train"], alpha=0.55, linewidths=0, zorder=4, clip_on=False
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    _titled(axes, "share that came true", f"stated probability of {short(of, 40)}")
    return _svg(
        figure, f"Calibration in {len(found.rows)} bins: the mean distance from the diagonal is {found.error:.4f}"
    )


# ------------------------------------------------------------ figures of several runs


def overlay(runs: Sequence[tuple[str, Sequence[Record]]], key: str) -> Html:
    """Return one value of the records of several runs over their epochs, as an element of a page."""
    figure, axes = _panel((4.7, 3.3 + 0.2 * len(runs)))
    title = _draw_runs(axes, runs, key)
    figure.legend(loc="outside lower left", frameon=False, labelcolor="linecolor", fontsize=9, handlelength=1.4)
    ends = ", ".join(f"{name} ends at {_shown(history[-1][key])}" for name, history in runs)
    return _svg(figure, f"{title} of {len(runs)} runs over their epochs: {ends}")


def save_overlay(path: Path, runs: Sequence[tuple[str, Sequence[Record]]], keys: Sequence[str]) -> None:
    """Values of the records of several runs over their epochs,
    beside one another in a file of the kind that its name says.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 * len(keys), 3.6 + 0.2 * len(runs)), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        _styled(axes)
        _draw_runs(axes, runs, key)
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(
        lines, names, loc="outside lower left", frameon=False, labelcolor="linecolor", fontsize=9.5, handlelength=1.4
    )
    with _any_letters(), files.writing(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)


def _draw_runs(axes: Axes, runs: Sequence[tuple[str, Sequence[Record]]], key: str) -> str:
    for place, (run, history) in enumerate(runs):
        epochs = [record["epoch"] for record in history]
        values = [record.get(key, np.nan) for record in history]
        style = ("-", "--", ":", "-.")[place // len(LINES) % 4]
        colour = COLOURS[LINES[place % len(LINES)]]
        marker = "o" if len(values) == 1 else None
        axes.plot(epochs, values, style, color=colour, linewidth=1.7, label=_plain(short(run, 60)), marker=marker)
    part, _, name = key.partition("_")
    every = [record[key] for _, history in runs for record in history if key in record]
    if name == "loss" and _spans_decades(every):
        _logarithmic(axes)
    _over_epochs(axes, [record["epoch"] for _, history in runs for record in history])
    title = f"{part} {label(name)}"
    _titled(axes, title)
    return title


# ------------------------------------------------------------ the PNG beside the page


def learning_curve(
    path: Path, history: Sequence[Record], metric: str, best_epoch: int, title: str, test_score: float
) -> None:
    """Draw loss and score of the training and the validation part over the epochs into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.8, bottom=0.115, wspace=0.17)
    best = [record["epoch"] for record in history].index(best_epoch)
    for axes, name in zip(panels, ("loss", metric), strict=True):
        _styled(axes)
        _draw_parts(axes, history, name, best_epoch)
    figure.text(0.015, 0.965, _plain(title), va="top", fontsize=14, fontweight="bold", color=COLOURS["ink"])
    validation = history[best].get(f"validation_{metric}")
    scored = "" if validation is None else f"validation {label(metric)} {number(validation)}, "
    summary = f"best epoch {best_epoch} of {len(history)}: {scored}test {label(metric)} {number(test_score)}"
    figure.text(0.015, 0.9, summary, va="top", fontsize=10, color=COLOURS["quiet"])
    with _any_letters(), files.writing(path, own=True) as file:
        figure.savefig(file, format="png")


# ------------------------------------------------------------ the parts of a drawing


def _panel(size: tuple[float, float] = PANEL) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="none")
    axes = figure.subplots()
    axes.set_facecolor("none")
    _styled(axes)
    return figure, axes


def _styled(axes: Axes) -> None:
    axes.tick_params(length=0, labelsize=9.5, labelcolor=COLOURS["quiet"])
    axes.grid(axis="y", color=COLOURS["faint"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(COLOURS["faint"])


def _titled(axes: Axes, title: str, across: str = "epoch") -> None:
    axes.set_title(_plain(title), loc="left", fontsize=10.5, color=COLOURS["ink"])
    axes.set_xlabel(_plain(across), fontsize=9.5, color=COLOURS["quiet"])


def _plain(text: str) -> str:
    """Return the text so that matplotlib takes no part of it for mathematics."""
    return text.replace("$", r"\$")


@contextmanager
def _any_letters() -> Iterator[None]:
    """Say nothing of letters that matplotlib's font has not; a browser has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def _draw_parts(axes: Axes, history: Sequence[Record], name: str, best_epoch: int) -> None:
    epochs = [record["epoch"] for record in history]
    if best_epoch in epochs:
        axes.axvline(best_epoch, color=COLOURS["faint"], linewidth=1.2, zorder=1)
    every = []
    for part in _parts(history, name):
        values = [record[f"{part}_{name}"] for record in history]
        every += values
        axes.plot(epochs, values, color=COLOURS[part], linewidth=1.9, label=part, zorder=3)
        if best_epoch in epochs:
            axes.plot(
                best_epoch, values[epochs.index(best_epoch)], "o", color=COLOURS[part], markersize=6.5, mew=0, zorder=4
            )
    if name == "loss" and _spans_decades(every):
        _logarithmic(axes)
    axes.margins(x=0.02, y=0.08)
    _over_epochs(axes, epochs)
    _titled(axes, label(name))
    axes.legend(frameon=False, labelcolor="linecolor", handlelength=1.4, fontsize=9.5)


def _parts(history: Sequence[Record], name: str) -> list[str]:
    return [
        part for part in ("train", "validation") if all(record.get(f"{part}_{name}") is not None for record in history)
    ]


def _over_epochs(axes: Axes, epochs: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    if len(set(epochs)) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _spans_decades(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > 30


def _shown(value: float) -> str:
    return f"{value:.4g}"


def _svg(figure: Figure, description: str) -> Html:
    """Return the figure as an element of a page: its colours are the page's,
    its text is text, and it says what it shows.
    """
    import hashlib
    from io import StringIO

    from matplotlib import rc_context

    file, nothing = StringIO(), {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nanotorch"}), _any_letters():
        figure.savefig(file, format="svg", metadata=nothing)
    drawing = file.getvalue()
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)
    assert size is not None
    inner = re.sub(r"<style.*?</style>", "", drawing[drawing.index(">", drawing.index("<svg")) + 1 :], flags=re.DOTALL)
    # Names within a drawing have to differ from those of the other drawings on the page.
    mark = "d" + hashlib.sha256((description + drawing).encode()).hexdigest()[:10]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', inner))
    inner = re.sub(r' id="([^"]+)"', lambda found: f' id="{mark}{found[1]}"' if found[1] in used else "", inner)
    inner = re.sub(r'(url\(#|(?:xlink:)?href="#)', lambda found: found[1].removeprefix("xlink:") + mark, inner)
    inner = re.sub(
        r"font(-family)?: ([^;\"]*?)'DejaVu Sans'[^;\"]*",
        lambda found: f"font{found[1] or ''}: {found[2]}sans-serif",
        inner,
    )
    for name, colour in COLOURS.items():
        inner = inner.replace(colour, f"var(--{name})")
    return fill(
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{description}" style="max-width: {most}pt">\n'
        "<title>{description}</title>{inner}",
        width=size[1],
        height=size[2],
        most=f"{1.25 * float(size[1]):g}",
        description=description,
        inner=Html(inner.rstrip()),
    )
