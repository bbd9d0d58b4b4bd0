"""Layers of networks for tables: each against its formula in NumPy, gradcheck, and how it begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.autograd import gradcheck
from nanotorch.func import functional_call

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((7, 3))
MEMBERS = RANDOM.standard_normal((7, 4, 3))
Values = dict[str, np.ndarray[Any, Any]]


def _silu(x: Any) -> Any:
    return x / (1 + np.exp(-x))


def _periodic(x: Any, p: Values) -> Any:
    columns = [x]
    for feature in range(x.shape[1]):
        waves = np.cos(2 * np.pi * np.outer(x[:, feature], p["frequency"][feature]) + p["phase"][feature])
        columns.append(waves @ p["mixture.weight"][feature] + p["mixture.bias"][feature])
    return np.concatenate(columns, 1)


def _piecewise(x: Any, p: Values) -> Any:
    """Shares of the bins between -1, -0.5, 0, 0.5 and 1, mixed."""
    edges, columns = np.linspace(-1, 1, 5), []
    for feature in range(x.shape[1]):
        way = (x[:, [feature]] - edges[:-1]) / np.diff(edges)
        inner = np.clip(way[:, 1:3], 0, 1).T
        shares = np.stack([np.minimum(way[:, 0], 1), *inner, np.maximum(way[:, 3], 0)], 1)
        columns.append(shares @ p["mixture.weight"][feature] + p["mixture.bias"][feature])
    return np.concatenate(columns, 1)


LAYERS: dict[str, tuple[Any, np.ndarray[Any, Any], Any]] = {
    "Scale": (lambda: nn.Scale(3), ROWS, lambda x, p: x * p["scale"]),
    "Scale of members": (lambda: nn.Scale(4, 3), MEMBERS, lambda x, p: x * p["scale"]),
    "NTKLinear": (lambda: nn.NTKLinear(3, 5), ROWS, lambda x, p: x @ p["weight"].T / np.sqrt(3) + p["bias"]),
    "NTKLinear no bias": (lambda: nn.NTKLinear(3, 5, False), ROWS, lambda x, p: x @ p["weight"].T / np.sqrt(3)),
    "ParametricActivation": (
        lambda: nn.ParametricActivation(nn.SiLU(), 3),
        ROWS,
        lambda x, p: (1 - p["slope"]) * x + p["slope"] * _silu(x),
    ),
    "BatchedLinear": (
        lambda: nn.BatchedLinear(4, 3, 2),
        MEMBERS,
        lambda x, p: np.stack([x[:, i] @ p["weight"][i] + p["bias"][i] for i in range(4)], 1),
    ),
    "BatchedLinear no bias": (
        lambda: nn.BatchedLinear(4, 3, 2, bias=False),
        MEMBERS,
        lambda x, p: np.stack([x[:, i] @ p["weight"][i] for i in range(4)], 1),
    ),
    "PeriodicEmbedding": (lambda: nn.PeriodicEmbedding(3, 5, 3), ROWS, _periodic),
    "PiecewiseLinearEmbedding": (lambda: nn.PiecewiseLinearEmbedding(3, 4, 2), ROWS, _piecewise),
    "Members": (lambda: nn.Members(4), ROWS, lambda x, p: np.stack([x] * 4, 1)),
    "BatchEnsembleLinear": (
        lambda: nn.BatchEnsembleLinear(4, 3, 5, signs=True),
        MEMBERS,
        lambda x, p: np.stack([(x[:, i] * p["r"][i]) @ p["weight"].T * p["s"][i] + p["bias"][i] for i in range(4)], 1),
    ),
    "BatchEnsembleLinear no bias": (
        lambda: nn.BatchEnsembleLinear(4, 3, 5, bias=False),
        MEMBERS,
        lambda x, p: np.einsum("nki,ki,oi,ko->nko", x, p["r"], p["weight"], p["s"]),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_their_formulas_and_gradients(name: str) -> None:
    make, rows, formula = LAYERS[name]
    torch.manual_seed(3)
    module = make().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.tensor(RANDOM.standard_normal(parameter.shape))
    values = {key: value.numpy() for key, value in module.state_dict().items()}
    np.testing.assert_allclose(
        module(torch.tensor(rows)).detach().numpy(), formula(rows, values), rtol=1e-12, atol=1e-12
    )
    names = [name for name, _ in module.named_parameters()]
    inputs = [torch.tensor(rows, requires_grad=True), *module.parameters()]
    assert gradcheck(lambda x, *given: functional_call(module, dict(zip(names, given, strict=True)), (x,)), inputs)
    assert repr(module).startswith(type(module).__name__)


def test_signs_are_of_both_kinds_and_members_begin_with_one_bias() -> None:
    torch.manual_seed(0)
    layer = nn.BatchEnsembleLinear(8, 5, 6, signs=True)
    assert set(layer.r.detach().numpy().ravel()) == {-1.0, 1.0}
    assert (layer.s.detach().numpy() == 1).all() and (
        layer.bias.detach().numpy() == layer.bias[0].detach().numpy()
    ).all()
    assert set(nn.Scale(4, 5, signs=True).scale.detach().numpy().ravel()) == {-1.0, 1.0}


def test_ntk_weights_begin_as_the_rows_want_them() -> None:
    """Outputs have deviation 1, and each is zero somewhere within its own values over the rows."""
    torch.manual_seed(1)
    rows = torch.tensor(np.random.default_rng(1).standard_normal((400, 3)) * [1.0, 30.0, 0.0] + 5).float()
    model = nn.Sequential(nn.NTKLinear(3, 50), nn.SELU(), nn.Dropout(0.9), nn.NTKLinear(50, 4))
    nn.begin_from(model, rows)
    assert model.training
    first = model[0](rows).detach().numpy()
    np.testing.assert_allclose(first.std(0), 1, rtol=1e-4)
    assert (first.min(0) <= 1e-5).all() and (first.max(0) >= -1e-5).all() and first.mean(0).std() > 0.1
    np.testing.assert_allclose(model.eval()(rows).detach().numpy().std(0), 1, rtol=1e-4)


def test_rows_that_do_not_differ_leave_weights_finite() -> None:
    layer = nn.NTKLinear(3, 5)
    nn.begin_from(layer, torch.zeros(6, 3))
    assert torch.isfinite(layer.weight).all() and (layer.bias == 0).all()


def test_quantiles_become_edges_and_equal_ones_one() -> None:
    rows = np.array([[0.0, 5, 1], [0, 5, 2], [0, 5, 3], [8, 5, 4], [9, 5, 5]])
    embedding = nn.PiecewiseLinearEmbedding(3, 4, 2).double()
    nn.begin_from(embedding, torch.tensor(rows))
    shares = embedding.shares(torch.tensor([[4.0, 7, 2.5], [10, 5, 6]])).numpy()
    np.testing.assert_allclose(shares[:, 0], [[0.5, 0, 0, 0], [1, 0, 0, 2]])  # edges 0, 8, 9
    np.testing.assert_allclose(shares[:, 1], 0)  # a constant column has no bin
    np.testing.assert_allclose(shares[:, 2], [[1, 0.5, 0, 0], [1, 1, 1, 2]])  # edges 1 to 5
    again = nn.PiecewiseLinearEmbedding(3, 4, 2).double()
    again.load_state_dict(embedding.state_dict())
    assert torch.equal(again.shares(torch.tensor(rows)), embedding.shares(torch.tensor(rows)))


@pytest.mark.parametrize("of", ["values", "binary", "multiclass"])
def test_members_are_joined_by_the_mean_of_what_they_say(of: Any) -> None:
    outputs = 5 * RANDOM.standard_normal((6, 4, 1 if of == "binary" else 3))
    mean = nn.MeanOfMembers(of)
    assert mean(torch.tensor(outputs)).shape == outputs.shape
    found = mean.eval()(torch.tensor(outputs)).numpy()
    if of == "values":
        np.testing.assert_allclose(found, outputs.mean(1))
    elif of == "binary":
        np.testing.assert_allclose(1 / (1 + np.exp(-found)), (1 / (1 + np.exp(-outputs))).mean(1))
    else:
        odds = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
        np.testing.assert_allclose(np.exp(found), odds.mean(1))


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_the_loss_of_members_is_the_mean_of_their_losses(reduction: str) -> None:
    outputs = torch.tensor(RANDOM.standard_normal((6, 4, 3)))
    classes, values = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor(RANDOM.standard_normal((6, 3)))
    cross, squares = nn.CrossEntropyLoss(reduction=reduction), nn.MSELoss(reduction=reduction)
    for loss, target in ((cross, classes), (squares, values)):
        wanted = np.stack([loss(outputs[:, member], target).numpy() for member in range(4)]).mean(0)
        found = nn.LossOfMembers(loss)(outputs, target).numpy()
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted)
        assert torch.equal(nn.LossOfMembers(loss)(outputs[:, 0], target), loss(outputs[:, 0], target))
