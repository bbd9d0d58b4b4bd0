"""The page of a sweep: its trials ranked by their validation score, as parallel coordinates, table, curves and YAML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanotorch.registry import describe_value
from nanotorch.train.report import figures
from nanotorch.train.report.comparison import ComparedRun
from nanotorch.train.report.markup import (
    Html,
    document,
    figure,
    fill,
    join,
    link,
    measured,
    no_figures,
    scrolling,
    section,
    table,
)
from nanotorch.train.report.parallel import MOST_LINES, Line, coordinates, scale
from nanotorch.train.score.meter import is_loss
from nanotorch.train.terminal.text_report import duration, in_short, label, number, short

MOST_ROWS = 1000
MOST_CURVES = 6
LONGEST_VALUE = 40


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial as a page shows it.

    Attributes:
        name: of the trial, and of its directory beside the page.
        values: what of the config was swept.
        run: what its directory says; None where nothing was written.
        ended: why it did not come to its end; empty where it did.
    """

    name: str
    values: Mapping[str, Any]
    run: ComparedRun | None
    ended: str = ""

    def score(self, by: str) -> float:
        """Return the validation score of the best epoch, as far as the trial came; NaN where there is none."""
        if self.run is None:
            return math.nan
        final = self.run.score("validation", by)
        if final is not None:
            return final
        key = f"validation_{by}"
        every = [record[key] for record in self.run.history if math.isfinite(record.get(key, math.nan))]
        return math.nan if not every else min(every) if is_loss(by) else max(every)

    @property
    def is_complete(self) -> bool:
        """Whether it was trained to its end, be it an early one, and tested."""
        return self.run is not None and self.run.summary is not None

    @property
    def progress(self) -> str:
        """How it ended, in words; empty where it was trained as long as the config says."""
        if self.is_complete:
            assert self.run is not None and self.run.summary is not None
            return self.run.summary.get("stopped") or ""
        return self.ended or ("not begun" if self.run is None else f"not complete: {self.run.progress}")


def ranked(tried: Sequence[Tried], by: str) -> list[Tried]:
    """Return the trials, the best first: by validation score, among equals by validation loss, as epochs are.

    Those that did not come to their end follow, and last those that have no score.
    """

    def rank(one: Tried) -> tuple[bool, float, float]:
        score, loss = one.score(by), one.score("loss")
        lacking = math.inf if math.isnan(score) else score if is_loss(by) else -score
        return not one.is_complete, lacking, math.inf if math.isnan(loss) else loss

    return sorted(tried, key=rank)


@dataclass(frozen=True, slots=True)
class SweepPage:
    """What there is to tell of a sweep.

    Attributes:
        name: of the sweep.
        tried: its trials, the best first.
        by: the validation score that ranks them.
        axes: the swept keys, with the values to try where these are a list.
        log: of keys with a distribution, whether it is of factors.
        best: the config of the best trial as YAML; empty where none is complete.
        command: what trains that one again.
    """

    name: str
    tried: Sequence[Tried]
    by: str
    axes: Mapping[str, Sequence[Any]]
    log: Mapping[str, bool] = field(default_factory=dict)
    best: str = ""
    command: str = ""

    @property
    def complete(self) -> list[Tried]:
        """The trials that came to their end."""
        return [one for one in self.tried if one.is_complete]


def page(found: SweepPage) -> Html:
    """Return the page as HTML that needs nothing beside itself but for its links."""
    sections = {
        "parallel": ("Values and score", [_parallel(found)]),
        "trials": ("Trials", _table(found)),
        "curves": ("Learning curves", _curves(found)),
        "best": ("The best config", _best(found)),
    }
    links = join(
        fill('<li><a href="#{key}">{title}</a></li>', key=key, title=title) for key, (title, _) in sections.items()
    )
    body = join(
        [
            _header(found),
            fill('<nav aria-label="sections"><ul>\n{links}\n</ul></nav>', links=links),
            fill(
                "<main>\n{all}\n</main>",
                all=join(section(key, title, *parts) for key, (title, parts) in sections.items()),
            ),
        ]
    )
    return document(f"{found.name}: sweep", body)


