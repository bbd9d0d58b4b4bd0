"""The program of one step, for the memory of several models: the pass that gives statements a leading axis.

Note [Batched programs]
~~~~~~~~~~~~~~~~~~~~~~~
The pass works on calls (Note [NumPy calls]), not on primitives: these are few, and a call with one more axis in front
does for each model what the eager step does. What depends on the model gets the axis: parameters, gradients, state,
which lie in rows (`stacked.py`), what is computed of them, and numbers of the host, which become a column. What all
models compute alike, such as the rows of ones and zeros for their targets, is computed once. Anything else is a loop:
the statement stands there once for each model.

A program has the bits of the separate steps, or is not used. The recorded program is run for each model on its own
(`Trial`), and has to leave what the eager step of that model has left. With the result of every statement of these runs
the program of all models is compared, and a call with an axis that gives other bits is replaced by the loop.

Random numbers are drawn first, for one model after the other, as if each step ran on its own; where what is drawn
depends on values, each model needs a generator of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from nanotorch.backend.primitives import PRIMITIVES
from nanotorch.capture.memory_plan import contiguous
from nanotorch.capture.numpy_calls import ELEMENTWISE, Calls
from nanotorch.capture.numpy_code import UNWRITTEN
from nanotorch.capture.passes import DRAWS, extent
from nanotorch.capture.program import Buffer, HostNumber, Program, Several, SeveralNumbers, Statement, View, steps
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.sweep.host import NUMBER
from nanotorch.capture.sweep.models import SEEDS, Models, Sources, Trial, with_leaves

ELEMENT_BY_ELEMENT = {*ELEMENTWISE, "bits times", "assign"} | {
    name for name, p in PRIMITIVES.items() if p.section == "elementwise" and name not in ("frexp", "iadd")
}
"""Calls that broadcast, so that a leading axis changes nothing for an element."""


class Batched:
    """Make one program for all models of the steps.

    Args:
        models: what stands in the program for each model; it is simplified already.
        trials: a run of it for each model.
        kept: buffers of that program in which gradients stay.
        alone: calls, by number, that are a loop over the models.

    Attributes:
        program: what was made.
        batched: for its statements the number of the call of which they are the one for all models.
    """

    def __init__(
        self, models: Models, trials: Sequence[Trial], kept: Collection[Buffer], alone: Collection[int]
    ) -> None:
        self.models, self.count, self._trials = models, models.count, trials
        first = models.program
        self.calls = Calls(first.statements)
        self.buffers: dict[Buffer, Buffer] = {}
        self._columns: dict[Any, View] = {}
        self._head: list[Statement] = []
        self.needed: set[tuple[int, str]] = set()
        self._varying = {b for b, places in models.places.items() if any(p != (b, 0) for p in places)} | {*kept}
        self._spread()
        self.batched: dict[Statement, int] = {}
        self._drawn: set[Statement] = set()
        drawn = self._draws()
        body: list[Statement] = []
        for number, call in enumerate(self.calls.done):
            if call in self._drawn:
                continue
            results = self._results(number)
            if not self._varies(call):
                call.result = _fitting(call.out, results[0]) if results else ()
                body.append(call)
                continue
            made = None if self.count == 1 or number in alone else self._with_axis(call)
            if made is None:
                body += self._loop(call, results)
                continue
            self.batched.update(dict.fromkeys(made, number))
            together = [np.stack(each) for each in zip(*results, strict=True)]
            for statement in made[-1:]:
                statement.result = _fitting(statement.out, together) if results else ()
            body += made
        program = self.program = Program()
        program.statements = [*self._head, *drawn, *body]
        program.inputs = first.inputs
        program.outputs = [self._rows(view) for view in first.outputs]
        program.decisions, program.sources = models.decisions, models.sources
        self.kept = {self._together(buffer) for buffer in kept}
        used = [view.buffer for s in program.statements for view in (*s.reads, *s.out)]
        used += [view.buffer for view in program.outputs]
        program.buffers = list(dict.fromkeys([*program.inputs, *used]))

    # ------------------------------------------------------------------------------------------ what depends on a model

    def _spread(self) -> None:
        """Find the temporary buffers that are others for each model."""
        before = -1
        while before != len(self._varying):
            before = len(self._varying)
            for call in self.calls.done:
                if self._varies(call):
                    self._varying.update([v.buffer for v in call.out if v.buffer.kind == "temporary"])

    def _varies(self, call: Statement) -> bool:
        return (
            call.primitive in DRAWS
            or any(view.buffer in self._varying for view in (*call.reads, *call.out))
            or any(isinstance(leaf, HostNumber | Several) for leaf in call.leaves())
        )

    # -------------------------------------------------------------------------------------------------------- memory

    def _together(self, buffer: Buffer) -> Buffer:
        """Return the buffer that holds what stands in a buffer of the first step, and in those of the others."""
        if buffer not in self.buffers:
            like = buffer.array
            flat = np.empty(self.count * like.size, like.dtype)
            array = np.ndarray((self.count, *like.shape), like.dtype, flat, 0, (like.nbytes, *like.strides))
            self.buffers[buffer] = Buffer("temporary", buffer.name, array)
        return self.buffers[buffer]

    def _scattered(self, buffer: Buffer) -> bool:
        """Whether it is memory that lives on, of which not all models have a row at the same distance."""
        if buffer not in self.models.places:
            return False
        places = self.models.places[buffer]
        apart = [shift for _, shift in places]
        distance = apart[1] - apart[0] if len(apart) > 1 else 0
        in_rows = all(other is buffer for other, _ in places)
        return not in_rows or apart != [k * distance for k in range(self.count)]

    def _rows(self, view: View, rank: int | None = None) -> View:
        """Return a view of all models' elements, with axes of length 1 up to the rank of a result."""
        buffer = view.buffer
        if buffer not in self._varying:
            if rank is not None:
                return view
            return View(buffer, view.offset, (self.count, *view.shape), (0, *view.strides))
        if buffer.kind == "temporary":
            memory, distance = self._together(buffer), buffer.array.size
        else:
            apart = [shift for _, shift in self.models.places[buffer]]
            memory, distance = buffer, apart[1] - apart[0] if len(apart) > 1 else buffer.array.size
        ones = (rank or 0) - len(view.shape)
        return View(
            memory, view.offset, (self.count, *(1,) * ones, *view.shape), (distance, *(0,) * ones, *view.strides)
        )

    def row(self, view: View, number: int) -> View:
        """Return what a view is for one model."""
        buffer = view.buffer
        if buffer not in self._varying:
            return view
        if buffer.kind == "temporary":
            start = number * buffer.array.size
            return View(self._together(buffer), view.offset + start, view.shape, view.strides)
        return self.models.row(view, number)

    def _between(self, shape: tuple[int, ...], dtype: Any, name: str) -> View:
        buffer = Buffer("temporary", name, np.empty(shape, dtype))
        return View(buffer, 0, shape, steps(buffer.array))

    def _fixed(self, array: Any, name: str) -> View:
        buffer = Buffer("constant", name, array)
        return View(buffer, 0, array.shape, steps(array))

    def _column(self, value: Any, dtype: Any, rank: int) -> View:
        """Return a number of the host as a column of one entry for each model."""
        key = repr(value), dtype
        if key not in self._columns:
            column = self._columns[key] = self._between((self.count,), dtype, "column")
            self.needed.update([(int(of), name) for of, name in NUMBER.findall(value.code)])
            number = HostNumber(self.models.in_columns(value.code), value.value, value.decided)
            self._head.append(Statement("assign", (number,), {}, (column,), "", "numbers of the host"))
        column = self._columns[key]
        return View(column.buffer, 0, (self.count, *(1,) * rank), (1,) * (rank + 1))

    def _constants(self, several: SeveralNumbers, dtype: Any, rank: int) -> View:
        """Return constants of the models as a column."""
        key = several.values, dtype
        if key not in self._columns:
            self._columns[key] = self._fixed(np.array(several.values, dtype), several.name)
        column = self._columns[key]
        return View(column.buffer, 0, (self.count, *(1,) * rank), (1,) * (rank + 1))

    # ---------------------------------------------------------------------------------------------------- statements

    def _loop(self, call: Statement, results: Sequence[Sequence[Any]]) -> list[Statement]:
        """Return a call for each model."""
        made = []
        for number in range(self.count):
            made.append(self._one(call, number))
            made[-1].result = _fitting(made[-1].out, results[number]) if results else ()
        return made

    def _one(self, call: Statement, number: int) -> Statement:
        def of(leaf: Any) -> Any:
            return self.row(leaf, number) if isinstance(leaf, View) else self.models.number(leaf, number)

        return with_leaves(call, of, tuple([self.row(view, number) for view in call.out]))

    def _results(self, number: int) -> Sequence[Sequence[Any]]:
        """Return what is in the places of a call's results in each step, if it is the last call of a statement."""
        complete = self.calls.completed[number]
        if complete is None or not self._trials:
            return ()
        statement, call = self.models.program.statements[complete], self.calls.done[number]
        if len(statement.out) != len(call.out):
            return ()
        if any(
            view.buffer is not of.buffer or view.size != of.size or extent(view) != extent(of)
            for view, of in zip(call.out, statement.out, strict=True)
        ):
            return ()
        places = list(zip(call.out, statement.out, strict=True))
        return [
            [_seen(view, of, result) for (view, of), result in zip(places, results, strict=True)]
            for results in [trial.results[statement] for trial in self._trials]
        ]

    def _draws(self) -> list[Statement]:
        """Return the draws that come first."""
        draws = [(number, call) for number, call in enumerate(self.calls.done) if call.primitive in DRAWS]
        if any(call.reads for _, call in draws):
            for _, call in draws:
                sources = [leaf for leaf in call.leaves() if isinstance(leaf, Sources)]
                if not any(len(set(map(id, each.values))) == self.count for each in sources):
                    raise CaptureError(
                        f"{call.line} draws numbers that depend on values, from a generator that several steps of the "
                        "sweep share: give each step a generator of its own"
                    )
            return []
        self._drawn = {call for _, call in draws}
        together = []
        for model in range(self.count):
            for number, call in draws:
                results = self._results(number)
                made = self._one(call, model)
                made.result = _fitting(made.out, results[model]) if results else ()
                together.append(made)
        return together

    def _with_axis(self, call: Statement) -> list[Statement] | None:
        """Return what a call is for all models at once; None where it is a loop."""
        if any(self._scattered(v.buffer) for v in (*call.reads, *call.out) if v.buffer in self._varying):
            return None
        if any(view.buffer not in self._varying for view in call.out):
            return None
        if call.primitive in UNWRITTEN and all(view.buffer.kind == "temporary" for view in call.out):
            return []
        if call.primitive in ELEMENT_BY_ELEMENT:
            return self._broadcast(call)
        make = WITH_AXIS.get(call.primitive)
        if any(isinstance(leaf, HostNumber | Several) for leaf in call.leaves()):
            return None
        if not any(view.buffer in self._varying for view in call.reads) and len(call.out) == 1:
            return self._same_for_all(call)
        return None if make is None else make(self, call, *call.args, **call.options)

    def _same_for_all(self, call: Statement) -> list[Statement] | None:
        """What is computed alike goes into memory of each model."""
        if call.primitive in WITH_AXIS:
            return None
        return [with_leaves(call, lambda leaf: leaf, (self._rows(call.out[0]),))]

    def _broadcast(self, call: Statement) -> list[Statement] | None:
        out = call.out[0] if len(call.out) == 1 else None
        if out is None or call.options:
            return None
        rank = len(out.shape)
        reads = call.reads
        kinds = {view.dtype for view in reads} or {out.dtype}
        numbers = [leaf for leaf in call.leaves() if isinstance(leaf, HostNumber)]
        constants = [leaf for leaf in call.leaves() if isinstance(leaf, SeveralNumbers)]
        if any(len(view.shape) > rank for view in reads):
            return None
        if numbers and (
            len(kinds) != 1
            or next(iter(kinds)).kind != "f"
            or call.primitive not in COLUMNS
            or any(SEEDS.search(repr(number)) for number in numbers)
        ):
            return None
        kind = next(iter(kinds))
        if constants and (len(kinds) != 1 or call.primitive not in COLUMNS):
            return None

        def of(leaf: Any) -> Any:
            if isinstance(leaf, View):
                return self._rows(leaf, rank)
            if isinstance(leaf, SeveralNumbers):
                return self._constants(leaf, kind, rank)
            return self._column(leaf, kind, rank) if isinstance(leaf, HostNumber) else leaf

        return [with_leaves(call, of, (self._rows(out),))]

    def call(self, of: Statement, name: str, out: View | None, *args: Any) -> Statement:
        """Return a call that stands where another one stood."""
        made = Statement(name, args, {}, () if out is None else (out,), of.line, of.row)
        made.expected = of.expected
        return made


