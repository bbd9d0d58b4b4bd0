"""Multi-head attention and the transformer's encoder against PyTorch's, in every layout, with every mask."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
import nanotorch.nn.functional as F
from fake_gpu import fake_gpu
from nanotorch import nn
from oracle import close, compare_modules, in_both, pytorch, real, to_numpy

N, L, S, E, H = 3, 5, 4, 8, 2
SELF, CROSS = real(N, L, E), (real(N, L, E), real(N, S, E), real(N, S, E))
CAUSAL = np.triu(np.ones((L, L), bool), 1)
PADDING = np.array([[False] * L, [False] * 3 + [True] * 2, [True] + [False] * 4])
TAILS = np.array([[False] * L, [False] * 3 + [True] * 2, [False] * 4 + [True]])  # the first key is there for all


def first(arrays: Any, batch_first: bool) -> list[np.ndarray[Any, Any]]:
    """The arrays (N, L, E), or (L, N, E)."""
    return [x if batch_first else x.swapaxes(0, 1).copy() for x in arrays]


@pytest.mark.parity
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_attention(batch_first: bool, need_weights: bool, training: bool) -> None:
    def make(nn: Any) -> Any:
        return nn.MultiheadAttention(E, H, batch_first=batch_first)

    compare_modules(make, *first(CROSS, batch_first), need_weights=need_weights, training=training)
    compare_modules(make, *(x[0] for x in CROSS), need_weights=need_weights, training=training)


OPTIONS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "no bias": ({"bias": False}, (E, E)),
    "sizes": ({"kdim": 6, "vdim": 3}, (6, 3)),
    "a size, no bias": ({"vdim": 3, "bias": False}, (E, 3)),
    "learned key": ({"add_bias_kv": True}, (E, E)),
    "zero key": ({"add_zero_attn": True}, (E, E)),
    "both keys": ({"add_bias_kv": True, "add_zero_attn": True, "kdim": 5}, (5, E)),
    "one head": ({"num_heads": 1}, (E, E)),
}


@pytest.mark.parity
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str, need_weights: bool) -> None:
    options, (kdim, vdim) = OPTIONS[name]

    def make(nn: Any) -> Any:
        return nn.MultiheadAttention(E, **{"num_heads": H, "batch_first": True, **options})

    inputs = (real(N, L, E), real(N, S, kdim), real(N, S, vdim))
    mask = np.random.default_rng(1).random((L, S)) < 0.3
    compare_modules(make, *inputs, need_weights=need_weights, attn_mask=mask, average_attn_weights=False)
    assert repr(make(torch.nn)).replace("(out_proj): Linear", "(out_proj): NonDynamicallyQuantizableLinear") == repr(
        make(pytorch.nn)
    )


MASKS: dict[str, dict[str, Any]] = {
    "causal": {"attn_mask": CAUSAL},
    "causal hint": {"attn_mask": CAUSAL, "is_causal": True},
    "per head": {"attn_mask": np.random.default_rng(2).random((N * H, L, L)) < 0.4},
    "numbers": {"attn_mask": real(L, L)},
    "numbers per head": {"attn_mask": real(N * H, L, L)},
    "padding": {"key_padding_mask": PADDING},
    "padding numbers": {"key_padding_mask": real(N, L)},
    "both": {"attn_mask": CAUSAL, "key_padding_mask": TAILS},
    "both numbers": {"attn_mask": real(N * H, L, L), "key_padding_mask": real(N, L)},
}


@pytest.mark.parity
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, need_weights: bool) -> None:
    def make(nn: Any) -> Any:
        return nn.MultiheadAttention(E, H, batch_first=True)

    compare_modules(
        make, SELF, SELF + 1, SELF - 1, need_weights=need_weights, average_attn_weights=False, **MASKS[name]
    )
    if name in ("causal", "numbers"):
        compare_modules(make, SELF[0], SELF[1], SELF[2], need_weights=need_weights, **MASKS[name])
    if name == "padding":
        one = PADDING[1]
        compare_modules(make, SELF[0], SELF[1], SELF[2], need_weights=need_weights, key_padding_mask=one)


@pytest.mark.parity
@pytest.mark.parametrize("batch_first", [True, False])
def test_self_attention_is_one_product(batch_first: bool) -> None:
    """The same tensor three times goes through one projection, and gets one gradient."""
    gradients = []
    for library, module in in_both(lambda nn: nn.MultiheadAttention(E, H, batch_first=batch_first)):
        x = library.tensor(SELF, requires_grad=True)
        output, weights = module(x, x, x)
        (output.square().sum() + weights.square().sum()).backward()
        gradients.append([x.grad, *(p.grad for p in module.parameters())])
    for mine, other in zip(*gradients, strict=True):
        close(mine, other)


def test_masks_of_two_kinds_are_added() -> None:
    layer = nn.MultiheadAttention(E, H, batch_first=True).double()
    x = torch.tensor(SELF)
    numbers = torch.zeros(L, L, dtype=torch.float64).masked_fill(torch.tensor(CAUSAL), float("-inf"))
    mixed, _ = layer(x, x, x, key_padding_mask=torch.tensor(TAILS), attn_mask=numbers)
    plain, _ = layer(x, x, x, key_padding_mask=torch.tensor(TAILS), attn_mask=torch.tensor(CAUSAL))
    np.testing.assert_allclose(to_numpy(mixed), to_numpy(plain), rtol=1e-12)


@pytest.mark.parametrize("need_weights", [True, False])
def test_causal_without_a_mask(need_weights: bool) -> None:
    layer, x = nn.MultiheadAttention(E, H, batch_first=True).double(), torch.tensor(SELF)
    hinted, _ = layer(x, x, x, is_causal=True, need_weights=need_weights)
    masked, _ = layer(x, x, x, attn_mask=torch.tensor(CAUSAL), need_weights=need_weights)
    np.testing.assert_allclose(to_numpy(hinted), to_numpy(masked), rtol=1e-12)


def test_dropout_of_weights() -> None:
    torch.manual_seed(0)
    layer, x = (nn.MultiheadAttention(E, H, dropout=0.5, batch_first=True), torch.tensor(SELF, dtype=torch.float32))
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert (weights == 0).any() and not (layer.eval()(x, x, x)[1] == 0).any()
    torch.manual_seed(1)
    first = layer.train()(x, x, x, need_weights=False)[0]
    torch.manual_seed(1)
    assert first.tolist() == layer(x, x, x, need_weights=False)[0].tolist()


@pytest.mark.parity
def test_initial_values() -> None:
    theirs = dict(pytorch.nn.MultiheadAttention(64, 4, add_bias_kv=True, kdim=32).named_parameters())
    for name, parameter in nn.MultiheadAttention(64, 4, add_bias_kv=True, kdim=32).named_parameters():
        mine, other = to_numpy(parameter), to_numpy(theirs[name])
        assert mine.shape == other.shape and abs(mine.mean()) < 5 * other.std() / np.sqrt(mine.size) + 1e-7, name
        assert mine.std() == pytest.approx(other.std(), rel=5 / np.sqrt(mine.size)), name
        if name.endswith("weight"):
            assert abs(mine).max() == pytest.approx(abs(other).max(), rel=0.02), name


def test_errors_name_the_layer() -> None:
    net = nn.ModuleDict({"attention": nn.MultiheadAttention(E, H, kdim=6, batch_first=True)})
    layer = net["attention"]
    q, k, v = torch.zeros(N, L, E), torch.zeros(N, S, 6), torch.zeros(N, S, E)
    layer(q, k, v)
    wrong = [
        ((q, v, v), {}, r"MultiheadAttention: expected last dimension 6, got key \(3, 4, 8\)"),
        ((q[0], k, v), {}, r"expected query, key and value of 3 dimensions, .*query \(5, 8\), key \(3, 4, 6\)"),
        ((q, k, v[:, 1:]), {}, r"key and value need the same length.*key \(3, 4, 6\), value \(3, 3, 8\)"),
        ((q[1:], k, v), {}, r"the same batch, got query \(2, 5, 8\)"),
        ((q, k, v), {"attn_mask": torch.zeros(S, L)}, r"expected attn_mask \(5, 4\) or \(6, 5, 4\).*got \(4, 5\)"),
        ((q, k, v), {"key_padding_mask": torch.zeros(N, L)}, r"expected key_padding_mask \(3, 4\).*got \(3, 5\)"),
    ]
    for inputs, options, words in wrong:
        with pytest.raises(torch.ShapeError, match=words):
            layer(*inputs, **options)
    with pytest.raises(TypeError, match=r"masks are bool or floating point tensors, got torch\.int64"):
        layer(q, k, v, attn_mask=torch.zeros(L, S, dtype=torch.int64))
    with pytest.raises(ValueError, match="embed_dim must be divisible by num_heads, got 8 and 3"):
        nn.MultiheadAttention(8, 3)


# ------------------------------------------------------------------------------------------ encoder

LAYERS: dict[str, Any] = {
    "plain": lambda nn, **k: nn.TransformerEncoderLayer(E, H, 16, 0.0, **k),
    "norm first": lambda nn, **k: nn.TransformerEncoderLayer(E, H, 16, 0.0, norm_first=True, **k),
    "gelu": lambda nn, **k: nn.TransformerEncoderLayer(E, H, 16, 0.0, activation="gelu", layer_norm_eps=1e-2, **k),
    "no bias": lambda nn, **k: nn.TransformerEncoderLayer(E, H, 16, 0.0, bias=False, **k),
    "module": lambda nn, **k: nn.TransformerEncoderLayer(E, H, 16, 0.0, activation=nn.SiLU(), **k),
}


@pytest.mark.parity
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_encoder_layer(name: str, batch_first: bool) -> None:
    def make(nn: Any) -> Any:
        return LAYERS[name](nn, batch_first=batch_first)

    (x,) = first([SELF], batch_first)
    compare_modules(make, x)
    compare_modules(make, x, src_mask=CAUSAL, src_key_padding_mask=TAILS)
    compare_modules(make, x, src_mask=np.where(CAUSAL, -np.inf, 0.0), is_causal=True)
    compare_modules(make, SELF[0])


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("norm", [True, False])
def test_encoder(norm: bool) -> None:
    def make(nn: Any) -> Any:
        layer = nn.TransformerEncoderLayer(E, H, 16, 0.0, batch_first=True, norm_first=True)
        return nn.TransformerEncoder(layer, 3, nn.LayerNorm(E) if norm else None)

    compare_modules(make, SELF)
    compare_modules(make, SELF, mask=CAUSAL, src_key_padding_mask=TAILS)
    text = repr(make(pytorch.nn)).replace("NonDynamicallyQuantizableLinear", "Linear")
    assert repr(make(torch.nn)) == text


def test_layers_of_an_encoder_are_copies() -> None:
    layer = nn.TransformerEncoderLayer(E, H, 16)
    encoder = nn.TransformerEncoder(layer, 2)
    a, b = (encoder.layers[k].linear1.weight for k in range(2))
    assert a is not b and a is not layer.linear1.weight and a.tolist() == b.tolist()
    assert len(list(encoder.parameters())) == 2 * len(list(layer.parameters()))
    twin = pickle.loads(pickle.dumps(encoder))
    assert twin.layers[0].activation is F.relu and copy.deepcopy(layer).activation is F.relu
    with pytest.raises(ValueError, match="activation is 'relu', 'gelu' or a function, got 'swish'"):
        nn.TransformerEncoderLayer(E, H, activation="swish")


def test_a_second_device_gives_the_same() -> None:
    results = []
    for device in ("cpu", "cuda"):
        with fake_gpu() as counts:
            torch.manual_seed(0)
            layer = nn.TransformerEncoderLayer(E, H, 16, 0.1, batch_first=True).to(device)
            x = torch.tensor(SELF, dtype=torch.float32, device=device)
            mask = torch.tensor(CAUSAL, device=device)
            counts.reset()
            loss = layer(x, mask, is_causal=True).square().mean()
            loss.backward()
            _, weights = layer.self_attn(x, x, x, is_causal=True)
            assert counts.synchronizations == 0
            results.append([to_numpy(loss), to_numpy(weights), *(to_numpy(p.grad) for p in layer.parameters())])
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 2, 4), (3, 4), (2, 1)])
def test_a_mask_that_is_no_mask_of_the_scores_is_refused(shape: tuple[int, ...]) -> None:
    query, key = torch.ones(1, 3), torch.ones(4, 3)
    with pytest.raises(
        torch.ShapeError, match=r"attn_mask of shape .* cannot be broadcast to the scores of shape \(1, 4\)"
    ):
        torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=torch.ones(shape))
