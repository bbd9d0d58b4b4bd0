"""Memory of models of one architecture, moved together: each tensor becomes a row of memory that belongs to all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch.backend.numpy_backend import owner
from nanotorch.capture.memory import Reachable
from nanotorch.capture.program import steps
from nanotorch.capture.recorder import CaptureError
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


def stack(find: Callable[[], Sequence[Reachable]], rows: list[Rows]) -> None:
    """Move what each function can reach alone, tensors and the memory of optimizers, into rows, and add these.

    What several functions reach is shared, and stays. What lies in plain arrays of the user's stays as well.

    Args:
        find: looks what the functions can reach.

    Raises:
        CaptureError: the functions have different tensors; nothing has moved.
    """
    reaches = find()
    settled = {id(of.flat) for of in rows}
    settled |= {id(owner(t._grad._array)) for reach in reaches for t in reach.tensors.values() if t._grad is not None}
    if rows and all(id(array) in settled for of in _alone(reaches) for array in of.values()):
        return
    unstack(reaches, rows)
    reaches = find()
    alone = _alone(reaches)
    first = alone[0]
    for number, mine in enumerate(alone):
        for path in (*first, *mine):
            if _form(first.get(path)) != _form(mine.get(path)):
                raise CaptureError(
                    f"step {number} is not like step 0: {path or 'a tensor'} is {_said(mine.get(path))} there, and "
                    f"{_said(first.get(path))} in step 0; the steps of a sweep are of one architecture"
                )
    moved: dict[int, Any] = {}
    for path in first:
        rows.append(Rows([of[path] for of in alone]))
        moved.update({id(of[path]): row for of, row in zip(alone, rows[-1].arrays, strict=True)})

    def move(array: Any) -> Any:
        memory = owner(array)
        return array if id(memory) not in moved else _there(array, memory, moved[id(memory)])

    for reach in reaches:
        _replace(reach, move)
    for segments in zip(*map(_segments, reaches), strict=False):
        _stack_numbers(segments)


def unstack(reaches: Sequence[Reachable], rows: list[Rows]) -> None:
    """Give everything in rows memory of its own again."""
    known = {id(of.flat): of for of in rows}
    copies: dict[tuple[int, int], Any] = {}

    def move(array: Any) -> Any:
        memory = owner(array)
        if id(memory) not in known or not array.size:
            return array
        of = known[id(memory)]
        start = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
        number = start // memory.itemsize // of.size
        row = of.arrays[number]
        if (id(memory), number) not in copies:
            copies[id(memory), number] = row.copy(order="K")
        return _there(array, row, copies[id(memory), number])

    for reach in reaches:
        _replace(reach, move)
    rows.clear()


def _alone(reaches: Sequence[Reachable]) -> list[dict[str, Any]]:
    """Return for each function by path the memory that it alone can reach, and that can be moved."""
    owners = [_owners(reach) for reach in reaches]
    reached = Counter([id(array) for of in owners for array in of.values()])
    return [{path: array for path, array in of.items() if reached[id(array)] == 1} for of in owners]


def _there(array: Any, memory: Any, other: Any) -> Any:
    """Return what an array sees of memory, of other memory of the same layout."""
    start = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    base = owner(other)
    start += other.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return np.ndarray(array.shape, array.dtype, base, start, array.strides)


def _form(array: Any) -> Any:
    return None if array is None else (array.shape, array.dtype, array.strides)


def _said(array: Any) -> str:
    return "missing or shared" if array is None else f"of shape {array.shape} and dtype {array.dtype}"


def _owners(reach: Reachable) -> dict[str, Any]:
    """Return by path the memory that can be moved: all that sees it is in places that are known."""
    ids = {value for value in reach.fingerprint.values() if isinstance(value, int)}
    plain = {id(owner(thing)) for thing in reach.objects if isinstance(thing, np.ndarray) and id(thing) in ids}
    found: dict[int, Any] = {}
    kinds: dict[int, bool] = {}

    def look(array: Any) -> Any:
        memory = owner(array)
        found[id(memory)] = memory
        kinds[id(memory)] = kinds.get(id(memory), True) and getattr(memory, "dtype", None) == array.dtype
        return array

    _replace(reach, look)
    return {
        reach.names[key]: memory
        for key, memory in found.items()
        if key in reach.names and key not in plain and kinds[key] and type(memory) is np.ndarray
        if memory.flags.owndata and memory.size and _dense(memory)
    }


def _dense(array: Any) -> bool:
    lengths = sorted(zip(steps(array), array.shape, strict=True))
    expected = [math.prod([n for _, n in lengths[:k]]) for k in range(len(lengths))]
    return all(length == 1 or step == size for (step, length), size in zip(lengths, expected, strict=True))


def _replace(reach: Reachable, move: Move) -> None:
    """Replace all arrays of tensors, and of the optimizers' segments: what was one array is one afterwards."""
    known: dict[int, tuple[Any, Any]] = {}

    def once(array: Any) -> Any:
        if id(array) not in known:
            known[id(array)] = array, move(array)
        return known[id(array)][1]

    for tensor in reach.tensors.values():
        leaf: Any = None if tensor._leaf is None else tensor._leaf[0]
        place = None if leaf is None else leaf.place
        for each in (tensor, tensor._grad, place):
            if each is not None and isinstance(each._array, np.ndarray):
                each._array = once(each._array)
        if place is not None and leaf.memory is not None:
            leaf.memory = once(leaf.memory)
    for segment in _segments(reach):
        _replace_in(segment, once)


def _segments(reach: Reachable) -> list[Segment]:
    optimizers = [thing for thing in reach.objects if isinstance(thing, Optimizer)]
    return [segment for each in optimizers for plan in each._plans.values() for segment in plan.segments]


def _stack_numbers(segments: Sequence[Segment]) -> None:
    """Have the numbers of parameters, as how often they were updated, lie in rows, to be counted in one call."""
    if len({(*s.numbers, len(s.params)) for s in segments}) > 1:
        return
    for name in segments[0].numbers:
        for segment, row in zip(segments, np.stack([s.numbers[name] for s in segments]), strict=True):
            segment.numbers[name] = row
            for place, record in enumerate(segment.records):
                record[name]._array = row[place : place + 1].reshape(())


def _replace_in(segment: Segment, move: Move) -> None:
    for name in ("arrays", "pieces", "grads", "grad_pieces"):
        setattr(segment, name, [move(array) for array in getattr(segment, name)])
    segment.flat = move(segment.flat)
    segment.grad = None if segment.grad is None else move(segment.grad)
    segment.state = {name: move(array) for name, array in segment.state.items()}
