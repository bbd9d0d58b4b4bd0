"""Templates of code: what a generated function looks like stands in the source, with places that are filled in."""

from __future__ import annotations

import re

_PLACE = re.compile(r"^( *)\$(\w+)\n|\$(?:(\w+)|\{(\w+)\})", re.MULTILINE)


def fill(template: str, **parts: str) -> str:
    """Fill the places of a template, and leave out lines that nothing is put in.

    A place alone on its line, `$name`, takes lines, which get its indentation; one inside of a line takes a text, and
    is written `${name}` where a letter follows.

    >>> print(fill("if $test:\\n    $body\\n    $more\\n", test="x", body="y = 1\\nz = 2", more=""))
    if x:
        y = 1
        z = 2
    """

    def filled(place: re.Match[str]) -> str:
        margin, block, bare, braced = place.groups()
        if block is None:
            return parts[bare or braced]
        return margin + parts[block].replace("\n", f"\n{margin}") + "\n" if parts[block] else ""

    return _PLACE.sub(filled, template.lstrip("\n")).rstrip("\n")


def lines(*texts: str) -> str:
    """Join what there is of some lines."""
    return "\n".join([text for text in texts if text])
