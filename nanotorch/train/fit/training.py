"""A model in training: everything that decides what the next step does, and how to save and continue it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nanotorch import Tensor, nn
from nanotorch.nn.utils.flat import FlatParameters, flat_if_apart
from nanotorch.ops.create.random import Generator, default_generator
from nanotorch.optim import Optimizer
from nanotorch.optim.lr_scheduler import ReduceLROnPlateau
from nanotorch.train.fit.fitting import damage, fitting, lengths
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.record.checkpoint import VERSION, Checkpoint, CheckpointError
from nanotorch.train.record.records import completed
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
        min_delta: by how much a score has to be better than the last one that was, the reference. It stays where it is
            until then, so that many small steps are better in their sum; as in Keras.
        tol: by how much a score has to be better than the best, which moves with every small step; as in scikit-learn.
        average: the moving average of the weights, or None.
        generator: what the model draws from in the place of the default generator, whose seed is that of dropout's
            masks (Note [Counters of dropout]); by default a copy of that one.
        epoch: the last epoch that was begun.
        step: optimizer steps so far.
        step_in_epoch: steps done in an epoch that is not complete; 0: `epoch` is complete.
        skipped: steps that `on_nonfinite: skip` left out.
        history: a record for every complete epoch.
        reference: the last monitored score that was better by `min_delta`, as a number of which more is better.
        stopped: why training ended before its time, or None.
        table_from: the first epoch whose steps run as a table, or None (Note [Chunks of steps]).
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
    tol: float = 0.0
    average: MovingAverage | None = None
    generator: Generator = field(default_factory=default_generator.clone_state)

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    skipped: int = 0
    best_epoch: int = 0
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    reference: float = -math.inf
    waited: int = 0
    stopped: str | None = None
    table_from: int | None = None
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

    def begin_epoch(self, drawn: bool = False) -> None:
        """Count a new epoch, with empty sums; its order is yet to be drawn, if it is not `drawn` already."""
        self.epoch += 1
        self.learning_rate = self.optimizer.param_groups[0]["lr"]
        if not drawn:
            self.order = self.shuffle.get_state()
        self.meter.reset()
        self.gradient_norms = []

    def judge(self, scores: Mapping[str, float], part: str = "validation") -> bool:
        """Take in the scores of an epoch, of the part named; return whether it is the best so far.

        Best is the best monitored score; among equals, which are common for accuracies, the smallest loss.
        """
        value = -scores[self.monitor] if is_loss(self.monitor) else scores[self.monitor]
        score = (value, -scores["loss"])
        clearly = value > max(self.reference + self.min_delta, self.best_score[0] + self.tol)
        better = score > self.best_score
        if clearly:
            self.reference = value
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
                "dropout": self.generator.get_state(),
            },
            "optimizer": type(self.optimizer).__name__,
            "moments": len(self.optimizer.state_dict()["state"]),
            "scheduler": None if self.scheduler is None else copy.deepcopy(self.scheduler.state_dict()),
            "best": {
                "epoch": self.best_epoch,
                "score": self.best_score,
                "reference": self.reference,
                "waited": self.waited,
            },
            "stopped": self.stopped,
            "table_from": self.table_from,
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
            told = damage(saved, {**self.state(), "training_sums": self.meter.state()}, self.optimizer, changed)
            if told is not None:
                raise CheckpointError(f"{saved.path}/{printable(told, kept='')}")
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
        if not another and lengths(scheduler.state_dict()) == lengths(state["scheduler"]):
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
        self.generator.set_state(state["generators"]["dropout"])
        best = state["best"]
        self.best_epoch, self.best_score, self.waited = best["epoch"], tuple(best["score"]), best["waited"]
        reference = best.get("reference")  # of which older checkpoints know nothing
        self.reference = self.best_score[0] if reference is None else reference
        self.stopped = state["stopped"] if self.patience is not None and self.waited >= self.patience else None
        if state["training_sums"] is not None:
            self.meter.load_state(state["training_sums"])
        self.table_from = state.get("table_from")
        self.learning_rate = state["learning_rate"]
        self.gradient_norms = list(state["gradient_norms"])
        self.history = list(state.get("history", ()))

    def use(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights for use of a checkpoint; training does not go on from here."""
        self.model.load_state_dict(weights)
        self.average = None
