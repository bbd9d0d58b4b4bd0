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
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import numpy as np

from nanotorch.autograd.tensor import Tensor, from_array

__all__ = ["Plan", "Segment"]

SMALL = 16384  # elements below which a parameter is gathered: where copying it costs less than a call per operation
BLOCK = 32768  # elements of a block: with Adam's four arrays and its temporaries this fits a cache of 1 MiB

State = Mapping[Tensor, dict[str, Any]]
_array_of = attrgetter("_array")


class Segment:
    """Parameters of one dtype and device, updated equally often so far: `steps` times.

    Building it moves their state into flat arrays, and starts the state that is missing at `initial`.
    """

    __slots__ = (
        "arrays",
        "block",
        "cells",
        "count",
        "flat",
        "flat_grad",
        "grad_pieces",
        "params",
        "pieces",
        "records",
        "state",
        "steps",
        "values",
        "xp",
    )

    def __init__(
        self,
        params: list[Tensor],
        state: State,
        names: tuple[str, ...],
        initial: Mapping[str, float],
        steps: int,
    ) -> None:
        self.params = params
        self.arrays = [param._array for param in params]
        self.cells = [param._version_cell() for param in params]
        self.records = [state[param] for param in params]
        self.steps = steps
        device, first = params[0].device, self.arrays[0]
        size = sum(array.size for array in self.arrays)
        self.xp = device.xp
        self.block = BLOCK if device.type == "cpu" else size
        in_place = size >= SMALL and len(params) == 1 and first.flags.c_contiguous
        self.flat = first.reshape(-1) if in_place else self.xp.empty(size, first.dtype)
        self.pieces = () if in_place else self._split(self.flat)
        self.flat_grad = self.flat if in_place else self.xp.empty_like(self.flat)
        self.grad_pieces = () if in_place else self._split(self.flat_grad)
        self.count = from_array(np.asarray(float(steps))) if "step" in names else None
        self.state: dict[str, Any] = {}
        for name in names:
            if name == "step":
                for record in self.records:
                    record[name] = self.count
                continue
            self.state[name] = flat = self.xp.full(size, initial[name], first.dtype)
            for record, piece in zip(self.records, self._split(flat), strict=True):
                if record.get(name) is not None:
                    piece[...] = record[name].to(device)._array
                record[name] = from_array(piece, device)
        self.values = [value for record in self.records for value in record.values()]

    def holds(self, state: State) -> bool:
        """Whether the parameters' memory and state are still those that this segment was built for."""
        return (
            all(map(is_, map(_array_of, self.params), self.arrays))
            and all(map(is_, map(state.get, self.params), self.records))
            and sum(map(len, self.records)) == len(self.values)
            and all(map(is_, chain.from_iterable(map(dict.values, self.records)), self.values))
        )

    def update(self, rule: Callable[..., None], options: dict[str, Any], writer: str) -> None:
        """Apply the rule once to all parameters; `options` are its keyword arguments, `writer` names it in errors."""
        if self.count is not None:
            self.steps = int(self.count._array)
            self.count._array[...] = self.steps + 1
        self.steps += 1
        if "step" in options:
            options["step"] = self.steps
        if "first" in options:
            options["first"] = self.steps == 1
        for piece, array in zip(self.pieces, self.arrays, strict=False):
            piece[...] = array
        grads = [param._grad._array for param in self.params if param._grad is not None]
        for piece, array in zip(self.grad_pieces, grads, strict=False):
            piece[...] = array
        grad = self.flat_grad if self.pieces else grads[0].reshape(-1)
        size = self.flat.size
        if size <= self.block:
            rule(self.xp, self.flat, grad, **self.state, **options)
        else:
            for start in range(0, size, self.block):
                part = slice(start, start + self.block)
                state = {name: array[part] for name, array in self.state.items()}
                rule(self.xp, self.flat[part], grad[part], **state, **options)
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
            array, steps = param._array, _steps(state[param], names)
            owner = _owner(array)
            if array.size >= SMALL or id(owner) in owners:
                # Parameters that share memory have to be updated one after the other.
                self.segments.append(Segment([param], state, names, initial, steps))
            else:
                small.setdefault((array.dtype, param.device, steps), []).append(param)
            owners.add(id(owner))
        for (_, _, steps), gathered in small.items():
            self.segments.append(Segment(gathered, state, names, initial, steps))

    def fits(self, params: Sequence[Tensor], names: tuple[str, ...], state: State) -> bool:
        """Whether the plan still serves these parameters, in this order, with these names of state."""
        if len(params) != len(self.params) or names != self.names or not all(map(is_, params, self.params)):
            return False
        return all(segment.holds(state) for segment in self.segments)

    def large(self, state: State) -> dict[int, Segment]:
        """The segments of large parameters that still hold, by the parameter's id."""
        return {id(s.params[0]): s for s in self.segments if not s.pieces and s.holds(state)}


def _steps(record: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """How often a parameter was updated; where the state does not count, 1 stands for "before"."""
    if "step" in names:
        step = record.get("step")
        return 0 if step is None else int(step)
    return int(all(record.get(name) is not None for name in names))


def _owner(array: Any) -> Any:
    """The array that owns the memory which `array` views."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array
