"""Random numbers that have an address: dropout's, the same on every device and for every cut of a batch.

Note [Counters of dropout]
~~~~~~~~~~~~~~~~~~~~~~~~~~
A number of dropout is a function of its place, not of the numbers drawn before: of a *seed*, the *step* of training,
the *layer* (the number of the call, among those of a forward pass that draw), the *row* of the batch and the place
within that row. So the masks of rows 8 to 15 are the same whether they come as a batch of their own, as a part of a
larger one, or in another process; and whoever computes a step again gets them again.

The function is Philox4x64-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011), which turns a counter
of four words of 64 bits, under a key of two, into four random words; a number takes 16 bits. In an input of shape
(rows, ...) with `size` elements to a row, the element at `place` of `row` is number `e = row * size + place`::

    words = philox4x64_10(counter=(e // 16 + 1, 0, 0, layer), key=(seed, step))     counter[0] and key[0] are the lowest
    u     = words[e % 16 // 4] >> 16 * (e % 4) & 0xFFFF                              the lowest quarter comes first

    kept  = u >= min(round(p * 2**16), 2**16 - 1)    dropout: p is the probability of 0, rounded half to even
    slope = (u >> 16 - bits) * 2**-bits              rrelu: a number of [0, 1), of 16 bits, in float16 of 11

NumPy's Philox counts up before it computes, hence the 1: a stream whose counter is set to (e // 16, 0, 0, layer) gives
the words from there on. A kernel may compute them in any order, sixteen elements at a time.

Whoever says how many rows a pass has, as the trainer does, may also draw for inputs that are laid out otherwise.
Several to a row, as in (rows * time, ...), are counted on, so these too are the same for every cut. Where the first
dimension is no multiple of the rows, as in (time, rows, ...), there is no row to count from: the first row of the pass
is the third word of the counter, (e // 16, 0, row, layer) from e = 0. Such masks depend on the cut, and repeat none.

Where the address comes from: inside `dropout_counters` from that, as in the trainer, with the default generator's seed
as the seed. Elsewhere each call takes the next 64 bits of its generator as the seed, with step, layer and row 0: calls
differ, `manual_seed` and `set_rng_state` repeat them, and the state of a generator needs nothing beside. The draw is
the array primitive `random_bits`, whose arguments are the address: who records a program finds it there.

16 bits: p is exact to 8 in a million, and a draw costs half of one of 32 bits. Of a sequence of numbers with p = 0.1,
it would take 10^10 to tell the difference from p.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import CPU
from nanotorch.ops.create.random import Generator, source
from nanotorch.ops.rows.runtime import need_number


class Position:
    """Where a forward pass stands in the counters of dropout: `layer` counts its calls."""

    __slots__ = ("layer", "row", "rows", "seed", "step")

    def __init__(self, seed: int, step: int, row: int, rows: int | None, layer: int = 0) -> None:
        self.seed, self.step, self.row, self.rows, self.layer = seed, step, row, rows, layer

    def copy(self) -> Position:
        """Return a position of its own, from which the same numbers are drawn as from here."""
        return Position(self.seed, self.step, self.row, self.rows, self.layer)


_position: ContextVar[Position | None] = ContextVar("dropout_counters", default=None)


class dropout_counters:
    """A scope in which dropout (and `rrelu`) draws by its place, see Note [Counters of dropout]: one forward pass.

    Inputs have their rows in the first dimension. Calls with `generator=` draw from that, as ever. Threads that are
    started inside are outside.

    Args:
        step: the step of training: another one has other masks.
        row: the number of the first row within the batch, where the input is a part of it.
        seed: that of the default generator by default.
        rows: how many rows the part has, so that inputs of a multiple of them, as (rows * time, ...), may be told from
        others.

    >>> x = torch.ones(6, 4)
    >>> with torch.random.dropout_counters(step=1):
    ...     whole = torch.nn.functional.dropout(x)
    >>> with torch.random.dropout_counters(step=1, row=2):
    ...     part = torch.nn.functional.dropout(x[2:5])
    >>> torch.equal(part, whole[2:5])
    True
    """

    step: int
    row: int
    seed: int | None
    rows: int | None

    def __init__(self, step: int, row: int = 0, *, seed: int | None = None, rows: int | None = None) -> None:
        if step < 0 or row < 0:
            raise ValueError(f"dropout_counters: step and row count from 0, got step={step} and row={row}")
        self.step, self.row, self.seed, self.rows = step, row, seed, rows

    def __enter__(self) -> None:
        seed = CPU.xp.seed_of(source()) if self.seed is None else self.seed % 2**64
        self._token: Token[Position | None] = _position.set(Position(seed, self.step, self.row, self.rows))

    def __exit__(self, *error: object) -> None:
        _position.reset(self._token)


def position() -> Position | None:
    """Return a copy of where the forward pass stands, None outside `dropout_counters`."""
    here = _position.get()
    return None if here is None else here.copy()


@contextmanager
def set_back(before: Position | None) -> Iterator[None]:
    """Draw once more from a position that `position` gave, for the `with` block."""
    token = _position.set(None if before is None else before.copy())
    try:
        yield
    finally:
        _position.reset(token)


def random_bits(xp: Any, shape: tuple[int, ...], generator: Generator | None) -> Any:
    """Return 16 random bits for each element of a shape (rows, ...), in one dimension."""
    here = _position.get() if generator is None else None
    count = math.prod(shape)
    if here is None:
        return xp.random_bits(source(generator)._next_seed, 0, 0, 0, 0, count)
    here.layer += 1
    to_a_row, rest = divmod(shape[0] if shape else 1, here.rows) if here.rows else (1, 0)
    apart, first = (here.row, 0) if rest else (0, here.row * to_a_row * math.prod(shape[1:]))
    return xp.random_bits(here.seed, here.step, here.layer - 1, apart, first, count)


def keep_mask(like: Tensor, shape: tuple[int, ...], p: float, generator: Generator | None) -> Tensor:
    """Return 0 with probability `p`, else `1 / (1 - p)`:
    of a shape (rows, ...), in the dtype and on the device of a tensor.
    """
    device = like.device
    xp = device.xp
    p = need_number("dropout", "p", p) if isinstance(p, Tensor) else p
    mask = xp.keep_mask(random_bits(xp, shape, generator), p, like._array.dtype)
    return from_array(xp.reshape(mask, shape), device)


def unit_like(like: Tensor, generator: Generator | None) -> Tensor:
    """Return numbers of [0, 1) in the shape (rows, ...) and the floating-point dtype of a tensor, on its device."""
    device, dtype, shape = like.device, like._array.dtype, like.shape
    xp = device.xp
    bits = min(16, np.finfo(dtype).nmant + 1)
    drawn = xp.astype(xp.right_shift(random_bits(xp, shape, generator), 16 - bits), dtype)
    xp.multiply_into(drawn, dtype.type(2.0**-bits))
    return from_array(xp.reshape(drawn, shape), device)
