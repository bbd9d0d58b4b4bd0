"""A program as a page to read: every statement with its shape, below the line of the user that ran it.

Note [Pages]
~~~~~~~~~~~~
A page is Python: a function of the arguments of the step, in which `xp` has the array primitives (Note [Array
primitives]) and memory that lives on goes by the names of parameters and of the optimizer's state. A test runs the page
of a step and demands the step's bits. It says what is computed, in which order and of what; where a result lies, and
which statements run together, is the business of the backend, which `explain` reports on.

A result is called as the operator that it is the result of, or as the primitive if only that operator reads it; a
gradient that a parameter keeps is called after the parameter.
"""

from __future__ import annotations

import ast
import inspect
import keyword
import linecache
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.primitives import OPERATORS
from nanotorch.capture.numpy_code import LEAF, free_name, short_path
from nanotorch.capture.program import Buffer, HostNumber, Program, Statement, View, steps
from nanotorch.ops.rows.row import ROWS

WIDTH, SHAPES = 80, 60
"""Columns of a page, and that in which shapes stand."""
LONG = 40
"""Letters of a number of the host that gets a line of its own."""
SYMBOLS = {form.partition("(")[0]: text.partition(" of ")[0] for form, (text, _) in OPERATORS.items()}
"""By primitive how an operator is spelled, of `x` and `y`."""
IN_PLACE = {"add": "+=", "subtract": "-=", "multiply": "*=", "divide": "/="}


