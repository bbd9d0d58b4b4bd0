"""What there is in the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nanotorch.train.report import data_card
from nanotorch.train.report.data_card import Column
from nanotorch.train.report.markup import Html, facts, fill, join, measured, percent, table, titled
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections.pieces import MOST_CLASSES, MOST_COLUMNS, OPEN_COLUMNS


def data(found: Findings) -> Iterator[Html]:
    """Give what there is in the table."""
    train = found.parts["train"]
    count = train.features.shape[1]
    described = data_card.columns(train, MOST_COLUMNS)
    rows = sum(len(part) for part in found.parts.values())
    missing = sum(column.missing for column in described)
    yield facts(
        [
            ("rows", f"{rows:,}"),
            *((f"{name} part", f"{len(part):,} rows, {len(part) / rows:.0%}") for name, part in found.parts.items()),
            ("feature columns", f"{count:,}"),
            ("numbers that the model takes", f"{found.preprocessing.in_features:,}"),
            (
                "missing values",
                f"{missing:,} in {sum(column.missing > 0 for column in described)} columns" if missing else "none",
            ),
        ]
    )
    yield join(fill('<p class="note mild">{text}</p>', text=text) for text in found.notices)
    if found.oddities:
        yield titled(
            "What the data hold",
            *(fill('<p class="note">{what}; {why}.</p>', what=odd.what, why=odd.why) for odd in found.oddities),
        )
    if found.is_regression:
        targets = [data_card.describe(name, train.targets[:, k]) for k, name in enumerate(found.names[:MOST_COLUMNS])]
        yield _column_table("Targets, on the training part", targets)
    else:
        every = data_card.class_counts(found.parts)
        counts = every[:MOST_CLASSES]
        lines = [[name, *each, sum(each), percent(sum(each) / rows)] for name, each in counts]
        first = "" if len(counts) == len(every) else f"; the first {MOST_CLASSES} of {len(every):,}"
        yield table(f"Rows of every class{first}", ["class", *found.parts, "all", "share"], lines)
    looked = data_card.described_rows(train)
    of = "the training part" if looked == len(train) else f"{looked:,} rows of the training part"
    first = "" if count <= MOST_COLUMNS else f"; the first {MOST_COLUMNS} of {count:,}"
    columns = _column_table(f"Feature columns, on {of}{first}", described)
    if len(described) <= OPEN_COLUMNS:
        yield columns
    else:
        yield fill(
            "<details><summary>{count} feature columns</summary>{columns}</details>",
            count=f"{count:,}",
            columns=columns,
        )


def _column_table(caption: str, columns: Sequence[Column]) -> Html:
    heads = ["column", "distribution", "kind", "missing", "values", "mean", "deviation", "least", "median", "most"]
    rows = []
    for one in columns:
        cells = [
            None if value is None else measured(value)
            for value in (one.mean, one.deviation, one.least, one.median, one.most)
        ]
        if one.common:
            listed = ", ".join(f"{name} {share:.0%}" for name, share in one.common[:4])
            cells = [
                fill(
                    '<td class="text" colspan="5">{listed}</td>',
                    listed=listed + (", ..." if len(one.common) > 4 else ""),
                )
            ]
        rows.append([one.name, _bars(one), one.kind, one.missing, one.distinct, *cells])
    return table(caption, heads, rows)


def _bars(column: Column) -> Html:
    width = 96 / max(len(column.bars), 1)
    bars = join(
        Html(f'<rect x="{k * width:g}" y="{24 - height:.1f}" width="{width - 1:g}" height="{height:.1f}"/>')
        for k, share in enumerate(column.bars)
        if (height := max(24 * share, 1.0 if share else 0.0))
    )
    return fill('<td><svg viewBox="0 0 96 24" aria-hidden="true">{bars}</svg></td>', bars=bars)
