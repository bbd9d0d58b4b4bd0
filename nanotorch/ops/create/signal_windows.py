"""Windows of signal processing: a signal times one of them ends softly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.creation import placed


def _window(
    name: str, length: int, periodic: bool, formula: Callable[[Any], Any], dtype: Any, device: Any, requires_grad: bool
) -> Tensor:
    kind = dtypes.need_dtype(name, dtype or dtypes.get_default_dtype())
    if not kind.is_floating_point:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {kind}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    steps = max(length - (not periodic), 1)
    values = np.ones(length) if length < 2 else formula(np.arange(length) / steps)
    return placed(values.astype(kind.numpy), device, requires_grad)


def hann_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a raised cosine, `sin(pi * n / N) ** 2`; N is the length, or one less for a symmetric window."""
    return _window(
        "hann_window", window_length, periodic, lambda t: np.sin(math.pi * t) ** 2, dtype, device, requires_grad
    )


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `alpha - beta * cos(2 * pi * n / N)`; N is the length, or one less for a symmetric window."""
    return _window(
        "hamming_window",
        window_length,
        periodic,
        lambda t: alpha - beta * np.cos(2 * math.pi * t),
        dtype,
        device,
        requires_grad,
    )


def blackman_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return Blackman's sum of two cosines; N is the length, or one less for a symmetric window."""
    return _window(
        "blackman_window",
        window_length,
        periodic,
        lambda t: 0.42 - 0.5 * np.cos(2 * math.pi * t) + 0.08 * np.cos(4 * math.pi * t),
        dtype,
        device,
        requires_grad,
    )


def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a triangle that begins at 0; N is the length, or one less for a symmetric window."""
    return _window(
        "bartlett_window", window_length, periodic, lambda t: 1 - np.abs(2 * t - 1), dtype, device, requires_grad
    )


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return Kaiser's window of a Bessel function; N is the length, or one less for a symmetric window."""
    return _window(
        "kaiser_window",
        window_length,
        periodic,
        lambda t: np.i0(beta * np.sqrt(np.maximum(1 - (2 * t - 1) ** 2, 0))) / np.i0(beta),
        dtype,
        device,
        requires_grad,
    )
