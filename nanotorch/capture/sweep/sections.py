"""The program of several steps, one after the other, as one step that several models take."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise, zip_longest
from typing import Any, NoReturn

import numpy as np

from nanotorch.capture.passes import extent
from nanotorch.capture.program import Buffer, HostNumber, Program, Statement, View, leaves, replaced, shown, steps
from nanotorch.capture.recorder import CaptureError

SCALARS = re.compile(r"scalars\[(\d+)\]")
SEEDS = re.compile(r"seed(\d+)\(\)")


class Several:
    """What is another number, or another generator, for each model: `values`."""

    __slots__ = ("name", "values")

    def __init__(self, values: Sequence[Any], name: str) -> None:
        self.values, self.name = tuple(values), name

    def __repr__(self) -> str:
        return self.name


class Sections:
    """Read the program of steps of one kind as that of the first one.

    Args:
        program: of the steps, one after the other.
        ends: how many statements there are up to the end of each step.
        scalars: how many entries the numbers of the host have: those of the call, if there are any, and
        updates: those of the steps, which apply an optimizer's rule so often.
        kept: buffers in which gradients stay.

    Attributes:
        first: the program of the first step.
        places: by buffer of that program, for each step the buffer that stands there and how many elements further.
        results: by statement of that program what it gave in each step.
        common: how many entries of the numbers are those of the call.
        updates: how often each step applies an optimizer's rule.
        sources: how many seeds it reads.

    Raises:
        CaptureError: the steps are not of one kind, or write where others are.
    """

    def __init__(
        self, program: Program, ends: Sequence[int], scalars: int, updates: int, kept: Collection[Buffer]
    ) -> None:
        self.count, self.whole = len(ends), program
        count = self.count
        sections = [program.statements[start:stop] for start, stop in zip((0, *ends), ends, strict=False)]
        self.scalars, self.common = scalars, scalars - updates
        self.updates, self.sources = updates // count, len(program.sources) // count
        self.places: dict[Buffer, tuple[tuple[Buffer, int], ...]] = {}
        for number, section in enumerate(sections):
            for here, there in zip_longest(sections[0], section):
                if here is None or there is None or here.primitive != there.primitive:
                    self._refuse(number, here, there)
        self.results = {}
        apart: list[tuple[Statement, tuple[Any, ...], dict[str, Any]]] = []
        for together in zip(*sections, strict=True):
            apart.append(self._joined(together))
            self.results[together[0]] = [statement.result for statement in together]
        outputs = len(program.outputs) // count
        for number in range(outputs):
            self._view([program.outputs[k * outputs + number] for k in range(count)])
        self._refuse_common(sections)
        self.kept = {buffer for buffer in self.places if buffer in kept}
        self.first = Program()
        for statement, args, options in apart:
            statement.args, statement.options = args, options
        self.first.statements = sections[0]
        self.first.buffers = [buffer for buffer in program.buffers if buffer in self.places or buffer in program.inputs]
        self.first.inputs, self.first.outputs = program.inputs, program.outputs[:outputs]
        for buffer in self.first.buffers:
            if buffer.kind == "constant" and self.differs(buffer):
                buffer.kind = "memory"  # nothing that is computed of it is the same for all
                buffer.before = buffer.array.copy()

    def differs(self, buffer: Buffer) -> bool:
        """Whether a constant of the first step is another one in others."""
        first = buffer.array.tobytes()
        return any(other is not buffer and other.array.tobytes() != first for other, _ in self.places[buffer])

    def of(self, value: Any, number: int) -> Any:
        """Return what stands in a step for a leaf of the first one's program, without its views."""
        if isinstance(value, HostNumber):
            return HostNumber(self.moved(value.code, number), value.value, value.decided)
        return value.values[number] if isinstance(value, Several) else value

    def moved(self, code: str, number: int) -> str:
        """Return the code of a number of the first step as that of another step."""
        code = self.shifted(code, number * self.updates)
        return SEEDS.sub(lambda found: f"seed{int(found[1]) + number * self.sources}()", code)

    def shifted(self, code: str, distance: int) -> str:
        """Return the code of a number with the entries of an optimizer's rule so much further."""

        def shift(found: re.Match[str]) -> str:
            place = int(found[1])
            return found[0] if place < self.common else f"scalars[{place + distance}]"

        return SCALARS.sub(shift, code)

    # ---------------------------------------------------------------------------------------------------- comparison

    def _joined(self, together: Sequence[Statement]) -> tuple[Statement, tuple[Any, ...], dict[str, Any]]:
        first = together[0]
        self._together = together
        for number, statement in enumerate(together):
            if (statement.primitive, len(statement.args), [*statement.options]) != (
                first.primitive,
                len(first.args),
                [*first.options],
            ) or (len(statement.out), statement.expected) != (len(first.out), first.expected):
                self._refuse(number, first, statement)
        args = tuple(map(self._value, zip(*[statement.args for statement in together], strict=True)))
        options = {name: self._value([s.options[name] for s in together]) for name in first.options}
        for number in range(len(first.out)):
            self._view([statement.out[number] for statement in together])
        return first, args, options

    def _value(self, values: Iterable[Any]) -> Any:
        values = list(values)
        first = values[0]
        if isinstance(first, tuple | list) and not isinstance(first, View):
            for number, value in enumerate(values):
                if type(value) is not type(first) or len(value) != len(first):
                    self._differ(number)
            return type(first)([self._value(parts) for parts in zip(*values, strict=True)])
        for number, value in enumerate(values):
            if type(value) is not type(first):
                self._differ(number)
        if isinstance(first, View):
            self._view(values)
            return first
        if isinstance(first, HostNumber):
            for number, value in enumerate(values):
                if value.code != self.moved(first.code, number):
                    self._differ(number)
            return first
        if all(value is first or shown(value) == shown(first) for value in values) and not _of_generator(first):
            return first
        if isinstance(first, float | np.floating) or _of_generator(first):
            return Several(values, f"several{len(self.places)}_{id(values)}")
        self._differ(next(k for k, value in enumerate(values) if shown(value) != shown(first)))

    def _view(self, views: Sequence[View]) -> None:
        """Note down where a view of the first step is in the others."""
        first = views[0]
        for number, view in enumerate(views):
            if (view.shape, view.strides, view.dtype) != (first.shape, first.strides, first.dtype):
                self._differ(number)
            if view.buffer is not first.buffer and (
                view.buffer.kind != first.buffer.kind
                or view.buffer.array.shape != first.buffer.array.shape
                or steps(view.buffer.array) != steps(first.buffer.array)
            ):
                self._differ(number)
        places = tuple([(view.buffer, view.offset - first.offset if view.size else 0) for view in views])
        known = self.places.setdefault(first.buffer, places)
        if known != places and first.size:
            self._differ(next(k for k, (a, b) in enumerate(zip(known, places, strict=True)) if a != b))

    def _refuse_common(self, sections: Sequence[Sequence[Statement]]) -> None:
        """Raise where a step writes to what another one uses."""
        ends: dict[Buffer, dict[int, list[int]]] = defaultdict(dict)
        written: dict[Buffer, str] = {}
        for number, statements in enumerate(sections):
            for statement in statements:
                for view in (*statement.reads, *statement.out):
                    if view.buffer.kind != "temporary" or view.buffer in ends:
                        start, stop = extent(view)
                        place = ends[view.buffer].setdefault(number, [start, stop])
                        place[:] = min(place[0], start), max(place[1], stop)
                for view in statement.out:
                    if view.buffer.kind == "memory":
                        written.setdefault(view.buffer, statement.line)
        for buffer, line in written.items():
            used = sorted([(start, stop, number) for number, (start, stop) in ends[buffer].items()])
            for (_, stop, one), (start, _, other) in pairwise(used):
                if start < stop:
                    raise CaptureError(
                        f"{line}: {buffer.name} is used by steps {one} and {other} of the sweep, and written to: each "
                        "model needs its own"
                    )

    def _differ(self, number: int) -> NoReturn:
        self._refuse(number, self._together[0], self._together[number])

    def _refuse(self, number: int, here: Statement | None, there: Statement | None) -> NoReturn:
        at = (here or there or Statement("", (), {}, (), "the steps", "")).line
        said = " and ".join(
            f"{'nothing' if each is None else repr(each)} in step {k}" for k, each in ((0, here), (number, there))
        )
        raise CaptureError(
            f"{at}: step {number} of the sweep is not like step 0: it is {said}; the steps of a sweep are of one "
            "architecture, batch size and optimizer, and differ in numbers"
        )


def _of_generator(value: Any) -> bool:
    from nanotorch.ops.create.random import Generator

    return isinstance(getattr(value, "__self__", value), Generator)


def plain(statement: Statement) -> list[Any]:
    """Return the leaves of a statement's arguments."""
    return list(leaves((statement.args, tuple(statement.options.values()))))


def with_leaves(statement: Statement, what: Callable[[Any], Any], out: tuple[View, ...]) -> Statement:
    """Return a statement with other leaves and another place of its result."""
    args = tuple(replaced(statement.args, what))
    options = {name: replaced(value, what) for name, value in statement.options.items()}
    made = Statement(statement.primitive, args, options, out, statement.line, statement.row)
    made.expected = statement.expected
    return made
