"""Adam, and AdamW with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Unpack

from nanotorch.optim.optimizer import Execution, Optimizer, arguments
from nanotorch.registry import OPTIMIZERS, Between, NonNegativeFloat

Betas = Annotated[tuple[float, float], Between(0, 1, high_open=True)]


def adam(
    xp: Any,
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    max_exp_avg_sq: Any = None,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
    step: float,
) -> None:
    """Step along the running mean of the gradient, divided by the root of that of its square."""
    beta1, beta2 = betas
    if maximize:
        grad = -grad
    if weight_decay and decoupled_weight_decay:
        param *= 1 - lr * weight_decay
    elif weight_decay:
        grad = grad + weight_decay * param
    change = grad - exp_avg
    change *= 1 - beta1
    exp_avg += change
    square = grad * grad
    square *= 1 - beta2
    exp_avg_sq *= beta2
    exp_avg_sq += square
    if max_exp_avg_sq is not None:
        xp.copyto(max_exp_avg_sq, xp.maximum(max_exp_avg_sq, exp_avg_sq))
        exp_avg_sq = max_exp_avg_sq
    # Both means start at 0 and are too small by known factors; the root's is moved to the numerator and to eps.
    correction = (1 - beta2**step) ** 0.5
    root = xp.sqrt(exp_avg_sq)
    root += eps * correction
    change = exp_avg * (lr * correction / (1 - beta1**step))
    change /= root
    param -= change


@OPTIMIZERS.register
class Adam(Optimizer):
    """Adaptive moments: a step of about `lr` for every element, whatever the gradient's scale.

    Kingma and Ba, Adam: A Method for Stochastic Optimization (2015); `amsgrad` divides by the largest mean square
    so far (Reddi et al., On the Convergence of Adam and Beyond, 2018). `weight_decay` is added to the gradient, or with
    `decoupled_weight_decay` the parameter shrinks by this share of the learning rate, as in `AdamW`.
    """

    rule = staticmethod(adam)

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: NonNegativeFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count, both running means, and the largest mean square with `amsgrad`."""
        names = ("step", "exp_avg", "exp_avg_sq")
        return (*names, "max_exp_avg_sq") if group["amsgrad"] else names


@OPTIMIZERS.register
class AdamW(Adam):
    """Adam with weight decay applied to the parameter itself, not to the gradient.

    Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: NonNegativeFloat = 1e-8,
        weight_decay: NonNegativeFloat = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(params, **arguments(locals()), decoupled_weight_decay=True, **execution)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As for every optimizer; the decay stays decoupled, also where the dict is of an `Adam`."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
