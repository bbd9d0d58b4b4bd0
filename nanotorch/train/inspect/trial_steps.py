"""A few steps of training on the side: the run's own loop, model and data, of which nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator

from nanotorch.train.config.sections import Config
from nanotorch.train.fit.build import Data, build
from nanotorch.train.fit.loop import fit
from nanotorch.train.fit.training import Part, Training


def trial(config: Config, data: Data, constant_rate: bool = False) -> tuple[Training, dict[str, Part]]:
    """What a run would begin with, but that it never stops early; with `constant_rate`, without its schedule."""
    update: dict[str, object] = {"early_stopping": None}
    if constant_rate:
        update["scheduler"] = None
    training, parts = build(config.model_copy(update=update), data)
    training.monitor = "loss"
    return training, parts


def steps_of(training: Training, config: Config, train: Part, count: int) -> Iterator[float]:
    """Train on the training part alone and yield the loss of each of so many steps, at the weights before the step.

    A step that `on_nonfinite: skip` leaves out gives NaN. Raises DivergedError as a run does.
    """
    options = config.train.model_copy(update={"epochs": 10**9})
    skipped = training.skipped
    for record in fit(training, options, train, None):
        if record is not None:
            continue
        assert training.meter is not None
        losses = training.meter.read_losses()
        loss = losses[-1][1] if losses else training.latest_loss  # the loop itself reads them now and then
        yield float("nan") if loss is None or training.skipped > skipped else loss
        skipped = training.skipped
        if training.step >= count:
            return
