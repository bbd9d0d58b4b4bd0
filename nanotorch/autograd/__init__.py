"""Automatic differentiation: the graph, the backward pass, custom functions, gradient checks."""

from __future__ import annotations

from nanotorch.autograd import function, functional, graph
from nanotorch.autograd.function import Function
from nanotorch.autograd.gradcheck import GradcheckError, KinkWarning, gradcheck, gradgradcheck
from nanotorch.autograd.graph import anomaly as anomaly_mode
from nanotorch.autograd.graph.anomaly import (
    detect_anomaly,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    set_detect_anomaly,
)
from nanotorch.autograd.graph.engine import backward, grad
from nanotorch.autograd.graph.grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from nanotorch.autograd.graph.inference import inference_mode
from nanotorch.autograd.variable import Variable

__all__ = [
    "Function",
    "GradcheckError",
    "KinkWarning",
    "Variable",
    "anomaly_mode",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]
