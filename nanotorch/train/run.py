"""A run of the trainer: a config becomes a trained, tested and saved model, and a directory that tells all about it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotorch import nn
from nanotorch.train import checkpoint, directory, report
from nanotorch.train.build import build, prepare, steps_per_epoch
from nanotorch.train.config import Config, load, resolved, with_seed
from nanotorch.train.environment import environment
from nanotorch.train.interrupt import Interrupt, Stopping, TrainingInterrupted
from nanotorch.train.loop import DivergedError, check_losses, evaluate, fit
from nanotorch.train.metrics import main_metric
from nanotorch.train.progress import Progress
from nanotorch.train.threads import blas_threads
from nanotorch.train.training import borrowed_generator

__all__ = ["RunResult", "run"]


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
    resume: checkpoint.Checkpoint | None = None,
) -> RunResult:
    """Train as the config says, keep the epoch with the best validation score, and test that one.

    Args:
        config: what to do.
        source: the text of the config file, to be kept beside the results.
        progress_bar: allow a bar where the output is a terminal.
        run_directory: where to write; without it a new directory is made.
        resume: continue from this checkpoint, bit for bit, instead of from the start.

    Raises:
        DataError: the data cannot be trained on; nothing was written.
        DivergedError: the loss is not finite any more.
        TrainingInterrupted: after Ctrl-C or SIGTERM, once the step is done and saved.
    """
    options, started = config.train, time.perf_counter()
    if config.seed is None:
        before = None if resume is None or run_directory is None else load(run_directory / "resolved.yaml").seed
        config = with_seed(config, before)
        print(f"seed {config.seed} {'drawn' if before is None else 'of the run that goes on'}")
    with borrowed_generator(), Interrupt() as interrupt:
        # Everything is built before anything is written: what cannot be trained leaves no trace.
        data = prepare(config)
        training, parts = build(config, data)
        metric = main_metric(data.preprocessing.task)
        steps = steps_per_epoch(len(parts["train"]), config)
        if interrupt.signal is not None:
            text = f"{interrupt.signal.name}: stopped before the first step; nothing was written"
            raise TrainingInterrupted(text, 128 + interrupt.signal)
        if resume is not None:
            training.load(resume, parts["train"])

        root = directory.create(config.output, config.name) if run_directory is None else run_directory
        often = config.checkpoint
        checkpoints = checkpoint.Checkpoints(root / "checkpoints", often.every_seconds, often.every_steps, often.keep)
        with (
            directory.RunDirectory(root) as files,
            checkpoints,
            blas_threads(training.model, options.batch_size),
            Progress(options.epochs, steps, metric, progress_bar, done=training.step) as progress,
        ):
            files.begin(source, resolved(config), environment(parts["train"].device), training.history)
            for notice in data.notices:
                print(f"note: {notice}")
                files.log(f"note: {notice}")
            files.log(f"training goes on after step {training.step}" if resume else f"training begins: {config.name}")

            def save(best: bool = False) -> None:
                state = {**training.state(), "preprocessing": data.preprocessing.state()}
                raw = None if training.average is None else training.model.state_dict()
                checkpoints.save(training.step, training.weights(), training.optimizer.state_dict(), state, best, raw)

            try:
                for record in fit(training, options, parts["train"], parts["validation"], interrupt):
                    if record is not None:
                        save(best=training.best_epoch == training.epoch)
                        files.metrics(record)
                        files.log(progress.epoch(record))
                    else:
                        progress.step(training.latest_loss)
                        if checkpoints.due(training.step) or interrupt:
                            check_losses(training)
                            save()
                    if interrupt:
                        break
            except Stopping:
                save()
            except DivergedError as error:
                last = checkpoints.root / "last" if checkpoints.holds_any else "none"
                diverged = DivergedError(f"{error.fact}; last good checkpoint: {last}", error.advice)
                files.log(str(diverged))
                raise diverged from None
            if interrupt.signal is not None:
                stopped = (
                    f"{interrupt.signal.name}: stopped after step {training.step}, in epoch {training.epoch} of "
                    f"{options.epochs}; the checkpoint of this step is {checkpoints.root / 'last'}"
                )
                files.log(stopped)
                raise TrainingInterrupted(stopped, 128 + interrupt.signal)

            # The test part is looked at once, by the best model, as it was saved.
            checkpoints.flush()
            training.use(checkpoint.load(checkpoints.root / "best").model)
            scores = {name: evaluate(training, part) for name, part in parts.items()}
            if training.stopped:
                print(f"\n{training.stopped}")
                files.log(training.stopped)
            table = report.table(scores, {name: len(part) for name, part in parts.items()})
            heading = f"{config.name}: scores of epoch {training.best_epoch}, the best of {training.epoch}"
            print(f"\n{heading}\n{table}")
            files.log(f"{heading}\n{table}")
            report.learning_curve(
                root / "learning_curve.png", training.history, metric, training.best_epoch, config.name, scores["test"][metric]
            )
            files.finish(
                training.history,
                {
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
                    "seconds": time.perf_counter() - started,
                },
            )
            print(f"results in {root}", flush=True)
        return RunResult(root, training.model, scores, training.history, training.best_epoch)
