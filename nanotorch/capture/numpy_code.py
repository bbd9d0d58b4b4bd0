"""A program as straight-line NumPy: the same calls as in the eager step, into memory that was set apart once.

Note [NumPy programs]
~~~~~~~~~~~~~~~~~~~~~
A call (Note [NumPy calls]) becomes a line of Python that writes into the memory of its result (Note [Plan of memory]);
any other primitive is called as the eager step calls it, and its result is copied there. So every primitive has code,
and all give the bits that eager gives. Calls that run in blocks stand in a loop over the blocks (Note [Blocks]).

All views are made when the program is bound, none while it runs. A number beside an array, such as a learning rate,
is held in an array of no dimension: NumPy takes half a microsecond to make one of a Python number, at every call.

The text is there to be read: names come from the names of parameters and ops, shapes stand behind the lines and the
user's lines above them.
"""

from __future__ import annotations

import builtins
import functools
import keyword
import linecache
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from nanotorch.backend.numpy_backend import NUMPY
from nanotorch.capture.memory_plan import MemoryPlan, Run
from nanotorch.capture.numpy_calls import BITS, ELEMENTWISE, FORMS, OF_NUMPY, Calls
from nanotorch.capture.program import Buffer, HostNumber, Program, Statement, View, spread

SPELLED = {bool, int, str, type(None), slice, type(...)}
OUT_BY_NAME = {"maximum", "minimum"}
RESERVED = {
    *[*keyword.kwlist, *dir(builtins), *ELEMENTWISE.values(), *[f.__name__ for f in OF_NUMPY.values()]],
    *["check", "decided", "failed", "ndarray", "part", "scalars", "step"],
}
UNWRITTEN = {"empty", "empty_like", "empty_strided"}
"""Primitives whose results are to be written: what is there before means nothing."""
LEAF = re.compile(r"scalars\[(\d+)\]\['(\w+)'\](?:\[(\d+)\])?")
COPIED = 1 << 14
"""Bytes of an argument up to which copying it takes less time than to make a view of it."""

COMPARED = 1 << 16
"""Bytes that are compared at once, so that they stay in the cache."""


