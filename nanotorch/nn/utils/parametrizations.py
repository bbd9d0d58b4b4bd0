"""Ready parametrizations of weights: their direction and length apart (`weight_norm`),
or their largest singular value 1 (`spectral_norm`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn.module import Module
from nanotorch.nn.modules.convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from nanotorch.nn.utils.parametrize import register_parametrization
from nanotorch.ops.create.random import randn
from nanotorch.ops.linalg.norm import linalg_vector_norm, normalize
from nanotorch.ops.rows.dims import wrap_dim

__all__ = ["default_dim", "lengths", "spectral_norm", "unfolded", "weight_norm"]


def lengths(value: Tensor, dim: int | None) -> Tensor:
    """Return the Euclidean norm of every slice along `dim`, or of the whole tensor for None,
    shaped so that it broadcasts.
    """
    if dim is None:
        return linalg_vector_norm(value)
    kept = wrap_dim("weight_norm", dim, value.ndim)
    over = [d for d in range(value.ndim) if d != kept]
    return linalg_vector_norm(value, 2, over, True) if over else value.abs()


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        return direction * (length / lengths(direction, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return lengths(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Give a weight as length times direction, which are trained apart (Salimans, Kingma 2016); returns the module.

    It also loads state dicts in which the two are called `weight_g` and `weight_v`, as `nn.utils.weight_norm` calls
    them. The lengths, one for each slice along `dim` (None: one for all), are `parametrizations.weight.original0`, the
    direction is `original1`.

    >>> layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(20, 40))
    >>> layer.parametrizations.weight.original0.shape
    torch.Size([40, 1])
    """
    register_parametrization(module, name, _WeightNorm(None if dim == -1 else dim), unsafe=True)
    module.register_load_state_dict_pre_hook(partial(_older_keys, name))
    return module


def _older_keys(name: str, module: Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    older = [f"{prefix}{name}_{end}" for end in "gv"]
    if all(key in state_dict for key in older):
        for number, key in enumerate(older):
            state_dict[f"{prefix}parametrizations.{name}.original{number}"] = state_dict.pop(key)


def default_dim(module: Module) -> int:
    """Return the dimension of the outputs in a module's weight."""
    return 1 if isinstance(module, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d) else 0


def unfolded(weight: Tensor, dim: int) -> Tensor:
    """Return a weight as a matrix whose rows are its slices along `dim`."""
    return weight.movedim(dim, 0).flatten(1)


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                f"spectral_norm: Dimension out of range (expected to be in range of [-{weight.ndim}, {weight.ndim - 1}]"
                f" but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                "spectral_norm: Expected n_power_iterations to be positive, but got"
                f" n_power_iterations={n_power_iterations}"
            )
        self.dim, self.eps, self.n_power_iterations = dim % weight.ndim, eps, n_power_iterations
        if weight.ndim > 1:
            matrix = unfolded(weight, self.dim)
            for name, size in zip(("_u", "_v"), matrix.shape, strict=True):
                self.register_buffer(
                    name, normalize(randn(size, dtype=weight.dtype, device=weight.device), dim=0, eps=eps)
                )
            self._iterate(matrix, 15)

    def _iterate(self, matrix: Tensor, count: int) -> None:
        """Move both vectors towards those of the largest singular value."""
        with no_grad():
            for _ in range(count):
                self._u.copy_(normalize(matrix @ self._v, dim=0, eps=self.eps))
                self._v.copy_(normalize(matrix.T @ self._u, dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = unfolded(weight, self.dim)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        return weight / (self._u.clone() @ (matrix @ self._v.clone()))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight by its largest singular value (Miyato et al. 2018),
    seen as a matrix with `dim` first; returns the module.

    The value is estimated: each use in training moves two vectors by `n_power_iterations` steps of the power method.
    `dim` is 0 by default, 1 for transposed convolutions.
    """
    weight: Any = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"{type(module).__name__} has no parameter or buffer {name!r}")
    return register_parametrization(
        module, name, _SpectralNorm(weight, n_power_iterations, default_dim(module) if dim is None else dim, eps)
    )
