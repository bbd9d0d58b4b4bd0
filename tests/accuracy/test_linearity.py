"""Backward passes are linear in the gradient that comes in, at 0 too:
forward mode and second derivatives rest on it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nanotorch
from op_cases import (
    CASES,
    Call,
    Case,
    differentiable,
    drawn,
    each,
    floating_outputs,
    host,
    named,
    ours,
    outputs,
    weights,
)
from oracle import pytorch

Arrays = list[Any]

NO_DERIVATIVE = {"floor_divide", "heaviside"}
# Where PyTorch's forward derivative is not the transposed of its backward one: it leaves out every product of
# scatter_reduce, takes matrices for symmetric, lets the row padding_idx of an embedding vary, or gives NaN for
# reductions of nothing.
ASIDE_THERE = {
    "scatter_reduce",
    "linalg_cholesky",
    "linalg_cholesky_ex",
    "cholesky",
    "embedding",
    "mean",
    "logsumexp",
    "logcumsumexp",
}
SINGLE_PRECISION_THERE = {"celu", "hardsigmoid"}


def at_edge(case: Case) -> bool:
    return any(d.kind == "edge" for d in drawn(case))


def call(case: Case) -> tuple[Arrays, Arrays]:
    """Return the outputs of a case that have a derivative, and the leaves."""
    nanotorch.manual_seed(0)
    made = Call(case, ours())
    return floating_outputs(case.entry.function(*made.args, **made.kwargs)), made.leaves


def pullback(results: Arrays, leaves: Arrays, vectors: Arrays, create_graph: bool) -> Arrays:
    seeds = [nanotorch.from_numpy(np.asarray(v)) for v in vectors]
    found = nanotorch.autograd.grad(
        results, leaves, seeds, retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return [np.zeros(tuple(leaf.shape)) if g is None else host(g) for g, leaf in zip(found, leaves, strict=True)]


def pushforward(results: Arrays, leaves: Arrays, directions: Arrays, start: float) -> Arrays:
    """Return the Jacobian times the directions, by a backward pass through the backward pass
    that starts from one number.
    """
    seeds = [nanotorch.full(tuple(r.shape), start, dtype=r.dtype).requires_grad_() for r in results]
    first = nanotorch.autograd.grad(results, leaves, seeds, create_graph=True, allow_unused=True)
    pairs = [
        (g, nanotorch.from_numpy(np.asarray(d)))
        for g, d in zip(first, directions, strict=True)
        if g is not None and g.requires_grad
    ]
    if not pairs:
        return [np.zeros(tuple(r.shape)) for r in results]
    found = nanotorch.autograd.grad([g for g, _ in pairs], seeds, [d for _, d in pairs], allow_unused=True)
    return [np.zeros(tuple(r.shape)) if g is None else host(g) for g, r in zip(found, results, strict=True)]


def inner(left: Arrays, right: Arrays) -> float:
    return float(sum(np.sum(a * b) for a, b in zip(left, right, strict=True)))


RECORDED = [case for case in CASES if case.name not in NO_DERIVATIVE]
SMOOTH = [case for case in RECORDED if not at_edge(case)]
THERE = [c for c in SMOOTH if c.entry.where != "internal" and c.name not in ASIDE_THERE | SINGLE_PRECISION_THERE]


@each(RECORDED, when=differentiable)
@pytest.mark.slow
def test_backward_is_linear(case: Case) -> None:
    for create_graph in (False, True):
        check_linear(case, create_graph)


def check_linear(case: Case, create_graph: bool) -> None:
    results, leaves = call(case)
    u = weights(results, np.float64)
    w = [np.asarray(np.cos(3 * a)) for a in u]
    first, second = pullback(results, leaves, u, create_graph), pullback(results, leaves, w, create_graph)
    both = pullback(results, leaves, [2 * a - 3 * b for a, b in zip(u, w, strict=True)], create_graph)
    nothing = pullback(results, leaves, [0 * a for a in u], create_graph)
    for a, b, ab, zero in zip(first, second, both, nothing, strict=True):
        finite = np.isfinite(a) & np.isfinite(b)
        np.testing.assert_allclose(ab[finite], 2 * a[finite] - 3 * b[finite], rtol=1e-9, atol=1e-11)
        if not at_edge(case):  # 0 times an infinite slope is NaN
            assert not zero.any()


@each(SMOOTH, when=differentiable)
@pytest.mark.slow
def test_forward_mode_is_the_transposed_of_backward(case: Case) -> None:
    results, leaves = call(case)
    u, directions = weights(results, np.float64), weights(leaves, np.float64)
    back = pullback(results, leaves, u, False)
    if not all(np.isfinite(x).all() for x in (*back, *[host(r) for r in results])):  # means of nothing
        return
    expected = inner(back, directions)
    for start in (0.0, 1.0):
        forward = pushforward(results, leaves, directions, start)
        np.testing.assert_allclose(inner(forward, u), expected, rtol=1e-8, atol=1e-10)


def infinite(array: Any) -> Any:
    array = np.array(array)
    if array.ndim:
        array.reshape(-1)[0::4], array.reshape(-1)[1::4] = np.inf, -np.inf
    return array


# Ends of domains, ties, zeros and infinities, put into every sample.
EDGES = {
    "as drawn": np.copy,
    "zeros": np.zeros_like,
    "ones": np.ones_like,
    "minus ones": lambda a: -np.ones_like(a),
    "rounded": np.round,
    "infinities": infinite,
}
# Composites whose infinite slope meets a zero, in PyTorch too.
INFINITE_INSIDE = {"nanmean", "lp_pool1d", "lp_pool2d"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@each(RECORDED)
@pytest.mark.slow
def test_linear_at_edges(case: Case) -> None:
    """Where the slopes are finite, a gradient of 0 gives 0, and forward mode the Jacobian times the direction."""
    for kind, change in EDGES.items() if case.number < 2 else [("as drawn", np.copy)]:
        check_edge(case, f"{case} {kind}", lambda a, change=change: np.asarray(change(a)) if a.dtype.kind == "f" else a)


def check_edge(case: Case, label: str, change: Any) -> None:
    nanotorch.manual_seed(0)
    made = Call(case, ours(), change=change)
    if not made.leaves:
        return
    try:
        results = floating_outputs(case.entry.function(*made.args, **made.kwargs))
        shapes = [tuple(r.shape) for r in results]
        size = sum(math.prod(shape) for shape in shapes)
        if not 0 < size <= 8:
            return
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

        def back(flat: Any, create_graph: bool = False) -> Any:
            seeds = [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]
            return np.concatenate([np.ravel(g) for g in pullback(results, made.leaves, seeds, create_graph)])

        jacobian = np.stack([back(row) for row in np.eye(size)])
    except (RuntimeError, ValueError, IndexError):  # singular matrices, weights that must be positive ...
        return
    finite = np.isfinite(jacobian)
    for create_graph in (False, True):
        assert not back(np.zeros(size), create_graph)[finite.all(0)].any(), label
    if case.name in INFINITE_INSIDE:
        return
    directions = weights(made.leaves, np.float64)
    forward = np.concatenate([np.ravel(f) for f in pushforward(results, made.leaves, directions, 1.0)])
    rows = finite.all(1)
    expected = jacobian[rows] @ np.concatenate([np.ravel(d) for d in directions])
    np.testing.assert_allclose(forward[rows], expected, rtol=1e-8, atol=1e-10, err_msg=label)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's dual numbers use its own old compiler
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parity
@each(THERE, when=differentiable)
def test_jvp_of_both_libraries(case: Case) -> None:
    made = Call(case, ours())
    tangents = weights(made.leaves, np.float64)
    try:
        expected = dual_numbers(pytorch, case, tangents)
    except NotImplementedError:  # PyTorch has no forward derivative of some
        return

    def floating(*values: Any) -> Any:
        args, kwargs = made.replaced(list(values))
        return tuple(
            o for o in outputs(case.entry.function(*args, **kwargs)) if hasattr(o, "dtype") and o.is_floating_point()
        )

    primals = tuple(leaf.detach() for leaf in made.leaves)
    found = nanotorch.func.jvp(floating, primals, tuple(map(nanotorch.tensor, tangents)))[1]
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(host(a), e, rtol=1e-8, atol=1e-10)


def dual_numbers(pytorch: Any, case: Case, tangents: Arrays) -> Arrays:
    """PyTorch's product with the Jacobian."""
    function = named(pytorch, case)
    forward = pytorch.autograd.forward_ad
    made = Call(case, lambda array, _: pytorch.tensor(array))
    with forward.dual_level():
        duals = [forward.make_dual(leaf, pytorch.tensor(t)) for leaf, t in zip(made.leaves, tangents, strict=True)]
        args, kwargs = made.replaced(duals)
        found = [
            o for o in outputs(function(*args, **kwargs)) if isinstance(o, pytorch.Tensor) and o.is_floating_point()
        ]
        parts = [forward.unpack_dual(o) for o in found]
        return [np.zeros(tuple(p.primal.shape)) if p.tangent is None else p.tangent.numpy(force=True) for p in parts]


