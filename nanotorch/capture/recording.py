"""One call of a function that is recorded, with what it changed beside arrays; and undone where it cannot be."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.interpreter import installed
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.capture.effects import Snapshot, version
from nanotorch.capture.memory import Reachable
from nanotorch.capture.program import Buffer, View
from nanotorch.capture.recorder import CaptureError, Recorder, TracedArray
from nanotorch.optim import Optimizer


class Recording:
    """Run a function once, as ever, and record it.

    Attributes:
        program: what it did with arrays, and
        text: that as text, before any pass.
        result: what it returned.
        build: makes such a result of other tensors.
        scalars: of the rules of optimizers, in order.
        stepped: the optimizers that took a step, in order.
        memory: tensors of which the program knows the memory, each with its array.
        entered: for each tensor whether it came with a gradient.
        grads: tensors whose gradient the step has changed, each with the tensor that it left there.
        versions: tensors whose version the step has changed, each with by how much.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        reachable = Reachable(function)
        optimizers = [thing for thing in reachable.objects if isinstance(thing, Optimizer)]
        self._recorder = recorder = Recorder(reachable.names)
        self.program, self.scalars = recorder.program, recorder.scalars
        self.snapshot = Snapshot(reachable.tensors, optimizers)
        self.stepped: list[Optimizer] = []
        for optimizer in optimizers:
            _listen(optimizer, self.stepped)
        try:
            self._run(function, args)
            self._settle()
            _refuse_kept(recorder)
            self.text = self.program.text()
        except BaseException:
            self.undo()
            raise
        finally:
            for optimizer in optimizers:
                del optimizer.__dict__["host_scalars"]

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        recorder, given = self._recorder, []
        for position, arg in enumerate(args):
            if isinstance(arg, Tensor):
                traced = recorder.input(f"input{position}", alike(arg._array))
                arg = from_array(traced, arg.device)
            given.append(arg)
        with installed(recorder):
            result = function(*given)
        outputs: list[Tensor] = []
        self.build = taken_apart(result, outputs)
        arrays = [getattr(tensor._array, "array", tensor._array) for tensor in outputs]
        for array in arrays:
            recorder.traced(array)
        self.program.outputs = [recorder.view(array) for array in arrays]
        copies = [from_array(np.array(array), t.device) for array, t in zip(arrays, outputs, strict=True)]
        self.result = self.build(copies)

    def _settle(self) -> None:
        """See what the step has changed, and give tensors that live on real arrays."""
        before = self.snapshot
        self.memory: list[tuple[Tensor, Any]] = []
        self.versions: list[tuple[Tensor, int]] = []
        self.grads: list[tuple[Tensor, Tensor | None]] = []
        self.entered = [grad is not None for grad, _ in before.grads]
        for tensor, array, number, (grad, _) in zip(
            before.tensors, before.arrays, before.versions, before.grads, strict=True
        ):
            if tensor._array is not array:
                shape = tuple(tensor.shape)
                raise CaptureError(f"the memory of a tensor of shape {shape} was replaced within the step")
            if self._recorder.knows(array):
                self.memory.append((tensor, array))
            if version(tensor) != number:
                self.versions.append((tensor, version(tensor) - number))
            after = tensor._grad
            if after is not None and isinstance(after._array, TracedArray):
                after._array = after._array.array
            if after is not grad or (grad is not None and self._recorder.knows(grad._array)):
                self.grads.append((tensor, after))
        self.constants = [buffer for buffer in self.program.buffers if buffer.kind == "constant"]
        for statement in self.program.statements:
            if any(view.buffer in self.constants for view in statement.out):
                raise CaptureError(
                    f"{statement.line} writes into memory that the step cannot be seen to reach: keep the tensor where "
                    "the function finds it by a name, such as an attribute of a module"
                )

    @property
    def kept(self) -> set[Buffer]:
        """The buffers in which gradients stay when the step is over."""
        places = [self.place(grad._array) for _, grad in self.grads if grad is not None]
        return {view.buffer for view in places if view is not None and view.buffer.kind == "temporary"}

    def place(self, array: Any) -> View | None:
        """Return where in the memory of the program an array lies, if it does."""
        return self._recorder.view(array) if self._recorder.knows(array) else None

    def undo(self) -> None:
        """Put everything back as it was before the call."""
        self.restore(before=True)
        self.snapshot.restore()

    def remember(self) -> None:
        """Keep what is in memory that lives on after the call."""
        for buffer in self.program.buffers:
            if buffer.kind == "memory":
                buffer.after = buffer.array.copy()

    def restore(self, before: bool) -> None:
        """Put memory that lives on back as it was before, or after the call."""
        for buffer in self.program.buffers:
            if buffer.kind == "memory":
                buffer.array[...] = buffer.before if before else buffer.after

    def is_like(self, other: Recording) -> bool:
        """Whether two recordings began alike, and took the same decisions: then they are to give the same program."""
        return (
            self.entered == other.entered
            and self.program.decisions == other.program.decisions
            and [(id(t), id(a)) for t, a in self.memory] == [(id(t), id(a)) for t, a in other.memory]
        )

    def difference(self, other: Recording) -> str | None:
        """Return the first line in which another recording differs, None where both are one program."""
        mine, theirs = self.text.splitlines(), other.text.splitlines()
        for line, here in zip(theirs, mine, strict=False):
            if line != here:
                return line
        if len(mine) != len(theirs):
            return max(mine, theirs, key=len)[min(len(mine), len(theirs))]
        for constant, again in zip(self.constants, other.constants, strict=True):
            if constant.array.tobytes() != again.array.tobytes():
                return f"{again.name} of shape {again.array.shape}"
        return None


def alike(array: Any) -> Any:
    """Return a copy of an array that has its strides."""
    copy = np.empty_like(array)
    if copy.strides != array.strides and array.size:
        raise CaptureError(f"an argument of shape {array.shape} has gaps in memory; pass tensor.contiguous()")
    copy[...] = array
    return copy


def taken_apart(value: Any, tensors: list[Tensor]) -> Callable[[Sequence[Tensor]], Any]:
    """Add the tensors of a nested value to a list; return what builds it again, of others."""
    if isinstance(value, Tensor):
        place = len(tensors)
        tensors.append(value)
        return lambda given: given[place]
    if isinstance(value, tuple | list):
        kind, parts = type(value), [taken_apart(part, tensors) for part in value]
        if hasattr(kind, "_fields"):
            return lambda given: kind(*[part(given) for part in parts])
        return lambda given: kind([part(given) for part in parts])
    if isinstance(value, dict):
        named = {name: taken_apart(part, tensors) for name, part in value.items()}
        return lambda given: {name: part(given) for name, part in named.items()}
    if isinstance(value, bool | int | float | str | None):
        return lambda given: value
    raise CaptureError(f"a compiled function returns tensors, in tuples, lists and dicts, got {type(value).__name__}")


def _listen(optimizer: Optimizer, stepped: list[Optimizer]) -> None:
    """Note down when an optimizer takes a step."""
    own = optimizer.host_scalars

    def host_scalars() -> Any:
        stepped.append(optimizer)
        return own()

    optimizer.__dict__["host_scalars"] = host_scalars


def _refuse_kept(recorder: Recorder) -> None:
    """Raise where a tensor of the step is kept by somebody: it would stay as it was in this call."""
    if recorder.alive():
        gc.collect()
    for place in recorder.alive():
        raise CaptureError(
            f"a tensor that {place} makes is kept when the step is over, and would stay as it is in this call: return "
            "it from the step instead"
        )
