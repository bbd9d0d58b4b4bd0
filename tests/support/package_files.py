"""The files of the package, and what each of them imports: read once for all tests that ask."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nanotorch"
FILES = sorted(PACKAGE.rglob("*.py"))


class Import(NamedTuple):
    """`import module` or, with a name, `from module import name`; whether for type checkers only."""

    module: str
    name: str
    typing_only: bool


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def imports(path: Path) -> tuple[Import, ...]:
    """Return everything that a file imports, at its top or inside functions."""
    return tuple(_imports(ast.parse(path.read_text()), False))


def _imports(node: ast.AST, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, "", typing_only) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            yield from (Import(str(child.module), alias.name, typing_only) for alias in child.names)
        elif not isinstance(child, ast.expr):  # none of them holds a statement
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _imports(child, typing_only or guarded)
