"""Names that users of PyTorch look for: tables of indices, limits of dtypes, casts,
generator states, scattered parts, sizes of images.
"""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import agree, outcome, pytorch, to_numpy

DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]


@pytest.mark.parity
def test_triangles() -> None:
    for name in ("tril_indices", "triu_indices"):
        for row, col, offset in itertools.product((0, 1, 3, 4), (0, 2, 5), (-6, -1, 0, 1, 7)):
            agree(lambda lib, n=name, a=(row, col, offset): getattr(lib, n)(*a))
            agree(lambda lib, n=name, a=(row, col, offset): list(getattr(lib, n)(*a).shape))
        for bad in ((-1, 2), (2, -1), (2.0, 2), (2, "2")):
            agree(lambda lib, n=name, a=bad: getattr(lib, n)(*a))
        for dtype in DTYPES:
            agree(lambda lib, n=name, d=dtype: str(getattr(lib, n)(2, 3, dtype=getattr(lib, d)).dtype))
        agree(lambda lib, n=name: getattr(lib, n)(row=2, col=3, offset=-1))


@pytest.mark.parity
def test_windows() -> None:
    for name in ("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window"):
        for length, periodic in itertools.product((0, 1, 2, 5, 8), (True, False)):
            mine, theirs = (
                to_numpy(getattr(lib, name)(length, periodic, dtype=lib.float64)) for lib in (nanotorch, pytorch)
            )
            np.testing.assert_allclose(mine, theirs, atol=1e-12, strict=True)
        for bad in ((-1,), (3, True)):
            agree(lambda lib, n=name, a=bad: list(getattr(lib, n)(*a, dtype=lib.int64).shape))


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_limits_and_attributes_of_dtypes(dtype: str) -> None:
    agree(lambda lib: repr(lib.finfo(getattr(lib, dtype))))
    agree(lambda lib: repr(lib.iinfo(getattr(lib, dtype))))
    for name in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution", "dtype"):
        agree(lambda lib, n=name: getattr(lib.finfo(getattr(lib, dtype)), n))
        if name in ("bits", "max", "min", "dtype"):
            agree(lambda lib, n=name: getattr(lib.iinfo(getattr(lib, dtype)), n))
    for name in ("itemsize", "is_floating_point", "is_signed", "is_complex"):
        agree(lambda lib, n=name: getattr(getattr(lib, dtype), n))
    agree(lambda lib: str(getattr(lib, dtype).to_real()))
    agree(lambda lib: lib.ones(2).type(f"torch.{lib.ones(1, dtype=getattr(lib, dtype)).type()[6:]}").type())
    agree(lambda lib: [str(lib.zeros(1, dtype=kind).dtype) for kind in (float, int, bool)])


@pytest.mark.parity
def test_results_of_casts() -> None:
    for first, second in itertools.product(DTYPES, DTYPES):
        agree(lambda lib, a=first, b=second: lib.can_cast(getattr(lib, a), getattr(lib, b)))
        for shape, other in itertools.product([(), (2,)], [(), (2,)]):
            agree(
                lambda lib, a=first, b=second, s=shape, o=other: str(
                    lib.result_type(lib.ones(s, dtype=getattr(lib, a)), lib.ones(o, dtype=getattr(lib, b)))
                )
            )
        for number in (True, 2, 2.5):
            agree(lambda lib, a=first, n=number: str(lib.result_type(n, lib.ones(2, dtype=getattr(lib, a)))))
    for bad in ((None, 1), ("a", 1), ([1], 2.0)):
        agree(lambda lib, a=bad: lib.result_type(*a))
    agree(lambda lib: [str(lib.result_type(a, b)) for a, b in itertools.product((True, 1, 1.5), repeat=2)])
    for name in ("finfo", "iinfo"):
        agree(lambda lib, n=name: getattr(lib, n)("float32"))
    agree(
        lambda lib: (
            lib.finfo(lib.float32) == lib.finfo(),
            lib.finfo(lib.float32) != lib.finfo(lib.float64),
            lib.iinfo(lib.int8) == lib.iinfo(lib.int8),
        )
    )
    agree(lambda lib: hash(lib.finfo(lib.float32)))


