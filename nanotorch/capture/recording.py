"""One call of a function that is recorded, with what it changed beside arrays; and undone where it cannot be."""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import length_hint
from typing import Any

import numpy as np

from nanotorch.autograd.graph.interpreter import installed
from nanotorch.autograd.graph.node import next_sequence, nodes_below
from nanotorch.autograd.graph.tensor import Tensor, from_array, gradient_edge
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.effects import Snapshot, version
from nanotorch.capture.numpy_code import CheckFailedError
from nanotorch.capture.program import Buffer, View, layout, spread
from nanotorch.capture.reach.reachable import MANY, Reachable, leaf_of
from nanotorch.capture.recorder import CaptureError, Recorder, TracedArray
from nanotorch.ops.create.random import Generator
from nanotorch.optim import Optimizer
from nanotorch.optim.lr_scheduler import LRScheduler
from nanotorch.optim.segment import Segment

Build = Callable[[Sequence[Any]], Any]


class OtherPlanError(Exception):
    """The parameters that an optimizer updates are others than in the call before, or lie elsewhere."""


class Recording:
    """Run a function once, as ever, and record it.

    Args:
        function: what is run.
        arguments: the tensors of the call, and
        build: makes `(args, kwargs)` of others in their place, and of the numbers after them.
        roots: what the function can reach, by name (`Reachable`), and
        words: the names that its code is known to mention.
        numbers: those of the call (`CallNumber`).

    Attributes:
        program: what it did with arrays, and
        text: that as text, before any pass,
        names: of the memory that it uses, and
        answers: those to its questions.
        result: what it returned.
        build: makes such a result of other tensors.
        differentiable: of the tensors that it returned those which can be differentiated, as they were recorded.
        began: the number of the first node of the graph that it made.
        scalars: of the rules of optimizers, in order.
        updates: for each of them the optimizer, the segment, the number of its group, and whether a step begins there.
        memory: tensors of which the program knows the memory, each with its array.
        entered: for each tensor whether it came with a gradient.
        repeats: whether as many have one afterwards, so that another call begins alike.
        grads: tensors whose gradient the step has changed, each with the tensor that it left there.
        arriving: by the id of a gradient that a tensor came with, in memory that nothing else is known to lie in: the
            tensor, that memory, and by how much the version of the gradient has changed.
        versions: tensors whose version the step has changed, each with by how much.

    Raises:
        CaptureError: it does something that no program can repeat; everything is as it was before the call.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Tensor],
        build: Build,
        roots: Mapping[str, Any],
        words: set[str],
        numbers: Sequence[int] = (),
    ) -> None:
        self.reachable = reachable = Reachable(roots, words)
        self._recorder = recorder = Recorder(reachable.names)
        self.program, self.scalars = recorder.program, recorder.scalars
        self.snapshot = Snapshot(reachable)
        self.began = next_sequence()
        self.given: list[Tensor] = []
        self._arrived: list[tuple[Any, Buffer]] = []
        self.differentiable: list[tuple[int, Tensor]] = []
        try:
            self._refuse_hooks()
            self._refuse_unreadable()
            self._refuse_shared(arguments)
            self._run(function, arguments, build, numbers)
            self._settle()
            self._refuse_side_effects(Reachable(roots, reachable.words))
            if self.differentiable:
                recorder.keep_all_results()
            else:
                self.given = []
                self.refuse_kept()
            self.text = self.program.text()
            self.names = [buffer.name for buffer in self.program.buffers if buffer.kind == "memory"]
            self.answers = [statement.expected for statement in self.program.statements if not statement.out]
        except BaseException as error:
            anew = any([numbers.plans_anew() for _, numbers in self.snapshot.by_optimizer()])
            self.undo()
            if isinstance(error, CaptureError) and anew:
                raise OtherPlanError from None  # what an optimizer made just now cannot have been known
            if isinstance(error, CaptureError) and recorder.denied:
                raise CheckFailedError(str(error)) from None  # while the function put together what is wrong
            raise

    # ------------------------------------------------------------------------------------------------- what happens

    def _run(
        self, function: Callable[..., Any], arguments: Sequence[Tensor], build: Build, numbers: Sequence[int]
    ) -> None:
        recorder = self._recorder
        for position, tensor in enumerate(arguments):
            traced = recorder.input(f"input{position}", alike(tensor._array))
            self.given.append(from_array(traced, tensor.device, tensor.requires_grad))
        args, kwargs = build([*self.given, *recorder.call_numbers(numbers)])
        with installed(recorder):
            result = function(*args, **kwargs)
        if recorder.refusal is not None:
            raise recorder.refusal
        for position, tensor in enumerate(self.given):
            if tensor._grad is not None:
                raise CaptureError(
                    f"the function fills the .grad of its argument {position}: take it by torch.autograd.grad and "
                    "return it, or keep the tensor where the function finds it by a name"
                )
        outputs: list[Tensor] = []
        self.build = taken_apart(result, outputs)
        arrays = [getattr(tensor._array, "array", tensor._array) for tensor in outputs]
        for array in arrays:
            recorder.traced(array)
        self.program.outputs = [recorder.view(array) for array in arrays]
        self.copies = [from_array(np.array(array), t.device) for array, t in zip(arrays, outputs, strict=True)]
        self.result = self.build(self.copies)
        self.differentiable = [(k, t) for k, t in enumerate(outputs) if _can_be_differentiated(t)]

    def _settle(self) -> None:
        """See what the step has changed, and give tensors that live on real arrays."""
        before, paths = self.snapshot, list(self.reachable.tensors)
        self.memory: list[tuple[Tensor, Any]] = []
        self.versions: list[tuple[Tensor, int]] = []
        self.grads: list[tuple[Tensor, Tensor | None]] = []
        self.entered = [grad is not None for grad, _ in before.grads]
        for path, tensor, array, number, (grad, grad_array) in zip(
            paths, before.tensors, before.arrays, before.versions, before.grads, strict=True
        ):
            if tensor._array is not array:
                raise CaptureError(replaced_within(self.reachable, path))
            if self._recorder.knows(array):
                self.memory.append((tensor, array))
            if version(tensor) != number:
                self.versions.append((tensor, version(tensor) - number))
            after = tensor._grad
            if after is not None and isinstance(after._array, TracedArray):
                after._array = after._array.array
            if after is not None and after._edge is not None:
                raise CaptureError(
                    f"the gradient of {path} has a history of its own (create_graph=True), which a program does not "
                    "give: take gradients that are differentiated by torch.autograd.grad"
                )
            if grad is not None and self._recorder.knows(grad_array):
                self.memory.append((grad, grad_array))
            if after is not grad or (grad is not None and self._recorder.knows(grad_array)):
                self.grads.append((tensor, after))
        self.arriving = self._arriving()
        self._owned: list[Any] | None = None
        left = {id(tensor): grad is not None for tensor, grad in self.grads}
        entered = zip(before.tensors, self.entered, strict=True)
        self.repeats = all([left.get(id(tensor), with_one) is with_one for tensor, with_one in entered])
        self.updates: list[tuple[Optimizer, Segment, int, bool]] = []
        stepping: list[Any] = []
        for segment in self._recorder.updated:
            optimizer, index = self._whose(segment)
            begins = optimizer not in stepping[:1] or segment in stepping
            stepping = [optimizer, segment] if begins else [*stepping, segment]
            self.updates.append((optimizer, segment, index, begins))
        self.constants = [buffer for buffer in self.program.buffers if buffer.kind == "constant"]
        if self.differentiable and (self.updates or self.grads):
            raise CaptureError(
                "the function returns a tensor that can still be differentiated, though it has filled gradients or "
                "taken a step: return tensor.detach()"
            )

    def _arriving(self) -> dict[int, tuple[Tensor, View, int]]:
        found, before = {}, self.snapshot
        memories = Counter([id(owner(array)) for _, array in before.grads if array is not None])
        for tensor, (grad, array), number in zip(before.tensors, before.grads, before.grad_versions, strict=True):
            if grad is None or not self._recorder.knows(array) or memories[id(owner(array))] > 1:
                continue
            view, leaf = self._recorder.view(array), leaf_of(tensor)
            alone = view.buffer.name == f"{self.reachable.path_of(tensor)}.grad"
            if alone and view.whole and (leaf is None or leaf.place is None):
                found[id(grad)] = tensor, view, version(grad) - number
        return found

    def _whose(self, segment: Segment) -> tuple[Optimizer, int]:
        for optimizer, numbers in self.snapshot.by_optimizer():
            for index, plan in optimizer._plans.items():
                if any(each is segment for each in plan.segments):
                    if numbers.plans.get(index) is not plan:
                        raise OtherPlanError
                    return optimizer, index
        raise CaptureError("a step of an optimizer that the function cannot be seen to reach: give it a name")

    # ------------------------------------------------------------------------------------------------- what is refused

    def _refuse_hooks(self) -> None:
        """Raise where there are hooks that a program would not run."""
        for optimizer in self.snapshot.optimizers:
            if optimizer._step_pre_hooks or optimizer._step_post_hooks:
                raise CaptureError(
                    f"{type(optimizer).__name__} has hooks around its step, which a program would not run: call them "
                    "around the compiled function"
                )
        for path, tensor in self.reachable.tensors.items():
            leaf = leaf_of(tensor)
            if leaf is not None and leaf._hooks:
                raise CaptureError(
                    f"{path} has a hook, which a program would not run: do what it does in the function itself"
                )

    def _refuse_unreadable(self) -> None:
        """Raise where there is something of which a program could not see that it has changed."""
        for path, value in self.reachable.unreadable.items():
            if self.reachable.mentions(path):
                many = f" with {size:,} entries" if (size := length_hint(value)) > MANY else ""
                raise CaptureError(
                    f"{self.reachable.line_of(path)} reads {path}, of type {type(value).__name__}{many}, and a program "
                    "would not see when it changes: pass what is taken from it as an argument, or keep that as a "
                    f"number, a text, an attribute, a tensor, or a list or dict of at most {MANY:,} entries"
                )

    def _refuse_shared(self, arguments: Sequence[Tensor]) -> None:
        for position, tensor in enumerate(arguments):
            path = self.reachable.names.get(id(owner(tensor._array)))
            if path is not None:
                raise CaptureError(
                    f"argument {position} of the compiled function shares memory with {path}: pass tensor.clone(), or "
                    "leave the argument away and use the tensor by its name"
                )

    def _refuse_side_effects(self, after: Reachable) -> None:
        """Raise where the function has changed something that a program does not change."""
        path = self.reachable.difference(after)
        if path is not None:
            schedules = [thing for thing in self.reachable.objects if isinstance(thing, LRScheduler)]
            instead = "do it outside of the compiled function, or keep it in a tensor that is written in place"
            if any([path.startswith(self.reachable.path_of(each)) for each in schedules]):
                instead = "step a scheduler after the compiled function, or give its step to run as between="
            raise CaptureError(
                f"{self.reachable.line_of(path)} changes {path}, which a program would not do in later calls: {instead}"
            )
        for optimizer, numbers in self.snapshot.by_optimizer():
            counts = type(optimizer).count_step is not Optimizer.count_step
            for name, value in () if counts else numbers.plain.items():
                if getattr(optimizer, name, None) != value and name != "_step_called":
                    raise CaptureError(
                        f"{type(optimizer).__name__}.{name} changes in a step, which a program would not do in later "
                        "calls"
                    )
        if self.snapshot.draws.are_seeded():
            raise CaptureError(
                f"{self.reachable.line_of('manual_seed')}: the function seeds a generator, which a program would not "
                "do in later calls: seed it outside, and have utils.checkpoint recompute nothing that draws, as dropout"
            )
        source = self.snapshot.drawn()
        if source is not None:
            raise CaptureError(
                f"the function draws numbers of {source}, which a program would not do in later calls: use those of "
                "torch, or pass what is drawn as a tensor argument"
            )
        known = {id(generator) for generator in self.snapshot.draws.generators}
        for statement in self.program.statements:
            for value in statement.args:
                source = getattr(value, "__self__", value)
                if isinstance(source, Generator) and id(source) not in known:
                    raise CaptureError(f"{statement.line} draws from a generator that is made in the function")

    def refuse_kept(self) -> None:
        """Raise where a tensor of the step is kept by somebody: it would stay as it was in this call."""
        if self._recorder.alive():
            gc.collect()
        for place in self._recorder.alive():
            raise CaptureError(
                f"a tensor that {place} makes is kept when the function is over, and would stay as it is in this call: "
                "return it from the function instead"
            )

    # ------------------------------------------------------------------------------------------------- before and after

    @property
    def kept(self) -> set[Buffer]:
        """The buffers in which gradients stay when the step is over."""
        places = [self.place(grad._array) for _, grad in self.grads if grad is not None]
        return {view.buffer for view in places if view is not None and view.buffer.kind == "temporary"}

    def place(self, array: Any) -> View | None:
        """Return where in the memory of the program an array lies, if it does."""
        return self._recorder.view(array) if self._recorder.knows(array) else None

    def own_gradients(self) -> list[tuple[Tensor, Any, int]]:
        """Let gradients that come with a call lie in the program's own memory, into and out of which each call copies
        those that it finds; return the tensors, each with that memory and by how much the version moves on.
        """
        found = []
        self._owned = [(id(tensor), view[1:]) for tensor, view, _ in self.arriving.values()]
        self.memory = [(tensor, array) for tensor, array in self.memory if id(tensor) not in self.arriving]
        self.grads = [(tensor, grad) for tensor, grad in self.grads if id(grad) not in self.arriving]
        for tensor, view, step in self.arriving.values():
            self._arrived.append((view.buffer.array, view.buffer))
            view.buffer.array = own = view.buffer.array.copy(order="K")
            found.append((tensor, own, step))
        return found

    def undo(self) -> None:
        """Put everything back as it was before the call."""
        for array, buffer in self._arrived:
            array[...] = buffer.before
        for buffer in self.program.buffers:
            if buffer.kind == "memory":
                buffer.array[...] = buffer.before
        self.snapshot.restore()

    def remember(self) -> None:
        """Keep what is in memory that lives on after the call."""
        for buffer in self.program.buffers:
            if buffer.kind == "memory":
                buffer.after = buffer.array.copy()
                self._recorder.results_from(buffer, buffer.after)

    def restore(self, before: bool) -> None:
        """Put memory that lives on back as it was before, or after the call."""
        for buffer in self.program.buffers:
            if buffer.kind == "memory":
                buffer.array[...] = buffer.before if before else buffer.after

    def forget_gradients(self) -> None:
        """Let go of the gradients that were there before: another program has to see that nobody keeps its own."""
        self._recorder.let_go([array for array, _ in self._arrived])
        self._arrived, self.arriving = [], {}
        self.reachable.forget_gradients()
        self.snapshot.forget_gradients()

    def forget(self, kept: Collection[Buffer] | None = None) -> None:
        """Let go of what was only needed to check a program; `kept` are buffers that gradients lie in."""
        self.forget_results(self.kept if kept is None else kept)
        for buffer in self.program.buffers:
            buffer.before = None
        self.reachable.forget_gradients()
        del self._recorder, self.snapshot, self.given, self.copies, self.differentiable, self.result

    def forget_results(self, kept: Collection[Buffer]) -> None:
        """Let go of what statements gave, once a program was checked with it; all can still be put back."""
        for statement in self.program.statements:
            statement.result = ()
        for buffer in self.program.buffers:
            buffer.after = None
            if buffer.kind == "temporary" and buffer not in kept:
                buffer.array = layout(buffer.array)
        self._recorder.close()

    # ------------------------------------------------------------------------------------------------- two recordings

    def digest(self, shared: Sequence[bool] | None = None) -> bytes:
        """Return what is the same for two recordings, of whatever memory, that give one program and its constants; of
        the first of several models, whose arguments hold an entry for each but for those that are `shared`, however
        many there are.
        """
        text, forms = self.text, []
        if shared is not None:
            text = "\n".join([line for line in text.splitlines() if not line.startswith("input ")])
            for buffer, same in zip(self.program.inputs, shared, strict=True):
                forms.append((buffer.shape[not same :], buffer.steps[not same :], buffer.array.dtype.str))
        parts = [text.encode(), repr((shared, forms, self.entered)).encode()]
        parts += [b.array.tobytes() for b in self.constants]
        return hashlib.sha256(b"\0".join(parts)).digest()

    def is_like(self, other: Recording) -> bool:
        """Whether two recordings began alike, and took the same decisions: then they are to give the same program."""
        return (
            self.entered == other.entered
            and self.program.decisions == other.program.decisions
            and all([mine == theirs for mine, theirs in zip(self.answers, other.answers, strict=False)])
            and self.reachable.fingerprint == other.reachable.fingerprint
            and self.names == other.names
            and self._same_memory(other)
        )

    def _same_memory(self, other: Recording) -> bool:
        """Whether another recording found the same memory, but for gradients that lie in the program's own."""
        theirs = other.memory
        if self._owned is not None:
            theirs = [(tensor, array) for tensor, array in theirs if id(tensor) not in other.arriving]
            if self._owned != [(id(tensor), view[1:]) for tensor, view, _ in other.arriving.values()]:
                return False
        return [(id(t), id(a)) for t, a in self.memory] == [(id(t), id(a)) for t, a in theirs]

    def difference(self, other: Recording) -> str | None:
        """Return the first line in which another recording differs, None where both are one program."""
        mine, theirs = self.text.splitlines(), other.text.splitlines()
        for line, here in zip(theirs, mine, strict=False):
            if line.partition("  # ")[0] != here.partition("  # ")[0]:
                return line
        if len(mine) != len(theirs):
            return max(mine, theirs, key=len)[min(len(mine), len(theirs))]
        for constant, again in zip(self.constants, other.constants, strict=True):
            if constant.array.tobytes() != again.array.tobytes():
                return f"{again.name} of shape {again.array.shape}"
        return None


def replaced_within(reachable: Reachable, path: str) -> str:
    """Say that a function gives a tensor other memory."""
    return (
        f"{reachable.line_of('data')}: the memory of {path} is replaced within the function: write into it, as by "
        "copy_(), or do it outside"
    )


def alike(array: Any) -> Any:
    """Return a copy of an array that has its strides, with gaps between elements where it has some."""
    if any([stride < 0 or stride % array.itemsize for stride in array.strides]):
        raise CaptureError(
            f"an argument of shape {array.shape} lies backwards in memory, or its elements not at multiples of their "
            "size; pass tensor.contiguous()"
        )
    copy = spread(array)
    copy[...] = array
    return copy


def taken_apart(value: Any, tensors: list[Tensor]) -> Build:
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


def _can_be_differentiated(tensor: Tensor) -> bool:
    """Whether a backward pass can still begin at a tensor: nothing below it was released by one."""
    return tensor.requires_grad and not any([node._released for node in nodes_below([gradient_edge(tensor)])])
