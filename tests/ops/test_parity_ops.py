"""Every op against PyTorch: value, dtype, shape and gradient of all samples, and behaviour at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch
from nanotorch.ops.rows.row import ROWS
from op_cases import CASES, Call, Case, drawn, each, floating_outputs, host, named, ours, outputs, run, second, weights
from oracle import pytorch

# PyTorch's words about its own speed, about the "mean" of kl_div, and about what it calls beta.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:reduction:UserWarning"),
    pytest.mark.filterwarnings("ignore:index_reduce:UserWarning"),
]

# PyTorch computes these derivatives with factors of single precision, 1/6 and 1/alpha, whatever the input's.
SINGLE_PRECISION_THERE = {"celu", "hardsigmoid"}
# At edges PyTorch's second derivative is NaN, from the branch that `where` does not take; here it is finite.
NAN_THERE = {"arctan2", "atan2", "copysign", "float_power", "logit", "pow", "sinc", "std", "std_mean"}


def theirs(case: Case) -> Any:
    return named(pytorch, case)


def make_theirs(array: np.ndarray[Any, Any], differentiable: bool) -> Any:
    tensor = pytorch.tensor(array)
    return tensor.requires_grad_() if differentiable else tensor


def run_theirs(case: Case, call: Call) -> tuple[list[Any], list[Any]]:
    results = theirs(case)(*call.args, **call.kwargs)
    tracked = floating_outputs(results)
    grads: list[Any] = []
    if tracked and call.leaves:
        seeds = [pytorch.tensor(w) for w in weights(tracked, call.dtype)]
        grads = list(pytorch.autograd.grad(tracked, call.leaves, seeds, allow_unused=True))
    values = [o.detach().numpy() if isinstance(o, pytorch.Tensor) else o for o in outputs(results)]
    return values, [None if g is None else g.numpy(force=True) for g in grads]


def compare(actual: Any, expected: Any, single: bool = False) -> None:
    if not isinstance(expected, np.ndarray):
        assert actual == expected
        return
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    rtol, atol = (1e-4, 1e-5) if single or expected.dtype == np.float32 else (1e-9, 1e-11)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def compare_grads(case: Case, actual: list[Any], expected: list[Any]) -> None:
    for got, want in zip(actual, expected, strict=False):
        if want is None or got is None:  # "no influence" and "zero" are the same derivative
            rest = got if want is None else want
            assert rest is None or not rest.any()
        else:
            compare(got, want, case.name in SINGLE_PRECISION_THERE)


PUBLIC = [case for case in CASES if case.entry.where != "internal"]


@each(PUBLIC)
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
def test_value_and_gradient(case: Case, dtype: Any) -> None:
    values, grads = run(case, Call(case, ours(), dtype))
    their_values, their_grads = run_theirs(case, Call(case, make_theirs, dtype))
    assert len(values) == len(their_values)
    for actual, expected in zip(values, their_values, strict=True):
        compare(actual, expected)
    compare_grads(case, grads, their_grads)


# PyTorch cannot differentiate these twice.
ONCE_DIFFERENTIABLE_THERE = {"cdist", "pdist", "hardsigmoid", "multi_margin_loss", "multilabel_margin_loss"}


@each([c for c in PUBLIC if c.name not in ONCE_DIFFERENTIABLE_THERE])
def test_second_derivative(case: Case) -> None:
    call, their_call = Call(case, ours()), Call(case, make_theirs)
    tracked = floating_outputs(case.entry.function(*call.args, **call.kwargs))
    their_tracked = floating_outputs(theirs(case)(*their_call.args, **their_call.kwargs))
    assert len(tracked) == len(their_tracked)
    if not tracked or not call.leaves:
        return
    actual = [host(g) for g in second(nanotorch, tracked, call, ours())]
    expected = [
        None if g is None else g.numpy(force=True) for g in second(pytorch, their_tracked, their_call, make_theirs)
    ]
    # PyTorch drops a NaN that comes in as a gradient, or that is the slope: it finds fewer
    if case.name in {"logcumsumexp", "logit"}:
        expected = [None if e is None else np.where(np.isnan(a), a, e) for a, e in zip(actual, expected, strict=True)]
    if case.name in {*NAN_THERE, "logcumsumexp"} and any(d.kind == "edge" for d in drawn(case)):
        actual = [
            a if a is None or e is None else np.where(np.isnan(e), e, a) for a, e in zip(actual, expected, strict=True)
        ]
    compare_grads(case, actual, expected)


def expandable(case: Case) -> bool:
    """Whether an input has a last dimension that an expanded tensor can stand for, and its values may be equal."""
    return any(d.kind == "real" and d.shape and d.shape[-1] > 1 for d in drawn(case))


# of those that are left out, where elements lie, or what LAPACK left, is all they say
@each([c for c in PUBLIC if expandable(c) and c.name not in ("view", "view_as", "as_strided", "linalg_solve_ex")])
def test_expanded_inputs(case: Case) -> None:
    """Inputs whose last dimension was expanded, with stride 0,
    give PyTorch's values and gradients where it takes them.
    """

    def expanded(make: Any, array: np.ndarray[Any, Any], differentiable: bool) -> Any:
        if not differentiable or not array.ndim or array.shape[-1] < 2:
            return make(array, differentiable)
        return make(array[..., :1], False).expand(array.shape).requires_grad_()

    def call(make: Any) -> Call:
        return Call(case, lambda array, differentiable: expanded(make, array, differentiable))

    try:
        expected = run_theirs(case, call(make_theirs))
    except RuntimeError:
        return  # some of its functions need memory that can be viewed in another shape
    actual = run(case, call(ours()))
    for a, e in zip(actual[0], expected[0], strict=True):
        compare(a, e)
    compare_grads(case, actual[1], expected[1])


DIVISORS = ("floor_divide", "remainder", "div", "true_divide", "pow")
"""Ops whose second operand must be positive where it is an integer."""


def promoted(case: Case) -> bool:
    """Whether a case promotes dtypes, and all its tensors are positional and real."""
    return (
        case.name in ROWS
        and case.entry.cast is not None
        and all(d.kind != "edge" for d in drawn(case))
        and not any(hasattr(v, "draw") for v in case.sample.kwargs.values())
    )


@each([c for c in PUBLIC if promoted(c)])
def test_integers_are_promoted_alike(case: Case) -> None:
    """With integer inputs the result has PyTorch's dtype and value, wherever PyTorch takes them."""

    def integers(make: Any) -> Any:
        def draw(array: np.ndarray[Any, Any], _: bool) -> Any:
            if array.dtype.kind == "f":
                array = np.asarray(np.round(array), np.int64)
            return make(np.asarray(np.maximum(np.abs(array), 1)) if case.name in DIVISORS else array, False)

        return draw

    def outcome(function: Any, call: Call) -> Any:
        try:
            return outputs(function(*call.args, **case.sample.kwargs))
        except (RuntimeError, TypeError, NotImplementedError, IndexError):
            return "refuses"

    expected = outcome(theirs(case), Call(case, integers(make_theirs)))
    actual = outcome(case.entry.function, Call(case, integers(ours())))
    if "refuses" in (actual, expected):
        assert actual == expected or all(a.dtype.is_floating_point for a in actual), "as the same call with floats"
        return
    for a, e in zip(actual, expected, strict=True):
        compare(a.numpy(), e.numpy())


