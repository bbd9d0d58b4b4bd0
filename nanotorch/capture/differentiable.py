"""A function that is differentiated through: its forward and its backward become two programs.

Note [Programs that are differentiated]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A function that returns a tensor with a history, such as a model, has no backward pass in it: that comes later, from
outside. So a recorded call keeps the graph that its ops have made, and gives the user results of a `Function` in their
place (`Through`). When gradients arrive there, the backward pass through the kept graph is recorded, into the same
list of statements. What the second part reads and the first one has made is what a replayed forward has to save:

    forward      x            -> results, saved t4, t7            copies, for the next call writes there
    backward     t4, t7, grad -> gradients of arguments and parameters

Which results gradients arrive for, and in which layout, is the *pattern* of a backward: each has a program. Where there
is none for it, the function runs once more as ever, from the random numbers that it had, and is differentiated so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.function import Function
from nanotorch.autograd.graph.engine import grad as gradients_of
from nanotorch.autograd.graph.grad_mode import enable_grad, is_grad_enabled
from nanotorch.autograd.graph.interpreter import installed
from nanotorch.autograd.graph.node import AccumulateGrad, nodes_below
from nanotorch.autograd.graph.tensor import Tensor, from_array, gradient_edge
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.effects import Draws, Snapshot
from nanotorch.capture.explanation import Explanation
from nanotorch.capture.numpy_code import NumpyCode
from nanotorch.capture.page import Page
from nanotorch.capture.passes import DRAWS, simplify
from nanotorch.capture.program import Buffer, Program, Statement, View, steps
from nanotorch.capture.reach.reachable import Reachable
from nanotorch.capture.reach.watch import Watch
from nanotorch.capture.recorder import CaptureError, call_scalars
from nanotorch.capture.recording import Recording, taken_apart

Pattern = tuple[Any, ...]


class Through(Function):
    """Results of a compiled function, with the history that gradients need (Note [Programs that are
    differentiated]).
    """

    @staticmethod
    def forward(ctx: Any, play: Any, checked: Sequence[Tensor], *tensors: Tensor) -> tuple[Tensor, ...]:
        """Give the results; `checked` must not be written to before the backward pass."""
        ctx.play = play
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*checked, from_array(np.empty(0)))  # with something saved, a second backward says so
        results = [from_array(array) for array in play.results]
        ctx.mark_non_differentiable(*[t for k, t in enumerate(results) if k not in play.differentiable])
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Give the gradients of the tensors."""
        if is_grad_enabled():
            raise CaptureError(
                "gradients of a compiled function cannot be differentiated again (create_graph=True): call the plain "
                "function, compiled.function, or compile what takes both derivatives"
            )
        assert ctx.saved_tensors is not None  # raises where something was written to, or released
        return (None, None, *ctx.play.backward(grads))


