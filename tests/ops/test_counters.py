"""Dropout's numbers have an address: the masks of rows do not depend on how a batch is cut, on the device, on the past.

Note [Counters of dropout] says which number is where; a transcription of it in Python's integers is the reference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nanotorch as torch
from fake_gpu import fake_gpu
from nanotorch import nn
from nanotorch.backend.philox import keep_mask
from nanotorch.nn import functional as F
from nanotorch.ops.create.random import default_generator
from nanotorch.random import dropout_counters
from nanotorch.utils.checkpoint import checkpoint

WORD = 2**64
LAYERS: dict[str, tuple[Callable[[], Callable[[Any], Any]], tuple[int, ...]]] = {
    "dropout": (lambda: lambda x: F.dropout(x, 0.4), (5, 3)),
    "dropout, in place": (lambda: lambda x: F.dropout(x.clone(), 0.4, inplace=True), (5, 3)),
    "dropout1d": (lambda: lambda x: F.dropout1d(x, 0.4), (7, 3)),
    "dropout2d": (lambda: lambda x: F.dropout2d(x, 0.4), (7, 3, 2)),
    "dropout3d": (lambda: lambda x: F.dropout3d(x, 0.4), (7, 2, 1, 2)),
    "alpha_dropout": (lambda: lambda x: F.alpha_dropout(x, 0.4), (5,)),
    "feature_alpha_dropout": (lambda: lambda x: F.feature_alpha_dropout(x, 0.4), (7, 3)),
    "rrelu": (lambda: lambda x: F.rrelu(-x, training=True), (5, 3)),
    "attention": (lambda: lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.4), (3, 2)),
    "MultiheadAttention": (
        lambda: (lambda layer: lambda x: layer(x, x, x)[0])(nn.MultiheadAttention(4, 2, 0.4, batch_first=True)),
        (3, 4),
    ),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(4, 2, 5, 0.4, batch_first=True), (3, 4)),
    "GRU": (lambda: (lambda layer: lambda x: layer(x)[0])(nn.GRU(3, 4, 3, batch_first=True, dropout=0.4)), (5, 3)),
    "LSTM, steps first": (
        lambda: (lambda layer: lambda x: layer(x.transpose(0, 1))[0].transpose(0, 1))(nn.LSTM(3, 2, 2, dropout=0.4)),
        (5, 3),
    ),
    "Sequential": (lambda: nn.Sequential(nn.Dropout(0.3), nn.AlphaDropout(0.2), nn.RReLU(), nn.Dropout(0.5)), (3,)),
}


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64 of ten rounds, as published."""
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            second // WORD ^ counter[1] ^ key[0],
            second % WORD,
            first // WORD ^ counter[3] ^ key[1],
            first % WORD,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) % WORD, (key[1] + 0xBB67AE8584CAA73B) % WORD]
    return counter


