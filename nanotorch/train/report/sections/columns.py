"""What the model goes by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nanotorch.train.report.markup import Html, fill, measured, table
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections.pieces import MOST_COLUMNS, OPEN_COLUMNS
from nanotorch.train.score.judgement import Estimate, Worth
from nanotorch.train.terminal.text_report import counted
from nanotorch.viz.marks import element, rect

MOST_TOP = 15  # columns of many


def columns(found: Findings, worths: Sequence[Worth], looked: int) -> Iterator[Html]:
    """Give what each column is worth to the model."""
    if not worths:
        yield Html("<p>What each column is worth would take long to find out here, and is left out.</p>")
        return
    unit = "1 - R2" if found.is_regression else "the mean loss"
    yield fill(
        "<p>How much {unit} of {rows} of the {part} part grows when the values of a column are shuffled, so that they"
        " say nothing: what the model goes by, which need not be a cause. Columns that say the same share their worth."
        " Where the interval of 95% holds 0, the model may do without the column.</p>",
        unit=unit,
        rows=counted(looked, "row"),
        part=found.judged,
    )
    shown = worths[:MOST_COLUMNS]
    widest = max(max(abs(worth.loss.high), abs(worth.loss.low)) for worth in worths) or 1.0
    rows = [
        [
            one.name,
            _worth_bar(one.loss, widest),
            measured(one.loss.value),
            measured(one.loss.low),
            measured(one.loss.high),
        ]
        for one in shown
    ]
    first = "" if len(shown) == len(worths) else f"; the first {len(shown)} of {len(worths):,}"
    content = table(f"What columns are worth{first}", ["column", "", "worth", "from", "to"], rows)
    if len(rows) <= OPEN_COLUMNS:
        yield content
    else:
        yield table(
            f"The {MOST_TOP} columns that are worth most", ["column", "", "worth", "from", "to"], rows[:MOST_TOP]
        )
        yield fill("<details><summary>{count} columns</summary>{content}</details>", count=len(rows), content=content)


def _worth_bar(of: Estimate, widest: float) -> Html:
    """Return a bar from 0 to the worth, and a line over its interval."""
    zero, unit = 30.0, 110 / widest
    start, end = (zero + max(value * unit, -zero) for value in (min(of.value, 0.0), max(of.value, 0.0)))
    low, high = (zero + max(value * unit, -zero) for value in (of.low, of.high))
    drawn = rect(start, 5, max(end - start, 0.5), 12) + element("path", d=f"M{low:.1f} 11H{high:.1f}", class_="whisker")
    return fill('<td class="worth"><svg viewBox="0 0 144 22" aria-hidden="true">{drawn}</svg></td>', drawn=Html(drawn))
