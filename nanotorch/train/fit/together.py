"""Many fits side by side: what is due in several of them runs as one program."""

from __future__ import annotations

import gc
import itertools
import math
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from nanotorch import Tensor
from nanotorch.train.fit.chunks import PAYS, Due, DueScores, DueSteps
from nanotorch.train.fit.epochs_ahead import leave
from nanotorch.train.fit.loop import DivergedError, rows_at_once
from nanotorch.utils.data import TensorDataset

if TYPE_CHECKING:
    from nanotorch.capture.sweep.sweep import Sweep

Key = TypeVar("Key")
Item = TypeVar("Item")
MOST_AT_ONCE = 2**24  # numbers of a layer, of all models that are scored in one call
MOST_AHEAD = 2**24  # numbers that a call of many epochs takes and gives
LONGEST_AHEAD = 1.0  # seconds of it


class End(NamedTuple):
    """A fit is over; `result` is what its iterator returned."""

    result: Any


def together(fits: Mapping[Key, Iterator[Any]]) -> Iterator[tuple[Key, Any]]:
    """Advance fits side by side to their ends, each with the bits of its own separate run; yield what they yield, each
    event with the key of its fit.

    Args:
        fits: by key what `fit` returned, or an iterator that passes its events on, those that are `Due` among them.

    Note [Fits together]
    ~~~~~~~~~~~~~~~~~~~~
    `fit` stays the one loop: every fit has its own, with its own meter, schedule, judgement and order of rows. All that
    is done here is to take the steps that are `Due` in many of them (Note [Due steps]) in one call, as a sweep (Note
    [Sweeps]), and to ask them in turn for their events:

    - All fits are asked for their next event before the first of these is passed on, and then stand still until whoever
      iterates here has taken in all of them: all trainings may be saved at any event. What is `Due` is not passed on.
    - So records of an epoch come together, before any step of the next epoch is due; whoever stops iterating there may
      give the same fits, or some of them, to another `together`.
    - When a fit is over its last event is an `End`; a `DivergedError` that it raises is its last event instead, and the
      others go on. Any other error is raised here.
    - A fit leaves when its iterator ends; before that where somebody closes it, or sets `training.stopped`.

    Fits whose steps are alike in form make a group: of one architecture, kind of optimizer, and number of rows of an
    epoch and of a window. Its members take as many steps in a call as are due in all of them. Where they do not stand
    at one step of an epoch, as when they go on from checkpoints, those in the middle come to the end of theirs first,
    as each would alone, while the others wait.

    Where nobody looks at the trainings between epochs, a call takes the steps of many, of a single fit, too.

    A group runs as one program from the start, if that pays for all of them together, and each fit for itself where it
    does not, or where the steps are no program, which a warning says once.
    """
    going = dict(fits)
    due: dict[Key, Due] = {}
    groups: dict[Any, Group[Key]] = {}
    try:
        while going:
            found: list[tuple[Key, Any]] = []
            failed: Exception | None = None
            with uncollected():
                for key in [key for key in going if key not in due]:
                    try:
                        found.append((key, next(going[key])))
                    except StopIteration as end:
                        found.append((key, End(end.value)))
                    except DivergedError as error:
                        found.append((key, error))
                    except Exception as error:
                        failed = error
                        break
            for key, event in found:
                if isinstance(event, Due):
                    due[key] = event
                    groups.setdefault(event.chunks.form, Group()).join(key, event)
                    continue
                if isinstance(event, End | DivergedError):
                    del going[key]
                    for group in groups.values():
                        group.leave(key)
                elif _is_closed(going[key]):
                    continue
                yield key, event
            if failed is not None:
                raise failed
            for key in [key for key in due if _is_closed(going[key])]:
                del due[key]
            with uncollected():
                for group in groups.values():
                    for key in group.ready(due):
                        del due[key]
    finally:
        for group in groups.values():
            group.release()


TURNS = 2  # lists that each process is dealt, at least, where there are as many fits