def bits(seed: int, step: int, layer: int, e: int) -> int:
    """The 16 random bits of element `e`, by Note [Counters of dropout]."""
    return philox([e // 16 + 1, 0, 0, layer], [seed, step])[e % 16 // 4] >> 16 * (e % 4) & 0xFFFF


@given(
    seed=st.integers(0, WORD - 1),
    step=st.integers(0, 2**40),
    row=st.integers(0, 10**12),
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    p=st.sampled_from([0.1, 0.3, 0.5, 0.9, 1e-4]),
)
@settings(max_examples=40, deadline=None)
def test_masks_are_those_of_the_note(seed: int, step: int, row: int, shape: list[int], p: float) -> None:
    x, size = torch.ones(*shape, dtype=torch.float64), int(np.prod(shape[1:]))
    with dropout_counters(step, row, seed=seed):
        F.dropout(x)
        masks = [F.dropout(x, p).reshape(-1).tolist(), F.rrelu(-x, 0.0, 1.0, training=True).reshape(-1).tolist()]
    words = [[bits(seed, step, layer, row * size + e) for e in range(x.numel())] for layer in (1, 2)]
    assert masks[0] == [1 / (1 - p) if u >= round(p * 2**16) else 0.0 for u in words[0]]
    assert masks[1] == [-u / 2**16 for u in words[1]]


@pytest.mark.parametrize("name", LAYERS)
def test_rows_get_the_same_masks_however_a_batch_is_cut(name: str) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(4)
    layer, rows = make(), 11
    if isinstance(layer, nn.Module):
        layer.double()
    x = torch.ones(rows, *shape, dtype=torch.float32 if name in ("MultiheadAttention", "GRU") else torch.float64)
    if name == "LSTM, steps first":
        x = x.float()
    with dropout_counters(step=3):
        whole = layer(x)
    for cuts in ([0, 4, 11], [0, 1, 2, 9, 11], list(range(12))):
        parts = []
        for start, stop in pairwise(cuts):
            with dropout_counters(step=3, row=start, rows=stop - start):
                parts.append(layer(x[start:stop]))
        difference = (torch.cat(parts) - whole).abs().max().item()
        assert difference <= (0 if x.dtype is torch.float64 and "rmer" not in name else 1e-6)
    with dropout_counters(step=4):
        assert not torch.equal(layer(x), whole)


def test_inputs_laid_out_otherwise_repeat_no_mask() -> None:
    def drawn(shape: tuple[int, ...], row: int, rows: int | None) -> Any:
        with dropout_counters(step=2, row=row, rows=rows):
            return F.dropout(torch.ones(shape))

    whole = drawn((6 * 3, 16), 0, 6)  # three to a row
    assert torch.equal(whole, drawn((6 * 3, 16), 0, None))
    assert torch.equal(whole[6:], drawn((4 * 3, 16), 2, 4))
    first, second = drawn((7, 4, 16), 0, 4), drawn((7, 4, 16), 4, 4)  # seven steps of four rows
    for shift in range(7):
        assert not torch.equal(first[shift:], second[: 7 - shift])
    assert not torch.equal(drawn((1, 16), 0, 4), drawn((1, 16), 4, 4))
    assert drawn((), 3, 4).shape == ()


def test_without_a_scope_calls_differ_and_the_generators_repeat_them() -> None:
    x = torch.ones(6, 50)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = F.dropout(x), F.dropout(x)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    with torch.random.fork_rng():
        assert torch.equal(F.dropout(x), first)
    assert torch.equal(F.dropout(x), first) and torch.equal(F.dropout(x), second)
    own = torch.Generator().manual_seed(3)
    with dropout_counters(1):  # a generator that is named is asked
        assert torch.equal(F.dropout(x, generator=own), first)
        assert torch.equal(F.dropout(x, generator=own), second)


def test_a_scope_takes_nothing_from_the_generator_and_ends() -> None:
    x = torch.ones(4, 40)
    torch.manual_seed(5)
    before = default_generator.get_state()
    with dropout_counters(2):
        inside = [F.dropout(x), F.dropout(x)]
        with dropout_counters(2):
            assert torch.equal(F.dropout(x), inside[0])
        third = F.dropout(x)
    assert default_generator.get_state() == before
    with dropout_counters(2, seed=5):
        again = [F.dropout(x), F.dropout(x), F.dropout(x)]
    assert all(map(torch.equal, [*inside, third], again))
    F.dropout(x)
    assert default_generator.get_state() != before
    with pytest.raises(ValueError, match="step and row count from 0, got step=1 and row=-2"):
        dropout_counters(1, row=-2)


def test_threads_draw_each_their_own() -> None:
    x = torch.ones(300, 7)

    def masks(step: int) -> list[Any]:
        with dropout_counters(step, seed=9):
            return [F.dropout(x, 0.3).tolist() for _ in range(20)]

    expected, got = [masks(step) for step in range(4)], [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda n=n: got[n].extend(masks(n))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


@pytest.mark.parametrize("scoped", [True, False])
def test_a_recomputation_draws_the_same_masks(scoped: bool) -> None:
    def block(x: Any) -> Any:
        return F.dropout(F.dropout(x.exp(), 0.3).sin(), 0.4).exp()

    def gradient(run: Callable[..., Any]) -> Any:
        torch.manual_seed(1)
        x = torch.linspace(-1, 1, 60).reshape(20, 3).requires_grad_()
        if scoped:
            with dropout_counters(7, row=5):
                y = run(block, run(block, x))
        else:
            y = run(block, run(block, x))
        with dropout_counters(8):  # where backward runs changes nothing
            y.sum().backward()
            after = F.dropout(torch.ones(30))
        return x.grad, after

    plain = gradient(lambda function, x: function(x))
    for run in (checkpoint, lambda function, x: checkpoint(checkpoint, function, x)):
        assert all(map(torch.equal, gradient(run), plain))


def test_forward_mode_sees_the_mask_of_its_own_call() -> None:
    x, direction = torch.linspace(1, 2, 40).reshape(8, 5), torch.ones(8, 5)
    with dropout_counters(1):
        value, tangent = torch.func.jvp(lambda t: F.dropout(t, 0.4), (x,), (direction,))
    with dropout_counters(1):
        mask = F.dropout(direction, 0.4)
    assert torch.equal(tangent, mask) and torch.equal(value, x * mask)


def test_a_gpu_has_the_masks_of_the_cpu() -> None:
    with fake_gpu():
        for name in ("dropout", "dropout2d", "alpha_dropout", "rrelu"):
            make, shape = LAYERS[name]
            results = []
            for device in ("cpu", "cuda"):
                with dropout_counters(1, row=3, seed=2):
                    results.append(make()(torch.ones(5, *shape, device=device)).cpu())
            assert torch.equal(*results)


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.25, 1 - 1e-4, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_shares_of_zeros(p: float, dtype: Any) -> None:
    torch.manual_seed(0)
    result = F.dropout(torch.ones(400, 100, dtype=dtype), p)
    assert result.dtype is dtype
    assert abs((result == 0).double().mean().item() - p) < 0.01
    assert F.dropout(torch.tensor(1.0, dtype=dtype), p).shape == ()


def test_a_number_at_the_threshold_is_kept() -> None:
    bits = np.array([0, 2**14 - 1, 2**14, 2**16 - 1], np.uint16)
    assert keep_mask(bits, 0.25, np.dtype(np.float64)).tolist() == [0.0, 0.0, 4 / 3, 4 / 3]
