"""Microseconds per training step of four MLPs: nanotorch, eager, compiled and as a table, PyTorch eager, NumPy by hand,
and fused by hand with numba.

    python -m benchmarks.train_step [--quick] [--rounds N] [--device cpu|cuda] [--json FILE]

One step is zero_grad, forward, cross-entropy, backward, Adam and loss.item(), on float32. The contestants
start from the same parameters, must agree after a few steps before anything is timed, and then take turns in
one process with one thread each. The table takes many steps in a call (`compiled.run`); it and the step that
is fused by hand need numba. Medians over the rounds are printed with minima in brackets; ratios are medians of
the other one over nanotorch, above 1 where nanotorch is faster. Machines are noisy: read the ratios.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.handwritten import HandwrittenStep
from nanotorch.capture.table.machine import MACHINE

MODELS = {
    "4-16-3 batch 16": ((4, 16, 3), 16),
    "64-128-64-10 batch 64": ((64, 128, 64, 10), 64),
    "64-256-256-8 batch 256": ((64, 256, 256, 8), 256),
    "784-1024-1024-10 batch 512": ((784, 1024, 1024, 10), 512),
}
STEPS_COMPARED = 5
MANY = 50
"""Steps that the table takes in a call."""


def problem(sizes: tuple[int, ...], batch: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Draw parameters (weight and bias of every layer), a batch of inputs and its classes."""
    rng = np.random.default_rng(0)
    parameters = []
    for inputs, outputs in itertools.pairwise(sizes):
        bound = inputs**-0.5
        parameters.append(rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32))
        parameters.append(rng.uniform(-bound, bound, outputs).astype(np.float32))
    return (parameters, rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch))


def framework_step(
    torch: ModuleType,
    sizes: tuple[int, ...],
    parameters: list[np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    device: str,
    compiled: Callable[[Any], Any] = lambda step: step,
) -> tuple[Callable[[], float], Callable[[], list[np.ndarray]]]:
    """Return a training step in PyTorch's API, for any module that has it, and a reader of the parameters."""
    layers: list[Any] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), parameters, strict=True):
            parameter.copy_(torch.from_numpy(value.copy()))
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_function = torch.nn.CrossEntropyLoss()
    inputs, targets = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)

    @compiled
    def step(inputs: Any, targets: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    return lambda: step(inputs, targets).item(), lambda: [
        parameter.detach().cpu().numpy() for parameter in model.parameters()
    ]


def handwritten_step(
    parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray, device: str
) -> tuple[Callable[[], float], Callable[[], list[np.ndarray]]]:
    """Return the hand-written step, on NumPy or on CuPy, and a function that reads the parameters."""
    if device == "cpu":
        step = HandwrittenStep(np, parameters, x, y)
        return step, lambda: step.parameters
    import cupy

    step = HandwrittenStep(cupy, parameters, x, y)
    return step, lambda: [cupy.asnumpy(parameter) for parameter in step.parameters]


def contestants(sizes: tuple[int, ...], batch: int, device: str) -> dict[str, Callable[[], float]]:
    """Build every contestant, and check that all of them train alike."""
    import nanotorch

    parameters, x, y = problem(sizes, batch)
    built = {
        "nanotorch": framework_step(nanotorch, sizes, parameters, x, y, device),
        "handwritten": handwritten_step(parameters, x, y, device),
    }
    if device == "cpu":
        compiled = functools.partial(nanotorch.compile, backend="numpy")
        built["compiled"] = framework_step(nanotorch, sizes, parameters, x, y, device, compiled)
        if MACHINE.wait() is not None:
            from benchmarks.fused_step import FusedStep

            fused = FusedStep(parameters, x, y)
            built["fused by hand"] = fused, lambda: fused.parameters
            built["table"] = table_step(sizes, parameters, x, y)
    pytorch = import_pytorch(device)
    if pytorch is not None:
        built["PyTorch"] = framework_step(pytorch, sizes, parameters, x, y, device)
    losses = {name: [step() for _ in range(STEPS_COMPARED)] for name, (step, _) in built.items()}
    expected = built["handwritten"][1]()
    for name, (_, read) in built.items():
        np.testing.assert_allclose(losses[name], losses["handwritten"], rtol=1e-3, err_msg=f"losses of {name}")
        for value, reference in zip(read(), expected, strict=True):
            # As a whole, for Adam blows rounding up where a gradient is almost zero.
            error = np.linalg.norm(value - reference) / np.linalg.norm(reference)
            if not error < 1e-3:
                raise AssertionError(f"parameters of {name} are off by {error:.1e}, shape {value.shape}")
    return {name: step for name, (step, _) in built.items()}


def table_step(
    sizes: tuple[int, ...], parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray
) -> tuple[Callable[[], float], Callable[[], list[np.ndarray]]]:
    """Return a function that takes single steps at first, then `MANY` in a call, and a reader of the parameters."""
    import nanotorch

    made: list[Any] = []

    def compiled(step: Any) -> Any:
        made.append(nanotorch.compile(step, backend="table"))
        return made[0]

    single, read = framework_step(nanotorch, sizes, parameters, x, y, "cpu", compiled)
    tensors, order = [nanotorch.from_numpy(x), nanotorch.from_numpy(y)], np.tile(np.arange(len(x)), MANY)
    calls = itertools.count()

    def step() -> float:
        if next(calls) < STEPS_COMPARED:
            return single()
        return made[0].run(tensors, order, batch_size=len(x))[-1].item()

    return step, read


def import_pytorch(device: str) -> ModuleType | None:
    """Return PyTorch, limited to one thread; None where it is not installed or cannot use the device."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch if device == "cpu" or torch.cuda.is_available() else None


def main() -> None:
    """Time every model and print the table."""
    options = common.arguments("Time one training step of four MLPs.")
    rounds, seconds = options.rounds or (1 if options.quick else 25), 0.0 if options.quick else 0.05
    rows, results = [], []
    for name, (sizes, batch) in MODELS.items():
        timings = common.summary(common.interleave(contestants(sizes, batch, options.device), rounds, seconds))
        if "table" in timings:
            timings["table"] = timings["table"][0] / MANY, timings["table"][1] / MANY
        cells = [name]
        for contestant in ("nanotorch", "compiled", "table", "PyTorch", "handwritten", "fused by hand"):
            median, least = timings.get(contestant, (float("nan"), float("nan")))
            cells.append(f"{median:.1f} ({least:.1f})" if median == median else "-")
        pairs = [(ours, other) for ours in ("nanotorch", "compiled") for other in ("PyTorch", "handwritten")]
        for ours, other in [*pairs, ("table", "PyTorch"), ("table", "fused by hand")]:
            there = ours in timings and other in timings
            cells.append(f"{timings[other][0] / timings[ours][0]:.2f}" if there else "-")
        rows.append(cells)
        results.append({"model": name, **{k: {"median_us": m, "min_us": least} for k, (m, least) in timings.items()}})
    header = ["MLP", "nanotorch", "compiled", "table", "PyTorch", "by hand", "fused by hand", "PyTorch/nanotorch"]
    header += ["by hand/nanotorch", "PyTorch/compiled", "by hand/compiled", "PyTorch/table", "fused by hand/table"]
    title = f"training step, microseconds: median (minimum) of {rounds} rounds, {options.device}"
    common.report(title, common.machine(options.device), common.table(header, rows), results, options.json)


if __name__ == "__main__":
    main()
