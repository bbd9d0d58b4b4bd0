"""The graph of a tensor as a drawing: boxes and arrows, to be written as SVG or Mermaid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nanotorch.autograd.function import FunctionNode
from nanotorch.autograd.graph.engine import grad
from nanotorch.autograd.graph.node import AccumulateGrad, Node, nodes_below
from nanotorch.autograd.graph.tensor import Tensor, gradient_edge
from nanotorch.autograd.walk import leaf_edges, leaf_names, leaves_of, released, saved_values, short_line, watching
from nanotorch.ops.create.creation import ones_like
from nanotorch.utils import files
from nanotorch.viz.boxes import Arrow, Box

if TYPE_CHECKING:
    from pathlib import Path

Shape = tuple[int, ...]


class Graph:
    """A drawing of a graph; notebooks show it, `save` writes it.

    Attributes:
        boxes: the vertices, the outputs first.
        arrows: the edges, in the direction of the forward pass.
    """

    def __init__(self, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> None:
        self.boxes, self.arrows = tuple(boxes), tuple(arrows)

    @property
    def svg(self) -> str:
        """The drawing as SVG, complete in itself."""
        from nanotorch.viz.svg import draw

        return draw(self.boxes, self.arrows)

    @property
    def mermaid(self) -> str:
        """The drawing as a Mermaid flowchart, which many Markdown viewers show in a block ````` ```mermaid `````."""
        from nanotorch.viz.mermaid import write

        return write(self.boxes, self.arrows)

    def save(self, path: str | Path) -> Path:
        """Write the drawing: SVG to `*.svg`, Mermaid to `*.mmd` and, as a fenced block, to `*.md`."""
        from pathlib import Path  # see `writing` in utils/files.py

        path = Path(path)
        if path.suffix == ".svg":
            text = self.svg
        elif path.suffix == ".mmd":
            text = self.mermaid
        elif path.suffix == ".md":
            text = f"```mermaid\n{self.mermaid}```\n"
        else:
            raise ValueError(f"save: the name must end in .svg, .mmd or .md, got {path.name!r}")
        files.write(path, text)
        return path

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        ops = sum(box.kind in ("op", "function") for box in self.boxes)
        leaves = sum(box.kind in ("parameter", "leaf") for box in self.boxes)
        counted = f"{ops} op{'s' * (ops != 1)}, {leaves} {'leaf' if leaves == 1 else 'leaves'}"
        return f"Graph({counted}); .svg, .mermaid, .save('graph.svg')"


def graph(
    outputs: Tensor | Sequence[Tensor], model: Any = None, *, params: Any = None, saved: bool = True, limit: int = 500
) -> Graph:
    """Draw the graph that leads to some tensors: ops, leaves,
    and on every arrow the shape of the tensor that flows there.

    The shapes are found by running the backward pass once, without hooks and without touching any `.grad`; in a graph
    that a backward has released only those are known that the nodes still remember.

    Args:
        outputs: a tensor, or several.
        model: a module whose parameters give the leaves their names.
        params: names for leaves: a mapping from names to tensors, or pairs of both, such as
            `model.named_parameters()`.
        saved: also show what every op keeps for its backward.
        limit: refuse larger graphs, which nobody could read.

    >>> w = torch.ones(3, requires_grad=True)
    >>> picture = torch.viz.graph((w * w).sum(), params={"w": w})
    >>> picture
    Graph(2 ops, 1 leaf); .svg, .mermaid, .save('graph.svg')
    >>> [box.title for box in picture.boxes]
    ['output', 'SumBackward0', 'MulBackward0', 'w']
    >>> [arrow.label for arrow in picture.arrows]
    ['()', '(3,)', '(3,) twice']
    """
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    for root in roots:
        if gradient_edge(root) is None:
            raise RuntimeError(
                f"graph: a tensor of shape {tuple(root.shape)} does not require grad: nothing led to it that was"
                " recorded"
            )
    nodes = nodes_below(map(gradient_edge, roots))
    if len(nodes) > limit:
        raise ValueError(
            f"graph: {len(nodes)} nodes are more than limit={limit}; draw a part of the computation, or raise the limit"
        )
    names = leaf_names(leaves_of(nodes), model, params)
    shapes = _shapes(roots, nodes)
    boxes = [
        Box("output", names.get(id(root), "output" if len(roots) == 1 else f"output {k}"))
        for k, root in enumerate(roots)
    ]
    number = {node: len(boxes) + position for position, node in enumerate(nodes)}
    boxes += [_box(node, names, saved) for node in nodes]
    labels: dict[tuple[int, int], list[str]] = {}
    for k, root in enumerate(roots):
        edge = gradient_edge(root)
        assert edge is not None
        labels.setdefault((number[edge[0]], k), []).append(str(tuple(root.shape)))
    for node in nodes:
        for position, edge in enumerate(node.edges):
            if edge is not None:
                shape = shapes.get((node, position), _remembered(*edge))
                labels.setdefault((number[edge[0]], number[node]), []).append("" if shape is None else str(shape))
    arrows = [Arrow(*pair, label) for pair, found in labels.items() for label in _counted(found)]
    return Graph(boxes, arrows)


def _shapes(roots: list[Tensor], nodes: list[Node]) -> dict[tuple[Node, int], Shape]:
    """Return the shapes of the tensors on all edges (by node and position), as far as a backward pass can tell."""
    shapes: dict[tuple[Node, int], Shape] = {}
    if any(map(released, nodes)):
        return shapes

    def record(node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor | None]) -> None:
        shapes.update({(node, k): tuple(g.shape) for k, g in enumerate(inputs) if g is not None})

    seeds = [ones_like(root) for root in roots]
    with watching(nodes, record, others=False):
        grad(roots, leaf_edges(nodes), seeds, retain_graph=True, allow_unused=True)
    return shapes


def _remembered(node: Node, output_nr: int) -> Shape | None:
    """Return the shape of a node's output where it is known without running a backward."""
    if isinstance(node, AccumulateGrad):
        leaf = node.reference()
        return None if leaf is None else tuple(leaf.shape)
    return None if node.outputs is None else tuple(node.outputs[output_nr][0])


def _counted(labels: list[str]) -> list[str]:
    """Return different labels, those that come more than once with how often."""
    times = {1: "", 2: " twice"}
    return [
        f"{label}{times.get(n, f' {n} times')}" for label, n in {label: labels.count(label) for label in labels}.items()
    ]


def _box(node: Node, names: dict[int, str], saved: bool) -> Box:
    if isinstance(node, AccumulateGrad):
        leaf = node.reference()
        title = "a leaf that is gone" if leaf is None else names[id(leaf)]
        return Box("leaf" if title.startswith("leaf ") or leaf is None else "parameter", title, (), ("AccumulateGrad",))
    from nanotorch.ops.docs.source import formulas_of

    values = [f"{name} {tuple(value.shape)}" for name, value in saved_values(node)] if saved else []
    formulas = [f"{name}: {formula}" for name, formula in formulas_of(node) if str(formula)]
    details = [text for text in short_line(node.forward_line) if text] + list(dict.fromkeys(formulas))
    return Box("function" if isinstance(node, FunctionNode) else "op", node.name(), tuple(values), tuple(details))
