"""The backward pass: gradients flow from the roots through the graph, newest node first.

Note [Order]
~~~~~~~~~~~~
Define-by-run numbers nodes in the order in which they are made, so an edge always points to an older node, and
running the newest pending node first is a reverse topological order: when a node runs, everything
that uses its output has run. A heap holds the numbers of the pending nodes. There is no recursion, so a chain of a
million nodes is only a long loop.

Note [Borrowed gradients]
~~~~~~~~~~~~~~~~~~~~~~~~~
The first gradient to reach a node is *borrowed*: it is kept as it is, without a copy, though somebody else may hold
the same array (an addition hands one array to both of its inputs). The second one makes it *owned*: their sum is a new
array that the pass may add to in place. An array that a formula has just made and that is no view is owned from the
start. Under ``create_graph`` gradients are tensors with a history, and sums are always out of place.

Note [Threads]
~~~~~~~~~~~~~~
A pass runs in the thread that calls it, and keeps all that it knows in local variables, so any number of threads can
run passes at a time. What they may share is safe where PyTorch's is: leaves, whose gradients are added to under a lock
(`ACCUMULATING` in ``locks.py``), so that none is lost, and nodes, which a pass only reads, except that it frees their
saved values: of two passes through one graph all but the last must ``retain_graph``. The order in which gradients are
added depends on the threads, and with it the last bits of their sum; and whoever reads or resets a ``.grad``, or writes
to a tensor in place, must know that no other thread is using it. `grad` shares nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush, heappushpop
from typing import Any

from nanotorch.autograd.graph.anomaly import active_detector
from nanotorch.autograd.graph.grad_mode import restore_recording, set_recording
from nanotorch.autograd.graph.gradient_edge import GradientEdge
from nanotorch.autograd.graph.hooks import (
    Pass,
    nodes_below,
    run_post_accumulate_hooks,
    run_post_hooks,
    run_prehooks,
    run_tensor_hooks,
)
from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.autograd.graph.node import HOOKED_LEAVES, AccumulateGrad, Edge, Node
from nanotorch.autograd.graph.tensor import Tensor, from_array, gradient_edge
from nanotorch.dtypes import DTYPES

Roots = Tensor | GradientEdge | Sequence[Tensor | GradientEdge]


def backward(
    tensors: Roots,
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Roots | dict[str, Tensor] | None = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``.grad`` of the leaves (only of ``inputs``, if given).

    Args:
        tensors: the tensors (or gradient edges) to differentiate.
        grad_tensors: for each the gradient to start from, of its shape; may be left out for one-element tensors.
        retain_graph: keep the saved values for another backward; defaults to ``create_graph``.
        create_graph: record the backward pass itself, so that gradients can be differentiated. A ``.grad`` then refers
            to the graph, and the graph to the leaf: a cycle, which `grad` does not make, and Python's collector frees.
        inputs: accumulate into these tensors only; those that are no leaves retain their gradient from now on.
    """
    roots = _sequence(tensors)
    start = _start(roots, grad_tensors, create_graph)
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        _run(start, keep, create_graph, {}, None)
        return
    nodes = set()
    for tensor in _wanted(inputs, "backward"):
        nodes.add(_wanted_edge(tensor)[0])
        if isinstance(tensor, Tensor):
            tensor.retain_grad()  # does nothing for leaves
    _run(start, keep, create_graph, {}, _nodes_on_the_way([edge[0] for edge, _ in start], nodes) | nodes)


def tensor_backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Roots | dict[str, Tensor] | None = None,
) -> None:
    """Compute the gradients of this tensor and add them to the ``.grad`` of the leaves.

    Args:
        gradient: the vector of the vector-Jacobian product; may be left out for a one-element tensor.
        retain_graph: keep the saved values for another backward; defaults to ``create_graph``.
        create_graph: record the backward pass, so that gradients can be differentiated.
        inputs: accumulate into these tensors only.

    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """
    backward(self, gradient, retain_graph, create_graph, inputs)


TensorMethods.backward = tensor_backward  # type: ignore[method-assign, assignment]


