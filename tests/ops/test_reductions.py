"""Reductions, scans and norms where PyTorch does something of its own:
dtypes, empty tensors, and points without derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch, to_numpy

pytestmark = pytest.mark.parity
NAN, INF = float("nan"), float("inf")


def value_and_gradient(torch: Any, function: Callable[..., Any], *arrays: Any) -> list[np.ndarray[Any, Any]]:
    inputs = [torch.tensor(np.asarray(a, np.float64), requires_grad=True) for a in arrays]
    result = function(torch, *inputs)
    results = list(result) if isinstance(result, tuple) else [result]
    floating = [r for r in results if r.requires_grad]
    seeds = [torch.tensor(np.random.default_rng(0).normal(size=tuple(r.shape))) for r in floating]
    grads = torch.autograd.grad(floating, inputs, seeds, allow_unused=True) if floating else []
    found = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, inputs, strict=False)]
    return [to_numpy(v) for v in (*results, *found)]


# Second derivatives are left out: at such points PyTorch's are NaN, and these are 0 like the first.
WITHOUT_SECOND_DERIVATIVE: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (lambda torch, x: x.norm(), ([0.0, 0.0],)),
    (lambda torch, x: x.norm(3), ([0.0, 0.0],)),
    (lambda torch, x: x.norm(1.5, 1), ([[0.0, 0.0], [0.0, 1.0]],)),
    (lambda torch, x: x.norm(0.5), ([0.0, 1.0, -2.0],)),
    (lambda torch, x: x.norm(-1.0), ([0.0, 1.0, -2.0],)),
    (lambda torch, x: x.norm(INF), ([0.0, 0.0],)),
    (lambda torch, x: x.norm(INF), ([1.0, NAN, 2.0],)),
    (lambda torch, x: x.norm(2), ([1.0, INF, 2.0],)),
    (lambda torch, x: x.norm(1), ([1.0, NAN, -INF],)),
    (lambda torch, x, y: torch.dist(x, y), ([1.0, 2.0], [1.0, 2.0])),
    (lambda torch, x: torch.nn.functional.normalize(x), ([[0.0, 0.0], [3.0, 4.0]],)),
    (
        lambda torch, x, y: torch.nn.functional.cosine_similarity(x, y),
        ([[0.0, 0.0], [1.0, 0.0]], [[1.0, 2.0], [2.0, 0.0]]),
    ),
    (lambda torch, x: x.median(), (np.zeros(0),)),
    (lambda torch, x: x.nanmedian(), (np.zeros(0),)),
]


@pytest.mark.parametrize("number", range(len(WITHOUT_SECOND_DERIVATIVE)))
def test_where_there_is_no_second_derivative(number: int) -> None:
    function, arrays = WITHOUT_SECOND_DERIVATIVE[number]
    for ours, theirs in zip(
        value_and_gradient(nanotorch, function, *arrays), value_and_gradient(pytorch, function, *arrays), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
@pytest.mark.parametrize("shape", [(), (0,), (1,)], ids=str)
def test_running_extrema_of_at_most_one_element(name: str, shape: tuple[int, ...]) -> None:
    """The gradient passes; PyTorch returns the input in its place where there are no elements."""
    x = nanotorch.full(shape, 2.5, requires_grad=True)
    values, indices = getattr(x, name)(0)
    values.sum().backward()
    assert values.tolist() == x.tolist()
    assert indices.dtype is nanotorch.int64 and not indices.any()
    assert x.grad.tolist() == nanotorch.ones(shape).tolist()


WITH_DTYPE: list[Callable[..., Any]] = [
    lambda torch, x: x.sum(dtype=torch.float64),
    lambda torch, x: x.sum(0, dtype=torch.float64),
    lambda torch, x: x.mean(1, dtype=torch.float64),
    lambda torch, x: x.nansum(dtype=torch.float64),
    lambda torch, x: torch.nanmean(x, dtype=torch.float64),
    lambda torch, x: x.prod(dtype=torch.float64),
    lambda torch, x: x.prod(0, dtype=torch.float64),
    lambda torch, x: x.cumsum(0, dtype=torch.float64),
    lambda torch, x: x.cumprod(1, dtype=torch.float64),
    lambda torch, x: torch.norm(x, dtype=torch.float64),
    lambda torch, x: torch.softmax(x, 0, dtype=torch.float64),
    lambda torch, x: torch.log_softmax(x, 0, dtype=torch.float64),
]


@pytest.mark.parametrize("function", WITH_DTYPE)
def test_dtype_casts_the_input_and_the_gradient_comes_back(function: Callable[..., Any]) -> None:
    def outcome(torch: Any) -> list[Any]:
        x = torch.tensor([[1.0, 2.0], [3.0, 0.5]], requires_grad=True)
        y = function(torch, x)
        y.sum().backward()
        return [str(y.dtype), y.tolist(), str(x.grad.dtype), x.grad.tolist()]

    ours, theirs = outcome(nanotorch), outcome(pytorch)
    assert ours[::2] == theirs[::2]
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12)
    np.testing.assert_allclose(ours[3], theirs[3], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "name",
    [
        "sum",
        "prod",
        "nansum",
        "cumsum",
        "cumprod",
        "amax",
        "max",
        "any",
        "all",
        "mean",
        "std",
        "median",
        "count_nonzero",
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "bool", "float16", "float32"])
def test_dtypes_of_results(name: str, dtype: str) -> None:
    def outcome(torch: Any) -> Any:
        x = torch.tensor([[1, 0, 1], [1, 1, 0]]).to(getattr(torch, dtype))
        try:
            results = (
                [getattr(torch, name)(x, 0)]
                if name.startswith("cum")
                else [getattr(torch, name)(x), getattr(torch, name)(x, 1)]
            )
        except (RuntimeError, NotImplementedError, TypeError) as error:
            return type(error).__name__ != "TypeError"
        results = [r for result in results for r in (result if isinstance(result, tuple) else [result])]
        return [(str(r.dtype).split(".")[-1], [round(v, 2) for v in r.reshape(-1).float().tolist()]) for r in results]

    expected = outcome(pytorch)
    if dtype == "bool" and name == "median":
        return  # PyTorch has no kernel for it
    assert outcome(nanotorch) == expected


def test_sum_keeps_a_narrow_integer_dtype_that_was_asked_for() -> None:
    def outcome(torch: Any) -> list[Any]:
        x = torch.tensor([100, 100, 100], dtype=torch.uint8)
        found = [
            x.sum(dtype=torch.uint8),
            x.sum(dtype=torch.int32),
            x.prod(dtype=torch.uint8),
            x.cumsum(0, dtype=torch.uint8),
            x.sum(),
        ]
        return [(str(f.dtype), f.tolist()) for f in found]

    assert outcome(nanotorch) == outcome(pytorch)


def test_scans_in_place() -> None:
    def outcome(torch: Any) -> list[Any]:
        x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        y = (x * 1).cumsum_(0) + (x * 1).cumprod_(0)
        (y * y).sum().backward()
        z = torch.tensor([1, 2, 3], dtype=torch.int32)
        return [y.tolist(), x.grad.tolist(), z.cumsum_(0).tolist(), str(z.dtype)]

    assert outcome(nanotorch) == outcome(pytorch)


EMPTY: list[Callable[..., Any]] = [
    lambda x: x.amax(),
    lambda x: x.amin(0),
    lambda x: x.max(),
    lambda x: x.min(0),
    lambda x: x.argmax(),
    lambda x: x.argmin(0),
    lambda x: x.median(0),
    lambda x: x.nanmedian(0),
    lambda x: x.kthvalue(1, 0),
    lambda x: x.aminmax(),
    lambda x: x.quantile(0.5),
    lambda x: x.norm(INF),
    lambda x: x.norm(-INF, 0),
]


@pytest.mark.parametrize("number", range(len(EMPTY)))
def test_choosing_among_no_elements_is_refused(number: int) -> None:
    for torch in (pytorch, nanotorch):
        with pytest.raises((RuntimeError, IndexError)):
            EMPTY[number](torch.zeros(0, 3))


WRONG: list[tuple[Callable[..., Any], type[Exception], str]] = [
    (
        lambda torch, x: x.sum(5),
        IndexError,
        r"Dimension out of range \(expected to be in range of \[-2, 1\], but got 5\)",
    ),
    (
        lambda torch, x: torch.tensor(1.0).sum(1),
        IndexError,
        r"Dimension out of range \(expected to be in range of \[-1, 0\], but got 1\)",
    ),
    (lambda torch, x: torch.tensor(1.0).cumsum(2), IndexError, "Dimension out of range"),
    (lambda torch, x: torch.tensor(1.0).amax(-3), IndexError, "Dimension out of range"),
    (lambda torch, x: x.long().mean(), RuntimeError, "could not infer output dtype"),
    (lambda torch, x: x.long().std(), RuntimeError, "std and var only support floating point"),
    (lambda torch, x: x.long().norm(), RuntimeError, "Expected a floating point"),
    (lambda torch, x: x.quantile(1.5), RuntimeError, r"q must be in the range \[0, 1\]"),
    (lambda torch, x: x.quantile(torch.tensor(0.5, dtype=torch.float64)), RuntimeError, "q tensor must be same dtype"),
    (lambda torch, x: x.long().quantile(0.5), RuntimeError, "must be either float or double dtype"),
    (lambda torch, x: x.kthvalue(7), RuntimeError, "out of range for dimension"),
    (lambda torch, x: torch.tensor(1.0).diff(), RuntimeError, "diff expects input to be at least one-dimensional"),
    (lambda torch, x: x.diff(-1), RuntimeError, "order must be non-negative"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors_have_pytorchs_words(number: int) -> None:
    function, kind, message = WRONG[number]
    for torch in (pytorch, nanotorch):
        with pytest.raises(kind, match=message):
            function(torch, torch.ones(2, 3))


def test_the_older_forms_of_var_and_std() -> None:
    def outcome(torch: Any) -> list[Any]:
        x = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, 3.5]], dtype=torch.float64)
        found = [
            torch.var(x, False),
            torch.std(x, 0, False),
            x.std(False),
            x.var((0, 1), True, True),
            x.std(unbiased=False, dim=1),
        ]
        found += [*torch.var_mean(x, False), *torch.std_mean(x, 1, True, True), x.var(dim=None, correction=0.5)]
        return [f.tolist() for f in found]

    for ours, theirs in zip(outcome(nanotorch), outcome(pytorch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_var_and_std_without_degrees_of_freedom() -> None:
    x = [[1.0, 1.0], [1.0, 2.0]]
    for correction in (2, 3):
        with pytest.warns(UserWarning, match="degrees of freedom"):
            theirs = pytorch.tensor(x).var(1, correction=correction)
        np.testing.assert_array_equal(nanotorch.tensor(x).var(1, correction=correction).numpy(), theirs.numpy())


def test_quantile_differentiates_its_fraction() -> None:
    def outcome(torch: Any) -> list[Any]:
        x = torch.tensor([3.0, 1.0, 7.0, 4.0], requires_grad=True)
        q = torch.tensor([0.2, 0.7], requires_grad=True)
        x.quantile(q).sum().backward()
        return [x.grad.tolist(), q.grad.tolist()]

    for ours, theirs in zip(outcome(nanotorch), outcome(pytorch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_float16_sums_do_not_overflow_on_the_way() -> None:
    x = np.full(1000, 100, np.float16)
    assert nanotorch.tensor(x).mean().item() == pytorch.tensor(x).mean().item() == 100


REDUCTIONS = {
    "sum": True,
    "nansum": True,
    "mean": True,
    "nanmean": True,
    "amax": True,
    "amin": True,
    "logsumexp": True,
    "std": True,
    "var": True,
    "any": True,
    "all": True,
    "prod": False,
    "max": False,
    "min": False,
    "argmax": False,
    "argmin": False,
    "median": False,
    "nanmedian": False,
}
SCANS = ["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "diff"]
NORMS = [0, 0.5, 1, 1.5, 2, 3, INF, -INF, -1, -2]


def random_call(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[str, Callable[..., Any]]:
    """Draw a reduction, a scan, a norm or a quantile, and its dimensions."""
    ndim, keepdim = len(shape), bool(rng.random() < 0.5)
    one = int(rng.integers(-ndim, ndim)) if ndim else -1
    many = tuple(int(d) for d in rng.permutation(ndim)[: rng.integers(1, ndim + 1)]) if ndim else -1
    name = str(
        rng.choice([*REDUCTIONS, *SCANS, "norm", "norm", "norm", "quantile", "nanquantile", "aminmax", "normalize"])
    )
    p, q, how = (
        NORMS[rng.integers(len(NORMS))],
        float(rng.random()),
        str(rng.choice(["linear", "lower", "higher", "nearest", "midpoint"])),
    )
    text = f"{name}{(one, many, keepdim, p, q, how)}"
    if name in SCANS:
        return text, lambda torch, x: getattr(torch, name)(x, dim=one)
    if name == "norm":
        return text, lambda torch, x: torch.norm(x, p, many, keepdim)
    if name == "normalize":
        return text, lambda torch, x: torch.nn.functional.normalize(x, p, many)
    if name == "aminmax":
        return text, lambda torch, x: tuple(torch.aminmax(x, dim=one, keepdim=keepdim))
    if name in REDUCTIONS:
        whole = name != "logsumexp" and rng.random() < 0.25
        dim = many if REDUCTIONS[name] and rng.random() < 0.5 else one
        return (
            text,
            lambda torch, x: getattr(torch, name)(x) if whole else getattr(torch, name)(x, dim=dim, keepdim=keepdim),
        )
    return text, lambda torch, x: getattr(torch, name)(x, q, dim=one, keepdim=keepdim, interpolation=how)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("seed", range(300))
def test_random_calls(seed: int) -> None:
    """Values with many ties and zeros, in shapes with ones and zeros: both libraries agree, or both refuse."""
    rng = np.random.default_rng(seed)
    shapes = [(), (1,), (4,), (5,), (2, 3), (3, 4), (2, 3, 4), (0,), (0, 3), (3, 0), (1, 3), (2, 1, 3)]
    shape = shapes[rng.integers(len(shapes))]
    array = rng.choice([0.0, 1.0, 2.0, -1.0], shape) if rng.random() < 0.6 else rng.normal(size=shape)
    text, call = random_call(rng, shape)
    try:
        expected = value_and_gradient(pytorch, call, array)
    except (RuntimeError, IndexError):
        with pytest.raises((RuntimeError, IndexError)):
            call(nanotorch, nanotorch.tensor(array))
        return
    for ours, theirs in zip(value_and_gradient(nanotorch, call, array), expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, text
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=text)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: x.topk(4), "topk: selected index k out of range: k=4"),
        (lambda x: x.topk(-1), "topk: selected index k out of range: k=-1"),
        (lambda x: x.kthvalue(0), "kthvalue: selected number k=0 out of range"),
        (lambda x: x.kthvalue(4), "kthvalue: selected number k=4 out of range"),
        (lambda x: nanotorch.nn.functional.softshrink(x, -1.0), "softshrink: lambda must be greater or equal to 0"),
    ],
)
def test_numbers_out_of_range_are_refused(call: Any, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        call(nanotorch.tensor([3.0, 1.0, 2.0]))
