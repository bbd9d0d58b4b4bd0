"""`nanotorch.compile.sweep`: the steps of several models, which run as one program.

Note [Sweeps]
~~~~~~~~~~~~~
A sweep is a compiled function (Note [Compiled steps]) which calls one step after the other. So everything that a
compiled step may and may not do holds for it as it stands: what it can reach, what is refused, when a program fits.
Two things are added. Before the first recording the models move together: each tensor that one step alone can reach
becomes a row of memory that belongs to all (`stacked.py`). And the recorded program, which is that of the steps one
after the other, is read as one step (`sections.py`) that all models take at once (Note [Batched programs]).

Each model stays an ordinary one: it may be saved, evaluated, and trained alone in between.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Literal

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.captured import Captured, Gradients, at_risk
from nanotorch.capture.compiled import Call, Compiled
from nanotorch.capture.memory import Reachable, Watch
from nanotorch.capture.numpy_code import NumpyCode
from nanotorch.capture.passes import moved_view, simplify
from nanotorch.capture.program import HostNumber, View
from nanotorch.capture.recorder import CaptureError, TracedArray
from nanotorch.capture.recording import Build, Recording, taken_apart
from nanotorch.capture.sweep.batching import Batched, columns
from nanotorch.capture.sweep.host import Columns, Host
from nanotorch.capture.sweep.sections import SCALARS, Sections, plain
from nanotorch.capture.sweep.stacked import Rows, stack, unstack

Axes = int | None | tuple[int | None, ...]
_array_of = attrgetter("_array")


class Each(list[Any]):
    """What each step returned."""


class Sweep(Compiled):
    """Steps of several models, which run as one program (Note [Sweeps]).

    Attributes:
        steps: the steps, in the order of the rows of what they return.
    """

    def __init__(self, steps: Sequence[Callable[..., Any]], in_dims: Axes, fallback: Literal["eager"] | None) -> None:
        self.steps, self.in_dims = list(steps), in_dims
        if not self.steps:
            raise ValueError("compile.sweep takes one step at least, got an empty sequence")
        self._rows: list[Rows] = []
        super().__init__(self._one_by_one, "numpy", fallback)
        self._find_steps()

    def _find_steps(self) -> None:
        self._roots = {str(number): step for number, step in enumerate(self.steps)}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take all steps; return what they return, each tensor with one more axis in front."""
        args = tuple([self._joined(arg, axis) for arg, axis in zip(args, self._axes(len(args)), strict=True)])
        result = super().__call__(*args, **kwargs)
        return together(result) if isinstance(result, Each) else result

    def run(self, tensors: Sequence[Tensor], order: Any = None, **how: Any) -> Any:
        """Take all steps with one batch of rows after the other, as `Compiled.run` does: all models with the same."""
        if any(axis is not None for axis in self._axes(len(tensors))):
            raise ValueError("run gives all models the same rows, so in_dims has to be None")
        return super().run(tensors, order, **how)

    def drop(self, number: int) -> None:
        """Let a model leave: the step of that number is taken no more, and those behind it move up."""
        reaches = self._reaches()
        del self.steps[number]
        unstack(reaches, self._rows)
        self._programs.clear()
        self._quick = None
        self._find_steps()

    def _axes(self, count: int) -> Sequence[int | None]:
        axes = self.in_dims if isinstance(self.in_dims, tuple) else (self.in_dims,) * count
        if len(axes) != count or any(axis not in (0, None) for axis in axes):
            raise ValueError(f"in_dims is 0 or None, or one of these for each of {count} arguments, got {self.in_dims}")
        return axes

    def _joined(self, value: Any, axis: int | None) -> Any:
        """Return the tensor that holds an argument of each step."""
        if axis is None:
            return value
        if not isinstance(value, Tensor):
            value = from_array(np.stack([tensor._array for tensor in value]))
        if not value.ndim or len(value) != len(self.steps):
            raise ValueError(
                f"an argument with in_dims 0 has an entry for each of {len(self.steps)} steps, got shape "
                f"{tuple(value.shape)}"
            )
        return value

    def _one_by_one(self, *args: Any, **kwargs: Any) -> Each:
        """Take one step after the other."""
        results, self._ends = Each(), list[int]()
        recorded = [tensor._array for tensor in (*args, *kwargs.values()) if isinstance(tensor, Tensor)]
        axes = self._axes(len(args))
        for number, step in enumerate(self.steps):
            given = [arg if axis is None else arg[number] for arg, axis in zip(args, axes, strict=True)]
            tensors: list[Tensor] = []
            build = taken_apart(step(*given, **kwargs), tensors)
            results.append(build([tensor.detach() for tensor in tensors]))
            for array in [each for each in recorded[:1] if isinstance(each, TracedArray)]:
                self._ends.append(len(array.recorder.program.statements))
        return results

    def _reaches(self) -> list[Reachable]:
        return [Reachable({"": step}, self._words) for step in self.steps]

    def _record(self, call: Call, programs: Any) -> Any:
        try:
            stack(self._reaches, self._rows)
        except CaptureError as error:
            if self.fallback is None:
                raise
            self._give_up(call, str(error))
            return self.function(*call.args, **call.kwargs)
        return super()._record(call, programs)

    def _captured(self, recording: Recording) -> Captured:
        return BatchedStep(recording, self._ends, self._because)

    @property
    def code(self) -> str:
        """The program that was recorded last, for all models."""
        captured = self._last()
        return captured.code.text if isinstance(captured, Captured) else super().code

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no programs: its steps may be others."""
        return {"steps": self.steps, "in_dims": self.in_dims, "fallback": self.fallback}

    def __setstate__(self, state: Any) -> None:
        Sweep.__init__(self, **state)

    def __repr__(self) -> str:
        return f"torch.compile.sweep(<{len(self.steps)} steps>)"


class BatchedStep(Captured):
    """A program of several steps that runs as one (Note [Sweeps])."""

    def __init__(self, recording: Recording, ends: Sequence[int], because: str) -> None:
        self.recording, self.confirmed, self.given_up, self.because = recording, False, False, because
        self._waits_for_table, self.table = False, None
        self._host: Host | None = None
        self.memory, self.grads = {}, {}
        kept = recording.kept
        grads = [(tensor, self._place_of(grad)) for tensor, grad in recording.grads]
        sections = Sections(recording.program, ends, len(recording.scalars), len(recording.updates), kept)
        moved = simplify(sections.first, sections.kept)
        sections.kept = {moved[buffer].buffer if buffer in moved else buffer for buffer in sections.kept}
        batched = self._written(sections)
        of = {
            other: (buffer, number)
            for buffer, places in sections.places.items()
            for number, (other, _) in enumerate(places)
            if other.kind == "temporary"
        }
        places: list[tuple[Tensor, Any]] = []
        for tensor, place in grads:
            if isinstance(place, View):
                buffer, number = of[place.buffer]
                row = batched.row(moved_view(View(buffer, *place[1:]), moved), number)
                place = row.of(row.buffer.array)
            places.append((tensor, place))
        self._gradients = Gradients(places)
        self.kept = batched.kept
        self._one: Build = taken_apart(recording.result[0], [])
        self._columns = functools.partial(columns, sections.updates, sections.common, batched.needed)
        self._run, self._decided = self.code.build()
        self.run, self.decided = self._run_all, self._fits_all
        self._program = batched.program
        self._make_host = functools.partial(Host, sections, batched.needed)
        body = [leaf for statement in batched.program.statements for leaf in plain(statement)]
        numbers = [leaf.code for leaf in body if isinstance(leaf, HostNumber)]
        self._by_model = any(
            sections.common <= int(of) < sections.scalars for code in numbers for of in SCALARS.findall(code)
        )
        self._at_risk_here = at_risk(batched.program)
        sections.results.clear()
        for statement in batched.program.statements:
            statement.result = ()

    def _written(self, sections: Sections) -> Batched:
        """Write the program out; what does not give the recorded bits with an axis for the models becomes a loop."""
        alone: set[int] = set()
        recording = self.recording
        scalars = recording.scalars
        while True:
            batched = Batched(sections, sections.kept, alone)
            recording.scalars = columns(sections.updates, sections.common, batched.needed, scalars)
            self.code = NumpyCode(batched.program, batched.kept)
            try:
                different = self._difference()
            finally:
                recording.scalars = scalars
            if different is None:
                return batched
            if different not in batched.batched:
                raise CaptureError(
                    f"{different.line}: the program of {different.row} differs from the op: {different!r}"
                )
            alone.add(batched.batched[different])

    def confirm(self, watch: Watch) -> None:
        """Have the program run from now on."""
        super().confirm(watch)
        self.build, self._at_risk = self._one, self._at_risk_here
        host = self._make_host(self._updates)
        self._host = host if self._counts_alone and host.possible and not self._by_model else None
        self._counts_alone = self._counts_alone and self._host is None  # columns are counted on by `Host` alone
        self.recording.program = self._program  # that of the steps one after the other is as many times as large
        del self._make_host
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


def together(results: Each) -> Any:
    """Return what steps returned as one result, each tensor with one more axis in front."""
    arrays, spelled = [], []
    for result in results:
        tensors: list[Tensor] = []
        build = taken_apart(result, tensors)
        spelled.append(build([None] * len(tensors)))
        arrays.append([tensor._array for tensor in tensors])
    for number, each in enumerate(spelled):
        if each != spelled[0]:
            raise CaptureError(f"step {number} of the sweep returned {each}, and step 0 {spelled[0]}, beside tensors")
    return build([from_array(np.stack(each)) for each in zip(*arrays, strict=True)])
