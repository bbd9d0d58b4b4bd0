"""Writes what follows from the rows: ``nanotorch``'s re-exports, the stub of Tensor's methods, and the op table.

``python -m nanotorch.ops.docs.stubs`` brings ``nanotorch/__init__.py``, ``autograd/graph/methods.pyi`` and
``docs/ops.md`` up to date after a row was added; a test fails while they are stale.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.ops.docs.table import as_markdown, entries
from nanotorch.ops.rows.row import COMPOSITES, ROWS, Composite, Row

PACKAGE = Path(__file__).parents[2]
TABLE = PACKAGE.parent / "docs" / "ops.md"
START, END = "# --- operators: written by `python -m nanotorch.ops.docs.stubs` ---\n", "# --- end of operators ---\n"
COMPARISONS = ("__eq__", "__ne__")

WIDTH = 120


def functions() -> dict[str, Callable[..., Any]]:
    """Return the operators that ``nanotorch`` exports, by name."""
    entries: list[Row | Composite] = [*ROWS.values(), *COMPOSITES.values()]
    found = {e.name: e.function for e in entries if e.where in ("both", "function") and not e.name.endswith("_")}
    return dict(sorted((name, f) for name, f in found.items() if not name.startswith("_")))


def init_block(text: str) -> str:
    """Return what follows from the rows in ``nanotorch/__init__.py``, whose text is given: the imports of all
    operators, by the module that declares them, and the public names.
    """
    imports = operator_imports()
    return f"{imports}\n# fmt: off\n{all_statement(_split(text)[0] + imports)}# fmt: on\n"


def operator_imports() -> str:
    """Return the import statements of all operators, by the module that declares them."""
    modules: dict[str, list[str]] = {}
    for name, function in functions().items():
        modules.setdefault(function.__module__, []).append(name)
    lines = []
    for module, names in sorted(modules.items()):
        lines += _import(module, sorted(names))
    return "\n".join(lines) + "\n"


def all_statement(text: str) -> str:
    """Return the assignment to ``__all__`` of a public face: every name that its text imports and that does not begin
    with an underscore.
    """
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname or alias.name for node in imports if node.module != "__future__" for alias in node.names}
    public = sorted(name for name in names if not name.startswith("_"))
    lines = textwrap.wrap(", ".join(f'"{name}"' for name in public), WIDTH - 5, break_on_hyphens=False)
    return "\n".join(["__all__ = [", *(f"    {line}" for line in lines[:-1]), f"    {lines[-1]},", "]\n"])


def _split(text: str) -> tuple[str, str, str]:
    """Return what stands before, within and after the generated block of ``nanotorch/__init__.py``."""
    before, _, rest = text.partition(START)
    block, _, after = rest.partition(END)
    return before, block, after


def _import(module: str, names: list[str]) -> list[str]:
    """Return an import statement as the formatter writes it: on one line, or a line for every name."""
    if len(line := f"from {module} import {', '.join(names)}") <= WIDTH:
        return [line]
    return [f"from {module} import (", *[f"    {name}," for name in names], ")"]


def method_stub() -> str:
    """Return the stub of the class that holds Tensor's methods."""
    lines = [
        '"""Tensor\'s methods, for editors and type checkers. Written by `python -m nanotorch.ops.docs.stubs`."""',
        "",
        "from typing import Any",
        "",
        "from nanotorch.autograd.graph.tensor import Tensor",
        "",
        "class TensorMethods:",
    ]
    for name, value in sorted(vars(TensorMethods).items()):
        if inspect.isfunction(value):
            lines.append(f"    def {name}({_signature(name, value)}) -> {_result(name)}: ...{_ignore(name)}")
    return "\n".join(lines) + "\n"


def _ignore(name: str) -> str:
    """Comparisons return tensors, where ``object`` promises a bool."""
    return "  # type: ignore[override]" if name in COMPARISONS else ""


def _result(name: str) -> str:
    return "None" if name == "__setitem__" else "Any" if name in MANY or name.startswith("to") else "Tensor"


MANY = {
    "sort",
    "topk",
    "unique",
    "unique_consecutive",
    "tensor_split",
    "hsplit",
    "vsplit",
    "dsplit",
    "split_with_sizes",
    "max",
    "min",
    "unbind",
    "split",
    "chunk",
    "nonzero",
    "type",
    "_max_dim",
    "_min_dim",
    "median",
    "nanmedian",
    "kthvalue",
    "aminmax",
    "cummax",
    "cummin",
}


def _signature(name: str, function: Callable[..., Any]) -> str:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if name.startswith("__") and name not in ("__getitem__", "__setitem__"):
        return "self, other: Any" if parameters else "self"
    parts, star = ["self"], False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            parts.append(f"*{parameter.name}: Any")
            star = True
        elif parameter.kind is parameter.VAR_KEYWORD:
            parts.append(f"**{parameter.name}: Any")
        else:
            if parameter.kind is parameter.KEYWORD_ONLY and not star:
                parts.append("*")
                star = True
            parts.append(f"{parameter.name}: Any" + ("" if parameter.default is parameter.empty else " = ..."))
    return ", ".join(parts)


def write() -> None:
    """Write all three files."""
    init = PACKAGE / "__init__.py"
    before, _, after = _split(text := init.read_text())
    init.write_text(before + START + init_block(text) + END + after)
    (PACKAGE / "autograd" / "graph" / "methods.pyi").write_text(method_stub())
    TABLE.write_text(as_markdown(entries()), encoding="utf-8")


if __name__ == "__main__":
    write()
