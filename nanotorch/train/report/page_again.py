"""The page of a run made from what the run left: of a trial that has none, anew, or of a run that has stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanotorch.train.config.loading import batch_size_of
from nanotorch.train.data.table import DataError, Table
from nanotorch.train.fit.build import device_of
from nanotorch.train.fit.loop import evaluate
from nanotorch.train.fit.loss_and_parts import loss_and_parts
from nanotorch.train.fit.prepare import Data, prepare
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.record.records import Summary, read_json, read_lines
from nanotorch.train.record.resume import environment_of
from nanotorch.train.report import figures, folds_page, pictures, run_page
from nanotorch.train.report.run_summary import gather
from nanotorch.train.terminal.blas_threads import blas_threads
from nanotorch.train.terminal.command import UsageError, note
from nanotorch.train.use.loaded_run import LoadedRun, with_its_files


def write(run: LoadedRun, png: bool = False) -> list[Path]:
    """Write `report.html` and `learning_curve.svg` of a run by its best model, and with `png` the curve as PNG too.

    The test part of a run that is not complete stays unseen: its validation part is judged. Of folds and repeats it
    is the page of all of them. Returns what is written.
    """
    if run.members:
        if png:
            raise UsageError(f"{run.directory} holds several runs: --png draws the curve of one of them")
        return folds_page.write(run.directory, _parts(run.members[0]))
    history, problem = read_lines(run.directory / "metrics.jsonl")
    if not history:
        raise UsageError(problem or f"{run.directory} has no page yet: no epoch of it is complete")
    if problem is not None:
        note(f"{problem}; the epochs before that are shown")
    data, device = prepare(with_its_files(run)), device_of(run.config)
    data = Data(data.parts, run.preprocessing, data.notices)
    with borrowed_generator():
        criterion, parts = loss_and_parts(run.config, data, device)
        model = run.model.to(device)
        try:
            summary: dict[str, Any] = dict(read_json(run.directory / "summary.json", Summary))
        except FileNotFoundError:
            parts = {name: part for name, part in parts.items() if name != "test"}
            with blas_threads(model, batch_size_of(run.config)):
                scores = {name: evaluate(model, criterion, part) for name, part in parts.items()}
            summary = {
                "name": run.config.name,
                "task": run.preprocessing.task,
                "best_epoch": run.state["epoch"],
                "epochs": len(history),
                "steps": history[-1]["step"],
                "skipped_steps": 0,
                "stopped": f"stands after {len(history)} of {run.config.train.epochs} epochs: `--resume` goes on with"
                " it. Its test part is looked at when it is complete; these are scores of the validation part",
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "rows": {name: len(part) for name, part in parts.items()},
                "scores": scores,
                "seconds": sum(record["seconds"] for record in history),
            }
        found = gather(run.config, data, model, parts)
        summary["verdict"] = run_page.judge(found)
    written = run_page.write(run.directory, found, history, summary, environment_of(run.directory)[0])
    if png:
        picture = run.directory / "learning_curve.png"
        pictures.save(picture, *figures.learning_curve(history, found.judged, summary), own=True)
        written.append(picture)
    return written


def _parts(run: LoadedRun) -> Mapping[str, Table] | None:
    """Return the rows of a run, None where they are not there any more."""
    try:
        return prepare(with_its_files(run)).parts
    except DataError as error:
        note(f"where the runs disagree is left out: {error}")
        return None