COLUMNS = {*ELEMENTWISE, "assign"}
"""Calls that take a column in the place of a number."""
Maker = Callable[..., list[Statement] | None]
WITH_AXIS: dict[str, Maker] = {}
"""By call: what it is with one more axis in front of what differs from model to model."""


def with_axis(*names: str) -> Callable[[Maker], Maker]:
    """Return a decorator that says: this function gives these calls their axis."""

    def enter(maker: Maker) -> Maker:
        WITH_AXIS.update(dict.fromkeys(names, maker))
        return maker

    return enter


@with_axis("dot", "matmul into")
def _product(batched: Batched, call: Statement, a: View, b: View) -> list[Statement] | None:
    """A vector is a matrix of one row or column, whose product NumPy gets in the same way."""
    out = call.out[0]
    if len(a.shape) == 1:
        a = _one_axis_more(a, 0)
        out = _one_axis_more(out, len(out.shape) - (len(b.shape) > 1))
    if len(b.shape) == 1:
        b, out = _one_axis_more(b, 1), _one_axis_more(out, len(out.shape))
    rank = len(out.shape)
    return [batched.call(call, "matmul into", batched._rows(out), batched._rows(a, rank), batched._rows(b, rank))]


def _one_axis_more(view: View, axis: int) -> View:
    shape, strides = view.shape, view.strides
    return View(
        view.buffer, view.offset, (*shape[:axis], 1, *shape[axis:]), (*strides[:axis], view.size, *strides[axis:])
    )


