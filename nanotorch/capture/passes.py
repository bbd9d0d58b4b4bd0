"""What makes a recorded program smaller without changing a bit of what it computes.

Each pass takes a program apart and asks of its statements only what they read and write (Note [Captured programs]).
None knows an op: constants are the results of the recording, and a sum stays the sum that it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import numpy as np

from nanotorch.backend.primitives import PRIMITIVES
from nanotorch.capture.program import Buffer, HostNumber, Program, Several, Statement, View, shown
from nanotorch.capture.recorder import CaptureError

DRAWS = frozenset(name for name, primitive in PRIMITIVES.items() if primitive.section == "draws")
"""Primitives that give something else every time, and leave a generator elsewhere: all of them stay, in their order."""

OF_SHAPE = {"ones_like", "zeros_like"}
"""Primitives that look at the shape and the dtype of an array alone."""


def simplify(program: Program, kept: Collection[Buffer], scratch: Collection[Any] = ()) -> dict[Buffer, View]:
    """Run all passes; return for the buffers that lie within another one now where that is.

    Args:
        program: what is changed.
        kept: buffers that somebody reads when the step is over, as gradients.
        scratch: arrays that live on, but mean nothing between two steps.
    """
    left = program.left = {"recorded": len(program.statements)}
    program.allocated = sum([buffer.array.nbytes for buffer in program.buffers if buffer.kind == "temporary"])
    own_scratch(program, scratch)
    fold(program, kept)
    left["the same in every step"] = len(program.statements)
    share(program, kept)
    left["computed before"] = len(program.statements)
    drop_dead(program, kept)
    left["read by nobody"] = len(program.statements)
    moved = forward_writes(program, kept)
    drop_dead(program, {*kept, *[view.buffer for view in moved.values()]})
    left["copies"] = len(program.statements)
    ask_sources(program)
    questions_first(program)
    return moved


class Uses:
    """Where buffers are read and written: by buffer the numbers of statements, each with its view."""

    def __init__(self, program: Program) -> None:
        self._spans: dict[tuple[Buffer, bool], np.ndarray[Any, Any]] = {}
        self.reads: dict[Buffer, list[tuple[int, View]]] = defaultdict(list)
        self.writes: dict[Buffer, list[tuple[int, View]]] = defaultdict(list)
        for number, statement in enumerate(program.statements):
            for view in statement.reads:
                self.reads[view.buffer].append((number, view))
            for view in statement.out:
                self.writes[view.buffer].append((number, view))
        for view in program.outputs:
            self.reads[view.buffer].append((len(program.statements), view))

    def touched(self, writes: bool, begin: int, end: int, place: View) -> list[int]:
        """Return the numbers from `begin` to `end` of statements that read, or write, what a view may see."""
        buffer = place.buffer
        spans = self._spans.get((buffer, writes))
        if spans is None:
            uses = (self.writes if writes else self.reads)[buffer]
            spans = np.array([(at, *extent(view)) for at, view in uses], np.int64).reshape(-1, 3)
            self._spans[buffer, writes] = spans
        (at, first, behind), (start, stop) = spans.T, extent(place)
        return at[(begin <= at) & (at < end) & (first < stop) & (start < behind)].tolist()

    def written_once(self, buffer: Buffer) -> bool:
        """Whether a temporary buffer is made by one statement, and never changed."""
        writes = self.writes[buffer]
        return buffer.kind == "temporary" and len(writes) == 1 and writes[0][1].whole


def own_scratch(program: Program, scratch: Collection[Any]) -> None:
    """Give a program memory of its own for arrays that it writes, all of them, before it reads them."""
    uses = Uses(program)
    for buffer in program.buffers:
        if buffer.kind != "memory" or not any(buffer.array is array for array in scratch):
            continue
        begun = min([number for number, _ in uses.reads[buffer]], default=len(program.statements))
        written = sorted([extent(view) for number, view in uses.writes[buffer] if number < begun])
        ends = [0, *[stop for _, stop in written]]
        starts = [*[start for start, _ in written], buffer.array.size]
        if starts == ends and all(_dense(view) for _, view in uses.writes[buffer]):
            buffer.kind, buffer.before = "temporary", None


def _dense(view: View) -> bool:
    start, stop = extent(view)
    return stop - start == view.size


def fold(program: Program, kept: Collection[Buffer]) -> None:
    """Take what is the same in every call for a constant: the result of the recording."""
    uses = Uses(program)
    left = []
    for number, statement in enumerate(program.statements):
        out = statement.out
        if (
            len(out) == 1
            and statement.primitive not in DRAWS
            and out[0].buffer not in kept
            and _settles(uses, number, out[0].buffer)
            and (statement.primitive in OF_SHAPE or all(view.buffer.kind == "constant" for view in statement.reads))
            and not any(isinstance(leaf, HostNumber | Several) for leaf in statement.leaves())
        ):
            buffer = out[0].buffer
            buffer.kind = "constant"
            buffer.array[...] = statement.result[0]
            continue
        left.append(statement)
    program.statements = [s for s in left if not any(view.buffer.kind == "constant" for view in s.out)]


def _settles(uses: Uses, number: int, buffer: Buffer) -> bool:
    """Whether a statement is the last write to a temporary buffer, of all of it, and nobody has read it before."""
    if buffer.kind != "temporary":
        return False
    last, view = uses.writes[buffer][-1]
    return last == number and view.whole and all(at > number for at, _ in uses.reads[buffer])


def share(program: Program, kept: Collection[Buffer]) -> None:
    """Compute once what is computed twice of the same values."""
    uses = Uses(program)
    versions: dict[Buffer, int] = defaultdict(int)
    known: dict[str, View] = {}
    same: dict[Buffer, View] = {}
    left = []
    for statement in program.statements:
        _substitute(statement, same)
        if (
            len(statement.out) == 1
            and statement.primitive not in DRAWS
            and uses.written_once(statement.out[0].buffer)
            and statement.out[0].buffer not in kept
        ):
            buffer = statement.out[0].buffer
            read = [versions[view.buffer] for view in statement.reads]
            call = f"{statement.primitive} {shown(statement.args)} {statement.options}"
            key = f"{call} {read} {statement.out[0][1:]} {buffer.array.dtype.str}"
            if key in known:
                same[buffer] = known[key]
                continue
            known[key] = statement.out[0]
        for view in statement.out:
            versions[view.buffer] += 1
        left.append(statement)
    program.statements = left
    program.outputs = [moved_view(view, same) for view in program.outputs]


def drop_dead(program: Program, kept: Collection[Buffer]) -> None:
    """Leave out what nobody reads, neither a later statement nor whoever looks at memory when the step is over."""
    needed = {*kept, *[view.buffer for view in program.outputs]}
    left = []
    for statement in reversed(program.statements):
        seen = any(view.buffer.kind == "memory" or view.buffer in needed for view in statement.out)
        if statement.out and not seen and statement.primitive not in DRAWS:
            continue
        needed.update([view.buffer for view in statement.reads])
        left.append(statement)
    program.statements = left[::-1]
    used = {view.buffer for s in program.statements for view in (*s.reads, *s.out)} | needed
    program.buffers = [buffer for buffer in program.buffers if buffer in used or buffer.kind == "input"]


def forward_writes(program: Program, kept: Collection[Buffer]) -> dict[Buffer, View]:
    """Compute what is written somewhere right there: the buffer becomes a part of that memory.

    That needs a buffer that is made by one statement and never changed, of the same layout, whose place nobody reads or
    writes from then until the write; and nobody may write there afterwards while the buffer is still read. A gradient
    that stays when the step is over has memory of the program's own: an eager step writes where an optimizer gathers.
    """
    moved: dict[Buffer, View] = {}
    uses = Uses(program)
    dropped: set[int] = set()
    for number, statement in enumerate(program.statements):
        if statement.primitive != "write" or not isinstance(statement.args[0], View):
            continue
        source, (place,) = statement.args[0], statement.out
        buffer = source.buffer
        if (
            buffer in moved
            or (buffer in kept and place.buffer.kind != "temporary")
            or not source.whole
            or not uses.written_once(buffer)
            or place.buffer in moved
        ):
            continue
        if source.dtype != place.dtype or source.shape != place.shape or not _same_layout(source, place):
            continue
        (made, _), last = uses.writes[buffer][0], max([at for at, _ in uses.reads[buffer]])
        if buffer in kept:
            last = len(program.statements)
        if program.statements[made].primitive in ("write",) or len(program.statements[made].out) > 1:
            continue
        read, written = uses.touched(False, made, number, place), uses.touched(True, made, last + 1, place)
        if read or any(at != number for at in written) or place.buffer.kind == "constant":
            continue
        moved[buffer] = place
        dropped.add(number)
    for statement in program.statements:
        _substitute(statement, moved)
        statement.out = tuple([moved_view(view, moved) for view in statement.out])
    program.outputs = [moved_view(view, moved) for view in program.outputs]
    program.statements = [s for number, s in enumerate(program.statements) if number not in dropped]
    return moved


def sources(program: Program) -> dict[Buffer, View]:
    """Return of what memory, which the step does not write, temporaries are copies: its elements, each of them once."""
    uses = Uses(program)
    found: dict[Buffer, View] = {}
    for statement in program.statements:
        if statement.primitive != "array" or not isinstance(statement.args[0], View):
            continue
        source, (out,) = statement.args[0], statement.out
        if source.dtype == out.dtype and uses.written_once(out.buffer) and not uses.writes[source.buffer]:
            axes = [(n, step) for n, step in zip(source.shape, source.strides, strict=True) if step or not n]
            shape, strides = zip(*axes, strict=True) if axes else ((), ())
            found[out.buffer] = View(source.buffer, source.offset, shape, strides)
    return found


def ask_sources(program: Program) -> None:
    """Ask of what was copied whether it is in range, not of the copy, which may repeat each element many times."""
    copied = sources(program)
    for statement in program.statements:
        if statement.primitive == "all_in_range" and isinstance(statement.args[0], View):
            view, *rest = statement.args
            if view.buffer in copied and (view.whole or view[1:] == (0, (view.buffer.array.size,), (1,))):
                statement.args = (copied[view.buffer], *rest)


def questions_first(program: Program) -> None:
    """Move questions, and what they need, to the front: nothing is written where the answer is another one."""
    needed: set[Buffer] = set()
    first: list[Statement] = []
    drawn = False
    for statement in reversed(program.statements):
        draws = statement.primitive in DRAWS
        if not statement.out or any(view.buffer in needed for view in statement.out) or (drawn and draws):
            needed.update([view.buffer for view in statement.reads])
            first.append(statement)
            drawn = drawn or draws
    early = {id(statement) for statement in first}
    late: list[Statement] = []
    written: dict[Buffer, list[View]] = defaultdict(list)
    for number, statement in enumerate(program.statements):
        if id(statement) not in early:
            late.append(statement)
            for view in statement.out:
                written[view.buffer].append(view)
            continue
        touched = [*statement.reads, *statement.out]
        lasting = any(view.buffer.kind == "memory" for view in statement.out)
        if lasting or any(_overlap(view, other) for view in touched for other in written.get(view.buffer, ())):
            question = next(each for each in program.statements[number:] if not each.out)
            raise CaptureError(
                f"{question.line} asks whether values are right ({question.primitive}) which the step has changed "
                f"before, at {statement.line}, so it could not be asked first: do it outside of the step"
            )
    program.statements = [*first[::-1], *late]


def _substitute(statement: Statement, moved: dict[Buffer, View]) -> None:
    if moved:
        statement.args, statement.options = statement.replaced(lambda value: moved_view(value, moved))


def moved_view(value: Any, moved: dict[Buffer, View]) -> Any:
    """Return where a view lies when buffers have become parts of others; other values as they are."""
    if not isinstance(value, View) or value.buffer not in moved:
        return value
    place = moved[value.buffer]
    return View(place.buffer, place.offset + value.offset, value.shape, value.strides)


def _same_layout(one: View, other: View) -> bool:
    return all(n <= 1 or a == b for n, a, b in zip(one.shape, one.strides, other.strides, strict=True))


def extent(view: View) -> tuple[int, int]:
    """Return the first element of a buffer that a view sees, and that behind the last."""
    if 0 in view.shape:
        return view.offset, view.offset
    reach = [step * (length - 1) for step, length in zip(view.strides, view.shape, strict=True)]
    return view.offset + sum(min(r, 0) for r in reach), view.offset + sum(max(r, 0) for r in reach) + 1


def _overlap(one: View, other: View) -> bool:
    (start, stop), (begin, end) = extent(one), extent(other)
    return start < end and begin < stop
