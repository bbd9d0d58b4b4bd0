"""What a step changes beside the elements of arrays: gradients, versions, the numbers of optimizers, generators.

A recorded step has changed them, its program has to change them in the same way, and a step that could not be recorded
has to be undone: `Snapshot` keeps how they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.capture.reach.reachable import Reachable
from nanotorch.capture.reach.watch import Contents
from nanotorch.ops.create.random import Generator, default_generator, source
from nanotorch.optim import Optimizer
from nanotorch.optim.segment import Segment

grad_of = attrgetter("_grad")
array_of = attrgetter("_array")
"""The array of a tensor."""


class Snapshot:
    """Everything but the elements of arrays that a step may change of the things that it can reach."""

    def __init__(self, reachable: Reachable) -> None:
        self.tensors = list(reachable.tensors.values())
        self.arrays = [tensor._array for tensor in self.tensors]
        self.grads = [(tensor._grad, None if tensor._grad is None else tensor._grad._array) for tensor in self.tensors]
        grads = [grad for grad, _ in self.grads if grad is not None]
        self.grad_versions = [0 if grad is None else version(grad) for grad, _ in self.grads]
        cells = [(t, t._cell) for t in (*self.tensors, *grads)]
        self._cells = [(t, cell, version(t), None if cell is None else cell.writer) for t, cell in cells]
        self._histories = [(t, t._edge, t._requires_grad, t._view) for t in (*self.tensors, *grads)]
        self.versions = [version(tensor) for tensor in self.tensors]
        self.optimizers = [thing for thing in reachable.objects if isinstance(thing, Optimizer)]
        self.numbers = [Numbers(optimizer) for optimizer in self.optimizers]
        self._contents = Contents(reachable)
        self.draws = Draws([thing for thing in reachable.objects if isinstance(thing, Generator)])
        others = [thing for thing in reachable.objects if isinstance(thing, np.random.Generator)]
        self._others = [(other, other.bit_generator.state) for other in others]
        self._python, self._numpy = random.getstate(), np.random.get_state(legacy=False)

    def by_optimizer(self) -> Iterator[tuple[Optimizer, Numbers]]:
        """Give the optimizers, each with its numbers."""
        return zip(self.optimizers, self.numbers, strict=True)

    def drawn(self) -> str | None:
        """Return whose random numbers beside those of tensors were drawn since, if somebody's were."""
        if random.getstate() != self._python:
            return "random"
        if any([other.bit_generator.state != state for other, state in self._others]):
            return "numpy.random.Generator"
        before, now = self._numpy["state"], np.random.get_state(legacy=False)["state"]
        same = before["pos"] == now["pos"] and np.array_equal(before["key"], now["key"])
        return None if same else "numpy.random"

    def forget_gradients(self) -> None:
        """Let go of gradients, once nothing is to be put back."""
        self.grads, self._cells, self._histories, self.grad_versions = [], [], [], []

    def restore(self) -> None:
        """Put everything back."""
        self._contents.restore()
        for tensor, array, (grad, grad_array) in zip(self.tensors, self.arrays, self.grads, strict=True):
            tensor._array, tensor._grad = array, grad
            if grad is not None:
                grad._array = grad_array
        for tensor, cell, number, writer in self._cells:
            tensor._cell = cell
            if cell is not None:
                cell.number, cell.writer = number, writer
        for tensor, edge, requires_grad, view in self._histories:
            tensor._edge, tensor._requires_grad, tensor._view = edge, requires_grad, view
        for numbers in self.numbers:
            numbers.restore()
        self.draws.restore()
        for other, state in self._others:
            other.bit_generator.state = state
        random.setstate(self._python)
        np.random.set_state(self._numpy)


