"""Layers, losses and reprs against PyTorch's, on the same inputs and weights."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.registry import ACTIVATIONS
from oracle import NUMBERS, close, compare_modules, in_both, pytorch, real, to_numpy

pytestmark = pytest.mark.parity

# The one draws random numbers, the other has a gradient of single precision in PyTorch; they have tests of their own.
APART = ("RReLU", "Hardsigmoid")
LAYERS: dict[str, tuple[Any, tuple[np.ndarray[Any, Any], ...]]] = {
    "Linear": (lambda nn: nn.Linear(4, 3), (real(5, 4),)),
    "Linear no bias": (lambda nn: nn.Linear(4, 3, bias=False), (real(2, 5, 4),)),
    "Linear 1-D": (lambda nn: nn.Linear(4, 3), (real(4),)),
    "Identity": (lambda nn: nn.Identity(3, x=2), (real(2, 3),)),
    "Flatten": (lambda nn: nn.Flatten(), (real(2, 3, 4),)),
    "Flatten part": (lambda nn: nn.Flatten(0, 1), (real(2, 3, 4),)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(4), (real(6, 4),)),
    "BatchNorm1d 3-D": (lambda nn: nn.BatchNorm1d(4, eps=1e-2, momentum=0.3), (real(6, 4, 3),)),
    "BatchNorm1d average": (lambda nn: nn.BatchNorm1d(4, momentum=None), (real(6, 4),)),
    "BatchNorm1d plain": (lambda nn: nn.BatchNorm1d(4, affine=False), (real(6, 4),)),
    "BatchNorm1d untracked": (lambda nn: nn.BatchNorm1d(4, track_running_stats=False), (real(6, 4),)),
    "LayerNorm": (lambda nn: nn.LayerNorm(4), (real(6, 4),)),
    "LayerNorm 2-D": (lambda nn: nn.LayerNorm((3, 4), eps=1e-2), (real(6, 3, 4),)),
    "LayerNorm plain": (lambda nn: nn.LayerNorm(4, elementwise_affine=False), (real(2, 6, 4),)),
    "LayerNorm no bias": (lambda nn: nn.LayerNorm(4, bias=False), (real(6, 4),)),
    "Embedding": (lambda nn: nn.Embedding(7, 3), (np.array([[0, 6, 2], [2, 2, 1]]),)),
    "Embedding padding": (lambda nn: nn.Embedding(7, 3, padding_idx=-5), (np.array([2, 2, 1]),)),
    "Embedding max norm": (lambda nn: nn.Embedding(7, 3, 1, 0.5, 1.0, True), (np.array([2, 2, 1]),)),
    "MLP": (
        lambda nn: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3)),
        (real(5, 4),),
    ),
    **{
        name: (lambda nn, name=name: getattr(nn, name)(), (3 * real(5, 4),))
        for name in ACTIVATIONS
        if name not in APART
    },
    "RReLU without chance": (lambda nn: nn.RReLU(0.3, 0.3), (real(5, 4),)),
    "PReLU channels": (lambda nn: nn.PReLU(3, init=0.1), (real(2, 3, 4),)),
    "CELU alpha": (lambda nn: nn.CELU(0.5), (real(5, 4),)),
    "Hardshrink limit": (lambda nn: nn.Hardshrink(1.0), (real(5, 4),)),
    "Softshrink limit": (lambda nn: nn.Softshrink(0.25), (real(5, 4),)),
    "Threshold": (lambda nn: nn.Threshold(0.1, 2.0), (real(5, 4),)),
    "GLU": (lambda nn: nn.GLU(), (real(5, 4),)),
    "GLU first": (lambda nn: nn.GLU(0), (real(4, 3),)),
    "Softmin": (lambda nn: nn.Softmin(dim=1), (real(5, 4),)),
    "LeakyReLU slope": (lambda nn: nn.LeakyReLU(0.3), (real(5, 4),)),
    "ELU alpha": (lambda nn: nn.ELU(0.5), (real(5, 4),)),
    "GELU tanh": (lambda nn: nn.GELU(approximate="tanh"), (3 * real(5, 4),)),
    "Softplus beta": (lambda nn: nn.Softplus(2.0, 3.0), (5 * real(5, 4),)),
    "Hardtanh limits": (lambda nn: nn.Hardtanh(-0.2, 0.7), (real(5, 4),)),
    "Softmax": (lambda nn: nn.Softmax(dim=1), (real(5, 4),)),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(dim=0), (real(5, 4),)),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, training: bool) -> None:
    make, inputs = LAYERS[name]
    compare_modules(make, *inputs, calls=3, training=training)


@pytest.mark.parametrize("name", LAYERS)
def test_reprs(name: str) -> None:
    make, _ = LAYERS[name]
    assert repr(make(torch.nn)) == repr(make(pytorch.nn))


REPRS = [
    lambda nn: nn.Sequential(),
    lambda nn: nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.1)))),
    lambda nn: nn.ModuleList(
        [nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())]
    ),
    lambda nn: nn.ModuleList(),
    lambda nn: nn.ModuleDict({"x": nn.Tanh(), "y": nn.ModuleList([nn.ReLU()])}),
    lambda nn: nn.ModuleDict(),
    lambda nn: nn.ParameterList(),
    lambda nn: nn.Sequential(
        nn.ParameterList([nn.Parameter(nn.Linear(3, 2).weight.detach()), nn.Linear(3, 2).bias.detach()])
    ),
    lambda nn: nn.ParameterDict(),
    lambda nn: nn.CrossEntropyLoss(),
    lambda nn: nn.Hardtanh(inplace=True),
    lambda nn: nn.LeakyReLU(inplace=True),
    lambda nn: nn.ReLU6(inplace=True),
    lambda nn: nn.CELU(2.0, inplace=True),
    lambda nn: nn.RReLU(0.1, 0.3, inplace=True),
    lambda nn: nn.Threshold(1, 2, inplace=True),
    lambda nn: nn.Hardswish(inplace=True),
    lambda nn: nn.Softmin(dim=1),
]


@pytest.mark.parametrize("make", REPRS)
def test_reprs_of_containers(make: Any) -> None:
    assert repr(make(torch.nn)) == repr(make(pytorch.nn))


CLASSES = np.array([2, 0, 1, 2, 1])
PROBABILITIES = NUMBERS.dirichlet(np.ones(3), 5)
UNIT = NUMBERS.uniform(0.01, 0.99, (5, 3))
LOG_PROBABILITIES = np.log(NUMBERS.dirichlet(np.ones(3), 5))


def class_weights(nn: Any) -> Any:
    library = torch if nn is torch.nn else pytorch
    return library.tensor(np.array([0.5, 2.0, 1.5]))


SIGNS = np.where(NUMBERS.random((5, 3)) < 0.5, -1.0, 1.0)

LOSSES: dict[str, tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {
    "CrossEntropyLoss": (lambda nn, **k: nn.CrossEntropyLoss(**k), real(5, 3), CLASSES),
    "CrossEntropyLoss weight": (lambda nn, **k: nn.CrossEntropyLoss(class_weights(nn), **k), real(5, 3), CLASSES),
    "CrossEntropyLoss ignore": (lambda nn, **k: nn.CrossEntropyLoss(ignore_index=2, **k), real(5, 3), CLASSES),
    "CrossEntropyLoss smooth": (
        lambda nn, **k: nn.CrossEntropyLoss(class_weights(nn), ignore_index=1, label_smoothing=0.2, **k),
        real(5, 3),
        CLASSES,
    ),
    "CrossEntropyLoss 3-D": (
        lambda nn, **k: nn.CrossEntropyLoss(class_weights(nn), **k),
        real(2, 3, 4),
        CLASSES[None, :4].repeat(2, 0),
    ),
    "CrossEntropyLoss 1-D": (lambda nn, **k: nn.CrossEntropyLoss(**k), real(3), np.array(1)),
    "CrossEntropyLoss probabilities": (lambda nn, **k: nn.CrossEntropyLoss(**k), real(5, 3), PROBABILITIES),
    "CrossEntropyLoss probabilities weight": (
        lambda nn, **k: nn.CrossEntropyLoss(class_weights(nn), label_smoothing=0.1, **k),
        real(5, 3),
        PROBABILITIES,
    ),
    "NLLLoss": (lambda nn, **k: nn.NLLLoss(**k), LOG_PROBABILITIES, CLASSES),
    "NLLLoss weight": (lambda nn, **k: nn.NLLLoss(class_weights(nn), ignore_index=0, **k), LOG_PROBABILITIES, CLASSES),
    "BCELoss": (lambda nn, **k: nn.BCELoss(**k), UNIT, PROBABILITIES),
    "BCELoss weight": (lambda nn, **k: nn.BCELoss(class_weights(nn), **k), UNIT, PROBABILITIES),
    "BCEWithLogitsLoss": (lambda nn, **k: nn.BCEWithLogitsLoss(**k), 4 * real(5, 3), UNIT),
    "BCEWithLogitsLoss weights": (
        lambda nn, **k: nn.BCEWithLogitsLoss(class_weights(nn), pos_weight=class_weights(nn) * 2, **k),
        4 * real(5, 3),
        UNIT,
    ),
    "MSELoss": (lambda nn, **k: nn.MSELoss(**k), real(5, 3), real(5, 3)),
    "L1Loss": (lambda nn, **k: nn.L1Loss(**k), real(5, 3), real(5, 3)),
    "SmoothL1Loss": (lambda nn, **k: nn.SmoothL1Loss(**k), real(5, 3), real(5, 3)),
    "SmoothL1Loss beta": (lambda nn, **k: nn.SmoothL1Loss(beta=0.3, **k), real(5, 3), real(5, 3)),
    "SmoothL1Loss beta 0": (lambda nn, **k: nn.SmoothL1Loss(beta=0.0, **k), real(5, 3), real(5, 3)),
    "HuberLoss": (lambda nn, **k: nn.HuberLoss(**k), real(5, 3), real(5, 3)),
    "HuberLoss delta": (lambda nn, **k: nn.HuberLoss(delta=0.3, **k), real(5, 3), real(5, 3)),
    "KLDivLoss": (lambda nn, **k: nn.KLDivLoss(**k), LOG_PROBABILITIES, PROBABILITIES),
    "KLDivLoss log": (lambda nn, **k: nn.KLDivLoss(log_target=True, **k), LOG_PROBABILITIES, np.log(PROBABILITIES)),
    "PoissonNLLLoss": (lambda nn, **k: nn.PoissonNLLLoss(**k), real(5, 3), CLASSES[:, None] * np.ones(3)),
    "PoissonNLLLoss full": (lambda nn, **k: nn.PoissonNLLLoss(log_input=False, full=True, **k), UNIT, 1 + UNIT),
    "MultiMarginLoss": (lambda nn, **k: nn.MultiMarginLoss(**k), real(5, 3), CLASSES),
    "MultiMarginLoss p 2": (lambda nn, **k: nn.MultiMarginLoss(2, 0.5, class_weights(nn), **k), real(5, 3), CLASSES),
    "MultiLabelMarginLoss": (
        lambda nn, **k: nn.MultiLabelMarginLoss(**k),
        real(2, 4),
        np.array([[3, 0, -1, 1], [-1, 0, 1, 2]]),
    ),
    "MultiLabelSoftMarginLoss": (
        lambda nn, **k: nn.MultiLabelSoftMarginLoss(class_weights(nn), **k),
        real(5, 3),
        PROBABILITIES,
    ),
    "HingeEmbeddingLoss": (lambda nn, **k: nn.HingeEmbeddingLoss(0.5, **k), UNIT, SIGNS),
}


PAIRS: dict[str, Any] = {
    "GaussianNLLLoss": (lambda nn, **k: nn.GaussianNLLLoss(full=True, **k), real(5, 3), real(5, 3), UNIT),
    "CosineEmbeddingLoss": (lambda nn, **k: nn.CosineEmbeddingLoss(0.2, **k), real(5, 3), real(5, 3), SIGNS[:, 0]),
    "MarginRankingLoss": (lambda nn, **k: nn.MarginRankingLoss(0.2, **k), real(5), real(5), SIGNS[:, 0]),
    "TripletMarginLoss": (
        lambda nn, **k: nn.TripletMarginLoss(2.0, p=1.0, swap=True, **k),
        real(5, 3),
        real(5, 3),
        real(5, 3),
    ),
    "TripletMarginWithDistanceLoss": (
        lambda nn, **k: nn.TripletMarginWithDistanceLoss(margin=2.0, **k),
        real(5, 3),
        real(5, 3),
        real(5, 3),
    ),
}


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", PAIRS)
def test_losses_of_pairs_and_triplets(name: str, reduction: str) -> None:
    make, *arrays = PAIRS[name]
    results = []
    for library, module in in_both(lambda nn: make(nn, reduction=reduction)):
        first, second, third = (library.tensor(array) for array in arrays)
        first.requires_grad_()
        loss = module(first, second, third)
        loss.sum().backward()
        results.append((loss, first.grad))
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs)


REDUCTIONS = [(name, reduction) for name in LOSSES for reduction in ("none", "mean", "sum")]
REDUCTIONS += [(name, "batchmean") for name in LOSSES if "KLDiv" in name]


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize(("name", "reduction"), REDUCTIONS)
def test_losses(name: str, reduction: str) -> None:
    make, values, target = LOSSES[name]
    compare_modules(lambda nn: make(nn, reduction=reduction), values, target)


def test_backward_hooks_see_what_pytorchs_see() -> None:
    class Two:
        """A module with two inputs and two outputs, built on either library."""

        def __new__(cls, nn: Any) -> Any:
            class Module(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.layer = nn.Linear(3, 3)

                def forward(self, x: Any, y: Any) -> Any:
                    return self.layer(x) * y, x + y

            return Module()

    seen: list[list[Any]] = []
    for library, module in in_both(Two):
        record: list[Any] = []
        module.register_full_backward_pre_hook(lambda m, go, r=record: r.append(go))
        module.register_full_backward_hook(lambda m, gi, go, r=record: r.extend([gi, go]))
        x = library.tensor(np.ones((2, 3)), requires_grad=True)
        y = library.tensor(np.full((2, 3), 2.0), requires_grad=True)
        first, second = module(x, y)
        (first.sum() + 3 * second.sum()).backward()
        first, _ = module(x, y.detach())
        first.sum().backward()
        seen.append([[None if g is None else to_numpy(g).tolist() for g in grads] for grads in record])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    arrays = [real(3, 2), real(4), real()]
    results = []
    for library in (torch, pytorch):
        params = [library.zeros(x.shape, dtype=library.float64, requires_grad=True) for x in arrays]
        for param, x in zip(params, arrays, strict=True):
            param.grad = library.tensor(x)
        norm = library.nn.utils.clip_grad_norm_(params, max_norm, norm_type)
        results.append([norm, *(param.grad for param in params)])
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs)


def test_training_follows_pytorch() -> None:
    """A network with most layers, trained 20 steps with AdamW, clipping and a schedule."""
    x, target = real(32, 6), NUMBERS.integers(0, 3, 32)
    losses = []
    modules = in_both(
        lambda nn: nn.Sequential(
            nn.Linear(6, 16),
            nn.BatchNorm1d(16),
            nn.GELU(),
            nn.Linear(16, 16),
            nn.LayerNorm(16),
            nn.Tanh(),
            nn.Linear(16, 3),
        )
    )
    for library, module in modules:
        optimizer = library.optim.AdamW(module.parameters(), lr=0.05)
        schedule = library.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
        criterion = library.nn.CrossEntropyLoss(label_smoothing=0.1)
        history = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = criterion(module(library.tensor(x)), library.tensor(target))
            loss.backward()
            library.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            history.append(loss.item())
        losses.append(history)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)
    assert losses[0][-1] < 0.7 * losses[0][0]
    for (name, ours), (_, theirs) in zip(
        modules[0][1].state_dict().items(), modules[1][1].state_dict().items(), strict=True
    ):
        np.testing.assert_allclose(to_numpy(ours), to_numpy(theirs), rtol=1e-7, atol=1e-9, err_msg=name)


def test_soft_margin_loss() -> None:
    """PyTorch's is not differentiable with respect to its target."""
    x = real(5, 3)
    ours, theirs = (
        library.nn.SoftMarginLoss()(library.tensor(x), library.tensor(SIGNS)) for library in (torch, pytorch)
    )
    close(ours, theirs)
