"""The shape of the package: who imports whom, where CuPy may appear, and that the public surface is what it says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nanotorch
from nanotorch.ops.docs import stubs
from nanotorch.ops.docs.table import as_markdown, entries
from nanotorch.ops.rows.row import COMPOSITES, ROWS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nanotorch"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each part of the package may import from the package. The registry is a leaf that everybody may use.
ALLOWED = {
    "dtypes": set(),
    "registry": set(),
    "absent": {"dtypes"},
    "ctrl_c": set(),
    "backend": {"dtypes"},
    "autograd": {"backend", "dtypes"},
    "ops": {"autograd", "backend", "dtypes"},
    "utils": {"ops", "autograd", "backend", "dtypes"},
    "optim": {"ops", "autograd", "backend", "dtypes", "nn"},
    "nn": {"ops", "autograd", "backend", "dtypes", "utils"},
    "cuda": {"backend", "ops"},
    "special": {"ops"},
    "random": {"ops"},
    "linalg": {"ops", "autograd"},
    "explain": {"ops", "autograd"},
    "func": {"autograd"},
    "viz": {"ops", "autograd", "utils"},
    "summary": {"ops", "autograd"},
    "evaluate": {"train"},
    "export": {"train"},
    "predict": {"train"},
    "compare": {"train"},
    "train": {"nn", "optim", "utils", "ops", "autograd", "backend", "dtypes", "cuda", "summary", "ctrl_c"},
    "estimators": {"train", "nn", "optim", "utils", "backend"},
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported module of a file, and whether the import is for type checkers only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "nanotorch":
                found += [(f"nanotorch.{alias.name}", id(node) in typing_only) for alias in node.names]
            else:
                found.append((str(node.module), id(node) in typing_only))
    return found


@pytest.mark.parametrize(
    "path", [p for p in FILES if p != PACKAGE / "__init__.py"], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_downwards(path: Path) -> None:
    part = part_of(path)
    for module, typing_only in imports(path):
        if module == "nanotorch":
            assert part in ("train", "estimators"), f"{path}: import the module, not the whole package"
        if not module.startswith("nanotorch.") or typing_only:
            continue
        target = module.split(".")[1]
        known = (PACKAGE / target).exists() or (PACKAGE / f"{target}.py").exists()
        if known and target != part:
            assert target in ALLOWED[part] | {"registry"}, f"{path} imports {module}: {part} may not import {target}"
        elif not known:
            assert part in ("train", "estimators"), f"{path}: {module} is a name of the public surface"


def test_cupy_is_imported_in_one_file_only() -> None:
    users = {p.name for p in FILES for module, _ in imports(p) if module.split(".")[0] in ("cupy", "cupyx")}
    assert users == {"cupy_backend.py"}


@pytest.mark.parametrize(
    ("module", "places"),
    [
        ("pydantic", {"train"}),
        ("yaml", {"train"}),
        ("tqdm", {"train"}),
        ("matplotlib", {"train"}),
        ("sklearn", {"train", "estimators"}),
        ("torch", set()),
    ],
)
def test_third_party_modules_stay_in_their_place(module: str, places: set[str]) -> None:
    assert {part_of(p) for p in FILES for name, _ in imports(p) if name.split(".")[0] == module} <= places


def test_import_nanotorch_loads_numpy_and_nothing_else_from_outside() -> None:
    code = (
        "import sys; import nanotorch; found = {name.split('.')[0] for name, m in sys.modules.items() if"
        " 'site-packages' in str(getattr(m, '__file__', ''))}; print(sorted(found - {'nanotorch'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [n for n in ast.literal_eval(out) if not n.startswith(("_", "distutils", "__editable__"))]
    assert names == ["numpy"]


def test_no_pickle_eval_or_dynamic_import_paths() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        used = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "eval" not in used, path
        assert "exec" not in used or path == PACKAGE / "ops" / "rows" / "compiler.py", f"{path}: only rows are compiled"
        assert not {module for module, _ in imports(path)} & {"pickle", "marshal", "shelve", "dill", "joblib"}, path


def test_every_public_operator_is_exported() -> None:
    for name, function in stubs.functions().items():
        assert getattr(nanotorch, name) is function


def test_every_operator_of_linalg_and_special_is_in_its_namespace() -> None:
    for entry in [e for e in (*ROWS.values(), *COMPOSITES.values()) if e.where in ("linalg", "special")]:
        assert getattr(getattr(nanotorch, entry.where), entry.name.removeprefix(f"{entry.where}_")) is entry.function


def test_generated_source_is_fresh() -> None:
    """Run ``python -m nanotorch.ops.docs.stubs`` after adding a row."""
    text = (PACKAGE / "__init__.py").read_text()
    assert stubs.START + stubs.init_block() + stubs.END in text, "nanotorch/__init__.py is stale"
    assert (PACKAGE / "autograd" / "graph" / "methods.pyi").read_text() == stubs.method_stub(), (
        "autograd/graph/methods.pyi is stale"
    )
    assert stubs.TABLE.read_text() == as_markdown(entries()), "docs/ops.md is stale"


def test_all_names_in_dunder_all_exist() -> None:
    import importlib

    for path in FILES:
        if path.name == "__main__.py" or path.name == "cupy_backend.py":
            continue
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.__all__ names {name}"


def test_operators_are_declared_once() -> None:
    assert not set(ROWS) & set(COMPOSITES)
