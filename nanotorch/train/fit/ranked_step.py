"""The step of several ranks: each takes its part of a window, and all leave it as one process would.

Note [Steps of ranks]
~~~~~~~~~~~~~~~~~~~~~
All ranks draw the same order of rows and see the same windows. A window is cut into as many parts as there are ranks,
one behind the other, so that `first_row` says where each begins, and dropout draws the masks of the whole window. A
part is taken in pieces of a batch, as the window would be. What a rank then has goes to all others in one sum:

    gradients x weight | loss | weight | asked to stop | outputs of all rows, 0 for those of others | buffers of rank 0

Divided by the sum of the weights, the gradients are those of the window. The outputs come out whole, since adding 0
changes nothing; so every rank keeps the sums of all rows in its meter, and judges as the others do. That a signal has
arrived is known to all after the same step (`AgreedInterrupt`), so that nobody waits for a rank that has stopped.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

import numpy as np

import nanotorch as torch
from nanotorch import Tensor, distributed, nn
from nanotorch.autograd.graph.tensor import from_array
from nanotorch.optim import Optimizer
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.fit.window_step import Parameters, Piece, StepOptions, StepResult, window_step
from nanotorch.train.terminal.interrupt import Interrupt


class AgreedInterrupt(Interrupt):
    """An `Interrupt` that all ranks hear at once, once one of them has been `asked`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: signal.Signals | None = None

    def _raise_flag(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        self._restore()

    def agree(self) -> None:
        """All ranks stop."""
        self.signal = self.asked or signal.SIGTERM


class RankedStep:
    """`window_step` for all ranks together (Note [Steps of ranks]).

    Args:
        interrupt: what the ranks listen to.
        ordered: add up in the order of the ranks.
    """

    def __init__(self, interrupt: AgreedInterrupt, ordered: bool) -> None:
        self._interrupt, self._ordered = interrupt, ordered

    def __call__(
        self,
        model: nn.Module,
        criterion: Callable[[Tensor, Tensor], Tensor],
        optimizer: Optimizer,
        parameters: Parameters,
        window: Sequence[Sequence[Tensor]],
        options: StepOptions,
        average: MovingAverage | None = None,
        measure: bool = False,
        number: int = 0,
    ) -> StepResult:
        """Take one optimizer step on the mean loss of the rows of a window, with the arguments of `window_step`."""
        fields = [torch.cat(field) if len(window) > 1 else field[0] for field in zip(*window, strict=True)]
        rows, rank, size = len(fields[0]), distributed.get_rank(), distributed.get_world_size()
        first, behind = rows * rank // size, rows * (rank + 1) // size
        at_once = len(window[0][0])
        starts = range(first, behind, at_once) or (first,)
        part = [[field[start : min(start + at_once, behind)] for field in fields] for start in starts]
        joined = partial(self._joined, model, fields, first)
        return window_step(
            model, criterion, optimizer, parameters, part, options, average, measure, joined, number, first
        )

    def _joined(
        self,
        model: nn.Module,
        fields: Sequence[Tensor],
        first: int,
        parameters: Parameters,
        pieces: list[Piece],
        loss: Tensor,
        weight: Tensor,
    ) -> tuple[list[Piece], Tensor, Tensor]:
        """Make one window of those of all ranks."""
        _, targets, _, *factors = fields
        own, dtype = float(weight.item()), pieces[0].outputs.numpy().dtype
        outputs = np.zeros((len(targets), *pieces[0].outputs.shape[1:]), dtype)
        outputs[first : first + sum(len(piece.outputs) for piece in pieces)] = np.concatenate(
            [piece.outputs.numpy() for piece in pieces]
        )
        buffers = list(model.buffers())
        sent = [grad.numpy().reshape(-1) * own for grad in _gradients(parameters)]
        if not own:  # of rows that weigh nothing the gradients mean nothing
            sent = [np.zeros_like(each) for each in sent]
        numbers = np.array([loss.item() if own else 0.0, own, self._interrupt.asked is not None])
        kept = [buffer.numpy().reshape(-1) for buffer in buffers]
        if distributed.get_rank():
            kept = list(map(np.zeros_like, kept))
        together = np.concatenate([each.astype(dtype) for each in (*sent, numbers, outputs.reshape(-1), *kept)])
        distributed.reduce_array(together, "sum", self._ordered)
        sizes = [each.size for each in (*sent, numbers, outputs, *kept)]
        parts = np.split(together, np.cumsum(sizes)[:-1])
        count = len(sent)
        total, all_weight, asked = parts[count]
        for grad, part in zip(_gradients(parameters), parts[:count], strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                grad.copy_(from_array(part / all_weight, grad.device).view(grad.shape))
        for buffer, part in zip(buffers, parts[count + 2 :], strict=True):
            buffer.copy_(torch.from_numpy(part).view(buffer.shape))
        if asked:
            self._interrupt.agree()
        sums = [torch.tensor(value, dtype=loss.dtype) for value in (float(total), float(all_weight))]
        every = torch.from_numpy(parts[count + 1].reshape(outputs.shape).copy())
        return [Piece(every, targets, sums[0], sums[1], *factors)], sums[0], sums[1]


def _gradients(parameters: Parameters) -> list[Tensor]:
    """Return the gradients there are; the same on all ranks, since all run the same model."""
    return [grad.detach() for part in parameters if (grad := part.grad) is not None]
