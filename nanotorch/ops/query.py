"""Questions about tensors, and small functions of them that PyTorch has under several names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.reduce.scan import trapezoid
from nanotorch.ops.rows.inplace import check_writable
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.sample import real, sample
from nanotorch.ops.shape.rearrange import diag_embed


@composite()
def is_complex(input: Tensor) -> bool:
    """Whether elements are complex numbers, which none are."""
    return False


@composite(where="function")
def is_floating_point(input: Tensor) -> bool:
    """Whether elements are floating point numbers."""
    return input.is_floating_point()


@composite()
def is_signed(input: Tensor) -> bool:
    """Whether elements can be negative."""
    return input.dtype.is_signed


@composite()
def is_nonzero(input: Tensor) -> bool:
    """Whether the only element of a tensor is not 0."""
    return bool(input)


@composite()
def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape."""
    return input.shape == other.shape


@composite(where="function")
def is_inference(input: Tensor) -> bool:
    """Whether the tensor was made inside `inference_mode`."""
    return input.is_inference()


@composite(where="function")
def numel(input: Tensor) -> int:
    """The number of elements."""
    return input.numel()


@composite(where="function")
def detach(input: Tensor) -> Tensor:
    """A tensor that shares memory and version but has no history."""
    return input.detach()


@composite()
def get_device(input: Tensor) -> int:
    """The number of the GPU on which the tensor lives, -1 for the CPU."""
    return -1 if input.device.type == "cpu" else int(str(input.device).partition(":")[2] or 0)


@composite(samples=[sample(real(2, 3)), sample(real(3))])
def conj(input: Tensor) -> Tensor:
    """The tensor itself, as all numbers are real."""
    return input


@composite(samples=[sample(real(3)), sample(real(2, 3), 1), sample(real(2, 2), offset=-2), sample(real())])
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all elements on a diagonal, zeros elsewhere."""
    return diag_embed(input.reshape(-1), offset)


@composite(samples=[sample(real(2, 3), 1, 0, 2), sample(real(4), 0, -3, 2)])
def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A copy of ``length`` slices along a dimension, from ``start`` on."""
    return input.narrow(dim, start, length).clone()


@composite(
    widens=True,
    where="function",
    samples=[sample(real(2, 3)), sample(real(3), real(3)), sample(real(2, 3), dx=2.0, dim=0)],
)
def trapz(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    """The integral of a polygon: `trapezoid`."""
    return trapezoid(y, x, dx=dx, dim=dim)


@composite(where="method")
def apply_(input: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Replace every element by what a Python function makes of it; on the CPU only, without history."""
    if input.device.type != "cpu":
        raise TypeError("apply_ is only implemented on CPU tensors; move it with .cpu()")
    if input.requires_grad:
        raise RuntimeError("Can't call apply_() on Variable that requires grad. Use var.detach().apply_() instead.")
    check_writable("apply_", input)
    values = [callable(value) for value in input._array.reshape(-1).tolist()]
    input._bump_version("apply_")
    for place, value in enumerate(values):
        input._array.flat[place] = value
    return input


@composite(
    widens=True,
    where="functional",
    samples=[sample(real(2, 5, 3), 3), sample(real(1, 4, 2, 2), 2, 0.1, 0.5, 2.0), sample(real(1, 3, 2), size=5)],
)
def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Channels (N, C, ...) divided by a power of ``k`` plus ``alpha`` times the mean square of ``size`` channels around
    each.
    """
    if input.ndim < 3:
        raise ShapeError(
            f"local_response_norm: expected 3D or higher dimensionality input, got shape {tuple(input.shape)}"
        )
    if not input.is_floating_point():
        raise RuntimeError(f"local_response_norm: expected a floating-point input, got {input.dtype}")
    if size < 1:
        raise RuntimeError(f"local_response_norm: size must be at least 1, got {size}")
    channels, square = input.shape[1], input * input
    total = square.new_zeros(square.shape)
    for step in range(-(size // 2), (size - 1) // 2 + 1):
        first, last = max(0, -step), channels - max(0, step)
        if first < last:
            part = square.new_zeros(square.shape).slice_scatter(square[:, first + step : last + step], 1, first, last)
            total = total + part
    return input / (total * (alpha / size) + k) ** beta
