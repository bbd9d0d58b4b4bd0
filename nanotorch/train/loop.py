"""The training loop: from a config to a trained, tested and saved model, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.backend.device import best_device
from nanotorch.ops.random import default_generator
from nanotorch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from nanotorch.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULERS
from nanotorch.train import checkpoint, datasets, directory, report
from nanotorch.train.config import Config, resolved
from nanotorch.train.interrupt import Interrupt, TrainingInterrupted
from nanotorch.train.metrics import Meter, main_metric, mean_weights
from nanotorch.train.progress import Progress
from nanotorch.train.threads import blas_threads
from nanotorch.utils.data import DataLoader, TensorDataset

__all__ = ["DivergedError", "RunResult", "evaluate", "run", "windows"]

READ_EVERY = 20  # steps between two readings of the losses: a reading waits for the device
EVALUATION_BATCH = 4096  # rows: without a graph to keep, large batches cost little memory


class DivergedError(RuntimeError):
    """The loss became NaN or infinite; the message says when, and where the last good checkpoint is."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves: its directory, the best model, the scores of each part, a record per epoch."""

    directory: Path
    model: nn.Module
    scores: dict[str, dict[str, float]]
    history: list[dict[str, Any]]
    best_epoch: int


def run(config: Config, source: str | None = None, progress_bar: bool = True) -> RunResult:
    """Train as the config says, keep the epoch with the best validation score, and test that one.

    `source` is the text of the config file, to be kept beside the results; `progress_bar` allows a bar where
    the output is a terminal. Raises DataError before anything is written, DivergedError, and after Ctrl-C or
    SIGTERM, once the step is done and saved, TrainingInterrupted.
    """
    options = config.train

    # Data: split first, then standardise with what the training part alone tells.
    table = datasets.load(config.data.name, config.data.arguments, config.seed)
    splits = datasets.split(table, config.data.test_size, config.data.validation_size, config.seed)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    scalers = {}
    if config.data.standardize:
        scalers["features"] = datasets.Standardizer.fit(splits.train.features)
    if table.task == "regression" and config.data.standardize_target is not False:
        scalers["targets"] = datasets.Standardizer.fit(splits.train.targets)
    target_scale = scalers["targets"].scale if "targets" in scalers else None

    with _borrowed_generator(), Interrupt() as interrupt:
        # Model, loss, optimizer, schedule. Each purpose has its own stream of random numbers, so that drawing
        # more for one shifts none of the others: weights and dropout masks come from the default generator,
        # one after the other, and the order of rows from a generator of its own.
        init_seed, dropout_seed, shuffle_seed = _seeds(config.seed, 3)
        device = best_device() if config.device == "auto" else torch.device(config.device)
        dtype = getattr(torch, config.dtype)
        out_features = 1 if table.task == "binary" else len(table.target_names)  # two classes: one logit
        torch.manual_seed(init_seed)
        build_model = MODELS.get(config.model.name)
        model = build_model(table.features.shape[1], out_features, **config.model.arguments).to(device, dtype)
        torch.manual_seed(dropout_seed)
        criterion = _summing_loss(config, table).to(device, dtype)
        optimizer = OPTIMIZERS.get(config.optimizer.name)(model.parameters(), **config.optimizer.arguments)
        scheduler: Any = None
        interval = "never"
        if config.scheduler is not None:
            interval = config.scheduler.interval
            scheduler = SCHEDULERS.get(config.scheduler.name)(optimizer, **config.scheduler.arguments)

        # Each part goes to the device once, with the weight that each row has in the mean of the loss.
        data = {name: _on_device(part, scalers, criterion, device, dtype) for name, part in parts.items()}
        shuffle = torch.Generator().manual_seed(shuffle_seed)
        loader: DataLoader[Any] = DataLoader(
            data["train"], options.batch_size, shuffle=True, drop_last=options.drop_last, generator=shuffle
        )
        steps_per_epoch = math.ceil(len(loader) / options.accumulate)
        if steps_per_epoch == 0:
            raise datasets.DataError(
                f"train.drop_last drops the only batch: {len(splits.train)} rows are fewer than "
                f"train.batch_size={options.batch_size}"
            )

        planned = options.epochs * (steps_per_epoch if interval == "step" else 1)
        if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < planned:
            raise datasets.DataError(
                f"scheduler OneCycleLR ends after {scheduler.total_steps} {interval}s, but the run has {planned}: set "
                f"scheduler.total_steps={planned}"
            )

        run_directory = directory.create(config.output, config.name)
        if source is not None:
            (run_directory / "config.yaml").write_text(source, encoding="utf-8")
        (run_directory / "resolved.yaml").write_text(resolved(config), encoding="utf-8")
        checkpoints = checkpoint.Checkpoints(run_directory / "checkpoints")
        metric = main_metric(table.task)
        history: list[dict[str, Any]] = []
        epoch, step, best_epoch, best_score = 0, 0, 0, (-math.inf, -math.inf)

        def save(step_in_epoch: int, best: bool = False) -> None:
            """Write all that continuing bit for bit needs: for an epoch in progress, also where it began."""
            state = {
                "epoch": epoch,
                "step": step,
                "step_in_epoch": step_in_epoch,
                "generators": {
                    "shuffle": shuffle_state if step_in_epoch else shuffle.get_state(),
                    "dropout": default_generator.get_state(),
                },
                "scheduler": scheduler.state_dict() if scheduler is not None else None,
                "best": {"epoch": best_epoch, "score": best_score},
                "training_sums": meter.state() if step_in_epoch else None,
                "task": table.task,
                "feature_names": table.feature_names,
                "target_names": table.target_names,
                "scalers": {name: scaler.state() for name, scaler in scalers.items()},
            }
            checkpoints.save(step, model.state_dict(), optimizer.state_dict(), state, best)

        def stop_if_interrupted() -> None:
            if interrupt.signal is not None:
                raise TrainingInterrupted(
                    f"{interrupt.signal.name}: stopped after step {step}, in epoch {epoch} of "
                    f"{options.epochs}; the checkpoint of this step is {checkpoints.root / 'last'}",
                    exit_code=128 + interrupt.signal,
                )

        def stop_if_not_finite(losses: Iterable[tuple[int, float]], part: str) -> None:
            for at_step, loss in losses:
                if not math.isfinite(loss):
                    last = checkpoints.root / "last" if history else "none"
                    raise DivergedError(
                        f"the {part} loss is {loss} at step {at_step}, in epoch {epoch}; last good checkpoint: "
                        f"{last}. Lower optimizer.lr (now {optimizer.param_groups[0]['lr']:g}), or set or lower "
                        "train.clip_norm"
                    )

        with (
            checkpoints,
            blas_threads(model, options.batch_size),
            Progress(options.epochs, steps_per_epoch, metric, progress_bar) as progress,
        ):
            for epoch in range(1, options.epochs + 1):
                started = time.perf_counter()
                learning_rate = optimizer.param_groups[0]["lr"]
                shuffle_state = shuffle.get_state()
                meter = Meter(splits.train, target_scale)
                model.train()
                for step_in_epoch, window in enumerate(windows(loader, options.accumulate), start=1):
                    # Exact accumulation. A window of batches is one large batch, taken in pieces. Its mean
                    # loss is the sum over its rows divided by the sum of their weights, and the weights are
                    # known before the first piece is computed: so each piece adds its *sum*, divided by the
                    # weight of the *window*, and the gradients add up to those of the mean. A mean of the
                    # pieces' means would be wrong wherever pieces differ in size, in class weights or in
                    # ignored rows. (Batch norm and dropout do differ from the large batch: statistics and
                    # masks are the piece's.)
                    step += 1
                    weights = [row_weights.sum() for _, _, row_weights in window]
                    window_weight = sum(weights[1:], start=weights[0])
                    optimizer.zero_grad()
                    for (features, targets, _), weight in zip(window, weights, strict=True):
                        outputs = model(features)
                        loss = criterion(outputs, targets)
                        (loss / window_weight).backward()
                        meter.update(outputs, targets, loss, weight, step)
                    if options.clip_norm is not None:
                        nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
                    optimizer.step()
                    if interval == "step":
                        scheduler.step()

                    progress.step()
                    stopping = bool(interrupt)
                    if stopping or step % READ_EVERY == 0:
                        losses = meter.read_losses()
                        stop_if_not_finite(losses, "training")
                        progress.loss(losses[-1][1])
                    if stopping:
                        save(step_in_epoch)
                        stop_if_interrupted()

                stop_if_not_finite(meter.read_losses(), "training")
                trained = meter.compute()
                meter = Meter(splits.validation, target_scale)
                validated = evaluate(model, criterion, data["validation"], meter)
                stop_if_not_finite([(step, validated["loss"])], "validation")
                if isinstance(scheduler, ReduceLROnPlateau):
                    scheduler.step(validated["loss"])
                elif interval == "epoch":
                    scheduler.step()

                # Best is the best score; among equals, which are common for accuracies, the smallest loss.
                score = (validated[metric], -validated["loss"])
                improved = score > best_score
                if improved:
                    best_epoch, best_score = epoch, score
                save(step_in_epoch=0, best=improved)
                record = {"epoch": epoch, "step": step, "learning_rate": learning_rate}
                record |= {f"train_{name}": value for name, value in trained.items()}
                record |= {f"validation_{name}": value for name, value in validated.items()}
                record["seconds"] = time.perf_counter() - started
                history.append(record)
                directory.append_metrics(run_directory, record)
                progress.epoch(record)
                stop_if_interrupted()

        # The test part is looked at once, by the best model, as it was saved.
        model.load_state_dict(checkpoint.load(checkpoints.root / "best").model)
        scores = {}
        for name, part in parts.items():
            scores[name] = evaluate(model, criterion, data[name], Meter(part, target_scale))
        print(f"\n{config.name}: scores of epoch {best_epoch}, the best of {options.epochs}")
        print(report.table(scores, {name: len(part) for name, part in parts.items()}))
        figure = run_directory / "learning_curve.png"
        report.learning_curve(figure, history, metric, best_epoch, config.name, scores["test"][metric])
        print(f"results in {run_directory}", flush=True)
        return RunResult(run_directory, model, scores, history, best_epoch)


