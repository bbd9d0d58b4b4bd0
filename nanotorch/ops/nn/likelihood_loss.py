"""Negative log likelihoods of continuous and of counted targets."""

from __future__ import annotations

import math

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.creation import full_like
from nanotorch.ops.nn.loss import check_pair, check_reduction, reduced_tensor
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.sample import edge, real, sample
from nanotorch.ops.rows.tensors import TENSOR

positive = real(4, 3, low=0.2)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(4, 3), real(4, 3), positive),
        sample(real(4, 3), real(4, 3), positive, full=True, reduction="sum"),
        sample(real(4, 3), real(4, 3), real(4, 1, low=0.2), reduction="none"),
        sample(real(4, 3), real(4, 3), real(4, low=0.2)),
        sample(real(4, 3), real(4, 3), 0.7),
        sample(edge([1.0, 2.0, 3.0]), real(3), edge([0.0, 0.05, 1.0]), eps=0.1),
        sample(real(0, 3), real(0, 3), real(0, 3), reduction="none"),
    ],
)
def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """`(log(var) + (input - target) ** 2 / var) / 2`: the target is normal around `input` (Nix, Weigend 1994).

    Args:
        input: means.
        target: samples, of the same shape.
        var: variances in that shape, or the same one for the whole last dimension (length 1, or none), or one number.
        full: add the constant `log(2 * pi) / 2`.
        eps: smaller variances count as this; their gradient is not cut.
        reduction: "none", "mean" or "sum".
    """
    check_reduction("gaussian_nll_loss", reduction)
    check_pair("gaussian_nll_loss", input, target)
    if not isinstance(var, Tensor):
        var = full_like(input, var)
    if var.shape != input.shape:
        if var.shape == input.shape[:-1]:
            var = var.unsqueeze(-1)
        elif var.shape != (*input.shape[:-1], 1):
            raise ShapeError(
                f"gaussian_nll_loss: var is of incorrect size {tuple(var.shape)} for input {tuple(input.shape)}: one"
                " variance per element, or one for all of the last dimension"
            )
    if var.device.type == "cpu" and TENSOR["holds"](~(var < 0)) is False:
        raise ValueError("gaussian_nll_loss: var has negative entry/entries; predict its logarithm, or apply softplus")
    var = var.clone()
    with no_grad():
        var.clamp_(min=eps)
    loss = (var.log() + (input - target) ** 2 / var) * 0.5
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduced_tensor(loss, reduction)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(4, 3), real(4, 3)),
        sample(positive, real(4, 3), log_input=False),
        sample(real(4, 3), positive, full=True, reduction="none"),
        sample(positive, positive, log_input=False, full=True, eps=0.1, reduction="sum"),
        sample(real(0), real(0), reduction="sum"),
        sample(edge([0.0, 1.0, 2.0]), edge([1.0, 1.0, 3.0]), full=True),
        sample(edge([0.0, 1.0]), real(2), log_input=False),
    ],
)
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """`exp(input) - target * input`: the target is a count with the logarithm of its mean in `input`.

    Args:
        input: logarithms of means; with `log_input=False` means, and the loss is
            `input - target * log(input + eps)`.
        target: counts, of the same shape.
        log_input: what `input` is.
        full: add Stirling's approximation of `log(target!)` for targets above 1.
        eps: keeps the logarithm of a mean finite.
        reduction: "none", "mean" or "sum".
    """
    check_reduction("poisson_nll_loss", reduction)
    check_pair("poisson_nll_loss", input, target)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return reduced_tensor(loss, reduction)
