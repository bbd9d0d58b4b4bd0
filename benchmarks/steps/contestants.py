"""Whoever can take a step here, after a check that all of them train alike."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec

import numpy as np

from benchmarks.steps import frameworks
from benchmarks.steps.handwritten import HandwrittenStep
from benchmarks.steps.problem import Contestant, Problem

ORDER = (
    "nanotorch", "compiled", "table", "PyTorch", "torch.compile", "jax", "jax.jit", "jax.lax.scan", "handwritten",
    "fused by hand",
)  # fmt: skip
STEPS_COMPARED = 5


def builders(device: str = "cpu") -> tuple[dict[str, Callable[[Problem], Contestant]], dict[str, str]]:
    """Return what builds each contestant, in their order, and why the others cannot be here."""
    import nanotorch

    found: dict[str, Callable[[Problem], Contestant]] = {
        "nanotorch": lambda problem: frameworks.eager(nanotorch, problem, device),
        "handwritten": lambda problem: handwritten(problem, device),
    }
    absent: dict[str, str] = {}
    pytorch = frameworks.import_pytorch(device)
    if pytorch is not None:
        found["PyTorch"] = lambda problem: frameworks.eager(pytorch, problem, device)
    else:
        absent["PyTorch"] = absent["torch.compile"] = "PyTorch is not installed, or has no such device"
    if device != "cpu":
        absent |= dict.fromkeys(set(ORDER) - set(found) - set(absent), "on the CPU only")
        return {name: found[name] for name in ORDER if name in found}, absent
    found["compiled"] = frameworks.compiled
    if pytorch is not None and shutil.which("cc") is not None:
        found["torch.compile"] = lambda problem: frameworks.torch_compile(pytorch, problem)
    elif pytorch is not None:
        absent["torch.compile"] = "needs a C compiler"
    from nanotorch.capture.table.machine import MACHINE

    if MACHINE.wait() is not None:
        found |= {"table": frameworks.table, "fused by hand": fused}
    else:
        absent |= dict.fromkeys(("table", "fused by hand"), MACHINE.reason)
    names = ("jax", "jax.jit", "jax.lax.scan")
    if find_spec("jax") is not None:
        from benchmarks.steps import jax_steps

        found |= dict(zip(names, (jax_steps.op_by_op, jax_steps.jit, jax_steps.scan), strict=True))
    else:
        absent |= dict.fromkeys(names, "JAX is not installed")
    return {name: found[name] for name in ORDER if name in found}, absent


def handwritten(problem: Problem, device: str = "cpu") -> Contestant:
    """The step written over NumPy, or over CuPy."""
    if device == "cpu":
        step = HandwrittenStep(np, *problem.draw(), problem.lr)
        return Contestant(step, lambda: step.parameters)
    import cupy

    step = HandwrittenStep(cupy, *problem.draw(), problem.lr)
    return Contestant(step, lambda: [cupy.asnumpy(parameter) for parameter in step.parameters])


def fused(problem: Problem) -> Contestant:
    """The step written for numba."""
    from benchmarks.steps.fused import FusedStep

    step = FusedStep(*problem.draw(), problem.lr)
    return Contestant(step, lambda: step.parameters)


def assemble(
    problem: Problem, building: Mapping[str, Callable[[Problem], Contestant]]
) -> tuple[dict[str, Contestant], dict[str, float]]:
    """Build contestants and let each take some steps; return them and the seconds of the processor that each took.

    Raises:
        AssertionError: one of them trains otherwise than the first.
    """
    built: dict[str, Contestant] = {}
    losses: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for name, build in building.items():
        start = time.process_time()
        built[name] = build(problem)
        losses[name] = [built[name].step() for _ in range(STEPS_COMPARED)]
        seconds[name] = time.process_time() - start
    first = next(iter(built))
    _compare(built, losses, first)
    while any(contestant.many for contestant in built.values()) and len(losses[first]) < STEPS_COMPARED + problem.many:
        losses[first].append(built[first].step())
    for name, contestant in built.items():
        if contestant.many is not None:
            start = time.process_time()
            losses[name].append(contestant.many())
            seconds[name] += time.process_time() - start
            np.testing.assert_allclose(losses[name][-1], losses[first][-1], rtol=1e-2, err_msg=f"many steps of {name}")
    return built, seconds


def _compare(built: Mapping[str, Contestant], losses: Mapping[str, list[float]], first: str) -> None:
    expected = built[first].read()
    for name, contestant in built.items():
        np.testing.assert_allclose(losses[name], losses[first], rtol=1e-3, err_msg=f"losses of {name}")
        for value, reference in zip(contestant.read(), expected, strict=True):
            # As a whole, for Adam blows rounding up where a gradient is almost zero.
            error = np.linalg.norm(value - reference) / np.linalg.norm(reference)
            if not error < 1e-3:
                raise AssertionError(f"parameters of {name} are off by {error:.1e}, shape {value.shape}")


def calls(built: Mapping[str, Contestant]) -> dict[str, Callable[[], object]]:
    """Return what is timed of each: many steps where it can take them, else one."""
    return {name: contestant.many or contestant.step for name, contestant in built.items()}
