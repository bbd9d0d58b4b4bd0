"""A run of the trainer: a config becomes a trained, tested and saved model, and a directory that tells all about it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotorch import nn
from nanotorch.capture.recorder import CaptureError
from nanotorch.train.config.loading import resolved, with_seed
from nanotorch.train.config.sections import Config
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.build import Setup, build
from nanotorch.train.fit.chunks import Chunks
from nanotorch.train.fit.loop import DivergedError, check_losses, check_scores, check_weights, evaluate, fit
from nanotorch.train.fit.prepare import Data, prepare
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.fit.training import Training
from nanotorch.train.inspect.nonfinite import find_cause
from nanotorch.train.record import checkpoint, directory
from nanotorch.train.record.environment import environment, same_bits
from nanotorch.train.record.narrator import Narrator
from nanotorch.train.record.progress import Progress
from nanotorch.train.record.resume import Resumed, ResumeError, again, config_of, differences, environment_of, whole
from nanotorch.train.record.tensorboard_log import TensorBoardLog
from nanotorch.train.report import run_page
from nanotorch.train.report.run_summary import gather
from nanotorch.train.score.meter import main_metric
from nanotorch.train.terminal import text_report as report
from nanotorch.train.terminal.blas_threads import blas_threads
from nanotorch.train.terminal.interrupt import Interrupt, Stopping, TrainingInterrupted


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves: its directory, the best model, the scores of each part, a record per epoch."""

    directory: Path
    model: nn.Module
    scores: dict[str, dict[str, float]]
    history: list[dict[str, Any]]
    best_epoch: int


