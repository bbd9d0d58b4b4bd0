"""GELU by the approximate normal distribution of float32, and its derivative from the saved result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

import nanotorch
import nanotorch.nn.functional as F
from nanotorch.backend.device import CPU

EVERYWHERE = np.concatenate(
    [
        np.linspace(-14, 14, 2_000_003),
        np.geomspace(1e-45, 3e38, 100_001),
        -np.geomspace(1e-45, 3e38, 100_001),
        [0.0, -0.0],
    ]
).astype(np.float32)


def test_the_approximate_distribution() -> None:
    result = CPU.xp.ndtr(EVERYWHERE)
    assert result.dtype == np.float32 and result.min() >= 0 and result.max() <= 1
    assert np.abs(result - ndtr(EVERYWHERE.astype(np.float64))).max() < 2e-7
    assert CPU.xp.ndtr(np.array([-np.inf, np.inf, np.nan] * 1000, np.float32))[:3].tolist() == pytest.approx(
        [0.0, 1.0, np.nan], abs=0, nan_ok=True
    )


def test_the_distribution_of_strided_and_of_double_numbers() -> None:
    x = EVERYWHERE[:200_000].reshape(400, 500)
    np.testing.assert_array_equal(CPU.xp.ndtr(x[::3, ::-2]), CPU.xp.ndtr(x)[::3, ::-2])
    assert CPU.xp.ndtr(x.T).flags.f_contiguous
    double = x.astype(np.float64)
    np.testing.assert_array_equal(CPU.xp.ndtr(double), ndtr(double))


def exact(x: Any) -> list[Any]:
    """GELU and its first two derivatives in float64."""
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return [x * ndtr(x), ndtr(x) + x * density, 2 * density - x * (x * density)]


@pytest.mark.parametrize(("dtype", "error"), [("float64", 4e-16), ("float32", 2e-7), ("float16", 5e-4)])
def test_gelu_and_two_derivatives(dtype: str, error: float) -> None:
    most = min(float(np.finfo(dtype).max), 3e38)
    numbers = EVERYWHERE[np.abs(EVERYWHERE) < most][::7].astype(dtype)
    x = nanotorch.tensor(numbers, requires_grad=True)
    y = F.gelu(x)
    (slope,) = nanotorch.autograd.grad(y.sum(), x, create_graph=True)
    (curvature,) = nanotorch.autograd.grad(slope.sum(), x)
    with np.errstate(over="ignore"):
        expected = exact(numbers.astype(np.float64))
    for mine, theirs in zip((y, slope, curvature), expected, strict=True):
        found = mine.detach().numpy().astype(np.float64)
        assert (np.abs(found - theirs) <= error * (1 + np.abs(theirs))).all()


def test_gelu_is_nothing_far_below_zero() -> None:
    assert not F.gelu(nanotorch.linspace(-1e4, -20, 5000)).any()
