"""A program as a table for the interpreter, with calls of NumPy where no instruction does what a statement does.

Note [Many steps]
~~~~~~~~~~~~~~~~~
A call from Python costs more than a step of a small network. So the interpreter can run many: for each step it copies
the rows that the order names into the memory of the inputs, takes the step's row of host numbers, walks the table, and
puts what the step returns behind what the last one returned. It stops before a step whose question gets another answer,
with all steps before it done and nothing of this one.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from ctypes import addressof, c_char
from itertools import accumulate, chain
from typing import Any

import numpy as np

from nanotorch.capture.numpy_code import CheckFailedError, host_lines, is_as_recorded, same_bits
from nanotorch.capture.passes import DRAWS
from nanotorch.capture.program import Buffer, HostNumber, Program, SeveralNumbers, Statement, View
from nanotorch.capture.table.groups import Group
from nanotorch.capture.table.instructions import SCRATCH
from nanotorch.capture.table.items import LINE, aligned, cut, memory_of, numpy_call, outside
from nanotorch.capture.table.lowering import Table, in_range, instruction, without_gaps
from nanotorch.capture.table.machine import Interpreter, starts
from nanotorch.capture.table.tolerance import BY_OPERANDS, agrees

SMALL = 16384  # bytes up to which an input is copied, which takes less time than asking for its address
CONTEXT = 13
WORD = (1 << 64) - 1
SEED = 1 << 40  # made up for a check, so that generators stay where they are


class TableCode:
    """Write a program as tables.

    Args:
        program: what is written.
        kept: temporary buffers whose memory others know: it stays where it was when the step was recorded.
        interpreter: what runs tables.
        fused: join element-wise statements to groups, and let temporary buffers share memory.
    """

    def __init__(
        self, program: Program, kept: Collection[Buffer], interpreter: Interpreter, fused: bool = True
    ) -> None:
        self.program, self.kept, self.interpreter = program, kept, interpreter
        self.items = cut(program, kept, fused)
        self.arrays = memory_of(self.items, program, kept, shared=fused)
        self.table = Table()
        for item in self.items:
            for leaf in _host_numbers(item.statements if item.group is not None else []):
                self.table.number(leaf)
        self._host = list(self.table.numbers)  # those of the table come first in it
        self.spans: list[tuple[int, int] | Statement] = []
        self.asked = 0  # words up to the last question
        self.asked_of: set[Buffer] = set()  # what is read up to there
        self._write(fused)
        self._bind()

    # ------------------------------------------------------------------------------------------------------- writing

    def _write(self, fused: bool) -> None:
        """Write all items: spans of the table, of each item where it is not fused, and statements for NumPy."""
        known = in_range(self.program)
        needed = outside(self.items, self.program, self.kept)
        spans = self.spans
        for number, item in enumerate(self.items):
            start = len(self.table.code)
            if isinstance(item.what, Group):
                item.what.write(self.table, needed(number))
            elif item.what is not None:
                item.what.write(self.table)
            elif not instruction(item.statements[0], self.table, known):
                spans.append(item.statements[0])
                continue
            end = len(self.table.code)
            if not item.statements[0].out:
                self.asked = end
                before = [statement for each in self.items[: number + 1] for statement in each.statements]
                self.asked_of = {view.buffer for statement in before for view in statement.reads}
            if fused and spans and isinstance(spans[-1], tuple):
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))

    def _bind(self) -> None:
        """Put the table and all addresses where the interpreter finds them."""
        table = self.table
        for buffer in self.program.inputs:
            table.base(buffer)
        for view in self.program.outputs:
            table.base(view.buffer)
        self._code = np.array([*table.code, 0], np.int64)
        self._bases = np.array([self.arrays[buffer].ctypes.data for buffer in table.bases], np.int64)
        self.numbers = np.zeros(max(1, len(table.numbers)))
        self._bits = self.numbers.view(np.uint64)
        self._whole: dict[str, int] = {}  # the places of whole numbers of the host, by their code
        self.apart: dict[int, list[float]] = {}  # by place the numbers of several models
        self.draws: list[tuple[int, Callable[[], int]]] = []  # the places of seeds that every run draws
        for key, place in table.numbers.items():
            if isinstance(key, tuple):
                value = key[1]
                if isinstance(value, str):
                    self._whole[value] = place
                elif callable(value):
                    self.draws.append((place, value))
                else:
                    self._bits[place] = value & WORD
            elif isinstance(key, SeveralNumbers):
                self.numbers[place] = key.values[0]
                self.apart[place] = list(key.values)
            elif key not in self._host:
                self.numbers[place] = float.fromhex(key)
        self._number_bytes = self.numbers.data.cast("B")
        self._scratch = aligned(8 * SCRATCH)
        self._addresses = self._code.ctypes.data, self._bases.ctypes.data, self._scratch.ctypes.data
        self._home = self._bases.copy()
        self.calls = [span for span in self.spans if isinstance(span, Statement)]
        self._for_calls = {leaf.code: leaf.value for leaf in _host_numbers(self.calls)}
        self._pack = struct.Struct(f"{len(self._host)}d").pack_into
        self._runs = [self._part(span) for span in self.spans]
        self._many: Many | None = None
        self._values, self.decided = self._host_functions()
        by_calls = {view.buffer for call in self.calls for view in call.reads}
        self._copied = [
            buffer in by_calls
            or buffer.array.nbytes <= SMALL
            or any(view.buffer is buffer for view in self.program.outputs)
            for buffer in self.program.inputs
        ]

    def contexts(
        self, span: tuple[int, int], steps: int, bases: Any, scratch: Any, numbers: Any, gathers: Any, returned: Any
    ) -> Any:
        """Return contexts for several models: each has a row of bases, scratch memory, in three dimensions numbers for
        each step, what is gathered, and what is returned.
        """
        found = np.repeat(self.context(*span, numbers.ctypes.data, steps)[None], len(bases), 0)
        found[:, 2], found[:, 4], found[:, 10], found[:, 12] = starts(bases), scratch, starts(gathers), starts(returned)
        found[:, 9], found[:, 11] = gathers.shape[1], returned.shape[1]
        if numbers.ndim == 3:
            found[:, 3], found[:, 8] = starts(numbers), numbers.strides[1]
        return found

    def context(self, start: int, end: int, numbers: int, steps: int, *more: int) -> Any:
        """Return what tells the interpreter to run words of the table (`interpreter.run`)."""
        code, bases, scratch = self._addresses
        fields = (
            code + 8 * start, code + 8 * end, bases, numbers, scratch,
            self.interpreter.sgemm, self.interpreter.dgemm, steps, *more,
        )  # fmt: skip
        return np.array(fields + (0,) * (CONTEXT - len(fields)), np.int64)

    def _part(self, span: tuple[int, int] | Statement) -> Callable[[], None]:
        """Return what runs a span."""
        if isinstance(span, tuple):
            bound = self.interpreter.bound(self.context(*span, self.numbers.ctypes.data, 1))

            def run() -> None:
                if bound() != 1:
                    raise CheckFailedError

            return run
        statement, call = span, numpy_call(span, self.arrays, self._for_calls)

        def asked() -> None:
            if call() is not statement.expected:
                raise CheckFailedError

        return call if statement.out else asked

    def _host_functions(self) -> tuple[Callable[..., Any], Callable[..., bool]]:
        """Return what computes the host numbers, and what tells whether the program is for such scalars."""
        kinds = (self._host, self._for_calls, self._whole)
        of_code = {c: f"number{k}" for k, c in enumerate(dict.fromkeys(chain(*kinds)))}
        decided = " and ".join([f"{code} == {answer!r}" for code, answer in self.program.decisions.items()]) or "True"
        parts = [f"({''.join(f'{of_code[code]}, ' for code in part)})" for part in kinds]
        lines = ["def values(scalars):", *[f"    {line}" for line in host_lines(of_code)]]
        lines += [f"    return {', '.join(parts)}", "def decided(scalars):", f"    return {decided}"]
        namespace: dict[str, Any] = {"__name__": "nanotorch.capture.step", **self.program.sources}
        exec(_compiled("\n".join(lines)), namespace)
        return namespace["values"], namespace["decided"]

    @property
    def text(self) -> str:
        """The program with what runs together side by side."""
        lines = []
        for item in self.items:
            kind = "together" if item.what is not None else "NumPy" if item.statements[0] in self.calls else "table"
            lines += [f"{kind}:", *[f"    {statement!r}  # {statement.line}" for statement in item.statements]]
        return "\n".join(lines) + "\n"

    # ------------------------------------------------------------------------------------------------------- running

    def build(self) -> tuple[Callable[..., Any], Callable[..., bool]]:
        """Return `step(*inputs, scalars)`, and `decided(scalars)`, whether it is the program for them."""
        runs, values = self._runs, self._values
        outputs = [view.of(self.arrays[view.buffer]) for view in self.program.outputs]
        given = [
            (self.arrays[buffer], copied, self.table.bases[buffer])
            for buffer, copied in zip(self.program.inputs, self._copied, strict=True)
        ]
        bases, set_host = self._bases, self._set_host
        any_host, draws, bits = bool(self._host or self._for_calls or self._whole), self.draws, self._bits
        asked = self._part((0, self.asked)) if draws and self.asked else None

        def step(*inputs: Any) -> Any:
            *arrays, scalars = inputs
            for array, (own, copied, base) in zip(arrays, given, strict=True):
                if copied:
                    own[...] = array
                else:
                    bases[base] = array.ctypes.data
            if any_host:
                set_host(values(scalars))
            if asked is not None:  # nothing is drawn where the answer is another one
                asked()
            for place, draw in draws:
                bits[place] = draw()
            for run in runs:
                run()
            return tuple([output.copy() for output in outputs])

        return step, self.decided

    def _set_host(self, now: tuple[Any, ...]) -> None:
        """Set the numbers of the host."""
        of_table, of_calls, whole = now
        self._pack(self._number_bytes, 0, *of_table)
        for place, value in zip(self._whole.values(), whole, strict=True):
            self._bits[place] = value & WORD
        if of_calls:
            self._for_calls.update(zip(self._for_calls, of_calls, strict=True))

    @functools.cached_property
    def in_one(self) -> bool:
        """Whether one call of the interpreter runs all of it."""
        return len(self.spans) == 1 and not self.calls and None not in map(without_gaps, self.program.outputs)

    def many(self, tables: Sequence[Any], order: Any, batch_size: int) -> Many | None:
        """Return what runs steps on rows of tables in one call; None for a program that calls NumPy.

        Args:
            tables: what the rows of each input are taken from.
            order: numbers of rows, `batch_size` for each step, one step behind the other.
            batch_size: rows of each step.

        Raises:
            ValueError: tables or an order that do not fit the program.
        """
        if self._many is None:
            if not self.in_one or any(not buffer.array.flags.c_contiguous for buffer in self.program.inputs):
                return None
            self._many = Many(self)
        self._many.begin(tables, order, batch_size)
        return self._many

    def rows_of(self, scalars: Any, steps: int) -> Any:
        """Return the numbers of all steps; a scalar is a number, or an array with one for each step."""
        numbers = np.empty((steps, len(self.numbers)))
        self.fill(numbers, self._values(scalars), self.draws)
        return numbers

    def fill(self, numbers: Any, values: Iterable[Any], draws: Sequence[tuple[int, Callable[[], int]]]) -> None:
        """Write the numbers of steps, a row for each, of what `codes` give and what is drawn."""
        numbers[:] = self.numbers
        of_table, _, whole = values
        for column, value in enumerate(of_table):
            numbers[:, column] = value
        bits = numbers.view(np.uint64)
        for place, value in zip(self._whole.values(), whole, strict=True):
            bits[:, place] = value & WORD if isinstance(value, int) else value
        if draws:
            for row in numbers:
                self.draw(row, draws)

    def draw(self, numbers: Any, draws: Sequence[tuple[int, Callable[[], int]]]) -> None:
        """Write what is drawn for a step into its numbers."""
        bits = numbers.view(np.uint64)
        for place, draw in draws:
            bits[place] = draw()

    @property
    def codes(self) -> tuple[list[str], ...]:
        """The code of the numbers of the host: those of the table, those of calls, and whole ones."""
        return self._host, list(self._for_calls), list(self._whole)

    # ------------------------------------------------------------------------------------------------------ checking

    def check(self, inputs: list[Any], scalars: Any, recorded: bool = False) -> Statement | None:
        """Run the program on arguments of a call, from memory as it is and without changing it; return the first
        statement that differs from NumPy (Note [Tolerance of tables]), or NumPy from what was `recorded`.

        What is drawn is made up, and remembered: a check leaves generators where they are. In the place of a recorded
        call it is what was drawn there, and seeds are drawn again.
        """
        lasting = [b for b in self.program.buffers if b.kind == "memory" or b in self.kept]
        before = [buffer.array.copy() for buffer in lasting]
        alone = TableCode(self.program, self.kept, self.interpreter, fused=False)
        drawn: dict[Statement, Sequence[Any]] = {}
        seeds = [draw() if recorded else SEED + number for number, (_, draw) in enumerate(self.draws)]
        try:
            different = alone._differing(inputs, scalars, seeds, drawn, recorded)
            if different is not None:
                return different
            returned = []
            for code in (alone, self):
                for buffer, array in zip(lasting, before, strict=True):
                    buffer.array[...] = array
                returned.append(code._returned(inputs, scalars, seeds, drawn))
                if code is alone:
                    after = Scratch().copies([buffer.array for buffer in lasting])
            pairs = [(buffer, one, buffer.array) for buffer, one in zip(lasting, after, strict=True)]
            pairs += [(v.buffer, *both) for v, *both in zip(self.program.outputs, *returned, strict=True)]
            for buffer, one, other in pairs:
                if not same_bits(one, other):
                    return next(s for s in reversed(self.program.statements) if any(v.buffer is buffer for v in s.out))
        finally:
            for buffer, array in zip(lasting, before, strict=True):
                buffer.array[...] = array
        return None

    def _begin(self, inputs: list[Any], scalars: Any, seeds: Sequence[int]) -> None:
        for buffer, array in zip(self.program.inputs, inputs, strict=True):
            self.arrays[buffer][...] = array
            self._bases[self.table.bases[buffer]] = self.arrays[buffer].ctypes.data
        self._set_host(self._values(scalars))
        for (place, _), seed in zip(self.draws, seeds, strict=True):
            self._bits[place] = seed

    def _differing(
        self,
        inputs: list[Any],
        scalars: Any,
        seeds: Sequence[int],
        drawn: dict[Statement, Sequence[Any]],
        recorded: bool,
    ) -> Statement | None:
        """Run statement by statement, by NumPy and as a table, each on what NumPy gave before it."""
        self._begin(inputs, scalars, seeds)
        some = np.random.default_rng(0)
        codes = [*self._host, *self._for_calls, *self._whole]
        left = iter(seeds)
        as_they_were, by_table = Scratch(), Scratch()
        host = dict(zip(codes, chain(*self._values(scalars)), strict=True))
        for item, span, run in zip(self.items, self.spans, self._runs, strict=True):
            (statement,) = item.statements
            outs = [view.of(self.arrays[view.buffer]) for view in statement.out]
            if statement.primitive in DRAWS and isinstance(span, Statement):
                drawn[statement] = statement.result if recorded else [made_up(some, out) for out in outs]
                put(outs, drawn[statement])
                continue
            if isinstance(span, Statement):
                run()
                if recorded and not is_as_recorded(statement, outs):
                    return statement
                continue
            if statement.args and callable(statement.args[0]):
                statement = with_seed(statement, next(left))
            by_numpy = numpy_call(statement, self.arrays, host)
            if not outs:
                if by_numpy() is not statement.expected:
                    raise CheckFailedError
                run()
                continue
            written = {view.buffer for view in statement.out}
            operands = [arg.of(self.arrays[arg.buffer]) if isinstance(arg, View) else arg for arg in statement.args]
            before: list[Any] = []
            if any(view.buffer in written for view in statement.reads):
                before = as_they_were.copies(outs)
                if statement.primitive in BY_OPERANDS:
                    operands = [arg.copy() if isinstance(arg, np.ndarray) else arg for arg in operands]
            run()
            got = by_table.copies(outs)
            if before:
                put(outs, before)
            by_numpy()
            if not all([agrees(statement, one, out, operands) for one, out in zip(got, outs, strict=True)]):
                return statement
            if recorded and not is_as_recorded(item.statements[0], outs):
                return statement
        return None

    def _returned(
        self, inputs: list[Any], scalars: Any, seeds: Sequence[int], drawn: dict[Statement, Sequence[Any]]
    ) -> list[Any]:
        """Run the program; return what it returns."""
        self._begin(inputs, scalars, seeds)
        for span, run in zip(self.spans, self._runs, strict=True):
            if isinstance(span, Statement) and span in drawn:
                put([view.of(self.arrays[view.buffer]) for view in span.out], drawn[span])
            else:
                run()
        return [view.of(self.arrays[view.buffer]).copy() for view in self.program.outputs]


class Scratch:
    """Memory for copies of arrays that are needed until the next ones: the system gives it once, which takes longer
    than to copy.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def copies(self, arrays: Sequence[Any]) -> list[Any]:
        """Return copies, in the place of those before."""
        starts = [0, *accumulate([-(-array.nbytes // LINE) * LINE for array in arrays])]
        if starts[-1] > self._memory.nbytes:
            self._memory = np.empty(starts[-1], np.uint8)
        places = [np.ndarray(a.shape, a.dtype, self._memory, at) for a, at in zip(arrays, starts, strict=False)]
        put(places, arrays)
        return places


class Many:
    """Steps of a table on rows of tables, in one call (Note [Many steps])."""

    def __init__(self, code: TableCode) -> None:
        self._code = code
        inputs, outputs = code.program.inputs, code.program.outputs
        self._gathers = np.empty((len(inputs), 5), np.int64)
        self._given = sorted(enumerate(inputs), key=lambda each: each[1] not in code.asked_of)
        self._places = np.array(
            [(*code.table.place(view), view.size * view.dtype.itemsize, 0) for view in outputs], np.int64
        ).reshape(-1, 4)
        self._forms: list[Any] = []
        place, needed = self._gathers.ctypes.data, sum([buffer in code.asked_of for buffer in inputs])
        ((start, end),) = code.spans  # type: ignore[misc]
        asked = code.context(0, code.asked, code.numbers.ctypes.data, 0, 0, needed, place)
        every = code.context(start, end, 0, 0, 0, len(inputs), place, len(outputs), self._places.ctypes.data)
        self._asked, self._every = asked, every
        self._ask, self._take = code.interpreter.bound(asked), code.interpreter.bound(every)

    def begin(self, tables: Sequence[Any], order: Any, batch_size: int) -> None:
        """Take rows of these tables, as `TableCode.many` says."""
        code, gathers = self._code, self._gathers
        self._order = order = np.ascontiguousarray(order, np.int64)
        self._tables = tables = list(map(np.ascontiguousarray, tables))
        forms = [batch_size, *[(begin_of(table), table.shape, table.dtype) for table in tables]]
        if forms != self._forms:
            self._forms = []
            for row, (number, buffer) in zip(gathers, self._given, strict=True):
                own, table = buffer.array, tables[number]
                if table.dtype != own.dtype or (batch_size, *table.shape[1:]) != own.shape:
                    raise ValueError(f"rows of {table.shape[1:]} {table.dtype} are no batch of {own.shape} {own.dtype}")
                width = table.nbytes // max(1, len(table))
                row[:4] = code.table.bases[buffer], begin_of(table), width, batch_size
            self._forms = forms
        if tables and order.size:
            highest = np.maximum.reduce(order.view(np.uint64))  # a negative number is a large one there
            length = min(map(len, tables))
            if highest >= length:
                raise ValueError(f"the order names rows that are not in [0, {length})")
        gathers[:, 4] = begin_of(order)
        self._steps = len(order) // batch_size
        code._bases[:] = code._home

    def ready(self) -> int:
        """Return how many steps there are before one whose questions get another answer."""
        if not self._code.asked:
            return self._steps
        self._asked[7] = self._steps
        return int(self._ask())

    def run(self, numbers: Any) -> tuple[int, list[Any]]:
        """Run a step for each row of `numbers`; return how many were done, and the outputs of all steps, stacked."""
        steps, every = len(numbers), self._every
        results = [room_for(view, steps) for view in self._code.program.outputs]
        if results:
            self._places[:, 3] = list(map(begin_of, results))
        every[3], every[7], every[8] = begin_of(numbers), steps, numbers.strides[0]
        done = int(self._take())
        self._tables = []
        return done, results


def room_for(view: View, *counts: int) -> Any:
    """Return an array for so many copies of the memory of a view, which leaves no gaps: its last axes are the view's,
    and lie as they do.
    """
    axes = without_gaps(view)
    assert axes is not None
    room = np.empty((*counts, *[view.shape[axis] for axis in axes]), view.dtype)
    return room.transpose(*range(len(counts)), *[len(counts) + axes.index(axis) for axis in range(len(axes))])


@functools.lru_cache(64)
def _compiled(text: str) -> Any:
    """Compile once what a table and the one that checks it have in common."""
    return compile(text, "<host numbers>", "exec")


def begin_of(array: Any) -> int:
    """Return the address of an array, in a fifth of the time that NumPy takes."""
    try:
        return addressof(c_char.from_buffer(array))
    except (TypeError, ValueError):  # it is read-only, or empty
        address: int = array.ctypes.data
        return address


def with_seed(statement: Statement, seed: int) -> Statement:
    """Return a statement that does not draw its seed."""
    args = (seed, *statement.args[1:])
    return Statement(statement.primitive, args, statement.options, statement.out, statement.line, statement.row)


def put(outs: Sequence[Any], values: Sequence[Any]) -> None:
    """Write values into arrays."""
    for out, value in zip(outs, values, strict=True):
        out[...] = value


def made_up(some: np.random.Generator, like: Any) -> Any:
    """Return values that a draw might have given."""
    if like.dtype.kind == "f":
        return some.random(like.shape).astype(like.dtype)
    return some.integers(0, 2 if like.dtype == bool else np.iinfo(like.dtype).max, like.shape).astype(like.dtype)


def _host_numbers(statements: Sequence[Statement]) -> list[HostNumber]:
    """Return the numbers of the host in some statements."""
    return [leaf for statement in statements for leaf in statement.leaves() if isinstance(leaf, HostNumber)]
