"""Steps of a fit as a recorded program, as many in one call as pass without a reading.

Note [Chunks of steps]
~~~~~~~~~~~~~~~~~~~~~~
`nanotorch.compile` turns `window_step` into a program, and `Compiled.run` repeats it without a loop of the trainer
around it: no loader, no meter, no look at the clock. Such a chunk ends where the plain loop does something between two
steps: where losses are read (`READ_EVERY`), if it matters where a fit that diverges ends; where a checkpoint is due,
where an epoch ends. The window of fewer rows at the end of an epoch is a program of its own.

Recording takes as long as some hundred small steps, so it has to pay. `auto` records where at least `PAYS` steps are
sure to come: early stopping lets no more be sure of than its patience. Where as many may come, and `PAYS_LATE` have
come already, it records as well. The first fit of a process gains from some 300 steps on, as a table and as a program
of NumPy, later ones as tables (their programs are proven) from 120 to 150 on; `PAYS` lies between.
Tables that are taken ahead (Note [Due steps]) pay sooner, for networks below `SMALL` parameters: the first one of a
process from some 230 steps on, in windows of 32 rows or of 200, later ones from 165 and 110 on, the steps of last
windows counted too. `PAYS_AHEAD` lies between; there a step counts the more, the more rows it has.
Steps of large networks are products of matrices and memory, of which a program saves a twentieth or a tenth, while
recording and checking one takes as long as 40 of them: from `LARGE` parameters on it takes twice as many steps.
Fits that are alike share a program: in a search of the estimators the steps of all that it was asked for count
together, whether they are taken at once or not. So each of them has the bits of the same fit alone where that is told
to run as a program (`compile=True`), and the search says which ran so. Runs of the trainer that are trained side by
side are judged one by one: each has a directory, checkpoints and scores to write, which takes longer than so few steps.

A program of NumPy gives the plain step bit for bit, so it never matters which steps ran as one. A table gives it to
rounding (Note [Tolerance of tables]), so it has to be the same steps whenever a training is repeated, or stopped and
gone on with. Hence the choice is made once, at the very beginning of a training: from what it was asked for, and from
whether the interpreter of tables is there at that moment; where it has to be compiled, that happens meanwhile, for
others. What was chosen, `Training.table_from`, is saved with the training: the first epoch that runs as a table, as all
do that come after it. Programs are recorded ahead (Note [Recorded ahead]), so that no step runs as ever because it is
the first of a process.

Note [Due steps]
~~~~~~~~~~~~~~~~
Before `fit` takes the steps of a chunk it yields them as a `Due`, with the training as the steps before have left it.
Whoever iterates over it may take them, and leave in `Due.given` what they gave, before it asks for the next event:
`together` does, with those of many fits in one call. What nobody has taken the fit takes, as a chunk where that pays,
else step by step. Where nobody looks at the training between two epochs, the steps of all epochs that are sure to come
may be taken (`DueSteps.take_ahead`): the fit then finds them done, epoch by epoch. All that follows from the steps, as
the sums of the meter, stays the fit's. In the same way the outputs for the validation part may be computed by others.
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.ops.create.random import drawing_from
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.training import Training
from nanotorch.train.fit.window_step import StepOptions, summed, window_step
from nanotorch.utils.data import DataLoader, TensorDataset
from nanotorch.utils.data.collate import default_collate
from nanotorch.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler

if TYPE_CHECKING:
    from nanotorch.capture.compiled import Compiled

Compile = Literal["auto"] | bool
PAYS = 250  # steps that are sure to come
PAYS_AHEAD = 220  # steps on few rows that are sure to come, of a table that is taken ahead
MANY_ROWS = 400  # rows with which a step counts twice
SMALL = 1 << 17  # parameters up to which that holds
LARGE = 1 << 22  # parameters from which on twice as many have to
PAYS_LATE = 4000  # steps that have come
LONGEST = 0.25  # seconds of a chunk: a bar moves, and Ctrl-C is heard


Array = np.ndarray[Any, Any]
Given = tuple[Sequence[Sequence[Array]], Array]


class Chunk(NamedTuple):
    """So many steps are done, in one call."""

    steps: int


class Due:
    """What is to be done next, and may be done by somebody else: `DueSteps` or `DueScores`.

    Attributes:
        training: what it is a part of.
        chunks: what would do it.
    """

    __slots__ = ("chunks", "training")

    def __init__(self, training: Training, chunks: Chunks) -> None:
        self.training, self.chunks = training, chunks


class DueScores(Due):
    """A validation part that is to be scored, at the end of an epoch (Note [Due steps]).

    Attributes:
        part: its rows.
        given: outputs, loss and weight of all rows together, as NumPy's arrays; None while nobody has computed them.
    """

    __slots__ = ("given", "part")

    def __init__(self, training: Training, chunks: Chunks, part: Part) -> None:
        super().__init__(training, chunks)
        self.part = part
        self.given: tuple[Array, Array, Array] | None = None


class Ahead(NamedTuple):
    """An epoch that was taken ahead.

    Attributes:
        order: its rows.
        given: what its steps gave, as many at a time as they were taken.
        norms: of the gradients, for each step.
        finite: for each parameter of the model whether it was finite at the end.
        sums: the state of the meter at the end, where that is known, and
        loss: the mean loss of the last step.
    """

    order: Array
    given: list[tuple[int, Given]]
    norms: list[float]
    finite: Sequence[bool]
    sums: Mapping[str, Any] | None
    loss: float


class DueSteps(Due):
    """Steps that are to be taken next, in one call (Note [Due steps]).

    Attributes:
        count: how many; who takes them may make it smaller.
        given: what they gave, as NumPy's arrays: for each batch of a window its outputs, its loss and its weight, and
            the norms of the gradients, all of them stacked over the steps; None while nobody has taken them.
        whole: the epoch whose steps they are, if it was taken ahead, and its sums are known.
    """

    __slots__ = ("count", "given", "whole")

    def __init__(self, training: Training, chunks: Chunks, count: int) -> None:
        super().__init__(training, chunks)
        self.count = count
        self.given: Given | None = None
        self.whole: Ahead | None = None

    @property
    def taken(self) -> bool:
        """Whether somebody has taken them."""
        return self.given is not None or self.whole is not None

    @property
    def rows(self) -> np.ndarray[Any, Any]:
        """The rows of the steps, one window after the other."""
        first, rows = self.training.step_in_epoch, self.chunks.rows
        return self.chunks.order()[first * rows : (first + self.count) * rows]

    @property
    def epochs(self) -> int:
        """Of how many epochs the steps may be taken, the one that is open included."""
        chunks, training = self.chunks, self.training
        alone = chunks.watched or not chunks.table or training.scheduler is not None or training.step_in_epoch
        return 1 if alone else chunks.sure_epochs

    def take_ahead(self, epochs: Sequence[Ahead]) -> None:
        """Have the fit find the steps of epochs done, of the one that is open first."""
        self.chunks.ahead = deque(epochs)
        self.find(epochs[0])

    def find(self, epoch: Ahead) -> None:
        """Find the steps in an epoch that was taken ahead: all of them where its sums are known, else the next."""
        if epoch.sums is None:
            self.count, self.given = epoch.given.pop(0)
        else:
            self.count, self.whole = len(epoch.norms), epoch

    @property
    def window(self) -> int:
        """How many rows each step takes."""
        chunks = self.chunks
        return min(chunks.rows, chunks.rows_per_epoch - self.training.step_in_epoch * chunks.rows)

    @property
    def sure(self) -> int:
        """How many steps on as many rows are sure to come."""
        return self.chunks.sure_epochs * (self.chunks.whole if self.window == self.chunks.rows else 1)

    @property
    def pays(self) -> bool:
        """Whether a program for steps on as many rows pays for this fit alone."""
        return self.chunks.pays_whole if self.window == self.chunks.rows else self.chunks.pays_last

    @property
    def table(self) -> bool:
        """Whether they are steps of a table."""
        return self.chunks.table and self.pays

    @property
    def numbers(self) -> range:
        """The numbers of the steps."""
        return range(self.training.step + 1, self.training.step + self.count + 1)


class Chunks:
    """Runs steps of a fit as a program (Note [Chunks of steps]).

    Args:
        training: what is trained.
        loader: what gives the batches of the plain loop, and says which rows they have.
        options: what a step does with its gradients.
        accumulate: batches of a window.
        epochs: how many there are in all.
        compile: "auto" where it pays, True from the first step on.
        pause: a chunk ends after each step whose number is a multiple of this, where something may be saved.
        watched: whether somebody looks at the training between two epochs, or stops it there, or where it diverges.
        alike: how many fits like this one there are, which share what a program costs.

    Attributes:
        refused: why steps of this kind are no program; None where they are one, as far as is known.
        step: what takes a step on the rows of a window, for `nanotorch.compile`.
        tensors: the fields of the rows.
        table: whether programs are tables.
        rows: how many rows a window has, and
        rows_per_epoch: all those of an epoch.
        form: what the steps of several fits have to have in common to run as one program.
        least: from how many steps on a program pays.
        small: whether tables that are taken ahead pay sooner.
        whole: how many steps of an epoch are on whole windows.
        sure_epochs: how many epochs are sure to come.
        pays_whole: whether there is a program of whole windows, and
        pays_last: of the last one.
        ahead: epochs that were taken ahead, the one that is open included.
    """

    def __init__(
        self,
        training: Training,
        loader: DataLoader[Any],
        options: StepOptions,
        accumulate: int,
        epochs: int,
        compile: Compile = "auto",
        pause: int | None = None,
        watched: bool = True,
        alike: int = 1,
    ) -> None:
        self.loader, self.epochs, self.pause, self.watched, self.alike = loader, epochs, pause, watched, alike
        self.ahead: deque[Ahead] = deque()
        self.always = compile is True
        self.refused = why_not(training, loader, options) if compile else "train.compile is false"
        self.table = self._begun = False
        self._why = ""  # programs are no tables
        self.seconds = 0.0  # of the quickest step so far
        self.sure_epochs = 0
        self._order: np.ndarray[Any, Any] | None = None
        self.pays_whole = self.pays_last = False
        rows, batch_size = len(loader.dataset), loader.batch_size or 1
        self.rows = max(1, min(batch_size * accumulate, rows))
        self.whole = rows // self.rows
        parameters = sum([param.numel() for param in training.model.parameters()])
        self.least = 2 * PAYS if parameters >= LARGE else PAYS
        self.small = parameters < SMALL
        if self.refused is None:
            self.tensors: Sequence[Tensor] = loader.dataset.tensors
            self.rows_per_epoch = rows // batch_size * batch_size if loader.drop_last else rows
            self.form = (self.rows, self.rows_per_epoch, *form_of(training, self.tensors, options, batch_size))
            self.step = step_of(training, options, batch_size)

    @functools.cached_property
    def _compiled(self) -> Compiled:
        from nanotorch.capture.compiled import Compiled

        fallback = None if self.always else self._refuse
        return Compiled(self.step, "table" if self.table else "numpy", fallback, ahead=self.table)

    def _refuse(self, why: str) -> None:
        self.refused = why

    def _begin(self, training: Training) -> None:
        """Choose what runs the steps of a training that begins; of one that goes on see what it was."""
        if self._begun:
            return
        self._begun = True
        first = training.table_from if training.step else self._first_of_table(training)
        if first is not None:
            from nanotorch.capture.table.machine import MACHINE

            self.table = MACHINE.soon() is not None
            self._why = MACHINE.reason
        elif training.step:
            self._why = "as the run began"
        if training.step == 0:
            training.table_from = first if self.table else None
        self.form = (*self.form, self.table and training.table_from)

    def _first_of_table(self, training: Training) -> int | None:
        """Return the first epoch of a training that would run as a table; None where that does not pay."""
        sure = min(self.epochs, training.patience or self.epochs)
        if self.always or self.alike * self.whole * sure >= self.least or self._ahead_pays(training, sure):
            return 1
        late = 1 + math.ceil(PAYS_LATE / self.whole)
        return late if self.whole * (self.epochs - late + 1) >= self.least else None

    def _ahead_pays(self, training: Training, sure: int) -> bool:
        """Return whether a table pays for so many epochs since they are taken ahead."""
        steps = -(-self.rows_per_epoch // self.rows) * sure * (1 + self.rows / MANY_ROWS)
        ahead = not self.watched and training.scheduler is None and self.small
        return ahead and self.alike * steps >= PAYS_AHEAD

    def plan(self, training: Training) -> str:
        """Say what runs the steps that come, as far as can be said before them."""
        if self.refused is not None:
            return f"no: {self.refused}"
        self._begin(training)
        left, sure = self._to_come(training)
        few = f"{self.whole * sure} steps are sure to come, and a program pays from {self.least} on"
        if self.table:
            first = training.table_from or 1
            return "table" if first <= max(training.epoch, 1) else f"table from epoch {first}: {few}"
        if self._worth(training, self.whole, left, sure):
            return f"numpy: {self._why}" if self._why else "numpy"
        late = f"; numpy after {PAYS_LATE}" if self.whole * left >= PAYS_LATE + self.least else ""
        return f"no: {few}{late}"

    def begin_epoch(self, training: Training) -> bool:
        """Return whether the epoch that has begun is to be run in chunks."""
        self._order = self.ahead[0].order if self.ahead else None
        self._begin(training)
        left, self.sure_epochs = self._to_come(training)
        if self.table:
            self.pays_whole = self.pays_last = training.epoch >= (training.table_from or 1)
        else:
            self.pays_whole = self.pays_whole or self._worth(training, self.whole, left, self.sure_epochs)
            self.pays_last = self.pays_last or self._worth(training, 1, left, self.sure_epochs)
        return self.pays_whole

    def _to_come(self, training: Training) -> tuple[int, int]:
        """Return how many epochs may come, and how many are sure to: the one that is open, or the next, and others."""
        left = self.epochs - max(training.epoch, 1) + 1
        return left, left if training.patience is None else min(left, training.patience - training.waited)

    def _worth(self, training: Training, steps: int, left: int, sure: int) -> bool:
        """Return whether a program for so many steps of each epoch is worth recording."""
        late = steps * (training.epoch - 1) >= PAYS_LATE and steps * left >= self.least
        return self.always or steps * sure >= self.least or late

    def order(self) -> Array:
        """Return the rows of the epoch, drawn as the loader draws them."""
        if self._order is None:
            self._order = self._drawn()
        return self._order

    def orders(
        self, training: Training, epochs: int, known: dict[Any, tuple[Any, list[Array]]]
    ) -> tuple[Any, list[Array]]:
        """Return the rows of so many epochs, the one that is open included, drawn as the loader draws them; before them
        the state of what draws them, after the first one. What is `known` of other fits that draw the same is not drawn
        again.
        """
        order, state = self.order(), training.shuffle.get_state()
        drawn = {name: value for name, value in state.items() if name != "seed"}
        sampler: Any = self.loader.batch_sampler.sampler  # type: ignore[union-attr]
        how = type(sampler), len(self.loader.dataset), len(sampler), getattr(sampler, "replacement", False)
        key = how, repr(drawn)
        if key in known:
            after, rest = known[key]
            training.shuffle.set_state({**after, "seed": state["seed"]})
        else:
            rest = [self._drawn() for _ in range(epochs - 1)]
            known[key] = training.shuffle.get_state(), rest
        return state, [order, *rest]

    def _drawn(self) -> Array:
        order = np.asarray(self.loader.batch_sampler.sampler.order())  # type: ignore[union-attr]
        return order[: self.rows_per_epoch]

    def leave_order(self, training: Training) -> None:
        """Have the loader draw the rows of the epoch, as if they had not been drawn yet."""
        if self._order is not None:
            training.shuffle.set_state(training.order)

    def due(self, training: Training, steps_per_epoch: int, read_every: int) -> DueSteps:
        """Return what can be run from here on in one call, or was taken ahead."""
        if self.ahead:
            due = DueSteps(training, self, 0)
            due.find(self.ahead[0])
            return due
        ends = [steps_per_epoch - training.step_in_epoch, max(1, self.whole - training.step_in_epoch)]
        if self.watched:
            ends.append(read_every - training.step % read_every)
        if self.pause is not None:
            ends.append(self.pause - training.step % self.pause)
        if self.seconds:
            ends.append(max(1, int(LONGEST / self.seconds)))
        return DueSteps(training, self, min(ends))

    def end_epoch(self) -> Sequence[bool] | None:
        """Return for each parameter whether it was finite at the end of an epoch that was taken ahead."""
        return self.ahead.popleft().finite if self.ahead else None

    def _run(self, due: DueSteps) -> Given:
        """Take the steps that are due."""
        training, rows, numbers, count = due.training, due.rows, due.numbers, due.count
        tensors = self.loader.dataset.tensors
        schedule = training.scheduler.step if training.interval == "step" else None
        started = time.perf_counter()
        if count * self.rows <= len(rows) or self.pays_last:
            size = min(self.rows, len(rows))
            pieces, norms = self._compiled.run(tensors, rows, batch_size=size, numbers=numbers, schedule=schedule)
        else:
            batch = [torch.from_numpy(tensor.numpy().take(rows, 0)) for tensor in tensors]
            one, norm = self.step(*batch, *numbers)
            pieces, norms = [[part.unsqueeze(0) for part in piece] for piece in one], norm.unsqueeze(0)
            if schedule is not None:
                schedule()
        seconds = (time.perf_counter() - started) / count
        self.seconds = min(self.seconds, seconds) if self.seconds else seconds
        return [[part.numpy() for part in piece] for piece in pieces], norms.numpy()

    def take(self, due: DueSteps) -> list[float]:
        """Take the steps that are due if nobody has, and have the meter take them in; return the norms of the
        gradients.
        """
        if due.whole is not None:
            assert due.whole.sums is not None
            due.training.meter.load_state(due.whole.sums)
            due.training.latest_loss = due.whole.loss
            return due.whole.norms
        training, rows, numbers, count = due.training, due.rows, due.numbers, due.count
        pieces, norms = self._run(due) if due.given is None else due.given
        found: list[float] = norms.tolist()
        _, of_targets, _, *of_factors = self.tensors
        wanted, *row_factors = (column.numpy().take(rows, 0) for column in (of_targets, *of_factors))
        if len(pieces) == 1:
            ((outputs, losses, weights),) = pieces
            flat = outputs.reshape(len(rows), *outputs.shape[2:])
            training.meter.update_many(flat, wanted, losses, weights, len(rows) // count, numbers, *row_factors)
            return found
        targets, of_rows = (
            wanted.reshape(count, -1, *wanted.shape[1:]),
            [each.reshape(count, -1) for each in row_factors],
        )
        cut: list[list[Any]] = []
        start = 0
        for outputs, losses, weights in pieces:
            stop = start + outputs.shape[1]
            factors = [each[:, start:stop] for each in of_rows]
            cut.append(list(zip(outputs, targets[:, start:stop], losses, weights, *factors, strict=True)))
            start = stop
        for number, window in zip(numbers, zip(*cut, strict=True), strict=True):
            for of_outputs, wanted, loss, weight, *factor in window:
                training.meter.update(of_outputs, wanted, loss, weight, number, *factor)
        return found


def step_of(training: Training, options: StepOptions, batch_size: int) -> Callable[..., Any]:
    """Return a step on the rows of a window, side by side, and the number of the step; it gives what is measured.

    Without a number it scores the rows: it gives outputs, loss and weight in evaluation mode.
    """
    model, criterion, optimizer = training.model, training.criterion, training.optimizer
    flat, average, generator = training.flat, training.average, training.generator

    def step(*given: Any) -> Any:
        if isinstance(given[-1], Tensor):
            with drawing_from(generator):
                return scored(model if average is None else average.module, criterion, given)
        *fields, number = given
        rows = len(fields[0])
        starts = range(0, rows, batch_size)
        window = [[field[start : start + batch_size] for field in fields] for start in starts]
        with drawing_from(generator):
            result = window_step(
                model, criterion, optimizer, flat, window if len(window) > 1 else [fields], options, average, True,
                number=number,
            )  # fmt: skip
        return [(piece.outputs, piece.loss, piece.weight) for piece in result.pieces], result.norm

    return step


@torch.no_grad()
def scored(model: nn.Module, criterion: nn.Module, fields: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the outputs for rows, the sum of their losses and of their weights, in evaluation mode."""
    features, targets, row_weights, *row_factors = fields
    training = model.training
    model.eval()
    outputs = model(features)
    loss = summed(criterion(outputs, targets), row_factors)
    model.train(training)
    return outputs, loss, row_weights.sum()