ABSENT = [
    "bfloat16",
    "complex64",
    "complex128",
    "cfloat",
    "float8_e4m3fn",
    "float8_e5m2",
    "qint8",
    "quint8",
    "uint16",
    "uint32",
    "uint64",
]


@pytest.mark.parametrize("name", ABSENT)
def test_dtypes_that_are_not_there_say_why(name: str) -> None:
    reason = "NumPy, on which tensors are built|real numbers only|no quantisation|of unsigned integers"
    assert not hasattr(nanotorch, name)
    calls: list[Any] = [
        lambda: getattr(nanotorch, name),
        lambda: nanotorch.ones(2).to(name),
        lambda: nanotorch.ones(2).to(dtype=name),
        lambda: nanotorch.ones(2).type(name),
        lambda: nanotorch.tensor([1.0], dtype=name),
        lambda: nanotorch.zeros(2, dtype=name),
        lambda: nanotorch.rand(2, dtype=name),
        lambda: nanotorch.full((2,), 1, dtype=name),
        lambda: nanotorch.arange(3, dtype=name),
        lambda: nanotorch.ones(2).sum(dtype=name),
        lambda: nanotorch.set_default_dtype(name),
        lambda: nanotorch.finfo(name),
    ]
    if name == "bfloat16":
        calls += [
            lambda: nanotorch.ones(2).bfloat16(),
            lambda: nanotorch.nn.Linear(2, 2).bfloat16(),
            lambda: nanotorch.ones(2).type("torch.BFloat16Tensor"),
        ]
    for call in calls:
        with pytest.raises((AttributeError, TypeError), match=reason) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_states_of_the_generator() -> None:
    for module in (nanotorch, nanotorch.random):
        state = module.get_rng_state()
        first = nanotorch.rand(3).tolist(), nanotorch.randn(2).tolist(), nanotorch.randperm(5).tolist()
        module.set_rng_state(json.loads(json.dumps(state)))
        assert first == (nanotorch.rand(3).tolist(), nanotorch.randn(2).tolist(), nanotorch.randperm(5).tolist())
    nanotorch.random.manual_seed(3)
    assert nanotorch.random.initial_seed() == nanotorch.initial_seed() == 3
    with pytest.raises(KeyError), nanotorch.random.fork_rng():
        nanotorch.random.seed()
        nanotorch.rand(2)
        raise KeyError
    assert nanotorch.initial_seed() == 3
    with nanotorch.random.fork_rng(devices=[]), nanotorch.random.fork_rng(enabled=False):
        inner = nanotorch.rand(2)
    assert nanotorch.equal(nanotorch.rand(2), inner)
    generator = nanotorch.Generator().manual_seed(1)
    copy = generator.clone_state()
    assert nanotorch.equal(nanotorch.rand(2, generator=generator), nanotorch.rand(2, generator=copy))
    assert copy.initial_seed() == 1


@pytest.mark.parametrize(
    "damage",
    [
        {},
        None,
        [],
        {"seed": 1},
        "text",
        nanotorch.ones(3),
        {"seed": -1},
        {"seed": "x"},
        {"bit_generator": "MT19937"},
        {"state": {}},
        {"state": {"state": "x", "inc": 1}},
    ],
    ids=repr,
)
def test_a_damaged_state_changes_nothing(damage: Any) -> None:
    state = nanotorch.get_rng_state()
    wrong_part = isinstance(damage, dict) and damage and damage.get("seed") != 1
    bad = {**state, **damage} if wrong_part else damage
    with pytest.raises(ValueError, match="expected a state that get_state gave"):
        nanotorch.set_rng_state(bad)
    assert nanotorch.get_rng_state() == state


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:volatile was removed")
def test_variables() -> None:
    def facts(lib: Any) -> list[Any]:
        x = lib.ones(2)
        y, z = lib.autograd.Variable(x), lib.autograd.Variable((x.requires_grad_() * 2), requires_grad=True)
        z.data.add_(1)
        return [
            isinstance(x, lib.autograd.Variable),
            isinstance(1, lib.autograd.Variable),
            y is x,
            y.requires_grad,
            z.requires_grad,
            z.is_leaf,
            z,
        ]

    agree(facts)
    for bad in ([1.0], None, "x"):
        agree(lambda lib, b=bad: lib.autograd.Variable(b).shape[0])
    agree(lambda lib: lib.autograd.Variable(lib.tensor([1]), requires_grad=True))


