"""What the model goes by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nanotorch.train.report import dependence
from nanotorch.train.report.chart import SERIES, Chart, Line, inline
from nanotorch.train.report.markup import Html, beside, figure, figures_beside, fill, measured, table, titled
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections.pieces import MOST_COLUMNS, OPEN_COLUMNS, abbreviated
from nanotorch.train.score.judgement import Estimate, Worth
from nanotorch.train.terminal.text_report import counted, number, short
from nanotorch.viz.marks import element, rect

MOST_TOP = 15  # columns of many
LONGEST = 20  # of a name over answers


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
    yield from _dependence(found, worths)


def _dependence(found: Findings, worths: Sequence[Worth]) -> Iterator[Html]:
    """Give how the answers change with the columns that are worth most."""
    told, chosen = dependence.dependences(found, worths), dependence.shown(found)
    if not told:
        return
    names = [found.names[k] for k in chosen]
    if found.several:
        told_of = zip(found.names, found.several, dependence.told_classes(found), strict=True)
        names = [f"{name}={classes[k]}" for name, classes, k in told_of][: len(chosen)]
    what = f"predicted {short(names[0], 30)}" if found.is_regression else f"probability of {short(names[0], 26)}"
    drawn, tables = [], []
    for name, values, answers in told:
        if isinstance(values[0], str):
            heads = [abbreviated(one, LONGEST) for one in names] if len(names) > 1 else ["mean"]
            rows = [[value, *map(measured, of)] for value, of in zip(values, answers.tolist(), strict=True)]
            of = what if len(names) == 1 else "probabilities"
            tables.append(table(f"Mean {of} over {short(name, 40)}", ["", *heads], rows))
            continue
        lines = [
            Line(short(one, 12) if len(names) > 1 else "", values, answers[:, k].tolist(), SERIES[k])
            for k, one in enumerate(names)
        ]
        ends = ", ".join(
            f"{one} from {number(float(of[0]))} to {number(float(of[-1]))}"
            for one, of in zip(names, answers.T, strict=True)
        )
        said = f"Mean answer over {name}: {ends}"
        title = what if len(names) == 1 else "probability"
        drawn.append(figure(inline(Chart(title, short(name, 40), said, lines))))
    few = f"; of {len(found.names)} classes the {len(names)} most frequent" if 1 < len(names) < len(found.names) else ""
    if found.several:
        few = f"; of {len(found.names)} targets the first {len(names)}" if len(names) < len(found.names) else ""
    yield titled(
        "How answers change",
        fill(
            "<p>The mean answer over {rows} when one column is set to a value in all of them, and the others stay as"
            " they are: for the columns that are worth most{few}.</p>",
            rows=counted(min(len(found.true), dependence.MOST_ROWS), "row"),
            few=few,
        ),
        *([figures_beside(drawn)] if drawn else []),
        *([beside(*tables)] if tables else []),
    )


def _worth_bar(of: Estimate, widest: float) -> Html:
    """Return a bar from 0 to the worth, and a line over its interval."""
    zero, unit = 30.0, 110 / widest
    start, end = (zero + max(value * unit, -zero) for value in (min(of.value, 0.0), max(of.value, 0.0)))
    low, high = (zero + max(value * unit, -zero) for value in (of.low, of.high))
    drawn = rect(start, 5, max(end - start, 0.5), 12) + element("path", d=f"M{low:.1f} 11H{high:.1f}", class_="whisker")
    return fill('<td class="worth"><svg viewBox="0 0 144 22" aria-hidden="true">{drawn}</svg></td>', drawn=Html(drawn))