def run(
    config: Config,
    source: str | None = None,
    progress_bar: bool = True,
    run_directory: Path | None = None,
    resume: Resumed | None = None,
    overwrite: bool = False,
    needed: Sequence[str | Path] = (),
) -> RunResult:
    """Train as the config says, keep the epoch with the best validation score, and test that one.

    Args:
        config: what to do.
        source: the text of the config file, to be kept beside the results.
        progress_bar: allow a bar where the output is a terminal.
        run_directory: where to write, a directory that is new or empty; without it a new one is made.
        resume: go on with this run in its own directory, bit for bit, instead of beginning one.
        overwrite: replace the run that is in `run_directory`.
        needed: files that are not to be replaced with it, such as the config's; those that the config names never are.

    Raises:
        DataError: the data cannot be trained on; nothing was written.
        DirectoryError: the directory cannot be written to, or belongs to another run; nothing was written.
        ResumeError: the run cannot go on so; a CompleteError where another process has finished it in the meantime.
        CheckpointError: a checkpoint cannot be written, or the one to go on from does not fit; those before it are
            intact.
        DivergedError: the loss is not finite any more.
        TrainingInterrupted: after Ctrl-C or SIGTERM, once the step is done and saved.
    """
    started = time.perf_counter()
    if config.seed is None:
        before = None if resume is None else config_of(resume.directory).seed
        config = with_seed(config, before)
        print(f"seed {config.seed} {'drawn' if before is None else 'of the run that goes on'}")
    needed = [*needed, *files_of(config)]
    with borrowed_generator(), Interrupt() as interrupt, ExitStack() as held:
        if resume is None:
            directory.check(config.output, run_directory, overwrite, needed)
        else:
            files = held.enter_context(directory.RunDirectory(resume.directory))
            resume = again(resume, config)
        # Everything is built before anything is written: what cannot be trained leaves no trace.
        data, setup, chunks = _built(config, interrupt)
        fingerprint = data.fingerprint()
        if resume is None:
            files = held.enter_context(directory.RunDirectory(_place(config, run_directory)))
        else:
            _load(resume, setup.training, fingerprint)
        current = _opened(config, data, setup, chunks, fingerprint, files, interrupt, progress_bar, held)
        if resume is None:
            _begin(current, source, overwrite, needed)
        else:
            _go_on(current, source, resume)
        _train(current)
        scores = _judge(current)
        return _close(current, scores, started)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is open: what is trained, and where it is written and told."""

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

    def save(self, best: bool = False) -> None:
        """Make the present state the checkpoint `last`, and `best` too if it is."""
        training = self.setup.training
        state = {**training.state(), "preprocessing": self.data.preprocessing.state(), "data": self.fingerprint}
        raw = None if training.average is None else training.model.state_dict()
        optimizer, history = training.optimizer.state_dict(), training.history
        self.checkpoints.save(training.step, training.weights(), optimizer, state, best, raw, history)

    def last(self) -> Path | None:
        """Return the newest checkpoint on the disk."""
        return checkpoint.find(self.checkpoints.root, "last") and self.checkpoints.root / "last"

    def stopped(self, after: str) -> TrainingInterrupted:
        """Return what to raise after an interrupt, once all is on the disk."""
        self.checkpoints.flush()
        error = _interrupted(
            self.interrupt, f"{after}; the checkpoint of this step is {self.checkpoints.root / 'last'}"
        )
        self.tell.log(str(error))
        return error


# ------------------------------------------------------------ open


def _built(config: Config, interrupt: Interrupt) -> tuple[Data, Setup, Chunks]:
    try:
        interrupt.check()
        data = prepare(config)
        interrupt.check()
        setup = build(config, data)
        training, loader, _, options = setup
        chunks = Chunks(
            training, loader, options, options.accumulate, config.train.compile, config.checkpoint.every_steps
        )
        if config.train.compile is True and chunks.refused is not None:
            raise DataError(f"train.compile: {chunks.refused}; auto takes plain steps then", "train", "compile")
        interrupt.check()
    except Stopping:
        raise _interrupted(interrupt, "stopped before the first step; nothing was written") from None
    return data, setup, chunks


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


def _opened(
    config: Config,
    data: Data,
    setup: Setup,
    chunks: Chunks,
    fingerprint: str,
    files: directory.RunDirectory,
    interrupt: Interrupt,
    progress_bar: bool,
    held: ExitStack,
) -> Run:
    """Open what a run writes to; nothing is written yet."""
    training, train, root, often = setup.training, config.train, files.path, config.checkpoint
    checkpoints = held.enter_context(
        checkpoint.Checkpoints(root / "checkpoints", often.every_seconds, often.every_steps, often.keep)
    )
    held.enter_context(blas_threads(training.model, train.batch_size))
    shown = main_metric(data.preprocessing.task) if training.monitor == "loss" else training.monitor
    progress = Progress(train.epochs, setup.steps_per_epoch, shown, progress_bar, done=training.step)
    curves = TensorBoardLog(root if config.log.tensorboard else None)
    tell = held.enter_context(Narrator(files, progress, curves))
    here = {**environment(setup.parts["train"].device), "compile": chunks.plan(training, train.epochs)}
    return Run(config, data, setup, chunks, fingerprint, files, checkpoints, tell, interrupt, here)


def _begin(run: Run, source: str | None, overwrite: bool, needed: Sequence[str | Path]) -> None:
    """Claim the directory, and write what is known before the first step."""
    text = resolved(run.config)
    run.files.claim(overwrite, needed)
    run.files.begin(source, text, run.here, ())
    _tell_the_beginning(run, text, [f"training begins: {run.config.name}"])


def _go_on(run: Run, source: str | None, resume: Resumed) -> None:
    """Put the directory of a run to where its checkpoint stands."""
    config, training, text = run.config, run.setup.training, resolved(run.config)
    headline = f"training goes on after step {training.step}: {config.name}"
    changes = [f"changed: {change}" for change in differences(config, resume.directory, free=True)]
    warnings = _environment_warnings(run.here, resume)
    if resume.checkpoint is not None and not run.checkpoints.rewind(resume.checkpoint, same_future=not resume.changed):
        warnings.append(
            f"the checkpoint of the best epoch, {training.best_epoch}, is gone: the best of those after epoch"
            f" {training.epoch} is taken"
        )
        training.best_epoch, training.best_score = 0, (-math.inf, -math.inf)
    run.tell.show(headline)
    for warning in warnings:
        run.tell.warn(f"warning: {warning}")
    keep_source = not resume.changed and (run.files.path / "config.yaml").is_file()
    run.files.begin(None if keep_source else source, text, run.here, training.history)
    _tell_the_beginning(run, text, [headline, *changes, *resume.notices, *warnings])


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


def _tell_the_beginning(run: Run, config: str, notes: Sequence[str]) -> None:
    run.tell.begins(config, run.setup.training.history, notes)
    for notice in run.data.notices:
        run.tell.say(f"note: {notice}")


# ------------------------------------------------------------ train


def _train(run: Run) -> None:
    """Train to the end, with checkpoints on the way; a DivergedError with its cause, a TrainingInterrupted."""
    training = run.setup.training
    try:
        _fit_and_save(run)
    except DivergedError as error:
        raise _explained(run, error) from None
    except CaptureError as error:
        raise DataError(f"train.compile: {error}", "train", "compile") from error
    if run.interrupt:
        raise run.stopped(
            f"stopped after step {training.step}, in epoch {training.epoch} of {run.setup.options.epochs}"
        )
    run.tell.training_is_over()


def _fit_and_save(run: Run) -> None:
    training, loader, parts, options = run.setup
    steps = training.step
    try:
        for event in fit(training, loader, parts["validation"], options, run.interrupt, chunks=run.chunks):
            if isinstance(event, dict):
                run.save(best=training.best_epoch == training.epoch)
                run.tell.epoch(event)
            else:
                run.tell.steps(training.step - steps, training.latest_loss)
                steps = training.step
            stopping = bool(run.interrupt)
            if not isinstance(event, dict) and (run.checkpoints.due(training.step) or stopping):
                check_losses(training)
                check_weights(training)
                run.save()
            if stopping:
                return
    except Stopping:  # during validation
        check_weights(training)
        run.save()


def _explained(run: Run, error: DivergedError) -> DivergedError:
    """Return the error with the last good checkpoint and with what made the first value that is not finite."""
    run.tell.training_is_over()
    run.checkpoints.flush()
    last = run.last()
    fact, cause = f"{error.fact}; last good checkpoint: {last or 'none'}", ""
    run.tell.log(fact)
    if error.step:
        run.tell.show("looking for the operation that made the first value that is not finite ...")
        cause = _cause(run, last, error)
    return DivergedError(fact, error.advice + cause, error.step, error.part)


def _cause(run: Run, last: Path | None, error: DivergedError) -> str:
    """Return what made the first value that is not finite, and in which rows, as lines of text."""
    setup = build(run.config, run.data)
    if last is not None:
        setup.training.load(whole(last)[0])
    cause = find_cause(setup, error, run.interrupt)
    if cause is None:
        return ""
    lines = []
    if cause.operation is not None:
        lines.append(f"first: {cause.operation}")
    if cause.rows:
        numbers = run.data.parts["train"].numbers
        rows = cause.rows if numbers is None else numbers[cause.rows].tolist()
        some = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        lines.append(
            f"rows of that step, counted from 0 in the whole table ({len(rows)}, all of them in train.log): {some}"
        )
        run.tell.log(f"rows of step {error.step}: {', '.join(map(str, rows))}")
    for line in lines:
        run.tell.log(line)
    return "".join(f"\n{line}" for line in lines)


# ------------------------------------------------------------ judge


def _judge(run: Run) -> dict[str, dict[str, float]]:
    """Return the scores of each part. The test part is looked at once, by the best model, as it was saved."""
    training, checkpoints = run.setup.training, run.checkpoints
    if checkpoint.find(checkpoints.root, "best") is None and not checkpoints.waits("best"):
        training.best_epoch = training.epoch
        run.save(best=True)
    checkpoints.flush()
    best = checkpoint.find(checkpoints.root, "best")
    assert best is not None
    training.use(checkpoint.load(best).model)
    try:
        scores = {
            name: evaluate(training.model, training.criterion, part, run.interrupt)
            for name, part in run.setup.parts.items()
        }
        for name, values in scores.items():
            check_scores(training, name, values)
    except Stopping:
        raise run.stopped("stopped after the last step, before the scores were complete") from None
    except DivergedError as error:
        run.tell.log(str(error))
        raise
    return scores


# ------------------------------------------------------------ close


def _close(run: Run, scores: dict[str, dict[str, float]], started: float) -> RunResult:
    """Tell and write all that is known at the end; `summary.json` goes last."""
    config, training, parts, root = run.config, run.setup.training, run.setup.parts, run.files.path
    if training.stopped:
        run.tell.say(training.stopped, apart=True)
    rows = {name: len(part) for name, part in parts.items()}
    heading = f"{config.name}: scores of epoch {training.best_epoch}, the best of {training.epoch}"
    run.tell.say(f"{heading}\n{report.table(scores, rows)}", apart=True)
    found = gather(config, run.data, training.model, parts)
    if found.classes:
        run.tell.say(f"{found.judged} part by class\n{report.class_table(found.classes)}", apart=True)
    facts = {
        "name": config.name,
        "task": run.data.preprocessing.task,
        "best_epoch": training.best_epoch,
        "epochs": training.epoch,
        "steps": training.step,
        "skipped_steps": training.skipped,
        "stopped": training.stopped,
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "rows": rows,
        "scores": scores,
        **found.facts(),
        "seconds": time.perf_counter() - started,
    }
    run.tell.scores(scores[found.judged], training.step)
    shown = "; report.html shows them" if run_page.write(root, found, training.history, facts, run.here) else ""
    run.files.finish(training.history, facts)
    run.tell.show(f"results in {root}{shown}")
    return RunResult(root, training.model, scores, training.history, training.best_epoch)


def files_of(config: Config) -> list[str]:
    """Return the files that the data of a config are read from."""
    words = [os.path.expanduser(value) for value in config.data.arguments.values() if isinstance(value, str)]
    return [word for word in words if os.path.isfile(word)]


def _interrupted(interrupt: Interrupt, what: str) -> TrainingInterrupted:
    assert interrupt.signal is not None
    return TrainingInterrupted(f"{interrupt.signal.name}: {what}", 128 + interrupt.signal)
