"""The training loop, top to bottom: `fit` trains and validates; the trainer and the estimators both run it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import nanotorch as torch
from nanotorch import nn
from nanotorch.ops.create.random import drawing_from
from nanotorch.optim.lr_scheduler import ReduceLROnPlateau
from nanotorch.train.fit.chunks import Chunk, Chunks, Due, DueScores, DueSteps
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.training import Training
from nanotorch.train.fit.window_step import StepOptions, StepResult, summed, window_step
from nanotorch.train.terminal.interrupt import Interrupt
from nanotorch.train.terminal.standard_streams import printable
from nanotorch.utils.data import DataLoader

Batch = TypeVar("Batch")

READ_EVERY = 20  # steps between two readings of the losses: a reading waits for the device
EVALUATION_BATCH = 4096  # rows: without a graph to keep, large batches cost little memory
EVALUATION_OUTPUTS = 2**22  # but no more outputs at once than these, as models of many classes have them


class DivergedError(RuntimeError):
    """The loss became NaN or infinite; the message says when, and what to do.

    Args:
        fact: what happened, when.
        advice: what may help.
        step: the step with the loss that is not finite.
        part: the part of the data whose loss that is, "training", "validation" or "test"; "" where no single loss is
            meant.
    """

    exit_code = 3

    def __init__(self, fact: str, advice: str = "", step: int = 0, part: str = "") -> None:
        super().__init__(f"{fact}. {advice}" if advice else fact)
        self.fact, self.advice, self.step, self.part = fact, advice, step, part


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions(StepOptions):
    """How long to train, and how: `accumulate` batches of the loader make one step."""

    epochs: int
    accumulate: int = 1


def fit(
    training: Training,
    loader: DataLoader[Any],
    validation: Part | None,
    options: FitOptions,
    interrupt: Interrupt | None = None,
    step: Callable[..., StepResult] = window_step,
    chunks: Chunks | None = None,
) -> Iterator[StepResult | Due | Chunk | dict[str, Any]]:
    """Train from where `training` stands to the end; yield the result of every step, and the record of every epoch.

    Where `chunks` are given, it yields the steps that are `Due` before it takes them (Note [Due steps]), and where a
    program takes the place of the loop, a `Chunk` of steps instead of the result of each. Whoever iterates may save
    `training` whenever this yields but for what is `Due`, when an epoch may be counted that no step was taken of, and
    stop iterating: a `Training` that was saved, loaded and given to `fit` again goes on bit for bit, if
    the loader draws its order from `training.shuffle`. Without a validation part nothing is chosen: the last epoch is
    the best. `step` takes the place of `window_step`. Raises DivergedError, and `Stopping` where an interrupt arrives
    during validation, with the steps of the epoch done.

    Note [Host readings]
    ~~~~~~~~~~~~~~~~~~~~
    Whoever reads a number waits until the device has computed it. While it trains, this happens in three places: every
    READ_EVERY steps and after the last of an epoch (the losses, and the norm of that step's gradients), after an epoch
    (the scores, and whether the weights are finite), and with `skip_nonfinite` in each step.
    """
    steps_per_epoch = math.ceil(len(loader) / options.accumulate)
    while training.epoch < options.epochs or training.step_in_epoch:
        if training.stopped:
            return
        started = time.perf_counter()
        ahead = chunks is not None and bool(chunks.ahead)
        if training.step_in_epoch == 0:
            training.begin_epoch(ahead)
        if not ahead:
            training.model.train()
        done = False
        if chunks is not None and chunks.refused is None:
            done = yield from _steps_in_chunks(training, chunks, steps_per_epoch)
        if not done:
            yield from _steps(training, loader, options, step, steps_per_epoch)
        check_losses(training)
        due = None
        if validation is not None and chunks is not None and chunks.refused is None:
            due = DueScores(training, chunks, validation)
            yield due
        finite = None if chunks is None else chunks.end_epoch()
        finished = _finish_epoch(training, validation, due, interrupt, finite)
        record = {**finished, "seconds": time.perf_counter() - started}
        training.history.append(record)
        yield record


def _steps(
    training: Training,
    loader: DataLoader[Any],
    options: FitOptions,
    step: Callable[..., StepResult],
    steps_per_epoch: int,
) -> Iterator[StepResult]:
    """Take the steps of an epoch, from where it stands, one by one."""
    for window in islice(windows(loader, options.accumulate), training.step_in_epoch, None):
        training.step += 1
        training.step_in_epoch += 1
        read = training.step % READ_EVERY == 0 or training.step_in_epoch == steps_per_epoch
        with drawing_from(training.generator):
            result = step(
                training.model,
                training.criterion,
                training.optimizer,
                training.flat,
                window,
                options,
                average=training.average,
                measure=read,
                number=training.step,
            )
        if result.applied:
            for piece in result.pieces:
                training.meter.update(*piece[:4], training.step, piece.factors)
        else:
            training.skipped += 1
        if training.interval == "step":
            training.scheduler.step()
        if read and result.norm is not None:
            training.gradient_norms.append(result.norm.item())
            check_losses(training)
        yield result


def _steps_in_chunks(
    training: Training, chunks: Chunks, steps_per_epoch: int
) -> Generator[DueSteps | Chunk, None, bool]:
    """Take the steps of an epoch, from where it stands, as a program (Note [Chunks of steps]); return whether all are
    done: where nobody else takes them, and a program does not pay, the rest is left.
    """
    pays = chunks.begin_epoch(training)
    while training.step_in_epoch < steps_per_epoch:
        due = chunks.due(training, steps_per_epoch, READ_EVERY)
        if not due.taken:
            yield due
        if not due.taken and not pays:
            chunks.leave_order(training)
            return False
        norms = chunks.take(due)
        training.step_in_epoch += due.count
        ends = training.step_in_epoch == steps_per_epoch
        read = _read(norms, training.step, ends)
        training.step += due.count
        if read:
            training.gradient_norms += read
            check_losses(training)
        if due.whole is None:  # of what was taken ahead, the record says all
            yield Chunk(due.count)
    chunks.order()  # which is drawn for an epoch that goes on at its end, too
    return True


def _read(norms: list[float], before: int, ends: bool) -> list[float]:
    """Return the norms that are read of those of steps, of which `before` came before; the last one if it `ends` an
    epoch.
    """
    first = -(before + 1) % READ_EVERY
    found = norms[first::READ_EVERY]
    return [*found, norms[-1]] if ends and (before + len(norms)) % READ_EVERY else found


def _finish_epoch(
    training: Training,
    validation: Part | None,
    due: DueScores | None,
    interrupt: Interrupt | None,
    finite: Sequence[bool] | None,
) -> dict[str, Any]:
    """Score and judge an epoch whose steps are done, and move the schedule on; returns its record.

    Args:
        finite: for each parameter whether it is finite; None where nobody has looked.
    """
    meter, scheduler = training.meter, training.scheduler
    if meter.rows == 0:
        raise DivergedError(f"on_nonfinite: skip left out every step of epoch {training.epoch}: no gradient was finite")
    trained = meter.compute()
    validated = None
    if due is not None and due.given is not None:
        outputs, loss, weight = due.given
        scores = due.part.meter(every_metric=True)
        _, targets, _, *row_factors = due.part.dataset.tensors
        scores.update(outputs, targets, loss, weight, 0, *row_factors)
        validated = scores.compute()
    elif validation is not None:
        with drawing_from(training.generator):
            validated = evaluate(training.model_for_use, training.criterion, validation, interrupt)
    if validated is not None:
        check_scores(training, "validation", validated)
    check_weights(training, finite)
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step((validated or trained)["loss"])
    elif training.interval == "epoch":
        scheduler.step()
    training.step_in_epoch = 0
    if validated is not None:
        training.judge(validated)
    else:
        training.judge(trained, "training")
        training.best_epoch = training.epoch
    norms = [norm for norm in training.gradient_norms if math.isfinite(norm)]
    return {
        "epoch": training.epoch,
        "step": training.step,
        "learning_rate": training.learning_rate,
        "gradient_norm": sum(norms) / len(norms) if norms else None,
        **{f"train_{name}": value for name, value in trained.items()},
        **{f"validation_{name}": value for name, value in (validated or {}).items()},
    }


def evaluate(
    model: nn.Module, criterion: nn.Module, part: Part, interrupt: Interrupt | None = None
) -> dict[str, float]:
    """Loss and scores of a model over a part, in evaluation mode and without a graph."""
    meter = part.meter(every_metric=True)
    model.eval()
    with torch.no_grad():
        batches = part.batches(rows_at_once(part))
        for number, (features, targets, row_weights, *row_factors) in enumerate(batches, 1):
            if interrupt is not None:
                interrupt.check()
            outputs = model(features)
            loss = summed(criterion(outputs, targets), row_factors)
            meter.update(outputs, targets, loss, row_weights.sum(), 0, *row_factors)
            if number % READ_EVERY == 0:
                meter.read_losses()
    return meter.compute()


def rows_at_once(part: Part) -> int:
    """Return how many rows of a part a model that does not train takes at a time."""
    most: int = getattr(part.dataset, "rows_at_once", EVALUATION_BATCH)
    return max(1, min(most, EVALUATION_OUTPUTS // len(part.scored_as["target_names"])))


def check_losses(training: Training) -> None:
    """Read the losses since the last reading; a DivergedError if one is not finite."""
    losses = training.meter.read_losses()
    for at_step, loss in losses:
        if not math.isfinite(loss):
            raise _diverged(training, "training", f"training loss is {loss} at", at_step)
        training.latest_loss = loss


def check_scores(training: Training, part: str, scores: Mapping[str, float]) -> None:
    """A DivergedError if the loss of a part, or a score, is not finite: some output of the model is not."""
    for name, value in scores.items():
        if not math.isfinite(value):
            raise _diverged(training, part, f"{part} {printable(name, kept='')} is {value} at", training.step)


def check_weights(training: Training, finite: Sequence[bool] | None = None) -> None:
    """A DivergedError if a weight is not finite, before anything is saved that could not be gone on with; `finite` is
    for each parameter whether it is, where somebody has looked.
    """
    if finite is None:
        with torch.no_grad():
            if math.isfinite(nn.utils.get_total_norm([part.data for part in training.flat]).item()):
                return
            finite = [bool(torch.isfinite(p).all().item()) for p in training.model.parameters()]
    if all(finite):
        return
    bad = [name for (name, _), is_ in zip(training.model.named_parameters(), finite, strict=True) if not is_]
    raise _diverged(training, "training", f"weights of {', '.join(bad)} are not finite after", training.step)


def _diverged(training: Training, part: str, what: str, step: int) -> DivergedError:
    rate = training.optimizer.param_groups[0]["lr"]
    return DivergedError(
        f"the {what} step {step}, in epoch {training.epoch}",
        f"Lower optimizer.lr (now {rate:g}), or set or lower train.clip_norm; --doctor looks for other causes",
        step,
        part,
    )


def windows(loader: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Return the batches of a loader in lists of `size`; the last list may be shorter.

    >>> list(windows(DataLoader(torch.arange(5), batch_size=2), 2))
    [[tensor([0, 1]), tensor([2, 3])], [tensor([4])]]
    """
    batches = iter(loader)
    while window := list(islice(batches, size)):
        yield window
