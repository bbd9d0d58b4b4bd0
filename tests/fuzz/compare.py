"""Runs a call in both libraries and says in one sentence what differs, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from parity import require_torch

import nanotorch

from .calls import Call, Run

RANDOM = {
    "bernoulli", "multinomial", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "rrelu", "gumbel_softmax", "rand_like", "randn_like", "randint_like", "empty_like", "new_empty", "normal", "uniform",
    "normal_", "uniform_", "bernoulli_", "random_", "exponential_", "geometric_", "log_normal_", "cauchy_", "poisson",
}  # fmt: skip
"""What draws numbers or leaves memory as it is: shapes, dtypes and refusals are compared, values are not."""

REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)
MISSING = ("not implemented", "is not there", "not supported", "not support", "expected a tensor with 2 or more dimensions of float")
EPSILON = {2: 2.0**-10, 4: 2.0**-22, 8: 2.0**-50}


class Refused(Exception):
    """What a library said instead of computing."""


def weights(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """The output gradients of a call: numbers that every format holds exactly."""
    return np.asarray((np.arange(int(np.prod(shape))) % 7 + 1).reshape(tuple(shape)), dtype)


def to_array(value: Any) -> Any:
    """A tensor as an array, anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    return np.array(value.detach().cpu().numpy(force=True) if hasattr(value, "numpy") else value)


class Outcome:
    """Outputs, gradients and tangents of a call in one library."""

    def __init__(self, library: Any, call: Call, derivatives: bool = True, tangents: bool = False) -> None:
        run = Run(library, call)
        self.gradients: list[Any] = []
        self.tangents: list[Any] = []
        if run.function is None:
            raise Refused("is not there")
        outputs = self._attempt(run)
        self.outputs = [to_array(o) for o in outputs]
        self.tracked = [bool(getattr(o, "requires_grad", False)) for o in outputs]
        tracked = [o for o in outputs if getattr(o, "requires_grad", False)]
        if tracked and derivatives:
            seeds = [library.from_numpy(w) for w in (weights(o.shape, to_array(o).dtype) for o in tracked)]
            grads = self._attempt(
                lambda: library.autograd.grad(tracked, run.leaves, seeds, allow_unused=True), "backward: "
            )
            zeros = [np.zeros(tuple(leaf.shape), to_array(leaf).dtype) for leaf in run.leaves]
            self.gradients = [z if g is None else to_array(g) for g, z in zip(grads, zeros, strict=True)]

    def __str__(self) -> str:
        return str([clipped(o) if isinstance(o, np.ndarray) else o for o in self.outputs])

    def like(self, other: Outcome) -> Outcome:
        """The same numbers, in the dtypes of another outcome."""
        for mine, its in ((self.outputs, other.outputs), (self.gradients, other.gradients)):
            with np.errstate(over="ignore"):
                mine[: len(its)] = [m.astype(i.dtype) if isinstance(m, np.ndarray) and isinstance(i, np.ndarray) else m for m, i in zip(mine, its)]
        return self

    @staticmethod
    def _attempt(action: Any, when: str = "") -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return action()
        except Exception as error:
            first = (str(error).strip() or " ").splitlines()[0]
            kind = type(error).__name__
            known = isinstance(error, REFUSALS) and kind not in ("AxisError", "_ArrayMemoryError", "RecursionError")
            raise Refused(f"{when}{'' if known else 'CRASH '}{kind}: {first}") from error


def outcome(library: Any, call: Call, derivatives: bool = True) -> Outcome | Refused:
    """The outcome of a call, or the refusal."""
    try:
        return Outcome(library, call, derivatives)
    except Refused as refusal:
        return refusal


def near(actual: Any, expected: Any, exact: Any, size: float, lowest: Any) -> bool:
    """Whether values agree with PyTorch's to some units of the last place of the largest number at hand."""
    if np.array_equal(actual, expected, equal_nan=actual.dtype.kind == "f"):
        return True
    if actual.dtype.kind != "f":
        return False
    eps = max(EPSILON[actual.dtype.itemsize], EPSILON[np.dtype(lowest).itemsize])
    with np.errstate(all="ignore"):
        for reference in (expected, exact):
            if reference is None:
                continue
            same = (actual == reference) | ((actual != actual) & (reference != reference))
            limit = float(np.finfo(actual.dtype).max)
            huge = np.isinf(actual) & (np.abs(reference) > 0.99 * limit)  # rounds to infinity one way or the other
            error = np.abs(actual.astype(np.float64) - reference)
            finite = np.abs(np.where(np.isfinite(reference), reference, 0.0)).astype(np.float64)
            scale = max(float(finite.max(initial=0.0)), min(size, 1e6) if reference is expected else 0.0)
            tiny = float(np.finfo(actual.dtype).smallest_normal)
            if np.all(same | huge | (error <= 64 * eps * scale + tiny)):
                return True
    return False


def size_of(call: Call) -> float:
    """The largest finite number among the inputs, at least 1."""
    return max((float(np.abs(t.array[np.isfinite(t.array)]).max(initial=1.0)) for t in call.tensors()), default=1.0)


