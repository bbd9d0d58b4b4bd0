"""GradientEdge: a place in the graph that stands for a tensor in backward() and grad() without holding its memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from nanotorch.autograd.graph.node import Edge, Node
from nanotorch.autograd.graph.tensor import Tensor, gradient_edge


class GradientEdge(NamedTuple):
    """Where in the graph the gradient of a tensor is computed: output `output_nr` of `node`.

    Where `backward` and `grad` take tensors they take edges too.
    """

    node: Node
    output_nr: int
    ownership_token: Any = None
    """Nothing: in PyTorch it keeps the graph alive, which `node` does here."""
    metadata: tuple[tuple[int, ...], Any] | None = None
    """The shape and NumPy dtype of the tensor, where the edge comes from `get_gradient_edge`."""

    @property
    def edge(self) -> Edge:
        """The pair that the graph uses."""
        return self.node, self.output_nr


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """Return the place in the graph where the gradient of `tensor` is computed.

    >>> x = torch.ones(2, requires_grad=True)
    >>> edge = torch.autograd.graph.get_gradient_edge(x * 3)
    >>> torch.autograd.grad(edge, x, torch.ones(2))
    (tensor([3., 3.]),)
    """
    edge = gradient_edge(tensor)
    if edge is None:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(*edge, metadata=(tensor._array.shape, tensor._array.dtype))