UNARY = [
    name
    for name, row in ROWS.items()
    if row.where not in ("internal", "linalg") and len(row.tensors) == 1 and len(row.parameters) == 1 and name != "zero"
]


SHAPES = [(), (0,), (0, 3), (2, 1, 3)]


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n in UNARY for s in SHAPES if n != "t" or len(s) < 3], ids=str)
def test_shapes_of_elementwise_and_reducing_ops(name: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).uniform(0.1, 0.9, shape)
    if name == "acosh":
        array += 1
    space = pytorch.nn.functional if ROWS[name].where == "functional" else pytorch
    if not hasattr(space, name):
        space = pytorch.Tensor
    if ROWS[name].name in ("logical_not", "bitwise_not"):
        array = array > 0.5
    expected = getattr(space, name)(pytorch.tensor(array)).numpy()
    compare(ROWS[name].function(nanotorch.tensor(array)).numpy(), expected)


# So many that PyTorch's vectorised loops take them all: the loops over what is left treat NaN otherwise in some ops.
SPECIAL = np.tile([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e30, -1e30], 32)
EDGE = [n for n in UNARY if ROWS[n].formulas and ROWS[n].cast != "promote" and n != "t"]


@pytest.mark.parametrize("name", EDGE)
def test_special_values(name: str) -> None:
    """NaN, infinities, zeros and huge numbers give PyTorch's values and gradients."""
    space = pytorch.nn.functional if ROWS[name].where == "functional" else pytorch
    x, y = nanotorch.tensor(SPECIAL, requires_grad=True), pytorch.tensor(SPECIAL, requires_grad=True)
    ours_, theirs_ = ROWS[name].function(x), getattr(space, name)(y)
    np.testing.assert_allclose(ours_.detach().numpy(), theirs_.detach().numpy(), rtol=1e-9)
    ours_.backward(nanotorch.ones_like(ours_))
    theirs_.backward(pytorch.ones_like(theirs_))
    np.testing.assert_allclose(
        x.grad.numpy(), y.grad.numpy(force=True), rtol=1e-7 if name in SINGLE_PRECISION_THERE else 1e-9
    )


DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]


