"""One optimizer step over a window of batches, as a function of plain values: what `fit` repeats.

A compiled step takes its place, a data-parallel one is this with a `reduce`; both give a `StepResult` to `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nanotorch import Tensor, nn
from nanotorch.nn.utils import FlatParameters
from nanotorch.ops.create.counters import dropout_counters
from nanotorch.optim import Optimizer
from nanotorch.train.fit.moving_average import MovingAverage

Parameters = Sequence[Tensor | FlatParameters]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """What a step does with its gradients.

    Attributes:
        clip_norm: the most that the norm of all gradients together may be; None clips nothing.
        clip_value: the most that an element of a gradient may be.
        skip_nonfinite: leave the step out where the norm is not finite, which the host has to read in each step.
    """

    clip_norm: float | None = None
    clip_value: float | None = None
    skip_nonfinite: bool = False


class Piece(NamedTuple):
    """A batch of a window after its forward pass, without a graph: what a `Meter` takes in."""

    outputs: Tensor
    targets: Tensor
    loss: Tensor
    weight: Tensor
    factors: Tensor | None = None


Reduce = Callable[[Parameters, list[Piece], Tensor, Tensor], tuple[list[Piece], Tensor, Tensor]]
"""`reduce(parameters, pieces, loss, weight) -> (pieces, loss, weight)`: makes one window of those of several ranks.

Each rank comes with the gradients of the mean loss of its own window, its pieces, their sum of losses, and the weight
of its rows; each leaves with those of all rows: as gradient the mean of the ranks' gradients by their weights, as loss
and weight the sums. What is not finite on one rank is then finite on none, so all take the same branch after it. A rank
whose rows weigh nothing has gradients that mean nothing, and takes no part in the mean.
"""


class StepResult(NamedTuple):
    """What a step has to tell; all tensors are on the device, unread.

    Attributes:
        pieces: the batches of the window.
        loss: the sum of the losses of all rows, of all ranks.
        weight: what it is divided by for their mean.
        norm: the norm of the gradients before they were clipped; None where nobody asked.
        applied: False where the step was left out: its gradients were not finite.
    """

    pieces: list[Piece]
    loss: Tensor
    weight: Tensor
    norm: Tensor | None
    applied: bool


def alone(
    parameters: Parameters, pieces: list[Piece], loss: Tensor, weight: Tensor
) -> tuple[list[Piece], Tensor, Tensor]:
    """Return the `Reduce` of a single rank: there is nothing to join."""
    return pieces, loss, weight


def window_step(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    parameters: Parameters,
    window: Sequence[Sequence[Tensor]],
    options: StepOptions,
    average: MovingAverage | None = None,
    measure: bool = False,
    reduce: Reduce = alone,
    number: int = 0,
    first_row: int = 0,
) -> StepResult:
    """Take one optimizer step on the mean loss of the rows of a window.

    Args:
        model: what is trained, in training mode.
        criterion: the loss, which sums over rows; where rows have factors of their own, it gives the loss of each row.
        optimizer: what changes the parameters.
        parameters: the model's, whose gradients are measured and clipped: one by one, or flat, as one vector.
        window: batches, each with features, targets, for each row its weight in the mean, and where there are some the
            factors of the rows.
        options: what is done with the gradients.
        average: the moving average of the weights, or None.
        measure: whether the norm of the gradients is wanted.
        reduce: joins the windows of ranks.
        number: the number of the step, and
        first_row: that of the window's first row within the rows of all ranks: they say which masks dropout draws.

    Exact accumulation: a window of batches is one large batch, taken in pieces. Its mean loss is the sum over its rows
    divided by the sum of their weights, and the weights are known before the first piece is computed: so each piece
    adds its *sum*, divided by the weight of the *window*, and the gradients add up to those of the mean. A mean of the
    pieces' means would be wrong wherever pieces differ in size, in weights of rows or classes, or in ignored rows.
    Dropout's masks are those of the large batch, see Note [Counters of dropout]; batch norm alone differs from it: its
    statistics are the piece's.
    """
    weights = [row_weights.sum() for _, _, row_weights, *_ in window]
    weight = sum(weights[1:], start=weights[0])
    share = weight.reciprocal()
    buffers = [buffer.clone() for buffer in model.buffers()] if options.skip_nonfinite else []

    optimizer.zero_grad()
    pieces, row = [], first_row
    for (features, targets, _, *row_factors), piece_weight in zip(window, weights, strict=True):
        rows = len(features)
        with dropout_counters(number, row, rows=rows):
            outputs = model(features)
        row += rows
        loss = summed(criterion(outputs, targets), row_factors)
        loss.backward(share)  # the gradient of loss / weight
        pieces.append(Piece(outputs.detach(), targets, loss.detach(), piece_weight, *row_factors))

    total = sum((piece.loss for piece in pieces[1:]), start=pieces[0].loss)
    pieces, total, weight = reduce(parameters, pieces, total, weight)

    norm = None
    if options.clip_norm is not None:
        norm = nn.utils.clip_grad_norm_(parameters, options.clip_norm)
    elif measure or options.skip_nonfinite:
        norm = nn.utils.get_total_norm([grad for p in parameters if (grad := p.grad) is not None])
    if options.clip_value is not None:
        nn.utils.clip_grad_value_(parameters, options.clip_value)

    applied = norm is None or not options.skip_nonfinite or math.isfinite(norm.item())  # the one wait for the device
    if applied:
        optimizer.step()
        if average is not None:
            average.update(model)
    else:
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)  # a batch norm has taken the rows into its statistics
    return StepResult(pieces, total, weight, norm, applied)


def summed(loss: Tensor, row_factors: Sequence[Tensor]) -> Tensor:
    """Return the sum of the losses of rows, each times its factor where rows have factors;
    else the loss is a sum already.
    """
    return (loss.reshape(len(loss), -1) * row_factors[0].unsqueeze(1)).sum() if row_factors else loss
