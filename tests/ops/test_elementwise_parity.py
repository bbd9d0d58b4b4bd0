"""Elementwise ops against PyTorch at special values, over dtypes, in place,
as operators and under their second names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from nanotorch.nn import functional as F
from nanotorch.ops.rows.row import COMPOSITES, ROWS
from oracle import pytorch

pytestmark = pytest.mark.parity

VALUES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 2.5, -2.5, 3.0, -3.0, 1e30, -1e30]
BINARY = [
    "add",
    "sub",
    "rsub",
    "mul",
    "true_divide",
    "floor_divide",
    "remainder",
    "fmod",
    "pow",
    "float_power",
    "atan2",
    "hypot",
    "ldexp",
    "copysign",
    "heaviside",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "clamp_min",
    "clamp_max",
    "xlogy",
    "logaddexp",
    "logaddexp2",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "isclose",
]
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def derivative(library: Any, y: Any, inputs: list[Any]) -> list[np.ndarray[Any, Any]]:
    """Gradients of a weighted sum, zero where there is no influence."""
    weights = library.tensor(np.linspace(0.5, 1.5, y.numel()).reshape(tuple(y.shape)))
    grads = library.autograd.grad(y, inputs, weights, allow_unused=True)
    return [
        np.zeros(tuple(x.shape)) if g is None else np.array(g.numpy(force=True))
        for g, x in zip(grads, inputs, strict=True)
    ]


@pytest.mark.parametrize("name", BINARY)
def test_all_pairs_of_special_values(name: str) -> None:
    """Values and gradients at all pairs of NaN, infinities, zeros, ties and huge numbers are PyTorch's."""
    pairs = np.tile(np.array(list(itertools.product(VALUES, VALUES))), (16, 1))  # a multiple of what vector loops take
    results = []
    for library in (nanotorch, pytorch):
        x, y = (library.tensor(pairs[:, k].copy(), requires_grad=True) for k in (0, 1))
        z = getattr(library, name)(x, y)
        differentiable = z.requires_grad and type(z.grad_fn).__name__ != "NotImplemented"
        results.append([z.detach().numpy(), *(derivative(library, z, [x, y]) if differentiable else [])])
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.5, -0.5, 1.5, -1.5, np.inf, np.nan])
def test_powers_with_numbers_at_special_values(exponent: float) -> None:
    results = []
    for library in (nanotorch, pytorch):
        x = library.tensor(np.tile(VALUES, 16), requires_grad=True)
        y, z = x**exponent, exponent**x
        results.append(
            [y.detach().numpy(), z.detach().numpy(), *derivative(library, y, [x]), *derivative(library, z, [x])]
        )
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("low", [None, -1.0, 0.0, 1.0, np.nan])
@pytest.mark.parametrize("high", [None, -1.0, 1.0, np.inf])
def test_clamp_at_and_between_crossed_bounds(low: float | None, high: float | None) -> None:
    if low is None and high is None:
        with pytest.raises(RuntimeError, match="At least one of 'min' or 'max' must not be None"):
            nanotorch.clamp(nanotorch.ones(2))
        return
    results = []
    for library in (nanotorch, pytorch):
        x = library.tensor(np.tile(VALUES, 16), requires_grad=True)
        y = library.clamp(x, low, high)
        results.append([y.detach().numpy(), *derivative(library, y, [x])])
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected)


def sample_values(dtype: str) -> np.ndarray[Any, Any]:
    values = np.array([True, True, False, True]) if dtype == "bool" else np.array([1, 2, 3, 5])
    return values.astype(dtype) if dtype in ("bool", "uint8") else (values * [1, -1, 1, -1]).astype(dtype)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        result = call()
    except (RuntimeError, TypeError):
        return None
    return result.numpy()


