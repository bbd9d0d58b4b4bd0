"""What processes that train together say to each other, on arrays: one interface, whatever carries it.

Note [Ranks]
~~~~~~~~~~~~
`mpiexec -n 4 python script.py` starts four processes that run the same program. Each has a number, its *rank*, from 0
to the *size* less one. What they do together, a *collective*, all of them do in the same order; one that does not come
lets the others wait. Nothing but numbers of arrays goes between them.

A sum over ranks is made by `all_reduce`, in the order that the library finds fastest. Sums of floating point numbers
depend on their order, so `ordered` adds up in the order of the ranks: the same bits on every machine, for the same
number of ranks, for a gather in place of a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]

REDUCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "sum": np.add,
    "product": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}
"""How two ranks' arrays become one."""


class Communicator(Protocol):
    """The processes of a group, from the side of one of them.

    Attributes:
        name: of the backend.
        rank: the number of this process.
        size: how many there are.
    """

    name: str
    rank: int
    size: int

    def barrier(self) -> None:
        """Wait until all have come here."""

    def broadcast(self, array: Array, root: int) -> None:
        """Give an array, without gaps, the numbers that it has on the rank `root`."""

    def all_reduce(self, array: Array, how: str) -> None:
        """Give an array, without gaps, the sum over all ranks, or another one of `REDUCTIONS`."""

    def all_gather(self, array: Array) -> Array:
        """Return the arrays of all ranks, which have one shape and dtype, with one more axis in front."""

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        """Return what all ranks give, of any length."""

    def abort(self, code: int) -> None:
        """End all processes."""

    def close(self) -> None:
        """Leave the group."""


class Alone:
    """A group of one process."""

    name, rank, size = "serial", 0, 1

    def barrier(self) -> None:
        """All have come."""

    def broadcast(self, array: Array, root: int) -> None:
        """It has them."""

    def all_reduce(self, array: Array, how: str) -> None:
        """It is the sum."""

    def all_gather(self, array: Array) -> Array:
        """Return the one array."""
        return array[None].copy()

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        """Return the one."""
        return [data]

    def abort(self, code: int) -> None:
        """End this process."""
        raise SystemExit(code)

    def close(self) -> None:
        """There is nothing to leave."""


def ordered(communicator: Communicator, array: Array, how: str) -> None:
    """Do what `all_reduce` does in the order of the ranks (Note [Ranks]).

    Half precision is added up in single, and rounded once.
    """
    wide = np.float32 if array.dtype == np.float16 else array.dtype
    first, *others = communicator.all_gather(array)
    total = first.astype(wide)
    for other in others:
        total = REDUCTIONS[how](total, other.astype(wide))
    array[...] = total
