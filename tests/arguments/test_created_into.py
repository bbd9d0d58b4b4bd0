"""`out=` of functions that create tensors, and what may be a default dtype, a seed, a format: as PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

import nanotorch as torch
from oracle import outcome, pytorch

pytestmark = pytest.mark.parity
DTYPES = ("float32", "float64", "float16", "int64")
CREATED = {
    "zeros": lambda t, out: t.zeros(2, 3, out=out),
    "zeros of a size": lambda t, out: t.zeros((2, 3), out=out),
    "ones": lambda t, out: t.ones(2, out=out),
    "full": lambda t, out: t.full((2,), 3.5, out=out),
    "eye": lambda t, out: t.eye(3, 2, out=out),
    "arange": lambda t, out: t.arange(5, out=out),
    "arange of three": lambda t, out: t.arange(1, 7, 2, out=out),
    "linspace": lambda t, out: t.linspace(0, 1, 3, out=out),
    "logspace": lambda t, out: t.logspace(0, 1, 3, out=out),
}
DRAWN = {
    "empty": lambda t, out: t.empty(2, out=out),
    "rand": lambda t, out: t.rand(3, out=out),
    "randn": lambda t, out: t.randn(2, 3, out=out),
    "randint": lambda t, out: t.randint(2, 5, (3,), out=out),
    "randint below": lambda t, out: t.randint(5, (3,), out=out),
    "randperm": lambda t, out: t.randperm(4, out=out),
    "normal": lambda t, out: t.normal(t.zeros(3), t.ones(3), out=out),
    "multinomial": lambda t, out: t.multinomial(t.ones(3), 2, out=out),
}
# Where PyTorch says NotImplementedError: no kernel, we say that the result cannot be cast.
OTHER_ERROR = {("normal", "int64")}


def created(create: Any, dtype: str, values: bool) -> Any:
    def program(t: Any) -> Any:
        out = t.zeros(0, dtype=getattr(t, dtype))
        result = create(t, out)
        return [
            result is out,
            str(out.dtype),
            list(out.shape),
            (out.double() * 100).round().tolist() if values else None,
        ]

    return program


def default_dtype(t: Any, dtype: Any) -> Any:
    before = t.get_default_dtype()
    try:
        t.set_default_dtype(dtype)
        values = [
            t.tensor(1) / 2,
            t.exp(t.tensor(True)),
            t.tensor([1, 2]).sqrt(),
            t.tensor(1) * 1.5,
            t.atan2(t.tensor(1), t.tensor(2)),
            t.zeros(1),
            t.arange(2.0),
        ]
        return [[str(value.dtype), round(float(value.sum()), 2)] for value in values] + [str(t.finfo().dtype)]
    finally:
        t.set_default_dtype(before)


def seeded(t: Any, seed: Any) -> Any:
    found = t.Generator().manual_seed(seed).initial_seed()
    t.manual_seed(seed)
    return found, t.initial_seed()


PROGRAMS = {
    **{f"{name}, {dtype}": created(create, dtype, True) for name, create in CREATED.items() for dtype in DTYPES},
    **{
        f"{name}, {dtype}": created(create, dtype, False)
        for name, create in DRAWN.items()
        for dtype in DTYPES
        if (name, dtype) not in OTHER_ERROR
    },
    "another dtype": lambda t: t.zeros(2, dtype=t.float64, out=t.zeros(2)),
    "the same dtype": lambda t: t.zeros(2, dtype=t.float64, out=t.ones(2, dtype=t.float64)),
    "a row": lambda t: (lambda whole: [t.ones(2, out=whole[1]), whole])(t.zeros(2, 2)),
    "no tensor": lambda t: t.ones(2, out=3),
    "none": lambda t: t.ones(2, out=None),
    "of one that requires grad": lambda t: t.exp(t.ones(2), out=t.ones(2, requires_grad=True)),
    **{
        f"default {dtype}": lambda t, dtype=dtype: default_dtype(t, getattr(t, dtype))
        for dtype in ("float16", "float32", "float64", "int64")
    },
    "default of Python": lambda t: default_dtype(t, float),
    "default by name": lambda t: default_dtype(t, "float64"),
    "default None": lambda t: default_dtype(t, None),
    **{
        f"seed {seed}": lambda t, seed=seed: seeded(t, seed)
        for seed in (0, -1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1)
    },
    "format of a number": lambda t: f"{t.tensor(4.4567):.2f} {t.tensor(3):04d}",
    "format of a vector": lambda t: f"{t.ones(2):.2f}",
    "plain format": lambda t: f"{t.ones(2)}",
    "reversed": lambda t: [reversed(t.arange(3)), reversed(t.arange(6).reshape(3, 2)), reversed(t.tensor(1.5))],
    "rand of integers": lambda t: t.rand(2, dtype=t.int64),
    "randn of booleans": lambda t: t.randn(2, dtype=t.bool),
}


def test_programs_are_pytorchs() -> None:
    for name, program in PROGRAMS.items():
        assert outcome(program, torch) == outcome(program, pytorch), name
