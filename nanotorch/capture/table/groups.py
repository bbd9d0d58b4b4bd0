"""Element-wise statements of one shape that run together, block by block (Note [Tables])."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from nanotorch.capture.program import View
from nanotorch.capture.table.adam import adam
from nanotorch.capture.table.instructions import ADAM, BLOCK, F4, F8, GROUP, OPERANDS, OPERATION, PAIRS, REGISTERS
from nanotorch.capture.table.lowering import KINDS, Elementwise, Table, key_of, overlap

MOST = REGISTERS - 8  # values of a group
WIDE = 128  # columns from which a row that is repeated is read where it is, not copied for every block


class Group:
    """Operations of one shape and type, as values that are made of values.

    A value is ("load", view), ("number", number) or ("step", operation, operands), whose operands are numbers of
    values. `stores` says which value a view holds at the end.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.real: int | None = None
        self.values: list[tuple[Any, ...]] = []
        self.at: dict[View, int] = {}
        self.numbers: dict[Any, int] = {}
        self.stores: dict[View, int] = {}

    def add(self, part: Elementwise) -> bool:
        """Take an operation in; whether that leaves the meaning as it is.

        Blocks run one after the other, so what is written may be read again, or have been read before, only as the
        very same view: each element then meets itself alone.
        """
        views = [operand for operand in part.operands if isinstance(operand, View)]
        if part.out.shape != self.shape or len(self.values) + len(part.operands) >= MOST:
            return False
        if None not in (self.real, part.real) and self.real != part.real:
            return False
        if any(view != other and overlap(view, other) for view in views for other in self.stores):
            return False
        touched = [*self.at, *views]
        if any(view != part.out and overlap(view, part.out) for view in touched):
            return False
        if may_repeat(part.out):
            return False
        self.real = part.real if self.real is None else self.real
        operands = tuple([self._value(operand) for operand in part.operands])
        self.values.append(("step", part.operation, operands))
        if part.then is not None:
            operation, number = part.then
            self.values.append(("step", operation, (len(self.values) - 1, self._value(number))))
        self.at[part.out] = self.stores[part.out] = len(self.values) - 1
        return True

    def _value(self, operand: Any) -> int:
        if isinstance(operand, View):
            if operand not in self.at:
                self.values.append(("load", operand))
                self.at[operand] = len(self.values) - 1
            return self.at[operand]
        key = key_of(operand)
        if key not in self.numbers:
            self.values.append(("number", operand))
            self.numbers[key] = len(self.values) - 1
        return self.numbers[key]

    def write(self, table: Table, needed: Callable[[View], bool]) -> bool:
        """Write the group, and store what is `needed` after it; whether that is possible."""
        real = F4 if self.real is None else self.real
        width = 8 if real == F8 else 4
        stores = {view: value for view, value in self.stores.items() if needed(view)}
        self._pair(set(stores.values()))
        used = self._used(set(stores.values()))
        loads = {k: value[1] for k, value in enumerate(self.values) if value[0] == "load" and k in used}
        views = [*stores, *loads.values()]
        axes = common_axes(self.shape, [(v, v.dtype.itemsize) for v in views])
        if axes is None:
            return False
        lengths, steps = axes
        rows, columns = lengths[2:]
        update = adam(self.values, used, stores)
        if update is not None and lengths[:3] == (1, 1, 1) and all(steps[v][3] == width for v in update.views):
            places = [field for view in update.views for field in table.place(view)]
            numbers = map(table.number, update.numbers)
            table.add(ADAM, real, update.decay, columns, *places, *numbers)
            return True
        if columns >= WIDE and any(step[2] == 0 and step[3] for step in steps.values()):
            high, wide = 1, min(columns, BLOCK)
        else:
            high, wide = max(1, BLOCK // max(columns, 1)), min(columns, BLOCK)

        def direct(view: View) -> bool:
            down, right = steps[view][2:]
            together = high == 1 or rows == 1 or down == columns * width
            return KINDS[view.dtype] == real and (right == width or columns == 1) and together

        registers: dict[int, int] = {}
        free: list[int] = []
        taken = 0

        def register() -> int:
            nonlocal taken
            taken += 1
            return taken - 1

        load_rows = []
        for k, view in loads.items():
            registers[k] = register()
            load_rows.append((*table.place(view), KINDS[view.dtype], *steps[view], registers[k], int(direct(view))))
        fills = []
        for k, value in enumerate(self.values):
            if value[0] == "number" and k in used:
                registers[k] = register()
                fills.append((table.number(value[1]), registers[k]))
        holders: dict[int, View] = {}
        for view, k in stores.items():
            clash = any(overlap(view, other) for other in loads.values())
            if k not in holders and self.values[k][0] == "step" and direct(view) and not clash:
                holders[k] = view
        last = {operand: k for k in used if self.values[k][0] == "step" for operand in self.values[k][2]}
        last |= dict.fromkeys(stores.values(), len(self.values))
        step_rows = []
        for k in sorted(used):
            if self.values[k][0] != "step":
                continue
            _, operation, operands = self.values[k]
            registers[k] = register() if k in holders or not free else free.pop()
            places = [registers[operand] for operand in operands]
            step_rows.append((OPERATION[operation], registers[k], *places, *(places[0],) * (OPERANDS - len(places))))
            for operand in set(operands):
                if self.values[operand][0] == "step" and last[operand] == k and operand not in holders:
                    free.append(registers[operand])
        store_rows = [
            (*table.place(view), KINDS[view.dtype], *steps[view], registers[k], int(holders.get(k) == view))
            for view, k in stores.items()
        ]
        if 0 in lengths or not store_rows:
            return True
        parts = (load_rows, fills, step_rows, store_rows)
        counts = [len(part) for part in parts]
        words = [word for part in parts for row in part for word in row]
        table.add(GROUP, real, *lengths, high, wide, *counts, 0, 0, *words)
        return True

    def _pair(self, stored: set[int]) -> None:
        """Make two operations one where the second alone needs what the first gives, and both together have a name."""
        uses = Counter([operand for value in self.values if value[0] == "step" for operand in value[2]])
        for k in range(len(self.values)):
            while self.values[k][0] == "step" and (pair := self._first_pair(self.values[k], uses, stored)) is not None:
                operand, self.values[k] = pair
                self.values[operand] = ("gone",)

    def _first_pair(
        self, value: tuple[Any, ...], uses: Mapping[int, int], stored: set[int]
    ) -> tuple[int, tuple[Any, ...]] | None:
        """Return an operand that an operation can take in, and the operation that it then is; None where there is
        none.
        """
        for place, operand in enumerate(value[2]):
            before = self.values[operand]
            pair = PAIRS.get((before[1], value[1], place)) if before[0] == "step" else None
            if pair is not None and uses[operand] == 1 and operand not in stored:
                name, order = pair
                given = (*before[2], *(None,) * (OPERANDS - len(before[2])), *value[2])
                return operand, ("step", name, tuple([given[at] for at in order]))
        return None

    def _used(self, wanted: set[int]) -> set[int]:
        """Return the values that some values are made of."""
        used: set[int] = set()
        for k in range(len(self.values) - 1, -1, -1):
            if k in wanted:
                used.add(k)
                if self.values[k][0] == "step":
                    wanted = wanted | set(self.values[k][2])
        return used


def may_repeat(view: View) -> bool:
    """Whether a view may see one memory element twice, or in an order that no sorting of axes makes ascending."""
    if 0 in view.shape:
        return False
    expected = 1
    for step, n in sorted((abs(step), n) for step, n in zip(view.strides, view.shape, strict=True) if n != 1):
        if step < expected:
            return True
        expected = step * (n - 1) + expected
    return False


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of elements that lie one after the other."""
    return tuple([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])


def common_axes(
    shape: tuple[int, ...], views: list[tuple[View, int]]
) -> tuple[tuple[int, ...], dict[View, tuple[int, ...]]] | None:
    """Return four lengths, and for each view four strides in bytes, that mean the same elements; None where there are
    more axes.

    Axes are put in the order in which the first view lies in memory, and joined where all views allow it.
    """
    if len({(view.shape, view.strides) for view, _ in views}) == 1:  # most are
        view, number = views[0][0], math.prod(shape)
        if view.shape == shape and number > 1 and view.strides == _dense(shape):
            return (1, 1, 1, number), {view: (0, 0, 0, width) for view, width in views}
    table = []
    for at, n in enumerate(shape):
        if n == 1:
            continue
        steps = []
        for view, width in views:
            own = at - len(shape) + len(view.shape)
            steps.append(0 if own < 0 or view.shape[own] == 1 else view.strides[own] * width)
        table.append((n, *steps))
    if views:
        table.sort(key=lambda axis: -abs(axis[1]))
    joined: list[tuple[int, ...]] = []
    for n, *steps in table:
        if joined and all(before == n * step for before, step in zip(joined[-1][1:], steps, strict=True)):
            joined[-1] = (joined[-1][0] * n, *steps)
        else:
            joined.append((n, *steps))
    if len(joined) > 4:
        return None
    full = [(1, *(0,) * len(views))] * (4 - len(joined)) + joined
    lengths = tuple([axis[0] for axis in full])
    strides = {view: tuple([axis[1 + k] for axis in full]) for k, (view, _) in enumerate(views)}
    return lengths, strides
