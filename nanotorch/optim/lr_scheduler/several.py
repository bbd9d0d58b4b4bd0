"""Schedules that are made of others, together or one after the other."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from nanotorch.optim.lr_scheduler.plateau import ReduceLROnPlateau
from nanotorch.optim.lr_scheduler.scheduler import LRScheduler, copied_rates, write_option
from nanotorch.optim.optimizer import Optimizer, number_of


class _Several(LRScheduler):
    """Base of the schedules that are made of others: their state is inside."""

    _schedulers: list[LRScheduler]

    def _check(self, optimizer: Optimizer) -> None:
        kind = type(self).__name__
        for index, scheduler in enumerate(self._schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeError(f"{kind}: scheduler {index} is a {type(scheduler).__name__}, which has no optimizer")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{kind}: scheduler {index} is a ReduceLROnPlateau, whose step() needs a metric; step it on its own"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"{kind}: scheduler {index} belongs to another optimizer")

    def state_dict(self) -> dict[str, Any]:
        """As for every schedule, with the state of each schedule inside."""
        state = super().state_dict()
        state["_schedulers"] = [scheduler.state_dict() for scheduler in self._schedulers]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict()` returned."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)

    def _take_over(self) -> None:
        _reset(self.optimizer)
        self._begin()


class ChainedScheduler(_Several):
    """Steps several schedules together: where each computes the next rate from the present one, they multiply."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._schedulers = list(schedulers)
        if not self._schedulers:
            raise ValueError("ChainedScheduler needs at least one scheduler")
        self.optimizer = optimizer or getattr(self._schedulers[0], "optimizer", None)  # type: ignore[assignment]
        self._check(self.optimizer)
        self._last_lr = copied_rates(self.optimizer)

    def step(self) -> None:  # type: ignore[override]
        """Step every schedule, in their order."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = copied_rates(self.optimizer)

    def _begin(self) -> None:
        for scheduler in self._schedulers:
            scheduler._begin()
        self._last_lr = copied_rates(self.optimizer)


class SequentialLR(_Several):
    """Runs one schedule after another: `schedulers[i + 1]` takes over, from its epoch 0, at `milestones[i]`.

    With a `last_epoch` it goes on after that epoch, where a run that never stopped would be.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if not schedulers:
            raise ValueError("SequentialLR needs at least one scheduler")
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} milestones, "
                f"got {len(milestones)}"
            )
        self.optimizer = optimizer
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        self._check(optimizer)
        # Each schedule applied its own epoch 0 when it was built: begin again, with the first one alone.
        _reset(optimizer)
        self._begin()
        with warnings.catch_warnings(action="ignore"):  # the steps of the optimizer were another process's
            for _ in range(last_epoch + 1):
                self.step()

    def step(self) -> None:  # type: ignore[override]
        """Step the schedule whose turn it is."""
        self.last_epoch += 1
        active, turn = self._active(), bisect_right(self._milestones, self.last_epoch)
        if turn and self._milestones[turn - 1] == self.last_epoch:
            active._take_over()
        else:
            active.step()
        self._last_lr = active.get_last_lr()

    def _active(self) -> LRScheduler:
        return self._schedulers[bisect_right(self._milestones, self.last_epoch)]

    def _begin(self) -> None:
        self.last_epoch: int = 0
        self._active()._begin()
        self._last_lr = self._active().get_last_lr()


def _reset(optimizer: Optimizer) -> None:
    """Give every group the rate that it had before any schedule."""
    for group in optimizer.param_groups:
        write_option(group, "lr", number_of(group["initial_lr"]))
