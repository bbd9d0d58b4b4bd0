"""Microseconds per step and model when several models train at once, on one core.

    python -m benchmarks.sweeps [--quick] [--rounds N] [--json FILE]

The step is that of `benchmarks.train_step`, on three small MLPs. `nanotorch` is one model's plain step, `numpy 1` and
`table 1` its programs; `numpy 8`, `table 64` and so on take so many models at once (`nanotorch.compile.sweep`), each
with its own weights and its own rate of learning. All programs take 20 steps in a call, as the trainer does; tables of
models run in threads, which share the one core here. Beside it JAX's form of this, `vmap` of a `lax.scan` over the same
steps (one rate for all). Before anything is timed, the first and the last model of each sweep must have what their
separate plain runs have: the bits, or a table's rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.steps.frameworks import Parts
from benchmarks.steps.problem import Problem

PROBLEMS = {
    "4-16-3 batch 16": Problem((4, 16, 3), 16, many=20),
    "30-32-2 batch 32": Problem((30, 32, 2), 32, many=20),
    "64-128-64-10 batch 64": Problem((64, 128, 64, 10), 64, many=20),
}
MODELS = (8, 64)


def variants(problem: Problem, count: int) -> list[Problem]:
    """Return the problem with the weights and the rate of each model."""
    return [dataclasses.replace(problem, seed=k, lr=problem.lr * (1 + k / count)) for k in range(count)]


def single(problem: Problem, backend: str) -> Callable[[], object]:
    """Return a call that takes many steps of one model by a program."""
    import nanotorch

    parts = Parts(nanotorch, problem, "cpu")
    step = nanotorch.compile(parts.step_by(parts.forward, parts.optimizer.step), backend=backend)
    return lambda: step.run((parts.x, parts.y), order_of(problem), batch_size=problem.batch)


def order_of(problem: Problem) -> np.ndarray:
    """Return the rows of the batch, once for each step of a call."""
    return np.tile(np.arange(problem.batch), problem.many)


def sweep_of(problem: Problem, count: int, backend: str) -> Callable[[], object]:
    """Return a call that takes many steps of all models, once two of them have trained as they do alone."""
    import nanotorch

    models = variants(problem, count)
    parts = [Parts(nanotorch, model, "cpu") for model in models]
    steps = [part.step_by(part.forward, part.optimizer.step) for part in parts]
    sweep = nanotorch.compile.sweep(steps, backend=backend)
    batch, order = (parts[0].x, parts[0].y), order_of(problem)

    def call() -> Any:
        return sweep.run(batch, order, batch_size=problem.batch)

    losses = np.concatenate([call().numpy() for _ in range(2)], axis=1)
    for number in (0, count - 1):
        alone = Parts(nanotorch, models[number], "cpu")
        step = alone.step_by(alone.forward, alone.optimizer.step)
        expected = [step(alone.x, alone.y).item() for _ in range(losses.shape[1])]
        if backend == "numpy":
            np.testing.assert_array_equal(losses[number], np.float32(expected))
        else:
            np.testing.assert_allclose(losses[number], expected, rtol=1e-3)
        for value, reference in zip(parts[number].read(), alone.read(), strict=True):
            error = np.linalg.norm(value - reference) / np.linalg.norm(reference)
            if not error <= (0.0 if backend == "numpy" else 1e-3):
                raise AssertionError(f"parameters of model {number} of {count} are off by {error:.1e} ({backend})")
    return call


def main() -> None:
    """Time every sweep and print the table."""
    import nanotorch
    from nanotorch.capture.table.machine import MACHINE

    options = common.arguments("Time sweeps of several models.")
    common.pin()
    rounds, seconds = options.rounds or (1 if options.quick else 15), 0.0 if options.quick else 0.05
    backends = ["numpy", "table"] if MACHINE.wait() is not None else ["numpy"]
    with_jax = find_spec("jax") is not None
    rows, results = [], []
    for name, problem in list(PROBLEMS.items())[: 1 if options.quick else None]:
        problem = dataclasses.replace(problem, many=2) if options.quick else problem
        part = Parts(nanotorch, problem, "cpu")
        plain = part.step_by(part.forward, part.optimizer.step)
        calls: dict[str, Callable[[], object]] = {"nanotorch": lambda: plain(part.x, part.y).item()}  # noqa: B023
        steps = {"nanotorch": 1}
        for backend in backends:
            calls[f"{backend} 1"] = single(problem, backend)
            for count in MODELS:
                calls[f"{backend} {count}"] = sweep_of(problem, count, backend)
        if with_jax:
            from benchmarks.steps.jax_steps import vmap

            for count in MODELS:
                calls[f"jax.vmap {count}"] = vmap(problem, variants(problem, count))
        steps |= {key: problem.many * int(key.split()[1]) for key in calls if key != "nanotorch"}
        timings = common.interleave(calls, rounds, seconds)
        timings = {key: [value / steps[key] for value in values] for key, values in timings.items()}
        us = common.spread(timings)
        results.append({"model": name, "many": problem.many, "us": us})
        rows += [
            [f"{name}  {key}", f"{found['median']:.1f}", f"{us['nanotorch']['median'] / found['median']:.1f}"]
            for key, found in us.items()
        ]
    title = f"microseconds per step and model, over {rounds} rounds"
    found = common.machine() | ({} if with_jax else {"without jax.vmap": "JAX is not installed"})
    header = ["MLP, program, models", "median", "plain/it"]
    common.report(title, found, common.table(header, rows), results, options.json)


if __name__ == "__main__":
    main()
