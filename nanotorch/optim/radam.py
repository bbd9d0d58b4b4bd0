"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.adam import Betas
from nanotorch.optim.optimizer import Execution, Optimizer, arguments, number_of
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
    rectified: bool,
) -> None:
    """Step as Adam, rectified by how well the mean square is known;
    along the plain mean while it is not known at all.
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
    longest, length = _lengths(beta2, step)
    change = (lr / (1 - beta1**step)) * exp_avg
    if rectified:
        known = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        change *= (known * (1 - beta2**step)) ** 0.5
        change /= xp.sqrt(exp_avg_sq) + eps
    param -= change


def _lengths(beta2: float, step: float) -> tuple[float, float]:
    """Return the length of the moving average of squares, in the end and now."""
    longest = 2 / (1 - beta2) - 1
    return longest, longest - 2 * step * beta2**step / (1 - beta2**step)


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

    def scalars(self, numbers: dict[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the count, and whether the mean square is known well enough to divide by."""
        present = super().scalars(numbers, group)
        _, length = _lengths(number_of(group["betas"])[1], present["step"])
        return {**present, "rectified": length > 5}
