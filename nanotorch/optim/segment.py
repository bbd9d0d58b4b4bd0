"""Which parameters one call of an optimizer's rule updates together.

Note [Segments]
~~~~~~~~~~~~~~~
A rule such as Adam's is a dozen array operations. On a bias of 16 elements each costs its call and nothing else, so
the small parameters of a group are gathered into one flat array, updated by one call of the rule, and written back;
their state lives in flat arrays all the time. A parameter's own memory is never moved here: other tensors may share it.
On a matrix of a million elements each operation costs its trips to main memory, so a large parameter is updated on
its own, where it is, in blocks that stay in the cache from the first operation to the last.

    small   weight (16, 4)  bias (16,)  weight (3, 16)  bias (3,)      state["exp_avg"] of each: a view
              |  gather       |            |              |                 |
            [ param, flat ........................ 131 ]  [ exp_avg, flat ... 131 ]  -> rule, once
    large   weight (1024, 784), in place: [32768][32768] ... [1024]                  -> rule, per block

Parameters that already lie side by side in one memory (Note [Flat parameters]) are a *run*: it is updated like one
large parameter, where it is, and so are its gradients if they lie side by side as well. Runs that a parameter without a
gradient or of another group cuts up into small ones are gathered.

Rules compute float16 in float32, and keep its state in it: the parameter is gathered even if it is large, and rounded
when it is written back. The mean square of gradients of some hundreds would overflow, that of small ones vanish.

Numbers of a parameter, such as how often it was updated, are a part of its state like any other: each parameter has its
own, a view into an array of the segment. A segment holds parameters whose numbers are equal, and where somebody
edits one of them, the parameters are gathered anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from operator import attrgetter, is_
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.dtypes import get_default_dtype

SMALL = 16384  # elements below which a parameter is gathered: where copying it costs less than a call per operation
BLOCK = 32768  # elements of a block: with Adam's four arrays and its temporaries this fits a cache of 1 MiB

State = Mapping[Tensor, dict[str, Any]]
_array_of = attrgetter("_array")


class Segment:
    """Parameters of one dtype and device whose numbers are equal; `first` says that this is their first update.

    Building it moves their state into flat arrays, and starts the state that is missing at `initial`. `numbers` names
    the state that is one number for each parameter.
    """

    __slots__ = (
        "arrays",
        "block",
        "cells",
        "first",
        "flat",
        "grad",
        "grad_pieces",
        "grads",
        "in_place",
        "known",
        "numbers",
        "params",
        "pieces",
        "records",
        "state",
        "values",
        "xp",
    )

    def __init__(
        self,
        params: list[Tensor],
        in_place: bool,
        state: State,
        names: tuple[str, ...],
        initial: Mapping[str, float],
        numbers: tuple[str, ...],
        first: bool,
    ) -> None:
        self.params = params
        self.arrays = [param._array for param in params]
        self.cells = [param._version_cell() for param in params]
        self.records = [state[param] for param in params]
        self.first = first
        device = params[0].device
        size = sum(array.size for array in self.arrays)
        self.xp = device.xp
        self.block = BLOCK if device.type == "cpu" else size
        dtype = state_dtype(params[0])
        self.in_place = in_place
        self.flat = self._side_by_side(self.arrays) if in_place else self.xp.empty(size, dtype)
        self.pieces = () if in_place else self._split(self.flat)
        self.grads: list[Any] = []
        self.grad: Any = None
        self.grad_pieces: Sequence[Any] = ()
        self.numbers: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        for name in names:
            if name in numbers:
                value = self.records[0].get(name)
                start = initial[name] if value is None else float(value)
                self.numbers[name] = entries = np.full(len(params), start, _number_dtype(name, value))
                for index, record in enumerate(self.records):
                    record[name] = from_array(entries[index : index + 1].reshape(()))
                continue
            self.state[name] = flat = self.xp.full(size, initial[name], dtype)
            for record, piece in zip(self.records, self._split(flat), strict=True):
                if record.get(name) is not None:
                    piece[...] = record[name].to(device)._array
                record[name] = from_array(piece, device)
        self.values = [value for record in self.records for value in record.values()]
        self.known = [entries.tobytes() for entries in self.numbers.values()]

    def holds(self, state: State) -> bool:
        """Whether the parameters' memory and state are still those that this segment was built for."""
        return (
            all(map(is_, map(_array_of, self.params), self.arrays))
            and all(map(is_, map(state.get, self.params), self.records))
            and sum(map(len, self.records)) == len(self.values)
            and all(map(is_, chain.from_iterable(map(dict.values, self.records)), self.values))
            and [entries.tobytes() for entries in self.numbers.values()] == self.known
        )

    def update(self, rule: Callable[..., None], scalars: Mapping[str, Any], writer: str) -> None:
        """Apply the rule once to all parameters; `scalars` are its keyword arguments, `writer` names it in errors."""
        self.first = False
        for piece, array in zip(self.pieces, self.arrays, strict=False):
            piece[...] = array
        grad = self._flat_grad()
        size = self.flat.size
        if size <= self.block:
            rule(self.xp, self.flat, grad, **self.state, **scalars)
        else:
            for start in range(0, size, self.block):
                part = slice(start, start + self.block)
                state = {name: array[part] for name, array in self.state.items()}
                rule(self.xp, self.flat[part], grad[part], **state, **scalars)
        self.known = [entries.tobytes() for entries in self.numbers.values()]
        for array, piece in zip(self.arrays, self.pieces, strict=False):
            array[...] = piece
        self.params[0]._bump_version(writer, 3)
        site = self.cells[0].writer
        for cell in self.cells[1:]:
            cell.number += 1
            cell.writer = site

    def _flat_grad(self) -> Any:
        """The gradients in one flat array: where they lie, if they lie side by side, else gathered."""
        grads = [param._grad._array for param in self.params]  # type: ignore[union-attr]
        if self.in_place:
            if len(grads) == 1:
                return grads[0].reshape(-1)
            if all(map(is_, grads, self.grads)) and self.grads:
                return self.grad
            if all([_follows(self.xp, *pair) for pair in pairwise(grads)]):
                self.grads, self.grad, self.grad_pieces = grads, self._side_by_side(grads), ()
                return self.grad
        if not len(self.grad_pieces):
            self.grads, self.grad = [], self.xp.empty_like(self.flat)
            self.grad_pieces = self._split(self.grad)
        for piece, array in zip(self.grad_pieces, grads, strict=True):
            piece[...] = array
        return self.grad

    def _side_by_side(self, arrays: list[Any]) -> Any:
        """The memory of arrays that follow each other, as one flat array."""
        if len(arrays) == 1:
            return arrays[0].reshape(-1)
        size = sum(array.size for array in arrays)
        return self.xp.view_strided(arrays[0], (size,), (1,), self.xp.storage_offset(arrays[0]))

    def _split(self, flat: Any) -> list[Any]:
        """Views of a flat array in the parameters' shapes."""
        pieces, start = [], 0
        for array in self.arrays:
            pieces.append(flat[start : start + array.size].reshape(array.shape))
            start += array.size
        return pieces


