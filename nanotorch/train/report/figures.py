"""The drawings of a run: what each of them shows, as charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import spread_rows
from nanotorch.train.report.chart import SERIES, Chart, Dots, Line
from nanotorch.train.report.markup import Html
from nanotorch.train.score.judgement import rmse
from nanotorch.train.terminal.text_report import label, number, short
from nanotorch.viz.marks import element, hover, rect, text

if TYPE_CHECKING:
    from nanotorch.train.score.classification import Calibration
    from nanotorch.train.score.judgement import Curves

Record = Mapping[str, Any]

MOST_POINTS = 1500  # of a scatter plot: each is a piece of the file
MOST_CELLS = 10_000  # of a heat map
DASHES = ("", "6 3", "2 3", "7 3 2 3")  # of lines that have to share a colour


# ------------------------------------------------------------ figures of one run


def parts_by_epoch(history: Sequence[Record], name: str, best_epoch: int) -> Chart:
    """Return a score of the training and the validation part over the epochs."""
    epochs = [record["epoch"] for record in history]
    parts = [
        part for part in ("train", "validation") if all(record.get(f"{part}_{name}") is not None for record in history)
    ]
    values = {part: [record[f"{part}_{name}"] for record in history] for part in parts}
    ends = ", ".join(f"{part} from {_shown(each[0])} to {_shown(each[-1])}" for part, each in values.items())
    return Chart(
        label(name),
        "epoch",
        f"{label(name)} over {len(history)} epochs: {ends}; the best epoch is {best_epoch}",
        [Line(part, epochs, each, part, marked=best_epoch) for part, each in values.items()],
        rule=best_epoch if best_epoch in epochs else None,
        log_y=name == "loss" and _spans_decades([value for each in values.values() for value in each]),
        whole=True,
    )


def value_by_epoch(history: Sequence[Record], key: str, title: str, logarithmic: bool = False) -> Chart:
    """Return one value of the records over the epochs."""
    records = [record for record in history if record.get(key) is not None]
    epochs, values = [record["epoch"] for record in records], [record[key] for record in records]
    log = logarithmic and _spans_decades(values)
    return Chart(
        title,
        "epoch",
        f"{title} over the epochs: from {_shown(values[0])} to {_shown(values[-1])}, at most {_shown(max(values))}",
        [Line("", epochs, values)],
        low=None if log or min(values) < 0 else 0.0,
        log_y=log,
        whole=True,
    )


def learning_curve(history: Sequence[Record], judged: str, summary: Record) -> tuple[Sequence[Chart], str, str]:
    """Return loss and score of the training and the validation part over the epochs, with a title and a line below."""
    best_epoch, scores = summary["best_epoch"], summary["scores"]
    metric = list(scores[judged])[1]
    parts = [part for part in ("validation", "test") if part in scores]
    ends = ", ".join(f"{part} {label(metric)} {number(scores[part][metric])}" for part in parts)
    charts = [parts_by_epoch(history, name, best_epoch) for name in ("loss", metric)]
    return charts, summary["name"], f"best epoch {best_epoch} of {len(history)}: {ends}"


def predicted_versus_true(true: NDArray[Any], guessed: NDArray[Any], target: str) -> Chart:
    """Return what the model says of each row against what is so; a good model stays on the diagonal."""
    chosen = spread_rows(len(true), MOST_POINTS)
    low, high = (float(bound(np.concatenate([true, guessed]))) for bound in (np.min, np.max))
    room = 0.04 * ((high - low) or abs(high) or 1.0)
    low, high = low - room, high + room
    every = "" if len(chosen) == len(true) else f", {len(chosen)} of them drawn"
    error = rmse(true, guessed)
    radius = 3.5 if len(chosen) < 60 else 2.6 if len(chosen) < 400 else 1.8
    return Chart(
        f"predicted {short(target, 32)}",
        f"true {short(target, 36)}",
        f"Predicted against true values of {target} for {len(true)} rows{every}: the typical error is {error:.4g}",
        [Line("", [low, high], [low, high], "quiet", thin=True)],
        [
            Dots(
                true[chosen].tolist(),
                guessed[chosen].tolist(),
                [radius] * len(chosen),
                [f"true {a:.4g}, predicted {b:.4g}" for a, b in zip(true[chosen], guessed[chosen], strict=True)],
            )
        ],
        span=(low, high),
    )


def residuals(true: NDArray[Any], guessed: NDArray[Any], target: str) -> Chart:
    """Return how far each prediction is off, over what was predicted."""
    chosen = spread_rows(len(true), MOST_POINTS)
    at, off = guessed[chosen].tolist(), (true - guessed)[chosen].tolist()
    return Chart(
        f"true minus predicted {short(target, 20)}",
        f"predicted {short(target, 36)}",
        f"Residuals of {target} over its predicted values: from {min(off):.4g} to {max(off):.4g}",
        [Line("", [min(at), max(at)], [0.0, 0.0], "quiet", thin=True)],
        [Dots(at, off, [2.6 if len(chosen) < 400 else 1.8] * len(chosen), [f"off by {value:.4g}" for value in off])],
    )


def roc(found: Curves, of: str) -> Chart:
    """Return how many rows of the second class are found at the price of how many false alarms."""
    return _curve(
        "true positives",
        f"false positives, of {short(of, 30)}",
        f"ROC curve: the area under it is {found.auc:.4f}",
        [0.0, *found.false_positives.tolist()],
        [0.0, *found.true_positives.tolist()],
        found,
        Line("", [0, 1], [0, 1], "quiet", thin=True),
    )


def precision_recall(found: Curves, of: str, base: float) -> Chart:
    """Return which share of the rows that are called the second class is, at the price of how many that are missed."""
    return _curve(
        "precision",
        f"recall, of {short(of, 36)}",
        f"Precision over recall: the average precision is {found.average_precision:.4f}",
        [0.0, *found.true_positives.tolist()],
        [float(found.precision[0]), *found.precision.tolist()],
        found,
        Line("", [0, 1], [base, base], "quiet", thin=True),
    )


def _curve(title: str, across: str, said: str, x: list[float], y: list[float], found: Curves, chance: Line) -> Chart:
    chosen = np.unique(np.linspace(1, len(x) - 1, min(len(x) - 1, 60)).astype(int)).tolist()
    names = [
        f"from {found.thresholds[k - 1]:.3f} on: {across.split(',')[0]} {x[k]:.3f}, {title} {y[k]:.3f}" for k in chosen
    ]
    dots = Dots([x[k] for k in chosen], [y[k] for k in chosen], [2.0] * len(chosen), names)
    return Chart(title, across, said, [chance, Line("", x, y)], [dots], span=(0.0, 1.0))


def reliability(found: Calibration, of: str) -> Chart:
    """Return how often came true what the model stated with a certain probability."""
    stated, observed, rows = (values.tolist() for values in (found.stated, found.observed, found.rows))
    return Chart(
        "share that came true",
        f"stated probability of {short(of, 30)}",
        f"Calibration in {len(rows)} bins: the mean distance from the diagonal is {found.error:.4f}",
        [Line("", [0, 1], [0, 1], "quiet", thin=True), Line("", stated, observed)],
        [
            Dots(
                stated,
                observed,
                [2.5 + 7 * math.sqrt(count / max(rows)) for count in rows],
                [
                    f"stated {a:.1%}, came true {b:.1%} of {count:,} rows"
                    for a, b, count in zip(stated, observed, rows, strict=True)
                ],
            )
        ],
        span=(0.0, 1.0),
    )


def confusion_map(matrix: NDArray[np.int64], part: str, names: Sequence[str]) -> Html:
    """Return a confusion matrix of many classes as shades, each row in shares of its class."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows, columns = np.nonzero(matrix)
    if len(rows) > MOST_CELLS:
        largest = np.argsort(-matrix[rows, columns], kind="stable")[:MOST_CELLS]
        rows, columns = rows[largest], columns[largest]
    left, top, size = 34, 22, 356
    side = size / len(matrix)
    cells = [
        rect(
            left + across * side,
            top + down * side,
            max(side - 0.5, 2.0),
            max(side - 0.5, 2.0),
            hover(f"{short(names[down], 40)} called {short(names[across], 40)}: {matrix[down, across]:,} rows"),
            class_=f"cell {'train' if down == across else 'validation'}",
            fill_opacity=f"{0.35 + 0.65 * shares[down, across]:.2f}",
        )
        for down, across in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    marks = [k for k in range(0, len(matrix), max(1, round(len(matrix) / 50) * 10))]
    drawn = [text(0, 12, "number of the true class", class_="title")]
    for k in marks:
        drawn.append(text(left - 6, top + (k + 0.5) * side + 4, str(k), text_anchor="end"))
        drawn.append(text(left + (k + 0.5) * side, top + size + 16, str(k), text_anchor="middle"))
    drawn.append(
        text(left + size / 2, top + size + 32, "number of the class that the model chose", text_anchor="middle")
    )
    frame = rect(left, top, size, size, class_="grid", fill="none")
    share = np.trace(matrix) / max(matrix.sum(), 1)
    most = "" if len(cells) == np.count_nonzero(matrix) else f"; the {len(cells):,} largest of its cells are drawn"
    return Html(
        element(
            "svg",
            frame,
            *cells,
            *drawn,
            class_="chart",
            viewBox="0 0 400 418",
            role="img",
            aria_label=f"Confusion matrix of {len(matrix)} classes on the {part} part: {share:.1%} of the rows are on"
            f" the diagonal{most}",
            style="max-width: 460px",
        )
    )


# ------------------------------------------------------------ figures of several runs


def overlay(runs: Sequence[tuple[str, Sequence[Record]]], key: str) -> Chart:
    """Return one value of the records of several runs over their epochs."""
    part, _, name = key.partition("_")
    lines = [
        Line(
            run,
            [record["epoch"] for record in history],
            [record.get(key, math.nan) for record in history],
            SERIES[place % len(SERIES)],
            DASHES[place // len(SERIES) % len(DASHES)],
        )
        for place, (run, history) in enumerate(runs)
    ]
    every = [record[key] for _, history in runs for record in history if key in record]
    title = f"{part} {label(name)}"
    ends = ", ".join(f"{short(run, 60)} ends at {_shown(history[-1][key])}" for run, history in runs)
    return Chart(
        title,
        "epoch",
        f"{title} of {len(runs)} runs over their epochs: {ends}",
        lines,
        log_y=name == "loss" and _spans_decades(every),
        whole=True,
        below=True,
    )


def mean_of_runs(runs: Sequence[Sequence[Record]], name: str) -> Chart:
    """Return the mean of a score over the epochs of several runs, and as a band by how much these differ."""
    lines, ends, longest = [], [], max(len(history) for history in runs)
    for part in ("train", "validation"):
        key, epochs, means, spreads = f"{part}_{name}", [], [], []
        for place in range(longest):
            values = [history[place].get(key) for history in runs if len(history) > place]
            found = np.array([value for value in values if value is not None and math.isfinite(value)])
            if len(found):
                epochs.append(place + 1)
                means.append(float(found.mean()))
                spreads.append(float(found.std(ddof=1)) if len(found) > 1 else 0.0)
        if means:
            lines.append(Line(part, epochs, means, part, band=spreads))
            ends.append(f"{part} from {_shown(means[0])} to {_shown(means[-1])}")
    return Chart(
        label(name),
        "epoch",
        f"Mean {label(name)} of {len(runs)} runs over their epochs, with the standard deviation as a band:"
        f" {', '.join(ends)}",
        lines,
        whole=True,
    )


def _spans_decades(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > 30


def _shown(value: float) -> str:
    return f"{value:.4g}"
