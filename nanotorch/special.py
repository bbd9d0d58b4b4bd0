"""Special functions by the names of `torch.special`; most are functions of `nanotorch` too.

>>> torch.special.expit(torch.tensor([0.0]))
tensor([0.5000])
"""

from __future__ import annotations

from nanotorch.ops.elementwise.activation import sigmoid as expit
from nanotorch.ops.elementwise.numbers import mvlgamma as multigammaln
from nanotorch.ops.elementwise.rounding import round
from nanotorch.ops.elementwise.special import digamma, entr, erf, erfc, erfinv, logit, ndtr, polygamma, sinc, xlogy
from nanotorch.ops.elementwise.special import digamma as psi
from nanotorch.ops.elementwise.special import lgamma as gammaln
from nanotorch.ops.elementwise.special import special_xlog1py as xlog1py
from nanotorch.ops.elementwise.transcendental import exp2, expm1, log1p
from nanotorch.ops.nn.softmax_family import log_softmax, softmax
from nanotorch.ops.reduce.reductions import logsumexp

__all__ = [
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "gammaln",
    "log1p",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "polygamma",
    "psi",
    "round",
    "sinc",
    "softmax",
    "xlog1py",
    "xlogy",
]
