"""Gradient checks: analytic derivatives against finite differences, in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.differences import Differences, Slopes, floating_outputs, on_host
from nanotorch.autograd.graph.engine import grad
from nanotorch.autograd.graph.tensor import Tensor, from_array

__all__ = ["GradcheckError", "KinkWarning", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """An analytic derivative that differs from the numerical one, or a function that cannot be checked."""


class KinkWarning(UserWarning):
    """Entries of a Jacobian that lie where the function has no derivative (Note [Kinks] in `differences.py`)."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare the gradients of `func` with central differences; return True if they agree.

    Inputs of a lower precision are raised to float64, for in float32 rounding hides what a check looks for; tensors
    that `func` brings along, such as a module's parameters, are its own business (`module.double()`). Where the
    function has a kink the analytic derivative has to lie between the one-sided ones, and a `KinkWarning` says how many
    entries that were (Note [Kinks] in `differences.py`). It is also an error if `func` or its backward writes to
    what it is given, or if calling either twice gives different results. The error names the worst entry of all
    Jacobians.

    Args:
        func: a function of tensors that returns a tensor or a tuple of tensors; it must be deterministic.
        inputs: its arguments; those that require grad are checked.
        eps: the step of the differences.
        atol: absolute tolerance.
        rtol: relative tolerance.
        raise_exception: raise GradcheckError on a mismatch instead of returning False.
        nondet_tol: how far results of two calls may lie apart.
        check_undefined_grad: with several outputs, check that backward treats an output that nobody used as one whose
            gradient is zero.
        fast_mode: compare one random projection per output and input; only where it disagrees, every entry.

    >>> x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    >>> torch.autograd.gradcheck(lambda x: x.sin() * x, (x,))
    True
    >>> torch.autograd.gradcheck(lambda x: x.detach() * x, (x,), raise_exception=False)
    False
    """
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    labels = [f"input {k}" for k in range(len(arguments))]
    options = _Options(eps, atol, rtol, nondet_tol, check_undefined_grad, fast_mode)
    return _run("gradcheck", func, arguments, labels, options, raise_exception)


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare second derivatives of `func` with central differences of its gradients; return True if they agree.

    Args:
        func: a function of tensors that returns a tensor or a tuple of tensors.
        inputs: its arguments; those that require grad are checked.
        grad_outputs: the vectors of the first vector-Jacobian product; random ones without it.
        eps: as in `gradcheck`, like all that follow.
        atol: absolute tolerance.
        rtol: relative tolerance.
        raise_exception: raise GradcheckError on a mismatch instead of returning False.
        nondet_tol: how far results of two calls may lie apart.
        check_undefined_grad: check that unused outputs count as zero.
        fast_mode: check one random projection first.
    """
    arguments = _raised([inputs] if isinstance(inputs, Tensor) else list(inputs))
    outputs = [o for o in floating_outputs(func(*arguments)) if o.requires_grad]
    rng = np.random.default_rng(0)
    if grad_outputs is None:
        vectors = [_like(o, rng.standard_normal(o.shape)).requires_grad_() for o in outputs]
    else:
        vectors = _raised([grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs))

    def first(*args: Any) -> tuple[Any, ...]:
        values, seeds = args[: len(arguments)], args[len(arguments) :]
        results = [o for o in floating_outputs(func(*values)) if o.requires_grad]
        wanted = [v for v in values if isinstance(v, Tensor) and v.requires_grad]
        got = grad(results, wanted, list(seeds), create_graph=True, allow_unused=True)
        return tuple(g for g in got if g is not None)

    labels = [f"input {k}" for k in range(len(arguments))] + [f"gradient of output {k}" for k in range(len(vectors))]
    options = _Options(eps, atol, rtol, nondet_tol, check_undefined_grad, fast_mode)
    return _run("gradgradcheck", first, [*arguments, *vectors], labels, options, raise_exception)


class _Options(NamedTuple):
    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    check_undefined_grad: bool
    fast_mode: bool


