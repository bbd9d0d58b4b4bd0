"""`out=`: where a result is written to instead of a new tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch
from nanotorch.ops.rows.row import ROWS
from op_cases import CASES, Call, Case, each, ours, outputs
from oracle import agree

OUT = [case for case in CASES if case.name in ROWS and ROWS[case.name].compiler.plan.takes_out and case.number < 1]


@each(OUT)
def test_every_row_writes_what_it_returns(case: Case, device: Any) -> None:
    call = Call(case, ours(device, requires_grad=False))
    expected = case.entry.function(*call.args, **call.kwargs)
    single = isinstance(expected, nanotorch.Tensor)
    memory = [nanotorch.zeros(e.shape, dtype=e.dtype, device=e.device) for e in outputs(expected)]
    nothing = [nanotorch.empty(0, dtype=e.dtype, device=e.device) for e in outputs(expected)]
    for given in (memory, nothing):
        places = [m._array for m in given]
        result = case.entry.function(*call.args, **call.kwargs, out=given[0] if single else tuple(given))
        for place, target, actual, value in zip(places, given, outputs(result), outputs(expected), strict=True):
            assert actual is target and (given is nothing or target._array is place) and target._version == 1
            np.testing.assert_array_equal(target.cpu().numpy(), value.cpu().numpy(), strict=True)


PROGRAMS: list[Any] = [
    lambda lib, x, y: lib.add(x, y, out=x),
    lambda lib, x, y: lib.mul(x, 2, out=y[:]),
    lambda lib, x, y: lib.sum(x, 0, out=lib.empty(0)),
    lambda lib, x, y: lib.max(x, 1, out=(lib.empty(0), lib.empty(0, dtype=lib.int64))),
    lambda lib, x, y: lib.div(x, y + 1, rounding_mode="floor", out=lib.empty(0)),
    lambda lib, x, y: lib.where(x > 1, x, y, out=y),
    lambda lib, x, y: lib.matmul(x, y.T, out=lib.empty(2, 2)),
    lambda lib, x, y: lib.cat([x, y], out=lib.empty(4, 3)),
    lambda lib, x, y: lib.add(x, y, out=lib.empty(0, dtype=lib.float64)),
    lambda lib, x, y: lib.add(x, y, out=lib.empty(2, 3, dtype=lib.int64)),
    lambda lib, x, y: lib.add(x.requires_grad_(), y, out=lib.empty(0)),
    lambda lib, x, y: lib.add(x, y, out=lib.empty(2, 3, requires_grad=True)),
    lambda lib, x, y: lib.add(x, y, out=lib.empty(2, 1).expand(2, 3)),
    lambda lib, x, y: lib.add(x, y, out=[1]),
    lambda lib, x, y: lib.add(x, y, out="text"),
    lambda lib, x, y: lib.sort(x, out=(lib.empty(0), lib.empty(0, dtype=lib.int64))).values,
    lambda lib, x, y: lib.sort(x, out=lib.empty(0)),
    lambda lib, x, y: lib.linalg.inv(4 * lib.eye(2), out=lib.empty(0)),
    lambda lib, x, y: lib.stack((x, y), out=lib.empty(0)),
    lambda lib, x, y: lib.min(x, y, out=y),
    lambda lib, x, y: lib.neg(x, out=x.T.contiguous().T),
    lambda lib, x, y: lib.eq(x, y, out=lib.empty(0)),
]


@pytest.mark.parity
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_the_rules_are_those_of_pytorch(number: int) -> None:
    def program(lib: Any) -> Any:
        x, y = lib.arange(6.0).reshape(2, 3), lib.ones(2, 3)
        result = PROGRAMS[number](lib, x, y)
        values = result if isinstance(result, tuple) else (result,)
        return [[v.detach() for v in values], [str(v.dtype) for v in values], x.detach(), y]

    agree(program)


def test_without_recording_everything_may_be_written() -> None:
    x = nanotorch.ones(2, requires_grad=True)
    with nanotorch.no_grad():
        assert nanotorch.exp(x, out=x) is x
    y = x * x
    nanotorch.zeros_like(x)
    with nanotorch.no_grad():
        nanotorch.neg(x, out=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    with pytest.raises(nanotorch.ShapeError, match=r"output with shape \[2\]"):
        nanotorch.neg(nanotorch.ones(3), out=nanotorch.ones(2))
