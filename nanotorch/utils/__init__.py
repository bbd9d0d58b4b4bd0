"""Tools beside the library's core: data loading, recomputation."""

from nanotorch.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
