"""The loss of a config, and the parts of its data as the loss and the scores want them, on their device."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch import nn
from nanotorch.registry import LOSSES, METRICS, closest
from nanotorch.train.config.loading import batch_size_of
from nanotorch.train.config.sections import Config, as_tensors
from nanotorch.train.data.class_targets import widths
from nanotorch.train.data.columns.notation import spellings
from nanotorch.train.data.disk_dataset import RowsOnDisk
from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import DataError, Table
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.prepare import Data
from nanotorch.train.score import sklearn_scores
from nanotorch.train.score.meter import mean_weights, scored_as
from nanotorch.utils.data import TensorDataset


def loss_and_parts(
    config: Config, data: Data, device: torch.device, parts: dict[str, Part] | None = None
) -> tuple[nn.Module, dict[str, Part]]:
    """Return the loss, which sums over rows (or gives that of each, where they have weights), and the parts of the data
    on their device, as it wants them, unless they are there already.
    """
    if config.train.calibration is not None and data.preprocessing.classes:
        raise DataError(
            "train.calibration is for one target of classes, and this run has several: leave it out, or train a model"
            " for each",
            "train",
            "calibration",
        )
    if config.train.calibration is not None and data.preprocessing.task == "regression":
        raise DataError("train.calibration is for classes, and the data are a regression", "train", "calibration")
    dtype = getattr(torch, config.dtype)
    by_class = class_weights(config.loss.class_weight, data.parts["train"])
    weighted = any(table.weights is not None for table in data.parts.values())
    criterion = summing_loss(config, data.parts["train"], by_class, "none" if weighted else "sum").to(device, dtype)
    tables = {name: _weighted(table) for name, table in data.parts.items()} if weighted else data.parts
    parts = parts or {
        name: _on_device(table, data.preprocessing, criterion, config, device, dtype, by_class)
        for name, table in tables.items()
    }
    return criterion, parts


def _weighted(table: Table) -> Table:
    """Return a table whose rows have weights: where they had none, all count once."""
    return table if table.weights is not None else replace(table, weights=np.ones(len(table)))


def class_weights(given: str | Mapping[str, float] | None, table: Table) -> NDArray[np.float64] | None:
    """Return the weight of each class in the loss, (classes,):
    "balanced" by the rows of the table, or stated; None without.

    Balanced weights are `rows / (classes * rows of the class)`, as in scikit-learn, and rows count by their weights.
    """
    if given is None:
        return None
    names = table.target_names
    if table.classes:
        labels = "; a loss of {name: BCEWithLogitsLoss, pos_weight: [...]} weighs each" * (table.task == "multilabel")
        raise DataError(
            f"loss.class_weight is for one target of classes, and this run has {len(names)}{labels}",
            "loss",
            "class_weight",
        )
    if table.task == "regression":
        raise DataError("loss.class_weight is for classes, and the data are a regression", "loss", "class_weight")
    if given == "balanced":
        counts = np.bincount(table.targets, table.weights, minlength=len(names))
        return counts.sum() / (len(names) * np.where(counts > 0, counts, 1))
    assert isinstance(given, Mapping)
    known, weights = spellings(names), np.ones(len(names))
    for name, weight in given.items():
        if name in known:
            weights[known[name]] = weight
        else:
            near = closest(name, names)
            raise DataError(
                f"loss.class_weight: there is no class {name!r}"
                f" ({f'did you mean {near!r}?' if near else 'the classes are: ' + ', '.join(names[:20])})",
                "loss",
                "class_weight",
                name,
            )
    return weights


def summing_loss(
    config: Config, table: Table, by_class: NDArray[np.float64] | None = None, reduction: str = "sum"
) -> nn.Module:
    """Return the loss of the config, summing over rows times the weights of their classes (or with the reduction none
    that of each row), once it is known to fit this table.
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
    count = len(table.target_names)
    expected, of = {"multiclass": (count, "classes"), "binary": (1, "output"), "multilabel": (count, "labels")}.get(
        table.task, (None, "")
    )
    for key in ("weight", "pos_weight"):
        values = arguments.get(key)
        if expected is not None and values is not None and len(values) != expected:
            raise DataError(f"loss.{key} has {len(values)} values for {expected} {of}", "loss", key)
    if name == "auto":
        arguments |= {"task": table.task, "sizes": widths(table.classes)}
    loss: nn.Module = LOSSES.get(name)(**arguments, reduction=reduction)
    return loss


def scores_by_name(config: Config) -> tuple[str, ...]:
    """Return the scores of scikit-learn that the run computes: those it lists, and the monitored one."""
    options = config.train
    return tuple(dict.fromkeys([*options.metrics, *([options.monitor] if options.monitor in METRICS else [])]))


def _on_device(
    part: Table,
    preprocessing: Preprocessing,
    criterion: nn.Module,
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
    by_class: NDArray[np.float64] | None,
) -> Part:
    """Put features, targets as the loss wants them, the weight of each row in the mean of the loss, and where rows have
    weights of their own these too side by side.
    """
    targets: Any = torch.tensor(preprocessing.targets(part), device=device)
    if part.task != "multiclass":  # a column for each output: a class as 0.0 or 1.0, or the values
        targets = targets.reshape(len(part), -1).to(dtype)
    weights = mean_weights(criterion, targets, dtype, by_class)
    dataset: TensorDataset | RowsOnDisk
    if isinstance(part.features, DiskRows):
        dataset = RowsOnDisk(part, preprocessing, (targets, weights), dtype, batch_size_of(config))
    else:
        features = torch.tensor(preprocessing.features(part), dtype=dtype, device=device)
        columns = [weights]
        if part.weights is not None:
            of_rows = torch.tensor(part.weights, dtype=dtype, device=device)
            columns = [weights * of_rows, of_rows]
        dataset = TensorDataset(features, targets, *columns)
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
    """Return why a part of the data cannot have a score; None if it can."""
    classes = max(map(len, part.classes), default=len(part.target_names) if part.task == "multiclass" else 1)
    tasks = METRICS.entry(name).facts["tasks"]
    if part.task not in tasks:
        return f"is for {' or '.join(tasks)}, and the data are {part.task}"
    message = sklearn_scores.too_large(name, len(part), classes)
    if message is not None:
        return f"cannot be computed: {message}; leave it out"
    as_labels = part.task == "multiclass" and sklearn_scores.takes_labels(name)
    width = sum(widths(part.classes)) or (len(part.target_names) if classes == 1 else classes)
    outputs = np.zeros(len(part), np.int64) if as_labels else np.zeros((len(part), width))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = sklearn_scores.score(name, part.task, outputs, part.targets, part.weights, part.classes)
    except ValueError as error:
        return f"cannot be computed: {error}"
    if not np.isfinite(value):
        return f"is {value} on a part of {len(part)} rows: too few, or of one class only"
    return None
