"""Parameters that one call of an optimizer's rule updates together.

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

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from operator import attrgetter, is_
from typing import Any

import numpy as np

from nanotorch.autograd.graph.interpreter import set_aside, updater
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.dtypes import get_default_dtype

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
        xp = device.xp
        self.block = BLOCK if device.type == "cpu" else size
        dtype = state_dtype(params[0])
        self.in_place = in_place
        self.flat = self._side_by_side(self.arrays) if in_place else xp.empty(size, dtype)
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
                self.numbers[name] = entries = np.full(len(params), start, number_dtype(name, value))
                for index, record in enumerate(self.records):
                    record[name] = from_array(entries[index : index + 1].reshape(()))
                continue
            self.state[name] = flat = xp.full(size, initial[name], dtype)
            for record, piece in zip(self.records, self._split(flat), strict=True):
                if record.get(name) is not None:
                    piece[...] = record[name].to(device)._array
                record[name] = from_array(piece, device)
        self.values = [value for record in self.records for value in record.values()]
        self.known = [entries.tobytes() for entries in self.numbers.values()]

    def holds(self, state: State) -> bool:
        """Return whether the parameters' memory and state are still those that this segment was built for."""
        return (
            all(map(is_, map(_array_of, self.params), self.arrays))
            and all(map(is_, map(state.get, self.params), self.records))
            and sum(map(len, self.records)) == len(self.values)
            and all(map(is_, chain.from_iterable(map(dict.values, self.records)), self.values))
            and [entries.tobytes() for entries in self.numbers.values()] == self.known
        )

    def moved_on(self) -> None:
        """Take the numbers that the parameters have now for those that they should have."""
        self.first = False
        self.known = [entries.tobytes() for entries in self.numbers.values()]

    def update(self, rule: Callable[..., None], scalars: Mapping[str, Any], writer: str) -> None:
        """Apply the rule once to all parameters; `scalars` are its keyword arguments, `writer` names it in errors."""
        xp = self.params[0].device.xp
        for piece, array in zip(self.pieces, self.arrays, strict=False):
            xp.write(piece, array)

        def in_blocks(xp: Any, param: Any, grad: Any, state: dict[str, Any], scalars: Mapping[str, Any]) -> None:
            if param.size <= self.block:
                rule(xp, param, grad, **state, **scalars)
                return
            for start in range(0, param.size, self.block):
                part = slice(start, start + self.block)
                rule(xp, param[part], grad[part], **{name: array[part] for name, array in state.items()}, **scalars)

        updater(self, rule, in_blocks)(xp, self.flat, self._flat_grad(xp), self.state, scalars)
        for array, piece in zip(self.arrays, self.pieces, strict=False):
            xp.write(array, piece)
        self.params[0]._bump_version(writer, 3)
        site = self.cells[0].writer
        for cell in self.cells[1:]:
            cell.number += 1
            cell.writer = site

    def _flat_grad(self, xp: Any) -> Any:
        """Return the gradients in one flat array: where they lie, if they lie side by side, else gathered."""
        grads = [param._grad._array for param in self.params]  # type: ignore[union-attr]
        if self.in_place:
            if len(grads) == 1:
                return xp.reshape(grads[0], (-1,))
            if all(map(is_, grads, self.grads)) and self.grads:
                return self.grad
            if all([follows(xp, *pair) for pair in pairwise(grads)]):
                with set_aside():
                    self.grads, self.grad, self.grad_pieces = grads, self._side_by_side(grads), ()
                return self.grad
        if not len(self.grad_pieces):
            with set_aside():
                self.grads, self.grad = [], self.params[0].device.xp.empty_like(self.flat)
            self.grad_pieces = self._split(self.grad)
        for piece, array in zip(self.grad_pieces, grads, strict=True):
            xp.write(piece, array)
        return self.grad

    def _side_by_side(self, arrays: list[Any]) -> Any:
        """Return the memory of arrays that follow each other, as one flat array."""
        if len(arrays) == 1:
            return arrays[0].reshape(-1)
        xp, size = self.params[0].device.xp, sum(array.size for array in arrays)
        return xp.view_strided(arrays[0], (size,), (1,), xp.storage_offset(arrays[0]))

    def _split(self, flat: Any) -> list[Any]:
        """Views of a flat array in the parameters' shapes."""
        pieces, start = [], 0
        for array in self.arrays:
            pieces.append(flat[start : start + array.size].reshape(array.shape))
            start += array.size
        return pieces


def follows(xp: Any, before: Any, array: Any) -> bool:
    """Return whether an array begins in memory where another ends, both in row-major order."""
    return (
        owner(before) is owner(array)
        and before.flags.c_contiguous
        and array.flags.c_contiguous
        and xp.storage_offset(array) == xp.storage_offset(before) + before.size
    )


def state_dtype(param: Tensor) -> Any:
    """Return the dtype in which rules update a parameter, and that of its state (Note [Segments])."""
    kind = param._array.dtype
    return kind if kind.itemsize > 2 else np.dtype(np.float32)


def number_dtype(name: str, value: Any) -> Any:
    """Return the dtype of a number of a parameter:
    a count is exact, others are float32, or float64 if that is the default.
    """
    if name == "step":
        return np.dtype(np.float64)
    if isinstance(value, Tensor) and value.dtype.is_floating_point:
        return np.dtype(value.dtype.numpy)
    wide = get_default_dtype().numpy == np.float64
    return np.dtype(np.float64 if wide else np.float32)


def owner(array: Any) -> Any:
    """Return the array that owns the memory which `array` views."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array
