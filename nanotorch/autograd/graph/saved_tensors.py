"""Hooks on what nodes save for backward: keep it elsewhere, smaller, or compute it anew.

Note [Packed nodes]
~~~~~~~~~~~~~~~~~~~
A compiled node keeps inputs and results in slots, which its `apply` reads without further question. While
`saved_tensors_hooks` is active, every new node is handed over when it is complete (Note [Grad mode]): each saved value
is replaced by a `Packed` one, and the node's class by a subclass whose `apply` puts the values back first. A node
that was recorded without hooks knows nothing of all this. What is unpacked is not checked for versions: hooks may have
copied it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

import numpy as np

from nanotorch.autograd.graph.grad_mode import no_grad, observe_nodes
from nanotorch.autograd.graph.node import Edge, Node, modified_error, released_error
from nanotorch.autograd.graph.saved_slot import SavedSlot
from nanotorch.autograd.graph.tensor import Tensor, from_array, gradient_edge
from nanotorch.autograd.graph.version import Version
from nanotorch.backend.device import CPU

Pack = Callable[[Tensor, Edge | None, bool], "Packed"]

_innermost: ContextVar[saved_tensors_hooks | None] = ContextVar("saved_tensors_hooks", default=None)
_refusal: ContextVar[str | None] = ContextVar("disable_saved_tensors_hooks", default=None)


class Packed:
    """What a pack hook made of a saved tensor, and the tensor's place in the graph."""

    __slots__ = ("edge", "is_leaf", "unpack_hook", "value")

    def __init__(self, hooks: saved_tensors_hooks, tensor: Tensor, edge: Edge | None, is_leaf: bool) -> None:
        self.edge, self.is_leaf, self.unpack_hook = edge, is_leaf, hooks.unpack_hook
        bare = tensor.detach()
        version = bare._version
        with no_grad():
            self.value = hooks.pack_hook(bare)
        if bare._version != version:
            raise RuntimeError(
                "A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook can"
                " not be modified by in-place operations as this can lead to unexpected side-effects: write to a"
                " clone()."
            )

    def unpack(self) -> Tensor:
        """Return the saved tensor, at its old place in the graph."""
        with no_grad():
            tensor = self.unpack_hook(self.value)
        if not isinstance(tensor, Tensor):
            raise TypeError(
                "Output of saved tensor unpack_hook expected to be a Tensor but got result of type"
                f" {type(tensor).__name__}"
            )
        result = from_array(tensor._array, tensor.device, self.edge is not None)
        if self.is_leaf:
            result._leaf = self.edge
        else:
            result._edge = self.edge
        return result


class saved_tensors_hooks:
    """Give every tensor that is saved for backward to `pack_hook`,
    and back through `unpack_hook` when it is needed.

    The innermost hooks apply. See Note [Packed nodes].

    Args:
        pack_hook: gets a detached tensor when it is saved, and may return anything.
        unpack_hook: gets what `pack_hook` returned, for every backward that needs the value, and must return a tensor
            of the same values.

    Keep half of the memory, and half of the digits:

    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> with torch.autograd.graph.saved_tensors_hooks(lambda t: t.half(), lambda t: t.float()):
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 4.])
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook
        self._entered: list[tuple[Token[Any], observe_nodes]] = []

    def __enter__(self) -> None:
        refusal = _refusal.get()
        if refusal is not None:
            raise RuntimeError(refusal)
        observing = observe_nodes(self._pack)  # made here: kept, it would refer to us and we to it
        self._entered.append((_innermost.set(self), observing))
        observing.__enter__()

    def __exit__(self, *exception: object) -> None:
        token, observing = self._entered.pop()
        observing.__exit__(*exception)
        _innermost.reset(token)

    def _pack(self, node: Node) -> None:
        if _innermost.get() is self:
            node.pack(lambda tensor, edge, is_leaf: Packed(self, tensor, edge, is_leaf))


class save_on_cpu(saved_tensors_hooks):
    """Keep what is saved for backward in the host's memory, and copy it back to its device when it is needed.

    Args:
        pin_memory: accepted for PyTorch's sake; the copies do not use page-locked memory.
    """

    def __init__(self, pin_memory: bool = False) -> None:
        super().__init__(lambda tensor: (tensor.device, tensor.to(CPU)), lambda packed: packed[1].to(packed[0]))


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Refuse `saved_tensors_hooks` inside the `with` block, with the given message."""
    token = _refusal.set(error_message)
    try:
        yield
    finally:
        _refusal.reset(token)


