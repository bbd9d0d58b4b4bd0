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
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush, heappushpop
from typing import Any

from nanotorch.autograd.anomaly import active_detector
from nanotorch.autograd.grad_mode import restore_recording, set_recording
from nanotorch.autograd.methods import TensorMethods
from nanotorch.autograd.node import AccumulateGrad, Edge, Hooks, Node
from nanotorch.autograd.tensor import Tensor, from_array, gradient_edge

__all__ = ["backward", "grad"]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``.grad`` of the leaves (only of ``inputs``, if given).

    Args:
        tensors: the tensors to differentiate.
        grad_tensors: for each the gradient to start from, of its shape; may be left out for one-element tensors.
        retain_graph: keep the saved values for another backward; defaults to ``create_graph``.
        create_graph: record the backward pass itself, so that gradients can be differentiated.
        inputs: accumulate into these tensors only.
    """
    roots = _sequence(tensors)
    wanted = None if inputs is None else list({id(tensor): tensor for tensor in _sequence(inputs)}.values())
    if wanted is not None and not wanted:
        raise RuntimeError("backward() got an empty list of inputs: leave it out to accumulate into every leaf")
    captured = _run(roots, _start(roots, grad_tensors, create_graph), retain_graph, create_graph, wanted)
    for tensor, value in zip(wanted or (), captured, strict=False):
        if value is None:
            continue
        if create_graph:
            tensor._accumulate_recorded(value)
        else:
            tensor._accumulate(value._array, owned=False)


def tensor_backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
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
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``outputs`` with respect to ``inputs``, leaving every ``.grad`` alone.

    Args:
        outputs: the tensors to differentiate.
        inputs: the tensors with respect to which to differentiate; leaves or not.
        grad_outputs: for each output the gradient to start from; may be left out for one-element outputs.
        retain_graph: keep the saved values for another backward; defaults to ``create_graph``.
        create_graph: record the backward pass itself, so that gradients can be differentiated.
        allow_unused: give None for an input that does not influence the outputs instead of raising.
        materialize_grads: give zeros instead of None for such an input.

    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> (first,) = torch.autograd.grad(x**3, x, create_graph=True)
    >>> torch.autograd.grad(first, x)
    (tensor(12.),)
    """
    roots, wanted = _sequence(outputs), _sequence(inputs)
    if allow_unused is False and materialize_grads:
        raise ValueError("materialize_grads=True needs allow_unused=True (or leave allow_unused out)")
    results = _run(roots, _start(roots, grad_outputs, create_graph), retain_graph, create_graph, wanted)
    for number, (tensor, value) in enumerate(zip(wanted, results, strict=True)):
        if value is None and materialize_grads:
            results[number] = tensor._same_device(tensor.device.xp.zeros_like(tensor._array))
        elif value is None and not allow_unused:
            raise RuntimeError(
                f"input {number} (shape {tuple(tensor.shape)}) appears not to have been used in the graph of the outputs. "
                "Pass allow_unused=True if this is what you want: its gradient is then None."
            )
    return tuple(results)


