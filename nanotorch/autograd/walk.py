"""Looking at a graph without running it: its nodes, what they saved, what its leaves are called."""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from nanotorch.autograd.function import FunctionNode
from nanotorch.autograd.graph.gradient_edge import GradientEdge
from nanotorch.autograd.graph.node import AccumulateGrad, Hooks, Node
from nanotorch.autograd.graph.saved_tensors import Packed
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.autograd.graph.view import CopySlices

FORWARD_LINE = re.compile(r'"(?P<file>.*)", line (?P<number>\d+), in (?P<function>.*)')


def saved_values(node: Node) -> Iterator[tuple[str, Any]]:
    """Iterate over the names and values (tensors or arrays) that a node keeps for its backward and has not released.

    Of what a pack hook of `saved_tensors_hooks` made of a value, tensors are given.
    """
    if isinstance(node, CopySlices):
        if node.inner is not None:
            yield from saved_values(node.inner)
        return
    if isinstance(node, FunctionNode):
        kept = [(f"saved {number}", tensor) for number, (tensor, _, _) in enumerate(node.ctx._saved)]
    else:
        kept = [(slot.name, slot.of(node)) for slot in node.saved_slots]
    for name, value in kept:
        for part in value if isinstance(value, tuple | list) else (value,):
            part = part.value if isinstance(part, Packed) else part
            if isinstance(part, Tensor) or hasattr(part, "nbytes"):
                yield name, part


def released(node: Node) -> bool:
    """Return whether a backward pass has freed what a node saved."""
    return node._released


def short_line(line: str) -> tuple[str, str]:
    """Return a node's forward line in a few words, as `train.py:12 in step`, and the code there if it can be read."""
    match = FORWARD_LINE.fullmatch(line)
    if match is None:
        return line, ""
    file, number = match["file"], int(match["number"])
    here = os.getcwd() + os.sep
    return f"{file.removeprefix(here)}:{number} in {match['function']}", linecache.getline(file, number).strip()


def leaves_of(nodes: Iterable[Node]) -> list[Tensor]:
    """Return the leaves that gradients reach, those that are still there, in the order of the nodes."""
    found = [node.reference() for node in nodes if isinstance(node, AccumulateGrad)]
    return [leaf for leaf in found if leaf is not None]


def leaf_edges(nodes: Iterable[Node]) -> list[GradientEdge]:
    """Return the edges at which gradients reach leaves, those that are gone too: a backward pass runs with them."""
    return [GradientEdge(node, 0) for node in nodes if isinstance(node, AccumulateGrad)]


def leaf_names(leaves: Iterable[Tensor], model: Any = None, params: Any = None) -> dict[int, str]:
    """Return names by the `id` of the tensor: for leaves that nobody names `leaf 1` and so on.

    Args:
        leaves: the tensors that need names.
        model: a `nn.Module`, which names its parameters and buffers.
        params: more names: a mapping from names to tensors, or pairs of both, such as `model.named_parameters()`.
    """
    pairs: list[tuple[str, Tensor]] = []
    if model is not None:
        pairs += [*model.named_parameters(), *model.named_buffers()]
    if params is not None:
        pairs += params.items() if isinstance(params, Mapping) else params
    for pair in pairs:
        if not (
            isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor)
        ):
            raise TypeError("params must map names to tensors, as dict(model.named_parameters()) or {'x': x} do")
    names = {id(tensor): name for name, tensor in pairs}
    unnamed = [leaf for leaf in leaves if id(leaf) not in names]
    return names | {id(leaf): f"leaf {number}" for number, leaf in enumerate(unnamed, 1)}


@contextmanager
def watching(
    nodes: Iterable[Node],
    record: Callable[[Node, Any, Any], None],
    shown: set[Node] | None = None,
    others: bool = True,
    before: Callable[[Node, Any], None] | None = None,
) -> Iterator[None]:
    """Have a backward pass call `record(node, grad_inputs, grad_outputs)` after each of the nodes, and store nothing.

    Args:
        nodes: the nodes of the graph, which get other hooks inside the `with`.
        record: gets the gradients (tensors or None) that a node handed on and those that came in.
        shown: the nodes to record; all without it.
        others: keep the hooks that users registered, which may change gradients; those that retain one are left out.
        before: gets the node and the gradients that come in, before it runs.
    """
    replaced = [(node, node._hooks) for node in nodes if shown is None or node in shown or node._hooks is not None]
    try:
        for node, hooks in replaced:
            watched = Hooks()
            if hooks is not None and others:
                watched.tensor, watched.pre, watched.post = hooks.tensor, hooks.pre, dict(hooks.post)
            if shown is None or node in shown:
                watched.post[-1] = partial(record, node)  # the last one
                if before is not None:
                    watched.pre = {**watched.pre, -1: partial(before, node)}
            node._replace_hooks(watched)
        yield
    finally:
        for node, hooks in replaced:
            node._replace_hooks(hooks)
