"""Where the results of a program lie: which calls run in blocks, and which buffers share memory.

Note [Blocks]
~~~~~~~~~~~~~
An element-wise call on a large array costs its trips to main memory. A run of such calls over arrays of one shape is
done for some rows after the others, so that a block is still in the cache when the next call reads it; what is made and
used up within the run then needs memory for one block only. No bit changes: each element is computed as before.

A run must not let a block see what a later block changes: where one of its calls writes, every other call of the run
that touches the same buffer sees exactly the same elements. What is the same for all rows, such as a bias, may not be
written in the run at all.

Note [Plan of memory]
~~~~~~~~~~~~~~~~~~~~~
Temporary buffers lie in one arena. A result that an element-wise call makes lies over an operand of the same layout
that nobody reads afterwards. Otherwise a buffer gets the smallest free piece that is large enough, from its first call
to its last, or where these are parts of a run, from the beginning of the run to its end.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from nanotorch.capture.numpy_calls import BLOCKWISE, OVER_OPERANDS, contiguous
from nanotorch.capture.program import Buffer, HostNumber, Statement, View, leaves

BLOCK = 32768
"""Elements of a block, as in the optimizers (Note [Segments])."""
ALIGNED = 64


class Run(NamedTuple):
    """Calls `start` to `stop` over arrays of a shape, which run together for `rows` rows after the others."""

    start: int
    stop: int
    shape: tuple[int, ...]
    rows: int

    def parts(self) -> list[slice]:
        """Return the rows of each block."""
        return [slice(begin, begin + self.rows) for begin in range(0, self.shape[0], self.rows)]

    def varies(self, view: View) -> bool:
        """Whether a view is another one in every block; if not, it is the same for all rows."""
        return view.shape == self.shape


def find_runs(calls: Sequence[Statement]) -> list[Run]:
    """Return the runs of two calls and more that are worth it, in order."""
    found = []
    start = 0
    while start < len(calls):
        shape, stop = _blockwise(calls[start]), start
        if shape is not None:
            seen: dict[Buffer, list[tuple[View, bool]]] = {}
            while stop < len(calls) and _blockwise(calls[stop]) == shape and _joins(calls[stop], shape, seen):
                stop += 1
            if stop - start > 1:
                found.append(Run(start, stop, shape, max(BLOCK // math.prod(shape[1:]), 1)))
        start = max(stop, start + 1)
    return found


def _blockwise(call: Statement) -> tuple[int, ...] | None:
    """Return the shape over which a call may run in blocks, if it may and there is more than one."""
    if call.primitive not in BLOCKWISE or call.options or len(call.out) != 1:
        return None
    out = call.out[0]
    if out.size <= BLOCK or out.shape[0] < 2 or not contiguous(out):
        return None
    for leaf in leaves(call.args):
        if isinstance(leaf, View):
            if leaf.shape == out.shape:
                if not contiguous(leaf) or leaf.buffer.kind == "input":
                    return None
            elif len(leaf.shape) == len(out.shape) and leaf.shape[0] != 1:
                return None
        elif not isinstance(leaf, HostNumber | int | float):
            return None
    return out.shape


def _joins(call: Statement, shape: tuple[int, ...], seen: dict[Buffer, list[tuple[View, bool]]]) -> bool:
    """Whether a call may belong to a run whose views are `seen`, each with whether it is written."""
    mine = [*[(view, False) for view in call.reads], (call.out[0], True)]
    for view, written in mine:
        for other, was_written in [*seen.get(view.buffer, ()), *[m for m in mine if m[0].buffer is view.buffer]]:
            if (written or was_written) and (view != other or view.shape != shape):
                return False
    for view, written in mine:
        seen.setdefault(view.buffer, []).append((view, written))
    return True


class MemoryPlan:
    """Where temporary buffers lie.

    Args:
        fixed: buffers that have memory already.

    Attributes:
        buffers: the temporary ones.
        runs: what is done in blocks.
        roots: for a buffer that lies over an operand, the first one that lay there.
        local: buffers that are needed within one run only: it has memory for a block of each.
        offset: in the arena, in bytes, and
        size: of the arena.
        separate: bytes that all temporary buffers would take without the plan.
    """

    def __init__(self, calls: Sequence[Statement], outputs: Collection[View], fixed: Collection[Buffer]) -> None:
        self.calls, self.runs = calls, find_runs(calls)
        self.roots: dict[Buffer, Buffer] = {}
        self.offset: dict[Buffer, int] = {}
        self.local: dict[Buffer, Run] = {}
        self._first: dict[Buffer, int] = {}
        self._last: dict[Buffer, int] = {}
        for number, call in enumerate(calls):
            for view in [*call.reads, *call.out]:
                if view.buffer.kind == "temporary" and view.buffer not in fixed:
                    self._first.setdefault(view.buffer, number)
                    self._last[view.buffer] = number
        for view in outputs:
            if view.buffer in self._last:
                self._last[view.buffer] = len(calls)
        self.buffers = list(self._first)
        self.separate = sum([buffer.array.nbytes for buffer in self.buffers])
        self._lay_over_operands()
        self._fill_arena()

    def root(self, buffer: Buffer) -> Buffer:
        """Return the buffer whose memory a buffer has."""
        return self.roots.get(buffer, buffer)

    def _lay_over_operands(self) -> None:
        for number, call in enumerate(self.calls):
            if call.primitive not in OVER_OPERANDS or call.options or len(call.out) != 1:
                continue
            out = call.out[0]
            if self._first.get(out.buffer) != number or not out.whole:
                continue
            for view in call.reads:
                root = self.root(view.buffer)
                if (
                    self._last.get(root) == number
                    and view.buffer is not out.buffer
                    and (view.offset, view.shape, view.strides) == (out.offset, out.shape, out.strides)
                    and view.dtype.itemsize == out.dtype.itemsize
                    and root.array.nbytes == out.buffer.array.nbytes
                    and all(other == view for other in call.reads if self.root(other.buffer) is root)
                ):
                    self.roots[out.buffer] = root
                    self._last[root] = self._last.pop(out.buffer)
                    break

    def _fill_arena(self) -> None:
        first, last = dict(self._first), self._last
        elsewhere: set[Buffer] = set()
        for run in self.runs:
            for call in self.calls[run.start : run.stop]:
                for view in (*call.reads, *call.out):
                    buffer = self.root(view.buffer)
                    if buffer not in last:
                        continue
                    inside = run.start <= self._first[buffer] and last[buffer] < run.stop
                    if inside and view.whole and view.shape == run.shape:
                        self.local.setdefault(buffer, run)
                    else:
                        elsewhere.add(buffer)
        for buffer in elsewhere & self.local.keys():
            del self.local[buffer]
        for run in self.runs:
            for call in self.calls[run.start : run.stop]:
                for buffer in {self.root(view.buffer) for view in (*call.reads, *call.out)} & last.keys():
                    first[buffer], last[buffer] = min(first[buffer], run.start), max(last[buffer], run.stop - 1)
        ends: dict[int, list[Buffer]] = {}
        for buffer, number in last.items():
            ends.setdefault(number, []).append(buffer)
        free: list[tuple[int, int]] = []  # (size, offset)
        self.size, passed = 0, 0
        for buffer in sorted(last, key=first.__getitem__):
            for number in range(passed, first[buffer]):
                for ended in ends.get(number, ()):
                    _give_back(free, self.offset[ended], self.bytes_of(ended))
            passed = max(passed, first[buffer])
            size = self.bytes_of(buffer)
            fitting = min([piece for piece in free if piece[0] >= size], default=None)
            if fitting is None:
                tail = next((piece for piece in free if sum(piece) == self.size), None)  # grow what is free at the end
                fitting = tail or (0, self.size)
                self.size = fitting[1] + size
            if fitting in free:
                free.remove(fitting)
            if fitting[0] > size:
                free.append((fitting[0] - size, fitting[1] + size))
            self.offset[buffer] = fitting[1]

    def bytes_of(self, buffer: Buffer) -> int:
        """Return how much of the arena a buffer takes."""
        size = buffer.array.nbytes
        if buffer in self.local:
            run = self.local[buffer]
            size = size // run.shape[0] * run.rows
        return max(-(-size // ALIGNED) * ALIGNED, ALIGNED)

    def memory(self) -> dict[Buffer, Any]:
        """Return an array for every buffer of the plan, with the buffer's layout, or that of its rows in a block."""
        space = np.empty(self.size + ALIGNED, np.uint8)
        shift = -space.__array_interface__["data"][0] % ALIGNED
        arrays = {}
        for buffer in self.buffers:
            like, root = buffer.array, self.root(buffer)
            run = self.local.get(root)
            shape = like.shape if run is None else (min(run.rows, run.shape[0]), *like.shape[1:])
            arrays[buffer] = np.ndarray(shape, like.dtype, space, shift + self.offset[root], like.strides)
        return arrays


def _give_back(free: list[tuple[int, int]], offset: int, size: int) -> None:
    """Add a piece to the free ones, joined with its neighbours."""
    for other, begin in list(free):
        if begin + other == offset or offset + size == begin:
            free.remove((other, begin))
            offset, size = min(offset, begin), size + other
    free.append((size, offset))
