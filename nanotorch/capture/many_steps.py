"""Many steps in one call: batches are gathered and the program runs, without what a call costs beside them."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import CPU
from nanotorch.capture.batches import Batches, Between, taken
from nanotorch.capture.effects import array_of
from nanotorch.capture.program import CallNumber
from nanotorch.capture.recording import taken_apart

if TYPE_CHECKING:
    from nanotorch.capture.compiled import Compiled


def run(
    compiled: Compiled,
    tensors: Sequence[Tensor],
    order: Any,
    batch_size: int,
    steps: int | None,
    numbers: Sequence[int] | None,
    between: Between | None,
    schedule: Between | None,
) -> Any:
    """Call a compiled function with batch after batch, as `Compiled.run` says."""
    rows, batch_size, steps = planned(tensors, order, batch_size, steps)
    if rows.ndim != 1:
        raise ValueError(f"order has the numbers of rows in one dimension, got {rows.dtype} of shape {rows.shape}")
    given = [(CallNumber(number),) for number in numbers] if numbers is not None else [()] * steps
    if len(given) != steps:
        raise ValueError(f"run takes {steps} steps, and got {len(given)} numbers for them")
    build, parts = repeated(compiled, (), tensors, rows, batch_size, given, between, schedule)
    if build is None:
        return None
    device = tensors[0].device
    return build([_joined(values, device) for values in zip(*parts, strict=True)])


def repeated(
    compiled: Compiled,
    first: tuple[Any, ...],
    tensors: Sequence[Any],
    rows: np.ndarray[Any, Any],
    batch_size: int,
    given: Sequence[tuple[Any, ...]],
    between: Between | None,
    schedule: Between | None = None,
) -> tuple[Any, list[list[Any]]]:
    """Call a compiled function with batch after batch.

    Args:
        compiled: what is called.
        first: its arguments before those of a batch.
        tensors: tables, or for each of several models its tables.
        rows: what is taken of them, in two dimensions for each model its own.
        batch_size: rows of a batch.
        given: the numbers (`CallNumber`) of each step, or tuples of them.
        between: what is called after each step, and
        schedule: what is called after each step too, or ahead of steps (`Compiled.run`).

    Returns:
        What makes a result of its tensors, and the results of some steps at a time, stacked; None where no step is.
    """
    each = bool(tensors) and isinstance(tensors[0], list | tuple)
    on_cpu = all([tensor.device is CPU for of in (tensors if each else [tensors]) for tensor in of])
    tables = [list(map(array_of, of)) for of in tensors] if each else list(map(array_of, tensors))
    several = bool(given) and any([isinstance(part, tuple) for part in given[0]])
    numbers = list(map(_flat, given)) if several else given
    form = form_of(first, batch_size, tables, rows, given[:1])
    parts: list[list[Any]] = []
    build: Any = None
    steps, done, count = len(given), 0, rows.shape[-1]

    def arguments() -> tuple[Any, ...]:
        batch = batch_of(tensors, tables, rows[..., done * batch_size :][..., :batch_size], on_cpu)
        return (*first, *batch, *given[done])

    while done < steps:
        start = done * batch_size
        whole = min(count - start, (steps - done) * batch_size) // batch_size
        captured = compiled.known(form, arguments) if on_cpu and whole else None
        if captured is not None:
            part = rows[..., start : start + whole * batch_size]
            batches = Batches(tables, part, batch_size, numbers[done : done + whole])
            ran, stacked = captured.repeat(batches, between, schedule)
            if ran:
                parts.append(stacked)
                build = captured.build
                done += ran
            if ran == whole:
                continue
        leaves: list[Tensor] = []
        build = taken_apart(compiled(*arguments()), leaves)
        parts.append([array[None] for array in map(array_of, leaves)])
        done += 1
        for call in (schedule, between):
            if call is not None:
                call()
    return build, parts


def form_of(
    first: tuple[Any, ...],
    batch_size: int,
    tables: Sequence[Any],
    rows: np.ndarray[Any, Any],
    given: Sequence[tuple[Any, ...]],
) -> tuple[Any, ...]:
    """Return what calls with batches of tables have in common for which one program is the right one."""
    each = bool(tables) and isinstance(tables[0], list | tuple)
    form = (first, batch_size, len(tables) if each else 0, rows.shape[:-1], *_forms(tables[0] if each else tables))
    return form + tuple([len(part) if isinstance(part, tuple) else 0 for one in given for part in one])


def planned(
    tensors: Sequence[Tensor], order: Any, batch_size: int, steps: int | None
) -> tuple[np.ndarray[Any, Any], int, int]:
    """Return the rows that are taken, in one or two dimensions, how many make a batch, and the number of steps."""
    if isinstance(tensors, Tensor):
        raise TypeError("run takes a list of tensors, one for each argument, got a tensor: run([x], ...)")
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) != 1:
        raise ValueError(f"run takes tensors of one length, got lengths {[len(tensor) for tensor in tensors]}")
    (length,) = lengths
    if isinstance(order, Tensor):
        order = order.cpu().numpy()
    rows = np.arange(length) if order is None else np.asarray(order)
    if rows.ndim not in (1, 2) or (rows.dtype.kind not in "iu" and rows.size):
        raise ValueError(f"order has the numbers of rows in one dimension, got {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.intp, copy=False)
    batch_size = _whole("batch_size", batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size is a positive integer, got {batch_size}")
    count = rows.shape[-1]
    most = -(-count // batch_size)
    steps = most if steps is None else _whole("steps", steps)
    if not 0 <= steps <= most:
        raise ValueError(f"{count} rows in batches of {batch_size} are enough for {most} steps, got steps={steps}")
    rows = rows[..., : steps * batch_size]
    if rows.size and np.maximum.reduce(rows.view(np.uintp), None) >= length:  # a negative number is a large one there
        raise IndexError(f"order names rows from {rows.min()} to {rows.max()}, but the tensors have {length} rows")
    return rows, batch_size, steps


def _whole(name: str, value: Any) -> int:
    """Return an integer of Python, NumPy or a tensor as one of Python."""
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            return operator.index(value)
    raise ValueError(f"{name} is an integer, got {value!r}")


def batch_of(tensors: Sequence[Any], tables: Sequence[Any], rows: np.ndarray[Any, Any], on_cpu: bool) -> list[Tensor]:
    """Return rows of tables as the arguments of a step."""
    if on_cpu:
        return [from_array(array) for array in taken(tables, rows)] if tables else []
    if not isinstance(tensors[0], list | tuple):
        return [tensor.detach()[from_array(rows)] for tensor in tensors]
    each = [[tensor.detach()[from_array(row)] for tensor in of] for of, row in zip(tensors, rows, strict=True)]
    device = tensors[0][0].device
    return [from_array(device.xp.stack(list(map(array_of, parts))), device) for parts in zip(*each, strict=True)]


def _forms(tables: Sequence[Any]) -> list[Any]:
    return [(table.shape[1:], table.dtype) for table in tables]


def _flat(given: tuple[Any, ...]) -> list[Any]:
    return [number for part in given for number in (part if isinstance(part, tuple) else (part,))]


def _joined(parts: Sequence[Any], device: Any) -> Any:
    """Return the results of all steps in one tensor; in a list where a ragged last one differs in shape."""
    if any([part.shape[1:] != parts[0].shape[1:] for part in parts]):
        return [from_array(value, device) for part in parts for value in part]
    return from_array(parts[0] if len(parts) == 1 else device.xp.concatenate(parts, 0), device)
