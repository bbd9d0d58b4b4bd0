"""How many floating-point operations an op takes.

Note [FLOPs]
~~~~~~~~~~~~
A row may say with `flops=` how many operations a call takes. Like a formula, that function names what it needs: an
input stands for its shape (a list of inputs for their shapes, None for one that is absent), `result` for the shape of
the result, and any other argument for itself. Products count a multiplication and an addition for each pair of factors,
and leave out bias, scaling and padding, as PyTorch's `torch.utils.flop_counter` does. Rows that say nothing count one
operation for every element of their result, whatever it costs, and views none; PyTorch counts nothing for all of these.
"""

from __future__ import annotations

import inspect
import math
from functools import cache
from typing import Any

from nanotorch.ops.rows.row import Row


def count_flops(row: Row, arguments: dict[str, Any], out: Any) -> int:
    """Return the operations of one forward; arguments as `observing` gives them (Note [FLOPs]).

    >>> from nanotorch.ops.rows.observe import observing
    >>> with observing(lambda *call: print(call[0].name, count_flops(*call))):
    ...     y = (torch.ones(2, 3) @ torch.ones(3, 4)).tanh()
    matmul 48
    tanh 8
    """
    if row.flops is None:
        return 0 if row.view else math.prod(_result(out).shape)
    named = {name: _shape(value) if _is_input(row, name) else value for name, value in arguments.items()}
    named["result"] = tuple(_result(out).shape)
    return int(row.flops(**{name: named[name] for name in _wanted(row)}))


@cache
def _wanted(row: Row) -> tuple[str, ...]:
    assert row.flops is not None
    return tuple(inspect.signature(row.flops).parameters)


def _is_input(row: Row, name: str) -> bool:
    return any(p.name == name for p in row.tensors)


def _shape(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [tuple(v.shape) for v in value]
    return tuple(value.shape) if hasattr(value, "shape") else None if value is None else ()


def _result(out: Any) -> Any:
    """Return the first output of a row: those that follow, such as indices, come with it."""
    return out[0] if isinstance(out, tuple | list) else out
