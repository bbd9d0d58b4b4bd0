"""Every function that takes the order of a norm, with every order, beside PyTorch:
values, gradients, and what is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

INF, NAN = float("inf"), float("nan")
ORDERS = [0, 1, 2, 3, 1.5, 0.5, -1, -2, INF, -INF, NAN, None, "fro", "nuc", "inf", True, [2]]

PROGRAMS = """
torch.norm(x, p)
torch.norm(x, p, 1)
torch.norm(x, p, (0, 1), True)
x.norm(p, dim=-2)
torch.norm(x[0], p)
torch.linalg.norm(x, p)
torch.linalg.norm(x, p, dim=1)
torch.linalg.norm(x, p, dim=(0, 1), keepdim=True)
torch.linalg.norm(x[0], p)
torch.linalg.vector_norm(x, p)
torch.linalg.vector_norm(x, p, dim=1)
torch.linalg.matrix_norm(x, p)
torch.linalg.matrix_norm(x, p, (1, 0), keepdim=True)
torch.dist(x, y, p)
torch.dist(x, x, p)
torch.cdist(x, y, p)
torch.cdist(x, x, p)
torch.pdist(x, p)
F.pdist(y, p)
F.pairwise_distance(x, y, p)
F.pairwise_distance(x, x, p, eps=0.0)
nn.PairwiseDistance(p)(x, y)
F.normalize(x, p)
F.normalize(x, p, (0, 1))
torch.renorm(x, p, 0, 1.0)
x.detach().clone().renorm_(p, -1, 0.5)
F.lp_pool1d(x.unsqueeze(0), p, 2)
F.lp_pool2d(x.unsqueeze(0), p, (1, 2), stride=1)
nn.LPPool1d(p, 2)(x.unsqueeze(0))
nn.LPPool2d(p, 2)(x.unsqueeze(0))
F.triplet_margin_loss(x, y, x.flip(0), p=p)
nn.TripletMarginLoss(p=p, swap=True)(x, y, x.flip(0))
F.multi_margin_loss(x, torch.tensor([0, 1]), p=p)
F.embedding(torch.tensor([0, 1]), x.detach().clone(), max_norm=0.5, norm_type=p)
clip(x, p)
total(x, p)
""".strip().splitlines()

POINTS = {
    "numbers": ([[1.0, -2.0, 3.0], [0.5, 0.25, -4.0]], [[2.0, 1.0, 0.0], [1.0, -1.0, 3.0]]),
    "nothing but zeros": ([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
    "ties and zeros": ([[0.0, -2.0, 2.0], [1.0, 0.0, 1.0]], [[0.0, -2.0, 1.0], [1.0, 0.0, 2.0]]),
    "infinity": ([[INF, 1.0, -2.0], [0.0, 1.0, 2.0]], [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]),
    "NaN": ([[NAN, 1.0, -2.0], [0.0, 1.0, 2.0]], [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]),
    "no columns": ([[], []], [[], []]),
}


def compared(program: str, p: Any, point: str) -> str:
    """Say what is compared: "all", "values" where docs/differences.md states another gradient,
    "" where it states another value.
    """
    pairs, finite = "cdist" in program or "pdist" in program, point not in ("infinity", "NaN")
    if p != p and ("total" in program or "clip" in program or point == "no columns"):
        return ""  # a NaN for an order says nothing
    if not finite and (pairs or p == "nuc" or (p in (2, -2) and ".norm(x" in program.replace("matrix_norm", "norm"))):
        return ""
    if (pairs and p == INF) or ("torch.dist" in program and p == 0) or ("renorm" in program and point == "NaN"):
        return "values"
    return "all"


def clip(library: Any, x: Any, p: Any) -> tuple[Any, ...]:
    first, second = (
        library.zeros(tuple(x.shape), dtype=library.float64, requires_grad=True),
        library.zeros(2, dtype=library.float64, requires_grad=True),
    )
    first.grad, second.grad = x.detach().clone(), library.tensor([1.0, -3.0], dtype=library.float64)
    return library.nn.utils.clip_grad_norm_([first, second], 1.0, p), first.grad, second.grad


def run(library: Any, program: str, p: Any, point: str) -> Any:
    """Return the values and gradients of a program, or its error."""
    x, y = (library.tensor(np.array(values), dtype=library.float64, requires_grad=True) for values in POINTS[point])
    names = {
        "torch": library,
        "nn": library.nn,
        "F": library.nn.functional,
        "x": x,
        "y": y,
        "p": p,
        "clip": lambda x, p: clip(library, x, p),
        "total": lambda x, p: library.nn.utils.get_total_norm([x.detach()], p),
    }
    try:
        out = eval(program, names)
    except Exception as error:
        return error
    results = list(out) if isinstance(out, tuple) else [out]
    values, gradients = [r.detach().numpy() for r in results], []
    if results[0].requires_grad:
        weights = library.tensor(np.random.default_rng(0).uniform(0.5, 1.5, tuple(results[0].shape)))
        try:
            found = library.autograd.grad(results[0], [x, y], weights, allow_unused=True)
        except RuntimeError as error:
            return values, error
        gradients = [np.zeros(tuple(x.shape)) if g is None else g.numpy() for g in found]
    return values, gradients


def differing(mine: Any, other: Any, what: str) -> str:
    if isinstance(mine, Exception) or isinstance(other, Exception):
        both = isinstance(mine, Exception) and isinstance(other, Exception)
        return (
            ""
            if both and type(other).__name__.lstrip("_") in [k.__name__ for k in type(mine).__mro__]
            else "the outcome"
        )
    for label, actual, expected in zip(("values", "gradients"), mine, other, strict=True):
        if label == "gradients" and (what != "all" or len(actual) != len(expected)):
            continue
        for a, e in zip(actual, expected, strict=True):
            if a.shape != e.shape or not np.allclose(a, e, 1e-9, 1e-12, equal_nan=True):
                return label
    return ""


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("point", POINTS)
def test_orders_as_in_pytorch(point: str) -> None:
    found = []
    for program in PROGRAMS:
        for p in ORDERS:
            if what := compared(program, p, point):
                mine, other = run(nanotorch, program, p, point), run(pytorch, program, p, point)
                if part := differing(mine, other, what):
                    found.append(f"{program} with p={p!r}: {part}: {mine!r}, PyTorch {other!r}")
    assert not found, "\n".join(found[:20])


def test_what_is_no_order_is_refused_in_one_sentence() -> None:
    x = nanotorch.ones(2, 3)
    functional = nanotorch.nn.functional
    for name, call in {
        "linalg.vector_norm": lambda p: nanotorch.linalg.vector_norm(x, p),
        "linalg.matrix_norm": lambda p: nanotorch.linalg.matrix_norm(x, p),
        "dist": lambda p: nanotorch.dist(x, x, p),
        "cdist": lambda p: nanotorch.cdist(x, x, p),
        "pdist": lambda p: functional.pdist(x, p),
        "pairwise_distance": lambda p: functional.pairwise_distance(x, x, p),
        "embedding": lambda p: functional.embedding(nanotorch.tensor([0]), x, max_norm=1.0, norm_type=p),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name}\(\): argument '\w+' must be Number, not NoneType$"):
            call(None)
    with pytest.raises(RuntimeError, match=r"^cdist: only supports non-negative p values, got -1$"):
        nanotorch.cdist(x, x, -1)
