"""A drawing as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Sequence

from nanotorch.viz.boxes import Arrow, Box
from nanotorch.viz.svg import COLOURS

BRACKETS = {
    "op": ("[", "]"),
    "function": ("[[", "]]"),
    "parameter": ("([", "])"),
    "leaf": ("([", "])"),
    "output": ("((", "))"),
}


def write(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """Return the text of the flowchart."""
    lines = ["flowchart TD"]
    for number, box in enumerate(boxes):
        opening, closing = BRACKETS[box.kind]
        saved = f"<br/><small>saves {_escaped(', '.join(box.saved))}</small>" if box.saved else ""
        lines.append(f'    n{number}{opening}"{_escaped(box.title)}{saved}"{closing}:::{box.kind}')
    for arrow in arrows:
        label = f'|"{_escaped(arrow.label)}"|' if arrow.label else ""
        lines.append(f"    n{arrow.source} -->{label} n{arrow.target}")
    for kind, (fill, stroke, text) in COLOURS.items():
        lines.append(f"    classDef {kind} fill:{fill},stroke:{stroke},color:{text}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Return text that Mermaid takes literally: its entities are written with # instead of &."""
    return "".join(c if c.isalnum() or c in " _.,()+-=:/" else f"#{ord(c)};" for c in text)
