"""Many steps in one call: batches are gathered and the program runs, without what a call costs beside them."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import CPU
from nanotorch.capture.batches import Batches, Between
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
) -> Any:
    """Call a compiled function with batch after batch, as `Compiled.run` says."""
    rows, batch_size, steps = _planned(tensors, order, batch_size, steps)
    given = [(CallNumber(number),) for number in numbers] if numbers is not None else [()] * steps
    if len(given) != steps:
        raise ValueError(f"run takes {steps} steps, and got {len(given)} numbers for them")
    on_cpu = all([tensor.device is CPU for tensor in tensors])
    parts: list[list[Any]] = []  # results of some steps, stacked
    build: Any = None
    done = 0
    while done < steps:
        start = done * batch_size
        taken = rows[start : start + batch_size]
        batch = [_rows(tensor, taken) for tensor in tensors]
        whole = min(len(rows) - start, (steps - done) * batch_size) // batch_size
        captured = compiled.known(*batch, *given[done]) if on_cpu and whole > 1 else None
        if captured is not None:
            batches = Batches(
                [tensor._array for tensor in tensors],
                rows[start : start + whole * batch_size],
                batch_size,
                given[done : done + whole],
            )
            ran, stacked = captured.repeat(batches, between)
            if ran:
                parts.append(stacked)
                build = captured.build
                done += ran
            if ran == whole:
                continue
            start = done * batch_size
            batch = [_rows(tensor, rows[start : start + batch_size]) for tensor in tensors]
        leaves: list[Tensor] = []
        build = taken_apart(compiled(*batch, *given[done]), leaves)
        parts.append([leaf._array[None] for leaf in leaves])
        done += 1
        if between is not None:
            between()
    if not parts:
        return None
    device = tensors[0].device
    return build([_joined(values, device) for values in zip(*parts, strict=True)])


def _planned(
    tensors: Sequence[Tensor], order: Any, batch_size: int, steps: int | None
) -> tuple[np.ndarray[Any, Any], int, int]:
    """Return the rows that are taken, how many make a batch, and the number of steps."""
    if isinstance(tensors, Tensor):
        raise TypeError("run takes a list of tensors, one for each argument, got a tensor: run([x], ...)")
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) != 1:
        raise ValueError(f"run takes tensors of one length, got lengths {[len(tensor) for tensor in tensors]}")
    (length,) = lengths
    if isinstance(order, Tensor):
        order = order.cpu().numpy()
    rows = np.arange(length) if order is None else np.asarray(order)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
        raise ValueError(f"order has the numbers of rows in one dimension, got {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.intp, copy=False)
    batch_size = _whole("batch_size", batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size is a positive integer, got {batch_size}")
    most = -(-len(rows) // batch_size)
    steps = most if steps is None else _whole("steps", steps)
    if not 0 <= steps <= most:
        raise ValueError(f"{len(rows)} rows in batches of {batch_size} are enough for {most} steps, got steps={steps}")
    rows = rows[: steps * batch_size]
    if len(rows) and (rows.min() < 0 or rows.max() >= length):
        raise IndexError(f"order names rows from {rows.min()} to {rows.max()}, but the tensors have {length} rows")
    return rows, batch_size, steps


def _whole(name: str, value: Any) -> int:
    """Return an integer of Python, NumPy or a tensor as one of Python."""
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            return operator.index(value)
    raise ValueError(f"{name} is an integer, got {value!r}")


def _rows(tensor: Tensor, rows: np.ndarray[Any, Any]) -> Tensor:
    if tensor.device is CPU:
        return from_array(tensor._array.take(rows, 0))
    return tensor.detach()[from_array(rows)]


def _joined(parts: Sequence[Any], device: Any) -> Any:
    """Return the results of all steps in one tensor; in a list where a ragged last one differs in shape."""
    if any([part.shape[1:] != parts[0].shape[1:] for part in parts]):
        return [from_array(value, device) for part in parts for value in part]
    return from_array(parts[0] if len(parts) == 1 else device.xp.concatenate(parts, 0), device)
