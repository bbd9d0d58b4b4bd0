"""`report.html`: everything about a run on one page that needs no network, no script, and nothing beside itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from nanotorch.train.config.strict_yaml import LARGEST_FILE
from nanotorch.train.report import figures, pictures, verdict
from nanotorch.train.report.markup import Html, chapters, document, fill, join
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections import columns, data, facts, predictions, rows, several_targets, training
from nanotorch.train.report.sections.pieces import Record, exact
from nanotorch.train.terminal.text_report import counted, duration, label
from nanotorch.utils import files


def write(
    directory: Path,
    found: Findings,
    history: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> list[Path]:
    """Write `report.html` and `learning_curve.svg`; what cannot be written is said on stderr. Returns what is there.

    Args:
        directory: the run's.
        found: what there is to tell of data, model and predictions.
        history: the record of every epoch.
        summary: what `summary.json` will hold.
        environment: what `env.json` holds.
    """
    source = None
    with suppress(OSError):
        source = files.read_own(directory / "config.yaml", LARGEST_FILE).decode("utf-8", "replace")
    record = Record(directory, source, history, summary, environment)
    drawing, report = directory / "learning_curve.svg", directory / "report.html"
    try:
        pictures.save(drawing, *figures.learning_curve(history, found.judged, summary), own=True)
        with np.errstate(all="ignore"):  # values near the largest overflow where they are squared
            files.write(report, page(found, record), own=True)
        return [report, drawing]
    except OSError as error:
        print(f"warning: {error.filename or report} cannot be written ({error.strerror})", file=sys.stderr)
    except (
        ArithmeticError,
        MemoryError,
        RuntimeError,
        ValueError,
    ) as error:  # numbers that cannot be drawn are no reason to lose a run
        print(f"warning: {report} cannot be made ({type(error).__name__}: {error})", file=sys.stderr)
    return []


def judge(found: Findings) -> list[str]:
    """Return how good the model is, in sentences, of numbers that cannot be counted with too."""
    try:
        with np.errstate(all="ignore"):
            return verdict.verdict(found)
    except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        return [f"How good the model is cannot be said ({type(error).__name__}: {error})."]


def page(found: Findings, record: Record) -> Html:
    """Return the page as HTML."""
    worths, looked = verdict.column_worths(found)
    mistakes = [
        *(
            several_targets.labels
            if found.several
            else predictions.numbers
            if found.is_regression
            else predictions.classes
        )(found),
        rows.worst(found, worths),
        *rows.disagreement(found, worths),
    ]
    sections = {
        "scores": ("Scores", training.scores(found, record)),
        "mistakes": ("Predictions", mistakes),
        "columns": ("Columns", columns.columns(found, worths, looked)),
        "data": ("Data", data.data(found)),
        "model": ("Model", facts.model(found)),
        "training": ("Training", training.training(found, record)),
        "config": ("Configuration", facts.config(found, record)),
        "environment": ("Environment", facts.environment(record)),
    }
    body = join(
        [
            _header(found, record),
            chapters(sections),
            fill("<footer>Written by nanotorch {version}.</footer>", version=record.environment.get("nanotorch", "")),
        ]
    )
    return document(f"{record.summary['name']}: report", body)


def _header(found: Findings, record: Record) -> Html:
    summary, judged = record.summary, found.judged
    kind = {"binary": "classification, 2 classes", "multiclass": f"classification, {len(found.names)} classes"}
    if found.several:
        classes = f"classes, {sum(map(len, found.several))} in all"
        kind[found.preprocessing.task] = f"classification, {len(found.names)} targets of {classes}"
    task = kind.get(found.preprocessing.task, f"regression, {counted(len(found.names), 'target')}")
    tiles: list[tuple[str, Any]] = [
        (f"{judged} {label(name)}", exact(value)) for name, value in list(summary["scores"][judged].items())[:2][::-1]
    ]
    tiles += [
        ("best epoch", f"{summary['best_epoch']} of {summary['epochs']}"),
        ("parameters", f"{summary['parameters']:,}"),
        ("rows", f"{sum(len(part) for part in found.parts.values()):,}"),
        ("time", duration(summary["seconds"])),
    ]
    boxes = join(fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=name, value=value) for name, value in tiles)
    notes = [fill('<p class="note">Training {why}.</p>', why=summary["stopped"])] if summary.get("stopped") else []
    if found.oddities:
        first, *others = found.oddities
        more = f", and {counted(len(others), 'thing')} more" if others else ""
        note = '<p class="note">Look at the data: {what}; {why}{more} (<a href="#data">Data</a>).</p>'
        notes.append(fill(note, what=first.what, why=first.why, more=more))
    return fill(
        '<header>\n<h1>{name}</h1>\n<p class="lead">{task}</p>\n<p class="verdict">{said}</p>\n{notes}\n<dl'
        ' class="tiles">\n{boxes}\n</dl>\n</header>',
        name=summary["name"],
        task=task,
        said=" ".join(summary["verdict"]),
        notes=join(notes),
        boxes=boxes,
    )
