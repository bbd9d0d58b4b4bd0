"""Steps of a sweep that are alike: one of them is recorded, and its program runs for all of their models."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.capture.compiled import Call, Compiled, Fallback, Key, agree, plans_of
from nanotorch.capture.effects import Position, array_of
from nanotorch.capture.many_steps import batch_of, form_of
from nanotorch.capture.page import name_inputs
from nanotorch.capture.program import CallNumber
from nanotorch.capture.reach.reachable import Reachable
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.recording import Recording, taken_apart
from nanotorch.capture.sweep.batched_step import BatchedStep, State, Walks
from nanotorch.capture.sweep.constants import constants, has_several, put_in, skeleton
from nanotorch.capture.sweep.likeness import alike, begun, equal, floats, stand_for_each_other
from nanotorch.capture.sweep.models import Models
from nanotorch.capture.sweep.passes import Passes, Turn, prepared
from nanotorch.capture.sweep.stacked import Rows, leave, stack, unstack
from nanotorch.capture.sweep.tabled_step import NoTableError, TabledStep

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
        backend: what runs its programs: "numpy"; "table"; or "auto", a table that may give way to NumPy.

    Attributes:
        walked: what the steps find, where somebody has looked since they ran.
        split: the numbers of steps that are alike, where the steps turned out not to be; None as long as they are.
    """

    def __init__(
        self, steps: Sequence[Callable[..., Any]], fallback: Fallback, shared: Collection[Tensor], backend: str
    ) -> None:
        self.steps, self.shared = list(steps), shared
        self.split: list[list[int]] | None = None
        self._parts: list[tuple[list[int], Group]] = []
        self._told = False
        self._alone: list[Compiled] = []  # the program of each step, where a table takes one and not several
        self.walked: list[Reachable] = []
        self._rows: list[Rows] = []
        self.strict = backend == "table"
        super().__init__(self._one_by_one, backend, fallback, ahead=backend != "numpy")

    @property
    def called(self) -> str:
        """What it is called in a warning."""
        name = getattr(self.steps[0], "__qualname__", type(self.steps[0]).__name__)
        return f"the sweep of {len(self.steps)} x {name}"

    @property
    def recorded(self) -> int:
        """How many programs were recorded."""
        return self._recorded

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take all steps; return what they return, each tensor with one more axis in front."""
        result = super().__call__(*args, **kwargs)
        return together(result) if isinstance(result, Each) else result

    def _one_by_one(self, axes: Axes, *args: Any, **kwargs: Any) -> Each:
        """Take one step after the other."""
        steps: Sequence[Callable[..., Any]] = self._alone or self.steps
        return Each([self._taken(step, number, axes, *args, **kwargs) for number, step in enumerate(steps)])

    def _step(self, number: int, axes: Axes, *args: Any, **kwargs: Any) -> Any:
        return self._taken(self.steps[number], number, axes, *args, **kwargs)

    def _taken(self, step: Callable[..., Any], number: int, axes: Axes, *args: Any, **kwargs: Any) -> Any:
        given = [arg if axis is None else arg[number] for arg, axis in zip(args, axes, strict=True)]
        tensors: list[Tensor] = []
        build = taken_apart(step(*given, **kwargs), tensors)
        return build([tensor.detach() for tensor in tensors])

    def _walk(self) -> Any:
        """Look what the steps can reach, unless a program sees that all of it is as it was."""
        known: list[Any] = [captured for programs in self._programs.values() for captured in programs]
        found = next((captured.reaches for captured in known if captured.fits(())), None)
        self._told = found is not None
        found, self.walked = found or self.walked, []
        return Walks(found or [Reachable({"": step}, self._words) for step in self.steps])

    def _renew(self, programs: list[Any]) -> Any:
        walks: Any = super()._renew(programs)
        self._found: list[Reachable] = walks.each
        return walks

    @property
    def _sure(self) -> bool:
        """Whether it is proven, by a table that is the program for another call of the same steps, what stands for each
        model in the place of what the first one has: then the first step alone need run to record a call.
        """
        told = self._told and self.backend != "numpy" and self.split is None
        return told and len(set(map(floats, self._found))) == 1

    def _run_by_recording(self, reachable: Any) -> Any:
        return self._found[0] if self._sure else reachable

    def _warm_up(self, call: Call) -> Any:
        """Run as ever; the second time, see why there are other plans."""
        if self._plans is not None:
            return super()._warm_up(call)
        result = self.function(*call.args, **call.kwargs)
        self._plans = [plan for reach in self._found for plan in plans_of(reach) or []]
        return result

    def _why(self, programs: list[Any], reachable: Any) -> str:
        self._found = reachable.each
        return super()._why(programs, reachable)

    def parts(self) -> list[tuple[list[int], Group]]:
        """Return the groups of which it consists where its steps turned out to be unlike, each with their numbers."""
        if not self._parts and self.split is not None:
            self.release()
            reaches = self._walk().each
            self._parts = groups(self.steps, reaches, self.split, self.fallback, self.shared, self.backend)
        return self._parts

    def _replayed(self, call: Call, programs: list[Any]) -> tuple[bool, Any]:
        """Run the program of a call; a call that was recorded ahead runs in parts, where the steps are unlike."""
        if self.split is None or not self.ahead:
            return super()._replayed(call, programs)
        axes, *args = call.args
        results: Any = Each([None] * len(self.steps))
        for numbers, part in self.parts():
            given = [arg if axis is None else entries(arg, numbers) for arg, axis in zip(args, axes, strict=True)]
            tensors: list[Tensor] = []
            build = taken_apart(part(axes, *given, **call.kwargs), tensors)
            for row, number in enumerate(numbers):
                results[number] = build([tensor[row] for tensor in tensors])
        return True, results

    def _record(self, call: Call, programs: list[Any]) -> Any:
        """Record the first step; the others run as ever, unless what they are is sure. Ahead of a call it is recorded a
        second time before they do, unless its program is proven: then one of them runs, to be compared (Note [Programs
        that are known]).
        """
        reaches, sure = self._found, self._sure
        if self.split is None and not sure:
            classes = alike(reaches)
            self.split = classes if len(classes) > 1 else None
        if self.split is not None:
            return self.function(*call.args, **call.kwargs)
        if self.backend == "numpy":
            stack(reaches, self._rows, self.shared)
        before, states = State(reaches), begun(reaches[0])
        recording, result = self._recorded_first(call)
        if recording is None:
            return result
        tried = len(self.steps)
        axes, *args = call.args
        apart = [arg for arg, axis in zip(args, axes, strict=True) if axis is not None]
        shared = [not any(tensor is arg for arg in apart) for tensor in call.tensors]
        kind = BatchedStep if self.backend == "numpy" else TabledStep
        known: Any = None
        models: Models | None = None
        try:
            known = next((captured for captured in programs if agree(captured, recording)), None)
            if known is None and self.ahead:  # what is put back anyway need not run for all models
                first = kind(recording, self._because, shared)
                if not first.proven:
                    recording.undo()
                    recording, result = self._recorded_first(call)
                    if recording is None:
                        return result
                if first.proven and begun(reaches[0]) == states and stand_for_each_other(reaches, before.arrays):
                    tried = min(tried, 2)
                if first.proven or agree(first, recording):
                    known = first
                    self._add(known, programs)
            models = Models(recording, before.twins, before.arrays, shared, any(isinstance(a, tuple) for a in apart))
            models.refuse_shared_writes(self.shared)
        except BaseException as error:
            if self.fallback is None or not isinstance(error, CaptureError):
                recording.undo()
                raise
            self._give_up(call, str(error))
        results = Each([recording.result])
        if models is not None and known is None:
            self._add(kind(recording, self._because, shared), programs)
        elif models is not None:
            each = None if sure else self._others(call, recording, results, tried)
            if each is not None:
                put_in(models.program, each)
            if self.split is not None:
                programs.remove(known)
                return results
            try:
                self.split = known.take(recording, models, call, results, before)
            except CaptureError as error:
                self._see_to(error, call, programs)
        if not sure or call.key in self._as_ever:
            left = range(len(results), len(self.steps) if call.key in self._as_ever else tried)
            results += [self._step(k, *call.args, **call.kwargs) for k in left]
        return results

    def _see_to(self, error: CaptureError, call: Call, programs: list[Any]) -> None:
        """See to what becomes of steps whose program cannot be taken."""
        if isinstance(error, NoTableError) and error.calls and all(map(has_several, error.calls)):
            self.split = equal(map(floats, self._found))
        elif isinstance(error, NoTableError) and not self.strict:
            self.backend = "numpy"
            programs.clear()
        elif self.fallback is None:
            raise error
        else:
            if isinstance(error, NoTableError) and not self._sure:
                self._alone = [Compiled(step, "table", lambda why: None, ahead=True) for step in self.steps]
            self._give_up(call, str(error))

    def _given_up(self, call: Call, before: Position, result: Any) -> Any:
        """Take the steps again, each as it is taken alone: a table may call NumPy for one model, for several not."""
        if not self._alone:
            return result
        before.restore()
        return self.function(*call.args, **call.kwargs)

    def _recorded_first(self, call: Call) -> tuple[Any, Any]:
        """Record the first step in a call; return the call's result as well, of which there may be nothing else."""
        _, *args = call.args
        recording, result = self._recorded_call(call, functools.partial(self._step, 0), {"": self.steps[0]})
        if recording is not None:
            name_inputs(recording.program, self.steps[0], args, call.kwargs)
        return recording, result

    def _add(self, program: BatchedStep, programs: list[Any]) -> None:
        self._latest = program
        programs.append(program)
        self._recorded += 1

    def passes(
        self,
        first: tuple[Any, ...],
        tensors: Sequence[Any],
        tables: Sequence[Sequence[Tensor]],
        rows: Any,
        batch_size: int,
        numbers: Any,
        watched: Sequence[Sequence[Any]],
    ) -> Passes | None:
        """Return several passes that may be taken in one call (Note [Passes]); None where they may not.

        Args:
            first: the arguments before those of a batch.
            tensors: tables, or for each model its tables, as `repeated` takes them.
            tables: those of each model.
            rows, numbers, watched: of each model, as of `Sweep.passes`.
        """
        whole, rest = divmod(rows.shape[-1], batch_size)
        arrays = [list(map(array_of, of)) for of in tables]
        given_as = arrays if isinstance(tensors[0], list) else arrays[0]
        turns = []
        for place, count, size in ((0, whole, batch_size), (whole, 1, rest))[: 1 + (rest > 0)]:
            given = (tuple(map(CallNumber, numbers[:, 0, place].tolist())),)
            batch = rows[:, 0, place * batch_size :][:, :size]
            arguments = functools.partial(_arguments, first, tensors, given_as, batch, given)
            known = self.known(form_of(first, size, given_as, batch, [given]), arguments)
            if not isinstance(known, TabledStep) or not known.may_follow():
                return None
            turns.append(Turn(known, place, count, size))
        return prepared(turns, arrays, rows, numbers, watched)

    def _others(self, call: Call, recording: Recording, results: list[Any], count: int) -> list[list[float]] | None:
        """Take the steps of the other models, of `count` with the first, and record one for each set of floats (Note
        [Constants of models]); add what they return, and give the constants of all, None where they are no constants of
        one program.
        """
        known = {floats(self._found[0]): (skeleton(recording.program), constants(recording.program))}
        for number in range(1, count):
            found = floats(self._found[number])
            other = None if found in known else self._recorded_also(call, number)
            results.append(self._step(number, *call.args, **call.kwargs) if other is None else other.result)
            if other is not None:
                name_inputs(other.program, self.steps[number], call.args[1:], call.kwargs)
                known[found] = skeleton(other.program), constants(other.program)
                other.forget()
        each = [known.get(floats(reach)) for reach in self._found]
        classes = equal([of and "\n".join(of[0]) for of in each])
        if len(classes) > 1:
            self.split = classes
            return None
        return [of[1] for of in each if of is not None]

    def _recorded_also(self, call: Call, number: int) -> Recording | None:
        """Record one of the other steps; None where it has to run as ever, and its group sees to the rest."""
        step, roots = functools.partial(self._step, number), {"": self.steps[number]}
        try:
            return Recording(step, call.tensors, call.build, roots, self._words, call.numbers)
        except CaptureError:
            if self.fallback is None:
                raise
        except Exception:  # the step's own comes again, as it is without a recorder
            pass
        return None

    def drop(self, *numbers: int) -> None:
        """Let models leave; the last one takes the place of each. Nothing is recorded anew, programs are written for
        less.
        """
        programs = [captured for known in self._programs.values() for captured in known if captured.confirmed]
        kept = [captured for captured in programs if isinstance(captured, BatchedStep)]
        for number in numbers:
            last = self.steps.pop()
            step, moves = (self.steps[number], True) if number < len(self.steps) else (last, False)
            gone, moved = [Reachable({"": each}, self._words) for each in (step, last)]
            rows = leave(gone, moved if moves else None, self._rows, number)
            if moves:
                self.steps[number] = last
            for captured in kept:
                captured.drop(number, rows)
        self._quick, self._latest, self._plans = None, None, None
        self._programs = {}
        for captured in kept:
            captured.go_on()
            self._latest = captured
            self._programs.setdefault(self._key_of(captured), []).append(captured)

    def _key_of(self, captured: BatchedStep) -> Key:
        """Return the key of the calls that a program is for, now that models have left."""
        axes, *args = captured.call.args
        count = len(self.steps)
        left = [arg if axis is None else _first_of(arg, count) for arg, axis in zip(args, axes, strict=True)]
        call = self._call((axes, *left), captured.call.kwargs)
        captured.call = call._replace(key=(captured.call.key[0], *call.key[1:]))
        return captured.call.key

    def release(self) -> None:
        """Give each model memory of its own again."""
        if self._rows:
            unstack([Reachable({"": step}, self._words) for step in self.steps], self._rows)

    @property
    def code(self) -> str:
        """The program for all models."""
        captured = self._last()
        return captured.code.text if isinstance(captured, BatchedStep) and captured.confirmed else ""


