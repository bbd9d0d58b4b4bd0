"""Pictures of what autograd recorded."""

from __future__ import annotations

from nanotorch.viz.drawing import Graph, graph

__all__ = ["Graph", "graph"]