def lead(found: SweepPage) -> str:
    """Return in words which trial is the best, by what, and what it beat."""
    complete, by = found.complete, label(found.by)
    if not complete:
        return f"None of {_count(len(found.tried), 'trial')} has come to its end."
    best, *others = complete
    values = ", ".join(f"{key} {short(describe_value(value), 60)}" for key, value in best.values.items())
    text = f"{best.name} is the best by validation {by}: {number(best.score(found.by))}, with {values}."
    scores = [score for one in others if not math.isnan(score := one.score(found.by))]
    if scores:
        worst = max(scores) if is_loss(found.by) else min(scores)
        middle = float(np.median(scores))
        next_best = "The next best has the same score" if scores[0] == best.score(found.by) else "The next best has"
        next_best += " and no smaller loss" if scores[0] == best.score(found.by) else f" {number(scores[0])}"
        text += (
            f" {next_best}; of {_count(len(scores), 'other trial')} the middle one has"
            f" {number(middle)} and the worst {number(worst)}."
        )
    left = len(found.tried) - len(complete)
    return text + (f" {_count(left, 'trial')} did not come to {'its' if left == 1 else 'their'} end." if left else "")


def _header(found: SweepPage) -> Html:
    complete = found.complete
    tiles: list[tuple[str, Any]] = [("trials", f"{len(found.tried):,}")]
    if complete:
        best = complete[0]
        assert best.run is not None
        tiles = [
            (f"best validation {label(found.by)}", number(best.score(found.by))),
            (f"its test {label(found.by)}", _or_dash(best.run.score("test", found.by))),
            *tiles,
            ("complete", f"{len(complete):,}"),
        ]
        seconds = [one.run.summary.get("seconds") for one in complete if one.run and one.run.summary]
        known = [second for second in seconds if second is not None]
        tiles += [("time of all", duration(sum(known)))] if known else []
    boxes = join(fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=name, value=value) for name, value in tiles)
    return fill(
        '<header>\n<h1>{name}</h1>\n<p class="lead">{lead}</p>\n<dl class="tiles">\n{boxes}\n</dl>\n</header>',
        name=found.name,
        lead=lead(found),
        boxes=boxes,
    )


def _or_dash(value: float | None) -> str:
    return "-" if value is None else number(value)


def _parallel(found: SweepPage) -> Html:
    """Return a line for every trial, the better ones stronger and above the others."""
    scored = [one for one in found.tried if not math.isnan(one.score(found.by))]
    lacking = len(found.tried) - len(scored)
    shown = scored[:: math.ceil(len(scored) / MOST_LINES)] if len(scored) > MOST_LINES else scored
    if not shown:
        return Html("<p>No trial has a validation score yet.</p>")
    keys = in_short(found.axes)
    values = {key: [one.values[key] for one in shown] for key in keys}
    keys = {key: name for key, name in keys.items() if any(value != values[key][0] for value in values[key])}
    scales = [scale(keys[key], values[key], found.axes[key], found.log.get(key)) for key in keys]
    scores = [one.score(found.by) for one in shown]
    end = scale(f"validation {label(found.by)}", scores, down=is_loss(found.by))
    order = sorted(range(len(shown)), key=lambda index: scores[index] if is_loss(found.by) else -scores[index])
    strength = {index: 1 - place / max(len(order) - 1, 1) for place, index in enumerate(order)}
    lines = []
    for index in reversed(range(len(shown))):
        one = shown[index]
        places = [at.place(one.values[key], strength[index]) for at, key in zip(scales, keys, strict=True)]
        said = ", ".join(f"{key} {short(describe_value(value), LONGEST_VALUE)}" for key, value in one.values.items())
        name = f"{one.name}: {label(found.by)} {number(scores[index])}, {said}"
        kind = "best" if index == 0 and one.is_complete else "" if one.is_complete else "ended"
        lines.append(Line(name, [*places, end.place(scores[index])], strength[index], kind))
    description = (
        f"Parallel coordinates of {len(shown)} trials over {', '.join(keys)} and validation {label(found.by)}, which"
        f" goes from {number(min(scores))} to {number(max(scores))}"
    )
    caption = "Every line is a trial; the better its validation score, the stronger. The best one is"
    less = f" {len(shown):,} of {len(scored):,} trials are drawn." if len(shown) < len(scored) else ""
    less += (
        f" {_count(lacking, 'trial')} without a score {'is' if lacking == 1 else 'are'} left out." if lacking else ""
    )
    less += " Broken lines did not come to their end." if any(not one.is_complete for one in shown) else ""
    return fill(
        '<figure>\n{drawing}\n<figcaption>{caption} <span class="swatch"></span>.{less}</figcaption>\n</figure>',
        drawing=scrolling("parallel coordinates", coordinates([*scales, end], lines, description)),
        caption=caption,
        less=less,
    )


