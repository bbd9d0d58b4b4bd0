"""A model in training: everything that decides what the next step does, and how to save and continue it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.nn.utils.flat import FlatParameters, flat_if_apart
from nanotorch.ops.create.random import Generator, default_generator
from nanotorch.optim import Optimizer
from nanotorch.optim.lr_scheduler import ReduceLROnPlateau
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.record.checkpoint import VERSION, Checkpoint, CheckpointError
from nanotorch.train.record.records import completed, unlike
from nanotorch.train.score.meter import Meter, is_loss
from nanotorch.train.terminal.standard_streams import printable


@dataclass
class Training:
    """A model in training.

    Attributes:
        model: what is trained.
        criterion: the loss, which sums over rows; where rows have factors of their own, it gives the loss of each row.
        optimizer: what changes the parameters.
        scheduler: what changes the learning rate, or None.
        interval: whether the scheduler advances after every "epoch" or "step".
        shuffle: the generator of the order of rows.
        meter: the sums of the epoch in progress.
        monitor: the name of the validation score by which the best epoch is chosen.
        patience: after how many epochs without a better score to stop; None never stops early.
        min_delta: by how much a score has to be better.
        average: the moving average of the weights, or None.
        epoch: the last epoch that was begun.
        step: optimizer steps so far.
        step_in_epoch: steps done in an epoch that is not complete; 0: `epoch` is complete.
        skipped: steps that `on_nonfinite: skip` left out.
        history: a record for every complete epoch.
        stopped: why training ended before its time, or None.
    """

    model: nn.Module
    criterion: nn.Module
    optimizer: Optimizer
    shuffle: Generator
    meter: Meter
    scheduler: Any = None
    interval: str = "never"
    monitor: str = "loss"
    patience: int | None = None
    min_delta: float = 0.0
    average: MovingAverage | None = None

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    skipped: int = 0
    best_epoch: int = 0
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    waited: int = 0
    stopped: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    learning_rate: float = 0.0
    gradient_norms: list[float] = field(default_factory=list)
    latest_loss: float | None = None
    order: Any = None
    """The state of `shuffle` before the order of the epoch in progress was drawn."""
    flat: list[Tensor | FlatParameters] = field(init=False, repr=False)
    """The parameters side by side, those of each group of the optimizer together (Note [Flat parameters]); one by one
    where some share memory."""

    def __post_init__(self) -> None:
        groups = self.optimizer.param_groups
        ordered = [parameter for group in groups for parameter in group["params"]]
        self.flat = flat_if_apart([*ordered, *self.model.parameters()])

    def begin_epoch(self) -> None:
        """Count a new epoch, with empty sums; its order is yet to be drawn."""
        self.epoch += 1
        self.learning_rate = self.optimizer.param_groups[0]["lr"]
        self.order = self.shuffle.get_state()
        self.meter.reset()
        self.gradient_norms = []

    def judge(self, scores: Mapping[str, float], part: str = "validation") -> bool:
        """Take in the scores of an epoch, of the part named; return whether it is the best so far.

        Best is the best monitored score; among equals, which are common for accuracies, the smallest loss.
        """
        value = -scores[self.monitor] if is_loss(self.monitor) else scores[self.monitor]
        score = (value, -scores["loss"])
        clearly = value > self.best_score[0] + self.min_delta
        better = score > self.best_score
        self.waited = 0 if clearly else self.waited + 1
        if better:
            self.best_epoch, self.best_score = self.epoch, score
        if self.patience is not None and self.waited >= self.patience:
            self.stopped = (
                f"stopped early: {self.monitor} of the {part} part has not become better for {self.waited} epochs"
            )
        return better

    def weights(self) -> dict[str, Tensor]:
        """Return the weights for use: the averages where there are some."""
        return self.model_for_use.state_dict()

    @property
    def model_for_use(self) -> nn.Module:
        """The model with the weights for use."""
        return self.model if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """Return where training stands, as plain values: with the state_dicts all that continuing bit for bit needs."""
        between = self.step_in_epoch == 0
        return {
            "epoch": self.epoch,
            "step": self.step,
            "step_in_epoch": self.step_in_epoch,
            "skipped": self.skipped,
            "generators": {
                "shuffle": self.shuffle.get_state() if between else self.order,
                "dropout": default_generator.get_state(),
            },
            "optimizer": type(self.optimizer).__name__,
            "moments": len(self.optimizer.state_dict()["state"]),
            "scheduler": None if self.scheduler is None else copy.deepcopy(self.scheduler.state_dict()),
            "best": {"epoch": self.best_epoch, "score": self.best_score, "waited": self.waited},
            "stopped": self.stopped,
            "average": None if self.average is None else self.average.updates,
            "training_sums": None if between else self.meter.state(),
            "learning_rate": self.learning_rate,
            "gradient_norms": [] if between else list(self.gradient_norms),
        }

    def load(self, saved: Checkpoint, changed: Collection[str] = ()) -> None:
        """Continue from a checkpoint: put everything to where it was, bit for bit.

        The keys of the config in `changed` have other values than the run had; what was built with them holds from here
        on. A checkpoint of another architecture is a CheckpointError that lists what does not fit; so is one that was
        damaged.
        """
        state = saved.state
        for name, weights in (("model", saved.model), ("training", saved.training)):
            if weights is not None:
                fitting(saved.path / f"{name}.safetensors", weights, self.model, "dtype" in changed)
        try:
            if saved.version < VERSION:
                saved = self._with_what_was_added(saved)
                state = saved.state
            damage = self._damage(saved, changed)
            if damage is not None:
                raise CheckpointError(f"{saved.path}/{printable(damage, kept='')}")
            self.model.load_state_dict(saved.model if saved.training is None else saved.training)
            self._load_optimizer(saved, changed)
            if self.average is not None and state["average"] is None:
                self.average.restart(self.model)
            elif self.average is not None:
                self.average.updates = state["average"]
                self.average.module.load_state_dict(saved.model)
            self._load_position(state)
        except CheckpointError:
            raise
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise CheckpointError(
                f"{saved.path} does not say where the run stood: {type(error).__name__} {error}"
            ) from None
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{saved.path} does not fit this config: {error}") from None

    def _with_what_was_added(self, saved: Checkpoint) -> Checkpoint:
        """Return a checkpoint of an older version, with the options that its optimizer and schedule have now."""
        schedule = (
            saved.state["scheduler"]
            if self.scheduler is None
            else completed(saved.state["scheduler"], self.scheduler.state_dict())
        )
        groups = completed(saved.optimizer["param_groups"], self.optimizer.state_dict()["param_groups"])
        return replace(
            saved, state={**saved.state, "scheduler": schedule}, optimizer={**saved.optimizer, "param_groups": groups}
        )

    def _damage(self, saved: Checkpoint, changed: Collection[str]) -> str | None:
        """Return what of a checkpoint is not as it would be saved now, with the file and its key; None where all is
        well.
        """
        state, optimizer = saved.state, self.optimizer
        sections = {key.split(".")[0] for key in changed}
        generator, sums = self.shuffle.get_state(), self.meter.state()
        for key in ("shuffle", "dropout"):
            if told := unlike(state["generators"][key], generator, f"generators.{key}"):
                return f"state.json: {told}"
        if state["training_sums"] is not None and (told := unlike(state["training_sums"], sums, "training_sums")):
            return f"state.json: {told}"
        if (self.average is None) != (state["average"] is None) and "train.ema" not in changed:
            return f"state.json: average is {state['average']}, which does not fit train.ema of the config"
        if (saved.training is None) != (state["average"] is None):
            return "training.safetensors does not fit what state.json says of the average"
        if not sections & {"optimizer", "scheduler"}:
            if (self.scheduler is None) != (state["scheduler"] is None):
                return "state.json: scheduler does not fit the scheduler of the config"
            schedule = None if self.scheduler is None else self.scheduler.state_dict()
            same_length = schedule is not None and _length(schedule) == _length(state["scheduler"])
            if same_length and (told := unlike(state["scheduler"], schedule, "scheduler")):
                return f"state.json: {told}"
            if told := unlike(
                saved.optimizer.get("param_groups"), optimizer.state_dict()["param_groups"], "param_groups"
            ):
                return f"optimizer.json: {told}"
            if told := _infinite(saved.optimizer["param_groups"], "param_groups"):
                return f"optimizer.json: {told}"
        if "optimizer" in sections:
            return None
        if state["optimizer"] != type(optimizer).__name__:
            return f"state.json: optimizer is {state['optimizer']!r}, and the config's is {type(optimizer).__name__}"
        unknown = next((key for key in saved.optimizer if key not in ("state", "param_groups")), None)
        if unknown is not None:
            return f"optimizer.json: {unknown} is not known here"
        moments, count = saved.optimizer["state"], 0
        for group in optimizer.param_groups:
            for number, parameter in enumerate(group["params"], start=count):
                kinds = {name: name in optimizer.number_names for name in optimizer.state_names(group)}
                if told := _damaged_moments(
                    moments.get(number), f"state.{number}", kinds, parameter, "dtype" in changed
                ):
                    return f"optimizer.safetensors: {told}"
            count += len(group["params"])
        if len(moments) != state.get("moments", len(moments)) or any(number not in range(count) for number in moments):
            return (
                f"optimizer.json: state has values for {len(moments)} of {count} parameters, and not for those that"
                " state.json counts"
            )
        return None

    def _load_optimizer(self, saved: Checkpoint, changed: Collection[str]) -> None:
        state, optimizer, scheduler = saved.state, self.optimizer, self.scheduler
        built = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
        if state["optimizer"] == type(optimizer).__name__:
            optimizer.load_state_dict(saved.optimizer)
            news = [key.removeprefix("optimizer.") for key in changed if key.startswith("optimizer.")]
            for group, new in zip(optimizer.param_groups, built, strict=True):
                group.update({name: new[name] for name in news if name in new})
        another = "optimizer.lr" in changed or any(key.split(".")[0] == "scheduler" for key in changed)
        if scheduler is None and not another:
            return
        if not another and _length(scheduler.state_dict()) == _length(state["scheduler"]):
            scheduler.load_state_dict(copy.deepcopy(state["scheduler"]))
            return
        # The new schedule, from its own beginning to where the run stands.
        for group, new in zip(optimizer.param_groups, built, strict=True):
            group.update({name: new[name] for name in ("lr", "initial_lr") if name in new})
        if scheduler is not None and not isinstance(scheduler, ReduceLROnPlateau):
            epochs = state["epoch"] - (state["step_in_epoch"] > 0)
            # it does not see the steps of the optimizer that were before
            with warnings.catch_warnings(action="ignore"):
                for _ in range(state["step"] if self.interval == "step" else epochs):
                    scheduler.step()

    def _load_position(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.step, self.step_in_epoch = state["epoch"], state["step"], state["step_in_epoch"]
        self.skipped = state["skipped"]
        self.order = state["generators"]["shuffle"]
        self.shuffle.set_state(self.order)
        default_generator.set_state(state["generators"]["dropout"])
        best = state["best"]
        self.best_epoch, self.best_score, self.waited = best["epoch"], tuple(best["score"]), best["waited"]
        self.stopped = state["stopped"] if self.patience is not None and self.waited >= self.patience else None
        if state["training_sums"] is not None:
            self.meter.load_state(state["training_sums"])
        self.learning_rate = state["learning_rate"]
        self.gradient_norms = list(state["gradient_norms"])
        self.history = list(state.get("history", ()))

    def use(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights for use of a checkpoint; training does not go on from here."""
        self.model.load_state_dict(weights)
        self.average = None