FAMILIES = ("activation", "comparison", "elementwise", "extrema", "rounding", "special", "transcendental")
UNARY = [
    name
    for name, entry in {**ROWS, **COMPOSITES}.items()
    if entry.function.__module__.split(".")[-1] in FAMILIES
    and hasattr(nanotorch, name)
    and entry.samples
    and len(entry.samples[0].args) == 1
    and name != "square"  # PyTorch's square of booleans is int64
]


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unary_ops_of_all_dtypes(name: str, dtype: str) -> None:
    """Where PyTorch takes a dtype the result has its dtype and value."""
    values = np.abs(sample_values(dtype))
    expected = outcome(lambda: getattr(pytorch, name)(pytorch.tensor(values)))
    if expected is not None:
        actual = outcome(lambda: getattr(nanotorch, name)(nanotorch.tensor(values)))
        compare(actual, expected)


def compare(actual: Any, expected: Any) -> None:
    assert actual is not None and actual.dtype == expected.dtype and actual.shape == expected.shape
    tolerance = {2: 2e-3, 4: 2e-5}.get(expected.dtype.itemsize, 1e-9) if expected.dtype.kind == "f" else 0
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "name", [*BINARY, "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"]
)
@pytest.mark.parametrize("first", DTYPES)
def test_binary_ops_of_all_dtypes(name: str, first: str) -> None:
    for second in DTYPES:
        x, y = sample_values(first), sample_values(second)
        if name in ("bitwise_left_shift", "bitwise_right_shift"):
            y = np.abs(y.astype(int)).astype(second)
        expected = outcome(lambda x=x, y=y: getattr(pytorch, name)(pytorch.tensor(x), pytorch.tensor(y)))
        if expected is not None:
            compare(
                outcome(lambda x=x, y=y: getattr(nanotorch, name)(nanotorch.tensor(x), nanotorch.tensor(y))), expected
            )


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "//": lambda x, y: x // y,
    "%": lambda x, y: x % y,
    "**": lambda x, y: x**y,
    "&": lambda x, y: x & y,
    "|": lambda x, y: x | y,
    "^": lambda x, y: x ^ y,
    "<<": lambda x, y: x << y,
    ">>": lambda x, y: x >> y,
    "<": lambda x, y: x < y,
    "==": lambda x, y: x == y,
    ">=": lambda x, y: x >= y,
}


@pytest.mark.parametrize("symbol", OPERATORS)
@pytest.mark.parametrize("number", [2, 3.0, True])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64", "float16"])
def test_operators_with_numbers_on_either_side(symbol: str, number: Any, dtype: str) -> None:
    values = np.abs(sample_values(dtype))
    for call in (lambda x: OPERATORS[symbol](x, number), lambda x: OPERATORS[symbol](number, x)):
        expected = outcome(lambda call=call: call(pytorch.tensor(values)))
        actual = outcome(lambda call=call: call(nanotorch.tensor(values)))
        if expected is not None:
            compare(actual, expected)


AUGMENTED = ["__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__"]
AUGMENTED += ["__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__"]


@pytest.mark.parametrize("name", AUGMENTED)
@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_augmented_assignments(name: str, dtype: str) -> None:
    values = np.abs(sample_values(dtype))
    expected = outcome(lambda: getattr(pytorch.tensor(values), name)(2))
    actual = outcome(lambda: getattr(nanotorch.tensor(values), name)(2))
    if expected is None:
        assert actual is None
    else:
        compare(actual, expected)


