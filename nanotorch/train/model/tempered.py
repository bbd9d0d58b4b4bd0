"""A classifier whose probabilities are made as sure as they are right."""

from __future__ import annotations

from nanotorch import Tensor, nn


class Tempered(nn.Module):
    """A classifier, (rows, columns) to logits (rows, outputs), whose logits are divided by the temperature
    (Note [Temperature]).
    """

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the classifier, divided."""
        divided: Tensor = self.model(x) / self.temperature
        return divided

    def extra_repr(self) -> str:
        """Return the temperature."""
        return f"temperature={self.temperature:g}"
