"""What the trainer's plain loop costs beside the step itself: microseconds per step of small MLPs at batch 32.

    python -m benchmarks.trainer_step [--quick] [--rounds N] [--json FILE]

"step" is zero_grad, forward, the mean loss, backward and Adam on one batch, over flat parameters, as a user writes it.
"window step" is the trainer's step on that batch: the sum of the losses divided by the weights of the rows, outputs and
losses handed on; "measured" has it measure the norm of the gradients, which the trainer asks for in every 20th step,
"clipped" has it clip them. "fit" is the loop of the trainer: the loader draws and gathers the rows, the meter keeps
what the step gives and reads it every 20 steps, and after 100 steps an epoch ends; nothing is validated, no program
recorded. All take turns in one process on one core. Machines are noisy: read the differences.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import nanotorch as torch
from benchmarks import common
from nanotorch import nn
from nanotorch.nn.utils import flatten_parameters
from nanotorch.train.fit.loop import FitOptions, fit
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.training import Training
from nanotorch.train.fit.window_step import StepOptions, window_step
from nanotorch.utils.data import TensorDataset

SIZES = {"4-16-3": (4, 16, 3), "30-32-2": (30, 32, 2), "64-128-64-10": (64, 128, 64, 10)}
BATCH, STEPS = 32, 100
RATE = 1e-6
"""So low that the numbers, and with them the time of a step, stay what they are."""


def calls(sizes: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """Return a step of each kind, of models of their own."""
    torch.manual_seed(0)
    features, classes = torch.randn(BATCH * STEPS, sizes[0]), torch.randint(0, sizes[-1], (BATCH * STEPS,))
    rows = torch.ones(BATCH * STEPS)
    batch = [part[:BATCH].clone() for part in (features, classes, rows)]
    trained = [_model(sizes) for _ in range(5)]
    flat = [flatten_parameters(model.parameters()) for model in trained[:4]]
    optimizers = [torch.optim.Adam(model.parameters(), lr=RATE) for model in trained]
    mean, summed = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum")

    def step() -> None:
        optimizers[0].zero_grad()
        mean(trained[0](batch[0]), batch[1]).backward()
        optimizers[0].step()

    def of_trainer(number: int, options: StepOptions, measure: bool) -> Callable[[], object]:
        model, optimizer, parts = trained[number], optimizers[number], flat[number]
        return lambda: window_step(model, summed, optimizer, parts, [batch], options, measure=measure)

    names = [str(number) for number in range(sizes[-1])]
    part = Part(TensorDataset(features, classes, rows), {"task": "multiclass", "target_names": names})
    shuffle = torch.Generator().manual_seed(0)
    training = Training(trained[4], summed, optimizers[4], shuffle, part.meter())
    loader = part.loader(BATCH, shuffle=True, drop_last=False, generator=shuffle)
    fitting = fit(training, loader, None, FitOptions(epochs=1_000_000))
    return {
        "step": step,
        "window step": of_trainer(1, StepOptions(), measure=False),
        "measured": of_trainer(2, StepOptions(), measure=True),
        "clipped": of_trainer(3, StepOptions(clip_norm=1.0), measure=False),
        "fit": lambda: next(fitting),  # one of 101 is the record of an epoch
    }


def _model(sizes: tuple[int, ...]) -> nn.Module:
    layers: list[Any] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def main() -> None:
    """Time all models and print the table."""
    options = common.arguments("Time the trainer's plain loop.")
    common.pin(options.device)
    rounds, seconds = options.rounds or (1 if options.quick else 300), 0.0 if options.quick else 0.003
    results: list[dict[str, Any]] = []
    for name, sizes in list(SIZES.items())[: 1 if options.quick else None]:
        results.append({"model": name, "us": common.spread(common.interleave(calls(sizes), rounds, seconds))})
    rows = []
    for result in results:
        for name, us in result["us"].items():
            more = us["min"] - result["us"]["step"]["min"]
            rows.append([f"{result['model']}  {name}", f"{us['median']:.1f}", f"{us['min']:.1f}", f"{more:+.1f}"])
    title = f"steps of the trainer's plain loop, batch {BATCH}, microseconds over {rounds} rounds"
    header = ["MLP, step", "median", "least", "more than a step"]
    common.report(title, common.machine(options.device), common.table(header, rows), results, options.json)


if __name__ == "__main__":
    main()
