"""A program as straight-line NumPy: the same calls as in the eager step, into memory that was set apart once.

Note [NumPy programs]
~~~~~~~~~~~~~~~~~~~~~
A statement becomes a line of Python. Where the primitive is one of NumPy's element-wise functions, or one that
`TEMPLATES` knows, it writes into the memory of its result by `out=`; any other primitive is called as the eager step
calls it, and its result is copied there. So every primitive has code, and all give the bits that eager gives.

All views are made when the program is bound, none while it runs. Temporary buffers share memory where one is read for
the last time before the other is written (`planned`).
"""

from __future__ import annotations

import keyword
import linecache
import math
import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from nanotorch.backend.numpy_backend import NUMPY
from nanotorch.backend.primitives import OPERATORS
from nanotorch.capture.program import Buffer, HostNumber, Program, Statement, View, linear

SPELLED_OTHERWISE = {"bit_and": "bitwise_and", "bit_or": "bitwise_or", "bit_xor": "bitwise_xor", "bit_not": "invert"}
OPERATOR_NAMES = [form.partition("(")[0] for form in OPERATORS]
UFUNCS: dict[str, str] = {
    **{name: name for name, function in NUMPY.items() if isinstance(function, np.ufunc)},
    **{name: SPELLED_OTHERWISE.get(name, name) for name in OPERATOR_NAMES},
}
for _name in ("power", "whole_divide", "getitem", "reversed_axes"):
    del UFUNCS[_name]
"""Primitives that are element-wise functions of NumPy, whose result can be written over an operand."""


UNWRITTEN = {"empty", "empty_like", "empty_strided"}
"""Primitives whose results are to be written: what is there before means nothing."""

SPELLED = {bool, int, str, type(None), slice, type(...)}


