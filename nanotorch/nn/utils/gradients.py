"""Tools for the gradients and parameters of a model: clipping, and all parameters as one vector."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import reduce
from math import inf

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.nn.utils.flat import FlatParameters
from nanotorch.ops.create.creation import tensor as make_tensor
from nanotorch.ops.rows.runtime import widened
from nanotorch.ops.shape.join import cat

Parameters = Tensor | FlatParameters | Iterable[Tensor | FlatParameters]


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Return the norm of all elements of the tensors together, as a 0-d tensor on their device;
    of float16 in float32, as it may be large.

    `foreach` chooses between implementations in PyTorch; here, as in the other functions, it makes no difference.
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    norm_type = float(norm_type)  # "inf" too
    if not tensors:
        return make_tensor(0.0)
    xp, device = tensors[0].device.xp, tensors[0].device
    flat = [xp.reshape(widened(tensor._array, xp), (-1,)) for tensor in tensors]
    if (norm_type < 0 or norm_type == inf) and not all(array.size for array in flat):
        raise RuntimeError(
            f"get_total_norm: the norm of order {norm_type} of an empty tensor does not exist: it has no identity"
        )
    if norm_type == inf:
        total = reduce(xp.maximum, [xp.amax(xp.absolute(array)) for array in flat])
    elif norm_type == -inf:  # the least of the tensors' own, as for the other orders
        total = reduce(xp.minimum, [xp.amin(xp.absolute(array)) for array in flat])
    elif norm_type == 0:  # how many tensors have an element that is not 0
        total = xp.asarray(sum([xp.astype(xp.any(array != 0), array.dtype) for array in flat]))
    elif norm_type == 2:
        total = xp.sqrt(reduce(operator.add, [xp.matmul(array, array) for array in flat]))
    else:
        total = sum(xp.sum(xp.power(xp.absolute(array), norm_type)) for array in flat) ** (1.0 / norm_type)
    if error_if_nonfinite and xp.holds(xp.isfinite(total)) is False:
        raise RuntimeError(
            f"the norm of the gradients, of order {norm_type}, is {float(xp.to_numpy(total))}, so they cannot be "
            "clipped; with error_if_nonfinite=False they would be scaled by it all the same"
        )
    return from_array(xp.asarray(total), device)


def clip_grad_norm_(
    parameters: Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients in place so that their norm, taken together, is at most `max_norm`.

    Returns the norm that they had, as a 0-d tensor on their device: nothing waits for the GPU. Of flat parameters
    (`flatten_parameters`) all gradients are one, whose squares are added in another order: the last digits may differ.
    """
    gradients = _gradients(parameters)
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    _clip(gradients, max_norm, total, "clip_grad_norm_")
    return total


def clip_grads_with_norm_(
    parameters: Parameters, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale all gradients in place as `clip_grad_norm_` does, by a norm that was computed before."""
    _clip(_gradients(parameters), max_norm, total_norm, "clip_grads_with_norm_")


def _clip(gradients: list[Tensor], max_norm: float, total_norm: Tensor, writer: str) -> None:
    scale = None
    for grad in {id(grad._array): grad for grad in gradients}.values():  # two may share one gradient
        if scale is None:
            xp = total_norm.device.xp
            scale = xp.minimum(max_norm / (widened(total_norm._array, xp) + 1e-6), 1.0)
        grad.device.xp.multiply_into(grad._array, scale)
        grad._bump_version(writer, 3)


def clip_grad_value_(parameters: Parameters, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of the gradients, in place, to between minus and plus `clip_value`."""
    for grad in _gradients(parameters):
        xp = grad.device.xp
        xp.maximum_into(grad._array, -clip_value)
        xp.minimum_into(grad._array, clip_value)
        grad._bump_version("clip_grad_value_")


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Return all parameters joined into one vector; differentiable."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the parts of a vector into the parameters, in the order of `parameters_to_vector`."""
    targets = list(parameters)
    count = sum(target.numel() for target in targets)
    if vec.ndim != 1 or vec.numel() != count:
        raise ValueError(f"the parameters have {count} elements, got a tensor of shape {tuple(vec.shape)}")
    start = 0
    with no_grad():
        for target in targets:
            target.copy_(vec[start : start + target.numel()].reshape(target.shape))
            start += target.numel()


def _gradients(parameters: Parameters) -> list[Tensor]:
    listed = [parameters] if isinstance(parameters, Tensor | FlatParameters) else parameters
    return [grad for parameter in listed if (grad := parameter.grad) is not None]