class Plan:
    """The segments of those parameters of a group that have gradients, valid as long as they stay the same.

    Segments of the `former` plan that lie in place are taken over, so that a rebuilt plan does not copy their state.
    """

    __slots__ = ("names", "params", "segments")

    def __init__(
        self,
        params: list[Tensor],
        state: State,
        names: tuple[str, ...],
        initial: Mapping[str, float],
        numbers: tuple[str, ...],
        former: Plan | None,
    ) -> None:
        self.params = params
        self.names = names
        self.segments: list[Segment] = []
        kept = former.in_place(state) if former is not None and former.names == names else {}

        def update_together(members: list[Tensor], first: bool, in_place: bool) -> None:
            segment = kept.get(tuple(map(id, members))) if in_place else None
            self.segments.append(segment or Segment(members, in_place, state, names, initial, numbers, first))

        small: dict[Any, list[list[Tensor]]] = {}
        for key, run, shares in _runs(params, state, names, initial, numbers):
            if shares or sum(param._array.size for param in run) >= SMALL:
                update_together(run, key.first, _updatable(run[0]))
            else:
                small.setdefault(key, []).append(run)
        for key, runs in small.items():
            update_together(list(chain(*runs)), key.first, len(runs) == 1 and _updatable(runs[0][0]))

    def fits(self, params: Sequence[Tensor], names: tuple[str, ...], state: State) -> bool:
        """Whether the plan still serves these parameters, in this order, with these names of state."""
        if len(params) != len(self.params) or names != self.names or not all(map(is_, params, self.params)):
            return False
        return all(segment.holds(state) for segment in self.segments)

    def in_place(self, state: State) -> dict[tuple[int, ...], Segment]:
        """The segments in place that still hold, by the ids of their parameters."""
        return {tuple(map(id, s.params)): s for s in self.segments if s.in_place and s.holds(state)}


