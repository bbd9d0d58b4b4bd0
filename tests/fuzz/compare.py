"""Runs a call in both libraries and says in one sentence what differs, or nothing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import nanotorch
from oracle import pytorch

from .calls import Call, DtypeArgument, Run, TensorArgument
from .stated import MATRICES, ROUGH, fatal, stated

RANDOM = {
    "bernoulli",
    "multinomial",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "rrelu",
    "gumbel_softmax",
    "rand_like",
    "randn_like",
    "randint_like",
    "empty_like",
    "new_empty",
    "normal",
    "uniform",
    "normal_",
    "uniform_",
    "bernoulli_",
    "random_",
    "exponential_",
    "geometric_",
    "log_normal_",
    "cauchy_",
    "poisson",
    "rand",
    "randn",
    "randint",
    "randperm",
}
"""What draws numbers or leaves memory as it is: shapes, dtypes and refusals are compared, values are not."""

REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)
MISSING = re.compile(
    # kernels and derivatives
    r"not implemented|is not there|not support|derivative for|[Uu]nsupported input type|INTERNAL ASSERT"
    # whole numbers where they have a meaning
    r"|floating|types other than float|boolean tensor|can't be cast to the desired|dimensions of float|could not infer"
    r" output dtype"
    # indices of other integer types, operands of several types
    r"|\b[Ll]ong\b|dtype int(64|32)|scalar type|same dtype|mixed dtype|did not match|but got dtype"
    r"|view size is not compatible|cannot reshape tensor of 0 elements"  # memory
)
EPSILON = {2: 2.0**-10, 4: 2.0**-22, 8: 2.0**-50}


class Refused(Exception):
    """What a library said instead of computing."""


def weights(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """The output gradients of a call: numbers that every format holds exactly."""
    return np.asarray((np.arange(int(np.prod(shape))) % 7 + 1).reshape(tuple(shape)), dtype)


def to_array(value: Any) -> Any:
    """A tensor as an array, anything else as it is."""
    if not hasattr(value, "detach"):
        return str(value) if hasattr(value, "is_floating_point") else value  # a dtype
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
        if any(n < 0 for o in outputs for n in getattr(o, "shape", ())):
            raise Refused("gives a tensor of a negative length")
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
                for k, (m, i) in enumerate(zip(mine, its, strict=False)):
                    mine[k] = m.astype(i.dtype) if isinstance(m, np.ndarray) and isinstance(i, np.ndarray) else m
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


def near(actual: Any, expected: Any, exact: Any, size: float, eps: float) -> bool:
    """Whether values agree with PyTorch's to some units of the last place of the largest number at hand."""
    if np.array_equal(actual, expected, equal_nan=actual.dtype.kind == "f"):
        return True
    if actual.dtype.kind != "f":
        return False
    eps = max(eps, EPSILON[actual.dtype.itemsize])
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


def random(call: Call) -> bool:
    """Whether the values are drawn."""
    return call.name in RANDOM or bool(call.kwargs.get("dropout_p"))


def size_of(call: Call) -> float:
    """The largest finite number among the inputs, at least 1."""
    return max((float(np.abs(t.array[np.isfinite(t.array)]).max(initial=1.0)) for t in call.tensors()), default=1.0)


def eps_of(call: Call) -> float:
    """The last place of that format, or what PyTorch's own digits are worth."""
    return max(EPSILON[lowest_of(call).itemsize], ROUGH.get(call.name, 0.0))


def lowest_of(call: Call) -> Any:
    """The shortest floating-point format at work: of an input, or asked for."""
    names = [t.array.dtype.name for t in call.tensors()] + [
        a.name for a in call.arguments() if isinstance(a, DtypeArgument)
    ]
    return np.dtype(min((n for n in names if n.startswith("float")), key=lambda n: int(n[5:]), default="float64"))


def differing(call: Call, ours: Outcome, theirs: Outcome, exact: Outcome | Refused) -> str:
    """In one sentence what two outcomes differ in."""
    if len(ours.outputs) != len(theirs.outputs):
        return f"{len(ours.outputs)} outputs, not {len(theirs.outputs)}"
    size, eps = size_of(call), eps_of(call)
    for k, (a, e) in enumerate(zip(ours.outputs, theirs.outputs, strict=True)):
        if not isinstance(e, np.ndarray):
            if type(a).__name__ != type(e).__name__ or repr(a) != repr(e):
                return f"output {k} is {a!r}, not {e!r}"
            continue
        if not isinstance(a, np.ndarray):
            return f"output {k} is {a!r}, not a tensor"
        if a.dtype != e.dtype:
            return f"output {k} is {a.dtype}, not {e.dtype}"
        if a.shape != e.shape:
            return f"output {k} has shape {a.shape}, not {e.shape}"
        right = exact.outputs[k] if isinstance(exact, Outcome) else None
        if not random(call) and not near(a, e, right if np.shape(right) == a.shape else None, size, eps):
            return f"output {k}: values\n    {clipped(a)}\n    PyTorch {clipped(e)}"
    if ours.tracked != theirs.tracked:
        return f"requires_grad of outputs {ours.tracked}, not {theirs.tracked}"
    for k, (a, e) in enumerate(zip(ours.gradients, theirs.gradients, strict=True)):
        if a.dtype != e.dtype or a.shape != e.shape:
            return f"gradient {k} is {a.dtype} {a.shape}, not {e.dtype} {e.shape}"
        gradients = exact.gradients if isinstance(exact, Outcome) else []
        right = gradients[k] if len(gradients) > k and gradients[k].shape == a.shape else None
        if not random(call) and not near(a, e, right, size, eps):
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

    def over(specification: Any, made: Any) -> Any:
        if isinstance(specification, TensorArgument):
            return specification.view(next(leaves)) if specification.requires_grad else made
        if isinstance(specification, list | tuple) and any(isinstance(v, TensorArgument) for v in specification):
            return [over(s, m) for s, m in zip(specification, made, strict=True)]
        return made

    args = [over(s, m) for s, m in zip(call.args, run.args, strict=True)]
    return args, {name: over(s, run.kwargs[name]) for name, s in call.kwargs.items()}


