"""The exponential moving average of a model's weights: a rule with a host scalar, as optimizers have them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from nanotorch import nn
from nanotorch.nn.utils.flat import flat_if_apart
from nanotorch.optim import Optimizer
from nanotorch.optim.segment import Segment


def ema(xp: Any, param: Any, grad: Any, *, decay: float) -> None:
    """Move an average, `param`, to the present value, which stands in the place of the gradient."""
    param *= decay
    param += grad * (1 - decay)


class MovingAverage(Optimizer):
    """An exponential moving average of a model's parameters, which starts at the present ones.

    What is no floating point number, and buffers, are copied.

    After every step `average = decay * average + (1 - decay) * parameter`. The average of the first steps leans less
    on the initial weights: there the decay is at most `(1 + updates) / (10 + updates)`.

    Attributes:
        module: the model with the averages.
        updates: how many steps they hold.
    """

    rule = staticmethod(ema)

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.updates = 0
        flat_if_apart(self.module.parameters())  # as those of a model in training are: one call updates all
        self.averages, self._present = list(self.module.parameters()), list(model.parameters())
        super().__init__([average for average in self.averages if average.is_floating_point()], {"decay": decay})

    def scalars(self, numbers: dict[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the decay of this update (Note [Host scalars])."""
        return {"decay": min(group["decay"], (1 + self.updates) / (10 + self.updates))}

    def count_step(self) -> None:
        """Count an update."""
        self.updates += 1

    def host_scalars(self) -> Iterator[tuple[Segment, dict[str, Any]]]:
        """Give what is to be done, as every optimizer does:
        the present parameters stand in the place of gradients meanwhile.
        """
        for average, present in zip(self.averages, self._present, strict=True):
            if average.is_floating_point():
                average.grad = present.detach()
        yield from super().host_scalars()
        self.zero_grad()

    def update(self, model: nn.Module) -> None:
        """Take in the weights that the model has after a step."""
        self._present = list(model.parameters())
        for average, present in zip(self.averages, self._present, strict=True):
            if not average.is_floating_point():
                average.data.copy_(present)
        inspect.unwrap(Optimizer.step)(self)  # without the hooks of all optimizers: this is no step of training
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)

    def restart(self, model: nn.Module) -> None:
        """Begin anew at the weights that a model has now."""
        self.updates = 0
        self.module.load_state_dict(model.state_dict())
