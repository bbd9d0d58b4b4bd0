"""The program of one step, and what stands in it for each of several models whose steps are like that one.

Note [Models of a program]
~~~~~~~~~~~~~~~~~~~~~~~~~~
One step is recorded, and holds for all that are like it (Note [Like steps]): nothing but memory, generators and the
numbers of optimizers is another one for each model. `Models` says which. Whoever runs the program for model `k`
replaces, and needs nothing else:

    a view        `row(view, k)`: memory that lives on, and the model's entry of an argument that has one for each
    a buffer      `places[buffer][k]`: the buffer that stands there, and how many elements further it begins
    a number      `number(leaf, k)`: the code of a number of the host, with the model's entries of the scalars
    a generator   `number(leaf, k)` as well

Temporary buffers are nobody's: each runner has its own. Constants
are the same for all, but for those of Note [Constants of models]. The scalars of all models are
one list: those of the call, which are the same for all, or, `numbered`, one for each model after the other; and then
for each model those of its `updates` calls of a rule. `of_one(scalars, k)` are those that the program of model `k`
would get alone.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.numpy_backend import NUMPY, owner
from nanotorch.capture.effects import array_of
from nanotorch.capture.numpy_code import host_function
from nanotorch.capture.passes import extent
from nanotorch.capture.program import Buffer, HostNumber, Several, Statement, View, layout, replaced
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.recording import Recording
from nanotorch.ops.create.random import Generator

SCALARS = re.compile(r"scalars\[(\d+)\]")
GIVEN = re.compile(r"scalars\[0\]\['given(\d+)'\]")
SEEDS = re.compile(r"seed(\d+)\(\)")


TRIED = {"write": lambda value: value, "power": operator.pow}
"""What a trial calls in the place of a primitive."""


class Sources(Several):
    """A generator, or what draws from it, that is another one for each model."""

    __slots__ = ()

    def __call__(self) -> Any:
        """Draw for the first model."""
        return self.values[0]()


class Models:
    """What stands in a recorded program for each of several models (Note [Models of a program]).

    Args:
        recording: of the step of the first model, whose program is not simplified yet.
        twins: for each model what it has in the place of what the first one has, by the id of that.
        arrays: for each model all arrays that it finds, in one order.
        shared: the arguments that are the same for all models; others have an entry for each.
        numbered: whether each model has its own numbers of the call.

    Attributes:
        program: of the first model; its generators are `Several`.
        places: by buffer of the program that is the same in every call, for each model the buffer that stands there and
            how many elements further.
        twins: for each model what it has in the place of what the first one has, by the id of that.
        common: how many entries of the scalars are those of the call.
        updates: how often each step applies an optimizer's rule.
        sources: for all models, what gives a seed.
    """

    def __init__(
        self,
        recording: Recording,
        twins: list[dict[int, Any]],
        arrays: Sequence[Sequence[Any]],
        shared: Sequence[bool],
        numbered: bool = False,
    ) -> None:
        program = self.program = recording.program
        self.count, self.twins, self.numbered = len(twins), twins, numbered
        self.updates = len(recording.updates)
        self.common = len(recording.scalars) - self.updates
        self.places: dict[Buffer, tuple[tuple[Buffer, int], ...]] = {}
        for buffer, same in zip(program.inputs, shared, strict=True):
            step = 0 if same else buffer.array.size // self.count
            self.places[buffer] = tuple([(buffer, number * step) for number in range(self.count)])
        starts = [list(map(_start, of)) for of in arrays]
        if len(set(map(len, arrays))) > 1:
            raise CaptureError("the tensors of the steps of a sweep share memory in other ways: give each its own")
        for buffer in program.buffers:
            if buffer.kind == "memory":
                self.places[buffer] = tuple([(buffer, 0), *self._others(buffer, arrays, starts)])
        for statement in program.statements:
            statement.args = replaced(statement.args, self._each)
        numbers = [
            leaf.code for statement in program.statements for leaf in statement.leaves() if isinstance(leaf, HostNumber)
        ]
        names = list(program.sources)
        self._codes = list(dict.fromkeys([*numbers, *program.decisions]))
        self._compute = host_function(self._codes, names)
        self._decide, self._answers = host_function(list(program.decisions), names), tuple(program.decisions.values())
        self._needed = list(dict.fromkeys(numbers))
        self._compute_needed = host_function(self._needed, names)
        self._list()

    def _list(self) -> None:
        """Note down what all models read and decide."""
        sources = self.program.sources.values()
        every = [self._of(source, number) for number in range(self.count) for source in sources]
        self.sources = {f"seed{place}": source for place, source in enumerate(every)}
        asked = self.program.decisions.items()
        self.decisions = {self.moved(code, k): answer for k in range(self.count) for code, answer in asked}

    def drop(self, number: int, rows: Collection[int]) -> None:
        """Let a model leave; the last one takes its place.

        Args:
            number: of the model.
            rows: the ids of memory of which a row has moved there as well.
        """
        for buffer, places in self.places.items():
            left = list(places)
            if buffer.kind != "input" and id(owner(buffer.array)) not in rows:
                left[number] = left[-1]
            self.places[buffer] = tuple(left[:-1])
        self.twins[number] = self.twins[-1]
        del self.twins[-1]
        drawn = [leaf for statement in self.program.statements for leaf in statement.leaves()]
        for several in {id(leaf): leaf for leaf in drawn if isinstance(leaf, Several)}.values():
            several.drop(number)
        self.count -= 1
        for buffer in self.program.inputs:
            if self.places[buffer] != ((buffer, 0),) * self.count:
                buffer.array = layout(buffer.array[:-1])
        self._list()

    def _others(
        self, buffer: Buffer, apart: Sequence[Sequence[Any]], starts: Sequence[Sequence[int]]
    ) -> list[tuple[Buffer, int]]:
        """Return where the memory of a buffer is for the other models: all arrays that see it have to agree."""
        memory = owner(buffer.array)
        seen = [place for place, array in enumerate(apart[0]) if owner(array) is memory]
        begin = _start(memory)
        distances = [starts[0][place] - begin for place in seen]
        found = []
        for arrays, of in zip(apart[1:], starts[1:], strict=True):
            owners = [owner(arrays[place]) for place in seen]
            begins = {of[place] - distance for place, distance in zip(seen, distances, strict=True)}
            if len(begins) != 1 or any(each is not owners[0] for each in owners):
                raise CaptureError(f"{buffer.name} cannot be told for all steps of the sweep: give each its own memory")
            move = begins.pop() - begin
            if owners[0] is memory:
                found.append((buffer, move // buffer.array.itemsize))
                continue
            start = _start(buffer.array) + move - _start(owners[0])
            array = np.ndarray(buffer.array.shape, buffer.array.dtype, owners[0], start, buffer.array.strides)
            found.append((Buffer("memory", buffer.name, array), 0))
        return found

    def _each(self, leaf: Any) -> Any:
        source = getattr(leaf, "__self__", leaf)
        if not isinstance(source, Generator):
            return leaf
        return Sources([self._of(leaf, number) for number in range(self.count)], f"generator{id(source)}")

    def _of(self, leaf: Any, number: int) -> Any:
        """Return a generator, or a method of one, of another model."""
        source = getattr(leaf, "__self__", leaf)
        twin = self.twins[number].get(id(source), source)
        return twin if source is leaf else getattr(twin, leaf.__name__)

    # ------------------------------------------------------------------------------------------------ of one model

    def row(self, view: View, number: int) -> View:
        """Return what a view of memory that lives on, or of an argument, is for a model; others as they are."""
        if view.buffer not in self.places:
            return view
        buffer, further = self.places[view.buffer][number]
        return View(buffer, view.offset + further, view.shape, view.strides)

    def number(self, leaf: Any, number: int) -> Any:
        """Return what stands for a leaf of a statement that is no view."""
        if isinstance(leaf, HostNumber):
            return HostNumber(self.moved(leaf.code, number), leaf.value, leaf.decided)
        return leaf.values[number] if isinstance(leaf, Several) else leaf

    def moved(self, code: str, number: int) -> str:
        """Return the code of a number of the first model as that of another one."""
        code = self.shifted(code, number * self.updates)
        if self.numbered:
            code = GIVEN.sub(lambda found: f"scalars[0]['given{int(found[1]) + number}']", code)
        return SEEDS.sub(lambda found: f"seed{int(found[1]) + number * len(self.program.sources)}()", code)

    def shifted(self, code: str, distance: int) -> str:
        """Return the code of a number with the entries of an optimizer's rule so much further."""

        def shift(found: re.Match[str]) -> str:
            place = int(found[1])
            return found[0] if place < self.common else f"scalars[{place + distance}]"

        return SCALARS.sub(shift, code)

    def in_columns(self, code: str) -> str:
        """Return the code of a number of the first model as that of a column with those of all models."""
        code = self.shifted(code, self.count * self.updates)
        columns = self.common + (self.count + 1) * self.updates
        return GIVEN.sub(rf"scalars[{columns}]['given\1']", code) if self.numbered else code

    def of_one(self, scalars: Sequence[Any], number: int) -> list[Any]:
        """Return of the scalars of all models those that the program of one model gets alone."""
        start = self.common + number * self.updates
        given = scalars[: self.common]
        if self.numbered and given:
            given = [{f"given{k}": given[0][f"given{k + number}"] for k in range(0, len(given[0]), self.count)}]
        return [*given, *scalars[start : start + self.updates]]

    def numbers(self, scalars: Sequence[Any], number: int) -> dict[str, Any]:
        """Return the numbers of the host by their code, of one model, and how it decides what the program holds for."""
        sources = [self._of(source, number) for source in self.program.sources.values()]
        return dict(zip(self._codes, self._compute(self.of_one(scalars, number), *sources), strict=True))

    def holds(self, scalars: Sequence[Any], number: int) -> bool:
        """Whether the numbers of the host of one model decide what the program holds for."""
        sources = [self._of(source, number) for source in self.program.sources.values()]
        return bool(self._decide(self.of_one(scalars, number), *sources) == self._answers)

    def needed(self, scalars: Sequence[Any], number: int) -> dict[str, Any]:
        """Return what the statements of one model take; where counts are arrays, of all steps; it decides nothing."""
        sources = [self._of(source, number) for source in self.program.sources.values()]
        return dict(zip(self._needed, self._compute_needed(self.of_one(scalars, number), *sources), strict=True))

    # --------------------------------------------------------------------------------------------------- what is shared

    def refuse_shared_writes(self, shared: Collection[Tensor]) -> None:
        """Raise where a model writes to what another one uses, or to memory of tensors that others can reach."""
        others = {id(owner(array_of(tensor))) for tensor in shared}
        used: dict[Buffer, tuple[int, int]] = {}
        lines: dict[Buffer, str] = {}
        for statement in self.program.statements:
            for view in (*statement.reads, *statement.out):
                if view.buffer.kind == "memory" and view.size:
                    start, stop = extent(view)
                    first, end = used.get(view.buffer, (start, stop))
                    used[view.buffer] = min(first, start), max(end, stop)
            for view in statement.out:
                if view.buffer.kind == "memory":
                    lines.setdefault(view.buffer, statement.line)
        places: dict[int, dict[int, tuple[int, int]]] = {}
        written: dict[int, tuple[str, str]] = {}
        for first_one, (begin, end) in used.items():
            size = first_one.array.itemsize
            starts = {id(buffer): _start(buffer.array) for buffer, _ in self.places[first_one]}
            for number, (buffer, further) in enumerate(self.places[first_one]):
                memory = id(owner(buffer.array))
                start = starts[id(buffer)] + (begin + further) * size
                stop = start + (end - begin) * size
                known = places.setdefault(memory, {}).get(number, (start, stop))
                places[memory][number] = min(known[0], start), max(known[1], stop)
                if first_one in lines:
                    written.setdefault(memory, (lines[first_one], buffer.name))
        for memory, (line, name) in written.items():
            if memory in others:
                raise CaptureError(
                    f"{line}: {name} is written to, and other steps of the sweep can reach it: each model needs its own"
                )
            apart = sorted([(start, stop, number) for number, (start, stop) in places[memory].items()])
            for (_, stop, one), (start, _, other) in pairwise(apart):
                if start < stop:
                    raise CaptureError(
                        f"{line}: {name} is used by steps {one} and {other} of the sweep, and written to: each model "
                        "needs its own"
                    )


