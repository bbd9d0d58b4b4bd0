"""In-place variants of view ops: they change where a tensor finds its elements, not the elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nanotorch.autograd.graph.grad_mode import is_grad_enabled
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.inplace import alias, refuse_recorded
from nanotorch.ops.rows.row import composite
from nanotorch.ops.shape import geometry
from nanotorch.ops.shape import views as shape

_classes: dict[tuple[str, type], Any] = {}


def _look_anew(name: str, node: str, target: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
    """Let a tensor see its memory as `view` of it does, and record that.

    This counts as a write: other views of the memory derive their histories anew, though their values stay.
    """
    recorded = is_grad_enabled() and target.requires_grad
    if recorded:
        refuse_recorded(name, target)
    result = view(alias(target))
    target._bump_version(name, 3)
    target._array = result._array
    if recorded and result._edge is not None:
        made = result._edge[0]
        key = node, type(made)  # that of float16 is another
        if key not in _classes:  # PyTorch numbers the in-place overloads of view ops on
            _classes[key] = type(node, (type(made),), {"__slots__": ()})
        made.__class__ = _classes[key]
        target._set_history(result._edge)
        if target._view is not None:
            target._view.version = target._version
    return target


@composite(where="method")
def transpose_(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """In-place version of `transpose`."""
    return _look_anew("transpose_", "TransposeBackward1", input, lambda x: shape.transpose(x, dim0, dim1))


@composite(where="method")
def swapaxes_(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """In-place version of `swapaxes`."""
    return _look_anew("swapaxes_", "TransposeBackward1", input, lambda x: shape.transpose(x, axis0, axis1))


@composite(where="method")
def swapdims_(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """In-place version of `swapdims`."""
    return _look_anew("swapdims_", "TransposeBackward1", input, lambda x: shape.transpose(x, dim0, dim1))


@composite(where="method")
def t_(input: Tensor) -> Tensor:
    """In-place version of `t`."""
    return _look_anew("t_", "TBackward1", input, shape.t)


@composite(where="method")
def unsqueeze_(input: Tensor, dim: int) -> Tensor:
    """In-place version of `unsqueeze`."""
    return _look_anew("unsqueeze_", "UnsqueezeBackward1", input, lambda x: shape.unsqueeze(x, dim))


@composite(where="method")
def squeeze_(input: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """In-place version of `squeeze`."""
    number = 3 if dim is None else 4 if isinstance(dim, int) else 5
    return _look_anew("squeeze_", f"SqueezeBackward{number}", input, lambda x: shape.squeeze(x, dim))


@composite(where="method")
def as_strided_(input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """In-place version of `as_strided`."""
    return _look_anew(
        "as_strided_", "AsStridedBackward1", input, lambda x: geometry.as_strided(x, size, stride, storage_offset)
    )


@composite(where="method")
def fill_diagonal_(input: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """Write one value to the main diagonal, in place; `wrap` starts it again below the square of a tall matrix."""
    array = input._array
    if array.ndim < 2 or (array.ndim > 2 and len(set(array.shape)) > 1):
        raise RuntimeError(
            "fill_diagonal_: dimensions must be 2, or more and all of one size, to have a main diagonal; got"
            f" {tuple(array.shape)}"
        )
    if wrap and array.ndim == 2 and array.shape[0] > array.shape[1] + 1:
        for start in range(0, array.shape[0], array.shape[1] + 1):
            shape.diagonal(shape.narrow(input, 0, start, array.shape[0] - start)).fill_(fill_value)
        return input
    geometry.as_strided(input, (min(array.shape),), (sum(input.stride()),)).fill_(fill_value)
    return input
