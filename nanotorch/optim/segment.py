"""Which parameters one call of an optimizer's rule updates together.

Note [Segments]
~~~~~~~~~~~~~~~
A rule such as Adam's is a dozen array operations. On a bias of 16 elements each costs its call and nothing else, so
the small parameters of a group are gathered into one flat array, updated by one call of the rule, and written back;
their state lives in flat arrays all the time. A parameter's own memory is never moved: other tensors may share it.
On a matrix of a million elements each operation costs its trips to main memory, so a large parameter is updated on
its own, where it is, in blocks that stay in the cache from the first operation to the last.

    small   weight (16, 4)  bias (16,)  weight (3, 16)  bias (3,)      state["exp_avg"] of each: a view
              |  gather       |            |              |                 |
            [ param, flat ........................ 131 ]  [ exp_avg, flat ... 131 ]  -> rule, once
    large   weight (1024, 784), in place: [32768][32768] ... [1024]                  -> rule, per block

Rules compute float16 in float32, and keep its state in it: the parameter is gathered even if it is large, and rounded
when it is written back. The mean square of gradients of some hundreds would overflow, that of small ones vanish.

Numbers of a parameter, such as how often it was updated, are a part of its state like any other: each parameter has its
own, a view into an array of the segment. A segment holds parameters whose numbers are equal, and where somebody
edits one of them, the parameters are gathered anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any

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
        "flat_grad",
        "grad_pieces",
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
        device, array = params[0].device, self.arrays[0]
        size = sum(array.size for array in self.arrays)
        self.xp = device.xp
        self.block = BLOCK if device.type == "cpu" else size
        dtype = state_dtype(params[0])
        in_place = size >= SMALL and len(params) == 1 and array.flags.c_contiguous and dtype == array.dtype
        self.flat = array.reshape(-1) if in_place else self.xp.empty(size, dtype)
        self.pieces = () if in_place else self._split(self.flat)
        self.flat_grad = self.flat if in_place else self.xp.empty_like(self.flat)
        self.grad_pieces = () if in_place else self._split(self.flat_grad)
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
        grads = [param._grad._array for param in self.params if param._grad is not None]
        for piece, array in zip(self.grad_pieces, grads, strict=False):
            piece[...] = array
        grad = self.flat_grad if self.pieces else grads[0].reshape(-1)
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

    def _split(self, flat: Any) -> list[Any]:
        """Views of a flat array in the parameters' shapes."""
        pieces, start = [], 0
        for array in self.arrays:
            pieces.append(flat[start : start + array.size].reshape(array.shape))
            start += array.size
        return pieces


class Plan:
    """The segments of those parameters of a group that have gradients, valid as long as they stay the same.

    Large segments of the `former` plan are taken over, so that a rebuilt plan does not copy their state.
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
        kept = former.large(state) if former is not None and former.names == names else {}
        self.segments: list[Segment] = []
        small: dict[Any, list[Tensor]] = {}
        owners: set[int] = set()
        for param in params:
            if id(param) in kept:
                self.segments.append(kept[id(param)])
                continue
            array = param._array
            first, known = _position(state[param], names, initial, numbers)
            owner = _owner(array)
            if array.size >= SMALL or id(owner) in owners:
                # Parameters that share memory have to be updated one after the other.
                self.segments.append(Segment([param], state, names, initial, numbers, first))
            else:
                small.setdefault((array.dtype, param.device, first, known), []).append(param)
            owners.add(id(owner))
        for (_, _, first, _), gathered in small.items():
            self.segments.append(Segment(gathered, state, names, initial, numbers, first))

    def fits(self, params: Sequence[Tensor], names: tuple[str, ...], state: State) -> bool:
        """Whether the plan still serves these parameters, in this order, with these names of state."""
        if len(params) != len(self.params) or names != self.names or not all(map(is_, params, self.params)):
            return False
        return all(segment.holds(state) for segment in self.segments)

    def large(self, state: State) -> dict[int, Segment]:
        """The segments of large parameters that still hold, by the parameter's id."""
        return {id(s.params[0]): s for s in self.segments if not s.pieces and s.holds(state)}


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
