"""Nested tuples, lists and dicts with tensors in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor


def leaves(tree: Any) -> Iterator[Tensor]:
    """Iterate over the tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list | dict):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(part)


def replaced(tree: Any, values: Iterator[Any]) -> Any:
    """Return the same structure with the next value in place of every tensor."""
    return mapped(lambda _: next(values), tree, Tensor)


def mapped(function: Callable[[Any], Any], tree: Any, kind: type) -> Any:
    """Return the same structure with `function(leaf)` in place of every leaf of a type."""
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, dict):
        return {name: mapped(function, part, kind) for name, part in tree.items()}
    if isinstance(tree, list):
        return [mapped(function, part, kind) for part in tree]
    if isinstance(tree, tuple):
        parts = [mapped(function, part, kind) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree
