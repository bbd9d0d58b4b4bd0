"""Losses and normalisation at the edge of their arguments:
what PyTorch refuses is refused, what it computes is equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")]

VALUES = np.arange(12.0).reshape(4, 3) ** 1.5
SCORES = [[0.2, 0.3, 0.5], [0.1, 0.7, 0.2]]


def tracked(lib: Any, layer: str, tracks: bool, training: bool) -> Any:
    """Output and buffers after a call in training, then another with tracking as it is told."""
    module = getattr(lib.nn, layer)(3, affine=True, track_running_stats=True).double()
    x = lib.tensor(VALUES) if layer == "BatchNorm1d" else lib.tensor(VALUES).reshape(2, 3, 2)
    module(x)
    module.track_running_stats = tracks
    out = module.train(training)(x)
    return [v.detach().tolist() for v in (out, module.running_mean, module.running_var, module.num_batches_tracked)]


def of_shape(lib: Any, layer: str, shape: tuple[int, ...], training: bool) -> Any:
    """Shape, gradients and buffers of a layer for an input of few or no values."""
    module = getattr(lib.nn, layer)(*((3, 3) if layer == "GroupNorm" else (3,))).double().train(training)
    x = lib.ones(*shape, dtype=lib.float64, requires_grad=True)
    out = module(x)
    out.sum().backward()
    buffers = [b.tolist() for b in module.buffers()]
    return tuple(out.shape), tuple(x.grad.shape), [p.grad.tolist() for p in module.parameters()], buffers


def loss(lib: Any, name: str, *extra: Any, target: Any = None, **options: Any) -> Any:
    """A loss of two rows of three scores; lists among the arguments become tensors, `ones` of a shape too."""

    def made(value: Any) -> Any:
        return lib.ones(*value, dtype=lib.float64) if isinstance(value, tuple) else value

    scores = lib.tensor(SCORES, dtype=lib.float64)
    right = scores * 0.5 if target is None else lib.tensor(target).to(lib.float64 if name[0] == "b" else lib.int64)
    function = getattr(lib.nn.functional, name)
    return function(scores, right, *map(made, extra), **{k: made(v) for k, v in options.items()}).tolist()


def of_two_dtypes(lib: Any, name: str, first: str, second: str) -> Any:
    a = lib.tensor(SCORES, dtype=getattr(lib, first), requires_grad=True)
    b = lib.tensor(SCORES[::-1], dtype=getattr(lib, second))
    result = getattr(lib.nn.functional, name)(a, b)
    result.backward()
    return str(result.dtype).split(".")[-1], str(a.grad.dtype).split(".")[-1], result.item(), a.grad.tolist()


def zeroed(lib: Any, by: str, recorded: bool) -> Any:
    layer = lib.nn.Linear(2, 2)
    layer(lib.ones(1, 2)).exp().sum().backward(create_graph=recorded)
    grad = layer.weight.grad
    owner = layer if by == "module" else lib.optim.SGD(layer.parameters(), lr=0.1)
    owner.zero_grad(set_to_none=False)
    return layer.weight.grad is grad, grad.tolist(), grad.requires_grad, grad.grad_fn is None


NORMS = [
    ("BatchNorm1d", (0, 3)),
    ("BatchNorm1d", (0, 3, 2)),
    ("BatchNorm2d", (0, 3, 2, 2)),
    ("BatchNorm1d", (2, 3, 0)),
    ("BatchNorm1d", (1, 3)),
    ("GroupNorm", (0, 3, 2)),
    ("GroupNorm", (2, 3)),
    ("GroupNorm", (1, 3)),
    ("GroupNorm", (1, 3, 1)),
    ("GroupNorm", (2, 3, 1)),
    ("InstanceNorm1d", (0, 3, 2)),
    ("InstanceNorm1d", (2, 3, 1)),
    ("InstanceNorm1d", (2, 3, 0)),
]
CASES: dict[str, Callable[[Any], Any]] = {}
for _layer in ("BatchNorm1d", "InstanceNorm1d"):
    for _on in (True, False):
        for _mode in (True, False):
            CASES[f"{_layer} tracks={_on} training={_mode}"] = lambda lib, a=(_layer, _on, _mode): tracked(lib, *a)
for _layer, _shape in NORMS:
    for _mode in (True, False):
        CASES[f"{_layer} {_shape} training={_mode}"] = lambda lib, a=(_layer, _shape, _mode): of_shape(lib, *a)
for _number in (0.0, -1.0, float("nan")):
    CASES[f"huber_loss delta={_number}"] = lambda lib, n=_number: loss(lib, "huber_loss", delta=n)
    CASES[f"smooth_l1_loss beta={_number}"] = lambda lib, n=_number: loss(lib, "smooth_l1_loss", beta=n)
for _number in (-0.5, 1.5, float("nan")):
    for _name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        CASES[f"{_name} target={_number}"] = lambda lib, a=_name, n=_number: loss(lib, a, target=[[n] * 3, [0.5] * 3])
for _shape in ((2,), (4,), (1,), (3, 1), (1, 3), (3,)):
    for _name in ("cross_entropy", "nll_loss", "multi_margin_loss"):
        CASES[f"{_name} weight {_shape}"] = lambda lib, a=_name, s=_shape: loss(lib, a, target=[0, 2], weight=s)
    CASES[f"cross_entropy of probabilities, weight {_shape}"] = lambda lib, s=_shape: loss(lib, "cross_entropy", s)
for _shape in ((2, 3), (1, 3), (2, 1), (3,), (4, 2, 3), (1, 2, 3), (2,), (2, 2, 3)):
    names = ["binary_cross_entropy", "binary_cross_entropy_with_logits"]
    names += ["multilabel_soft_margin_loss"] * (len(_shape) < 3)  # larger weights are a stated difference there
    for _name in names:
        CASES[f"{_name} weight {_shape}"] = lambda lib, a=_name, s=_shape: loss(lib, a, s)
        CASES[f"{_name} weight {_shape} none"] = lambda lib, a=_name, s=_shape: loss(lib, a, s, reduction="none")
    CASES[f"pos_weight {_shape}"] = lambda lib, s=_shape: loss(lib, "binary_cross_entropy_with_logits", pos_weight=s)
CASES["ignore_index with probabilities"] = lambda lib: loss(lib, "cross_entropy", ignore_index=1)
CASES["class out of range"] = lambda lib: loss(lib, "cross_entropy", target=[0, 3])
CASES["label_smoothing"] = lambda lib: loss(lib, "cross_entropy", target=[0, 1], label_smoothing=1.5)
for _name in ("mse_loss", "l1_loss", "smooth_l1_loss"):
    for _first, _second in (("float32", "float64"), ("float64", "float32"), ("float32", "int64")):
        CASES[f"{_name} {_first} {_second}"] = lambda lib, a=(_name, _first, _second): of_two_dtypes(lib, *a)


def ignored(lib: Any, name: str, **options: Any) -> Any:
    """A row that is ignored may hold NaN and infinities."""
    scores = lib.tensor([[math.nan, 1.0], [2.0, -1.0], [-math.inf, 0.0]], dtype=lib.float64, requires_grad=True)
    value = getattr(lib.nn.functional, name)(scores, lib.tensor([-100, 0, -100]), **options)
    value.sum().backward()
    return [value.tolist(), scores.grad[1].tolist()]


for _name in ("nll_loss", "cross_entropy"):
    for _reduction in ("none", "mean", "sum"):
        CASES[f"{_name} of NaN ignored, {_reduction}"] = lambda lib, a=(_name, _reduction): ignored(
            lib, a[0], reduction=a[1]
        )
CASES["smoothed cross_entropy of NaN ignored"] = lambda lib: ignored(lib, "cross_entropy", label_smoothing=0.1)
for _by in ("module", "optimizer"):
    for _recorded in (False, True):
        CASES[f"zero_grad {_by} recorded={_recorded}"] = lambda lib, a=(_by, _recorded): zeroed(lib, *a)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.parametrize("name", CASES)
def test_losses_and_norms_agree_with_pytorch(name: str) -> None:
    def outcome(lib: Any) -> Any:
        try:
            return CASES[name](lib)
        except (RuntimeError, ValueError, IndexError):
            return "refuses"

    ours, theirs = outcome(nanotorch), outcome(pytorch)
    if "refuses" in (ours, theirs):
        assert ours == theirs
        return
    flat, expected = flatten(ours), flatten(theirs)
    assert len(flat) == len(expected)
    for a, e in zip(flat, expected, strict=True):
        assert a == e or (isinstance(a, float) and a == pytest.approx(e, rel=1e-6, abs=1e-12, nan_ok=True))


def flatten(value: Any) -> list[Any]:
    return [v for part in value for v in flatten(part)] if isinstance(value, list | tuple) else [value]
