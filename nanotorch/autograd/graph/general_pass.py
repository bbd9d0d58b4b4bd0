"""The backward pass in which everything may happen that `plain_pass` leaves out.

Note [General pass]
~~~~~~~~~~~~~~~~~~~
Here hooks run (Note [Hooks]), gradients may be tensors with a history, under `create_graph`, and a part of the graph
may be enough, for `grad` and `inputs=`: then only the nodes run from which a wanted one can be reached. Without
hooks both passes visit the same nodes in the same order (Note [Order]) and add the same numbers in the same order.

Leaves come last, but those with hooks do not wait so long: their hooks may be there to get rid of gradients early, or
to send them elsewhere. While there are hooks, a pass counts in advance how many edges lead to the leaves with hooks,
and visits such a leaf when the last of its users has run, before any other node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from typing import Any

from nanotorch.autograd.graph.anomaly import detect_anomaly
from nanotorch.autograd.graph.hooks import (
    Visits,
    run_post_accumulate_hooks,
    run_post_hooks,
    run_prehooks,
    run_tensor_hooks,
    running,
)
from nanotorch.autograd.graph.node import HOOKED, AccumulateGrad, Edge, Hooks, Node, nodes_below
from nanotorch.autograd.graph.plain_pass import Gradients, Pending, arrive, by_edge, filled

Edges = tuple[Edge | None, ...]


class GeneralPass:
    """One backward pass (Note [General pass]).

    Args:
        keep: whether nodes keep their saved values.
        create_graph: whether gradients are tensors, and what is done with them is recorded.
        capture: the edges at which gradients are wanted; those that arrive there take the place of None.
        targets: the leaves that are to accumulate, and other nodes that are to run; None for all that there are.
        detector: looks at what each node returns.
    """

    def __init__(
        self,
        keep: bool,
        create_graph: bool,
        capture: dict[Edge, Any],
        targets: set[Node] | None,
        detector: detect_anomaly | None,
    ) -> None:
        self.keep, self.create_graph, self.capture = keep, create_graph, capture
        self.targets, self.detector = targets, detector
        self._captured = {edge[0] for edge in capture}
        self._pending: Pending = {}
        self._heap: list[int] = []

    def run(self, start: Gradients) -> None:
        """Let gradients flow from where they start; then call what hooks have queued."""
        queued: list[Callable[[], object]] = []
        running.passes.append(queued)
        try:
            self._run(start)
        finally:
            running.passes.pop()
        for callback in queued:
            callback()

    def _run(self, start: Gradients) -> None:
        self._below = partial(nodes_below, [edge for edge, _ in start])
        self._edges = None if self.targets is None else self._edges_on_the_way(self.targets)
        self._uses = self._uses_of_hooked_leaves()
        self._visits = Visits(self._below, self._edges, self.capture)
        for edge, value in start:
            if arrive(self._pending, edge, value, False, self.create_graph) and edge[0].edges:
                heappush(self._heap, edge[0]._sequence)
        visit, pending, heap = self._visit, self._pending, self._heap
        while heap:
            visit(*pending.pop(heappop(heap)))
        for entry in tuple(pending.values()):
            visit(*entry)
        self._visits.finish()

    def _edges_on_the_way(self, targets: Iterable[Node]) -> dict[Node, Edges]:
        """Return the nodes that have to run, with their edges: None in place of those that lead to nothing wanted."""
        capture = self.capture
        on_the_way: dict[Node, Edges] = {node: (None,) * len(node.edges) for node in targets}
        for node in reversed(self._below()):  # oldest first
            wanted = tuple([e if e is not None and (e[0] in on_the_way or e in capture) else None for e in node.edges])
            if any(wanted):
                on_the_way[node] = wanted
        return on_the_way

    def _uses_of_hooked_leaves(self) -> dict[Node, int]:
        """Count the edges that will bring something to each of the leaves with hooks."""
        uses: dict[Node, int] = {}
        if not any([isinstance(reference(), AccumulateGrad) for reference in tuple(HOOKED.values())]):
            return uses
        for edges in [node.edges for node in self._below()] if self._edges is None else self._edges.values():
            for edge in edges:
                if edge is not None and isinstance(edge[0], AccumulateGrad) and edge[0]._hooks is not None:
                    uses[edge[0]] = uses.get(edge[0], 0) + 1
        return uses

    def _visit(self, node: Node, gradient: Any, owned: bool) -> None:
        """Do what happens when the gradient of a node is complete, in the order of Note [Hooks]."""
        hooks, create_graph = node._hooks, self.create_graph
        if hooks is not None and (hooks.tensor or hooks.retain):
            gradient, owned = run_tensor_hooks(node, hooks, gradient, create_graph, self._visits), False
        if node in self._captured:
            self._take(node, gradient, owned)
        edges = node.edges if self._edges is None else self._edges.get(node)
        if edges is None:
            return
        if hooks is not None and hooks.pre:
            gradient, owned = run_prehooks(node, hooks, gradient, create_graph), False
        if isinstance(node, AccumulateGrad):
            self._accumulate(node, hooks, gradient, owned)
            return
        if node.outputs is not None:
            gradient = filled(node, gradient, create_graph)
        results = node.apply_recorded(gradient, edges) if create_graph else node.apply(gradient, edges)
        if self._edges is not None and edges != node.edges:
            results = tuple([None if edge is None else value for edge, value in zip(edges, results, strict=True)])
        if self.detector is not None:
            self.detector.check_backward(node, gradient, results)
        lent = create_graph or node.outputs is not None  # then somebody else may hold the arrays of the results
        if hooks is not None and hooks.post:
            results, lent = run_post_hooks(node, hooks, results, gradient, create_graph), True
        if not self.keep:
            node.release()
        pending, heap = self._pending, self._heap
        for edge, value in zip(edges, results, strict=True):
            if edge is not None and value is not None:
                fresh = not lent and value is not gradient and value.base is None
                if arrive(pending, edge, value, fresh, create_graph) and edge[0].edges:
                    heappush(heap, edge[0]._sequence)
        if self._uses:
            self._count_visit(edges)

    def _take(self, node: Node, gradient: Any, owned: bool) -> None:
        """Keep a gradient that was asked for, as an array that nobody else holds."""
        for edge, value in by_edge(node, gradient):
            if edge in self.capture:
                self.capture[edge] = value if owned or self.create_graph else node.device.xp.array(value)

    def _accumulate(self, node: AccumulateGrad, hooks: Hooks | None, gradient: Any, owned: bool) -> None:
        """Let a leaf that is still there accumulate its gradient."""
        leaf = node.reference()
        if leaf is None:
            return
        if self.create_graph:
            leaf._accumulate_recorded(gradient)
        else:
            leaf._accumulate(gradient, owned and hooks is None)
        if hooks is not None:
            run_post_accumulate_hooks(leaf, hooks)
            if hooks.post:
                run_post_hooks(node, hooks, (), gradient, self.create_graph)

    def _count_visit(self, edges: Edges) -> None:
        """Count that a node has been visited, and visit the leaves with hooks that waited for it alone."""
        for edge in edges:
            if edge is not None and edge[0] in self._uses:
                leaf = edge[0]
                self._uses[leaf] -= 1
                if not self._uses[leaf] and leaf._sequence in self._pending:
                    self._visit(*self._pending.pop(leaf._sequence))