class NumpyCode:
    """Write a program out.

    Args:
        program: what is written.
        kept: temporary buffers whose memory others know: it stays where it was when the step was recorded.

    Attributes:
        text: the code: a function `step(*inputs, scalars)`, and `decided(scalars)`.
        plan: where temporary buffers lie.
    """

    def __init__(self, program: Program, kept: Collection[Buffer]) -> None:
        self.program, self.kept = program, kept
        self.calls = Calls(program.statements)
        self.plan = MemoryPlan(self.calls.done, program.outputs, kept)
        self.arrays = self.plan.memory()
        self.known: dict[str, Any] = {"failed": CheckFailedError(), **program.sources}  # what the text names
        self.names: dict[Buffer, str] = {}
        self.views: dict[tuple[Any, ...], str] = {}
        self.numbers: dict[str, str] = {}
        self.copied: dict[str, str] = {}
        self.shown: dict[str, Buffer] = {}
        self._name_all()
        self.lines = self._all_lines()
        self.loops = {run: self._bind_blocks(run) for run in self.plan.runs}
        self.text = self._whole(checked=False)

    # ------------------------------------------------------------------------------------------------------ memory

    def _name_all(self) -> None:
        """Give every buffer a name and memory."""
        paths = [buffer.name for buffer in self.program.buffers if buffer.kind == "memory"]
        taken = {*RESERVED, *self.program.sources}
        for buffer in [*self.program.buffers, *self.calls.buffers]:
            if buffer.kind == "input":
                self.arrays[buffer] = spread(buffer.array)  # a copy, where a part of it is asked for
            elif buffer not in self.arrays:
                self.arrays[buffer] = buffer.array
            if buffer.kind != "temporary" or buffer in self.calls.buffers:
                wish = short_path(buffer.name, paths) if buffer.kind == "memory" else buffer.name
                self.names[buffer] = free_name(wish, taken)
        for call in self.calls.done:
            for view in call.out:
                root = self.plan.root(view.buffer)
                if root not in self.names:
                    row = call.row.removeprefix("_")
                    wish = f"grad_{row.removesuffix(' backward')}" if row.endswith(" backward") else row
                    if "." in root.name:  # memory that lived on, and is the program's own now
                        wish = root.name.rpartition(".")[2]
                    self.names[root] = free_name(wish or call.primitive, taken)
                self.names.setdefault(view.buffer, self.names[root])
        self.taken = taken

    def name(self, view: View, kind: Any = None, run: Run | None = None) -> str:
        """Return the name of a view, or of the memory as another dtype, within a run that of its rows in a block."""
        name = self._bound_name(view, kind)
        return f"{name}_rows" if run is not None and run.varies(view) else name

    def _bound_name(self, view: View, kind: Any) -> str:
        root = self.plan.root(view.buffer)
        name = self.names[view.buffer]
        kind = None if kind is not None and np.dtype(kind) == view.dtype else kind
        if kind is None and view.whole and View(root, *view[1:]).whole and root.array.dtype == view.dtype:
            if view.buffer.kind != "input" and name not in self.known:
                self.known[name], self.shown[name] = self.arrays[view.buffer], view.buffer
            return name
        key = (root, view.offset, view.shape, view.strides, view.dtype, kind)
        if key not in self.views:
            flipped = view.shape == root.array.shape[::-1] and len(view.shape) == 2 and not view.offset
            end = f"as_{kind}" if kind else "T" if flipped else "flat" if len(view.shape) == 1 else "part"
            self.views[key] = named = free_name(f"{name}_{end}", self.taken)
            if view.buffer.kind == "input" and view.buffer.array.nbytes <= COPIED:
                if name not in self.copied:
                    self.copied[name] = free_name(f"{name}_copy", self.taken)
                self.known[self.copied[name]] = self.arrays[view.buffer]
            array = view.of(self.arrays[view.buffer])
            self.known[named] = array if kind is None else array.view(kind)
        return self.views[key]

    # ----------------------------------------------------------------------------------------------------- numbers

    def number(self, value: Any, beside: Collection[View]) -> str:
        """Return a number as code: beside arrays of one kind of floats as an array of no dimension."""
        kinds = {view.dtype for view in beside}
        plain = value.value if isinstance(value, HostNumber) else value
        if len(kinds) != 1 or next(iter(kinds)).kind != "f" or type(plain) not in (int, float):
            return self.term(value)
        kind = next(iter(kinds))
        if isinstance(value, HostNumber):
            name = f"{self.term(value)}_{kind}"
            self.known.setdefault(name, np.empty((), kind))
            return name
        name = re.sub(r"\W", "_", f"number_{plain}".replace("-", "minus_"))
        name = name if kind == np.float32 else f"{name}_{kind}"
        self.known.setdefault(name, np.array(plain, kind))
        return name

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
        name = re.sub(r"\W+", "_", f"the_{value}" if isinstance(value, float | np.generic | np.dtype) else "constant")
        while name in self.known and self.known[name] is not value and repr(self.known[name]) != repr(value):
            name += "_"
        self.known[name] = value
        return name

    # ------------------------------------------------------------------------------------------------------- lines

    def _call(self, call: Statement, run: Run | None) -> list[str]:
        """Return the lines of a call."""
        name = call.primitive
        ufunc = ELEMENTWISE.get(name)
        if ufunc is not None and len(call.out) == 1 and not call.options:
            self.known.setdefault(ufunc, getattr(np, ufunc))
            given = [
                self.name(arg, None, run) if isinstance(arg, View) else self.number(arg, call.reads)
                for arg in call.args
            ]
            out = self.name(call.out[0], None, run)
            return [f"{ufunc}({', '.join(given)}, {'out=' if ufunc in OUT_BY_NAME else ''}{out})"]
        if name in FORMS:
            return [self._form(call, run)]
        given = [*map(self.term, call.args), *[f"{n}={self.term(value)}" for n, value in call.options.items()]]
        self.known[f"do_{name}"] = NUMPY[name]
        line = f"{given[0]} ** {given[1]}" if name == "power" else f"do_{name}({', '.join(given)})"
        if not call.out:
            return [f"if {line} is not {call.expected}: raise failed"]
        if len(call.out) == 1:
            return [f"{self.name(call.out[0])}[...] = {line}"]
        parts = ", ".join([f"part{k}" for k in range(len(call.out))])
        return [f"{parts} = {line}", *[f"{self.name(out)}[...] = part{k}" for k, out in enumerate(call.out)]]

    def _form(self, call: Statement, run: Run | None) -> str:
        form = FORMS[call.primitive]
        if call.primitive in OF_NUMPY:
            function = OF_NUMPY[call.primitive]
            self.known.setdefault(function.__name__, function)
        named: dict[str, str] = {}
        if "{out}" in form:
            named["out"] = self.name(call.out[0], None, run)
        if "{bits}" in form:
            kind = f"i{call.out[0].dtype.itemsize}"
            views = {"bits": call.out[0], "bits0": call.args[0], "bits1": call.args[1]}
            named |= {place: self.name(view, kind, run) for place, view in views.items()}
        if "{unsigned0}" in form:
            named["unsigned0"] = self.name(call.args[0], "u8")
        given = [
            "" if f"{{{k}}}" not in form else self.name(arg, None, run) if isinstance(arg, View) else self.term(arg)
            for k, arg in enumerate(call.args)
        ]
        line = form.format(*given, **named)
        return line if call.out else f"if not {line}: raise failed"

    def _all_lines(self) -> list[tuple[str, list[str], int | None, str, Run | None]]:
        """Return for every call its source, its lines, the statement that is complete then, its result and its run."""
        run_of = {k: run for run in self.plan.runs for k in range(run.start, run.stop)}
        found = []
        for number, (call, complete) in enumerate(zip(self.calls.done, self.calls.completed, strict=True)):
            source = f"{call.line}  {call.row}".strip()
            run = run_of.get(number)
            found.append(
                (source, self._call(call, run), complete, self.name(call.out[0], None, run) if call.out else "", run)
            )
        return found

    def _whole(self, checked: bool) -> str:
        calls, before = self.calls.done, ""
        body: list[str] = []
        loop: Run | None = None
        for (source, lines, complete, result, run), call in zip(self.lines, calls, strict=True):
            if run is not loop:
                loop = run
                if run is not None:
                    number, names = self.plan.runs.index(run), self.loops[run]
                    of = (
                        f"part, ({names},) in zip(parts{number}, blocks{number})"
                        if checked
                        else f"{names}, in blocks{number}"
                    )
                    body.append(f"for {of}:  # {len(run.parts())} blocks of {run.shape}")
                    before = ""
            indent = "    " if run else ""
            if source != before:
                body.append(f"{indent}# {source}")
                before = source
            shape = f"  # {call.out[0].shape}" if call.out else ""
            body += [f"{indent}{line}{shape}" for line in lines]
            if checked and complete is not None:
                body.append(f"{indent}check({complete}, {f'{result}, part' if run else 'None, None'})")
        head = [f"{copy}[...] = {name}" for name, copy in self.copied.items()]
        head += self._views_of_inputs()
        head += host_lines(self.numbers)
        for name in self.known:
            of = name.rpartition("_")[0]
            if of in self.numbers.values():
                head.append(f"{name}[()] = {of}")
        inputs = [self.names[buffer] for buffer in self.program.inputs]
        results = "".join(f"{self.name(view)}.copy(), " for view in self.program.outputs)
        decided = [f"{code} == {answer!r}" for code, answer in self.program.decisions.items()]
        memory = [f"# {name}: {b.kind}, {b.array.dtype} {b.array.shape}" for name, b in self.shown.items()]
        text = [*memory, f"def step({', '.join([*inputs, 'scalars'])}):", *[f"    {line}" for line in [*head, *body]]]
        text += [f"    return ({results})", "def decided(scalars):", f"    return {' and '.join(decided) or True}"]
        return "\n".join(text) + "\n"

    def _views_of_inputs(self) -> list[str]:
        """Return lines that make views of large arguments."""
        lines = []
        for (buffer, offset, shape, strides, dtype, kind), name in self.views.items():
            if buffer.kind != "input" or self.names[buffer] in self.copied:
                continue
            given, width = self.names[buffer], buffer.array.itemsize
            if not buffer.array.flags.c_contiguous:
                self.known[f"{given}_copy"] = self.arrays[buffer]
                lines.append(f"{given}_copy[...] = {given}")
                continue
            self.known["ndarray"], self.known[f"{name}_dtype"] = np.ndarray, np.dtype(kind or dtype)
            apart = tuple([step * width for step in strides])
            lines.append(f"{name} = ndarray({shape}, {name}_dtype, {given}, {offset * width}, {apart})")
        return list(dict.fromkeys(lines))

    def _bind_blocks(self, run: Run) -> str:
        """Bind what a loop over the blocks of a run goes through; return its head."""
        parts, columns = run.parts(), {}
        for call in self.calls.done[run.start : run.stop]:
            kind = f"i{call.out[0].dtype.itemsize}" if call.primitive in BITS else None
            for view in (*call.reads, *call.out):
                if run.varies(view):
                    columns[self.name(view, kind, run)] = self._blocks(run, view, kind)
            columns[self.name(call.out[0], None, run)] = self._blocks(run, call.out[0], None)
        number = self.plan.runs.index(run)
        self.known[f"blocks{number}"] = list(zip(*columns.values(), strict=True))
        self.known[f"parts{number}"] = parts
        return ", ".join(columns)

    def _blocks(self, run: Run, view: View, kind: Any) -> list[Any]:
        array = view.of(self.arrays[view.buffer])
        array = array if kind is None else array.view(kind)
        if self.plan.root(view.buffer) in self.plan.local:
            return [array[: len(range(*part.indices(run.shape[0])))] for part in run.parts()]
        return [array[part] for part in run.parts()]

    def build(self) -> tuple[Callable[..., Any], Callable[..., bool]]:
        """Return `step(*inputs, scalars)`, and `decided(scalars)`, whether it is the program for them."""
        bound = self._bound(self.text)
        return bound["step"], bound["decided"]

    def check(self, inputs: list[Any], scalars: Any) -> Statement | None:
        """Run the program once, and return the first statement that does not give what it gave when it was recorded."""

        def check(number: int, block: Any, part: slice | None) -> None:
            statement = self.program.statements[number]
            outs = [view.of(self.arrays[view.buffer]) for view in statement.out] if part is None else [block]
            if not is_as_recorded(statement, outs, part):
                raise _DifferenceError(statement)

        try:
            self._bound(self._whole(checked=True), check=check)["step"](*inputs, scalars)
        except _DifferenceError as error:
            different: Statement = error.args[0]
            return different
        return None

    def _bound(self, text: str, **more: Any) -> dict[str, Any]:
        name = f"<captured step {id(self):x}>"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        namespace = {"__name__": "nanotorch.capture.step", **self.known, **more}
        exec(compile(text, name, "exec"), namespace)
        return namespace