class Recorded:
    """A call that was recorded, and whose graph is kept: its backward passes are recorded, too.

    Attributes:
        tensors: the arguments and parameters to which gradients flow.
        backwards: by pattern what a backward pass has done.
    """

    def __init__(self, recording: Recording, arguments: Sequence[Tensor]) -> None:
        self.recording = recording
        self.results = [copy._array for copy in recording.copies]
        self.differentiable = {place: tensor for place, tensor in recording.differentiable}
        nodes = nodes_below([gradient_edge(tensor) for tensor in self.differentiable.values()])
        leaves = {id(node.variable): node.variable for node in nodes if isinstance(node, AccumulateGrad)}
        self.places = [k for k, tensor in enumerate(recording.given) if id(tensor) in leaves]
        given = [recording.given[k] for k in self.places]
        known = list(recording.reachable.tensors.values())
        parameters = [tensor for tensor in known if id(tensor) in leaves]
        inner = [node for node in nodes if not isinstance(node, AccumulateGrad)]
        older = any([node._sequence > recording.began for node in inner])  # newer nodes have smaller numbers
        if older or len(given) + len(parameters) != len(leaves):
            raise CaptureError(
                "gradients would flow to a tensor that the compiled function cannot be seen to reach, or that has a "
                "history of its own: pass it as an argument"
            )
        self._leaves = [*given, *parameters]
        self.parameters = parameters
        self.tensors = [*[arguments[k] for k in self.places], *parameters]
        self.length = len(recording.program.statements)
        self.backwards: dict[Pattern, tuple[list[Statement], list[Buffer], list[View | None]]] = {}

    def backward(self, grads: Sequence[Tensor | None]) -> list[Any]:
        """Run a backward pass through the kept graph, and record it."""
        recorder, program = self.recording._recorder, self.recording.program
        start, inputs = len(program.statements), len(program.inputs)
        arrived = []
        for place, gradient in enumerate(grads):
            if gradient is not None:
                traced = recorder.input(f"grad{place}", dense(gradient._array).copy(order="K"))
                traced = recorder.traced(np.broadcast_to(traced.array, gradient._array.shape))
                arrived.append((self.differentiable[place], from_array(traced)))
        with installed(recorder):
            outputs, cotangents = zip(*arrived, strict=True)
            found = gradients_of(outputs, self._leaves, cotangents, retain_graph=True, allow_unused=True)
        if recorder.refusal is not None:
            raise recorder.refusal
        arrays = [None if g is None else getattr(g._array, "array", g._array) for g in found]
        views = [None if a is None else recorder.view(recorder.traced(a).array) for a in arrays]
        done = program.statements[start:], program.inputs[inputs:], views
        del program.statements[start:], program.inputs[inputs:]
        self.backwards.setdefault(pattern_of(grads), done)
        return [None if array is None else from_array(np.array(array)) for array in arrays]


