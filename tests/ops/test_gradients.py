"""First and second derivatives of every op, against finite differences in float64."""

from __future__ import annotations

from typing import Any

import pytest

import nanotorch as torch
from op_cases import CASES, Call, Case, differentiable, drawn, each, floating_outputs, ours

# Their derivative is zero or jumps where differences are taken across the jump.
PIECEWISE_CONSTANT = {"floor", "ceil", "trunc", "fix", "round", "sign", "sgn"}


def is_derivative(case: Case) -> bool:
    """Not at edges, for single elements of symmetric matrices,
    or the row padding_idx of an embedding; see the parity tests.
    """
    return "padding_idx" not in case.sample.kwargs and all(
        d.kind not in ("edge", "positive definite") for d in drawn(case)
    )


SMOOTH = [c for c in CASES if c.name not in PIECEWISE_CONSTANT and is_derivative(c)]


def test_most_samples_are_differentiable() -> None:
    """So that the tests below, which leave the others out, are about something."""
    assert sum(map(differentiable, SMOOTH)) > 1400


def function_of(case: Case, call: Call) -> Any:
    def function(*values: Any) -> Any:
        args, kwargs = call.replaced(list(values))
        return tuple(floating_outputs(case.entry.function(*args, **kwargs)))

    return function


@each(SMOOTH, when=differentiable)
def test_first_derivative_along_a_random_direction(case: Case) -> None:
    call = Call(case, ours())
    assert torch.autograd.gradcheck(function_of(case, call), call.leaves, fast_mode=True)


@each(SMOOTH, when=differentiable)
@pytest.mark.slow
def test_first_derivative(case: Case) -> None:
    call = Call(case, ours())
    assert torch.autograd.gradcheck(function_of(case, call), call.leaves)


@each(SMOOTH, when=differentiable)
@pytest.mark.slow
def test_second_derivative_along_a_random_direction(case: Case) -> None:
    """The parity tests compare every entry with PyTorch's."""
    call = Call(case, ours())
    assert torch.autograd.gradgradcheck(function_of(case, call), call.leaves, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("name", sorted(PIECEWISE_CONSTANT))
def test_derivative_of_piecewise_constant_ops_is_zero(name: str) -> None:
    x = torch.tensor([0.3, -1.2, 2.6], dtype=torch.float64, requires_grad=True)
    op = getattr(torch, name)
    op(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("rounding_mode", ["floor", "trunc"])
def test_derivative_of_rounded_quotients_is_zero(rounding_mode: str) -> None:
    x = torch.tensor([0.3, -1.2, 2.6], dtype=torch.float64, requires_grad=True)
    torch.div(x, x.detach() + 0.7, rounding_mode=rounding_mode).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("op", [lambda x: x // 0.7, lambda x: 2 // x, lambda x: torch.heaviside(x, x)])
def test_ops_without_a_derivative_say_so_and_what_to_use(op: Any) -> None:
    x = torch.tensor([0.3, -1.2], requires_grad=True)
    y = op(x)
    assert y.requires_grad and "grad_fn=<NotImplemented>" in repr(y)
    with pytest.raises(RuntimeError, match=r"derivative for aten::.* is not implemented; use torch"):
        y.sum().backward()
