"""Random numbers for primitives: of generators, and those that are a function of their address, by NumPy's Philox
(Note [Counters of dropout]).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property, lru_cache
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


@lru_cache(maxsize=128)
def threshold_and_factor(p: float, dtype: np.dtype[Any]) -> tuple[np.uint16, Any]:
    """Return from which bits on an element is kept with probability `1 - p`, and what it is multiplied by."""
    return np.uint16(min(round(p * 65536), 65535)), dtype.type(1.0 / (1.0 - p) if p < 1.0 else 0.0)


def keep_mask(bits: Any, p: float, dtype: np.dtype[Any]) -> Any:
    """Return 0 with probability `p`, else `1 / (1 - p)`, for arrays of 16 random bits of any backend."""
    least, factor = threshold_and_factor(float(p), dtype)
    mask = (bits >= least).astype(dtype)
    mask *= factor
    return mask


def draw(generator: Any, method: str, arguments: tuple[Any, ...], dtype: np.dtype[Any]) -> Any:
    """Return the next numbers of a generator, on the host."""
    return np.asarray(getattr(generator.numpy, method)(*arguments)).astype(dtype, copy=False)


def seed_of(generator: Any) -> int:
    """Return the number from which a generator started."""
    return int(generator.initial_seed())