class NumpyCode:
    """Write a program out.

    Args:
        program: what is written.
        kept: temporary buffers whose memory others know: it stays where it was when the step was recorded.

    Attributes:
        text: the code: a function `bind(memory)` that returns `step(*inputs, scalars)` and `decided(scalars)`.
        memory: by name what `bind` gets.
    """

    def __init__(self, program: Program, kept: Collection[Buffer]) -> None:
        self.program, self.kept = program, kept
        self.memory: dict[str, Any] = dict(program.sources)
        self.numbers: dict[str, str] = {}
        self.names: dict[Buffer, str] = {}
        self.arrays: dict[Buffer, Any] = {}
        self.views: dict[tuple[Any, ...], str] = {}
        self._place()
        self.lines = [self._statement(statement) for statement in program.statements]
        self.text = self._whole(checked=False)

    def _place(self) -> None:
        """Give every buffer a name and memory."""
        for number, buffer in enumerate(self.program.buffers):
            name = self._identifier(buffer, number)
            self.names[buffer] = name
            if buffer.kind == "input":
                array = np.empty_like(linear(buffer.array)).reshape(-1)  # a copy, where a part of it is asked for
                self.arrays[buffer] = np.ndarray(buffer.array.shape, buffer.array.dtype, array, 0, buffer.array.strides)
            elif buffer.kind == "temporary" and buffer not in self.kept:
                self.arrays[buffer] = np.empty_like(buffer.array)
            else:
                self.arrays[buffer] = buffer.array

    def _identifier(self, buffer: Buffer, number: int) -> str:
        name = re.sub(r"\W", "_", buffer.name)
        name = f"_{name}" if name[:1].isdigit() or keyword.iskeyword(name) else name
        return f"{name}_{number}" if name in self.names.values() else name

    def name(self, view: View) -> str:
        """Return the name of a view; it is bound at its first use."""
        buffer = view.buffer
        name = self.names[buffer]
        if view.whole:
            if buffer.kind != "input":
                self.memory.setdefault(name, self.arrays[buffer])
            return name
        key = (buffer, view.offset, view.shape, view.strides)
        if key not in self.views:
            self.views[key] = f"{name}_{len(self.views)}"
            self.memory[self.views[key]] = view.of(self.arrays[buffer])
        return self.views[key]

    def term(self, value: Any) -> str:
        """Return an argument as code."""
        if isinstance(value, View):
            return self.name(value)
        if isinstance(value, HostNumber):
            return self.numbers.setdefault(value.code, f"number{len(self.numbers)}")
        if isinstance(value, tuple | list):
            inside = "".join(f"{self.term(part)}, " for part in value)
            return f"[{inside}]" if isinstance(value, list) else f"({inside})"
        if type(value) in SPELLED or (type(value) is float and math.isfinite(value)):
            return repr(value)
        return self.constant(value)

    def constant(self, value: Any) -> str:
        """Bind a value that has no spelling of its own."""
        for name, known in self.memory.items():
            if known is value or (isinstance(value, float | np.generic) and repr(known) == repr(value)):
                return name
        name = f"constant_{len(self.memory)}"
        self.memory[name] = value
        return name

    def function(self, name: str) -> str:
        """Bind a primitive."""
        self.memory[f"do_{name}"] = NUMPY[name]
        return f"do_{name}"

    def _statement(self, statement: Statement) -> list[str]:
        """Return the lines of a statement."""
        given = [self.term(value) for value in statement.args]
        name = statement.primitive
        if name == "write":
            return [f"{self.name(statement.out[0])}[...] = {given[0]}"]
        ufunc = UFUNCS.get(name)
        if ufunc is not None and len(statement.out) == 1 and not statement.options:
            self.memory.setdefault(ufunc, getattr(np, ufunc))
            return [f"{ufunc}({', '.join(given)}, out={self.name(statement.out[0])})"]
        call = ", ".join([*given, *[f"{n}={self.term(value)}" for n, value in statement.options.items()]])
        call = f"{given[0]} ** {given[1]}" if name == "power" else f"{self.function(name)}({call})"
        if not statement.out:
            return [f"if {call} is not {statement.expected}: raise failed"]
        if len(statement.out) == 1:
            return [f"{self.name(statement.out[0])}[...] = {call}"]
        parts = ", ".join([f"part{k}" for k in range(len(statement.out))])
        return [f"{parts} = {call}", *[f"{self.name(out)}[...] = part{k}" for k, out in enumerate(statement.out)]]

    def _whole(self, checked: bool) -> str:
        inputs = [self.names[buffer] for buffer in self.program.inputs]
        body = []
        for buffer in {key[0]: None for key in self.views if key[0].kind == "input"}:
            name = self.names[buffer]
            self.memory[f"{name}_copy"] = self.arrays[buffer]
            body.append(f"{name}_copy[...] = {name}")
        self.memory["failed"] = CheckFailedError()
        results = "".join(f"{self.name(view)}.copy(), " for view in self.program.outputs)
        body += [f"{name} = {code}" for code, name in self.numbers.items()]
        for number, lines in enumerate(self.lines):
            body += [*lines, f"check({number})"] if checked else lines
        lines = ["def bind(memory, check=None):", *[f"    {name} = memory[{name!r}]" for name in self.memory]]
        decided = [f"{code} == {answer!r}" for code, answer in self.program.decisions.items()]
        lines += ["    def decided(scalars):", f"        return {' and '.join(decided) or True}"]
        lines += [f"    def step({', '.join([*inputs, 'scalars'])}):", *[f"        {line}" for line in body]]
        lines += [f"        return ({results})", "    return step, decided"]
        return "\n".join(lines) + "\n"

    def build(self) -> tuple[Callable[..., Any], Callable[..., bool]]:
        """Return `step(*inputs, scalars)`, and `decided(scalars)`, whether it is the program for them."""
        return self._bound(self.text, None)

    def check(self, inputs: list[Any], scalars: Any) -> Statement | None:
        """Run the program once, and return the first statement that does not give what it gave when it was recorded."""

        def check(number: int) -> None:
            statement = self.program.statements[number]
            if statement.primitive in UNWRITTEN:
                return
            for view, result in zip(statement.out, statement.result, strict=True):
                if not same_bits(view.of(self.arrays[view.buffer]), result):
                    raise _DifferenceError(statement)

        try:
            self._bound(self._whole(checked=True), check)[0](*inputs, scalars)
        except _DifferenceError as error:
            return error.args[0]
        return None

    def _bound(self, text: str, check: Callable[[int], None] | None) -> Any:
        name = f"<captured step {id(self):x}>"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        namespace: dict[str, Any] = {"__name__": "nanotorch.capture.step"}
        exec(compile(text, name, "exec"), namespace)
        return namespace["bind"](self.memory, check)


def same_bits(one: Any, other: Any) -> bool:
    """Whether two arrays hold the same: NaN is NaN, and -0.0 is not 0.0."""
    if one.tobytes() == other.tobytes():
        return True
    if one.dtype.kind != "f" or not np.array_equal(one, other, equal_nan=True):
        return False
    return bool(np.array_equal(np.signbit(one) & (one == 0), np.signbit(other) & (other == 0)))


class CheckFailedError(Exception):
    """A question got another answer than when the step was recorded."""


class _DifferenceError(Exception):
    """A statement gave something else than when it was recorded."""
