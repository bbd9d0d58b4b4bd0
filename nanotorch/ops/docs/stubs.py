"""Writes what follows from the rows: `nanotorch`'s re-exports, what type checkers and editors read, the op table.

`python -m nanotorch.ops.docs.stubs` brings all of it up to date after a row was added; a test fails while it is
stale.

Note [Stubs]
~~~~~~~~~~~~
The function of a row is compiled from it, and a method is attached to Tensor, so neither is in a source file that a
type checker could read. Stubs (`.pyi`) beside the source say what there is: of Tensor's methods, and of the modules
that export operators. A checker reads a stub in the place of its module; so no module with code of its own has one.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.ops.docs.signatures import declarations, is_operator
from nanotorch.ops.docs.table import as_markdown, entries
from nanotorch.ops.rows.row import COMPOSITES, ROWS, Composite, Row, return_types

PACKAGE = Path(__file__).parents[2]
FACES = ("nanotorch", "nanotorch.linalg", "nanotorch.nn.functional", "nanotorch.special")
START, END = "# --- operators: written by `python -m nanotorch.ops.docs.stubs` ---\n", "# --- end of operators ---\n"
WRITTEN = "What type checkers and editors read of this module, written by `python -m nanotorch.ops.docs.stubs`"
COMPARISONS = ("__eq__", "__ne__")  # they return tensors, where `object` promises a bool

WIDTH = 120


def functions() -> dict[str, Callable[..., Any]]:
    """Return the operators that `nanotorch` exports, by name."""
    entries: list[Row | Composite] = [*ROWS.values(), *COMPOSITES.values()]
    found = {e.name: e.function for e in entries if e.where in ("both", "function") and not e.name.endswith("_")}
    return dict(sorted((name, f) for name, f in found.items() if not name.startswith("_")))


def init_block(text: str) -> str:
    """Return what follows from the rows in `nanotorch/__init__.py`, whose text is given: the imports of all
    operators, by the module that declares them, and the public names.
    """
    imports = operator_imports()
    return f"{imports}\n# fmt: off\n{all_statement(_public(_split(text)[0] + imports))}# fmt: on\n"


def operator_imports() -> str:
    """Return the import statements of all operators, by the module that declares them."""
    modules: dict[str, list[str]] = {}
    for name, function in functions().items():
        modules.setdefault(function.__module__, []).append(name)
    lines = []
    for module, names in sorted(modules.items()):
        lines += _import(module, sorted(names))
    return "\n".join(lines) + "\n"


def all_statement(names: list[str]) -> str:
    """Return the assignment to `__all__`."""
    lines = textwrap.wrap(", ".join(f'"{name}"' for name in names), WIDTH - 5, break_on_hyphens=False)
    return "\n".join(["__all__ = [", *(f"    {line}" for line in lines[:-1]), f"    {lines[-1]},", "]\n"])


def face_stub(name: str) -> str:
    """Return the stub of a module that exports operators: imports as it has them, operators with their signatures."""
    module = import_module(name)
    imports = _imported(inspect.getsource(module))
    needed: set[str] = set()
    body: list[str] = []
    for public in sorted(module.__all__):
        value = getattr(module, public)
        if is_operator(value):
            needed |= _declare(body, public, value)
        else:
            needed.add(f"{imports[public]} as {public}")
    parts = [
        f'"""{WRITTEN}."""',
        "import builtins\n" + "\n".join(sorted(needed)),
        all_statement(sorted(module.__all__)).rstrip(),
    ]
    if hasattr(module, "__version__"):
        parts.append("__version__: str")
    return "\n\n".join([*parts, "\n".join(body)]) + "\n"


def method_stub() -> str:
    """Return the stub of the class that holds Tensor's methods."""
    needed: set[str] = set()
    body: list[str] = []
    for name, value in sorted(vars(TensorMethods).items()):
        if inspect.isfunction(value):
            needed |= _declare(body, name, value, method=True)
    lines = [f'"""{WRITTEN}."""', "", "import builtins", *sorted(needed), "", "class TensorMethods:"]
    return "\n".join(lines + [f"    {line}" for line in body]) + "\n"


def return_types_stub() -> str:
    """Return the stub of the named tuples."""
    imports = ["import builtins", "from typing import NamedTuple", "from nanotorch.autograd.graph.tensor import Tensor"]
    lines = [f'"""{WRITTEN}."""', "", *imports]
    for name, made in sorted(return_types().items()):
        lines += ["", f"class {name}(NamedTuple):", *(f"    {field}: Tensor" for field in made._fields)]
    return "\n".join(lines) + "\n"


def _declare(body: list[str], name: str, function: Callable[..., Any], method: bool = False) -> set[str]:
    """Add the declarations of a function to a stub's lines, and return the imports that they need."""
    ways, needed = declarations(function), set()
    for way in ways:
        if len(ways) > 1:
            body.append("@overload")
            needed.add("from typing import overload")
        body.append(way.text(name, method) + ("  # type: ignore[override]" if name in COMPARISONS else ""))
        needed |= way.imports
    return needed


def _imported(text: str) -> dict[str, str]:
    """Return the statement that imports a name, by the name, for all that a text imports from modules."""
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    return {
        alias.asname or alias.name: f"from {node.module} import {alias.name}" for node in nodes for alias in node.names
    }


def _public(text: str) -> list[str]:
    """Return the names that a text imports and that do not begin with an underscore."""
    return sorted(name for name in _imported(text) if not name.startswith("_"))


def _split(text: str) -> tuple[str, str]:
    """Return what stands before and after the generated block of `nanotorch/__init__.py`."""
    before, _, rest = text.partition(START)
    return before, rest.partition(END)[2]


def _import(module: str, names: list[str]) -> list[str]:
    """Return an import statement as the formatter writes it: on one line, or a line for every name."""
    if len(line := f"from {module} import {', '.join(names)}") <= WIDTH:
        return [line]
    return [f"from {module} import (", *[f"    {name}," for name in names], ")"]


def written() -> dict[Path, str]:
    """Return the content of every file that follows from the rows, by its path."""
    init = PACKAGE / "__init__.py"
    before, after = _split(text := init.read_text())
    files = {
        init: before + START + init_block(text) + END + after,
        PACKAGE / "autograd" / "graph" / "methods.pyi": method_stub(),
        PACKAGE / "return_types.pyi": return_types_stub(),
        PACKAGE.parent / "docs" / "ops.md": as_markdown(entries()),
    }
    return files | {Path(inspect.getfile(import_module(face))).with_suffix(".pyi"): face_stub(face) for face in FACES}


def write() -> None:
    """Write all files."""
    for path, content in written().items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write()
