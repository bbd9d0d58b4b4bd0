"""Adam's update as one loop over the elements of parameters.

Note [Adam in a table]
~~~~~~~~~~~~~~~~~~~~~~
A group runs a loop for each of its operations, and its registers are read and written in between. Of Adam's update, on
which a step of a small network spends a fifth of its time, one loop is made instead that keeps all of it in the
processor: it takes as long as its root and its quotient, a third of the time. The roundings are those of the group's
operations, in their order, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from nanotorch.capture.program import View
from nanotorch.capture.table.instructions import ADDED_DECAY, DECOUPLED_DECAY, NO_DECAY


class Adam(NamedTuple):
    """An update.

    Attributes:
        decay: whether there is weight decay, and which.
        views: the parameter, its gradient, mean, and mean of squares.
        numbers: those of the instruction, in its order.
    """

    decay: int
    views: tuple[View, ...]
    numbers: tuple[Any, ...]


def adam(values: Sequence[tuple[Any, ...]], used: Collection[int], stores: Mapping[View, int]) -> Adam | None:
    """Return the values of a group as an update of Adam's, if they are one, and nothing else."""
    last = max(used, default=0)
    match values[last]:
        case "step", "subtract_divided_root", (param, mean, rate, square, least):
            decay, factor, decaying = NO_DECAY, least, last
        case _:
            return None
    match values[mean], values[square]:
        case ("step", "move_towards", (m, grad, m2, towards)), ("step", "sum_of_products", (v, kept, *grads, new)):
            if m2 != m or grads != [grad, grad]:
                return None
        case _:
            return None
    match values[grad], values[param]:
        case ("step", "multiply_add", (factor, decayed, summed)), ("load", _):
            if decayed != param:
                return None
            decay, decaying, grad = ADDED_DECAY, grad, summed
        case ("load", _), ("step", "multiply", (shrunk, factor)):
            decay, decaying, param = DECOUPLED_DECAY, param, shrunk
    loads, numbers = (param, grad, m, v), (towards, kept, new, rate, least, factor)
    if {mean, square, last, decaying, *numbers, *loads} != {*used}:
        return None
    if any(values[n][0] != "load" for n in loads) or any(values[n][0] != "number" for n in numbers):
        return None
    views = tuple([values[n][1] for n in loads])
    if stores != dict(zip((views[0], *views[2:]), (last, mean, square), strict=True)):
        return None
    return Adam(decay, views, tuple([values[n][1] for n in numbers]))
