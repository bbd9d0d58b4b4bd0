"""NAdam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.adam import Betas
from nanotorch.optim.optimizer import Execution, Optimizer, arguments, number_of
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
    decoupled_weight_decay: bool,
    maximize: bool,
    step: float,
    mu: float,
    mu_next: float,
    mu_product: float,
) -> None:
    """Step as Adam, along the mean that the next step will have and the present gradient.

    The shares `mu` of the two grow with the steps; `mu_product` is the product of all of them.
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
    root = xp.sqrt(exp_avg_sq / (1 - beta2**step))
    root += eps
    change = (lr * (1 - mu) / (1 - mu_product)) * grad
    change += (lr * mu_next / (1 - mu_product * mu_next)) * exp_avg
    change /= root
    param -= change


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
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count, the product of the shares of momentum, and both running means."""
        return ("step", "mu_product", "exp_avg", "exp_avg_sq")

    def scalars(self, numbers: dict[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the count, the shares of momentum of this step and the next,
        and the product of the shares up to this one.

        The product is rounded as it is kept: once for every step.
        """
        step, product = super().scalars(numbers, group)["step"], numbers["mu_product"]
        beta1, decay = number_of(group["betas"])[0], number_of(group["momentum_decay"])
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (count * decay)) for count in (step, step + 1))
        product *= mu
        return {"step": step, "mu": mu, "mu_next": mu_next, "mu_product": product.item(0)}

    def initial_value(self, name: str, group: Mapping[str, Any]) -> float:
        """Return an empty product is 1."""
        return 1.0 if name == "mu_product" else 0.0