def packed(tensor: Tensor) -> Packed | None:
    """Return what the hooks that are active make of a tensor, as if a node saved it; None without hooks."""
    hooks = _innermost.get()
    return None if hooks is None else Packed(hooks, tensor, gradient_edge(tensor), tensor._edge is None)


def pack_slots(node: Node, pack: Pack) -> None:
    """Replace what a compiled node saves by packed values, and its class by one that unpacks them."""
    for slot in node.saved_slots:
        value = slot.of(node)
        if slot.kind == "result":
            if value is not None and not isinstance(value, int | float | np.generic):
                slot.replace_result(node, pack(from_array(value, node.device), None, True), Version())
        elif isinstance(value, tuple):
            slot.replace(node, tuple([_packed_input(tensor, pack) for tensor in value]))
        else:
            slot.replace(node, _packed_input(value, pack))
    node.__class__ = _packed_class(type(node))


def _packed_input(value: Any, pack: Pack) -> Any:
    if not isinstance(value, Tensor):
        return value
    edge = gradient_edge(value)
    return pack(value, edge, value._edge is None)


def _unpacked(slot: SavedSlot, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple([_unpacked(slot, v) for v in value])
    if not isinstance(value, Packed):
        return value
    tensor = value.unpack()
    return tensor._array if slot.kind == "result" else tensor


_classes: dict[type[Node], type[Node]] = {}


def _packed_class(cls: type[Node]) -> type[Node]:
    """Return the subclass of a node class that unpacks what was saved while it runs (Note [Packed nodes])."""
    if cls in _classes:
        return _classes[cls]

    def unpacking(name: str) -> Callable[..., tuple[Any, ...]]:
        def apply(node: Node, grad: Any, wanted: tuple[Edge | None, ...] | None = None) -> tuple[Any, ...]:
            held = {slot: slot.of(node) for slot in node.saved_slots}
            if not node._released:
                for slot, value in held.items():
                    slot.replace(node, _unpacked(slot, value))
            try:
                return getattr(cls, name)(node, grad, wanted)
            finally:
                for slot, value in held.items():
                    slot.replace(node, value)

        return apply

    body = {"__slots__": (), "apply": unpacking("apply"), "apply_recorded": unpacking("apply_recorded")}
    packed = _classes[cls] = type(cls.__name__, (cls,), body)
    _classes[packed] = packed
    return packed


def saved_property(slot: SavedSlot) -> property:
    """Return the attribute that shows what a compiled node holds in a slot:
    PyTorch's `grad_fn._saved_self` and the like.
    """

    def tensor_of(node: Node, value: Any, version: int) -> Any:
        if isinstance(value, Packed):
            return value.unpack()
        if not isinstance(value, Tensor):
            return value
        if value._version != version:
            raise modified_error(node, slot.name, value.shape, version, value._version_cell())
        return value

    def saved(node: Node) -> Any:
        value = slot.of(node)
        if slot.kind == "argument":
            return value
        if node._released:
            raise released_error(node)
        if isinstance(value, tuple):
            return tuple([tensor_of(node, v, w) for v, w in zip(value, getattr(node, slot.version), strict=True)])
        if slot.kind == "input" or isinstance(value, Packed):
            return tensor_of(node, value, getattr(node, slot.version, 0))
        return None if value is None else from_array(node.device.xp.asarray(value), node.device)

    return property(saved, doc=f"What the node saved of {slot.name!r}.")