class Differentiable:
    """The programs of a function that is differentiated through.

    Attributes:
        confirmed: whether a second recording has given the same programs.
        given_up: whether it has become useless.
    """

    def __init__(self, recorded: Recorded, again: Callable[..., Any], roots: dict[str, Any], because: str) -> None:
        self.recorded, self.because = recorded, because
        self.second: Recorded | None = None
        self.recording = recorded.recording
        self.confirmed = self.given_up = False
        self.again, self.roots = again, roots

    def take(self, second: Recorded) -> None:
        """Take in another recording of the same forward."""
        self.second = second
        self.watch = Watch(second.recording.reachable)

    def finish(self) -> None:
        """Make programs, once there are two recordings that agree, and their backward passes have had their time."""
        if self.second is None:
            return
        one, two, recording = self.recorded, self.second, self.recording
        for pattern in [pattern for pattern in one.backwards if pattern in two.backwards]:
            mine, theirs = repr(one.backwards[pattern]).splitlines(), repr(two.backwards[pattern]).splitlines()
            if mine != theirs:
                raise CaptureError("the backward pass of the function is another one at every call")
        recording.remember()
        draws = Draws(recording.snapshot.draws.generators)
        recording.restore(before=True)
        recording.snapshot.draws.restore()
        try:
            self._make({p: done for p, done in one.backwards.items() if p in two.backwards})
        finally:
            recording.restore(before=False)
            draws.restore()
        self.fingerprint = recording.reachable.fingerprint
        self._memory, self._versions, self._build = recording.memory, recording.versions, recording.build
        drawing = any(s.primitive in DRAWS for s in self._forward.program.statements)
        self._generators = recording.snapshot.draws.generators if drawing else []
        self.parameters, self.places, self.differentiable = one.parameters, one.places, set(one.differentiable)
        self.confirmed = True
        for each in (one, two):
            each.recording.forget()
        del self.recorded
        self.second = None

    def _make(self, backwards: dict[Pattern, tuple[list[Statement], list[Buffer], list[View | None]]]) -> None:
        program = self.recording.program
        made = {view.buffer for s in program.statements for view in s.out if view.buffer.kind == "temporary"}
        read = [
            view.buffer
            for statements, _, results in backwards.values()
            for view in (*[v for s in statements for v in s.reads], *[v for v in results if v is not None])
        ]
        saved = [buffer for buffer in dict.fromkeys(read) if buffer in made]
        used = {buffer for buffer in read if buffer.kind in ("input", "memory")}
        self._checked = [t for t, a in self.recording.memory if self.recording._recorder.view(a).buffer in used]
        self.checked_places = [k for k, buffer in enumerate(program.inputs) if buffer in used]
        stand_in = {buffer: Buffer("input", f"saved_{buffer.name}", buffer.array.copy(order="K")) for buffer in saved}
        self._count = len(program.outputs)
        whole = [View(buffer, 0, buffer.array.shape, steps(buffer.array)) for buffer in saved]
        self.backwards = {}
        parts = {p: _part(program, done, stand_in, self.checked_places) for p, done in backwards.items()}
        program.outputs = [*program.outputs, *whole]
        self._forward = _coded(program, "forward", self.recording.scalars)
        self._codes = [self._forward]
        for pattern, (part, wanted) in parts.items():
            code = _coded(part, "backward", self.recording.scalars)
            self._codes.append(code)
            self.backwards[pattern] = code.build()[0], wanted
        self._run, self._decided = self._forward.build()
        self._owners = frozenset([id(owner(b.array)) for b in program.buffers if b.kind == "memory"])
        self.written = [b.array for b in {v.buffer for s in program.statements for v in s.out} if b.kind == "memory"]

    # ------------------------------------------------------------------------------------------------------ to be read

    def pages(self) -> list[Page]:
        """Return the forward and the backward passes as pages to read."""
        return [Page(code.program, {}, {}) for code in self._made()]

    def explanation(self) -> Explanation:
        """Return what the forward is made of, with its backward passes, and what it holds for."""
        forward, *backwards = self._made()
        held = [f"the memory of {len(self._memory)} tensors", "what the function finds around it"]
        return Explanation(forward, held, self.because, [Explanation(code, [], self.because) for code in backwards])

    def _made(self) -> list[NumpyCode]:
        if not self.confirmed:
            raise RuntimeError("the second recording of the function has not been differentiated yet, or is too new")
        return self._codes

    # ------------------------------------------------------------------------------------------------------- a call

    def fits(self, arguments: Sequence[Tensor]) -> bool:
        """Whether it is the program for a call: all is there that it was recorded with."""
        return (
            self.confirmed
            and self.watch.is_same()
            and all([tensor._array is array for tensor, array in self._memory])
            and not (self.written and any([id(owner(tensor._array)) in self._owners for tensor in arguments]))
        )

    def renew(self, reachable: Reachable) -> None:
        """Go on from what is there now, if the function finds there what it found."""
        if self.confirmed and self.fingerprint == reachable.fingerprint:
            self.watch = self.watch.renewed(reachable)

    def replay(self, arguments: Sequence[Tensor], numbers: Sequence[int] = ()) -> tuple[bool, Any]:
        """Run the forward; (False, None) where a question is answered otherwise."""
        draws = Draws(self._generators) if self._generators else None
        arrays = [tensor._array for tensor in arguments]
        saved = [(array, array.copy()) for array in self.written]
        scalars = [call_scalars(numbers)] if numbers else []
        if not self._decided(scalars):
            return False, None
        try:
            results = self._run(*arrays, scalars)
        except Exception:  # a question, or the function's own error, which it raises when it runs as ever
            for array, before in saved:
                array[...] = before
            if draws is not None:
                draws.restore()
            return False, None
        for tensor, step in self._versions:
            tensor._version_cell().number += step
        play = Replayed(self, arrays, results[: self._count], results[self._count :], draws, numbers)
        play.tensors = [*[arguments[k] for k in self.places], *self.parameters]
        checked = [*self._checked, *[arguments[k] for k in self.checked_places]]
        return True, self._build(Through.apply(play, checked, *play.tensors))