def dealt(kinds: Sequence[Sequence[Item]], processes: int) -> list[list[Item]]:
    """Return fits in lists for processes to take one after the other, from those that look alike as lists.

    Of a large kind each process gets a part, and a small one stays whole, since each part records a program of its own;
    there are more lists than processes, for those that come to their end sooner.

    >>> dealt([["a", "b", "c", "d"], ["e"]], 2)
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    most = math.ceil(sum(map(len, kinds)) / (processes * TURNS))
    lists: list[list[Item]] = []
    for kind in kinds:
        parts = math.ceil(len(kind) / most)
        ends = [len(kind) * number // parts for number in range(parts + 1)]
        lists += [list(kind[start:end]) for start, end in itertools.pairwise(ends)]
    return sorted(lists, key=len, reverse=True)


@contextmanager
def uncollected() -> Iterator[None]:
    """Have no garbage collected: many models are made at once, and each time all that there is would be looked at."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Group(Generic[Key]):
    """Fits whose steps are alike in form (Note [Fits together]).

    Attributes:
        members: by key what is due in each, or was the last time.
    """

    def __init__(self) -> None:
        self.members: dict[Key, Due] = {}
        self._refused = False
        self._sweep: Sweep | None = None
        self._in_sweep: list[Key] = []  # in the order of its steps
        self._pays: set[int] = set()  # of which sizes of windows a program pays

    def join(self, key: Key, due: Due) -> None:
        """Take in what is due in a fit."""
        self.members[key] = due
        if self._sweep is not None and key not in self._in_sweep:
            self.release()

    def leave(self, key: Key) -> None:
        """Let a fit go, if it is one of these."""
        self.members.pop(key, None)

    def release(self) -> None:
        """Let all models have memory of their own again."""
        if self._sweep is not None:
            for _, group in self._sweep.groups:
                group.release()
        self._sweep, self._in_sweep = None, []

    def ready(self, due: Collection[Key]) -> list[Key]:
        """Take what is due in all members once it is; return the keys of those that may go on."""
        for key in [key for key, of in self.members.items() if of.chunks.refused is not None and key not in due]:
            self.leave(key)
        if not self.members or not all([key in due for key in self.members]):
            return []
        every = list(self.members)
        ahead = any([isinstance(of, DueSteps) and of.epochs > 1 for of in self.members.values()])
        if self._refused or (self._sweep is None and len(every) == 1 and not ahead):
            return every
        if len({of.training.step_in_epoch for of in self.members.values()}) > 1:
            return [key for key, of in self.members.items() if of.training.step_in_epoch]
        scores = [of for of in self.members.values() if isinstance(of, DueScores)]
        if len(scores) == len(every):
            self._score()
        else:
            steps = [of for of in self.members.values() if isinstance(of, DueSteps)]
            count = min([of.count for of in steps])
            for of in steps:
                of.count = count
            if len({of.table for of in steps}) == 1 and self._worth(steps):
                self._take(steps, count)
        return every

    def _worth(self, dues: Sequence[DueSteps]) -> bool:
        """Return whether a program for the steps that are due is worth recording."""
        rows = dues[0].window
        if rows not in self._pays and (sum([of.sure for of in dues]) >= PAYS or all([of.pays for of in dues])):
            self._pays.add(rows)
        return rows in self._pays

    def _shrink(self) -> None:
        """Let those leave the sweep that are no members any more."""
        left = [number for number, key in enumerate(self._in_sweep) if key not in self.members]
        if self._sweep is not None and left:
            self._sweep.drop(*left)
            self._in_sweep = [key for key in self._in_sweep if key in self.members]

    def _score(self) -> None:
        """Compute the outputs of all members for their validation parts in one call, if there is room for them."""
        self._shrink()
        if self._sweep is None or self._sweep.backend == "table":  # no fit alone scores by a table
            return
        dues = [of for key in self._in_sweep if isinstance(of := self.members[key], DueScores)]
        part = dues[0].part
        if not all([isinstance(of.part.dataset, TensorDataset) for of in dues]):
            return
        columns = [[(column.shape, column.dtype) for column in of.part.dataset.tensors] for of in dues]
        widest = max([max(parameter.shape, default=1) for parameter in dues[0].training.model.parameters()])
        room = len(dues) * len(part) * widest <= MOST_AT_ONCE and len(part) <= rows_at_once(part)
        if not room or any([each != columns[0] for each in columns]):
            return
        tables = _fields([of.part.dataset.tensors for of in dues])
        given = [each.numpy() for each in self._sweep.run(tables, None, batch_size=len(part))]
        for number, of in enumerate(dues):
            outputs, loss, weight = [each[number, 0] for each in given]
            of.given = outputs, loss, weight

    def _take(self, every: Sequence[DueSteps], count: int) -> None:
        """Take so many steps of all members in one call."""
        backend = "table" if every[0].table else "numpy"
        if self._sweep is not None and self._sweep.backend != backend:
            self.release()
        self._shrink()
        if self._sweep is None:
            self._in_sweep = list(self.members)
            from nanotorch.capture.sweep.sweep import Sweep

            self._sweep = Sweep([of.chunks.step for of in every], None, self._refuse, backend)
        dues = [of for key in self._in_sweep if isinstance(of := self.members[key], DueSteps)]
        epochs = self._epochs(dues)
        if epochs > 1 and self._take_epochs(self._sweep, dues, epochs):
            return
        schedulers = [of.training.scheduler for of in dues if of.training.interval == "step"]

        def schedule() -> None:
            for scheduler in schedulers:
                scheduler.step()

        recorded, started = self._sweep.recorded, time.perf_counter()
        pieces, norms = self._sweep.run(
            _fields([of.chunks.tensors for of in dues]),
            [of.rows for of in dues],
            batch_size=dues[0].window,
            numbers=[of.numbers for of in dues],
            schedule=schedule if schedulers else None,
        )
        seconds = (time.perf_counter() - started) / count
        arrays = [[part.numpy() for part in piece] for piece in pieces]
        for number, (of, norm) in enumerate(zip(dues, norms.numpy(), strict=True)):
            if self._sweep.recorded == recorded:  # else it says nothing about the steps that follow
                of.chunks.seconds = min(of.chunks.seconds or seconds, seconds)
            of.given = [[part[number] for part in piece] for piece in arrays], norm

    def _epochs(self, dues: Sequence[DueSteps]) -> int:
        """Return of how many epochs the steps are to be taken in one call: of two, as long as nobody knows how long
        a step takes.
        """
        first = dues[0]
        rows, steps = first.chunks.rows_per_epoch, -(-first.chunks.rows_per_epoch // first.window)
        weights = sum([parameter.numel() for parameter in first.training.model.parameters()])
        room = MOST_AHEAD // (len(dues) * (rows * (2 + len(first.training.meter.target_names)) + weights))
        slowest = steps * max([of.chunks.seconds for of in dues])
        quick = int(LONGEST_AHEAD / slowest) if slowest else 2
        return min(room, quick, *[of.epochs for of in dues])

    def _take_epochs(self, sweep: Sweep, dues: Sequence[DueSteps], epochs: int) -> bool:
        """Take all steps of so many epochs of all members in one call; return whether that was possible."""
        started = time.perf_counter()
        chunks = dues[0].chunks
        known: dict[Any, Any] = {}
        states, drawn = zip(*[of.chunks.orders(of.training, epochs, known) for of in dues], strict=True)
        order = np.array(drawn)
        steps = -(-chunks.rows_per_epoch // chunks.rows)
        numbers = np.array([of.training.step for of in dues])[:, None] + np.arange(1, 1 + epochs * steps)
        passed = sweep.passes(
            _fields([of.chunks.tensors for of in dues]),
            order,
            chunks.rows,
            numbers.reshape(len(dues), epochs, steps),
            [list(of.training.model.parameters()) for of in dues],
        )
        if passed is None:
            for of, state in zip(dues, states, strict=True):
                of.training.shuffle.set_state(state)
            return False
        seconds = (time.perf_counter() - started) / (epochs * steps)
        for of_group, each in passed:
            leave([dues[k] for k in of_group], order[of_group], each)
        for of in dues:
            of.chunks.seconds = min(of.chunks.seconds or seconds, seconds)
        return True

    def _refuse(self, why: str) -> None:
        self._refused = True
        if len(self.members) > 1:
            warnings.warn(f"the steps of {len(self.members)} fits run one after the other: {why}", stacklevel=2)


def _fields(tables: Sequence[Sequence[Tensor]]) -> list[Any]:
    """Return the fields of all models, each as one table where it is the same for all."""
    fields = [list(field) for field in zip(*tables, strict=True)]
    return [field[0] if all([each is field[0] for each in field]) else field for field in fields]


def _is_closed(fit: Iterator[Any]) -> bool:
    return getattr(fit, "gi_frame", fit) is None