def test_logcumsumexp_far_apart_in_forward_mode() -> None:
    x = nanotorch.tensor([-700.0, 0.0, 710.0, -710.0], dtype=nanotorch.float64)
    jacobian = nanotorch.func.jacfwd(lambda x: nanotorch.logcumsumexp(x, 0))(x)
    np.testing.assert_allclose(jacobian.numpy(), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]], atol=1e-300)


def test_a_gradient_of_nan_stays_nan_in_logcumsumexp() -> None:
    x = nanotorch.zeros(2, requires_grad=True)
    nanotorch.logcumsumexp(x, 0).backward(nanotorch.tensor([float("nan"), 1.0]))
    assert x.grad is not None and bool(x.grad[0].isnan())


def test_xlogy_forward_mode_at_log_of_zero() -> None:
    x, y = nanotorch.tensor([2.0, 0.0, 0.0]), nanotorch.tensor([0.0, 0.0, 3.0])
    _, tangent = nanotorch.func.jvp(lambda x: nanotorch.xlogy(x, y), (x,), (nanotorch.ones(3),))
    assert tangent.tolist()[:2] == [float("-inf"), 0.0]
    np.testing.assert_allclose(tangent[2].item(), np.log(3.0), rtol=1e-6)
    x.requires_grad_()
    nanotorch.xlogy(x, y).backward(nanotorch.tensor([0.0, 1.0, 1.0]))  # a gradient of 0 meets the infinite slope
    assert x.grad is not None and x.grad[0].item() == 0


def test_prelu_of_infinity_in_forward_mode() -> None:
    x, weight = nanotorch.tensor(math.inf), nanotorch.tensor([0.5])
    assert (
        nanotorch.func.jvp(
            nanotorch.nn.functional.prelu, (x, weight), (nanotorch.tensor(2.0), nanotorch.tensor([3.0]))
        )[1].item()
        == 2
    )
