"""A sweep: its trials are trained side by side, each an ordinary run in a directory of its own, and put in order.

    runs/<name>-<utc>-<4 hex digits>/
        trial-1/ trial-2/ ...   runs, which their own resolved.yaml reproduces; with folds or repeats the directories of
                                several (`folds`), and then the means count
        report.html             the trials in order, what they tried, and the curves of the best
        best.yaml               the config of the best, which trains it again
        trials.csv              values, scores and end of every trial
        summary.json            the same; there only when all of them have ended

What a killed sweep goes on from are its trials: those that ended are taken as they are, those that began go on, the
rest begin. Who leaves at a rung follows from the epochs until there, so that it is the same again.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotorch.registry import describe_value
from nanotorch.train.config.loading import epochs_of, resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.config.strict_yaml import ConfigError
from nanotorch.train.config.sweep_checks import changes_loss, on_seeds
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.build import Setup
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.record import directory
from nanotorch.train.record.environment import environment, same_bits
from nanotorch.train.record.records import RecordError, SeveralSummary, Summary, SweepSummary, read_json, read_lines
from nanotorch.train.record.resume import Resumed, ResumeError, config_of, differences, environment_of
from nanotorch.train.report import page_again
from nanotorch.train.run.folds import is_several, single_runs, summed_up
from nanotorch.train.run.made import Made
from nanotorch.train.run.several import Asked
from nanotorch.train.run.several_progress import News, SeveralProgress
from nanotorch.train.run.side_by_side import ITS_OWN_FAULT, begun_in, refuse_unknown, stopped_all
from nanotorch.train.run.workers import Runs, Staff, Workers, hired, opened
from nanotorch.train.score.meter import is_loss
from nanotorch.train.sweep import report
from nanotorch.train.sweep.ranking import LEFT, Ranked, Standing, over_runs, standing, table
from nanotorch.train.sweep.trials import Rung, Trial, rungs, trials
from nanotorch.train.terminal.interrupt import Interrupt, Stopping
from nanotorch.train.terminal.text_report import label, number
from nanotorch.train.use.loaded_run import load_run


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep leaves: its directory, and its trials, the best first."""

    directory: Path
    trials: list[Ranked]

    @property
    def best(self) -> Ranked:
        """The best trial."""
        return self.trials[0]


def run_sweep(
    config: Config,
    source: str | None = None,
    run_directory: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    needed: Sequence[str | Path] = (),
    progress_bar: bool = True,
    workers: Workers | None = None,
) -> SweepResult:
    """Train all trials of a config, and put them in order; the arguments are those of `run`, and who trains them where
    that is not this process alone.

    A trial that diverges or cannot be trained does not end the sweep. Where all do, the error of the first is raised.

    Raises:
        ResumeError: the sweep in `run_directory` is another one.
        TrainingInterrupted: after Ctrl-C or SIGTERM, once all that was done is saved.
    """
    asked = Asked(source, run_directory, overwrite, resume, needed)
    config = asked.begin(config, "of the sweep that goes on")
    with borrowed_generator(), Interrupt() as interrupt, ExitStack() as held:
        made = Made(interrupt)
        config = made.settled(config)
        every = trials(config)
        first = _checked(every, made)
        here = environment(first.parts["train"].device)
        staff = held.enter_context(hired(workers))

        def going_on(root: Path) -> None:
            refuse_another(config, root)
            for warning in same_bits(environment_of(root)[0] or here, here):
                print(f"warning: the bits of the results may differ from those of one sweep: {warning}")

        files = held.enter_context(asked.opened(config, here, going_on))
        progress = held.enter_context(SeveralProgress(len(every), "trials", progress_bar))
        return _Sweep(config, every, files, interrupt, progress, made, first.training.monitor, staff).run()


