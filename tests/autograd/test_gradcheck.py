"""gradcheck and gradgradcheck accept right derivatives and refuse wrong ones, saying where."""

from __future__ import annotations

from typing import Any

import pytest

import nanotorch as torch
from nanotorch.autograd import Function, GradcheckError, KinkWarning, gradcheck, gradgradcheck

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
@pytest.mark.parametrize(
    "function, shapes",
    [
        (lambda x: x.sin() * x, [(3,)]),
        (lambda x, y: x @ y, [(2, 3), (3, 2)]),
        (lambda x, y: (x * y, x / y, x.sum()), [(2, 3), (3,)]),
        (lambda x: x.prod() ** 2, [(2, 2)]),
        (lambda x: x[0].exp().expand(2, 2), [(2,)]),
        (lambda x: [x.cumsum(0), x.argmax()], [(3,)]),
    ],
    ids=range(6),
)
def test_right_derivatives(function: Any, shapes: Any, fast_mode: bool) -> None:
    arguments = inputs(*shapes)
    assert gradcheck(function, arguments, fast_mode=fast_mode)
    assert gradgradcheck(function, arguments, fast_mode=fast_mode)


@MODES
def test_a_wrong_first_derivative(fast_mode: bool) -> None:
    arguments = inputs((3,))
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0") as caught:
        gradcheck(WrongCube.apply, arguments, fast_mode=fast_mode)
    assert "at output element (1,) and input element (1,): analytic" in str(caught.value)
    assert "1 of 9 compared entries disagree" in str(caught.value)
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
    with pytest.raises(
        GradcheckError,
        match=(
            r"output 1 with respect to input 1, at output element \(\) and input element \(0,\): analytic 2,"
            r" numerical 1"
        ),
    ):
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
    with pytest.raises(ValueError, match="gradgradcheck expects at least one input that requires grad"):
        gradgradcheck(lambda x: x, torch.ones(2, dtype=torch.float64))


def test_inputs_and_their_grads_stay_as_they_are() -> None:
    (x,) = inputs((3,))
    before = x.tolist()
    gradcheck(lambda x: x * x, (x,))
    gradgradcheck(lambda x: x * x, (x,))
    assert x.tolist() == before and x.grad is None


# ------------------------------------------------------------------------------------------------- the worst entry


class WrongAt(Function):
    """The square, whose derivative is wrong by the given errors."""

    @staticmethod
    def forward(ctx: Any, x: Any, errors: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.errors = errors
        return x**2

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad * (2 * x + ctx.errors), None


@MODES
def test_the_worst_entry_of_all_jacobians_is_named(fast_mode: bool) -> None:
    (x,) = inputs((2, 3))
    small, large = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    small[0, 1], large[1, 2] = 0.125, 0.5
    expected = 2 * x[1, 2].item()
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda x: (WrongAt.apply(x, small), WrongAt.apply(x, large)), (x,), fast_mode=fast_mode)
    text = str(caught.value)
    assert "output 1 with respect to input 0, at output element (1, 2) and input element (1, 2)" in text
    assert (
        f"analytic {expected + 0.5:.8g}, numerical {expected:.8g}, relative error {0.5 / (expected + 0.5):.3g}" in text
    )
    assert "2 of 72 compared entries disagree" in text