BAD_PARTS: list[Any] = [
    lambda lib, x: lib.select_scatter(x, lib.zeros(2), 0, 1),
    lambda lib, x: lib.select_scatter(x, lib.zeros(3), 0, 5),
    lambda lib, x: lib.select_scatter(x, lib.zeros(3), 4, 1),
    lambda lib, x: lib.select_scatter(x, lib.zeros(1), 0, 1),
    lambda lib, x: lib.slice_scatter(x, lib.zeros(2, 2), 1, 1, -1),
    lambda lib, x: lib.slice_scatter(x, lib.zeros(2, 3), step=0),
    lambda lib, x: lib.slice_scatter(x, lib.zeros(3), 0, 0, 1),
    lambda lib, x: lib.slice_scatter(x, lib.zeros(2, 3), 5),
    lambda lib, x: lib.diagonal_scatter(x, lib.zeros(3)),
    lambda lib, x: lib.diagonal_scatter(x, lib.zeros(2), 0, 0, 0),
    lambda lib, x: lib.diagonal_scatter(x, lib.zeros(1), 5),
    lambda lib, x: lib.diagonal_scatter(x, lib.zeros(2), 0, 0, 2),
    lambda lib, x: lib.select_scatter(x.sum(), lib.zeros(()), 0, 0),
    lambda lib, x: lib.slice_scatter(x.sum(), lib.zeros(())),
    lambda lib, x: lib.cumulative_trapezoid(x.sum()),
    lambda lib, x: lib.cumulative_trapezoid(x, lib.ones(2)),
    lambda lib, x: lib.cumulative_trapezoid(x, dim=2),
    lambda lib, x: lib.cumulative_trapezoid(x > 1),
    lambda lib, x: lib.pixel_shuffle(x, 2),
    lambda lib, x: lib.pixel_shuffle(x.reshape(3, 1, 2), 2),
    lambda lib, x: lib.pixel_shuffle(x.reshape(3, 1, 2), 0),
    lambda lib, x: lib.pixel_unshuffle(x.reshape(1, 2, 3), 2),
    lambda lib, x: lib.pixel_unshuffle(x.reshape(1, 2, 3), -1),
    lambda lib, x: lib.combinations(x),
    lambda lib, x: lib.combinations(x[0], -1),
    lambda lib, x: lib.vander(x),
    lambda lib, x: lib.vander(x[0], -1),
    lambda lib, x: lib.broadcast_shapes((2,), (3,)),
]


@pytest.mark.parity
@pytest.mark.parametrize("number", range(len(BAD_PARTS)))
def test_arguments_that_do_not_fit(number: int) -> None:
    def raised(lib: Any) -> str:
        try:
            BAD_PARTS[number](lib, lib.arange(6.0).reshape(2, 3))
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            return (
                "IndexError"
                if isinstance(error, IndexError)
                else "RuntimeError"
                if isinstance(error, RuntimeError)
                else type(error).__name__
            )
        return "nothing"

    assert raised(nanotorch) == raised(pytorch) != "nothing"