def _table(found: SweepPage) -> Iterator[Html]:
    runs = [one.run for one in found.tried if one.run is not None]
    several = any(run.spread("validation", found.by) is not None for run in runs)
    tested = [name for name in (found.by, "loss") if any(run.score("test", name) is not None for run in runs)]
    heads = ["trial", *in_short(found.axes).values(), f"validation {label(found.by)}"]
    heads += ["spread"] * several + [f"test {label(name)}" for name in dict.fromkeys(tested)]
    rows: list[list[Any]] = []
    for place, one in enumerate(found.tried[:MOST_ROWS], start=1):
        score, summary = one.score(found.by), (one.run and one.run.summary) or {}
        cells: list[Any] = [_cell(value) for value in one.values.values()]
        cells.append(None if math.isnan(score) else score)
        cells += [one.run and one.run.spread("validation", found.by)] * several
        cells += [one.run and one.run.score("test", name) for name in dict.fromkeys(tested)]
        seconds = summary.get("seconds")
        best = f"{summary['best_epoch']} of {summary['epochs']}" if "best_epoch" in summary else "-"
        rows.append(
            [_linked(one, place), *cells, best, None if seconds is None else measured(seconds), one.progress or "-"]
        )
    yield table(
        f"Ranked by validation {label(found.by)}: the test scores had no part in it, and tell what to expect of new"
        " data. Each is of the best epoch of its trial.",
        [*heads, "best epoch", "seconds", "ended"],
        rows,
    )
    if len(found.tried) > MOST_ROWS:
        yield fill('<p class="small">{more} more trials.</p>', more=f"{len(found.tried) - MOST_ROWS:,}")


def _cell(value: Any) -> Any:
    """Return a value as a cell: numbers as they are written, others as text."""
    if type(value) in (int, float):
        shown = f"{value:.6g}" if isinstance(value, float) else value
        return fill('<td class="number"><data value="{exact}">{shown}</data></td>', exact=repr(value), shown=shown)
    return describe_value(value)


def _linked(one: Tried, place: int) -> Html:
    """Return the name of a trial, which leads to its page, or to its directory where it has none."""
    name = fill("#{place} {name}", place=place, name=one.name)
    if one.run is None:
        return name
    has_page = (one.run.place / "report.html").is_file()
    return link(f"{one.name}/report.html" if has_page else f"{one.name}/", name)


def _curves(found: SweepPage) -> Iterator[Html]:
    histories = [(f"#{place} {one.name}", one.run.history) for place, one in enumerate(found.tried, 1) if one.run]
    drawn = [(name, history) for name, history in histories if history][:MOST_CURVES]
    if not drawn:
        yield Html("<p>The trials are several runs each, whose curves are on their own pages.</p>")
        return
    if not figures.matplotlib_is_there():
        yield no_figures()
        return
    keys = [f"validation_{name}" for name in dict.fromkeys([found.by, "loss"])]
    drawings = [
        figure(figures.overlay(drawn, key))
        for key in keys
        if all(history[-1].get(key) is not None for _, history in drawn)
    ]
    if len(drawn) < len(found.tried):
        yield fill("<p>Of the best {count} trials.</p>", count=len(drawn))
    yield fill('<div class="figures">\n{all}\n</div>', all=join(drawings))


def _best(found: SweepPage) -> Iterator[Html]:
    if not found.best:
        yield Html("<p>No trial has come to its end.</p>")
        return
    yield fill(
        "<p>{file} is the config of {name}. <code>{command}</code> trains it again, with the same numbers.</p>",
        file=link("best.yaml", "best.yaml"),
        name=found.complete[0].name,
        command=found.command,
    )
    yield scrolling("the config of the best trial", fill("<pre>{text}</pre>", text=found.best.strip("\n")))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