class Key(NamedTuple):
    """What parameters of one segment have in common; `known` are their numbers, with their dtypes."""

    dtype: Any
    device: Any
    first: bool
    known: tuple[Any, ...]


def _runs(
    params: list[Tensor], state: State, names: tuple[str, ...], initial: Mapping[str, float], numbers: tuple[str, ...]
) -> Iterator[tuple[Key, list[Tensor], bool]]:
    """Parameters of one key that follow each other in one memory, most of them alone, and whether they share memory.

    Parameters that share memory with one before have to be updated one after the other.
    """
    spans: dict[int, list[tuple[float, float]]] = {}
    run: list[Tensor] = []
    former: Key | None = None
    for param in params:
        array, xp = param._array, param.device.xp
        first, known = _position(state[param], names, initial, numbers)
        key = Key(array.dtype, param.device, first, known)
        start: float = xp.storage_offset(array) * array.itemsize
        stop = start + array.nbytes
        if not array.flags.c_contiguous:
            start, stop = -math.inf, math.inf
        others = spans.setdefault(id(_owner(array)), [])
        if any(start < end and begin < stop for begin, end in others):
            if former is not None:
                yield former, run, False
            yield key, [param], True
            former, run = None, []
            continue
        others.append((start, stop))
        if run and key == former and _follows(xp, run[-1]._array, array):
            run.append(param)
            continue
        if former is not None:
            yield former, run, False
        former, run = key, [param]
    if former is not None:
        yield former, run, False


def _follows(xp: Any, before: Any, array: Any) -> bool:
    """Whether an array begins in memory where another ends, both in row-major order."""
    return (
        _owner(before) is _owner(array)
        and before.flags.c_contiguous
        and array.flags.c_contiguous
        and xp.storage_offset(array) == xp.storage_offset(before) + before.size
    )


def _updatable(param: Tensor) -> bool:
    """Whether a rule can update a parameter where it is."""
    return bool(param._array.flags.c_contiguous) and param._array.dtype == state_dtype(param)


def _position(
    record: Mapping[str, Any], names: tuple[str, ...], initial: Mapping[str, float], numbers: tuple[str, ...]
) -> tuple[bool, tuple[Any, ...]]:
    """Whether a parameter's first update is to come, and its numbers with their dtypes."""
    known: list[Any] = []
    for name in names:
        if name in numbers:
            value = record.get(name)
            known += [initial[name] if value is None else float(value), _number_dtype(name, value)]
    return any(record.get(name) is None for name in names), tuple(known)


def state_dtype(param: Tensor) -> Any:
    """The dtype in which rules update a parameter, and that of its state (Note [Segments])."""
    kind = param._array.dtype
    return kind if kind.itemsize > 2 else np.dtype(np.float32)


def _number_dtype(name: str, value: Any) -> Any:
    """What a number of a parameter is held in: a count is exact, others are float32 unless float64 is the default
    dtype.
    """
    if name == "step":
        return np.dtype(np.float64)
    if isinstance(value, Tensor) and value.dtype.is_floating_point:
        return np.dtype(value.dtype.numpy)
    wide = get_default_dtype().numpy == np.float64
    return np.dtype(np.float64 if wide else np.float32)


def _owner(array: Any) -> Any:
    """The array that owns the memory which `array` views."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array