@pytest.mark.parity
def test_sources_of_another_dtype_and_memory_of_another_stride() -> None:
    agree(lambda lib: lib.select_scatter(lib.zeros(2, 3, dtype=lib.int32), lib.tensor([1.7, 2.2]), 1, -1))
    agree(lambda lib: str(lib.slice_scatter(lib.zeros(3), lib.ones(1, dtype=lib.float64), 0, 1, 2).dtype))
    agree(lambda lib: lib.diagonal_scatter(lib.arange(12.0).reshape(3, 4).T[::2], lib.zeros(2), -1 + 1))
    agree(lambda lib: lib.pixel_shuffle(lib.arange(16.0).reshape(2, 2, 4).permute(2, 0, 1), 2))
    agree(lambda lib: list(lib.pixel_shuffle(lib.ones(0, 4, 1, 2), 2).shape))
    # PyTorch gives the input back
    assert nanotorch.pixel_unshuffle(nanotorch.ones(2, 1, 0, 4), 2).shape == (2, 4, 0, 2)
    agree(lambda lib: lib.cumulative_trapezoid(lib.arange(6.0).reshape(3, 2).T, lib.tensor([1, 2, 5])))


# ------------------------------------------------------------ sizes of images


def random_resizing(rng: random.Random) -> tuple[list[int], dict[str, Any]]:
    ndim = rng.choice([3, 4, 5])
    modes = {3: ["linear"], 4: ["bilinear", "bicubic"], 5: ["trilinear"]}[ndim]
    options: dict[str, Any] = {"mode": rng.choice([*modes, "nearest", "nearest-exact", "area"])}
    shape = [rng.choice([1, 2]), rng.choice([1, 3]), *[rng.randint(2, 9 if ndim < 5 else 4) for _ in range(ndim - 2)]]
    if rng.random() < 0.5:
        options["size"] = rng.choice([rng.randint(2, 12), tuple(rng.randint(2, 12) for _ in range(ndim - 2))])
    else:
        options["scale_factor"] = rng.choice(
            [
                2,
                0.5,
                1.5,
                2.5,
                rng.uniform(0.5, 0.95),
                tuple(rng.choice([rng.uniform(1.4, 1.8), rng.uniform(2.6, 3)]) for _ in range(ndim - 2)),
            ]
        )
        if rng.random() < 0.4:
            options["recompute_scale_factor"] = rng.choice([True, False])
    if options["mode"] in modes:
        options["align_corners"] = rng.choice([True, False, None])
        if ndim == 4 and rng.random() < 0.3:
            options["antialias"] = True
    return shape, options


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_any_resizing(dtype: str) -> None:
    rng, compared = random.Random(0), 0
    while compared < 250:
        shape, options = random_resizing(rng)
        # Where a factor leaves or doubles a length only by rounding, PyTorch's gradient is not that of its value
        # (docs/differences.md).
        lengths = [
            int(n * f)
            for n, f in zip(shape[2:], np.broadcast_to(options.get("scale_factor", 0), len(shape) - 2), strict=True)
        ]
        if "scale_factor" in options and any(
            m in (n, 2 * n) and m != n * options["scale_factor"] for m, n in zip(lengths, shape[2:], strict=True)
        ):
            continue
        if "scale_factor" in options and min(lengths) < 2:
            continue
        compared += 1
        array, results = np.random.default_rng(compared).standard_normal(shape).astype(dtype), []
        for lib in (nanotorch, pytorch):
            x = lib.tensor(array, requires_grad=True)
            y = lib.nn.functional.interpolate(x, **options)
            y.backward(lib.tensor(np.random.default_rng(1).standard_normal(tuple(y.shape)).astype(dtype)))
            results.append((to_numpy(y), to_numpy(x.grad)))
        for mine, theirs in zip(*results, strict=True):
            tolerance = 1e-11 if dtype == "float64" else 1e-4
            np.testing.assert_allclose(
                mine, theirs, rtol=tolerance, atol=tolerance, err_msg=f"{shape} {options}", strict=True
            )


BAD_SIZES: list[dict[str, Any]] = [
    {},
    {"size": 3, "scale_factor": 2},
    {"size": 3, "recompute_scale_factor": True},
    {"size": (1, 2, 3)},
    {"scale_factor": (1, 2, 3)},
    {"size": 0},
    {"scale_factor": 0.1},
    {"size": 3, "mode": "linear"},
    {"size": 3, "mode": "trilinear"},
    {"size": 3, "mode": "cubic"},
    {"size": 3, "align_corners": True},
    {"size": 3, "mode": "area", "align_corners": False},
    {"size": 3, "antialias": True},
    {"size": -1, "mode": "bilinear"},
]


