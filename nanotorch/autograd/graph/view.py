"""How views follow their base, and the history of in-place writes.

Note [Views and in-place]
~~~~~~~~~~~~~~~~~~~~~~~~~
A view shares its base's memory and its base's version cell. Let `v = base[0]` and then `v.mul_(b)`: the write
changes `base` too, so `base` must get a history that contains it. It becomes a `CopySlices` node::

    before:   base --> N                        after:   base --> CopySlices --> N
              v    --> Select --> N                               |  (holds MulBackward0, and knows where the
                                                                  |   elements of v lie among those of base)
                                                                  '--> b

CopySlices' backward takes the slice out of the gradient of the base, runs the inner node on it, and puts the inner
node's gradient for the old slice back in its place; the rest passes through.

The view itself, and every other view of the base, then has a stale `grad_fn`. Nobody visits them: every write bumps
the one version cell, each view remembers the version at which its own history was derived, and when that is no longer
the present one, the history is derived anew at the next use. However long the chain of operations from base to view
was, one `as_strided` does it: a view is a `Geometry`, that is sizes and strides and a first element, over the memory
of its base. That is why PyTorch, and so we, show `AsStridedBackward0` as the `grad_fn` of a view after a write.

Some views cannot be written to while recording, and are useless after a write to their base, because a derived history
would not be what was asked for: one of several outputs of one function, a view made in `no_grad`, a view made inside
a custom Function. They carry the reason as their `refusal`.

A saved value remembers the version it was saved at, and backward refuses to use a value that was overwritten since.

A view refers to its base, so no node may refer to a view or to the base of its own history: CopySlices keeps
geometries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from nanotorch.autograd.graph.node import Edge, Node, released_error
from nanotorch.backend.strided import extent

if TYPE_CHECKING:
    from nanotorch.autograd.graph.tensor import Tensor

NO_GRAD_VIEW = (
    "Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both"
    " the view and the inplace either both inside the no_grad block (if you don't want the inplace to be tracked) or"
    " both outside (if you want the inplace to be tracked)."
)
MULTI_VIEW = (
    "This view is the output of a function that returns multiple views. Such functions do not allow the output views to"
    " be modified inplace. You should replace the inplace operation by an out-of-place one, write to a clone(), or"
    " index the tensor instead."
)
FUNCTION_VIEW = (
    "This view was created inside a custom Function (or because an input was returned as-is), whose backward the write "
    "would override, leading to incorrect gradients. You can fix this by cloning the output of the custom Function."
)


class View:
    """How a view follows its base (Note [Views and in-place]).

    Attributes:
        base: the tensor that is no view itself.
        refusal: None, or the reason why the view may not be written to while recording.
        version: the version at which the view's history was derived.
        requires_grad: what `requires_grad_()` set; without history a view otherwise requires grad if its base does.
    """

    __slots__ = ("base", "refusal", "requires_grad", "version")

    def __init__(self, base: Tensor, refusal: str | None, version: int) -> None:
        self.base, self.refusal, self.version, self.requires_grad = base, refusal, version, False


def refused(view: Tensor, indirect: bool) -> RuntimeError:
    """Return the error of writing to a view that refuses it,
    or (`indirect`) of using it after its base was written.
    """
    assert view._view is not None
    reason = view._view.refusal or ""
    hidden = reason == NO_GRAD_VIEW
    what = "A view was created in no_grad mode" if hidden else "This tensor is a view"
    if view._edge is not None:
        name = re.sub(r"Backward\d*$", "", view._edge[0].name())
        what = f"Output {view._edge[1]} of {name} is a view" + " of a view which was created in no_grad mode" * hidden
    change = "its base or another view of its base has been modified" if indirect else "is being modified"
    return RuntimeError(f"{what} and {change} inplace{' with grad mode enabled' * hidden}. {reason}")


class Geometry(NamedTuple):
    """Where the elements of a tensor lie: all numbers count elements, the offset from the start of the memory."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


def geometry(tensor: Tensor) -> Geometry:
    """Return where the elements of a tensor lie in its memory."""
    array = tensor._array
    width = array.itemsize
    return Geometry(
        array.shape, tuple([step // width for step in array.strides]), tensor.device.xp.storage_offset(array)
    )


class CopySlices(Node):
    """The history of a base tensor one of whose views was written in place (Note [Views and in-place])."""

    __slots__ = ("base", "inner", "part", "slot")

    def __init__(self, base: Tensor, base_edge: Edge | None, part: Tensor, inner: Node, slot: int = 0) -> None:
        # One of the inner node's edges belongs to the overwritten slice; its place is taken by the base's history.
        edges = (*inner.edges[:slot], base_edge, *inner.edges[slot + 1 :])
        super().__init__(base.device, edges, inner._code, inner._last_instruction)
        self.base, self.part, self.slot = geometry(base), geometry(part), slot
        self.inner: Node | None = inner

    def name(self) -> str:
        """Return `CopySlices`."""
        return "CopySlices"

    def release(self) -> None:
        """Drop the inner node, and its saved values with it unless a recorded backward still needs them."""
        self._released, self.inner = True, None

    def _whole(self, xp: Any, grad: Any) -> tuple[Any, Geometry]:
        """Copy a gradient into memory laid out as the base's; return it and where the written view lies in it."""
        size, stride, offset = self.base
        low, high = extent(size, stride)
        first, last = extent(self.part.size, self.part.stride)
        start, end = min(offset + low, self.part.offset + first), max(offset + high, self.part.offset + last)
        if end - start == grad.size:
            whole = xp.empty_strided(size, stride, grad.dtype)
        else:  # places of the memory that only the view sees, if any, have the gradient zero
            whole = xp.view_strided(xp.zeros(end - start, dtype=grad.dtype), size, stride, offset - start)
        xp.write(whole, grad)
        return whole, self.part._replace(offset=self.part.offset - start)

    def apply(self, grad: Any, wanted: Any = None) -> tuple[Any, ...]:
        """Run the inner node on the slice of the gradient and put its answer in the slice's place."""
        if self.inner is None:
            raise released_error(self)
        xp = self.device.xp
        whole, place = self._whole(xp, grad)
        part = xp.view_strided(whole, *place)
        results = list(self.inner.apply(xp.array(part)))
        old = results[self.slot]
        xp.write(part, 0 if old is None else old)
        results[self.slot] = whole
        return tuple(results)

    def apply_recorded(self, grad: Tensor, wanted: Any = None) -> tuple[Any, ...]:
        """Do the same with tensors: the write into the copy is recorded in its turn."""
        if self.inner is None:
            raise released_error(self)
        array, place = self._whole(self.device.xp, grad._array)
        whole = grad._same_device(array)
        whole.copy_(grad)
        part = whole.as_strided(*place)
        results = list(self.inner.apply_recorded(part.clone()))
        old = results[self.slot]
        if old is None:
            part.zero_()
        else:
            part.copy_(old)
        results[self.slot] = whole
        return tuple(results)