MOVED = (HostNumber, Several, tuple, list)
"""Arguments of statements that may be another one for each model, beside views."""


class Trials:
    """What runs the program of one model after the other, statement by statement.

    Args:
        models: those of the program.
        places: what they leave in temporary buffers.
        remembers: whether what each statement gives is kept.
    """

    def __init__(self, models: Models, places: Sequence[View], remembers: bool) -> None:
        self._models, self._places, self._remembers = models, places, remembers
        self._numbers: dict[View, int] = {}
        self._calls = list(map(self._call, models.program.statements))
        self._outputs = list(map(self._number, models.program.outputs))
        self._left = list(map(self._number, places))
        memory = {view.buffer: np.empty_like(view.buffer.array) for view in self._numbers if _passes(view)}
        self._arrays: list[Any] = [view.of(memory[view.buffer]) if _passes(view) else None for view in self._numbers]
        self._own = [(number, view) for view, number in self._numbers.items() if not _passes(view)]

    def _number(self, view: View) -> int:
        return self._numbers.setdefault(view, len(self._numbers))

    def _call(self, statement: Statement) -> tuple[Any, ...]:
        """Return what is called, and which of its arguments are views, or another one for each model."""
        function = TRIED.get(statement.primitive) or NUMPY[statement.primitive]
        views = [(place, self._number(arg)) for place, arg in enumerate(statement.args) if isinstance(arg, View)]
        others = [(place, arg) for place, arg in enumerate(statement.args) if isinstance(arg, MOVED)]
        for each in (part for part in (*statement.args, *statement.options.values()) if isinstance(part, tuple | list)):
            replaced(each, lambda leaf: self._number(leaf) if isinstance(leaf, View) else leaf)
        return statement, function, views, others, [*map(self._number, statement.out)]

    def run(self, number: int, numbers: Mapping[str, Any]) -> Trial:
        """Run it for a model, with its numbers of the host, by their code."""
        models, arrays = self._models, self._arrays.copy()
        for place, view in self._own:
            row = models.row(view, number)
            arrays[place] = row.of(row.buffer.array)

        def of(leaf: Any) -> Any:
            if isinstance(leaf, View):
                return arrays[self._numbers[leaf]]
            return numbers[leaf.code] if isinstance(leaf, HostNumber) else models.number(leaf, number)

        results = {}
        for statement, function, views, others, out in self._calls:
            args = list(statement.args)
            for place, view in views:
                args[place] = arrays[view]
            for place, leaf in others:
                args[place] = replaced(leaf, of)
            options = {name: replaced(value, of) for name, value in statement.options.items()}
            result = function(*args, **options)
            if not out and result is not statement.expected:
                raise CaptureError(f"{statement.line}: the answer to {statement!r} is {result} in step {number}")
            for place, part in zip(out, [result] if len(out) == 1 else result if out else [], strict=True):
                arrays[place][...] = part
            if self._remembers:
                results[statement] = tuple([arrays[place].copy() for place in out])
        outputs, left = ([arrays[place].copy() for place in places] for places in (self._outputs, self._left))
        return Trial(results, outputs, dict(zip(self._places, left, strict=True)))


class Trial(NamedTuple):
    """One run of the program for one model.

    Attributes:
        results: by statement what it gave, where that is kept.
        outputs: what the step returns.
        left: what it leaves, by place.
    """

    results: dict[Statement, tuple[Any, ...]]
    outputs: list[Any]
    left: dict[View, Any]


def _passes(view: View) -> bool:
    """Whether it is of memory that nobody has when the step is over."""
    return view.buffer.kind == "temporary"


def _start(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def with_leaves(statement: Statement, what: Callable[[Any], Any], out: tuple[View, ...]) -> Statement:
    """Return a statement with other leaves and another place of its result."""
    made = Statement(statement.primitive, *statement.replaced(what), out, statement.line, statement.row)
    made.expected = statement.expected
    return made
