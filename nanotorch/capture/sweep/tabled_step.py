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
from nanotorch.capture.captured import NOT_DONE, Gradients, is_proven, later, prove
from nanotorch.capture.effects import array_of
from nanotorch.capture.program import Buffer, Statement, View
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.recording import Recording
from nanotorch.capture.sweep.batched_step import BatchedStep, State, put_back
from nanotorch.capture.sweep.models import Sources, Trial
from nanotorch.capture.table.instructions import SCRATCH
from nanotorch.capture.table.items import aligned, memory_of
from nanotorch.capture.table.machine import MACHINE, starts, threads
from nanotorch.capture.table.table_code import TableCode, room_for


class NoTableError(CaptureError):
    """A part of a step runs as NumPy calls, so that a table does not take it whole: these `calls`."""

    def __init__(self, why: str, calls: Sequence[Statement]) -> None:
        super().__init__(why)
        self.calls = calls


class TabledStep(BatchedStep):
    """A program that runs as a table for all models of a group, one after the other (Note [Tables of models])."""

    code: Any
    remembers = False

    def __init__(self, recording: Recording, because: str, shared: Sequence[bool]) -> None:
        super().__init__(recording, because, shared)
        self._digest = recording.digest(shared)
        self.proven = is_proven(self._digest)

    def _write(
        self, trials: Sequence[Trial], scalars: Sequence[Any], memory: Collection[Buffer], before: State
    ) -> int | None:
        """Write the table, and check it with the first model."""
        models, interpreter = self.models, MACHINE.interpreter
        assert interpreter is not None
        self.code = code = TableCode(models.program, self._kept, interpreter)
        if not code.in_one:
            rows = ", ".join(dict.fromkeys([call.row or call.primitive for call in code.calls]))
            raise NoTableError(f"no table takes its steps: {rows or 'what it returns'}", code.calls)
        if code.apart or not self.proven:
            put_back(memory)
            before.moment.restore()
            inputs = [buffer.array for buffer in models.program.inputs]
            different = code.check(inputs, [*models.of_one(scalars, 0)])
            if different is not None:
                line, row = different.line, different.row
                raise CaptureError(f"{line}: the table of {row} differs from NumPy more than it may")
            if not code.apart:
                prove(self._digest)
        others = [{b: b.array.copy(order="K") for b in self._kept} for _ in range(models.count - 1)]
        self._own = [{b: b.array for b in self._kept}, *others]
        return None

    def _bind(self) -> None:
        """Have the table run from now on."""
        models = self.models
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
        self._workspaces: list[tuple[Any, Any]] = []

    def _address(self, buffer: Buffer, number: int) -> int:
        """Return where the memory of a buffer that lives on begins for a model."""
        if buffer in self._kept:
            return int(self._own[number][buffer].ctypes.data)
        there, further = self.models.places[buffer][number]
        return int(there.array.ctypes.data) + further * there.array.itemsize

    def drop(self, number: int, rows: Collection[int]) -> None:
        """Let a model leave; the last one takes its place."""
        for each in (self._own, *self.code.apart.values()):
            each[number] = each[-1]
            del each[-1]
        super().drop(number, rows)

    def _rewrite(self) -> None:
        """A table is the same for fewer models."""

    # ------------------------------------------------------------------------------------------------------- a call

    def replay(self, arguments: Sequence[Tensor], numbers: Sequence[int] = ()) -> tuple[bool, Any]:
        """Take a step of all models; (False, None) where the program is not for this call."""
        if not self._free():
            return NOT_DONE
        given = np.empty((self.models.count, len(arguments)), np.int64)
        for place, (buffer, argument) in enumerate(zip(self.models.program.inputs, arguments, strict=True)):
            array = array_of(argument)
            given[:, place] = [further * array.itemsize for _, further in self.models.places[buffer]]
            given[:, place] += array.ctypes.data
        done, results = self._take([numbers], given, np.empty((self.models.count, 0, 5), np.int64))
        if not done:
            return NOT_DONE
        return True, self.build([from_array(result[:, 0]) for result in results])

    def repeat(
        self, batches: Batches, between: Between | None, schedule: Between | None = None
    ) -> tuple[int, list[Any]]:
        """Take one step after the other, until the program is not for one; return how many, and what they gave."""
        if not self._free():
            return 0, []
        if not self.recording.repeats:
            batches = batches.first()
        if between is None:
            done, results = self._batches(batches, 0, len(batches.numbers), schedule)
            return done, [np.moveaxis(result, 0, 1) for result in results]
        found = []
        for place in range(len(batches.numbers)):
            done, results = self._batches(batches, place, 1, schedule)
            if not done:
                break
            found.append([result[:, 0] for result in results])
            between()
            if not self.fits(()) or not self._free():
                break
        return len(found), list(map(np.stack, zip(*found, strict=True)))

    def _batches(self, batches: Batches, first: int, count: int, schedule: Between | None) -> tuple[int, list[Any]]:
        """Take steps on rows of tables."""
        size, code = batches.size, self.code
        order = np.ascontiguousarray(batches.order[..., first * size : (first + count) * size], np.int64)
        alive = [list(map(np.ascontiguousarray, of)) for of in (batches.tables if batches.each else [batches.tables])]
        gathers = np.empty((self.models.count, len(alive[0]), 5), np.int64)
        gathers[..., 0] = [code.table.bases[buffer] for buffer in self.models.program.inputs]
        gathers[..., 1] = [[table.ctypes.data for table in of] for of in alive]
        gathers[..., 2] = [[table.nbytes // max(1, len(table)) for table in of] for of in alive]
        gathers[..., 3] = size
        gathers[..., 4] = starts(order)[:, None] if order.ndim == 2 else order.ctypes.data
        return self._take(batches.numbers[first : first + count], None, gathers, schedule)

    def _take(
        self, numbers: Sequence[Sequence[int]], given: Any, gathers: Any, schedule: Between | None = None
    ) -> tuple[int, list[Any]]:
        """Run the host's part of steps, as far as the program is the right one for them, and then the steps.

        Args:
            numbers: those of each step.
            given: for each model where the inputs lie; None where they are gathered.
            gathers: for each model what is (Note [Many steps]).
            schedule: what is called after each step (`Compiled.run`).
        """
        models, code = self.models, self.code
        none = np.empty((models.count, 0, 4), np.int64)
        steps = len(numbers)
        if code.asked:
            asking = np.repeat(code.numbers[None, None], models.count, 0)
            for place, values in code.apart.items():
                asking[:, 0, place] = values
            asking = np.broadcast_to(asking, (models.count, steps, len(code.numbers)))
            steps = min(self._interpret((0, code.asked), steps, asking, given, gathers, none))
        rows = np.empty((models.count, steps, len(code.numbers)))
        known = 0
        for scalars, first, ahead in self._ahead(numbers[:steps], schedule):
            known = first + ahead
            self._fill(rows[:, first:known], scalars)
            if code.draws:  # of a generator that models share, in the order of steps, as ever
                drawn = list(map(self._drawn, range(models.count)))
                for step in range(first, known):
                    for number, draws in enumerate(drawn):
                        code.draw(rows[number, step], draws)
        if not known:
            return 0, []
        outputs = models.program.outputs
        results = [room_for(view, models.count, known) for view in outputs]
        returned = np.empty((models.count, len(outputs), 4), np.int64)
        for place, (view, result) in enumerate(zip(outputs, results, strict=True)):
            returned[:, place, :3] = (*code.table.place(view), view.size * view.dtype.itemsize)
            returned[:, place, 3] = starts(result)
        ((start, end),) = code.spans
        done = self._interpret((start, end), known, rows, given, gathers, returned)
        assert done == [known] * models.count
        self._leave(known)
        return known, results

    def _interpret(
        self, span: tuple[int, int], steps: int, numbers: Any, given: Any, gathers: Any, returned: Any
    ) -> list[int]:
        """Run a part of the table for all models, in threads; return how many steps each took."""
        several = min(threads(), self.models.count)
        self.begin_threads(several)
        bases = self._bases
        if given is not None:
            bases = bases.copy()
            bases[:, [self.code.table.bases[buffer] for buffer in self.models.program.inputs]] = given
        contexts = self.code.contexts(span, steps, bases, self._scratch, numbers, gathers, returned)
        run = self.code.interpreter.each
        if several == 1:
            return list(run(contexts))
        with ThreadPoolExecutor(several) as pool:
            shares = pool.map(run, [contexts[thread::several] for thread in range(several)])
            return [done for each in shares for done in each]

    def begin_threads(self, several: int) -> None:
        """Make memory of their own for so many threads, if there is not; models are dealt out among them."""
        if several == len(self._workspaces):
            return
        code = self.code
        self._bases = np.empty((self.models.count, len(code.table.bases)), np.int64)
        self._scratch = np.empty(self.models.count, np.int64)
        self._workspaces = []
        for thread in range(several):
            arrays = memory_of(code.items, self.models.program, self._kept, shared=True)
            registers = aligned(8 * SCRATCH)
            self._bases[thread::several] = [arrays[buffer].ctypes.data for buffer in code.table.bases]
            self._scratch[thread::several] = registers.ctypes.data
            self._workspaces.append((arrays, registers))
        own = [(b, place) for b, place in code.table.bases.items() if b.kind == "memory" or b in self._kept]
        for buffer, place in own:
            self._bases[:, place] = [self._address(buffer, number) for number in range(self.models.count)]

    # ---------------------------------------------------------------------------- many passes in a call (Note [Passes])

    def may_follow(self) -> bool:
        """Whether steps may follow each other of which nobody knows more than how many there are."""
        code = self.code
        return self.recording.repeats and self._counts_alone and not code.draws and self._free()

    def numbers_ahead(self, given: Any, places: Any) -> Any:
        """Return for each model and step the numbers of the table, with all counts as they are; None where the program
        is not the right one for all of them.

        Args:
            given: the number that goes with each step, with the models first.
            places: how many steps of the call are before each step (`places_of`).
        """
        back = self._counts()
        scalars = self._scalars(given[:, 0].tolist())
        back()
        if not self.decided(scalars) or not self.decided(later(scalars)):
            return None
        scalars[0] = dict(zip(scalars[0], given, strict=True))
        for (_, segment, *_), each in zip(self._updates, scalars[1:], strict=True):
            if "step" in segment.numbers and "step" in each:
                each["step"] = each["step"] + places
        rows = np.empty((self.models.count, len(places), len(self.code.numbers)))
        self._fill(rows, scalars)
        return rows

    def counted(self, steps: int) -> None:
        """Count so many steps."""
        for _, segment, *_ in self._updates:
            if "step" in segment.numbers:
                segment.numbers["step"] += steps
            segment.moved_on()

    def taken(self, steps: int) -> None:
        """Leave what so many steps leave beside arrays and counts."""
        self._leave(steps)

    def tell(self, contexts: Any, asking: bool, steps: int, numbers: Any, gathers: Any, returned: Any) -> None:
        """Write contexts for passes of all models: each with so many steps, whose numbers follow each other, or with
        what they ask.
        """
        code, count = self.code, contexts.shape[1]
        ((start, end),) = [(0, code.asked)] if asking else code.spans
        contexts[...] = code.context(start, end, 0, steps)
        contexts[..., 2], contexts[..., 4] = starts(self._bases)[:, None], self._scratch[:, None]
        contexts[..., 3] = starts(numbers)[:, None] + np.arange(count) * (steps * numbers.strides[1])
        contexts[..., 8] = numbers.strides[1]
        contexts[..., 9], contexts[..., 11] = gathers.shape[2], returned.shape[2]
        for place, rows in ((10, gathers), (12, returned)):
            contexts[..., place] = starts(rows)[:, None] + np.arange(count) * rows.strides[1]

    def _fill(self, rows: Any, scalars: Sequence[Any]) -> None:
        alike: dict[Any, int] = {}
        for number, of in enumerate(rows):
            mine = tuple([_spelled(value) for each in self.models.of_one(scalars, number) for value in each.items()])
            known = number if self.models.sources else alike.setdefault(mine, number)
            if known == number:
                self.code.fill(of, self._values(scalars, number), ())
            else:  # as of a candidate of a search on another fold
                of[...] = rows[known]
        for place, values in self.code.apart.items():
            rows[:, :, place] = np.array(values)[:, None]

    def _values(self, scalars: Sequence[Any], number: int) -> Iterator[list[Any]]:
        """Return the numbers of the table for a model."""
        found = self.models.needed(scalars, number)
        return iter([[found[code] for code in codes] for codes in self.code.codes])

    def _drawn(self, number: int) -> list[tuple[int, Callable[[], int]]]:
        return [(p, draw.values[number] if isinstance(draw, Sources) else draw) for p, draw in self.code.draws]

    def _fits_all(self, scalars: Sequence[Any]) -> bool:
        return all([self.models.holds(scalars, number) for number in range(self.models.count)])


def _spelled(item: tuple[str, Any]) -> Any:
    """Return what tells a number of the host from others, 0.0 from -0.0, or the whole numbers of several steps."""
    name, value = item
    return name, tuple(value.tolist()) if isinstance(value, np.ndarray) else repr(value)
