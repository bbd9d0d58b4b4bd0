"""Random bits that are a function of their address, by NumPy's Philox (Note [Counters of dropout])."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

PER_BLOCK = 16  # numbers of 16 bits that one counter gives
_NOTHING_LEFT = (0, 0, 0, 0)


class _Streams(threading.local):
    """Each thread's Philox, set anew for every draw: making one costs ten times as much."""

    @cached_property
    def philox(self) -> np.random.Philox:
        """The stream, made at the first draw: importing `numpy.random` takes a tenth of NumPy's time."""
        return np.random.Philox(key=0)


_streams = _Streams()


def random_bits(seed: int | Callable[[], int], step: int, layer: int, apart: int, first: int, count: int) -> Any:
    """Return 16 random bits for each of `count` numbers from the first one on.

    A seed may be a function that draws it: whoever repeats this call then draws the next one.
    """
    block, before = divmod(first, PER_BLOCK)
    philox = _streams.philox
    state: Any = {
        "bit_generator": "Philox",
        "state": {"counter": (block, 0, apart, layer), "key": (seed() if callable(seed) else seed, step)},
        "buffer": _NOTHING_LEFT,
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }
    philox.state = state
    words = philox.random_raw((before + count + 3) // 4)
    return words.view(np.uint16)[before : before + count]
