"""The page of a run that has none, as most trials of a sweep: made from what the run left."""

from __future__ import annotations

from nanotorch.train.fit.build import device_of
from nanotorch.train.fit.loss_and_parts import loss_and_parts
from nanotorch.train.fit.prepare import Data, prepare
from nanotorch.train.record.records import Summary, read_json, read_lines
from nanotorch.train.record.resume import environment_of
from nanotorch.train.report import run_page
from nanotorch.train.report.run_summary import gather
from nanotorch.train.terminal.command import UsageError
from nanotorch.train.use.loaded_run import LoadedRun, with_its_files


def write(run: LoadedRun) -> bool:
    """Write `report.html` of a complete run, by its best model; returns whether it is there."""
    try:
        summary = read_json(run.directory / "summary.json", Summary)
    except FileNotFoundError:
        raise UsageError(f"{run.directory} is not complete, so there is no page of it yet") from None
    data, device = prepare(with_its_files(run)), device_of(run.config)
    data = Data(data.parts, run.preprocessing, data.notices)
    _, parts = loss_and_parts(run.config, data, device)
    found = gather(run.config, data, run.model.to(device), parts)
    history, _ = read_lines(run.directory / "metrics.jsonl")
    return run_page.write(run.directory, found, history, summary, environment_of(run.directory)[0])
