"""docs/reading.md leads through the core: its files are there, their sizes are true, and none of the graph is missing.

`python tests/project/test_reading.py` writes the sizes of today into the page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from lines_of_code import lines_of_code, sizes  # noqa: E402

PAGE = ROOT / "docs" / "reading.md"
ENTRY = re.compile(r"^\| `(?P<file>nanotorch/[^`]+)` \| (?P<lines>[\d,]+) \|", flags=re.MULTILINE)
MOST = 2500
"""Lines of code of the graph: node, tensor, view, saved values, engine, hooks and modes, all of `autograd/graph/`."""


def rounded(size: int) -> int:
    return max(5 * round(size / 5), 5)


def entries() -> dict[str, int]:
    return {match["file"]: int(match["lines"]) for match in ENTRY.finditer(PAGE.read_text(encoding="utf-8"))}


def test_sizes_are_those_of_the_files() -> None:
    """A file may grow or shrink by a tenth before its number has to follow."""
    wrong = [
        f"{name}: {lines_of_code(ROOT / name)}, not {said}"
        for name, said in entries().items()
        if abs(lines_of_code(ROOT / name) - said) > max(said / 10, 4)
    ]
    assert wrong == [], "run: python tests/project/test_reading.py"


def test_the_graph_part_is_complete_and_fits_an_afternoon() -> None:
    graph = sizes("nanotorch/autograd/graph")
    assert set(graph) == {name for name in entries() if name.startswith("nanotorch/autograd/graph/")}
    assert sum(graph.values()) <= MOST


def test_every_note_and_name_that_the_page_mentions_is_in_a_file_that_it_lists() -> None:
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in entries())
    page = PAGE.read_text(encoding="utf-8")
    for note in re.findall(r"`(Note \[[^]]+\])`", page):
        assert f"{note}\n~" in text, note
    for name in ("plain_pass", "_run", "_visit", "apply_inplace", "_refresh", "leaf_edge", "RECORDED =", "BACKWARD ="):
        assert name.split()[0] in page
        assert name in text


def write_sizes() -> None:
    """Put the sizes of today into the page."""

    def entry(match: re.Match[str]) -> str:
        return f"| `{match['file']}` | {rounded(lines_of_code(ROOT / match['file']))} |"

    PAGE.write_text(ENTRY.sub(entry, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write_sizes()
