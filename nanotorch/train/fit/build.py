"""From a config and a table to a `Training`: model, loss, optimizer, schedule, and the data on their device."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch import nn
from nanotorch.backend.device import best_device
from nanotorch.optim import Optimizer
from nanotorch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR, SequentialLR
from nanotorch.registry import LOSSES, METRICS, MODELS, OPTIMIZERS, SCHEDULERS, closest
from nanotorch.train.config.sections import Config, as_long_as_the_run, as_tensors
from nanotorch.train.data import datasets
from nanotorch.train.data.data_notices import Noticed
from nanotorch.train.data.disk_dataset import RowsOnDisk
from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.split import split
from nanotorch.train.data.table import DataError, Table
from nanotorch.train.fit.loop import FitOptions
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.fit.training import Part, Training, seeds
from nanotorch.train.model.embedding import EmbeddedColumns
from nanotorch.train.model.models import too_large
from nanotorch.train.score import sklearn_scores
from nanotorch.train.score.meter import main_metric, mean_weights, scored_as
from nanotorch.utils.data import DataLoader, TensorDataset


@dataclass(frozen=True, slots=True)
class Data:
    """The parts of a table by name ("train", "validation", "test"), what was learnt from the first, and what to
    tell.
    """

    parts: dict[str, Table]
    preprocessing: Preprocessing
    notices: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """A hash of every number that is trained on or scored by, of rows that stay on the disk with one of their own
        behind it.
        """
        found = hashlib.sha256(json.dumps(self.preprocessing.state()).encode())
        for name, table in self.parts.items():
            found.update(f"{name} {table.features.shape} {table.categories}".encode())
            found.update(table.targets.tobytes())
            if isinstance(table.features, np.ndarray):
                found.update(table.features.tobytes())
        features = self.parts["train"].features
        return found.hexdigest() if isinstance(features, np.ndarray) else f"{found.hexdigest()}-{features.digest}"


def prepare(config: Config) -> Data:
    """Load the table of a config and split it; then learn, from the training part alone, how to prepare rows."""
    section = config.data
    seed = _seed(config)
    table = datasets.load(section.name, section.arguments, seed)
    splits = split(table, section.test_size, section.validation_size, seed, section.fold)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    given = section.arguments
    kept = {"encoding": given["categories"], "max_categories": given["max_categories"]} if "file" in given else {}
    preprocessing = Preprocessing.fit(
        splits.train,
        section.standardize,
        section.standardize_target is not False,
        missing_values=given.get("missing_values", ()),
        **kept,
    )
    notices = list(table.notices)
    for name in ("validation", "test"):
        noticed = Noticed()
        preprocessing.notice(parts[name], noticed)
        notices += [f"{name} part: {sentence}" for sentence in noticed.sentences()]
    return Data(parts, preprocessing, tuple(notices))


class Setup(NamedTuple):
    """All that a run needs: what `fit` takes, and the parts of the data by name."""

    training: Training
    loader: DataLoader[Any]
    parts: dict[str, Part]
    options: FitOptions

    @property
    def steps_per_epoch(self) -> int:
        """How many optimizer steps an epoch has."""
        return math.ceil(len(self.loader) / self.options.accumulate)


def build(config: Config, data: Data) -> Setup:
    """Make what the config asks for, from the seeds that follow from its seed.

    Each purpose has its own stream of random numbers, so that drawing more for one shifts none of the others: weights
    come from the default generator, which is then left with the seed of dropout's masks (Note [Counters of dropout]),
    the order of rows from a generator of its own.
    """
    init_seed, dropout_seed, shuffle_seed = seeds(_seed(config), 3)
    device, section, stopping = device_of(config), config.train, config.early_stopping
    torch.manual_seed(init_seed)
    model = build_model(config, data.preprocessing).to(device, getattr(torch, config.dtype))
    torch.manual_seed(dropout_seed)
    criterion, parts = loss_and_parts(config, data, device)
    optimizer = OPTIMIZERS.get(config.optimizer.name)(model.parameters(), **config.optimizer.arguments)
    scheduler = schedule(config, optimizer, steps_per_epoch(len(parts["train"]), config))
    training = Training(
        model,
        criterion,
        optimizer,
        torch.Generator().manual_seed(shuffle_seed),
        parts["train"].meter(),
        scheduler,
        interval="never" if config.scheduler is None else config.scheduler.interval,
        monitor=monitored(config, data.preprocessing),
        patience=None if stopping is None else stopping.patience,
        min_delta=0.0 if stopping is None else stopping.min_delta,
        average=None if section.ema is None else MovingAverage(model, section.ema),
    )
    loader = parts["train"].loader(section.batch_size, section.shuffle, section.drop_last, training.shuffle)
    options = FitOptions(
        epochs=section.epochs,
        accumulate=section.accumulate,
        clip_norm=section.clip_norm,
        clip_value=section.clip_value,
        skip_nonfinite=section.on_nonfinite == "skip",
    )
    return Setup(training, loader, parts, options)


def loss_and_parts(config: Config, data: Data, device: torch.device) -> tuple[nn.Module, dict[str, Part]]:
    """The loss, which sums over rows, and the parts of the data on their device, as it wants them."""
    dtype = getattr(torch, config.dtype)
    by_class = class_weights(config.loss.class_weight, data.parts["train"])
    criterion = summing_loss(config, data.parts["train"], by_class).to(device, dtype)
    parts = {
        name: _on_device(table, data.preprocessing, criterion, config, device, dtype, by_class)
        for name, table in data.parts.items()
    }
    return criterion, parts


def device_of(config: Config) -> torch.device:
    """The device of a config; "auto" is the best there is."""
    return best_device() if config.device == "auto" else torch.device(config.device)


def build_model(config: Config, preprocessing: Preprocessing) -> nn.Module:
    """The model of a config, for what the preprocessing gives."""
    name, arguments, counts = config.model.name, config.model.arguments, preprocessing.embeddings
    front = EmbeddedColumns(preprocessing.in_features - len(counts), counts) if counts else None
    widths = preprocessing.in_features if front is None else front.out_features, preprocessing.out_features
    message = too_large(name, *widths, arguments)
    if message is not None:
        raise DataError(f"model {name}, from {widths[0]:,} columns to {widths[1]:,} outputs: {message}", "model")
    model: nn.Module = MODELS.get(name)(*widths, **arguments)
    return model if front is None else nn.Sequential(front, model)


def _seed(config: Config) -> int:
    if config.seed is None:
        raise ValueError("the config has no seed yet; nanotorch.train.config.sections.with_seed draws one")
    return config.seed


def monitored(config: Config, preprocessing: Preprocessing) -> str:
    """The name of the score by which the best epoch is chosen; a DataError if the data have no such score."""
    name, task = config.train.monitor, preprocessing.task
    if name == "auto":
        return main_metric(task)
    usual = ["loss", "accuracy"]
    if task == "regression":
        targets = preprocessing.target_names
        usual = (
            ["loss", "r2", *(f"rmse_{target}" for target in targets)] if len(targets) > 1 else ["loss", "r2", "rmse"]
        )
    known = [*usual, *(metric for metric in METRICS if task in METRICS.entry(metric).facts["tasks"])]
    if name not in known:
        near = closest(name, known)
        raise DataError(
            f"train.monitor: there is no score {name!r} here"
            f" ({f'did you mean {near!r}?' if near else 'known: ' + ', '.join(known)})",
            "train",
            "monitor",
        )
    return name


def scores_by_name(config: Config) -> tuple[str, ...]:
    """scikit-learn's scores that the run computes: those it lists, and the monitored one."""
    options = config.train
    return tuple(dict.fromkeys([*options.metrics, *([options.monitor] if options.monitor in METRICS else [])]))


