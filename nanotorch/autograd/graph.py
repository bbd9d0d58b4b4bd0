"""What PyTorch offers as ``torch.autograd.graph``: the nodes and what can be asked of them."""

from __future__ import annotations

from nanotorch.autograd.node import AccumulateGrad, Node, RemovableHandle
from nanotorch.autograd.saved_tensors import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks

__all__ = ["AccumulateGrad", "Node", "RemovableHandle", "disable_saved_tensors_hooks", "save_on_cpu", "saved_tensors_hooks"]
