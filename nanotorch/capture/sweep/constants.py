"""Constants that are others for each of several models, as their rates of dropout.

Note [Constants of models]
~~~~~~~~~~~~~~~~~~~~~~~~~~
Like steps may find other floats (Note [Like steps]): a rate of dropout, a label smoothing, a slope, a value to clip by.
In a program these are constants, and what the host has made of them. Nobody could tell from one recording which of its
constants come from which float; so for each set of floats one step is recorded, once. Where its program is the first
one but for floats, those that differ become `SeveralNumbers`: in NumPy a column, in a table numbers of each model.
Steps whose programs differ in more, as where one asks whether a rate is 1, are groups of their own.

That constants are the same in every call is seen of the first model, whose program is recorded twice; the others run
the same code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from nanotorch.capture.program import HostNumber, Program, Several, SeveralNumbers, Statement, View
from nanotorch.ops.create.random import Generator

GIVEN = re.compile(r"given\d+")  # the number of the call that is this model's


def constants(program: Program) -> list[float]:
    """Return the floats of a program, in their order."""
    return [leaf for statement in program.statements for leaf in statement.leaves() if type(leaf) is float]


def skeleton(program: Program) -> list[str]:
    """Return what two programs have to have in common to be one but for floats."""

    def form(leaf: Any) -> Any:
        if type(leaf) is float:
            return float
        if isinstance(getattr(leaf, "__self__", leaf), Generator | Several):
            return Generator
        if isinstance(leaf, View) and leaf.buffer.kind in ("input", "memory"):  # maybe another row of what all have
            return leaf.buffer.name, leaf.dtype, leaf.shape, leaf.strides
        return leaf if isinstance(leaf, View | HostNumber) else repr(leaf)

    own = [buffer for buffer in program.buffers if buffer.kind != "memory"]
    lines = [f"{buffer.kind} {buffer.name} {buffer.array.dtype.str} {buffer.shape} {buffer.steps}" for buffer in own]
    lines += [buffer.array.tobytes().hex() for buffer in program.buffers if buffer.kind == "constant"]
    for statement in program.statements:
        args, options = statement.replaced(form)
        lines.append(f"{[*map(form, statement.out)]} {statement.expected} = {statement.primitive} {args} {options}")
    lines.append(f"{program.decisions} {[*program.sources]} {[*map(form, program.outputs)]}")
    return [GIVEN.sub("given", line) for line in lines]


def put_in(program: Program, each: Sequence[Sequence[float]]) -> None:
    """Put the constants of all models into the program of the first one."""
    known: dict[tuple[str, ...], SeveralNumbers] = {}

    def several(values: Sequence[float]) -> Any:
        spelled = tuple(map(repr, values))
        if len({*spelled}) == 1:
            return values[0]
        return known.setdefault(spelled, SeveralNumbers(values, f"each{len(known)}"))

    found: Iterator[Any] = iter([several(values) for values in zip(*each, strict=True)])

    def put(leaf: Any) -> Any:
        return next(found) if type(leaf) is float else leaf

    for statement in program.statements:
        statement.args, statement.options = statement.replaced(put)


def has_several(statement: Statement) -> bool:
    """Return whether a statement has a constant that is another one for each model."""
    return any(isinstance(leaf, SeveralNumbers) for leaf in statement.leaves())
