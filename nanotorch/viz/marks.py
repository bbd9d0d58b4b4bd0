"""SVG by its marks: one element at a time, escaped and with short numbers, for every drawing of the package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

Point = tuple[float, float]
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def element(name: str, *inside: str, **attributes: object) -> str:
    """Return an element with what stands in it, which is SVG already; attributes are escaped.

    An underscore in the name of an attribute is a hyphen, but for one at its end.

    >>> element("rect", hover("a < b"), class_="bar", x=1.25, stroke_width=2)
    '<rect class="bar" x="1.2" stroke-width="2"><title>a &lt; b</title></rect>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items() if value != ""
    )
    return f"<{name}{given}>{''.join(inside)}</{name}>" if inside else f"<{name}{given}/>"


def words(text: str) -> str:
    """Return text as it may stand between elements; what no XML may contain becomes a mark of replacement."""
    return escape(NOT_IN_XML.sub("\ufffd", text))


def hover(text: str) -> str:
    """Return what is shown of an element when the pointer rests on it."""
    return element("title", words(text)) if text else ""


def text(x: float, y: float, content: str, **attributes: object) -> str:
    """Return a text, at the left end of its baseline or where `text_anchor` says."""
    return element("text", words(content), x=float(x), y=float(y), **attributes)


def polyline(points: Sequence[Point], *inside: str, **attributes: object) -> str:
    """Return straight lines from point to point."""
    return element("polyline", *inside, points=" ".join(f"{short(x)},{short(y)}" for x, y in points), **attributes)


def circle(at: Point, radius: float, *inside: str, **attributes: object) -> str:
    """Return a dot."""
    return element("circle", *inside, cx=float(at[0]), cy=float(at[1]), r=float(radius), **attributes)


def rect(x: float, y: float, width: float, height: float, *inside: str, **attributes: object) -> str:
    """Return a rectangle by its upper left corner: a bar, or a cell of a heat map."""
    sides = {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}
    return element("rect", *inside, **sides, **attributes)


def short(value: float) -> str:
    """Return a coordinate to a tenth of a pixel.

    >>> short(12.04), short(-0.01), short(3.25)
    ('12', '0', '3.2')
    """
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def _value(value: object) -> str:
    return short(value) if isinstance(value, float) else words(str(value))
