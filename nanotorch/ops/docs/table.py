"""The op table: what every row and composite declares, as text for a terminal and as Markdown for `docs/ops.md`."""

from __future__ import annotations

import fnmatch
import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nanotorch import registry
from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.ops.docs.source import Written, written_formulas
from nanotorch.ops.rows.row import COMPOSITES, ROWS, Composite, Row

SYMBOLS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "matmul": "@",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "neg": "-x",
    "pos": "+x",
    "invert": "~x",
    "and": "&",
    "or": "|",
    "xor": "^",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "abs": "abs(x)",
    "getitem": "x[...]",
    "setitem": "x[...] = y",
}
PLACES = {
    "method": "method only",
    "function": "function only",
    "functional": "nn.functional",
    "linalg": "linalg",
    "special": "special",
}


@dataclass(frozen=True)
class Entry:
    """One op of the table.

    Attributes:
        name: as in PyTorch; rows behind a composite have a leading underscore.
        family: the module that declares it.
        signature: such as `sum(input, dim=None, keepdim=False, *, dtype=None)`.
        summary: the first sentence of its documentation.
        node: the name of its grad node; '' where there is no derivative of its own.
        view: whether the result shares the memory of the first input.
        aliases: its other names.
        inplace: the name of its in-place variant, or ''.
        operators: the symbols that call it.
        place: where it is found, unless it is both a method and a function; for a row behind a composite, which.
        composite: whether it is made of other ops, whose derivatives are its own.
        formulas: for every differentiable input the formula of its gradient as written.
    """

    name: str
    family: str
    signature: str
    summary: str
    node: str
    aliases: tuple[str, ...]
    view: bool
    inplace: str
    operators: tuple[str, ...]
    place: str
    composite: bool
    formulas: dict[str, Written]

    def flags(self) -> list[str]:
        """Return what there is to say beside the signature and the node, in a few words each."""
        found = ["view"] if self.view else []
        found += [self.inplace] if self.inplace else []
        found += [" ".join(self.operators)] if self.operators else []
        found += [f"also {', '.join(self.aliases)}"] if self.aliases else []
        return found + ([self.place] if self.place else []) + (["made of other ops"] if self.composite else [])


def entries() -> list[Entry]:
    """Return all ops, family by family, in the order of their declaration."""
    aliases: dict[str, list[str]] = {}
    for name, composite in COMPOSITES.items():
        if composite.alias_of:
            aliases.setdefault(composite.alias_of, []).append(name)
    found = [(_line(row.forward), _of_row(row, aliases.get(row.name, ()))) for row in ROWS.values()]
    for name, composite in COMPOSITES.items():
        if not composite.alias_of and _base(composite) is None:
            found.append((_line(composite.function), _of_composite(composite, aliases.get(name, ()))))
    return [entry for _, entry in sorted(found, key=lambda pair: (pair[1].family, pair[0]))]


def _line(function: Callable[..., Any]) -> int:
    """Return the line that declares an op."""
    return inspect.unwrap(function).__code__.co_firstlineno


def _base(composite: Composite) -> str | None:
    """Return the op of which a composite is the in-place variant, or None."""
    name = composite.name.removesuffix("_")
    return name if name != composite.name and (name in ROWS or name in COMPOSITES) else None


def _of_row(row: Row, aliases: Sequence[str]) -> Entry:
    parts, only = [], False
    for p in row.parameters:
        if p.keyword_only and not only and not any(q.star for q in row.parameters):
            parts.append("*")
            only = True
        shown = p.public if p.default is inspect.Parameter.empty else f"{p.public}={p.default!r}"
        parts.append(f"*{p.public}" if p.star else shown)
    place = PLACES.get(row.where, "")
    if row.where == "internal":
        place = f"behind {row.public_name}" if row.public_name in COMPOSITES else "internal"
    variant = row.name.lstrip("_") + "_"
    return Entry(
        row.name,
        _family(row.forward.__module__),
        f"{row.name}({', '.join(parts)})",
        _summary(row.forward.__doc__),
        row.node_name if row.formulas else "",
        tuple(aliases),
        row.view,
        variant if row.inplace else "",
        _operators(row.operation),
        place,
        False,
        written_formulas(row),
    )


