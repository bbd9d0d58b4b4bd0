"""Recording arrays: the ordinary step runs once, on real values, and what it does to arrays is written down.

Note [Recording]
~~~~~~~~~~~~~~~~
`Recorder` is an interpreter (Note [Interpreters]). Arrays enter it where a row's forward, a formula or an optimizer's
rule begins, and become `TracedArray`s, which carry the real array: the recorded call *is* an ordinary eager step, every
value is known, and no op is described a second time. What is done with traced arrays by the primitives of the table is
computed as ever and becomes a statement.

Views and writes need no rules. A result that lies in memory which the program knows is a view of it; any other result
is a new buffer. The address and the strides of the real array say which elements are meant.

A traced array can do nothing else: who asks for a value gets a `CaptureError`, which says where, because a program that
has looked at a value holds for that value alone. A question of the table (`all_in_range`, `holds`) is a statement that
expects the answer it got.
"""

from __future__ import annotations

import functools
import operator
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, NoReturn

import numpy as np

from nanotorch.autograd.graph.errors import inside
from nanotorch.autograd.graph.interpreter import Interpreter, InterpreterError
from nanotorch.autograd.graph.node import Node
from nanotorch.backend.numpy_backend import NUMPY, owner
from nanotorch.backend.primitives import FACTS, OPERATORS, PLACEMENT, PRIMITIVES, Column, Namespace
from nanotorch.capture.program import Buffer, HostNumber, Program, Statement, View, leaves, replaced, steps

WRITES = {
    "add_into": "add", "multiply_into": "multiply", "maximum_into": "maximum", "minimum_into": "minimum",
    "write": "write", "copyto": "write",
}  # fmt: skip
"""Primitives that write into their first argument, and what is written there."""


ARRAY = (np.ndarray, np.generic)
INDEXED = {"getitem", "put", "add_at"}
"""Primitives that raise where an index names what is not there: a program asks before it begins."""


class CaptureError(InterpreterError):
    """What a step does that no program can repeat, with the line that does it."""


class TracedArray:
    """An array that is being recorded."""

    __slots__ = ("__weakref__", "array", "place", "recorder")
    dtype: Any
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: Any, recorder: Recorder) -> None:
        self.array, self.recorder = array, recorder
        self.place: View | None = None

    T = property(lambda self: self.recorder.do("reversed_axes", self))

    def __len__(self) -> int:
        return len(self.array)

    def _refuse(self, *args: Any, **options: Any) -> NoReturn:
        raise self.recorder.refused(
            f"{user_place()} asks for the value of a tensor of shape {self.array.shape}: a captured step would go on "
            "with the value of this one call for ever. Return the tensor from the step and look at it outside, or use "
            "torch.where in the place of a branch"
        )

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __array__ = __contains__ = _refuse
    item = tolist = _refuse


for _name in (*FACTS, *PLACEMENT):
    setattr(TracedArray, _name, property(operator.attrgetter(f"array.{_name}")))
for _form, (_, _function) in OPERATORS.items():
    _name, _special = _form.partition("(")[0], getattr(_function, "__name__", "").strip("_")
    if _name != "reversed_axes":
        setattr(TracedArray, f"__{_special}__", lambda self, *other, n=_name: self.recorder.do(n, self, *other))
        setattr(TracedArray, f"__r{_special}__", lambda self, other, n=_name: self.recorder.do(n, other, self))
for _special, _name in (
    ("add", "add"),
    ("sub", "subtract"),
    ("mul", "multiply"),
    ("truediv", "divide"),
    ("pow", "power"),
):
    setattr(TracedArray, f"__i{_special}__", lambda self, other, n=_name: self.recorder.into(n, self, other))


def _of_numbers(function: Callable[..., Any], symbol: str, swapped: bool) -> Callable[..., Any]:
    def combined(self: HostNumber, other: Any) -> Any:
        if not isinstance(other, HostNumber | int | float):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        code = f"({_code(left)} {symbol} {_code(right)})"
        return HostNumber(code, function(_value(left), _value(right)), self.decided)

    return combined