def grad(
    outputs: Roots,
    inputs: Roots | dict[str, Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> Any:
    """Return the gradients of ``outputs`` with respect to ``inputs``, leaving every ``.grad`` alone.

    Args:
        outputs: the tensors (or gradient edges) to differentiate.
        inputs: the tensors (or gradient edges) with respect to which to differentiate; leaves or not. For a dictionary
            the result is one too, otherwise a tuple.
        grad_outputs: for each output the gradient to start from; may be left out for one-element outputs.
        retain_graph: keep the saved values for another backward; defaults to ``create_graph``.
        create_graph: record the backward pass itself, so that gradients can be differentiated.
        only_inputs: accepted for PyTorch's sake; only True.
        allow_unused: give None for an input that does not influence the outputs instead of raising.
        is_grads_batched: not supported; only False.
        materialize_grads: give zeros instead of None for such an input.

    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> (first,) = torch.autograd.grad(x**3, x, create_graph=True)
    >>> torch.autograd.grad(first, x)
    (tensor(12.),)
    """
    if allow_unused is False and materialize_grads:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    if is_grads_batched:
        raise NotImplementedError(
            "grad() cannot run one backward pass for a batch of gradients (is_grads_batched=True), since formulas are"
            " not vectorised over them: call grad() for each with retain_graph=True, or use"
            " torch.autograd.functional.jacobian."
        )
    if not only_inputs:
        raise NotImplementedError(
            "grad() returns gradients and accumulates none (only_inputs=False): use backward() for that"
        )
    start = _start(_sequence(outputs), grad_outputs, create_graph)
    wanted = _wanted(inputs, "grad")
    edges = [_wanted_edge(tensor) for tensor in wanted]
    capture: dict[Edge, Any] = dict.fromkeys(edges)
    reachable = _nodes_on_the_way([edge[0] for edge, _ in start], {edge[0] for edge in edges})
    _run(start, create_graph if retain_graph is None else retain_graph, create_graph, capture, reachable)
    if not create_graph:
        for edge, value in capture.items():
            if value is not None:
                device = edge[0].device
                capture[edge] = from_array(device.xp.asarray(value), device)
    results = [capture[edge] for edge in edges]
    for number, (tensor, value) in enumerate(zip(wanted, results, strict=True)):
        if value is None and materialize_grads:
            if isinstance(tensor, GradientEdge):
                raise RuntimeError("materialize_grads cannot be used when the given input is a GradientEdge")
            results[number] = from_array(tensor.device.xp.zeros_like(tensor._array), tensor.device, create_graph)
        elif value is None and not allow_unused:
            shape = f" (shape {tuple(tensor.shape)})" if isinstance(tensor, Tensor) else ""
            raise RuntimeError(
                f"The differentiated Tensor at index {number}{shape} appears to not have been used in the graph. Set "
                "allow_unused=True if this is the desired behavior: its gradient is then None."
            )
    return dict(zip(inputs, results, strict=True)) if isinstance(inputs, dict) else tuple(results)


def _sequence(tensors: Roots) -> list[Tensor | GradientEdge]:
    return [tensors] if isinstance(tensors, Tensor | GradientEdge) else list(tensors)


def _wanted(inputs: Roots | dict[str, Tensor], name: str) -> list[Tensor | GradientEdge]:
    """Return the tensors whose gradients are wanted."""
    wanted = _sequence(list(inputs.values()) if isinstance(inputs, dict) else inputs)
    if not wanted:
        raise RuntimeError(f"`inputs` argument to `{name}()` cannot be empty.")
    return wanted


def _wanted_edge(tensor: Tensor | GradientEdge) -> Edge:
    """Return the edge at which a wanted gradient arrives."""
    edge = tensor.edge if isinstance(tensor, GradientEdge) else gradient_edge(tensor)
    if edge is None:
        raise RuntimeError("One of the differentiated Tensors does not require grad")
    return edge


def _root(root: Tensor | GradientEdge) -> tuple[Edge | None, tuple[int, ...] | None, Any]:
    """Return the edge of a root, its shape and its dtype; None for a shape that an edge does not know."""
    if isinstance(root, Tensor):
        return gradient_edge(root), root._array.shape, root._array.dtype
    node = root.node
    if isinstance(node, AccumulateGrad) and node.variable is not None:
        return root.edge, node.variable._array.shape, node.variable._array.dtype
    return root.edge, *(root.metadata or (node.outputs[root.output_nr] if node.outputs else (None, None)))


def _start(
    roots: list[Tensor | GradientEdge], gradients: Tensor | Sequence[Tensor | None] | None, create_graph: bool
) -> list[tuple[Edge, Any]]:
    """Pair the edge of every root with the gradient to start from."""
    given: list[Tensor | None]
    if gradients is None:
        given = [None] * len(roots)
    else:
        given = [gradients] if isinstance(gradients, Tensor) else list(gradients)
    if len(given) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(given)} gradients; give one for each (or None)")
    start: list[tuple[Edge, Any]] = []
    for number, (root, gradient) in enumerate(zip(roots, given, strict=True)):
        edge, shape, dtype = _root(root)
        if edge is None:
            raise RuntimeError(
                f"element {number} of tensors does not require grad and does not have a grad_fn: nothing that led to"
                " this tensor was recorded. Set requires_grad=True on a leaf before computing it, and compute it"
                " outside no_grad()."
            )
        device = edge[0].device
        if gradient is None:
            if shape is None or any([length != 1 for length in shape]):
                raise RuntimeError(
                    "grad can be implicitly created only for scalar outputs: this tensor has "
                    f"{'an unknown shape' if shape is None else f'shape {tuple(shape)}'}. Reduce it first (for example "
                    ".sum() or .mean()), or pass gradient=, a tensor of its shape, for the vector-Jacobian product."
                )
            # A copy that is filled is cheaper than ones_like, and on a GPU nothing is sent.
            value = device.xp.array(root._array) if isinstance(root, Tensor) else device.xp.zeros(shape, dtype)
            value.fill(1)
            start.append((edge, from_array(value, device) if create_graph else value))
            continue
        if not isinstance(gradient, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
        if shape is not None and gradient._array.shape != shape:
            raise RuntimeError(
                f"Mismatch in shape: grad_output[{number}] has a shape of {tuple(gradient.shape)} and output[{number}]"
                f" has a shape of {tuple(shape)}; they must be equal."
            )
        if gradient.device is not device:
            raise RuntimeError(
                f"grad_output[{number}] is on {gradient.device} and output[{number}] on {device}; move one with"
                " .to(device)"
            )
        if dtype is not None and gradient._array.dtype != dtype:
            gradient = gradient.to(DTYPES[dtype])
        start.append((edge, gradient if create_graph else gradient._array))
    return start


def _run(
    start: list[tuple[Edge, Any]], keep: bool, create_graph: bool, capture: dict[Edge, Any], reachable: set[Node] | None
) -> None:
    """Run the backward pass in its grad mode."""
    token = set_recording(create_graph)
    try:
        _walk(start, keep, create_graph, capture, reachable)
    finally:
        restore_recording(token)


def _walk(
    start: list[tuple[Edge, Any]], keep: bool, create_graph: bool, capture: dict[Edge, Any], reachable: set[Node] | None
) -> None:
    """Visit the pending nodes, newest first (Note [Order]), handing every gradient on to the next nodes."""
    # A leaf without hooks and gradient has nothing to wait for: in a plain pass it takes its gradient at once. (A
    # gradient that is there may be a saved value of the graph, so it is added to when all who use the leaf have run.)
    direct = not create_graph and reachable is None and not capture
    detector = active_detector()
    heap: list[int] = []
    pending: dict[int, list[Any]] = {}  # sequence number -> [node, gradient(s), owned]
    current: Pass | None = None
    # Leaves with hooks get their gradient as soon as it is complete: how many users have not run, and what they gave so
    # far.
    missing = _uses_of_hooked_leaves(start, capture, reachable) if HOOKED_LEAVES else {}
    eager: dict[int, list[Any]] = {}
    at_leaf = direct or bool(missing)
    for edge, gradient in start:
        if edge[0] in missing:
            _arrive(eager, edge, gradient, False, create_graph)
        elif _arrive(pending, edge, gradient, False, create_graph):
            heappush(heap, edge[0]._sequence)
    results: tuple[Any, ...]
    while heap:
        following = heappop(heap)
        while following:  # the newest pending node; without one, the heap knows the next
            node, gradient, owned = pending.pop(following)
            hooks = node._hooks
            if hooks is not None and (hooks.tensor or hooks.retain):
                current = current or Pass([edge[0] for edge, _ in start], reachable, capture)
                gradient, owned = run_tensor_hooks(node, hooks, gradient, create_graph, current), False
            if capture:
                _capture(capture, node, gradient, owned, create_graph)
            if reachable is not None and node not in reachable:
                break
            if isinstance(node, AccumulateGrad):
                _accumulate(node, gradient, owned, create_graph)
                break
            if hooks is not None and hooks.pre:
                gradient, owned = run_prehooks(node, hooks, gradient, create_graph), False
            if node.outputs is not None:
                gradient = _materialize(node, gradient, create_graph)
            if reachable is None:
                results = node.apply_recorded(gradient) if create_graph else node.apply(gradient)
            else:
                results = _apply_partly(node, gradient, create_graph, capture, reachable)
            if detector is not None:
                detector.check_backward(node, gradient, results)
            lent = create_graph or node.outputs is not None  # then somebody else may hold the arrays of the results
            if hooks is not None and hooks.post:
                results, lent = run_post_hooks(node, hooks, results, gradient, create_graph), True
            if not keep:
                node.release()
            following = 0
            for edge, value in zip(node.edges, results, strict=False):
                if edge is None or value is None:
                    continue
                target = edge[0]
                if reachable is not None and target not in reachable and edge not in capture:
                    continue
                fresh = not lent and value is not gradient and value.base is None
                if at_leaf and target.__class__ is AccumulateGrad:
                    if target in missing:
                        _arrive(eager, edge, value, fresh, create_graph)
                        continue
                    if direct and target._hooks is None:
                        leaf = target.reference()
                        if leaf is None or leaf._grad is None:
                            if leaf is not None:
                                leaf._accumulate(value, fresh)
                            continue
                sequence = target._sequence
                if sequence in pending or target.outputs is not None:
                    if not _arrive(pending, edge, value, fresh, create_graph):
                        continue
                else:
                    pending[sequence] = [target, value, fresh]
                if following:
                    heappush(heap, following)
                following = sequence
            if missing:
                current = current or Pass([edge[0] for edge, _ in start], reachable, capture)
                for edge in node.edges:
                    if edge is not None and edge[0] in missing:
                        missing[edge[0]] -= 1
                        if missing[edge[0]] == 0 and edge[0]._sequence in eager:
                            _visit_leaf(eager.pop(edge[0]._sequence), create_graph, capture, current)
            if following and heap:
                following = heappushpop(heap, following)
    for entry in eager.values():  # some of whose users were not reached
        _visit_leaf(entry, create_graph, capture, current or Pass([edge[0] for edge, _ in start], reachable, capture))
    if current is not None:
        current.finish()


def _apply_partly(
    node: Node, gradient: Any, create_graph: bool, capture: dict[Edge, Any], reachable: set[Node]
) -> tuple[Any, ...]:
    """Run a node for the gradients that are wanted; the others are None."""
    for unwanted in node.edges:
        if unwanted is not None and unwanted[0] not in reachable and unwanted not in capture:
            break
    else:
        return node.apply_recorded(gradient) if create_graph else node.apply(gradient)
    wanted = tuple([e if e is not None and (e[0] in reachable or e in capture) else None for e in node.edges])
    results = node.apply_recorded(gradient, wanted) if create_graph else node.apply(gradient, wanted)
    return tuple([None if edge is None else value for edge, value in zip(wanted, results, strict=False)])


def _uses_of_hooked_leaves(
    start: list[tuple[Edge, Any]], capture: dict[Edge, Any], reachable: set[Node] | None
) -> dict[Node, int]:
    """Count how often the nodes that will run use the leaves with hooks (Note [Hooks])."""
    captured = {edge[0] for edge in capture}
    uses: dict[Node, int] = {}
    for node in nodes_below([edge[0] for edge, _ in start]):
        if isinstance(node, AccumulateGrad):
            if node._hooks is not None and (reachable is None or node in reachable or node in captured):
                uses.setdefault(node, 0)
        elif reachable is None or node in reachable:
            for edge in node.edges:
                target = None if edge is None else edge[0]
                if not isinstance(target, AccumulateGrad) or target._hooks is None:
                    continue
                if reachable is None or target in reachable or target in captured:
                    uses[target] = uses.get(target, 0) + 1
    return uses


def _visit_leaf(entry: list[Any], create_graph: bool, capture: dict[Edge, Any], current: Pass) -> None:
    """Do with a hooked leaf what `_walk` does with a node."""
    node, gradient, owned = entry
    if node._hooks is not None and node._hooks.tensor:
        gradient, owned = run_tensor_hooks(node, node._hooks, gradient, create_graph, current), False
    if capture:
        _capture(capture, node, gradient, owned, create_graph)
    else:
        _accumulate(node, gradient, owned, create_graph)


def _accumulate(node: AccumulateGrad, gradient: Any, owned: bool, create_graph: bool) -> None:
    """Run an AccumulateGrad and its hooks."""
    hooks = node._hooks
    if hooks is not None and hooks.pre:
        gradient, owned = run_prehooks(node, hooks, gradient, create_graph), False
    leaf = node.reference()
    if leaf is None:
        return
    if create_graph:
        leaf._accumulate_recorded(gradient)
    else:
        leaf._accumulate(gradient, owned and hooks is None)
    if hooks is not None:
        run_post_accumulate_hooks(leaf, hooks)
        if hooks.post:
            run_post_hooks(node, hooks, (), gradient, create_graph)


def _arrive(pending: dict[int, list[Any]], edge: Edge, value: Any, fresh: bool, create_graph: bool) -> bool:
    """Add a gradient to those pending at a node; return whether the node was not pending before."""
    node, output_nr = edge
    entry = pending.get(node._sequence)
    if node.outputs is not None:
        if entry is None:
            gradients: list[Any] = [None] * len(node.outputs)
            gradients[output_nr] = value
            pending[node._sequence] = [node, gradients, False]
            return True
        before = entry[1][output_nr]
        entry[1][output_nr] = value if before is None else before + value
        return False
    if entry is None:
        pending[node._sequence] = [node, value, fresh]
        return True
    if create_graph or not entry[2]:
        entry[1] = entry[1] + value
        entry[2] = not create_graph
    else:
        entry[1] += value
    return False


def _materialize(node: Node, gradients: list[Any], create_graph: bool) -> list[Any]:
    """Replace the gradients of outputs that nobody used by zeros."""
    assert node.outputs is not None
    if not node.materialize or all([gradient is not None for gradient in gradients]):
        return gradients
    device = node.device
    filled = []
    for gradient, (shape, dtype) in zip(gradients, node.outputs, strict=True):
        if gradient is None and dtype.kind == "f":
            gradient = device.xp.zeros(shape, dtype)
            if create_graph:
                gradient = from_array(gradient, device)
        filled.append(gradient)
    return filled


def _capture(capture: dict[Edge, Any], node: Node, gradient: Any, owned: bool, create_graph: bool) -> None:
    """Keep a gradient that was asked for, as an array that nobody else holds."""
    values = [gradient] if node.outputs is None else gradient
    for number, value in enumerate(values):
        if (node, number) in capture and value is not None:
            capture[node, number] = value if owned or create_graph else node.device.xp.array(value)


def _nodes_on_the_way(roots: list[Node], targets: set[Node]) -> set[Node]:
    """Return the nodes from which a target can be reached by an edge: those that have to run."""
    useful: set[Node] = set()
    for node in sorted(nodes_below(roots), key=lambda node: node._sequence, reverse=True):  # oldest first
        if any(edge is not None and (edge[0] in useful or edge[0] in targets) for edge in node.edges):
            useful.add(node)
    return useful