def test_gradgradcheck_names_the_gradients_that_it_starts_from() -> None:
    class Forgets(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return grad.detach() * 2

    (x,) = inputs((2,))
    with pytest.raises(GradcheckError, match="with respect to gradient of output 0"):
        gradgradcheck(lambda x: Forgets.apply(x) * x, (x,))


def test_outputs_without_history_have_to_be_constant() -> None:
    (x,) = inputs((3,))
    with pytest.raises(GradcheckError, match="expected to be zero, since no output requires grad: output 0"):
        gradcheck(lambda x: x.detach() * 2, (x,))
    assert gradcheck(lambda x: x.detach() * 0, (x,))


# ------------------------------------------------------------------------------------------------- precision


def test_float32_is_raised_to_float64() -> None:
    x = torch.tensor([0.3, -1.2], requires_grad=True)
    w = torch.tensor([0.5, 2.0])
    seen = []
    assert gradcheck(lambda x, w: (seen.append((x.dtype, w.dtype)), (x * w).exp())[1], (x, w))
    assert set(seen) == {(torch.float64, torch.float64)}
    assert gradgradcheck(lambda x, w: (x * w).exp(), (x.half().detach().requires_grad_(), w))
    assert x.dtype is torch.float32 and x.grad is None


def test_functions_that_compute_in_float32_are_told_apart() -> None:
    (x,) = inputs((2,))
    with pytest.raises(
        GradcheckError, match=r"returns torch.float32 for float64 inputs: differences of it are inexact"
    ):
        gradcheck(lambda x: (x.float() * 1000).sin(), (x,))


# ------------------------------------------------------------------------------------------------- kinks


KINKS: list[tuple[Any, list[float], str]] = [
    (
        lambda x: x.relu(),
        [0.0, 1.0, -1.0],
        (
            r"1 of 9 .* lies at a kink.*element \(0,\), by input 0, element \(0,\): slopes 0 from the left and 1 from"
            r" the right, analytic 0"
        ),
    ),
    (
        lambda x: x.abs() + x.relu(),
        [1.0, 0.0, 2.0],
        r"1 of 9 .*slopes -1 from the left and 2 from the right, analytic 0",
    ),
    (
        lambda x: torch.stack([x.max(0).values, x.sum()]),
        [2.0, 2.0, 1.0],
        r"2 of 6 .* lie at kinks or jumps.*slopes 0 from the left and 1 from the right, analytic",
    ),
    (
        lambda x: x.clamp(min=0.0, max=1.0),
        [0.0, 1.0, 0.5],
        r"2 of 9 .*slopes 0 from the left and 1 from the right, analytic 1",
    ),
    (lambda x: x.floor() + x, [2.0, 0.5, 0.25], r"1 of 9 .* lies at a jump"),
    (lambda x: x.sign() * x.exp(), [0.0, 0.5, -0.25], r"1 of 9 .* lies at a jump"),
]


@MODES
@pytest.mark.parametrize(("function", "values", "text"), KINKS, ids=range(len(KINKS)))
def test_kinks_are_reported_and_do_not_fail(function: Any, values: list[float], text: str, fast_mode: bool) -> None:
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    if fast_mode:
        text = ".*".join(part for part in text.split(".*") if " of " not in part)
    with pytest.warns(KinkWarning, match=text):
        assert gradcheck(function, (x,), fast_mode=fast_mode)


def test_a_kink_whose_derivative_is_the_mean_of_its_sides_agrees() -> None:
    """Only entries that disagree are looked at closer."""
    x = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: (x.abs(), x.amax()), (x,))


def test_a_derivative_outside_of_both_sides_of_a_kink_is_wrong() -> None:
    class Relu(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, slope: float) -> Any:
            ctx.save_for_backward(x)
            ctx.slope = slope
            return x.relu()

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            (x,) = ctx.saved_tensors
            return grad * torch.where(x == 0, ctx.slope, (x > 0).double()), None

    x = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    for slope in (0.0, 0.25, 1.0):
        with pytest.warns(KinkWarning):
            assert gradcheck(lambda x, s=slope: Relu.apply(x, s), (x,))
    for slope in (-0.25, 1.25):
        with pytest.raises(GradcheckError, match=r"a kink: 0 from the left, 1 from the right"):
            gradcheck(lambda x, s=slope: Relu.apply(x, s), (x,))


def test_a_kink_beside_the_point_is_stepped_around() -> None:
    x = torch.tensor([4e-7, -4e-7], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: x.relu() + x.abs(), (x,))  # and no warning, which would be an error here
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradcheck(lambda x: x.relu() + x.detach(), (x,))


def test_curvature_is_no_kink() -> None:
    x = torch.tensor([0.5, 0.001], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: (x * 30).sin() * 10 + x.log(), (x,))
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: (x * 30).sin().detach() * x, (x,))


def test_large_values_are_no_kinks() -> None:
    """Rounding alone makes one-sided differences disagree; a wrong derivative must not hide behind it."""
    (x,) = inputs((3,))
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: WrongCube.apply(x) + 1e9, (x,), atol=1e-3)


def test_nan_and_infinity() -> None:
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match="analytic inf, numerical nan"):
        gradcheck(lambda x: x.sqrt(), (x,))
    y = torch.tensor([1.0, float("nan")], dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match=r"input element \(1,\): analytic nan"):
        gradcheck(lambda y: y * y, (y,))
    assert gradcheck(lambda y: torch.where(y.isnan(), torch.zeros_like(y), y), (y,))


