"""Lines of code: no blanks, comments or docstrings. `python tests/support/lines_of_code.py` prints the sizes."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LARGEST = 15
SPACE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def lines_of_code(path: Path) -> int:
    """Return how many lines of a Python file hold code: a statement, or a part of one that spans lines."""
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {n for t in tokens if t.type not in SPACE for n in range(t.start[0], t.end[0] + 1)}
    return len(lines - set(_docstring_lines(ast.parse(text))))


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from range(node.lineno, (node.end_lineno or 0) + 1)


def sizes(folder: str) -> dict[str, int]:
    """Return the lines of code of every Python file below a folder of the checkout, by its path from there."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): lines_of_code(path) for path in paths}


def table() -> str:
    """Return the lines of code of every room, with its files, and the largest files of the package."""
    package = sizes("nanotorch")
    everything = {**package, **sizes("tests"), **sizes("benchmarks"), **sizes("recipes")}
    rooms: dict[str, list[int]] = {}
    for name, size in everything.items():
        parts = name.split("/")[:-1]
        for depth in range(1, min(len(parts), 3) + 1):
            rooms.setdefault("/".join(parts[:depth]), []).append(size)
    lines = [f"{'lines':>7} {'files':>6}  of code, without blanks, comments and docstrings"]
    lines += [
        f"{sum(found):7,} {len(found):6}  {'  ' * name.count('/')}{name}/" for name, found in sorted(rooms.items())
    ]
    lines += ["", f"the largest files of {len(package)}"]
    lines += [
        f"{size:7,}         {name}" for name, size in sorted(package.items(), key=lambda item: -item[1])[:LARGEST]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