def compare(call: Call) -> str:
    """Say what a call does otherwise than in PyTorch, in one sentence:
    "" where nothing, or where `stated.py` says why.
    """
    found = finding_of(call)
    return "" if found and stated(call, found) else found


def finding_of(call: Call) -> str:
    """Say what a call does otherwise than in PyTorch, whether that is stated or not."""
    torch = pytorch
    if fatal(call):
        return ""
    ours, theirs = outcome(nanotorch, call), outcome(torch, call)
    if isinstance(ours, Refused):
        if "CRASH" in str(ours) and "CRASH" not in str(theirs):
            return f"raises no error of its own but {ours}"
        return "" if isinstance(theirs, Refused) else f"{ours}; PyTorch computes {theirs}"
    if isinstance(theirs, Refused):
        # PyTorch may lack the kernel or the derivative only: then its answer in double precision, out of place, must
        # do.
        plain = answer(torch, call) if missing(str(theirs)) else theirs
        if isinstance(plain, Refused) and plain is not theirs:
            return ""
        if isinstance(plain, Refused):
            nothing = str(theirs).startswith("backward") and not ours.gradients
            return "" if nothing else f"computes {ours}, PyTorch {theirs}"
        theirs = plain.like(ours)
    exact = answer(torch, call) if lowest_of(call) != np.float64 else theirs
    found = differing(call, ours, theirs, exact)
    if "values" in found and excused(torch, call, ours, theirs):
        return ""
    if found or not any(t.requires_grad for t in call.tensors()) or lowest_of(call) != np.float64 or random(call):
        return found
    return compare_tangents(torch, call)


def answer(torch: Any, call: Call) -> Outcome | Refused:
    """What PyTorch answers out of place in double precision, or to the same numbers all as int64, or all as float64."""
    plain = replace(call.cast(np.float64), form="method" if call.form == "inplace" else call.form)
    numbers = plain.mapped(lambda t: replace(t, array=t.array.astype(np.int64)) if t.array.dtype.kind in "iu" else t)
    floats = plain.mapped(lambda t: replace(t, array=t.array.astype(np.float64)))
    found = outcome(torch, plain)
    for other in (numbers, floats):
        if isinstance(found, Outcome) or len({t.array.dtype for t in call.tensors() if t.array.dtype.kind == "f"}) > 1:
            break
        found = outcome(torch, other)
    return found


def excused(torch: Any, call: Call, ours: Outcome, theirs: Outcome) -> bool:
    """Whether a difference is no larger than what PyTorch's own answer changes by
    when inputs change in their last place.
    """
    rng = np.random.default_rng(0)
    moved = [ours, theirs]
    for _ in range(3):

        def shaken(t: TensorArgument) -> TensorArgument:
            if t.array.dtype.kind != "f":
                return t
            shape = (*t.array.shape[:-1], 1) if t.layout == "expanded" and t.array.ndim else t.array.shape
            factor = 1 + EPSILON[t.array.dtype.itemsize] / 4 * rng.integers(-1, 2, shape)
            return replace(t, array=np.asarray((t.array * factor).astype(t.array.dtype)))

        with np.errstate(all="ignore"):
            changed = outcome(torch, call.mapped(shaken))
        if isinstance(changed, Refused):
            return False
        moved.append(changed)
    # larger changes are steps, which are no matter of rounding
    floor = EPSILON[lowest_of(call).itemsize] ** (0.2 if re.fullmatch(MATRICES, call.name) else 0.4)
    for values in zip(*(o.outputs + o.gradients for o in moved), strict=True):
        if any(not isinstance(v, np.ndarray) or v.dtype.kind != "f" or v.shape != values[0].shape for v in values):
            continue
        a, e, *others = (np.where(np.isfinite(v), v, 0.0).astype(np.float64) for v in values)
        if any(np.any(np.isfinite(v) != np.isfinite(values[0])) for v in values):
            return False
        scale = max(float(np.abs(e).max(initial=0.0)), size_of(call))
        slack = np.max([np.abs(o - e) for o in others], axis=0).max(initial=0.0)
        if slack > floor * scale or np.any(np.abs(a - e) > 32 * slack + 64 * EPSILON[lowest_of(call).itemsize] * scale):
            return False
    return True


def compare_tangents(torch: Any, call: Call) -> str:
    """Compare directional derivatives, where PyTorch has a formula."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = tangent(torch, call)
    except Exception:  # no forward-mode formula, or an integer among the outputs
        return ""
    try:
        actual = tangent(nanotorch, call)
    except REFUSALS as error:
        return f"tangent: {type(error).__name__}: {error}; PyTorch computes {[clipped(e) for e in expected]}"
    for k, (a, e) in enumerate(zip(actual, expected, strict=True)):
        if a.shape != e.shape or not near(a, e, None, size_of(call), eps_of(call)):
            return f"tangent {k}: values\n    {clipped(a)}\n    PyTorch {clipped(e)}"
    return ""


def missing(refusal: str) -> bool:
    """Whether PyTorch says that a kernel or a derivative is missing, not that the call makes no sense."""
    return MISSING.search(refusal) is not None
