"""Sums of very many float32 numbers are right to a few units in the last place, along whichever dimension they run."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from nanotorch.nn import functional as F

ROWS = 10**6


@functools.cache
def uniform(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def check(name: str, function: Callable[..., Any], *arrays: Any, units: float = 4) -> None:
    """Compare with float64, which other tests compare with PyTorch,
    in units in the last place of the largest element.
    """
    results = []
    for dtype in (nanotorch.float32, nanotorch.float64):
        tensors = [nanotorch.from_numpy(a) for a in arrays]
        result = function(*[t.to(dtype).detach().requires_grad_() if t.is_floating_point() else t for t in tensors])
        results.append([part.detach().numpy() for part in (result if isinstance(result, tuple | list) else [result])])
    for got, wanted in zip(*results, strict=True):
        assert got.dtype == np.float32
        error = np.abs(got.astype(np.float64) - wanted).max() / np.spacing(np.float32(np.abs(wanted).max()))
        assert error <= units, f"{name} is off by {error:.0f} units in the last place"


def gradients(function: Callable[..., Any], *wanted: int) -> Callable[..., Any]:
    """The gradients of the inputs of these numbers, for a gradient of the output that is the same in both dtypes."""

    def run(*tensors: Any) -> Any:
        result = function(*tensors)
        seed = nanotorch.from_numpy(uniform(*result.shape, seed=5)).to(result.dtype)
        return nanotorch.autograd.grad(result, [tensors[number] for number in wanted], seed)

    return run


REDUCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda x, dim: x.sum(dim),
    "mean": lambda x, dim: x.mean(dim),
    "nansum": lambda x, dim: x.nansum(dim),
    "nanmean": lambda x, dim: x.nanmean(dim),
    "var_mean": lambda x, dim: nanotorch.var_mean(x, dim),
    "std": lambda x, dim: x.std(dim),
    "norm": lambda x, dim: x.norm(2, dim),
    "norm of order 1": lambda x, dim: x.norm(1, dim),
    "logsumexp": lambda x, dim: x.logsumexp(dim),
}
LAYOUTS: dict[str, Callable[[], tuple[np.ndarray[Any, Any], Any]]] = {
    "first dimension": lambda: (uniform(ROWS, 3), 0),
    "Fortran order": lambda: (np.asfortranarray(uniform(ROWS, 3)), 0),
    "transposed": lambda: (uniform(ROWS, 3).T, 1),
    "every other row": lambda: (uniform(ROWS, 3)[::2], 0),
    "every other column": lambda: (uniform(ROWS // 2, 6)[:, ::2], 0),
    "middle dimension": lambda: (uniform(2, ROWS // 2, 3), 1),
    "outer dimensions": lambda: (uniform(1000, 3, 700).transpose(0, 2, 1), (0, 1)),
    "two of four": lambda: (uniform(100, 3, 7, 900), (0, 3)),
    "everything": lambda: (uniform(1000, 3, 700).transpose(2, 1, 0)[::2], (0, 1, 2)),
    "numbers near 1000": lambda: (uniform(ROWS, 3) + 1000, 0),
}


@pytest.mark.parametrize("name", ["sum", *(pytest.param(n, marks=pytest.mark.slow) for n in REDUCTIONS if n != "sum")])
def test_reductions_of_a_million_rows_in_every_layout(name: str) -> None:
    for layout, drawn in LAYOUTS.items():
        array, dim = drawn()
        check(f"{name} over the {layout}", lambda x, dim=dim: REDUCTIONS[name](x, dim), array)


def test_equal_numbers_add_up() -> None:
    for shape, dim in (((ROWS, 3), 0), ((3, ROWS), 1), ((10, ROWS // 10, 3), (0, 1)), ((ROWS,), 0)):
        total = nanotorch.full(shape, 0.1).sum(dim).numpy()
        assert np.abs(total / (ROWS * np.float64(np.float32(0.1))) - 1).max() < 3e-7


SCANS: dict[str, tuple[Callable[..., Any], Callable[[], np.ndarray[Any, Any]], float]] = {
    "cumsum": (lambda x: x.cumsum(0), lambda: uniform(ROWS, 3), 1),
    "cumprod": (lambda x: x.cumprod(0), lambda: 1 + uniform(ROWS, 3) / 65536, 1),
    "prod": (lambda x: x.prod(0), lambda: 1 + uniform(ROWS, 3) / 65536, 1),
    "logcumsumexp": (lambda x: x.logcumsumexp(0), lambda: uniform(ROWS // 2, 3), 1),
    "trapezoid": (lambda x: nanotorch.trapezoid(x, dim=0), lambda: uniform(ROWS, 3), 4),
    "cumulative_trapezoid": (lambda x: nanotorch.cumulative_trapezoid(x, dim=0), lambda: uniform(ROWS, 3), 4),
    "softmax": (lambda x: x.softmax(0), lambda: uniform(ROWS, 3), 4),
    "log_softmax": (lambda x: x.log_softmax(0), lambda: uniform(ROWS, 3), 4),
    "gradient of softmax": (gradients(lambda x: x.softmax(0), 0), lambda: uniform(ROWS, 3), 16),
    "gradient of cumsum": (gradients(lambda x: x.cumsum(0), 0), lambda: uniform(ROWS, 3), 4),
    "cov": (lambda x: x.T.cov(), lambda: uniform(ROWS, 3) + 1000, 64),  # the sums of a matrix product are BLAS's own
    "einsum of one": (lambda x: nanotorch.einsum("ij->j", x), lambda: uniform(ROWS, 3), 1),
    "einsum of two": (lambda x: nanotorch.einsum("ij,ij->j", x, x), lambda: uniform(ROWS, 3), 1),
    "normalize": (lambda x: F.normalize(x, dim=0), lambda: uniform(ROWS, 3), 4),
    "cosine_similarity": (lambda x: F.cosine_similarity(x[:, 0], x[:, 1], 0), lambda: uniform(ROWS, 3), 4),
    "pairwise_distance": (lambda x: F.pairwise_distance(x.T, x.T.flip(0)), lambda: uniform(ROWS, 3), 4),
}


@pytest.mark.slow
def test_scans_and_compositions() -> None:
    for name, (function, array, units) in SCANS.items():
        check(name, function, array(), units=units)


def test_losses() -> None:
    rows = ROWS // 4
    x, target, classes = uniform(rows, 3), uniform(rows, 3, seed=1) - 0.5, np.random.default_rng(0).integers(0, 3, rows)
    names = (
        "mse_loss",
        "l1_loss",
        "smooth_l1_loss",
        "huber_loss",
        "binary_cross_entropy_with_logits",
        "poisson_nll_loss",
        "kl_div",
        "soft_margin_loss",
    )
    for name in names:
        for reduction in ("mean", "sum") if name != "kl_div" else ("batchmean", "sum"):
            check(name, lambda a, b: getattr(F, name)(a.T, b.detach().T, reduction=reduction), x, target)  # noqa: B023
    check("cross_entropy", F.cross_entropy, x, classes)
    check("weighted nll_loss", lambda a, b, w: F.nll_loss(a, b, w.detach()), x, classes, x[0].copy())


def test_gradients_that_undo_broadcasting() -> None:
    x, row, weight = uniform(ROWS, 3), uniform(3, seed=1), uniform(5, 3, seed=2)
    check("bias of linear", gradients(F.linear, 2), x, weight, uniform(5, seed=3))
    check("added row", gradients(lambda a, b: a + b, 1), x, row)
    check("multiplied row", gradients(lambda a, b: a * b, 1), x, row)
    check("multiplied column", gradients(lambda a, b: a * b, 1), x.T, row[:, None])
    check("number", gradients(lambda a, b: a * b, 1), x, np.array(0.3, np.float32))
    check("expand", gradients(lambda a: a.expand(ROWS, 3), 0), row)
    check("repeat", gradients(lambda a: a.repeat(ROWS, 1), 0), row)
    check("where", gradients(lambda a, b: nanotorch.where(a > 1, a, b), 1), x, row)
    check("prelu", gradients(lambda a, b: F.prelu(a - 1, b), 1), x, row)


def test_layers() -> None:
    x, row = uniform(ROWS // 4, 4), uniform(4, seed=1)
    image = x.reshape(1, 4, 250, -1)
    kernel = uniform(2, 4, 3, 3, seed=2)
    check("bias of conv2d", gradients(F.conv2d, 2), image, kernel, row[:2].copy())
    check(
        "bias of conv_transpose2d",
        gradients(F.conv_transpose2d, 2),
        image,
        kernel.transpose(1, 0, 2, 3).copy(),
        row[:2].copy(),
    )
    check("layer_norm", gradients(lambda a, w, b: F.layer_norm(a, (4,), w, b), 2), x, row, row)
    check("group_norm", gradients(lambda a, w, b: F.group_norm(a, 2, w, b), 2), image, row, row)
    check("batch_norm", gradients(lambda a, w, b: F.batch_norm(a, None, None, w, b, True), 2), x, row, row)
    check("pooling", lambda a: F.adaptive_avg_pool2d(a, 1), image)

    def running(norm: Callable[..., Any]) -> Callable[..., Any]:
        def run(a: Any) -> Any:
            mean, var = nanotorch.zeros(4, dtype=a.dtype), nanotorch.zeros(4, dtype=a.dtype)
            norm(a, mean, var)
            return mean, var

        return run

    for norm in (
        lambda a, m, v: F.batch_norm(a, m, v, training=True, momentum=1.0),
        lambda a, m, v: F.instance_norm(a, m, v, momentum=1.0),
    ):
        check("running statistics", running(norm), image)
        check("running statistics of numbers near 1000", running(norm), image + 1000)


@pytest.mark.parametrize("rows", [ROWS, ROWS + 3])
def test_products_over_a_million_rows(rows: int) -> None:
    """Equal numbers are the worst case: a running total of float32 is 0.35 % off."""
    for numbers in (uniform, lambda *shape: np.full(shape, 0.1, np.float32)):
        matrix, vector = numbers(rows, 3), numbers(rows)
        check("matrix, matrix", lambda x, y: x.t() @ y, matrix, numbers(rows, 2), units=16)
        check("matrix, vector", lambda x, y: x.t() @ y, matrix, vector, units=16)
        check("vector, matrix", lambda x, y: y @ x, matrix, vector, units=16)
        check("vector, vector", lambda x, y: x @ y, vector, vector, units=16)
        check("weight of linear", gradients(F.linear, 1), matrix, np.ones((1, 3), np.float32), units=16)


@pytest.mark.slow
def test_values_that_meet_at_one_index() -> None:
    x, index, table = uniform(ROWS // 2, 3), np.random.default_rng(0).integers(0, 4, ROWS // 2), uniform(4, 3, seed=1)
    wide = np.repeat(index[:, None], 3, 1)
    check("bincount", lambda a, i: nanotorch.bincount(i, a[:, 0].detach()), x, index)
    check("scatter_add", lambda a, i: nanotorch.zeros(4, 3, dtype=a.dtype).scatter_add(0, i, a), x, wide)
    check("scatter_reduce", lambda a, i: nanotorch.zeros(4, 3, dtype=a.dtype).scatter_reduce(0, i, a, "mean"), x, wide)
    check("index_add", lambda a, i: nanotorch.zeros(4, 3, dtype=a.dtype).index_add(0, i, a), x, index)
    check("index_put", lambda a, i: nanotorch.zeros(4, 3, dtype=a.dtype).index_put((i,), a, accumulate=True), x, index)
    check("put", lambda a, i: nanotorch.zeros(4, dtype=a.dtype).put(i, a[:, 0], accumulate=True), x, index)
    check("embedding", gradients(lambda w, i: F.embedding(i, w), 0), table, index)
    check("indexing", gradients(lambda w, i: w[i], 0), table, index)
    check("index_select", gradients(lambda w, i: w.index_select(0, i), 0), table, index)
    check("gather", gradients(lambda w, i: w.gather(0, i), 0), table, wide)
    check("take", gradients(lambda w, i: w.take(i), 0), table, index)
    check("unfold", gradients(lambda w: w.unfold(0, 2000, 1), 0), uniform(4000))
    check("as_strided", gradients(lambda w: w.as_strided((5000, 4), (0, 1)), 0), uniform(4))


def test_a_result_of_einsum_has_a_memory_of_its_own() -> None:
    x = nanotorch.zeros(3, 3)
    for equation in ("ij->ji", "ii->i"):
        nanotorch.einsum(equation, x).fill_(1.0)
    assert x.sum() == 0


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e37, 1e-37, 1e-42])
def test_spread_of_very_large_and_very_small_numbers(scale: float) -> None:
    """Squares that float32 does not hold are none of `std`'s business, nor of its gradient's."""
    values = (np.array([[1.0, 2.0, 2.5, 1.25], [-1.0, 0.5, 3.0, 1.0]]) * scale).astype(np.float32)
    for dim, axis in ((None, None), (0, 0), (-1, 1)):
        x = nanotorch.from_numpy(values).requires_grad_()
        wanted = values.astype(np.float64).std(axis, ddof=1)
        np.testing.assert_allclose(x.std(dim).detach().numpy(), wanted, rtol=1e-6, atol=2e-45)
        np.testing.assert_allclose(nanotorch.std_mean(x, dim)[0].detach().numpy(), wanted, rtol=1e-6, atol=2e-45)
        if scale > 1e-40:  # 1 / std fits
            centred = values - values.astype(np.float64).mean(axis, keepdims=True)
            count = values.size if axis is None else values.shape[axis]
            slope = centred / ((count - 1) * values.astype(np.float64).std(axis, ddof=1, keepdims=True))
            np.testing.assert_allclose(
                nanotorch.autograd.grad(x.std(dim).sum(), x)[0].numpy(), slope, rtol=1e-5, atol=1e-6
            )
