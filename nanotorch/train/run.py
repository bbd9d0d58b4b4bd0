"""A run of the trainer: a config becomes a trained, tested and saved model, and a directory that tells all about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotorch import nn
from nanotorch.train import checkpoint, directory, report
from nanotorch.train.build import build, prepare, steps_per_epoch
from nanotorch.train.config import Config, resolved
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
    options = config.train
    with borrowed_generator(), Interrupt() as interrupt:
        data = prepare(config)
        training, parts = build(config, data)
        if interrupt.signal is not None:
            raise TrainingInterrupted(f"{interrupt.signal.name}: stopped before the first step; nothing was written", 128 + interrupt.signal)
        if resume is not None:
            training.load(resume, parts["train"])
        root = directory.create(config.output, config.name) if run_directory is None else run_directory
        directory.begin(root, source, resolved(config), training.history)
        often = config.checkpoint
        checkpoints = checkpoint.Checkpoints(root / "checkpoints", often.every_seconds, often.every_steps, often.keep)
        metric = main_metric(data.preprocessing.task)
        steps = steps_per_epoch(len(parts["train"]), config)

        def save(best: bool = False) -> None:
            state = {**training.state(), "preprocessing": data.preprocessing.state()}
            raw = None if training.average is None else training.model.state_dict()
            checkpoints.save(training.step, training.weights(), training.optimizer.state_dict(), state, best, raw)

        with (
            checkpoints,
            blas_threads(training.model, options.batch_size),
            Progress(options.epochs, steps, metric, progress_bar, done=training.step) as progress,
        ):
            try:
                for record in fit(training, options, parts["train"], parts["validation"], interrupt):
                    if record is not None:
                        save(best=training.best_epoch == training.epoch)
                        directory.append_metrics(root, record)
                        progress.epoch(record)
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
                raise DivergedError(f"{error.fact}; last good checkpoint: {last}", error.advice) from None
            if interrupt.signal is not None:
                raise TrainingInterrupted(
                    f"{interrupt.signal.name}: stopped after step {training.step}, in epoch {training.epoch} of "
                    f"{options.epochs}; the checkpoint of this step is {checkpoints.root / 'last'}",
                    128 + interrupt.signal,
                )

        # The test part is looked at once, by the best model, as it was saved.
        training.use(checkpoint.load(checkpoints.root / "best").model)
        scores = {name: evaluate(training, part) for name, part in parts.items()}
        print(f"\n{config.name}: scores of epoch {training.best_epoch}, the best of {training.epoch}")
        print(report.table(scores, {name: len(part) for name, part in parts.items()}))
        report.learning_curve(
            root / "learning_curve.png", training.history, metric, training.best_epoch, config.name, scores["test"][metric]
        )
        print(f"results in {root}", flush=True)
        return RunResult(root, training.model, scores, training.history, training.best_epoch)
