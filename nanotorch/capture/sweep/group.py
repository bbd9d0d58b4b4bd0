"""Steps of a sweep that are alike: one of them is recorded, and its program runs for all of their models."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.captured import Captured, Gradients, at_risk
from nanotorch.capture.compiled import Call, Compiled, Fallback, agree
from nanotorch.capture.effects import Draws, Numbers, version
from nanotorch.capture.memory import Reachable, Watch
from nanotorch.capture.numpy_code import NumpyCode, same_bits
from nanotorch.capture.page import name_inputs
from nanotorch.capture.passes import moved_view, simplify
from nanotorch.capture.program import Buffer, HostNumber, View
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.recording import Recording, array_of, taken_apart
from nanotorch.capture.sweep.batching import Batched
from nanotorch.capture.sweep.host import Columns, Host, columns
from nanotorch.capture.sweep.likeness import alike, counterparts
from nanotorch.capture.sweep.models import SCALARS, Models, Trial, plain
from nanotorch.capture.sweep.stacked import Rows, arrays_of, stack, unstack
from nanotorch.ops.create.random import Generator
from nanotorch.optim import Optimizer

Axes = tuple[int | None, ...]


class Each(list[Any]):
    """What each step returned."""


class Group(Compiled):
    """Steps that are alike (Note [Like steps]), which run as one program.

    It is called with the axes of its arguments first: None for an argument that all steps get, 0 for one that has an
    entry for each.

    Args:
        steps: of the models, in the order of the rows of what they return.
        fallback: as of `Compiled`.
        shared: tensors that steps of other groups find as well.

    Attributes:
        split: the numbers of steps that are alike, where the steps turned out not to be; None as long as they are.
    """

    def __init__(self, steps: Sequence[Callable[..., Any]], fallback: Fallback, shared: Collection[Tensor]) -> None:
        self.steps, self.shared = list(steps), shared
        self.split: list[list[int]] | None = None
        self._rows: list[Rows] = []
        super().__init__(self._one_by_one, "numpy", fallback)
        self._roots = {str(number): step for number, step in enumerate(self.steps)}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take all steps; return what they return, each tensor with one more axis in front."""
        result = super().__call__(*args, **kwargs)
        return together(result) if isinstance(result, Each) else result

    def _one_by_one(self, axes: Axes, *args: Any, **kwargs: Any) -> Each:
        """Take one step after the other."""
        return Each([self._step(number, axes, *args, **kwargs) for number in range(len(self.steps))])

    def _step(self, number: int, axes: Axes, *args: Any, **kwargs: Any) -> Any:
        given = [arg if axis is None else arg[number] for arg, axis in zip(args, axes, strict=True)]
        tensors: list[Tensor] = []
        build = taken_apart(self.steps[number](*given, **kwargs), tensors)
        return build([tensor.detach() for tensor in tensors])

    def reaches(self) -> list[Reachable]:
        """Return what each step finds."""
        return [Reachable({"": step}, self._words) for step in self.steps]

    def _record(self, call: Call, programs: list[Any]) -> Any:
        """Record the first step; the others run as ever."""
        if self.split is None:
            reaches = self.reaches()
            classes = alike(reaches)
            self.split = classes if len(classes) > 1 else None
        if self.split is not None:
            return self.function(*call.args, **call.kwargs)
        stack(reaches, self._rows, self.shared)
        before = State(reaches)
        recording, result = self._recorded_call(call, functools.partial(self._step, 0), {"": self.steps[0]})
        if recording is None:
            return result
        axes, *args = call.args
        name_inputs(recording.program, self.steps[0], args, call.kwargs)
        known: Any = None
        results, models = Each([recording.result]), None
        try:
            known = next((captured for captured in programs if agree(captured, recording)), None)
            apart = [arg for arg, axis in zip(args, axes, strict=True) if axis is not None]
            shared = [not any(tensor is arg for arg in apart) for tensor in call.tensors]
            models = Models(recording, before.twins, before.arrays, shared, any(isinstance(a, tuple) for a in apart))
            models.refuse_shared_writes(self.shared)
        except BaseException as error:
            if self.fallback is None or not isinstance(error, CaptureError):
                recording.undo()
                raise
            self._give_up(call, str(error))
        results += [self._step(number, *call.args, **call.kwargs) for number in range(1, len(self.steps))]
        if models is None:
            return results
        if known is None:
            self._latest = known = BatchedStep(recording, self._because)
            programs.append(known)
            self._recorded += 1
            return results
        try:
            self.split = known.take(recording, models, call.numbers, results, before)
        except CaptureError as error:
            if self.fallback is None:
                raise
            self._give_up(call, str(error))
            return results
        if self.split is None:
            recording.reachable = Reachable(self._roots, self._words)
            known.confirm(Watch(recording.reachable))
        return results

    def release(self) -> None:
        """Give each model memory of its own again."""
        unstack(self.reaches(), self._rows)

    @property
    def code(self) -> str:
        """The program for all models."""
        captured = self._last()
        return captured.code.text if isinstance(captured, BatchedStep) and captured.confirmed else ""