INPLACE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ["eq_", "ne_", "lt_", "le_", "gt_", "ge_", "greater_", "greater_equal_", "less_", "less_equal_", "not_equal_"],
        (1.0,),
    ),
    **dict.fromkeys(["hypot_", "atan2_", "arctan2_", "copysign_", "xlogy_"], ("y",)),
    **dict.fromkeys(
        ["remainder_", "fmod_", "multiply_", "divide_", "subtract_", "clamp_min_", "clamp_max_", "pow_"], (1.5,)
    ),
    **dict.fromkeys(
        ["square_", "absolute_", "negative_", "frac_", "fix_", "sgn_", "erfc_", "lgamma_", "digamma_", "sinc_"], ()
    ),
    **dict.fromkeys(["nan_to_num_", "deg2rad_", "rad2deg_", "arctan_", "reciprocal_", "trunc_"], ()),
    "addcmul_": ("y", "y"),
    "addcdiv_": ("y", "y"),
    "lerp_": ("y", 0.3),
    "ldexp_": ("y",),
    "float_power_": (2,),
    "clip_": (0.0, 1.0),
    "logit_": (0.1,),
    "round_": (),
}


@pytest.mark.parametrize("name", INPLACE)
def test_inplace_variants(name: str) -> None:
    """The value, the gradient and what it does to the tensor are PyTorch's."""
    results = []
    for library in (nanotorch, pytorch):
        x = library.tensor([0.3, 1.5, 2.5, 1.0], dtype=library.float64, requires_grad=True)
        y = library.tensor([0.5, 0.0, 1.5, 2.0], dtype=library.float64)
        target = x * 1
        assert getattr(target, name)(*[y if a == "y" else a for a in INPLACE[name]]) is target
        results.append([target.detach().numpy(), *derivative(library, target, [x])])
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor", "logical_not"])
def test_logic_in_place_has_no_gradient(name: str) -> None:
    """PyTorch lets the gradient of the result pass, as if nothing had been written; here it is zero."""
    results = []
    for library in (nanotorch, pytorch):
        x = library.tensor([0.0, 1.5, 2.5, 0.0], dtype=library.float64, requires_grad=True)
        target = x * 1
        getattr(target, name + "_")(*[] if name == "logical_not" else [library.tensor([0.0, 0.0, 1.5, 2.0])])
        results.append(target.detach().numpy())
        if library is nanotorch:
            assert not derivative(library, target, [x])[0].any()
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("rounding_mode", [None, "floor", "trunc"])
@pytest.mark.parametrize("values", [[7.5, -7.5, 3.0, np.inf], [7, -7, 6, -1]], ids=["float", "int"])
def test_div_in_place_and_out_of_place(rounding_mode: str | None, values: list[float]) -> None:
    for call in (
        lambda x: x.clone().div(2, rounding_mode=rounding_mode),
        lambda x: x.double().div_(2, rounding_mode=rounding_mode),
        lambda x: x.double().divide_(2.5, rounding_mode=rounding_mode),
        lambda x: x.div(x, rounding_mode=rounding_mode),
    ):
        compare(call(nanotorch.tensor(values)).numpy(), call(pytorch.tensor(values)).numpy())


@pytest.mark.parametrize("op", ["floor_divide", "remainder", "fmod"])
def test_integers_divided_by_zero_raise(op: str) -> None:
    for library in (nanotorch, pytorch):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            getattr(library, op)(library.tensor([1, 2]), library.tensor([0, 1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.tensor([2, 3]) ** -1, "Integers to negative integer powers are not allowed"),
        (lambda t: t.tensor([1.0]) << 1, r"lshift|integers"),
        (lambda t: t.addcdiv(*[t.tensor([1])] * 3), "Integer division with addcdiv is no longer supported"),
        (lambda t: t.lerp(t.tensor([1]), t.tensor([1]), 0.5), "lerp"),
        (lambda t: t.polygamma(-1, t.tensor([1.0])), "negative n"),
        (lambda t: t.div(t.tensor([1.0]), 2, rounding_mode="up"), r"rounding_mode|rounding mode"),
        (lambda t: t.heaviside(t.tensor([1.0]), t.tensor([1])), "dtype"),
        (lambda t: t.nn.functional.glu(t.ones(3)), r"Halving dimension must be even, but dimension .* is size 3"),
        (lambda t: t.nn.functional.prelu(t.ones(2, 3), t.ones(2)), "Found parameter numbers = 2 and channel size = 3"),
        (lambda t: t.nn.functional.softshrink(t.ones(3), -1.0), "lambda must be"),
    ],
)
def test_refusals_in_pytorchs_words(call: Callable[[Any], Any], message: str) -> None:
    for library in (nanotorch, pytorch):
        with pytest.raises((RuntimeError, ValueError), match=message):
            call(library)


