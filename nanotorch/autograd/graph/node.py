"""The graph that recording builds: nodes and leaves.

Note [Graph]
~~~~~~~~~~~~
An operation on tensors that require grad leaves a `Node` behind. Edges point from a node to the nodes that produced
its inputs, so the graph is walked from the loss towards the leaves::

    w (leaf) <--- AccumulateGrad(w) <--.
                                        MulBackward0 <--- y.grad_fn
    x (leaf) <--- AccumulateGrad(x) <--'

An edge is the pair `(node, output_nr)`; a tensor with history carries its own edge, and every consumer shares that
tuple. Ownership runs one way: tensor -> node -> edges -> older nodes. A node never holds its own output (a saved result
is held as a bare array), and an AccumulateGrad, which its leaf keeps for all graphs that will use it, refers back to
the leaf only weakly. There is no reference cycle, so a graph dies with the last tensor that needs it, without waiting
for the garbage collector.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from types import CodeType
from typing import TYPE_CHECKING, Any

from nanotorch.autograd.graph.changes import changes
from nanotorch.autograd.graph.errors import describe_line
from nanotorch.autograd.graph.saved_slot import SavedSlot
from nanotorch.autograd.graph.version import Version
from nanotorch.backend.device import Device

if TYPE_CHECKING:
    from nanotorch.autograd.graph.tensor import Tensor

Edge = tuple["Node", int]
next_sequence = itertools.count(-1, -1).__next__  # newer nodes have smaller numbers: a heap gives them first


HOOKED: dict[int, Any] = {}
"""Weak references to nodes with hooks, by sequence number: while there are none, a backward pass looks for none."""


class RemovableHandle:
    """The result of registering a hook; `remove()` takes the hook away again, also at the end of a `with`."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks = hooks
        self.id: int = next(self._ids)

    def remove(self) -> None:
        """Remove the hook; removing twice is harmless."""
        changes[0] += 1
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Hooks:
    """What runs when a gradient reaches a node (Note [Hooks]):
    per-output tensor hooks, node prehooks and node hooks.
    """

    __slots__ = ("accumulated", "metadata", "post", "pre", "retain", "tensor")

    def __init__(self) -> None:
        self.accumulated: dict[int, Callable[[Tensor], Any]] = {}
        self.metadata: dict[Any, Any] = {}
        self.retain: dict[int, Callable[[Tensor], None]] = {}
        self.tensor: dict[int, tuple[int, Callable[[Tensor], Tensor | None]]] = {}
        self.pre: dict[int, Callable[[tuple[Tensor, ...]], Any]] = {}
        self.post: dict[int, Callable[[tuple[Any, ...], tuple[Tensor, ...]], Any]] = {}

    def __bool__(self) -> bool:
        """Return whether there is a hook; what was noted in `metadata` is none."""
        return bool(self.accumulated or self.retain or self.tensor or self.pre or self.post)


