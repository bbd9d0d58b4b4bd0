"""What the model gets right and wrong on the rows that it is judged by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.report import figures
from nanotorch.train.report.chart import inline
from nanotorch.train.report.markup import (
    Html,
    beside,
    figure,
    figures_beside,
    fill,
    join,
    measured,
    percent,
    table,
    titled,
)
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections.pieces import MOST_CLASSES, OPEN_COLUMNS, abbreviated, exact
from nanotorch.train.score import classification, conformal, judgement
from nanotorch.train.terminal.text_report import counted, number, short

MOST_DRAWN = 2000  # classes of a confusion matrix that is drawn
MOST_CELLS = 20  # classes of a confusion matrix that is shown in numbers; one of more classes is drawn
MOST_TARGETS = 12
MOST_WORST = 10  # classes
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LONGEST_NAME = 14  # of a class, over its column of the confusion matrix


def classes(found: Findings) -> Iterator[Html]:
    """Give what a classifier takes for what, and how far its probabilities can be believed."""
    judged, names = found.judged, found.names
    right, rows = int(found.right.sum()), len(found.true)
    yield fill(
        "<p>Of the {rows} rows of the {part} part the model calls {right} by their class and {wrong} by another.</p>",
        rows=f"{rows:,}",
        part=judged,
        right=f"{right:,}",
        wrong=f"{rows - right:,}",
    )
    pieces = [matrix(found.confusion, names, judged)]
    frequent = classification.confusions(found.true, found.guessed, names, 10)
    if frequent and len(names) > 2:
        pieces.append(table("Most frequent mistakes", ["class", "called", "rows"], frequent))
    yield titled("Confusion matrix", beside(*pieces))
    shown = (
        found.classes
        if len(names) <= MOST_CLASSES
        else sorted(found.classes, key=lambda score: score.f1)[:MOST_CLASSES]
    )
    note = "" if len(shown) == len(names) else f": the {len(shown)} with the smallest F1 of {len(names)}"
    mean = [
        "mean",
        *(sum(values) / len(names) for values in zip(*(score[1:4] for score in found.classes), strict=True)),
        rows,
    ]
    heads = ["class", "precision", "recall", "F1", "rows"]
    content = table(f"On the {judged} part{note}", heads, [*map(list, shown), mean])
    if len(shown) > OPEN_COLUMNS:
        worst = sorted(found.classes, key=lambda score: score.f1)[:MOST_WORST]
        first = table(f"On the {judged} part: the {MOST_WORST} with the smallest F1", heads, [*map(list, worst), mean])
        folded = "<details><summary>{count} classes</summary>{content}</details>"
        content = join([first, fill(folded, count=len(shown), content=content)])
    pieces = [titled("Every class", content)]
    stated = fill(
        "<p>The class that the model chooses has a stated probability of {stated} on average, and is right in {share}"
        " of the rows. The expected calibration error, in ten bins, is {error}.</p>",
        stated=exact(float(found.certainty.mean())),
        share=exact(right / rows),
        error=exact(found.calibration.error),
    )
    of = names[1] if len(names) == 2 else "the chosen class"
    caption = (
        f"Stated probability of {of} against how often it came true; a larger dot has more rows. On the diagonal"
        " the probabilities can be taken at their word; below it the model is too sure, above it too careful."
    )
    before = []
    if found.untempered is not None:
        temperature, stated_before, chances = found.untempered
        losses = [float(-np.log(np.maximum(each, 1e-300)).mean()) for each in (chances, found.chances)]
        errors = [found.calibration_of(each).error for each in (stated_before, found.stated)]
        before.append(
            fill(
                "<p>Logits are divided by {temperature}, the temperature that suits the validation part best. On the"
                " {part} part that takes the expected calibration error from {before} to {after}, and the mean of minus"
                " the logarithm of the probability of the true class from {worse} to {better}.</p>",
                temperature=exact(temperature),
                part=judged,
                before=exact(errors[0]),
                after=exact(errors[1]),
                worse=exact(losses[0]),
                better=exact(losses[1]),
            )
        )
    drawing = figure(inline(figures.reliability(classification.merged(found.calibration), of)), caption)
    yield beside(*pieces, titled("Calibration", stated, *before, drawing))
    yield from _sets(found)
    if len(names) == 2:
        yield _thresholds(found)


def _thresholds(found: Findings) -> Html:
    """Return what a classifier of two classes does at other thresholds than one half."""
    positive = found.true == 1
    if not 0 < positive.sum() < len(positive):
        return Html("")
    curves, name = judgement.curves(found.stated, positive), found.names[1]
    rows: list[list[Any]] = []
    for threshold in THRESHOLDS:
        called = found.stated >= threshold
        hits = int((called & positive).sum())
        precision, recall = hits / int(called.sum()) if called.any() else None, hits / int(positive.sum())
        f1 = 2 * hits / (int(called.sum()) + int(positive.sum()))
        alarms = float((called & ~positive).sum() / (~positive).sum())
        rows.append([f"{threshold:g}", int(called.sum()), precision, recall, f1, alarms])
    caption = f"Calling a row {short(name, 40)} from a stated probability on; the model calls it so from 0.5"
    heads = ["threshold", "rows called so", "precision", "recall", "F1", "false alarms"]
    drawings = [
        figure(
            inline(figures.roc(curves, name)),
            f"Area under the curve: {number(curves.auc)}; one half is chance. Each point is a threshold.",
        ),
        figure(
            inline(figures.precision_recall(curves, name, float(positive.mean()))),
            f"Average precision: {number(curves.average_precision)}; chance is {number(float(positive.mean()))}.",
        ),
    ]
    return titled("Thresholds", figures_beside(drawings), table(caption, heads, rows))


def matrix(counts: NDArray[np.int64], names: Sequence[str], part: str) -> Html:
    """Return a confusion matrix as a table, as a drawing where there are many classes."""
    if len(names) <= MOST_CELLS:
        return _confusion_table(counts, names)
    if len(names) > MOST_DRAWN:
        return fill(
            '<p class="note">The matrix of {count} classes is not drawn: {most} are the most.</p>',
            count=f"{len(names):,}",
            most=f"{MOST_DRAWN:,}",
        )
    caption = "Rows by their class (down) and the class that the model chose (across)."
    return figure(figures.confusion_map(counts, part, names), caption)


def _confusion_table(matrix: NDArray[np.int64], names: Sequence[str]) -> Html:
    rows = []
    for k, name in enumerate(names):
        total = max(int(matrix[k].sum()), 1)
        cells = []
        for j, count in enumerate(matrix[k].tolist()):
            kind = "none" if not count else "right" if j == k else "wrong"
            style = Html(f' style="--share: {count / total:.3f}"' if count else "")
            cells.append(fill('<td class="{kind}"{style}>{count}</td>', kind=kind, style=style, count=f"{count:,}"))
        rows.append([name, *cells])
    heads = [abbreviated(name, LONGEST_NAME) for name in names]
    return table(
        "Rows by their class (down) and the class that the model chose (across)", ["", *heads], rows, "confusion"
    )


def numbers(found: Findings) -> Iterator[Html]:
    """Give how far a regression is off."""
    guessed, true = found.values, found.true
    rows = []
    for k, name in enumerate(found.names):
        error = guessed[:, k] - true[:, k]
        spread = float(((true[:, k] - true[:, k].mean()) ** 2).sum())
        r2 = 1 - float((error**2).sum()) / spread if np.ptp(true[:, k]) else None
        sizes = (
            judgement.rmse(true[:, k], guessed[:, k]),
            float(np.abs(error).mean()),
            float(error.mean()),
            float(np.abs(error).max()),
        )
        rows.append([name, r2, *map(measured, sizes)])
    heads = ["target", "R2", "RMSE", "mean absolute error", "mean error", "largest error"]
    yield table(f"Errors on the {found.judged} part, in the units of the targets", heads, rows)
    caption = f"Each dot is a row of the {found.judged} part; on the line the prediction is right."
    left = "What is left: a pattern in it, or one side that spreads more, is what the model has not learnt."
    yield figures_beside(
        [
            figure(inline(draw(true[:, k], guessed[:, k], name)), said)
            for k, name in enumerate(found.names[:MOST_TARGETS])
            for draw, said in ((figures.predicted_versus_true, caption), (figures.residuals, left))
        ]
    )
    yield from _intervals(found)
    if len(found.names) > MOST_TARGETS:
        yield fill("<p>The first {count} of {all} targets are drawn.</p>", count=MOST_TARGETS, all=len(found.names))


def _sets(found: Findings) -> Iterator[Html]:
    """Give how large sets of classes are that hold the true one, and how often they do."""
    if found.judged != "test":
        return
    rows = []
    for k, level in enumerate(conformal.LEVELS):
        limit, sizes = float(conformal.limits(found.held_out, level)[0]), found.sizes[:, k]
        if math.isinf(limit):
            continue
        ends = coverage(int(((1 - found.chances <= limit) | found.right).sum()), len(found.true))
        rows.append([f"{level:.0%}", *ends, float(sizes.mean()), percent(float((sizes == 1).mean()))])
    if rows:
        text = (
            f"What classes may a row have? By {counted(len(found.held_out), 'row')} of the validation part, these sets"
            " hold the true class as often as they say, or more often: the class that the model calls always is in its"
            " set. <code>predict --interval</code> gives them for new rows."
        )
        heads = ["asked for", "holds the class", "from", "to", "classes in a set", "sets of one class"]
        yield titled("Sets of classes", Html(f"<p>{text}</p>"), table("On the test part", heads, rows))


def coverage(hits: int, rows: int) -> list[Html]:
    """Return the share of rows that are held, and the ends of its interval."""
    return list(map(percent, judgement.share(hits, rows)))


def _intervals(found: Findings) -> Iterator[Html]:
    """Give how wide intervals are that hold the truth, and how often they do."""
    if found.judged != "test":
        return
    rows: list[list[Any]] = []
    for level in conformal.LEVELS:
        limits = conformal.limits(found.held_out, level)
        if np.isinf(limits).any():
            continue
        for k, name in enumerate(found.names[:MOST_TARGETS]):
            inside = int((np.abs(found.values[:, k] - found.true[:, k]) <= limits[k]).sum())
            rows.append([name, f"{level:.0%}", measured(float(limits[k])), *coverage(inside, len(found.true))])
    if rows:
        text = (
            f"How far off is a prediction? By {counted(len(found.held_out), 'row')} of the validation part, the truth"
            " is at most so far above or below it; <code>predict --interval</code> gives the ends for new rows."
        )
        heads = ["target", "asked for", "plus or minus", "holds the truth", "from", "to"]
        yield titled("Intervals", Html(f"<p>{text}</p>"), table("On the test part", heads, rows))