class Position:
    """Where a training stands: elements of tensors and gradients, plain values, what optimizers count, generators."""

    def __init__(self, reachable: Reachable) -> None:
        self._optimizers = [thing for thing in reachable.objects if isinstance(thing, Optimizer)]
        tensors = [tensor for tensor in reachable.tensors.values() if id(tensor) not in reachable.states]
        self._arrays = [(tensor, array_of(tensor).copy()) for tensor in tensors if array_of(tensor).flags.writeable]
        grads = zip(tensors, map(grad_of, tensors), strict=True)
        self._grads = [(tensor, grad, None if grad is None else array_of(grad).copy()) for tensor, grad in grads]
        self._plain = [plain_numbers(optimizer) for optimizer in self._optimizers]
        held = [thing for each in self._optimizers for thing in (each._plans, each.state, *each.state.values())]
        walks = getattr(reachable, "each", [reachable])
        self._contents = [Contents(walk, without=set(map(id, held))) for walk in walks]
        self._states = [
            {
                key: {n: array_of(v).copy() for n, v in record.items() if isinstance(v, Tensor)}
                for key, record in entries
            }
            for entries in [list(optimizer.state.items()) for optimizer in self._optimizers]
        ]
        self._counts = Counts([segment for each in self._optimizers for segment in _segments(each)])
        self._draws = Draws([thing for thing in reachable.objects if isinstance(thing, Generator)])

    def has_begun(self) -> bool:
        """Whether an optimizer has state since that it did not have: then there is no way back."""
        return any(
            [
                {key: set(record) for key, record in optimizer.state.items() if record}
                != {key: set(record) for key, record in state.items() if record}
                for optimizer, state in zip(self._optimizers, self._states, strict=True)
            ]
        )

    def restore(self) -> None:
        """Go back there, in the memory that is there now."""
        for contents in self._contents:
            contents.restore()
        for tensor, copy in self._arrays:
            array_of(tensor)[...] = copy
        for tensor, grad, elements in self._grads:
            if grad_of(tensor) is not grad:
                tensor.grad = grad
            if grad is not None:
                array_of(grad)[...] = elements
        for optimizer, state, plain in zip(self._optimizers, self._states, self._plain, strict=True):
            for key, record in state.items():
                for name, value in record.items():
                    array_of(optimizer.state[key][name])[...] = value
            vars(optimizer).update(plain)
            for segment in _segments(optimizer):
                segment.moved_on()
        self._counts.restore()
        self._draws.restore()


def _segments(optimizer: Optimizer) -> list[Segment]:
    return [segment for plan in optimizer._plans.values() for segment in plan.segments]


class Draws:
    """The states of generators of random numbers, the default one's among them."""

    def __init__(self, generators: list[Generator]) -> None:
        self.generators = list({id(each): each for each in (default_generator, source(), *generators)}.values())
        self._states = [generator.get_state() for generator in self.generators]
        self._sources = [generator.numpy for generator in self.generators]

    def restore(self) -> None:
        """Have all of them draw once more what they drew since."""
        for generator, state in zip(self.generators, self._states, strict=True):
            if generator.get_state() != state:
                generator.set_state(state)

    def are_there(self) -> bool:
        """Whether all of them are where they were."""
        pairs = zip(self.generators, self._states, strict=True)
        return all([generator.get_state() == state for generator, state in pairs])

    def are_seeded(self) -> bool:
        """Whether one of them was set to a state since: it then draws from another source."""
        return any([g.numpy is not source for g, source in zip(self.generators, self._sources, strict=True)])


class Numbers:
    """What an optimizer counts: one number for each parameter, and the plain attributes of the optimizer itself."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.plain = plain_numbers(optimizer)
        self.plans = dict(optimizer._plans)
        self.groups = [dict(group) for group in optimizer.param_groups]
        self.params = [list(group["params"]) for group in optimizer.param_groups]
        self.state = {key: dict(value) for key, value in optimizer.state.items() if isinstance(value, dict)}
        segments = [segment for plan in self.plans.values() for segment in plan.segments]
        self.counts = Counts(segments)
        self._gathered = [(segment, id(segment.grad)) for segment in segments]

    def plans_anew(self) -> bool:
        """Whether the optimizer has since made a plan of its segments, or memory in which one gathers gradients."""
        if self.optimizer._plans != self.plans:
            return True
        return any([id(segment.grad) != before for segment, before in self._gathered])

    def restore(self) -> None:
        """Put them back."""
        optimizer = self.optimizer
        vars(optimizer).update(self.plain)
        optimizer._plans.clear()
        optimizer._plans.update(self.plans)
        for group, before, params in zip(optimizer.param_groups, self.groups, self.params, strict=False):
            group.clear()
            group.update(before)
            group["params"][:] = params
        del optimizer.param_groups[len(self.groups) :]
        for key in [key for key in optimizer.state if key not in self.state]:
            del optimizer.state[key]
        for key, record in self.state.items():
            optimizer.state[key].clear()
            optimizer.state[key].update(record)
        self.counts.restore()


def plain_numbers(optimizer: Optimizer) -> dict[str, Any]:
    """Return the plain attributes of an optimizer, as those that it counts."""
    return {n: v for n, v in vars(optimizer).items() if isinstance(v, bool | int | float | str | None)}


class Counts:
    """The numbers of segments, as how often their parameters were updated; to be put back."""

    __slots__ = ("before",)

    def __init__(self, segments: list[Segment]) -> None:
        self.before = [(s, s.first, s.known, [e.tobytes() for e in s.numbers.values()]) for s in segments]

    def restore(self) -> None:
        """Put them back."""
        for segment, first, known, present in self.before:
            segment.first, segment.known = first, known
            for entries, numbers in zip(segment.numbers.values(), present, strict=True):
                entries[...] = np.frombuffer(numbers, entries.dtype)


def version(tensor: Tensor) -> Any:
    """Return the version of a tensor's memory without making a cell."""
    return 0 if tensor._cell is None else tensor._cell.number
