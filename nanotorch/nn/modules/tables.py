"""Layers of networks for tables: scaled columns, linear layers whose rates do not depend on their width, activations
that learn how much they bend, and embeddings of numbers.

Note [Begun from rows]
~~~~~~~~~~~~~~~~~~~~~~
Some layers begin best with parameters that suit their inputs. Such a layer has a method `begin(input)` that draws them
for these rows, and `begin_from` walks a model once, each layer beginning just before it computes: with what the layers
before it, begun already, give it. A layer that was not begun works as well, with the parameters of its constructor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn import init
from nanotorch.nn.module import Module
from nanotorch.nn.modules.linear import Linear
from nanotorch.nn.parameter import Parameter
from nanotorch.ops.create.creation import empty, linspace, ones, tensor, zeros
from nanotorch.ops.create.random import rand, randint
from nanotorch.ops.nn.dense import linear
from nanotorch.ops.shape.join import cat

SIMPLEX = 5  # rows whose random mean an output of `NTKLinear` is centred on


def begin_from(model: Module, input: Tensor) -> None:
    """Have each layer of a model that can draw its parameters for its inputs (Note [Begun from rows])."""

    def begin(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        layer.begin(*inputs)

    hooks = [each.register_forward_pre_hook(begin) for each in model.modules() if hasattr(each, "begin")]
    if hooks:
        training = model.training
        model.eval()
        with no_grad():
            model(input)
        model.train(training)
    for hook in hooks:
        hook.remove()


class Scale(Module):
    """`input * scale`, with a learned factor for each place of the last dimensions: it begins at 1, or with `signs` at
    1 or -1 by chance.

    In front of a network it learns which columns matter (Holzmueller, Grinsztajn, Steinwart, "Better by Default",
    2024). In the shape (members, features), with signs, it tells the members of an ensemble apart that share all other
    weights: a rank-one adapter (Gorishniy, Kotelnikov, Babenko, "TabM", 2024).

    >>> torch.nn.Scale(3)(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 2., 3.]], grad_fn=<MulBackward0>)
    """

    def __init__(self, *shape: int, signs: bool = False, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.signs = signs
        self.scale: Parameter = Parameter(empty(*shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put the factors back, with new signs."""
        init.ones_(self.scale)
        if self.signs:
            random_signs_(self.scale)

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (*, *shape)."""
        return input * self.scale

    def extra_repr(self) -> str:
        """The shape."""
        return f"{', '.join(map(str, self.scale.shape))}{', signs=True' if self.signs else ''}"


def random_signs_(tensor: Tensor) -> Tensor:
    """Fill a tensor with 1 and -1, each by half a chance."""
    with no_grad():
        return tensor.copy_(rand(tensor.shape, device=tensor.device, dtype=tensor.dtype).sub_(0.5).sign_())


class NTKLinear(Linear):
    """`input @ weight.T / sqrt(in_features) + bias`, with weights that begin normal of deviation 1.

    So wide and narrow layers take the same learning rate: Jacot, Gabriel and Hongler, "Neural Tangent Kernel" (2018).
    `begin` draws the weights such that each output has deviation 1 over the rows, and biases that put its zero within
    the rows: at a random mean of five of them, as RealMLP does (Holzmueller, Grinsztajn and Steinwart, "Better by
    Default", 2024; the biases are those of Steinwart, "A Sober Look at Neural Network Initializations", 2019).
    """

    def reset_parameters(self) -> None:
        """Draw both parameters anew."""
        init.normal_(self.weight)
        if self.bias is not None:
            init.normal_(self.bias)

    def begin(self, input: Tensor) -> None:
        """Draw both parameters for rows (rows, in_features) as inputs."""
        init.normal_(self.weight)
        outputs = linear(input * self.in_features**-0.5, self.weight)
        deviation = outputs.std(0, correction=0)
        deviation = deviation.masked_fill(deviation == 0, 1.0)
        self.weight.div_(deviation.unsqueeze(1))
        if self.bias is not None:
            places = randint(len(input), (SIMPLEX, self.out_features), device=input.device)
            shares = -rand((SIMPLEX, self.out_features), device=input.device, dtype=input.dtype).clamp_min(1e-7).log()
            self.bias.copy_(-((outputs / deviation).gather(0, places) * shares / shares.sum(0)).sum(0))

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (*, in_features)."""
        return super().forward(input * self.in_features**-0.5)


class ParametricActivation(Module):
    """`x + slope * (f(x) - x)` for an activation f, with a learned slope for each feature: 0 is a line, 1 is f itself,
    where it begins.

    Holzmueller, Grinsztajn, Steinwart, "Better by Default" (2024).

    >>> torch.nn.ParametricActivation(torch.nn.ReLU(), 2)(torch.tensor([[-1.0, 2.0]]))
    tensor([[0., 2.]], grad_fn=<AddBackward0>)
    """

    def __init__(self, activation: Module, features: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.activation = activation
        self.slope: Parameter = Parameter(ones(features, device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (*, features)."""
        return input + self.slope * (self.activation(input) - input)


class BatchedLinear(Module):
    """`count` linear layers side by side, each with inputs and weights of its own: (*, count, in_features) to
    (*, count, out_features), as `input[..., i, :] @ weight[i] + bias[i]`.

    All parameters begin uniform between plus and minus `1 / sqrt(in_features)`, as those of `Linear`.

    >>> torch.nn.BatchedLinear(4, 2, 3)(torch.zeros(5, 4, 2)).shape
    torch.Size([5, 4, 3])
    """

    def __init__(
        self, count: int, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.count = count
        self.in_features = in_features
        self.out_features = out_features
        self.weight: Parameter = Parameter(empty(count, in_features, out_features, device=device, dtype=dtype))
        self.bias: Parameter | None
        self.register_parameter(
            "bias", Parameter(empty(count, out_features, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (*, count, in_features)."""
        output = input.transpose(-3, -2).matmul(self.weight).transpose(-3, -2)
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        """The sizes."""
        return (
            f"{self.count}, in_features={self.in_features}, out_features={self.out_features},"
            f" bias={self.bias is not None}"
        )


class PeriodicEmbedding(Module):
    """Each number x becomes itself and `width - 1` learned mixtures of `cos(2 pi frequency x + phase)`:
    (rows, features) to (rows, features * width).

    The frequencies begin normal of deviation `sigma`, the phases anywhere. A network on such numbers fits a function
    that bends often much sooner: Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features" (2022); in
    this form ("PBLD") Holzmueller, Grinsztajn and Steinwart, "Better by Default" (2024).

    >>> torch.nn.PeriodicEmbedding(3)(torch.zeros(2, 3)).shape
    torch.Size([2, 12])
    """

    def __init__(
        self,
        features: int,
        frequencies: int = 16,
        width: int = 4,
        sigma: float = 0.1,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.width = width
        self.sigma = sigma
        self.frequency: Parameter = Parameter(empty(features, frequencies, device=device, dtype=dtype))
        self.phase: Parameter = Parameter(empty(features, frequencies, device=device, dtype=dtype))
        self.mixture: BatchedLinear = BatchedLinear(features, frequencies, width - 1, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        init.normal_(self.frequency, 0.0, self.sigma)
        init.uniform_(self.phase, -math.pi, math.pi)
        self.mixture.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (rows, features)."""
        waves = (input.unsqueeze(-1) * (2 * math.pi * self.frequency) + self.phase).cos()
        return cat([input, self.mixture(waves).flatten(1)], 1)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.features}, frequencies={self.frequency.shape[1]}, width={self.width}, sigma={self.sigma}"


class PiecewiseLinearEmbedding(Module):
    """Each number becomes `width` learned functions of it that are lines between `bins + 1` edges:
    (rows, features) to (rows, features * width).

    A number x has in each bin its share of the way from the left edge to the right one, 0 before it and 1 behind it;
    the first and the last bin go on beyond their outer edges. A linear layer for each feature mixes the shares, which
    learns steps, the strong side of trees. `begin` takes quantiles as edges; before it they lie evenly between -1 and
    1. Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning" (2022).

    >>> embedding = torch.nn.PiecewiseLinearEmbedding(1, bins=2, width=3)
    >>> embedding.shares(torch.tensor([[-1.0], [0.5], [2.0]]))[:, 0]
    tensor([[0.0000, 0.0000],
            [1.0000, 0.5000],
            [1.0000, 2.0000]])
    """

    slope: Tensor
    shift: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, features: int, bins: int = 16, width: int = 8, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.features = features
        self.bins = bins
        self.width = width
        self.register_buffer("slope", zeros(features, bins, device=device, dtype=dtype))
        self.register_buffer("shift", zeros(features, bins, device=device, dtype=dtype))
        self.mixture: BatchedLinear = BatchedLinear(features, bins, width, device=device, dtype=dtype)
        bounds = [-math.inf, *[0.0] * (bins - 1)], [*[1.0] * (bins - 1), math.inf]
        for name, values in zip(("lower", "upper"), bounds, strict=True):
            self.register_buffer(name, tensor(values, device=device, dtype=self.slope.dtype), persistent=False)
        evenly = linspace(-1.0, 1.0, bins + 1, device=device, dtype=dtype)
        self.set_edges([evenly] * features)

    def set_edges(self, edges: Sequence[Tensor]) -> None:
        """Take for each feature these rising edges, at most `bins + 1`; the bins that are left give 0."""
        for feature, places in enumerate(edges):
            widths = places.diff()
            places, widths = places[:-1][widths > 0], widths[widths > 0]
            count = len(widths)
            self.slope[feature], self.shift[feature] = 0.0, 0.0
            if count:  # the last bin comes last, so that all features end in the one that goes on
                into = [*range(count - 1), self.bins - 1]
                self.slope[feature, into] = 1 / widths
                self.shift[feature, into] = -places / widths

    def begin(self, input: Tensor) -> None:
        """Take the quantiles of rows (rows, features) as edges."""
        steps = linspace(0.0, 1.0, self.bins + 1, device=input.device, dtype=input.dtype)
        self.set_edges(list(input.quantile(steps, 0).unbind(1)))

    def shares(self, input: Tensor) -> Tensor:
        """Return the share of each number in each bin, (rows, features, bins)."""
        return (input.unsqueeze(-1) * self.slope + self.shift).clamp(self.lower, self.upper)

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (rows, features)."""
        return self.mixture(self.shares(input)).flatten(1)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.features}, bins={self.bins}, width={self.width}"
