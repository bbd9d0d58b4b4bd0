"""Python numbers that a tensor's dtype does not hold:
operands wrap around, values to be written are refused, as in PyTorch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

DTYPES = ["uint8", "int8", "int16", "int32", "int64", "bool", "float16", "float32", "float64"]
NUMBERS = [
    300,
    -1,
    -300,
    128,
    255,
    70000,
    2**31,
    2**40,
    2**63,
    2**64,
    1e40,
    -1e40,
    65504.0,
    math.inf,
    math.nan,
    1.5,
    -1.5,
]
OPERANDS = [f"x {sign} n" for sign in ("+", "*", "//", "%", "&", "|", "^", "<<", ">>", "**")] + [
    f"n {sign} x" for sign in ("+", "*", "&", "|", "^", "<<", ">>", "**")
]
OPERANDS += [
    "lib.fmod(x, n)",
    "lib.div(x, n, rounding_mode='trunc')",
    "x.clone().add_(n)",
    "x.clone().mul_(n)",
    "lib.rsub(x, n) if x.dtype != lib.bool else x",
]
VALUES = """
lib.where(m, x, n)
lib.where(m, n, x)
x.where(m, n)
lib.clamp(x, min=n)
lib.clamp(x, n, n)
x.clamp_max(n)
x.clone().clip_(max=n)
x.new_full((2,), n)
lib.full_like(x, n)
x.new_tensor([n])
lib.tensor([n], dtype=x.dtype)
write(x.clone(), 0, n)
write(x.clone(), m, n)
write(x.clone(), lib.tensor([0, 1]), n)
x.clone().fill_(n)
x.masked_fill(m, n)
x.index_fill(0, lib.tensor([0]), n)
x.scatter(0, lib.tensor([0]), n)
x.clone().scatter_(0, lib.tensor([0]), value=n)
lib.addcmul(x, x, x, value=n) if x.dtype != lib.bool else x
""".strip().splitlines()
# Where PyTorch refuses, these compute: docs/differences.md. Booleans and floats hold or round what no integer dtype
# does.
MAY_COMPUTE = {"bool", "float16", "float32", "float64"}


def write(x: Any, index: Any, n: Any) -> Any:
    x[index] = n
    return x


def outcome(lib: Any, program: str, dtype: str, n: Any) -> Any:
    x = lib.tensor([0, 1, 1] if dtype == "bool" else [0, 1, 2], dtype=getattr(lib, dtype))
    try:
        # one of the texts above
        result = eval(program, {"lib": lib, "x": x, "n": n, "m": lib.tensor([True, False, True]), "write": write})
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        if lib is nanotorch and (isinstance(error, OverflowError) or "Python int" in str(error)):
            return str(error)
        return "refuses"
    return str(result.dtype), np.array(result.tolist(), np.float64 if result.is_floating_point() else object)


def equal(ours: Any, theirs: Any) -> bool:
    if "refuses" in (ours, theirs):
        return ours is theirs
    if ours[0] != theirs[0]:
        return False
    return (
        np.allclose(ours[1], theirs[1], rtol=1e-3 if "16" in ours[0] else 1e-6, equal_nan=True)
        if "float" in ours[0]
        else ours[1].tolist() == theirs[1].tolist()
    )


@pytest.mark.parity
@pytest.mark.parametrize("programs", [OPERANDS, VALUES], ids=["operands", "values"])
def test_numbers_beyond_the_dtype(programs: list[str]) -> None:
    different = []
    for program in programs:
        for dtype in DTYPES:
            for n in NUMBERS:
                ours, theirs = outcome(nanotorch, program, dtype, n), outcome(pytorch, program, dtype, n)
                if not equal(ours, theirs) and not (theirs == "refuses" and dtype in MAY_COMPUTE):
                    different.append(f"{program}, {dtype}, {n}: {ours} instead of {theirs}")
    assert not different, "\n".join(different)


def test_comparisons_compare_the_numbers() -> None:
    """PyTorch wraps the number first, so that 256 equals a uint8 of 0."""
    x = nanotorch.tensor([0, 1], dtype=nanotorch.uint8)
    for n in (-1, 256, 2**40, -(2**63), 2**70):
        assert (x == n).tolist() == [False, False]
        assert (x < n).tolist() == (x <= n).tolist() == [n > 0] * 2
        assert (x > n).tolist() == (x >= n).tolist() == [n < 0] * 2


@pytest.mark.parity
def test_integers_at_their_limits() -> None:
    """Negative, shifted, divided and accumulated integers, and floats that become integers, as PyTorch's."""
    different = []
    for program in (
        "-lib.tensor([-128], dtype=lib.int8)",
        "abs(lib.tensor([-128], dtype=lib.int8))",
        "lib.tensor([-2**63]).abs()",
        "-lib.tensor([-2**63])",
        "lib.tensor([200, 100], dtype=lib.uint8).sum()",
        "lib.tensor([200, 100], dtype=lib.uint8).sum(dtype=lib.uint8)",
        "lib.tensor([200, 100], dtype=lib.uint8).cumsum(0, dtype=lib.uint8)",
        "lib.tensor([100, 100], dtype=lib.int8).cumsum(0, dtype=lib.int8)",
        "lib.tensor([200, 100], dtype=lib.uint8).prod(dtype=lib.int16)",
        "lib.tensor([1, 2]) << 64",
        "lib.tensor([1, -2]) >> 64",
        "lib.tensor([1, 2]) << -1",
        "lib.tensor([1, -2]) >> -1",
        "lib.tensor([1], dtype=lib.int8) << 7",
        "lib.tensor([255], dtype=lib.uint8) << 9",
        "lib.tensor([1, 2]) // 0",
        "lib.tensor([1, 2]) % 0",
        "lib.tensor([True]) // 0",
        "lib.tensor([True]) % 0",
        "lib.tensor([1, 2]) // lib.tensor([0, 1])",
        "lib.fmod(lib.tensor([1, 2]), 0)",
        "lib.tensor([2, -1, 1]) ** -1",
        "lib.tensor([2, -1, 1]) ** lib.tensor(-1)",
        "lib.linspace(0, 10, 4, dtype=lib.int64)",
        "lib.linspace(-3, 5, 4, dtype=lib.int32)",
        "lib.logspace(0, 2, 3, dtype=lib.int64)",
        "lib.linspace(0, 300, 4, dtype=lib.uint8)",
        "lib.tensor([[1, 2**63]])",
        "lib.tensor([[1.5, 2**63]])",
        "lib.lcm(lib.tensor([2**40]), lib.tensor([2**40 - 1]))",
        "lib.tensor([127], dtype=lib.int8) + 1",
        "lib.tensor([127], dtype=lib.int8) + lib.tensor(300)",
        "lib.tensor([1], dtype=lib.uint8) + lib.tensor(-2)",
        "lib.tensor([-2**63]) // -1",
        "lib.tensor([-2**63]) % -1",
        "1 << lib.tensor([70])",
        "lib.bitwise_right_shift(lib.tensor([-8, 8]), lib.tensor([64, -1]))",
        "lib.sum(lib.tensor([1.5, 2.5]), dtype=lib.int64)",
        "lib.tensor([7.0]) // 0",
        "lib.tensor([7.0]) % 0",
        "300 // lib.tensor([7], dtype=lib.uint8)",
        "lib.zeros(2, dtype=lib.int8).copy_(lib.tensor([300, -129]))",
        "lib.zeros(3, 3, dtype=lib.int8).fill_diagonal_(300)",
        "lib.tensor([65504.0]).half() * 2",
        "lib.clamp(lib.tensor([5], dtype=lib.uint8), min=-1.5)",
        "lib.nn.functional.pad(lib.tensor([1], dtype=lib.uint8), (1, 0), value=300)",
        "lib.pow(2, lib.tensor([70]))",
        "lib.linspace(0, 255, 3, dtype=lib.uint8)",
        "lib.add(lib.tensor([1]), lib.tensor([1]), alpha=1.5)",
        "lib.sub(lib.tensor([1]), 1, alpha=0.5)",
        "lib.lerp(lib.tensor([1]), lib.tensor([2]), 0.5)",
        "lib.tensor([1.9, -1.9]).to(lib.int8)",
        "lib.tensor([1.9, -1.9]).long()",
        "lib.tensor([300]).to(lib.uint8)",
        "lib.tensor([-1]).to(lib.uint8)",
        "lib.tensor([300]).to(lib.int8)",
        "lib.tensor([2**31]).int()",
        "lib.tensor([0.5, -0.5, float('nan')]).bool()",
        "lib.tensor([70000.0]).half()",
        "lib.tensor([1e300], dtype=lib.float64).float()",
        "lib.tensor([-7]) // 2",
        "lib.tensor([-7]) % 3",
        "lib.tensor([-128], dtype=lib.int8) // -1",
        "lib.tensor([2**62]) * 4",
        "lib.tensor([2**63 - 1]) + 1",
        "lib.tensor([True, True]) + True",
        "lib.tensor([5]).clamp(7, 3)",
        "lib.tensor([2**70], dtype=lib.float64)",
        "lib.tensor([[2**70, 1]], dtype=lib.float32)",
        "lib.tensor([-2**70], dtype=lib.int64)",
        "lib.tensor(2**70)",
        "lib.tensor([2**70, 0.5], dtype=lib.float64)",
    ):
        found = []
        for lib in (nanotorch, pytorch):
            try:
                result = eval(program, {"lib": lib})
                found.append(repr((str(result.dtype), result.tolist())))
            except (RuntimeError, TypeError, ValueError) as error:
                assert lib is not nanotorch or "object" not in str(error)
                found.append("refuses")
        if found[0] != found[1]:
            different.append(f"{program}: {found[0]} instead of {found[1]}")
    assert not different, "\n".join(different)
