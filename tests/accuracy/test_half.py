"""float16 is computed in float32 and rounded once (Note [Half precision] in `nanotorch/ops/rows/compiler.py`).

So the oracle is float32 on the same numbers, which other tests compare with PyTorch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from nanotorch import nn, optim
from nanotorch.nn import functional as F
from nanotorch.ops.rows.row import ROWS
from op_cases import CASES, Call, floating_outputs, host, ours, outputs, weights

LOOKS_AT_THE_TYPE = {"nan_to_num", "quantile", "nanquantile", "bincount"}
"""Ops whose result depends on the dtype: its largest number, whether it is taken at all, the dtype of the sums."""


def widened(tensor: Any) -> Any:
    return tensor.detach().float().requires_grad_(tensor.requires_grad) if tensor.is_floating_point() else tensor


def rounded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(over="ignore"):
        return array.astype(np.float16) if array.dtype == np.float32 else array


def differences(
    name: str, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], leaves: list[Any]
) -> list[str]:
    """What differs between a call in float16 and the same call in float32, rounded:
    values, gradients, recorded gradients.
    """
    stock = {id(leaf): widened(leaf) for leaf in leaves}

    def wide(value: Any) -> Any:
        if isinstance(value, list):
            return [wide(v) for v in value]
        return stock.get(id(value), widened(value)) if isinstance(value, nanotorch.Tensor) else value

    found = []
    for create_graph in (False, True):
        got = outputs(function(*args, **kwargs))
        wanted = outputs(function(*wide(args), **{key: wide(value) for key, value in kwargs.items()}))
        for a, b in zip(map(host, got), map(host, wanted), strict=True):
            if isinstance(a, np.ndarray) and not (
                a.dtype == rounded(b).dtype and np.array_equal(a, rounded(b), equal_nan=a.dtype.kind == "f")
            ):
                found.append(f"{name}: {a} of {a.dtype}, but {b}")
        tracked = [number for number, o in enumerate(wanted) if floating_outputs(o)]
        if not tracked or not leaves:
            break
        grads = []
        seeds = [w.astype(np.float16) for w in weights([wanted[number] for number in tracked], np.float64)]
        for results, inputs in ((got, leaves), (wanted, list(stock.values()))):
            results = [results[number] for number in tracked]
            given = [
                nanotorch.from_numpy(seed).to(r.dtype).requires_grad_() for seed, r in zip(seeds, results, strict=True)
            ]
            grads.append(
                map(host, nanotorch.autograd.grad(results, inputs, given, allow_unused=True, create_graph=create_graph))
            )
        for a, b in zip(*grads, strict=True):
            if a is None and b is None:
                continue
            if a.dtype != np.float16 or not np.array_equal(a, rounded(b), equal_nan=True):
                found.append(f"gradient of {name}: {a} of {a.dtype}, but {b}")
    return found


@pytest.mark.parametrize("samples", ["first", pytest.param("other", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["rows", "composites"])
def test_every_op_rounds_once(kind: str, samples: str) -> None:
    found = []
    for case in CASES:
        if (case.name in ROWS) is not (kind == "rows") or case.name in LOOKS_AT_THE_TYPE:
            continue
        if (case.number == 0) is not (samples == "first"):
            continue
        with np.errstate(over="ignore"):
            call = Call(case, ours(), np.float16)
        if any(t.is_floating_point() for t in call.tensors):
            found += differences(str(case), case.entry.function, call.args, call.kwargs, call.leaves)
    assert not found, "\n".join(["a composite of several steps says widens=True:"] * (kind == "composites") + found)


def half(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return nanotorch.from_numpy(values.astype(np.float16)).requires_grad_()


MANY, WIDE = half(70_000, low=-3, high=3), half(4, 300, low=-600, high=600)
"""More elements than float16 can count, and elements whose squares it cannot hold."""

CALLS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    **{
        f"{loss} of many": (lambda x, loss=loss: getattr(F, loss)(x, x.detach() * 0 + 0.5), [MANY])
        for loss in (
            "mse_loss",
            "l1_loss",
            "smooth_l1_loss",
            "huber_loss",
            "binary_cross_entropy_with_logits",
            "poisson_nll_loss",
            "soft_margin_loss",
        )
    },
    "mean of many": (lambda x: x.mean(), [MANY]),
    "nanmean of many": (lambda x: x.nanmean(), [MANY]),
    "var of many": (lambda x: x.var(), [MANY]),
    "std_mean of many": (nanotorch.std_mean, [MANY]),
    "softmax of many": (lambda x: x.softmax(0), [MANY]),
    "cumsum of many": (lambda x: x.cumsum(0), [half(5000, low=0, high=2)]),
    "cross_entropy of many": (lambda x: F.cross_entropy(x, nanotorch.arange(70_000) % 3), [half(70_000, 3)]),
    "pooling of many": (lambda x: F.adaptive_avg_pool1d(x, 2), [half(1, 2, 7000)]),
    "avg_pool of large numbers": (lambda x: F.avg_pool1d(x, 4), [half(1, 1, 400, low=3e4, high=6e4)]),
    "un-broadcasting of many rows": (lambda x, b: x + b, [half(4096, 3), half(3)]),
    "linear of many rows": (F.linear, [half(4096, 3), half(2, 3), half(2)]),
    "batch_norm of large numbers": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        [WIDE, half(300), half(300)],
    ),
    "layer_norm of large numbers": (lambda x, w, b: F.layer_norm(x, (300,), w, b), [WIDE, half(300), half(300)]),
    "group_norm of large numbers": (lambda x, w, b: F.group_norm(x, 3, w, b), [WIDE, half(300), half(300)]),
    "instance_norm of large numbers": (lambda x: F.instance_norm(x[None]), [WIDE]),
    "rms_norm of large numbers": (lambda x: nanotorch.rms_norm(x, (300,)), [WIDE]),
    "local_response_norm of large numbers": (lambda x: F.local_response_norm(x[None], 3), [WIDE]),
    "norm of large numbers": (lambda x: x.norm(dim=1), [WIDE]),
    "norm of order 3": (lambda x: x.norm(3, 1), [WIDE]),
    "norm of small numbers": (lambda x: x.norm(), [half(300, low=1e-4, high=2e-4)]),
    "normalize of large numbers": (lambda x: F.normalize(x, dim=0), [WIDE]),
    "normalize of small numbers": (lambda x: F.normalize(x, dim=0), [half(300, low=1e-4, high=2e-4)]),
    "cosine_similarity of large numbers": (
        lambda x, y: F.cosine_similarity(x, y),
        [WIDE, half(4, 300, low=-600, high=600, seed=1)],
    ),
    "pairwise_distance of large numbers": (F.pairwise_distance, [WIDE, half(4, 300, low=-600, high=600, seed=1)]),
    "cdist of large numbers": (nanotorch.cdist, [WIDE, half(2, 300, low=-600, high=600, seed=1)]),
    "dist of large numbers": (nanotorch.dist, [WIDE, half(4, 300, low=-600, high=600, seed=1)]),
    "var of large numbers": (lambda x: x.var(0), [half(4, 5, low=-200, high=200)]),
    "std of large numbers": (lambda x: x.std(0), [WIDE]),
    "logsumexp of large numbers": (lambda x: x.logsumexp(1), [WIDE]),
    "gelu by tanh beyond 256": (lambda x: F.gelu(x, approximate="tanh"), [WIDE]),
    "attention of large numbers": (
        F.scaled_dot_product_attention,
        [WIDE, half(4, 300, low=-600, high=600, seed=1), half(4, 5)],
    ),
    "times a large number": (lambda x: x * 1e5, [half(5, low=-0.1, high=0.1)]),
    "times a large tensor": (lambda x: x * nanotorch.tensor(1e5), [half(5, low=-0.1, high=0.1)]),
    "a large tensor times": (lambda x: nanotorch.tensor(70000) * x, [half(5, low=-0.1, high=0.1)]),
    "by a small number": (lambda x: x / 1e-9, [half(5, low=-6e-5, high=6e-5)]),
    "a large number by": (lambda x: 1e6 / x, [half(5, low=300, high=2000)]),
    "a large number to the power": (lambda x: 1e5**x, [half(5, low=-0.5, high=0.5)]),
    "a large number modulo": (lambda x: 1e5 % x, [half(5, low=3, high=2000)]),
    "by a small number, in place": (lambda x: x.clone().div_(1e-9), [half(5, low=-6e-5, high=6e-5)]),
}


def test_large_counts_large_numbers_and_numbers_out_of_range() -> None:
    found = []
    for name, (function, inputs) in CALLS.items():
        found += differences(name, function, list(inputs), {}, inputs)
    assert not found, "\n".join(found)


def test_numbers_are_compared_as_float16() -> None:
    x = nanotorch.tensor([0.1, 2.0], dtype=nanotorch.float16)
    assert (x == 0.1).tolist() == [True, False] and (x < 1e5).all() and (x > 1e-9).all()


def test_counts_beyond_2048() -> None:
    assert nanotorch.histc(nanotorch.zeros(5000, dtype=nanotorch.float16), 1, min=-1, max=1).tolist() == [5000.0]
    assert nanotorch.bincount(
        nanotorch.zeros(5000, dtype=nanotorch.int64), nanotorch.ones(5000, dtype=nanotorch.float16)
    ).tolist() == [5000.0]


def test_an_explicit_dtype_is_kept() -> None:
    x = half(3, 2)
    for result in (
        x.nanmean(dtype=nanotorch.float32),
        F.softmin(x, 0, dtype=nanotorch.float32),
        nanotorch.linalg.norm(x, dtype=nanotorch.float32),
    ):
        assert result.dtype is nanotorch.float32
    target = nanotorch.zeros((), dtype=nanotorch.float16)
    assert nanotorch.norm(x.detach(), out=target) is target and target > 0


def test_operands_of_two_dtypes_are_left_alone() -> None:
    x = half(3, 2)
    assert nanotorch.dist(x, x.detach().float() + 1).dtype is nanotorch.float32


@pytest.mark.parametrize("training", [True, False])
def test_running_statistics(training: bool) -> None:
    """They move by the statistics of float32, and are rounded when they are stored."""
    image = WIDE.detach().reshape(4, 3, 100) / 4
    for norm in (nn.BatchNorm1d(3), nn.InstanceNorm1d(3, affine=True, track_running_stats=True)):
        norm.running_mean.fill_(0.3)
        wanted = norm.train(training)(image.float())
        moved = [norm.running_mean.clone(), norm.running_var.clone()]
        norm.running_mean.fill_(0.3)
        norm.running_var.fill_(1.0)
        norm.half()
        mean = norm.running_mean.clone()
        got = norm(image)
        assert got.dtype is nanotorch.float16
        assert nanotorch.allclose(got.float(), wanted, rtol=2e-3, atol=2e-3)
        assert norm.running_mean.dtype is nanotorch.float16 and norm.running_var.isfinite().all()
        assert nanotorch.allclose(norm.running_var.float(), moved[1], rtol=1e-3)
        assert nanotorch.allclose(norm.running_mean.float(), moved[0], rtol=1e-3, atol=1e-3)
        assert training is not bool((norm.running_mean == mean).all())


def test_norms_of_gradients_and_clipping() -> None:
    values = half(400, 400, low=200, high=900, seed=3).detach()
    for order in (2.0, 1.0, 3.0, float("inf")):
        parameter, wide = nn.Parameter(values * 0), nn.Parameter(values.float() * 0)
        parameter.grad, wide.grad = values.clone(), values.float()
        total, wanted = (nn.utils.clip_grad_norm_([p], 1e4, order) for p in (parameter, wide))
        assert total.dtype is nanotorch.float32  # float16 could not hold it
        assert nanotorch.allclose(total, wanted)
        assert (parameter.grad == wide.grad.half()).all() and parameter.grad.any()


OPTIMIZERS = [
    kind
    for name in optim.__all__
    if isinstance(kind := getattr(optim, name), type) and issubclass(kind, optim.Optimizer)
]


def test_optimizers_compute_in_float32() -> None:
    """With gradients of some hundreds, whose squares float16 cannot hold, every step is that of float32, rounded."""
    for kind in OPTIMIZERS:
        if kind in (optim.Optimizer, optim.LBFGS):
            continue
        for shape in ((3, 2), (200, 100)):  # gathered, and large enough to be updated alone
            parameter = nn.Parameter(half(*shape).detach())
            wide = nn.Parameter(parameter.detach().float())
            narrow, single = kind([parameter], lr=0.01), kind([wide], lr=0.01)
            for step in range(3):
                parameter.grad = half(*shape, low=-900, high=900, seed=step).detach()
                wide.grad = parameter.grad.float()
                narrow.step()
                single.step()
                assert (parameter == wide.half()).all(), f"{kind.__name__}, step {step}"
                with nanotorch.no_grad():
                    wide.copy_(wide.half().float())
                narrow.load_state_dict(narrow.state_dict())
            state = [v for k, v in narrow.state[parameter].items() if k != "step"]
            assert all(v.dtype is nanotorch.float32 and v.isfinite().all() for v in state), kind.__name__


def test_lbfgs_in_float16() -> None:
    x = nn.Parameter(nanotorch.full((3,), 300.0, dtype=nanotorch.float16))
    optimizer = optim.LBFGS([x], max_iter=10, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimizer.zero_grad()
        loss = ((x.float() - nanotorch.tensor([1.0, 2.0, 3.0])) ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert x.dtype is nanotorch.float16 and x.tolist() == [1.0, 2.0, 3.0]
