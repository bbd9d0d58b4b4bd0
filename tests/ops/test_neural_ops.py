"""Ops of neural networks: what samples do not show, which is running statistics, randomness and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.nn import functional as F
from oracle import pytorch, to_numpy


def ones(*shape: int, **options: Any) -> torch.Tensor:
    return torch.ones(*shape, **options)


ERRORS: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: F.conv2d(ones(5, 3), ones(2, 3, 2, 2)),
        r"Expected 3D \(unbatched\) or 4D \(batched\) input to conv2d, but got input of size: \[5, 3\]",
    ),
    (
        lambda: F.conv2d(ones(1, 1, 8, 8), ones(16, 3, 3, 3)),
        "expected input.* to have 3 channels, but got 1 channels instead",
    ),
    (
        lambda: F.conv1d(ones(1, 3, 2), ones(4, 3, 3)),
        r"input size per channel: \(2\). Kernel size: \(3\). Kernel size can't be greater than actual input size",
    ),
    (lambda: F.conv1d(ones(1, 4, 5), ones(3, 2, 3), groups=2), "expected weight to be divisible by 2 at dimension 0"),
    (
        lambda: F.conv1d(ones(1, 3, 5), ones(4, 3, 3), ones(3)),
        "expected bias to be 1-dimensional with 4 elements, but got bias of size",
    ),
    (lambda: F.conv1d(ones(1, 3, 5), ones(4, 3, 3), stride=0), "non-positive stride is not supported"),
    (lambda: F.conv1d(ones(1, 3, 5), ones(4, 3, 3), padding=-1), "negative padding is not supported"),
    (
        lambda: F.conv1d(ones(1, 3, 5), ones(4, 3, 3), stride=2, padding="same"),
        "padding='same' is not supported for strided convolutions",
    ),
    (lambda: F.conv1d(ones(1, 3, 5), ones(4, 3, 3), padding="full"), "Invalid padding string: 'full'"),
    (
        lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), stride=(1, 2, 3)),
        r"stride must be an int or 2 ints, got \(1, 2, 3\)",
    ),
    (lambda: F.conv1d(ones(1, 3, 5), ones(4, 3, 3, dtype=torch.float64)), "same dtype"),
    (
        lambda: F.conv_transpose1d(ones(1, 3, 5), ones(3, 3, 3), output_padding=1),
        "output padding must be smaller than either stride or dilation",
    ),
    (lambda: F.conv_transpose1d(ones(1, 3, 1), ones(3, 3, 1), padding=1), "Output size is too small"),
    (lambda: F.max_pool2d(ones(3, 3), 2), r"max_pool2d: Expected 3D or 4D \(batch mode\) tensor"),
    (lambda: F.max_pool2d(ones(1, 3, 3), 4), "Output size is too small"),
    (lambda: F.max_pool1d(ones(1, 3), 2, padding=2), "smaller than or equal to half of kernel size"),
    (lambda: F.max_pool1d(ones(1, 1), 2, padding=1, dilation=2), "hold nothing but padding"),
    (lambda: F.avg_pool1d(ones(1, 3), 2, stride=0), "stride should be greater than zero"),
    (lambda: F.avg_pool2d(ones(1, 3, 3), 2, divisor_override=0), "divisor must be not zero"),
    (lambda: F.adaptive_avg_pool2d(ones(3, 3), 2), "adaptive_avg_pool2d: Expected 3D or 4D"),
    (lambda: F.pad(ones(2, 3), (1,)), "Padding length must be divisible by 2"),
    (lambda: F.pad(ones(2), (1, 1, 1, 1)), "less than or equal to two times the input dimension"),
    (lambda: F.pad(ones(2, 3), (-2, -2)), "resulted in a negative output size"),
    (
        lambda: F.pad(ones(2, 3), (3, 0), "reflect"),
        "Padding size should be less than the corresponding input dimension",
    ),
    (lambda: F.pad(ones(2, 3), (4, 0), "circular"), "wrapping around more than once"),
    (lambda: F.pad(ones(2, 3), (1, 0), "mirror"), "Unrecognised padding mode mirror"),
    (lambda: F.pad(ones(2, 3), (1, 0), "reflect", 1.0), "doesn't take in value argument"),
    (lambda: F.pad(ones(2, 3), (1, 1, 1, 1), "reflect"), "pads the last 1, 2 or 3 dimensions"),
    (lambda: F.layer_norm(ones(4, 6), (5,)), r"layer_norm: Given normalized_shape=\[5\]"),
    (lambda: F.layer_norm(ones(4, 6), (6,), ones(3)), "Expected weight to be of same shape as normalized_shape"),
    (lambda: F.rms_norm(ones(4, 6), ()), "at least 1-dimensional"),
    (lambda: F.group_norm(ones(4, 6), 4), "number of channels in input to be divisible by num_groups"),
    (lambda: F.instance_norm(ones(2, 3, 1)), "Expected more than 1 spatial element when training"),
    (lambda: F.batch_norm(ones(2, 3), ones(4), ones(3)), "running_mean should contain 3 elements not 4"),
    (lambda: F.scaled_dot_product_attention(ones(3), ones(3), ones(3)), "at least 2 dimensional"),
    (lambda: F.scaled_dot_product_attention(ones(2, 3), ones(2, 4), ones(2, 4)), "do not fit"),
    (
        lambda: F.scaled_dot_product_attention(ones(2, 3), ones(2, 3), ones(2, 3), ones(2, 2), is_causal=True),
        "attn_mask should not be set when is_causal=True",
    ),
    (
        lambda: F.scaled_dot_product_attention(ones(2, 3), ones(2, 3), ones(2, 3), ones(2, 2).long()),
        "Expected attn_mask dtype to be bool or float",
    ),
    (lambda: F.bilinear(ones(2, 3), ones(2, 4), ones(1, 3, 3)), "bilinear: expected inputs"),
    (lambda: F.bilinear(ones(()), ones(()), ones(1, 3, 3)), "bilinear: expected inputs"),
    (lambda: F.bilinear(ones(3), ones(4), ones(3, 4)), "weight must have three dimensions"),
    (lambda: F.gaussian_nll_loss(ones(3), ones(3), -ones(3)), "var has negative entry/entries"),
    (lambda: F.gaussian_nll_loss(ones(3, 2), ones(3, 2), ones(2)), "var is of incorrect size"),
    (lambda: F.poisson_nll_loss(ones(3), ones(3, 1)), "must have the same shape"),
    (lambda: F.cosine_embedding_loss(ones(3, 2), ones(3, 2), ones(3, 1)), "2D target tensor expects 3D input tensors"),
    (lambda: F.multi_margin_loss(ones(3, 2), torch.tensor([0, 1, 2])), "classes are numbered 0 to 1"),
    (lambda: F.multi_margin_loss(ones(3, 2), torch.tensor([0, 1, 1]), p=3), "only p == 1 and p == 2 supported"),
    (lambda: F.multi_margin_loss(ones(3, 2), ones(3)), "must be a tensor of class numbers"),
    (lambda: F.multilabel_margin_loss(ones(3, 2), torch.tensor([0, 1])), r"needs a target of shape \(3, 2\)"),
    (lambda: F.triplet_margin_loss(ones(2, 3), ones(2, 3), ones(3)), "same number of dimensions"),
    (lambda: F.triplet_margin_loss(ones(2, 3), ones(2, 3), ones(2, 3), margin=0), "margin must be greater than 0"),
    (lambda: F.hinge_embedding_loss(ones(2), ones(2), reduction="all"), "'all' is not a valid value for reduction"),
    (
        lambda: F.embedding(torch.tensor([3]), ones(3, 2)),
        r"embedding: index 3 is out of bounds for dimension 0 with size 3",
    ),
    (lambda: F.embedding(torch.tensor([0]), ones(3, 2), padding_idx=3), "Padding_idx must be within num_embeddings"),
    (lambda: F.dropout2d(ones(3)), "dropout2d: expected input of 3 dimensions"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_errors_say_what_is_wrong(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError, NotImplementedError), match=message):
        call()


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (2, 3, 4, 4)], ids=str)
def test_running_statistics_move_as_in_pytorch(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    for name in ("batch_norm", "instance_norm")[: len(shape) - 1]:
        start = [rng.standard_normal(3).astype(np.float32), rng.random(3).astype(np.float32) + 0.5]
        ours, theirs = [torch.tensor(s) for s in start], [pytorch.tensor(s) for s in start]
        actual = getattr(F, name)(torch.tensor(x), *ours, None, None, True, 0.3)
        expected = getattr(pytorch.nn.functional, name)(pytorch.tensor(x), *theirs, None, None, True, 0.3)
        np.testing.assert_allclose(actual.numpy(), to_numpy(expected), rtol=1e-4, atol=1e-5)
        for a, e in zip(ours, theirs, strict=True):
            assert a.dtype is torch.float32
            np.testing.assert_allclose(a.numpy(), to_numpy(e), rtol=1e-5, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "batch_norm"])
def test_norms_shift_without_a_scale(name: str) -> None:
    x, bias = np.random.default_rng(0).standard_normal((4, 6)), np.arange(6.0)
    arguments = {"layer_norm": ((6,),), "group_norm": (2,), "batch_norm": (None, None)}[name]
    options = {"training": True} if name == "batch_norm" else {}
    actual = getattr(F, name)(torch.tensor(x), *arguments, bias=torch.tensor(bias), **options)
    expected = getattr(pytorch.nn.functional, name)(pytorch.tensor(x), *arguments, bias=pytorch.tensor(bias), **options)
    np.testing.assert_allclose(actual.numpy(), to_numpy(expected), rtol=1e-9)


def test_transposed_convolution_is_the_gradient_of_convolution() -> None:
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 2, dtype=torch.float64)
    y = F.conv2d(x, weight, stride=2, padding=1)
    grad = torch.randn(*y.shape, dtype=torch.float64)
    (expected,) = torch.autograd.grad(y, x, grad)
    extra = tuple(n - (g - 1) * 2 + 2 - k for n, g, k in zip((7, 6), grad.shape[2:], (3, 2), strict=True))
    actual = F.conv_transpose2d(grad, weight, stride=2, padding=1, output_padding=extra)
    np.testing.assert_allclose(actual.numpy(), expected.numpy())


def test_results_of_convolutions_and_pools_are_contiguous() -> None:
    x = torch.randn(8, 3, 8, 8)
    for result in (
        F.conv2d(x, torch.randn(4, 3, 3, 3)),
        F.max_pool2d(x, 2),
        F.avg_pool2d(x, 2),
        F.adaptive_avg_pool2d(x, 3),
    ):
        assert result.is_contiguous()
        result.view(8, -1)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dropout1d", (50, 40, 3)),
        ("dropout2d", (50, 40, 3, 2)),
        ("dropout3d", (50, 40, 3, 2, 2)),
        ("feature_alpha_dropout", (50, 40, 3)),
    ],
)
def test_channel_dropout_treats_channels_as_one(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.ones(shape)
    channels = getattr(F, name)(x, 0.3).reshape(50 * 40, -1)
    assert bool((channels == channels[:, :1]).all())
    values, counts = np.unique(channels[:, 0].numpy(), return_counts=True)
    assert len(values) == 2
    assert abs(counts[0] / 2000 - 0.3) < 0.05
    assert getattr(F, name)(x, 0.3, training=False) is x
    y = x.clone()
    assert getattr(F, name)(y, 0.3, inplace=True) is y


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 500)
    y = F.alpha_dropout(x, 0.4)
    assert abs(y.mean().item()) < 0.02
    assert abs(y.var().item() - 1) < 0.02
    assert F.alpha_dropout(x, 1.0).abs().sum().item() == 0


def test_gumbel_softmax_draws_categories_by_their_probabilities() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.1, 0.2, 0.7]).log().requires_grad_()
    hard = F.gumbel_softmax(logits.expand(20000, 3), hard=True)
    np.testing.assert_allclose(hard.mean(0).detach().numpy(), [0.1, 0.2, 0.7], atol=0.02)
    soft = F.gumbel_softmax(logits, tau=0.5)
    assert abs(soft.sum().item() - 1) < 1e-5
    (hard * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert bool(logits.grad.isfinite().all())


def test_attention_drops_weights() -> None:
    torch.manual_seed(0)
    x = torch.eye(64).expand(8, 64, 64)
    out = F.scaled_dot_product_attention(x, x, x, dropout_p=0.25, scale=0.0)
    assert abs((out == 0).float().mean().item() - 0.25) < 0.02
    np.testing.assert_allclose(out.max().item(), 1 / 64 / 0.75, rtol=1e-5)


@pytest.mark.parity
def test_cosine_embedding_loss_of_zero_vectors_is_finite() -> None:
    results = []
    for library in (torch, pytorch):
        x = library.zeros(2, 3, dtype=library.float64).requires_grad_()
        loss = library.nn.functional.cosine_embedding_loss(
            x, library.ones_like(x), library.tensor([1.0, -1.0], dtype=library.float64)
        )
        loss.backward()
        results.append((to_numpy(loss), to_numpy(x.grad)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_soft_margin_loss_does_not_overflow() -> None:
    x = torch.tensor([-1e4, 1e4], dtype=torch.float64, requires_grad=True)
    loss = F.soft_margin_loss(x, torch.ones(2, dtype=torch.float64), reduction="none")
    assert loss.tolist() == [1e4, 0.0]
    loss.sum().backward()
    assert x.grad.tolist() == [-1.0, 0.0]


def test_triplet_margin_loss_takes_any_distance() -> None:
    x, y, z = (torch.randn(4, 3) for _ in range(3))
    expected = F.triplet_margin_loss(x, y, z, p=1.0, eps=0.0)
    actual = F.triplet_margin_with_distance_loss(x, y, z, distance_function=lambda a, b: (a - b).abs().sum(-1))
    np.testing.assert_allclose(actual.item(), expected.item(), rtol=1e-6)


def both(name: str, arrays: list[Any], **options: Any) -> list[list[np.ndarray[Any, Any]]]:
    """Return the value of a loss, reduced as asked, and the gradient of its first argument, in both libraries."""
    results = []
    for library in (torch, pytorch):
        first, *rest = (library.tensor(array) for array in arrays)
        first.requires_grad_()
        loss = getattr(library.nn.functional, name)(first, *rest, **options)
        loss.sum().backward()
        results.append([to_numpy(loss), to_numpy(first.grad)])
    return results


@pytest.mark.parity
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_where_all_targets_are_ignored_gradients_are_zeros(name: str, reduction: str) -> None:
    """The mean is NaN, as in PyTorch, but weights that are trained with it survive."""
    ours, theirs = both(name, [np.ones((2, 3)), np.array([-100, -100])], reduction=reduction)
    for a, e in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, e)
    assert not ours[1].any()


@pytest.mark.parity
def test_binary_cross_entropy_at_the_bounds() -> None:
    arrays = [np.array([0.0, 1.0, 0.0, 1.0, 1e-60]), np.array([0.0, 1.0, 1.0, 0.0, 0.5])]
    for a, e in zip(*both("binary_cross_entropy", arrays, reduction="none"), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9)


@pytest.mark.parity
def test_kl_div_where_the_target_is_zero() -> None:
    arrays = [np.array([-1.0, -2.0, -np.inf]), np.array([0.0, 1.0, 0.5])]
    for a, e in zip(*both("kl_div", arrays, reduction="none"), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_the_mean_of_no_losses_is_nan(name: str) -> None:
    ours, theirs = both(name, [np.zeros((0, 2)), np.zeros((0, 2))])
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[1].shape == theirs[1].shape == (0, 2)


@pytest.mark.parity
def test_a_query_that_sees_nothing_gets_zeros() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 3, 4)) for _ in range(3))
    mask = np.array([[True, False, True], [False, False, False], [True, True, True]])
    results = []
    for library in (torch, pytorch):
        tensors = [library.tensor(x).requires_grad_() for x in (q, k, v)]
        out = library.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=library.tensor(mask))
        (out * library.tensor(v)).sum().backward()
        results.append([to_numpy(out), *(to_numpy(t.grad) for t in tensors)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    assert not results[0][0][:, 1].any()


@pytest.mark.parity
@pytest.mark.parametrize("norm_type", [2.0, 1.0])
def test_embedding_shortens_the_rows_that_it_looks_up(norm_type: float) -> None:
    table, index = np.random.default_rng(0).standard_normal((5, 4)), np.array([[0, 1], [1, 3]])
    results = []
    for library in (torch, pytorch):
        weight = library.tensor(table).requires_grad_()
        out = library.nn.functional.embedding(library.tensor(index), weight, max_norm=1.0, norm_type=norm_type)
        (out * out).sum().backward()
        results.append([to_numpy(out), to_numpy(weight), to_numpy(weight.grad)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    np.testing.assert_array_equal(results[0][1][[2, 4]], table[[2, 4]])


@pytest.mark.parity
def test_embedding_divides_gradients_by_frequencies() -> None:
    results = []
    for library in (torch, pytorch):
        weight = library.ones(4, 2, dtype=library.float64).requires_grad_()
        index = library.tensor([0, 2, 2, 2, 0, 1])
        library.nn.functional.embedding(index, weight, padding_idx=1, scale_grad_by_freq=True).sum().backward()
        results.append(to_numpy(weight.grad))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)
    assert results[0].tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]]


def test_embedding_of_no_indices() -> None:
    weight = torch.ones(4, 2, requires_grad=True)
    out = F.embedding(torch.zeros(0, 3, dtype=torch.int64), weight)
    assert out.shape == (0, 3, 2)
    out.sum().backward()
    assert weight.grad.tolist() == [[0, 0]] * 4


HALVES: dict[str, tuple[Any, ...]] = {
    "layer_norm": ((300,),),
    "rms_norm": ((300,),),
    "group_norm": (3,),
    "softmax": (1,),
    "log_softmax": (1,),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", HALVES)
def test_float16_does_not_overflow_inside(name: str) -> None:
    x = (np.random.default_rng(0).standard_normal((4, 300)) * 300).astype(np.float16)
    results = []
    for library in (torch, pytorch):
        leaf = library.tensor(x).requires_grad_()
        out = getattr(library.nn.functional, name)(leaf, *HALVES[name])
        (out * library.tensor(x[:, ::-1] / np.float16(300))).sum().backward()
        results.append([to_numpy(out), to_numpy(leaf.grad)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == np.float16
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=1e-2, atol=2e-3)


def test_the_mean_of_many_float16_losses() -> None:
    x = torch.ones(70000, dtype=torch.float16)
    assert F.mse_loss(x, x * 3).item() == 4.0
