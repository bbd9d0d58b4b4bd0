"""Variable, the name of a tensor with history before PyTorch 0.4, which older programs use."""

from __future__ import annotations

from typing import Any

from nanotorch.autograd.graph.tensor import Tensor, from_array


class _TensorsAreVariables(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_TensorsAreVariables):
    """A new leaf that shares the memory of a tensor; every tensor is a Variable.

    Args:
        data: the tensor, an empty one by default.
        requires_grad: record operations on the leaf.

    >>> x = torch.autograd.Variable(torch.ones(2), requires_grad=True)
    >>> x, isinstance(torch.ones(1), torch.autograd.Variable)
    (tensor([1., 1.], requires_grad=True), True)
    """

    def __new__(cls, data: Any = None, requires_grad: bool = False) -> Tensor:  # type: ignore[misc]  # as it is used
        """Return a tensor: there is no other kind of Variable."""
        if data is None:
            data = Tensor()
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        return from_array(data._array, data.device).requires_grad_(requires_grad)
