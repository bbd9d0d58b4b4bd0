"""gradcheck and gradgradcheck accept right derivatives and refuse wrong ones, saying where."""

from __future__ import annotations

from typing import Any

import pytest

import nanotorch as torch
from nanotorch.autograd import Function, GradcheckError, gradcheck, gradgradcheck

MODES = pytest.mark.parametrize("fast_mode", [False, True], ids=["full", "fast"])


def inputs(*shapes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(torch.rand(shape, dtype=torch.float64).add_(0.5).requires_grad_() for shape in shapes)


class WrongCube(Function):
    """Its first derivative is wrong in one element."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        error = torch.zeros_like(x)
        error[1] = 0.25
        return grad * (3 * x**2 + error)


class WrongSecond(Function):
    """Its first derivative is right, but the second one comes out as zero."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad * 3 * x.detach() ** 2


class Sum(Function):
    """Its backward has to be the same for every element."""

    @staticmethod
    def forward(ctx: Any, x: Any, factor: float) -> Any:
        ctx.factor = factor
        return x.sum()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad.expand(3) * ctx.factor, None


@MODES
@pytest.mark.parametrize("function, shapes", [
    (lambda x: x.sin() * x, [(3,)]),
    (lambda x, y: x @ y, [(2, 3), (3, 2)]),
    (lambda x, y: (x * y, x / y, x.sum()), [(2, 3), (3,)]),
    (lambda x: x.prod() ** 2, [(2, 2)]),
    (lambda x: x[0].exp().expand(2, 2), [(2,)]),
    (lambda x: [x.cumsum(0), x.argmax()], [(3,)]),
], ids=range(6))  # fmt: skip
def test_right_derivatives(function: Any, shapes: Any, fast_mode: bool) -> None:
    arguments = inputs(*shapes)
    assert gradcheck(function, arguments, fast_mode=fast_mode)
    assert gradgradcheck(function, arguments, fast_mode=fast_mode)


@MODES
def test_a_wrong_first_derivative(fast_mode: bool) -> None:
    arguments = inputs((3,))
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0") as caught:
        gradcheck(WrongCube.apply, arguments, fast_mode=fast_mode)
    if not fast_mode:
        assert "output element 1, input element 1" in str(caught.value)
        assert "analytic" in str(caught.value) and "numerical" in str(caught.value)
    assert not gradcheck(WrongCube.apply, arguments, fast_mode=fast_mode, raise_exception=False)


@MODES
def test_half_of_the_derivative_detached(fast_mode: bool) -> None:
    assert not gradcheck(lambda x: x.detach() * x, inputs(()), fast_mode=fast_mode, raise_exception=False)


@MODES
def test_a_wrong_second_derivative(fast_mode: bool) -> None:
    arguments = inputs((3,))
    assert gradcheck(WrongSecond.apply, arguments, fast_mode=fast_mode)
    with pytest.raises(GradcheckError, match="with respect to input 0"):
        gradgradcheck(WrongSecond.apply, arguments, fast_mode=fast_mode)
    assert not gradgradcheck(WrongSecond.apply, arguments, fast_mode=fast_mode, raise_exception=False)


def test_the_message_names_output_and_input() -> None:
    (x,) = inputs((3,))
    assert gradcheck(lambda a, b: Sum.apply(b, 1.0), (1.0, x))
    with pytest.raises(GradcheckError, match=r"output 1 with respect to input 1 at output element 0, input element 0: analytic 2, numerical 1"):
        gradcheck(lambda a, b: (a, Sum.apply(b, 2.0)), (torch.ones(1, dtype=torch.float64), x))


def test_nan_is_a_mismatch() -> None:
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match="nan"):
        gradcheck(lambda x: x * (x / x).detach(), (x,))


def test_inputs_that_do_not_matter_and_constants() -> None:
    x, y = inputs((2,), (2,))
    assert gradcheck(lambda x, y: x * 2, (x, y))
    assert gradcheck(lambda x, k, name: x * k, (x, 3, "name"))
    assert gradcheck(lambda x: x * 2, x)


def test_tolerances() -> None:
    (x,) = inputs((3,))
    assert gradcheck(WrongCube.apply, (x,), atol=1.0)
    assert gradcheck(WrongCube.apply, (x,), rtol=2.0)


def test_given_gradients() -> None:
    (x,) = inputs((3,))
    assert gradgradcheck(lambda x: x**3, (x,), torch.ones(3, dtype=torch.float64, requires_grad=True))


def test_unusable_inputs() -> None:
    with pytest.raises(ValueError, match="at least one input that requires grad"):
        gradcheck(lambda x: x, torch.ones(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"float64 inputs, input 0 is torch.float32.*double"):
        gradcheck(lambda x: x, torch.ones(2, requires_grad=True))


def test_inputs_and_their_grads_stay_as_they_are() -> None:
    (x,) = inputs((3,))
    before = x.tolist()
    gradcheck(lambda x: x * x, (x,))
    gradgradcheck(lambda x: x * x, (x,))
    assert x.tolist() == before and x.grad is None
