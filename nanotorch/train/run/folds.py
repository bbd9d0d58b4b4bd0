"""Several runs of one config: cross-validated (`train.folds`), with several seeds (`train.repeats`), or both.

Each is an ordinary run in a directory of its own, which its own resolved.yaml reproduces:

    runs/<name>-<utc>-<4 hex digits>/
        fold-1/ ... fold-5/     `data.fold: [1, 5]` ...: the test parts share no row, and together are all rows
                                (by time: all but those that the first fold is trained on)
        repeat-1/ ...           seed, seed + 1 ... (repeat-1-fold-1/ ... with folds: other folds for each seed)
        summary.json            mean and spread over the runs; there only when all are complete
        report.html             the runs beside one another
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nanotorch as torch
from nanotorch.train.config.loading import epochs_of
from nanotorch.train.config.sections import Config
from nanotorch.train.data.split import training_rows
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.build import steps_per_epoch
from nanotorch.train.fit.prepare import prepare, seed_of, without_rare_classes
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.record import directory
from nanotorch.train.record.environment import environment
from nanotorch.train.record.records import Summary, read_json
from nanotorch.train.record.resume import ResumeError, config_of, differences
from nanotorch.train.report import folds_page
from nanotorch.train.run.made import Made
from nanotorch.train.run.several import Asked
from nanotorch.train.run.several_progress import SeveralProgress
from nanotorch.train.run.side_by_side import begun_in, stopped_all
from nanotorch.train.run.workers import Staff, Workers, hired, opened
from nanotorch.train.terminal.interrupt import Interrupt, Stopping
from nanotorch.train.terminal.text_report import aligned, label, number

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class FoldsResult:
    """What several runs leave: their directory; by part and score the mean and the spread; the scores of each run.

    The spread is the standard deviation over the runs (with n - 1): how much a run differs from another, not how well
    the mean is known.
    """

    directory: Path
    mean: Scores
    spread: Scores
    runs: dict[str, Scores]


def is_several(config: Config) -> bool:
    """Return whether the config asks for more than one run."""
    return config.train.folds is not None or config.train.repeats > 1


def single_runs(config: Config) -> Iterator[tuple[str, Config]]:
    """Name and config of every run; the config must have a seed."""
    assert config.seed is not None
    folds, repeats = config.train.folds, config.train.repeats
    train = config.train.model_copy(update={"folds": None, "repeats": 1})
    for repeat in range(1, repeats + 1):
        seeded = {"train": train, "seed": (config.seed + repeat - 1) % 2**32}
        for fold in range(1, (folds or 1) + 1):
            names = [f"repeat-{repeat}"] * (repeats > 1) + [f"fold-{fold}"] * (folds is not None)
            data = config.data if folds is None else config.data.model_copy(update={"fold": (fold, folds)})
            yield "-".join(names), config.model_copy(update={**seeded, "data": data})


def run_all(
    config: Config,
    source: str | None = None,
    run_directory: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    needed: Sequence[str | Path] = (),
    progress_bar: bool = True,
    workers: Workers | None = None,
) -> FoldsResult:
    """Run them all, side by side (Note [Runs side by side]), here or by `workers`.

    Raises what `run` raises; the runs that are complete stay. With `resume`, what is complete in `run_directory` is
    taken as it is, and what began goes on; a ResumeError where one of these was trained with another config than this
    one now asks for, since a mean over two configs is of neither.
    """
    asked = Asked(source, run_directory, overwrite, resume, needed)
    config = asked.begin(config, "of the runs that go on")
    with borrowed_generator(), Interrupt() as interrupt, ExitStack() as held:
        made = Made(interrupt)
        config = made.settled(config)
        several = dict(single_runs(config))
        here = environment(_checked(config, next(iter(several.values())), made))
        staff = held.enter_context(hired(workers))
        files = held.enter_context(asked.opened(config, here, partial(_refuse_a_mixture, config, several)))
        root = files.path
        progress = held.enter_context(SeveralProgress(len(several), "runs", progress_bar))
        progress.plan(dict.fromkeys(several, epochs_of(config)))
        found: dict[str, Scores] = {}
        for name in _ended(several, source, files, interrupt, progress, made, staff):
            found[name] = read_json(root / name / "summary.json", Summary)["scores"]
            judged = list(found[name])[-1]
            line = "  ".join(f"{label(key)} {number(value)}" for key, value in found[name][judged].items())
            progress.say(f"{name} ({len(found)} of {len(several)})  {judged} {line}")
            files.log(f"{name}: {judged} {line}")
        progress.close()
        result = summed_up(config, {name: found[name] for name in several}, files)
        table = _table(result.runs, result.mean, result.spread)
        print(
            f"\n{config.name}: scores of the {list(result.mean)[-1]} part, each of the best epoch of its run\n{table}"
        )
        files.log(table)
        parts = made.of(next(iter(several.values()))).data.parts
        shown = "; report.html shows them" if folds_page.write(root, parts) else ""
        print(f"results in {root}{shown}", flush=True)
    return result


def _checked(config: Config, first: Config, made: Made) -> torch.device:
    """Return the device, once it is known that the runs can be trained: what cannot leaves no trace."""
    try:
        of_first = made.of(first)
        device = of_first.setup(first).parts["train"].device
        folds = config.train.folds or 1
        table, sizes = made.table(first), (config.data.test_size, config.data.validation_size)
        if folds > 1:
            table = without_rare_classes(first, table)
        for fold in range(2, folds + 1):  # the others have other rows, and not as many
            steps_per_epoch(len(training_rows(table, *sizes, seed_of(first), (fold, folds))), first)
    except DataError as error:
        for problem in error.problems:
            problem.path = ("train", "folds") if problem.path == ("data", "fold") else problem.path
        raise
    return device


def _ended(
    several: Mapping[str, Config],
    source: str | None,
    files: directory.RunDirectory,
    interrupt: Interrupt,
    progress: SeveralProgress,
    made: Made,
    staff: Staff | None,
) -> Iterator[str]:
    """Yield the name of every run that is complete, or as soon as it is."""
    root, left = files.path, []
    for name, single in several.items():
        begun = begun_in(root / name, single)
        if begun is not None and begun.covers(single):
            progress.ended(name)
            yield name
        else:
            left.append(name)

    with opened(staff, files, several, source, interrupt, progress.event, True, made) as side:
        try:
            for name in side.finish(left):
                if name in side.errors:
                    raise side.errors[name]
                progress.ended(name)
                yield name
        except Stopping:
            raise stopped_all(interrupt, root, progress) from None


def summed_up(config: Config, found: dict[str, Scores], files: directory.RunDirectory) -> FoldsResult:
    """Write the summary of runs that are complete."""
    mean, spread = _over(found, statistics.fmean), _over(found, statistics.stdev)
    several = {"folds": config.train.folds, "repeats": config.train.repeats}
    files.write_json("summary.json", {"name": config.name, **several, "scores": mean, "spread": spread, "runs": found})
    return FoldsResult(files.path, mean, spread, found)


def _refuse_a_mixture(config: Config, several: Mapping[str, Config], root: Path) -> None:
    """A ResumeError where a run that has begun is not the one that this config asks for."""
    if not is_several(config) or not is_several(config_of(root)):
        raise ResumeError(
            f"{root} holds {'one run' if is_several(config) else 'several runs'}, and this config asks for another"
            " number"
        )
    for name, single in several.items():
        changes = differences(single, root / name) if (root / name / "resolved.yaml").is_file() else []
        if changes:
            raise ResumeError(
                "\n  ".join([f"{root / name} was trained with another config:", *changes])
                + "\nA mean over both would be of neither: begin new runs with --output, or go on with its own"
                " resolved.yaml"
            )
        begun = begun_in(root / name, single)
        if begun is None or begun.checkpoint is None:
            continue
        state = begun.checkpoint.state
        if state["epoch"] > epochs_of(single):
            raise ResumeError(
                f"{root / name} is in epoch {state['epoch']} already, and train.epochs is {single.train.epochs} now: a"
                " mean over runs of different lengths would be of neither; begin new runs with --output"
            )
        if (
            begun.covers(single)
            and state["data"] != (now := prepare(single).fingerprint())
            and state["data"] != now.partition("-")[0]
        ):
            raise ResumeError(
                f"{root / name}: the data are not what they were when this run was trained, and a mean over both would"
                " be of neither; bring them back, or begin new runs with --output"
            )


def _over(runs: Mapping[str, Scores], statistic: Callable[[list[float]], float]) -> Scores:
    def over(values: list[float]) -> float:
        try:
            return statistic(values) if all(map(math.isfinite, values)) else math.nan
        except OverflowError:
            return math.nan

    first = next(iter(runs.values()))
    return {
        part: {name: over([scores[part][name] for scores in runs.values()]) for name in values}
        for part, values in first.items()
    }


def _table(runs: Mapping[str, Scores], mean: Scores, spread: Scores) -> str:
    """Return the scores of every run on its last part, their mean and their spread as aligned text."""
    judged = list(mean)[-1]
    names = list(mean[judged])
    lines = [["", *map(label, names)]]
    for row, scores in {**runs, "mean": mean, "spread": spread}.items():
        lines.append([row, *(number(scores[judged][name]) for name in names)])
    return aligned(lines)