@pytest.mark.parity
@pytest.mark.parametrize("options", BAD_SIZES, ids=str)
def test_sizes_that_do_not_fit(options: dict[str, Any]) -> None:
    agree(lambda lib: lib.nn.functional.interpolate(lib.ones(1, 1, 4, 4), **options))
    for shape in ((4, 4), (1, 4), (1, 1, 2, 2, 2, 2)):
        agree(lambda lib, s=shape: lib.nn.functional.interpolate(lib.ones(s), scale_factor=2))


@pytest.mark.parametrize(
    "options",
    [{"scale_factor": v} for v in (float("nan"), float("inf"), "2")] + [{"size": v} for v in (2.5, "2", (3, None))],
    ids=str,
)
def test_sizes_that_are_no_numbers_are_one_sentence(options: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"interpolate: .* must be"):
        nanotorch.nn.functional.interpolate(nanotorch.ones(1, 1, 4, 4), **options)


@pytest.mark.parity
def test_other_dtypes_are_resized() -> None:
    agree(lambda lib: lib.nn.functional.interpolate(lib.arange(6, dtype=lib.uint8).reshape(1, 1, 2, 3), (4, 2)))
    agree(lambda lib: lib.nn.functional.interpolate(lib.arange(6).reshape(1, 1, 2, 3), (4, 2), mode="bilinear"))
    half = np.array([60000.0, 60000.0, 1.0], np.float16).reshape(1, 1, 3)
    agree(lambda lib: lib.nn.functional.interpolate(lib.tensor(half), 6, mode="linear"))
    agree(lambda lib: str(lib.nn.functional.interpolate(lib.tensor(half), 6).dtype))
    assert nanotorch.nn.functional.interpolate(nanotorch.arange(3).reshape(1, 1, 3), 6).tolist() == [
        [[0, 0, 1, 1, 2, 2]]
    ]


# ------------------------------------------------------------ older names, other distributions, least squares


@pytest.mark.parity
def test_tensors_by_the_name_of_their_type() -> None:
    for name in (
        "FloatTensor",
        "DoubleTensor",
        "HalfTensor",
        "LongTensor",
        "IntTensor",
        "ShortTensor",
        "CharTensor",
        "ByteTensor",
        "BoolTensor",
    ):
        agree(lambda lib, n=name: getattr(lib, n)([1, 0]).type())
        agree(lambda lib, n=name: [list(getattr(lib, n)(*a).shape) for a in ((), (2, 3), ([[1], [2]],))])
        agree(
            lambda lib, n=name: [
                isinstance(x, getattr(lib, n)) for x in (lib.ones(1), lib.ones(1).long(), lib.ones(1) > 0, 1)
            ]
        )


@pytest.mark.parity
def test_questions() -> None:
    for dtype in DTYPES:
        for name in ("is_signed", "is_complex", "is_floating_point", "numel", "is_inference", "get_device"):
            agree(lambda lib, d=dtype, n=name: getattr(lib, n)(lib.ones(2, 3, dtype=getattr(lib, d))))
    for shape in ((), (1,), (2,), (0,)):
        agree(lambda lib, s=shape: lib.is_nonzero(lib.ones(s)))
        agree(lambda lib, s=shape: lib.ones(s).is_same_size(lib.ones(1)))
    agree(
        lambda lib: [
            lib.ones(2).is_cpu,
            list(lib.ones(2, 3).H.shape),
            lib.ones(2).real.tolist(),
            lib.conj(lib.ones(2)).tolist(),
            lib.detach(lib.ones(2)).tolist(),
        ]
    )
    agree(lambda lib: lib.ones(2, 3, 4).H)
    agree(lambda lib: lib.arange(3.0).apply_(lambda v: v * v + 1))
    agree(lambda lib: lib.arange(6).reshape(2, 3).T.apply_(lambda v: -v))
    agree(lambda lib: lib.ones(2, requires_grad=True).apply_(abs))
    agree(lambda lib: [lib.pi, lib.e, lib.inf, lib.newaxis])