def _length(schedule: Mapping[str, Any]) -> list[Any]:
    """Return the lengths of a schedule that is made for a certain number of epochs or steps: another number makes it
    another one.
    """
    inner = [length for one in schedule.get("_schedulers", ()) for length in _length(one)]
    return [schedule.get("total_steps"), *inner]


def fitting(path: Path, saved: Mapping[str, Tensor], model: nn.Module, another_dtype: bool = False) -> None:
    """A CheckpointError where tensors of a file are not those of the model: in names, shapes, types, or numbers that no
    model has.
    """
    built, parameters = model.state_dict(), {name for name, _ in model.named_parameters()}
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (saved, built)]
    lines = []
    for name in {**shapes[0], **shapes[1]}:
        before, now, place = shapes[0].get(name), shapes[1].get(name), printable(name, kept="")
        if before != now:
            lines.append(
                f"{place}: {'absent' if before is None else before} in the checkpoint,"
                f" {'absent' if now is None else now} in the model"
            )
        elif saved[name].dtype != built[name].dtype and not (another_dtype and saved[name].is_floating_point()):
            lines.append(f"{place}: {saved[name].dtype} in the checkpoint, {built[name].dtype} in the model")
    if lines:
        raise CheckpointError("\n  ".join([f"{path.parent} is of another model than the config's:", *lines]))
    for name, tensor in saved.items():
        values = tensor.numpy()
        if np.isnan(values).any() or (name in parameters and np.isinf(values).any()):
            raise CheckpointError(f"{path} is damaged: {name} holds numbers that are not finite")


