"""From a config and prepared tables to all that a run needs: model, optimizer, schedule, loader, loss and parts."""

from __future__ import annotations

import inspect
import math
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import nanotorch as torch
from nanotorch import nn
from nanotorch.backend.device import best_device
from nanotorch.nn.modules.ensemble import Kind
from nanotorch.optim import Optimizer
from nanotorch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR, SequentialLR
from nanotorch.registry import LOSSES, METRICS, MODELS, OPTIMIZERS, SCHEDULERS, closest
from nanotorch.train.config.loading import batch_size_of, epochs_of
from nanotorch.train.config.sections import Config
from nanotorch.train.data.class_targets import widths
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.loop import FitOptions
from nanotorch.train.fit.loss_and_parts import loss_and_parts
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.prepare import Data, seed_of
from nanotorch.train.fit.random_numbers import seeds
from nanotorch.train.fit.training import Training
from nanotorch.train.model.embedding import EmbeddedColumns
from nanotorch.train.model.models import too_large
from nanotorch.train.score.meter import main_metric
from nanotorch.train.terminal.text_report import listed
from nanotorch.utils.data import DataLoader

USUAL = ("accuracy", "r2")  # that every part has, beside the loss
BEGIN_ROWS = 2000  # rows that layers begin with


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


def build(config: Config, data: Data, parts: dict[str, Part] | None = None) -> Setup:
    """Make what the config asks for, from the seeds that follow from its seed; `parts` may be another run's of the same
    data, type, device, loss and scores.

    Each purpose has its own stream of random numbers, so that drawing more for one shifts none of the others: weights
    come from the default generator, what the model draws in training and the order of rows from generators of their
    own.
    """
    init_seed, dropout_seed, shuffle_seed = seeds(seed_of(config), 3)
    if "validation" not in data.parts:
        _refuse_without_validation(config)
    device, section, stopping = device_of(config), config.train, config.early_stopping
    torch.manual_seed(init_seed)
    model = build_model(config, data.preprocessing).to(device, getattr(torch, config.dtype))
    criterion, parts = loss_and_parts(config, data, device, parts)
    nn.begin_from(model, some_rows(parts["train"]))
    if MODELS.entry(config.model.name).facts.get("members"):
        criterion = nn.LossOfMembers(criterion)
    groups = parameter_groups(config, model)
    optimizer = OPTIMIZERS.get(config.optimizer.name)(groups, **config.optimizer.arguments)
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
        generator=torch.Generator().manual_seed(dropout_seed),
    )
    loader = parts["train"].loader(batch_size_of(config), section.shuffle, section.drop_last, training.shuffle)
    options = FitOptions(
        epochs=epochs_of(config),
        accumulate=section.accumulate,
        clip_norm=section.clip_norm,
        clip_value=section.clip_value,
        skip_nonfinite=section.on_nonfinite == "skip",
    )
    return Setup(training, loader, parts, options)


def _refuse_without_validation(config: Config) -> None:
    """A DataError where a config needs a validation part, and there is none."""
    monitor = config.train.monitor
    if monitor in METRICS and monitor not in USUAL:
        raise DataError(
            f"train.monitor: {monitor} is computed on the validation part, and there is none; the training part has the"
            f" scores {' and '.join(USUAL)}, each for its task",
            "train",
            "monitor",
        )
    if config.train.calibration is not None:
        raise DataError("train.calibration goes by the validation part, and there is none", "train", "calibration")


def device_of(config: Config) -> torch.device:
    """Return the device of a config; "auto" is the best there is."""
    return best_device() if config.device == "auto" else torch.device(config.device)


def build_model(config: Config, preprocessing: Preprocessing) -> nn.Module:
    """Return the model of a config, for what the preprocessing gives."""
    name, arguments, counts = config.model.name, config.model.arguments, preprocessing.embeddings
    front = EmbeddedColumns(preprocessing.in_features - len(counts), counts) if counts else None
    widths = preprocessing.in_features if front is None else front.out_features, preprocessing.out_features
    message = too_large(name, *widths, arguments)
    if message is not None:
        raise DataError(f"model {name}, from {widths[0]:,} columns to {widths[1]:,} outputs: {message}", "model")
    known = {"numeric": len(preprocessing.numeric_names), "kind": kind_of_outputs(config, preprocessing)}
    takes = inspect.signature(MODELS.get(name)).parameters
    supplied = {key: value for key, value in known.items() if key in takes}
    model: nn.Module = MODELS.get(name)(*widths, **supplied, **arguments)
    return model if front is None else nn.Sequential(front, model)


def kind_of_outputs(config: Config, preprocessing: Preprocessing) -> Kind:
    """Return what the outputs of the model are: logits, whose mean is that of the probabilities, or values."""
    if preprocessing.task == "regression" or not LOSSES.entry(config.loss.name).facts.get("probabilities", True):
        return "values"
    if preprocessing.task == "multioutput":
        return widths(preprocessing.classes)
    return "multiclass" if preprocessing.task == "multiclass" else "binary"


def some_rows(part: Part) -> torch.Tensor:
    """Return what the model sees of rows of a part, for layers that begin with what suits them: drawn by chance."""
    order = torch.randperm(len(part))[:BEGIN_ROWS] if len(part) > BEGIN_ROWS else torch.arange(len(part))
    features: torch.Tensor = part.dataset.__getitems__(order.tolist()).fields[0]
    return features


