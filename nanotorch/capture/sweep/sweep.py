"""`nanotorch.compile.sweep`: the steps of several models, which run as one program.

Note [Sweeps]
~~~~~~~~~~~~~
Steps that are alike (Note [Like steps]) form a `Group`, which is a compiled function (Note [Compiled steps]) that takes
one step after the other. So everything that a compiled step may and may not do holds for it as it stands: what it can
reach, what is refused, when a program fits. What is added: before the first recording the models move together, each
tensor that one step alone can reach becomes a row of memory that belongs to all (`stacked.py`). The step of the first
model is recorded; the others run as ever in these calls. Its program holds for all of them (Note [Models of a program])
and is made one that all take at once (Note [Batched programs]), if run for each model alone it has left, bit for bit,
what the model's own step has left in the call of the second recording.

Tables are recorded ahead (Note [Recorded ahead]): all is put back after that, so only the first step runs as often as
it is recorded, and the others once, to be compared, or none but one (Note [Programs that are known]). Where a table is
known already that fits the steps of a group, what stands for each model in the places of the first one is known with
it: a program for other rows, as of the last batch, needs no step of the others. What a step can reach is walked again
only where no program says that it is as it was.

Steps that are not alike, as of networks of other widths, are in groups of their own: a `Sweep` runs one group after the
other. A group whose steps turn out to be unlike, as when one of the models is frozen, falls apart.

Each model stays an ordinary one: it may be saved, evaluated, and trained alone in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.capture.batches import Between
from nanotorch.capture.compiled import Fallback
from nanotorch.capture.effects import array_of
from nanotorch.capture.many_steps import planned, repeated
from nanotorch.capture.program import CallNumber
from nanotorch.capture.reach.reachable import Reachable
from nanotorch.capture.recording import Build, taken_apart
from nanotorch.capture.sweep.group import Axes, Group, entries, groups
from nanotorch.capture.sweep.likeness import alike, begun, difference, equal, signature
from nanotorch.capture.sweep.passes import Passed
from nanotorch.capture.table.machine import MACHINE

InDims = int | None | tuple[int | None, ...]
MOST = 128
"""Models of a group: what a call costs is shared by enough of them, and checking a program takes memory for each."""
BYTES = 1 << 23
"""Of parameters and what optimizers keep of a group: beyond it is arithmetic and memory that takes the time."""


class Sweep:
    """Steps of several models, which run as one program (Note [Sweeps]).

    Attributes:
        steps: the steps, in the order of the rows of what they return.
        groups: those that are alike, each with the numbers of its steps.
    """

    def __init__(
        self, steps: Sequence[Callable[..., Any]], in_dims: InDims, fallback: Fallback, backend: str = "numpy"
    ) -> None:
        self.steps, self.in_dims, self.fallback, self.backend = list(steps), in_dims, fallback, backend
        if not self.steps:
            raise ValueError("compile.sweep takes one step at least, got an empty sequence")
        self.groups: list[tuple[list[int], Group]] = []
        if backend not in ("auto", "numpy", "table"):
            raise ValueError(f"backend is 'auto', 'numpy' or 'table', got {backend!r}")
        if backend != "numpy" and MACHINE.soon() is None:
            self.backend = "numpy"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take all steps; return what they return, each tensor with one more axis in front."""
        axes = self._axes(len(args))
        args = tuple([self._joined(arg, axis) for arg, axis in zip(args, axes, strict=True)])
        found = []
        for numbers, group in self._grouped():
            given = [arg if axis is None else entries(arg, numbers) for arg, axis in zip(args, axes, strict=True)]
            leaves: list[Tensor] = []
            build = taken_apart(group(axes, *given, **kwargs), leaves)
            found.append((numbers, build, list(map(array_of, leaves))))
        self._regroup()
        return self._result(found)

    def run(
        self,
        tensors: Sequence[Any],
        order: Any = None,
        *,
        batch_size: int,
        steps: int | None = None,
        numbers: Sequence[Any] | None = None,
        between: Between | None = None,
        schedule: Between | None = None,
    ) -> Any:
        """Take all steps with one batch of rows after the other, as `Compiled.run` does for one.

        Args:
            tensors: tables of one length, of which each batch has the same rows. In the place of a table may stand a
                list with one for each step; all tables of a step have one length, and other steps may have others.
            order: the numbers of rows in the order in which they are taken: in one dimension for all steps, in two, or
                as a list, for each step its own, as many for each; None as they lie.
            batch_size: rows of a batch; the last one may have fewer.
            steps: how many steps each model takes; None for as many as there are batches.
            numbers: for each step an integer that it gets behind the batch, which is no part of the program: one
                sequence for all models, or one for each.
            between: is called after each step of all models, and may look at and change what a step leaves.
            schedule: is called after each step of all models, or ahead of it: it changes numbers of optimizers alone.

        Returns:
            What the steps return, each tensor with the models and the steps of each as first two dimensions; in a list
            of those of the models where shapes differ, and for each in a list where the last batch has fewer rows.
        """
        fields = [list(field) if isinstance(field, list | tuple) else field for field in tensors]
        count = len(self.steps)
        for field in fields:
            if isinstance(field, list) and len(field) != count:
                raise ValueError(f"run takes a table for each of {count} steps, got a list of {len(field)}")
        rows, batch_size, steps, apart = self._planned(fields, order, batch_size, steps)
        given = self._numbers(numbers, steps)
        if not steps:
            return None
        calls = [call for call in (schedule, between) if call is not None]
        if not calls or len(self._grouped()) == 1:
            return self._run(fields, rows, batch_size, apart, given, between, schedule)
        done = []
        for k, one in enumerate(given):
            part = rows[..., k * batch_size : (k + 1) * batch_size]
            done.append(self._run(fields, part, batch_size, apart, [one]))
            for call in calls:
                call()
        return _behind(done)

    def passes(
        self, tensors: Sequence[Any], order: Any, batch_size: int, numbers: Any, watched: Sequence[Sequence[Tensor]]
    ) -> list[tuple[list[int], Passed]] | None:
        """Take several passes of all models in one call, of each as `run` would take one after the other (Note
        [Passes]).

        Args:
            tensors, batch_size: as of `run`.
            order: the rows, (models, passes, rows of a pass).
            numbers: of the steps, (models, passes, steps of a pass).
            watched: for each model tensors of which a copy is made after each pass.

        Returns:
            The numbers of the models of each group, and what they gave; None, with nothing done, where not all steps
            have tables that ran before.
        """
        fields = [list(field) if isinstance(field, list | tuple) else field for field in tensors]
        if order.size and (order.min() < 0 or order.max() >= min([len(t) for t in self._tables(fields, 0)])):
            raise IndexError(f"order names rows from {order.min()} to {order.max()}, which the tensors do not have")
        found = []
        for of, group in self.groups:
            axes = (0,) * (len(fields) + 1)
            apart = [self._tables(fields, k) for k in of]
            own = apart if any(isinstance(field, list) for field in fields) else fields
            begun = group.passes(
                (axes,), own, apart, order[of], batch_size, numbers[of], [list(map(array_of, watched[k])) for k in of]
            )
            if begun is None:
                return None
            found.append((of, begun))
        return [(list(of), begun.take()) for of, begun in found] or None

    def drop(self, *numbers: int) -> None:
        """Let models leave: the steps of these numbers are taken no more, and those behind them move up."""
        gone = {range(len(self.steps))[number] for number in numbers}
        for of, group in self.groups:
            places = []
            for number in sorted(gone.intersection(of), key=of.index, reverse=True):
                places.append(of.index(number))
                of[places[-1]] = of[-1]
                del of[-1]
            if places and of:
                group.drop(*places)
            of[:] = [number - sum([left < number for left in gone]) for number in of]
        self.groups = [each for each in self.groups if each[0]]
        self.steps = [step for number, step in enumerate(self.steps) if number not in gone]

    # -------------------------------------------------------------------------------------------------------- groups

    def _grouped(self, called: bool = True) -> list[tuple[list[int], Group]]:
        """Return the groups; one that is alone, and made in a call, need not look again what its steps find."""
        if not self.groups:
            reaches = self._reaches()
            like = alike(reaches, begun=False)
            if self.backend != "numpy":  # the call in which optimizers begin runs as ever for a whole group
                like = [[of[k] for k in part] for of in like for part in equal([begun(reaches[k]) for k in of])]
            classes = [part for of in like for part in _parts(of, reaches[of[0]])]
            self.groups = groups(self.steps, reaches, classes, self.fallback, [], self.backend)
            if called and len(self.groups) == 1:
                self.groups[0][1].walked = reaches
        return self.groups

    def _reaches(self) -> list[Reachable]:
        words: set[str] = set()
        reaches = []
        for step in self.steps:
            reaches.append(Reachable({"": step}, words))
            words |= reaches[-1].words
        return reaches

    def _regroup(self) -> None:
        """Take groups apart whose steps turned out to be unlike."""
        for numbers, group in [each for each in self.groups if each[1].split is not None]:
            self.groups = [each for each in self.groups if each[1] is not group]
            self.groups += [([numbers[k] for k in part], made) for part, made in group.parts()]

    # ---------------------------------------------------------------------------------------------- what they are given

    def _axes(self, count: int) -> Axes:
        axes = self.in_dims if isinstance(self.in_dims, tuple) else (self.in_dims,) * count
        if len(axes) != count or any(axis not in (0, None) for axis in axes):
            raise ValueError(f"in_dims is 0 or None, or one of these for each of {count} arguments, got {self.in_dims}")
        return axes

    def _joined(self, value: Any, axis: int | None) -> Any:
        """Return the tensor that holds an argument of each step."""
        if axis is None:
            return value
        if not isinstance(value, Tensor):
            value = from_array(np.stack(list(map(array_of, value))))
        if not value.ndim or len(value) != len(self.steps):
            raise ValueError(
                f"an argument with in_dims 0 has an entry for each of {len(self.steps)} steps, got shape "
                f"{tuple(value.shape)}"
            )
        return value.contiguous()  # each entry is as far behind the last one as it is long

    def _planned(
        self, fields: Sequence[Any], order: Any, batch_size: int, steps: int | None
    ) -> tuple[np.ndarray[Any, Any], int, int, bool]:
        """Return the rows that are taken, how many make a batch, the number of steps, and whether each model has rows
        of its own.
        """
        count = len(self.steps)
        if isinstance(order, list | tuple) and order and not isinstance(order[0], int | np.integer):
            lengths = sorted({len(each) for each in order})
            if len(lengths) > 1:
                raise ValueError(f"run takes as many rows for each step, got orders of {lengths} rows")
            order = np.stack([each.cpu().numpy() if isinstance(each, Tensor) else np.asarray(each) for each in order])
        if not any(isinstance(field, list) for field in fields):
            rows, batch_size, steps = planned(fields, order, batch_size, steps)
            if rows.ndim == 2 and len(rows) != count:
                raise ValueError(f"run takes an order for each of {count} steps, got {len(rows)}")
            return rows, batch_size, steps, rows.ndim == 2
        orders = order if getattr(order, "ndim", 1) == 2 else [order] * count
        if len(orders) != count:
            raise ValueError(f"run takes an order for each of {count} steps, got {len(orders)}")
        found = [planned(self._tables(fields, k), orders[k], batch_size, steps) for k in range(count)]
        lengths = sorted({len(rows) for rows, *_ in found})
        if len(lengths) > 1:
            raise ValueError(f"run takes as many rows for each step, got {lengths} rows; give an order for each")
        return np.stack([rows for rows, *_ in found]), *found[0][1:], True

    def _tables(self, fields: Sequence[Any], number: int) -> list[Tensor]:
        return [field[number] if isinstance(field, list) else field for field in fields]

    def _numbers(self, numbers: Sequence[Any] | None, steps: int) -> list[tuple[Any, ...]]:
        """Return for each step the numbers that it gets: none, one, or a tuple of those of all models."""
        if numbers is None:
            return [()] * steps
        if len(numbers) and not isinstance(numbers[0], int | np.integer):
            if len(numbers) != len(self.steps) or {len(each) for each in numbers} != {steps}:
                raise ValueError(
                    f"run takes {steps} steps of {len(self.steps)} models, and got numbers for "
                    f"{[len(each) for each in numbers]}"
                )
            return [(tuple(map(CallNumber, each)),) for each in zip(*numbers, strict=True)]
        if len(numbers) != steps:
            raise ValueError(f"run takes {steps} steps, and got {len(numbers)} numbers for them")
        return [(CallNumber(number),) for number in numbers]

    def _run(
        self,
        fields: Sequence[Any],
        rows: np.ndarray[Any, Any],
        batch_size: int,
        apart: bool,
        given: Sequence[tuple[Any, ...]],
        between: Between | None = None,
        schedule: Between | None = None,
    ) -> Any:
        """Run steps of one group after the other; return the results of all models."""
        found = []
        for numbers, group in self._grouped():
            whole = numbers == list(range(len(self.steps)))
            of: Sequence[Any] = fields
            taken = rows
            if apart:
                of = [self._tables(fields, k) for k in numbers]
                taken = rows if whole else rows[numbers]
                if not any(isinstance(field, list) for field in fields):
                    of = fields
            mine = [
                tuple([entries(part, numbers) if isinstance(part, tuple) else part for part in one]) for one in given
            ]
            axes = (0 if apart else None,) * len(fields)
            axes += tuple([0 if isinstance(part, tuple) else None for one in mine[:1] for part in one])
            build, parts = repeated(group, (axes,), of, taken, batch_size, mine, between, schedule)
            found.append((numbers, build, _many(parts)))
        self._regroup()
        return self._result(found)

    # ---------------------------------------------------------------------------------------------------------- results

    def _result(self, found: Sequence[tuple[list[int], Build, Sequence[Any]]]) -> Any:
        """Return as one result what the steps of groups have given, each tensor with the models in front."""
        _, build, first = found[0]
        shape = build([None] * len(first))
        for numbers, other, arrays in found:
            if other([None] * len(arrays)) != shape:
                raise ValueError(f"step {numbers[0]} of the sweep returned something of another structure than step 0")
        return build([self._together(found, place) for place in range(len(first))])

    def _together(self, found: Sequence[tuple[list[int], Build, Sequence[Any]]], place: int) -> Any:
        parts = [(numbers, arrays[place]) for numbers, _, arrays in found]
        if parts[0][0] == list(range(len(self.steps))) and isinstance(parts[0][1], np.ndarray):
            return from_array(parts[0][1])
        shapes = {part.shape[1:] if isinstance(part, np.ndarray) else None for _, part in parts}
        if None in shapes or len(shapes) > 1:
            each: list[Any] = [None] * len(self.steps)
            for numbers, part in parts:
                for row, number in enumerate(numbers):
                    each[number] = _of_model(part, row)
            return each
        shape = next(part.shape[1:] for _, part in parts)
        whole = np.empty((len(self.steps), *shape), parts[0][1].dtype)
        for numbers, part in parts:
            whole[numbers] = part
        return from_array(whole)

    @property
    def recorded(self) -> int:
        """How many programs were recorded."""
        return sum([group.recorded for _, group in self.groups])

    @property
    def code(self) -> str:
        """The programs of all groups."""
        return "\n".join([group.code for _, group in self._grouped(called=False)])

    def explain(self) -> str:
        """Return which steps run together, and in what the others are not like those of the first group."""
        groups = self._grouped(called=False)
        reaches = self._reaches()
        first = reaches[groups[0][0][0]]
        lines = []
        for numbers, _ in groups:
            of = reaches[numbers[0]]
            like = signature(of) == signature(first)
            lines.append(f"step{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}")
            lines += [] if like else [f"    {difference(first, of)}"]
        return "\n".join(lines)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no programs: its steps may be others."""
        names = ("steps", "in_dims", "fallback", "backend")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: Any) -> None:
        Sweep.__init__(self, **state)

    def __repr__(self) -> str:
        return f"torch.compile.sweep(<{len(self.steps)} steps>)"


def _parts(numbers: Sequence[int], reach: Reachable) -> list[list[int]]:
    """Return the numbers of like steps in groups that are not too large, one after the other."""
    size = sum([array_of(tensor).nbytes for tensor in reach.tensors.values()])
    count = -(-len(numbers) // max(1, min(MOST, BYTES // max(1, size))))
    ends = [len(numbers) * k // count for k in range(count + 1)]
    return [list(numbers[start:stop]) for start, stop in pairwise(ends)]


def _many(parts: Sequence[Sequence[Any]]) -> list[Any]:
    """Return results of steps with the models in front: an array, or a list of those of each step, the models in front,
    where the last one differs in shape.
    """
    found: list[Any] = []
    for each in zip(*parts, strict=True):
        if len({part.shape[1:] for part in each}) > 1:
            found.append([step for part in each for step in part])
        else:
            whole = each[0] if len(each) == 1 else np.concatenate(each)
            found.append(np.ascontiguousarray(np.moveaxis(whole, 1, 0)))
    return found


def _behind(results: Sequence[Any]) -> Any:
    """Return results of one step each as those of all steps."""
    leaves: list[list[Any]] = []
    for result in results:
        leaves.append([])
        build = taken_apart(result, leaves[-1])
    return build([_steps(each) for each in zip(*leaves, strict=True)])


def _steps(each: Sequence[Tensor]) -> Any:
    arrays = list(map(array_of, each))
    if len({array.shape[2:] for array in arrays}) == 1:
        return from_array(np.concatenate(arrays, 1))
    return [[from_array(array[k, 0]) for array in arrays] for k in range(len(arrays[0]))]


def _of_model(part: Any, row: int) -> Any:
    if isinstance(part, list):
        return [from_array(step[row]) for step in part]
    return from_array(part[row])
