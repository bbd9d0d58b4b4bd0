"""Models that a config can name: functions from the width of the data and their own arguments to a Module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from nanotorch import nn
from nanotorch.registry import ACTIVATIONS, MODELS, Between, NameIn, PositiveInt

__all__ = ["mlp"]


@MODELS.register
def mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[PositiveInt] = (64,),
    activation: Annotated[str, NameIn(ACTIVATIONS)] = "ReLU",
    dropout: Annotated[float, Between(0, 1, high_open=True)] = 0.0,
    batch_norm: bool = False,
) -> nn.Sequential:
    """A multi-layer perceptron: for each hidden width Linear, BatchNorm1d if asked for, activation, Dropout.

    Maps (rows, in_features) to (rows, out_features); an empty `hidden` makes a linear model.

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
        if batch_norm:
            layers.append(nn.BatchNorm1d(hidden_width))
        layers.append(ACTIVATIONS.get(activation)())
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        width = hidden_width
    layers.append(nn.Linear(width, out_features))
    return nn.Sequential(*layers)