def _of_composite(composite: Composite, aliases: Sequence[str]) -> Entry:
    signature = inspect.signature(composite.function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    text = str(inspect.Signature(bare))
    variant = f"{composite.name}_" if f"{composite.name}_" in COMPOSITES else ""
    return Entry(
        composite.name,
        _family(composite.function.__module__),
        composite.name + text,
        _summary(composite.function.__doc__),
        "",
        tuple(aliases),
        False,
        variant,
        _operators(composite.function),
        PLACES.get(composite.where, ""),
        True,
        {},
    )


def _family(module: str) -> str:
    return module.rpartition(".")[2]


def _summary(documentation: str | None) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(inspect.cleandoc(documentation or "").split("\n\n")[0].split())


def _operators(function: object) -> tuple[str, ...]:
    """Return the symbols of the operators that a function implements; reflected ones go without saying."""
    names = [
        name.strip("_") for name, value in vars(TensorMethods).items() if value is function and name.startswith("__")
    ]
    return tuple(dict.fromkeys(SYMBOLS.get(n) or SYMBOLS.get(n.removeprefix("r"), n) for n in names))


def find(pattern: str, among: Sequence[Entry]) -> list[Entry]:
    """Return the ops that a name, a grad node's name or a pattern with wildcards means.

    The rows behind a composite come with it, an in-place variant with its op; the number that ends a node's name is
    free. An unknown name raises `nanotorch.registry.UnknownNameError`, which suggests a near one.
    """
    node = pattern.rstrip("0123456789") if "Backward" in pattern else None
    found = [
        entry
        for entry in among
        if any(fnmatch.fnmatchcase(name, pattern) for name in _names(entry) if name)
        or (node is not None and entry.node.rstrip("0123456789") == node)
    ]
    if not found:
        known = [name for entry in among for name in (*_names(entry), entry.node) if name and not name.startswith("_")]
        near = registry.closest(pattern, known)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise registry.UnknownNameError(f"unknown op {pattern!r}{hint}")
    return found


def _names(entry: Entry) -> tuple[str, ...]:
    """Return the names by which somebody may look for an op."""
    behind = entry.place.removeprefix("behind ") if entry.place.startswith("behind ") else ""
    return entry.name, entry.inplace, behind, *entry.aliases, *(f"{name}_" for name in entry.aliases if entry.inplace)


# ------------------------------------------------------------------------------------------------- text


def as_text(chosen: Iterable[Entry], width: int, helpers: bool = False) -> str:
    """Return ops as text of at most `width` columns where words allow it; with the helpers of formulas if wished."""
    blocks = []
    for family, members in groupby(chosen, key=lambda entry: entry.family):
        title = f"{family} "
        blocks.append(title + "-" * (width - len(title)))
        blocks += ["\n".join(_lines(entry, width, helpers)) for entry in members]
    return "\n\n".join(blocks)


def _lines(entry: Entry, width: int, helpers: bool) -> list[str]:
    """Return the text of one op."""
    right = "   ".join([entry.node] * bool(entry.node) + entry.flags())
    if len(entry.signature) + 3 + len(right) <= width:
        lines = [entry.signature + right.rjust(width - len(entry.signature)) if right else entry.signature]
    else:
        lines = [*_wrapped(entry.signature, "", " " * (len(entry.name) + 1), width), right.rjust(width)]
    lines += _wrapped(entry.summary.replace("`", ""), "    ", "    ", width)
    margin = max([len(name) for name in entry.formulas], default=0) + 2
    for name, formula in entry.formulas.items():
        lines += _wrapped(formula.expression, f"    {name}:".ljust(4 + margin), " " * (6 + margin), width)
    if helpers:
        bodies = {head: body for formula in entry.formulas.values() for head, body in formula.helpers.items()}
        for head, body in bodies.items():
            lines += ["", f"    {head}:", textwrap.indent(body, " " * 8)]
    return [line.rstrip() for line in lines]


def _wrapped(text: str, first: str, others: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


# ------------------------------------------------------------------------------------------------- Markdown

INTRODUCTION = """\
# The op table

Written from the rows by `python -m nanotorch.ops.docs.stubs`; `python -m nanotorch.ops NAME` shows one op.

An op is one row in `nanotorch/ops/`: its forward, and for every differentiable input the formula of its gradient,
shown here as the row writes it. In a formula `grad` is the gradient of the result, `self` the first input, `result`
the output, `xp` the array module (NumPy, CuPy, or the ops themselves under `create_graph`); gradients of inputs that
were broadcast are summed to their shape afterwards. Names with a leading underscore are rows behind a public
function; ops without formulas are made of other ops, whose derivatives are their own, or have none.
"""


def as_markdown(chosen: Sequence[Entry]) -> str:
    """Return ops as a Markdown document, one table for each family."""
    families = dict.fromkeys(entry.family for entry in chosen)
    parts = [INTRODUCTION, "Families: " + ", ".join(f"[{family}](#{family})" for family in families) + ".\n"]
    for family, group in groupby(chosen, key=lambda entry: entry.family):
        members = list(group)
        parts.append(f"## {family}\n\n| op | gradient, as written | grad node | |\n|---|---|---|---|")
        parts += [_markdown_row(entry) for entry in members]
        bodies = {h: b for entry in members for formula in entry.formulas.values() for h, b in formula.helpers.items()}
        if bodies:
            code = "\n\n".join(f"def {head}:\n{textwrap.indent(body, '    ')}" for head, body in bodies.items())
            parts.append(
                f"\n<details><summary>Helpers of these formulas</summary>\n\n```text\n{code}\n```\n\n</details>"
            )
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _markdown_row(entry: Entry) -> str:
    formulas = "<br>".join(f"{name}: {_code(formula.expression)}" for name, formula in entry.formulas.items())
    flags = ", ".join(
        _code(flag) if flag == entry.inplace or flag in entry.operators else flag for flag in entry.flags()
    )
    summary = entry.summary.replace("|", "\\|")
    return (
        f"| {_code(entry.signature)}<br>{summary} | {formulas} | {_code(entry.node) if entry.node else ''} | {flags} |"
    )


def _code(text: str) -> str:
    """Return a code span for a cell, where a bar would end the cell."""
    return f"`{text}`".replace("|", "\\|")