class Node:
    """One recorded operation; calling it maps the gradient of its output to the gradients of its inputs.

    Attributes:
        edges: for every differentiable input the edge to its history, or None where none is needed.
        next_functions: the same as PyTorch shows it: pairs (node, output_nr), `(None, 0)` for None.
    """

    __slots__ = ("__weakref__", "_code", "_hooks", "_last_instruction", "_released", "_sequence", "device", "edges")
    _code: CodeType | None
    _hooks: Hooks | None
    _last_instruction: int
    _released: bool
    _sequence: int
    device: Device
    edges: tuple[Edge | None, ...]
    outputs: tuple[tuple[tuple[int, ...], Any], ...] | None = None
    """(shape, dtype) of every output of a node with several outputs; None: one output."""
    saved_slots: tuple[SavedSlot, ...] = ()
    """What a compiled node saves: inputs, then results."""
    materialize: bool = True
    """Whether outputs that nobody used get zeros for a gradient, or None."""

    def __init__(
        self, device: Device, edges: tuple[Edge | None, ...], code: CodeType | None = None, last_instruction: int = 0
    ) -> None:
        """Make a node that is newer than all others; code and instruction say by which line (Note [Forward lines])."""
        self.device, self.edges = device, edges
        self._code, self._last_instruction = code, last_instruction
        self._hooks, self._released = None, False
        self._sequence = next_sequence()

    def apply(self, grad: Any, wanted: tuple[Edge | None, ...] | None = None) -> tuple[Any, ...]:
        """Map raw arrays to raw arrays: the first-order backward.

        `wanted`, if given, are the edges with None in place of those whose gradients may be left out.
        """
        raise NotImplementedError

    def apply_recorded(self, grad: Any, wanted: tuple[Edge | None, ...] | None = None) -> tuple[Any, ...]:
        """Map tensors to tensors, recording: the backward under `create_graph`."""
        raise NotImplementedError

    def release(self) -> None:
        """Drop the saved values: a second backward then says so."""
        self._released = True

    def pack(self, pack: Callable[[Tensor, Edge | None, bool], Any]) -> None:
        """Replace saved tensors by what `pack(tensor, edge, is_leaf)` returns
        (Note [Packed nodes]); most save none.
        """

    def name(self) -> str:
        """Return the name of the node, such as `MulBackward0`."""
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The pairs (node, output_nr) of the inputs' histories."""
        return tuple((None, 0) if edge is None else edge for edge in self.edges)

    @property
    def forward_line(self) -> str:
        """Where the operation was called: `"file", line N, in function`."""
        return describe_line(self._code, self._last_instruction)

    def __call__(self, *grads: Any) -> tuple[Any, ...]:
        """Map the gradients of the outputs (tensors) to those of the inputs."""
        return tuple(self.apply_recorded(grads[0] if self.outputs is None else list(grads)))

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for whatever somebody wants to note about this node."""
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks.metadata

    def _sequence_nr(self) -> int:
        """Return how many nodes were made before this one."""
        return -1 - self._sequence

    def _ensure_hooks(self) -> Hooks:
        """Return the hooks of this node, for somebody who adds one."""
        hooks = Hooks() if self._hooks is None else self._hooks
        self._replace_hooks(hooks)
        return hooks

    def _replace_hooks(self, hooks: Hooks | None) -> None:
        self._hooks, number = hooks, self._sequence
        if hooks is not None and number not in HOOKED:
            HOOKED[number] = weakref.ref(self, lambda _: HOOKED.pop(number, None))

    def _add_hook(self, kind: str, hook: Any) -> RemovableHandle:
        """Put a hook among those of its kind, and return the handle that takes it away."""
        changes[0] += 1
        hooks = getattr(self._ensure_hooks(), kind)
        handle = NodeHandle(hooks, self)
        hooks[handle.id] = hook
        return handle

    def register_prehook(self, hook: Callable[[tuple[Tensor, ...]], Any]) -> RemovableHandle:
        """Call `hook(grad_outputs)` before the node runs; what it returns replaces them (Note [Hooks])."""
        return self._add_hook("pre", hook)

    def register_hook(self, hook: Callable[[tuple[Any, ...], tuple[Tensor, ...]], Any]) -> RemovableHandle:
        """Call `hook(grad_inputs, grad_outputs)` after the node ran;
        what it returns replaces grad_inputs (Note [Hooks]).
        """
        return self._add_hook("post", hook)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"


class NodeHandle(RemovableHandle):
    """The handle of a hook of a node, which is no longer among `HOOKED` when its last hook is removed."""

    def __init__(self, hooks: dict[int, Any], node: Node) -> None:
        super().__init__(hooks)
        self._node = weakref.ref(node)

    def remove(self) -> None:
        """Remove the hook; removing twice is harmless."""
        super().remove()
        node = self._node()
        if node is not None and not node._hooks:
            HOOKED.pop(node._sequence, None)


class AccumulateGrad(Node):
    """The end of every path: adds the gradient that arrives to `variable.grad`.

    It is made when a leaf is first used and takes its sequence number then, so it is older than every node that
    uses the leaf, and runs once, when all of them have run. A leaf that is gone gets no gradient.
    """

    __slots__ = ("memory", "place", "reference")
    place: Tensor | None
    """Where the first gradient is written, if not into an array of its own (Note [Flat parameters])."""
    memory: Any
    """The array of `place`, as long as nobody has replaced it by an assignment to ``.grad.data``."""

    def __init__(self, leaf: Tensor) -> None:
        super().__init__(leaf.device, ())
        self.reference: Callable[[], Tensor | None] = weakref.ref(leaf)
        self.place = self.memory = None

    @property
    def variable(self) -> Tensor | None:
        """The leaf; None if it is gone."""
        return self.reference()

    def settle(self, place: Tensor) -> None:
        """Have the first gradient written to a place, as long as the place is not given another array."""
        self.place, self.memory = place, place._array

    def is_settled(self, place: Tensor) -> bool:
        """Whether a place still has the array with which the leaf was settled."""
        return place._array is self.memory

    def release(self) -> None:
        """Keep everything: a leaf saves no values."""

    def accumulate(self, grad: Any, owned: bool) -> None:
        """Add an array to the `.grad` of the leaf, if it is still there."""
        leaf = self.reference()
        if leaf is not None:
            leaf._accumulate(grad, owned)

    def __call__(self, *grads: Any) -> tuple[Any, ...]:
        """Accumulate, and return no gradients: nothing lies further."""
        leaf = self.reference()
        if leaf is not None:
            leaf._accumulate_recorded(grads[0])
        return ()


def nodes_below(edges: Iterable[Edge | None]) -> list[Node]:
    """Return the nodes that gradients reach from these edges, in the order in which a backward pass visits them."""
    seen = {edge[0] for edge in edges if edge is not None}
    stack = list(seen)
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    return sorted(seen, key=lambda node: node._sequence)


def released_error(node: Node) -> RuntimeError:
    """Return the error of a second backward through freed values."""
    where = f" (recorded at {node.forward_line})" if node._code else ""
    return RuntimeError(
        f"Trying to backward through the graph a second time: the values saved by {node.name()}{where} were freed by "
        "the first backward. Pass retain_graph=True to the first backward() or grad() call if you need a second one, "
        "or build the graph again by running the forward pass again."
    )


def detached_error(node: Node, name: str) -> RuntimeError:
    """Return the error of a recorded backward that needs a tensor which was detached in place since."""
    recorded = f"\n  saved by {node.name()} at {node.forward_line}" if node._code else ""
    return RuntimeError(
        f"Trying to use a saved tensor that has been detached in-place, i.e. with .detach_(): '{name}' of"
        f" {node.name()}. This is not supported, please use out-of-place `.detach()` instead.{recorded}"
    )


def modified_error(node: Node, name: str, shape: Iterable[int], saved: int, cell: Version) -> RuntimeError:
    """Return the error of a backward that needs a value that an in-place operation overwrote."""
    recorded = f"\n  saved by {node.name()} at {node.forward_line}" if node._code else ""
    written = f"\n  overwritten by {cell.writer[0]} at {describe_line(*cell.writer[1:])}" if cell.writer else ""
    return RuntimeError(
        f"one of the variables needed for gradient computation has been modified by an inplace operation: '{name}' of"
        f" {node.name()}, shape {tuple(shape)}, is at version {cell.number}; expected version {saved}"
        f" instead.{recorded}{written}\n  Hint: use the out-of-place form, or write to a clone()."
    )
