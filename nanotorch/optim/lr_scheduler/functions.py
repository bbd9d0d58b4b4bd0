"""Schedules that are made of functions of the epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nanotorch.optim.lr_scheduler.scheduler import LRScheduler, attributes_of
from nanotorch.optim.optimizer import Optimizer


class _Functions(LRScheduler):
    """Base of the schedules that are made of functions of the epoch, one for all parameter groups or one for each."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"got {len(self.lr_lambdas)} functions in lr_lambda for {groups} parameter groups")
        if not all(map(callable, self.lr_lambdas)):
            raise TypeError(f"{type(self).__name__}: lr_lambda is a function of the epoch, or a list of such")
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """As for every schedule; of the functions only callable objects are saved, by their attributes."""
        state = super().state_dict()
        state["lr_lambdas"] = [attributes_of(scale) for scale in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict()` returned; functions keep being those given at construction."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "lr_lambdas"})
        for scale, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if attributes:
                vars(scale).update(attributes)


class LambdaLR(_Functions):
    """The base rate times `lr_lambda(epoch)`; a list gives one function per parameter group."""

    def get_lr(self) -> list[float]:
        """`base_lr * lr_lambda(epoch)` of each group."""
        return [base_lr * scale(self.last_epoch) for base_lr, scale in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(_Functions):
    """Multiplies the rate by `lr_lambda(epoch)` at every epoch but the first; a list gives one function per group."""

    def get_lr(self) -> list[float]:
        """Return the present rates times `lr_lambda(epoch)`."""
        return self._current() if self._starting() else self._multiplied()

    def _multiplied(self) -> list[float]:
        rates = self._current()
        if len(rates) != len(self.lr_lambdas):
            raise ValueError(f"MultiplicativeLR has {len(self.lr_lambdas)} functions for {len(rates)} parameter groups")
        return [rate * scale(self.last_epoch) for rate, scale in zip(rates, self.lr_lambdas, strict=True)]

    _get_closed_form_lr = _multiplied

    def _take_over(self) -> None:
        """Go on from the rates where another schedule ends, as PyTorch does."""
        self.last_epoch, self._step_count = 0, 1
        self._set(self._multiplied())
