"""A chart: lines and dots over two axes, drawn as SVG for a page or as a file of its own.

It is drawn at the size at which a page shows it, so that its letters are as large as the page's, and its colours are
the page's, in light, in dark and on paper. Where the pointer rests on a point, its values are shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from nanotorch.train.report.markup import Html, stylesheet
from nanotorch.train.terminal.standard_streams import printable
from nanotorch.train.terminal.text_report import short
from nanotorch.viz.marks import Point, circle, element, hover, polyline, rect, text, words

SERIES = ("train", "validation", "test", "other", "fifth", "sixth", "seventh", "eighth")
WIDTH, HEIGHT, SQUARE = 344, 236, 320  # pixels of a page
LETTER = 6.6  # the width of one, at most, on average
TITLE_LETTER = 8.0  # of a title, which is a name that may have only wide ones
TITLE, ROW, BELOW, EDGE = 22, 17, 36, 8  # the height of the title, of a row of names, and of what is below the axis
MOST_DRAWN = 400  # of the points of a line, twice as many
MOST_HOVERS = 160  # points of a chart that answer to the pointer
TICKS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """Points that are joined, each a value `y` at a place `x`; what is not finite leaves a gap.

    Attributes:
        name: of the line, in the key of the chart; empty where it needs none.
        colour: one of `SERIES`, or "quiet".
        dashes: of the stroke, as SVG writes them; empty for none.
        marked: the place of a point that gets a dot.
        thin: whether it is half as wide.
        band: for each point how far an area reaches below and above it; empty for none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "train"
    dashes: str = ""
    marked: float | None = None
    thin: bool = False
    band: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Dots:
    """Points that are not joined, each with its radius and what is said of it."""

    x: Sequence[float]
    y: Sequence[float]
    radius: Sequence[float]
    said: Sequence[str] = ()
    colour: str = "train"


@dataclass(frozen=True, slots=True)
class Chart:
    """What is to be drawn.

    Attributes:
        title: what is measured.
        across: what the horizontal axis is.
        description: all that it shows in one sentence, for those who do not see it.
        lines: drawn in this order.
        dots: drawn over them.
        rule: the place of a vertical line.
        low: the smallest value that the vertical axis has to show.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical one is.
        whole: whether places are whole numbers.
        span: both axes go from and to these values, and are equally long; None where the data say it.
        below: whether each name has a row below the axis, as of many lines, or all stand above it.
        width: in pixels.
    """

    title: str
    across: str
    description: str
    lines: Sequence[Line] = ()
    dots: Sequence[Dots] = ()
    rule: float | None = None
    low: float | None = None
    log_x: bool = False
    log_y: bool = False
    whole: bool = False
    span: tuple[float, float] | None = None
    below: bool = False
    width: int = WIDTH

    @property
    def names(self) -> list[Line]:
        """The lines that the key names."""
        return [line for line in self.lines if line.name]

    @property
    def height(self) -> int:
        """In pixels."""
        plain = SQUARE + TITLE if self.span else HEIGHT
        return plain + ROW * (len(self.names) if self.below else bool(self.names))


def ticks(low: float, high: float, log: bool, most: int = TICKS) -> list[float]:
    """Return round numbers between two bounds, few of them; the bounds where there are none.

    >>> ticks(0.0, 10.0, False), ticks(1e-4, 1.0, True)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.0001, 0.001, 0.01, 0.1, 1.0])
    """
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for times in ((1,), (1, 3), (1, 2, 5)):
            found = [10.0**power * each for power in decades for each in times if low <= 10.0**power * each <= high]
            if len(found) > 2:
                return found[:: math.ceil(len(found) / most)]
        return [low, high]
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(unit * times for times in (1, 2, 5, 10, 20) if (high - low) / (unit * times) < most)
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def inline(chart: Chart) -> Html:
    """Return the drawing as an element of a page."""
    return Html(
        element(
            "svg",
            *_drawn(chart),
            class_="chart",
            viewBox=f"0 0 {chart.width} {chart.height}",
            role="img",
            aria_label=printable(chart.description, kept=""),
            style=f"max-width: {1.15 * chart.width:.0f}px",
        )
    )


