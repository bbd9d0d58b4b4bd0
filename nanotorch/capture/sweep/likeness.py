"""Which steps are alike: two that differ in nothing but which tensors, optimizers and generators they find.

Note [Like steps]
~~~~~~~~~~~~~~~~~
A program of one step holds for another one that finds the same by the same paths: the same code, the same plain values,
tensors of the same forms in the same places, tied and shared in the same way. So the *signature* of a step is its
fingerprint (Note [What a function can reach]) with forms in the place of identities. It has floats, and the options of
optimizers, by whether they are zero, for that is what most code asks: those that are not the same become numbers of the
models, or the steps fall apart again (Note [Constants of models]).

Walks of like steps meet like things in the same order: what one step finds stands for what another one finds at the
same place in the walk. Where that is not certain, as in a set, which has no order, a step is like itself alone.

Note [Programs that are known]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A program is a function of what its step finds: that is what its guards rest on from call to call, and what a walk
cannot see is refused. So it is from model to model: where the program of one of many like steps is proven, their floats
are the same to the last bit, and their arrays share memory with each other in the same way, what the others would
record is known, and one of them alone takes its step, to be compared. What counts differently for each, as the rate of
learning, is a number of the call, and is asked of each model. Of others (Note [Constants of models]) all take their
steps, and each is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.node import Node
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.effects import array_of
from nanotorch.capture.program import steps
from nanotorch.capture.reach.reachable import PLAIN, Reachable
from nanotorch.ops.create.random import Generator
from nanotorch.optim import Optimizer
from nanotorch.optim.segment import Segment

OWN = (Tensor, Node, np.ndarray, Optimizer, Segment, Generator)
"""What each of several like steps has of its own."""


def signature(reach: Reachable, begun: bool = True, exact: bool = False) -> tuple[Any, ...]:
    """Return what is the same for all steps that are like the one whose things these are; of steps that have not
    `begun`, without what the first call leaves: gradients, and the state of optimizers; `exact` with all floats.
    """
    own = {id(thing) for thing in reach.objects if isinstance(thing, OWN)} - reach.large

    def without(entry: Any) -> Any:
        if isinstance(entry, int):
            return "one of its own" if entry in own else entry
        if not exact and _is_float(entry):
            return float, bool(float(entry[1]))
        if isinstance(entry, tuple) and entry and isinstance(entry[0], int):
            return "one of its own", *entry[1:]
        if isinstance(entry, tuple) and entry and isinstance(entry[0], type) and issubclass(entry[0], Optimizer):
            return entry[0], entry[1], len(entry[2]) if begun else None
        return entry

    entries = list(reach.fingerprint.items())
    things = reach.objects
    if not begun:
        entries = [(path, entry) for path, entry in entries if id(reach.tensors.get(path)) not in reach.states]
        plain = {id(array) for array in reach.held}
        things = [thing for thing in things if not isinstance(thing, Segment) and id(thing) not in reach.states]
        things = [thing for thing in things if not isinstance(thing, np.ndarray) or id(thing) in plain]
    return *[(path, without(entry)) for path, entry in entries], *[_form(thing, begun) for thing in things]


def floats(reach: Reachable) -> tuple[Any, ...]:
    """Return the floats that a step finds."""
    return tuple([(path, entry[1]) for path, entry in reach.fingerprint.items() if _is_float(entry)])


def _is_float(entry: Any) -> bool:
    return isinstance(entry, tuple) and len(entry) == 2 and entry[0] is float


def alike(reaches: Sequence[Reachable], begun: bool = True) -> list[list[int]]:
    """Return the numbers of steps that are alike together, or will be once they have `begun`, in their order."""
    unordered = [any(_is_unordered(thing) for thing in reach.objects) for reach in reaches]
    return equal(
        [(number if unordered[number] else None, signature(reach, begun)) for number, reach in enumerate(reaches)]
    )


def stand_for_each_other(reaches: Sequence[Reachable], arrays: Sequence[Sequence[Any]]) -> bool:
    """Return whether what one of several like steps does is what all of them do (Note [Programs that are known]).

    Args:
        reaches: what they find.
        arrays: of each the arrays, in one order.
    """
    sharing: list[Any] = []
    for reach, of in zip(reaches, arrays, strict=True):
        memory: dict[int, int] = {}
        places = [memory.setdefault(id(owner(array)), place) for place, array in enumerate(of)]
        sharing.append((floats(reach), places))
    return all([each == sharing[0] for each in sharing])


def begun(reach: Reachable) -> int:
    """Return how many states the optimizers of a step have begun."""
    optimizers = [thing for thing in reach.objects if isinstance(thing, Optimizer)]
    return sum([bool(record) for optimizer in optimizers for record in optimizer.state.values()])


def equal(keys: Iterable[Any]) -> list[list[int]]:
    """Return the numbers of equal keys together, in their order."""
    found: dict[Any, list[int]] = {}
    for number, key in enumerate(keys):
        found.setdefault(key, []).append(number)
    return list(found.values())


def difference(first: Reachable, other: Reachable) -> str:
    """Return in what a step is not like another one, the first thing that is met."""
    signatures = [signature(reach, exact=True) for reach in (first, other)]
    for mine, theirs in zip(*signatures, strict=False):
        if mine != theirs:
            if isinstance(theirs, tuple) and len(theirs) == 2 and theirs[0] in other.fingerprint:
                return f"{theirs[0]} is {_said(theirs[1])}, not {_said(mine[1]) if mine[0] == theirs[0] else 'there'}"
            kinds = [thing for thing in other.objects if _form(thing, True) == theirs]
            before = [thing for thing in first.objects if _form(thing, True) == mine]
            if isinstance(kinds[0], Optimizer) and isinstance(before[0], Optimizer):
                return _other_option(before[0], kinds[0])
            names = [path for path, tensor in other.tensors.items() if any(tensor is thing for thing in kinds)]
            return f"{names[0] if names else type(kinds[0]).__name__} is of another form"
    return "it finds more, or less"


def _other_option(first: Optimizer, other: Optimizer) -> str:
    """Return which option of an optimizer another program is for."""
    old, new = ([each for group in of.param_groups for each in _options(group)] for of in (first, other))
    for (known, mine), (name, theirs) in zip(old, new, strict=False):
        if known == name and _kind(mine) != _kind(theirs):
            return f"{name} of {type(other).__name__} is {theirs!r}, not {mine!r}"
    return f"{type(other).__name__} has other options"


def _said(entry: Any) -> str:
    """Return what an entry of a fingerprint says to somebody who reads it."""
    if isinstance(entry, tuple) and len(entry) == 2 and entry[0] in PLAIN:
        return entry[1] if _is_float(entry) else repr(entry[1])
    kind = entry[0] if isinstance(entry, tuple) and entry else entry
    return f"of {kind.__name__}" if isinstance(kind, type) else "another thing"


def counterparts(first: Reachable, other: Reachable) -> dict[int, Any]:
    """Return for what a step finds, by its id, what a like one finds in its place."""
    pairs = list(zip(first.objects, other.objects, strict=True))
    found = {id(mine): theirs for mine, theirs in pairs}
    for mine, theirs in pairs:
        if isinstance(mine, Tensor) and mine.grad is not None:
            found[id(mine.grad)] = theirs.grad
    return found


def _is_unordered(thing: Any) -> bool:
    return isinstance(thing, set | frozenset) and not all(isinstance(part, PLAIN) for part in thing)


def _form(thing: Any, begun: bool) -> Any:
    """Return what a program depends on of a thing, beside its entry in the fingerprint."""
    if isinstance(thing, Tensor):
        grad = thing.grad if begun else None
        return _form_of_array(array_of(thing)), None if grad is None else _form_of_array(array_of(grad))
    if isinstance(thing, np.ndarray):
        return _form_of_array(thing)
    if isinstance(thing, Segment):
        arrays = [thing.flat, thing.grad, *thing.pieces, *thing.grads, *thing.grad_pieces, *thing.state.values()]
        return thing.first, thing.in_place, len(thing.params), *map(_form_of_array, arrays)
    if isinstance(thing, Optimizer):
        return tuple([(name, _kind(value)) for group in thing.param_groups for name, value in _options(group)])
    return type(thing)


def _form_of_array(array: Any) -> Any:
    return (array.shape, array.dtype, steps(array)) if isinstance(array, np.ndarray) else type(array)


def _options(group: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from [(name, value) for name, value in group.items() if name != "params"]


def _kind(option: Any) -> Any:
    """Return what a program depends on of an option: whether it is zero, of what is no number the value itself."""
    if isinstance(option, tuple):
        return tuple(map(_kind, option))
    if isinstance(option, float) or type(option) is int:
        return bool(option)
    return option if isinstance(option, PLAIN) else type(option)
