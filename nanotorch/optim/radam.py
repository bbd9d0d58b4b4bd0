"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.adam import Betas
from nanotorch.optim.optimizer import Execution, Optimizer, arguments
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat


def radam(
    xp: Any,
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
    step: float,
) -> None:
    """Step as Adam, rectified by how well the mean square is known; along the plain mean while it is not known at
    all.
    """
    beta1, beta2 = betas
    if maximize:
        grad = -grad
    if decoupled_weight_decay:
        param *= 1 - lr * weight_decay
    elif weight_decay:
        grad = grad + weight_decay * param
    exp_avg += (1 - beta1) * (grad - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += (1 - beta2) * (grad * grad)
    correction = 1 - beta2**step
    longest = 2 / (1 - beta2) - 1  # the length of the moving average, in the end and now
    length = longest - 2 * step * beta2**step / correction
    change = (lr / (1 - beta1**step)) * exp_avg
    if length > 5:
        known = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        change *= (known * correction) ** 0.5
        change /= xp.sqrt(exp_avg_sq) + eps
    param -= change


@OPTIMIZERS.register
class RAdam(Optimizer):
    """Adam whose first steps are rectified, so that it needs no warmup.

    Liu et al., On the Variance of the Adaptive Learning Rate and Beyond (2020); `decoupled_weight_decay` applies the
    decay to the parameter itself, as AdamW does.
    """

    rule = staticmethod(radam)

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: NonNegativeFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count and both running means."""
        return ("step", "exp_avg", "exp_avg_sq")
