"""NAdam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.adam import Betas
from nanotorch.optim.optimizer import Execution, Optimizer
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat


def nadam(
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
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
    step: float,
    mu_product: Any,
) -> dict[str, Any]:
    """Step as Adam, along the mean that the next step will have and the present gradient.

    The shares `mu` of the two grow with the steps; `mu_product` is the product of all of them, a NumPy number, whose
    precision decides how it is rounded.
    """
    beta1, beta2 = betas
    if maximize:
        grad = -grad
    if decoupled_weight_decay:
        param *= 1 - lr * weight_decay
    elif weight_decay:
        grad = grad + weight_decay * param
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (count * momentum_decay)) for count in (step, step + 1))
    mu_product = mu_product * mu
    product = float(mu_product)
    exp_avg += (1 - beta1) * (grad - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += (1 - beta2) * (grad * grad)
    root = xp.sqrt(exp_avg_sq / (1 - beta2**step))
    root += eps
    change = (lr * (1 - mu) / (1 - product)) * grad
    change += (lr * mu_next / (1 - product * mu_next)) * exp_avg
    change /= root
    param -= change
    return {"mu_product": mu_product}


@OPTIMIZERS.register
class NAdam(Optimizer):
    """Adam with Nesterov's momentum: it looks ahead to the mean that the next step will have.

    Dozat, Incorporating Nesterov Momentum into Adam (2016); `decoupled_weight_decay` applies the decay to the
    parameter itself, as AdamW does.
    """

    rule = staticmethod(nadam)
    number_names = ("step", "mu_product")

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: NonNegativeFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.0,
        momentum_decay: NonNegativeFloat = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """The count, the product of the shares of momentum, and both running means."""
        return ("step", "mu_product", "exp_avg", "exp_avg_sq")

    def initial_value(self, name: str, group: Mapping[str, Any]) -> float:
        """An empty product is 1."""
        return 1.0 if name == "mu_product" else 0.0
