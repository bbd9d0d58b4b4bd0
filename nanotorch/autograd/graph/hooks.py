"""Hooks: functions that see, and may replace, the gradients of a backward pass.

Note [Hooks]
~~~~~~~~~~~~
When the gradient of a node's output is complete, this happens, in PyTorch's order; each sees what the one before it
returned::

    1. tensor hooks               register_hook of the tensors that the node made, tensor by tensor
    2. retain_grad                stores the gradient
       autograd.grad              takes it, and stops here if nothing further down is wanted
    3. node prehooks              register_prehook of grad_fn
    4. the node runs; a leaf accumulates
    5. post-accumulate hooks      of a leaf: they get the leaf, whose .grad is up to date
    6. node hooks                 register_hook of grad_fn: they see the gradients of the inputs too

Which hooks run is settled when the gradient arrives: one that is removed or added meanwhile is so from the next pass
on. The hooks of a tensor belong to the node that made it. After an in-place write a tensor has a new node: the old
hooks stay with the old one and see the gradient of the old value, while `retain_grad()`, which speaks of the tensor,
moves. A hook runs in the grad mode of the pass, which is off unless `create_graph`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from typing import Any

from nanotorch.autograd.graph.node import Edge, Hooks, Node, RemovableHandle
from nanotorch.autograd.graph.tensor import Tensor, from_array, gradient_edge


class Visits:
    """What hooks may know of the backward pass that calls them: which nodes it visits, and what they noted in it."""

    def __init__(
        self, below: Callable[[], list[Node]], running: Collection[Node] | None, captured: Iterable[Edge]
    ) -> None:
        self._below, self._running, self._captured = below, running, captured
        self.collected: dict[MultiGradHook, list[Any]] = {}  # [how many are missing, the gradients]

    @cached_property
    def nodes(self) -> set[Node]:
        """The nodes whose gradients are computed in this pass."""
        if self._running is None:
            return set(self._below())
        return {*self._running, *[edge[0] for edge in self._captured]}

    def finish(self) -> None:
        """Call the hooks that still wait for a gradient: none came, since a node on its way returned None."""
        for hook, (missing, gradients) in self.collected.items():
            if hook.wait and missing and any(gradient is not None for gradient in gradients):
                hook.function(gradients)


class _Running(threading.local):
    """What is to be called when the passes end that are under way, of the innermost one last."""

    def __init__(self) -> None:
        self.passes: list[list[Callable[[], object]]] = []


running = _Running()


def queue_callback(callback: Callable[[], object]) -> None:
    """Have something called when the backward pass ends that calls this hook: all gradients have been added then."""
    if not running.passes:
        raise RuntimeError(
            "there is no backward pass under way: a hook queues what is to be done at the end of its own"
        )
    running.passes[-1].append(callback)


def _wrap(node: Node, values: Sequence[Any], create_graph: bool) -> list[Any]:
    """Make gradients tensors, as hooks see them, with memory of their own."""
    if create_graph:
        return list(values)
    xp, device = node.device.xp, node.device
    return [
        None if v is None else from_array(xp.array(v) if v.base is not None else xp.asarray(v), device) for v in values
    ]


def _unwrap(node: Node, values: Sequence[Any], create_graph: bool) -> Any:
    """Return the gradients as the engine passes them to the node."""
    values = list(values) if create_graph else [None if v is None else v._array for v in values]
    return values[0] if node.outputs is None else values


def run_tensor_hooks(node: Node, hooks: Hooks, gradient: Any, create_graph: bool, visits: Visits) -> Any:
    """Run the hooks of the tensors that a node made, then store the gradients of those that retain it."""
    values = _wrap(node, [gradient] if node.outputs is None else gradient, create_graph)
    by_tensor: dict[int, list[Any]] = {}
    for number, hook in tuple(hooks.tensor.values()):
        by_tensor.setdefault(number, []).append(hook)
    for number, functions in by_tensor.items():
        for hook in functions:
            if isinstance(hook, MultiGradHook.Member):
                hook.whole.collect(hook.position, values[number], visits)
            else:
                values[number] = _replaced("a tensor hook", hook(values[number]), values[number])
    for number, keep_grad in tuple(hooks.retain.items()):
        if values[number] is not None:
            keep_grad(values[number])
    return _unwrap(node, values, create_graph)


def run_prehooks(node: Node, hooks: Hooks, gradient: Any, create_graph: bool) -> Any:
    """Run the prehooks of a node on the gradients of its outputs."""
    values = _wrap(node, [gradient] if node.outputs is None else gradient, create_graph)
    for hook in tuple(hooks.pre.values()):
        values = _all_replaced("a prehook", hook(tuple(values)), values)
    return _unwrap(node, values, create_graph)


def run_post_accumulate_hooks(leaf: Tensor, hooks: Hooks) -> None:
    """Run the hooks of a leaf whose gradient was just added to."""
    for hook in tuple(hooks.accumulated.values()):
        returned = hook(leaf)
        if returned is not None and not isinstance(returned, Tensor):  # a Tensor: what x.add_() in a lambda returns
            raise TypeError(f"a post-accumulate-grad hook must return None, got {type(returned).__name__}")


def run_post_hooks(
    node: Node, hooks: Hooks, results: tuple[Any, ...], gradient: Any, create_graph: bool
) -> tuple[Any, ...]:
    """Run the hooks of a node on the gradients of its inputs (and outputs)."""
    inputs = _wrap(node, results, create_graph)
    outputs = tuple(_wrap(node, [gradient] if node.outputs is None else gradient, create_graph))
    for hook in tuple(hooks.post.values()):
        inputs = _all_replaced("a node hook", hook(tuple(inputs), outputs), inputs)
    return tuple(inputs if create_graph else [None if v is None else v._array for v in inputs])


def _all_replaced(what: str, returned: Any, values: list[Any]) -> list[Any]:
    """Return the gradients that a node hook returned, or the old ones for None."""
    if returned is None:
        return values
    new = list(returned) if isinstance(returned, tuple | list) else [returned]
    if len(new) != len(values):
        raise RuntimeError(
            f"{what} has returned an incorrect number of values: expected {len(values)} (or None), got {len(new)}"
        )
    return [n if n is None or v is None else _replaced(what, n, v) for n, v in zip(new, values, strict=True)]


def _replaced(what: str, returned: Any, value: Tensor | None) -> Tensor | None:
    """Return the gradient that a hook returned, or the old one for None."""
    if returned is None:
        return value
    if not isinstance(returned, Tensor):
        raise TypeError(f"{what} must return None or a Tensor, got {type(returned).__name__}")
    if value is None:
        raise RuntimeError(
            f"{what} can't replace a None gradient with a non-None value: this output of the node was not used"
        )
    if returned.shape != value.shape or returned.dtype is not value.dtype or returned.device is not value.device:
        raise RuntimeError(
            f"{what} must return a gradient like the one it gets: expected shape {tuple(value.shape)}, {value.dtype} on"
            f" {value.device}, got shape {tuple(returned.shape)}, {returned.dtype} on {returned.device}"
        )
    return returned


class MultiGradHook:
    """A function that is called once a pass, with the gradients of several tensors.

    The nodes of the tensors hold it, so it refers to them weakly.
    """

    class Member:
        """The tensor hook that collects the gradient of one of the tensors."""

        def __init__(self, whole: MultiGradHook, position: int) -> None:
            self.whole, self.position = whole, position

    def __init__(self, function: Callable[[Any], Any], nodes: Sequence[Node], wait: bool) -> None:
        self.function, self.wait = function, wait
        self._nodes = [weakref.ref(node) for node in nodes]

    def collect(self, position: int, gradient: Tensor | None, visits: Visits) -> None:
        """Note one gradient, and call the function when it is the last
        (or, without waiting, the first) of this pass.
        """
        state = visits.collected.get(self)
        if state is None:
            state = visits.collected[self] = [
                sum([node() in visits.nodes for node in self._nodes]),
                [None] * len(self._nodes),
            ]
            if not self.wait:
                self.function(gradient)
        state[0] -= 1
        state[1][position] = gradient
        if self.wait and state[0] == 0:
            self.function(state[1])


class _Handles(RemovableHandle):
    """The handles of several hooks as one."""

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        self.handles = tuple(handles)

    def remove(self) -> None:
        """Remove all of the hooks."""
        for handle in self.handles:
            handle.remove()


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable[[Any], Any], *, mode: str = "all"
) -> RemovableHandle:
    """Call `fn` in every backward pass when the gradients of several tensors are known.

    Args:
        tensors: the tensors; those that have no part in a pass are not waited for.
        fn: with mode "all" it gets the list of the gradients, None for a tensor without one; with "any" the first one.
        mode: "all" or "any".

    >>> a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    >>> c = a * b
    >>> arrived = lambda grads: print([grad is not None for grad in grads])
    >>> handle = torch.autograd.graph.register_multi_grad_hook((a, b, c), arrived)
    >>> c.sum().backward(inputs=(a,))
    [True, False, True]
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    edges = [gradient_edge(tensor) for tensor in tensors]
    if mode == "all" and None in edges:
        raise RuntimeError(
            f"cannot register a hook on a tensor that doesn't require gradient: tensor {edges.index(None)} of the list"
        )
    known = [(tensor, edge[0]) for tensor, edge in zip(tensors, edges, strict=True) if edge is not None]
    whole = MultiGradHook(fn, [node for _, node in known], mode == "all")
    members: list[Any] = [MultiGradHook.Member(whole, number) for number in range(len(known))]
    return _Handles([tensor.register_hook(member) for member, (tensor, _) in zip(members, known, strict=True)])
