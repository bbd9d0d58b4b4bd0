"""The random numbers of a run: seeds of independent streams, and the default generator while a run has it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nanotorch.ops.create.random import default_generator


@functools.lru_cache(256)
def seeds(seed: int, count: int) -> tuple[int, ...]:
    """Return seeds of independent streams; the first ones stay the same when `count` grows."""
    streams = np.random.SeedSequence(seed).spawn(count)
    return tuple([int(stream.generate_state(1, np.uint64)[0]) for stream in streams])


@contextmanager
def borrowed_generator() -> Iterator[None]:
    """Give the default generator back as it was: training inside a program does not disturb its numbers."""
    state = default_generator.get_state()
    try:
        yield
    finally:
        default_generator.set_state(state)
