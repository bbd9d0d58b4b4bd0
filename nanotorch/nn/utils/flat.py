"""Parameters side by side in one memory, and their gradients in another.

Note [Flat parameters]
~~~~~~~~~~~~~~~~~~~~~~
The parameters of a model are many small arrays. What is done to all of them alike, such as an optimizer's rule, the
norm of the gradient, a moving average or a sum over processes, is done in one call if they lie side by side:

    data   [ weight (16, 4) | bias (16,) | weight (3, 16) | bias (3,) ]     each parameter is a part of it
    grad   [      .grad     |   .grad    |      .grad     |   .grad   ]     and so is its gradient, once there is one

`flatten_parameters` moves them there. A parameter stays the object that it was, with its name and shape, and whoever
reads or writes it need not know. Its leaf in the graph knows the place of its gradient: backward writes the first
gradient there, where it would else keep the array or copy it, and adds the others as ever. `zero_grad()` sets `.grad`
to None and leaves the memory alone, for the next backward writes over it. So an old `.grad` that somebody kept changes
with the next one: clone it to keep it.

Nothing has to be undone. An optimizer looks at where the arrays lie, not for flat parameters (Note [Segments]): a
parameter that moves away, as `module.to()` moves all by assigning `.data`, is an ordinary one again, with a gradient of
its own. An assignment to `.grad.data` moves the gradient alone, until the flat one is asked for. A copy of a module has
memory of its own and is not flat.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.inference import inference_mode
from nanotorch.autograd.graph.tensor import Tensor, leaf_edge
from nanotorch.ops.create.creation import zeros_like
from nanotorch.ops.shape.join import cat


class FlatParameters:
    """Parameters of one dtype and device side by side in one memory (Note [Flat parameters]).

    Made by `flatten_parameters`. The functions that clip gradients take it in the place of its parameters, and see all
    gradients as one.
    """

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = tuple(parameters)
        self._data = cat([parameter.detach().reshape(-1) for parameter in parameters])
        self._grad = zeros_like(self._data)
        self._places: list[Tensor] = []
        self._leaves: list[Any] = []
        self._parts: list[slice] = []
        start = 0
        for parameter in parameters:
            part = slice(start, start + parameter.numel())
            parameter.data = self._data[part].view(parameter.shape)
            edge = leaf_edge(parameter)
            assert edge is not None
            self._leaves.append(edge[0])
            self._parts.append(part)
            self._places.append(self._place(len(self._places)))
            if parameter.grad is not None:
                _bring(parameter, self._places[-1])
            start = part.stop

    def _place(self, index: int) -> Tensor:
        """Make the place of a parameter's gradient, and tell its leaf."""
        place = self._grad[self._parts[index]].view(self.parameters[index].shape).detach()
        self._leaves[index].settle(place)
        return place

    @property
    def data(self) -> Tensor:
        """All parameters as one vector, which shares their memory."""
        self._check()
        return self._data

    @property
    def grad(self) -> Tensor | None:
        """All gradients as one vector that shares their memory: zeros where there is none, None if all have none.

        A gradient that lies elsewhere, as one that was assigned, is copied to its place first, without its history.
        """
        if all([parameter.grad is None for parameter in self.parameters]):
            return None
        for index, (parameter, place, leaf) in enumerate(zip(self.parameters, self._places, self._leaves, strict=True)):
            grad = parameter.grad
            if grad is place and leaf.is_settled(place):
                continue
            self._check()
            if not leaf.is_settled(place):
                place = self._places[index] = self._place(index)
            if grad is None:
                place.zero_()
            else:
                _bring(parameter, place)
        return self._grad

    def _check(self) -> None:
        for index, (leaf, place) in enumerate(zip(self._leaves, self._places, strict=True)):
            if leaf.place is not place:
                raise RuntimeError(
                    f"parameter {index}, of shape {tuple(place.shape)}, is not in the flat memory any more: its .data "
                    "was replaced, as Module.to() does, or it was flattened anew; call flatten_parameters() again"
                )

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("flat parameters cannot be copied: copy the module, and call flatten_parameters() for the copy")

    def __repr__(self) -> str:
        return f"FlatParameters({len(self.parameters)} parameters, {self._data.numel()} elements)"


@inference_mode(False)
@no_grad()
def flatten_parameters(parameters: Tensor | Iterable[Tensor]) -> list[FlatParameters]:
    """Move parameters side by side into one memory for each dtype and device, and their gradients into another.

    They keep their order; give those of an optimizer's first group first, so that each group lies together. Parameters
    that are no floating point numbers stay where they are. What else shared memory with a parameter does no longer;
    two parameters that share memory are refused. Parameters that take the places of these in a module later, as by
    `load_state_dict(assign=True)`, are others: flatten those anew, and give them to an optimizer of their own.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> (flat,) = torch.nn.utils.flatten_parameters(model.parameters())
    >>> flat
    FlatParameters(4 parameters, 131 elements)
    >>> model(torch.ones(2, 4)).sum().backward()
    >>> norm = torch.nn.utils.clip_grad_norm_(flat, 1.0)
    >>> flat.grad[-3:].tolist() == model[2].bias.grad.tolist()
    True
    """
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    distinct = list({id(parameter): parameter for parameter in listed}.values())
    kinds: dict[Any, list[Tensor]] = {}
    for parameter in distinct:
        if not parameter.is_leaf or (parameter.requires_grad and leaf_edge(parameter) is None):
            raise ValueError("flatten_parameters moves leaf tensors, got the result of an operation")
        if parameter.is_floating_point():
            kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    shapes = _sharing(distinct)
    if shapes is not None:
        raise ValueError(
            f"parameters of shapes {shapes[0]} and {shapes[1]} share memory, which they would not after they have "
            "moved: use one Parameter in both places"
        )
    return [FlatParameters(members) for members in kinds.values()]


def flat_if_apart(parameters: Iterable[Tensor]) -> list[Tensor | FlatParameters]:
    """Flatten parameters, or return them as they are where some share memory, as tied weights of a model may."""
    listed = list(parameters)
    distinct = list({id(parameter): parameter for parameter in listed}.values())
    return [*distinct] if _sharing(distinct) else [*flatten_parameters(distinct)]


def _sharing(parameters: list[Tensor]) -> tuple[Any, Any] | None:
    """The shapes of two parameters that see the same memory, which could not both move; None if there are none."""
    bounds = []
    for parameter in parameters:
        steps = [step * (length - 1) for step, length in zip(parameter.stride(), parameter.shape, strict=True)]
        if parameter.numel():
            start = parameter.data_ptr()
            bounds.append((start, start + (sum(steps) + 1) * parameter.itemsize, tuple(parameter.shape)))
    bounds.sort()
    for (_, stop, shape), (start, _, other) in pairwise(bounds):
        if start < stop:
            return shape, other
    return None


def _bring(parameter: Tensor, place: Tensor) -> None:
    """Copy the gradient of a parameter to its place."""
    assert parameter.grad is not None
    place.copy_(parameter.grad.detach())
    parameter.grad = place