def alone(charts: Sequence[Chart], title: str = "", lead: str = "") -> str:
    """Return drawings beside one another as a file, under a title; a browser shows it in light or dark."""
    gap, head = 28, 60 if title else 16
    width, height = sum(chart.width + gap for chart in charts) + gap, max(chart.height for chart in charts) + head + 12
    places = [gap + sum(one.width + gap for one in charts[:place]) for place in range(len(charts))]
    inner = [
        element("g", *_drawn(chart), transform=f"translate({x} {head})")
        for x, chart in zip(places, charts, strict=True)
    ]
    said = ". ".join(chart.description for chart in charts)
    above = [
        text(gap, 24, short(title, width // 9), class_="title", style="font-size: 16px; font-weight: 600"),
        text(gap, 42, short(lead, int(width / LETTER))),
    ]
    return element(
        "svg",
        element("title", words(printable(said, kept=""))),
        element("style", _style_alone()),
        rect(0, 0, width, height, class_="paper"),
        *(above if title else ()),
        *inner,
        xmlns="http://www.w3.org/2000/svg",
        class_="chart",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )


# ------------------------------------------------------------ colours


@cache
def colours(dark: bool = False) -> dict[str, str]:
    """Return the colours of pages by their names."""
    source = stylesheet("colours").partition("@media (prefers-color-scheme: dark)")[2 if dark else 0]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", source.partition("@media print")[0]))


def _style_alone() -> str:
    """Return the style of a file that has no page around it: with the colours themselves, for any program that
    draws it.
    """
    rules = stylesheet("chart") + ".paper { fill: var(--card); }\n"
    light, dark = rules, rules
    for name in colours():
        light = light.replace(f"var(--{name})", colours()[name])
        dark = dark.replace(f"var(--{name})", colours(dark=True)[name])
    return f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"


# ------------------------------------------------------------ the drawing


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where values stand between two pixels."""

    low: float
    high: float
    log: bool
    start: float
    end: float

    def at(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _drawn(chart: Chart) -> list[str]:
    """Return the elements of a chart."""
    shown: list[Line | Dots] = [*chart.lines, *chart.dots]
    xs = [float(x) for one in shown for x in one.x if math.isfinite(x)]
    ys = [float(y) for one in shown for y in one.y if math.isfinite(y)]
    banded = [line for line in chart.lines if line.band]
    for value, far in (pair for line in banded for pair in zip(line.y, line.band, strict=True)):
        ys += [end for end in (value - far, value + far) if math.isfinite(end) and (end > 0 or not chart.log_y)]
    low_x, high_x = chart.span or _span(xs, chart.log_x, 0.02)
    low_y, high_y = chart.span or _span([*ys, *([] if chart.low is None else [chart.low])], chart.log_y, 0.06)
    if chart.low is not None and low_y < chart.low <= min(ys, default=chart.low):
        low_y = chart.low
    up = ticks(low_y, high_y, chart.log_y)
    across = ticks(low_x, high_x, chart.log_x)
    if chart.whole:
        across = [tick for tick in across if tick == round(tick)] or [round(low_x + (high_x - low_x) / 2)]
    labels = [_shown(tick, up) for tick in up]
    left = max(len(label) for label in labels) * LETTER + 8
    top = TITLE + 4 + ROW * (bool(chart.names) and not chart.below)
    bottom = chart.height - BELOW - ROW * len(chart.names) * chart.below
    right = float(chart.width - EDGE)
    if chart.span:  # both axes are equally long
        right = min(right, left + bottom - top)
    x, y = _Axis(low_x, high_x, chart.log_x, left, right), _Axis(low_y, high_y, chart.log_y, bottom, top)
    letters = int(chart.width / LETTER)
    drawn = [text(0, 13, short(chart.title, int(chart.width / TITLE_LETTER)), class_="title")]
    for tick, label in zip(up, labels, strict=True):
        drawn.append(element("path", class_="grid", d=f"M{left:.0f} {y.at(tick):.1f}H{right:.0f}"))
        drawn.append(text(left - 6, y.at(tick) + 4, label, text_anchor="end"))
    drawn.append(element("path", class_="axis", d=f"M{left:.0f} {bottom}H{right:.0f}"))
    end = -math.inf
    for tick in across:
        label = _shown(tick, across)
        half, place = len(label) * LETTER / 2, x.at(tick)
        if place - half > end + 4:
            place = min(place, chart.width - half)
            drawn.append(text(place, bottom + 15, label, text_anchor="middle"))
            end = place + half
    drawn.append(text((left + right) / 2, bottom + 31, short(chart.across, letters), text_anchor="middle"))
    if chart.rule is not None:
        drawn.append(
            element("path", class_="axis", d=f"M{x.at(chart.rule):.1f} {top}V{bottom}", stroke_dasharray="2 3")
        )
    for line in chart.lines:
        drawn += _line(line, x, y)
    for dots in chart.dots:
        drawn += _dots(dots, x, y)
    most = MOST_HOVERS // max(len(chart.lines), 1)
    for line in chart.lines:
        drawn += _hits(line, x, y, most, chart)
    return drawn + _key(chart, top, bottom)


def _key(chart: Chart, top: float, bottom: float) -> list[str]:
    """Return the names of the lines, each with a piece of it."""
    drawn, at, row = [], 0.0, (bottom + BELOW + 10 if chart.below else top - 6.0)
    for line in chart.names:
        stroke = {"stroke_dasharray": line.dashes, "class_": f"line {line.colour}{' thin' * line.thin}"}
        drawn.append(element("path", d=f"M{at + 1:.1f} {row - 4:.1f}h18", **stroke))
        name = short(line.name, int((chart.width - at - 24) / LETTER))
        drawn.append(text(at + 24, row, name, class_=f"key {line.colour}"))
        if chart.below:
            row += ROW
        else:
            at += 24 + len(name) * LETTER + 12
    return drawn


def _line(line: Line, x: _Axis, y: _Axis) -> list[str]:
    name = f"line {line.colour}{' thin' * line.thin}"
    drawn = [_band(line, x, y)] if len(line.band) > 1 else []
    for piece in _pieces(line):
        points = [(x.at(a), y.at(b)) for a, b in piece]
        if len(points) == 1:
            drawn.append(circle(points[0], 3.0, class_=f"dot {line.colour}"))
        else:
            drawn.append(polyline(points, hover(printable(line.name)), class_=name, stroke_dasharray=line.dashes))
        drawn += [
            circle(point, 3.5, class_=f"dot {line.colour}")
            for (a, _), point in zip(piece, points, strict=True)
            if a == line.marked
        ]
    return drawn


def _band(line: Line, x: _Axis, y: _Axis) -> str:
    """Return the area around a line."""
    points = list(zip(line.x, line.y, line.band, strict=True))
    above = [f"{x.at(a):.1f} {y.at(b + far):.1f}" for a, b, far in points]
    below = [f"{x.at(a):.1f} {y.at(max(b - far, y.low)):.1f}" for a, b, far in reversed(points)]
    return element("path", d=f"M{'L'.join([*above, *below])}Z", class_=f"band {line.colour}")


def _pieces(line: Line) -> list[list[Point]]:
    """Return the points between gaps; of very many those that are seen, the lowest and highest of each place."""
    pieces: list[list[Point]] = [[]]
    for point in zip(map(float, line.x), map(float, line.y), strict=True):
        if math.isfinite(point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    found = []
    for piece in filter(None, pieces):
        if len(piece) > 2 * MOST_DRAWN:
            cut = np.linspace(0, len(piece), MOST_DRAWN + 1).astype(int).tolist()
            kept = {0, len(piece) - 1, *(k for k, (place, _) in enumerate(piece) if place == line.marked)}
            for start, end in pairwise(cut):
                values = [value for _, value in piece[start:end]]
                kept |= {start + values.index(min(values)), start + values.index(max(values))}
            piece = [piece[k] for k in sorted(kept)]
        found.append(piece)
    return found


def _hits(line: Line, x: _Axis, y: _Axis, most: int, chart: Chart) -> list[str]:
    """Return the points of a line that answer to the pointer."""
    if line.colour == "quiet":
        return []
    points = [(a, b) for a, b in zip(line.x, line.y, strict=True) if math.isfinite(b)]
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), most)).astype(int)).tolist()
    name = line.name or chart.title
    return [
        circle(
            (x.at(a), y.at(b)), 5.0, hover(printable(f"{chart.across} {a:g}: {name} {b:.4g}")),
            class_=f"hit {line.colour}",
        )
        for a, b in (points[k] for k in chosen)
    ]  # fmt: skip


def _dots(dots: Dots, x: _Axis, y: _Axis) -> list[str]:
    said: Sequence[str] = dots.said or [""] * len(dots.x)
    return [
        circle((x.at(a), y.at(b)), radius, hover(printable(name)), class_=f"dot many {dots.colour}")
        for a, b, radius, name in zip(dots.x, dots.y, dots.radius, said, strict=True)
    ]


def _span(values: Sequence[float], log: bool, room: float) -> tuple[float, float]:
    """Return the ends of an axis that shows these values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if log:
        factor = (high / low) ** room if high > low else 2.0
        return low / factor, high * factor
    if high == low:
        return low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    return low - room * (high - low), high + room * (high - low)


def _shown(tick: float, all_of_them: Sequence[float]) -> str:
    """Return a tick as text, with as many digits as tell it from its neighbours."""
    return next(
        (
            text
            for digits in range(3, 17)
            if len({f"{one:.{digits}g}" for one in all_of_them}) == len(all_of_them)
            and (text := f"{tick:.{digits}g}")
        ),
        f"{tick:g}",
    ).replace("e+0", "e").replace("e-0", "e-")  # fmt: skip