def short_path(path: str, paths: Collection[str]) -> str:
    """Return the end of a path by which it is known among others, beginning with a word."""
    parts, others = path.split("."), tuple(paths)
    for count in range(1, len(parts) + 1):
        end = parts[-count:]
        if end[0].isidentifier() and _ends(others, count)[tuple(end)] == 1:
            return "_".join(end)
    return "_".join(parts)


@functools.lru_cache(8)
def _ends(paths: tuple[str, ...], count: int) -> Counter[tuple[str, ...]]:
    """Return how often paths end with the same names."""
    return Counter([tuple(path.split(".")[-count:]) for path in paths])


def free_name(wish: str, taken: set[str]) -> str:
    """Return a name that is not taken yet, and take it."""
    wish = re.sub(r"\W", "_", wish)
    wish = f"_{wish}" if wish[:1].isdigit() else wish
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    taken.add(name)
    return name


def host_lines(numbers: dict[str, str]) -> list[str]:
    """Return lines that compute numbers of the host; what several have in common is computed once."""
    codes = {name: code for code, name in numbers.items()}
    short: dict[str, str] = {}

    def leaf(match: re.Match[str]) -> str:
        call, name, part = match.groups()
        return short.setdefault(match[0], f"{name}{'' if part is None else part}_{call}")

    codes = {name: LEAF.sub(leaf, code) for name, code in codes.items()}
    lines = [f"{name} = {code}" for code, name in short.items()]
    for count in range(1000):
        uses = Counter([part for code in codes.values() for part in _terms(code)])
        shared = min([part for part, times in uses.items() if times > 1], key=len, default=None)
        if shared is None:
            break
        codes = {name: code.replace(shared, f"shared{count}") for name, code in codes.items()}
        lines.append(f"shared{count} = {shared}")
    return [*lines, *[f"{name} = {code}" for name, code in codes.items()]]