def form_of(training: Training, tensors: Sequence[Tensor], options: StepOptions, batch_size: int) -> tuple[Any, ...]:
    """Return what steps have to have in common to give results of one form."""
    shapes = [(type(each), each.shape, each.dtype) for each in training.model.state_dict().values()]
    kinds = [type(each) for each in (training.model, training.criterion, training.optimizer)]
    columns = [(column.shape[1:], column.dtype) for column in tensors]
    chosen = (options.clip_norm is None, options.clip_value is None, training.interval == "step")
    return (batch_size, *chosen, *kinds, *columns, *shapes)


def why_not(training: Training, loader: DataLoader[Any], options: StepOptions) -> str | None:
    """Return why the steps of a fit are no program; None if they are one."""
    if options.skip_nonfinite:
        return "on_nonfinite: skip looks at the gradients of each step"
    if type(loader.dataset) is not TensorDataset:
        return "the rows do not lie in memory"
    tensors: Sequence[Tensor] = loader.dataset.tensors
    devices = [tensor.device.type for tensor in (*tensors, *training.model.parameters())]
    if any(device != "cpu" for device in devices):
        return "programs run on the CPU"
    sampler = loader.batch_sampler
    usual = type(sampler) is BatchSampler and type(sampler.sampler) in (RandomSampler, SequentialSampler)
    if not usual or loader.num_workers or loader.collate_fn is not default_collate:
        return "the loader makes its batches in its own way"
    return None
