"""What the host does in a step, for all models at once: counts move on, and options are read as columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from nanotorch.capture.recorder import call_scalars
from nanotorch.capture.sweep.models import Models
from nanotorch.optim import Optimizer
from nanotorch.optim.segment import Segment

NUMBER = re.compile(r"scalars\[(\d+)\]\['(\w+)'\]")
PLAIN = {float, int, bool, type(None), str}
Update = tuple[Optimizer, Segment, int, bool]


class Columns(list[Any]):
    """The numbers of the host of all models: an entry for each update, with a column for each name."""


class Host:
    """The host's part of a step, where that is to count and to read options (Note [Host scalars]).

    Args:
        models: of the program.
        needed: for which updates of a step the program needs which columns.
        updates: those of all models, in their order.
    """

    def __init__(self, models: Models, needed: Collection[tuple[int, str]], updates: Sequence[Update]) -> None:
        self.models, self.common, self.updates, self._total = models, models.common, models.updates, len(updates)
        names: dict[int, list[str]] = {number: [] for number in range(models.updates)}
        for of, name in needed:
            if of >= self.common:
                names[of - self.common].append(name)
        asked = NUMBER.findall(" ".join(models.program.decisions))
        self._decisive: Any = None
        self._parts = []
        self.possible = len({id(segment) for _, segment, *_ in updates}) == len(updates)  # each is updated once
        for number in range(models.updates):
            mine = updates[number :: models.updates]
            segments = [segment for _, segment, *_ in mine]
            groups = [optimizer.param_groups[index] for optimizer, _, index, _ in mine]
            deciding = {name for of, name in asked if int(of) == self.common + number}
            flags = [itemgetter(name) for name in sorted(deciding & groups[0].keys())]
            options = [(name, itemgetter(name)) for name in names[number] if name in groups[0]]
            counts = {name: _rows([s.numbers[name] for s in segments]) for name in segments[0].numbers}
            kinds = {type(optimizer) for optimizer, *_ in mine}
            own = any([(kind.scalars, kind.count_step) != (Optimizer.scalars, Optimizer.count_step) for kind in kinds])
            self._parts.append((segments, groups, flags, options, counts, mine if own else [], names[number]))
            self.possible = (
                self.possible
                and all([rows is not None for rows in counts.values()])
                and all([kind.next_scalars is Optimizer.next_scalars for kind in kinds])
                and deciding <= {"first", *(() if own else groups[0].keys())}  # what is seen without computing it
            )

    def decisive(self) -> Any:
        """Return what decides whether the program is the right one."""
        return [
            ([list(map(flag, groups)) for flag in flags], [segment.first for segment in segments])
            for segments, groups, flags, *_ in self._parts
        ]

    def accept(self) -> None:
        """Take what decides now for what the program is right for."""
        self._decisive = self.decisive()

    def next(self, numbers: Sequence[int]) -> Columns | None:
        """Move the counts on, and return columns; None where the models have to be looked at one by one."""
        if self._decisive != self.decisive():
            return None
        columns: list[dict[str, Any]] = []
        for _, groups, _, options, *_ in self._parts:
            values = {name: list(map(read, groups)) for name, read in options}
            if not all([plain(each) for each in values.values()]):
                return None
            columns.append({name: column(each) for name, each in values.items()})
        for found, (segments, groups, _, _, counts, own, needed) in zip(columns, self._parts, strict=True):
            if own:
                found |= _one_by_one(own, groups, needed)
                continue
            for name, rows in counts.items():
                if name == "step":
                    rows += 1
                found[name] = column(rows[:, 0].tolist())
            for segment in segments:
                segment.moved_on()
        first = [call_scalars(numbers)] if numbers else []
        return Columns([*first, *[None] * self._total, *columns, *_given(self.models, first)])


def _one_by_one(updates: Sequence[Update], groups: Sequence[Any], needed: Sequence[str]) -> dict[str, Any]:
    """Return the columns of optimizers that count in a way of their own, each by its own rule."""
    found = []
    for (optimizer, segment, _, begins), group in zip(updates, groups, strict=True):
        if begins:
            optimizer.count_step()
        found.append(optimizer.next_scalars(segment, group))
    return {name: column([scalars[name] for scalars in found]) for name in needed}


def columns(models: Models, needed: Collection[tuple[int, str]], scalars: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the scalars of all models, behind them for each update those that are needed as columns, and numbers of
    the call, where each model has its own.
    """
    found: list[dict[str, Any]] = [{} for _ in range(models.updates)]
    for of, name in needed:
        if of >= models.common:
            found[of - models.common][name] = column([numbers[name] for numbers in scalars[of :: models.updates]])
    return [*scalars, *found, *_given(models, scalars[: models.common])]


def _given(models: Models, first: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not models.numbered:
        return []
    values = list(first[0].values())
    return [{f"given{k}": column(values[k : k + models.count]) for k in range(0, len(values), models.count)}]


def plain(values: Sequence[Any]) -> bool:
    """Whether values are numbers, or tuples of them, and no tensors."""
    kinds = set(map(type, values))
    return kinds <= PLAIN or (kinds == {tuple} and all([PLAIN.issuperset(map(type, each)) for each in values]))


def column(values: Sequence[Any]) -> Any:
    """Return values as a column of Python's numbers, which are computed with as the host does; tuples as columns."""
    if isinstance(values[0], tuple):
        return tuple([np.array(part, object) for part in zip(*values, strict=True)])
    return np.array(values, object)


def _rows(arrays: Sequence[Any]) -> Any:
    """Return the array whose rows are these arrays, if there is one."""
    base = arrays[0].base
    if base is None or base.shape[1:] != arrays[0].shape or len(base) < len(arrays):
        return None
    starts = [array.__array_interface__["data"][0] for array in arrays]
    begin = base.__array_interface__["data"][0]
    return base[: len(arrays)] if starts == [begin + k * base.strides[0] for k in range(len(arrays))] else None
