"""What a program is made of, as text: what the passes left, what it costs, where results lie, what it holds for.

Note [Costs of a program]
~~~~~~~~~~~~~~~~~~~~~~~~~
Operations are counted as in Note [FLOPs], but by statement, so that backward passes and updates count too: a product
of matrices counts a multiplication and an addition for each pair of factors, arithmetic one operation for every
element that it reads or makes, whichever are more, and what only moves elements none. Bytes are those that a statement
reads and writes, each element once. Whether they come from main memory or from a cache is not looked at.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from nanotorch.backend.numpy_backend import owner
from nanotorch.backend.primitives import PRIMITIVES
from nanotorch.capture.numpy_calls import FORMS
from nanotorch.capture.numpy_code import NumpyCode
from nanotorch.capture.page import WIDTH, decided, sections
from nanotorch.capture.program import Program, Statement, View

if TYPE_CHECKING:
    from nanotorch.capture.table.table_code import TableCode

ARITHMETIC = {"operators", "elementwise", "reduce", "scan", "linalg"}
"""Sections of primitives that compute; the others move elements, or ask."""
PRODUCTS = {"matmul", "dot", "matmul into"}
MOVING = {"getitem", "astype", "where", "assign", "take from", "below"}


class Part(NamedTuple):
    """Statements of one operator within a section of a step, with their operations and bytes."""

    section: str
    row: str
    statements: int
    flops: int
    bytes: int


class Explanation:
    """What a program is and costs; its text is what `print` shows.

    Args:
        code: the program after all passes, as it runs.
        held: what it holds for, beside the decisions that it took.
        because: why it was recorded.
        backwards: what is to be said of the programs of its backward passes, where it is differentiated through.

    Attributes:
        parts: its statements by section and operator (Note [Costs of a program]).
        flops: of a step, and
        bytes: that a step reads and writes.
        temporaries: bytes of memory that results of the program lie in, set apart once, and
        allocated: bytes that the eager step allocates for results, in every step.
        left: by pass how many statements there were after it.
    """

    def __init__(
        self, code: NumpyCode | TableCode, held: Sequence[str], because: str, backwards: Sequence[Explanation] = ()
    ) -> None:
        self.program, self.held, self.because, self.backwards = code.program, held, because, backwards
        program = self.program
        self.left, self.allocated = program.left, program.allocated
        self.parts = parts(program)
        self.flops = sum([part.flops for part in self.parts])
        self.bytes = sum([part.bytes for part in self.parts])
        self.temporaries = _bytes_of_temporaries(program, code.arrays)
        self.ran = _of_numpy(code) if isinstance(code, NumpyCode) else _of_table(code)

    def __str__(self) -> str:
        forms = ", ".join([f"{b.name} {b.array.shape} {b.array.dtype}" for b in self.program.inputs])
        counts = [*self.left.items()]
        rounds = [f"{count} recorded" for _, count in counts[:1]]
        for (_, before), (name, after) in pairwise(counts):
            rounds += [f"{before - after} {name}"] if before > after else []
        rounds.append(f"{len(self.program.statements)} left")
        memory = f"{amount(self.temporaries)} of results, set apart once"
        memory += f"; eager allocates {amount(self.allocated)} a call" if self.allocated else ""
        lines = [
            *_entry("program for", forms or "no tensors"),
            *_entry("recorded", self.because),
            *_entry("statements", ", ".join(rounds)),
            *_entry("run by", self.ran),
            *_entry("memory", memory),
            *_entry("holds for", "; ".join([*self.held, *decided(self.program)])),
            "",
            f"{'':<34}{'statements':>10}{'operations':>13}{'bytes':>12}{'op/byte':>9}",
        ]
        section = ""
        for part in self.parts:
            if part.section != section:
                lines.append(section := part.section)
            lines.append(_row(f"  {part.row or 'memory'}", part.statements, part.flops, part.bytes))
        lines.append(_row("in all", len(self.program.statements), self.flops, self.bytes))
        return "\n".join([*lines, *[f"\nbackward\n{part}" for part in self.backwards]])

    __repr__ = __str__


def parts(program: Program) -> list[Part]:
    """Return the statements of a program by section and operator, in the order in which these begin."""
    found: dict[tuple[str, str], list[Statement]] = {}
    for statement, section in zip(program.statements, sections(program), strict=True):
        row = statement.row.removesuffix(" backward").lstrip("_")
        found.setdefault((section, row), []).append(statement)
    return [
        Part(section, row, len(group), sum(map(operations, group)), sum(map(bytes_moved, group)))
        for (section, row), group in found.items()
    ]


def operations(statement: Statement) -> int:
    """Return how many operations a statement takes (Note [Costs of a program])."""
    name = statement.primitive
    if name in PRODUCTS:
        return 2 * statement.out[0].size * statement.args[0].shape[-1]
    if name == "einsum":
        return _einsum(*statement.args)
    section = PRIMITIVES[name].section if name in PRIMITIVES else ""
    if name in MOVING or (section not in ARITHMETIC and name not in FORMS):
        return 0
    return max([view.size for view in (*statement.out, *statement.reads)], default=0)


def _einsum(equation: str, *operands: View) -> int:
    lengths = {
        letter: length
        for letters, view in zip(equation.partition("->")[0].split(","), operands, strict=True)
        for letter, length in zip(letters.strip(), view.shape, strict=True)
    }
    return 2 * math.prod(lengths.values())


def bytes_moved(statement: Statement) -> int:
    """Return how many bytes a statement reads and writes."""
    views = {*statement.reads, *statement.out}
    return sum([view.dtype.itemsize * math.prod(_lengths(view)) for view in views])


def _lengths(view: View) -> list[int]:
    """Return the lengths of axes over which a view sees other elements."""
    return [length for length, step in zip(view.shape, view.strides, strict=True) if step or length == 0]


def _bytes_of_temporaries(program: Program, arrays: Mapping[Any, Any]) -> int:
    memory = [owner(array) for buffer, array in arrays.items() if buffer.kind == "temporary"]
    return sum({id(array): array.nbytes for array in memory}.values())


def _of_numpy(code: NumpyCode) -> str:
    plan = code.plan
    found = f"numpy: {len(code.calls.done)} calls, {len(plan.roots)} results over an operand"
    if plan.runs:
        blocked = sum([run.stop - run.start for run in plan.runs])
        found += f", {blocked} calls in {len(plan.runs)} loops over blocks"
    return found


def _of_table(code: TableCode) -> str:
    fused = [len(item.statements) for item in code.items if len(item.statements) > 1]
    outside = len([span for span in code.spans if isinstance(span, Statement)])
    return (
        f"table: {len(code.items)} instructions, {len(fused)} of them of {sum(fused)} statements fused; "
        f"{outside} statements by NumPy"
    )


def amount(size: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _row(name: str, statements: int, flops: int, size: int) -> str:
    share = f"{flops / size:.2f}" if size else "-"
    return f"{name:<34}{statements:>10}{flops:>13,}{size:>12,}{share:>9}"


def _entry(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:<13}", subsequent_indent=" " * 13)
