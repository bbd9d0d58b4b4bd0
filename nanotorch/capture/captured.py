"""A program that runs in the place of a function, and what has to be as it was for that."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter, is_
from sys import getrefcount
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.numpy_backend import owner
from nanotorch.backend.primitives import PRIMITIVES
from nanotorch.capture.batches import Batches, Between
from nanotorch.capture.conditions import Conditions
from nanotorch.capture.effects import Draws, array_of, plain_numbers
from nanotorch.capture.explanation import Explanation
from nanotorch.capture.numpy_code import CheckFailedError, NumpyCode
from nanotorch.capture.page import Page
from nanotorch.capture.passes import DRAWS, moved_view, simplify
from nanotorch.capture.program import Program, View
from nanotorch.capture.reach.reachable import Reachable, leaf_of
from nanotorch.capture.reach.watch import Watch
from nanotorch.capture.recorder import CaptureError, call_scalars
from nanotorch.capture.recording import Recording
from nanotorch.capture.table.machine import MACHINE, Interpreter
from nanotorch.capture.table.table_code import Many, TableCode
from nanotorch.optim import Optimizer

_grad_of = attrgetter("_grad")
WHOLE_DIVISIONS = {"whole_divide", "floor_divide", "fmod", "remainder", "trunc_divide"}
NOT_DONE = False, None
PROVEN: dict[bytes, None] = {}
"""Programs that were confirmed, and checked as tables; the last ones, by their digest."""
MOST_PROVEN = 1000


class Captured:
    """A program of a function (Note [Compiled steps]).

    Attributes:
        confirmed: whether a second recording has given the same program.
        given_up: whether it has become useless.
        build: makes a result of other tensors.
        memory: by path where tensors lie that live on, and
        grads: where their gradients stay.
        because: why it was recorded.
        proven: whether a program like it (`Recording.digest`) was confirmed, and checked as a table, in this process.
        takes: whether it is for the arguments of a call, once that was written down.
        code: the program as NumPy code, and
        table: as a table, where that runs.
    """

    takes: Callable[[Any], bool] | None = None
    _arriving: Sequence[tuple[Tensor, Any, int]] = ()

    def __init__(self, recording: Recording, backend: str, because: str, trusting: bool = False) -> None:
        self.recording, self.confirmed, self.given_up, self.because = recording, False, False, because
        self._waits_for_table = backend != "numpy"
        program = recording.program
        self._arriving = recording.own_gradients()
        kept = recording.kept
        places = [(tensor, self._place_of(grad)) for tensor, grad in recording.grads]
        paths = {id(tensor): path for path, tensor in recording.reachable.tensors.items()}
        lying = [(paths[id(t)], recording.place(array)) for t, array in recording.memory if id(t) in paths]
        self.memory = {path: view for path, view in lying if view is not None}
        moved = simplify(program, kept, gathered(recording))
        places = [(tensor, moved_view(place, moved)) for tensor, place in places]
        self.grads = {paths[id(tensor)]: place for tensor, place in places if isinstance(place, View)}
        self.kept = kept = {moved[buffer].buffer if buffer in moved else buffer for buffer in kept}
        for buffer in kept:  # what the recorded call has made belongs to the user
            buffer.array = buffer.array.copy(order="K")
        self.table: TableCode | None = None
        self._digest = recording.digest()
        self.proven = trusting and self._waits_for_table and is_proven(self._digest)
        self._gradients = Gradients([(t, p.of(p.buffer.array) if isinstance(p, View) else p) for t, p in places])
        if self.proven:
            assert MACHINE.interpreter is not None
            self._waits_for_table, self.table = False, TableCode(program, kept, MACHINE.interpreter)
            self.run, self.decided = self.table.build()
        elif not self._is_table_at_once():
            self.code = NumpyCode(program, kept)
            self._check()
            self.run, self.decided = self.code.build()
        recording.forget_gradients()
        recording.forget_results(kept)

    def _place_of(self, grad: Tensor | None) -> Any:
        """Return where the program writes a gradient; the gradient itself where it was there before the call."""
        view = None if grad is None else self.recording.place(grad._array)
        return grad if view is None or view.buffer.kind != "temporary" else view

    def _check(self) -> None:
        """Run the program from where the recorded call began; it has to do the same."""
        different = self._difference(self.code.check)
        if different is not None:
            raise CaptureError(f"{different.line}: the program of {different.row} differs from the op: {different!r}")

    def _is_table_at_once(self) -> bool:
        """Become a table where the interpreter is ready, and the table does what was recorded; else NumPy says more."""
        interpreter = MACHINE.soon() if self._waits_for_table else None
        if interpreter is None:
            return False
        table = TableCode(self.recording.program, self.kept, interpreter)
        try:
            if self._difference(functools.partial(table.check, recorded=True)) is not None:
                return False
        except CheckFailedError:
            return False
        self._waits_for_table, self.table = False, table
        self.run, self.decided = table.build()
        return True

    def _difference(self, check: Callable[[list[Any], Any], Any]) -> Any:
        """Return the first statement that gives something else than in the recorded call, if there is one."""
        recording = self.recording
        recording.remember()
        recording.restore(before=True)
        draws = Draws(recording.snapshot.draws.generators)
        recording.snapshot.draws.restore()
        try:
            return check([b.array for b in recording.program.inputs], recording.scalars)
        finally:
            recording.restore(before=False)
            draws.restore()

    def confirm(self, watch: Watch) -> None:
        """Have the program run from now on."""
        recording = self.recording
        self.watch, self.fingerprint = watch, recording.reachable.fingerprint
        paths = {id(tensor): path for path, tensor in recording.reachable.tensors.items()}
        self._lasting = [(paths.get(id(tensor), "a gradient"), tensor, array) for tensor, array in recording.memory]
        self._entered = entered_with(recording.snapshot.tensors, recording.entered)
        self._hold = held(recording.memory, self._entered, recording.grads, recording.updates, self._arriving)
        self.build = recording.build
        self._begin(recording.updates, recording.versions, recording.snapshot.draws.generators)
        recording.forget(self.kept)
        self.confirmed = True
        if self.table is not None:
            prove(self._digest)

    def _begin(self, updates: Sequence[Any], versions: Sequence[tuple[Tensor, int]], generators: list[Any]) -> None:
        """Settle what a run does beside the program."""
        self._updates = updates
        self._stepping = stepping = list({id(optimizer): optimizer for optimizer, *_ in updates}.values())
        self._counting = [o for o in stepping if type(o).count_step is not Optimizer.count_step]
        moves = (Optimizer.scalars, Optimizer.next_scalars, Optimizer.count_step)
        segments = {id(segment) for _, segment, *_ in updates}
        program = self.recording.program
        once = len(segments) == len(updates)  # not several steps of an optimizer in one call
        self._counts_alone = (
            once
            and not any("'step'" in code for code in program.decisions)
            and all([(type(o).scalars, type(o).next_scalars, type(o).count_step) == moves for o in stepping])
        )
        self._versions = [(t._version_cell(), step, t._version_cell().writer) for t, step in versions]
        memory = [b.array for b in program.buffers if b.kind == "memory" or b in self.kept]
        self._owners = frozenset([id(owner(array)) for array in memory])
        self._at_risk = at_risk(program)
        statements = program.statements
        drawn = min([k for k, s in enumerate(statements) if s.primitive in DRAWS], default=len(statements))
        asked = any(not statement.out for statement in statements[drawn:])
        draws_back = drawn < len(statements) and (asked or self._at_risk is not None)
        self._generators = generators if draws_back else []

    # ------------------------------------------------------------------------------------------------------ to be read

    def pages(self) -> list[Page]:
        """Return the program as a page to read."""
        return [Page(self.recording.program, self.memory, self.grads)]

    def explanation(self) -> Explanation:
        """Return what the program is made of, and what it holds for."""
        held = []
        if self.confirmed:
            held = [f"the memory of {len(self._lasting)} tensors", "what the function finds around it"]
            if self._entered:
                held.append(f"gradients of {sum([entered for _, entered in self._entered])} tensors to begin with")
        return Explanation(self.table or self.code, held, self.because)

    def misfit(self, reachable: Reachable) -> tuple[int, str]:
        """Say why it was not the program for a call of its form, and how much of it was right."""
        if not self.confirmed:
            return 0, "the call before was another one"
        for path, tensor, array in self._lasting:
            if tensor._array is not array:
                return 2, f"the memory of {path} was replaced"
        mine, theirs = self.fingerprint, reachable.fingerprint
        for path in (*mine, *theirs):
            if (path in mine) != (path in theirs) or mine[path] != theirs[path]:
                return 1, f"{path or 'the function'} is not as it was"
        if any([(tensor._grad is not None) != entered for tensor, entered in self._entered]):
            return 3, "other tensors had a gradient to begin with"
        return 4, "the numbers of an optimizer decide otherwise"

    # ------------------------------------------------------------------------------------------------------- a call

    def fits(self, arguments: Sequence[Tensor]) -> bool:
        """Whether it is the program for a call: all is there that it was recorded with."""
        if not (self.confirmed and self.watch.is_same() and self._hold()):
            return False
        for tensor in arguments:
            array = tensor._array
            if id(array if array.base is None else owner(array)) in self._owners:
                return False
        return not self._arriving or self._gradients_apart(arguments)

    def _gradients_apart(self, arguments: Sequence[Tensor]) -> bool:
        """Whether the gradients that a call finds lie in memory of their own, as those that were recorded did."""
        memory = [id(owner(array_of(_grad_of(tensor)))) for tensor, *_ in self._arriving]
        others = self._owners.union([id(owner(argument._array)) for argument in arguments])
        return len({*memory}) == len(memory) and others.isdisjoint(memory)

    def renew(self, reachable: Reachable) -> None:
        """Go on from what is there now, if the function finds there what it found."""
        if self.confirmed and self.fingerprint == reachable.fingerprint:
            self.watch = self.watch.renewed(reachable)

    def replay(self, arguments: Sequence[Tensor], numbers: Sequence[int] = ()) -> tuple[bool, Any]:
        """Run the program; (False, None) where it is not for this call, with everything as it was before."""
        if not self._free():
            return NOT_DONE
        back = self._counts()
        results = self._once(map(array_of, arguments), self._scalars(numbers), back)
        if results is None:
            return NOT_DONE
        self._leave(1)
        return True, self.build([from_array(array) for array in results])

    def repeat(
        self, batches: Batches, between: Between | None, schedule: Between | None = None
    ) -> tuple[int, list[Any]]:
        """Run the program for one batch after the other, until it is not for one; return for how many it ran, and what
        they gave, stacked.
        """
        done: list[Any] = []
        if not self._free():
            return 0, done
        if not self.recording.repeats:
            batches = batches.first()
        if self.table is not None and between is None:
            many = self.table.many(batches.tables, batches.order, batches.size)
            if many is not None:
                return self._at_once(self.table, many, batches.numbers, schedule)
        scalars: list[Any] = []
        calls = [call for call in (schedule, between) if call is not None]
        left = 0
        try:
            for arrays, numbers in batches:
                if scalars and not calls and self._counts_alone:
                    back = self._count_on(scalars, numbers)
                else:
                    back, scalars = self._counts(), self._scalars(numbers)
                results = self._once(arrays, scalars, back)
                if results is None:
                    break
                done.append(results)
                if calls:  # they may look at all that a step leaves
                    self._leave(1)
                    left += 1
                    for call in calls:
                        call()
                    if not self.fits(()) or not self._free():
                        break
        finally:
            if len(done) > left:
                for _, segment, *_ in self._updates:
                    segment.moved_on()
                self._leave(len(done) - left)
        return len(done), list(map(np.stack, zip(*done, strict=True)))

    def _at_once(
        self, table: Any, many: Many, numbers: Sequence[Sequence[int]], schedule: Between | None
    ) -> tuple[int, list[Any]]:
        """Run the host's part of all steps, as far as the program is the right one for them, and then the steps."""
        steps = min(many.ready(), len(numbers))
        rows: list[Any] = []
        known = 0
        try:
            for scalars, _, ahead in self._ahead(numbers[:steps], schedule):
                rows.append(table.rows_of(scalars, ahead))
                known += ahead
        finally:
            self._arrive()
            done, results = many.run(rows[0] if len(rows) == 1 else np.concatenate(rows)) if rows else (0, [])
            if done:
                self._depart()
                self._leave(done)
        assert done == known
        return done, results

    def _ahead(
        self, numbers: Sequence[Sequence[int]], schedule: Between | None = None
    ) -> Iterator[tuple[list[Any], int, int]]:
        """Run the host's part of steps, as far as the program is the right one for them; give the scalars of some of
        them at a time, with the first one and how many they are.
        """
        known = 0
        while known < len(numbers):
            back, ahead = self._counts(), 1
            scalars = self._scalars(numbers[known])
            if not self.decided(scalars):
                back()
                return
            if schedule is None and self._counts_alone and known + 1 < len(numbers):
                ahead = self._move_on(scalars, numbers[known:])
            yield scalars, known, ahead
            if schedule is not None:
                for optimizer in self._stepping:  # a scheduler asks whether its optimizer has begun
                    optimizer._step_called = True
                schedule()
            known += ahead

    def _move_on(self, scalars: list[Any], numbers: Sequence[Sequence[int]]) -> int:
        """Make of the scalars of a step those of as many as there are numbers, where counts alone move on, and move
        them on; return how many steps these are.
        """
        if not self.decided(later(scalars)):  # what holds for the first step does not hold for the others
            return 1
        steps = places_of(len(numbers))
        if numbers[0]:
            scalars[0] = dict(zip(scalars[0], np.array(numbers).T, strict=True))
        for (_, segment, *_), each in zip(self._updates, scalars[len(scalars) - len(self._updates) :], strict=True):
            if "step" in segment.numbers:
                segment.numbers["step"] += len(steps) - 1
                segment.moved_on()
                if "step" in each:
                    each["step"] = each["step"] + steps
        return len(steps)

    def _free(self) -> bool:
        """Whether the program may write its gradients; if not, it is given up."""
        free = self._gradients.free()
        if not free:
            self.given_up, self.confirmed = True, False
        return free

    def _counts(self) -> Callable[[], None]:
        """Return what puts back what the host's part of a step counts."""
        counts = [(segment, segment.first, segment.known) for _, segment, _, _ in self._updates]
        counted = [(o, plain_numbers(o)) for o in self._counting] if self._counting else ()

        def back() -> None:
            for optimizer, plain in counted:
                vars(optimizer).update(plain)
            for segment, first, known in counts:
                segment.first, segment.known = first, known
                for entries, before in zip(segment.numbers.values(), known, strict=True):
                    entries[...] = np.frombuffer(before, entries.dtype)

        return back

    def _scalars(self, numbers: Sequence[int]) -> list[Any]:
        """Run the host's part of a step; return the scalars of its program."""
        scalars: list[Any] = [call_scalars(numbers)] if numbers else []
        for optimizer, segment, index, begins in self._updates:
            if begins:
                optimizer.count_step()
            scalars.append(optimizer.next_scalars(segment, optimizer.param_groups[index]))
        return scalars

    def _count_on(self, scalars: list[Any], numbers: Sequence[int]) -> Callable[[], None]:
        """Make of the scalars of a step those of the next one, where counts alone move on; return what takes
        it back.
        """
        counted = []
        if numbers:
            scalars[0] = call_scalars(numbers)
        for (_, segment, *_), each in zip(self._updates, scalars[len(scalars) - len(self._updates) :], strict=True):
            if "first" in each:
                each["first"] = False
            if "step" in segment.numbers:
                counts = segment.numbers["step"]
                counts += 1
                counted.append(counts)
                if "step" in each:
                    each["step"] += 1

        def back() -> None:
            for counts in counted:
                counts -= 1

        return back

    def _once(self, arrays: Iterable[Any], scalars: list[Any], back: Callable[[], None]) -> Any:
        """Run the program after the host's part of the step; None where it is not for this call, and all is `back`."""
        if self._arriving:
            self._arrive()
        saved = [(array, array.copy()) for array in self._at_risk] if self._at_risk else ()
        draws = Draws(self._generators) if self._generators else None
        if self._waits_for_table and self.decided(scalars) and (interpreter := MACHINE.soon()) is not None:
            arrays = list(arrays)
            self._become_table(interpreter, arrays, scalars)
        try:
            results = self.run(*arrays, scalars) if self.decided(scalars) else None
        except CheckFailedError:
            results = None
        except Exception:
            if self._at_risk is None:
                raise
            results = None  # the function's own error, which it raises when it runs as ever
            for array, before in saved:
                array[...] = before
        if results is None:
            if draws is not None:
                draws.restore()
            back()
        elif self._arriving:
            self._depart()
        return results

    def _arrive(self) -> None:
        """Take in the gradients that are there."""
        for tensor, own, _ in self._arriving:
            own[...] = array_of(_grad_of(tensor))

    def _depart(self) -> None:
        """Write the gradients that were there."""
        for tensor, own, _ in self._arriving:
            array_of(_grad_of(tensor))[...] = own

    def _leave(self, times: int) -> None:
        """Leave what so many steps leave beside arrays: gradients, versions."""
        if self._arriving:
            for tensor, _, step in self._arriving:
                _grad_of(tensor)._version_cell().number += step * times
        self._gradients.give()
        for cell, step, writer in self._versions:
            cell.number += step * times
            cell.writer = writer
        for optimizer in self._stepping:
            optimizer._step_called = True

    def _become_table(self, interpreter: Interpreter, arrays: list[Any], scalars: Any) -> None:
        """Run as a table from now on, if that gives what NumPy gives."""
        self._waits_for_table = False
        table = TableCode(self.recording.program, self.code.kept, interpreter)
        try:
            different = table.check(arrays, scalars)
        except CheckFailedError:  # of a question: this call is none for the program
            self._waits_for_table = True
            return
        if different is not None:
            warnings.warn(
                f"{different.line}: the table of {different.row} differs from NumPy more than it may, so the step runs "
                f"as NumPy code: {different!r}",
                stacklevel=5,
            )
            return
        self.table = table
        self.run, self.decided = table.build()
        prove(self._digest)


