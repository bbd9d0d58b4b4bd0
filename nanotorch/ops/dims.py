"""Dimensions counted from the end."""

from __future__ import annotations

__all__ = ["wrap_dim"]


def wrap_dim(name: str, dim: int, ndim: int) -> int:
    """Return a dimension counted from the front; a tensor without dimensions counts as one with one, as in PyTorch."""
    count = max(ndim, 1)
    if not -count <= dim < count:
        raise IndexError(f"{name}: Dimension out of range (expected to be in range of [{-count}, {count - 1}], but got {dim})")
    return dim % count
