"""The mean of several models, and what each of them says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.nn.modules.ensemble import Kind


class MeanOfModels(nn.Module):
    """The mean of models, each of which sees columns of its own: (rows, all columns) to (rows, outputs).

    Of logits it is that of the probabilities, as a logit again (Note [Members of an ensemble]).

    Args:
        models: the models.
        widths: how many columns each of them sees.
        kind: what the outputs are.
        scale: what the outputs of each are multiplied by before the mean is taken, (models, outputs).
        shift: what is added to them then.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, models: Sequence[nn.Module], widths: Sequence[int], kind: Kind, scale: Tensor, shift: Tensor
    ) -> None:
        super().__init__()
        self.models, self.widths, self.mean = nn.ModuleList(models), list(widths), nn.MeanOfMembers(kind)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean."""
        pieces = x.split(self.widths, 1)
        said = torch.stack([model(piece) for model, piece in zip(self.models, pieces, strict=True)], 1)
        mean: Tensor = self.mean(said * self.scale + self.shift)
        return mean


def mean_of(model: nn.Module) -> nn.MeanOfMembers | None:
    """Return where a model takes the mean of its members, the outermost such place; None where it has one or none."""
    found = [module for module in model.modules() if isinstance(module, MeanOfModels)]
    if found:
        return found[0].mean
    if any(isinstance(module, nn.Members) and module.count == 1 for module in model.modules()):
        return None
    return next((module for module in model.modules() if isinstance(module, nn.MeanOfMembers)), None)


@contextmanager
def apart(mean: nn.MeanOfMembers) -> Iterator[None]:
    """Within, the model gives what each of its members says, (rows, members, outputs), and not their mean."""
    before = mean.training
    mean.train()
    try:
        yield
    finally:
        mean.train(before)
