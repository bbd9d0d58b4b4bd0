"""The graph that recording builds: nodes, leaves, saved values and the history of in-place writes.

Note [Graph]
~~~~~~~~~~~~
An operation on tensors that require grad leaves a `Node` behind. Edges point from a node to the nodes that produced
its inputs, so the graph is walked from the loss towards the leaves::

    w (leaf) <--- AccumulateGrad(w) <--.
                                        MulBackward0 <--- y.grad_fn
    x (leaf) <--- AccumulateGrad(x) <--'

An edge is the pair ``(node, output_nr)``; a tensor with history carries its own edge, and every consumer shares that
tuple. Ownership runs one way: tensor -> node -> edges -> older nodes. A node never holds its own output (a saved result
is held as a bare array), and an AccumulateGrad, which its leaf keeps for all graphs that will use it, refers back to the
leaf only weakly. There is no reference cycle, so a graph dies with the last tensor that needs it, without waiting for
the garbage collector.

Note [Views and in-place]
~~~~~~~~~~~~~~~~~~~~~~~~~
A view shares its base's memory and its base's version cell. Let ``v = base[0]`` and then ``v.mul_(b)``: the write
changes ``base`` too, so ``base`` must get a history that contains it. It becomes a `CopySlices` node::

    before:   base --> N                        after:   base --> CopySlices --> N
              v    --> Select --> N                               |  (holds MulBackward0, and knows how to
                                                                  |   find the slice of v in any array)
                                                                  '--> b

CopySlices' backward takes the slice out of the gradient of the base, runs the inner node on it, and puts the inner
node's gradient for the old slice back in its place; the rest passes through. The view itself, and every other view
of the base, then has a stale ``grad_fn``. Nobody visits them: each view remembers the edge its base had when its own
history was derived, and when that is no longer the base's edge it is *replayed*: the chain of view operations from
base to view runs once more and its ``grad_fn`` is adopted. Every write bumps the one version cell, and a saved value
remembers the version it was saved at: backward refuses to use a value that was overwritten since.

A view refers to its base, so no node may refer to a view or to the base of its own history: CopySlices keeps only the
`Steps` from base to view.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from types import CodeType
from typing import TYPE_CHECKING, Any

from nanotorch.autograd.errors import describe_line
from nanotorch.backend.device import Device

if TYPE_CHECKING:
    from nanotorch.autograd.tensor import Tensor

__all__ = ["AccumulateGrad", "CopySlices", "Node", "RemovableHandle", "Version", "View", "record_view", "replay"]

Edge = tuple["Node", int]
Steps = tuple[Any, Any, tuple[Any, ...]]
"""The view operations from a base to a view, as a linked list from the last one: (earlier steps or None, row, arguments)."""

NO_GRAD_VIEW = (
    "A view was created in no_grad mode and is being modified inplace with grad mode enabled. Its history was not "
    "recorded: create the view outside no_grad(), or stay inside."
)
MULTI_VIEW = (
    "Output of {} is a view and is being modified inplace. This view is the output of a function that returns multiple "
    "views. Such functions do not allow the output views to be modified inplace: write to a clone(), or index the tensor."
)
FUNCTION_VIEW = (
    "Output {} of {} is a view and is being modified inplace. It was made inside a custom Function (or is an input that "
    "forward returned as it is), whose backward the write would have to override: return a clone() from forward instead."
)
next_sequence = itertools.count(-1, -1).__next__  # newer nodes have smaller numbers: a heap gives them first


class Version:
    """The version of a storage, shared by all tensors that see its memory.

    A tensor gets a cell only when something needs one (a view, a write, a saved result): no cell means version 0.
    """

    __slots__ = ("number", "writer")
    writer: tuple[str, CodeType, int] | None
    """The last write: its name, and the code object and instruction that called it."""

    def __init__(self) -> None:
        self.number = 0
        self.writer = None


class View:
    """How a view follows from its base (Note [Views and in-place]).

    ``steps`` are the view operations from base to view; None: the view cannot be replayed. ``refusal`` is None, or the
    reason why a recorded in-place write to this view is an error. The view's history was derived when the base's edge
    was ``derived_from`` and its version was ``version``.
    """

    __slots__ = ("base", "derived_from", "refusal", "steps", "version")

    def __init__(self, base: Tensor, steps: Steps | None, refusal: str | None) -> None:
        self.base = base
        self.steps = steps
        self.refusal = refusal
        self.derived_from = base._edge
        self.version = base._version

    def stale_error(self) -> RuntimeError:
        """Return the error of using a view that cannot be replayed after its base was written."""
        changed = "and its base or another view of its base has been modified inplace"
        return RuntimeError((self.refusal or "").replace("and is being modified inplace", changed))


def replay(steps: Steps | None, value: Any, apply: Callable[..., Any]) -> Any:
    """Run view operations on ``value``, a tensor or an array, through ``apply(row, value, arguments)``."""
    chain = []
    while steps is not None:
        chain.append(steps)
        steps = steps[0]
    for _, row, arguments in reversed(chain):
        value = apply(row, value, arguments)
    return value


def record_view(row: Any, value: Tensor, arguments: tuple[Any, ...]) -> Tensor:
    """Apply one view operation to a tensor: the ``apply`` of `replay` that records."""
    return row.function(value, *arguments)


class RemovableHandle:
    """The result of registering a hook; ``remove()`` takes the hook away again, also at the end of a ``with``."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks = hooks
        self.id = next(self._ids)

    def remove(self) -> None:
        """Remove the hook; removing twice is harmless."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Hooks:
    """What runs when a gradient reaches a node: per-output tensor hooks, node prehooks and node hooks."""

    __slots__ = ("post", "pre", "retain", "tensor")

    def __init__(self) -> None:
        self.retain: dict[int, Callable[[Tensor], None]] = {}
        self.tensor: dict[int, tuple[int, Callable[[Tensor], Tensor | None]]] = {}
        self.pre: dict[int, Callable[[tuple[Tensor, ...]], Any]] = {}
        self.post: dict[int, Callable[[tuple[Any, ...], tuple[Tensor, ...]], Any]] = {}


class Node:
    """One recorded operation; calling it maps the gradient of its output to the gradients of its inputs.

    Attributes:
        edges: for every differentiable input the edge to its history, or None where none is needed.
        next_functions: the same as PyTorch shows it: pairs (node, output_nr), ``(None, 0)`` for None.
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
    saved_slots: tuple[str, ...] = ()
    """The slots of a compiled node that hold saved inputs (``s_<name>``) and results (``r_<name>``)."""
    materialize: bool = True
    """Whether outputs that nobody used get zeros for a gradient, or None."""

    def apply(self, grad: Any) -> tuple[Any, ...]:
        """Map raw arrays to raw arrays: the first-order backward."""
        raise NotImplementedError

    def apply_recorded(self, grad: Any) -> tuple[Any, ...]:
        """Map tensors to tensors, recording: the backward under ``create_graph``."""
        raise NotImplementedError

    def release(self) -> None:
        """Drop the saved values: a second backward then says so."""
        self._released = True

    def pack(self, pack: Callable[[Tensor, Edge | None, bool], Any]) -> None:
        """Replace saved tensors by what ``pack(tensor, edge, is_leaf)`` returns (Note [Packed nodes]); most save none."""

    def name(self) -> str:
        """Return the name of the node, such as ``MulBackward0``."""
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The pairs (node, output_nr) of the inputs' histories."""
        return tuple((None, 0) if edge is None else edge for edge in self.edges)

    @property
    def forward_line(self) -> str:
        """Where the operation was called: ``"file", line N, in function``."""
        return describe_line(self._code, self._last_instruction)

    def __call__(self, *grads: Any) -> tuple[Any, ...]:
        """Map the gradients of the outputs (tensors) to those of the inputs."""
        return tuple(self.apply_recorded(grads[0] if self.outputs is None else list(grads)))

    def _ensure_hooks(self) -> Hooks:
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    def register_prehook(self, hook: Callable[[tuple[Tensor, ...]], Any]) -> RemovableHandle:
        """Call ``hook(grad_outputs)`` before the node runs; what it returns replaces them."""
        return _add_hook(self._ensure_hooks().pre, hook)

    def register_hook(self, hook: Callable[[tuple[Any, ...], tuple[Tensor, ...]], Any]) -> RemovableHandle:
        """Call ``hook(grad_inputs, grad_outputs)`` after the node ran; what it returns replaces grad_inputs."""
        return _add_hook(self._ensure_hooks().post, hook)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"


