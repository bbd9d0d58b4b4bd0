"""A program that runs for several models at once, and what has to be as it was for that."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.captured import Captured, Gradients, entered_with, held
from nanotorch.capture.effects import Draws, Numbers, array_of, version
from nanotorch.capture.numpy_code import NumpyCode, same_bits
from nanotorch.capture.passes import moved_view, simplify
from nanotorch.capture.program import Buffer, HostNumber, View
from nanotorch.capture.reach.reachable import Reachable
from nanotorch.capture.reach.watch import Watch, watched
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.recording import Recording, taken_apart
from nanotorch.capture.sweep.batching import Batched
from nanotorch.capture.sweep.host import Columns, Host, Update, columns
from nanotorch.capture.sweep.likeness import counterparts, equal
from nanotorch.capture.sweep.models import SCALARS, Models, Trial, Trials
from nanotorch.capture.sweep.stacked import arrays_of
from nanotorch.ops.create.random import Generator
from nanotorch.optim import Optimizer


class Part(NamedTuple):
    """What a program was recorded with of one model.

    Attributes:
        tensors: those that have to lie where they lie, and
        entered: those that may have a gradient to begin with.
        grads: those whose gradient a step leaves.
        updates: calls of optimizers' rules.
        versions: tensors that a step writes to, each with how often.
        generators: what it may draw from.
    """

    tensors: list[tuple[str, Tensor]]
    entered: list[tuple[Tensor, bool]]
    grads: list[tuple[Tensor, Any]]
    updates: list[Update]
    versions: list[tuple[Tensor, int]]
    generators: list[Generator]


class Walks:
    """What several functions can reach, together: `each` is what one of them can."""

    def __init__(self, each: list[Reachable]) -> None:
        self.each = each
        self.words = {word for reach in each for word in reach.words}
        self.objects = [thing for reach in each for thing in reach.objects]
        self.tensors = {f"{k}.{path}": t for k, reach in enumerate(each) for path, t in reach.tensors.items()}
        self.states = {key for reach in each for key in reach.states}
        self.line_of = each[0].line_of

    def forget_gradients(self) -> None:
        """Let go of gradients."""
        for reach in self.each:
            reach.forget_gradients()
        self.objects = [thing for reach in self.each for thing in reach.objects]


class Watches:
    """Whether several functions find what they found."""

    def __init__(self, each: list[Watch]) -> None:
        self.each = each

    def is_same(self) -> bool:
        """Whether all is as it was."""
        return all([watch.is_same() for watch in self.each])


class BatchedStep(Captured):
    """A program that runs for all models of a group (Note [Batched programs]).

    Args:
        recording: of the step of the first model.
        because: why it was recorded.
        shared: the arguments that are the same for all models.

    Attributes:
        models: what stands in its program for each model.
        parts: what it was recorded with of each model.
        reaches: what the step of each model can reach.
        call: one for which it is.
        remembers: whether it is written with what each statement gives.
    """

    watch: Any
    remembers = True

    def __init__(self, recording: Recording, because: str, shared: Sequence[bool]) -> None:
        self.recording, self.confirmed, self.given_up, self.because = recording, False, False, because
        self._waits_for_table, self.table = False, None
        self._host: Host | None = None
        self.memory, self.grads = {}, {}
        self.proven = False

    def take(
        self, recording: Recording, models: Models, call: Any, results: Sequence[Any], before: State
    ) -> list[list[int]] | None:
        """Make the program of the second recording, check it with what each step has done in that call, and run from
        now on.

        Args:
            recording: of the first step.
            models: what stands in its program for each model.
            call: what was recorded.
            results: what each step returned that has run: those of the others are not compared.
            before: what was there before the call, beside arrays.

        Returns:
            None; or, where the program is not the right one for all models, the numbers of those that belong together.
        """
        self.recording, self.models, self.call = recording, models, call
        grads = [(tensor, self._place_of(grad)) for tensor, grad in recording.grads]
        moved = simplify(models.program, recording.kept)
        self.kept = self._kept = {moved[buffer].buffer if buffer in moved else buffer for buffer in recording.kept}
        self._places = [moved_view(place, moved) for _, place in grads]
        self.parts = [_part(recording, twins) for twins in models.twins]
        self._updates = [update for part in self.parts for update in part.updates]
        ran = range(len(results))
        memory = {places[k][0] for places in models.places.values() for k in ran if places[k][0].kind == "memory"}
        after, left = Moment(before.reaches), {buffer: buffer.array.copy() for buffer in memory}
        try:
            put_back(memory)
            before.moment.restore()
            scalars = self._scalars(call.numbers)
            numbers = [models.numbers(scalars, k) for k in range(models.count)]
            apart = equal([repr([each[code] for code in models.program.decisions]) for each in numbers])
            if len(apart) > 1:
                return apart
            before.moment.restore()
            left_over = [place for place in self._places if isinstance(place, View)]
            run = Trials(models, left_over, remembers=self.remembers).run
            trials = [run(number, numbers[number]) for number in ran]
            wrong = self._wrong(trials, results, left, before, after)
            if 0 in wrong:
                raise CaptureError(f"the program of a step of the sweep gives other numbers than the step: {wrong[0]}")
            if wrong:
                return [[k for k in range(models.count) if k not in wrong], *[[k] for k in wrong]]
            self._alone: set[int] = set()
            while (different := self._write(trials, scalars, memory, before)) is not None:
                self._alone.add(different)
        finally:
            after.restore()
            for buffer, array in left.items():
                buffer.array[...] = array
        self.build = taken_apart(recording.result, [])
        self.reaches = list(before.reaches)
        self.watch = Watches(list(map(watched, self.reaches)))
        self._bind()
        self._holds: list[Any] = list(map(self._guard, self.parts))
        recording.forget(self.kept)
        self.confirmed = True
        return None

    def _wrong(
        self, trials: Sequence[Trial], results: Sequence[Any], left: dict[Buffer, Any], before: State, after: Moment
    ) -> dict[int, str]:
        """Return the models whose trial left something else than their step, with what that is."""
        found: dict[int, str] = {}
        if not after.draws.are_there():
            found[0] = "random numbers"
        for number, (trial, part) in enumerate(zip(trials, self.parts, strict=False)):
            tensors: list[Tensor] = []
            taken_apart(results[number], tensors)
            pairs = list(zip(map(array_of, tensors), trial.outputs, strict=True))
            for (tensor, _), place in zip(part.grads, self._places, strict=True):
                if isinstance(place, View):
                    pairs.append((array_of(tensor.grad), trial.left[place]))
            if not all([same_bits(one, other) for one, other in pairs]):
                found[number] = "what it returns, or a gradient"
            if before.written(number) != before.written(0):
                found[number] = "which tensors it writes to"
        for buffer, array in left.items():
            if not same_bits(buffer.array, array):
                for number, view in self._written_to(buffer):
                    if not same_bits(view.of(buffer.array), view.of(array)):
                        found.setdefault(number, buffer.name)
        return found

    def _written_to(self, buffer: Buffer) -> Iterable[tuple[int, View]]:
        """Give for each model what it writes to in memory."""
        for statement in self.models.program.statements:
            for view in statement.out:
                if view.buffer.kind == "memory":
                    for number in range(self.models.count):
                        row = self.models.row(view, number)
                        if row.buffer is buffer:
                            yield number, row

    def _write(
        self, trials: Sequence[Trial], scalars: Sequence[Any], memory: Collection[Buffer], before: State
    ) -> int | None:
        """Write the program out; return a call that gives other bits than the trials, if there is one, with an axis."""
        batched = self.batched = Batched(self.models, trials, self._kept, self._alone)
        self.code = NumpyCode(batched.program, batched.kept)
        put_back(memory)
        before.moment.restore()
        inputs = [buffer.array for buffer in batched.program.inputs]
        different = self.code.check(inputs, columns(self.models, batched.needed, scalars))
        if different is not None and different not in batched.batched:
            raise CaptureError(f"{different.line}: the program of {different.row} differs from the op: {different!r}")
        return None if different is None else batched.batched[different]

    def _bind(self) -> None:
        """Have what was written run from now on."""
        models, batched = self.models, self.batched
        places: list[tuple[Tensor, Any]] = []
        for number, part in enumerate(self.parts):
            for (tensor, grad), place in zip(part.grads, self._places, strict=True):
                row = batched.row(place, number) if isinstance(place, View) else None
                places.append((tensor, grad if row is None else row.of(row.buffer.array)))
        self._gradients = Gradients(places)
        self.kept = batched.kept
        self._run, self._decided = self.code.build()
        self.run, self.decided = self._run_all, self._fits_all
        self._columns = functools.partial(columns, models, batched.needed)
        updates = [update for part in self.parts for update in part.updates]
        versions = [each for part in self.parts for each in part.versions]
        generators = {id(generator): generator for part in self.parts for generator in part.generators}
        self.recording.program = batched.program
        self._begin(updates, versions, list(generators.values()))
        self._owners |= {id(owner(buffer.array)) for buffer in self.kept}
        codes = [leaf.code for s in batched.program.statements for leaf in s.leaves() if isinstance(leaf, HostNumber)]
        last = models.common + models.count * models.updates
        by_model = any(models.common <= int(of) < last for code in codes for of in SCALARS.findall(code))
        host = Host(models, batched.needed, updates)
        self._host = host if host.possible and not by_model else None
        self._counts_alone = self._counts_alone and self._host is None  # columns are counted on by `Host` alone
        for statement in batched.program.statements:
            statement.result = ()

    def _guard(self, part: Part) -> Any:
        memory = [(tensor, array_of(tensor)) for _, tensor in part.tensors]
        return held(memory, part.entered, part.grads, part.updates)

    def drop(self, number: int, rows: Collection[int]) -> None:
        """Let a model leave; the last one takes its place, whose memory has moved there.

        Args:
            number: of the model.
            rows: the ids of memory in which models have rows.

        Others may follow; `go_on` comes last.
        """
        moved = number != len(self.parts) - 1
        lists: tuple[list[Any], ...] = self.parts, self.reaches, self.watch.each, self._holds
        for each in lists:
            each[number] = each[-1]
            del each[-1]
        self.models.drop(number, rows)
        if moved:
            self._holds[number] = None

    def go_on(self) -> None:
        """Have the program run for those that are left."""
        self._rewrite()
        self._bind()
        self._holds = [hold or self._guard(part) for hold, part in zip(self._holds, self.parts, strict=True)]

    def _rewrite(self) -> None:
        """Write the program out for the models that are left."""
        self.batched = Batched(self.models, [], self._kept, self._alone)
        self.code = NumpyCode(self.batched.program, self.batched.kept)

    # ------------------------------------------------------------------------------------------------------- a call

    def _hold(self) -> bool:
        return all([hold() for hold in self._holds])

    def renew(self, reachable: Any) -> None:
        """Go on from what is there now, if each step finds there what it found."""
        if not self.confirmed:
            return
        for number, (mine, reach) in enumerate(zip(self.reaches, reachable.each, strict=True)):
            if mine is not reach and mine.fingerprint == reach.fingerprint:
                self.watch.each[number] = self.watch.each[number].renewed(reach)
                self.reaches[number] = reach

    def misfit(self, reachable: Any) -> tuple[int, str]:
        """Say why it was not the program for a call of its form."""
        if not self.confirmed:
            return 0, "the call before was another one"
        for number, (walk, reach) in enumerate(zip(self.reaches, reachable.each, strict=True)):
            mine, theirs = walk.fingerprint, reach.fingerprint
            for path in (*mine, *theirs):
                if (path in mine) != (path in theirs) or mine[path] != theirs[path]:
                    return 1, f"{path or 'the function'} is not as it was in step {number}"
        return 4, "memory was replaced, or the numbers of an optimizer decide otherwise"

    def explanation(self) -> Any:
        """Return what the program is made of."""
        self._lasting = [(path, tensor, array_of(tensor)) for part in self.parts for path, tensor in part.tensors]
        self._entered = [each for part in self.parts for each in part.entered]
        return super().explanation()

    def _scalars(self, numbers: Sequence[int]) -> list[Any]:
        """Run the host's part of a step for all models."""
        found = None if self._host is None else self._host.next(numbers)
        return super()._scalars(numbers) if found is None else found

    def _run_all(self, *given: Any) -> Any:
        scalars = given[-1]
        if not isinstance(scalars, Columns):
            scalars = self._columns(scalars)
        return self._run(*given[:-1], scalars)

    def _fits_all(self, scalars: Sequence[Any]) -> bool:
        """Whether it is the program for these numbers; where that was seen, columns are only given where it is."""
        if isinstance(scalars, Columns):
            return True
        decided = self._decided(scalars)
        if decided and self._host is not None:
            self._host.accept()
        return decided