class Page:
    """Write a program out to be read (Note [Pages]).

    Args:
        program: after all passes.
        memory: by path where tensors lie that live on, and
        grads: where their gradients stay.

    Attributes:
        text: the page.
        arrays: by the name that stands in it the arrays that live on, and the constants.
        numbers: by the code of a number that the optimizer passes its name.
        sections: of each statement: "checks", "forward", "backward" or "update".
    """

    def __init__(self, program: Program, memory: Mapping[str, View], grads: Mapping[str, View]) -> None:
        self.program = program
        self.sections = sections(program)
        self.arrays: dict[str, Any] = {}
        self._names: dict[Buffer, str] = {}
        self.numbers: dict[str, str] = {}
        self._lengthy: dict[str, str] = {}
        self._before: list[str] = []
        self._taken = {*keyword.kwlist, "xp", "view", "dtype"}
        self._parts: dict[View, str] = {}
        self._used: set[str] = set()
        self._constants: list[str] = []
        self._name_memory(memory)
        self._name_results({view.buffer: path for path, view in grads.items() if view.whole})
        body = self._body()
        self.text = "\n".join([*self._head(), *body]) + "\n"

    # ------------------------------------------------------------------------------------------------------- names

    def _name_memory(self, memory: Mapping[str, View]) -> None:
        program = self.program
        for buffer in program.inputs:
            self._names[buffer] = free_name(buffer.name, self._taken)
        views = [view for statement in program.statements for view in (*statement.reads, *statement.out)]
        used = [*dict.fromkeys([view.buffer for view in (*views, *program.outputs)])]
        lasting = [buffer for buffer in used if buffer.kind == "memory"]
        whole = {view.buffer: path for path, view in memory.items() if view.whole}
        paths = [whole.get(buffer, buffer.name) for buffer in lasting]
        for buffer, path in zip(lasting, paths, strict=True):
            self._names[buffer] = name = free_name(short_path(path, paths), self._taken)
            self.arrays[name] = buffer.array
        for path, view in memory.items():
            if not view.whole and view.buffer in used:
                self._parts[view] = free_name(short_path(path, [*memory]), self._taken)

    def _name_results(self, kept: Mapping[Buffer, str]) -> None:
        statements = self.program.statements
        readers: dict[Buffer, set[str]] = {}
        for statement in statements:
            for view in statement.reads:
                readers.setdefault(view.buffer, set()).add(statement.row)
        for view in self.program.outputs:
            readers.setdefault(view.buffer, set()).add("return")
        for statement in statements:
            for view in statement.out:
                if view.buffer.kind != "temporary" or view.buffer in self._names:
                    continue
                row = statement.row.lstrip("_")
                if "." in view.buffer.name:  # memory that lived on, and is the program's own now
                    wish = view.buffer.name.rpartition(".")[2]
                elif view.buffer in kept:
                    wish = f"{short_path(kept[view.buffer], [*kept.values()])}_grad"
                elif readers.get(view.buffer, set()) <= {statement.row} or not row:
                    wish = statement.primitive
                else:
                    wish = f"grad_{row.removesuffix(' backward')}" if row.endswith(" backward") else row
                self._names[view.buffer] = free_name(wish, self._taken)

    def _number(self, code: str) -> str:
        """Return a number of the host as code that calls what the optimizer passes by its name."""

        def leaf(match: re.Match[str]) -> str:
            call, name, part = match.groups()
            key = f"scalars[{call}][{name!r}]"
            if key not in self.numbers:
                self.numbers[key] = free_name(name, self._taken)
            return self.numbers[key] + ("" if part is None else f"[{part}]")

        return ast.unparse(ast.parse(LEAF.sub(leaf, code), mode="eval"))

    def spelled(self, value: Any) -> str:
        """Return an argument as code."""
        if isinstance(value, View):
            return self._view(value)
        if isinstance(value, HostNumber):
            code = self._number(value.code)
            if len(code) <= LONG:
                return code
            if code not in self._lengthy:
                self._lengthy[code] = name = free_name("number", self._taken)
                self._before.append(f"{name} = {code}")
            return self._lengthy[code]
        if isinstance(value, tuple | list):
            inside = ", ".join(map(self.spelled, value))
            return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
        if isinstance(value, np.dtype):
            return f"dtype({value.name!r})"
        if isinstance(value, slice):
            return f"slice({value.start}, {value.stop}, {value.step})"
        if value is ...:
            return "..."
        if isinstance(value, bool | int | str | None) or (type(value) is float and math.isfinite(value)):
            return repr(value)
        name = free_name("constant", self._taken)
        self.arrays[name] = value
        return name

    def _view(self, view: View) -> str:
        buffer = view.buffer
        if buffer.kind == "constant" and buffer not in self._names:
            value = buffer.array
            if value.ndim == 0 and value.dtype.kind == "f" and np.isfinite(value):
                return repr(value.item())
            self._names[buffer] = name = free_name("constant", self._taken)
            self._constants.append(f"{name} {_form(View(buffer, 0, value.shape, steps(value)))}")
            self.arrays[name] = value
        for part, name in self._parts.items():
            if part[:2] == view[:2] and (part == view or _reversed(view, part.shape, part.strides)):
                self._used.add(name)
                return name if part == view else f"{name}.T"
        name, array = self._names[buffer], buffer.array
        if view.whole:
            return name
        if not view.offset and _reversed(view, array.shape, steps(array)):
            return f"{name}.T"
        if array.flags.c_contiguous and view.size:
            to = ", ".join(map(str, view.shape)) or "()"
            if _contiguous(view) and view.size == array.size:
                return f"{name}.reshape({to})"
            if _contiguous(view) and array.ndim == 1:
                piece = f"{name}[{view.offset}:{view.offset + view.size}]"
                return piece if len(view.shape) == 1 else f"{piece}.reshape({to})"
            if view.strides == steps(array):
                return f"{name}[{_slices(view)}]"
        return f"view({name}, {view.offset}, {view.shape}, {view.strides})"

    # ------------------------------------------------------------------------------------------------------- lines

    def _head(self) -> list[str]:
        program = self.program
        shaped = [(b, f"{name} {_form(_all_of(b))}") for b, name in self._names.items()]
        lines = _wrapped("takes: ", [form for b, form in shaped if b.kind == "input"])
        lines += _wrapped("lives on: ", [form for b, form in shaped if b.kind == "memory"])
        lines += _wrapped("constants: ", self._constants)
        numbers = [*self.numbers.values(), *program.sources]
        lines += _wrapped("holds while: ", decided(program))
        given = [*[self._names[b] for b in program.inputs], *(["*"] if numbers else []), *numbers]
        lines.append(f"def step({', '.join(given)}):")
        parts, self._parts = self._parts, {}
        used = [(name, view) for view, name in parts.items() if name in self._used]
        return [*lines, *[_beside(f"    {name} = {self._view(view)}", _form(view)) for name, view in used]]

    def _body(self) -> list[str]:
        lines: list[str] = []
        section = place = ""
        several = len({*self.sections}) > 1
        made: set[Buffer] = set()
        for statement, now in zip(self.program.statements, self.sections, strict=True):
            if now != section and several:
                lines += ["", f"    # {f' {now} '.center(WIDTH - 8, '-')}"]
                place = ""
            if statement.line != place:
                lines.append(_source(statement.line))
            section, place = now, statement.line
            *before, last = self._lines(statement, made)
            lines += [*[f"    {line}" for line in before], _beside(f"    {last}", _form(*statement.out))]
            made.update([view.buffer for view in statement.out])
        results = ", ".join(map(self._view, self.program.outputs))
        return [*lines, _beside(f"    return {results}", _form(*self.program.outputs))]

    def _lines(self, statement: Statement, made: set[Buffer]) -> list[str]:
        """Return the line of a statement, below those of the long numbers that it needs."""
        self._before = []
        line = self._line(statement, made)
        return [*self._before, line]

    def _line(self, statement: Statement, made: set[Buffer]) -> str:
        name, out = statement.primitive, statement.out
        if not out:
            call = self._call(statement)
            return f"assert {call}" if statement.expected is True else f"assert {call} is {statement.expected}"
        if len(out) > 1:
            return f"{', '.join(map(self._view, out))} = {self._call(statement)}"
        [place] = out
        target = self._view(place)
        if place.buffer.kind == "temporary" and place.buffer not in made and not place.whole:
            whole = _all_of(place.buffer)
            self._before.append(f"{self._view(whole)} = xp.empty({whole.shape}, {self.spelled(whole.dtype)})")
        if place.buffer.kind == "temporary" and place.buffer not in made and place.whole:
            return f"{target} = {self._call(statement)}"
        if name in IN_PLACE and statement.args[0] == place and target.isidentifier() and place.shape:
            return f"{target} {IN_PLACE[name]} {self.spelled(statement.args[1])}"
        return f"{target}{'' if target.endswith(']') else '[...]'} = {self._call(statement)}"

    def _call(self, statement: Statement) -> str:
        name, args = statement.primitive, statement.args
        if name == "write":
            return self.spelled(args[0])
        if name in SYMBOLS and not statement.options and name != "getitem":
            terms = dict(zip("xy", map(self._operand, args), strict=False))
            return re.sub(r"\b[xy]\b", lambda match: terms[match[0]], SYMBOLS[name])
        given = [*map(self.spelled, args), *[f"{n}={self.spelled(v)}" for n, v in statement.options.items()]]
        return f"xp.{name}({', '.join(given)})"

    def _operand(self, value: Any) -> str:
        code = self.spelled(value)
        return f"({code})" if " " in code and isinstance(value, HostNumber) else code


