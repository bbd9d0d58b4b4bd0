"""The formulas of rows as they are written: read from the source, so that what is shown is what runs.

A formula is the value of a keyword of `@op`: a lambda, whose body is the formula, or the name of a helper function.
A helper that does no more than return an expression is shown as that expression; of a longer one, and of the private
helpers that a formula calls, the bodies are given beside the formula.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nanotorch.autograd.function import FunctionNode
from nanotorch.autograd.graph.node import Node
from nanotorch.autograd.graph.view import CopySlices
from nanotorch.ops.rows.row import ROWS, Row


@dataclass(frozen=True)
class Written:
    """A formula as its row writes it.

    Attributes:
        expression: one line, such as `grad * other`, or the call of a helper whose body takes more than a line.
        helpers: the bodies of the helpers that the expression calls, by their heads, such as `_rows(xp, x)`.
    """

    expression: str
    helpers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.expression


@dataclass(frozen=True)
class _File:
    """A parsed source file: its text, the functions at its top level, and what it imports from where."""

    text: str
    functions: dict[str, ast.FunctionDef]
    imported: dict[str, tuple[str, str]]

    def segment(self, node: ast.AST) -> str:
        """Return the source of an expression, on one line."""
        line = " ".join((ast.get_source_segment(self.text, node) or "").split())
        return re.sub(r",? (?=[)\]}])", "", re.sub(r"(?<=[(\[{]) ", "", line))


def written_formulas(row: Row) -> dict[str, Written]:
    """Return for every differentiable input of a row its formula as written; empty where the source is not at hand.

    >>> from nanotorch.ops import ROWS
    >>> print(written_formulas(ROWS["tanh"])["self"])
    grad * (1 - result * result)
    """
    return dict(_written(row))


def formulas_of(node: Node) -> list[tuple[str, Written]]:
    """Return (name of the input, formula) for every edge of a node, in their order."""
    if isinstance(node, CopySlices):
        inner = [("self", Written(""))] * len(node.edges) if node.inner is None else formulas_of(node.inner)
        _, slice_formula = inner[node.slot]
        whole = Written(f"grad, but in the slice that was written {slice_formula}", slice_formula.helpers)
        return [*inner[: node.slot], ("base", whole), *inner[node.slot + 1 :]]
    if isinstance(node, FunctionNode):
        return [(f"argument {position}", Written(f"{node.function.__name__}.backward")) for position, *_ in node.inputs]
    row = next((row for row in ROWS.values() if row.compiler.node in type(node).__mro__), None)
    if row is None:
        return [(f"input {number}", Written("")) for number in range(len(node.edges))]
    written, found = written_formulas(row), []
    for name in row.formulas:
        formula = written.get(name, Written(""))
        many = next(p.many for p in row.parameters if p.name == name)
        found += [(f"{name}[{number}]", formula) for number in range(len(node.edges))] if many else [(name, formula)]
    return found


@functools.cache
def _written(row: Row) -> dict[str, Written]:
    file = _file(row.forward.__module__)
    declaration = file.functions.get(row.forward.__name__) if file else None
    if file is None or declaration is None:
        return {}
    keywords = {
        keyword.arg: keyword.value
        for decorator in declaration.decorator_list
        if isinstance(decorator, ast.Call) and _last_name(decorator.func) == "op"
        for keyword in decorator.keywords
    }
    return {name: _formula(file, keywords[name]) for name in row.formulas if name in keywords}


def _formula(file: _File, value: ast.expr) -> Written:
    """Read the value of one keyword."""
    body = value.body if isinstance(value, ast.Lambda) else value
    called = body.func if isinstance(body, ast.Call) else value
    home, helper = _find(file, _last_name(called))
    if home is None or helper is None or (body is not value and not _passes_all(body, helper)):
        return Written(file.segment(body), _helpers(file, body, set()))
    returned = _returned(helper)
    if returned is not None:
        return Written(home.segment(returned), _helpers(home, returned, {helper.name}))
    head = _head(helper)
    return Written(head, {head: _body(home, helper), **_helpers(home, helper, {helper.name})})


def _passes_all(body: ast.expr, helper: ast.FunctionDef) -> bool:
    """Return whether a formula does no more than call a helper with the names of its parameters."""
    return (
        isinstance(body, ast.Call) and not body.keywords and [_last_name(a) for a in body.args] == _parameters(helper)
    )


def _helpers(file: _File, node: ast.AST, seen: set[str]) -> dict[str, str]:
    """Return the bodies of the helpers that a piece of code calls, and of those that they call."""
    found: dict[str, str] = {}
    for call in _calls(node):
        home, helper = _find(file, call)
        if home is None or helper is None or call in seen:
            continue
        seen.add(call)
        found[_head(helper)] = _body(home, helper)
        found |= _helpers(home, helper, seen)
    return found


def _calls(node: ast.AST) -> Iterator[str]:
    """Iterate over the plain names that a piece of code calls, in the order of the source."""
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for call in sorted(calls, key=lambda n: (n.lineno, n.col_offset)):
        yield _last_name(call.func)


def _find(file: _File, name: str) -> tuple[_File, ast.FunctionDef] | tuple[None, None]:
    """Return a function that a file defines, or imports from another file of the ops, and the file that defines it."""
    if name in file.functions:
        return file, file.functions[name]
    module, original = file.imported.get(name, ("", ""))
    if not module.startswith("nanotorch.ops."):
        return None, None
    home = _file(module)
    return (home, home.functions[original]) if home and original in home.functions else (None, None)


@functools.cache
def _file(module: str) -> _File | None:
    """Parse the source of an imported module; None where there is no source."""
    try:
        text = inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):
        return None
    statements = ast.parse(text).body
    imported = {
        alias.asname or alias.name: (statement.module or "", alias.name)
        for statement in statements
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    return _File(text, {s.name: s for s in statements if isinstance(s, ast.FunctionDef)}, imported)


def _last_name(node: Any) -> str:
    """Return `op` for `op` and for `row.op`; '' for what is no name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [a.arg for a in (*function.args.posonlyargs, *function.args.args)]


def _head(function: ast.FunctionDef) -> str:
    return f"{function.name}({', '.join(_parameters(function))})"


def _statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """Return the statements of a function without its docstring."""
    first = function.body[0]
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return function.body[1:] if documented else function.body


def _returned(function: ast.FunctionDef) -> ast.expr | None:
    """Return the expression of a function that does nothing but return it."""
    statements = _statements(function)
    return statements[0].value if len(statements) == 1 and isinstance(statements[0], ast.Return) else None


def _body(file: _File, function: ast.FunctionDef) -> str:
    """Return the source of a function's statements."""
    statements = _statements(function)
    lines = file.text.splitlines()[statements[0].lineno - 1 : statements[-1].end_lineno]
    return textwrap.dedent("\n".join(lines))
