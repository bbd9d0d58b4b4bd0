"""Every array that an op takes and that requires grad gets PyTorch's gradient,
or the op refuses it as PyTorch does: never silence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch
from op_cases import CASES, Call, Case, drawn, named, outputs
from oracle import pytorch

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

# What docs/differences.md states: gradients that PyTorch's writes into its own results prevent, residuals' history, and
# the triangle of a factor that is not read.
ASIDE = {"vander", "linalg_vander", "linalg_cond", "linalg_lstsq", "cholesky_solve", "cholesky_inverse"}
REFUSED = (RuntimeError, NotImplementedError, TypeError)


def first_or_constant(case: Case) -> bool:
    return case.number == 0 or any(d.kind == "constant" for d in drawn(case))


def array_of(grad: Any) -> Any:
    """A gradient as an array; PyTorch's zeros without memory need `force`."""
    return grad.numpy() if isinstance(grad, nanotorch.Tensor) else grad.numpy(force=True)


def outcome(lib: Any, function: Any, case: Case, which: int) -> Any:
    """Which outputs require grad, and the gradients of all floating tensors,
    if only the one numbered `which` requires grad.
    """
    made: list[Any] = []

    def make(array: np.ndarray[Any, Any], _: bool) -> Any:
        tensor = lib.tensor(array)
        if array.dtype.kind == "f":
            made.append(tensor.requires_grad_(len(made) == which))
        return tensor

    nanotorch.manual_seed(0)
    call = Call(case, make)
    if which >= len(made):
        return None
    try:
        results = [r for r in outputs(function(*call.args, **call.kwargs)) if isinstance(r, lib.Tensor)]
    except REFUSED:
        return "refuses"
    # PyTorch's pdist of one point crashes
    flags, tracked = [r.requires_grad for r in results], [r for r in results if r.requires_grad and r.numel()]
    seeds = [lib.tensor(np.cos(np.arange(r.numel())).reshape(tuple(r.shape)), dtype=r.dtype) for r in tracked]
    try:
        lib.autograd.backward(tracked, seeds)
    except REFUSED:
        return flags, "refuses the backward"
    grad = made[which].grad
    return flags, np.zeros(made[which].shape) if grad is None else array_of(grad)


def differ(ours: Any, expected: Any) -> bool:
    if "refuses" in (ours, expected):
        return ours is not expected
    if ours[0] != expected[0] or isinstance(ours[1], str) or isinstance(expected[1], str):
        return repr(ours) != repr(expected)
    return not np.allclose(ours[1], expected[1], rtol=1e-6, atol=1e-9, equal_nan=True)


def test_every_float_argument_of_every_op() -> None:
    different = []
    for case in CASES:
        if case.entry.where == "internal" or case.name in ASIDE or not first_or_constant(case):
            continue
        for which in range(6):
            expected = outcome(pytorch, named(pytorch, case), case, which)
            if expected is None:
                break
            ours = outcome(nanotorch, case.entry.function, case, which)
            if differ(ours, expected):
                different.append(f"{case}, array {which}: {ours} instead of {expected}")
    assert not different, "\n".join(different)


PROGRAMS = """
F.batch_norm(x, w, a, training=True)
F.batch_norm(x, a, w, training=True)
F.batch_norm(x, w, a)
F.batch_norm(g, a, w)
F.instance_norm(x[..., None].repeat(1, 1, 4), w, a)
F.instance_norm(x[..., None].repeat(1, 1, 4), a, w, use_input_stats=False)
lib.bincount(t, w)
t.bincount(weights=w)
lib.bincount(t, w.detach())
lib.nextafter(x, g)
F.multi_margin_loss(x, t, weight=w)
F.soft_margin_loss(x, g)
F.multilabel_soft_margin_loss(x, p, weight=w)
F.multilabel_soft_margin_loss(x, g)
F.kl_div(x, g)
F.huber_loss(x, g)
F.smooth_l1_loss(x, g)
F.poisson_nll_loss(x, g)
F.gaussian_nll_loss(x, g, p)
F.gaussian_nll_loss(x, p, w[:, None])
F.hinge_embedding_loss(x, g)
F.cosine_embedding_loss(x, x + 1, w)
F.margin_ranking_loss(x, x + 1, g)
F.binary_cross_entropy(p, g.sigmoid())
F.binary_cross_entropy_with_logits(x, g)
F.cross_entropy(x, g.softmax(1))
lib.bernoulli(g.sigmoid())
lib.normal(w, a)
lib.normal(a, w)
lib.normal(w, 1.0)
(g * 1).bernoulli_(p)
(g * 1).normal_()
lib.searchsorted(w, x)
lib.bucketize(g, a)
lib.histc(g)
lib.cov(x, aweights=w)
lib.quantile(x, w.sigmoid())
lib.full((2,), s)
x.new_full((2,), s)
lib.full_like(x, s)
lib.tensor(s)
lib.arange(s)
lib.arange(0, s)
lib.add(x, p, alpha=s)
F.elu(x, s)
F.leaky_relu(x, s)
lib.linalg.lstsq(x, g)[0]
lib.heaviside(x, g)
lib.where(x > 0, g, s)
x.masked_fill(x > 0, s)
x.index_fill(0, t, s)
x.clone().fill_(s)
lib.ldexp(x, g)
lib.isclose(x, g)
lib.frexp(g)[0]
lib.trapezoid(x, g)
""".strip().splitlines()


def run(lib: Any, program: str) -> Any:
    values = np.random.default_rng(0).standard_normal((3, 3))
    scope = {
        "lib": lib,
        "F": lib.nn.functional,
        "x": lib.tensor(values),
        "a": lib.tensor([0.5, 1.0, 1.5], dtype=lib.float64),
        "g": lib.tensor(np.cos(values), requires_grad=True),
        "w": lib.tensor([1.0, 2.0, 3.5], dtype=lib.float64, requires_grad=True),
        "s": lib.tensor(0.5, dtype=lib.float64, requires_grad=True),
        "t": lib.tensor([0, 2, 1]),
        "p": lib.tensor(values).sigmoid(),
    }
    try:
        result = eval(program, scope)  # one of the texts above
    except REFUSED:
        return "refuses"
    if not result.requires_grad:
        return False
    try:
        result.sum().backward()
    except REFUSED:
        return "refuses the backward"
    return [None if scope[name].grad is None else array_of(scope[name].grad).round(9).tolist() for name in "gws"]


def test_arrays_that_are_rarely_differentiated() -> None:
    found = {program: (run(nanotorch, program), run(pytorch, program)) for program in PROGRAMS}
    assert {p: f for p, f in found.items() if f[0] != f[1]} == {}


def test_a_number_is_no_array() -> None:
    for program in (
        "full((2,), torch.ones(1))",
        "arange(torch.ones(2))",
        "full((2,), 'a')",
        "arange(None)",
        "full((2,), [1])",
    ):
        with pytest.raises(TypeError, match="must be Number"):
            eval(f"torch.{program}", {"torch": nanotorch})
    assert nanotorch.arange(nanotorch.tensor(3)).dtype is nanotorch.int64
