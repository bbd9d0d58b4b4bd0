"""A program: the array statements of a step, in the order in which they ran.

Note [Captured programs]
~~~~~~~~~~~~~~~~~~~~~~~~
A program knows three things. A `Buffer` is a piece of memory, with the layout that it had when the step was recorded.
A `View` says which elements of a buffer are meant: an offset, a shape and strides, in elements. A `Statement` runs one
array primitive (Note [Array primitives]) on views, numbers of the host and constants, and puts the result into a view:
the whole of a new buffer, or a part of one that was there before, which is a write.

    b7[0:128]  (8, 16)  =  matmul(x, weight.T)          a new buffer
    weight     (64,)    =  subtract(weight, b31)        a write: weight is memory that lives on

Views cost nothing and are no statements: `x.T`, `x[2:5]`, a reshape that needs no copy are other geometries of the same
buffer. So nothing that looks like an operation of shape is left, and who emits code for a machine has addresses and
strides at hand. As statements keep their order, a program says by itself what was read before it was written; a pass
that moves or drops one has to ask `reads` and `writes` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.lib.stride_tricks import as_strided

NESTED = (tuple, list)
"""What holds further values: asked so often that `tuple | list` would take long to make."""


class Buffer:
    """Memory of a program.

    Attributes:
        kind: "input" of the call, "memory" that lives on when the step is over, such as a parameter's, a "constant",
            or "temporary".
        name: as it is printed.
        array: the array that owned the memory when the step was recorded: layout, dtype, and after recording what the
            step had put there.
        shape: its shape, and
        steps: its strides in elements.
        before: a copy of what was there before the step, of memory that lives on, and
        after: what is there after it.
    """

    __slots__ = ("after", "array", "before", "kind", "name", "shape", "steps")

    def __init__(self, kind: str, name: str, array: np.ndarray[Any, Any]) -> None:
        self.kind, self.name, self.array = kind, name, array
        self.shape, self.steps = array.shape, steps(array)
        self.before = array.copy() if kind == "memory" else None
        self.after: Any = None

    def __repr__(self) -> str:
        return self.name


class View(NamedTuple):
    """The elements of a buffer at an offset, of a shape and strides, all in elements."""

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self.buffer.array.dtype

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether these are all elements of the buffer, in its own layout."""
        return not self.offset and self.shape == self.buffer.shape and self.strides == self.buffer.steps

    def of(self, memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the view of an array that has the layout of the buffer's."""
        if self.whole:
            return memory
        width = memory.itemsize
        return np.ndarray(
            self.shape,
            memory.dtype,
            linear(memory),
            self.offset * width,
            tuple([step * width for step in self.strides]),
        )


class HostNumber:
    """A number of the host that may differ at every call, such as a learning rate: `code` computes it.

    Arithmetic gives further numbers. Asked whether it is true, it tells `decided`, for the program then holds only for
    calls where the answer is the same.
    """

    __slots__ = ("code", "decided", "value")
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, code: str, value: Any, decided: Callable[[HostNumber], None]) -> None:
        self.code, self.value, self.decided = code, value, decided

    def __bool__(self) -> bool:
        self.decided(self)
        return bool(self.value)

    def __neg__(self) -> HostNumber:
        return HostNumber(f"(-{self.code})", -self.value, self.decided)

    def __repr__(self) -> str:
        return self.code


class Several:
    """What is another one for each of several models: `values`."""

    __slots__ = ("name", "values")

    def __init__(self, values: Sequence[Any], name: str) -> None:
        self.values, self.name = tuple(values), name

    def drop(self, number: int) -> None:
        """Let a model leave; the last one takes its place."""
        *left, last = self.values
        self.values = (*left[:number], last, *left[number + 1 :]) if number < len(left) else tuple(left)

    def __repr__(self) -> str:
        return self.name


class SeveralNumbers(Several):
    """A constant of a program that is another one for each of several models."""

    __slots__ = ()


class CallNumber(int):
    """An integer that may be another one in every call of a compiled function, as the number of a step, and is no part
    of the program: it becomes a `HostNumber`.
    """