def name_inputs(program: Program, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Call the inputs of a program as the function calls the arguments that they are."""
    try:
        parameters = list(inspect.signature(getattr(function, "forward", function)).parameters.values())
    except ValueError:
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names += [f"input{position}" for position in range(len(names), len(args))]
    found: list[str] = []

    def walk(name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(name)
        elif isinstance(value, tuple | list):
            for number, part in enumerate(value):
                walk(f"{name}_{number}", part)
        elif isinstance(value, dict):
            for key, part in value.items():
                walk(f"{name}_{key}", part)

    for name, value in (*zip(names, args, strict=False), *kwargs.items()):
        walk(name, value)
    for buffer, name in zip(program.inputs, found, strict=True):
        buffer.name = name


def sections(program: Program) -> list[str]:
    """Return for every statement of which part of a step it is.

    What has no operator of its own, as what the engine and optimizers do with memory, belongs to what follows, and so
    do operators between a backward pass and an update, as clipping.
    """
    statements = program.statements
    asked = max([k for k, s in enumerate(statements) if not s.out], default=-1)
    first = min([k for k, s in enumerate(statements) if s.row.endswith(" backward")], default=len(statements))
    found, following, updating = [], "", False
    for number in range(len(statements) - 1, -1, -1):
        row = statements[number].row
        if row.endswith(" backward"):
            following, updating = "backward", False
        elif row and row not in ROWS:
            following, updating = "update", True
        elif row:
            following = "update" if updating and number > first else "forward"
        found.append("checks" if number <= asked else following)
    found.reverse()
    for number, section in enumerate(found):
        found[number] = section or (found[number - 1] if number else "forward")
    return found


def _reversed(view: View, shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    return len(shape) > 1 and view.shape == shape[::-1] and view.strides == strides[::-1]


def _slices(view: View) -> str:
    """Return which part of an array without gaps a view with its strides is."""
    array, left, found = view.buffer.array, view.offset, []
    for length, whole, step in zip(view.shape, array.shape, view.strides, strict=True):
        start, left = divmod(left, step) if step else (0, left)
        found.append(f"{start or ''}:{start + length if start + length < whole else ''}")
    return ", ".join(found)


def _contiguous(view: View) -> bool:
    apart = 1
    for length, step in zip(view.shape[::-1], view.strides[::-1], strict=True):
        if length != 1 and step != apart:
            return False
        apart *= length
    return True


def _all_of(buffer: Buffer) -> View:
    return View(buffer, 0, buffer.array.shape, steps(buffer.array))


def _form(*views: View) -> str:
    """Return shapes, each with its dtype where that is not float32."""
    return ", ".join([f"{v.shape}" + (f" {v.dtype}" if v.dtype != np.float32 else "") for v in views])


def _beside(line: str, form: str) -> str:
    if not form:
        return line
    beside = f"{line:<{SHAPES}}  # {form}"
    return beside if len(beside) <= WIDTH else f"{line}\n{'':<{min(SHAPES, WIDTH - 4 - len(form))}}  # {form}"


def _source(place: str) -> str:
    """Return the line of a user as a comment."""
    path, line = getattr(place, "path", ""), place.rpartition(":")[2]
    source = linecache.getline(path, int(line)).strip() if path else ""
    comment = f"    # {place}: {source}" if source else f"    # {place}"
    return comment if len(comment) <= WIDTH else f"{comment[: WIDTH - 4]} ..."


def _wrapped(title: str, parts: Sequence[str]) -> list[str]:
    """Return a list as lines of comments."""
    text = ", ".join(parts)
    return textwrap.wrap(text, WIDTH, initial_indent=f"# {title}", subsequent_indent="#   ") if parts else []


def decided(program: Program) -> list[str]:
    """Return as conditions what the numbers of the host decided when a program was recorded."""
    found = []
    for code, answer in program.decisions.items():
        code = LEAF.sub(lambda match: match[2], code)
        code = code.removeprefix("bool(").removesuffix(")") if code.startswith("bool(") else code
        found.append(code if answer is True else f"not {code}" if answer is False else f"{code} is {answer!r}")
    return [*dict.fromkeys(found)]
