"""A program that runs as a table for one model after the other, and what has to be as it was for that.

Note [Tables of models]
~~~~~~~~~~~~~~~~~~~~~~~
A table names memory by a base and an offset (Note [Tables]), so one table serves all models: each has a row of bases.
What lives on, and gradients, are the model's own; inputs, temporary values and registers are those of the thread, so
they stay in its cache whichever model comes. A model takes all steps of a call before the next one does: its weights
and their state are then in the cache, too. Nothing of a model moves, and each has the bits of a table of its own. The
interpreter runs without Python's lock, so threads share the models among them, as many as multiply matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.batches import Batches, Between
from nanotorch.capture.captured import NOT_DONE, Gradients
from nanotorch.capture.program import Buffer, View
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.recording import array_of
from nanotorch.capture.sweep.batched_step import BatchedStep, State, put_back
from nanotorch.capture.sweep.models import Several, Trial
from nanotorch.capture.table.instructions import SCRATCH
from nanotorch.capture.table.items import aligned, memory_of
from nanotorch.capture.table.machine import MACHINE, threads
from nanotorch.capture.table.table_code import TableCode


class NoTableError(CaptureError):
    """A part of a step runs as NumPy calls, so that a table does not take it whole."""


Gathers = Callable[[int], Sequence[tuple[int, ...]]]


class TabledStep(BatchedStep):
    """A program that runs as a table for all models of a group, one after the other (Note [Tables of models])."""

    code: Any

    def _write(
        self, trials: Sequence[Trial], scalars: Sequence[Any], memory: Collection[Buffer], before: State
    ) -> int | None:
        """Write the table, and check it with the first model."""
        models, interpreter = self.models, MACHINE.interpreter
        assert interpreter is not None
        self.code = code = TableCode(models.program, self._kept, interpreter)
        calls = [call.row for call in code.calls]
        if not code.in_one:
            raise NoTableError(f"no table takes its steps: {', '.join(dict.fromkeys(calls)) or 'what it returns'}")
        put_back(memory)
        before.moment.restore()
        inputs = [buffer.array for buffer in models.program.inputs]
        different = code.check(inputs, [*models.of_one(scalars, 0)])
        if different is not None:
            raise CaptureError(f"{different.line}: the table of {different.row} differs from NumPy more than it may")
        others = [{b: b.array.copy(order="K") for b in self._kept} for _ in range(models.count - 1)]
        self._own = [{b: b.array for b in self._kept}, *others]
        return None

    def _bind(self) -> None:
        """Have the table run from now on."""
        models, code = self.models, self.code
        places: list[tuple[Tensor, Any]] = []
        for part, own in zip(self.parts, self._own, strict=True):
            for (tensor, grad), place in zip(part.grads, self._places, strict=True):
                places.append((tensor, place.of(own[place.buffer]) if isinstance(place, View) else grad))
        self._gradients = Gradients(places)
        self.kept, self.decided = self._kept, self._fits_all
        updates = [update for part in self.parts for update in part.updates]
        versions = [each for part in self.parts for each in part.versions]
        self._begin(updates, versions, [])
        lasting = [buffer.array for of in models.places.values() for buffer, _ in of if buffer.kind == "memory"]
        lasting += [array for own in self._own for array in own.values()]
        self._owners = frozenset([id(owner(array)) for array in lasting])
        bases = code.table.bases.items()
        self._columns_of_models = [n for buffer, n in bases if buffer.kind == "memory" or buffer in self._kept]
        self._rows_of_models = np.array(
            [
                [self._address(b, k) for b, _ in bases if b.kind == "memory" or b in self._kept]
                for k in range(models.count)
            ],
            np.int64,
        )
        self._workspaces: list[tuple[Any, Any, Any]] = []

    def _address(self, buffer: Buffer, number: int) -> int:
        """Return where the memory of a buffer that lives on begins for a model."""
        if buffer in self._kept:
            return int(self._own[number][buffer].ctypes.data)
        there, further = self.models.places[buffer][number]
        return int(there.array.ctypes.data) + further * there.array.itemsize

    def drop(self, number: int, rows: Collection[int]) -> None:
        """Let a model leave; the last one takes its place."""
        self._own[number] = self._own[-1]
        del self._own[-1]
        super().drop(number, rows)

    def _rewrite(self) -> None:
        """A table is the same for fewer models."""

    # ------------------------------------------------------------------------------------------------------- a call

    def replay(self, arguments: Sequence[Tensor], numbers: Sequence[int] = ()) -> tuple[bool, Any]:
        """Take a step of all models; (False, None) where the program is not for this call."""
        if not self._free():
            return NOT_DONE
        arrays, places = list(map(array_of, arguments)), self.models.places
        inputs = list(zip(self.models.program.inputs, arrays, strict=True))

        def given(number: int) -> Any:
            moved = [places[buffer][number][1] * array.itemsize for buffer, array in inputs]
            return [array.ctypes.data + further for (_, array), further in zip(inputs, moved, strict=True)]

        done, results = self._take([numbers], given, lambda number: ())
        if not done:
            return NOT_DONE
        return True, self.build([from_array(result[:, 0]) for result in results])

    def repeat(self, batches: Batches, between: Between | None) -> tuple[int, list[Any]]:
        """Take one step after the other, until the program is not for one; return how many, and what they gave."""
        if not self._free():
            return 0, []
        if between is None:
            done, results = self._batches(batches, 0, len(batches.numbers))
            return done, [np.moveaxis(result, 0, 1) for result in results]
        found = []
        for place in range(len(batches.numbers)):
            done, results = self._batches(batches, place, 1)
            if not done:
                break
            found.append([result[:, 0] for result in results])
            between()
            if not self.fits(()) or not self._free():
                break
        return len(found), list(map(np.stack, zip(*found, strict=True)))

    def _batches(self, batches: Batches, first: int, count: int) -> tuple[int, list[Any]]:
        """Take steps on rows of tables."""
        size, code = batches.size, self.code
        order = np.ascontiguousarray(batches.order[..., first * size : (first + count) * size], np.int64)
        alive = [list(map(np.ascontiguousarray, of)) for of in (batches.tables if batches.each else [batches.tables])]
        widths = [[table.nbytes // max(1, len(table)) for table in of] for of in alive]
        targets = [code.table.bases[buffer] for buffer in self.models.program.inputs]

        def gathers(number: int) -> list[tuple[int, ...]]:
            of = number if batches.each else 0
            rows = order[number] if order.ndim == 2 else order
            return [
                (target, table.ctypes.data, width, size, rows.ctypes.data)
                for target, table, width in zip(targets, alive[of], widths[of], strict=True)
            ]

        return self._take(batches.numbers[first : first + count], None, gathers)

    def _take(self, numbers: Sequence[Sequence[int]], given: Any, gathers: Gathers) -> tuple[int, list[Any]]:
        """Run the host's part of steps, as far as the program is the right one for them, and then the steps.

        Args:
            numbers: those of each step.
            given: by model where the inputs lie, if they are not gathered, and
            gathers: by model what is.
        """
        models, code = self.models, self.code
        steps = self._ready(len(numbers), given, gathers)
        rows: list[list[Any]] = [[] for _ in range(models.count)]
        known = 0
        while known < steps:
            back, ahead = self._counts(), steps - known if self._counts_alone else 1
            scalars = self._scalars(numbers[known])
            if not self.decided(scalars):
                back()
                break
            if ahead > 1:
                ahead = self._move_on(scalars, numbers[known:][:ahead])
            for number in range(models.count):
                rows[number].append(code.rows(self._values(scalars, number), ahead, self._drawn(number)))
            known += ahead
        if not known:
            return 0, []
        outputs = models.program.outputs
        results = [np.empty((models.count, known, *view.shape), view.dtype) for view in outputs]
        ((start, end),) = code.spans

        def run(number: int, workspace: Any) -> Any:
            table = np.concatenate(rows[number]) if len(rows[number]) > 1 else rows[number][0]
            returned = [
                (*code.table.place(view), view.size * view.dtype.itemsize, result[number].ctypes.data)
                for view, result in zip(outputs, results, strict=True)
            ]
            return self._bound(number, workspace, (start, end), table, known, given, gathers(number), returned)

        for done in self._each_model(run):
            assert done == known
        self._leave(known)
        return known, results

    def _ready(self, steps: int, given: Any, gathers: Gathers) -> int:
        """Return how many steps there are before one whose questions get another answer."""
        asked, numbers = self.code.asked, self.code.numbers
        if not asked:
            return steps

        def ask(number: int, workspace: Any) -> Any:
            return self._bound(number, workspace, (0, asked), numbers, steps, given, gathers(number), [])

        return min(self._each_model(ask))

    def _bound(
        self, number: int, workspace: Any, span: tuple[int, int], numbers: Any, steps: int, given: Any,
        gathers: Sequence[tuple[int, ...]], returned: Sequence[tuple[int, ...]],
    ) -> Any:  # fmt: skip
        """Return what runs a part of the table for a model."""
        code, (home, scratch, _) = self.code, workspace
        bases = home.copy()
        bases[self._columns_of_models] = self._rows_of_models[number]
        if given is not None:
            bases[[code.table.bases[buffer] for buffer in self.models.program.inputs]] = given(number)
        from_, to = np.array(gathers, np.int64), np.array(returned, np.int64)
        context = code.context(
            *span, numbers.ctypes.data, steps, numbers.strides[0] if numbers.ndim == 2 else 0,
            len(gathers), from_.ctypes.data, len(returned), to.ctypes.data,
            bases=bases.ctypes.data, scratch=scratch.ctypes.data,
        )  # fmt: skip
        return code.interpreter.bound(context, bases, numbers, from_, to)

    def _each_model(self, bound: Callable[[int, Any], Any]) -> list[int]:
        """Call what is bound for each model, in threads; return what they give."""
        count = self.models.count
        several = min(threads(), count)
        while len(self._workspaces) < several:
            arrays = memory_of(self.code.items, self.models.program, self._kept, shared=True)
            home = np.array([arrays[buffer].ctypes.data for buffer in self.code.table.bases], np.int64)
            self._workspaces.append((home, aligned(8 * SCRATCH), arrays))
        shares = [
            [bound(number, self._workspaces[thread]) for number in range(thread, count, several)]
            for thread in range(several)
        ]
        if several == 1:
            return [run() for run in shares[0]]
        with ThreadPoolExecutor(several) as pool:
            return [done for each in pool.map(lambda share: [run() for run in share], shares) for done in each]

    def _values(self, scalars: Sequence[Any], number: int) -> Iterator[list[Any]]:
        """Return the numbers of the table for a model."""
        found = self.models.needed(scalars, number)
        return iter([[found[code] for code in codes] for codes in self.code.codes])

    def _drawn(self, number: int) -> list[tuple[int, Callable[[], int]]]:
        return [(p, draw.values[number] if isinstance(draw, Several) else draw) for p, draw in self.code.draws]

    def _fits_all(self, scalars: Sequence[Any]) -> bool:
        asked = self.models.program.decisions.items()
        every = [self.models.numbers(scalars, number) for number in range(self.models.count)]
        return all([numbers[code] == answer for numbers in every for code, answer in asked])
