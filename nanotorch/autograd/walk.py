"""Looking at a graph without running it: its nodes, what they saved, what its leaves are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nanotorch.autograd.function import FunctionNode
from nanotorch.autograd.node import AccumulateGrad, Node
from nanotorch.autograd.tensor import Tensor, gradient_edge
from nanotorch.autograd.view import CopySlices

__all__ = ["leaf_names", "leaves_of", "nodes_below", "saved_values"]


def nodes_below(roots: Iterable[Tensor]) -> list[Node]:
    """Return every node that the backward of ``roots`` can reach, in the order in which the engine would run them."""
    edges = [gradient_edge(root) for root in roots]
    seen = {edge[0] for edge in edges if edge is not None}
    stack = list(seen)
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    return sorted(seen, key=lambda node: node._sequence)  # newer nodes have smaller numbers: see Note [Order] in engine.py


def saved_values(node: Node) -> Iterator[tuple[str, Any]]:
    """Iterate over the names and values (tensors or arrays) that a node keeps for its backward and has not released."""
    if isinstance(node, CopySlices):
        if node.inner is not None:
            yield from saved_values(node.inner)
        return
    if isinstance(node, FunctionNode):
        for number, (tensor, _, _) in enumerate(node.ctx._saved):
            if tensor is not None:
                yield f"saved {number}", tensor
        return
    for slot in type(node).__dict__.get("__slots__", ()):
        if not slot.startswith(("s_", "r_")):
            continue
        value = getattr(node, slot, None)
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, Tensor) or hasattr(part, "nbytes"):
                yield slot[2:], part


def leaf_names(model: Any = None, params: Any = None) -> dict[int, str]:
    """Return names by the ``id`` of the tensor: those of a module's parameters and buffers, and those given.

    Args:
        model: a `nn.Module`.
        params: a mapping from names to tensors, or pairs of both, such as ``model.named_parameters()``.
    """
    pairs: list[tuple[str, Tensor]] = []
    if model is not None:
        pairs += [*model.named_parameters(), *model.named_buffers()]
    if params is not None:
        pairs += params.items() if isinstance(params, Mapping) else params
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor)):
            raise TypeError("params must map names to tensors, as dict(model.named_parameters()) or {'x': x} do")
    return {id(tensor): name for name, tensor in pairs}


def leaves_of(nodes: Iterable[Node]) -> list[Tensor]:
    """Return the leaves that gradients reach, those that are still there, in the order of the nodes."""
    found = [node.reference() for node in nodes if isinstance(node, AccumulateGrad)]
    return [leaf for leaf in found if leaf is not None]
