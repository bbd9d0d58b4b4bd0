"""Parallel coordinates: a line for every trial of a sweep, over an axis for each key and one for the score.

The drawing is written by hand: every line has a name and a strength of its own, which the page's style turns into a
colour, so that it can be read in light and dark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nanotorch.registry import describe_value
from nanotorch.train.report.chart import TICKS, ticks
from nanotorch.train.report.markup import Html, fill, join
from nanotorch.train.terminal.text_report import short

STEP, TOP, HEIGHT, BELOW = 128, 46, 290, 16  # between axes; above, along and below them
BESIDE = 78  # the first and the last axis from the edges, where their labels stand
LONGEST = 18  # of a label
MOST_LINES = 500
MOST_DISCRETE = 12
SPREAD = 0.05  # of an axis, over which lines through one point are drawn beside one another
APART = 0.055  # of its length, between two labels


@dataclass(frozen=True, slots=True)
class Scale:
    """Where values stand on an axis, from 0 at the bottom to 1 at the top, and the labels beside it."""

    title: str
    places: Mapping[str, float]
    labels: Sequence[tuple[float, str]]

    def place(self, value: Any, strength: float = 0.5) -> float:
        """Return where a value stands; of few values, the strong lines pass a little above it and the weak below."""
        return self.places[_key(value)] + (SPREAD * (strength - 0.5) if len(self.places) <= MOST_DISCRETE else 0.0)


@dataclass(frozen=True, slots=True)
class Line:
    """A trial: its name, where it stands on each axis (None where it has no value), its strength from 0 to 1."""

    name: str
    places: Sequence[float | None]
    strength: float
    kind: str = ""


def _key(value: Any) -> str:
    return json.dumps(value)


def scale(
    title: str, values: Sequence[Any], order: Sequence[Any] = (), log: bool | None = None, down: bool = False
) -> Scale:
    """Return the scale of an axis: of numbers, logarithmic as `log` says or where they span decades; else of words.

    Words stand as in `order`, the first at the top. With `down` small numbers are at the top.
    """
    known = list({_key(value): value for value in [*order, *values]}.values())
    numbers = [value for value in known if type(value) in (int, float) and math.isfinite(value)]
    if len(numbers) < len(known) or not numbers:
        count = len(known)
        places = {_key(value): 1 - (index + 0.5) / count for index, value in enumerate(known)}
        every = max(1, math.ceil(count / 16))
        return Scale(title, places, [(places[_key(v)], short(describe_value(v), LONGEST)) for v in known[::every]])
    low, high = min(numbers), max(numbers)
    log = low > 0 and high > low and (high / low >= 10 if log is None else log)

    def share(value: float) -> float:
        if high == low:
            return 0.5
        up = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return 1 - up if down else up

    places = {_key(value): share(value) for value in numbers}
    labels: list[tuple[float, str]] = []
    for value in sorted(numbers) if len(numbers) <= TICKS else ticks(low, high, log):
        if not labels or abs(share(value) - labels[-1][0]) > APART:
            labels.append((share(value), f"{value:.4g}"))
    return Scale(title, places, labels)


def coordinates(scales: Sequence[Scale], lines: Sequence[Line], description: str) -> Html:
    """Return the drawing; the lines that come last lie above the others."""
    width = STEP * (len(scales) - 1) + 2 * BESIDE
    across = [BESIDE + STEP * index for index in range(len(scales))]
    drawn = join(_line(line, across) for line in lines)
    axes = join(_axis(one, x, x == across[-1]) for one, x in zip(scales, across, strict=True))
    amount = "few" if len(lines) <= 30 else "some" if len(lines) <= 150 else "many"
    return fill(
        '<svg class="parallel {amount}" viewBox="0 0 {width} {height}" role="img" aria-label="{description}"'
        ' style="min-width: {least}px; max-width: {most}px">\n<title>{description}</title>\n{drawn}\n{axes}\n</svg>',
        amount=amount,
        width=width,
        height=TOP + HEIGHT + BELOW,
        least=round(0.94 * width),
        most=round(1.3 * width),
        description=description,
        drawn=drawn,
        axes=axes,
    )


def _line(line: Line, across: Sequence[int]) -> Html:
    points = " ".join(f"{x},{_y(place):.1f}" for x, place in zip(across, line.places, strict=True) if place is not None)
    return fill(
        '<polyline class="{kind}" style="--share: {share}" points="{points}"><title>{name}</title></polyline>',
        kind=line.kind,
        share=f"{line.strength:.2f}",
        points=points,
        name=line.name,
    )


def _axis(one: Scale, x: int, is_last: bool) -> Html:
    kind = Html(' class="last"' if is_last else "")
    labels = join(
        fill(
            '<text{kind} x="{x}" y="{y}">{text}</text>',
            kind=kind,
            x=x + 7 if is_last else x - 7,
            y=f"{_y(place) + 4:.1f}",
            text=text,
        )
        for place, text in one.labels
    )
    return fill(
        '<g><path d="M{x} {top}V{bottom}"/><text class="key" x="{x}" y="{above}">{title}</text>\n{labels}</g>',
        x=x,
        top=TOP,
        bottom=TOP + HEIGHT,
        above=TOP - 22,
        title=short(one.title, 22),
        labels=labels,
    )


def _y(place: float) -> float:
    return TOP + HEIGHT * (1 - place)
