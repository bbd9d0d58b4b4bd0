"""Many fits side by side: what is due in several of them runs as one program."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from nanotorch.autograd.graph.tensor import from_array
from nanotorch.train.fit.chunks import PAYS, Due
from nanotorch.train.fit.loop import DivergedError

Key = TypeVar("Key")


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

    - A fit is asked for its next event when the event before has been taken in by whoever iterates here: meanwhile it
      stands still, and its training may be saved. What is `Due` is not passed on.
    - Every fit is asked once before one is asked twice, so that records of an epoch come together, before any step of
      the next epoch is due; whoever stops iterating there may give the same fits, or some of them, to another
      `together`.
    - A `DivergedError` that a fit raises is its last event, and the others go on. Any other error is raised here.
    - A fit leaves when its iterator ends; before that where somebody closes it, or sets `training.stopped`.

    Fits whose steps are alike in form make a group: of one architecture, kind of optimizer, and number of rows of an
    epoch and of a window. Its members take as many steps in a call as are due in all of them. Where they do not stand
    at one step of an epoch, as when they go on from checkpoints, those in the middle come to the end of theirs first,
    as each would alone, while the others wait.

    A group runs as one program from the start, if that pays for all of them together, and each fit for itself where it
    does not, or where the steps are no program, which a warning says once.
    """
    going = dict(fits)
    due: dict[Key, Due] = {}
    groups: dict[Any, Group[Key]] = {}
    while going:
        for key in [key for key in going if key not in due]:
            try:
                event = next(going[key], None)
            except DivergedError as error:
                yield key, error
                event = None
            if isinstance(event, Due):
                due[key] = event
                groups.setdefault(event.chunks.form, Group()).join(key, event)
            elif event is not None:
                yield key, event
            else:
                del going[key]
                for group in groups.values():
                    group.leave(key)
        for key in [key for key in due if _is_closed(going[key])]:
            del due[key]
        for group in groups.values():
            for key in group.ready(due):
                del due[key]


class Group(Generic[Key]):
    """Fits whose steps are alike in form (Note [Fits together]).

    Attributes:
        members: by key what is due in each, or was the last time.
    """

    def __init__(self) -> None:
        self.members: dict[Key, Due] = {}
        self._refused = False
        self._sweep: Any = None
        self._in_sweep: list[Key] = []
        self._pays: set[int] = set()  # of which sizes of windows a program pays

    def join(self, key: Key, due: Due) -> None:
        """Take in what is due in a fit."""
        self.members[key] = due
        if self._sweep is not None and key not in self._in_sweep:
            self.release()

    def leave(self, key: Key) -> None:
        """Let a fit go, if it is one of these."""
        self.members.pop(key, None)
        if key in self._in_sweep:
            number = self._in_sweep.index(key)
            del self._in_sweep[number]
            if self._in_sweep:
                self._sweep.drop(number)
            else:
                self._sweep = None

    def release(self) -> None:
        """Let the models have memory of their own again."""
        for key in list(self._in_sweep):
            self.leave(key)

    def ready(self, due: Collection[Key]) -> list[Key]:
        """Take what is due in all members once it is; return the keys of those that may go on."""
        for key in [key for key, of in self.members.items() if of.chunks.refused is not None and key not in due]:
            self.leave(key)
        if not self.members or not all([key in due for key in self.members]):
            return []
        every = list(self.members)
        if self._refused or (self._sweep is None and len(every) == 1):
            return every
        if len({of.training.step_in_epoch for of in self.members.values()}) > 1:
            return [key for key, of in self.members.items() if of.training.step_in_epoch]
        count = min([of.count for of in self.members.values()])
        for of in self.members.values():
            of.count = count
        if self._worth():
            self._take(count)
        return every

    def _worth(self) -> bool:
        """Return whether a program for the steps that are due is worth recording."""
        dues = list(self.members.values())
        rows = dues[0].window
        if rows not in self._pays and (sum([of.sure for of in dues]) >= PAYS or all([of.pays for of in dues])):
            self._pays.add(rows)
        return rows in self._pays

    def _take(self, count: int) -> None:
        """Take so many steps of all members in one call."""
        keys, dues = list(self.members), list(self.members.values())
        if self._sweep is None:
            self._in_sweep = keys
            self._sweep = OneByOne([of.chunks.step for of in dues])
        dues = [self.members[key] for key in self._in_sweep]
        schedulers = [of.training.scheduler for of in dues if of.training.interval == "step"]

        def between() -> None:
            for scheduler in schedulers:
                scheduler.step()

        started = time.perf_counter()
        fields = list(zip(*[of.chunks.tensors for of in dues], strict=True))
        pieces, norms = self._sweep.run(
            fields,
            [of.rows for of in dues],
            batch_size=dues[0].window,
            numbers=[of.numbers for of in dues],
            between=between if schedulers else None,
        )
        seconds = (time.perf_counter() - started) / count
        for number, of in enumerate(dues):
            of.chunks.seconds = min(of.chunks.seconds or seconds, seconds)
            of.given = [[part[number] for part in piece] for piece in pieces], norms[number]


class OneByOne:
    """Stands for a sweep until that takes an order of rows for each model."""

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = list(steps)

    def drop(self, number: int) -> None:
        """Let a model leave."""
        del self.steps[number]

    def run(self, tensors: Any, order: Any, *, batch_size: int, numbers: Any, between: Any) -> Any:
        """Take all steps of all models, one after the other."""
        found: list[Any] = [[] for _ in self.steps]
        for place in range(len(numbers[0])):
            start = place * batch_size
            for model, step in enumerate(self.steps):
                rows = order[model][start : start + batch_size]
                batch = [from_array(field[model].numpy().take(rows, 0)) for field in tensors]
                pieces, norm = step(*batch, numbers[model][place])
                found[model].append([*[part.numpy() for piece in pieces for part in piece], norm.numpy()])
            if between is not None:
                between()
        models = [list(map(np.stack, zip(*each, strict=True))) for each in found]
        *parts, norms = map(from_array, map(np.stack, zip(*models, strict=True)))
        return [parts[start : start + 3] for start in range(0, len(parts), 3)], norms


def _is_closed(fit: Iterator[Any]) -> bool:
    return getattr(fit, "gi_frame", fit) is None
