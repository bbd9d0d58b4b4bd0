"""Gradient checks: analytic derivatives against finite differences, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.engine import grad
from nanotorch.autograd.tensor import Tensor, from_array

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """An analytic derivative that differs from the numerical one."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare the gradients of ``func`` with central differences; return True if they agree.

    Args:
        func: a function of tensors that returns a tensor or a tuple of tensors; it must be deterministic.
        inputs: its arguments; those that require grad are checked. Use float64: float32 hides small errors in noise.
        eps: the step of the differences.
        atol: absolute tolerance.
        rtol: relative tolerance.
        raise_exception: raise GradcheckError on a mismatch instead of returning False.
        fast_mode: check one random projection per output instead of every entry of the Jacobian.

    >>> x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    >>> torch.autograd.gradcheck(lambda x: x.sin() * x, (x,))
    True
    """
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [k for k, a in enumerate(arguments) if isinstance(a, Tensor) and a.requires_grad]
    if not checked:
        raise ValueError("gradcheck expects at least one input that requires grad (requires_grad=True)")
    for k in checked:
        if arguments[k].dtype is not dtypes.float64:
            raise ValueError(f"gradcheck needs float64 inputs, input {k} is {arguments[k].dtype}; convert it with .double()")
    try:
        for number, output in enumerate(_outputs(func, arguments)):
            if output.requires_grad:
                _check_output(func, arguments, checked, number, output, eps, atol, rtol, fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare second derivatives of ``func`` with central differences of its gradients; arguments as in `gradcheck`.

    Args:
        func: a function of tensors that returns a tensor or a tuple of tensors.
        inputs: its arguments; those that require grad are checked.
        grad_outputs: the vectors of the first vector-Jacobian product; random ones without it.
        eps: the step of the differences.
        atol: absolute tolerance.
        rtol: relative tolerance.
        raise_exception: raise GradcheckError on a mismatch instead of returning False.
        fast_mode: check one random projection per output instead of every entry of the Jacobian.
    """
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    outputs = [o for o in _outputs(func, arguments) if o.requires_grad]
    rng = np.random.default_rng(0)
    if grad_outputs is None:
        vectors = [_on(o, rng.standard_normal(o.shape)).requires_grad_() for o in outputs]
    else:
        vectors = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)

    def first(*args: Any) -> tuple[Any, ...]:
        values, seeds = args[: len(arguments)], args[len(arguments) :]
        results = [o for o in _outputs(func, list(values)) if o.requires_grad]
        wanted = [v for v in values if isinstance(v, Tensor) and v.requires_grad]
        got = grad(results, wanted, list(seeds), create_graph=True, allow_unused=True)
        return tuple(g for g in got if g is not None)

    return gradcheck(
        first, [*arguments, *vectors], eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, fast_mode=fast_mode
    )


def _outputs(func: Callable[..., Any], arguments: list[Any]) -> list[Tensor]:
    result = func(*arguments)
    values = [result] if isinstance(result, Tensor) else list(result)
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]


def _on(like: Tensor, values: np.ndarray[Any, Any]) -> Tensor:
    return from_array(like.device.xp.asarray(values), like.device)


def _host(tensor: Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(tensor.device.xp.to_numpy(tensor._array))


def _check_output(
    func: Callable[..., Any], arguments: list[Any], checked: list[int], number: int, output: Tensor, eps: float, atol: float,
    rtol: float, fast_mode: bool,
) -> None:  # fmt: skip
    """Compare the vector-Jacobian products of one output with differences."""
    rng = np.random.default_rng(number)
    count = output.numel()
    vectors = rng.standard_normal((1, count)) if fast_mode else np.eye(count)
    wanted = [arguments[k] for k in checked]
    analytic = [np.zeros((len(vectors), arguments[k].numel())) for k in checked]
    for row, vector in enumerate(vectors):
        again = _outputs(func, arguments)[number]
        got = grad(again, wanted, _on(again, vector.reshape(again.shape)), retain_graph=True, allow_unused=True)
        for slot, value in enumerate(got):
            if value is not None:
                analytic[slot][row] = _host(value.detach()).reshape(-1)
    for slot, k in enumerate(checked):
        size = arguments[k].numel()
        if fast_mode:
            direction = rng.standard_normal(size)
            difference = _difference(func, arguments, k, number, direction, eps)
            _compare(analytic[slot] @ direction, vectors @ difference, k, number, atol, rtol)
            continue
        numeric = np.zeros((count, size))
        for column in range(size):
            numeric[:, column] = _difference(func, arguments, k, number, np.eye(size)[column], eps)
        _compare(analytic[slot], numeric, k, number, atol, rtol)


def _difference(func: Callable[..., Any], arguments: list[Any], k: int, number: int, direction: Any, eps: float) -> Any:
    """Return the central difference of an output along a direction of input ``k``."""
    sides = []
    for step in (eps, -eps):
        moved = list(arguments)
        array = _host(arguments[k].detach())
        moved[k] = _on(arguments[k], array + step * direction.reshape(array.shape)).requires_grad_()
        sides.append(_host(_outputs(func, moved)[number].detach()).reshape(-1).copy())
    return (sides[0] - sides[1]) / (2 * eps)


def _compare(analytic: Any, numeric: Any, k: int, number: int, atol: float, rtol: float) -> None:
    error = np.abs(analytic - numeric)
    excess = error - (atol + rtol * np.abs(numeric))
    if (excess <= 0).all():
        return
    worst = np.unravel_index(np.nanargmax(np.where(np.isnan(excess), np.inf, excess)), error.shape)
    where = f"output element {worst[0]}, input element {worst[-1]}" if error.ndim == 2 else "a random projection"
    a, n = float(analytic[worst]), float(numeric[worst])
    raise GradcheckError(
        f"Jacobian mismatch for output {number} with respect to input {k} at {where}: analytic {a:.8g}, numerical {n:.8g}, "
        f"relative error {abs(a - n) / max(abs(a), abs(n), 1e-300):.3g}"
    )
