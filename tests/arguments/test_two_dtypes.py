"""Losses between tensors of two dtypes: promoted, cast to the input's, or refused, as in PyTorch;
gradients come back in each one's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:reduction:UserWarning")]

FLOATS = ["float16", "float32", "float64"]
VALUES = np.array([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])
PROGRAMS = """
F.mse_loss(a, b)
F.l1_loss(a, b)
F.smooth_l1_loss(a, b, reduction='sum')
F.huber_loss(a, b)
F.huber_loss(a, b, reduction='none', delta=0.1)
F.kl_div(a, b, reduction='batchmean')
F.kl_div(a, b, log_target=True)
F.soft_margin_loss(a, b.detach())
F.binary_cross_entropy(a, b)
F.binary_cross_entropy(a, a, b.detach())
F.binary_cross_entropy_with_logits(a, a, b.detach())
F.binary_cross_entropy_with_logits(a, a, pos_weight=b.detach())
F.poisson_nll_loss(a, b)
F.gaussian_nll_loss(a, b, b)
F.gaussian_nll_loss(a, a, b)
F.margin_ranking_loss(a, b, a)
F.triplet_margin_loss(a, b, a)
F.cosine_similarity(a, b)
F.pairwise_distance(a, b)
F.cross_entropy(a, lib.tensor([0, 1]), b[0].detach())
F.nll_loss(a, lib.tensor([0, 1]), b[0].detach())
""".strip().splitlines()


def outcome(lib: Any, program: str, first: str, second: str) -> Any:
    def make(dtype: str) -> Any:
        tensor = lib.tensor(VALUES if "float" in dtype else VALUES > 0.25, dtype=getattr(lib, dtype))
        return tensor.requires_grad_("float" in dtype)

    a, b = make(first), make(second)
    b = (b * 0.5 + 0.125).detach().requires_grad_() if "float" in second else b
    try:
        result = eval(program, {"lib": lib, "F": lib.nn.functional, "a": a, "b": b})  # one of the texts above
    except (RuntimeError, ValueError, TypeError):
        return "refuses"
    if result.requires_grad:
        try:
            result.sum().backward()
        except RuntimeError:  # PyTorch's huber_loss computes forward only
            assert lib is not nanotorch
            return [str(result.dtype), result.tolist()], "refuses the backward"
    return [str(result.dtype), result.tolist()], *[
        None if t.grad is None else [str(t.grad.dtype), t.grad.tolist()] for t in (a, b)
    ]


def equal(ours: Any, theirs: Any, rough: bool) -> bool:
    if isinstance(ours, str) or isinstance(theirs, str):
        return ours == theirs
    if theirs[1] == "refuses the backward":
        ours, theirs = ours[:1], theirs[:1]
    pairs = list(zip(ours, theirs, strict=True))
    tolerance = {"rtol": 6e-3, "atol": 2e-3} if rough else {"rtol": 2e-6, "atol": 1e-7}
    return all(
        o is e is None or (o is not None and e is not None and o[0] == e[0] and np.allclose(o[1], e[1], **tolerance))
        for o, e in pairs
    )


def test_losses_between_two_dtypes() -> None:
    different = []
    for program in PROGRAMS:
        pairs = [(a, b) for a in FLOATS for b in FLOATS] + [("int64", "int64")] * ("l1_loss" in program)
        for first, second in [
            *pairs,
            *[(f, "int64") for f in FLOATS if "huber" in program or "mse" in program or "a, a, b." in program],
        ]:
            ours, theirs = outcome(nanotorch, program, first, second), outcome(pytorch, program, first, second)
            if not equal(ours, theirs, "float16" in (first, second)):
                different.append(f"{program}, {first}, {second}: {ours} instead of {theirs}")
    assert not different, "\n".join(different)


def test_integers_have_no_loss() -> None:
    x = nanotorch.tensor([[1, 0], [0, 1]])
    for name in (
        "mse_loss",
        "smooth_l1_loss",
        "huber_loss",
        "kl_div",
        "soft_margin_loss",
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
    ):
        with pytest.raises(NotImplementedError, match=f"{name}: not implemented for int64"):
            getattr(nanotorch.nn.functional, name)(x, x)


def test_truth_values_are_refused_in_our_words() -> None:
    x = nanotorch.tensor([True, False])
    for call in (
        lambda: x - x,
        lambda: -x,
        lambda: 1.5 & nanotorch.ones(2),
        lambda: nanotorch.ones(2) ^ nanotorch.ones(2),
    ):
        with pytest.raises(RuntimeError) as error:
            call()
        assert "numpy" not in str(error.value) and "ufunc" not in str(error.value)


def test_gradients_of_einsum_have_their_operands_dtypes() -> None:
    half = nanotorch.tensor([1.0, 2.0], dtype=nanotorch.float16, requires_grad=True)
    double = nanotorch.tensor([3.0], dtype=nanotorch.float64, requires_grad=True)
    result = nanotorch.einsum("i,j->ij", half, double)
    gradients = nanotorch.autograd.grad(result.sum(), [half, double])
    assert [result.dtype, *[g.dtype for g in gradients]] == [nanotorch.float64, nanotorch.float16, nanotorch.float64]
