"""Initialisation: bounds, moments, seeds, and the defaults of layers, against PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import nanotorch as torch
from nanotorch import nn
from oracle import pytorch, to_numpy

# Functions of a tensor of shape (400, 300), with the distribution that its elements should have.
FAN_IN, FAN_OUT = 300, 400
DRAWS: dict[str, tuple[Any, Any]] = {
    "uniform_": (lambda t, g: nn.init.uniform_(t, -2, 3, generator=g), stats.uniform(-2, 5)),
    "normal_": (lambda t, g: nn.init.normal_(t, 1, 0.5, generator=g), stats.norm(1, 0.5)),
    "trunc_normal_": (lambda t, g: nn.init.trunc_normal_(t, 1, 2, -1, 4, generator=g), stats.truncnorm(-1, 1.5, 1, 2)),
    "xavier_uniform_": (
        lambda t, g: nn.init.xavier_uniform_(t, gain=2, generator=g),
        stats.uniform(-2 * math.sqrt(6 / 700), 4 * math.sqrt(6 / 700)),
    ),
    "xavier_normal_": (
        lambda t, g: nn.init.xavier_normal_(t, gain=2, generator=g),
        stats.norm(0, 2 * math.sqrt(2 / 700)),
    ),
    "kaiming_uniform_": (
        lambda t, g: nn.init.kaiming_uniform_(t, a=math.sqrt(5), generator=g),
        stats.uniform(-1 / math.sqrt(FAN_IN), 2 / math.sqrt(FAN_IN)),
    ),
    "kaiming_normal_": (
        lambda t, g: nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu", generator=g),
        stats.norm(0, math.sqrt(2 / FAN_OUT)),
    ),
}


def generator(seed: int = 0) -> Any:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DRAWS)
def test_distributions(name: str) -> None:
    draw, distribution = DRAWS[name]
    tensor = torch.empty(FAN_OUT, FAN_IN, dtype=torch.float64)
    assert draw(tensor, generator()) is tensor
    values = to_numpy(tensor).ravel()
    assert stats.kstest(values, distribution.cdf).pvalue > 1e-3
    low, high = distribution.support()
    assert low <= values.min() and values.max() <= high


@pytest.mark.parametrize("name", DRAWS)
def test_draws_follow_the_generator(name: str) -> None:
    draw, _ = DRAWS[name]
    first, second, third, single = (torch.empty(4, 3, dtype=torch.float64) for _ in range(4))
    single = torch.empty(4, 3)
    draw(first, generator(1))
    draw(second, generator(1))
    draw(third, generator(2))
    draw(single, generator(1))
    assert first.tolist() == second.tolist() != third.tolist()
    np.testing.assert_allclose(to_numpy(single), to_numpy(first), rtol=1e-6)
    torch.manual_seed(5)
    draw(first, None)
    torch.manual_seed(5)
    draw(second, None)
    assert first.tolist() == second.tolist()


def test_parameters_are_filled_without_a_graph() -> None:
    weight = nn.Parameter(torch.empty(3, 2))
    version = weight._version
    nn.init.xavier_normal_(weight)
    assert weight.requires_grad and weight.is_leaf and weight._version == version + 1


def test_constants() -> None:
    tensor = torch.empty(2, 3)
    assert nn.init.constant_(tensor, 0.5).tolist() == [[0.5] * 3] * 2
    assert nn.init.ones_(tensor).tolist() == [[1] * 3] * 2
    assert nn.init.zeros_(tensor).tolist() == [[0] * 3] * 2
    assert nn.init.eye_(tensor).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert nn.init.ones_(torch.empty(3, 2, 2)[:, 1]).tolist() == [[1, 1]] * 3


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3), (4, 3, 2)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    matrix = to_numpy(nn.init.orthogonal_(torch.empty(*shape, dtype=torch.float64), gain=2.0)).reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_is_uniform() -> None:
    """Rotations are all equally likely: the first element is as often positive as negative."""
    numbers = generator()
    signs = [nn.init.orthogonal_(torch.empty(3, 3), generator=numbers)[0, 0].item() > 0 for _ in range(400)]
    assert 140 < sum(signs) < 260


@pytest.mark.parity
def test_gains_and_fans_are_pytorchs() -> None:
    theirs = pytorch.nn.init
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu", "conv2d"):
        assert nn.init.calculate_gain(name) == pytest.approx(theirs.calculate_gain(name), rel=1e-15)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == pytest.approx(theirs.calculate_gain("leaky_relu", 0.3))
    for shape in ((2, 3), (4, 5, 6), (2, 3, 4, 5)):
        ours = nn.init._calculate_fan_in_and_fan_out(torch.empty(*shape))
        assert ours == theirs._calculate_fan_in_and_fan_out(pytorch.empty(*shape))


def test_errors() -> None:
    with pytest.raises(ValueError, match="known: linear"):
        nn.init.calculate_gain("swoosh")
    with pytest.raises(ValueError, match="2 dimensions"):
        nn.init.xavier_uniform_(torch.empty(3))
    with pytest.raises(ValueError, match="matrices"):
        nn.init.eye_(torch.empty(3))
    with pytest.raises(ValueError, match="mode"):
        nn.init.kaiming_normal_(torch.empty(3, 3), mode="fan_off")
    with pytest.raises(ValueError, match="2 dimensions"):
        nn.init.orthogonal_(torch.empty(3))


@pytest.mark.parity
@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Linear(50, 4000),
        lambda nn: nn.Linear(400, 30),
        lambda nn: nn.Embedding(500, 40, padding_idx=3),
        lambda nn: nn.BatchNorm1d(7),
        lambda nn: nn.LayerNorm((3, 4)),
    ],
)
def test_layers_start_as_pytorchs_do(make: Any) -> None:
    """Same names, shapes, dtypes and distributions of parameters and buffers."""
    ours, theirs = make(nn).state_dict(), make(pytorch.nn).state_dict()
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        mine, other = to_numpy(ours[key]), to_numpy(value)
        assert mine.shape == other.shape and mine.dtype == other.dtype
        if other.std():
            assert stats.ks_2samp(mine.ravel(), other.ravel()).pvalue > 1e-3
        else:
            np.testing.assert_array_equal(mine, other)


def test_bounds_of_linear() -> None:
    layer = nn.Linear(16, 5000)
    for parameter in layer.parameters():
        assert 0.249 < np.abs(to_numpy(parameter)).max() <= 0.25
    assert nn.Linear(3, 2, bias=False).bias is None
    assert nn.Embedding(4, 3, padding_idx=-1).weight[3].tolist() == [0, 0, 0]
