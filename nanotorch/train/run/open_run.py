"""A run that is open: built, its directory claimed; it is driven from outside, alone or among others.

Whoever drives it goes over `events` and has each one taken by `take`, which saves and tells; then come `judge` and
`close`. What a process has only once is the driver's: the handlers of signals, the default generator, the threads of
BLAS, the terminal.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nanotorch import nn
from nanotorch.capture.recorder import CaptureError
from nanotorch.ops.create.random import drawing_from
from nanotorch.train.config.loading import epochs_of, resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.build import Setup, build, climbing
from nanotorch.train.fit.chunks import Chunk, Chunks, Due
from nanotorch.train.fit.loop import DivergedError, check_losses, check_scores, check_weights, evaluate, fit
from nanotorch.train.fit.prepare import Data
from nanotorch.train.fit.training import Training
from nanotorch.train.fit.window_step import StepResult, window_step
from nanotorch.train.inspect.nonfinite import find_cause
from nanotorch.train.record import checkpoint, directory
from nanotorch.train.record.environment import same_bits
from nanotorch.train.record.narrator import Narrator
from nanotorch.train.record.progress import Progress
from nanotorch.train.record.resume import Resumed, ResumeError, again, differences, environment_of, whole
from nanotorch.train.record.tensorboard_log import TensorBoardLog
from nanotorch.train.report import run_page
from nanotorch.train.report.run_summary import gather, tempered
from nanotorch.train.score.meter import main_metric
from nanotorch.train.terminal import text_report as report
from nanotorch.train.terminal.interrupt import Interrupt, Stopping, TrainingInterrupted

Event = StepResult | Due | Chunk | dict[str, Any] | Exception

PATIENCE = 1.0  # seconds that lines of a run beside others wait: to open two files takes longer than a small epoch


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves: its directory, the best model, the scores of each part, a record per epoch."""

    directory: Path
    model: nn.Module
    scores: dict[str, dict[str, float]]
    history: list[dict[str, Any]]
    best_epoch: int


