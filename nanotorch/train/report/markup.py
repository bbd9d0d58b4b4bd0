"""HTML by templates in which every value is escaped unless it is HTML already."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nanotorch.train.terminal.standard_streams import printable
from nanotorch.train.terminal.text_report import number

LONGEST, KEPT = 16, 6  # letters of a text for which there is room everywhere; of the end of a longer one


class Html(str):
    """Text that is HTML already, and so is not escaped again."""

    __slots__ = ()


def fill(template: str, **values: Any) -> Html:
    """Put values into the places of a template; what is no `Html` is escaped.

    >>> fill("<p>{text}</p>", text="1 < 2")
    '<p>1 &lt; 2</p>'
    """
    return Html(template.format(**{name: _escaped(value) for name, value in values.items()}))


def _escaped(value: Any) -> str:
    """Escape; what cannot be printed, such as a control character in a column's name, becomes visible."""
    if isinstance(value, Html):
        return value
    return escape(printable(str(value)), quote=True)


def join(parts: Iterable[str]) -> Html:
    """Pieces of HTML one after the other; those that are plain text are escaped."""
    return Html("\n".join(_escaped(part) for part in parts))


def section(name: str, title: str, *parts: str) -> Html:
    """Return a part of the page, under a heading."""
    return fill(
        '<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{title}</h2>\n{body}\n</section>',
        name=name,
        title=title,
        body=join(parts),
    )


def chapters(sections: Mapping[str, tuple[str, Iterable[str]]]) -> Html:
    """Return the sections of a page, each with its name, title and parts, below links to them."""
    links = join(
        fill('<li><a href="#{name}">{title}</a></li>', name=name, title=title) for name, (title, _) in sections.items()
    )
    return fill(
        '<nav aria-label="sections"><ul>\n{links}\n</ul></nav>\n<main>\n{all}\n</main>',
        links=links,
        all=join(section(name, title, *parts) for name, (title, parts) in sections.items()),
    )


def link(target: str, text: str) -> Html:
    """Return a link to a file beside the page or below it."""
    return fill('<a href="{target}">{text}</a>', target=quote(target), text=text)


def linked(text: str, run: Path, folder: Path) -> Html:
    """Return a text that leads from a page in `folder` to that of a run, to its directory where it has none."""
    text = _cut(text)
    if not run.is_dir():
        return fill("{text}", text=text)
    page = run / "report.html"
    return link(Path(os.path.relpath(page if page.is_file() else run, folder)).as_posix(), text)


def titled(title: str, *parts: str) -> Html:
    """Return a part of a section, under a heading of its own."""
    return fill("<div>\n<h3>{title}</h3>\n{body}\n</div>", title=title, body=join(parts))


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], kind: str = "") -> Html:
    """Return a table with its headings; the first cell of a row is the row's name.

    A float is shown with four decimals and kept exactly in the `value` of a `<data>`.
    """
    rows = list(rows)
    words = [isinstance(value, str) and 'class="number"' not in value for value in rows[0]] if rows else []
    head = join(
        fill('<th scope="col"{kind}>{text}</th>', text=text, kind=Html(' class="text"' if is_text else ""))
        for text, is_text in zip(heads, [*words, *[False] * (len(heads) - len(words))], strict=True)
    )
    body = join(
        fill(
            "<tr>{name}{cells}</tr>",
            name=fill('<th scope="row"{title}>{name}</th>', name=_cut(row[0]), title=_title(row[0])),
            cells=join(map(_cell, row[1:])),
        )
        for row in rows
    )
    content = fill(
        '<table class="{kind}"'
        ' aria-label="{caption}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>',
        kind=kind,
        caption=caption,
        head=head,
        body=body,
    )
    return fill(
        '<figure class="table">\n<figcaption>{caption}</figcaption>\n{content}\n</figure>',
        caption=caption,
        content=scrolling(caption, content),
    )


def scrolling(name: str, content: Html) -> Html:
    """Something that may be wider than the page, and then scrolls by itself."""
    return fill(
        '<div class="scroll" role="region" aria-label="{name}" tabindex="0">\n{content}\n</div>',
        name=name,
        content=content,
    )


def commands(lines: Sequence[tuple[str, str]]) -> Html:
    """Return command lines to be copied, (what it is for, the command)."""
    width = max(len(command) for _, command in lines)
    text = "\n".join(f"{command:{width}}  # {what}" for what, command in lines)
    return scrolling("commands", fill("<pre>{text}</pre>", text=text))


def _title(value: Any) -> Html:
    """Return the whole text, where a narrow column may not show it."""
    return (
        fill(' title="{value}"', value=value) if len(str(value)) > LONGEST and not isinstance(value, Html) else Html("")
    )


def _cut(value: Any) -> Any:
    """Return a long text whose middle is left out where there is no room for all of it: names often begin alike."""
    text = printable(str(value), kept="")
    if isinstance(value, Html) or len(text) <= LONGEST:
        return value
    return fill('<span class="cut"><span>{start}</span><span>{end}</span></span>', start=text[:-KEPT], end=text[-KEPT:])


def measured(value: float) -> Html:
    """Return a cell with a quantity of any size, four digits of it or more."""
    shown = f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return fill('<td class="number"><data value="{exact}">{shown}</data></td>', exact=repr(value), shown=shown)


def percent(value: float) -> Html:
    """Return a cell with a share in percent."""
    return fill('<td class="number"><data value="{exact}">{shown}</data></td>', exact=repr(value), shown=f"{value:.1%}")


def _cell(value: Any) -> Html:
    if isinstance(value, Html):  # a whole cell
        return value
    if value is None:
        return Html('<td class="number"></td>')
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return fill('<td class="text"{title}>{value}</td>', value=_cut(value), title=_title(value))
    shown = f"{value:,}" if isinstance(value, int) else number(value)
    return fill('<td class="number"><data value="{exact}">{shown}</data></td>', exact=repr(value), shown=shown)


def beside(*parts: Html) -> Html:
    """Pieces beside one another as far as there is room."""
    return fill('<div class="beside">\n{all}\n</div>', all=join(parts))


def facts(pairs: Iterable[tuple[str, Any]]) -> Html:
    """Return names with their values, side by side."""
    rows = join(fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=name, value=value) for name, value in pairs)
    return fill('<dl class="facts">\n{rows}\n</dl>', rows=rows)


def figure(drawing: Html, caption: str = "") -> Html:
    """Return a drawing and what it shows."""
    words = fill("\n<figcaption>{caption}</figcaption>", caption=caption) if caption else Html("")
    return fill("<figure>\n{drawing}{words}\n</figure>", drawing=drawing, words=words)


def figures_beside(drawings: Iterable[Html]) -> Html:
    """Return figures, as many in a row as there is room for."""
    return fill('<div class="figures">\n{all}\n</div>', all=join(drawings))


PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def document(title: str, body: Html) -> Html:
    """Return a page that needs nothing beside itself."""
    return fill(PAGE, title=title, style=Html(stylesheet("colours", "chart", "page")), body=body)


@cache
def stylesheet(*names: str) -> str:
    """Return the rules of the package's own files of styles."""
    from importlib.resources import files

    return "".join((files("nanotorch.train") / "report" / f"{name}.css").read_text(encoding="utf-8") for name in names)