def _checked(every: Sequence[Trial], made: Made) -> Setup:
    """Return the first trial that can be trained, built: where none can, there is no trace of it."""
    errors: list[Exception] = []
    for trial in every:
        _, first = next(single_runs(trial.config))
        try:
            setup = made.of(first).setup(first)
            if "validation" not in setup.parts:
                raise DataError(
                    "a sweep ranks its trials by the validation part, and these data have none: give one ("
                    "data.validation_size, data.validation_file, or cells of data.split's column)",
                    "sweep",
                )
            return setup
        except ITS_OWN_FAULT as error:
            errors.append(error)
    raise errors[0]


def refuse_another(config: Config, root: Path) -> None:
    """A ResumeError where the sweep in a directory is not the one that a config asks for.

    It may have more epochs or more trials now, unless halving has ended some by the number of either.
    """
    before = config_of(root)
    if before.sweep is None or config.sweep is None:
        raise ResumeError(
            f"{root} holds {'no sweep' if before.sweep is None else 'a sweep'}, and this config is of another kind"
        )
    changes = differences(config, root)
    drawn = before.sweep.trials  # None: all combinations, of which draws keep none
    if before.sweep.halving is None and drawn is not None and (config.sweep.trials or 0) > drawn:
        changes = [change for change in changes if not change.startswith("sweep.trials:")]
    keys, before_keys = list(config.sweep.axes), list(before.sweep.axes)
    if drawn is None and not changes and keys != before_keys:  # the last one is the fastest
        changes.append(f"sweep: the keys in another order, {', '.join(before_keys)} -> {', '.join(keys)}")
    if before.sweep.halving is not None and config.train.epochs != before.train.epochs:
        changes.append(f"train.epochs: {before.train.epochs} -> {config.train.epochs}")
    if changes:
        raise ResumeError(
            "\n  ".join([f"{root} is a sweep with another config:", *changes])
            + "\nThe trials of both could not be compared: begin a new sweep, or go on with its own resolved.yaml"
        )


def is_complete(config: Config, root: Path) -> bool:
    """Return whether the sweep in a directory has ended, of as many trials and epochs as this config now asks for; a
    ResumeError where it is another one.
    """
    refuse_another(config, root)
    before = config_of(root)
    same = before.sweep == config.sweep and before.train.epochs == config.train.epochs
    try:
        return same and bool(read_json(root / "summary.json", SweepSummary))
    except (FileNotFoundError, RecordError):
        return False


