"""The base of all schedules, and what they do with the options of parameter groups."""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterable
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.optim.optimizer import Optimizer, number_of


class LRScheduler:
    """Base of the schedules: counts epochs (or steps) and applies `get_lr()` after each.

    A subclass stores its hyper-parameters and defines `get_lr`. Building a schedule applies epoch 0; give
    `last_epoch` only when continuing a run whose optimizer already carries `initial_lr` in its groups.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(f"a scheduler needs an optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        if not getattr(optimizer, "_scheduled", True):
            optimizer._scheduled, optimizer._step_called = True, False  # only steps from here on follow the schedule
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"last_epoch={last_epoch} continues an earlier run, but param_groups[{index}] has no "
                    "'initial_lr': load the optimizer's state_dict first, or leave last_epoch at -1 for a new run"
                )
        self.base_lrs: list[float] = [number_of(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch: int = last_epoch
        self._last_lr: list[Any] = []
        self._step_count = 0
        self.step()

    def get_lr(self) -> list[float]:
        """Return the rate of each group at `last_epoch`, computed from the present rates; called by `step`."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def get_last_lr(self) -> list[Any]:
        """Return the rates that this schedule set last, one per parameter group; copies where the rates are tensors."""
        return self._last_lr

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch and set its rates; call it after `optimizer.step()`.

        An `epoch` goes there instead, and warns as PyTorch does: schedules that know the rate of any epoch set it,
        others step.
        """
        if self._step_count == 1 and not getattr(self.optimizer, "_step_called", True):
            warnings.warn(
                "lr_scheduler.step() was called before the first optimizer.step(), so the first learning rate of "
                "the schedule is never used; call optimizer.step() first",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        if epoch is None:
            self.last_epoch += 1
            self._set(self.get_lr())
        else:
            warn_of_epoch(epoch)
            self.last_epoch = epoch  # type: ignore[assignment]
            self._set(getattr(self, "_get_closed_form_lr", self.get_lr)())

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, as plain Python values."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict()` returned."""
        self.__dict__.update(state_dict)

    def _begin(self) -> None:
        """Go to epoch 0 from the present rates, as when the schedule was built."""
        self.last_epoch, self._step_count = 0, 1
        self._set(self.get_lr())

    def _take_over(self) -> None:
        """Go to epoch 0 where another schedule ends: from the base rates."""
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=False):
            write_option(group, "lr", base_lr)
        self._begin()

    def _starting(self) -> bool:
        """Return whether the present rates already belong to `last_epoch`: when just built, or begun again."""
        return self._step_count == 1 or self.last_epoch == 0

    def _current(self) -> list[float]:
        return [number_of(group["lr"]) for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[float]:
        return [rate * factor for rate in self._current()]

    def _set(self, rates: list[float]) -> None:
        groups = self.optimizer.param_groups
        if len(rates) != len(groups):
            raise ValueError(
                f"{type(self).__name__} was made for {len(rates)} parameter groups, and the optimizer has {len(groups)}"
                " now: make the schedule after the last add_param_group()"
            )
        for group, rate in zip(groups, rates, strict=True):
            write_option(group, "lr", rate)
        self._last_lr = copied_rates(self.optimizer)


def warn_of_epoch(epoch: float) -> None:
    """Warn a caller of `step(epoch)`, as PyTorch does."""
    warnings.warn(
        f"scheduler.step({epoch}): the epoch parameter is deprecated; schedules count by themselves, so call step()"
        " after every epoch, and give last_epoch to the constructor to continue a run",
        UserWarning,
        stacklevel=3,
    )


def write_option(group: dict[str, Any], name: str, value: float) -> None:
    """Set an option of a group; one that is a tensor stays that tensor, with another number in it."""
    if isinstance(group.get(name), Tensor):
        group[name].fill_(value)
    else:
        group[name] = value


def copied(value: Any) -> Any:
    """Return an option as it is now: a tensor as a copy."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def copied_rates(optimizer: Optimizer) -> list[Any]:
    """Return the present rates, as copies where they are tensors."""
    return [copied(group["lr"]) for group in optimizer.param_groups]


def per_group(optimizer: Optimizer, name: str, value: float | Iterable[float]) -> list[float]:
    """Return one number per parameter group, from one number or a list of them."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, Iterable):
        return [value] * groups
    values = list(value)
    if len(values) != groups:
        raise ValueError(f"{name} has {len(values)} values for {groups} parameter groups")
    return values


def attributes_of(function: Any) -> dict[str, Any] | None:
    """Return what a callable object holds; None of a function."""
    return None if isinstance(function, types.FunctionType) else dict(getattr(function, "__dict__", {}))
