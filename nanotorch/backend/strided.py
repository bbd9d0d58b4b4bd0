"""Arithmetic of strides: which elements of a memory a tensor of some size and stride reaches.
All numbers count elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def contiguous_stride(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the stride of a row-major tensor without gaps."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


def extent(shape: Sequence[int], stride: Sequence[int]) -> tuple[int, int]:
    """Return the lowest and one more than the highest position, from the first element, that a tensor reaches."""
    if 0 in shape:
        return 0, 0
    steps = [(length - 1) * step for length, step in zip(shape, stride, strict=True)]
    return sum([step for step in steps if step < 0]), 1 + sum([step for step in steps if step > 0])


def may_overlap(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Return False if surely no two elements share a position:
    each stride leaps over all that the smaller ones reach.
    """
    if 0 in shape:
        return False
    reach = 0
    for step, length in sorted((abs(step), length) for length, step in zip(shape, stride, strict=True) if length > 1):
        if step <= reach:
            return True
        reach += (length - 1) * step
    return False


def positions(xp: Any, shape: Sequence[int], stride: Sequence[int], offset: int) -> Any:
    """Return the position of every element in memory, as an array of the tensor's shape."""
    found = xp.full((1,) * len(shape), offset)
    for dim, (length, step) in enumerate(zip(shape, stride, strict=True)):
        found = found + xp.reshape(xp.arange(length) * step, (-1,) + (1,) * (len(shape) - 1 - dim))
    return found
