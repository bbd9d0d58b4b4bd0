"""Scores of all parts, and how training went."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nanotorch.train.report import figures, verdict
from nanotorch.train.report.chart import inline
from nanotorch.train.report.markup import Html, facts, figure, figures_beside, fill, table
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections.pieces import Record, abbreviated
from nanotorch.train.terminal.text_report import duration, label, number

LONGEST_SCORE = 30


def scores(found: Findings, record: Record) -> Iterator[Html]:
    """Give the scores of each part, and their course."""
    summary, best = record.summary, record.summary["best_epoch"]
    names = list(summary["scores"][found.judged])
    rows = [[part, len(found.parts[part]), *map(scores.get, names)] for part, scores in summary["scores"].items()]
    heads = ["part", "rows", *(abbreviated(label(name), LONGEST_SCORE) for name in names)]
    yield table(f"The model of epoch {best}, the best of {summary['epochs']}", heads, rows)
    then = next((line for line in record.history if line["epoch"] == best), {})
    drawings = []
    for name in record.metrics:
        values = [
            f"{part} {number(then[key])}"
            for part in ("train", "validation")
            if then.get(key := f"{part}_{name}") is not None
        ]
        caption = f"At epoch {best}, the best: {', '.join(values)}."
        drawings.append(figure(inline(figures.parts_by_epoch(record.history, name, best)), caption))
    read = verdict.reading(record.history)
    if read:
        yield fill("<p>{read}</p>", read=read)
    yield figures_beside(drawings)
    yield Html(
        '<p class="small">During an epoch the training part is scored while weights still change and dropout is on.</p>'
    )


def training(found: Findings, record: Record) -> Iterator[Html]:
    """Give what training cost."""
    summary, history = record.summary, record.history
    seconds = [record["seconds"] for record in history]
    spent = sum(seconds)
    rows = len(found.parts["train"]) * len(history)
    yield facts(
        [
            ("optimizer steps", f"{summary['steps']:,}"),
            *(
                [("steps left out (not finite)", f"{summary['skipped_steps']:,}")]
                if summary.get("skipped_steps")
                else []
            ),
            ("whole run", duration(summary["seconds"])),
            ("epochs, validation included", duration(spent)),
            ("an epoch, median", duration(float(np.median(seconds)))),
            ("training rows per second", f"{rows / spent:,.0f}" if spent else ""),
        ]
    )
    curves = [("learning_rate", "learning rate", "The learning rate with which each epoch began.", False)]
    if any(record.get("gradient_norm") is not None for record in history):
        curves.append(
            (
                "gradient_norm",
                "gradient norm",
                "The norm of all gradients, before clipping; the mean of the epoch's readings.",
                True,
            )
        )
    curves.append(("seconds", "seconds per epoch", "How long each epoch took, validation included.", False))
    yield figures_beside(
        [
            figure(inline(figures.value_by_epoch(history, key, title, log)), caption)
            for key, title, caption, log in curves
        ]
    )
