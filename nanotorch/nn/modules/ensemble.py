"""Ensembles that are one network: k members side by side, (rows, members, features), which share most weights.

Note [Members of an ensemble]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
`Members` makes k copies of each row, layers with weights for each member take them apart, and `MeanOfMembers` ends the
network. In training it passes the outputs of all members on, (rows, members, outputs), and the loss is the mean of the
members' losses (`LossOfMembers`): each of them learns to be right alone. In evaluation it gives their mean,
(rows, outputs). So whatever uses a model that does not train (predictions, scores, exports) sees an ordinary network,
and whatever trains one sees three dimensions in the place of two.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn import functional as F
from nanotorch.nn import init
from nanotorch.nn.module import Module
from nanotorch.nn.modules.tables import random_signs_
from nanotorch.nn.parameter import Parameter
from nanotorch.ops.create.creation import empty
from nanotorch.ops.nn.dense import linear
from nanotorch.ops.shape.join import cat

Kind = Literal["values", "binary", "multiclass"] | tuple[int, ...]


class Members(Module):
    """`count` views of each row, one for each member of an ensemble: (rows, features) to (rows, count, features).

    >>> torch.nn.Members(3)(torch.zeros(5, 2)).shape
    torch.Size([5, 3, 2])
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (rows, features)."""
        return input.unsqueeze(1).expand(-1, self.count, -1)

    def extra_repr(self) -> str:
        """How many there are."""
        return f"{self.count}"


class BatchEnsembleLinear(Module):
    """Linear layers of the members of an ensemble, which share one weight: `linear(input * r, weight) * s + bias`, with
    `r`, `s` and `bias` of each member: (rows, members, in_features) to (rows, members, out_features).

    Weight and biases begin as those of `Linear`, the biases alike for all members; `r` and `s` begin at 1, with `signs`
    `r` begins at 1 or -1 by chance, which the first layer needs for the members to differ. Wen, Tran and Ba,
    "BatchEnsemble" (2020); the beginnings are those of Gorishniy, Kotelnikov and Babenko, "TabM" (2024).
    """

    def __init__(
        self,
        members: int,
        in_features: int,
        out_features: int,
        bias: bool = True,
        signs: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.members = members
        self.in_features = in_features
        self.out_features = out_features
        self.signs = signs
        self.weight: Parameter = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        self.r: Parameter = Parameter(empty(members, in_features, device=device, dtype=dtype))
        self.s: Parameter = Parameter(empty(members, out_features, device=device, dtype=dtype))
        self.bias: Parameter | None
        self.register_parameter(
            "bias", Parameter(empty(members, out_features, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        init.ones_(self.r)
        init.ones_(self.s)
        if self.signs:
            random_signs_(self.r)
        if self.bias is not None:
            init.uniform_(self.bias.data[0], -bound, bound)
            self.bias.data[1:] = self.bias.data[0]

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (rows, members, in_features)."""
        output = linear(input * self.r, self.weight) * self.s
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        """The sizes."""
        return (
            f"{self.members}, in_features={self.in_features}, out_features={self.out_features},"
            f" bias={self.bias is not None}{', signs=True' if self.signs else ''}"
        )


class MeanOfMembers(Module):
    """The end of an ensemble: in evaluation the mean of its members, (rows, members, outputs) to (rows, outputs); in
    training the members as they are (Note [Members of an ensemble]).

    `of` says what the outputs are: the mean of "values" is their own; of logits of classes, "binary" with one logit or
    "multiclass" with one for each, it is that of the probabilities, as a logit again. Of several targets side by side
    `of` is how many logits each of them has.

    >>> mean = torch.nn.MeanOfMembers("binary").eval()
    >>> mean(torch.tensor([[[0.0], [100.0]]])).sigmoid()
    tensor([[0.7500]])
    """

    def __init__(self, of: Kind = "values") -> None:
        super().__init__()
        self.of = of

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (rows, members, outputs)."""
        if self.training:
            return input
        if isinstance(self.of, tuple):
            kinds: list[Kind] = ["binary" if size == 1 else "multiclass" for size in self.of]
            return cat([_mean(*each) for each in zip(kinds, input.split(self.of, -1), strict=True)], 1)
        return _mean(self.of, input)

    def extra_repr(self) -> str:
        """What the outputs are."""
        return str(self.of)


def _mean(of: Kind, outputs: Tensor) -> Tensor:
    """Return the mean of members, (rows, members, outputs) to (rows, outputs)."""
    if of == "values":
        return outputs.mean(1)
    if of == "binary":  # of log p / (1 - p) the constant for the number of members falls out
        return F.logsigmoid(outputs).logsumexp(1) - F.logsigmoid(-outputs).logsumexp(1)
    return F.log_softmax(outputs, -1).logsumexp(1) - math.log(outputs.shape[1])


class LossOfMembers(Module):
    """The loss of an ensemble: the mean over its members of another loss, which sums over rows or gives that of each.

    Outputs are (rows, members, outputs) in training, where the targets of a row count for each of its members, and
    (rows, outputs) in evaluation, where the loss is the other one itself (Note [Members of an ensemble]).
    """

    def __init__(self, loss: Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` as the model gives it, `target` one for each row."""
        if input.ndim == 2:
            result: Tensor = self.loss(input, target)
            return result
        rows, members = input.shape[:2]
        each: Tensor = self.loss(
            input.flatten(0, 1), target.unsqueeze(1).expand(-1, members, *target.shape[1:]).flatten(0, 1)
        )
        return each.reshape(rows, members, -1).mean(1) if each.ndim else each / members
