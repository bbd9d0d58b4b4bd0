"""Padding: elements added around a tensor, or taken away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.runtime import need_number
from nanotorch.ops.rows.sample import edge, real, sample
from nanotorch.ops.rows.tensors import TENSOR
from nanotorch.ops.shape.join import cat
from nanotorch.ops.shape.rearrange import flip


def _meeting(lengths: Sequence[int], pairs: Sequence[tuple[int, int]]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return which part of the input is kept, and where it lies in the output."""
    kept = tuple(slice(max(0, -before), n - max(0, -after)) for n, (before, after) in zip(lengths, pairs, strict=True))
    placed = tuple(
        slice(max(0, before), n + before + after - max(0, after))
        for n, (before, after) in zip(lengths, pairs, strict=True)
    )
    return kept, placed


def _constant_pad_self(xp: Any, grad: Any, self_shape: Any, pairs: Any) -> Any:
    kept, placed = _meeting(self_shape, pairs)
    inner = grad[placed]
    return inner if tuple(inner.shape) == tuple(self_shape) else xp.scatter_to_zeros(inner, self_shape, kept)


@op(self=_constant_pad_self, where="internal", node="ConstantPadNdBackward0")
def _constant_pad(xp: Any, self: Array, pairs: Any, value: Any) -> Array:
    """The input with `pairs[d] = (before, after)` elements of one value added along dimension d."""
    kept, placed = _meeting(self.shape, pairs)
    shape = tuple(n + before + after for n, (before, after) in zip(self.shape, pairs, strict=True))
    if value and self.dtype.kind in "iu":
        value = dtypes.wrapped("constant_pad", value, dtypes.from_numpy_dtype(self.dtype))
    return xp.framed(self[kept], shape, placed, value or 0)


@op(self=lambda grad, self_shape: grad[tuple(slice(n) for n in self_shape)], where="internal", node="PadBackward0")
def _pad_to(xp: Any, self: Array, size: Any) -> Any:
    """Zeros with the tensor in the first corner."""
    return xp.pad_to(self, size)


@TENSOR.define("pad_to")
def _in_corner(x: Tensor, shape: Sequence[int]) -> Tensor:
    return _pad_to(x, tuple(shape))


