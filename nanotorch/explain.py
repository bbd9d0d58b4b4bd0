"""`explain(loss)`: the backward pass as a text, step by step in the order in which the engine takes them.

The pass is really run, by the engine, with a hook on every node that is shown: shapes and norms are those of the
gradients that flow. It runs as `autograd.grad` with `retain_graph=True`, so no `.grad` changes and the graph stays
usable; hooks of the user take part, since they change gradients, except those that would store one (`retain_grad`).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.engine import grad
from nanotorch.autograd.graph.node import AccumulateGrad, Node, nodes_below
from nanotorch.autograd.graph.tensor import Tensor, gradient_edge
from nanotorch.autograd.walk import leaf_edges, leaf_names, leaves_of, short_line, watching


class Handed(NamedTuple):
    """A gradient that a step hands on.

    Attributes:
        input: the name of the op's input that it belongs to.
        formula: how it was made, as the row writes it; where that is the call of a helper, `body` is the helper's
            body.
        shape: its shape; None: no gradient (an input that needs none is left out altogether).
        norm: its Euclidean norm, over all elements.
        to: where it goes: `step 3`, or the name of a leaf.
    """

    input: str
    formula: str
    shape: tuple[int, ...] | None
    norm: float | None
    to: str
    body: str = ""


class Step(NamedTuple):
    """One node of the backward pass.

    Attributes:
        number: counted from 1 in the order of the pass.
        name: the name of the node, such as `MulBackward0`.
        line: where user code called the op: `"file", line N, in function`; '' where that is not known.
        shapes: the shapes of the op's outputs, and so of the gradients that come in (None: no gradient).
        norms: the Euclidean norms of the gradients that come in.
        handed: the gradients that it hands on.
    """

    number: int
    name: str
    line: str
    shapes: tuple[tuple[int, ...] | None, ...]
    norms: tuple[float | None, ...]
    handed: tuple[Handed, ...]


class LeafGradient(NamedTuple):
    """What a leaf gets: its name, shape, and the norm of its gradient (None: it gets none)."""

    name: str
    shape: tuple[int, ...]
    norm: float | None


class Explanation:
    """The backward pass of a tensor; prints as text.

    Attributes:
        shape: the shape of the tensor that it starts from.
        total: the number of steps of the pass.
        steps: those that were recorded: all, or the first and the last of a long pass.
        leaves: the leaves with the gradients that they get.
    """

    def __init__(
        self, shape: tuple[int, ...], total: int, steps: tuple[Step, ...], leaves: tuple[LeafGradient, ...]
    ) -> None:
        self.shape, self.total, self.steps, self.leaves = shape, total, steps, leaves

    def text(self, width: int = 100) -> str:
        """Return the walk in at most `width` columns, where words allow it."""
        heading = (
            f"backward from a tensor of shape {self.shape}: {_count(self.total, 'step')},"
            f" {_count(len(self.leaves), 'leaf')}"
        )
        blocks, before = [heading], 0
        for step in self.steps:
            if step.number != before + 1:
                blocks.append(
                    f"  ... {_count(step.number - before - 1, 'step')} left out; raise limit= to see them ..."
                )
            before = step.number
            blocks.append("\n".join(_step_lines(step, width)))
        if self.leaves:
            rows = [(leaf.name, str(leaf.shape), _norm(leaf.norm)) for leaf in self.leaves]
            blocks.append("\n".join(["leaves", *(f"  {line}" for line in _aligned(rows))]))
        return "\n\n".join(blocks)

    def __str__(self) -> str:
        import shutil  # for printing only: it takes as long to import as this file

        return self.text(max(60, min(shutil.get_terminal_size((100, 24)).columns - 1, 120)))

    __repr__ = __str__


def explain(
    tensor: Tensor, model: Any = None, *, params: Any = None, gradient: Tensor | None = None, limit: int = 60
) -> Explanation:
    """Walk through the backward pass of a tensor, node by node; print the result to read it.

    For every step: the node, the line of user code that made it, the gradient that comes in, and for every input the
    formula as the row writes it with shape, norm and destination of its gradient. Nothing is changed: no `.grad`, and
    the graph can still be used.

    Args:
        tensor: where backward would be called.
        model: a module whose parameters give the leaves their names.
        params: more names, as a mapping from names to tensors.
        gradient: the vector of the vector-Jacobian product; may be left out for a one-element tensor.
        limit: how many steps to show; of a longer pass the first and the last are shown.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> walk = torch.explain((w * 3).sum(), params={"w": w})
    >>> for step in walk.steps:
    ...     print(step.name, "hands", step.handed[0].formula, "to", step.handed[0].to)
    SumBackward0 hands expand_reduced(xp, grad, self_shape, dim, keepdim) to step 2
    MulBackward0 hands grad * other to w
    >>> walk.leaves
    (LeafGradient(name='w', shape=(2,), norm=4.242640687119285),)
    """
    from nanotorch.ops.docs.source import formulas_of  # it parses source files: only where somebody reads

    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    nodes = nodes_below([gradient_edge(tensor)])
    ends = [node for node in nodes if isinstance(node, AccumulateGrad)]
    names = leaf_names(leaves_of(nodes), model, params)
    running = [node for node in nodes if not isinstance(node, AccumulateGrad)]
    shown = running if len(running) <= limit else running[: limit - limit // 3] + running[len(running) - limit // 3 :]
    numbers = {node: number for number, node in enumerate(running, 1)}
    places = {node: f"step {number}" for node, number in numbers.items()}
    for node in nodes:
        if isinstance(node, AccumulateGrad):
            leaf = node.reference()
            places[node] = "a leaf that is gone" if leaf is None else names[id(leaf)]
    steps: dict[int, Step] = {}

    def record(node: Node, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        handed = tuple(
            Handed(
                name,
                formula.expression,
                _shape(g),
                _norm_of(g),
                places[edge[0]],
                formula.helpers.get(formula.expression, ""),
            )
            for (name, formula), g, edge in zip(formulas_of(node), inputs, node.edges, strict=False)
            if edge is not None
        )
        steps[numbers[node]] = Step(
            numbers[node],
            node.name(),
            node.forward_line,
            tuple(map(_shape, outputs)),
            tuple(map(_norm_of, outputs)),
            handed,
        )

    with watching(running, record, set(shown)):
        grads = grad(tensor, leaf_edges(ends), gradient, retain_graph=True, allow_unused=True)
    received = tuple(
        LeafGradient(places[end], shape, _norm_of(g))
        for end, g in zip(ends, grads, strict=True)
        if (shape := _shape(g if end.variable is None else end.variable)) is not None
    )
    return Explanation(tuple(tensor.shape), len(running), tuple(steps[n] for n in sorted(steps)), received)


def _shape(gradient: Tensor | None) -> tuple[int, ...] | None:
    return None if gradient is None else tuple(gradient.shape)


def _norm_of(gradient: Tensor | None) -> float | None:
    if gradient is None:
        return None
    values = np.asarray(gradient.numpy(force=True), np.float64)
    return float(np.sqrt(np.square(values).sum()))


# ------------------------------------------------------------------------------------------------- text


def _step_lines(step: Step, width: int) -> list[str]:
    """Return the text of one step."""
    place, code = short_line(step.line)
    head = f"{step.number:>3}  {step.name}"
    lines = [head + place.rjust(max(width - len(head), len(place) + 2)) if place else head]
    if code:
        lines.append(textwrap.shorten(code, width - 7, placeholder=" ...").join(("     > ", "")))
    many = len(step.shapes) > 1
    incoming = enumerate(zip(step.shapes, step.norms, strict=True))
    rows = [(f"grad[{n}]" if many else "grad", _shape_text(shape), _norm(norm), "") for n, (shape, norm) in incoming]
    rows += [(h.input, _shape_text(h.shape), _norm(h.norm), f"to {h.to}") for h in step.handed]
    aligned = _aligned(rows)
    count, finite = len(step.shapes), all(map(_finite, step.norms))
    lines += [f"     {line}" for line in aligned[:count]]
    for line, handed in zip(aligned[count:], step.handed, strict=True):
        lines.append(f"     {line}{'  <- no longer finite' if finite and not _finite(handed.norm) else ''}")
        if handed.formula:
            indent = " " * 9
            lines += textwrap.wrap(
                "= " + handed.formula,
                max(width, 40),
                initial_indent=indent,
                subsequent_indent=indent + "    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            lines += textwrap.indent(handed.body, " " * 13).splitlines()
    return lines


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows of cells as lines with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(shape)


def _finite(norm: float | None) -> bool:
    return norm is None or math.isfinite(norm)


def _norm(value: float | None) -> str:
    return "" if value is None else f"norm {value:#.4g}".rstrip(".")


def _count(number: int, word: str) -> str:
    plural = "leaves" if word == "leaf" else f"{word}s"
    return f"{number} {word if number == 1 else plural}"
