"""Rules as programs (Note [Host scalars]): what one call does, replayed with other arrays and other scalars."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from optim_cases import CASES, always, ids, leaves, set_gradients, values


class Tape:
    """The calls that a rule makes, in their order, and the branches that it takes on scalars."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.branches: list[tuple[Scalar, bool]] = []
        self.arrays = 0

    def array(self, value: Any) -> Array:
        self.arrays += 1
        return Array(self, self.arrays - 1, value)

    def call(self, function: Callable[..., Any], *operands: Any) -> Array:
        self.calls.append((function, operands))
        return self.array(function(*[getattr(operand, "value", operand) for operand in operands]))

    def __getattr__(self, name: str) -> Callable[..., Array]:  # as `xp`
        function = getattr(torch.device("cpu").xp, name)
        return lambda *operands: self.call(function, *operands)

    def replay(self, arrays: list[Any], scalars: dict[str, Any]) -> None:
        known = list(arrays)

        def found(operand: Any) -> Any:
            if isinstance(operand, Array):
                return known[operand.place]
            return operand.of(scalars) if isinstance(operand, Scalar) else operand

        for scalar, taken in self.branches:
            assert bool(scalar.of(scalars)) is taken
        for function, operands in self.calls:
            known.append(function(*map(found, operands)))


class Array:
    """An array whose operators write themselves down; anything else that is asked of it is an AttributeError."""

    __array_ufunc__ = None

    def __init__(self, tape: Tape, place: int, value: Any) -> None:
        self.tape, self.place, self.value, self.dtype = tape, place, value, getattr(value, "dtype", None)


class Scalar:
    """A number that knows how it came from the scalars of a rule; it cannot be turned into a plain one."""

    def __init__(self, tape: Tape, of: Callable[[dict[str, Any]], Any], value: Any) -> None:
        self.tape, self.of, self.value = tape, of, value

    def __bool__(self) -> bool:
        self.tape.branches.append((self, bool(self.value)))
        return bool(self.value)


def _array_operator(function: Any, swapped: bool) -> Any:
    return lambda self, *other: self.tape.call(function, *((*other, self) if swapped else (self, *other)))


def _scalar_operator(function: Any, swapped: bool) -> Any:
    def combined(self: Scalar, other: Any) -> Any:
        if isinstance(other, Array):
            return NotImplemented
        first, second = (other, self) if swapped else (self, other)

        def of(scalars: dict[str, Any]) -> Any:
            return function(*[side.of(scalars) if isinstance(side, Scalar) else side for side in (first, second)])

        return Scalar(self.tape, of, function(*[getattr(side, "value", side) for side in (first, second)]))

    return combined


for name in ("add", "sub", "mul", "truediv", "pow"):
    for prefix in ("", "r"):
        function = getattr(operator, name)
        setattr(Array, f"__{prefix}{name}__", _array_operator(function, bool(prefix)))
        setattr(Scalar, f"__{prefix}{name}__", _scalar_operator(function, bool(prefix)))
    setattr(Array, f"__i{name}__", _array_operator(getattr(operator, f"i{name}"), False))
for name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Array, f"__{name}__", _array_operator(getattr(operator, name), False))
    setattr(Scalar, f"__{name}__", _scalar_operator(getattr(operator, name), False))
Array.__neg__ = _array_operator(operator.neg, False)  # type: ignore[attr-defined]


def recorded(tape: Tape, name: str, value: Any) -> Any:
    """The argument of a rule that stands for a scalar: flags and None are its structure and stay what they are."""
    if isinstance(value, tuple):
        parts = [Scalar(tape, lambda scalars, i=i: scalars[name][i], part) for i, part in enumerate(value)]
        return tuple(parts)
    return value if isinstance(value, bool) else Scalar(tape, lambda scalars: scalars[name], value)


@pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
def test_a_rule_recorded_once_is_replayed_with_other_scalars(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One update is recorded; the next ones, with all options changed, come out of the recording bit for bit."""
    kind = getattr(torch.optim, name)
    rule, tapes, replayed = kind.rule, [], 0

    def spied(xp: Any, *positional: Any, **named: Any) -> None:
        nonlocal replayed
        scalars = {key: value for key, value in named.items() if not isinstance(value, np.ndarray)}
        state = {key: value for key, value in named.items() if isinstance(value, np.ndarray)}
        arrays = [array.copy() for array in (*positional, *state.values())]
        if count == 12:
            tape = Tape()
            wrapped = [tape.array(array) for array in arrays]
            named_state = dict(zip(state, wrapped[2:], strict=True))
            rule(tape, *wrapped[:2], **named_state, **{key: recorded(tape, key, v) for key, v in scalars.items()})
            tapes.append(tape)
        elif count > 12:
            tapes[0].replay(arrays, scalars)
        rule(xp, *positional, **named)
        if count >= 12:
            replayed += count > 12
            for mine, expected in zip(arrays, (*positional, *state.values()), strict=True):
                np.testing.assert_array_equal(mine, expected)

    monkeypatch.setattr(kind, "rule", staticmethod(spied))
    params = leaves(torch, values(), "float32")
    optimizer = kind(params, **options)
    for count in range(16):
        group = optimizer.param_groups[0]
        if count == 13:
            for key, value in group.items():
                if isinstance(value, float):
                    group[key] = value * 0.9
                elif isinstance(value, tuple):
                    group[key] = tuple(number * 0.95 for number in value)
        set_gradients(torch, params, count, always)
        optimizer.step()
    assert replayed == 3 and len(tapes) == 1
