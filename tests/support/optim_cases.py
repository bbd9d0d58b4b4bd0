"""The optimizers with options that tests run them with, and how they run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from oracle import to_numpy

SHAPES = [(5, 3), (3,), (), (2, 1, 4), (4, 6)]
STEPS = 50

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 1.0, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.6)}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {"lr": 0.1}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.5, "decoupled_weight_decay": True}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.5, "amsgrad": True, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.8}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.8, "centered": True, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.05, "centered": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.3, "lr_decay": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.3, "initial_accumulator_value": 0.5, "eps": 1e-2, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.3, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.1, "betas": (0.3, 0.8), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.05}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RAdam", {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.1, "betas": (0.9, 0.0)}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.01, 0.3), "maximize": True}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.1, "lambd": 0.01, "alpha": 0.6, "t0": 10.0, "weight_decay": 0.1}),
    ("ASGD", {"lr": 0.1, "t0": 0.0, "maximize": True}),
]
ids = [f"{name} {options}" for name, options in CASES]


def values(shapes: Any = SHAPES, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    numbers = np.random.default_rng(seed)
    return [numbers.standard_normal(shape) for shape in shapes]


def leaves(library: Any, arrays: list[np.ndarray[Any, Any]], dtype: str = "float64") -> list[Any]:
    return [library.tensor(array, dtype=getattr(library, dtype), requires_grad=True) for array in arrays]


def set_gradients(library: Any, params: list[Any], step: int, absent: Callable[[int, int], bool]) -> None:
    """The same gradients in both libraries, which depend on the parameters; some are None on some steps."""
    noise = values([tuple(param.shape) for param in params], seed=1000 + step)
    for index, (param, part) in enumerate(zip(params, noise, strict=True)):
        gradient = 0.3 * to_numpy(param) + part * (1 + index)
        param.grad = None if absent(index, step) else library.tensor(gradient, dtype=param.dtype, device=param.device)


def run(
    library: Any, name: str, options: dict[str, Any], absent: Callable[[int, int], bool], steps: int = STEPS
) -> Any:
    params = leaves(library, values())
    optimizer = getattr(library.optim, name)(
        [{"params": params[:3]}, {"params": params[3:], "lr": 0.02, "weight_decay": 0.03}], **options
    )
    for step in range(steps):
        set_gradients(library, params, step, absent)
        optimizer.step()
    return params, optimizer


def always(index: int, step: int) -> bool:
    return False


def sometimes(index: int, step: int) -> bool:
    return (step % 7 == 0 and index in (0, 3)) or (step < 4 and index == 1) or (step > 30 and index == 4)
