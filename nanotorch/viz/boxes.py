"""What a drawing of a graph consists of."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A vertex: an op, a leaf, or the tensor at the end.

    Attributes:
        kind: `op`, `function` (a custom one), `parameter` (a leaf with a name), `leaf` or `output`.
        title: the name of the node or of the tensor.
        saved: what the op keeps for its backward, such as `self (16, 4)`.
        details: the line of user code and the formulas, which the SVG shows when pointed at.
    """

    kind: str
    title: str
    saved: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


class Arrow(NamedTuple):
    """An edge, from the box that made a tensor to the box that uses it, with the tensor's shape."""

    source: int
    target: int
    label: str
