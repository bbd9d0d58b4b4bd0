"""Learning-rate schedules: each `step()` writes the next rate into `group["lr"]` of every parameter group.

All of them but `LambdaLR`, `OneCycleLR`, `CyclicLR` and `CosineAnnealingWarmRestarts` compute the next rate from the
present one, so several can be chained on one optimizer and multiply. The formulas are PyTorch's, hence so are the
sequences of rates.
"""

from __future__ import annotations

import math
import types
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, SupportsFloat

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.optim.optimizer import Optimizer, number_of
from nanotorch.registry import SCHEDULERS, Between, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

UnitInterval = Annotated[float, Between(0, 1)]
StartFactor = Annotated[float, Between(0, 1, low_open=True)]


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
                group.setdefault("initial_lr", _copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"last_epoch={last_epoch} continues an earlier run, but param_groups[{index}] has no "
                    "'initial_lr': load the optimizer's state_dict first, or leave last_epoch at -1 for a new run"
                )
        self.base_lrs: list[float] = [number_of(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[Any] = []
        self._step_count = 0
        self.step()

    def get_lr(self) -> list[float]:
        """The rate of each group at `last_epoch`, computed from the present rates; called by `step`."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def get_last_lr(self) -> list[Any]:
        """The rates that this schedule set last, one per parameter group; copies where the rates are tensors."""
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
            _warn_of(epoch)
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
            _write(group, "lr", base_lr)
        self._begin()

    def _starting(self) -> bool:
        """Whether the present rates already belong to `last_epoch`: when just built, or begun again."""
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
            _write(group, "lr", rate)
        self._last_lr = _copied_rates(self.optimizer)


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
        state["lr_lambdas"] = [_attributes(scale) for scale in self.lr_lambdas]
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
        """The present rates times `lr_lambda(epoch)`."""
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


@SCHEDULERS.register
class StepLR(LRScheduler):
    """Multiplies the rate by `gamma` every `step_size` epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: PositiveInt, gamma: NonNegativeFloat = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times `gamma` at a multiple of `step_size`."""
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._current()
        return self._scaled(self.gamma)

    def _get_closed_form_lr(self) -> list[float]:
        return [base_lr * self.gamma ** (self.last_epoch // self.step_size) for base_lr in self.base_lrs]


@SCHEDULERS.register
class MultiStepLR(LRScheduler):
    """Multiplies the rate by `gamma` at each epoch in `milestones` (twice where an epoch is listed twice)."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: list[NonNegativeInt],
        gamma: NonNegativeFloat = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times `gamma` at a milestone."""
        return self._scaled(self.gamma ** self.milestones.count(self.last_epoch))

    def _get_closed_form_lr(self) -> list[float]:
        return [base_lr * self.gamma ** bisect_right(self.milestones, self.last_epoch) for base_lr in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict()` returned; milestones may be counted in a mapping, as PyTorch saves them."""
        super().load_state_dict(state_dict)
        if isinstance(self.milestones, Mapping):
            self.milestones = sorted(epoch for epoch, times in self.milestones.items() for _ in range(times))


@SCHEDULERS.register
class ConstantLR(LRScheduler):
    """Holds the rate at `factor` times its base until epoch `total_iters`, then returns to the base."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: UnitInterval = 1.0 / 3,
        total_iters: NonNegativeInt = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: factor must be between 0 and 1, got {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times `factor` at epoch 0 and divided by it at `total_iters`."""
        if self.last_epoch == 0:
            return self._scaled(self.factor)
        if self.last_epoch == self.total_iters:
            return self._scaled(1.0 / self.factor)
        return self._current()

    def _get_closed_form_lr(self) -> list[float]:
        return [base_lr * (self.factor if self.last_epoch < self.total_iters else 1.0) for base_lr in self.base_lrs]


@SCHEDULERS.register
class LinearLR(LRScheduler):
    """Moves the rate linearly from `start_factor` to `end_factor` times its base in `total_iters` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: StartFactor = 1.0 / 3,
        end_factor: UnitInterval = 1.0,
        total_iters: PositiveInt = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor must be above 0 and at most 1, got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor must be between 0 and 1, got {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times the ratio of this epoch's factor to the last epoch's."""
        if self.last_epoch == 0:
            return self._scaled(self.start_factor)
        if self._starting() or self.last_epoch > self.total_iters:
            return self._current()
        slope = self.end_factor - self.start_factor
        return self._scaled(1.0 + slope / (self.total_iters * self.start_factor + (self.last_epoch - 1) * slope))

    def _get_closed_form_lr(self) -> list[float]:
        share = min(self.total_iters, self.last_epoch) / self.total_iters
        return [
            base_lr * (self.start_factor + (self.end_factor - self.start_factor) * share) for base_lr in self.base_lrs
        ]


@SCHEDULERS.register
class ExponentialLR(LRScheduler):
    """Multiplies the rate by `gamma` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: NonNegativeFloat, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates times `gamma`."""
        return self._current() if self._starting() else self._scaled(self.gamma)

    def _get_closed_form_lr(self) -> list[float]:
        return [base_lr * self.gamma**self.last_epoch for base_lr in self.base_lrs]


@SCHEDULERS.register
class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the base rate down to `eta_min` in `T_max` epochs, and back up after.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017), without the restarts.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: PositiveInt, eta_min: NonNegativeFloat = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, moved by the ratio of this epoch's cosine to the last epoch's."""
        if self._starting():
            return self._current()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The last epoch was at the minimum, where the ratio is 0 / 0.
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                rate + (base_lr - self.eta_min) * rise
                for rate, base_lr in zip(self._current(), self.base_lrs, strict=True)
            ]
        now, before = (1 + math.cos(math.pi * epoch / self.T_max) for epoch in (self.last_epoch, self.last_epoch - 1))
        return [now / before * (rate - self.eta_min) + self.eta_min for rate in self._current()]

    def _get_closed_form_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base_lr - self.eta_min) * height for base_lr in self.base_lrs]


@SCHEDULERS.register
class PolynomialLR(LRScheduler):
    """Takes the rate to 0 in `total_iters` epochs, as `(1 - epoch / total_iters) ** power`."""

    def __init__(
        self, optimizer: Optimizer, total_iters: PositiveInt = 5, power: NonNegativeFloat = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times the ratio of this epoch's share to the last epoch's."""
        if self._starting() or self.last_epoch > self.total_iters:
            return self._current()
        left, before = (1.0 - epoch / self.total_iters for epoch in (self.last_epoch, self.last_epoch - 1))
        return self._scaled((left / before) ** self.power)

    def _get_closed_form_lr(self) -> list[float]:
        left = 1.0 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base_lr * left**self.power for base_lr in self.base_lrs]


