"""In-place variants: the out-of-place row on the old value, a write, and a new history (Note [Views and in-place])."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError, user_line
from nanotorch.autograd.graph.grad_mode import is_grad_enabled, no_grad
from nanotorch.autograd.graph.node import Node
from nanotorch.autograd.graph.tensor import Tensor, from_array, gradient_edge
from nanotorch.autograd.graph.view import CopySlices, geometry, refused
from nanotorch.backend.strided import extent, may_overlap
from nanotorch.ops.rows.declaration import Declaration

READ_FIRST = frozenset({"fill", "masked_fill", "index_fill", "_masked_scatter"})
"""Rows whose operands may lie anywhere in the memory that is written: PyTorch too reads them before it writes."""


def apply_inplace(
    row: Declaration, target: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = ""
) -> Tensor:
    """Run a row's in-place variant: the out-of-place op on the old value,
    then the write (Note [Views and in-place]).
    """
    if not isinstance(target, Tensor):
        raise TypeError(f"{row.name}_(): argument 'input' must be Tensor, not {type(target).__name__}")
    name = name or row.name.lstrip("_").removesuffix("_") + "_"
    if row.cast is not None:
        args = tuple([narrowed(target, o) for o in args])
        kwargs = {key: narrowed(target, o) for key, o in kwargs.items()}
    if kwargs.get("dtype") not in (None, target.dtype):
        raise RuntimeError(
            f"{name}: input tensor dtype {target.dtype} and output tensor dtype {kwargs['dtype']} should match in place"
        )
    others = [o for o in (*args, *kwargs.values()) if isinstance(o, Tensor)]
    for other in others:
        if overlaps(target, other) and row.name not in READ_FIRST and partly_overlap(target, other):
            if row.name == "_index_put" and other._array.size == 1:
                continue  # PyTorch fills where a mask holds
            raise RuntimeError(
                f"{name}: unsupported operation: some elements of the input tensor and the written-to tensor refer to a"
                " single memory location. Please clone() the tensor before performing the operation."
            )
    if not is_grad_enabled() or not (target.requires_grad or any([o.requires_grad for o in others])):
        write(name, target, row.function(target, *args, **kwargs), name in ("fill_", "zero_"))
        return target
    refuse_recorded(name, target)
    old = alias(target)
    first = row.tensors[0].name
    if any(first in names for _, names in row.formulas.values()):
        old._array, old._cell = target.device.xp.array(target._array, order="C"), None
    args = tuple([alias(o) if isinstance(o, Tensor) and overlaps(target, o) else o for o in args])
    kwargs = {key: alias(o) if isinstance(o, Tensor) and overlaps(target, o) else o for key, o in kwargs.items()}
    result = row.function(old, *args, **kwargs)
    write(name, target, result, name in ("fill_", "zero_"))
    if result._requires_grad:
        node = result._edge[0]
        node._code, node._last_instruction = user_line(sys._getframe(1))
        rebase_history(target, node)
        for slot in node.saved_slots:
            if slot.name == "result" and slot.of(node) is result._array:  # not so where a hook packed it
                slot.replace_result(node, target._array, target._version_cell())
    return target


def narrowed(target: Tensor, operand: Any) -> Any:
    """Cast a wider floating operand to the dtype of the tensor that is written."""
    if (
        not isinstance(operand, Tensor)
        or operand.dtype is target.dtype
        or (target._array.ndim and not operand._array.ndim)
    ):
        return operand
    if operand.is_floating_point() and target.is_floating_point():
        return operand.to(target.dtype)
    return operand


def partly_overlap(target: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of one memory surely share some places, but not each element the other's.

    Like PyTorch, this answers for tensors without gaps: where there are gaps it would be too hard to tell.
    """
    if other is target or 0 in target._array.shape or 0 in other._array.shape:
        return False
    ranges = []
    for tensor in (target, other):
        size, stride, offset = geometry(tensor)
        low, high = extent(size, stride)
        if high - low != tensor._array.size or may_overlap(size, stride):
            return False
        ranges.append((offset + low, offset + high))
    (start, end), (first, last) = ranges
    if (start, end) == (first, last):
        layouts = [
            [(s, n) for s, n in zip(t._array.strides, t._array.shape, strict=True) if n > 1] for t in (target, other)
        ]
        return layouts[0] != layouts[1]
    return start < last and first < end


