"""The signatures of operators as type checkers read them: from the annotations of rows, and from those of composites.

A row annotates what its forward takes, arrays among others; to its caller an array is a tensor, and a number that an
operand may be is a `float`. A composite annotates what it takes itself; one whose result depends on its arguments
says so by `typing.overload`.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

from nanotorch.ops.rows.row import COMPOSITES, ROWS, Row

MEANING = {
    "Array": "Tensor",
    "Index": "Tensor",
    "Mask": "Tensor",
    "Number": "float",
    "Fitting": "float",
    "Cast": "Tensor",
    "NewDim": "int",
    "Dim": "int | Sequence[int] | None",
    "Sequence[Array]": "Sequence[Tensor]",
    "tuple[int, ...]": "Sequence[int]",
}
"""What the annotations of rows mean to the caller."""

IMPORTS = {
    "Any": "from typing import Any",
    "DType": "from nanotorch.dtypes import DType",
    "Sequence": "from collections.abc import Sequence",
    "Tensor": "from nanotorch.autograd.graph.tensor import Tensor",
    "return_types": "from nanotorch import return_types",
}
"""Where the names in the signatures of rows come from."""

NAMES = re.compile(r"""(?<![\w."'])[A-Za-z_]\w*""")


class Text(str):
    """A piece of source, which `str(signature)` writes as it is."""

    __repr__ = str.__str__


@dataclass(frozen=True)
class Declaration:
    """One way to call a function.

    Attributes:
        signature: annotations and defaults are texts.
        imports: the statements that import what the annotations name.
    """

    signature: Signature
    imports: frozenset[str]

    def text(self, name: str, method: bool = False) -> str:
        """Return the declaration as a stub writes it; operators, such as `__add__`, take no keywords."""
        parameters = list(self.signature.parameters.values())
        if method:
            parameters[0] = parameters[0].replace(name="self", annotation=Parameter.empty)
        if name.startswith("__"):
            parameters = [p for p in parameters if p.kind is not Parameter.KEYWORD_ONLY]
        return f"def {name}{self.signature.replace(parameters=parameters)}: ..."


def declarations(function: Callable[..., Any]) -> list[Declaration]:
    """Return how a function can be called: in one way, or in those that its overloads say."""
    row, kind = _rows().get(id(function), (None, ""))
    if row is not None:
        return [_declared(_row_signature(row, kind), IMPORTS)]
    written = inspect.unwrap(function)
    module = _Module.of(written.__module__)
    return [_declared(module.expanded(inspect.signature(f)), module.imports) for f in _ways(written)]


def is_operator(function: Any) -> bool:
    """Return whether a function is that of a row or of a composite, or a row's in-place variant."""
    return id(function) in _rows() or any(entry.function is function for entry in COMPOSITES.values())


def _ways(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    return list(typing.get_overloads(function)) or [function]


@functools.cache
def _rows() -> dict[int, tuple[Row, str]]:
    """Return by the identity of a row's functions the row, and which of its functions it is."""
    found = {}
    for row in ROWS.values():
        for kind in ("variant", "operation", "function"):
            found[id(getattr(row, kind))] = row, kind
    return {key: value for key, value in found.items() if key != id(None)}


def _row_signature(row: Row, kind: str) -> Signature:
    """Return the signature of one of a row's functions, with the annotations that its caller reads."""
    made: list[Parameter] = []
    several = any(p.star for p in row.parameters)
    for p in row.parameters:
        if p.star:
            made.append(Parameter(f"{p.public}_", Parameter.VAR_POSITIONAL, annotation="int | Sequence[int]"))
        words = ("Sequence[int] | None" if p.star else p.annotation.removeprefix("row.")).split(" | ")
        meaning = " | ".join(dict.fromkeys(MEANING.get(word, word) for word in words))
        keyword_only = p.keyword_only or (several and len(made) > 0)
        default = None if p.star else p.default
        made.append(_parameter(p.public, "DType | None" if p.name == "dtype" else meaning, default, keyword_only))
    result = "Tensor" if len(row.visible) < 2 or kind == "variant" else f"return_types.{row.return_type.__name__}"
    if row.outputs == ["list"]:
        result = "tuple[Tensor, ...]"
    if kind == "function" and row.compiler.plan.takes_out:
        out = "Tensor | None" if result == "Tensor" else "tuple[Tensor, ...] | None"
        made.append(_parameter("out", out, None))
    return Signature(made, return_annotation=result)


def _parameter(name: str, annotation: str, default: Any, keyword_only: bool = True) -> Parameter:
    kind = Parameter.KEYWORD_ONLY if keyword_only else Parameter.POSITIONAL_OR_KEYWORD
    return Parameter(name, kind, annotation=annotation, default=default)


def _declared(signature: Signature, imports: dict[str, str]) -> Declaration:
    """Make a declaration of a signature whose annotations name what `imports` knows, or built-in types."""
    needed: set[str] = set()

    def written(annotation: Any) -> Text:
        text = "Any" if annotation is Parameter.empty else str(annotation)
        needed.update(imports.get(name, IMPORTS.get(name, "")) for name in NAMES.findall(text))
        # In full, because `float`, `int` and `bool` are dtypes in nanotorch, and methods of tensors.
        return Text(NAMES.sub(lambda m: f"builtins.{m[0]}" if _is_builtin(m[0]) else m[0], text))

    parameters = [
        p.replace(annotation=written(p.annotation), default=_default(p)) for p in signature.parameters.values()
    ]
    made = Signature(parameters, return_annotation=written(signature.return_annotation))
    return Declaration(made, frozenset(needed - {""}))


def _is_builtin(name: str) -> bool:
    return isinstance(getattr(builtins, name, None), type)


def _default(parameter: Parameter) -> Any:
    """Return the default of a parameter as it is written: in short where it is no plain value."""
    value = parameter.default
    if value is Parameter.empty or value is None or isinstance(value, bool | int | str):
        return value
    return value if isinstance(value, float) and abs(value) < float("inf") else Text("...")


@dataclass(frozen=True)
class _Module:
    """What a module's text says about the names in its annotations.

    Attributes:
        imports: by name the statement that imports it from where this module has it, or, for its classes, from it.
        aliases: by name the annotation that it stands for, such as `int | None` for `Dim`.
    """

    imports: dict[str, str]
    aliases: dict[str, str]

    @staticmethod
    @functools.cache
    def of(name: str) -> _Module:
        """Read a module."""
        tree = ast.parse(inspect.getsource(sys.modules[name]))
        imports = dict(_imported(tree))
        imports |= {n.name: f"from {name} import {n.name}" for n in tree.body if isinstance(n, ast.ClassDef)}
        aliases = {
            node.targets[0].id: ast.unparse(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        return _Module(imports, aliases)

    def expanded(self, signature: Signature) -> Signature:
        """Return a signature whose annotations are texts without aliases."""
        parameters = [p.replace(annotation=self._expanded(p.annotation)) for p in signature.parameters.values()]
        return Signature(parameters, return_annotation=self._expanded(signature.return_annotation))

    def _expanded(self, annotation: Any) -> Any:
        if annotation is Parameter.empty:
            return annotation
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        return NAMES.sub(lambda m: self._expanded(self.aliases[m[0]]) if m[0] in self.aliases else m[0], text)


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Iterate over the names that a module imports, wherever it does, each with a statement that does only that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                home = f"from {node.module} " if isinstance(node, ast.ImportFrom) else ""
                name = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
                yield alias.asname or alias.name, f"{home}import {name}"
