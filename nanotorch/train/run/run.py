"""A run of the trainer: a config becomes a trained, tested and saved model, and a directory that tells all about it."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotorch import nn
from nanotorch.train.config.sections import Config, resolved, with_seed
from nanotorch.train.fit.build import Data, build, prepare, steps_per_epoch
from nanotorch.train.fit.loop import DivergedError, check_losses, check_scores, check_weights, evaluate, fit
from nanotorch.train.fit.training import Training, borrowed_generator
from nanotorch.train.inspect.nonfinite import find_cause
from nanotorch.train.record import checkpoint, directory
from nanotorch.train.record.environment import environment, same_bits
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
    options, started = config.train, time.perf_counter()
    if config.seed is None:
        before = None if resume is None else config_of(resume.directory).seed
        config = with_seed(config, before)
        print(f"seed {config.seed} {'drawn' if before is None else 'of the run that goes on'}")
    needed = [*needed, *files_of(config)]
    with ExitStack() as held, borrowed_generator(), Interrupt() as interrupt:
        if resume is None:
            directory.check(config.output, run_directory, overwrite, needed)
        else:
            files = held.enter_context(directory.RunDirectory(resume.directory))
            resume = again(resume, config)
        # Everything is built before anything is written: what cannot be trained leaves no trace.
        try:
            interrupt.check()
            data = prepare(config)
            interrupt.check()
            training, loader, parts, fitting = build(config, data)
            interrupt.check()
        except Stopping:
            raise _interrupted(interrupt, "stopped before the first step; nothing was written") from None
        metric = main_metric(data.preprocessing.task)
        shown = metric if training.monitor == "loss" else training.monitor
        steps = steps_per_epoch(len(parts["train"]), config)
        saved = None if resume is None else resume.checkpoint
        fingerprint = data.fingerprint()
        if resume is not None and saved is not None:
            allowed = any(change.startswith("data.") for change in resume.changed)
            known = (
                fingerprint,
                fingerprint.partition("-")[0],
            )  # of older checkpoints, which do not know of rows on the disk
            if not allowed and saved.state["data"] not in known:
                raise ResumeError(
                    f"{resume.directory}: the data are not what they were when this run was trained, so it cannot go on"
                    " as if nothing had happened; bring them back, or begin a new run"
                )
            training.load(saved, [change.split(":")[0] for change in resume.changed])

        if resume is not None:
            root = resume.directory
        elif run_directory is not None:
            root = run_directory
            root.mkdir(parents=True, exist_ok=True)
        else:
            root = directory.create(config.output, config.name)
        often = config.checkpoint
        checkpoints = checkpoint.Checkpoints(root / "checkpoints", often.every_seconds, often.every_steps, often.keep)
        if resume is None:
            files = held.enter_context(directory.RunDirectory(root))
        with (
            checkpoints,
            blas_threads(training.model, options.batch_size),
            Progress(options.epochs, steps, shown, progress_bar, done=training.step) as progress,
            TensorBoardLog(root if config.log.tensorboard else None) as curves,
        ):
            here = environment(parts["train"].device)
            if resume is None:
                files.claim(overwrite, needed)
                notes = [f"training begins: {config.name}"]
                files.begin(source, resolved(config), here, ())
            else:
                notes = _resume(resume, config, training, checkpoints, here)
                keep_source = not resume.changed and (root / "config.yaml").is_file()
                files.begin(None if keep_source else source, resolved(config), here, training.history)
            for note in [files.notice, *notes] if files.notice else notes:
                files.log(note)
            if files.notice:
                print(f"note: {files.notice}", file=sys.stderr)
            for notice in data.notices:
                print(f"note: {notice}")
                files.log(f"note: {notice}")

            curves.begin(resolved(config), training.history)

            def save(best: bool = False) -> None:
                state = {**training.state(), "preprocessing": data.preprocessing.state(), "data": fingerprint}
                raw = None if training.average is None else training.model.state_dict()
                optimizer, history = training.optimizer.state_dict(), training.history
                checkpoints.save(training.step, training.weights(), optimizer, state, best, raw, history)

            def stopped(after: str) -> TrainingInterrupted:
                checkpoints.flush()
                error = _interrupted(interrupt, f"{after}; the checkpoint of this step is {checkpoints.root / 'last'}")
                files.log(str(error))
                return error

            try:
                try:
                    for record in fit(training, loader, parts["validation"], fitting, interrupt):
                        if isinstance(record, dict):
                            save(best=training.best_epoch == training.epoch)
                            files.metrics(record)
                            files.log(progress.epoch(record))
                            curves.epoch(record)
                            stopping = bool(interrupt)
                        else:
                            progress.step(training.latest_loss)
                            stopping = bool(interrupt)
                            if checkpoints.due(training.step) or stopping:
                                check_losses(training)
                                check_weights(training)
                                save()
                        if stopping:
                            break
                except Stopping:  # during validation
                    check_weights(training)
                    save()
            except DivergedError as error:
                progress.close()
                checkpoints.flush()
                last = checkpoint.find(checkpoints.root, "last") and checkpoints.root / "last"
                fact, cause = f"{error.fact}; last good checkpoint: {last or 'none'}", ""
                files.log(fact)
                if error.step:
                    print("looking for the operation that made the first value that is not finite ...", flush=True)
                    cause = _cause(config, data, last, error, files, interrupt)
                raise DivergedError(fact, error.advice + cause, error.step, error.part) from None
            if interrupt:
                raise stopped(f"stopped after step {training.step}, in epoch {training.epoch} of {options.epochs}")

            progress.close()
            # The test part is looked at once, by the best model, as it was saved.
            if checkpoint.find(checkpoints.root, "best") is None and not checkpoints.waits("best"):
                training.best_epoch = training.epoch
                save(best=True)
            checkpoints.flush()
            best = checkpoint.find(checkpoints.root, "best")
            assert best is not None
            training.use(checkpoint.load(best).model)
            try:
                scores = {
                    name: evaluate(training.model, training.criterion, part, interrupt) for name, part in parts.items()
                }
                for name, values in scores.items():
                    check_scores(training, name, values)
            except Stopping:
                raise stopped("stopped after the last step, before the scores were complete") from None
            except DivergedError as error:
                files.log(str(error))
                raise
            if training.stopped:
                print(f"\n{training.stopped}")
                files.log(training.stopped)
            table = report.table(scores, {name: len(part) for name, part in parts.items()})
            heading = f"{config.name}: scores of epoch {training.best_epoch}, the best of {training.epoch}"
            print(f"\n{heading}\n{table}")
            files.log(f"{heading}\n{table}")
            found = gather(config, data, training.model, parts)
            if found.classes:
                text = f"{found.judged} part by class\n{report.class_table(found.classes)}"
                print(f"\n{text}")
                files.log(text)
            facts = {
                "name": config.name,
                "task": data.preprocessing.task,
                "best_epoch": training.best_epoch,
                "epochs": training.epoch,
                "steps": training.step,
                "skipped_steps": training.skipped,
                "stopped": training.stopped,
                "parameters": sum(p.numel() for p in training.model.parameters()),
                "rows": {name: len(part) for name, part in parts.items()},
                "scores": scores,
                **found.facts(),
                "seconds": time.perf_counter() - started,
            }
            curves.finish(scores[found.judged], training.step)
            shown = "; report.html shows them" if run_page.write(root, found, training.history, facts, here) else ""
            files.finish(training.history, facts)
            print(f"results in {root}{shown}", flush=True)
        return RunResult(root, training.model, scores, training.history, training.best_epoch)


def files_of(config: Config) -> list[str]:
    """The files that the data of a config are read from."""
    words = [os.path.expanduser(value) for value in config.data.arguments.values() if isinstance(value, str)]
    return [word for word in words if os.path.isfile(word)]


def _interrupted(interrupt: Interrupt, what: str) -> TrainingInterrupted:
    assert interrupt.signal is not None
    return TrainingInterrupted(f"{interrupt.signal.name}: {what}", 128 + interrupt.signal)


def _resume(
    resume: Resumed, config: Config, training: Training, checkpoints: checkpoint.Checkpoints, here: dict[str, Any]
) -> list[str]:
    """Put the directory of a run to where its checkpoint stands; return what the log and the user should know."""
    notes = [f"training goes on after step {training.step}: {config.name}"]
    notes += [f"changed: {change}" for change in differences(config, resume.directory, free=True)]
    before, lost = environment_of(resume.directory)
    warnings = (
        []
        if lost is None or resume.checkpoint is None
        else [f"{lost}: whether the bits of the results may differ is not known"]
    )
    bits = same_bits(before, here) if before else []
    if bits:
        here["before"] = before
        warnings.append(
            f"the bits of the results may differ from those of one run, since this changed: {'; '.join(bits)}"
        )
    if resume.checkpoint is not None:
        has_best = checkpoints.rewind(resume.checkpoint, same_future=not resume.changed)
        if not has_best:
            warnings.append(
                f"the checkpoint of the best epoch, {training.best_epoch}, is gone: the best of those after epoch"
                f" {training.epoch} is taken"
            )
            training.best_epoch, training.best_score = 0, (-math.inf, -math.inf)
    print(notes[0], flush=True)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return [*notes, *resume.notices, *warnings]


def _cause(
    config: Config,
    data: Data,
    last: Path | None,
    error: DivergedError,
    files: directory.RunDirectory,
    interrupt: Interrupt,
) -> str:
    """What made the first value that is not finite, and in which rows, as lines of text."""
    setup = build(config, data)
    if last is not None:
        setup.training.load(whole(last)[0])
    cause = find_cause(setup, error, interrupt)
    if cause is None:
        return ""
    lines = []
    if cause.operation is not None:
        lines.append(f"first: {cause.operation}")
    if cause.rows:
        numbers = data.parts["train"].numbers
        rows = cause.rows if numbers is None else numbers[cause.rows].tolist()
        some = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        lines.append(
            f"rows of that step, counted from 0 in the whole table ({len(rows)}, all of them in train.log): {some}"
        )
        files.log(f"rows of step {error.step}: {', '.join(map(str, rows))}")
    for line in lines:
        files.log(line)
    return "".join(f"\n{line}" for line in lines)