def is_proven(digest: bytes) -> bool:
    """Whether a program was confirmed, and checked as a table, in this process."""
    return digest in PROVEN


def prove(digest: bytes) -> None:
    """Note down that a program was confirmed, and checked as a table."""
    PROVEN[digest] = None
    if len(PROVEN) > MOST_PROVEN:
        del PROVEN[next(iter(PROVEN))]


@functools.lru_cache(64)
def places_of(steps: int) -> Any:
    """Return the places of steps in a call, as Python's numbers: the host computes with those, and NumPy's powers of
    many float64 at once, roots among them, may be others in their last bit.
    """
    places = np.arange(steps).astype(object)
    places.flags.writeable = False
    return places


def later(scalars: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the scalars of a step as those of one that is not the first."""
    return [{**each, "first": False} if "first" in each else each for each in scalars]


class Gradients:
    """The gradients that a program leaves, in its own memory.

    Whatever a user makes of an array refers to the array that it is a view of; there NumPy looks for the one that owns
    the memory. The gradients own none, by way of a `memoryview`: so each of them is referred to by what was made of it
    alone, and the count of references says whether there is something.

    Args:
        places: for each tensor the array where its gradient lies, or the gradient itself, or None.
    """

    def __init__(self, places: Sequence[tuple[Tensor, Any]]) -> None:
        self._fixed = [(tensor, grad) for tensor, grad in places if not isinstance(grad, np.ndarray)]
        own = [(tensor, array) for tensor, array in places if isinstance(array, np.ndarray)]
        self._tensors = [tensor for tensor, _ in own]
        self._arrays = [np.asarray(array.data) for _, array in own]
        self._grads = list(map(from_array, self._arrays))
        self._alone = [3] * len(own)

    def free(self) -> bool:
        """Whether nobody keeps one of the gradients; a kept tensor moves away, of other things the answer is False."""
        if list(map(getrefcount, self._arrays)) != self._alone:  # here, in the gradient, and in the question
            return False
        counts = list(map(getrefcount, self._grads))
        if counts == self._alone and all(map(is_, map(_grad_of, self._tensors), self._grads)):
            return True
        for place, (grad, tensor, count) in enumerate(
            zip(self._grads, self._tensors, map(getrefcount, self._grads), strict=True)
        ):
            if count > 3 + (tensor._grad is grad):  # here, in the question, and in what is zipped
                grad._array = grad._array.copy()
                self._grads[place] = from_array(self._arrays[place])
        return True

    def give(self) -> None:
        """Let the tensors have their gradients."""
        for tensor, grad in zip(self._tensors, self._grads, strict=True):
            tensor._grad = grad
        for tensor, grad in self._fixed:
            tensor._grad = grad


def entered_with(tensors: Sequence[Tensor], entered: Sequence[bool]) -> list[tuple[Tensor, bool]]:
    """Return for tensors that may have a gradient whether they came with one."""
    return [(t, with_one) for t, with_one in zip(tensors, entered, strict=True) if t._requires_grad or with_one]


def held(
    memory: Sequence[tuple[Tensor, Any]],
    entered: Sequence[tuple[Tensor, bool]],
    grads: Sequence[tuple[Tensor, Tensor | None]],
    updates: Sequence[Any],
    arriving: Sequence[tuple[Tensor, Any, int]] = (),
) -> Callable[[], bool]:
    """Return what says whether tensors have the memory and gradients, and segments the numbers, that a program needs.

    Args:
        memory: tensors, each with its array.
        entered: tensors, each with whether it comes with a gradient.
        grads: tensors, each with the gradient that it has after a step.
        updates: calls of optimizers' rules (`Recording`).
        arriving: tensors, each with memory like that in which it comes with a gradient.
    """
    conditions = Conditions()
    for tensor, array in memory:
        conditions.add("{}._array is {}", tensor, array)
    for tensor, with_one in entered:
        conditions.add(f"{{}}._grad is {'not ' * with_one}None", tensor)
    for tensor, own, _ in arriving:
        conditions.add(f"{{}}._grad._array.strides == {own.strides}", tensor)
        conditions.add("{}._grad._array.dtype is {} and {}._grad._edge is None", tensor, own.dtype, tensor)
    guarded = {id(tensor) for tensor, _ in memory}
    without = {id(tensor) for tensor, with_one in entered if not with_one}
    for tensor, grad in grads:
        if id(grad) not in guarded:
            continue
        if id(tensor) not in without:  # it was there before, and is written to
            conditions.add("{}._grad is {}", tensor, grad)
        elif (leaf := leaf_of(tensor)) is not None and leaf.place is grad:  # backward gives it that place again
            conditions.add("{}.place is {}", leaf, grad)
    for segment in {id(segment): segment for _, segment, *_ in updates}.values():
        for place, entries in enumerate(segment.numbers.values()):
            conditions.add(f"{{}}.tobytes() == {{}}.known[{place}]", entries, segment)
    for optimizer, _, index, *_ in updates:  # an option may decide what state there is, as of Adam `amsgrad`
        if type(optimizer).state_names is not Optimizer.state_names:
            group = optimizer.param_groups[index]
            conditions.add("{}.state_names({}) == {}", optimizer, group, optimizer.state_names(group))
    return conditions.build()


def gathered(recording: Recording) -> list[Any]:
    """Return the arrays in which segments gather parameters and gradients, at every step anew (Note [Segments])."""
    segments = [segment for _, segment, *_ in recording.updates]
    params = [segment.flat for segment in segments if len(segment.pieces)]
    return [*params, *[segment.grad for segment in segments if len(segment.grad_pieces)]]


def at_risk(program: Program) -> list[Any] | None:
    """Return the memory that has to be put back when a statement of a program raises: what is written before the last
    one that can; None where none can.
    """
    asked = {view for s in program.statements if not s.out for view in s.reads}
    last = max([k for k, s in enumerate(program.statements) if _may_raise(s, asked)], default=None)
    if last is None:
        return None
    written = {view.buffer for s in program.statements[:last] for view in s.out if view.buffer.kind == "memory"}
    return [buffer.array for buffer in written]


def _may_raise(statement: Any, asked: set[View]) -> bool:
    """Whether a statement can raise for values of its operands."""
    name = statement.primitive
    section = PRIMITIVES[name].section if name in PRIMITIVES else ""
    whole = [view for view in statement.reads if view.dtype.kind in "iu"]
    if name in WHOLE_DIVISIONS:
        return bool(whole)
    if section == "index" or name == "getitem":
        return any(view not in asked for view in whole)
    return section == "linalg" and name not in ("matmul", "einsum")
