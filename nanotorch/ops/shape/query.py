"""What can be asked of tensors, such as size and device; and what computes nothing: `detach`, `conj`, `apply_`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.inplace import check_writable
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.sample import real, sample


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
