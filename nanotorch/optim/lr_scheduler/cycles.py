"""Schedules that raise and lower the rate: warm restarts, and cycles of rate and momentum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from nanotorch.optim.lr_scheduler.decay import UnitInterval
from nanotorch.optim.lr_scheduler.scheduler import LRScheduler, attributes_of, per_group, write_option
from nanotorch.optim.optimizer import Optimizer
from nanotorch.registry import SCHEDULERS, NonNegativeFloat, PositiveFloat, PositiveInt


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
        """Return the rate of each group at the present place in its cycle."""
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
        base_lrs = per_group(optimizer, "base_lr", base_lr)
        self.max_lrs = per_group(optimizer, "max_lr", max_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs, strict=True):
                write_option(group, "lr", rate)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size: float = float(step_size_up + down)
        self.step_ratio: float = step_size_up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = "iterations" if scale_fn is None and mode == "exp_range" else scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _moves_beta(self, optimizer)
            self.base_momentums = per_group(optimizer, "base_momentum", base_momentum)
            self.max_momentums = per_group(optimizer, "max_momentum", max_momentum)
            if last_epoch == -1:
                ends = zip(optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
                for group, low, high in ends:
                    group["base_momentum"], group["max_momentum"] = low, high
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs
        if last_epoch != -1:  # the rates of this step follow from the ends given here
            self._set(self.get_lr())

    def scale_fn(self, x: float) -> float:
        """Return the height of a cycle, as a share of the first one's; `x` counts cycles from 1, or steps from 0."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "exp_range":
            return float(self.gamma**x)
        return 1.0 if self.mode == "triangular" else 1 / 2.0 ** (x - 1)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at this step; sets the momentum of each group as well."""
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
        return {**super().state_dict(), "_scale_fn_custom": None if custom is None else attributes_of(custom)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict()` returned; the `scale_fn` keeps being that given at construction."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_scale_fn_custom"})
        if state_dict["_scale_fn_custom"]:
            vars(self._scale_fn_custom).update(state_dict["_scale_fn_custom"])


@SCHEDULERS.register(length="total_steps")
class OneCycleLR(LRScheduler):
    """One rise to `max_lr` and one fall far below the start, over all steps of a run; step it after every batch.

    The rate goes from `max_lr / div_factor` up to `max_lr` in the first `pct_start` of the steps, and then down to
    `max_lr / div_factor / final_div_factor`; with `three_phase` it first returns to the start, symmetrically. Without
    `max_lr` it is the rate of the optimizer, which otherwise counts for nothing.
    Momentum (or the first beta) moves the other way. Say how many steps there are either by `total_steps` or by
    `epochs` and `steps_per_epoch`; stepping past the end is a ValueError.

    Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (2018).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: PositiveFloat | list[PositiveFloat] | None = None,
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
            own = [group["lr"] for group in optimizer.param_groups]
            peaks = own if max_lr is None else per_group(optimizer, "max_lr", max_lr)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["initial_lr"] = peak / div_factor
                group["max_lr"] = peak
                group["min_lr"] = group["initial_lr"] / final_div_factor
            if cycle_momentum:
                lows = per_group(optimizer, "base_momentum", base_momentum)
                highs = per_group(optimizer, "max_momentum", max_momentum)
                for group, low, high in zip(optimizer.param_groups, lows, highs, strict=True):
                    group["base_momentum"], group["max_momentum"] = low, high
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at this step; sets the momentum of each group as well."""
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
        """Return the ends of the phase that this step is in, as keys of a group, and the position between them."""
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


def _moves_beta(scheduler: LRScheduler, optimizer: Optimizer) -> bool:
    """Return whether momentum is the first of two betas here; a ValueError where there is neither."""
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


@SCHEDULERS.register(length="total_steps")
class CosLogLR(LRScheduler):
    """Rises from near 0 to the base rate and falls again, `cycles` times, each twice as long.

    At the share t of the run it is the base rate times `(1 - cos(2 pi log2(1 + (2 ** cycles - 1) t))) / 2`; each step
    is taken at the middle of its share, so that no rate is 0. Holzmueller, Grinsztajn and Steinwart, "Better by
    Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data" (2024), where `cycles` is 4.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: PositiveInt, cycles: PositiveInt = 4, last_epoch: int = -1
    ) -> None:
        self.total_steps = total_steps
        self.cycles = cycles
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at this step; past the end that of the last."""
        share = (min(self.last_epoch, self.total_steps - 1) + 0.5) / self.total_steps
        height = (1 - math.cos(2 * math.pi * math.log2(1 + (2**self.cycles - 1) * share))) / 2
        return [base_lr * height for base_lr in self.base_lrs]

    _get_closed_form_lr = get_lr
