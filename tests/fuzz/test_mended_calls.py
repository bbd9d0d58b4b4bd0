"""Calls that the fuzzer found and that are mended: each gives what PyTorch gives, or is refused as it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

pytestmark = pytest.mark.parity

INF, NAN = float("inf"), float("nan")


def wave(lib: Any, *shape: int) -> Any:
    return (lib.arange(int(np.prod(shape))).to(lib.float64) * 0.37).sin().reshape(shape)


def gradient(lib: Any, function: Callable[[Any], Any], x: Any) -> Any:
    x = x.clone().requires_grad_()
    y = function(x)
    return lib.autograd.grad(y, x, (lib.arange(y.numel()) % 5 + 1).reshape(y.shape).to(y.dtype))[0]


def ldexp_in_place(lib: Any) -> list[Any]:
    x, y = wave(lib, 3).requires_grad_(), wave(lib, 3).requires_grad_()
    return list(lib.autograd.grad(x.clone().ldexp_(y).sum(), [x, y]))


def scatter_of_nothing(lib: Any) -> Any:
    index = lib.zeros(0, 2, dtype=lib.int64)
    return gradient(
        lib, lambda s: lib.scatter(lib.zeros(0, 0, dtype=lib.float64), -2, index, s), lib.zeros(0, 2, dtype=lib.float64)
    )


VALUES: dict[str, Callable[[Any], Any]] = {
    "means of windows beside infinities": lambda lib: lib.nn.functional.adaptive_avg_pool1d(
        lib.tensor([[[-1.0, -1.0, 2.0, -INF, 0.0]]]), 4
    ),
    "means of windows": lambda lib: [
        lib.nn.functional.adaptive_avg_pool1d(wave(lib, 1, 2, n), k) for n, k in [(7, 3), (3, 5), (4, 1), (4, 0)]
    ],
    "gradient of means of windows": lambda lib: gradient(
        lib, lambda x: lib.nn.functional.adaptive_avg_pool2d(x, (2, 4)), wave(lib, 1, 1, 3, 3)
    ),
    "condition of singular matrices": lambda lib: [
        lib.linalg.cond(lib.stack([lib.ones(2, 2), lib.eye(2)]), p) for p in ("fro", 1, INF)
    ],
    "targets after the end of a list": lambda lib: lib.nn.functional.multilabel_margin_loss(
        wave(lib, 3), lib.tensor([0, -1, 1])
    ),
    "sums as other dtypes": lambda lib: [
        lib.nansum(lib.tensor([100, 100]), dtype=getattr(lib, d)) for d in ("bool", "int8", "float16")
    ],
    "losses over no classes": lambda lib: [
        lib.nn.functional.cross_entropy(lib.ones(n, 0), lib.ones(n, 0), reduction=r, label_smoothing=0.1)
        for n in (0, 2)
        for r in ("none", "sum", "mean")
    ],
    "square of truth values": lambda lib: lib.square(lib.tensor([True, False])),
    "attention over no features": lambda lib: lib.nn.functional.scaled_dot_product_attention(
        wave(lib, 1, 1, 0), wave(lib, 1, 1, 0), wave(lib, 1, 1, 2)
    ),
    "ldexp_": ldexp_in_place,
    "gradients at NaN": lambda lib: [
        gradient(lib, f, lib.tensor([NAN, 1.0]))
        for f in (
            lib.nn.functional.relu6,
            lib.nn.functional.hardtanh,
            lib.nn.functional.softshrink,
            lib.nn.functional.hardshrink,
        )
    ],
    "kl_div of negative targets": lambda lib: lib.nn.functional.kl_div(
        wave(lib, 3), lib.tensor([-1.0, -INF, 0.0]).double(), reduction="none"
    ),
    "addr of several dtypes": lambda lib: [
        lib.addr(*(lib.ones(1, dtype=getattr(lib, d)) for d in dtypes))
        for dtypes in (("int8", "uint8", "int32"), ("float32", "int64", "float64"))
    ],
    "batch_norm without channels": lambda lib: lib.nn.functional.batch_norm(
        lib.ones(1, 0, 2), None, None, None, None, True
    ),
    "unravelled indices": lambda lib: list(lib.unravel_index(lib.tensor([5], dtype=lib.int32), (2, 3))),
    "gradients of determinants with NaN": lambda lib: gradient(
        lib, lib.linalg.det, lib.tensor([[[1.0, NAN], [0.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]]).double()
    )[1:],
    "weights of cov in another dtype": lambda lib: lib.cov(
        lib.tensor([[1, 2], [3, 5]], dtype=lib.int16), aweights=lib.ones(2).double()
    ),
    "bernoulli of given chances": lambda lib: [
        lib.bernoulli(lib.ones(3), 0.0),
        lib.bernoulli(lib.zeros(3, dtype=lib.int32), 1.0),
    ],
    "the triangle that cholesky reads": lambda lib: [
        lib.linalg.cholesky(lib.tensor([[2.0, -1.0], [0.5, 2.0]]).double(), upper=upper) for upper in (False, True)
    ],
    "gradient of cholesky of the upper triangle": lambda lib: gradient(
        lib, lambda x: lib.linalg.cholesky(x, upper=True), lib.tensor([[2.0, -1.0], [0.5, 2.0]]).double()
    ),
    "renorm_": lambda lib: gradient(lib, lambda x: x.clone().renorm_(2, 0, 0.5), wave(lib, 3, 2) + 1),
    "searchsorted of nothing": lambda lib: lib.searchsorted(lib.zeros(0, 0), lib.zeros(0, 1)),
    "powers of one number": lambda lib: lib.linalg.vander(lib.tensor(2.0), N=4),
    "gradient of flip of a number": lambda lib: gradient(lib, lambda x: lib.flip(x, (-1,)), lib.tensor(1.0)),
    "chunks of nothing": lambda lib: list(lib.chunk(lib.zeros(1, 0), 3, 1)),
    "scatter of nothing": scatter_of_nothing,
    "gradient of masked_scatter of nothing": lambda lib: gradient(
        lib, lambda source: lib.masked_scatter(lib.tensor(1.0).double(), lib.tensor(False), source), wave(lib, 0)
    ),
    "cosine of two dtypes": lambda lib: lib.nn.functional.cosine_similarity(
        wave(lib, 2, 3), lib.arange(6).reshape(2, 3)
    ),
    "linear without outputs": lambda lib: gradient(
        lib, lambda b: lib.nn.functional.linear(wave(lib, 1), wave(lib, 0, 1), b), wave(lib, 0)
    ),
}


def test_values() -> None:
    torch, wrong = pytorch, []
    for name, program in VALUES.items():
        ours, theirs = ([y] if not isinstance(y, list) else y for y in (program(nanotorch), program(torch)))
        for a, e in zip(ours, theirs, strict=True):
            a, e = a.numpy(), e.numpy()
            if (
                a.dtype != e.dtype
                or a.shape != e.shape
                or not np.allclose(a, e, 1e-12 if e.dtype == np.float64 else 1e-6, 0, equal_nan=True)
            ):
                wrong.append((name, a, e))
    assert not wrong


REFUSED: list[Callable[[Any], Any]] = [
    lambda lib: lib.cdist(wave(lib, 2, 2), wave(lib, 2, 2), -1.0),
    lambda lib: lib.cdist(wave(lib, 2, 2), wave(lib, 2, 2), 2.0, "nothing"),
    lambda lib: lib.nn.functional.pdist(wave(lib, 2, 2), -1.0),
    lambda lib: lib.nn.functional.pdist(wave(lib, 2, 2), "fro"),
    lambda lib: lib.nn.functional.pairwise_distance(wave(lib, 2, 2), wave(lib, 2, 2), None),
    lambda lib: lib.linalg.vector_norm(wave(lib, 2), "fro"),
    lambda lib: lib.nn.functional.multilabel_margin_loss(wave(lib, 3), lib.tensor([0, -2, 1])),
    lambda lib: lib.nn.functional.multilabel_margin_loss(wave(lib, 3), lib.tensor([0, -1, 5])),
    lambda lib: lib.nn.functional.unfold(wave(lib, 1, 1, 2, 2), 1, stride=0),
    lambda lib: lib.nn.functional.unfold(wave(lib, 1, 1, 2, 2), 0),
    lambda lib: lib.nn.functional.fold(wave(lib, 1, 1, 4), 2, 1, dilation=0),
    lambda lib: lib.nn.functional.unfold(wave(lib, 1, 1, 2, 2), 1, padding=-1),
    lambda lib: lib.nn.functional.local_response_norm(wave(lib, 1, 2, 4), 0),
    lambda lib: lib.nn.functional.softshrink(wave(lib, 2), NAN),
    lambda lib: lib.celu(wave(lib, 2), 0.0),
    lambda lib: lib.rrelu(wave(lib, 2), NAN, 1.0),
    lambda lib: lib.linalg.vander(wave(lib, 1)),
    lambda lib: lib.linalg.eigvalsh(lib.eye(2), UPLO="x"),
    lambda lib: lib.masked_select(lib.eye(2), lib.ones(2)),
    lambda lib: lib.as_strided_scatter(lib.arange(5), lib.tensor([1]), (2,), (3,), 1),
    lambda lib: lib.tensor([1, 2]).repeat_interleave(2, output_size=3),
    lambda lib: lib.rsub(lib.tensor([1]), lib.tensor([2]), alpha=1.5),
    lambda lib: lib.add(lib.tensor([1]), 2, alpha=NAN),
    lambda lib: lib.tensor([1]).sub_(2, alpha=0.5),
    lambda lib: lib.addr(lib.tensor([[1]]), lib.tensor([1]), lib.tensor([1]), alpha=0.5),
    lambda lib: lib.nanmean(lib.tensor([1, 2])),
    lambda lib: lib.nn.functional.hardtanh(wave(lib, 2), 2.0, 1.0),
    lambda lib: lib.nn.functional.one_hot(lib.zeros(0, dtype=lib.int64)),
    lambda lib: lib.nn.functional.cosine_similarity(wave(lib, 2, 2), wave(lib, 2, 2), eps=-1.0),
    lambda lib: lib.nn.functional.adaptive_avg_pool2d(wave(lib, 1, 2, 2), (3,)),
    lambda lib: lib.nn.functional.adaptive_max_pool1d(wave(lib, 1, 2, 2), None),
    lambda lib: lib.linalg.solve(lib.eye(2).repeat(3, 1, 1), lib.ones(2, 3), left=False),
    lambda lib: lib.nn.functional.adaptive_avg_pool1d(lib.ones(1, 2, 3, dtype=lib.bool), 2),
    lambda lib: lib.nn.functional.local_response_norm(lib.ones(1, 2, 3, dtype=lib.bool), 2),
    lambda lib: lib.round(lib.tensor([150]), decimals=-2),
    lambda lib: lib.nn.functional.bilinear(wave(lib, 1), wave(lib, 1), wave(lib, 1, 1, 1), lib.tensor(1.0).double()),
    lambda lib: lib.trapezoid(lib.tensor([True, True])),
    lambda lib: lib.normal(wave(lib, 2), NAN),
    lambda lib: lib.nn.functional.batch_norm(wave(lib, 2, 2), None, None, training=True, eps=-1.0),
    lambda lib: lib.nn.functional.cosine_similarity(wave(lib, 2, 2), wave(lib, 2, 2), eps=NAN),
    lambda lib: lib.unravel_index(lib.tensor([1]), (0,)),
    lambda lib: lib.unique(lib.tensor(1), dim=0),
    lambda lib: lib.linalg.tensorinv(lib.eye(1), ind=3),
    lambda lib: lib.cartesian_prod(lib.eye(2)),
    lambda lib: lib.isclose(wave(lib, 2), wave(lib, 2), rtol=-1.0),
    lambda lib: lib.isclose(wave(lib, 2), wave(lib, 2), atol=NAN),
    lambda lib: lib.softmax(wave(lib, 2), 0, dtype=lib.int32),
    lambda lib: lib.log_softmax(wave(lib, 2), 0, dtype=lib.int32),
    lambda lib: wave(lib, 2).cumsum_(0, dtype=lib.int32),
    lambda lib: wave(lib, 2).view(None, 2),
    lambda lib: wave(lib, 2).reshape(1.0, 2),
    lambda lib: lib.zeros(1.5, 2),
    lambda lib: lib.rand(1.5, 2),
]


def test_refusals() -> None:
    for number, program in enumerate(REFUSED):
        for lib in (nanotorch, pytorch):
            with pytest.raises((RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)):
                program(lib)
                print(f"program {number} computed in {lib.__name__}")


@pytest.mark.parametrize("bad", [INF, NAN])
def test_singular_values_of_what_is_not_finite_are_refused_at_once(bad: float) -> None:
    matrices = nanotorch.eye(5).repeat(2, 1, 1)
    matrices[1, 3, 0] = bad  # LAPACK's iterations need not end
    for function in (
        nanotorch.linalg.svdvals,
        nanotorch.linalg.eigh,
        nanotorch.linalg.pinv,
        nanotorch.linalg.matrix_rank,
    ):
        with pytest.raises(nanotorch.linalg.LinAlgError, match=r"Batch element 1.*NaN or infinities"):
            function(matrices)


def test_what_pytorch_refuses_or_truncates() -> None:
    whole = nanotorch.tensor([1, 0], dtype=nanotorch.uint8)
    # -1, not 255
    assert nanotorch.equal(nanotorch.nn.functional.softmin(whole, 0), nanotorch.softmax(-whole.float(), 0))
    ones = nanotorch.ones(1, 1, dtype=nanotorch.int64)
    with pytest.raises(RuntimeError, match=r"addmm.*integral.*beta"):
        nanotorch.addmm(ones, ones, ones, beta=0.5)
    source = nanotorch.tensor([2.0, 3.0])  # of which the index uses one
    for reduce, first in (("prod", 2.0), ("sum", 2.0), ("amax", 2.0), ("mean", 1.0)):
        assert gradient(
            nanotorch,
            lambda s, r=reduce: nanotorch.scatter_reduce(nanotorch.ones(2), 0, nanotorch.tensor(1), s, r),
            source,
        ).tolist() == [first, 0.0]


def test_views_in_place_keep_the_dtype_of_gradients_whatever_came_before() -> None:
    for name in ("float16", "float32", "float64", "float16"):
        x = nanotorch.ones(2, 1, dtype=getattr(nanotorch, name), requires_grad=True)
        for change in (
            lambda y: y.transpose_(0, 1),
            lambda y: y.squeeze_(1),
            lambda y: y.unsqueeze_(0),
            lambda y: y.t_(),
        ):
            y = change(x.clone())
            assert nanotorch.autograd.grad(y, x, nanotorch.ones_like(y))[0].dtype is x.dtype