def test_sinc_has_all_derivatives_at_zero() -> None:
    """The even ones are those of the series `1 - (pi x)^2 / 6 + (pi x)^4 / 120`; PyTorch's second is NaN."""
    x = nanotorch.tensor([0.0, 1e-4, 1e-2], dtype=nanotorch.float64, requires_grad=True)
    y = nanotorch.sinc(x)
    for order in range(1, 5):
        (y,) = nanotorch.autograd.grad(y.sum(), x, create_graph=True)
        expected = {1: 0.0, 2: -(np.pi**2) / 3, 3: 0.0, 4: np.pi**4 / 5}[order]
        assert y[0].item() == pytest.approx(expected, abs=1e-12)


def test_ldexp_with_negative_exponents() -> None:
    """PyTorch's gradient is 0 there: it takes integer powers of 2."""
    x = nanotorch.tensor([1.0, 3.0], requires_grad=True)
    y = nanotorch.ldexp(x, nanotorch.tensor([-1, -2]))
    y.sum().backward()
    assert y.tolist() == [0.5, 0.75] and x.grad.tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    "function", [F.softplus, F.silu, F.mish, F.logsigmoid, F.sigmoid, F.gelu], ids=lambda f: f.__name__
)
def test_smooth_activations_are_smooth_at_zero(function: Any) -> None:
    """Second and third derivatives at 0, where formulas must not hide a kink behind an absolute value."""

    def derivatives(library: Any, f: Any) -> list[float]:
        x = y = library.tensor([0.0], dtype=library.float64, requires_grad=True)
        y, found = f(x), []
        for _ in range(3):
            (y,) = library.autograd.grad(y.sum(), x, create_graph=True)
            found.append(y.item())
        return found

    theirs = getattr(pytorch.nn.functional, function.__name__)
    np.testing.assert_allclose(derivatives(nanotorch, function), derivatives(pytorch, theirs), rtol=1e-9, atol=1e-12)


FLAGGED: dict[str, tuple[float, ...]] = {
    "relu": (),
    "relu6": (),
    "leaky_relu": (0.2,),
    "elu": (0.7,),
    "selu": (),
    "celu": (0.7,),
    "silu": (),
    "mish": (),
    "hardtanh": (-0.5, 0.5),
    "hardsigmoid": (),
    "hardswish": (),
    "threshold": (0.1, 2.0),
    "rrelu": (0.25, 0.25, True),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_activations_in_place(name: str) -> None:
    """`inplace=True` and, where PyTorch has them, the functions with an underscore write into their argument."""
    results = []
    for library in (nanotorch, pytorch):
        space = library.nn.functional
        for function in (getattr(space, name), getattr(space, name + "_", None)):
            if function is not None:
                x = library.tensor([-2.0, -0.3, 0.2, 4.0], dtype=library.float64, requires_grad=True)
                target = x * 1
                flag = {} if function.__name__.endswith("_") else {"inplace": True}
                assert function(target, *FLAGGED[name], **flag) is target
                results.append((library, [target.detach().numpy(), *derivative(library, target, [x])]))
    ours = [r for library, r in results if library is nanotorch]
    theirs = [r for library, r in results if library is pytorch]
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        for actual, expected in zip(mine, other, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-6 if name in ("celu", "hardsigmoid") else 1e-9)


def test_rrelu_draws_slopes_in_training() -> None:
    x = nanotorch.full((1000,), -1.0, requires_grad=True)
    y = F.rrelu(x, 0.1, 0.3, training=True, generator=nanotorch.Generator().manual_seed(0))
    slopes = -y.detach().numpy()
    assert 0.1 <= slopes.min() < 0.11 and 0.29 < slopes.max() < 0.3 and abs(slopes.mean() - 0.2) < 0.01
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), slopes)
    layer = nanotorch.nn.RReLU()
    assert not np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())
    layer.eval()
    np.testing.assert_allclose(layer(x).detach().numpy(), -(1 / 8 + 1 / 3) / 2)