def _sequence(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _start(
    roots: list[Tensor], gradients: Tensor | Sequence[Tensor | None] | None, create_graph: bool
) -> list[tuple[Edge, Any]]:
    """Pair the edge of every root with the gradient to start from."""
    given: list[Tensor | None]
    if gradients is None:
        given = [None] * len(roots)
    else:
        given = [gradients] if isinstance(gradients, Tensor) else list(gradients)
    if len(given) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors but {len(given)} gradients; give one for each (or None)")
    start: list[tuple[Edge, Any]] = []
    for root, gradient in zip(roots, given, strict=True):
        edge = gradient_edge(root)
        if edge is None:
            raise RuntimeError(
                f"element {len(start)} of tensors does not require grad and does not have a grad_fn: nothing that led to "
                "this tensor was recorded. Set requires_grad=True on a leaf before computing it, and compute it outside "
                "no_grad()."
            )
        if gradient is None:
            if root._array.size != 1:
                raise RuntimeError(
                    "grad can be implicitly created only for scalar outputs: this tensor has shape "
                    f"{tuple(root.shape)}. Reduce it first (for example .sum() or .mean()), or pass gradient=, "
                    "a tensor of its shape, for the vector-Jacobian product."
                )
            value = root.device.xp.array(root._array)  # cheaper than ones_like, and on a GPU nothing is sent
            value.fill(1)
            if create_graph:
                value = root._same_device(value)
        elif not isinstance(gradient, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
        elif gradient.shape != root.shape:
            raise RuntimeError(
                f"Mismatch in shape: the gradient has shape {tuple(gradient.shape)} and the tensor has shape "
                f"{tuple(root.shape)}; they must be equal."
            )
        else:
            gradient = gradient if gradient.dtype is root.dtype else gradient.to(root.dtype)
            value = gradient if create_graph else gradient._array
        start.append((edge, value))
    return start


def _run(
    roots: list[Tensor],
    start: list[tuple[Edge, Any]],
    retain_graph: bool | None,
    create_graph: bool,
    wanted: list[Tensor] | None,
) -> list[Any]:
    """Run the backward pass; return the gradient (a tensor) of every wanted tensor."""
    keep = create_graph if retain_graph is None else retain_graph
    capture: dict[Edge, Any] = {}
    targets: list[Edge | None] = []
    reachable: set[Node] | None = None
    if wanted is not None:
        for tensor in wanted:
            if not tensor.requires_grad:
                raise RuntimeError("One of the differentiated Tensors does not require grad")
            targets.append(gradient_edge(tensor))
        capture = {edge: None for edge in targets if edge is not None}
        reachable = _nodes_on_the_way([edge[0] for edge, _ in start], {edge[0] for edge in capture})
    token = set_recording(create_graph)
    try:
        _walk(start, keep, create_graph, capture, reachable)
    finally:
        restore_recording(token)
    values = [None if edge is None else capture[edge] for edge in targets]
    if wanted is None or create_graph:
        return values
    return [None if v is None else t._same_device(t.device.xp.asarray(v)) for t, v in zip(wanted, values, strict=True)]


def _own(xp: Any, gradient: Any) -> Any:
    """Return a gradient that is about to leave the engine as an array that can be written to."""
    return xp.array(gradient) if gradient.base is not None else xp.asarray(gradient)


def _walk(
    start: list[tuple[Edge, Any]], keep: bool, create_graph: bool, capture: dict[Edge, Any], reachable: set[Node] | None
) -> None:
    """Visit the pending nodes, newest first (Note [Order]), handing every gradient on to the next nodes."""
    # A leaf without hooks and gradient has nothing to wait for: in a plain pass it takes its gradient at once. (A gradient
    # that is there may be a saved value of the graph, so it is added to when all who use the leaf have run.)
    direct = not create_graph and reachable is None and not capture
    detector = active_detector()
    heap: list[int] = []
    pending: dict[int, list[Any]] = {}  # sequence number -> [node, gradient(s), owned]
    for edge, gradient in start:
        if _arrive(pending, edge, gradient, False, create_graph):
            heappush(heap, edge[0]._sequence)
    results: tuple[Any, ...]
    while heap:
        following = heappop(heap)
        while following:  # the newest pending node; without one, the heap knows the next
            node, gradient, owned = pending.pop(following)
            hooks = node._hooks
            if hooks is not None and (hooks.tensor or hooks.retain):
                gradient, owned = _run_tensor_hooks(node, hooks, gradient, create_graph), False
            if capture:
                _capture(capture, node, gradient, owned, create_graph)
            if reachable is not None and node not in reachable:
                break
            if hooks is not None and hooks.pre:
                gradient, owned = _run_prehooks(node, hooks, gradient, create_graph), False
            if isinstance(node, AccumulateGrad):
                leaf = node.reference()
                if leaf is None:
                    break
                if create_graph:
                    leaf._accumulate_recorded(gradient)
                else:
                    leaf._accumulate(gradient, owned and hooks is None)
                if hooks is not None and hooks.post:
                    _run_post_hooks(node, hooks, (), gradient, create_graph)
                break
            if node.outputs is not None:
                gradient = _materialize(node, gradient, create_graph)
            results = node.apply_recorded(gradient) if create_graph else node.apply(gradient)
            if detector is not None:
                detector.check_backward(node, gradient, results)
            lent = create_graph or node.outputs is not None  # then somebody else may hold the arrays of the results
            if hooks is not None and hooks.post:
                results, lent = _run_post_hooks(node, hooks, results, gradient, create_graph), True
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
                if direct and target.__class__ is AccumulateGrad and target._hooks is None:
                    leaf = target.reference()
                    if leaf is None or leaf.grad is None:
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
            if following and heap:
                following = heappushpop(heap, following)


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


def _wrap(node: Node, values: Sequence[Any], create_graph: bool) -> list[Any]:
    """Make gradients tensors, as hooks see them."""
    if create_graph:
        return list(values)
    return [None if v is None else from_array(_own(node.device.xp, v), node.device) for v in values]


def _unwrap(values: Sequence[Any], create_graph: bool) -> list[Any]:
    return list(values) if create_graph else [None if v is None else v._array for v in values]


def _run_tensor_hooks(node: Node, hooks: Hooks, gradient: Any, create_graph: bool) -> Any:
    """Run the hooks of the tensors that a node made, then store the gradients of those that retain it."""
    values = _wrap(node, [gradient] if node.outputs is None else gradient, create_graph)
    for number, hook in tuple(hooks.tensor.values()):
        if values[number] is not None:
            values[number] = _replaced("a tensor hook", hook(values[number]), values[number])
    for number, keep_grad in hooks.retain.items():
        if values[number] is not None:
            keep_grad(values[number])
    values = _unwrap(values, create_graph)
    return values[0] if node.outputs is None else values


def _run_prehooks(node: Node, hooks: Hooks, gradient: Any, create_graph: bool) -> Any:
    """Run the prehooks of a node on the gradients of its outputs."""
    values = _wrap(node, [gradient] if node.outputs is None else gradient, create_graph)
    for hook in tuple(hooks.pre.values()):
        values = _all_replaced("a prehook", hook(tuple(values)), values)
    values = _unwrap(values, create_graph)
    return values[0] if node.outputs is None else values


def _run_post_hooks(node: Node, hooks: Hooks, results: tuple[Any, ...], gradient: Any, create_graph: bool) -> Any:
    """Run the hooks of a node on the gradients of its inputs (and outputs)."""
    inputs = _wrap(node, results, create_graph)
    outputs = tuple(_wrap(node, [gradient] if node.outputs is None else gradient, create_graph))
    for hook in tuple(hooks.post.values()):
        inputs = _all_replaced("a node hook", hook(tuple(inputs), outputs), inputs)
    return tuple(_unwrap(inputs, create_graph))


def _all_replaced(what: str, returned: Any, values: list[Any]) -> list[Any]:
    """Return the gradients that a node hook returned, or the old ones for None."""
    if returned is None:
        return values
    new = list(returned) if isinstance(returned, tuple | list) else [returned]
    if len(new) != len(values):
        raise RuntimeError(f"{what} must return None or as many gradients as it gets: expected {len(values)}, got {len(new)}")
    return [n if n is None or v is None else _replaced(what, n, v) for n, v in zip(new, values, strict=True)]


def _replaced(what: str, returned: Any, value: Tensor) -> Tensor:
    """Return the gradient that a hook returned, or the old one for None."""
    if returned is None:
        return value
    if not isinstance(returned, Tensor):
        raise TypeError(f"{what} must return None or a Tensor, got {type(returned).__name__}")
    if returned.shape != value.shape or returned.dtype is not value.dtype or returned.device is not value.device:
        raise RuntimeError(
            f"{what} must return a gradient like the one it gets: expected shape {tuple(value.shape)}, {value.dtype} on "
            f"{value.device}, got shape {tuple(returned.shape)}, {returned.dtype} on {returned.device}"
        )
    return returned


def _nodes_on_the_way(roots: list[Node], targets: set[Node]) -> set[Node]:
    """Return the nodes from which a target can be reached by an edge: those that have to run."""
    order: list[Node] = []
    seen = set(roots)
    stack = list(seen)
    while stack:
        node = stack.pop()
        order.append(node)
        for edge in node.edges:
            if edge is not None and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    order.sort(key=lambda node: node._sequence, reverse=True)
    useful: set[Node] = set()
    for node in order:
        if any(edge is not None and (edge[0] in useful or edge[0] in targets) for edge in node.edges):
            useful.add(node)
    return useful