class BatchedStep(Captured):
    """A program that runs for all models of a group (Note [Batched programs])."""

    def __init__(self, recording: Recording, because: str) -> None:
        self.recording, self.confirmed, self.given_up, self.because = recording, False, False, because
        self._waits_for_table, self.table = False, None
        self._host: Host | None = None
        self.memory, self.grads = {}, {}

    def take(
        self, recording: Recording, models: Models, numbers: Sequence[int], results: Each, before: State
    ) -> list[list[int]] | None:
        """Make the program of the second recording, and check it with what each step has done in that call.

        Args:
            recording: of the first step.
            models: what stands in its program for each model.
            numbers: of the call.
            results: what each step returned.
            before: what was there before the call, beside arrays.

        Returns:
            None; or, where the program is not the right one for all models, the numbers of those that belong together.
        """
        self.recording, self.models = recording, models
        grads = [(tensor, self._place_of(grad)) for tensor, grad in recording.grads]
        moved = simplify(models.program, recording.kept)
        self.kept = {moved[buffer].buffer if buffer in moved else buffer for buffer in recording.kept}
        grads = [(tensor, moved_view(place, moved)) for tensor, place in grads]
        _spread(recording, models)
        self._updates, self._counting = recording.updates, []
        memory = {buffer for places in models.places.values() for buffer, _ in places if buffer.kind == "memory"}
        after, left = State(before.reaches), {buffer: buffer.array.copy() for buffer in memory}
        try:
            _put_back(memory)
            before.restore()
            recording.scalars = self._scalars(numbers)
            answers = [tuple(models.numbers(recording.scalars, k).values()) for k in range(models.count)]
            apart = _together([each[len(each) - len(models.program.decisions) :] for each in answers])
            if len(apart) > 1:
                return apart
            before.restore()
            trials = [Trial(models, number, recording.scalars) for number in range(models.count)]
            wrong = self._wrong(trials, results, grads, left, before, after)
            if 0 in wrong:
                raise CaptureError(f"the program of a step of the sweep gives other numbers than the step: {wrong[0]}")
            if wrong:
                return [[k for k in range(models.count) if k not in wrong], *[[k] for k in wrong]]
            batched = self._written(trials, memory, before)
        finally:
            after.restore()
            for buffer, array in left.items():
                buffer.array[...] = array
        self._bind(batched, grads)
        return None

    def _wrong(
        self,
        trials: Sequence[Trial],
        results: Each,
        grads: Sequence[tuple[Tensor, Any]],
        left: dict[Buffer, Any],
        before: State,
        after: State,
    ) -> dict[int, str]:
        """Return the models whose trial left something else than their step, with what that is."""
        found: dict[int, str] = {}
        if not after.draws_are_there():
            found[0] = "random numbers"
        for number, trial in enumerate(trials):
            tensors: list[Tensor] = []
            taken_apart(results[number], tensors)
            twins = self.models.twins[number]
            pairs = [(own, array) for own, array in zip(map(array_of, tensors), trial.outputs, strict=True)]
            pairs += [
                (array_of(twins[id(tensor)].grad), trial.array(place))
                for tensor, place in grads
                if isinstance(place, View)
            ]
            if not all([same_bits(one, other) for one, other in pairs]):
                found[number] = "what it returns, or a gradient"
            if before.written(number) != before.written(0):
                found[number] = "which tensors it writes to"
        for buffer, array in left.items():
            if not same_bits(buffer.array, array):
                for number, view in self._places(buffer):
                    if not same_bits(view.of(buffer.array), view.of(array)):
                        found.setdefault(number, buffer.name)
        return found

    def _places(self, buffer: Buffer) -> Iterable[tuple[int, View]]:
        """Give for each model what its program sees of memory."""
        for statement in self.models.program.statements:
            for view in statement.out:
                if view.buffer.kind == "memory":
                    for number in range(self.models.count):
                        row = self.models.row(view, number)
                        if row.buffer is buffer:
                            yield number, row

    def _written(self, trials: Sequence[Trial], memory: Collection[Buffer], before: State) -> Batched:
        """Write the program out; what does not give the bits of the trials with an axis becomes a loop."""
        alone: set[int] = set()
        recording = self.recording
        while True:
            batched = Batched(self.models, trials, self.kept, alone)
            self.code = NumpyCode(batched.program, batched.kept)
            _put_back(memory)
            before.restore()
            scalars = columns(self.models, batched.needed, recording.scalars)
            different = self.code.check([b.array for b in batched.program.inputs], scalars)
            if different is None:
                return batched
            if different not in batched.batched:
                raise CaptureError(
                    f"{different.line}: the program of {different.row} differs from the op: {different!r}"
                )
            alone.add(batched.batched[different])

    def _bind(self, batched: Batched, grads: Sequence[tuple[Tensor, Any]]) -> None:
        """Take what was written for what runs."""
        models = self.models
        places: list[tuple[Tensor, Any]] = []
        for number, twins in enumerate(models.twins):
            for tensor, place in grads:
                own = twins[id(tensor)]
                if isinstance(place, View):
                    row = batched.row(place, number)
                    places.append((own, row.of(row.buffer.array)))
                else:
                    places.append((own, None if place is None else own.grad))
        self._gradients = Gradients(places)
        self.kept = batched.kept
        self._run, self._decided = self.code.build()
        self.run, self.decided = self._run_all, self._fits_all
        self._columns = functools.partial(columns, models, batched.needed)
        self._host = Host(models, batched.needed, self.recording.updates)
        codes = [leaf.code for s in batched.program.statements for leaf in plain(s) if isinstance(leaf, HostNumber)]
        last = models.common + models.count * models.updates
        self._by_model = any(models.common <= int(of) < last for code in codes for of in SCALARS.findall(code))
        self.recording.program = batched.program
        for statement in batched.program.statements:
            statement.result = ()

    def confirm(self, watch: Watch) -> None:
        """Have the program run from now on."""
        program, build = self.recording.program, taken_apart(self.recording.result, [])
        super().confirm(watch)
        self.build = build
        self._at_risk = at_risk(program)
        if not (self._counts_alone and self._host is not None and self._host.possible and not self._by_model):
            self._host = None
        self._counts_alone = self._counts_alone and self._host is None  # columns are counted on by `Host` alone
        self._owners |= {id(owner(buffer.array)) for buffer in self.kept}

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