def overlaps(target: Tensor, operand: Tensor) -> bool:
    """Return whether an operand sees the memory of the tensor that is written."""
    return operand is target or (operand._cell is not None and operand._cell is target._cell)


def alias(tensor: Tensor) -> Tensor:
    """Return a tensor of the same memory, version and place in the graph, which a node may save.

    The node of a write becomes the history of the tensor that is written: holding that tensor, or a view of it, would
    close a cycle.
    """
    edge = gradient_edge(tensor)  # brings a view up to date
    result = from_array(tensor._array, tensor.device, edge is not None)
    result._edge, result._cell = edge, tensor._version_cell()
    return result


def check_writable(name: str, target: Tensor) -> None:
    """Raise if a write to this tensor would be recorded and may not be, or if its elements share places."""
    refuse_repeated(name, target._array)
    if is_grad_enabled() and target.requires_grad:
        refuse_recorded(name, target)


def refuse_recorded(name: str, target: Tensor) -> None:
    """Raise if a write that is recorded goes to a view
    that refuses it or to the memory of a leaf that requires grad.
    """
    view, base = target._view, target
    if view is not None:
        if view.refusal is not None:
            raise refused(target, False)
        target._refresh()
        base = view.base
    if target._requires_grad and base._edge is None:
        what = "a leaf Variable" if base is target else "a view of a leaf Variable"
        raise RuntimeError(
            f"{name}: {what} that requires grad is being used in an in-place operation. Write inside torch.no_grad(), "
            "or to a clone() if the write should be differentiated."
        )


def write(name: str, target: Tensor, result: Tensor, repeated: bool = False) -> None:
    """Copy a result into a tensor's memory and bump the version; `repeated`: elements may share a place."""
    array, source = target._array, result._array
    if array.shape != source.shape:
        raise ShapeError(
            f"{name}: output with shape {list(array.shape)} doesn't match the broadcast shape {list(source.shape)}; "
            "the tensor written to cannot grow"
        )
    if result.dtype.category > target.dtype.category:
        raise RuntimeError(
            f"{name}: result type {result.dtype} can't be cast to the desired output type {target.dtype}"
        )
    if not repeated:
        refuse_repeated(name, array)
    target._bump_version(name)  # first: an inference tensor refuses
    target.device.xp.copyto(array, source, casting="unsafe")


def write_out(name: str, function: Callable[..., Any], out: Any, arguments: dict[str, Any]) -> Any:
    """Write what a function returns to the tensor, or the tensors, that were given as `out=`, and return them.

    An empty tensor is given the shape of the result. Nothing is recorded: with gradients in play it raises, as PyTorch
    does.
    """
    targets = tuple(out) if isinstance(out, tuple | list) else (out,)
    for target in targets:
        if not isinstance(target, Tensor):
            raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(target).__name__}")
    operands = [o for value in arguments.values() for o in (value if isinstance(value, tuple | list) else (value,))]
    if is_grad_enabled() and any([o.requires_grad for o in (*targets, *operands) if isinstance(o, Tensor)]):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the"
            " arguments requires grad."
        )
    with no_grad():
        result = function(**arguments)
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(targets):
        raise TypeError(f"{name}(): argument 'out' must be a tuple of {len(results)} Tensors, not of {len(targets)}")
    for target, values in zip(targets, results, strict=True):
        if target.device is not values.device:
            raise RuntimeError(
                f"{name}(): expected 'out' on {values.device}, where the result is, but found it on {target.device}"
            )
        if target._array.size == 0 and target.shape != values.shape:
            target._array = target.device.xp.empty(values._array.shape, dtype=target._array.dtype)
        write(name, target, values)
    return type(result)(*targets) if hasattr(result, "_fields") else out


def refuse_repeated(name: str, array: Any) -> None:
    """Raise if elements of an array, expanded or of windows that overlap, share places."""
    if array.base is not None and not array.flags.forc and may_overlap(array.shape, array.strides):
        raise RuntimeError(
            f"{name}: unsupported operation: more than one element of the written-to tensor refers to a single memory "
            "location. Please clone() the tensor before performing the operation."
        )


def rebase_history(target: Tensor, node: Node) -> None:
    """Make `node`, whose first input is the tensor's old value, the tensor's history."""
    if target._view is None:
        target._set_history((node, 0))
        return
    base = target._view.base
    base._set_history((CopySlices(base, gradient_edge(base), target, node), 0))
