"""Models made for tables: RealMLP, and TabM, an ensemble in one network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.nn.modules.ensemble import Kind
from nanotorch.registry import ACTIVATIONS, MODELS, PositiveFloat, PositiveInt
from nanotorch.train.model.models import Activation, Dropout

EmbeddingOfNumbers = Literal["periodic", "piecewise", "none"]


class OnNumbers(nn.Module):
    """A layer on the first `numeric` columns of a row, which hold numbers; what it makes of them goes before the rest.

    >>> OnNumbers(nn.PeriodicEmbedding(2, width=3), 2)(torch.zeros(5, 7)).shape
    torch.Size([5, 11])
    """

    def __init__(self, layer: nn.Module, numeric: int) -> None:
        super().__init__()
        self.layer, self.numeric = layer, numeric

    def forward(self, rows: Tensor) -> Tensor:
        """Return what the layer makes of the numbers, then the other columns."""
        made: Tensor = self.layer(rows[:, : self.numeric])
        return made if rows.shape[1] == self.numeric else torch.cat([made, rows[:, self.numeric :]], 1)

    def extra_repr(self) -> str:
        """How many numbers there are."""
        return f"numeric={self.numeric}"


def _embedded(
    in_features: int, numeric: int | None, embedding: EmbeddingOfNumbers, **options: Any
) -> tuple[dict[str, nn.Module], int]:
    """Return the layer that embeds the numbers of a row, if there are any, and how wide a row is behind it."""
    numeric = in_features if numeric is None else numeric
    if embedding == "none" or numeric == 0:
        return {}, in_features
    made: Any = {"periodic": nn.PeriodicEmbedding, "piecewise": nn.PiecewiseLinearEmbedding}[embedding]
    layer = made(numeric, **options)
    return {"numbers": OnNumbers(layer, numeric)}, in_features + numeric * (layer.width - 1)


def _realmlp_size(in_features: int, out_features: int, hidden: Sequence[int], **_: Any) -> tuple[int, int]:
    widths = [4 * in_features, *hidden, out_features]
    return len(hidden) + 3, sum(before * after for before, after in pairwise(widths)) + 100 * in_features


@MODELS.register(
    size=_realmlp_size,
    factors={
        "scale.scale": {"lr": 6.0},
        "slope": {"lr": 0.1},
        "bias": {"lr": 0.1, "weight_decay": 0.0},
        "numbers.*": {"lr": 0.1, "weight_decay": 1.0},
    },
)
def realmlp(
    in_features: int,
    out_features: int,
    numeric: int | None = None,
    kind: Kind = "values",
    hidden: Sequence[PositiveInt] = (256, 256, 256),
    activation: Activation | None = None,
    dropout: Dropout = 0.15,
    embedding: EmbeddingOfNumbers = "periodic",
    sigma: PositiveFloat = 0.1,
) -> nn.Sequential:
    """RealMLP: embedded numbers, a learned scale, and layers that learn at one rate whatever their width.

    Maps (rows, in_features), of which the first `numeric` hold numbers, to (rows, out_features). The activation is SELU
    for classes and Mish for numbers. Scales, biases, activations and embeddings learn at rates of their own, which
    `optimizer.factors` replaces. It goes with `data.standardize: robust`, `scheduler: {name: CosLogLR, interval: step}`
    and `optimizer: {name: AdamW, lr: 0.04, betas: [0.9, 0.95], weight_decay: 0.02}` (0.2 for numbers). Holzmueller,
    Grinsztajn and Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data" (2024).
    """
    options = {"sigma": sigma} if embedding == "periodic" else {}
    layers, width = _embedded(in_features, numeric, embedding, **options)
    layers["scale"] = nn.Scale(width)
    bends = activation or ("Mish" if kind == "values" else "SELU")
    for number, hidden_width in enumerate(hidden):
        layers[f"linear{number}"] = nn.NTKLinear(width, hidden_width)
        layers[f"activation{number}"] = nn.ParametricActivation(ACTIVATIONS.get(bends)(), hidden_width)
        if dropout > 0:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        width = hidden_width
    layers["output"] = nn.NTKLinear(width, out_features)
    return nn.Sequential(layers)


def _tabm_size(
    in_features: int, out_features: int, members: int, hidden: Sequence[int], shared: bool, **_: Any
) -> tuple[int, int]:
    widths = [8 * in_features, *hidden]
    copies = 1 if shared else members
    inner = sum(copies * before * after + members * (before + 2 * after) for before, after in pairwise(widths))
    return len(hidden) + 3, inner + members * widths[-1] * out_features + 150 * in_features


@MODELS.register(size=_tabm_size, members=True)
def tabm(
    in_features: int,
    out_features: int,
    numeric: int | None = None,
    kind: Kind = "values",
    members: PositiveInt = 16,
    hidden: Sequence[PositiveInt] = (128, 128),
    activation: Activation = "ReLU",
    dropout: Dropout = 0.1,
    embedding: EmbeddingOfNumbers = "piecewise",
    shared: bool = True,
) -> nn.Sequential:
    """TabM: an ensemble of perceptrons in one network, which share all weights but a scale and a bias of each unit;
    with `shared: false` they share none, and are an ensemble of networks that are trained side by side.

    Maps (rows, in_features), of which the first `numeric` hold numbers, to (rows, members, out_features) in training
    and to their mean, (rows, out_features), in evaluation (Note [Members of an ensemble]): the mean of probabilities
    where the outputs are logits. It goes with `optimizer: {name: AdamW, lr: 2e-3, weight_decay: 3e-4}`. Gorishniy,
    Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling" (2024), whose
    networks are wider: `members: 32`, `hidden: [512, 512, 512]`.
    """
    layers, width = _embedded(in_features, numeric, embedding)
    layers["members"] = nn.Members(members)
    for number, hidden_width in enumerate(hidden):
        layers[f"linear{number}"] = (
            nn.BatchEnsembleLinear(members, width, hidden_width, signs=number == 0)
            if shared
            else nn.BatchedLinear(members, width, hidden_width)
        )
        layers[f"activation{number}"] = ACTIVATIONS.get(activation)()
        if dropout > 0:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        width = hidden_width
    layers["output"] = nn.BatchedLinear(members, width, out_features)
    layers["mean"] = nn.MeanOfMembers(kind)
    return nn.Sequential(layers)