for _special, _symbol in (
    ("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("floordiv", "//"), ("mod", "%"), ("pow", "**"),
    ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="), ("ne", "!="),
):  # fmt: skip
    _function = getattr(operator, _special)
    setattr(HostNumber, f"__{_special}__", _of_numbers(_function, _symbol, False))
    if _special not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(HostNumber, f"__r{_special}__", _of_numbers(_function, _symbol, True))


def _value(value: Any) -> Any:
    return value.array if isinstance(value, TracedArray) else value.value if isinstance(value, HostNumber) else value


def _code(value: Any) -> str:
    return value.code if isinstance(value, HostNumber) else f"({value!r})"


class Recorder(Interpreter):
    """Write down a `program` while the step runs.

    Args:
        names: of memory that lives on, by the id of the array that owns it: parameters, buffers, optimizer state.

    Attributes:
        scalars: those of each call of an optimizer's rule, in order, and
        updated: the segments that it updated.
        denied: whether the answer to a question was no.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.program = Program()
        self.names = names
        self.scalars: list[Mapping[str, Any]] = []
        self.updated: list[Any] = []
        self.refusal: CaptureError | None = None
        self.made: list[tuple[weakref.ref[TracedArray], int]] = []
        self._buffers: dict[int, Buffer] = {}
        self._starts: dict[int, int] = {}
        self._kept: list[Any] = []  # ids of arrays mean something while these live
        self._row = ""
        self._in_place: dict[Buffer, list[Statement]] | None = {}
        self.denied = False
        column = Column()
        for name in PRIMITIVES:
            column[name] = lambda *args, n=name, **options: self.do(n, *args, **options)
        self.xp = Namespace(column)

    def refused(self, why: str) -> CaptureError:
        """Return the error that says why the step cannot be repeated; it counts even where the step catches it."""
        self.refusal = CaptureError(why)
        return self.refusal

    def close(self) -> None:
        """Let go of all arrays: nothing is recorded any more."""
        self._buffers.clear()
        self._kept.clear()
        self.made.clear()
        self._in_place = None
        self.program, self.xp = Program(), Namespace(Column())

    def let_go(self, arrays: Sequence[Any]) -> None:
        """Let go of memory that is no longer the program's."""
        for memory in map(owner, arrays):
            del self._buffers[id(memory)]
            self._kept = [kept for kept in self._kept if kept[0] is not memory]

    # ------------------------------------------------------------------------------------------ where arrays enter

    def run(self, row: Any, forward: Callable[..., Any], xp: Any, *args: Any, **options: Any) -> Any:
        """Run a row's forward on traced arrays."""
        before, self._row = self._row, row.name
        try:
            return forward(self.xp, *replaced(args, self.traced), **{n: self.traced(v) for n, v in options.items()})
        finally:
            self._row = before

    def formula(self, row: Any, formula: Callable[..., Any], *args: Any) -> Any:
        """Run a row's formula on traced arrays."""
        before, self._row = self._row, f"{row.name} backward"
        try:
            return formula(*replaced(args, self.traced))
        finally:
            self._row = before

    def update(
        self, segment: Any, rule: Any, further: Any, xp: Any, param: Any, grad: Any, state: Any, scalars: Any
    ) -> None:
        """Run an optimizer's rule on traced arrays; its scalars become numbers of the host."""
        source = f"scalars[{len(self.scalars)}]"
        self.scalars.append(scalars)
        self.updated.append(segment)
        before, self._row = self._row, rule.__name__
        try:
            rule(
                self.xp,
                self.traced(param),
                self.traced(grad),
                **{name: self.traced(array) for name, array in state.items()},
                **{name: self._number(f"{source}[{name!r}]", value) for name, value in scalars.items()},
            )
        finally:
            self._row = before

    def primitives(self, device: Any, xp: Any) -> Any:
        """Return the primitives that write down what they do."""
        return self.xp

    def _number(self, code: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple([self._number(f"{code}[{k}]", part) for k, part in enumerate(value)])
        if isinstance(value, float) or type(value) is int:
            return HostNumber(code, value, self._decided)
        self.program.decisions[code] = value  # a flag, None or a name: a part of the program
        return value

    def _decided(self, number: HostNumber) -> None:
        self.program.decisions[f"bool({number.code})"] = bool(number.value)

    def input(self, name: str, array: np.ndarray[Any, Any]) -> TracedArray:
        """Begin with an argument of the step."""
        self.program.inputs.append(self._buffer("input", name, array, owner(array)))
        return self._trace(array)

    def call_numbers(self, values: Sequence[int]) -> list[HostNumber]:
        """Begin with numbers of the call: they come before the scalars of all rules."""
        if not values:
            return []
        self.scalars.append(given := call_scalars(values))
        return [HostNumber(f"scalars[0][{name!r}]", value, self._decided) for name, value in given.items()]

    def traced(self, value: Any) -> Any:
        """Return an array as a traced one, other values as they are."""
        return self._trace(value) if isinstance(value, np.ndarray) else value

    def _trace(self, array: Any) -> TracedArray:
        if id(owner(array)) not in self._buffers:
            self._external(array)
        traced = TracedArray(array, self)
        self.made.append((weakref.ref(traced), len(self.program.statements)))
        return traced

    def _external(self, array: Any) -> None:
        memory = owner(array)
        name = self.names.get(id(memory))
        kind = "constant" if name is None else "memory"
        base = memory
        if memory.dtype != array.dtype:  # memory of bytes, as of a file
            base = array
        self._buffer(kind, name or f"constant{len(self.program.buffers)}", base, memory)

    # ----------------------------------------------------------------------------------------------- what they do

    def do(self, name: str, /, *args: Any, **options: Any) -> Any:
        """Run a primitive, and write down what it did."""
        section = PRIMITIVES[name].section
        if name == "to_numpy" or section == "unsized":
            what = "asks for the values of a tensor" if name == "to_numpy" else f"makes a shape of values, by {name!r}"
            raise self.refused(
                f"{user_place()} {what}: a captured step cannot, since it would repeat those of this call. Return the "
                "tensor from the step and look at it outside, or use torch.where, which keeps the shape"
            )
        if name in WRITES:
            return self.into(WRITES[name], *args[:2])
        if name == "seed_of":
            source = f"seed{len(self.program.sources)}"
            self.program.sources[source] = args[0].initial_seed
            return HostNumber(f"{source}()", args[0].initial_seed(), self._decided)
        args = replaced(args, self._lifted)
        options = {n: replaced(value, self._lifted) for n, value in options.items()}
        if name == "getitem" and any(isinstance(part, TracedArray) and part.dtype == bool for part in leaves(args[1])):
            raise self.refused(
                f"{user_place()} picks elements by a mask, so how many there are depends on values; torch.where keeps "
                "the shape"
            )
        if name in INDEXED and any(isinstance(part, TracedArray) for part in leaves(args[1])):
            self.do("indexable", args[0].shape, args[1])
        given = replaced(args, _value)
        function = operator.add if name == "iadd" else NUMPY[name]
        result = function(*given, **{n: replaced(value, _value) for n, value in options.items()})
        if section == "layout":
            return result
        return self._wrapped("add" if name == "iadd" else name, args, options, result)

    def _wrapped(self, name: str, args: Any, options: Any, result: Any) -> Any:
        if isinstance(result, ARRAY):
            return self._traced_results(name, args, options, [result])[0]
        if isinstance(result, tuple | list) and all(isinstance(part, ARRAY) for part in result):
            traced = self._traced_results(name, args, options, result)
            return traced if type(result) is list else tuple(traced)
        if isinstance(result, bool | None):
            self._state(name, args, options, (), [])
            self.program.statements[-1].expected = result
            self.denied = self.denied or result is False
            return result
        if result is None or isinstance(result, int):
            return result
        raise self.refused(f"{user_place()}: the primitive {name!r} gave a {type(result).__name__}")

    def _traced_results(self, name: str, args: Any, options: Any, results: Sequence[Any]) -> list[TracedArray]:
        """Return results as traced arrays, which are views of known memory or become buffers of a statement."""
        arrays = [np.asarray(part) for part in results]
        if all([id(owner(array)) in self._buffers for array in arrays]):
            return [self._trace(array) for array in arrays]
        arrays = [self._own(array) for array in arrays]
        traced = [self._trace(array) for array in arrays]
        self._state(name, args, options, tuple(map(self._operand, traced)), arrays)
        return traced

    def into(self, name: str, target: Any, value: Any) -> Any:
        """Write `name(target, value)`, or with "write" the value itself, into the memory of a traced array."""
        target, value = self._lifted(target), self._lifted(value)
        if not isinstance(target, TracedArray):  # a number of no dimension is no memory
            return NUMPY[name](_value(target), _value(value))
        place = target.array
        buffer = self._buffers[id(owner(place))]
        self._refuse_write(buffer)
        self._keep_results(buffer)
        if name == "write":
            place[...] = _value(value)
            args: tuple[Any, ...] = (value,)
        else:
            if name == "power":
                place **= _value(value)
            else:
                getattr(np, name)(place, _value(value), out=place)
            args = (target, value)
        self._state(name, args, {}, (self.view(place),), [place])
        return target

    def _refuse_write(self, buffer: Buffer) -> None:
        """Raise for memory that a program only reads."""
        if buffer.kind == "input":
            raise self.refused(
                f"{user_place()} writes into an argument of the compiled function, which a program only reads: write "
                "into argument.clone()"
            )
        if buffer.kind == "constant":
            raise self.refused(
                f"{user_place()} writes into memory that the function cannot be seen to reach: keep the tensor where "
                "the function finds it by a name, such as an attribute of a module or a variable around it"
            )

    def _state(self, name: str, args: Any, options: Any, out: tuple[View, ...], results: list[Any]) -> None:
        """Add a statement."""
        views = replaced(args, self._operand)
        named = {n: replaced(value, self._operand) for n, value in options.items()}
        statement = Statement(name, tuple(views), named, out, user_place(), self._row)
        statement.result = tuple(results)
        if self._in_place is None:
            statement.result = tuple([array.copy() for array in results])
        else:
            for view in out:
                self._in_place.setdefault(view.buffer, []).append(statement)
        self.program.statements.append(statement)

    # ------------------------------------------------------------------------------------------------------- results

    def _keep_results(self, buffer: Buffer) -> None:
        """Copy the results that lie in memory which is about to change: until then they are where they were made."""
        for statement in (self._in_place or {}).pop(buffer, ()):
            pairs = zip(statement.out, statement.result, strict=True)
            statement.result = tuple([array.copy() if view.buffer is buffer else array for view, array in pairs])

    def keep_all_results(self) -> None:
        """Copy results from now on, and those that there are: others may write to memory that the program has made."""
        for buffer in list(self._in_place or ()):
            self._keep_results(buffer)
        self._in_place = None

    def results_from(self, buffer: Buffer, after: Any) -> None:
        """Have results that lie in memory which lives on lie in a copy of it, which is what it holds after the call."""
        memory = buffer.array
        for statement in (self._in_place or {}).pop(buffer, ()):
            results = []
            for array in statement.result:
                if np.may_share_memory(array, memory):
                    whole = array.shape == memory.shape and array.strides == memory.strides
                    array = after if whole else array.copy()
                results.append(array)
            statement.result = tuple(results)

    def _lifted(self, value: Any) -> Any:
        return self.traced(value)

    def _operand(self, value: Any) -> Any:
        if not isinstance(value, TracedArray):
            return value
        if value.place is None:
            value.place = self.view(value.array)
        return value.place

    # --------------------------------------------------------------------------------------------------- memory

    def knows(self, array: Any) -> bool:
        """Whether an array lies in memory of the program."""
        return id(owner(array)) in self._buffers

    def alive(self) -> list[str]:
        """Return where those traced arrays were made that still exist."""
        lines = [statement.line for statement in self.program.statements] or [""]
        return [lines[min(at, len(lines) - 1)] for reference, at in self.made if reference() is not None]

    def view(self, array: Any) -> View:
        """Return where an array lies."""
        memory = owner(array)
        buffer = self._buffers[id(memory)]
        if array is buffer.array:
            return View(buffer, 0, buffer.shape, buffer.steps)
        if not array.size:
            return View(buffer, 0, array.shape, steps(array))
        start = self._starts.get(id(memory))
        if start is None:
            start = self._starts[id(memory)] = buffer.array.__array_interface__["data"][0]
        return View(buffer, (array.__array_interface__["data"][0] - start) // array.itemsize, array.shape, steps(array))

    def _own(self, array: Any) -> Any:
        """Make a buffer of a result that lies in no known memory."""
        if id(owner(array)) in self._buffers:
            array = array.copy()
        elif not _dense(array):
            array = array.copy(order="K")
        self._buffer("temporary", f"t{len(self.program.buffers)}", array, owner(array))
        return array

    def _buffer(self, kind: str, name: str, array: Any, memory: Any) -> Buffer:
        buffer = Buffer(kind, name, array)
        self.program.buffers.append(buffer)
        self._buffers[id(memory)] = buffer
        self._kept.append((memory, array))
        return buffer


def _dense(array: Any) -> bool:
    """Whether the elements lie without gaps, in some order of the axes."""
    if array.flags.c_contiguous:
        return True
    expected = 1
    for stride, length in sorted(zip(steps(array), array.shape, strict=True)):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return True


def call_scalars(values: Sequence[int]) -> dict[str, int]:
    """Return numbers of a call by the names that they have in a program."""
    return {f"given{place}": int(value) for place, value in enumerate(values)}


def user_place() -> str:
    """Return the file and line that stand for what is done now: the nearest caller outside the library; within the
    backward of an op that is the line that called the op.
    """
    frame: Any = sys._getframe(1)
    while frame is not None and inside[(code := frame.f_code).co_filename]:
        if code.co_varnames[:1] == ("node",) or code.co_name == "apply":
            node = frame.f_locals[code.co_varnames[0]]
            if isinstance(node, Node) and node._code is not None:
                return _place(node._code, _line(node._code, node._last_instruction))
        frame = frame.f_back
    return _place(None, 0) if frame is None else _place(frame.f_code, frame.f_lineno)


@functools.lru_cache(1024)
def _place(code: CodeType | None, line: int) -> Place:
    """Return the place of a line, which is asked for at every primitive."""
    return Place(code, line)


@functools.lru_cache(1024)
def _line(code: CodeType, instruction: int) -> int:
    lines = (line for start, end, line in code.co_lines() if start <= instruction < end)
    return next(lines, None) or code.co_firstlineno


class Place(str):
    """The name of a file and a line; `path` is where the file lies."""

    path: str

    def __new__(cls, code: CodeType | None, line: int) -> Place:
        """Return the place of a line in the file of a code object."""
        path = "" if code is None else code.co_filename
        place = super().__new__(cls, f"{path.rpartition('/')[2]}:{line}" if path else "?")
        place.path = path
        return place
