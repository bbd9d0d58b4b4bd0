"""The page of a sweep: its trials ranked by their validation score, as parallel coordinates, table, curves and YAML."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nanotorch.registry import describe_value
from nanotorch.train.config.sweep_checks import changes_loss, on_seeds
from nanotorch.train.report import figures
from nanotorch.train.report.chart import inline
from nanotorch.train.report.markup import (
    Html,
    chapters,
    document,
    figure,
    figures_beside,
    fill,
    join,
    link,
    linked,
    measured,
    scrolling,
    table,
)
from nanotorch.train.report.parallel import MOST_LINES, Line, coordinates, scale
from nanotorch.train.score.meter import is_loss
from nanotorch.train.terminal.text_report import counted, in_short, label, number, short

MOST_NAMED = 8
MOST_ROWS = 1000
BEST, CSV = "best.yaml", "trials.csv"  # beside the page
LONGEST_VALUE = 40


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial as a page shows it.

    Attributes:
        name: of the trial, and of its directory.
        values: what of the config was swept.
        score: the validation score of its best epoch; None where it failed.
        place: its directory.
        ended: why it ended before its time; empty where it did not.
        left: whether it was halving that ended it.
        scores: of each part, by the model of the best epoch.
        spread: of the score over the runs of a trial, where these are several.
        best_epoch: which, where the trial is one run.
        epochs: how many were trained.
        seconds: how long that took.
        history: the record of every epoch, of the best trials.
        tables: whether its steps ran as tables; both, where it is several runs of which some did.
    """

    name: str
    values: Mapping[str, Any]
    score: float | None
    place: Path
    ended: str = ""
    left: bool = False
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    spread: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    seconds: float | None = None
    history: Sequence[Mapping[str, Any]] = ()
    tables: frozenset[bool] = frozenset()


@dataclass(frozen=True, slots=True)
class SweepPage:
    """What there is to tell of a sweep.

    Attributes:
        name: of the sweep.
        tried: its trials, the best first.
        by: the validation score that ranks them.
        axes: the swept keys, with the values to try where these are a list.
        log: of keys with a distribution, whether it is of factors.
        best: the config of the best trial as YAML.
        command: what trains that one again.
    """

    name: str
    tried: Sequence[Tried]
    by: str
    axes: Mapping[str, Sequence[Any]]
    log: Mapping[str, bool]
    best: str
    command: str

    @property
    def scored(self) -> list[tuple[Tried, float]]:
        """The trials that have a score, with it."""
        return [(one, one.score) for one in self.tried if one.score is not None]


def page(found: SweepPage) -> Html:
    """Return the page as HTML that needs nothing beside itself but for its links."""
    sections = {
        "parallel": ("Values and score", [_parallel(found)]),
        "trials": ("Trials", _table(found)),
        "curves": ("Learning curves of the best", _curves(found)),
        "best": ("The best config", _best(found)),
    }
    body = join([_header(found), chapters(sections)])
    return document(f"{found.name}: sweep", body)


def lead(found: SweepPage) -> str:
    """Return in words which trial is the best, by what, and what it beat."""
    (best, score), *others = found.scored
    values = ", ".join(f"{key} {short(describe_value(value), 60)}" for key, value in best.values.items())
    text = f"{best.name} is the best by validation {label(found.by)}: {number(score)}, with {values}."
    scores = [each for _, each in others]
    if scores:
        same = " The next best has the same" + ("" if any(map(changes_loss, found.axes)) else ", and no smaller loss")
        text += same if scores[0] == score else f" The next best has {number(scores[0])}"
        worst = max(scores) if is_loss(found.by) else min(scores)
        text += (
            f"; of {counted(len(scores), 'other trial')} the middle one has {number(float(np.median(scores)))} and the"
            f" worst {number(worst)}."
        )
    failed = len(found.tried) - len(found.scored)
    return text + (f" {counted(failed, 'trial')} failed." if failed else "")


def _header(found: SweepPage) -> Html:
    (best, score), *_ = found.scored
    judged = list(best.scores)[-1]
    tiles: list[tuple[str, Any]] = [
        (f"best validation {label(found.by)}", number(score)),
        (f"its {judged} {label(found.by)}", number(best.scores[judged][found.by])),
        ("trials", f"{len(found.tried):,}"),
    ]
    left, epochs = sum(one.left for one in found.tried), sum(one.epochs for one in found.tried)
    tiles += [("left early", f"{left:,}")] if left else []
    tiles += [("epochs of all", f"{epochs:,}")]
    boxes = join(fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=name, value=value) for name, value in tiles)
    return fill(
        '<header>\n<h1>{name}</h1>\n<p class="lead">{lead}</p>\n<dl class="tiles">\n{boxes}\n</dl>\n</header>',
        name=found.name,
        lead=lead(found),
        boxes=boxes,
    )


