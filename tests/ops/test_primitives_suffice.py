"""Rows run on arrays that can do nothing but what the table of primitives says (Note [Array primitives]).

Such an array stands for what a recorder or a compiler hands to a row: it has no methods, cannot be asked for its
values, and questions about them stay unanswered. Forwards and formulas still give what they give on NumPy's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nanotorch.backend.device import CPU
from nanotorch.backend.primitives import OPERATORS, PRIMITIVES, Column, Namespace
from nanotorch.ops.rows.observe import observing
from nanotorch.ops.rows.row import Row
from op_cases import CASES, Call, Case, each, ours


class Sealed:
    """An array with the operators and the metadata of the table, and nothing else."""

    __slots__ = ("_inside",)
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: Any) -> None:
        self._inside = array

    shape = property(lambda self: self._inside.shape)
    ndim = property(lambda self: self._inside.ndim)
    dtype = property(lambda self: self._inside.dtype)
    size = property(lambda self: self._inside.size)
    T = property(lambda self: sealed(self._inside.T))

    def __bool__(self) -> bool:
        raise AssertionError("the text asks for the value of an array: take a question, xp.holds or xp.all_in_range")

    __iter__ = __len__ = __float__ = __int__ = __index__ = __array__ = __bool__  # type: ignore[assignment]


def _operators() -> Iterator[tuple[str, Callable[..., Any]]]:
    for form, (spelling, function) in OPERATORS.items():
        if form.startswith("reversed_axes"):
            continue
        name = function.__name__.strip("_")
        yield f"__{name}__", lambda *args, f=function: sealed(f(*map(opened, args)))
        if spelling.startswith("x ") and name not in ("eq", "ne", "lt", "le", "gt", "ge"):
            yield f"__r{name}__", lambda x, y, f=function: sealed(f(opened(y), opened(x)))


for _name, _function in _operators():
    setattr(Sealed, _name, _function)


def sealed(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(*map(sealed, value)) if hasattr(value, "_fields") else type(value)(map(sealed, value))
    return Sealed(value) if isinstance(value, np.ndarray | np.generic) else value


def opened(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(opened, value))
    return value._inside if isinstance(value, Sealed) else value


def _primitive(name: str) -> Callable[..., Any]:
    function = getattr(CPU.xp, name)
    if PRIMITIVES[name].section == "questions":
        return lambda *args: None
    if PRIMITIVES[name].section == "layout":
        return lambda x: function(opened(x))
    return lambda *args, **options: sealed(function(*opened(args), **{k: opened(v) for k, v in options.items()}))


STRICT = Column()
for _name in PRIMITIVES:
    if _name not in STRICT:
        STRICT.define(_name)(_primitive(_name))
xp = Namespace(STRICT)


def agree(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, tuple | list):
        for one, other in zip(ours, theirs, strict=True):
            agree(one, other)
    elif theirs is None:
        assert ours is None
    else:
        np.testing.assert_allclose(opened(ours), theirs, rtol=1e-9, atol=1e-12)
        assert not hasattr(theirs, "dtype") or ours.dtype == theirs.dtype


def shape_of(value: Any) -> Any:
    return [shape_of(part) for part in value] if isinstance(value, list) else getattr(value, "shape", None)


def saved(row: Row, arguments: dict[str, Any], out: Any) -> dict[str, Any]:
    """Everything that a formula may name, but for the array module."""
    outputs = dict(zip(row.outputs, out, strict=False)) if row.outputs and row.outputs != ["list"] else {"result": out}
    shapes = {f"{p.name}_shape": shape_of(arguments[p.name]) for p in row.tensors}
    visible = out if isinstance(out, tuple | list) else [out]
    grads = [np.ones_like(part) for part in visible]
    return {**arguments, **outputs, **shapes, "grad": grads[0] if grads else None, "grads": grads}


COMPARED: set[str] = set()
"""The rows and arguments that were compared, by their shapes: a text that asks for no value does the same again."""


def described(value: Any) -> Any:
    return (value.shape, value.dtype.name) if isinstance(value, np.ndarray) else value


def compare(row: Row, given: dict[str, Any], out: Any) -> None:
    """Run a row's forward and its formulas again, on sealed arrays."""
    key = f"{row.name} {[(n, *map(described, a)) if type(a) is list else (n, described(a)) for n, a in given.items()]}"
    if key in COMPARED:
        return
    COMPARED.add(key)
    arguments = {p.name: p.default for p in row.parameters} | given
    tensors = {p.name for p in row.tensors}
    found = row.forward(xp, **{n: sealed(a) if n in tensors else a for n, a in arguments.items()})
    if row.visible:  # what formulas alone read is judged by what they give
        agree(found[: len(row.visible)], out[: len(row.visible)])
    else:
        agree(found, out)
    values = saved(row, arguments, out)
    for name, (formula, wanted) in row.formulas.items():
        first = arguments[name][0] if isinstance(arguments[name], list) else arguments[name]
        if not isinstance(first, np.ndarray) or first.dtype.kind != "f":
            continue
        try:
            plain = formula(**{n: CPU.xp if n == "xp" else values[n] for n in wanted})
        except (RuntimeError, NotImplementedError) as error:
            assert "not implemented" in str(error)
            continue
        agree(formula(**{n: xp if n == "xp" else sealed(values[n]) for n in wanted}), plain)


@pytest.fixture
def compared() -> Iterator[None]:
    """Compare every row that runs; once for each op, as to observe touches all rows."""
    with observing(compare):
        yield


@pytest.mark.filterwarnings("ignore")
@each(CASES)
def test_rows_need_nothing_but_primitives(case: Case, compared: None) -> None:
    call = Call(case, ours(requires_grad=False))
    case.entry.function(*call.args, **call.kwargs)
