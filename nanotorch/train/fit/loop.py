"""The training loop, top to bottom: `fit` trains and validates; the trainer and the estimators both run it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.optim.lr_scheduler import ReduceLROnPlateau
from nanotorch.train.config.sections import TrainSection
from nanotorch.train.fit.training import Part, Training
from nanotorch.train.terminal.interrupt import Interrupt
from nanotorch.train.terminal.standard_streams import printable
from nanotorch.utils.data import DataLoader

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


def fit(
    training: Training, options: TrainSection, train: Part, validation: Part | None, interrupt: Interrupt | None = None
) -> Iterator[dict[str, Any] | None]:
    """Train from where `training` stands to the end; yield None after every step, and the record of every epoch.

    Whoever iterates may save `training` whenever this yields, and stop iterating: a `Training` that was saved,
    loaded and given to `fit` again goes on bit for bit. Without a validation part nothing is chosen: the last epoch is
    the best. Raises DivergedError, and `Stopping` where an interrupt arrives during validation, with the steps of the
    epoch done.
    """
    model, optimizer, criterion, scheduler = training.model, training.optimizer, training.criterion, training.scheduler
    parameters = list(model.parameters())
    loader: DataLoader[Any] = DataLoader(
        train.dataset,
        options.batch_size,
        shuffle=options.shuffle,
        drop_last=options.drop_last,
        generator=training.shuffle,
    )
    steps_per_epoch = math.ceil(len(loader) / options.accumulate)
    while training.epoch < options.epochs or training.step_in_epoch:
        if training.stopped:
            return
        started = time.perf_counter()
        if training.step_in_epoch == 0:
            training.epoch += 1
            training.learning_rate = optimizer.param_groups[0]["lr"]
            training.order = training.shuffle.get_state()
            training.meter, training.gradient_norms = train.meter(), []
        meter = training.meter
        assert meter is not None
        model.train()
        for window in islice(windows(loader, options.accumulate), training.step_in_epoch, None):
            # Exact accumulation. A window of batches is one large batch, taken in pieces. Its mean loss is the
            # sum over its rows divided by the sum of their weights, and the weights are known before the first
            # piece is computed: so each piece adds its *sum*, divided by the weight of the *window*, and the
            # gradients add up to those of the mean. A mean of the pieces' means would be wrong wherever pieces
            # differ in size, in weights of rows or classes, or in ignored rows. (Batch norm and dropout do
            # differ from the large batch: statistics and masks are the piece's.)
            training.step += 1
            weights = [row_weights.sum() for _, _, row_weights, *_ in window]
            share = 1 / sum(weights[1:], start=weights[0])
            pieces = []
            buffers = [b.clone() for b in model.buffers()] if options.on_nonfinite == "skip" else []
            optimizer.zero_grad()
            for (features, targets, _, *row_factors), weight in zip(window, weights, strict=True):
                outputs = model(features)
                loss = _summed(criterion(outputs, targets), row_factors)
                loss.backward(share)  # the gradient of loss / window_weight
                pieces.append((outputs.detach(), targets, loss.detach(), weight))
            measured = training.step % READ_EVERY == 0 or training.step_in_epoch + 1 == steps_per_epoch
            if options.clip_norm is not None:
                norm = nn.utils.clip_grad_norm_(parameters, options.clip_norm)
            elif measured or options.on_nonfinite == "skip":
                norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if options.clip_value is not None:
                nn.utils.clip_grad_value_(parameters, options.clip_value)
            if options.on_nonfinite == "skip" and not math.isfinite(norm.item()):
                training.skipped += 1
                for buffer, before in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(before)  # a batch norm has taken the rows into its statistics
            else:
                optimizer.step()
                if training.average is not None:
                    training.average.update_parameters(model)
                for piece in pieces:
                    meter.update(*piece, training.step)
            if training.interval == "step":
                scheduler.step()
            training.step_in_epoch += 1
            if measured:
                training.gradient_norms.append(norm.item())
                check_losses(training)
            yield None

        check_losses(training)
        if meter.rows == 0:
            raise DivergedError(
                f"on_nonfinite: skip left out every step of epoch {training.epoch}: no gradient was finite"
            )
        trained = meter.compute()
        validated = None
        if validation is not None:
            validated = evaluate(training, validation, interrupt)
            check_scores(training, "validation", validated)
        check_weights(training)
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
        record: dict[str, Any] = {
            "epoch": training.epoch,
            "step": training.step,
            "learning_rate": training.learning_rate,
        }
        norms = [norm for norm in training.gradient_norms if math.isfinite(norm)]
        record["gradient_norm"] = sum(norms) / len(norms) if norms else None
        record |= {f"train_{name}": value for name, value in trained.items()}
        record |= {f"validation_{name}": value for name, value in (validated or {}).items()}
        record["seconds"] = time.perf_counter() - started
        training.history.append(record)
        yield record


def evaluate(training: Training, part: Part, interrupt: Interrupt | None = None) -> dict[str, float]:
    """Loss and scores over a part, with the weights for use, in evaluation mode and without a graph."""
    meter = part.meter(every_metric=True)
    model = training.model_for_use.eval()
    with torch.no_grad():
        loader: DataLoader[Any] = DataLoader(part.dataset, rows_at_once(part))
        for number, (features, targets, row_weights, *row_factors) in enumerate(loader, 1):
            if interrupt is not None:
                interrupt.check()
            outputs = model(features)
            loss = _summed(training.criterion(outputs, targets), row_factors)
            meter.update(outputs, targets, loss, row_weights.sum())
            if number % READ_EVERY == 0:
                meter.read_losses()
    return meter.compute()


def rows_at_once(part: Part) -> int:
    """How many rows of a part a model that does not train takes at a time."""
    most: int = getattr(part.dataset, "rows_at_once", EVALUATION_BATCH)
    return max(1, min(most, EVALUATION_OUTPUTS // len(part.scored_as["target_names"])))


def _summed(loss: Tensor, row_factors: list[Tensor]) -> Tensor:
    """The sum of the losses of rows, each times its factor where rows have factors; else the loss is a sum already."""
    return (loss.reshape(len(loss), -1) * row_factors[0].unsqueeze(1)).sum() if row_factors else loss


def check_losses(training: Training) -> None:
    """Read the losses since the last reading; a DivergedError if one is not finite."""
    assert training.meter is not None
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


def check_weights(training: Training) -> None:
    """A DivergedError if a weight is not finite, before anything is saved that could not be gone on with."""
    with torch.no_grad():
        if math.isfinite(nn.utils.get_total_norm(training.model.parameters()).item()):
            return
        bad = [name for name, p in training.model.named_parameters() if not torch.isfinite(p).all().item()]
    if bad:
        raise _diverged(training, "training", f"weights of {', '.join(bad)} are not finite after", training.step)


def _diverged(training: Training, part: str, what: str, step: int) -> DivergedError:
    rate = training.optimizer.param_groups[0]["lr"]
    return DivergedError(
        f"the {what} step {step}, in epoch {training.epoch}",
        f"Lower optimizer.lr (now {rate:g}), or set or lower train.clip_norm; --doctor looks for other causes",
        step,
        part,
    )


def windows(loader: Iterable[list[Tensor]], size: int) -> Iterator[list[list[Tensor]]]:
    """The batches of a loader in lists of `size`; the last list may be shorter.

    >>> list(windows(DataLoader(torch.arange(5), batch_size=2), 2))
    [[tensor([0, 1]), tensor([2, 3])], [tensor([4])]]
    """
    batches = iter(loader)
    while window := list(islice(batches, size)):
        yield window
