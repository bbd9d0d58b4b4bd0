"""What a model of several targets of classes gets right and wrong (Note [Several targets of classes])."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nanotorch.train.report import figures
from nanotorch.train.report.chart import inline
from nanotorch.train.report.markup import Html, beside, figure, figures_beside, fill, join, percent, table, titled
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections.pieces import OPEN_COLUMNS
from nanotorch.train.report.sections.predictions import MOST_TARGETS, coverage, matrix
from nanotorch.train.score import classification, conformal, judgement
from nanotorch.train.terminal.text_report import counted, number, short

MOST_CURVES = 6  # labels of which curves are drawn


def labels(found: Findings) -> Iterator[Html]:
    """Give how well each target is found, of those of two classes at every threshold too."""
    together, rows = int(found.right.sum()), len(found.true)
    yield fill(
        "<p>Of the {rows} rows of the {part} part the model calls {all} right in all of {count}, and it gives {share}"
        " of the single answers right.</p>",
        rows=f"{rows:,}",
        part=found.judged,
        all=f"{together:,}",
        count=counted(len(found.names), "target"),
        share=percent(float((found.true == found.guessed).mean())),
    )
    heads = ["target", "classes", "right", "most frequent class", "balanced accuracy", "mean F1"]
    lines = [
        [one.name, one.classes, percent(one.accuracy), percent(one.most_frequent), one.balanced_accuracy, one.f1]
        for one in found.targets
    ]
    yield titled("Every target", _folded(f"On the {found.judged} part", heads, lines, "targets"))
    yield from _of_two_classes(found)
    yield from _matrices(found)
    yield from _sets(found)


def _folded(caption: str, heads: list[str], lines: list[list[Any]], what: str) -> Html:
    content = table(caption, heads, lines)
    if len(lines) <= OPEN_COLUMNS:
        return content
    folded = "<details><summary>{count} {what}</summary>{content}</details>"
    return fill(folded, count=len(lines), what=what, content=content)


def _of_two_classes(found: Findings) -> Iterator[Html]:
    """Give the second class of each target of two: how well it is found, and its curves."""
    lines: list[list[Any]] = []
    drawings, counts = list[Html](), list[list[int]]()
    for k, (name, classes) in enumerate(zip(found.names, found.several, strict=True)):
        if len(classes) != 2:
            continue
        true, called, stated = found.true[:, k] == 1, found.guessed[:, k] == 1, found.stated[:, k]
        score = classification.class_scores(found.true[:, k], found.guessed[:, k], classes)[1]
        counts.append([int((true & called).sum()), int((called & ~true).sum()), int((true & ~called).sum())])
        areas: list[Any] = [None, None]
        if 0 < true.sum() < len(true):
            curves, what = judgement.curves(stated, true), f"{name}={classes[1]}"
            areas = [curves.auc, curves.average_precision]
            if len(drawings) < 2 * MOST_CURVES:
                share, area = number(float(true.mean())), number(curves.average_precision)
                of = f"{short(name, 40)}: area under the curve {number(curves.auc)}; one half is chance."
                below = f"{short(name, 40)}: average precision {area}; chance is {share}."
                drawings += [
                    figure(inline(figures.roc(curves, what)), of),
                    figure(inline(figures.precision_recall(curves, what, float(true.mean()))), below),
                ]
        error = classification.calibration(stated, true).error
        lines.append([f"{name}={classes[1]}", *score[1:4], *areas, error, score.support])
    if not lines:
        return
    scores = np.array([line[1:4] for line in lines], np.float64)
    hits, alarms, missed = np.sum(counts, axis=0).tolist()
    micro = [hits / max(hits + of, 1) for of in (alarms, missed)]
    last = [None] * 3
    lines.append(["macro mean", *scores.mean(axis=0).tolist(), *last, hits + missed])
    lines.append(["micro mean", *micro, 2 * hits / max(2 * hits + alarms + missed, 1), *last, hits + missed])
    heads = ["label", "precision", "recall", "F1", "ROC AUC", "average precision", "calibration error", "rows"]
    yield titled("Labels", _folded(f"The second of two classes, on the {found.judged} part", heads, lines, "labels"))
    if drawings:
        yield figures_beside(drawings)


def _matrices(found: Findings) -> Iterator[Html]:
    """Give the confusion matrices of the targets of more than two classes."""
    many = [k for k, classes in enumerate(found.several) if len(classes) > 2]
    if not many:
        return
    pieces = []
    for k in many[:MOST_TARGETS]:
        counts = classification.confusion(found.true[:, k], found.guessed[:, k], len(found.several[k]))
        pieces.append(
            join([fill("<h4>{name}</h4>", name=found.names[k]), matrix(counts, found.several[k], found.judged)])
        )
    yield titled("Confusion matrices", beside(*pieces))
    if len(many) > MOST_TARGETS:
        yield fill("<p>The first {count} of {all} targets are shown.</p>", count=MOST_TARGETS, all=len(many))


def _sets(found: Findings) -> Iterator[Html]:
    """Give how often the sets of classes of each target hold the true one (Note [Conformal prediction])."""
    if found.judged != "test":
        return
    lines = []
    for j, level in enumerate(conformal.LEVELS):
        limits = conformal.limits(found.held_out, level)
        if np.isinf(limits).any():
            continue
        for k, name in enumerate(found.names[:MOST_TARGETS]):
            inside = (1 - found.chances[:, k] <= limits[k]) | (found.guessed[:, k] == found.true[:, k])
            hits, sizes = int(inside.sum()), found.sizes[:, k, j]
            alone = percent(float((sizes == 1).mean()))
            lines.append([name, f"{level:.0%}", *coverage(hits, len(found.true)), float(sizes.mean()), alone])
    if lines:
        text = (
            f"What classes may a row have? By {counted(len(found.held_out), 'row')} of the validation part, these sets"
            " hold the true class of one target as often as they say, or more often; those of all targets at once hold"
            " all true classes less often. <code>predict --interval</code> gives them for new rows."
        )
        heads = ["target", "asked for", "holds the class", "from", "to", "classes in a set", "sets of one class"]
        yield titled("Sets of classes", Html(f"<p>{text}</p>"), table("On the test part", heads, lines))