def evaluate(model: nn.Module, criterion: nn.Module, data: TensorDataset, meter: Meter) -> dict[str, float]:
    """Loss and scores of a model over data, in evaluation mode and without a graph."""
    model.eval()
    with torch.no_grad():
        for features, targets, row_weights in DataLoader(data, EVALUATION_BATCH):
            outputs = model(features)
            meter.update(outputs, targets, criterion(outputs, targets), row_weights.sum())
    return meter.compute()


def windows(loader: Iterable[list[Tensor]], size: int) -> Iterator[list[list[Tensor]]]:
    """The batches of a loader in lists of `size`; the last list may be shorter.

    >>> list(windows(DataLoader(torch.arange(5), batch_size=2), 2))
    [[tensor([0, 1]), tensor([2, 3])], [tensor([4])]]
    """
    batches = iter(loader)
    while window := list(islice(batches, size)):
        yield window


def _seeds(seed: int, count: int) -> list[int]:
    """Seeds of independent streams; the first ones stay the same when `count` grows."""
    streams = np.random.SeedSequence(seed).spawn(count)
    return [int(stream.generate_state(1, np.uint64)[0]) for stream in streams]


@contextmanager
def _borrowed_generator() -> Iterator[None]:
    """Give the default generator back as it was: training inside a program does not disturb its numbers."""
    state = default_generator.get_state()
    try:
        yield
    finally:
        default_generator.set_state(state)


