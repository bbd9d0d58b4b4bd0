"""A few steps of training on the side: the run's own loop, model and data, of which nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nanotorch.train.config.sections import Config
from nanotorch.train.fit.build import Setup, build
from nanotorch.train.fit.loop import fit
from nanotorch.train.fit.prepare import Data
from nanotorch.train.fit.window_step import StepResult


def trial(config: Config, data: Data, constant_rate: bool = False) -> Setup:
    """Return what a run would begin with, but that it never stops by itself, unless a schedule is over; with
    `constant_rate`, without its schedule.
    """
    update: dict[str, object] = {"early_stopping": None}
    if constant_rate:
        update["scheduler"] = None
    setup = build(config.model_copy(update=update), data)
    setup.training.monitor = "loss"
    if setup.training.scheduler is not None:
        return setup
    return setup._replace(options=replace(setup.options, epochs=10**9))


def losses_of(setup: Setup, count: int) -> Iterator[float]:
    """Train on the training part alone and yield the loss of each of so many steps, at the weights before the step.

    Of a step of several batches it is that of the last one; of a step that `on_nonfinite: skip` leaves out it is NaN.
    Raises DivergedError as a run does.
    """
    for result in fit(setup.training, setup.loader, None, setup.options):
        if not isinstance(result, StepResult):
            continue
        last = result.pieces[-1]
        yield last.loss.item() / last.weight.item() if result.applied else float("nan")
        if setup.training.step >= count:
            return