def _run(
    name: str,
    func: Callable[..., Any],
    arguments: list[Any],
    labels: list[str],
    options: _Options,
    raise_exception: bool,
) -> bool:
    if not any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
        raise ValueError(f"{name} expects at least one input that requires grad (requires_grad=True)")
    check = _Check(func, _raised(arguments), labels, options)
    try:
        with np.errstate(all="ignore"):
            check.run()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    if check.kinks:
        warnings.warn(f"{name}: {check.describe_kinks()}", KinkWarning, stacklevel=3)
    return True


def _raised(arguments: list[Any]) -> list[Any]:
    """Return arguments with the floating point tensors among them in float64."""
    raised = []
    for argument in arguments:
        if isinstance(argument, Tensor) and argument.is_floating_point() and argument.dtype is not dtypes.float64:
            argument = argument.detach().to(dtypes.float64).requires_grad_(argument.requires_grad)
        raised.append(argument)
    return raised


def _like(tensor: Tensor, values: np.ndarray[Any, Any]) -> Tensor:
    """Return values as a tensor on the device, and of the dtype, of another."""
    xp = tensor.device.xp
    return from_array(xp.asarray(values.reshape(tensor.shape).astype(tensor.dtype.numpy)), tensor.device)


class _Entry(NamedTuple):
    """One entry of a Jacobian that was looked at closer."""

    output: int
    input: int
    place: tuple[tuple[int, ...], tuple[int, ...]]
    analytic: float
    numeric: float
    excess: float
    slopes: Slopes


