"""Where a NaN or an infinity came from: the steps before it once more, from the last good checkpoint, under watch.

A run looks at its losses only now and then, and by then the weights that would tell are gone. But every step can be
computed again bit for bit, so nothing has to be kept for this while all goes well.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanotorch.autograd.graph.anomaly import AnomalyError, detect_anomaly
from nanotorch.train.fit.build import Setup
from nanotorch.train.fit.loop import DivergedError, fit, windows
from nanotorch.train.terminal.interrupt import Interrupt, Stopping


@dataclass(frozen=True, slots=True)
class Cause:
    """What made the first value that is not finite.

    Attributes:
        rows: the rows of the training part that were in the step, in their order; empty for the validation part.
        operation: the operation with its line, its layer and its inputs; None where no operation made such a value.
    """

    rows: list[int]
    operation: str | None


def find_cause(setup: Setup, error: DivergedError, interrupt: Interrupt) -> Cause | None:
    """Train from a state before the error once more, the last two steps of it watched; None if this is interrupted."""
    training, loader, parts, options = setup
    stream = fit(training, loader, parts.get("validation"), options, interrupt)
    operation, before = None, 0
    try:
        while training.step < error.step - 2:
            next(stream)
            if interrupt:
                return None
        with detect_anomaly():
            while training.step < error.step or error.part == "validation":
                before = training.step_in_epoch
                next(stream)
    except AnomalyError as made:
        operation = str(made)
    except (DivergedError, StopIteration):
        pass
    except Stopping:
        return None
    if error.part == "validation":
        return Cause([], operation)
    training.shuffle.set_state(training.order)
    assert loader.batch_sampler is not None
    epoch = list(windows(loader.batch_sampler, options.accumulate))
    window = epoch[before if before < len(epoch) else 0]
    return Cause([row for batch in window for row in batch], operation)
