"""The backward pass that training takes: gradients flow from the roots to the leaves, newest node first.

Note [Order]
~~~~~~~~~~~~
Define-by-run numbers nodes in the order in which they are made, so an edge always points to an older node, and
running the newest pending node first is a reverse topological order: when a node runs, everything
that uses its output has run. A heap holds the numbers of the pending nodes. There is no recursion, so a chain of a
million nodes is only a long loop. Leaves come last, when no node is left that might have saved a `.grad` of before.

Note [Borrowed gradients]
~~~~~~~~~~~~~~~~~~~~~~~~~
The first gradient to reach a node is *borrowed*: it is kept as it is, without a copy, though somebody else may hold
the same array (an addition hands one array to both of its inputs). The second one makes it *owned*: their sum is a new
array that the pass may add to in place. An array that a formula has just made and that is no view is owned from the
start. Under `create_graph` gradients are tensors with a history, and sums are always out of place.

Note [Threads]
~~~~~~~~~~~~~~
A pass runs in the thread that calls it, and keeps all that it knows in local variables, so any number of threads can
run passes at a time. What they may share is safe where PyTorch's is: leaves, whose gradients are added to under a lock
(`ACCUMULATING` in `locks.py`), so that none is lost, and nodes, which a pass only reads, except that it frees their
saved values: of two passes through one graph all but the last must `retain_graph`. The order in which gradients are
added depends on the threads, and with it the last bits of their sum; and whoever reads or resets a `.grad`, or writes
to a tensor in place, must know that no other thread is using it. `grad` shares nothing.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from nanotorch.autograd.graph.node import HOOKED, Edge, Node
from nanotorch.autograd.graph.tensor import from_array

Gradients = list[tuple[Edge, Any]]
"""Edges, each with a gradient that arrives there: an array, or a tensor under `create_graph`."""
Pending = dict[int, list[Any]]
"""By sequence number what has arrived at nodes that did not run yet: [node, its gradient or gradients, owned]."""


def plain_pass(start: Gradients, keep: bool) -> Gradients:
    """Add the gradients of the leaves below `start` to their `.grad`: what training does.

    Returns:
        What is left to do, usually nothing: the pass stops where a custom backward has made the first hook (`HOOKED`).
    """
    pending: Pending = {}
    heap: list[int] = []
    for edge, value in start:
        if arrive(pending, edge, value, False) and edge[0].edges:
            heappush(heap, edge[0]._sequence)
    while heap and not HOOKED:
        node, gradient, _ = pending.pop(heappop(heap))
        if node.outputs is not None:
            gradient = filled(node, gradient)
        results = node.apply(gradient)
        if not keep:
            node.release()
        for edge, value in zip(node.edges, results, strict=True):
            if edge is not None and value is not None:
                fresh = value is not gradient and value.base is None and node.outputs is None
                if arrive(pending, edge, value, fresh) and edge[0].edges:
                    heappush(heap, edge[0]._sequence)
    if HOOKED:
        return [part for node, gradient, _ in pending.values() for part in by_edge(node, gradient)]
    for leaf, gradient, owned in pending.values():
        leaf.accumulate(gradient, owned)
    return []


def arrive(pending: Pending, edge: Edge, value: Any, fresh: bool, create_graph: bool = False) -> bool:
    """Add a gradient to those pending at a node (Note [Borrowed gradients]); return whether it is the first there."""
    node, output_nr = edge
    entry = pending.get(node._sequence)
    if entry is None:
        if node.outputs is not None:
            value = [value if number == output_nr else None for number in range(len(node.outputs))]
        pending[node._sequence] = [node, value, fresh]
        return True
    if node.outputs is not None:
        before = entry[1][output_nr]
        entry[1][output_nr] = value if before is None else before + value
    elif entry[2] and not create_graph:
        entry[1] += value
    else:
        entry[1], entry[2] = entry[1] + value, not create_graph
    return False


def filled(node: Node, gradients: list[Any], create_graph: bool = False) -> list[Any]:
    """Return the gradients of a node's outputs with zeros for those that nobody used."""
    assert node.outputs is not None
    if not node.materialize or all([gradient is not None for gradient in gradients]):
        return gradients
    device, result = node.device, []
    for gradient, (shape, dtype) in zip(gradients, node.outputs, strict=True):
        if gradient is None and dtype.kind == "f":
            gradient = device.xp.zeros(shape, dtype)
            if create_graph:
                gradient = from_array(gradient, device)
        result.append(gradient)
    return result


def by_edge(node: Node, gradient: Any) -> Gradients:
    """Return what has arrived at a node, edge by edge."""
    values = [gradient] if node.outputs is None else gradient
    return [((node, number), value) for number, value in enumerate(values) if value is not None]