def _damaged_moments(
    found: Any, key: str, kinds: Mapping[str, bool], parameter: Tensor, another_dtype: bool
) -> str | None:
    """Return what of a parameter's saved state of the optimizer cannot be; a parameter that never had a gradient has
    none.

    `kinds` says of each name whether it is one number, such as a count, or has one for each of the parameter.
    """
    if not found:
        return None if found is None or (found == {} and not kinds) else f"{key} is empty"
    for name in {**kinds, **found}:
        if name not in kinds or name not in found:
            return f"{key}.{name} is {'missing' if name in kinds else 'not known here'}"
        value, shape = found[name], () if kinds[name] else tuple(parameter.shape)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return f"{key}.{name} is no tensor of floating-point numbers"
        if tuple(value.shape) != shape:
            return f"{key}.{name} has the shape {tuple(value.shape)}, and not {shape}"
        dtypes = (torch.float64, torch.float32) if kinds[name] else (parameter.dtype,)
        if value.dtype not in dtypes and not another_dtype:
            return f"{key}.{name} is of type {value.dtype}, and not {dtypes[0]}"
        if np.isnan(value.numpy()).any() or (kinds[name] and not 0 <= value.item() < math.inf):
            return f"{key}.{name} holds numbers that no optimizer has"
    return None


def _infinite(value: Any, key: str) -> str | None:
    """Return the first number within a value that is not finite."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, inner in items:
        if told := _infinite(inner, f"{key}.{name}"):
            return told
    return f"{key} is {value}" if isinstance(value, float) and not math.isfinite(value) else None


def seeds(seed: int, count: int) -> list[int]:
    """Seeds of independent streams; the first ones stay the same when `count` grows."""
    streams = np.random.SeedSequence(seed).spawn(count)
    return [int(stream.generate_state(1, np.uint64)[0]) for stream in streams]


@contextmanager
def borrowed_generator() -> Iterator[None]:
    """Give the default generator back as it was: training inside a program does not disturb its numbers."""
    state = default_generator.get_state()
    try:
        yield
    finally:
        default_generator.set_state(state)
