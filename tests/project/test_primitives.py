"""Rows and rules say nothing that the table of primitives does not list (Note [Array primitives])."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from nanotorch.backend.device import CPU
from nanotorch.backend.primitives import FACTS, PLACEMENT, PRIMITIVES
from nanotorch.ops.rows.row import COMPOSITES, ROWS
from nanotorch.ops.rows.tensors import TENSOR
from nanotorch.registry import OPTIMIZERS

ROOT = Path(__file__).resolve().parents[2]
OF_ARRAYS = {name for name in dir(np.ndarray) if not name.startswith("_")} - {*FACTS, "T"}
DESCRIPTIONS = {"finfo", "iinfo", "dtype"}
"""What text may ask NumPy for, beside its types and numbers: nothing of it is done to an array."""

PLACES = ("nanotorch.ops.", "nanotorch.optim.")


@cache
def texts_of(file: str) -> dict[tuple[str, int], list[Any]]:
    """The functions of a file by name and line; lambdas of one line are not told apart."""
    found: dict[tuple[str, int], list[Any]] = {}
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.FunctionDef):
            found.setdefault((node.name, min(n.lineno for n in (node, *node.decorator_list))), []).append(node)
        elif isinstance(node, ast.Lambda):
            found.setdefault(("<lambda>", node.lineno), []).append(node)
    return found


def surroundings(function: FunctionType) -> dict[str, Any]:
    """What the names in a function that are not its own stand for."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return function.__globals__ | {name: cell.cell_contents for name, cell in cells.items()}


def texts(start: list[Callable[..., Any]]) -> list[tuple[FunctionType, Any]]:
    """The functions, and all helpers that they name, with their texts; ops that work on tensors are not among them."""
    found: dict[int, tuple[FunctionType, Any]] = {}
    tensors = {id(entry.function) for entry in (*ROWS.values(), *COMPOSITES.values())}
    todo = list(start)
    while todo:
        function = todo.pop()
        if not isinstance(function, FunctionType) or id(function) in tensors:
            continue
        if (
            not function.__module__.startswith(("nanotorch.ops.", "nanotorch.optim."))
            or ".rows." in function.__module__
        ):
            continue
        code, names = function.__code__, surroundings(function)
        for node in texts_of(code.co_filename).get((code.co_name, code.co_firstlineno), ()):
            if id(node) not in found:
                found[id(node)] = function, node
                todo += [names.get(n.id) for part in body_of(node) for n in ast.walk(part) if isinstance(n, ast.Name)]
    return list(found.values())


def body_of(node: Any) -> list[Any]:
    return node.body if isinstance(node.body, list) else [node.body]


FORMULAS = [formula for row in ROWS.values() for formula, _ in row.formulas.values()]


def hosts(node: Any) -> set[str]:
    """The names in a function that stand for numbers, tuples and lists of Python wherever they are assigned."""
    kinds: dict[str, list[bool]] = {}

    def plain(value: Any) -> bool:
        if isinstance(value, ast.List | ast.ListComp | ast.Dict | ast.Constant | ast.Compare):
            return True
        if isinstance(value, ast.Tuple):
            return all(map(plain, value.elts))
        if isinstance(value, ast.Subscript):
            return plain(value.value)
        if isinstance(value, ast.BinOp):
            return plain(value.left) and plain(value.right)
        if isinstance(value, ast.Attribute):
            return value.attr in ("shape", "ndim", "size")
        if isinstance(value, ast.Call):
            return ast.unparse(value.func) in ("len", "list", "dict", "range", "math.prod")
        return isinstance(value, ast.Name) and bool(kinds.get(value.id)) and all(kinds[value.id])

    for statement in ast.walk(node):
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                pairs = [(target, statement.value)]
                if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                    pairs = list(zip(target.elts, statement.value.elts, strict=True))
                for name, value in pairs:
                    if isinstance(name, ast.Name):
                        kinds.setdefault(name.id, []).append(plain(value))
        elif isinstance(statement, ast.arg) and statement.annotation is not None:
            kinds.setdefault(statement.arg, []).append(ast.unparse(statement.annotation) in ("int", "str", "list[str]"))
    return {name for name, found in kinds.items() if all(found)}


@cache
def form_of(name: str) -> inspect.Signature:
    namespace: dict[str, Any] = {}
    exec(f"def {name}({PRIMITIVES[name].arguments}): ...", namespace)
    return inspect.signature(namespace[name])


