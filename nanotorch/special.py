"""Special functions by the names of ``torch.special``; most are functions of ``nanotorch`` too.

>>> torch.special.expit(torch.tensor([0.0]))
tensor([0.5000])
"""

from __future__ import annotations

from nanotorch.ops.activation import sigmoid as expit
from nanotorch.ops.numbers import mvlgamma as multigammaln
from nanotorch.ops.reduce import logsumexp
from nanotorch.ops.rounding import round
from nanotorch.ops.softmax_family import log_softmax, softmax
from nanotorch.ops.special import digamma, entr, erf, erfc, erfinv, logit, ndtr, polygamma, sinc, xlogy
from nanotorch.ops.special import digamma as psi
from nanotorch.ops.special import lgamma as gammaln
from nanotorch.ops.special import special_xlog1py as xlog1py
from nanotorch.ops.transcendental import exp2, expm1, log1p

__all__ = [
    "digamma", "entr", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln", "log1p", "log_softmax", "logit",
    "logsumexp", "multigammaln", "ndtr", "polygamma", "psi", "round", "sinc", "softmax", "xlog1py", "xlogy",
]  # fmt: skip
