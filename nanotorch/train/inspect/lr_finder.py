"""`--find-lr`: the loss while the learning rate rises step by step, and the rate to take.

The range test of Smith, Cyclical Learning Rates for Training Neural Networks (2017): train with a rate that grows by
the same factor after every step, from one far too small to one at which the loss explodes. Where the loss falls
fastest, the rate works best; where it turns up again, training would diverge before long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanotorch.train.config.loading import batch_size_of
from nanotorch.train.config.sections import Config
from nanotorch.train.fit.build import shares_of_rate
from nanotorch.train.fit.decided import settled_data
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.inspect.trial_steps import losses_of, trial
from nanotorch.train.report.chart import Chart, Line
from nanotorch.train.terminal.blas_threads import blas_threads

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 120
MEMORY = 0.9  # of the smoothed loss
EXPLODED = 4.0  # times the loss at the start, above the smallest


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What a range test saw.

    Attributes:
        rates: the learning rate of every step.
        losses: the training loss of every step.
        smoothed: the losses, each an average over some steps before it.
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
    """Train with a rising rate, without the schedule of the config; nothing is kept of it."""
    with borrowed_generator():
        config, data = settled_data(config)
        setup = trial(config, data, constant_rate=True)
        factor = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
        rates, losses, smoothed, average = [LOWEST], [], [], 0.0
        end = f"the rate reached {HIGHEST:g}"

        shares = shares_of_rate(setup.training.optimizer)

        def set_rate() -> None:
            for group, share in zip(setup.training.optimizer.param_groups, shares, strict=True):
                group["lr"] = rates[-1] * share

        set_rate()
        with blas_threads(setup.training.model, batch_size_of(config)):
            try:
                for loss in losses_of(setup, STEPS):
                    if not math.isfinite(loss):
                        end = "the loss was not finite any more"
                        break
                    losses.append(loss)
                    average = MEMORY * average + (1 - MEMORY) * loss
                    smoothed.append(average / (1 - MEMORY ** len(losses)))
                    if len(losses) > 10 and smoothed[-1] > min(smoothed) + EXPLODED * abs(smoothed[0]):
                        end = "the loss exploded"
                        break
                    rates.append(rates[-1] * factor)
                    set_rate()
            except DivergedError:
                end = "the loss was not finite any more"
    if not losses:
        raise DivergedError(
            f"the loss is not finite at a learning rate of {LOWEST:g} already", "--doctor looks for causes"
        )
    rates = rates[: len(losses)]
    return RangeTest(tuple(rates), tuple(losses), tuple(smoothed), suggestion(rates, smoothed), end)


def suggestion(rates: Sequence[float], smoothed: Sequence[float]) -> float:
    """Return the rate where the smoothed loss falls fastest per decade,
    and at most a third of the rate where it is smallest.

    >>> rates = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    >>> suggestion(rates, [1.0, 0.99, 0.8, 0.2, 0.9])
    0.03
    """
    values = np.asarray(smoothed)
    lowest = int(values.argmin())
    if lowest < 2:
        return _rounded(rates[lowest] / 3)
    slopes = np.gradient(values[: lowest + 1], np.log10(rates[: lowest + 1]))
    return _rounded(min(rates[int(slopes.argmin())], rates[lowest] / 3))


def _rounded(rate: float) -> float:
    return float(f"{rate:.0e}")