@with_axis("add up", "largest", "smallest", "multiply up")
def _reduction(batched: Batched, call: Statement, x: View, axis: Any, keepdims: bool) -> list[Statement] | None:
    rank = len(x.shape)
    axes = range(rank) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    moved = tuple([each % rank + 1 for each in axes])
    inside = moved[0] if len(moved) == 1 else moved
    return [batched.call(call, call.primitive, batched._rows(call.out[0]), batched._rows(x, rank), inside, keepdims)]


@with_axis("first largest", "first smallest")
def _first(batched: Batched, call: Statement, x: View, axis: Any, keepdims: bool) -> list[Statement] | None:
    if type(axis) is not int:
        return None
    rank = len(x.shape)
    out = batched._rows(call.out[0])
    return [batched.call(call, call.primitive, out, batched._rows(x, rank), axis % rank + 1, keepdims)]


@with_axis("take from")
def _taken(batched: Batched, call: Statement, x: View, index: View, axis: Any) -> list[Statement] | None:
    out = batched._rows(call.out[0])
    apart, places = x.buffer in batched._varying, index.buffer in batched._varying
    if not apart:
        return [batched.call(call, "take from", out, x, batched._rows(index), axis)] if axis in (0, None) else None
    rows = batched._rows(x, len(x.shape))
    if not places and type(axis) is int:
        return [batched.call(call, "take from", out, rows, index, axis % len(x.shape) + 1)]
    if axis not in (0, None) or not contiguous(rows) or index.dtype != np.int64:
        return None
    length = x.size if axis is None else x.shape[0]
    flat = (batched.count * length, *(() if axis is None else x.shape[1:]))
    starts = np.arange(batched.count).reshape(-1, *(1,) * len(index.shape)) * length
    shifted = batched._between((batched.count, *index.shape), np.int64, "places")
    together = View(rows.buffer, rows.offset, flat, (1,) if axis is None else x.strides)
    return [
        batched.call(call, "add", shifted, batched._rows(index, len(index.shape)), batched._fixed(starts, "starts")),
        batched.call(call, "take from", out, together, shifted, axis),
    ]


@with_axis("below")
def _below(batched: Batched, call: Statement, index: View, length: int) -> list[Statement] | None:
    return [batched.call(call, "below", None, batched._rows(index, len(index.shape)), length)]


@with_axis("add windows")
def _windows(batched: Batched, call: Statement, x: View, first: int, *how: Any) -> list[Statement] | None:
    rank = len(x.shape)
    return [batched.call(call, "add windows", batched._rows(call.out[0]), batched._rows(x, rank), first + 1, *how)]


def _fitting(out: Sequence[View], results: Sequence[Any]) -> tuple[Any, ...]:
    """Return results in the shapes of views, which may have more axes of length 1."""
    return tuple([np.reshape(result, view.shape) for view, result in zip(out, results, strict=True)])


def _seen(view: View, of: View, result: Any) -> Any:
    """Return what a view sees of a result that lies where another one is."""
    if view[1:] == of[1:]:
        return result
    start, stop = extent(of)
    memory = np.empty(stop - start, result.dtype)
    places = [
        np.ndarray(
            v.shape,
            memory.dtype,
            memory,
            (v.offset - start) * memory.itemsize,
            [n * memory.itemsize for n in v.strides],
        )
        for v in (of, view)
    ]
    places[0][...] = result
    return places[1]
