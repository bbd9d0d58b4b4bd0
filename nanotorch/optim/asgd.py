"""ASGD."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nanotorch.optim.optimizer import Execution, Optimizer, arguments, number_of
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat


def asgd(
    xp: Any,
    param: Any,
    grad: Any,
    ax: Any,
    *,
    lambd: float,
    weight_decay: float,
    maximize: bool,
    eta: float,
    mu: float,
    averaging: bool,
) -> None:
    """Step against the gradient at the rate `eta`, and move the average `ax` towards the parameter by the share
    `mu`, or all the way unless it is averaging yet.
    """
    if maximize:
        grad = -grad
    if weight_decay:
        grad = grad + weight_decay * param
    param *= 1 - lambd * eta
    param -= eta * grad
    if averaging:
        ax += mu * (param - ax)
    else:
        xp.copyto(ax, param)


@OPTIMIZERS.register
class ASGD(Optimizer):
    """Stochastic gradient descent that also averages the parameters, from step `t0` on: `state[param]["ax"]`.

    Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992); the rate falls with `lambd` and
    the power `alpha` of the steps.
    """

    rule = staticmethod(asgd)
    number_names = ("step", "eta", "mu")

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: NonNegativeFloat = 0.0,
        *,
        maximize: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(params, arguments(locals()), **execution)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the count, the present rate, the share of the next parameter in the average, and the average."""
        return ("step", "eta", "mu", "ax")

    def scalars(self, numbers: dict[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rate and the share of this update, which the update before it left; those of the next are left."""
        present = {name: numbers[name].item(0) for name in ("eta", "mu")}
        present["averaging"] = present["mu"] != 1
        step = super().scalars(numbers, group)["step"]
        lr, lambd, alpha, t0 = (number_of(group[name]) for name in ("lr", "lambd", "alpha", "t0"))
        numbers["eta"][...] = lr / (1 + lambd * lr * step) ** alpha
        numbers["mu"][...] = 1 / max(1, step - t0)
        return present

    def initial_value(self, name: str, group: Mapping[str, Any]) -> float:
        """Return `lr` for the rate, and 1 for the share: the average starts as the parameter."""
        return {"eta": float(number_of(group["lr"])), "mu": 1.0}.get(name, 0.0)
