"""`report.html`: everything about a run on one page that needs no network, no script, and nothing beside itself."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.summary import Summary
from nanotorch.train.config.strict_yaml import LARGEST_FILE
from nanotorch.train.report import data_card, figures, pictures, verdict
from nanotorch.train.report.chart import inline
from nanotorch.train.report.data_card import Column
from nanotorch.train.report.markup import (
    Html,
    beside,
    chapters,
    document,
    facts,
    figure,
    figures_beside,
    fill,
    join,
    measured,
    percent,
    scrolling,
    table,
    titled,
)
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.score import classification, judgement
from nanotorch.train.score.judgement import Estimate, Worth
from nanotorch.train.terminal.text_report import counted, duration, label, number, short
from nanotorch.utils import files
from nanotorch.viz.marks import element, rect

MOST_COLUMNS = 60  # of the data card
OPEN_COLUMNS = 24  # of more, the table is folded
MOST_DRAWN = 2000  # classes of a confusion matrix that is drawn
MOST_CELLS = 20  # classes of a confusion matrix that is shown in numbers; one of more classes is drawn
MOST_CLASSES = 200  # of the tables of classes
MOST_TARGETS = 12
MOST_WORST, MOST_SHOWN, MOST_TOP = 10, 6, 15  # rows, their columns; columns of many
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LONGEST_COLUMN = 24  # of a name over values of rows
LONGEST_SCORE = 30
LONGEST_NAME = 14  # of a class, over its column of the confusion matrix


@dataclass(frozen=True)
class Record:
    """What the files of a run hold.

    Attributes:
        directory: the run's.
        source: the config as it was given, or None.
        history: the record of every epoch.
        summary: what `summary.json` holds.
        environment: what `env.json` holds.
    """

    directory: Path
    source: str | None
    history: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def metrics(self) -> list[str]:
        """The names of all scores that the epochs have, the loss first."""
        keys = {key.partition("_")[2]: None for key in self.history[-1] if key.startswith(("train_", "validation_"))}
        return sorted(keys, key=lambda key: key != "loss")


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


def page(found: Findings, record: Record) -> Html:
    """Return the page as HTML."""
    judged, (worths, looked) = verdict.verdict(found), verdict.column_worths(found)
    mistakes = [*(_regression(found) if found.is_regression else _classification(found)), _worst(found, worths)]
    sections = {
        "scores": ("Scores", _scores(found, record)),
        "mistakes": ("Predictions", mistakes),
        "columns": ("Columns", _columns(found, worths, looked)),
        "data": ("Data", _data(found)),
        "model": ("Model", _model(found)),
        "training": ("Training", _training(found, record)),
        "config": ("Configuration", _config(found, record)),
        "environment": ("Environment", _environment(record)),
    }
    body = join(
        [
            _header(found, record, judged),
            chapters(sections),
            fill("<footer>Written by nanotorch {version}.</footer>", version=record.environment.get("nanotorch", "")),
        ]
    )
    return document(f"{record.summary['name']}: report", body)


# ------------------------------------------------------------ sections


def _header(found: Findings, record: Record, said: Sequence[str]) -> Html:
    summary, judged = record.summary, found.judged
    kind = {"binary": "classification, 2 classes", "multiclass": f"classification, {len(found.names)} classes"}
    task = kind.get(found.preprocessing.task, f"regression, {counted(len(found.names), 'target')}")
    tiles: list[tuple[str, Any]] = [
        (f"{judged} {label(name)}", _exact(value)) for name, value in list(summary["scores"][judged].items())[:2][::-1]
    ]
    tiles += [
        ("best epoch", f"{summary['best_epoch']} of {summary['epochs']}"),
        ("parameters", f"{summary['parameters']:,}"),
        ("rows", f"{sum(len(part) for part in found.parts.values()):,}"),
        ("time", duration(summary["seconds"])),
    ]
    boxes = join(fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=name, value=value) for name, value in tiles)
    stopped = [fill('<p class="note">Training {why}.</p>', why=summary["stopped"])] if summary.get("stopped") else []
    return fill(
        '<header>\n<h1>{name}</h1>\n<p class="lead">{task}</p>\n<p class="verdict">{said}</p>\n{stopped}\n<dl'
        ' class="tiles">\n{boxes}\n</dl>\n</header>',
        name=summary["name"],
        task=task,
        said=" ".join(said),
        stopped=join(stopped),
        boxes=boxes,
    )


def _scores(found: Findings, record: Record) -> Iterator[Html]:
    summary, best = record.summary, record.summary["best_epoch"]
    names = list(summary["scores"][found.judged])
    rows = [[part, len(found.parts[part]), *map(scores.get, names)] for part, scores in summary["scores"].items()]
    heads = ["part", "rows", *(_abbreviated(label(name), LONGEST_SCORE) for name in names)]
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


def _classification(found: Findings) -> Iterator[Html]:
    judged, names = found.judged, found.names
    right, rows = int(found.right.sum()), len(found.true)
    yield fill(
        "<p>Of the {rows} rows of the {part} part the model calls {right} by their class and {wrong} by another.</p>",
        rows=f"{rows:,}",
        part=judged,
        right=f"{right:,}",
        wrong=f"{rows - right:,}",
    )
    pieces = []
    if len(names) <= MOST_CELLS:
        pieces.append(_confusion_table(found.confusion, names))
    elif len(names) > MOST_DRAWN:
        pieces.append(
            fill(
                '<p class="note">The matrix of {count} classes is not drawn: {most} are the most.</p>',
                count=f"{len(names):,}",
                most=f"{MOST_DRAWN:,}",
            )
        )
    else:
        pieces.append(
            figure(
                figures.confusion_map(found.confusion, judged, names),
                "Rows by their class (down) and the class that the model chose (across).",
            )
        )
    worst = classification.confusions(found.true, found.guessed, names, 10)
    if worst and len(names) > 2:
        pieces.append(table("Most frequent mistakes", ["class", "called", "rows"], worst))
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
    pieces = [titled("Every class", table(f"On the {judged} part{note}", heads, [*map(list, shown), mean]))]
    stated = fill(
        "<p>The class that the model chooses has a stated probability of {stated} on average, and is right in {share}"
        " of the rows. The expected calibration error, in ten bins, is {error}.</p>",
        stated=_exact(float(found.certainty.mean())),
        share=_exact(right / rows),
        error=_exact(found.calibration.error),
    )
    of = names[1] if len(names) == 2 else "the chosen class"
    caption = (
        f"Stated probability of {of} against how often it came true; a larger dot has more rows. On the diagonal"
        " the probabilities can be taken at their word; below it the model is too sure, above it too careful."
    )
    drawing = figure(inline(figures.reliability(classification.merged(found.calibration), of)), caption)
    yield beside(*pieces, titled("Calibration", stated, drawing))
    if len(names) == 2:
        yield _thresholds(found)


def _regression(found: Findings) -> Iterator[Html]:
    guessed, true = found.values, found.true
    rows = []
    for k, name in enumerate(found.names):
        error = guessed[:, k] - true[:, k]
        spread = float(((true[:, k] - true[:, k].mean()) ** 2).sum())
        r2 = 1 - float((error**2).sum()) / spread if np.ptp(true[:, k]) else None
        sizes = (
            float(np.sqrt((error**2).mean())),
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
    if len(found.names) > MOST_TARGETS:
        yield fill("<p>The first {count} of {all} targets are drawn.</p>", count=MOST_TARGETS, all=len(found.names))


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
        precision, recall = hits / max(int(called.sum()), 1), hits / int(positive.sum())
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
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


def _worst(found: Findings, worths: Sequence[Worth]) -> Html:
    """Return the rows that the model gets most wrong, with their values."""
    losses, part = verdict.row_losses(found), found.parts[found.judged]
    worst = np.argsort(-losses, kind="stable")[:MOST_WORST].tolist()
    if not found.is_regression:
        worst = [row for row in worst if not found.right[row]]
    names = [worth.name for worth in worths[:MOST_SHOWN]] or list(part.feature_names[:MOST_SHOWN])
    rows: list[list[Any]] = []
    for row in worst:
        place = f"{row if part.numbers is None else int(part.numbers[row]):,}"
        if found.is_regression:
            said: list[Any] = [measured(float(found.true[row, 0])), measured(float(found.values[row, 0]))]
        else:
            chance = math.exp(-float(losses[row]))
            said = [found.names[found.true[row]], found.names[found.guessed[row]], percent(chance)]
        rows.append([place, *said, *(verdict.cell(part, row, name) for name in names)])
    if not rows:
        return titled("Largest mistakes", Html("<p>There are none.</p>"))
    heads = ["true", "predicted"] if found.is_regression else ["class", "called", "chance of its class"]
    by = "the columns that are worth most" if worths else "the first columns"
    first = f", {short(found.names[0], 40)}" if found.is_regression and len(found.names) > 1 else ""
    caption = f"Rows of the {found.judged} part, counted from 0 in the whole table{first}, with {by}"
    return titled(
        "Largest mistakes",
        table(caption, ["row", *heads, *(_abbreviated(name, LONGEST_COLUMN) for name in names)], rows),
    )


def _columns(found: Findings, worths: Sequence[Worth], looked: int) -> Iterator[Html]:
    if not worths:
        yield Html("<p>What each column is worth would take long to find out here, and is left out.</p>")
        return
    unit = "1 - R2" if found.is_regression else "the mean loss"
    yield fill(
        "<p>How much {unit} of {rows} of the {part} part grows when the values of a column are shuffled, so that they"
        " say nothing: what the model goes by, which need not be a cause. Columns that say the same share their worth."
        " Where the interval of 95% holds 0, the model may do without the column.</p>",
        unit=unit,
        rows=counted(looked, "row"),
        part=found.judged,
    )
    shown = worths[:MOST_COLUMNS]
    widest = max(max(abs(worth.loss.high), abs(worth.loss.low)) for worth in worths) or 1.0
    rows = [
        [
            one.name,
            _worth_bar(one.loss, widest),
            measured(one.loss.value),
            measured(one.loss.low),
            measured(one.loss.high),
        ]
        for one in shown
    ]
    first = "" if len(shown) == len(worths) else f"; the first {len(shown)} of {len(worths):,}"
    content = table(f"What columns are worth{first}", ["column", "", "worth", "from", "to"], rows)
    if len(rows) <= OPEN_COLUMNS:
        yield content
    else:
        yield table(
            f"The {MOST_TOP} columns that are worth most", ["column", "", "worth", "from", "to"], rows[:MOST_TOP]
        )
        yield fill("<details><summary>{count} columns</summary>{content}</details>", count=len(rows), content=content)


def _worth_bar(of: Estimate, widest: float) -> Html:
    """Return a bar from 0 to the worth, and a line over its interval."""
    zero, unit = 30.0, 110 / widest
    start, end = (zero + max(value * unit, -zero) for value in (min(of.value, 0.0), max(of.value, 0.0)))
    low, high = (zero + max(value * unit, -zero) for value in (of.low, of.high))
    drawn = rect(start, 5, max(end - start, 0.5), 12) + element("path", d=f"M{low:.1f} 11H{high:.1f}", class_="whisker")
    return fill('<td class="worth"><svg viewBox="0 0 144 22" aria-hidden="true">{drawn}</svg></td>', drawn=Html(drawn))


def _data(found: Findings) -> Iterator[Html]:
    train = found.parts["train"]
    count = train.features.shape[1]
    described = data_card.columns(train, MOST_COLUMNS)
    rows = sum(len(part) for part in found.parts.values())
    missing = sum(column.missing for column in described)
    yield facts(
        [
            ("rows", f"{rows:,}"),
            *((f"{name} part", f"{len(part):,} rows, {len(part) / rows:.0%}") for name, part in found.parts.items()),
            ("feature columns", f"{count:,}"),
            ("numbers that the model takes", f"{found.preprocessing.in_features:,}"),
            (
                "missing values",
                f"{missing:,} in {sum(column.missing > 0 for column in described)} columns" if missing else "none",
            ),
        ]
    )
    yield join(fill('<p class="note mild">{text}</p>', text=text) for text in found.notices)
    if found.is_regression:
        targets = [data_card.describe(name, train.targets[:, k]) for k, name in enumerate(found.names[:MOST_COLUMNS])]
        yield _column_table("Targets, on the training part", targets)
    else:
        counts = data_card.class_counts(found.parts)[:MOST_CLASSES]
        lines = [[name, *each, sum(each), percent(sum(each) / rows)] for name, each in counts]
        first = "" if len(counts) == len(found.names) else f"; the first {MOST_CLASSES} of {len(found.names):,}"
        yield table(f"Rows of every class{first}", ["class", *found.parts, "all", "share"], lines)
    looked = data_card.described_rows(train)
    of = "the training part" if looked == len(train) else f"{looked:,} rows of the training part"
    first = "" if count <= MOST_COLUMNS else f"; the first {MOST_COLUMNS} of {count:,}"
    constant = [column.name for column in described if column.kind == "constant"]
    if constant:
        listed = ", ".join(constant[:20]) + (", ..." if len(constant) > 20 else "")
        yield fill(
            '<p class="note">Constant on the training part, so of no use to the model: {names}.</p>', names=listed
        )
    columns = _column_table(f"Feature columns, on {of}{first}", described)
    if len(described) <= OPEN_COLUMNS:
        yield columns
    else:
        yield fill(
            "<details><summary>{count} feature columns</summary>{columns}</details>",
            count=f"{count:,}",
            columns=columns,
        )


def _model(found: Findings) -> Iterator[Html]:
    layers = found.layers
    rows = []
    for layer in layers.rows:
        depth = layer.path.count(".") + 1 if layer.path else 0
        shape = "" if layer.output_shape is None else str(layer.output_shape)
        name = "  " * depth + f"{layer.path.rpartition('.')[2]} {layer.kind}".strip()
        cells = [name, shape, layer.parameters or None]
        rows.append([*cells, layer.saved_bytes, layer.flops])
    heads = ["layer", "output", "parameters", "bytes kept for backward", "operations forward"]
    trainable = (
        ""
        if layers.trainable_parameters == layers.total_parameters
        else f", {layers.trainable_parameters:,} of them trained"
    )
    size = f"{layers.total_parameters:,} parameters{trainable}, {layers.parameter_bytes:,} bytes"
    yield table(f"{size}; for a batch of {_batch(layers)}", heads, rows)


def _training(found: Findings, record: Record) -> Iterator[Html]:
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


def _config(found: Findings, record: Record) -> Iterator[Html]:
    command = record.environment.get("command")
    if command:
        yield fill("<p>Started as <code>{command}</code></p>", command=_command(command))
    run = shlex.quote(str(record.directory))
    export = "--safetensors model.safetensors" if found.preprocessing.texts else "--python model.py"
    lines = [
        (
            "the same training again",
            f"python -m nanotorch.train {shlex.quote(str(record.directory / 'resolved.yaml'))}",
        ),
        ("the scores again", f"python -m nanotorch.evaluate {run}"),
        ("new rows", f"python -m nanotorch.predict {run} --input rows.csv --output predictions.csv"),
        ("for other programs", f"python -m nanotorch.export {run} {export}"),
    ]
    width = max(len(command) for _, command in lines)
    text = "\n".join(f"{command:{width}}  # {what}" for what, command in lines)
    yield scrolling("commands", fill("<pre>{text}</pre>", text=text))
    if record.source is not None:
        text = fill("<pre>{text}</pre>", text=record.source.strip("\n"))
        yield scrolling("the config as it was given", text)
    yield fill(
        "<details{open}><summary>Every value, defaults included</summary>\n{text}</details>",
        open=Html(" open" if record.source is None else ""),
        text=scrolling("every value of the config", fill("<pre>{text}</pre>", text=found.resolved.strip("\n"))),
    )


def _command(words: Sequence[str]) -> str:
    """Return the command line as it can be typed."""
    first = Path(words[0])
    start = shlex.quote(words[0])
    if first.name == "__main__.py":
        package, inner = first.parts[-3:-1]
        start = f"python -m {inner if inner == 'nanotorch' else f'{package}.{inner}'}"
    return " ".join([start, *map(shlex.quote, words[1:])])


def _environment(record: Record) -> Iterator[Html]:
    pairs = []
    for key, value in record.environment.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {one}" for name, one in value.items())
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        if value not in ("", None) and key != "command":
            pairs.append([key.replace("_", " "), str(value)])
    yield table("What the bits of the result depend on", ["fact", "value"], pairs, "wrap left")


# ------------------------------------------------------------ pieces


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
    heads = [_abbreviated(name, LONGEST_NAME) for name in names]
    return table(
        "Rows by their class (down) and the class that the model chose (across)", ["", *heads], rows, "confusion"
    )


def _abbreviated(name: str, most: int) -> Html:
    """Return a name that is short enough for the head of a column; the whole shows where the pointer rests."""
    if len(name) <= most:
        return fill("{name}", name=name)
    return fill('<abbr title="{name}">{short}</abbr>', name=name, short=short(name, most))


def _column_table(caption: str, columns: Sequence[Column]) -> Html:
    heads = ["column", "distribution", "kind", "missing", "values", "mean", "deviation", "least", "median", "most"]
    rows = []
    for one in columns:
        cells = [
            None if value is None else measured(value)
            for value in (one.mean, one.deviation, one.least, one.median, one.most)
        ]
        if one.common:
            listed = ", ".join(f"{name} {share:.0%}" for name, share in one.common[:4])
            cells = [
                fill(
                    '<td class="text" colspan="5">{listed}</td>',
                    listed=listed + (", ..." if len(one.common) > 4 else ""),
                )
            ]
        rows.append([one.name, _bars(one), one.kind, one.missing, one.distinct, *cells])
    return table(caption, heads, rows)


def _bars(column: Column) -> Html:
    width = 96 / max(len(column.bars), 1)
    bars = join(
        Html(f'<rect x="{k * width:g}" y="{24 - height:.1f}" width="{width - 1:g}" height="{height:.1f}"/>')
        for k, share in enumerate(column.bars)
        if (height := max(24 * share, 1.0 if share else 0.0))
    )
    return fill('<td><svg viewBox="0 0 96 24" aria-hidden="true">{bars}</svg></td>', bars=bars)


def _exact(value: float) -> Html:
    return fill('<data value="{exact}">{shown}</data>', exact=repr(value), shown=number(value))


def _batch(layers: Summary) -> str:
    shape = layers.rows[0].output_shape
    return counted(shape[0], "row") if isinstance(shape, tuple) and shape and isinstance(shape[0], int) else "rows"
