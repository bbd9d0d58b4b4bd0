"""Memory of models of one architecture, moved together: each tensor becomes a row of memory that belongs to all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.effects import array_of
from nanotorch.capture.program import steps
from nanotorch.capture.reach.reachable import Reachable, leaf_of
from nanotorch.optim import Optimizer
from nanotorch.optim.segment import Segment

Move = Callable[[Any], Any]
"""What an array is replaced by: another one, or itself."""


class Rows:
    """Memory in which the arrays of `count` models lie one after the other.

    Attributes:
        flat: all of it.
        size: how many elements each model has.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        first = arrays[0]
        self.size = first.size
        self.flat = np.empty(len(arrays) * first.size, first.dtype)
        self.arrays = [
            np.ndarray(first.shape, first.dtype, self.flat, k * first.nbytes, first.strides) for k in range(len(arrays))
        ]
        for row, array in zip(self.arrays, arrays, strict=True):
            row[...] = array


def stack(reaches: Sequence[Reachable], rows: list[Rows], shared: Collection[Tensor]) -> None:
    """Move what each function can reach alone, tensors and the memory of optimizers, into rows, and add these.

    What several functions reach is shared, and stays. What lies in plain arrays of the user's stays as well.

    Args:
        reaches: what the functions can reach, which are alike.
        rows: the rows in which it lies already.
        shared: tensors that functions of other groups can reach as well.
    """
    settled = {id(of.flat) for of in rows}
    settled |= {id(owner(array_of(t.grad))) for reach in reaches for t in reach.tensors.values() if t.grad is not None}
    if rows and all(array is None or id(array) in settled for of in _alone(reaches, shared) for array in of):
        return
    unstack(reaches, rows)
    rows.clear()
    moved: dict[int, Any] = {}
    for arrays in zip(*_alone(reaches, shared), strict=True):
        if all(array is not None and _form(array) == _form(arrays[0]) for array in arrays):
            rows.append(Rows(arrays))
            moved.update({id(array): row for array, row in zip(arrays, rows[-1].arrays, strict=True)})

    def move(array: Any) -> Any:
        memory = owner(array)
        return array if id(memory) not in moved else _there(array, memory, moved[id(memory)])

    for reach in reaches:
        _replace(reach, move)
    for segments in zip(*map(_segments, reaches), strict=True):
        _stack_numbers(segments)


def unstack(reaches: Sequence[Reachable], rows: Sequence[Rows]) -> None:
    """Give everything that functions find in rows memory of its own again."""
    known = {id(of.flat): of for of in rows}
    copies: dict[tuple[int, int], Any] = {}

    def move(array: Any) -> Any:
        memory = owner(array)
        if id(memory) not in known or not array.size:
            return array
        of = known[id(memory)]
        number = _row(array, memory, of)
        row = of.arrays[number]
        if (id(memory), number) not in copies:
            copies[id(memory), number] = row.copy(order="K")
        return _there(array, row, copies[id(memory), number])

    for reach in reaches:
        _replace(reach, move)


def leave(gone: Reachable, last: Reachable | None, rows: Sequence[Rows], number: int) -> set[int]:
    """Give a model memory of its own, and its rows to the last model; return the ids of the memory of rows.

    Args:
        gone: what the step of the model finds.
        last: what that of the last one finds, where it is not the same.
        rows: those in which the models lie.
        number: of the model that leaves.
    """
    unstack([gone], rows)
    known = {id(of.flat): of for of in rows}
    for of in rows:
        of.arrays[number][...] = of.arrays[-1]

    def move(array: Any) -> Any:
        memory = owner(array)
        of = known.get(id(memory))
        if of is None or not array.size or _row(array, memory, of) != len(of.arrays) - 1:  # it was met before
            return array
        return _there(array, of.arrays[-1], of.arrays[number])

    if last is not None:
        _replace(last, move)
    left, theirs = _segments(gone), _segments(gone if last is None else last)
    # Plans are made anew by the next step where one of them has loaded another state: it counts elsewhere then.
    alike = list(map(_counts_of, left)) == list(map(_counts_of, theirs))
    for mine, other in zip(left, theirs, strict=True) if alike else ():
        for name, row in list(mine.numbers.items()):
            _renumber(mine, name, row.copy())
            if last is not None:
                row[...] = other.numbers[name]
                _renumber(other, name, row)
    for of in rows:
        of.arrays.pop()
    return set(known)