class _Sweep:
    """A sweep that is under way."""

    def __init__(
        self,
        config: Config,
        every: Sequence[Trial],
        files: directory.RunDirectory,
        interrupt: Interrupt,
        progress: SeveralProgress,
        made: Made,
        monitor: str,
        staff: Staff | None,
    ) -> None:
        self.made, self.monitor, self.staff = made, monitor, staff
        self.config, self.files, self.interrupt, self.progress = config, files, interrupt, progress
        self.trials = {trial.name: trial for trial in every}
        self.runs = {
            trial.name: {"/".join(filter(None, [trial.name, run])): single for run, single in single_runs(trial.config)}
            for trial in every
        }
        self.configs = {name: single for runs in self.runs.values() for name, single in runs.items()}
        self.of = {name: trial for trial, runs in self.runs.items() for name in runs}
        self.ended: set[str] = set()
        self.best: float | None = None  # the best score so far, and by run what it is the best of
        self.standings: dict[str, tuple[float, float]] = {}
        self.side: Runs

    # ------------------------------------------------------------ train

    def run(self) -> SweepResult:
        """Train, and tell and write all that is known at the end; `summary.json` goes last."""
        self._look_for_the_ended()
        with opened(
            self.staff, self.files, self.configs, None, self.interrupt, self._watch, False, self.made
        ) as self.side:
            try:
                self._train()
            except Stopping:
                raise stopped_all(self.interrupt, self.files.path, self.progress) from None
        self.progress.close()
        ranked = sorted(
            map(self._ranked, self.trials.values()),
            key=lambda one: (one.score is not None, self._order(one.trial.name)),
            reverse=True,
        )
        return self._close(ranked)

    def _look_for_the_ended(self) -> None:
        """Take the runs that have ended as they are."""
        for name, single in self.configs.items():
            place = self.files.path / name
            if not (place / "resolved.yaml").is_file():
                refuse_unknown(place)
                continue
            self._refuse_another_run(place, single)
            if not (place / "summary.json").is_file():
                continue
            begun = begun_in(place, single)
            if begun is not None and begun.finished:
                if not self.ended and begun.checkpoint is not None:
                    self._refuse_other_data(place, single, begun.checkpoint.state["data"])
                summary = read_json(place / "summary.json", Summary)
                ended = begun.covers(single) or str(summary["stopped"]).startswith(LEFT)
                if ended and self._has_all_epochs(place, begun):
                    self.ended.add(name)
        for trial, runs in self.runs.items():
            if self.ended.issuperset(runs):
                self.progress.ended(trial)

    def _has_all_epochs(self, place: Path, begun: Resumed) -> bool:
        """Return whether the file that a trial is ranked by is whole; where it is not, the run is opened and closed
        once more, which writes it again.
        """
        saved = [] if begun.checkpoint is None else begun.checkpoint.state["history"]
        return bool(saved) and len(read_lines(place / "metrics.jsonl")[0]) >= len(saved)

    def _refuse_another_run(self, place: Path, config: Config) -> None:
        with suppress(ConfigError):  # of a file that is damaged nothing is known
            changes = differences(config, place)
            if changes:
                raise ResumeError(
                    "\n  ".join([f"{place} is the run of another config than this trial's:", *changes])
                    + "\nBring its own run back, or delete the directory: the trial is trained anew then"
                )

    def _refuse_other_data(self, place: Path, config: Config, before: str) -> None:
        now = self.made.of(config).fingerprint
        if before not in (now, now.partition("-")[0]):
            raise ResumeError(
                f"{place}: the data are not what they were when this trial was trained, and others could not be"
                " compared with it; bring them back, or begin a new sweep"
            )

    def _train(self) -> None:
        going_on = list(self.trials)
        marks = rungs(self.config, len(going_on))
        for number_of, rung in enumerate(marks, start=1):
            self._plan(going_on, marks[number_of - 1 :])
            for name in self.side.advance(self._open_runs(going_on), rung.epochs):
                self._run_ended(name)
            of = [trial for trial in going_on if not self._failed(trial)]
            ranked = sorted(of, key=lambda trial: self._order(trial, rung.epochs), reverse=True)
            count, going_on = len(ranked), ranked[: rung.kept]
            places = {trial: place for place, trial in enumerate(ranked, start=1)}
            self._say(
                f"rung {number_of} of {len(marks)}: after {rung.epochs} epochs {len(going_on)} of {count} trials go on"
            )
            self._finish(
                ranked[rung.kept :],
                {
                    name: f"{LEFT} after {rung.epochs} epochs: number {places[trial]} of {count} by validation"
                    f" {self.monitor}, and {rung.kept} go on"
                    for trial in ranked[rung.kept :]
                    for name in self.runs[trial]
                },
            )
        self._plan(going_on, [])
        self._finish(going_on, {})

    def _finish(self, going: Sequence[str], stopped: Mapping[str, str]) -> None:
        for name in self.side.finish(self._open_runs(going), stopped):
            self._run_ended(name)

    def _open_runs(self, of: Sequence[str]) -> list[str]:
        return [name for trial in of for name in self.runs[trial] if name not in self.ended]

    def _plan(self, going_on: Sequence[str], ahead: Sequence[Rung]) -> None:
        """Tell the bar what is to come: the epochs until the next rung, and a share of those after it."""
        whole = epochs_of(self.config)
        ends = [*(rung.epochs for rung in ahead), whole]
        after = sum(rung.kept * (end - rung.epochs) for rung, end in zip(ahead, ends[1:], strict=True))
        self.progress.plan(
            {
                name: max(0, min(ends[0], epochs_of(self.configs[name])) - len(self._history(name)))
                + after / max(1, len(going_on))
                for name in self._open_runs(going_on)
            }
        )

    def _run_ended(self, name: str) -> None:
        """A run is closed, or has failed."""
        self.ended.add(name)
        trial = self.of[name]
        if not self.ended.issuperset(self.runs[trial]):
            return
        self.progress.ended(trial)
        ranked = self._ranked(self.trials[trial])
        values = ", ".join(f"{key} {describe_value(value)}" for key, value in ranked.trial.values.items())
        found = f"failed: {ranked.error}" if ranked.score is None else self._score_text(ranked)
        self._say(f"{trial} ({self.progress.done} of {self.progress.count})  {found}  {values}")

    def _score_text(self, ranked: Ranked) -> str:
        assert ranked.score is not None
        epochs = f"{ranked.epochs} epoch{'s' * (ranked.epochs != 1)}"
        return f"validation {label(self.monitor)} {number(ranked.score)} in {epochs}"

    def _say(self, text: str) -> None:
        self.files.log(text)
        if not self.progress.has_bar:
            self.progress.say(text)

    def _watch(self, name: str, news: News) -> None:
        """Tell the bar, with the best so far."""
        best = news.best
        if news.epochs and best is None and (found := standing(self.side.history[name], self.monitor)) is not None:
            best = found.order
        if best is not None and self.progress.has_bar:
            trial, self.standings[name] = self.of[name], best
            of_runs = [self.standings[one] for one in self.runs[trial] if one in self.standings]
            value = sum(value for value, _ in of_runs) / len(of_runs)
            if len(of_runs) == len(self.runs[trial]) and (self.best is None or value > self.best):
                self.best = value
                self.progress.best = label(self.monitor), f"{number(self._shown(value))} {trial}"
        self.progress.event(name, news)

    # ------------------------------------------------------------ order

    def _shown(self, value: float) -> float:
        return -value if is_loss(self.monitor) else value

    def _history(self, name: str) -> Sequence[Mapping[str, Any]]:
        if name not in self.side.history:
            self.side.history[name] = read_lines(self.files.path / name / "metrics.jsonl")[0]
        return self.side.history[name]

    def _failed(self, trial: str) -> bool:
        return any(name in self.side.errors for name in self.runs[trial])

    def _standings(self, trial: str, epochs: int | None = None) -> list[Standing | None]:
        return [standing(self._history(name), self.monitor, epochs) for name in self.runs[trial]]

    def _standing(self, trial: str, epochs: int | None = None) -> tuple[float, float]:
        return over_runs(self._standings(trial, epochs))

    def _order(self, trial: str, epochs: int | None = None) -> tuple[float, float]:
        """Return what ranks a trial: its score, and among equals the loss, where that of all measures the same."""
        assert self.config.sweep is not None
        score, loss = self._standing(trial, epochs)
        return score, 0.0 if any(map(changes_loss, self.config.sweep.axes)) else loss

    def _ranked(self, trial: Trial) -> Ranked:
        """Return what is known of a trial whose runs have all ended."""
        names = list(self.runs[trial.name])
        epochs = max(len(self._history(name)) for name in names)
        errors = [self.side.errors[name] for name in names if name in self.side.errors]
        if errors:
            said = (
                errors[0].fact if isinstance(errors[0], DivergedError) else str(errors[0]) or type(errors[0]).__name__
            )
            return Ranked(trial, epochs=epochs, error=said)
        summaries = [read_json(self.files.path / name / "summary.json", Summary) for name in names]
        best, loss = self._standing(trial.name)
        if len(names) == 1 and not is_several(trial.config):
            scores, best_epoch = summaries[0]["scores"], summaries[0]["best_epoch"]
        else:
            scores, best_epoch = self._summed_up(trial, names, summaries), None
        stopped, seconds = summaries[0]["stopped"], math.fsum(summary["seconds"] for summary in summaries)
        return Ranked(trial, self._shown(best), -loss, best_epoch, epochs, stopped, None, scores, seconds)

    def _summed_up(
        self, trial: Trial, names: Sequence[str], summaries: Sequence[Mapping[str, Any]]
    ) -> dict[str, dict[str, float]]:
        """Return the means over the runs of a trial; its directory becomes that of several complete runs."""
        place = self.files.path / trial.name
        if (place / "summary.json").is_file():
            scores: dict[str, dict[str, float]] = read_json(place / "summary.json", SeveralSummary)["scores"]
            return scores
        found = {name.partition("/")[2]: summary["scores"] for name, summary in zip(names, summaries, strict=True)}
        with directory.RunDirectory(place) as files:
            files.write("resolved.yaml", resolved(trial.config))
            return summed_up(trial.config, found, files).mean

    # ------------------------------------------------------------ close

    def _close(self, ranked: list[Ranked]) -> SweepResult:
        """Tell and write all that is known at the end; `summary.json` goes last."""
        root, best, errors = self.files.path, ranked[0], list(self.side.errors.values())
        if best.score is None:
            raise self._none(errors)
        text = table(ranked, self.monitor)
        failed = sum(one.score is None for one in ranked)
        if failed:
            text += f"\n{failed} of {len(ranked)} trials failed; trials.csv says why"
        text = "\n".join(filter(None, [text, on_seeds(best.trial.values)]))
        heading = f"{self.config.name}: the best of {len(ranked)} trials by validation {label(self.monitor)}"
        print(f"\n{heading}\n{text}")
        self.files.log(f"{heading}\n{text}")
        judged = list(best.scores)[-1]
        scores = ", ".join(f"{label(name)} {number(value)}" for name, value in best.scores[judged].items())
        print(f"\n{best.trial.name} on the {judged} part: {scores}")
        self.files.write("trials.csv", as_csv(ranked))
        if best.best_epoch is not None:  # the pages of the others are made when they are asked for
            page_again.write(load_run(root / best.trial.name))
        shown = "; report.html shows them" if report.write(root, self.config, ranked, self.monitor) else ""
        self.files.write_json(
            "summary.json",
            {
                "name": self.config.name,
                "monitor": self.monitor,
                "best": best.trial.name,
                "scores": best.scores,
                "trials": [one.facts() for one in ranked],
            },
        )
        print(f"results in {root}{shown}; the best trial is {root / best.trial.name}", flush=True)
        return SweepResult(root, ranked)

    def _none(self, errors: Sequence[Exception]) -> Exception:
        """Return what is raised where every trial has failed: the first error, as that of all."""
        first = errors[0]
        said = f"all {len(self.trials)} trials failed; the first:"
        if isinstance(first, DivergedError):
            return DivergedError(f"{said} {first.fact}", first.advice, first.step, first.part)
        return DataError(f"{said} {first}", *first.path) if isinstance(first, DataError) else first


def as_csv(ranked: Sequence[Ranked]) -> str:
    """Return every trial as a line: its values, its scores, and how it ended."""
    keys = list(ranked[0].trial.values)
    parts = next((one.scores for one in ranked if one.scores), {})
    columns = [(part, name) for part, values in parts.items() for name in values]
    text = io.StringIO()
    writer = csv.writer(text)
    head = ["trial", *keys, "score", "best_epoch", "epochs", *(f"{part}_{name}" for part, name in columns)]
    writer.writerow([*head, "stopped", "error"])
    for one in ranked:
        values = [describe_value(one.trial.values.get(key)) for key in keys]
        scores = [one.scores.get(part, {}).get(name) for part, name in columns]
        writer.writerow(
            [one.trial.name, *values, one.score, one.best_epoch, one.epochs, *scores, one.stopped, one.error]
        )
    return text.getvalue()