def test_gumbel_softmax_draws_from_the_categorical_distribution() -> None:
    probabilities = np.array([0.1, 0.2, 0.7])
    logits = nanotorch.tensor(np.tile(np.log(probabilities), (4000, 1)), requires_grad=True)
    soft = F.gumbel_softmax(logits, tau=0.5, generator=nanotorch.Generator().manual_seed(0))
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True, generator=nanotorch.Generator().manual_seed(0))
    np.testing.assert_allclose(soft.detach().numpy().sum(1), 1.0)
    assert set(np.unique(hard.detach().numpy().round(12))) == {0.0, 1.0}
    np.testing.assert_array_equal(hard.detach().numpy().argmax(1), soft.detach().numpy().argmax(1))
    np.testing.assert_allclose(hard.detach().numpy().mean(0), probabilities, atol=0.03)
    weights = nanotorch.tensor([1.0, 2.0, 3.0], dtype=nanotorch.float64)
    (of_hard,), (of_soft,) = (nanotorch.autograd.grad((y * weights).sum(), logits) for y in (hard, soft))
    np.testing.assert_allclose(of_hard.numpy(), of_soft.numpy())


def test_hardsigmoid_has_a_gradient_of_a_sixth() -> None:
    """In double precision too, where PyTorch's is that of single precision."""
    x = nanotorch.tensor([-4.0, -3.0, -1.0, 2.0, 3.0, 4.0], dtype=nanotorch.float64, requires_grad=True)
    y = nanotorch.nn.Hardsigmoid()(x)
    y.sum().backward()
    np.testing.assert_array_equal(
        y.detach().numpy(), pytorch.nn.Hardsigmoid()(pytorch.tensor(x.tolist(), dtype=pytorch.float64)).numpy()
    )
    assert x.grad.tolist() == [0.0, 0.0, 1 / 6, 1 / 6, 0.0, 0.0]


def test_prelu_learns_its_slope() -> None:
    layer = nanotorch.nn.PReLU()
    layer(nanotorch.tensor([-2.0, 3.0])).sum().backward()
    assert layer.weight.grad.tolist() == [-2.0]
    layer.weight.data.fill_(1.0)
    layer.reset_parameters()
    assert layer.weight.tolist() == [0.25]


def test_special_namespace_has_pytorchs_functions() -> None:
    arguments = {
        "polygamma": (1, 0.3),
        "logsumexp": (0.3, 0),
        "softmax": (0.3, 0),
        "log_softmax": (0.3, 0),
        "xlogy": (0.3, 0.3),
        "xlog1py": (0.3, 0.3),
        "multigammaln": (0.3, 1),
    }
    for name in nanotorch.special.__all__:
        results = []
        for library in (nanotorch, pytorch):
            x = library.tensor([0.3, 0.6], dtype=library.float64)
            results.append(
                getattr(library.special, name)(*[x if a == 0.3 else a for a in arguments.get(name, (0.3,))]).numpy()
            )
        np.testing.assert_allclose(*results, rtol=1e-9, err_msg=name)


def test_polygamma_of_large_negative_numbers_ends() -> None:
    """Summing the Hurwitz zeta function from there would take a billion terms."""
    x = nanotorch.tensor([-1e9 + 0.5, -20.25], dtype=nanotorch.float64, requires_grad=True)
    nanotorch.digamma(x).sum().backward()
    y = pytorch.tensor(x.tolist(), dtype=pytorch.float64, requires_grad=True)
    pytorch.digamma(y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-6)