def schedule(config: Config, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    """The schedule of the config for epochs of so many steps, after its warmup; a DataError if it ends before the
    run.
    """
    section = config.scheduler
    if section is None:
        return None
    arguments, warmup = section.arguments, section.warmup
    planned = config.train.epochs * (steps if section.interval == "step" else 1)
    if warmup >= planned:
        raise DataError(
            f"scheduler.warmup of {warmup} {section.interval}s is as long as the run, which has {planned}",
            "scheduler",
            "warmup",
        )
    as_long_as_the_run(section.name, arguments, planned - warmup)
    scheduler: LRScheduler = SCHEDULERS.get(section.name)(optimizer, **arguments)
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps + warmup < planned:
        raise DataError(
            f"scheduler OneCycleLR ends after {scheduler.total_steps + warmup} {section.interval}s, but the run has"
            f" {planned}: set scheduler.total_steps={planned - warmup}, or leave it out",
            "scheduler",
            "total_steps",
        )
    if warmup == 0:
        return scheduler
    rising = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rising, scheduler], [warmup])


def class_weights(given: str | Mapping[str, float] | None, table: Table) -> NDArray[np.float64] | None:
    """The weight of each class in the loss, (classes,): "balanced" by the rows of the table, or stated; None without.

    Balanced weights are ``rows / (classes * rows of the class)``, as in scikit-learn.
    """
    if given is None:
        return None
    names = table.target_names
    if table.task == "regression":
        raise DataError("loss.class_weight is for classes, and the data are a regression", "loss", "class_weight")
    if given == "balanced":
        counts = np.bincount(table.targets, minlength=len(names))
        return len(table) / (len(names) * np.maximum(counts, 1))
    assert isinstance(given, Mapping)
    for name in given:
        if name not in names:
            near = closest(name, names)
            raise DataError(
                f"loss.class_weight: there is no class {name!r}"
                f" ({f'did you mean {near!r}?' if near else 'the classes are: ' + ', '.join(names[:20])})",
                "loss",
                "class_weight",
                name,
            )
    return np.array([given.get(name, 1.0) for name in names], np.float64)


