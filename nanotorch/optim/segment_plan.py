"""Which parameters of a group are updated together: its segments (Note [Segments]), valid until something changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import is_
from typing import Any, NamedTuple

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.optim.segment import Segment, State, follows, number_dtype, owner, state_dtype

SMALL = 16384  # elements below which a parameter is gathered: where copying it costs less than a call per operation


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
        """Return whether the plan still serves these parameters, in this order, with these names of state."""
        if len(params) != len(self.params) or names != self.names or not all(map(is_, params, self.params)):
            return False
        return all(segment.holds(state) for segment in self.segments)

    def in_place(self, state: State) -> dict[tuple[int, ...], Segment]:
        """Return the segments in place that still hold, by the ids of their parameters."""
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
        others = spans.setdefault(id(owner(array)), [])
        if any(start < end and begin < stop for begin, end in others):
            if former is not None:
                yield former, run, False
            yield key, [param], True
            former, run = None, []
            continue
        others.append((start, stop))
        if run and key == former and follows(xp, run[-1]._array, array):
            run.append(param)
            continue
        if former is not None:
            yield former, run, False
        former, run = key, [param]
    if former is not None:
        yield former, run, False


def _updatable(param: Tensor) -> bool:
    """Return whether a rule can update a parameter where it is."""
    return bool(param._array.flags.c_contiguous) and param._array.dtype == state_dtype(param)


def _position(
    record: Mapping[str, Any], names: tuple[str, ...], initial: Mapping[str, float], numbers: tuple[str, ...]
) -> tuple[bool, tuple[Any, ...]]:
    """Return whether a parameter's first update is to come, and its numbers with their dtypes."""
    known: list[Any] = []
    for name in names:
        if name in numbers:
            value = record.get(name)
            known += [initial[name] if value is None else float(value), number_dtype(name, value)]
    return any(record.get(name) is None for name in names), tuple(known)