@SCHEDULERS.register
class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from the base rate to `eta_min`, again and again, each `T_mult` times as long.

    `step(epoch)` goes to any epoch, also between two: `step(epoch + batch / batches)` after every batch.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: PositiveInt,
        T_mult: PositiveInt = 1,
        eta_min: NonNegativeFloat = 0.0,
        last_epoch: int = -1,
    ) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"CosineAnnealingWarmRestarts: {name} is a whole number from 1 on, got {value!r}")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate of each group at the present place in its cycle."""
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base_lr - self.eta_min) * height for base_lr in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or to the one given."""
        if epoch is None and self._step_count == 0:
            epoch = self.last_epoch + 1
        self._step_count = 1
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        elif epoch < 0:
            raise ValueError(f"CosineAnnealingWarmRestarts: an epoch is not negative, got {epoch}")
        else:
            self.T_cur, self.T_i = epoch, self.T_0
            if self.T_mult == 1:
                self.T_cur %= self.T_0
            while self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _begin(self) -> None:
        self.T_cur, self.T_i = 0, self.T_0
        super()._begin()


@SCHEDULERS.register
class CyclicLR(LRScheduler):
    """Goes from `base_lr` up to `max_lr` in `step_size_up` steps and back in `step_size_down`, again and again.

    The height stays ("triangular"), halves with every cycle ("triangular2"), or falls with every step by the factor
    `gamma` ("exp_range"); a `scale_fn` of the cycle, or with `scale_mode="iterations"` of the step, replaces the mode.
    Momentum (or the first beta) moves the other way. Step it after every batch.

    Smith, Cyclical Learning Rates for Training Neural Networks (2017).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: NonNegativeFloat | list[NonNegativeFloat],
        max_lr: NonNegativeFloat | list[NonNegativeFloat],
        step_size_up: PositiveInt = 2000,
        step_size_down: PositiveInt | None = None,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: NonNegativeFloat = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: UnitInterval | list[UnitInterval] = 0.8,
        max_momentum: UnitInterval | list[UnitInterval] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if scale_fn is None and mode not in ("triangular", "triangular2", "exp_range"):
            raise ValueError(f"CyclicLR: mode is 'triangular', 'triangular2' or 'exp_range', got {mode!r}")
        base_lrs = _per_group(optimizer, "base_lr", base_lr)
        self.max_lrs = _per_group(optimizer, "max_lr", max_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs, strict=True):
                _write(group, "lr", rate)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = "iterations" if scale_fn is None and mode == "exp_range" else scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _moves_beta(self, optimizer)
            self.base_momentums = _per_group(optimizer, "base_momentum", base_momentum)
            self.max_momentums = _per_group(optimizer, "max_momentum", max_momentum)
            if last_epoch == -1:
                ends = zip(optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
                for group, low, high in ends:
                    group["base_momentum"], group["max_momentum"] = low, high
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs
        if last_epoch != -1:  # the rates of this step follow from the ends given here
            self._set(self.get_lr())

    def scale_fn(self, x: float) -> float:
        """The height of a cycle, as a share of the first one's; `x` counts cycles from 1, or steps from 0."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "exp_range":
            return float(self.gamma**x)
        return 1.0 if self.mode == "triangular" else 1 / 2.0 ** (x - 1)

    def get_lr(self) -> list[float]:
        """The rate of each group at this step; sets the momentum of each group as well."""
        turns = self.last_epoch / self.total_size
        cycle = math.floor(1 + turns)
        place = 1.0 + turns - cycle
        height = place / self.step_ratio if place <= self.step_ratio else (place - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            ends = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=False)
            for group, low, high in ends:
                _set_momentum(group, high - (high - low) * height * scale, self.use_beta1)
        return [low + (high - low) * height * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """As for every schedule; of a `scale_fn` only the attributes of a callable object are saved."""
        custom = self._scale_fn_custom
        return {**super().state_dict(), "_scale_fn_custom": None if custom is None else _attributes(custom)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict()` returned; the `scale_fn` keeps being that given at construction."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_scale_fn_custom"})
        if state_dict["_scale_fn_custom"]:
            vars(self._scale_fn_custom).update(state_dict["_scale_fn_custom"])


@SCHEDULERS.register
class OneCycleLR(LRScheduler):
    """One rise to `max_lr` and one fall far below the start, over all steps of a run; step it after every batch.

    The rate goes from `max_lr / div_factor` up to `max_lr` in the first `pct_start` of the steps, and then down to
    `max_lr / div_factor / final_div_factor`; with `three_phase` it first returns to the start, symmetrically.
    Momentum (or the first beta) moves the other way. Say how many steps there are either by `total_steps` or by
    `epochs` and `steps_per_epoch`; stepping past the end is a ValueError.

    Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (2018).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: PositiveFloat | list[PositiveFloat],
        total_steps: PositiveInt | None = None,
        epochs: PositiveInt | None = None,
        steps_per_epoch: PositiveInt | None = None,
        pct_start: UnitInterval = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: UnitInterval | list[UnitInterval] = 0.85,
        max_momentum: UnitInterval | list[UnitInterval] = 0.95,
        div_factor: PositiveFloat = 25.0,
        final_div_factor: PositiveFloat = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps <= 0:
            raise ValueError(f"OneCycleLR: the number of steps must be positive, got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.three_phase = three_phase
        self.cycle_momentum = cycle_momentum
        self.use_beta1 = _moves_beta(self, optimizer) if cycle_momentum else "betas" in optimizer.defaults
        if last_epoch == -1:
            for group, peak in zip(optimizer.param_groups, _per_group(optimizer, "max_lr", max_lr), strict=True):
                group["initial_lr"] = peak / div_factor
                group["max_lr"] = peak
                group["min_lr"] = group["initial_lr"] / final_div_factor
            if cycle_momentum:
                lows = _per_group(optimizer, "base_momentum", base_momentum)
                highs = _per_group(optimizer, "max_momentum", max_momentum)
                for group, low, high in zip(optimizer.param_groups, lows, highs, strict=True):
                    group["base_momentum"], group["max_momentum"] = low, high
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate of each group at this step; sets the momentum of each group as well."""
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"OneCycleLR was stepped {self.last_epoch} times but was built for {self.total_steps} steps"
            )
        rate_from, rate_to, momentum_from, momentum_to, position = self._phase()
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._anneal(group[rate_from], group[rate_to], position))
            if self.cycle_momentum:
                momentum = self._anneal(group[momentum_from], group[momentum_to], position)
                _set_momentum(group, momentum, self.use_beta1)
        return rates

    def _phase(self) -> tuple[str, str, str, str, float]:
        """The ends of the phase that this step is in, as keys of a group, and the position between them."""
        up_end = self.pct_start * self.total_steps - 1
        phases: list[tuple[float, str, str, str, str]] = [
            (up_end, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        ]
        if self.three_phase:
            down_end = 2 * self.pct_start * self.total_steps - 2
            phases.append((down_end, "max_lr", "initial_lr", "base_momentum", "max_momentum"))
            phases.append((self.total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"))
        else:
            phases.append((self.total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum"))
        start: float = 0
        while len(phases) > 1 and self.last_epoch > phases[0][0]:
            start = phases.pop(0)[0]
        end, rate_from, rate_to, momentum_from, momentum_to = phases[0]
        position = (self.last_epoch - start) / (end - start) if end > start else 1.0
        return rate_from, rate_to, momentum_from, momentum_to, position

    def _anneal(self, start: float, end: float, position: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * position + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * position) + 1)


@SCHEDULERS.register
class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by `factor` when a metric has not improved for more than `patience` epochs.

    Give the metric to `step(metrics)`. An improvement has to exceed `threshold`, as a share of the best value
    (`threshold_mode="rel"`) or as such ("abs"); `cooldown` epochs after a reduction are not judged; no rate goes
    below `min_lr`, and a change smaller than `eps` is not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: Annotated[float, Between(0, 1, high_open=True)] = 0.1,
        patience: NonNegativeInt = 10,
        threshold: NonNegativeFloat = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: NonNegativeInt = 0,
        min_lr: NonNegativeFloat | list[NonNegativeFloat] = 0.0,
        eps: NonNegativeFloat = 1e-8,
    ) -> None:
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = _per_group(optimizer, "min_lr", min_lr)
        self.default_min_lr = None if isinstance(min_lr, Iterable) else min_lr
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0
        self._last_lr = _copied_rates(optimizer)

    @property
    def in_cooldown(self) -> bool:
        """Whether the rates were reduced so lately that epochs are not judged."""
        return self.cooldown_counter > 0

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]
        """Judge the epoch by `metrics` (a number or a one-element tensor) and reduce the rates if it is time."""
        value = float(metrics)
        if epoch is not None:
            _warn_of(epoch)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._improves(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = _copied_rates(self.optimizer)

    def _improves(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bar = self.best * (1 + sign * self.threshold)
        else:
            bar = self.best + sign * self.threshold
        return sign * value > sign * bar

    def _reduce(self) -> None:
        if len(self.min_lrs) != len(self.optimizer.param_groups):  # groups were added
            self.min_lrs = _per_group(
                self.optimizer, "min_lr", self.min_lrs if self.default_min_lr is None else self.default_min_lr
            )
        for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            present = number_of(group["lr"])
            reduced = max(present * self.factor, lowest)
            if present - reduced > self.eps:
                _write(group, "lr", reduced)


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
        self._last_lr = _copied_rates(self.optimizer)

    def step(self) -> None:  # type: ignore[override]
        """Step every schedule, in their order."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = _copied_rates(self.optimizer)

    def _begin(self) -> None:
        for scheduler in self._schedulers:
            scheduler._begin()
        self._last_lr = _copied_rates(self.optimizer)


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
        self.last_epoch = 0
        self._active()._begin()
        self._last_lr = self._active().get_last_lr()


def _warn_of(epoch: float) -> None:
    warnings.warn(
        f"scheduler.step({epoch}): the epoch parameter is deprecated; schedules count by themselves, so call step()"
        " after every epoch, and give last_epoch to the constructor to continue a run",
        UserWarning,
        stacklevel=3,
    )


def _write(group: dict[str, Any], name: str, value: float) -> None:
    """Set an option of a group; one that is a tensor stays that tensor, with another number in it."""
    if isinstance(group.get(name), Tensor):
        group[name].fill_(value)
    else:
        group[name] = value


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _copied_rates(optimizer: Optimizer) -> list[Any]:
    """The present rates, as copies where they are tensors."""
    return [_copied(group["lr"]) for group in optimizer.param_groups]


def _reset(optimizer: Optimizer) -> None:
    """Give every group the rate that it had before any schedule."""
    for group in optimizer.param_groups:
        _write(group, "lr", number_of(group["initial_lr"]))


def _attributes(function: Any) -> dict[str, Any] | None:
    """What a callable object holds; None of a function."""
    return None if isinstance(function, types.FunctionType) else dict(getattr(function, "__dict__", {}))


def _moves_beta(scheduler: LRScheduler, optimizer: Optimizer) -> bool:
    """Whether momentum is the first of two betas here; a ValueError where there is neither."""
    if "betas" not in optimizer.defaults and "momentum" not in optimizer.defaults:
        raise ValueError(
            f"{type(scheduler).__name__}: {type(optimizer).__name__} has neither momentum nor betas to cycle; "
            "pass cycle_momentum=False"
        )
    return "betas" in optimizer.defaults


def _set_momentum(group: dict[str, Any], momentum: float, use_beta1: bool) -> None:
    if use_beta1:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


def _per_group(optimizer: Optimizer, name: str, value: float | Iterable[float]) -> list[float]:
    """One number per parameter group, from one number or a list of them."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, Iterable):
        return [value] * groups
    values = list(value)
    if len(values) != groups:
        raise ValueError(f"{name} has {len(values)} values for {groups} parameter groups")
    return values
