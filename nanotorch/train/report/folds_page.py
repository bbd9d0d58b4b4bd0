"""The page of folds and repeats: the runs beside one another, what they have in common, and what their test parts say
together.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.config.loading import read_resolved
from nanotorch.train.data.table import Table
from nanotorch.train.record.checkpoint import CheckpointError
from nanotorch.train.record.records import HeldOut, RecordError, SeveralSummary, read_json
from nanotorch.train.report import figures
from nanotorch.train.report.chart import inline
from nanotorch.train.report.comparison import ComparedRun, compare, read_run, within
from nanotorch.train.report.comparison_page import page
from nanotorch.train.report.markup import Html, commands, figure, figures_beside, fill, measured, table
from nanotorch.train.report.sections import rows
from nanotorch.train.report.sections.predictions import matrix
from nanotorch.train.score import judgement
from nanotorch.train.score.classification import predicted
from nanotorch.train.score.spread import of_classes, of_numbers
from nanotorch.train.terminal.command import UsageError
from nanotorch.train.terminal.text_report import counted, label, number, short
from nanotorch.train.use.loaded_run import load_run
from nanotorch.utils import files

MOST_TARGETS = 6
MOST_ROWS = 2000  # that all runs are asked about


def write(root: Path, parts: Mapping[str, Table] | None = None) -> list[Path]:
    """Write `report.html` of folds or repeats that are complete, from what they left; each run has its own beside it.

    Returns what is there; what cannot be written is said on stderr.

    Args:
        root: their directory.
        parts: the rows of one of the runs, which are those of all of them in another order; None where there are none.
    """
    summary = read_json(root / "summary.json", SeveralSummary)
    names, judged = list(summary["runs"]), list(summary["scores"])[-1]  # the test part, where there is one
    mean, spread = summary["scores"][judged], summary["spread"][judged]
    runs = [read_run(root / name) for name in names]
    found = compare(runs, part=judged)
    scores = np.array([each[judged][found.by] for each in summary["runs"].values()])
    around = ""
    if np.isfinite(scores).all() and runs[0].rows.get(judged):
        interval = within(judgement.over_runs(scores, runs[0].rows[judged] / runs[0].rows["train"]), found.by)
        around = f" (95% interval {number(interval.low)} to {number(interval.high)})"
    of = f"{judged} {label(found.by)} {number(mean[found.by])} on average{around}, with a spread of"
    of += f" {number(spread[found.by])}"
    folds = summary["folds"] is not None
    said, together = _together(root, runs, judged, folds, summary["repeats"])
    further = {
        "together": ("Out of fold" if folds else f"{judged.capitalize()} parts", together),
        **({} if parts is None else {"apart": ("Where the runs disagree", _apart(root, parts))}),
        "mean": ("Mean curves", _curves(runs)),
        "use": ("Commands", _commands(root)),
    }
    place = root / "report.html"
    try:
        overall = {"mean": mean, "spread": spread}
        lead = f"{len(names)} runs: {of}"
        files.write(place, page(found, summary["name"], root, lead, overall, further, said), own=True)
    except OSError as error:
        print(f"warning: {place} cannot be written ({error.strerror})", file=sys.stderr)
        return []
    except (ArithmeticError, MemoryError, RuntimeError) as error:
        print(f"warning: {place} cannot be made ({type(error).__name__}: {error})", file=sys.stderr)
        return []
    return [place]


def _together(
    root: Path, runs: Sequence[ComparedRun], judged: str, folds: bool, repeats: int
) -> tuple[str, list[Html]]:
    """Return what the runs say of the parts that judge them, all rows of them together: in sentences, and shown."""
    once = folds and repeats == 1
    what = "each by the run that was not trained on it" if folds else f"of all {judged} parts"
    try:
        kept = [read_json(run.place / "held_out.json", HeldOut) for run in runs]
        summaries = [run.summary for run in runs]
        if "called" in kept[0]:
            return _of_classes(kept, summaries, judged, what, once)
        if (summaries[0] or {}).get("targets"):
            return "", [_of_targets([summary or {} for summary in summaries], judged)]
        return _of_numbers(root, kept, what, once)
    except (FileNotFoundError, RecordError, LookupError, ValueError):
        return "", [Html("<p>What the runs said of these parts is not there, or not of one kind.</p>")]


def _of_classes(
    kept: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any] | None], judged: str, what: str, once: bool
) -> tuple[str, list[Html]]:
    """Return the classes that rows were called; `once`: no row is there twice."""
    names = [each["name"] for each in (summaries[0] or {})["classes"]]
    if any([each["name"] for each in (summary or {})["classes"]] != names for summary in summaries):
        raise ValueError("the runs have other classes")
    counts = np.zeros((len(names), len(names)), np.int64)
    for one in kept:
        true, called, rows = np.array(one["called"], np.int64).reshape(-1, 3).T
        np.add.at(counts, (true, called), rows)
    total, right = int(counts.sum()), int(np.trace(counts))
    score = judgement.share(right, total)
    around = "" if not once else f" (95% interval {100 * score.low:.1f} to {100 * score.high:.1f}%)"
    most = int(counts.sum(axis=1).argmax())
    usual = f"{counts[most].sum() / total:.1%}"
    said = (
        f"Of {counted(total, 'row')}, {what}, {score.value:.1%}{around} are called right. For comparison: to call"
        f" all of them {short(names[most], 40)!r}, the most frequent class, is right for {usual}."
    )
    return said, [matrix(counts, names, judged)]


def _of_targets(summaries: Sequence[Mapping[str, Any]], judged: str) -> Html:
    """Return the mean scores of several targets of classes."""
    every = [summary["targets"] for summary in summaries]
    if any([each["name"] for each in targets] != [each["name"] for each in every[0]] for targets in every):
        raise ValueError("the runs have other targets")
    keys = ("accuracy", "most_frequent", "balanced_accuracy", "f1")
    lines = [
        [of_runs[0]["name"], *(float(np.mean([each[key] for each in of_runs])) for key in keys)]
        for of_runs in zip(*every, strict=True)
    ]
    heads = ["target", "accuracy", "most frequent class", "balanced accuracy", "mean F1"]
    return table(f"Means over {counted(len(every), 'run')}, each on its {judged} part", heads, lines)


def _of_numbers(root: Path, kept: Sequence[Mapping[str, Any]], what: str, once: bool) -> tuple[str, list[Html]]:
    """Return how far off the runs are; `once`: no row is there twice."""
    true, guessed = (np.concatenate([np.array(one[key]).T for one in kept]) for key in ("true", "predicted"))
    given = read_resolved(root / "resolved.yaml").data.arguments.get("target")
    named = [given] if isinstance(given, str) else list(given or ())
    names = named if len(named) == true.shape[1] else [f"target {k + 1}" for k in range(true.shape[1])]
    rows = [
        [name, measured(judgement.rmse(true[:, k], guessed[:, k])), measured(float((guessed - true)[:, k].mean()))]
        for k, name in enumerate(names)
    ]
    errors = table(f"Of {counted(len(true), 'row')}, {what}", ["target", "RMSE", "mean error"], rows)
    drawn, said = [], ""
    score = judgement.r2(true, guessed)
    if once and score.low > -judgement.MOST:
        said = (
            f"Of {counted(len(true), 'row')}, {what}, the R2 is {score.value:.2f} (95% interval {score.low:.2f} to"
            f" {score.high:.2f})"
        )
        if len(names) == 1:
            usual = judgement.rmse(true, np.broadcast_to(true.mean(axis=0), true.shape))
            said += f"; the typical error (RMSE) is {judgement.rmse(true, guessed):.3g}, that of the mean {usual:.3g}"
        said += "."
    for k, name in enumerate(names[:MOST_TARGETS]):
        for draw in (figures.predicted_versus_true, figures.residuals):
            drawn.append(figure(inline(draw(true[:, k], guessed[:, k], name))))
    return said, [errors, figures_beside(drawn)]


def _apart(root: Path, parts: Mapping[str, Table]) -> Iterator[Html]:
    """Give the rows on which the runs disagree most."""
    try:
        run = load_run(root)
    except (UsageError, CheckpointError) as error:
        yield fill("<p>What the runs say of one row cannot be compared: {error}.</p>", error=error)
        return
    every, found = sum(map(len, parts.values())), []
    true = np.concatenate([part.targets for part in parts.values()])
    columns, which = rows.chosen_columns(parts["train"])
    for part in parts.values():
        share = min(len(part), math.ceil(len(part) / every * MOST_ROWS))
        some = part.rows(np.linspace(0, len(part) - 1, share).astype(np.int64))
        features = run.preprocessing.features(some)
        outputs, said = run.outputs(features), run.outputs_of_members(features)
        if run.preprocessing.task == "regression":
            guessed: NDArray[Any] = run.preprocessing.in_units(outputs)
            far = of_numbers(np.stack([run.preprocessing.in_units(one) for one in said]))
        else:
            each = run.preprocessing.each
            guessed = np.stack([predicted(one) for one in each(outputs)], axis=1).reshape(some.targets.shape)
            far = of_classes(said, guessed, each)
        found += rows.furthest_apart(some, true, guessed, far, columns)
    found = sorted(found, key=lambda each: -each[0])[: rows.MOST_ROWS]
    looked = "" if every <= MOST_ROWS else f" {MOST_ROWS:,} of {every:,} rows were looked at."
    yield fill(
        "<p>All {runs} runs answer each row, and their mean is shown; the spread is the standard deviation of {what}."
        " Most of them were trained on the row, so on new rows they are further apart.{looked}</p>",
        runs=len(run.members),
        what=rows.what_spreads(parts["train"]),
        looked=looked,
    )
    caption = f"Rows of the table, counted from 0, with {which}"
    yield table(caption, rows.heads(parts["train"], "spread", columns), [cells for _, cells in found])


def _curves(runs: Sequence[ComparedRun]) -> Iterator[Html]:
    histories = [run.history for run in runs if run.history]
    if not histories:
        yield Html("<p>These runs have no curves.</p>")
        return
    last = histories[0][-1]
    scores = [key.removeprefix("validation_") for key in last if key.startswith("validation_")]
    drawn = [figure(inline(figures.mean_of_runs(histories, name))) for name in scores]
    yield figures_beside(drawn)
    yield Html('<p class="small">The mean of the runs that were still training, and one standard deviation.</p>')


def _commands(root: Path) -> Iterator[Html]:
    run = shlex.quote(str(root))
    lines = [
        ("new rows, by the mean of the runs", f"python -m nanotorch.predict {run} --input rows.csv --output out.csv"),
        ("and how far they are apart", f"python -m nanotorch.predict {run} --input rows.csv --output out.csv --spread"),
        ("scores of the mean on rows with the target", f"python -m nanotorch.evaluate {run} --input rows.csv"),
        ("the mean for other programs", f"python -m nanotorch.export {run} --python model.py"),
    ]
    yield commands(lines)