def steps_per_epoch(rows: int, config: Config) -> int:
    """How many optimizer steps an epoch has; a DataError if none."""
    options = config.train
    batches = rows // options.batch_size if options.drop_last else -(-rows // options.batch_size)
    if batches == 0:
        raise DataError(
            f"train.drop_last drops the only batch: {rows} rows are fewer than train.batch_size={options.batch_size}",
            "train",
            "drop_last",
        )
    if getattr(config.model, "batch_norm", False) and rows % options.batch_size == 1 and not options.drop_last:
        raise DataError(
            f"the last batch of {rows} rows in batches of {options.batch_size} is a single row, and batch normalisation"
            " needs 2 or more: set train.drop_last=true, or another train.batch_size",
            "train",
            "batch_size",
        )
    return -(-batches // options.accumulate)


def summing_loss(config: Config, table: Table, by_class: NDArray[np.float64] | None = None) -> nn.Module:
    """The loss of the config, summing over rows times the weights of their classes, once it is known to fit this
    table.
    """
    name, arguments = config.loss.name, as_tensors(config.loss.arguments)
    tasks = LOSSES.entry(name).facts.get("tasks", (table.task,))
    if table.task not in tasks:
        better = [other for other in LOSSES if table.task in LOSSES.entry(other).facts.get("tasks", ())]
        raise DataError(
            f"{name} is a loss for {' or '.join(tasks)}, and the data are {table.task}; take {' or '.join(better)}",
            "loss",
            "name",
        )
    if by_class is not None and table.task == "binary":  # w1 y log p + w0 (1 - y) log(1 - p)
        arguments["weight"], arguments["pos_weight"] = (
            torch.tensor(by_class[:1]),
            torch.tensor(by_class[1:] / by_class[:1]),
        )
    elif by_class is not None:
        arguments["weight"] = torch.tensor(by_class)
    expected, of = {"multiclass": (len(table.target_names), "classes"), "binary": (1, "output")}.get(
        table.task, (None, "")
    )
    for key in ("weight", "pos_weight"):
        values = arguments.get(key)
        if expected is not None and values is not None and len(values) != expected:
            raise DataError(f"loss.{key} has {len(values)} values for {expected} {of}", "loss", key)
    loss: nn.Module = LOSSES.get(name)(**arguments, reduction="sum")
    return loss


def _on_device(
    part: Table,
    preprocessing: Preprocessing,
    criterion: nn.Module,
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
    by_class: NDArray[np.float64] | None,
) -> Part:
    """Features, targets as the loss wants them, and the weight of each row in the mean of the loss."""
    targets: Any = torch.tensor(preprocessing.targets(part), device=device)
    if part.task != "multiclass":  # a column for each output: a class as 0.0 or 1.0, or the values
        targets = targets.reshape(len(part), -1).to(dtype)
    weights = mean_weights(criterion, targets, dtype, by_class)
    dataset: TensorDataset | RowsOnDisk
    if isinstance(part.features, DiskRows):
        dataset = RowsOnDisk(part, preprocessing, (targets, weights), dtype, config.train.batch_size)
    else:
        features = torch.tensor(preprocessing.features(part), dtype=dtype, device=device)
        dataset = TensorDataset(features, targets, weights)
    scaler, metrics = preprocessing.target_scaler, scores_by_name(config)
    _try_scores(config, part)
    return Part(dataset, scored_as(part, preprocessing.target_scale, None if scaler is None else scaler.mean, metrics))


def _try_scores(config: Config, part: Table) -> None:
    """Refuse scores that these rows cannot have, before any training: by outputs that are all zero."""
    listed = config.train.metrics
    for name in scores_by_name(config):
        message = _why_not(name, part)
        if message is not None:
            path = ("metrics", listed.index(name)) if name in listed else ("monitor",)
            raise DataError(f"train.{path[0]}: {name} {message}", "train", *path)


def _why_not(name: str, part: Table) -> str | None:
    """Why a part of the data cannot have a score; None if it can."""
    classes = len(part.target_names) if part.task == "multiclass" else 1
    tasks = METRICS.entry(name).facts["tasks"]
    if part.task not in tasks:
        return f"is for {' or '.join(tasks)}, and the data are {part.task}"
    message = sklearn_scores.too_large(name, len(part), classes)
    if message is not None:
        return f"cannot be computed: {message}; leave it out"
    as_labels = classes > 1 and sklearn_scores.takes_labels(name)
    outputs = (
        np.zeros(len(part), np.int64)
        if as_labels
        else np.zeros((len(part), len(part.target_names) if classes == 1 else classes))
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = sklearn_scores.score(name, part.task, outputs, part.targets)
    except ValueError as error:
        return f"cannot be computed: {error}"
    if not np.isfinite(value):
        return f"is {value} on a part of {len(part)} rows: too few, or of one class only"
    return None