class _Check:
    """One run of a gradient check."""

    def __init__(self, func: Callable[..., Any], arguments: list[Any], labels: list[str], options: _Options) -> None:
        self.differences = Differences(func, arguments, options.eps)
        self.arguments, self.labels, self.options = arguments, labels, options
        self.checked = [k for k, a in enumerate(arguments) if isinstance(a, Tensor) and a.requires_grad]
        self.wanted = [arguments[k] for k in self.checked]
        self.wrong: list[_Entry] = []
        self.kinks: list[_Entry] = []
        self.entries = 0

    def run(self) -> None:
        """Raise GradcheckError unless all is well."""
        before = [on_host(a).copy() if isinstance(a, Tensor) else None for a in self.arguments]
        outputs = self.differences.outputs()
        self.refuse_writes(before, "the function")
        self.refuse_chance(outputs)
        recorded = [number for number, output in enumerate(outputs) if output.requires_grad]
        for number in recorded:
            self.refuse_chance_in_backward(number, outputs[number])
        self.refuse_writes(before, "its backward")
        if len(recorded) > 1 and self.options.check_undefined_grad:
            self.check_undefined(outputs, recorded)
        self.compare(outputs, recorded or list(range(len(outputs))), bool(recorded))
        if self.wrong:
            raise GradcheckError(self.describe_wrong(outputs))

    def vector_jacobian(self, number: int, output: Tensor, vector: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """Return the gradients of a projection of an output, which has that number, flattened."""
        seed = _like(output, vector)
        got = grad(output, self.wanted, seed, retain_graph=True, allow_unused=True)
        if not np.array_equal(on_host(seed).reshape(-1), vector.astype(output.dtype.numpy), equal_nan=True):
            raise GradcheckError(
                f"the backward of output {number} writes to the gradient that it is given, which others may hold: it"
                " has to make a new one"
            )
        return [
            np.zeros(t.numel()) if g is None else on_host(g.detach()).reshape(-1).astype(np.float64)
            for t, g in zip(self.wanted, got, strict=True)
        ]

    # --------------------------------------------------------------------------------------------- what is refused

    def refuse_writes(self, before: list[Any], who: str) -> None:
        """Raise if an argument changed."""
        for k, (argument, values) in enumerate(zip(self.arguments, before, strict=True)):
            if values is not None and not np.array_equal(on_host(argument), values, equal_nan=values.dtype.kind == "f"):
                raise GradcheckError(
                    f"{self.labels[k]} was modified in place: {who} writes to it. Work on a clone(), or in a custom"
                    " Function mark_dirty() what forward writes"
                )

    def refuse_chance(self, outputs: list[Tensor]) -> None:
        """Raise if a second call gives other outputs."""
        again = self.differences.outputs()
        if [o.shape for o in again] != [o.shape for o in outputs]:
            raise GradcheckError(
                "the function is not deterministic: two calls with the same inputs return different shapes"
            )
        for number, (one, other) in enumerate(zip(outputs, again, strict=True)):
            apart = _apart(on_host(one.detach()), on_host(other.detach()))
            if apart > self.options.nondet_tol:
                raise GradcheckError(
                    f"the function is not deterministic: output {number} of two calls with the same inputs differs by"
                    f" up to {apart:.3g}. Draw random numbers outside, or seed a generator inside; or raise nondet_tol"
                )

    def refuse_chance_in_backward(self, number: int, output: Tensor) -> None:
        """Raise if a second backward gives other gradients."""
        vector = np.random.default_rng(number).standard_normal(output.numel())
        first, second = self.vector_jacobian(number, output, vector), self.vector_jacobian(number, output, vector)
        for k, one, other in zip(self.checked, first, second, strict=True):
            apart = _apart(one, other)
            if apart > self.options.nondet_tol:
                raise GradcheckError(
                    f"backward is not deterministic: the gradient of {self.labels[k]} differs by up to {apart:.3g}"
                    " between two calls with the same gradient"
                )

    def check_undefined(self, outputs: list[Tensor], recorded: list[int]) -> None:
        """Compare the gradients of one output alone with those where the others get explicit zeros."""
        for number in recorded:
            vector = np.random.default_rng(number).standard_normal(outputs[number].numel())
            alone = self.vector_jacobian(number, outputs[number], vector)
            used = [outputs[n] for n in recorded]
            seeds = [
                _like(o, vector if n == number else np.zeros(o.numel())) for n, o in zip(recorded, used, strict=True)
            ]
            both = grad(used, self.wanted, seeds, retain_graph=True, allow_unused=True)
            for k, one, other in zip(self.checked, alone, both, strict=True):
                full = np.zeros_like(one) if other is None else on_host(other.detach()).reshape(-1)
                if not np.allclose(one, full, self.options.rtol, self.options.atol, equal_nan=True):
                    raise GradcheckError(
                        f"backward treats unused outputs in its own way: the gradient of {self.labels[k]} by output"
                        f" {number} alone differs from the one with zeros for the other outputs"
                    )

    # --------------------------------------------------------------------------------------------- the comparison

    def compare(self, outputs: list[Tensor], numbers: list[int], recorded: bool) -> None:
        """Compare all Jacobians; without a recorded output the numerical ones have to be zero."""
        if self.options.fast_mode and recorded:
            suspects = {(number, k) for number in numbers for k in self.disagreeing(outputs[number], number)}
        else:
            suspects = {(number, k) for number in numbers for k in self.checked}
        analytic: dict[tuple[int, int], np.ndarray[Any, Any]] = {}
        for number in sorted({number for number, _ in suspects}):
            unit = np.eye(outputs[number].numel())
            rows = [self.vector_jacobian(number, outputs[number], vector) for vector in unit] if recorded else []
            for slot, k in enumerate(self.checked):
                empty = np.zeros((len(unit), self.arguments[k].numel()))
                analytic[number, k] = np.array([row[slot] for row in rows]) if rows else empty
        for k in sorted({k for _, k in suspects}):
            size = self.arguments[k].numel()
            numeric = [np.zeros((output.numel(), size)) for output in outputs]
            for column, direction in enumerate(np.eye(size)):
                for jacobian, values in zip(numeric, self.differences.central(k, direction), strict=True):
                    jacobian[:, column] = values
            for number in numbers:
                if (number, k) in suspects:
                    self.judge(outputs[number], number, k, analytic[number, k], numeric[number])

    def disagreeing(self, output: Tensor, number: int) -> list[int]:
        """Return the inputs for which a random projection of the Jacobian is not what differences say."""
        rng = np.random.default_rng(number)
        vector = rng.standard_normal(output.numel())
        found = []
        for k, row in zip(self.checked, self.vector_jacobian(number, output, vector), strict=True):
            direction = rng.standard_normal(row.size)
            numeric = float(vector @ self.differences.central(k, direction)[number])
            if not abs(float(row @ direction) - numeric) <= self.tolerance(numeric):
                found.append(k)
        return found

    def tolerance(self, numeric: float) -> float:
        return self.options.atol + self.options.rtol * abs(numeric)

    def judge(self, output: Tensor, number: int, k: int, analytic: Any, numeric: Any) -> None:
        """Sort the entries that disagree into wrong ones and kinks."""
        self.entries += numeric.size
        agree = np.abs(analytic - numeric) <= self.options.atol + self.options.rtol * np.abs(numeric)
        for element, column in np.argwhere(~agree).tolist():
            a, n = float(analytic[element, column]), float(numeric[element, column])
            slopes = self.differences.slopes(k, column, number, element, self.tolerance)
            if slopes.kind == "smooth":
                n = n if np.isnan(slopes.left + slopes.right) else (slopes.left + slopes.right) / 2
                low = high = n
            else:
                low, high = min(slopes.left, slopes.right), max(slopes.left, slopes.right)
            excess = max(low - a, a - high) - self.tolerance(n)
            place = (_index(element, output), _index(column, self.arguments[k]))
            entry = _Entry(number, k, place, a, n, float("inf") if np.isnan(excess) else excess, slopes)
            if slopes.kind != "jump" and not excess <= 0:
                self.wrong.append(entry)
            elif slopes.kind != "smooth":
                self.kinks.append(entry)

    # --------------------------------------------------------------------------------------------- words

    def describe_wrong(self, outputs: list[Tensor]) -> str:
        """Return the message that names the worst entry."""
        worst = max(self.wrong, key=lambda entry: entry.excess)
        a, n = worst.analytic, worst.numeric
        relative = abs(a - n) / max(abs(a), abs(n), 1e-300)
        if not outputs[worst.output].requires_grad:
            what = "Numerical gradient for function expected to be zero, since no output requires grad: "
        else:
            what = "Jacobian mismatch for "
        kink = f" (a kink: {worst.slopes.left:.8g} from the left, {worst.slopes.right:.8g} from the right)" * (
            worst.slopes.kind == "kink"
        )
        text = (
            f"{what}output {worst.output} with respect to {self.labels[worst.input]}, at output element"
            f" {worst.place[0]} and input element {worst.place[1]}: analytic {a:.8g}, numerical {n:.8g}{kink}, relative"
            f" error {relative:.3g}. {len(self.wrong)} of {self.entries} compared entries disagree, this one most"
        )
        if outputs[worst.output].dtype is not dtypes.float64:
            text += (
                f". The function returns {outputs[worst.output].dtype} for float64 inputs: differences of it are"
                " inexact"
            )
        return text

    def describe_kinks(self) -> str:
        """Return how many entries lie where there is no derivative, and where the first of them is."""
        first = self.kinks[0]
        many = len(self.kinks) != 1
        sides = f"slopes {first.slopes.left:.4g} from the left and {first.slopes.right:.4g} from the right"
        return (
            f"{len(self.kinks)} of {self.entries} compared entries"
            f" {'lie at kinks or jumps' if many else f'lies at a {first.slopes.kind}'}, where there is no derivative to"
            f" compare with; {'the first' if many else 'it'} is output {first.output}, element {first.place[0]}, by"
            f" {self.labels[first.input]}, element {first.place[1]}: {sides}, analytic {first.analytic:.4g}"
        )


def _index(position: int, tensor: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(position, tensor.shape)) if tensor.ndim else ()


def _apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Return the largest difference; NaN equals NaN."""
    if np.array_equal(one, other, equal_nan=True):
        return 0.0
    difference = np.abs(one - other)
    return float("inf") if np.isnan(difference).any() else float(difference.max(initial=0.0))
