"""From a config and a table to a `Training`: model, loss, optimizer, schedule, and the data on their device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nanotorch as torch
from nanotorch import nn
from nanotorch.backend.device import best_device
from nanotorch.optim.lr_scheduler import OneCycleLR
from nanotorch.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULERS
from nanotorch.train import datasets
from nanotorch.train.config import Config
from nanotorch.train.datasets import Table
from nanotorch.train.metrics import main_metric, mean_weights, scored_as
from nanotorch.train.preprocessing import Preprocessing
from nanotorch.train.training import Average, Part, Training, seeds
from nanotorch.utils.data import TensorDataset

__all__ = ["Data", "build", "build_model", "prepare", "steps_per_epoch"]


@dataclass(frozen=True, slots=True)
class Data:
    """The parts of a table by name ("train", "validation", "test"), and what was learnt from the first."""

    parts: dict[str, Table]
    preprocessing: Preprocessing


def prepare(config: Config) -> Data:
    """Load the table of a config and split it; then learn, from the training part alone, how to prepare rows."""
    section = config.data
    table = datasets.load(section.name, section.arguments, config.seed)
    splits = datasets.split(table, section.test_size, section.validation_size, config.seed)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return Data(parts, Preprocessing.fit(splits.train, section.standardize, section.standardize_target is not False))


def build(config: Config, data: Data) -> tuple[Training, dict[str, Part]]:
    """Make what the config asks for, from the seeds that follow from its seed.

    Each purpose has its own stream of random numbers, so that drawing more for one shifts none of the others: weights
    and dropout masks come from the default generator, one after the other, the order of rows from a generator of its own.
    """
    init_seed, dropout_seed, shuffle_seed = seeds(config.seed, 3)
    device = best_device() if config.device == "auto" else torch.device(config.device)
    dtype = getattr(torch, config.dtype)
    torch.manual_seed(init_seed)
    model = build_model(config, data.preprocessing).to(device, dtype)
    torch.manual_seed(dropout_seed)
    criterion = summing_loss(config, data.parts["train"]).to(device, dtype)
    parts = {name: _on_device(table, data.preprocessing, criterion, device, dtype) for name, table in data.parts.items()}
    optimizer = OPTIMIZERS.get(config.optimizer.name)(model.parameters(), **config.optimizer.arguments)
    scheduler, interval = None, "never"
    if config.scheduler is not None:
        interval = config.scheduler.interval
        scheduler = SCHEDULERS.get(config.scheduler.name)(optimizer, **config.scheduler.arguments)
    steps = steps_per_epoch(len(parts["train"]), config)
    planned = config.train.epochs * (steps if interval == "step" else 1)
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < planned:
        raise datasets.DataError(
            f"scheduler OneCycleLR ends after {scheduler.total_steps} {interval}s, but the run has {planned}: set "
            f"scheduler.total_steps={planned}"
        )
    stopping = config.early_stopping
    training = Training(
        model, criterion, optimizer, torch.Generator().manual_seed(shuffle_seed), scheduler, interval,
        monitor=main_metric(data.preprocessing.task) if config.train.monitor == "auto" else config.train.monitor,
        patience=None if stopping is None else stopping.patience,
        min_delta=0.0 if stopping is None else stopping.min_delta,
        average=None if config.train.ema is None else Average(model, config.train.ema),
    )  # fmt: skip
    return training, parts


def build_model(config: Config, preprocessing: Preprocessing) -> nn.Module:
    """The model of a config, for what the preprocessing gives."""
    make = MODELS.get(config.model.name)
    model: nn.Module = make(preprocessing.in_features, preprocessing.out_features, **config.model.arguments)
    return model


def steps_per_epoch(rows: int, config: Config) -> int:
    """How many optimizer steps an epoch has; a DataError if none."""
    options = config.train
    batches = rows // options.batch_size if options.drop_last else -(-rows // options.batch_size)
    if batches == 0:
        raise datasets.DataError(
            f"train.drop_last drops the only batch: {rows} rows are fewer than train.batch_size={options.batch_size}"
        )
    return -(-batches // options.accumulate)


def summing_loss(config: Config, table: Table) -> nn.Module:
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
    part: Table, preprocessing: Preprocessing, criterion: nn.Module, device: torch.device, dtype: torch.dtype
) -> Part:
    """Features, targets as the loss wants them, and the weight of each row in the mean of the loss."""
    features = torch.tensor(preprocessing.features(part), dtype=dtype, device=device)
    targets: Any = torch.tensor(preprocessing.targets(part), device=device)
    if part.task != "multiclass":  # a column for each output: a class as 0.0 or 1.0, or the values
        targets = targets.reshape(len(part), -1).to(dtype)
    dataset = TensorDataset(features, targets, mean_weights(criterion, targets, dtype))
    return Part(dataset, scored_as(part, preprocessing.target_scale))
