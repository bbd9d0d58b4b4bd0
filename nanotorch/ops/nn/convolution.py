"""Convolutions of any number of dimensions, and their transposes.

Note [Convolution]
~~~~~~~~~~~~~~~~~~
A convolution is one matrix product: the weight as a matrix (O, C * K) times a matrix whose columns are the windows of
the input (Note [Windows]). Its two derivatives are the two other products of the same three matrices: output gradient
times columns gives the weight's; weight times output gradient gives columns, which `from_windows` adds up to the
input's. A transposed convolution is that last step taken as a function of its own, so its derivatives are the first
two. The three steps are written once, below, and serve forward, backward, and the backward of the backward.

The batch is the last dimension while columns are made, for then the elements that are copied together lie next to each
other. Groups are a batch of smaller products.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.nn.windows import per_dimension, places
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import real, sample


def _columns(xp: Any, x: Any, kernel: Any, sizes: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Return the windows of an input (N, C, ...) at the first `sizes` places as matrices
    (groups, C / groups * K, places * N).
    """
    moved = xp.batch_last(x)
    shape = (
        moved.shape[0],
        *[n + sum(pair) for n, pair in zip(moved.shape[1:-1], padding, strict=True)],
        moved.shape[-1],
    )
    if shape != tuple(moved.shape):
        moved = xp.scatter_to_zeros(moved, shape, _inside(padding, moved.shape))
    seen = xp.windows(moved, 1, kernel, stride, dilation)
    area = math.prod(sizes) * x.shape[0]
    # a transposed convolution with output_padding did not fill all
    if math.prod(seen.shape[1 + len(kernel) :]) != area:
        seen = seen[(slice(None),) * (1 + len(kernel)) + tuple(slice(n) for n in sizes)]
    return xp.reshape(seen, (groups, x.shape[1] // groups * math.prod(kernel), area))


def _inside(padding: Any, shape: Any) -> tuple[slice, ...]:
    """Return where an input of shape (C, ..., N) lies in the padded one."""
    return (slice(None), *[slice(p[0], p[0] + n) for p, n in zip(padding, shape[1:-1], strict=True)], slice(None))


def _matrices(xp: Any, x: Any, groups: int) -> Any:
    """Return an output (N, O, ...) as matrices (groups, O / groups, places * N)."""
    return xp.reshape(xp.batch_last(x), (groups, x.shape[1] // groups, math.prod(x.shape[2:]) * x.shape[0]))


def _convolve(
    xp: Any, x: Any, weight: Any, bias: Any, sizes: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    """Return the convolution of x (N, C, ...) with weight (O, C / groups, ...)."""
    kernel = tuple(weight.shape[2:])
    columns = _columns(xp, x, kernel, sizes, stride, padding, dilation, groups)
    flat = xp.reshape(weight, (groups, weight.shape[0] // groups, columns.shape[1]))
    out = xp.matmul(flat, columns)
    if bias is not None:
        out = xp.iadd(out, xp.reshape(bias, (groups, -1, 1)))
    return xp.batch_first(xp.reshape(out, (weight.shape[0], *sizes, x.shape[0])))


def _spread(xp: Any, y: Any, weight: Any, x_shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Return the adjoint of `_convolve` as a function of x:
    every element of y spreads the weight over the x it came from.
    """
    kernel = tuple(weight.shape[2:])
    flat = xp.reshape(weight, (groups, weight.shape[0] // groups, math.prod(weight.shape[1:])))
    columns = xp.matmul(xp.swapaxes(flat, 1, 2), _matrices(xp, y, groups))
    n, channels = x_shape[:2]
    seen = xp.reshape(columns, (channels, *kernel, *y.shape[2:], n))
    shape = (channels, *[length + sum(p) for length, p in zip(x_shape[2:], padding, strict=True)], n)
    whole = xp.from_windows(seen, shape, 1, kernel, stride, dilation)
    return xp.batch_first(whole[_inside(padding, (channels, *x_shape[2:], n))])


def _correlate(
    xp: Any, x: Any, y: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    """Return the adjoint of `_convolve` as a function of the weight: how x, seen through windows, goes with y."""
    columns = _columns(xp, x, tuple(weight_shape[2:]), tuple(y.shape[2:]), stride, padding, dilation, groups)
    return xp.reshape(xp.matmul(_matrices(xp, y, groups), xp.swapaxes(columns, 1, 2)), weight_shape)


def _bias_gradient(xp: Any, grad: Any) -> Any:
    return xp.sum(grad, axis=(0, *range(2, grad.ndim)))


@op(
    self=lambda xp, grad, self_shape, weight, stride, padding, dilation, groups: _spread(
        xp, grad, weight, self_shape, stride, padding, dilation, groups
    ),
    weight=lambda xp, grad, self, weight_shape, stride, padding, dilation, groups: _correlate(
        xp, self, grad, weight_shape, stride, padding, dilation, groups
    ),
    bias=_bias_gradient,
    where="internal",
    node="ConvolutionBackward0",
    flops=lambda weight, result: 2 * math.prod(result) * math.prod(weight[1:]),
)
def _convolution(
    xp: Any, self: Array, weight: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Array:
    """The convolution of (N, C, ...) with (O, C / groups, ...) (Note [Convolution])."""
    sizes = [
        places(n + sum(p), k, s, d)
        for n, k, s, p, d in zip(self.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    return _convolve(xp, self, weight, bias, sizes, stride, padding, dilation, groups)


@op(
    self=lambda xp, grad, self_shape, weight, stride, padding, dilation, groups: _convolve(
        xp, grad, weight, None, self_shape[2:], stride, padding, dilation, groups
    ),
    weight=lambda xp, grad, self, weight_shape, stride, padding, dilation, groups: _correlate(
        xp, grad, self, weight_shape, stride, padding, dilation, groups
    ),
    bias=_bias_gradient,
    where="internal",
    node="ConvolutionBackward0",
    flops=lambda self, weight: 2 * math.prod(self) * math.prod(weight[1:]),
)
def _transposed_convolution(
    xp: Any,
    self: Array,
    weight: Array,
    bias: Array | None,
    size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Array:
    """The transposed convolution of (N, C, ...) with (C, O / groups, ...), of shape `size` (Note [Convolution])."""
    out = _spread(xp, self, weight, size, stride, padding, dilation, groups)
    return out if bias is None else out + xp.reshape(bias, (-1,) + (1,) * (out.ndim - 2))


def _shapes(name: str, input: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    """Return the shapes of the operands of a convolution."""
    for argument, value in (("input", input), ("weight", weight)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}(): argument '{argument}' must be Tensor, not {type(value).__name__}")
    return input._array.shape, weight._array.shape, None if bias is None else tuple(bias.shape)


def _check(name: str, input: Any, weight: Any, bias: Any, dimensions: int, groups: int, transposed: bool) -> None:
    """Raise, with PyTorch's words, unless the shapes of input, weight and bias fit."""
    if len(input) not in (dimensions + 1, dimensions + 2):
        raise ShapeError(
            f"Expected {dimensions + 1}D (unbatched) or {dimensions + 2}D (batched) input to {name}, but got input of"
            f" size: {list(input)}"
        )
    shape = list(weight)
    if len(shape) != dimensions + 2:
        raise ShapeError(
            f"{name}: expected a weight of {dimensions + 2} dimensions for {dimensions} spatial ones, got weight"
            f" {tuple(shape)}"
        )
    if groups <= 0:
        raise RuntimeError(f"{name}: non-positive groups is not supported, got groups={groups}")
    if shape[0] % groups or not shape[0]:
        raise ShapeError(
            f"{name}: Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight"
            f" of size {shape} instead"
        )
    sizes = list(input) if len(input) == dimensions + 2 else [1, *input]
    channels = shape[0] if transposed else shape[1] * groups
    if sizes[1] != channels:
        raise ShapeError(
            f"{name}: Given groups={groups}, weight of size {shape}, expected input{sizes} to have {channels} channels,"
            f" but got {sizes[1]} channels instead"
        )
    out = shape[1] * groups if transposed else shape[0]
    if bias is not None and bias != (out,):
        raise ShapeError(
            f"{name}: Given weight of size {shape}, expected bias to be 1-dimensional with {out} elements, but got bias"
            f" of size {list(bias)} instead"
        )


def _numbers(name: str, count: int, **arguments: Any) -> list[tuple[int, ...]]:
    """Return strides, paddings and dilations per dimension, checked."""
    found = []
    for argument, value in arguments.items():
        numbers = per_dimension(name, argument, value, count)
        if min(numbers) < 0:
            raise RuntimeError(f"{name}: negative {argument} is not supported, got {value}")
        found.append(numbers)
    return found


def _paddings(
    name: str, padding: Any, kernel: Sequence[int], stride: Any, dilation: Any
) -> tuple[tuple[int, int], ...]:
    """Return how many zeros stand before and after every dimension."""
    if not isinstance(padding, str):
        return tuple((p, p) for p in _numbers(name, len(kernel), padding=padding)[0])
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding != "same":
        raise RuntimeError(f"{name}: Invalid padding string: '{padding}'; should be 'valid' or 'same'")
    if max(stride) > 1:
        raise RuntimeError(f"{name}: padding='same' is not supported for strided convolutions")
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@functools.lru_cache(maxsize=256)
def _geometry(
    name: str,
    dimensions: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> tuple[Any, Any, Any]:
    """Return stride, pairs of paddings and dilation per dimension, for shapes and arguments that are checked once."""
    _check(name, input, weight, bias, dimensions, groups, False)
    stride, dilation = _numbers(name, dimensions, stride=stride, dilation=dilation)
    kernel = weight[2:]
    pairs = _paddings(name, padding, kernel, stride, dilation)
    padded = [n + sum(p) for n, p in zip(input[-dimensions:], pairs, strict=True)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if any(r > n for r, n in zip(reach, padded, strict=True)):
        raise ShapeError(
            f"{name}: Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: "
            f"({' x '.join(map(str, reach))}). Kernel size can't be greater than actual input size"
        )
    return stride, pairs, dilation


def _conv(
    name: str,
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    shapes = _shapes(name, input, weight, bias)
    stride, pairs, dilation = _geometry(
        name, dimensions, *shapes, _hashable(stride), _hashable(padding), _hashable(dilation), groups
    )
    if len(shapes[0]) == dimensions + 2:
        return _convolution(input, weight, bias, stride, pairs, dilation, groups)
    return _convolution(input.unsqueeze(0), weight, bias, stride, pairs, dilation, groups).squeeze(0)


@composite(
    where="function",
    samples=[
        sample(real(2, 3, 7), real(4, 3, 3), real(4)),
        sample(real(2, 4, 7), real(6, 2, 2), stride=2, padding=1, dilation=2, groups=2),
        sample(real(3, 7), real(4, 3, 4), real(4), padding="same"),
        sample(real(2, 3, 7), real(4, 3, 3), padding="valid", dilation=(3,)),
        sample(real(0, 3, 7), real(4, 3, 3), real(4)),
        sample(real(1, 1, 3), real(1, 1, 1)),
    ],
)
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve (N, C, L) or (C, L) with weight (O, C / groups, K); as in every framework, without flipping the weight.

    `padding` is a number of zeros, "valid" (none) or "same" (as many as keep the length). The length becomes
    `(L + 2 * padding - dilation * (K - 1) - 1) // stride + 1`.
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@composite(
    where="function",
    samples=[
        sample(real(2, 3, 5, 6), real(4, 3, 3, 2), real(4)),
        sample(real(2, 4, 5, 6), real(6, 2, 2, 3), real(6), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2),
        sample(real(3, 5, 6), real(4, 3, 3, 2), real(4), padding="same"),
        sample(real(2, 3, 5, 5), real(3, 1, 3, 3), padding=1, groups=3),
        sample(real(2, 3, 5, 5), real(4, 3, 1, 1), real(4)),
        sample(real(0, 3, 5, 5), real(4, 3, 3, 3), real(4)),
        sample(real(2, 3, 7, 7), real(4, 3, 2, 2), stride=3),
        sample(real(2, 2, 5, 5), real(4, 2, 2, 3), padding="same", dilation=2),
    ],
)
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve images (N, C, H, W) or (C, H, W) with weight (O, C / groups, K1, K2);
    the arguments are those of `conv1d`.

    >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> torch.conv2d(image, torch.ones(1, 1, 2, 2))
    tensor([[[[ 8., 12.],
              [20., 24.]]]])
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@composite(
    where="function",
    samples=[sample(real(2, 2, 3, 4, 3), real(4, 1, 2, 3, 2), real(4), stride=(1, 2, 1), padding=1, groups=2)],
)
def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve volumes (N, C, D, H, W) or (C, D, H, W) with weight (O, C / groups, K1, K2, K3), as `conv1d` does."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    name: str,
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    _check(name, *_shapes(name, input, weight, bias), dimensions, groups, True)
    stride, padding, extra, dilation = _numbers(
        name, dimensions, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation
    )
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise RuntimeError(
            f"{name}: output padding must be smaller than either stride or dilation, but got output_padding={extra},"
            f" stride={stride}, dilation={dilation}"
        )
    batched = input._array.ndim == dimensions + 2
    lengths = input._array.shape[-dimensions:]
    kernel = weight._array.shape[2:]
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, k, s, p, d, e in zip(lengths, kernel, stride, padding, dilation, extra, strict=True)
    ]
    if min(sizes) < 1:
        raise ShapeError(
            f"{name}: Given input size per channel: {list(lengths)}. Calculated output size per channel: {sizes}."
            " Output size is too small"
        )
    batch = input._array.shape[0] if batched else 1
    size = (batch, weight._array.shape[1] * groups, *sizes)
    pairs = tuple((p, p) for p in padding)
    out = _transposed_convolution(
        input if batched else input.unsqueeze(0), weight, bias, size, stride, pairs, dilation, groups
    )
    return out if batched else out.squeeze(0)


@composite(
    where="function",
    samples=[
        sample(real(2, 3, 5), real(3, 2, 3), real(2)),
        sample(real(2, 4, 5), real(4, 3, 2), real(6), stride=3, padding=1, output_padding=1, groups=2, dilation=2),
        sample(real(3, 5), real(3, 2, 3)),
    ],
)
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """The transpose of `conv1d`: (N, C, L) with weight (C, O / groups, K) gives (N, O, ...).

    The length becomes `(L - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1`.
    """
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@composite(
    where="function",
    samples=[
        sample(real(2, 3, 3, 4), real(3, 2, 3, 2), real(2)),
        sample(
            real(2, 4, 3, 4),
            real(4, 3, 2, 3),
            real(6),
            stride=(3, 2),
            padding=(1, 0),
            output_padding=(2, 0),
            groups=2,
            dilation=(1, 2),
        ),
        sample(real(3, 3, 4), real(3, 2, 3, 2), stride=2),
        sample(real(1, 2, 3, 4), real(2, 1, 3, 2), stride=1, output_padding=(1, 2), dilation=(2, 3)),
    ],
)
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """The transpose of `conv2d`, with the arguments of `conv_transpose1d`."""
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@composite(
    where="function",
    samples=[sample(real(1, 2, 2, 3, 2), real(2, 2, 2, 1, 3), real(2), stride=(2, 1, 1), padding=(1, 0, 1))],
)
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """The transpose of `conv3d`, with the arguments of `conv_transpose1d`."""
    return _conv_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