class Moment:
    """What functions change beside the elements of arrays, as it is: numbers of optimizers, generators."""

    def __init__(self, reaches: Sequence[Reachable]) -> None:
        things = {id(thing): thing for reach in reaches for thing in reach.objects}.values()
        self._numbers = [Numbers(thing) for thing in things if isinstance(thing, Optimizer)]
        self.draws = Draws([thing for thing in things if isinstance(thing, Generator)])

    def restore(self) -> None:
        """Put everything back."""
        for numbers in self._numbers:
            numbers.restore()
        self.draws.restore()


class State:
    """What several functions find before a call.

    Attributes:
        twins: for each what it has in the place of what the first one has, by the id of that.
        arrays: for each all arrays that it finds.
        moment: what they change beside arrays.
    """

    def __init__(self, reaches: Sequence[Reachable]) -> None:
        self.reaches, self.moment = reaches, Moment(reaches)
        self.twins = [counterparts(reaches[0], reach) for reach in reaches]
        self.arrays = [arrays_of(reach) for reach in reaches]
        self._versions = [list(map(version, reach.tensors.values())) for reach in reaches]

    def written(self, number: int) -> list[int]:
        """Return by how much the versions of the tensors of a function have moved on."""
        now = map(version, self.reaches[number].tensors.values())
        return [after - before for before, after in zip(self._versions[number], now, strict=True)]


def _part(recording: Recording, twins: dict[int, Any]) -> Part:
    """Return what stands for a model in the place of what was recorded of the first one."""
    paths = {id(tensor): path for path, tensor in recording.reachable.tensors.items()}
    generators = recording.snapshot.draws.generators
    return Part(
        [(paths.get(id(tensor), "a gradient"), twins[id(tensor)]) for tensor, _ in recording.memory],
        entered_with([twins[id(tensor)] for tensor in recording.snapshot.tensors], recording.entered),
        [(twin := twins[id(tensor)], twin.grad) for tensor, _ in recording.grads],
        [(twins[id(o)], twins[id(segment)], index, begins) for o, segment, index, begins in recording.updates],
        [(twins[id(tensor)], step) for tensor, step in recording.versions],
        [twins.get(id(generator), generator) for generator in generators],
    )


def put_back(memory: Iterable[Buffer]) -> None:
    """Put memory back as it was before the recorded call."""
    for buffer in memory:
        buffer.array[...] = buffer.before
