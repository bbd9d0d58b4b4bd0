"""Averages of a model's weights: `AveragedModel`, `update_bn` after it, and the schedule `SWALR`.

Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization (2018).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Literal

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn.module import Module
from nanotorch.nn.modules.normalization import _BatchNorm
from nanotorch.ops.create.creation import tensor
from nanotorch.optim.lr_scheduler.scheduler import LRScheduler, per_group
from nanotorch.optim.optimizer import Optimizer
from nanotorch.registry import SCHEDULERS, NonNegativeFloat, NonNegativeInt

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return an `avg_fn` for an exponential moving average: `decay * average + (1 - decay) * current`."""
    _check_decay(decay)

    @no_grad()
    def ema(average: Tensor, current: Tensor, num_averaged: Any) -> Tensor:
        return decay * average + (1 - decay) * current

    return ema


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[list[Tensor], list[Tensor], Any], None]:
    """Return a `multi_avg_fn` for an exponential moving average, which updates the averages in place."""
    one = get_ema_avg_fn(decay)
    return lambda averages, currents, count: _update_each(one, averages, currents, count)


def get_swa_avg_fn() -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return an `avg_fn` for the mean of all weights so far."""

    @no_grad()
    def swa(average: Tensor, current: Tensor, num_averaged: Any) -> Tensor:
        return average + (current - average) / (int(num_averaged) + 1)

    return swa


def get_swa_multi_avg_fn() -> Callable[[list[Tensor], list[Tensor], Any], None]:
    """Return a `multi_avg_fn` for the mean of all weights so far, which updates the averages in place."""
    one = get_swa_avg_fn()
    return lambda averages, currents, count: _update_each(one, averages, currents, count)


class AveragedModel(Module):
    """A copy of a model, `module`, whose parameters are an average of those that the model had.

    `update_parameters(model)` takes in the present ones: the first time they are copied, then
    `avg_fn(average, current, n_averaged)` gives each new average, or `multi_avg_fn` updates lists of them in place;
    without either it is the mean. Buffers are copied every time, or averaged too with `use_buffers`.
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[[Tensor, Tensor, Any], Tensor] | None = None,
        multi_avg_fn: Callable[[list[Tensor], list[Tensor], Any], None] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel takes avg_fn or multi_avg_fn, not both")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the averaged model computes."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take in the weights that a model of the same architecture has now."""
        averaged: Iterable[Tensor] = self.module.parameters()
        present: Iterable[Tensor] = model.parameters()
        if self.use_buffers:
            averaged, present = chain(averaged, self.module.buffers()), chain(present, model.buffers())
        averages = [average.detach() for average in averaged]
        currents = [current.detach().to(average.device) for average, current in zip(averages, present, strict=True)]
        if int(self.n_averaged) == 0:
            for average, current in zip(averages, currents, strict=True):
                average.copy_(current)
        elif self.multi_avg_fn is not None:
            self.multi_avg_fn(averages, currents, self.n_averaged)
        else:
            _update_each(self.avg_fn or get_swa_avg_fn(), averages, currents, self.n_averaged)
        if not self.use_buffers:
            for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
                mine.copy_(theirs.detach().to(mine.device))
        self.n_averaged += 1


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of all batch norms anew, as the mean over the batches of a loader.

    Averaged weights have other activations than any of the weights that they are the average of. Of batches that are
    lists or tuples the first field is what the model gets.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta, training = [norm.momentum for norm in norms], model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for batch in loader:
        features = batch[0] if isinstance(batch, list | tuple) else batch
        model(features if device is None else features.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)


@SCHEDULERS.withhold("goes on from the rate that a run has reached: it works in a program, not in a config")
class SWALR(LRScheduler):
    """Takes the rate from where it is to `swa_lr` in `anneal_epochs`, and holds it there: for averaging weights."""

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: NonNegativeFloat | list[NonNegativeFloat],
        anneal_epochs: NonNegativeInt = 10,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"SWALR: anneal_strategy is 'cos' or 'linear', got {anneal_strategy!r}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"SWALR: anneal_epochs is a whole number from 0 on, got {anneal_epochs!r}")
        for group, rate in zip(optimizer.param_groups, per_group(optimizer, "swa_lr", swa_lr), strict=True):
            group["swa_lr"] = rate
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the present rates, moved by what the last step left of the way to `swa_lr`."""
        step = self._step_count - 1 if self.anneal_epochs else max(1, self._step_count - 1)
        before, now = (self._share(max(0.0, min(1.0, at / max(1, self.anneal_epochs)))) for at in (step - 1, step))
        rates = []
        for group, rate in zip(self.optimizer.param_groups, self._current(), strict=True):
            goal = group["swa_lr"]
            start = goal if before == 1 else (rate - before * goal) / (1 - before)
            rates.append(goal * now + start * (1 - now))
        return rates

    def _share(self, place: float) -> float:
        return place if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * place)) / 2

    def _take_over(self) -> None:
        """Begin from the rates where another schedule ends."""
        self._begin()


def _update_each(
    one: Callable[[Tensor, Tensor, Any], Tensor], averages: list[Tensor], currents: list[Tensor], count: Any
) -> None:
    with no_grad():
        for average, current in zip(averages, currents, strict=True):
            average.copy_(one(average, current, count))


def _check_decay(decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ValueError(f"the decay of a moving average lies between 0 and 1, got {decay}")