def _parallel(found: SweepPage) -> Html:
    """Return a line for every trial, the better ones stronger and above the others."""
    every = found.scored
    shown = every[:: math.ceil(len(every) / MOST_LINES)]
    values = {key: [one.values[key] for one, _ in shown] for key in found.axes}
    keys = {key: name for key, name in in_short(found.axes).items() if any(v != values[key][0] for v in values[key])}
    scales = [scale(keys[key], values[key], found.axes[key], found.log.get(key)) for key in keys]
    scores = [score for _, score in shown]
    end = scale(f"validation {label(found.by)}", scores, down=is_loss(found.by))
    lines = []
    for index, (one, score) in reversed(list(enumerate(shown))):
        strength = 1 - index / max(len(shown) - 1, 1)
        places = [at.place(one.values[key], strength) for at, key in zip(scales, keys, strict=True)]
        said = ", ".join(f"{key} {short(describe_value(value), LONGEST_VALUE)}" for key, value in one.values.items())
        kind = "best" if index == 0 else "left" if one.left else ""
        lines.append(
            Line(f"{one.name}: {label(found.by)} {number(score)}, {said}", [*places, end.place(score)], strength, kind)
        )
    description = (
        f"Parallel coordinates of {len(shown)} trials over {', '.join([*keys, f'validation {label(found.by)}'])}, which"
        f" goes from {number(min(scores))} to {number(max(scores))}"
    )
    notes = [" Broken lines left the sweep early."] if any(one.left for one, _ in shown) else []
    notes += [f" {len(shown):,} of {len(every):,} trials are drawn."] if len(shown) < len(every) else []
    failed = len(found.tried) - len(every)
    notes += [f" {counted(failed, 'trial')} failed and {'has' if failed == 1 else 'have'} no line."] if failed else []
    return fill(
        "<figure>\n{drawing}\n<figcaption>Every line is a trial; the better its validation score, the stronger. The"
        ' best one is <span class="swatch"></span>.{notes}</figcaption>\n</figure>',
        drawing=scrolling("parallel coordinates", coordinates([*scales, end], lines, description)),
        notes="".join(notes),
    )


def _table(found: SweepPage) -> Iterator[Html]:
    several = any(one.spread is not None for one in found.tried)
    judged = list(found.scored[0][0].scores)[-1]
    tested = list(dict.fromkeys([found.by, "loss"]))
    heads = ["trial", *in_short(found.axes).values(), f"validation {label(found.by)}", *["spread"] * several]
    rows: list[list[Any]] = []
    for place, one in enumerate(found.tried[:MOST_ROWS], start=1):
        cells = [
            linked(f"#{place} {one.name}", one.place, one.place.parent),
            *map(_cell, one.values.values()),
            one.score,
            *[one.spread] * several,
        ]
        cells += [one.scores.get(judged, {}).get(name) for name in tested]
        best = f"{one.best_epoch} of {one.epochs}" if one.best_epoch is not None else f"{one.epochs}"
        rows.append([*cells, best, None if one.seconds is None else measured(one.seconds), _end(one)])
    paged = [one for one, _ in found.scored if not one.spread and not (one.place / "report.html").is_file()]
    if paged:
        command = f"python -m nanotorch.report {shlex.quote(str(paged[0].place))}"
        which = paged[0].name
        yield fill(
            '<p class="small">A trial gets a page when it is asked for. This makes that of {which}, which the'
            " table leads to then; another name in its place makes another:</p>\n{text}",
            which=which,
            text=scrolling("the command", fill("<pre>{command}</pre>", command=command)),
        )
    if len(frozenset().union(*[one.tables for one in found.tried])) > 1:
        others = [one.name for one in found.tried if False in one.tables]
        names = f"{', '.join(others[:MOST_NAMED])}{' ...' if len(others) > MOST_NAMED else ''}"
        yield fill(
            '<p class="small">{count} did not run as tables ({names}), and the others did: the'
            " interpreter was not ready when they began, or a program did not pay. The numbers of the two differ by"
            " rounding; <code>env.json</code> of each says what ran.</p>",
            count=counted(len(others), "trial"),
            names=names,
        )
    yield table(
        f"Ranked by validation {label(found.by)}, of the best epoch of each trial. The {judged} scores had no part in"
        " that, and so tell what to expect of new data. Trials are trained side by side: their seconds overlap."
        f" {on_seeds(found.axes)}".rstrip(),
        [*heads, *(f"{judged} {label(name)}" for name in tested), "best epoch", "seconds", "ended"],
        rows,
    )
    if len(found.tried) > MOST_ROWS:
        more = f"{len(found.tried) - MOST_ROWS:,}"
        yield fill('<p class="small">{more} more trials are in {file}.</p>', more=more, file=link(CSV, CSV))


def _end(one: Tried) -> str:
    return f"failed: {one.ended}" if one.score is None else one.ended or "-"


def _cell(value: Any) -> Any:
    """Return a value as a cell: numbers as they are written, others as text."""
    if type(value) in (int, float):
        shown = f"{value:.6g}" if isinstance(value, float) else value
        return fill('<td class="number"><data value="{exact}">{shown}</data></td>', exact=repr(value), shown=shown)
    return describe_value(value)


def _curves(found: SweepPage) -> Iterator[Html]:
    drawn = [(f"#{place} {one.name}", one.history) for place, one in enumerate(found.tried, 1) if one.history]
    if not drawn:
        yield Html("<p>Every trial is several runs, whose curves are in their directories.</p>")
    else:
        keys = [f"validation_{name}" for name in dict.fromkeys([found.by, "loss"])]
        drawings = [figure(inline(figures.overlay(drawn, key))) for key in keys]
        yield figures_beside(drawings)


def _best(found: SweepPage) -> Iterator[Html]:
    yield fill(
        "<p>{file} is the config of {name}. <code>{command}</code> trains it again, with the same numbers.</p>",
        file=link(BEST, BEST),
        name=found.tried[0].name,
        command=found.command,
    )
    yield scrolling("the config of the best trial", fill("<pre>{text}</pre>", text=found.best.strip("\n")))