@pytest.mark.parametrize("first", DTYPES)
@pytest.mark.parametrize("second", DTYPES)
def test_promotion_table(first: str, second: str) -> None:
    """Dimensioned, 0-d and scalar operands of all dtypes promote as in PyTorch."""

    def results(torch: Any) -> list[str]:
        a, b = getattr(torch, first), getattr(torch, second)
        x, y = torch.ones(2, dtype=a), torch.ones(2, dtype=b)
        zero_d = torch.ones((), dtype=b)
        found = [x * y, x * zero_d, zero_d * x, x * 2, x * 2.5, x == y, x * True]
        found += [x / y, torch.where(x > 0, x, y), torch.maximum(x, y), torch.cat([x, y])]
        return [str(r.dtype).split(".")[-1] for r in found] + [str(torch.promote_types(a, b)).split(".")[-1]]

    assert results(nanotorch) == results(pytorch)


def test_methods_whose_arguments_are_not_those_of_the_function() -> None:
    def results(torch: Any) -> list[Any]:
        x = torch.tensor([-1.5, 0.25, 3.0])
        found = [
            x.where(x > 0, torch.tensor(7.0)),
            x.where(x > 0, 0.0),
            x.clone().clip_(-1, 1),
            x.char(),
            x.abs().byte(),
        ]
        return [(str(f.dtype).split(".")[-1], f.tolist()) for f in found]

    assert results(nanotorch) == results(pytorch)


REPRESENTED: list[Any] = [
    1.0,
    1,
    True,
    [1.0, 2.5],
    [1.0, 2.0],
    [[1, 2], [3, 4]],
    [1e-5, 1.0],
    [1e10, 1.0],
    [0.5, 1e6],
    [float("nan"), 1.0],
    [float("inf"), 0.5],
    [-1.5, 2.25],
    [],
    [[]],
    [[1.0, -2.0], [3.5, 4.0]],
    [True, False],
    list(range(40)),
    [[k * 1.25 for k in range(30)]],
    [1e-8, 2e-8],
    [1000.0, 0.001],
    [123456.0],
    [1234567.8],
    [0.1] * 3,
    [0.0, -0.0],
    [[[1.0, 2.0]], [[3.0, 4.0]]],
    [1e38, 1.0],
    [100000000.0],
    [1.0, float("nan"), float("inf")],
]


def fits(data: Any, dtype: str | None) -> bool:
    return dtype != "int32" or bool(np.all(np.abs(np.ravel(np.asarray(data, float))) <= 2e9))  # NaN does not


@pytest.mark.parametrize(
    ("data", "dtype"),
    [(d, t) for d in REPRESENTED for t in (None, "float64", "float32", "int32") if fits(d, t)],
    ids=lambda value: str(value)[:30],
)
def test_repr(data: Any, dtype: str | None) -> None:
    options = {} if dtype is None else {"dtype": dtype}

    def text(torch: Any) -> str:
        return repr(torch.tensor(data, **{k: getattr(torch, v) for k, v in options.items()}))

    assert text(nanotorch) == text(pytorch)


@pytest.mark.parametrize("shape", [(2000,), (50, 50), (3, 40, 20), (0, 3), (2, 0)], ids=str)
def test_repr_of_large_and_empty_tensors(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape)
    for kind in (np.float32, np.float64, np.int64):
        values = (array * 100).astype(kind)
        assert repr(nanotorch.tensor(values)) == repr(pytorch.tensor(values))


def test_repr_of_tensors_in_the_graph() -> None:
    def texts(torch: Any) -> list[str]:
        x = torch.ones(3, requires_grad=True)
        found = [
            x,
            x * 2,
            x + 1,
            x.sum(),
            x.mean(),
            x.exp(),
            x / 2,
            x - 1,
            x**2,
            x.reshape(3, 1),
            x[0],
            x[1:],
            x.view(1, 3),
            -x,
        ]
        found += [
            torch.nn.functional.relu(x),
            x.tanh(),
            x.sigmoid(),
            x.unsqueeze(0),
            x.sqrt(),
            x.log(),
            x.clone(),
            x.abs(),
        ]
        found += [
            x.expand(2, 3),
            torch.stack([x, x]),
            torch.cat([x, x]),
            x.dot(x),
            x.max(),
            x.detach(),
            torch.nn.Parameter(x),
        ]
        found += [
            x.double(),
            torch.nn.functional.linear(x.unsqueeze(0), torch.ones(2, 3), torch.ones(2)),
            1 - x,
            x[x > 0],
        ]
        found += [x.sum(0), x.mean(0), x.prod(), x.prod(0)]
        found += [
            x.softmax(0),
            x.log_softmax(0),
            x.permute(0),
            x.unsqueeze(0).t(),
            x.unsqueeze(0).transpose(0, 1),
            x.cumsum(0),
        ]
        return [repr(t) for t in found]

    assert texts(nanotorch) == texts(pytorch)
