"""`weight_norm` and `spectral_norm` as they were before parametrizations:
a hook computes the weight before every forward.
"""

from __future__ import annotations

import warnings
from typing import Any

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn.module import Module
from nanotorch.nn.parameter import Parameter
from nanotorch.nn.utils.parametrizations import default_dim, lengths, unfolded
from nanotorch.ops.create.random import randn
from nanotorch.ops.linalg.norm import normalize


class _Recomputed:
    """A forward pre-hook that sets a weight from parameters of the module."""

    kind = ""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, dim

    def compute(self, module: Any, training: bool) -> Tensor:
        raise NotImplementedError

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute(module, module.training))


class _WeightNorm(_Recomputed):
    kind = "weight_norm"

    def compute(self, module: Any, training: bool) -> Tensor:
        direction = getattr(module, f"{self.name}_v")
        return direction * (getattr(module, f"{self.name}_g") / lengths(direction, self.dim))


class _SpectralNorm(_Recomputed):
    kind = "spectral_norm"

    def __init__(self, name: str, dim: int, n_power_iterations: int, eps: float) -> None:
        super().__init__(name, dim)
        self.n_power_iterations, self.eps = n_power_iterations, eps

    def compute(self, module: Any, training: bool) -> Tensor:
        weight, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        matrix = unfolded(weight, self.dim or 0)
        if training:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(normalize(matrix.T @ u, dim=0, eps=self.eps))
                    u.copy_(normalize(matrix @ v, dim=0, eps=self.eps))
        return weight / (u.clone() @ (matrix @ v.clone()))


def _add(module: Module, hook: _Recomputed, parts: dict[str, Tensor]) -> Module:
    """Replace a parameter by others, from which the hook computes it."""
    delattr(module, hook.name)
    for end, value in parts.items():
        if isinstance(value, Parameter):
            module.register_parameter(f"{hook.name}_{end}", value)
        else:
            module.register_buffer(f"{hook.name}_{end}", value)
    setattr(module, hook.name, hook.compute(module, False))
    module.register_forward_pre_hook(hook)
    return module


def _weight(module: Module, name: str, kind: str) -> Parameter:
    if _number(module, name, kind) is not None:
        raise RuntimeError(f"Cannot register two {kind} hooks on the same parameter {name}")
    weight = module._parameters.get(name)
    if weight is None:
        raise ValueError(f"{kind}: {type(module).__name__} has no parameter {name!r}")
    return weight


def _number(module: Module, name: str, kind: str) -> int | None:
    hooks = {} if module._hooks is None else module._hooks.forward_pre
    return next(
        (
            n
            for n, (hook, _) in hooks.items()
            if isinstance(hook, _Recomputed) and (hook.name, hook.kind) == (name, kind)
        ),
        None,
    )


def _remove(module: Module, name: str, kind: str) -> Module:
    number = _number(module, name, kind)
    if number is None:
        raise ValueError(f"{kind} of '{name}' not found in {type(module).__name__}")
    assert module._hooks is not None
    hook: Any = module._hooks.forward_pre.pop(number)[0]
    with no_grad():
        value = hook.compute(module, False)
    delattr(module, name)
    for end in ("g", "v") if kind == "weight_norm" else ("orig", "u", "v"):
        delattr(module, f"{name}_{end}")
    module.register_parameter(name, Parameter(value.detach()))
    return module


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Let `weight_g`, lengths, and `weight_v`, a direction, make a weight before every forward; returns the module.

    As in PyTorch this way is deprecated: `parametrizations.weight_norm` does the same, for every use of the weight.
    """
    warnings.warn(
        "torch.nn.utils.weight_norm is deprecated in favor of torch.nn.utils.parametrizations.weight_norm",
        FutureWarning,
        stacklevel=2,
    )
    weight = _weight(module, name, "weight_norm")
    dim = None if dim == -1 else dim
    return _add(
        module, _WeightNorm(name, dim), {"g": Parameter(lengths(weight, dim).detach()), "v": Parameter(weight.detach())}
    )


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Let the weight be a parameter again, with its present value; returns the module."""
    return _remove(module, name, "weight_norm")


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight, `weight_orig`, by its largest singular value before every forward; returns the module.

    See `parametrizations.spectral_norm`, which does it for every use of the weight. The vectors of the power method are
    `weight_u` and `weight_v`.
    """
    weight = _weight(module, name, "spectral_norm")
    if n_power_iterations <= 0:
        raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
    dim = default_dim(module) if dim is None else dim
    sizes = zip("uv", unfolded(weight, dim).shape, strict=True)
    vectors = {
        end: normalize(randn(size, dtype=weight.dtype, device=weight.device), dim=0, eps=eps) for end, size in sizes
    }
    return _add(module, _SpectralNorm(name, dim, n_power_iterations, eps), {"orig": weight, **vectors})


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Let the weight be a parameter again, with its present value; returns the module."""
    return _remove(module, name, "spectral_norm")
