"""The cross entropy of rows, recognised among the statements of a program: loss and gradient are one instruction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from nanotorch.capture.program import Buffer, Program, Statement, View
from nanotorch.capture.table.instructions import BLOCK, CROSS_ENTROPY
from nanotorch.capture.table.lowering import REAL, Table, dense, index_fields, overlap


class CrossEntropy(NamedTuple):
    """Statements that are a cross entropy, with what goes in and out.

    It stands for the statements in their order, so its meaning and its roundings are theirs.
    """

    statements: list[Statement]
    scores: View
    classes: View
    factor: View
    losses: View
    gradients: View

    def write(self, table: Table) -> None:
        """Write the instruction."""
        rows, columns = self.scores.shape
        fields = index_fields(self.classes, table)
        assert fields is not None
        table.add(
            CROSS_ENTROPY, REAL[self.scores.dtype], rows, columns, *table.place(self.scores),
            self.scores.strides[0] * self.scores.dtype.itemsize, *fields, *table.place(self.losses),
            *table.place(self.gradients), *table.place(self.factor),
        )  # fmt: skip


def cross_entropies(
    program: Program, kept: Collection[Buffer], known: Callable[[View, int], bool]
) -> Iterator[CrossEntropy]:
    """Give the cross entropies of a program."""
    readers: dict[Buffer, list[Statement]] = defaultdict(list)
    makers: dict[Buffer, list[Statement]] = defaultdict(list)
    for statement in program.statements:
        for view in statement.reads:
            readers[view.buffer].append(statement)
        for view in statement.out:
            makers[view.buffer].append(statement)
    lasting = {*kept, *[view.buffer for view in program.outputs]}
    order = {id(statement): number for number, statement in enumerate(program.statements)}

    def made(view: Any, primitive: str) -> Statement | None:
        """Return the one statement that makes all of a temporary buffer, if it is of a primitive."""
        if not isinstance(view, View) or view.buffer.kind != "temporary" or len(makers[view.buffer]) != 1:
            return None
        statement = makers[view.buffer][0]
        return statement if statement.primitive == primitive and len(statement.out) == 1 else None

    def reader(view: View, primitive: str, place: int) -> Statement | None:
        """Return the one reader of a primitive that has a view as an operand."""
        found = [s for s in readers[view.buffer] if s.primitive == primitive and s.args[place] == view]
        return found[0] if len(found) == 1 else None

    for pick in program.statements:
        if pick.primitive != "pick":
            continue
        shifted, classes = pick.args
        chain: list[Statement | None] = [pick, shift := made(shifted, "subtract")]
        if shift is None or not isinstance(shift.args[1], View):
            continue
        chain.append(largest := made(shift.args[1], "amax"))
        chain.append(power := reader(shifted, "exp", 0))
        if largest is None or power is None or largest.args[0] != shift.args[0]:
            continue
        chain.append(total := reader(power.out[0], "row_sums", 0))
        if total is None:
            continue
        chain.append(log := reader(total.out[0], "log", 0))
        chain.append(share := reader(power.out[0], "divide", 0))
        chain.append(loss := reader(pick.out[0], "subtract", 1))
        if log is None or share is None or loss is None or share.args[1] != total.out[0]:
            continue
        chain.append(less := reader(share.out[0], "subtract", 0))
        if less is None or getattr(loss.args[0], "buffer", None) is not log.out[0].buffer:
            continue
        chain.append(hot := made(less.args[1], "one_hot"))
        chain.append(scaled := reader(less.out[0], "multiply", 0))
        if hot is None or scaled is None or hot.args[0] != classes or not isinstance(scaled.args[1], View):
            continue
        statements = sorted([s for s in chain if s is not None], key=lambda s: order[id(s)])
        found = CrossEntropy(statements, shift.args[0], classes, scaled.args[1], loss.out[0], scaled.out[0])
        inner = [s.out[0].buffer for s in statements if s is not loss and s is not scaled]
        inside = {id(s) for s in statements}
        if not all(made(s.out[0], s.primitive) is s for s in statements) or any(b in lasting for b in inner):
            continue
        if any(id(s) not in inside for buffer in inner for s in readers[buffer]):
            continue
        span = program.statements[order[id(statements[0])] : order[id(statements[-1])] + 1]
        given = [found.scores, found.classes, found.factor]
        if any(overlap(out, view) for s in span for out in s.out for view in given):
            continue
        if _fits(found, largest, known):
            yield found


def _fits(found: CrossEntropy, largest: Statement, known: Callable[[View, int], bool]) -> bool:
    """Whether shapes, strides and types are those of the instruction."""
    scores, losses = found.scores, found.losses
    axis = (*largest.args[1:], *largest.options.values())
    return (
        isinstance(scores, View)
        and len(scores.shape) == 2
        and scores.dtype in REAL
        and 0 < scores.shape[1] <= BLOCK
        and (scores.strides[1] == 1 or scores.shape[1] == 1)
        and axis in ((1, True), (-1, True))
        and scores.shape[0] > 0
        and losses.shape == scores.shape[:1]
        and dense(losses)
        and found.gradients.shape == scores.shape
        and dense(found.gradients)
        and found.factor.size == 1
        and {v.dtype for v in (scores, losses, found.factor, found.gradients)} == {scores.dtype}
        and found.classes.dtype == np.int64
        and known(found.classes, scores.shape[1])
    )