def _add_hook(hooks: dict[int, Any], hook: Any) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


class AccumulateGrad(Node):
    """The end of every path: adds the gradient that arrives to ``variable.grad``.

    It is made when a leaf is first used and takes its sequence number then, so it is older than every node that
    uses the leaf, and runs once, when all of them have run. A leaf that is gone gets no gradient.
    """

    __slots__ = ("reference",)
    edges = ()
    _code, _last_instruction, _released = None, 0, False

    reference: Callable[[], Tensor | None]

    @property
    def variable(self) -> Tensor | None:
        """The leaf; None if it is gone."""
        return self.reference()

    def release(self) -> None:
        """Keep everything: a leaf saves no values."""

    def __call__(self, *grads: Any) -> tuple[Any, ...]:
        """Accumulate, and return no gradients: nothing lies further."""
        leaf = self.reference()
        if leaf is not None:
            leaf._accumulate_recorded(grads[0])
        return ()


class CopySlices(Node):
    """The history of a base tensor one of whose views was written in place (Note [Views and in-place])."""

    __slots__ = ("inner", "slot", "steps", "strides")

    def __init__(self, base: Tensor, base_edge: Edge | None, steps: Steps, inner: Node, slot: int = 0) -> None:
        self.steps, self.slot = steps, slot
        self.inner: Node | None = inner
        self.strides, self.device = base._array.strides, base.device
        # One of the inner node's edges belongs to the overwritten slice; its place is taken by the base's history.
        self.edges = (*inner.edges[:slot], base_edge, *inner.edges[slot + 1 :])
        self._sequence = next_sequence()
        self._hooks, self._released = None, False
        self._code, self._last_instruction = inner._code, inner._last_instruction

    def name(self) -> str:
        """Return ``CopySlices``."""
        return "CopySlices"

    def release(self) -> None:
        """Drop the inner node, and its saved values with it unless a recorded backward still needs them."""
        self._released, self.inner = True, None

    def _whole(self, xp: Any, grad: Any) -> Any:
        """Copy a gradient into the memory order of the base, so that the view operations give views of the copy."""
        order = sorted(range(grad.ndim), key=lambda axis: -abs(self.strides[axis]))
        inverse = [order.index(axis) for axis in range(grad.ndim)]
        return xp.transpose(xp.array(xp.transpose(grad, order), order="C"), inverse)

    def apply(self, grad: Any) -> tuple[Any, ...]:
        """Run the inner node on the slice of the gradient and put its answer in the slice's place."""
        if self.inner is None:
            raise released_error(self)
        xp = self.device.xp
        whole = self._whole(xp, grad)
        part = replay(self.steps, whole, lambda row, value, arguments: row.forward(xp, value, *arguments))
        results = list(self.inner.apply(xp.array(part)))
        old = results[self.slot]
        part[...] = 0 if old is None else old
        results[self.slot] = whole
        return tuple(results)

    def apply_recorded(self, grad: Tensor) -> tuple[Any, ...]:
        """Do the same with tensors: the write into the copy is recorded in its turn."""
        if self.inner is None:
            raise released_error(self)
        whole = grad._same_device(self._whole(self.device.xp, grad._array))
        whole.copy_(grad)
        part = replay(self.steps, whole, record_view)
        results = list(self.inner.apply_recorded(part.clone()))
        old = results[self.slot]
        if old is None:
            part.zero_()
        else:
            part.copy_(old)
        results[self.slot] = whole
        return tuple(results)


def released_error(node: Node) -> RuntimeError:
    """Return the error of a second backward through freed values."""
    where = f" (recorded at {node.forward_line})" if node._code else ""
    return RuntimeError(
        f"Trying to backward through the graph a second time: the values saved by {node.name()}{where} were freed by "
        "the first backward. Pass retain_graph=True to the first backward() or grad() call if you need a second one, "
        "or build the graph again by running the forward pass again."
    )


def modified_error(node: Node, name: str, shape: Iterable[int], saved: int, cell: Version) -> RuntimeError:
    """Return the error of a backward that needs a value that an in-place operation overwrote."""
    recorded = f"\n  saved by {node.name()} at {node.forward_line}" if node._code else ""
    written = f"\n  overwritten by {cell.writer[0]} at {describe_line(*cell.writer[1:])}" if cell.writer else ""
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"'{name}' of {node.name()}, shape {tuple(shape)}, is at version {cell.number}; expected version {saved} instead."
        f"{recorded}{written}\n  Hint: use the out-of-place form, or write to a clone()."
    )