class State:
    """What several functions find, and what they change beside the elements of arrays: optimizers' numbers, generators.

    Attributes:
        twins: for each what it has in the place of what the first one has, by the id of that.
        arrays: for each all arrays that it finds.
    """

    def __init__(self, reaches: Sequence[Reachable]) -> None:
        self.reaches = reaches
        self.twins = [counterparts(reaches[0], reach) for reach in reaches]
        self.arrays = [arrays_of(reach) for reach in reaches]
        optimizers = {id(o): o for reach in reaches for o in reach.objects if isinstance(o, Optimizer)}
        self._numbers = [Numbers(optimizer) for optimizer in optimizers.values()]
        generators = {id(g): g for reach in reaches for g in reach.objects if isinstance(g, Generator)}
        self._draws = Draws(list(generators.values()))
        self._versions = [list(map(version, reach.tensors.values())) for reach in reaches]

    def written(self, number: int) -> list[int]:
        """Return by how much the versions of the tensors of a function have moved on."""
        now = map(version, self.reaches[number].tensors.values())
        return [after - before for before, after in zip(self._versions[number], now, strict=True)]

    def draws_are_there(self) -> bool:
        """Whether generators draw what they would draw then."""
        return self._draws.are_there()

    def restore(self) -> None:
        """Put optimizers' numbers and generators back."""
        for numbers in self._numbers:
            numbers.restore()
        self._draws.restore()


def together(results: Each) -> Any:
    """Return what steps returned as one result, each tensor with one more axis in front."""
    arrays, spelled = [], []
    for result in results:
        tensors: list[Tensor] = []
        build = taken_apart(result, tensors)
        spelled.append(build([None] * len(tensors)))
        arrays.append(list(map(array_of, tensors)))
    for number, each in enumerate(spelled):
        if each != spelled[0]:
            raise CaptureError(f"step {number} of the sweep returned {each}, and step 0 {spelled[0]}, beside tensors")
    return build([from_array(np.stack(each)) for each in zip(*arrays, strict=True)])


def _spread(recording: Recording, models: Models) -> None:
    """Have a recording of the first step stand for those of all models."""
    twins = models.twins
    for of, entered in list(zip(recording.snapshot.tensors, recording.entered, strict=True)):
        for other in twins[1:]:
            recording.snapshot.tensors.append(other[id(of)])
            recording.entered.append(entered)
    memory = [(tensor, array) for tensor, array in recording.memory]
    recording.memory += [(t := other[id(tensor)], array_of(t)) for other in twins[1:] for tensor, _ in memory]
    grads = [(tensor, grad) for tensor, grad in recording.grads]
    recording.grads += [(t := other[id(tensor)], t.grad) for other in twins[1:] for tensor, _ in grads]
    recording.versions += [
        (other[id(tensor)], step) for other in twins[1:] for tensor, step in list(recording.versions)
    ]
    recording.updates = [
        (other[id(optimizer)], other[id(segment)], index, begins)
        for other in twins
        for optimizer, segment, index, begins in recording.updates
    ]
    sources = recording.snapshot.draws.generators
    sources += [g for other in twins[1:] for of in list(sources) if (g := other.get(id(of), of)) not in sources]


def _put_back(memory: Iterable[Buffer]) -> None:
    for buffer in memory:
        buffer.array[...] = buffer.before


def _together(keys: Sequence[Any]) -> list[list[int]]:
    """Return the numbers of equal keys together."""
    found: dict[Any, list[int]] = {}
    for number, key in enumerate(keys):
        found.setdefault(repr(key), []).append(number)
    return list(found.values())
