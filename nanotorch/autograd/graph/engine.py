"""What starts a backward pass: `backward` fills the `.grad` of leaves, `grad` returns gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.anomaly import active_detector
from nanotorch.autograd.graph.general_pass import GeneralPass
from nanotorch.autograd.graph.grad_mode import restore_recording, set_recording
from nanotorch.autograd.graph.gradient_edge import GradientEdge
from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.autograd.graph.node import HOOKED, AccumulateGrad, Edge, Node
from nanotorch.autograd.graph.plain_pass import Gradients, plain_pass
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
    """Add the gradients of `tensors` to the `.grad` of the leaves (only of `inputs`, if given).

    Args:
        tensors: the tensors (or gradient edges) to differentiate.
        grad_tensors: for each the gradient to start from, of its shape; may be left out for one-element tensors.
        retain_graph: keep the saved values for another backward; defaults to `create_graph`.
        create_graph: record the backward pass itself, so that gradients can be differentiated. A `.grad` then refers
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
    _run(start, keep, create_graph, {}, nodes)


def tensor_backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Roots | dict[str, Tensor] | None = None,
) -> None:
    """Compute the gradients of this tensor and add them to the `.grad` of the leaves.

    Args:
        gradient: the vector of the vector-Jacobian product; may be left out for a one-element tensor.
        retain_graph: keep the saved values for another backward; defaults to `create_graph`.
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
    """Return the gradients of `outputs` with respect to `inputs`, leaving every `.grad` alone.

    Args:
        outputs: the tensors (or gradient edges) to differentiate.
        inputs: the tensors (or gradient edges) with respect to which to differentiate; leaves or not. For a dictionary
            the result is one too, otherwise a tuple.
        grad_outputs: for each output the gradient to start from; may be left out for one-element outputs.
        retain_graph: keep the saved values for another backward; defaults to `create_graph`.
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
    _run(start, create_graph if retain_graph is None else retain_graph, create_graph, capture, set())
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
) -> Gradients:
    """Pair the edge of every root with the gradient to start from."""
    given: list[Tensor | None]
    if gradients is None:
        given = [None] * len(roots)
    else:
        given = [gradients] if isinstance(gradients, Tensor) else list(gradients)
    if len(given) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(given)} gradients; give one for each (or None)")
    start: Gradients = []
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
            device.xp.write(value, 1)
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


def _run(start: Gradients, keep: bool, create_graph: bool, capture: dict[Edge, Any], targets: set[Node] | None) -> None:
    """Run a backward pass in its grad mode: the plain one, or the general one for whatever is out of the ordinary."""
    token = set_recording(create_graph)
    try:
        detector = active_detector()
        if not (create_graph or targets is not None or detector is not None or HOOKED):
            start = plain_pass(start, keep)
        if start:
            GeneralPass(keep, create_graph, capture, targets, detector).run(start)
    finally:
        restore_recording(token)
