"""Several passes over their rows of all models of a group in one call.

Note [Passes]
~~~~~~~~~~~~~
A call of a sweep costs as much as some steps, for each model. Where nobody looks at the models between two passes over
their rows, one call takes many passes. The batches of a pass are of one size but for the last one, which may have fewer
rows and is then a program of its own (Note [Tables of models]); both take turns, for one model after the other:

    model 0   14 x [32 rows] 1 x [7 rows] watch   14 x [32 rows] 1 x [7 rows] watch   ...
    model 1   ...

Both are the right ones before the call, and each leaves what the other one asks for, or they would not have run in turn
before; so they are asked once. At the end of each pass, `watch`, the interpreter copies what somebody wants to see.
Counts alone may move on between the steps, as in all calls of many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from nanotorch.capture.captured import places_of
from nanotorch.capture.recording import Build
from nanotorch.capture.sweep.tabled_step import TabledStep
from nanotorch.capture.table.machine import starts, threads
from nanotorch.capture.table.table_code import CONTEXT, room_for

Array = np.ndarray[Any, Any]


class Turn(NamedTuple):
    """Steps of each pass that a program takes: `steps` of them on `size` rows, from the batch `first` on."""

    program: TabledStep
    first: int
    steps: int
    size: int


class Passed(NamedTuple):
    """What passes gave, with the models and the passes as first two dimensions of everything.

    Attributes:
        results: for each turn what makes a result of arrays, and the arrays, with its steps as third dimension.
        seen: copies of what was watched, at the end of each pass.
    """

    results: list[tuple[Build, list[Array]]]
    seen: list[Array]


class Passes:
    """Passes that may be taken: their programs are the right ones for all steps.

    Args:
        turns: what a pass consists of.
        tables: for each model what rows are taken of.
        rows: which, with the models and the passes as first two dimensions.
        host: for each turn what `TabledStep.numbers_ahead` gave.
        watched: for each model arrays of which a copy is made after each pass.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        tables: Sequence[Sequence[Array]],
        rows: Array,
        host: Sequence[Array],
        watched: Sequence[Sequence[Array]],
    ) -> None:
        self.turns, self.tables, self.rows, self.host, self.watched = turns, tables, rows, host, watched

    def asked(self) -> bool:
        """Whether all questions of the programs get the answers that they got."""
        turns = [(turn, host) for turn, host in zip(self.turns, self.host, strict=True) if turn.program.code.asked]
        contexts = self._contexts(len(turns))
        kept = [self._tell(contexts[:, :, k], turn, host, asking=True) for k, (turn, host) in enumerate(turns)]
        return not kept or self._run(contexts)

    def take(self) -> Passed:
        """Take the passes."""
        passes = self.rows.shape[1]
        contexts = self._contexts(len(self.turns) + 1)
        told = [self._tell(contexts[:, :, k], turn, self.host[k]) for k, turn in enumerate(self.turns)]
        seen, kept = self._watch(contexts[:, :, -1])
        went = self._run(contexts)
        assert went
        del kept
        self.turns[0].program.counted(sum([turn.steps for turn in self.turns]) * passes)
        for turn in self.turns:
            turn.program.taken(turn.steps * passes)
        return Passed([(turn.program.build, arrays) for turn, (arrays, _) in zip(self.turns, told, strict=True)], seen)

    def _contexts(self, turns: int) -> Array:
        """Return room for contexts, and have each program know its threads."""
        for turn in self.turns:
            turn.program.begin_threads(min(threads(), len(self.rows)))
        return np.zeros((*self.rows.shape[:2], turns, CONTEXT), np.int64)

    def _run(self, contexts: Array) -> bool:
        """Run what contexts describe, models in threads; return whether all steps were taken."""
        several = min(threads(), len(contexts))
        run = self.turns[0].program.code.interpreter.each
        parts = [contexts[thread::several].reshape(-1, CONTEXT) for thread in range(several)]
        if several == 1:
            done = [run(parts[0])]
        else:
            with ThreadPoolExecutor(several) as pool:
                done = list(pool.map(run, parts))
        return all([each == part[:, 7].tolist() for each, part in zip(done, parts, strict=True)])

    def _watch(self, contexts: Array) -> tuple[list[Array], Any]:
        """Write contexts that copy what is watched; return where it will be, and what has to be kept until then."""
        count, passes = self.rows.shape[:2]
        seen = [np.empty((count, passes, *array.shape), array.dtype) for array in self.watched[0]]
        bases = np.array([[array.ctypes.data for array in of] for of in self.watched], np.int64)
        copied = np.zeros((count, passes, len(seen), 4), np.int64)
        for number, array in enumerate(seen):
            copied[:, :, number, 0], copied[:, :, number, 2] = number, array[0, 0].nbytes
            copied[:, :, number, 3] = _addresses(array)
        contexts[..., 2], contexts[..., 7] = starts(bases)[:, None], 1
        contexts[..., 11], contexts[..., 12] = len(seen), _addresses(copied)
        return seen, (bases, copied)

    def _tell(self, contexts: Array, turn: Turn, host: Array, asking: bool = False) -> tuple[list[Array], Any]:
        """Write the contexts of a turn, or of its questions; return where its results will be, and what has to be kept
        until then.
        """
        count, passes = self.rows.shape[:2]
        program, code = turn.program, turn.program.code
        gathers = np.empty((count, passes, len(self.tables[0]), 5), np.int64)
        gathers[..., 0] = [code.table.bases[buffer] for buffer in program.models.program.inputs]
        gathers[..., 1] = [[[table.ctypes.data for table in of]] for of in self.tables]
        gathers[..., 2] = [[[table.nbytes // max(1, len(table)) for table in of]] for of in self.tables]
        gathers[..., 3] = turn.size
        gathers[..., 4] = _addresses(self.rows)[..., None] + turn.first * self.turns[0].size * self.rows.itemsize
        outputs = [] if asking else program.models.program.outputs
        results = [room_for(view, count, passes, turn.steps) for view in outputs]
        returned = np.empty((count, passes, len(outputs), 4), np.int64)
        for number, (view, result) in enumerate(zip(outputs, results, strict=True)):
            returned[:, :, number, :3] = (*code.table.place(view), view.size * view.dtype.itemsize)
            returned[:, :, number, 3] = _addresses(result)
        program.tell(contexts, asking, turn.steps, host, gathers, returned)
        return results, (gathers, returned)


def prepared(
    turns: Sequence[Turn],
    tables: Sequence[Sequence[Array]],
    rows: Array,
    numbers: Array,
    watched: Sequence[Sequence[Array]],
) -> Passes | None:
    """Return passes that may be taken; None where a program is not the right one for all steps.

    Args:
        turns, tables, rows, watched: as of `Passes`.
        numbers: of the steps, with the models and the passes as first two dimensions.
    """
    count = len(rows)
    places = places_of(numbers[0].size).reshape(numbers.shape[1:])
    if not all([array.flags.c_contiguous for of in watched for array in of]):
        return None
    host = []
    for program, first, steps, _ in turns:
        of = slice(first, first + steps)
        found = program.numbers_ahead(numbers[:, :, of].reshape(count, -1), places[:, of].reshape(-1))
        if found is None:
            return None
        host.append(found)
    apart = [list(map(np.ascontiguousarray, of)) for of in tables]
    passes = Passes(turns, apart, np.ascontiguousarray(rows, np.int64), host, watched)
    return passes if passes.asked() else None


def _addresses(array: Array) -> Array:
    """Return the addresses of the entries of the first two dimensions of an array that has no gaps."""
    count, passes = array.shape[:2]
    return np.arange(count * passes).reshape(count, passes) * array.strides[1] + array.ctypes.data
