"""Tools beside the library's core: data loading."""

from nanotorch.utils import data

__all__ = ["data"]
