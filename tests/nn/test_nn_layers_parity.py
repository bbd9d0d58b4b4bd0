"""Convolutions, pools, padding, norms and attention against PyTorch's, on the same inputs and weights."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from fake_gpu import fake_gpu
from oracle import compare_modules, in_both, outputs_of, pytorch, real, to_numpy

Layer = tuple[Any, tuple[np.ndarray[Any, Any], ...]]

SEQUENCES, IMAGES, VOLUMES = real(2, 4, 9), real(2, 4, 7, 6), real(2, 2, 3, 4, 5)

LAYERS: dict[str, Layer] = {
    "Conv1d": (lambda nn: nn.Conv1d(4, 6, 3), (SEQUENCES,)),
    "Conv1d unbatched": (lambda nn: nn.Conv1d(4, 6, 3), (SEQUENCES[0],)),
    "Conv1d options": (lambda nn: nn.Conv1d(4, 6, 3, 2, 2, 2, 2, False), (SEQUENCES,)),
    "Conv1d same": (lambda nn: nn.Conv1d(4, 6, 4, padding="same"), (SEQUENCES,)),
    "Conv1d valid": (lambda nn: nn.Conv1d(4, 6, 4, padding="valid"), (SEQUENCES,)),
    "Conv2d": (lambda nn: nn.Conv2d(4, 6, 3), (IMAGES,)),
    "Conv2d unbatched": (lambda nn: nn.Conv2d(4, 6, (3, 2), bias=False), (IMAGES[0],)),
    "Conv2d options": (lambda nn: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2), (IMAGES,)),
    "Conv2d depthwise": (lambda nn: nn.Conv2d(4, 8, 3, padding=1, groups=4), (IMAGES,)),
    "Conv2d 1x1": (lambda nn: nn.Conv2d(4, 6, 1), (IMAGES,)),
    "Conv2d same": (lambda nn: nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(1, 2)), (IMAGES,)),
    **{
        f"Conv2d {mode}": (lambda nn, mode=mode: nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode=mode), (IMAGES,))
        for mode in ("zeros", "reflect", "replicate", "circular")
    },
    "Conv2d same reflect": (lambda nn: nn.Conv2d(4, 6, (4, 3), padding="same", padding_mode="reflect"), (IMAGES,)),
    "Conv1d circular": (lambda nn: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), (SEQUENCES[0],)),
    "Conv3d": (lambda nn: nn.Conv3d(2, 4, (2, 3, 1), padding=(1, 0, 1), groups=2), (VOLUMES,)),
    "Conv3d replicate": (lambda nn: nn.Conv3d(2, 4, 2, padding=1, padding_mode="replicate"), (VOLUMES,)),
    "ConvTranspose1d": (lambda nn: nn.ConvTranspose1d(4, 6, 3), (SEQUENCES,)),
    "ConvTranspose1d options": (lambda nn: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, False, 2), (SEQUENCES,)),
    "ConvTranspose2d": (lambda nn: nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), 1, (1, 0)), (IMAGES,)),
    "ConvTranspose3d": (lambda nn: nn.ConvTranspose3d(2, 4, 2, 2), (VOLUMES,)),
    **{
        f"{kind}1d": (lambda nn, kind=kind: getattr(nn, f"{kind}1d")((2, 1)), (SEQUENCES,))
        for kind in ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad")
    },
    **{
        f"{kind}2d": (lambda nn, kind=kind: getattr(nn, f"{kind}2d")((2, 1, 0, 3)), (IMAGES,))
        for kind in ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad")
    },
    "ZeroPad2d number": (lambda nn: nn.ZeroPad2d(2), (IMAGES[0],)),
    "ZeroPad2d negative": (lambda nn: nn.ZeroPad2d((-1, 2, 0, -2)), (IMAGES,)),
    "ConstantPad1d": (lambda nn: nn.ConstantPad1d(2, 3.5), (SEQUENCES,)),
    "ConstantPad2d": (lambda nn: nn.ConstantPad2d((1, 2, 3, 4), -1.0), (IMAGES,)),
    "MaxPool1d": (lambda nn: nn.MaxPool1d(2), (SEQUENCES,)),
    "MaxPool1d options": (lambda nn: nn.MaxPool1d(3, 2, 1, 2, True, True), (SEQUENCES[0],)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(2), (IMAGES,)),
    "MaxPool2d options": (lambda nn: nn.MaxPool2d((3, 2), (1, 2), (1, 0), 2, True, True), (IMAGES,)),
    "AvgPool1d": (lambda nn: nn.AvgPool1d(3, 2, 1, count_include_pad=False), (SEQUENCES,)),
    "AvgPool1d ceil": (lambda nn: nn.AvgPool1d(2, ceil_mode=True), (SEQUENCES[0],)),
    "AvgPool2d": (lambda nn: nn.AvgPool2d(2), (IMAGES,)),
    "AvgPool2d options": (lambda nn: nn.AvgPool2d((3, 2), (1, 2), (1, 0), True, False, 5), (IMAGES[0],)),
    "LPPool1d": (lambda nn: nn.LPPool1d(3, 2), (abs(SEQUENCES),)),
    "LPPool2d": (lambda nn: nn.LPPool2d(2, (3, 2), stride=(1, 2), ceil_mode=True), (abs(IMAGES),)),
    "AdaptiveAvgPool1d": (lambda nn: nn.AdaptiveAvgPool1d(5), (SEQUENCES,)),
    "AdaptiveAvgPool2d": (lambda nn: nn.AdaptiveAvgPool2d((1, None)), (IMAGES,)),
    "AdaptiveAvgPool2d number": (lambda nn: nn.AdaptiveAvgPool2d(4), (IMAGES[0],)),
    "AdaptiveMaxPool1d": (lambda nn: nn.AdaptiveMaxPool1d(5, return_indices=True), (SEQUENCES,)),
    "AdaptiveMaxPool2d": (lambda nn: nn.AdaptiveMaxPool2d((4, 5)), (IMAGES,)),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(4), (IMAGES,)),
    "BatchNorm2d options": (lambda nn: nn.BatchNorm2d(4, 1e-2, None, False), (IMAGES,)),
    "BatchNorm2d untracked": (lambda nn: nn.BatchNorm2d(4, track_running_stats=False), (IMAGES,)),
    "BatchNorm3d": (lambda nn: nn.BatchNorm3d(2, momentum=0.3), (VOLUMES,)),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 4), (IMAGES,)),
    "GroupNorm 1-D": (lambda nn: nn.GroupNorm(4, 8, 1e-2), (real(5, 8),)),
    "GroupNorm plain": (lambda nn: nn.GroupNorm(4, 4, affine=False), (SEQUENCES,)),
    "GroupNorm no bias": (lambda nn: nn.GroupNorm(1, 4, bias=False), (IMAGES,)),
    "RMSNorm": (lambda nn: nn.RMSNorm(6), (IMAGES,)),
    "RMSNorm 2-D": (lambda nn: nn.RMSNorm((7, 6), 1e-2), (IMAGES,)),
    "RMSNorm plain": (lambda nn: nn.RMSNorm([9], elementwise_affine=False), (SEQUENCES,)),
    "InstanceNorm1d": (lambda nn: nn.InstanceNorm1d(4), (SEQUENCES,)),
    "InstanceNorm1d unbatched": (lambda nn: nn.InstanceNorm1d(4, 1e-2, affine=True), (SEQUENCES[0],)),
    "InstanceNorm3d": (lambda nn: nn.InstanceNorm3d(3, affine=True), (real(2, 3, 2, 2, 2),)),
    "LocalResponseNorm": (lambda nn: nn.LocalResponseNorm(3, 0.3, 0.6, 1.2), (real(2, 5, 3, 2),)),
    "InstanceNorm2d": (lambda nn: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (IMAGES,)),
    "Bilinear": (lambda nn: nn.Bilinear(3, 4, 5), (real(6, 3), real(6, 4))),
    "Bilinear no bias": (lambda nn: nn.Bilinear(3, 4, 5, bias=False), (real(2, 6, 3), real(2, 6, 4))),
    "CosineSimilarity": (lambda nn: nn.CosineSimilarity(), (real(6, 3), real(6, 3))),
    "CosineSimilarity dim": (lambda nn: nn.CosineSimilarity(0, 0.1), (real(6, 3), real(6, 1))),
    "PairwiseDistance": (lambda nn: nn.PairwiseDistance(), (real(6, 3), real(6, 3))),
    "PairwiseDistance options": (lambda nn: nn.PairwiseDistance(1.5, 0.1, True), (real(6, 3), real(6, 3))),
    "Fold": (lambda nn: nn.Fold((4, 5), 2, padding=1, stride=(2, 1)), (real(2, 12, 18),)),
    "Unfold": (lambda nn: nn.Unfold((2, 3), 2, 1, (1, 2)), (IMAGES,)),
    "Upsample": (lambda nn: nn.Upsample(scale_factor=2), (IMAGES,)),
    "Upsample size": (lambda nn: nn.Upsample((3, 9), mode="bicubic", align_corners=True), (IMAGES,)),
    "Upsample factors": (
        lambda nn: nn.Upsample(scale_factor=(0.7, 2, 1.5), mode="trilinear", recompute_scale_factor=True),
        (VOLUMES,),
    ),
    "UpsamplingNearest2d": (lambda nn: nn.UpsamplingNearest2d(5), (IMAGES,)),
    "UpsamplingBilinear2d": (lambda nn: nn.UpsamplingBilinear2d(scale_factor=1.7), (IMAGES,)),
    "PixelShuffle": (lambda nn: nn.PixelShuffle(2), (IMAGES,)),
    "PixelUnshuffle": (lambda nn: nn.PixelUnshuffle(3), (real(2, 6, 9),)),
    "ChannelShuffle": (lambda nn: nn.ChannelShuffle(2), (IMAGES,)),
    "Softmax2d": (lambda nn: nn.Softmax2d(), (IMAGES,)),
    **{
        f"{name} 3-D": (lambda nn, name=name: getattr(nn, name)((1, 0, 2, 1, 1, 1)), (real(2, 2, 3, 3, 4),))
        for name in ("ZeroPad3d", "ReflectionPad3d", "ReplicationPad3d", "CircularPad3d")
    },
    "ConstantPad3d": (lambda nn: nn.ConstantPad3d(1, 0.5), (VOLUMES,)),
    "Unflatten": (lambda nn: nn.Unflatten(1, (2, -1)), (IMAGES,)),
    **{
        f"{name} off": (lambda nn, name=name: getattr(nn, name)(0.0), (IMAGES,))
        for name in ("Dropout2d", "AlphaDropout", "FeatureAlphaDropout")
    },
    "Dropout1d off": (lambda nn: nn.Dropout1d(0.0), (SEQUENCES,)),
    "CNN": (
        lambda nn: nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 2),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        ),
        (IMAGES,),
    ),
}


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, training: bool) -> None:
    make, inputs = LAYERS[name]
    compare_modules(make, *inputs, calls=2, training=training)


@pytest.mark.parity
@pytest.mark.parametrize("name", LAYERS)
def test_reprs(name: str) -> None:
    make, _ = LAYERS[name]
    assert repr(make(torch.nn)) == repr(make(pytorch.nn))


SMOOTH = [
    "Conv1d options",
    "Conv2d circular",
    "ConvTranspose2d",
    "AvgPool2d options",
    "BatchNorm2d",
    "GroupNorm",
    "RMSNorm",
    "CNN",
]


@pytest.mark.parity
@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_penalties(name: str) -> None:
    """The gradient, by weights and inputs, of the norm of the gradient by the inputs: backward through backward."""
    make, (values,) = LAYERS[name]
    results = []
    for library, module in in_both(make):
        x = library.tensor(values, requires_grad=True)
        (grad,) = library.autograd.grad(module(x).square().sum(), x, create_graph=True)
        grad.square().sum().backward()
        results.append([x.grad, *(parameter.grad for parameter in module.parameters())])
    for mine, other in zip(*results, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_allclose(to_numpy(mine), to_numpy(other), rtol=1e-9, atol=1e-9)


def test_a_second_device_gives_the_same() -> None:
    """A convolutional network on the stand-in for a GPU: the same numbers, and nothing comes back."""
    results = []
    for device in ("cpu", "cuda"):
        with fake_gpu() as counts:
            torch.manual_seed(0)
            net = LAYERS["CNN"][0](torch.nn).append(torch.nn.Dropout(0.1)).double().to(device)
            x = torch.tensor(IMAGES, device=device)
            counts.reset()
            loss = net(x).square().mean()
            loss.backward()
            assert counts.transfers <= 2 and counts.synchronizations == 0  # dropout's mask, the offsets in a window
            results.append(
                [to_numpy(loss), *(to_numpy(p.grad) for p in net.parameters()), *map(to_numpy, net.buffers())]
            )
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_pickles_are_the_same_layer(name: str) -> None:
    make, inputs = LAYERS[name]
    layer = make(torch.nn).double()
    twin = pickle.loads(pickle.dumps(layer))
    assert repr(twin) == repr(layer) and vars(twin).keys() == vars(layer).keys()
    mine, other = (outputs_of(module(*map(torch.tensor, inputs))) for module in (layer, twin))
    for x, y in zip(mine, other, strict=True):
        np.testing.assert_array_equal(to_numpy(x), to_numpy(y))


@pytest.mark.parity
def test_conv_transpose_with_an_output_size() -> None:
    compare_modules(lambda nn: nn.ConvTranspose2d(4, 2, 3, stride=3, padding=1), IMAGES, output_size=(20, 17))
    with pytest.raises(ValueError, match=r"^ConvTranspose2d: .*valid sizes range from \[19, 16\] to \[21, 18\]"):
        torch.nn.ConvTranspose2d(4, 2, 3, stride=3, padding=1)(torch.tensor(IMAGES), output_size=(22, 17))


LARGE = {
    "Conv1d": lambda nn: nn.Conv1d(40, 60, 5),
    "Conv2d": lambda nn: nn.Conv2d(40, 60, 3, groups=2),
    "ConvTranspose2d": lambda nn: nn.ConvTranspose2d(40, 60, 3, groups=2),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", LARGE)
def test_parameters_start_as_pytorchs(name: str) -> None:
    """Every parameter: mean, deviation and largest value, which tell uniform, normal and constant apart."""
    theirs = dict(LARGE[name](pytorch.nn).named_parameters())
    for key, parameter in LARGE[name](torch.nn).named_parameters():
        mine, other = to_numpy(parameter), to_numpy(theirs[key])
        scale = other.std() or 1.0
        assert abs(mine.mean() - other.mean()) < 5 * scale / np.sqrt(mine.size) + 1e-7, key
        assert mine.std() == pytest.approx(other.std(), rel=4 / np.sqrt(mine.size)), key
        assert abs(mine).max() == pytest.approx(abs(other).max(), rel=0.25), key


WRONG: list[tuple[str, Any]] = [
    (r"Conv2d: in_channels must be divisible by groups, got 3 and 2", lambda nn: nn.Conv2d(3, 4, 3, groups=2)),
    (r"Conv2d: out_channels must be divisible", lambda nn: nn.Conv2d(4, 3, 3, groups=2)),
    (r"Conv1d: padding_mode is .*'mirror'", lambda nn: nn.Conv1d(4, 3, 3, padding_mode="mirror")),
    (
        r"Conv2d: kernel_size is one number or one for each of 2 dimensions, got \(1, 2, 3\)",
        lambda nn: nn.Conv2d(4, 3, (1, 2, 3)),
    ),
    (r"Conv2d: padding='same' is not supported for strided", lambda nn: nn.Conv2d(4, 3, 3, 2, padding="same")),
    (r"Conv2d: padding is 'same', 'valid' or numbers, got 'half'", lambda nn: nn.Conv2d(4, 3, 3, padding="half")),
    (r"ConvTranspose2d: only padding_mode='zeros'", lambda nn: nn.ConvTranspose2d(4, 3, 3, padding_mode="reflect")),
    (r"Conv2d: groups must be a positive integer, got 0", lambda nn: nn.Conv2d(4, 3, 3, groups=0)),
    (r"GroupNorm: num_channels must be divisible by num_groups, got 5 and 2", lambda nn: nn.GroupNorm(2, 5)),
    (r"ZeroPad2d: padding is one number or 4, .*got \(1, 2\)", lambda nn: nn.ZeroPad2d((1, 2))),
]


@pytest.mark.parametrize(("words", "make"), WRONG)
def test_wrong_options_are_refused(words: str, make: Any) -> None:
    with pytest.raises(ValueError, match=words):
        make(torch.nn)


def test_errors_name_the_layer() -> None:
    nn = torch.nn
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 4, 3)))
    with pytest.raises(
        torch.ShapeError, match=r"^Conv2d '0': conv2d: .*expected input\[1, 4, 5, 5\] to have 3 channels"
    ):
        net(torch.zeros(1, 4, 5, 5))
    with pytest.raises(torch.ShapeError, match=r"^Conv2d '2\.0': conv2d: .*Kernel size can't be greater"):
        net(torch.zeros(1, 3, 4, 4))
    with pytest.raises(torch.ShapeError, match=r"^BatchNorm2d '0': expected \(N, 3, H, W\), got input \(2, 3, 4\)"):
        nn.Sequential(nn.BatchNorm2d(3))(torch.zeros(2, 3, 4))
    with pytest.raises(
        torch.ShapeError, match=r"^InstanceNorm1d '0': expected \(N, 3, L\) or \(3, L\), got input \(2, 3\)"
    ):
        nn.Sequential(nn.InstanceNorm1d(3))(torch.zeros(2, 3))
    with pytest.raises(torch.ShapeError, match=r"^InstanceNorm2d '0': expected .* got input \(2, 4, 3, 3\)"):
        nn.Sequential(nn.InstanceNorm2d(3))(torch.zeros(2, 4, 3, 3))
    with pytest.raises(torch.ShapeError, match=r"^GroupNorm '0': expected \(N, 4, \.\.\.\), got input \(2, 3\)"):
        nn.Sequential(nn.GroupNorm(2, 4))(torch.zeros(2, 3))
    with pytest.raises((torch.ShapeError, RuntimeError), match=r"^MaxPool2d '0': max_pool2d"):
        nn.Sequential(nn.MaxPool2d(3))(torch.zeros(1, 3, 2, 2))
    with pytest.raises(torch.ShapeError, match=r"^ReflectionPad1d '0': pad: Padding size should be less"):
        nn.Sequential(nn.ReflectionPad1d(3))(torch.zeros(1, 3))
