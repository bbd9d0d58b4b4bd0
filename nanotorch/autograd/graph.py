"""What PyTorch offers as ``torch.autograd.graph``: the nodes and what can be asked of them."""

from __future__ import annotations

from nanotorch.autograd.node import AccumulateGrad, Node, RemovableHandle

__all__ = ["AccumulateGrad", "Node", "RemovableHandle"]