class Statement:
    """`out = primitive(*args, **options)`: a primitive on views, host numbers and constants.

    Attributes:
        out: where the result goes; several, or None where the answer is to be `expected`, as of a question.
        line: the line of the user's code that ran it, and
        row: the op that it is a part of.
        result: what it gave when the step was recorded.
    """

    __slots__ = ("args", "expected", "line", "options", "out", "primitive", "result", "row")

    def __init__(
        self, primitive: str, args: tuple[Any, ...], options: dict[str, Any], out: tuple[View, ...], line: str, row: str
    ) -> None:
        self.primitive, self.args, self.options, self.out = primitive, args, options, out
        self.line, self.row = line, row
        self.expected: Any = None
        self.result: tuple[np.ndarray[Any, Any], ...] = ()

    @property
    def reads(self) -> list[View]:
        """The views that it reads."""
        found: list[View] = []
        for value in (*self.args, *self.options.values()) if self.options else self.args:
            kind = type(value)
            if kind is View:
                found.append(value)
            elif kind is slice or isinstance(value, NESTED):
                found += [leaf for leaf in leaves(value) if isinstance(leaf, View)]
        return found

    def leaves(self) -> Iterator[Any]:
        """Give what lies in its arguments."""
        return leaves((self.args, tuple(self.options.values())))

    def replaced(self, what: Callable[[Any], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return its arguments, by place and by name, with `what` of all that lies in them."""
        return replaced(self.args, what), {n: replaced(value, what) for n, value in self.options.items()}

    def __repr__(self) -> str:
        given = [*map(shown, self.args), *[f"{name}={shown(value)}" for name, value in self.options.items()]]
        call = f"{self.primitive}({', '.join(given)})"
        return f"{', '.join(map(shown, self.out)) or self.expected} = {call}"


class Program:
    """The statements of a step, and what goes in and out.

    Attributes:
        inputs: the buffers of the arguments of the call, in their order.
        outputs: what the step returned.
        decisions: for each host number that the step asked whether it is true, its code and the answer.
        sources: by name functions of the host that the code of numbers calls.
        left: by pass how many statements there were after it, and
        allocated: bytes of all results as they were recorded.
    """

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self.buffers: list[Buffer] = []
        self.inputs: list[Buffer] = []
        self.outputs: list[View] = []
        self.decisions: dict[str, bool] = {}
        self.sources: dict[str, Callable[[], Any]] = {}
        self.left: dict[str, int] = {}
        self.allocated = 0

    def text(self) -> str:
        """Return the program as text; two programs that do the same have the same."""
        lines = [f"{b.kind} {b.name} {b.array.dtype.str} {b.shape} {b.steps}" for b in self.buffers]
        lines += [f"{statement!r}  # {statement.line} {statement.row}" for statement in self.statements]
        lines += [f"{code} is {answer}" for code, answer in self.decisions.items()]
        return "\n".join([*lines, f"return {', '.join(map(shown, self.outputs))}"])


def steps(array: Any) -> tuple[int, ...]:
    """Return the strides of an array in elements."""
    width = array.itemsize
    return tuple([stride // width for stride in array.strides])


def layout(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array that has the shape, dtype and strides of another one, and memory for no more than an element."""
    return as_strided(np.empty(1, array.dtype), array.shape, array.strides, writeable=False)


def spread(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return memory that is laid out like an array, with gaps where it has some."""
    reach = sum([stride * (length - 1) for length, stride in zip(array.shape, array.strides, strict=True)])
    count = reach // array.itemsize + 1 if array.size else 0
    return np.ndarray(array.shape, array.dtype, np.empty(count, array.dtype), 0, array.strides)


def linear(memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the elements of an array in the order in which they lie in memory; of one with gaps (`spread`) the bytes
    from its first element on.
    """
    if memory.flags.c_contiguous:
        return memory
    inner_last = memory.transpose(sorted(range(memory.ndim), key=lambda axis: -memory.strides[axis]))
    if inner_last.flags.c_contiguous:
        return inner_last
    memory_of_all = cast(Any, memory.base).view(np.uint8)
    return memory_of_all[memory.__array_interface__["data"][0] - memory_of_all.__array_interface__["data"][0] :]


def leaves(value: Any) -> Iterator[Any]:
    """Give what lies in nested tuples and lists."""
    if isinstance(value, NESTED) and not isinstance(value, View):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, slice):
        yield from (value.start, value.stop, value.step)
    else:
        yield value


def replaced(value: Any, what: Callable[[Any], Any]) -> Any:
    """Return nested tuples and lists with `what` of all that lies in them."""
    if type(value) is View or not isinstance(value, NESTED):
        return what(value)
    return type(value)([replaced(part, what) if isinstance(part, NESTED) else what(part) for part in value])


def of_each(number: Any, function: Callable[[Any], Any]) -> Any:
    """Return what a function gives for a number, or for each of several."""
    if isinstance(number, SeveralNumbers):
        return SeveralNumbers(list(map(function, number.values)), number.name)
    return function(number)


def shown(value: Any) -> str:
    """Return a value of a statement as text."""
    if isinstance(value, View):
        return (
            value.buffer.name
            if value.whole
            else f"{value.buffer.name}@{value.offset}{list(value.shape)}{value.strides}"
        )
    if isinstance(value, tuple | list):
        inside = ", ".join(map(shown, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    return repr(value)