def _part(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    return x[(slice(None),) * dim + (slice(start, start + length),)]


def _reflected(part: Tensor, dim: int, before: int, after: int) -> list[Tensor]:
    n = part.shape[dim]
    return [flip(_part(part, dim, 1, before), (dim,)), part, flip(_part(part, dim, n - 1 - after, after), (dim,))]


def _repeated(part: Tensor, dim: int, before: int, after: int) -> list[Tensor]:
    def edge_of(start: int, count: int) -> Tensor:
        return _part(part, dim, start, 1).expand([count if d == dim else -1 for d in range(part.ndim)])

    return [edge_of(0, before), part, edge_of(part.shape[dim] - 1, after)]


def _wrapped(part: Tensor, dim: int, before: int, after: int) -> list[Tensor]:
    return [_part(part, dim, part.shape[dim] - before, before), part, _part(part, dim, 0, after)]


MODES: dict[str, Callable[[Tensor, int, int, int], list[Tensor]]] = {
    "reflect": _reflected,
    "replicate": _repeated,
    "circular": _wrapped,
}


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(2, 3), (1, 2)),
        sample(real(2, 3), (1, 0, 0, 2), value=1.5),
        sample(real(2, 4), (-1, 2), value=-2.0),
        sample(real(3, 4), [-1, -1, 1, -1]),
        sample(real(0, 3), (1, 1)),
        sample(real(2, 3, 1), (0, 0, 2, 1, 1, 1)),
        sample(real(2, 3, 4), (2, 3), "reflect"),
        sample(real(2, 3, 4, 5), (2, 3, 1, 0), mode="reflect"),
        sample(real(3, 4), (1, 2), mode="reflect"),
        sample(real(2, 3, 4), (2, 5), mode="replicate"),
        sample(real(2, 3, 1, 5), (2, 3, 1, 0), mode="replicate"),
        sample(real(2, 2, 3, 2, 3), (1, 1, 1, 1, 2, 0), mode="replicate"),
        sample(real(2, 3, 4), (2, 4), mode="circular"),
        sample(real(2, 3, 4, 5), (2, 3, 1, 0), mode="circular"),
        sample(real(2, 5), (3, -1), mode="circular"),
        sample(real(2, 5), (-1, 3), mode="replicate"),
        sample(edge([[1.0, float("nan"), float("inf")]]), (1, 1), value=float("-inf")),
        sample(edge([[1.0, float("nan"), float("inf")]]), (2, 2), "reflect"),
    ],
)
def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Add elements before and after the last dimensions; negative numbers take elements away.

    Args:
        input: any shape; (C, ...) or (N, C, ...) in the modes other than "constant".
        pad: how many elements (before, after) the last dimension, then the one before it, and so on.
        mode: "constant"; "reflect", "replicate" and "circular" continue the input as mirrored at its edge element, with
            its edge element, or from its other end.
        value: what "constant" adds, 0 by default.

    >>> torch.nn.functional.pad(torch.tensor([[1, 2, 3]]), (2, 1), mode="circular")
    tensor([[2, 3, 1, 2, 3, 1]])
    """
    count, odd = divmod(len(pad), 2)
    if odd:
        raise RuntimeError(
            f"pad: Padding length must be divisible by 2, got pad={tuple(pad)}: (before, after) for every dimension"
        )
    if count > input.ndim:
        raise RuntimeError(
            "pad: Padding length should be less than or equal to two times the input dimension but got padding length"
            f" {len(pad)} and input of dimension {input.ndim}"
        )
    pairs = [(0, 0)] * (input.ndim - count) + [(int(pad[2 * k]), int(pad[2 * k + 1])) for k in range(count)][::-1]
    for dim, (before, after) in enumerate(pairs):
        if input.shape[dim] + before + after < 0:
            raise RuntimeError(
                f"pad: The input size {input.shape[dim]}, plus negative padding {before} and {after} resulted in a"
                f" negative output size, which is invalid. Check dimension {dim} of your input"
            )
    if mode == "constant":
        return _constant_pad(input, tuple(pairs), 0 if value is None else need_number("pad", "value", value))
    if mode not in MODES:
        raise NotImplementedError(f"pad: Unrecognised padding mode {mode}; choose constant, {', '.join(MODES)}")
    if value not in (None, 0):
        raise ValueError(f'pad: Padding mode "{mode}" doesn\'t take in value argument')
    if not 1 <= count <= 3 or input.ndim not in (count + 1, count + 2):
        raise NotImplementedError(
            f"pad: mode {mode!r} pads the last 1, 2 or 3 dimensions of an input (C, ...) or (N, C, ...), got"
            f" pad={tuple(pad)} for input {tuple(input.shape)}"
        )
    for dim in range(input.ndim - 1, input.ndim - count - 1, -1):
        input = _continued(input, dim, *pairs[dim], mode)
    return input


def _continued(input: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    """Pad one dimension by what a mode takes from the input itself;
    "circular" wraps around what negative numbers leave.
    """
    if mode == "circular" and min(before, after) < 0:
        input = _part(input, dim, max(-before, 0), input.shape[dim] - max(-before, 0) - max(-after, 0))
        before, after = max(before, 0), max(after, 0)
    n = input.shape[dim]
    if mode == "reflect" and max(before, after) >= n:
        raise ShapeError(
            f"pad: Padding size should be less than the corresponding input dimension, but got: padding ({before},"
            f" {after}) at dimension {dim} of input {list(input.shape)}"
        )
    if mode == "circular" and max(before, after) > n:
        raise ShapeError(
            f"pad: Padding value causes wrapping around more than once: padding ({before}, {after}) at dimension {dim}"
            f" of input {list(input.shape)}"
        )
    if before > 0 or after > 0:
        parts = MODES[mode](input, dim, max(before, 0), max(after, 0))
        input = cat([part for part in parts if part.shape[dim]], dim)
    if before < 0 or after < 0:
        input = _part(input, dim, max(-before, 0), n + before + after)
    return input