def differing(call: Call, ours: Outcome, theirs: Outcome, exact: Outcome | None) -> str:
    """In one sentence what two outcomes differ in."""
    if len(ours.outputs) != len(theirs.outputs):
        return f"{len(ours.outputs)} outputs, not {len(theirs.outputs)}"
    floats = [t.array.dtype for t in call.tensors() if t.array.dtype.kind == "f"]
    size, lowest = size_of(call), min(floats, key=lambda d: d.itemsize, default=np.dtype(np.float64))
    for k, (a, e) in enumerate(zip(ours.outputs, theirs.outputs, strict=True)):
        if not isinstance(e, np.ndarray):
            if type(a).__name__ != type(e).__name__ or (a != e and a == a):
                return f"output {k} is {a!r}, not {e!r}"
            continue
        if not isinstance(a, np.ndarray):
            return f"output {k} is {a!r}, not a tensor"
        if a.dtype != e.dtype:
            return f"output {k} is {a.dtype}, not {e.dtype}"
        if a.shape != e.shape:
            return f"output {k} has shape {a.shape}, not {e.shape}"
        right = exact.outputs[k] if exact is not None else None
        if call.name not in RANDOM and not near(a, e, right if np.shape(right) == a.shape else None, size, lowest):
            return f"output {k}: values\n    {clipped(a)}\n    PyTorch {clipped(e)}"
    if ours.tracked != theirs.tracked:
        return f"requires_grad of outputs {ours.tracked}, not {theirs.tracked}"
    for k, (a, e) in enumerate(zip(ours.gradients, theirs.gradients, strict=True)):
        if a.dtype != e.dtype or a.shape != e.shape:
            return f"gradient {k} is {a.dtype} {a.shape}, not {e.dtype} {e.shape}"
        gradients = exact.gradients if exact is not None else []
        right = gradients[k] if len(gradients) > k and gradients[k].shape == a.shape else None
        if call.name not in RANDOM and not near(a, e, right, size, lowest):
            return f"gradient {k}: values\n    {clipped(a)}\n    PyTorch {clipped(e)}"
    return ""


def clipped(array: Any) -> str:
    return repr(array.tolist())[:200]


def tangent(library: Any, call: Call) -> Any:
    """The derivative of a float64 call along a direction, by the library's own `func.jvp`; None where it has none."""
    run = Run(library, call)
    primals = tuple(library.from_numpy(leaf.detach().numpy().copy()) for leaf in run.leaves)
    directions = tuple(library.from_numpy(weights(p.shape, np.float64)) for p in primals)

    def function(*leaves: Any) -> Any:
        again = Run(library, call)
        stock = iter(leaves)
        again.args, again.kwargs = rebuilt(again, call, stock)
        outputs = [o for o in again() if hasattr(o, "dtype") and "float" in str(o.dtype)]
        return tuple(outputs)

    return [to_array(t) for t in library.func.jvp(function, primals, directions)[1]]


def rebuilt(run: Run, call: Call, leaves: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call with its leaves replaced, in order."""
    from .calls import TensorArgument

    def over(specification: Any, made: Any) -> Any:
        if isinstance(specification, TensorArgument):
            return specification.view(next(leaves)) if specification.requires_grad else made
        if isinstance(specification, list | tuple) and any(isinstance(v, TensorArgument) for v in specification):
            return [over(s, m) for s, m in zip(specification, made, strict=True)]
        return made

    args = [over(s, m) for s, m in zip(call.args, run.args, strict=True)]
    return args, {name: over(s, run.kwargs[name]) for name, s in call.kwargs.items()}


def compare(call: Call) -> str:
    """Say what a call does otherwise than in PyTorch: "" where nothing, else one finding."""
    torch = require_torch()
    ours, theirs = outcome(nanotorch, call), outcome(torch, call)
    if isinstance(ours, Refused) and "CRASH" in str(ours):
        return f"raises no error of its own but {ours}"
    dtypes = {t.array.dtype for t in call.tensors() if t.array.dtype.kind == "f"}
    exact = outcome(torch, call.cast(np.float64)) if dtypes - {np.dtype(np.float64)} else None
    exact = None if isinstance(exact, Refused) else exact
    if isinstance(theirs, Refused) and missing(str(theirs)) and not isinstance(ours, Refused):
        # PyTorch has no kernel or no derivative for this: its answer in double precision, out of place, must do.
        plain = outcome(torch, replace(call.cast(np.float64), form="method" if call.form == "inplace" else call.form))
        if isinstance(plain, Refused):
            return ""
        theirs = plain.like(ours)
    if isinstance(theirs, Refused):
        if isinstance(ours, Refused) or (str(theirs).startswith("backward") and not ours.gradients):
            return ""
        return f"computes {ours}, PyTorch {theirs}"
    if isinstance(ours, Refused):
        return f"{ours}; PyTorch computes {theirs}"
    found = differing(call, ours, theirs, exact)
    if found or not any(t.requires_grad for t in call.tensors()) or exact or call.name in RANDOM:
        return found
    return compare_tangents(torch, call)


def compare_tangents(torch: Any, call: Call) -> str:
    """Compare directional derivatives, where PyTorch has a formula."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = tangent(torch, call)
    except Exception:  # no forward-mode formula, or an integer among the outputs
        return ""
    actual = tangent(nanotorch, call)
    for k, (a, e) in enumerate(zip(actual, expected, strict=True)):
        if a.shape != e.shape or not near(a, e, None, size_of(call), np.float64):
            return f"tangent {k}: values\n    {clipped(a)}\n    PyTorch {clipped(e)}"
    return ""


def missing(refusal: str) -> bool:
    """Whether PyTorch says that a kernel or a derivative is missing, not that the call makes no sense."""
    return any(words in refusal for words in MISSING)
