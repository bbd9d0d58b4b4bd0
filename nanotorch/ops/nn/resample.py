"""Sequences, images and volumes in another size: nearest elements, linear and cubic interpolation, means of areas.

Note [Resampling]
~~~~~~~~~~~~~~~~~
Every mode treats one dimension after the other, and in each dimension an output element is a weighted sum of a few
input elements, its *taps*: one for the nearest element, two for linear, four for cubic interpolation, more where a
smaller image is smoothed (`antialias`). `_taps` says which and with what weights; the row `_resample` adds them up,
and its gradient puts them back. Positions and weights follow PyTorch's arithmetic to the rounding: it decides which of
two elements is the nearest.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.nn.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d
from nanotorch.ops.rows.row import Array, Index, composite, op
from nanotorch.ops.rows.sample import edge, real, sample

MODES = {"nearest": None, "nearest-exact": None, "area": None, "linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}
"""Every mode with the number of dimensions that it resizes, None for any."""


def _weights(xp: Any, weight: Any, k: int, dim: int, ndim: int) -> Any:
    return xp.reshape(weight[k], (-1,) + (1,) * (ndim - 1 - dim))


def _spread(xp: Any, grad: Any, self_shape: Any, index: Any, weight: Any, dim: int) -> Any:
    """Put the gradient of every output element where its taps are."""
    total = None
    for k in range(index.shape[0]):
        part = grad * _weights(xp, weight, k, dim, grad.ndim)
        part = xp.scatter_to_zeros(part, self_shape, (*(slice(None),) * dim, index[k]))
        total = part if total is None else total + part
    return total


@op(self=_spread, where="internal", node="UpsampleBackward0")
def _resample(xp: Any, self: Array, index: Index, weight: Array, dim: int) -> Array:
    """The sums over k of the elements `index[k]` along a dimension times `weight[k]`."""
    total = None
    for k in range(index.shape[0]):
        part = xp.take(self, index[k], axis=dim) * _weights(xp, weight, k, dim, self.ndim)
        total = part if total is None else total + part
    return total


def _scale(length: int, out: int, factor: float | None, align: bool, kind: Any) -> Any:
    """Return how many input elements the step from one output element to the next is."""
    if align:
        return kind.type(length - 1) / kind.type(out - 1) if out > 1 else kind.type(0)
    return kind.type(1.0 / factor) if factor is not None and factor > 0 else kind.type(length) / kind.type(out)


def _taps(
    mode: str, length: int, out: int, factor: float | None, align: bool, antialias: bool, kind: Any
) -> tuple[Any, Any]:
    """Return the indices (K, out) and weights (K, out) of the taps
    of every output element along a dimension (Note [Resampling]).
    """
    scale, places = _scale(length, out, factor, align, kind), np.arange(out).astype(kind)
    half = kind.type(0.5)
    if mode.startswith("nearest"):
        position = scale * places if mode == "nearest" else np.maximum(scale * (places + half) - half, 0) + half
        index = np.minimum(np.floor(position.astype(np.float32)).astype(np.int64), length - 1)
        return index[None], np.ones((1, out), kind)
    if antialias:
        return _smoothed(mode, length, scale, places)
    position = scale * places if align else scale * (places + half) - half
    if mode == "bicubic":
        index = np.minimum(np.floor(position.astype(np.float32)).astype(np.int64), length - 1)
        t = np.clip(position - index, 0, 1).astype(kind)
        weights = np.stack([_outer(t + 1), _inner(t), _inner(1 - t), _outer(2 - t)])
        return np.clip(index + np.arange(-1, 3)[:, None], 0, length - 1), weights.astype(kind)
    position = position if align else np.maximum(position, 0)
    index = np.minimum(position.astype(np.int64), length - 1)
    t = np.clip(position - index, 0, 1).astype(kind)
    return np.stack([index, np.minimum(index + 1, length - 1)]), np.stack([1 - t, t])


def _inner(x: Any, a: float = -0.75) -> Any:
    """Return the cubic kernel within a distance of 1 (Keys 1981)."""
    return ((a + 2) * x - (a + 3)) * x * x + 1


def _outer(x: Any, a: float = -0.75) -> Any:
    """Return the cubic kernel at distances from 1 to 2."""
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


def _smoothed(mode: str, length: int, scale: Any, places: Any) -> tuple[Any, Any]:
    """Taps of a kernel that is as wide as the step, where that is larger than one element."""
    stretch = max(scale, scale.dtype.type(1))
    reach = (2 if mode == "bicubic" else 1) * stretch
    centre = scale * (places + 0.5)
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + reach + 0.5).astype(np.int64), length) - first
    steps = np.arange(max(int(count.max()), 1))[:, None]
    distance = np.abs((steps + first - centre + 0.5) / stretch)
    if mode == "bicubic":
        kernel = np.where(distance < 1, _inner(distance, -0.5), np.where(distance < 2, _outer(distance, -0.5), 0))
    else:
        kernel = np.maximum(1 - distance, 0)
    kernel = np.where(steps < count, kernel, 0)
    return np.minimum(first + np.minimum(steps, count - 1), length - 1), (kernel / kernel.sum(axis=0)).astype(
        places.dtype
    )


def _each(what: str, value: Any, count: int, number: Callable[[Any], Any]) -> list[Any]:
    """Return one number for every dimension that is resized; anything else is refused with its name."""
    if not isinstance(value, list | tuple):
        return [number(value)] * count
    if len(value) != count:
        raise ValueError(
            f"interpolate: Input and {what} must have the same number of spatial dimensions, but got {count} in the"
            f" input after N and C, and {what} of {value!r}"
        )
    return [number(v) for v in value]


def _length(value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"interpolate: lengths in size must be ints, got {value!r}") from None


def _factor(value: Any) -> float:
    factor = math.nan if isinstance(value, str) else float(value)
    if not math.isfinite(factor):
        raise ValueError(f"interpolate: scale_factor must be a finite number, got {value!r}")
    return factor


def _check_mode(input: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in MODES:
        raise NotImplementedError(f"interpolate: unknown mode {mode!r}; choose {', '.join(MODES)}")
    if input.ndim not in (3, 4, 5):
        raise NotImplementedError(
            f"interpolate: expected input (N, C, L), (N, C, H, W) or (N, C, D, H, W), got shape {tuple(input.shape)}"
        )
    if MODES[mode] not in (None, input.ndim - 2):
        raise NotImplementedError(
            f"interpolate: mode {mode!r} needs {(MODES[mode] or 0) + 2}D input, got shape {tuple(input.shape)}"
        )
    if align_corners is not None and MODES[mode] is None:
        raise ValueError(
            "interpolate: align_corners option can only be set with the interpolating modes: linear | bilinear |"
            f" bicubic | trilinear, not with {mode!r}"
        )
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError("interpolate: antialias is for the modes bilinear and bicubic only")
    if not mode.startswith("nearest") and not input.is_floating_point():
        raise NotImplementedError(
            f"interpolate: mode {mode!r} is not implemented for {input.dtype}; convert with .float()"
        )


rows, images, volumes = real(1, 2, 5), real(2, 1, 3, 4), real(1, 1, 2, 3, 2)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(rows, 8),
        sample(images, (5, 7)),
        sample(images, scale_factor=2),
        sample(volumes, (3, 2, 5)),
        sample(rows, scale_factor=0.6),
        sample(images, scale_factor=(1.7, 0.6)),
        sample(rows, 7, mode="nearest-exact"),
        sample(images, scale_factor=(1.7, 0.6), mode="nearest-exact"),
        sample(volumes, 3, mode="nearest-exact"),
        sample(rows, 8, mode="linear"),
        sample(rows, 3, mode="linear", align_corners=True),
        sample(rows, scale_factor=1.3, mode="linear"),
        sample(rows, 1, mode="linear", align_corners=True),
        sample(images, (6, 3), mode="bilinear"),
        sample(images, (6, 3), mode="bilinear", align_corners=True),
        sample(images, scale_factor=(1.7, 0.6), mode="bilinear"),
        sample(images, scale_factor=(1.7, 0.6), mode="bilinear", recompute_scale_factor=True),
        sample(images, (2, 3), mode="bilinear", antialias=True),
        sample(volumes, (3, 2, 5), mode="trilinear"),
        sample(volumes, 3, mode="trilinear", align_corners=True),
        sample(images, (6, 3), mode="bicubic"),
        sample(images, (6, 3), mode="bicubic", align_corners=True),
        sample(images, scale_factor=1.5, mode="bicubic"),
        sample(images, (2, 2), mode="bicubic", antialias=True),
        sample(images, (5, 6), mode="bicubic", antialias=True, align_corners=True),
        sample(rows, 3, mode="area"),
        sample(images, (2, 6), mode="area"),
        sample(volumes, (1, 2, 3), mode="area"),
        sample(images, scale_factor=0.5, mode="area"),
        sample(edge([[[1.0, float("inf"), float("nan"), 2.0]]]), 6, mode="linear"),
        sample(real(0, 2, 3, 3), 4, mode="bilinear"),
    ],
)
def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Sequences (N, C, L), images (N, C, H, W) or volumes (N, C, D, H, W) in another size.

    Args:
        input: the tensor; float16 is interpolated in float32, and "nearest" takes integers too.
        size: the lengths of the last dimensions, one for each or one for all.
        scale_factor: instead of `size` the factors by which they grow; the result is rounded down.
        mode: "nearest", "nearest-exact" (rounds as image libraries do), "linear", "bilinear", "trilinear", "bicubic"
            or "area".
        align_corners: put the centres of the first and of the last elements upon each other, rather than their outer
            edges.
        recompute_scale_factor: compute positions from the rounded size rather than from the factor.
        antialias: smooth before an image is made smaller, in the modes "bilinear" and "bicubic".

    >>> torch.nn.functional.interpolate(torch.tensor([[[1.0, 3.0]]]), size=4, mode="linear")
    tensor([[[1.0000, 1.5000, 2.5000, 3.0000]]])
    """
    _check_mode(input, mode, align_corners, antialias)
    lengths = tuple(input.shape)[2:]
    factors: list[float] | None = None
    if size is not None and scale_factor is not None:
        raise ValueError("interpolate: only one of size or scale_factor should be defined")
    if size is not None:
        if recompute_scale_factor:
            raise ValueError("interpolate: recompute_scale_factor is not meaningful with an explicit size.")
        out = _each("output size", size, len(lengths), _length)
    elif scale_factor is not None:
        factors = _each("scale_factor", scale_factor, len(lengths), _factor)
        out = [math.floor(n * factor) for n, factor in zip(lengths, factors, strict=True)]
    else:
        raise ValueError("interpolate: either size or scale_factor should be defined")
    if min((*lengths, *out)) < 1 or input.shape[1] < 1:
        raise ShapeError(
            f"interpolate: input and output sizes should be greater than 0, but got input {tuple(input.shape)} and"
            f" output size {tuple(out)}"
        )
    if mode == "area":
        return _areas(input, out)
    if recompute_scale_factor or factors is None:
        factors = [0.0] * len(out)
    x, kind = input, np.dtype(np.float64 if input.dtype.itemsize == 8 and input.is_floating_point() else np.float32)
    for dim in range(len(out) + 1, 1, -1):
        n, target, factor = lengths[dim - 2], out[dim - 2], factors[dim - 2]
        if mode == "nearest" and input.ndim == 4:
            kind = np.dtype(np.float32)
            factor = 0.0 if target in (n, 2 * n) else factor  # PyTorch's loop over images looks at the sizes first
        if n == target and (factor in (0.0, 1.0) or align_corners or mode.endswith("linear") or antialias):
            continue
        index, weight = _taps(mode, n, target, factor, bool(align_corners), antialias, kind)
        xp, device = x.device.xp, x.device
        index = from_array(xp.asarray(index), device)
        x = (
            x.index_select(dim, index[0])
            if mode.startswith("nearest")
            else _resample(x, index, from_array(xp.asarray(weight), device), dim)
        )
    return x.clone() if x is input else x


def _areas(input: Tensor, out: Sequence[int]) -> Tensor:
    """Return the means of areas that cover the input;
    those of a volume are means of planes, then of lines across them.
    """
    if len(out) == 1:
        return adaptive_avg_pool1d(input, out[0])
    if len(out) == 2:
        return adaptive_avg_pool2d(input, tuple(out))
    n, channels, depth = tuple(input.shape)[:3]
    planes = adaptive_avg_pool2d(input.flatten(1, 2), (out[1], out[2]))
    lines = adaptive_avg_pool2d(planes.reshape(n, channels, depth, out[1] * out[2]), (out[0], out[1] * out[2]))
    return lines.reshape(n, channels, *out)
