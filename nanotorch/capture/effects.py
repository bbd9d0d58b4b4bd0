"""What a step changes beside the elements of arrays: gradients, versions, the numbers of optimizers, generators.

A recorded step has changed them, its program has to change them in the same way, and a step that could not be recorded
has to be undone: `Snapshot` keeps how they were.
"""

from __future__ import annotations

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.random import default_generator
from nanotorch.optim import Optimizer


class Snapshot:
    """Everything but the elements of arrays that a step may change of the things that it can reach."""

    def __init__(self, tensors: dict[str, Tensor], optimizers: list[Optimizer]) -> None:
        self.tensors = list(tensors.values())
        self.arrays = [tensor._array for tensor in self.tensors]
        self.grads = [(tensor._grad, None if tensor._grad is None else tensor._grad._array) for tensor in self.tensors]
        self.versions = [version(tensor) for tensor in self.tensors]
        self.generators = [(generator, generator.get_state()) for generator in [default_generator]]
        self.optimizers = [(optimizer, Numbers(optimizer)) for optimizer in optimizers]

    def restore(self) -> None:
        """Put everything back."""
        for tensor, array, (grad, grad_array) in zip(self.tensors, self.arrays, self.grads, strict=True):
            tensor._array, tensor._grad = array, grad
            if grad is not None:
                grad._array = grad_array
        for tensor, number in zip(self.tensors, self.versions, strict=True):
            if tensor._cell is not None:
                tensor._cell.number = number
        self.restore_generators()
        for _, numbers in self.optimizers:
            numbers.restore()

    def restore_generators(self) -> None:
        """Have all generators draw once more what they drew since."""
        for generator, state in self.generators:
            generator.set_state(state)


class Numbers:
    """What an optimizer counts: one number for each parameter, and the plain attributes of the optimizer itself."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.plain = {n: v for n, v in vars(optimizer).items() if isinstance(v, bool | int | float | str | None)}
        self.plans = dict(optimizer._plans)
        self.segments = [segment for plan in self.plans.values() for segment in plan.segments]
        self.before = [
            ({name: array.copy() for name, array in segment.numbers.items()}, segment.first, segment.known)
            for segment in self.segments
        ]

    def restore(self) -> None:
        """Put them back."""
        vars(self.optimizer).update(self.plain)
        self.optimizer._plans.clear()
        self.optimizer._plans.update(self.plans)
        for segment, (numbers, first, known) in zip(self.segments, self.before, strict=True):
            for name, array in numbers.items():
                segment.numbers[name][...] = array
            segment.first, segment.known = first, known


def version(tensor: Tensor) -> int:
    """Return the version of a tensor's memory without making a cell."""
    return 0 if tensor._cell is None else tensor._cell.number