def _counts_of(segment: Segment) -> tuple[Any, ...]:
    """Return which numbers a segment has, and of how many parameters."""
    return *segment.numbers, len(segment.params)


def _renumber(segment: Segment, name: str, numbers: Any) -> None:
    """Have the numbers of the parameters of a segment lie elsewhere."""
    segment.numbers[name] = numbers
    for place, record in enumerate(segment.records):
        record[name]._array = numbers[place : place + 1].reshape(())


def arrays_of(reach: Reachable) -> list[Any]:
    """Return all arrays of tensors and of optimizers' segments, each once, and those that are plain."""
    found: list[Any] = []

    def look(array: Any) -> Any:
        found.append(array)
        return array

    _replace(reach, look)
    return [*found, *reach.held]


def _alone(reaches: Sequence[Reachable], shared: Collection[Tensor]) -> list[list[Any]]:
    """Return for each function the memory that it alone can reach, and that can be moved; None where it cannot be."""
    owners = [_owners(reach, shared) for reach in reaches]
    reached = Counter([id(array) for of in owners for array in of])
    return [[array if reached[id(array)] == 1 else None for array in of] for of in owners]


def _row(array: Any, memory: Any, of: Rows) -> int:
    """Return in which row an array lies."""
    start: int = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    return start // memory.itemsize // of.size


def _there(array: Any, memory: Any, other: Any) -> Any:
    """Return what an array sees of memory, of other memory of the same layout."""
    start = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    base = owner(other)
    start += other.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return np.ndarray(array.shape, array.dtype, base, start, array.strides)


def _form(array: Any) -> Any:
    return array.shape, array.dtype, array.strides


def _owners(reach: Reachable, shared: Collection[Tensor]) -> list[Any]:
    """Return in the order of arrays the memory that can be moved, None for other: all that sees it is known."""
    arrays = arrays_of(reach)
    fixed = {id(owner(array)) for array in reach.held}
    fixed |= {id(owner(array_of(tensor))) for tensor in shared}
    memory = {id(owner(array)): owner(array) for array in arrays}
    fixed |= {id(owner(array)) for array in arrays if getattr(owner(array), "dtype", None) != array.dtype}
    return [
        array
        if id(array) not in fixed and type(array) is np.ndarray and array.flags.owndata and array.size and _dense(array)
        else None
        for array in memory.values()
    ]


def _dense(array: Any) -> bool:
    lengths = sorted(zip(steps(array), array.shape, strict=True))
    expected = [math.prod([n for _, n in lengths[:k]]) for k in range(len(lengths))]
    return all(length == 1 or step == size for (step, length), size in zip(lengths, expected, strict=True))


def _replace(reach: Reachable, move: Move) -> None:
    """Replace all arrays of tensors, and of the optimizers' segments: what was one array is one afterwards."""
    known: dict[int, tuple[Any, Any]] = {}

    def once(array: Any) -> Any:
        if id(array) not in known:
            moved = move(array)
            known[id(array)] = array, moved
            known[id(moved)] = moved, moved  # a tensor that is met twice, as the place of a gradient, moves once
        return known[id(array)][1]

    for tensor in reach.tensors.values():
        leaf = leaf_of(tensor)
        for each in (tensor, tensor.grad, None if leaf is None else leaf.place):
            if each is not None and isinstance(array := array_of(each), np.ndarray):
                each._array = once(array)
        if leaf is not None and leaf.place is not None and leaf.memory is not None:
            leaf.memory = once(leaf.memory)
    for segment in _segments(reach):
        _replace_in(segment, once)


def _segments(reach: Reachable) -> list[Segment]:
    optimizers = [thing for thing in reach.objects if isinstance(thing, Optimizer)]
    return [segment for each in optimizers for plan in each._plans.values() for segment in plan.segments]


def _stack_numbers(segments: Sequence[Segment]) -> None:
    """Have the numbers of parameters, as how often they were updated, lie in rows, to be counted in one call."""
    if len(set(map(_counts_of, segments))) > 1:
        return
    for name in segments[0].numbers:
        for segment, row in zip(segments, np.stack([s.numbers[name] for s in segments]), strict=True):
            _renumber(segment, name, row)


def _replace_in(segment: Segment, move: Move) -> None:
    for name in ("arrays", "pieces", "grads", "grad_pieces"):
        setattr(segment, name, [move(array) for array in getattr(segment, name)])
    segment.flat = move(segment.flat)
    segment.grad = None if segment.grad is None else move(segment.grad)
    segment.state = {name: move(array) for name, array in segment.state.items()}