class Replayed:
    """A call of a program that can be differentiated."""

    def __init__(
        self,
        captured: Differentiable,
        arrays: Sequence[Any],
        results: Sequence[Any],
        saved: Sequence[Any],
        draws: Draws | None,
        numbers: Sequence[int],
    ) -> None:
        self.captured, self.arrays, self.results, self.saved, self.draws = captured, arrays, results, saved, draws
        self.numbers = numbers
        self.differentiable = captured.differentiable
        self.tensors: list[Tensor] = []

    def backward(self, grads: Sequence[Tensor | None]) -> list[Any]:
        """Run the program of the backward pass."""
        captured = self.captured
        known = captured.backwards.get(pattern_of(grads))
        if known is None:
            captured.given_up, captured.confirmed = True, False
            return self._again(grads)
        run, wanted = known
        arrived = [dense(gradient._array) for gradient in grads if gradient is not None]
        scalars = [call_scalars(self.numbers)] if self.numbers else []
        found = iter(run(*self.saved, *[self.arrays[k] for k in captured.checked_places], *arrived, scalars))
        return [from_array(next(found)) if is_wanted else None for is_wanted in wanted]

    def _again(self, grads: Sequence[Tensor | None]) -> list[Any]:
        """Run the function once more as ever, and differentiate that; leave everything as it is now."""
        captured = self.captured
        snapshot = Snapshot(Reachable(captured.roots))
        memory = [(array, array.copy()) for array in captured.written]
        if self.draws is not None:
            self.draws.restore()
        try:
            count = len(captured.places)
            given = [from_array(array) for array in self.arrays]
            for place in captured.places:
                given[place].requires_grad_()
            outputs: list[Tensor] = []
            with enable_grad():
                taken_apart(captured.again([*given, *self.numbers]), outputs)
            arrived = [(output, g) for output, g in zip(outputs, grads, strict=True) if g is not None]
            leaves = [*[given[place] for place in captured.places], *self.tensors[count:]]
            results, arriving = [output for output, _ in arrived], [gradient for _, gradient in arrived]
            return list(gradients_of(results, leaves, arriving, allow_unused=True))
        finally:
            snapshot.restore()
            for array, before in memory:
                array[...] = before


def dense(array: Any) -> Any:
    """Return the elements of a gradient without those that are repeated, as of a sum's: so it comes in the layout in
    which the plain backward pass gets it.
    """
    once = array[tuple([slice(1) if step == 0 else slice(None) for step in array.strides])]
    return once if np.empty_like(once).strides == once.strides else once.copy(order="K")


def pattern_of(grads: Sequence[Tensor | None]) -> Pattern:
    """Return for which results gradients arrived, and in which layout."""
    return tuple([g if g is None else (g._array.shape, dense(g._array).strides, g._array.dtype) for g in grads])


def _part(
    program: Program,
    done: tuple[list[Statement], list[Buffer], list[View | None]],
    stand_in: dict[Buffer, Buffer],
    places: Sequence[int],
) -> tuple[Program, list[bool]]:
    """Return a backward pass as a program of its own, and which gradients it gives."""
    statements, arrived, views = done

    def moved(value: Any) -> Any:
        return (
            View(stand_in[value.buffer], *value[1:]) if isinstance(value, View) and value.buffer in stand_in else value
        )

    part = Program()
    for statement in statements:
        args, options = statement.replaced(moved)
        again = Statement(statement.primitive, args, options, statement.out, statement.line, statement.row)
        again.expected, again.result = statement.expected, statement.result
        part.statements.append(again)
    part.inputs = [*stand_in.values(), *[program.inputs[k] for k in places], *arrived]
    part.outputs = [moved(view) for view in views if view is not None]
    views_of = [view for s in part.statements for view in (*s.reads, *s.out)]
    part.buffers = [*dict.fromkeys([*part.inputs, *[view.buffer for view in (*views_of, *part.outputs)]])]
    part.sources = program.sources
    return part, [view is not None for view in views]


def _coded(program: Program, name: str, scalars: Sequence[Any]) -> NumpyCode:
    """Return the code of a program, which has to do what was recorded."""
    simplify(program, ())
    code = NumpyCode(program, ())
    different = code.check([buffer.array for buffer in program.inputs], scalars)
    if different is not None:
        raise CaptureError(f"{different.line}: the {name} of {different.row} differs from the op: {different!r}")
    return code
