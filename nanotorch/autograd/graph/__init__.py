"""What PyTorch offers as `torch.autograd.graph`: the nodes and what can be asked of them."""

from __future__ import annotations

from collections.abc import Iterable

from nanotorch.autograd.graph.gradient_edge import GradientEdge, get_gradient_edge
from nanotorch.autograd.graph.hooks import register_multi_grad_hook
from nanotorch.autograd.graph.node import AccumulateGrad, Node, RemovableHandle
from nanotorch.autograd.graph.saved_tensors import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks
from nanotorch.autograd.graph.tensor import Tensor

__all__ = [
    "AccumulateGrad",
    "GradientEdge",
    "Node",
    "RemovableHandle",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Note that the memory of a tensor, or of several, was written in a way that nanotorch cannot see.

    Backward then refuses to use values saved before, as after any in-place operation.

    >>> x = torch.zeros(2)
    >>> x.numpy()[0] = 1.0
    >>> torch.autograd.graph.increment_version(x)
    >>> x._version
    1
    """
    for written in [tensor] if isinstance(tensor, Tensor) else tensor:
        written._bump_version("increment_version")