class Built(NamedTuple):
    """What a run is made of, before anything is written: runs of alike data may share these. The config is settled.

    `step` is what takes its steps where no program does.
    """

    config: Config
    data: Data
    setup: Setup
    chunks: Chunks
    fingerprint: str
    environment: dict[str, Any]
    step: Callable[..., StepResult] = window_step


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run to be opened.

    Attributes:
        config: what to do, with a seed.
        source: the text of the config file, to be kept beside the results.
        directory: where to write, a directory that is new or empty; without it a new one is made.
        resume: go on with this run in its own directory, bit for bit, instead of beginning one.
        overwrite: replace the run that is in `directory`.
        needed: files that are not to be replaced with it.
    """

    config: Config
    source: str | None = None
    directory: Path | None = None
    resume: Resumed | None = None
    overwrite: bool = False
    needed: Sequence[str | Path] = ()


@dataclass(slots=True)
class OpenRun:
    """A run that is open: what is trained, and where it is written and told; to be made by `open_run`.

    Attributes:
        over: no more steps are to be taken: all are done, an interrupt was seen, or an error.
        stopping: an interrupt was seen, and all is saved.
    """

    config: Config
    data: Data
    setup: Setup
    chunks: Chunks
    fingerprint: str
    files: directory.RunDirectory
    checkpoints: checkpoint.Checkpoints
    tell: Narrator
    interrupt: Interrupt
    here: dict[str, Any]
    started: float
    step: Callable[..., StepResult] = window_step
    over: bool = False
    stopping: bool = False
    _steps: int = 0
    _resume: Resumed | None = None
    _preprocessing: dict[str, Any] = field(default_factory=dict)
    _model: nn.Module | None = None

    # ------------------------------------------------------------ open

    def start(self, wanted: Wanted) -> None:
        """Write what is known before the first step: in a new directory, or in that of a run that goes on."""
        if self._resume is None:
            self._begin(wanted)
        else:
            self._go_on(wanted.source, self._resume)

    def _begin(self, wanted: Wanted) -> None:
        """Claim the directory, and write what is known before the first step."""
        text = resolved(self.config)
        self.files.claim(wanted.overwrite, wanted.needed)
        self.files.begin(wanted.source, text, self.here, ())
        self._tell_the_beginning(text, [f"training begins: {self.config.name}"])

    def _go_on(self, source: str | None, resume: Resumed) -> None:
        """Put the directory of a run to where its checkpoint stands."""
        config, training, text = self.config, self.setup.training, resolved(self.config)
        headline = f"training goes on after step {training.step}: {config.name}"
        changes = [f"changed: {change}" for change in differences(config, resume.directory, free=True)]
        warnings = _environment_warnings(self.here, resume)
        saved = resume.checkpoint
        if saved is not None and not self.checkpoints.rewind(saved, same_future=not resume.changed):
            warnings.append(
                f"the checkpoint of the best epoch, {training.best_epoch}, is gone: the best of those after epoch"
                f" {training.epoch} is taken"
            )
            training.best_epoch, training.best_score = 0, (-math.inf, -math.inf)
        self.tell.show(headline)
        for warning in warnings:
            self.tell.warn(f"warning: {warning}")
        keep_source = not resume.changed and (self.files.path / "config.yaml").is_file()
        self.files.begin(None if keep_source else source, text, self.here, training.history)
        self._tell_the_beginning(text, [headline, *changes, *resume.notices, *warnings])

    def _tell_the_beginning(self, config: str, notes: Sequence[str]) -> None:
        self.tell.begins(config, self.setup.training.history, notes)
        odd = [f"{oddity.what}; {oddity.why}" for oddity in self.data.oddities]
        for notice in (*self.data.notices, *odd, *climbing(self.config, self.setup.steps_per_epoch)):
            self.tell.say(f"note: {notice}")

    def goes_on_from(self) -> dict[str, Any]:
        """Return, as plain values, from which checkpoint it goes on, if from one, and what has changed since."""
        saved = None if self._resume is None else self._resume.checkpoint
        changed = [] if self._resume is None else [change.split(":")[0] for change in self._resume.changed]
        return {"checkpoint": None if saved is None else str(saved.path.absolute()), "changed": changed}

    # ------------------------------------------------------------ train

    def events(self, epochs: int | None = None) -> Iterator[Event]:
        """Train: yield what `fit` does, to be taken by `take` before the next, and an error as the last event.

        It ends where the run does, after so many `epochs`, or once `take` has seen an interrupt.
        """
        training, loader, parts, options = self.setup
        if self.over or (epochs is not None and training.epoch - (training.step_in_epoch > 0) >= epochs):
            return
        try:
            part, chunks = parts.get("validation"), self.chunks
            for event in fit(training, loader, part, options, self.interrupt, self.step, chunks):
                yield event
                if self.over or (isinstance(event, dict) and event["epoch"] == epochs):
                    return
        except Stopping:  # during validation
            self.stopping = True
            yield from self._saved_on_the_way()
        except DivergedError as error:
            yield error
        except CaptureError as error:
            found = DataError(f"train.compile: {error}", "train", "compile")
            found.__cause__ = error
            yield found
        self.over = True

    def take(self, event: Event) -> None:
        """Save and tell what an event says, now that `fit` stands still; an event that is an error is raised."""
        if isinstance(event, Exception):
            self.over = True
            raise event
        if isinstance(event, Due):
            return
        training = self.setup.training
        if isinstance(event, dict):
            self.save(best=training.best_epoch == training.epoch)
            self.tell.epoch(event)
        else:
            self.tell.steps(training.step - self._steps, training.latest_loss)
            self._steps = training.step
        self.stopping = self.over = bool(self.interrupt)
        if not isinstance(event, dict) and (self.stopping or self.checkpoints.due(training.step)):
            for error in self._saved_on_the_way():
                self.over = True
                raise error

    def _saved_on_the_way(self) -> Iterator[DivergedError]:
        """Save between two epochs; yield what speaks against it."""
        try:
            check_losses(self.setup.training)
            check_weights(self.setup.training)
        except DivergedError as error:
            yield error
            return
        self.save()

    def save(self, best: bool = False) -> None:
        """Make the present state the checkpoint `last`, and `best` too if it is."""
        training = self.setup.training
        state = {**training.state(), "preprocessing": self._preprocessing, "data": self.fingerprint}
        raw = None if training.average is None else training.model.state_dict()
        optimizer, history = training.optimizer.state_dict(), training.history
        self.checkpoints.save(training.step, training.weights(), optimizer, state, best, raw, history)

    def last(self) -> Path | None:
        """Return the newest checkpoint on the disk."""
        return checkpoint.find(self.checkpoints.root, "last") and self.checkpoints.root / "last"

    def stopped(self, after: str = "") -> TrainingInterrupted:
        """Return what to raise after an interrupt, once all is on the disk."""
        training = self.setup.training
        after = after or f"stopped after step {training.step}, in epoch {training.epoch} of {self.setup.options.epochs}"
        self.checkpoints.flush()
        error = interrupted(self.interrupt, f"{after}; the checkpoint of this step is {self.checkpoints.root / 'last'}")
        self.tell.log(str(error))
        return error

    def explained(self, error: DivergedError) -> DivergedError:
        """Return the error with the last good checkpoint and with what made the first value that is not finite."""
        self.tell.training_is_over()
        self.checkpoints.flush()
        last = self.last()
        fact, cause = f"{error.fact}; last good checkpoint: {last or 'none'}", ""
        self.tell.log(fact)
        if error.step:
            self.tell.show("looking for the operation that made the first value that is not finite ...")
            cause = self._cause(last, error)
        return DivergedError(fact, error.advice + cause, error.step, error.part)

    def _cause(self, last: Path | None, error: DivergedError) -> str:
        """Return what made the first value that is not finite, and in which rows, as lines of text."""
        setup = build(self.config, self.data)
        if last is not None:
            setup.training.load(whole(last)[0])
        cause = find_cause(setup, error, self.interrupt)
        if cause is None:
            return ""
        lines = []
        if cause.operation is not None:
            lines.append(f"first: {cause.operation}")
        if cause.rows:
            numbers = self.data.parts["train"].numbers
            rows = cause.rows if numbers is None else numbers[cause.rows].tolist()
            some = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
            lines.append(
                f"rows of that step, counted from 0 in the whole table ({len(rows)}, all of them in train.log): {some}"
            )
            self.tell.log(f"rows of step {error.step}: {', '.join(map(str, rows))}")
        for line in lines:
            self.tell.log(line)
        return "".join(f"\n{line}" for line in lines)

    # ------------------------------------------------------------ judge, close

    def judge(self) -> dict[str, dict[str, float]]:
        """Return the scores of each part. The test part is looked at once, by the best model, as it was saved."""
        self.tell.training_is_over()
        training, checkpoints = self.setup.training, self.checkpoints
        if checkpoint.find(checkpoints.root, "best") is None and not checkpoints.waits("best"):
            training.best_epoch = training.epoch
            self.save(best=True)
        checkpoints.flush()
        best = checkpoint.find(checkpoints.root, "best")
        assert best is not None
        training.use(checkpoint.load(best).model)
        self._model, parts = training.model, self.setup.parts
        try:
            with drawing_from(training.generator):
                if self.config.train.calibration is not None:
                    self._model = tempered(training.model, parts["validation"], self.data.parts["validation"])
                scores = {
                    name: evaluate(self._model, training.criterion, part, self.interrupt)
                    for name, part in parts.items()
                }
            for name, values in scores.items():
                check_scores(training, name, values)
        except Stopping:
            raise self.stopped("stopped after the last step, before the scores were complete") from None
        except DivergedError as error:
            self.tell.log(str(error))
            raise
        return scores

    def close(self, scores: dict[str, dict[str, float]], with_page: bool = True) -> RunResult:
        """Tell and write all that is known at the end; `summary.json` goes last."""
        config, training, parts, root = self.config, self.setup.training, self.setup.parts, self.files.path
        model = self._model or training.model
        if training.stopped:
            self.tell.say(training.stopped, apart=True)
        rows = {name: len(part) for name, part in parts.items()}
        which = "the best" if "validation" in parts else "the last"
        heading = f"{config.name}: scores of epoch {training.best_epoch}, {which} of {training.epoch}"
        self.tell.say(f"{heading}\n{report.table(scores, rows)}", apart=True)
        found = gather(config, self.data, model, parts)
        if found.classes:
            once = "" if found.weights is None else ", each row counted once"
            self.tell.say(f"{found.judged} part by class{once}\n{report.class_table(found.classes)}", apart=True)
        if found.targets:
            once = "" if found.weights is None else ", each row counted once"
            self.tell.say(f"{found.judged} part by target{once}\n{report.target_table(found.targets)}", apart=True)
        facts = {
            "name": config.name,
            "task": self.data.preprocessing.task,
            "best_epoch": training.best_epoch,
            "epochs": training.epoch,
            "steps": training.step,
            "skipped_steps": training.skipped,
            "stopped": training.stopped,
            "parameters": sum(p.numel() for p in training.model.parameters()),
            "rows": rows,
            "scores": scores,
            **found.facts(),
            **({} if found.untempered is None else {"temperature": found.untempered.temperature}),
            **({"verdict": run_page.judge(found)} if with_page else {}),
            "seconds": time.perf_counter() - self.started,
        }
        if with_page:
            self.tell.say(report.wrapped(" ".join(facts["verdict"])), apart=True)
        self.tell.scores(scores[found.judged], training.step)
        shown = ""
        if not with_page:
            (root / "report.html").unlink(missing_ok=True)  # of fewer epochs
        elif run_page.write(root, found, training.history, facts, self.here):
            shown = "; report.html shows them"
        self.files.finish(training.history, found.kept(), facts)
        self.tell.show(f"results in {root}{shown}")
        if sys.stdout.isatty():
            place = shlex.quote(str(root))
            self.tell.show(
                f"next: open {place}/report.html, or\n  python -m nanotorch.predict {place} --input FILE --output FILE"
            )
        return RunResult(root, model, scores, training.history, training.best_epoch)


def open_run(
    wanted: Wanted,
    make: Callable[[Config], Built],
    interrupt: Interrupt,
    held: ExitStack,
    progress_bar: bool = True,
    pace: checkpoint.Pace | None = None,
) -> OpenRun:
    """Open a run, new or where it stopped; `start` then writes, so that everything is built before.

    Args:
        wanted: which run.
        make: builds what the config asks for.
        interrupt: what the run listens to.
        held: closes the run when it ends: what waits is written then, and the directory given back.
        progress_bar: allow a bar where the output is a terminal.
        pace: of the runs that are open beside this one; of these only their own files tell.
    """
    started = time.perf_counter()
    config, resume, patience = wanted.config, wanted.resume, 0.0 if pace is None else PATIENCE
    if resume is not None:
        files = held.enter_context(directory.RunDirectory(resume.directory, patience))
        resume = again(resume, config)
    config, data, setup, chunks, fingerprint, environment, step = make(config)
    if resume is None:
        files = held.enter_context(directory.RunDirectory(_place(config, wanted.directory), patience))
    else:
        _load(resume, setup.training, fingerprint)
    training, often, bar = setup.training, config.checkpoint, progress_bar and pace is None
    checkpoints = held.enter_context(
        checkpoint.Checkpoints(files.path / "checkpoints", often.every_seconds, often.every_steps, often.keep, pace)
    )
    shown = main_metric(data.preprocessing.task) if training.monitor == "loss" else training.monitor
    progress = Progress(epochs_of(config), setup.steps_per_epoch, shown, bar, done=training.step)
    curves = TensorBoardLog(files.path if config.log.tensorboard else None)
    tell = held.enter_context(Narrator(files, progress, curves, aloud=pace is None))
    here = {**environment, "compile": chunks.plan(training)}
    run = OpenRun(
        config, data, setup, chunks, fingerprint, files, checkpoints, tell, interrupt, here, started, step,
        _steps=training.step, _resume=resume, _preprocessing=data.preprocessing.state(),
    )  # fmt: skip
    return run


def chunks_of(config: Config, setup: Setup) -> Chunks:
    """Return what runs the steps as a program, where that pays; a DataError where it was asked for and cannot be."""
    training, loader, _, options = setup
    often = config.checkpoint.every_steps
    chunks = Chunks(training, loader, options, options.accumulate, options.epochs, config.train.compile, often)
    if config.train.compile is True and chunks.refused is not None:
        raise DataError(f"train.compile: {chunks.refused}; auto takes plain steps then", "train", "compile")
    return chunks


def _place(config: Config, chosen: Path | None) -> Path:
    """Return the directory of a new run, made."""
    if chosen is None:
        return directory.create(config.output, config.name)
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


def _load(resume: Resumed, training: Training, fingerprint: str) -> None:
    """Put what was built to where the checkpoint stands, if there is one; a ResumeError where the data are others."""
    saved = resume.checkpoint
    if saved is None:
        return
    allowed = any(change.startswith("data.") for change in resume.changed)
    # Older checkpoints do not know of rows on the disk.
    if not allowed and saved.state["data"] not in (fingerprint, fingerprint.partition("-")[0]):
        raise ResumeError(
            f"{resume.directory}: the data are not what they were when this run was trained, so it cannot go on"
            " as if nothing had happened; bring them back, or begin a new run"
        )
    training.load(saved, [change.split(":")[0] for change in resume.changed])


def _environment_warnings(here: dict[str, Any], resume: Resumed) -> list[str]:
    """Return what has changed of that on which the bits depend; `here` takes in what was before."""
    before, lost = environment_of(resume.directory)
    warnings = []
    if lost is not None and resume.checkpoint is not None:
        warnings.append(f"{lost}: whether the bits of the results may differ is not known")
    bits = same_bits(before, here) if before else []
    if bits:
        here["before"] = before
        warnings.append(
            f"the bits of the results may differ from those of one run, since this changed: {'; '.join(bits)}"
        )
    return warnings


def interrupted(interrupt: Interrupt, what: str) -> TrainingInterrupted:
    """Return what is raised after an interrupt, of which this is to be told."""
    assert interrupt.signal is not None
    return TrainingInterrupted(f"{interrupt.signal.name}: {what}", 128 + interrupt.signal)
