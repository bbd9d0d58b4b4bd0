"""Models that a config can name: functions from the width of the data and their own arguments to a Module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

from nanotorch import Tensor, nn
from nanotorch.registry import ACTIVATIONS, INITIALIZATIONS, MODELS, Between, NameIn, PositiveInt
from nanotorch.train.model.initialization import initialize

MOST_WEIGHTS = 10**9  # 4 GB, and three or four times that in training
MOST_LAYERS = 1000

Activation = Annotated[str, NameIn(ACTIVATIONS)]
Initialization = Annotated[str, NameIn(INITIALIZATIONS)]
Dropout = Annotated[float, Between(0, 1, high_open=True)]


def too_large(name: str, in_features: int, out_features: int, arguments: Mapping[str, Any]) -> str | None:
    """Return why a model of these widths cannot be built; None if it can.
    Its `size` says how many layers and weights it has.
    """
    size = MODELS.entry(name).facts.get("size")
    layers, weights = (0, 0) if size is None else size(in_features, out_features, **arguments)
    if layers > MOST_LAYERS:
        return f"a model of {layers:,} layers is not built: {MOST_LAYERS:,} are the most"
    if weights > MOST_WEIGHTS:
        return f"a model of {weights:,} weights is not built: {MOST_WEIGHTS:,} are the most"
    return None


def _mlp_size(in_features: int, out_features: int, hidden: Sequence[int], **_: Any) -> tuple[int, int]:
    return len(hidden) + 1, sum(before * after for before, after in pairwise([in_features, *hidden, out_features]))


@MODELS.register(size=_mlp_size)
def mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[PositiveInt] = (64,),
    activation: Activation = "ReLU",
    dropout: Dropout = 0.0,
    batch_norm: bool = False,
    layer_norm: bool = False,
    init: Initialization | None = None,
) -> nn.Sequential:
    """A multi-layer perceptron: for each hidden width Linear, a norm if asked for, activation, Dropout.

    Maps (rows, in_features) to (rows, out_features); an empty `hidden` makes a linear model. Without `init`, weights
    are drawn as PyTorch's Linear draws them.

    >>> mlp(4, 3, hidden=[16], dropout=0.1)
    Sequential(
      (0): Linear(in_features=4, out_features=16, bias=True)
      (1): ReLU()
      (2): Dropout(p=0.1, inplace=False)
      (3): Linear(in_features=16, out_features=3, bias=True)
    )
    """
    layers: list[nn.Module] = []
    width = in_features
    for hidden_width in hidden:
        layers.append(nn.Linear(width, hidden_width))
        layers += _norm(hidden_width, batch_norm, layer_norm)
        layers.append(ACTIVATIONS.get(activation)())
        layers += _dropout(dropout)
        width = hidden_width
    layers.append(nn.Linear(width, out_features))
    return _initialized(nn.Sequential(*layers), init, activation)


class Residual(nn.Sequential):
    """Layers around which the input goes on unchanged: `x + layers(x)`. He et al., Deep Residual Learning (2016)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input plus what the layers make of it."""
        return input + super().forward(input)


def _residual_size(in_features: int, out_features: int, width: int, blocks: int, **_: Any) -> tuple[int, int]:
    return 2 * blocks + 2, (in_features + out_features + 2 * blocks * width) * width


@MODELS.register(size=_residual_size)
def residual_mlp(
    in_features: int,
    out_features: int,
    width: PositiveInt = 128,
    blocks: PositiveInt = 2,
    activation: Activation = "ReLU",
    dropout: Dropout = 0.0,
    batch_norm: bool = False,
    layer_norm: bool = False,
    init: Initialization | None = None,
) -> nn.Sequential:
    """A perceptron of residual blocks: each a norm if asked for, Linear, activation, Dropout, Linear, Dropout.

    Maps (rows, in_features) to (rows, out_features). The ResNet for tables of Gorishniy et al., Revisiting Deep
    Learning Models for Tabular Data (2021).

    >>> residual_mlp(4, 3, width=16, blocks=1, layer_norm=True)
    Sequential(
      (0): Linear(in_features=4, out_features=16, bias=True)
      (1): Residual(
        (0): LayerNorm((16,), eps=1e-05, elementwise_affine=True, bias=True)
        (1): Linear(in_features=16, out_features=16, bias=True)
        (2): ReLU()
        (3): Linear(in_features=16, out_features=16, bias=True)
      )
      (2): LayerNorm((16,), eps=1e-05, elementwise_affine=True, bias=True)
      (3): ReLU()
      (4): Linear(in_features=16, out_features=3, bias=True)
    )
    """
    layers: list[nn.Module] = [nn.Linear(in_features, width)]
    for _ in range(blocks):
        layers.append(
            Residual(
                *_norm(width, batch_norm, layer_norm),
                nn.Linear(width, width),
                ACTIVATIONS.get(activation)(),
                *_dropout(dropout),
                nn.Linear(width, width),
                *_dropout(dropout),
            )
        )
    layers += [*_norm(width, batch_norm, layer_norm), ACTIVATIONS.get(activation)(), nn.Linear(width, out_features)]
    return _initialized(nn.Sequential(*layers), init, activation)


def _norm(width: int, batch_norm: bool, layer_norm: bool) -> list[nn.Module]:
    if batch_norm and layer_norm:
        raise ValueError("a layer takes batch_norm or layer_norm, not both")
    return [nn.BatchNorm1d(width)] if batch_norm else [nn.LayerNorm(width)] if layer_norm else []


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share > 0 else []


def _initialized(model: nn.Sequential, init: str | None, activation: str) -> nn.Sequential:
    if init is not None:
        initialize((layer for layer in model.modules() if isinstance(layer, nn.Linear)), init, activation)
    return model