@pytest.mark.parity
@pytest.mark.parametrize("name", ["entr", "ndtr"])
def test_special_functions(name: str) -> None:
    array, results = np.array([-1.0, 0.0, 0.3, 1.0, 4.0, -9.0, np.inf, np.nan]), []
    for lib in (nanotorch, pytorch):
        x = lib.tensor(array, requires_grad=True)
        y = getattr(lib.special, name)(x)
        y.backward(lib.ones_like(y))
        results.append((to_numpy(y), to_numpy(x.grad)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-12, atol=1e-15)  # PyTorch rounds small areas to 0
    some = slice(2, 5)  # at 0 and below, the derivative of entr is a matter of taste
    np.testing.assert_allclose(results[0][1][some], results[1][1][some], rtol=1e-12)


def test_other_distributions() -> None:
    nanotorch.manual_seed(0)
    x = nanotorch.empty(20_000, dtype=nanotorch.float64)
    assert abs(x.exponential_(2.0).mean().item() - 0.5) < 0.02 and x.min() >= 0
    assert abs(x.geometric_(0.25).mean().item() - 4) < 0.2 and x.min() == 1
    assert abs(x.log_normal_(0.5, 0.25).log().mean().item() - 0.5) < 0.02
    assert abs(x.cauchy_(3.0, 2.0).median().item() - 3) < 0.1
    assert set(x.random_(3, 6).tolist()) == {3.0, 4.0, 5.0} and set(x.random_(2).tolist()) == {0.0, 1.0}
    assert nanotorch.empty(5000, dtype=nanotorch.uint8).random_().unique().numel() == 256
    assert nanotorch.empty(100, dtype=nanotorch.bool).random_().unique().numel() == 2
    assert (
        nanotorch.empty(100).random_().max() <= 2**24 and nanotorch.empty(9, dtype=nanotorch.int64).random_().min() >= 0
    )


BAD_FILLS: list[Any] = [
    lambda lib: lib.zeros(2).exponential_(-1),
    lambda lib: lib.zeros(2).geometric_(0),
    lambda lib: lib.zeros(2).geometric_(1.5),
    lambda lib: lib.zeros(2).log_normal_(0, -1),
    lambda lib: lib.zeros(2).cauchy_(0, 0),
    lambda lib: lib.zeros(2).random_(3, 3),
    lambda lib: lib.zeros(2, dtype=lib.uint8).random_(0, 300),
    lambda lib: lib.zeros(2).long().exponential_(),
    lambda lib: lib.zeros(2, requires_grad=True).random_(3),
]


@pytest.mark.parity
@pytest.mark.parametrize("number", range(len(BAD_FILLS)))
def test_fills_that_are_refused(number: int) -> None:
    assert outcome(BAD_FILLS[number], nanotorch) == outcome(BAD_FILLS[number], pytorch) == "raises RuntimeError"


@pytest.mark.parity
@pytest.mark.parametrize(
    "shapes", [((4, 2), (4, 3)), ((2, 4), (2, 1)), ((3, 3, 2), (3, 3, 1)), ((4, 2), (4,)), ((2, 3, 2), (2, 3))], ids=str
)
@pytest.mark.parametrize("driver", [None, "gels", "gelsd"])
def test_least_squares(shapes: Any, driver: Any) -> None:
    rng = np.random.default_rng(0)
    arrays, results = [rng.standard_normal(s) for s in shapes], []
    for lib in (nanotorch, pytorch):
        a, b = (lib.tensor(array, requires_grad=True) for array in arrays)
        found = lib.linalg.lstsq(a, b, driver=driver)
        found.solution.backward(lib.tensor(rng.standard_normal(tuple(found.solution.shape)) * 0 + 1.5))
        results.append([to_numpy(v) for v in (*found, a.grad, b.grad)])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-11)
