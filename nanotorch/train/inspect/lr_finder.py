"""`--find-lr`: the loss while the learning rate rises step by step, and the rate to take.

The range test of Smith, Cyclical Learning Rates for Training Neural Networks (2017): train with a rate that grows by
the same factor after every step, from one far too small to one at which the loss explodes. A single sweep says as much
of its batches as of the rates, so several are made, from other weights and with the rows in another order, and of each
step the median loss counts. The rate to take is the one at which half of the fall is over: where it is fastest a run
would mostly do too, but where it ends training diverges before long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.config.loading import batch_size_of
from nanotorch.train.config.sections import Config
from nanotorch.train.fit.build import rate_of, shares_of_rate
from nanotorch.train.fit.decided import settled_data
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.fit.prepare import Data, seed_of
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.inspect.trial_steps import losses_of, trial
from nanotorch.train.report.chart import Chart, Line
from nanotorch.train.terminal.blas_threads import blas_threads

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 120
SWEEPS = 5
WINDOW = 9  # steps around one, of which the smoothed loss is the mean
LEAST_FALL = 0.01  # of the loss at the start
FACTOR = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
EXPLODED = 4.0  # times the loss at the start, above the smallest


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What a range test saw.

    Attributes:
        rates: the learning rate of every step.
        losses: the training loss of every step, the median over the sweeps.
        smoothed: the losses, each an average over some steps around it.
        suggested: the rate to take, rounded to one digit.
        end: why the test ended.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggested: float
    end: str

    def text(self) -> str:
        """Return the curve as a chart of lines, at most 80 columns wide."""
        chosen = np.unique(np.linspace(0, len(self.rates) - 1, 15).round().astype(int)).tolist()
        largest = max(self.smoothed[index] for index in chosen)
        start = self.smoothed[0]
        top = min(largest, 1.5 * start) or 1.0
        lines = ["learning rate      loss"]
        nearest = min(chosen, key=lambda index: abs(math.log(self.rates[index] / self.suggested)))
        for index in chosen:
            bar = "#" * max(1, round(40 * min(self.smoothed[index], top) / top))
            mark = "  <- here" if index == nearest else ""
            lines.append(f"{self.rates[index]:13.1e}  {self.smoothed[index]:8.4g}  {bar}{mark}")
        return "\n".join(lines)

    def chart(self) -> Chart:
        """Return the curve as a drawing; losses far above the first one are cut off."""
        low, start = min(self.smoothed), self.smoothed[0]
        most = start + 0.6 * abs(start - low) + 1e-9
        losses, smoothed = ([value if value <= most else math.nan for value in v] for v in (self.losses, self.smoothed))
        return Chart(
            "training loss",
            "learning rate",
            f"The training loss over learning rates of {self.rates[0]:.2g} to {self.rates[-1]:.2g}; suggested is"
            f" {self.suggested:g}",
            [
                Line("of a step", self.rates, losses, "seventh", thin=True),
                Line("smoothed", self.rates, smoothed),
                Line(f"suggested: {self.suggested:g}", [self.suggested] * 2, [low, most], "validation"),
            ],
            log_x=True,
            width=560,
        )


def range_test(config: Config) -> RangeTest:
    """Train with a rising rate, without the schedule of the config, several times; nothing is kept of it."""
    with borrowed_generator():
        config, data = settled_data(config)
        seed = seed_of(config)
        sweeps = [_sweep(config.model_copy(update={"seed": (seed + k) % 2**32}), data) for k in range(SWEEPS)]
    if not all(losses for losses, _ in sweeps):
        raise DivergedError(
            f"the loss is not finite at a learning rate of {LOWEST:g} already", "--doctor looks for causes"
        )
    shortest, end = min(sweeps, key=lambda sweep: len(sweep[0]))
    every = np.array([losses[: len(shortest)] for losses, _ in sweeps])
    rates = (LOWEST * FACTOR ** np.arange(len(shortest))).tolist()
    losses = np.median(every, axis=0)
    smoothed = _smoothed(losses)
    suggested = suggestion(rates, smoothed.tolist())
    if suggested is None:
        suggested, end = rate_of(config), f"{end}, and never fell: the rate is the config's own"
    return RangeTest(tuple(rates), tuple(losses.tolist()), tuple(smoothed.tolist()), suggested, end)


def _sweep(config: Config, data: Data) -> tuple[list[float], str]:
    """Return the loss of every step while the rate rises, and why it ended."""
    setup = trial(config, data, constant_rate=True)
    groups, shares = setup.training.optimizer.param_groups, shares_of_rate(setup.training.optimizer)
    losses: list[float] = []

    def set_rate() -> None:
        for group, share in zip(groups, shares, strict=True):
            group["lr"] = LOWEST * FACTOR ** len(losses) * share

    set_rate()
    with blas_threads(setup.training.model, batch_size_of(config)):
        try:
            for loss in losses_of(setup, STEPS):
                if not math.isfinite(loss):
                    return losses, "the loss was not finite any more"
                losses.append(loss)
                recent = losses[-WINDOW:]
                if len(losses) > WINDOW and np.mean(recent) > min(losses) + EXPLODED * abs(losses[0]):
                    return losses, "the loss exploded"
                set_rate()
        except DivergedError:
            return losses, "the loss was not finite any more"
    return losses, f"the rate reached {HIGHEST:g}"


def _smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(losses, WINDOW // 2, mode="edge")
    return np.convolve(padded, np.full(WINDOW, 1 / WINDOW), "valid")


def suggestion(rates: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """Return the rate from which on the loss is below the middle between its start and its smallest value, with one
    digit; None where it does not fall.

    >>> rates = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    >>> suggestion(rates, [1.0, 0.99, 0.5, 0.2, 0.9])
    0.01
    """
    values = np.asarray(smoothed)
    start, lowest = values[0], int(values.argmin())
    if start - values[lowest] < LEAST_FALL * abs(start):
        return None
    above = np.flatnonzero(values[:lowest] > (start + values[lowest]) / 2)
    return float(f"{rates[int(above[-1]) + 1]:.0e}")