def host_function(codes: Sequence[str], sources: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
    """Return a function of the scalars of a program, and of what gives its seeds, that computes numbers of the host."""
    namespace: dict[str, Any] = {"__name__": "nanotorch.capture.step"}
    exec(
        f"def numbers({', '.join(['scalars', *sources])}):\n    return ({''.join(f'{c}, ' for c in codes)})", namespace
    )
    return namespace["numbers"]


def _terms(code: str) -> list[str]:
    """Return what stands in parentheses and computes something."""
    found, open_at = [], []
    for place, letter in enumerate(code):
        if letter == "(":
            open_at.append(place)
        elif letter == ")":
            part = code[open_at.pop() : place + 1]
            if " " in part:
                found.append(part)
    return found


def is_as_recorded(statement: Statement, outs: Sequence[Any], part: slice | None = None) -> bool:
    """Whether arrays hold what a statement gave when it was recorded, or a part of its rows."""
    if statement.primitive in UNWRITTEN or not statement.result:
        return True
    results = statement.result if part is None else [result[part] for result in statement.result]
    return all(map(same_bits, outs, results))


def same_bits(one: Any, other: Any) -> bool:
    """Whether two arrays hold the same: NaN is NaN, and -0.0 is not 0.0."""
    if _same_bytes(one, other):
        return True
    if one.dtype.kind != "f" or not np.array_equal(one, other, equal_nan=True):
        return False
    return bool(np.array_equal(np.signbit(one) & (one == 0), np.signbit(other) & (other == 0)))


def _same_bytes(one: Any, other: Any) -> bool:
    """Whether two arrays hold the same bytes, compared some rows after the others: none needs memory for all."""
    if one.nbytes <= COMPARED or one.shape != other.shape:
        return bool(one.tobytes() == other.tobytes())
    rows = COMPARED * len(one) // one.nbytes
    if rows <= 1:
        return all(map(_same_bytes, one, other))
    starts = range(0, len(one), rows)
    return all([one[start : start + rows].tobytes() == other[start : start + rows].tobytes() for start in starts])


class CheckFailedError(Exception):
    """A question got another answer than when the step was recorded."""


class _DifferenceError(Exception):
    """A statement gave something else than when it was recorded."""
