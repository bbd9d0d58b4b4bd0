"""A number may be a tensor without dimensions wherever PyTorch takes one: the result is that of the number."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import nanotorch
from op_cases import CASES, Call, Case, host, named, outputs
from oracle import pytorch

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


def numbers(case: Case) -> Iterator[tuple[int | str, float]]:
    """The arguments of a sample that are numbers, and the parameters whose defaults are: by position or by name."""
    given = [*enumerate(case.sample.args), *case.sample.kwargs.items()]
    rest = list(inspect.signature(case.entry.function).parameters.values())[len(case.sample.args) :]
    defaults = [(p.name, p.default) for p in rest if p.name not in case.sample.kwargs and p.kind != p.VAR_POSITIONAL]
    for place, value in [*given, *(defaults if case.number == 0 else [])]:
        if type(value) in (int, float) and np.isfinite(value):
            yield place, value


def outcome(lib: Any, function: Any, case: Case, place: int | str, value: Any) -> Any:
    call = Call(case, lambda array, _: lib.tensor(array))
    arguments: Any = call.args if isinstance(place, int) else call.kwargs
    arguments[place] = value
    lib.manual_seed(0)
    try:
        return [host(o) for o in outputs(function(*call.args, **call.kwargs))]
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, AttributeError) as error:
        return error


def test_every_number_of_every_op() -> None:
    different, seen = [], set()
    for case in CASES:
        if case.entry.where == "internal" or case.name in ("max", "min"):  # of two tensors: the larger, the smaller
            continue
        for place, value in numbers(case):
            if (case.name, place) in seen:
                continue
            seen.add((case.name, place))
            if isinstance(outcome(pytorch, named(pytorch, case), case, place, pytorch.tensor(value)), Exception):
                continue
            expected = outcome(nanotorch, case.entry.function, case, place, value)
            ours = outcome(nanotorch, case.entry.function, case, place, nanotorch.tensor(value))
            if isinstance(ours, Exception) or not all(map(same, ours, expected)):
                different.append(f"{case}, {place}={value}: {ours!r} instead of {expected!r}")
    assert not different, "\n".join(different)


def same(mine: Any, theirs: Any) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return np.shape(mine) == np.shape(theirs) and np.allclose(mine, theirs, rtol=1e-6, atol=1e-9, equal_nan=True)