def objections(function: FunctionType, node: Any, rule: bool) -> Iterator[tuple[int, str]]:
    """Everything in a text that is no primitive, with its line."""
    names, plain = surroundings(function), hosts(node)
    called = {id(n.func): n for n in ast.walk(node) if isinstance(n, ast.Call)}
    for n in (n for part in body_of(node) for n in ast.walk(part)):
        if isinstance(n, ast.Attribute):
            base = n.value
            module = isinstance(base, ast.Name) and isinstance(names.get(base.id), ModuleType)
            if isinstance(base, ast.Name) and base.id == "xp":
                if n.attr not in PRIMITIVES:
                    yield n.lineno, f"xp.{n.attr} is not in the table"
                elif id(n) in called and not any(isinstance(a, ast.Starred) for a in called[id(n)].args):
                    call = called[id(n)]
                    try:
                        form_of(n.attr).bind(*call.args, **{str(k.arg): k.value for k in call.keywords})
                    except TypeError as error:
                        form = f"xp.{n.attr}({PRIMITIVES[n.attr].arguments})"
                        yield n.lineno, f"{ast.unparse(call)} is not of the form {form}: {error}"
            elif module and names[base.id] is np:
                value = getattr(np, n.attr)
                if n.attr not in DESCRIPTIONS and callable(value) and not isinstance(value, type):
                    yield n.lineno, f"np.{n.attr} is not of the table: xp.{n.attr}, or what means the same"
            elif not module and n.attr in OF_ARRAYS and not isinstance(base, ast.Constant):
                of_dtype = isinstance(base, ast.Attribute) and base.attr == "dtype"
                described = isinstance(base, ast.Call) and ast.unparse(base.func) in ("np.finfo", "np.iinfo")
                if not of_dtype and not described and not set(names_in(base)) <= plain:
                    use = f"xp.{n.attr}(...)" if n.attr in PRIMITIVES else "a primitive"
                    yield n.lineno, f"{ast.unparse(n)} belongs to arrays of NumPy: take {use}"
        elif isinstance(n, ast.Assign | ast.AugAssign):
            for target in n.targets if isinstance(n, ast.Assign) else [n.target]:
                if isinstance(target, ast.Subscript) and not set(names_in(target.value)) <= plain:
                    yield n.lineno, f"{ast.unparse(n)} writes into an array: take xp.put, xp.add_at or xp.pad_to"
                elif isinstance(n, ast.AugAssign) and not rule and not set(names_in(target)) <= plain:
                    yield n.lineno, f"{ast.unparse(n)} may write into an array: write it out, or take xp.iadd"
        elif isinstance(n, ast.BinOp) and isinstance(n.op, ast.MatMult):
            yield n.lineno, f"{ast.unparse(n)}: take xp.matmul"


def names_in(node: Any) -> list[str]:
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]


def found_in(start: list[Callable[..., Any]], rule: bool) -> list[str]:
    return sorted(
        f"{Path(function.__code__.co_filename).relative_to(ROOT)}:{line}: {text}"
        for function, node in texts(start)
        for line, text in objections(function, node, rule)
    )


def test_rows_are_written_with_primitives_only() -> None:
    found = found_in([*FORMULAS, *(row.forward for row in ROWS.values())], rule=False)
    assert not found, "\n".join(found)


def test_rules_are_written_with_primitives_only() -> None:
    rules = [OPTIMIZERS.get(name).rule for name in OPTIMIZERS if hasattr(OPTIMIZERS.get(name), "rule")]
    assert len(rules) >= 10
    found = found_in(rules, rule=True)
    assert not found, "\n".join(found)


def test_what_is_recorded_has_a_tensor_column() -> None:
    """Formulas run on tensors under create_graph, and so do forwards whose hidden outputs they take."""
    hidden = [row.forward for row in ROWS.values() if any(name.startswith("_") for name in row.saved)]
    used = {
        node.attr
        for _, text in texts([*FORMULAS, *hidden])
        for node in ast.walk(text)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "xp"
    }
    assert used - TENSOR.keys() == set()


def test_columns_are_complete() -> None:
    assert [name for name in PRIMITIVES if not callable(getattr(CPU.xp, name))] == []


ELSEWHERE = {
    "autograd/graph/copying.py: copy",
    "autograd/graph/tensor.py: __array_interface__",
    "autograd/graph/tensor.py: __dlpack__",
    "autograd/graph/tensor.py: __dlpack_device__",
    "autograd/graph/tensor.py: data",
    "ops/reduce/search.py: reshape",
    "ops/shape/query.py: flat",
    "ops/shape/query.py: reshape",
    "optim/lbfgs.py: reshape",
}
"""Where arrays are asked for more than a recorder answers: what reads them on the host, copies modules, counts."""


def test_who_is_no_row_uses_primitives_too() -> None:
    """Beside rows `tensor._array.name` is a fact, or a place in `ELSEWHERE`; nobody stores to `tensor._array[...]`."""
    found, stores = set(), []
    for top in ("autograd", "ops", "nn", "optim"):
        for path in sorted((ROOT / "nanotorch" / top).rglob("*.py")):
            file = str(path.relative_to(ROOT / "nanotorch"))
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and getattr(node.value, "attr", None) == "_array":
                    found |= {f"{file}: {node.attr}"} if node.attr not in (*FACTS, *PLACEMENT) else set()
                if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                    stores += [file] if getattr(node.value, "attr", None) == "_array" else []
    assert found == ELSEWHERE
    assert stores == ["nn/init.py"]


def test_rules_branch_on_booleans_and_on_zero() -> None:
    """A comparison of numbers is made by `scalars` (Note [Host scalars])."""
    rules = [OPTIMIZERS.get(name).rule for name in OPTIMIZERS if hasattr(OPTIMIZERS.get(name), "rule")]
    tests = [
        n.test for _, text in texts(rules) for n in ast.walk(text) if isinstance(n, ast.If | ast.IfExp | ast.While)
    ]
    compared = [n for test in tests for n in ast.walk(test) if isinstance(n, ast.Compare)]
    assert len(tests) > 20
    assert [ast.unparse(n) for n in compared if not isinstance(n.ops[0], ast.Is | ast.IsNot)] == []