def _summing_loss(config: Config, table: datasets.Table) -> nn.Module:
    """The loss of the config, summing over rows, once it is known to fit this table."""
    name, arguments = config.loss.name, dict(config.loss.arguments)
    tasks = LOSSES.entry(name).facts.get("tasks", (table.task,))
    if table.task not in tasks:
        raise datasets.DataError(f"{name} is a loss for {' or '.join(tasks)}, and the data are {table.task}")
    for key, value in arguments.items():
        if isinstance(value, list):
            arguments[key] = torch.tensor(value)
    weight, classes = arguments.get("weight"), len(table.target_names)
    if table.task == "multiclass" and weight is not None and len(weight) != classes:
        raise datasets.DataError(f"loss.weight has {len(weight)} values for {classes} classes")
    loss: nn.Module = LOSSES.get(name)(**arguments, reduction="sum")
    return loss


def _on_device(
    part: datasets.Table,
    scalers: dict[str, datasets.Standardizer],
    criterion: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
) -> TensorDataset:
    """Features, targets as the loss wants them, and the weight of each row in the mean of the loss."""
    arrays = {"features": part.features, "targets": part.targets}
    for name, scaler in scalers.items():
        arrays[name] = scaler.transform(arrays[name])
    features = torch.tensor(arrays["features"], dtype=dtype, device=device)
    targets = torch.tensor(arrays["targets"], device=device)
    if part.task != "multiclass":  # a column for each output: a class as 0.0 or 1.0, or the values
        targets = targets.reshape(len(part), -1).to(dtype)
    return TensorDataset(features, targets, mean_weights(criterion, targets, dtype))
