"""A comparison as a page, and as a picture: the learning curves of several runs over one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nanotorch.registry import describe_value
from nanotorch.train.report import figures, pictures
from nanotorch.train.report.chart import inline
from nanotorch.train.report.comparison import Comparison, chances
from nanotorch.train.report.markup import (
    Html,
    chapters,
    document,
    figure,
    figures_beside,
    fill,
    linked,
    measured,
    table,
)
from nanotorch.train.terminal.command import UsageError
from nanotorch.train.terminal.text_report import label
from nanotorch.utils import files


def write(path: Path, found: Comparison) -> None:
    """Write the page (.html) or the picture (.svg, .png, .pdf) that the file's name asks for;
    a UsageError for any other.
    """
    kind = path.suffix.lower()
    if kind not in (".html", *pictures.KINDS):
        *first, last = pictures.KINDS
        raise UsageError(f"{path}: a comparison is written as .html, {', '.join(first)} or {last}")
    if kind == ".html":
        further = {"chance": ("More than chance?", [_chances(found, path.parent)])} if chances(found) else {}
        files.write(path, page(found, "Comparison", path.parent, further=further))
        return
    keys = _curves(found)
    if not keys:
        raise UsageError("these runs have no learning curves of their own: compare the runs in their directories")
    pictures.save(path, [figures.overlay(_histories(found), key) for key in keys])


def page(
    found: Comparison,
    title: str,
    folder: Path,
    lead: str | None = None,
    overall: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    further: Mapping[str, tuple[str, Iterable[str]]] = MappingProxyType({}),
    verdict: str = "",
) -> Html:
    """Return the comparison as HTML that needs nothing beside itself.

    Links go from `folder` to the runs; `overall` are further rows of the table of scores, such as the mean, and
    `further` sections that come after the scores, by their names; `verdict` says how good they are.
    """
    lead = lead or f"{len(found.runs)} runs, the best {found.part} {label(found.by)} first"
    sections: dict[str, tuple[str, Iterable[str]]] = {
        "scores": ("Scores", _scores(found, folder, overall)),
        **further,
        "curves": ("Learning curves", _drawings(found)),
        "config": ("Where the configs differ", [_differences(found)]),
    }
    body = fill(
        '<header>\n<h1>{title}</h1>\n<p class="lead">{lead}</p>\n{verdict}\n</header>\n{all}',
        title=title,
        lead=lead,
        verdict=fill('<p class="verdict">{verdict}</p>', verdict=verdict) if verdict else Html(""),
        all=chapters(sections),
    )
    return document(title, body)


def _scores(found: Comparison, folder: Path, overall: Mapping[str, Mapping[str, float]]) -> Iterator[Html]:
    rows: list[list[Any]] = []
    several = any(run.spread(found.part, found.by) is not None for run in found.runs)
    heads = ["run", "best epoch"]
    for name in found.scores:
        heads += [f"{found.part} {label(name)}", *(["spread"] if several else [])]
    for place, (run, name) in enumerate(zip(found.runs, found.names, strict=True), start=1):
        summary = run.summary or {}
        named = linked(f"#{place} {name}", run.place, folder)
        cells: list[Any] = [named, summary.get("best_epoch") if run.summary is not None else run.progress]
        for score in found.scores:
            cells += [run.score(found.part, score), *([run.spread(found.part, score)] if several else [])]
        seconds = summary.get("seconds")
        rows.append([*cells, summary.get("parameters"), None if seconds is None else measured(seconds)])
    rows += [[name, None, *(scores[score] for score in found.scores), None, None] for name, scores in overall.items()]
    yield table(f"Of the {found.part} part, each by the best epoch of its run", [*heads, "parameters", "seconds"], rows)


def _chances(found: Comparison, folder: Path) -> Html:
    rows = []
    for one in chances(found):
        named = linked(f"#{one.place} {found.names[one.place - 1]}", found.runs[one.place - 1].place, folder)
        rows.append([named, one.verdict, *one.gap, one.rows])
    by = f"{found.part} {label(found.by)}"
    caption = f"Is the difference of the {by} to that of #1 more than chance? With its interval of 95%"
    heads = ["run", "it is", "difference", "from", "to", "judged by"]
    return table(caption, heads, rows)


def _drawings(found: Comparison) -> Iterator[Html]:
    keys = _curves(found)
    drawings = [figure(inline(figures.overlay(_histories(found), key))) for key in keys]
    yield figures_beside(drawings) if keys else Html("<p>These runs have no curves.</p>")


def _differences(found: Comparison) -> Html:
    if not found.differing:
        return Html("<p>The configs do not differ.</p>")
    rows = [
        [key, *(describe_value(run.config[key]) if key in run.config else "-" for run in found.runs)]
        for key in found.differing
    ]
    return table(
        "A dash: the run has no such value", ["key", *(f"#{place}" for place in range(1, len(found.runs) + 1))], rows
    )


def _histories(found: Comparison) -> Sequence[tuple[str, Sequence[Any]]]:
    return [
        (f"#{place} {name}", run.history)
        for place, (run, name) in enumerate(zip(found.runs, found.names, strict=True), start=1)
        if run.history
    ]


def _curves(found: Comparison) -> list[str]:
    """Return the keys of the records that are drawn: of the validation part where there is one."""
    histories = [history for _, history in _histories(found)]
    keys = []
    other = next((name for name in found.scores if name != "loss"), "loss")
    for name in dict.fromkeys(["loss", other if found.by == "loss" else found.by]):
        part = next(
            (
                part
                for part in ("validation", "train")
                if histories and all(f"{part}_{name}" in h[-1] for h in histories)
            ),
            None,
        )
        keys += [] if part is None else [f"{part}_{name}"]
    return keys