def _arguments(
    first: tuple[Any, ...], tensors: Sequence[Any], tables: Sequence[Any], rows: Any, given: tuple[Any, ...]
) -> tuple[Any, ...]:
    return (*first, *batch_of(tensors, tables, rows, True), *given)


def groups(
    steps: Sequence[Callable[..., Any]],
    reaches: Sequence[Reachable],
    classes: Sequence[Sequence[int]],
    fallback: Fallback,
    shared: Collection[Tensor],
    backend: str,
) -> list[tuple[list[int], Group]]:
    """Return a group for each class of steps, with their numbers; what several steps find stays where it is."""
    found = [{id(tensor): tensor for tensor in reach.tensors.values()} for reach in reaches]
    seen = Counter([key for each in found for key in each])
    if len(classes) > 1:
        shared = [*shared, *[tensor for each in found for key, tensor in each.items() if seen[key] > 1]]
    made = [(list(of), Group([steps[k] for k in of], fallback, shared, backend)) for of in classes]
    for of, group in made:
        group._words |= reaches[of[0]].words  # else the first walk of each step would be taken twice
    return made


def entries(value: Any, numbers: Sequence[int]) -> Any:
    """Return the entries of an argument for some steps; of a tensor in one piece, for there may be no gaps."""
    if isinstance(value, tuple):
        return tuple([value[k] for k in numbers])
    if list(numbers) == list(range(len(value))):
        return value
    return from_array(array_of(value)[list(numbers)], value.device)


def _first_of(value: Any, count: int) -> Any:
    if isinstance(value, tuple):
        return value[:count]
    return from_array(array_of(value)[:count].copy(), value.device, value.requires_grad)


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
