"""A drawing as SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nanotorch.viz import marks
from nanotorch.viz.boxes import Arrow, Box
from nanotorch.viz.layout import place
from nanotorch.viz.marks import element, hover, rect

COLOURS = {  # fill, border, text
    "parameter": ("#dbeafe", "#2563eb", "#1e3a8a"),
    "leaf": ("#e0f2f1", "#0f766e", "#134e4a"),
    "op": ("#ffffff", "#64748b", "#0f172a"),
    "function": ("#f3e8ff", "#7e22ce", "#3b0764"),
    "output": ("#dcfce7", "#15803d", "#14532d"),
}
LEGEND = {"parameter": "parameter", "leaf": "other leaf", "op": "op", "function": "custom Function", "output": "output"}
SAVED, EDGE, LABEL = "#b45309", "#94a3b8", "#475569"
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
TITLE_SIZE, SMALL_SIZE, LINE = 13.0, 11.0, 15.0
ASPECT = 0.61  # width of a character of these fonts, in units of their size
MARGIN, LEGEND_HEIGHT = 18.0, 34.0


def draw(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """Return the text of the SVG."""
    sizes = [_size(box) for box in boxes]
    labels_width = [len(arrow.label) * SMALL_SIZE * ASPECT for arrow in arrows]
    layout = place(sizes, [(arrow.source, arrow.target) for arrow in arrows], labels_width)
    kinds = [kind for kind in LEGEND if any(box.kind == kind for box in boxes)]
    legend, legend_width = _legend(kinds, any(box.saved for box in boxes))
    width = max(layout.width, legend_width) + 2 * MARGIN
    height = layout.height + 2 * MARGIN + LEGEND_HEIGHT
    shift = MARGIN + max(legend_width - layout.width, 0.0) / 2
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0'
            f' {width:.0f} {height:.0f}" font-family="{FONT}" font-size="{TITLE_SIZE:g}">'
        ),
        (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7"'
            f' orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{EDGE}"/></marker></defs>'
        ),
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<g transform="translate({shift:.1f},{MARGIN})">',
    ]
    incoming, outgoing = Counter(a.target for a in arrows), Counter(a.source for a in arrows)
    labels = []
    for arrow, path in zip(arrows, layout.paths, strict=True):
        points = [
            (path[0][0], path[0][1] + sizes[arrow.source][1] / 2),
            *path[1:-1],
            (path[-1][0], path[-1][1] - sizes[arrow.target][1] / 2),
        ]
        lines.append(
            element("path", d=_curve(points), fill="none", stroke=EDGE, stroke_width=1.4, marker_end="url(#arrow)")
        )
        if arrow.label:
            labels.append(_label(points, arrow.label, incoming[arrow.target], outgoing[arrow.source]))
    for box, (x, y), size in zip(boxes, layout.centres, sizes, strict=True):
        lines += _box(box, x, y, *size)
    lines += [
        *labels,
        "</g>",
        f'<g transform="translate({MARGIN},{height - MARGIN - 6:.1f})">',
        *legend,
        "</g>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _size(box: Box) -> tuple[float, float]:
    """Return width and height of a box: of its title, and of a line for every saved value."""
    title = len(box.title) * TITLE_SIZE * ASPECT
    saved = max([len(f"saves {line}") for line in box.saved], default=0) * SMALL_SIZE * ASPECT
    return max(title, saved) + 22.0, 28.0 + LINE * len(box.saved)


def _box(box: Box, x: float, y: float, width: float, height: float) -> list[str]:
    """Return the elements of one box around (x, y)."""
    fill, stroke, colour = COLOURS[box.kind]
    radius = 4.0 if box.kind in ("op", "function") else 14.0
    title = hover(chr(10).join((box.title, *box.details)))
    top = y - height / 2
    border = rect(x - width / 2, top, width, height, rx=radius, fill=fill, stroke=stroke, stroke_width=1.3)
    lines = [f"<g>{title}", border, _text(x, top + 18.5, box.title, TITLE_SIZE, colour)]
    for number, saved in enumerate(box.saved, 1):
        lines.append(_text(x, top + 18.5 + LINE * number, f"saves {saved}", SMALL_SIZE, SAVED))
    return [*lines, "</g>"]


def _text(x: float, y: float, text: str, size: float, colour: str, halo: bool = False, anchor: str = "middle") -> str:
    around = {"stroke": "#ffffff", "stroke_width": 4, "stroke_linejoin": "round", "paint_order": "stroke"}
    return marks.text(x, y, text, font_size=size, fill=colour, text_anchor=anchor, **(around if halo else {}))


def _curve(points: list[tuple[float, float]]) -> str:
    """Return the path through points from top to bottom: vertical at each of them, so that it stays smooth."""
    (x, y), *others = points
    parts = [f"M{x:.1f},{y:.1f}"]
    for next_x, next_y in others:
        middle = (y + next_y) / 2
        parts.append(f"C{x:.1f},{middle:.1f} {next_x:.1f},{middle:.1f} {next_x:.1f},{next_y:.1f}")
        x, y = next_x, next_y
    return " ".join(parts)


def _label(points: list[tuple[float, float]], label: str, incoming: int, outgoing: int) -> str:
    """Return the text on or beside a path, nearer to the end where fewer paths meet."""
    if len(points) > 2:  # there is room at the last bend
        return _text(points[-2][0], points[-2][1] + 3.5, label, SMALL_SIZE, LABEL, halo=True)
    (x0, y0), (x1, y1) = points
    t = 0.5 if incoming == outgoing else 0.36 if incoming > outgoing else 0.64
    y = y0 + (y1 - y0) * (1.5 * t * (1 - t) + t**3)  # on the curve, whose ends are vertical
    if abs(x1 - x0) < 12:
        return _text(max(x0, x1) + 6, y + 3.5, label, SMALL_SIZE, LABEL, halo=True, anchor="start")
    return _text(x0 + (x1 - x0) * t * t * (3 - 2 * t), y + 3.5, label, SMALL_SIZE, LABEL, halo=True)


def _legend(kinds: list[str], saved: bool) -> tuple[list[str], float]:
    """Return what the colours mean, and its width."""
    lines, x = [], 0.0
    for kind in kinds:
        fill, stroke, _ = COLOURS[kind]
        lines.append(rect(x, -10, 16, 12, rx=3, fill=fill, stroke=stroke))
        lines.append(_text(x + 22, 0, LEGEND[kind], SMALL_SIZE, LABEL, anchor="start"))
        x += 22 + len(LEGEND[kind]) * SMALL_SIZE * ASPECT + 20
    if saved:
        text = "kept for backward"
        lines.append(_text(x, 0, text, SMALL_SIZE, SAVED, anchor="start"))
        x += len(text) * SMALL_SIZE * ASPECT
    return lines, x