# ------------------------------------------------------------------------------------------------- layouts and sizes


@MODES
def test_inputs_of_every_layout(fast_mode: bool) -> None:
    base = torch.rand(4, 6, dtype=torch.float64)
    layouts = []

    def function(x: Any) -> Any:
        layouts.append(x.is_contiguous())
        return (x * x.exp()).sum(0)

    for view in (base.T, base[:, ::2], base.flip(0), base[1], base[1, 1]):
        assert gradcheck(function, (view.detach().requires_grad_(),), fast_mode=fast_mode)
    assert gradcheck(lambda x: x * x, (base[:1].expand(3, 6).detach().requires_grad_(),), fast_mode=fast_mode)
    layouts.clear()
    gradcheck(function, (base.T.detach().requires_grad_(),), fast_mode=fast_mode)
    assert not any(layouts)  # also where differences are taken


@MODES
def test_zero_size_and_0d(fast_mode: bool) -> None:
    x, y = inputs((0, 3), ())
    assert gradcheck(lambda x, y: (x * y, x.sum(), y * y), (x, y), fast_mode=fast_mode)
    assert gradgradcheck(lambda x, y: (x * y, y * y), (x, y), fast_mode=fast_mode)


def test_on_a_device(device: Any) -> None:
    x = torch.rand(3, dtype=torch.float64, device=device).requires_grad_()
    assert gradcheck(lambda x: x.sin() * x, (x,)) and gradgradcheck(lambda x: x.sin() * x, (x,))


# ------------------------------------------------------------------------------------------------- functions that cheat


class Writes(Function):
    """Writes what it must not, by choice."""

    @staticmethod
    def forward(ctx: Any, x: Any, where: str) -> Any:
        ctx.save_for_backward(x)
        ctx.where = where
        if where == "forward":
            x.mul_(2)
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        if ctx.where == "gradient":
            grad.mul_(1)
            grad.add_(1)
        if ctx.where == "backward":
            ctx.saved_tensors[0]._array[...] += 1
        return grad, None


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("forward", "input 0 was modified in place: the function writes to it"),
        ("backward", "input 0 was modified in place: its backward writes to it"),
        ("gradient", "the backward of output 0 writes to the gradient that it is given"),
    ],
)
def test_writes_are_found(where: str, text: str) -> None:
    (x,) = inputs((3,))
    with pytest.raises(GradcheckError, match=text):
        gradcheck(lambda x: Writes.apply(x, where), (x,))


def test_declared_writes_to_a_copy_are_fine() -> None:
    def function(x: Any) -> Any:
        y = x.clone()
        y[0] *= 2
        y.exp_()
        return y

    assert gradcheck(function, inputs((3,)))


def test_chance_is_found() -> None:
    (x,) = inputs((3,))
    with pytest.raises(GradcheckError, match="the function is not deterministic: output 0"):
        gradcheck(lambda x: x * torch.rand(3, dtype=torch.float64), (x,))
    counter = [0]

    class Noisy(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            counter[0] += 1
            return grad * (2 + 1e-7 * counter[0])

    with pytest.raises(GradcheckError, match="backward is not deterministic: the gradient of input 0"):
        gradcheck(Noisy.apply, (x,))
    counter[0] = 0
    assert gradcheck(Noisy.apply, (x,), nondet_tol=1e-5)
    sizes = iter(range(1, 100))
    with pytest.raises(GradcheckError, match="different shapes"):
        gradcheck(lambda x: x.expand(next(sizes), 3), (x,))


def test_unused_outputs() -> None:
    class Pair(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, honest: bool) -> Any:
            ctx.set_materialize_grads(False)
            ctx.honest = honest
            return x * 2, x * 3

        @staticmethod
        def backward(ctx: Any, first: Any, second: Any) -> Any:
            if not ctx.honest and (first is None or second is None):
                return None, None
            return (0 if first is None else first * 2) + (0 if second is None else second * 3), None

    (x,) = inputs((2,))
    assert gradcheck(lambda x: Pair.apply(x, True), (x,))
    with pytest.raises(
        GradcheckError, match=r"treats unused outputs in its own way: the gradient of input 0 by output 0"
    ):
        gradcheck(lambda x: Pair.apply(x, False), (x,))
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradcheck(lambda x: Pair.apply(x, False), (x,), check_undefined_grad=False)
