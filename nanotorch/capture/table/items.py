"""A program cut into what runs one after the other: groups, single instructions, and calls of NumPy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from nanotorch.backend.numpy_backend import NUMPY
from nanotorch.capture.numpy_calls import ELEMENTWISE
from nanotorch.capture.program import (
    Buffer,
    HostNumber,
    Program,
    SeveralNumbers,
    Statement,
    View,
    linear,
    replaced,
    spread,
)
from nanotorch.capture.table.groups import Group, common_axes
from nanotorch.capture.table.losses import CrossEntropy, cross_entropies
from nanotorch.capture.table.lowering import Elementwise, elementwise, in_range, overlap

BACK = 12  # items that a statement may move forward over, to a group of its shape
LINE = 64  # bytes at which memory is aligned


class Item:
    """Statements that run together, and the group or the loss that they are, if they are one."""

    def __init__(self, statements: list[Statement], what: Group | CrossEntropy | None) -> None:
        self.statements, self.what = statements, what

    @property
    def group(self) -> Group | None:
        """The group."""
        return self.what if isinstance(self.what, Group) else None

    def conflicts(self, statement: Statement) -> bool:
        """Whether a statement has to stay behind this item."""
        if any(not own.out for own in self.statements):  # a question: nothing is written before it is answered
            return True
        writes, reads = statement.out, statement.reads
        for own in self.statements:
            if any(overlap(view, other) for view in own.out for other in (*reads, *writes)):
                return True
            if any(overlap(view, other) for view in own.reads for other in writes):
                return True
        return False

    def views(self) -> list[View]:
        """Return all views that it reads or writes."""
        return [view for statement in self.statements for view in (*statement.reads, *statement.out)]


def cut(program: Program, kept: Collection[Buffer], fused: bool) -> list[Item]:
    """Return a program as items; where it is `fused`, statements join groups, and losses are recognised."""
    items: list[Item] = []
    lasting = {*kept, *[view.buffer for view in program.outputs]}
    losses = list(cross_entropies(program, kept, in_range(program))) if fused else []
    first = {id(loss.statements[0]): loss for loss in losses}
    taken = {id(statement) for loss in losses for statement in loss.statements}
    parts = {id(statement): elementwise(statement) for statement in program.statements}
    for statement in sunk(program.statements, parts, lasting) if fused else program.statements:
        if id(statement) in first:
            loss = first[id(statement)]
            items.append(Item(loss.statements, loss))
        if id(statement) in taken:
            continue
        part = parts[id(statement)]
        if part is None:
            items.append(Item([statement], None))
            continue
        if not (fused and _join(items, statement, part)):
            group = Group(part.out.shape)
            items.append(Item([statement], group if group.add(part) else None))
    return [each for item in items for each in _possible(item)]


def sunk(
    statements: list[Statement], parts: Mapping[int, Elementwise | None], lasting: Collection[Buffer]
) -> list[Statement]:
    """Return statements with those that one later statement of their shape alone needs right in front of it;
    `parts` tells of each by its id what operation it is.

    A mask that the backward pass needs is computed there, not stored between.
    """
    users: dict[Buffer, list[int]] = defaultdict(list)
    makers: dict[Buffer, int] = defaultdict(int)
    for number, statement in enumerate(statements):
        for buffer in {view.buffer for view in statement.reads}:
            users[buffer].append(number)
        for view in statement.out:
            makers[view.buffer] += 1
    before: dict[int, list[int]] = defaultdict(list)
    moved: set[int] = set()
    for number, statement in enumerate(statements):
        part = parts[id(statement)]
        if part is None or part.out.buffer.kind != "temporary" or part.out.buffer in lasting:
            continue
        later = users[part.out.buffer]
        if makers[part.out.buffer] != 1 or len(later) != 1 or later[0] <= number + 1:
            continue
        target = parts[id(statements[later[0]])]
        between = [view for other in statements[number + 1 : later[0]] for view in other.out]
        if target is None or target.out.shape != part.out.shape:
            continue
        if not any(overlap(read, view) for read in statement.reads for view in between):
            before[later[0]].append(number)
            moved.add(number)
    order: list[int] = []

    def place(number: int) -> None:
        for each in before[number]:
            place(each)
        order.append(number)

    for number in range(len(statements)):
        if number not in moved:
            place(number)
    return [statements[number] for number in order]


def _join(items: list[Item], statement: Statement, part: Elementwise) -> bool:
    """Add a statement to the last group that can take it, if it need not stay behind what comes after that."""
    for item in reversed(items[-BACK:]):
        if item.group is not None and item.group.add(part):
            item.statements.append(statement)
            return True
        if item.conflicts(statement):
            return False
    return False


def _possible(item: Item) -> list[Item]:
    """Return an item, or its statements apart where their views have no common axes."""
    if item.group is None or common_axes(item.group.shape, [(v, v.dtype.itemsize) for v in item.views()]):
        return [item]
    return [Item([statement], None) for statement in item.statements]


def outside(items: list[Item], program: Program, kept: Collection[Buffer]) -> Callable[[int], Callable[[View], bool]]:
    """Return what tells of an item whether somebody else needs what it writes into a view."""
    readers: dict[Buffer, set[int]] = defaultdict(set)
    for number, item in enumerate(items):
        for statement in item.statements:
            for view in statement.reads:
                readers[view.buffer].add(number)
    lasting = {*kept, *[view.buffer for view in program.outputs]}

    def of(number: int) -> Callable[[View], bool]:
        def needed(view: View) -> bool:
            buffer = view.buffer
            return buffer.kind != "temporary" or buffer in lasting or bool(readers[buffer] - {number})

        return needed

    return of


def memory_of(items: list[Item], program: Program, kept: Collection[Buffer], shared: bool) -> dict[Buffer, Any]:
    """Return an array for every buffer; temporary ones share memory where their items are apart in time."""
    arrays: dict[Buffer, Any] = {}
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, item in enumerate(items):
        for view in item.views():
            first.setdefault(view.buffer, number)
            last[view.buffer] = number
    for view in program.outputs:
        last[view.buffer] = len(items)
    ends: dict[int, list[Buffer]] = defaultdict(list)
    begins: dict[int, list[Buffer]] = defaultdict(list)
    for buffer in program.buffers:
        if buffer.kind == "input" or (buffer.kind == "temporary" and buffer not in kept):
            if shared and buffer.kind == "temporary" and buffer in first:
                begins[first[buffer]].append(buffer)
                ends[last[buffer]].append(buffer)
            else:
                arrays[buffer] = like(buffer.array, aligned(linear(spread(buffer.array)).nbytes))
        else:
            arrays[buffer] = buffer.array
    free: list[Any] = []
    blocks: dict[Buffer, Any] = {}
    for number in range(len(items)):
        for buffer in begins[number]:
            size = buffer.array.nbytes
            fitting = [block for block in free if size <= block.nbytes <= 4 * size + 256]
            if fitting:
                block = min(fitting, key=len)
                free = [each for each in free if each is not block]
            else:
                block = aligned(size)
            blocks[buffer] = block
            arrays[buffer] = like(buffer.array, block)
        free += [blocks[buffer] for buffer in ends[number]]
    return arrays


def aligned(size: int) -> Any:
    """Return memory of at least some bytes that begins at a line of the cache."""
    memory = np.empty(size + LINE, np.uint8)
    skip = -memory.ctypes.data % LINE
    return memory[skip : skip + max(size, 1)]


def like(array: Any, memory: Any) -> Any:
    """Return memory as an array of the shape, dtype and strides of another, which has no gaps."""
    return np.ndarray(array.shape, array.dtype, memory, 0, array.strides)


def numpy_call(statement: Statement, arrays: dict[Buffer, Any], numbers: dict[str, Any]) -> Callable[[], Any]:
    """Return what runs one statement by NumPy, of several models for the first; `numbers` holds the host numbers."""
    name, varying = statement.primitive, False

    def leaf(value: Any) -> Any:
        nonlocal varying
        if isinstance(value, View):
            return value.of(arrays[value.buffer])
        varying = varying or isinstance(value, HostNumber)
        return value.values[0] if isinstance(value, SeveralNumbers) else value

    bound, options = statement.replaced(leaf)
    outs = [view.of(arrays[view.buffer]) for view in statement.out]

    def given() -> tuple[Any, dict[str, Any]]:
        if not varying:
            return bound, options
        now = lambda value: numbers[value.code] if isinstance(value, HostNumber) else value  # noqa: E731
        return replaced(bound, now), {n: replaced(value, now) for n, value in options.items()}

    if name == "write":

        def run() -> Any:
            (value,), _ = given()
            outs[0][...] = value

    elif name in NUMPY and name in ELEMENTWISE and len(outs) == 1 and not options:
        ufunc = getattr(np, ELEMENTWISE[name])

        def run() -> Any:
            ufunc(*given()[0], out=outs[0])

    else:
        function = NUMPY[name]

        def run() -> Any:
            args, named = given()
            result = function(*args, **named)
            if len(outs) == 1:
                outs[0][...] = result
            elif outs:
                for out, part in zip(outs, result, strict=True):
                    out[...] = part
            return result

    return run