def parameter_groups(config: Config, model: nn.Module) -> list[Any]:
    """Return the parameters of a model as its optimizer takes them: in groups by their factors, those without first.

    A DataError if factors are for no parameter, or of what is no number of the optimizer.
    """
    given, numbers = config.optimizer.factors, config.optimizer.arguments
    factors = MODELS.entry(config.model.name).facts.get("factors", {}) if given is None else given
    parameters = list(model.named_parameters())
    groups: dict[tuple[tuple[str, float], ...], list[torch.Tensor]] = {(): []}
    used = set()
    for name, parameter in parameters:
        own: dict[str, float] = {}
        for pattern, changes in factors.items():
            if fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}"):
                used.add(pattern)
                own |= changes
        own = {key: factor for key, factor in own.items() if factor != 1 and (given is not None or key in numbers)}
        groups.setdefault(tuple(sorted(own.items())), []).append(parameter)
    for pattern, changes in (given or {}).items():
        place = ("optimizer", "factors", pattern)
        if pattern not in used:
            names = listed([name for name, _ in parameters], 12)
            raise DataError(f"optimizer.factors: no parameter is called {pattern!r}; there are {names}", *place)
        for key in changes:
            if not isinstance(numbers.get(key), float | int) or isinstance(numbers[key], bool):
                known = ", ".join(name for name, value in numbers.items() if type(value) is float)
                raise DataError(
                    f"optimizer.factors: {config.optimizer.name} has no number {key!r} to multiply; it has {known}",
                    *place,
                    key,
                )
    return [
        {"params": members, **{key: numbers[key] * factor for key, factor in own}}
        for own, members in groups.items()
        if members
    ]


def monitored(config: Config, preprocessing: Preprocessing) -> str:
    """Return the name of the score by which the best epoch is chosen; a DataError if the data have no such score."""
    name, task = config.train.monitor, preprocessing.task
    if name == "auto":
        return main_metric(task)
    usual = [
        "loss",
        "accuracy",
        *(f"accuracy_{target}" for target in preprocessing.target_names if preprocessing.classes),
    ]
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


def key_of_rate(config: Config) -> str:
    """Return the key of the config that says how large the learning rate is: some schedules take one of their own."""
    stated = config.scheduler is not None and config.scheduler.arguments.get("max_lr") is not None
    return "scheduler.max_lr" if stated else "optimizer.lr"


def rate_of(config: Config) -> float:
    """Return the learning rate of the config, of several the largest."""
    section, _, name = key_of_rate(config).partition(".")
    rate = getattr(config, section).arguments.get(name, 0.0)
    return float(max(rate) if isinstance(rate, list) else rate)


def shares_of_rate(optimizer: Optimizer) -> list[float]:
    """Return the rate of each group of parameters as a share of the first one's."""
    rates = [group["lr"] for group in optimizer.param_groups]
    return [rate / rates[0] if rates[0] else 1.0 for rate in rates]


def schedule(config: Config, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    """Return the schedule of the config for epochs of so many steps, after its warmup;
    a DataError if it ends before the run.
    """
    section = config.scheduler
    if section is None:
        return None
    warmup = section.warmup
    planned = epochs_of(config) * (steps if section.interval == "step" else 1)
    if warmup >= planned:
        raise DataError(
            f"scheduler.warmup of {warmup} {section.interval}s is as long as the run, which has {planned}",
            "scheduler",
            "warmup",
        )
    arguments = SCHEDULERS.lasting(section.name, section.arguments, planned - warmup)
    shares = shares_of_rate(optimizer)
    for key in ("max_lr", "base_lr"):
        if isinstance(arguments.get(key), float) and len(shares) > 1:
            arguments[key] = [arguments[key] * share for share in shares]
    try:
        scheduler: LRScheduler = SCHEDULERS.get(section.name)(optimizer, **arguments)
    except ValueError as error:  # a list for each group of parameters, of which the model makes several
        named = [key for key in arguments if str(error).startswith(f"{key} ")]
        raise DataError(f"{error}; a number stands for all of them", "scheduler", *named) from None
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


def climbing(config: Config, steps: int) -> list[str]:
    """Say where a schedule that ends at its lowest rate is over before the run, and climbs again."""
    section = config.scheduler
    if section is None or section.name != "CosineAnnealingLR" or section.arguments["T_max"] is None:
        return []
    lowest = section.arguments["T_max"] + section.warmup
    planned = epochs_of(config) * (steps if section.interval == "step" else 1)
    if lowest >= planned:
        return []
    return [
        f"scheduler.T_max={section.arguments['T_max']}: the learning rate is at its lowest after {lowest:,} of"
        f" {planned:,} {section.interval}s, and climbs again; leave T_max out, and it goes down over the whole run"
    ]


def steps_per_epoch(rows: int, config: Config) -> int:
    """Return how many optimizer steps an epoch has; a DataError if none."""
    options, size = config.train, batch_size_of(config)
    batches = rows // size if options.drop_last else -(-rows // size)
    if batches == 0:
        raise DataError(
            f"train.drop_last drops the only batch: {rows} rows are fewer than train.batch_size={size}",
            "train",
            "drop_last",
        )
    if getattr(config.model, "batch_norm", False) and rows % size == 1 and not options.drop_last:
        raise DataError(
            f"the last batch of {rows} rows in batches of {size} is a single row, and batch normalisation"
            " needs 2 or more: set train.drop_last=true, or another train.batch_size",
            "train",
            "batch_size",
        )
    return -(-batches // options.accumulate)
