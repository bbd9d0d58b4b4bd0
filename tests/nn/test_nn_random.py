"""Layers with random options on random shapes: the same outputs and gradients as PyTorch's, or a refusal by both."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from oracle import compare_modules, pytorch

pytestmark = pytest.mark.parity

CASES = int(os.environ.get("RANDOM_LAYERS", "12"))  # of each kind


class Draw:
    """Random numbers, options and arrays; few dimensions, lengths of a few elements."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dims = self.number(1, 3)
        self.groups = self.one(1, 1, 2)
        self.channels = self.groups * self.number(1, 4)
        self.out = self.groups * self.number(1, 4)
        lengths = [self.number(4, 10) for _ in range(self.dims)]
        self.shape = (self.number(1, 3), self.channels, *lengths)

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def one(self, *values: Any) -> Any:
        return values[self.number(0, len(values))]

    def each(self, low: int, high: int) -> Any:
        """One number, or one per dimension."""
        return self.one(self.number(low, high), tuple(self.number(low, high) for _ in range(self.dims)))

    def real(self, *shape: int) -> np.ndarray[Any, Any]:
        return self.rng.standard_normal(shape)

    def batch(self, unbatched: bool = True) -> np.ndarray[Any, Any]:
        """An input (N, C, ...), or sometimes (C, ...)."""
        return self.real(*(self.shape[1:] if unbatched and self.one(True, False, False) else self.shape))


Case = tuple[str, tuple[Any, ...], dict[str, Any], list[Any], dict[str, Any]]


def convolution(d: Draw) -> Case:
    padding = d.one("same", "valid", d.each(0, 3), d.each(0, 3))
    stride = 1 if padding == "same" else d.each(1, 4)
    mode = d.one("zeros", "zeros", "reflect", "replicate", "circular")
    bias = d.one(True, False)
    options = (d.channels, d.out, d.each(1, 4), stride, padding, d.each(1, 3), d.groups, bias, mode)
    return f"Conv{d.dims}d", options, {}, [d.batch()], {}


def transposed(d: Draw) -> Case:
    sizes = (d.each(1, 4), d.each(1, 4), d.each(0, 2), d.each(0, 2))
    options = (d.channels, d.out, *sizes, d.groups, d.one(True, False), d.each(1, 3))
    return f"ConvTranspose{d.dims}d", options, {}, [d.batch()], {}


def max_pool(d: Draw) -> Case:
    options = (
        d.each(1, 4),
        d.one(None, d.each(1, 4)),
        d.each(0, 2),
        d.each(1, 3),
        d.one(True, False),
        d.one(True, False),
    )
    return f"MaxPool{d.dims}d", options, {}, [d.batch()], {}


def avg_pool(d: Draw) -> Case:
    options = (d.each(1, 4), d.one(None, d.each(1, 4)), d.each(0, 2), d.one(True, False), d.one(True, False))
    return f"AvgPool{d.dims}d", options, {}, [d.batch()], {}


def adaptive_pool(d: Draw) -> Case:
    sizes = tuple(d.one(None, d.number(1, 9)) for _ in range(d.dims)) if d.dims == 2 else d.number(1, 9)
    return f"Adaptive{d.one('Avg', 'Max')}Pool{d.dims}d", (d.one(sizes, d.number(1, 9)),), {}, [d.batch()], {}


def padding(d: Draw) -> Case:
    kind = d.one("Zero", "Reflection", "Replication", "Circular")
    low, high = (-1, 3) if kind == "Circular" else (-2, 4)  # PyTorch wraps around more than negative amounts leave
    amounts = tuple(d.number(low, high) for _ in range(2 * d.dims))
    return f"{kind}Pad{d.dims}d", (amounts,), {}, [d.batch()], {}


def norm(d: Draw) -> Case:
    affine, training = d.one(True, False), {"calls": 2, "training": d.one(True, False)}
    name = d.one("GroupNorm", "RMSNorm", "LayerNorm", f"BatchNorm{d.dims}d", f"InstanceNorm{d.dims}d")
    if name == "GroupNorm":
        return name, (d.groups, d.channels), {"affine": affine}, [d.batch(unbatched=False)], {}
    if name in ("RMSNorm", "LayerNorm"):
        shape = d.shape[-d.number(1, d.dims + 1) :]
        return name, (shape,), {"elementwise_affine": affine, "eps": 10.0 ** -d.number(2, 7)}, [d.batch()], {}
    options = {"affine": affine, "track_running_stats": d.one(True, False), "momentum": d.one(0.1, 0.5)}
    return name, (d.channels,), options, [d.batch("Instance" in name)], training


def attention(d: Draw) -> Case:
    heads = d.number(1, 4)
    size, length, keys, count = heads * d.number(1, 4), d.number(1, 6), d.number(1, 6), d.number(1, 4)
    options = {name: d.one(True, False) for name in ("bias", "add_bias_kv", "add_zero_attn", "batch_first")}
    options |= {"kdim": d.one(None, d.number(1, 6)), "vdim": d.one(None, d.number(1, 6))}
    batched, numbers = d.one(True, True, False), d.one(True, False)

    def values(length: int, size: int) -> np.ndarray[Any, Any]:
        shape = (count, length, size) if options["batch_first"] else (length, count, size)
        return d.real(*shape) if batched else d.real(length, size)

    def mask(*shape: int) -> np.ndarray[Any, Any]:
        """The first key is always seen: a row without any is NaN, whose gradients PyTorch spreads further."""
        return d.real(*shape) if numbers else (d.rng.random(shape) < 0.3) & (np.arange(shape[-1]) > 0)

    call: dict[str, Any] = {name: d.one(True, False) for name in ("need_weights", "average_attn_weights")}
    if d.one(True, False):
        call["attn_mask"] = mask(*d.one((), ((count if batched else 1) * heads,)), length, keys)
    if d.one(True, False):
        call["key_padding_mask"] = mask(*((count, keys) if batched else (keys,)))
    inputs = [values(length, size), values(keys, options["kdim"] or size), values(keys, options["vdim"] or size)]
    return "MultiheadAttention", (size, heads), options, inputs, call


def encoder(d: Draw) -> Case:
    heads = d.number(1, 3)
    size = heads * d.number(1, 4)
    options = {"activation": d.one("relu", "gelu"), "norm_first": d.one(True, False), "bias": d.one(True, False)}
    call = {"training": d.one(True, False)}
    return "TransformerEncoderLayer", (size, heads, 5, 0.0), options, [d.real(d.number(1, 6), 2, size)], call


KINDS = [convolution, transposed, max_pool, avg_pool, adaptive_pool, padding, norm, attention, encoder]


def refusal(library: Any, name: str, case: Case) -> Exception | None:
    """The error of building or calling the layer, if there is one."""
    _, options, named, inputs, call = case
    given = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in call.items()}
    given = {k: v for k, v in given.items() if k not in ("calls", "training")}
    try:
        getattr(library.nn, name)(*options, **named).double()(*map(library.tensor, inputs), **given)
    except Exception as error:  # whatever PyTorch raises
        return error
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(CASES))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_random_layers(kind: Callable[[Draw], Case], seed: int) -> None:
    case = kind(Draw(seed))
    name, options, named, inputs, call = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = (refusal(library, name, case) for library in (torch, pytorch))
    assert (ours is None) == (theirs is None), f"{case}: {ours!r} against {theirs!r}"
    if ours is None:
        compare_modules(lambda nn: getattr(nn, name)(*options, **named), *inputs, **call)
