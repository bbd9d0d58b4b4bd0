"""`nanotorch.compile`: a function of tensors that is recorded once, and replayed as a program.

Note [Compiled steps]
~~~~~~~~~~~~~~~~~~~~~
A call of a compiled function is one of three things:

- the first call with arguments of a shape runs as ever: what exists from the first step on, such as an optimizer's
  state, is then there;
- the next two calls are recorded, which is running as ever, too, and have to give the same program with the same
  constants: a number that changes from call to call, such as a counter in a closure, would else be frozen silently. The
  first program is checked against its recording, statement by statement, from the same memory;
- from then on the program runs, as long as what it was recorded with is there: the same memory of parameters, buffers
  and optimizer state, gradients to begin with or none, the same decisions.

Whatever does not fit runs as ever, and is recorded anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.capture.effects import Numbers
from nanotorch.capture.numpy_code import CheckFailedError, NumpyCode
from nanotorch.capture.passes import simplify
from nanotorch.capture.program import View
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.recording import Recording

Key = tuple[Any, ...]


class Captured:
    """A program of a step that can run in its place."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        moved = simplify(recording.program, recording.kept)
        self.code = NumpyCode(recording.program, recording.kept - set(moved))
        for _, grad in recording.grads:
            if grad is None:
                continue
            view = recording.place(grad._array)
            if view is not None and view.buffer in moved:
                place = moved[view.buffer]
                view = View(place.buffer, place.offset + view.offset, view.shape, view.strides)
                grad._array = view.of(place.buffer.array)
        self.confirmed = False
        self._check()
        self.run, self.decided = self.code.build()

    def _check(self) -> None:
        """Run the program from where the recorded call began; it has to do the same."""
        recording = self.recording
        recording.remember()
        recording.restore(before=True)
        recording.snapshot.restore_generators()
        different = self.code.check([b.array for b in recording.program.inputs], recording.scalars)
        recording.restore(before=False)
        if different is not None:
            raise CaptureError(f"{different.line}: the program of {different.row} differs from the op: {different!r}")

    def fits(self) -> bool:
        """Whether tensors have the memory and the gradients that the program was recorded with."""
        recording = self.recording
        for tensor, array in recording.memory:
            if tensor._array is not array:
                return False
        for tensor, entered in zip(recording.snapshot.tensors, recording.entered, strict=True):
            if (tensor._grad is not None) is not entered:
                return False
        return True

    def replay(self, arrays: list[Any]) -> list[Any] | None:
        """Run the program; None where it is not for this call, with everything as it was before."""
        recording = self.recording
        numbers = [Numbers(optimizer) for optimizer in recording.stepped]
        scalars = [scalars for optimizer in recording.stepped for _, scalars in optimizer.host_scalars()]
        try:
            results = self.run(*arrays, scalars) if self.decided(scalars) else None
        except CheckFailedError:
            results = None
        if results is None:
            for each in numbers:
                each.restore()
            return None
        for tensor, grad in recording.grads:
            tensor._grad = grad
        for tensor, step in recording.versions:
            tensor._version_cell().number += step
        for optimizer in recording.stepped:
            optimizer._step_called = True
        return recording.build([from_array(array) for array in results])


class Compiled:
    """A function of tensors that runs as a recorded program (Note [Compiled steps])."""

    def __init__(self, function: Callable[..., Any], backend: str, fallback: Literal["eager"] | None) -> None:
        self.function, self.backend, self.fallback = function, backend, fallback
        self._called: set[Key] = set()
        self._programs: dict[Key, list[Captured]] = {}

    def __call__(self, *args: Any) -> Any:
        """Do what the function does."""
        key = tuple(
            [
                (a._array.shape, a._array.strides, a._array.dtype) if isinstance(a, Tensor) else (type(a), a)
                for a in args
            ]
        )
        programs = self._programs.get(key)
        if programs is not None:
            arrays = [arg._array for arg in args if isinstance(arg, Tensor)]
            for captured in programs:
                if captured.confirmed and captured.fits():
                    result = captured.replay(arrays)
                    if result is not None:
                        return result
        return self._record(key, args)

    def _record(self, key: Key, args: tuple[Any, ...]) -> Any:
        if key not in self._called:
            self._called.add(key)
            return self.function(*args)
        recording = Recording(self.function, args)
        programs = self._programs.setdefault(key, [])
        for captured in programs:
            if not captured.confirmed and captured.recording.is_like(recording):
                difference = captured.recording.difference(recording)
                if difference is not None:
                    raise CaptureError(f"the step is another one at every call: {difference}")
                captured.confirmed = True
                return recording.result
        programs.append(Captured(recording))
        return recording.result
