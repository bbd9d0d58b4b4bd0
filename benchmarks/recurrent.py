"""Milliseconds of recurrent layers: the rows, the same layers as loops of ops, and PyTorch's.

    python -m benchmarks.recurrent [--quick] [--rounds N] [--device cpu|cuda] [--json FILE]

One layer in one direction, batch 32, as many features as hidden units, float32. A training step is forward, the sum of
all outputs, and backward to parameters and input; inference is forward under no_grad. The contestants have the same
parameters, must agree before anything is timed, and then take turns in one process with one thread each. Medians over
the rounds are printed with minima in brackets; ratios are of medians, above 1 where the rows are faster.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.steps.frameworks import import_pytorch

BATCH = 32
SIZES = [(hidden, steps) for hidden in (16, 64, 256) for steps in (20, 100)]
LAYERS = ("RNN", "LSTM", "GRU")
Calls = dict[str, Callable[[], Any]]


def loop(torch: ModuleType, layer: Any, x: Any) -> Any:
    """Run a layer's parameters as a textbook writes it: one op after the other, step by step."""
    linear = torch.nn.functional.linear
    w_ih, w_hh, b_ih, b_hh = layer.parameters()
    h = c = torch.zeros(x.shape[1], layer.hidden_size, device=x.device)
    outputs = []
    for inputs in linear(x, w_ih, b_ih).unbind(0):
        recurrent = linear(h, w_hh, b_hh)
        if isinstance(layer, torch.nn.LSTM):
            i, f, g, o = (inputs + recurrent).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif isinstance(layer, torch.nn.GRU):
            (r, z, n), (rh, zh, nh) = inputs.chunk(3, -1), recurrent.chunk(3, -1)
            n = (n + (r + rh).sigmoid() * nh).tanh()
            h = n + (z + zh).sigmoid() * (h - n)
        else:
            h = (inputs + recurrent).tanh()
        outputs.append(h)
    return torch.stack(outputs)


def contestants(kind: str, hidden: int, steps: int, device: str) -> tuple[Calls, Calls]:
    """Return training steps and inferences by contestant, after a check that gradients and outputs agree."""
    import nanotorch

    rng = np.random.default_rng(0)
    data = rng.standard_normal((steps, BATCH, hidden)).astype(np.float32)
    weights = [
        rng.uniform(-(hidden**-0.5), hidden**-0.5, p.shape).astype(np.float32)
        for p in getattr(nanotorch.nn, kind)(hidden, hidden).parameters()
    ]
    training: Calls = {}
    inference: Calls = {}
    expected: list[np.ndarray[Any, Any]] = []
    libraries = {"rows": nanotorch, "loop of ops": nanotorch, "PyTorch": import_pytorch(device)}
    for name, torch in libraries.items():
        if torch is None:
            continue
        layer = getattr(torch.nn, kind)(hidden, hidden)
        with torch.no_grad():
            for parameter, weight in zip(layer.parameters(), weights, strict=True):
                parameter.copy_(torch.from_numpy(weight))
        layer.to(device)
        x = torch.from_numpy(data).to(device).requires_grad_()

        def run(torch: Any = torch, layer: Any = layer, x: Any = x, name: str = name) -> Any:
            return loop(torch, layer, x) if name == "loop of ops" else layer(x)[0]

        def train(layer: Any = layer, x: Any = x, run: Callable[[], Any] = run) -> None:
            for tensor in (x, *layer.parameters()):
                tensor.grad = None
            run().sum().backward()

        def infer(torch: Any = torch, run: Callable[[], Any] = run) -> None:
            with torch.no_grad():
                run()

        training[name], inference[name] = train, infer
        train()
        found = [t.detach().cpu().numpy() for t in (run(), x.grad, *(p.grad for p in layer.parameters()))]
        expected = expected or found
        for value, reference in zip(found, expected, strict=True):
            error = np.linalg.norm(value - reference) / np.linalg.norm(reference)
            if not error < 1e-3:
                raise AssertionError(f"{kind}: {name} is off by {error:.1e}, shape {value.shape}")
    return training, inference


def main() -> None:
    """Time every layer and size, and print the table."""
    options = common.arguments("Time recurrent layers.")
    common.pin(options.device)
    rounds, seconds = options.rounds or (1 if options.quick else 15), 0.0 if options.quick else 0.05
    rows, results = [], []
    for hidden, steps in SIZES[:1] if options.quick else SIZES:
        for kind in LAYERS:
            for what, calls in zip(
                ("training step", "inference"), contestants(kind, hidden, steps, options.device), strict=True
            ):
                found = common.summary(common.interleave(calls, rounds, seconds))
                times = {name: [value / 1e3 for value in pair] for name, pair in found.items()}
                ratios = {name: pair[0] / times["rows"][0] for name, pair in times.items() if name != "rows"}
                cells = [f"{median:.2f} [{least:.2f}]" for median, least in times.values()]
                rows.append(
                    [f"{kind} {hidden}, {steps} steps, {what}", *cells, *(f"{ratio:.2f}" for ratio in ratios.values())]
                )
                results.append({"layer": kind, "hidden": hidden, "steps": steps, "what": what, "ms": times})
    names = list(times)
    header = ["layer", *names, *(f"{name}/rows" for name in names[1:])]
    title = f"recurrent layers, batch {BATCH}, float32, milliseconds, medians of {rounds} rounds [minima]"
    common.report(title, common.machine(options.device), common.table(header, rows), results, options.json)


if __name__ == "__main__":
    main()
