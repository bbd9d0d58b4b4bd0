"""`--dry-run`: what a run would be, its data, its model, the time and the memory of a step; nothing is written."""

from __future__ import annotations

import statistics
import time
import tracemalloc

import nanotorch as torch
from nanotorch.summary import bytes_text
from nanotorch.train.config.loading import batch_size_of, epochs_of
from nanotorch.train.config.sections import Config
from nanotorch.train.fit.build import Setup, monitored
from nanotorch.train.fit.decided import settled_data
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.prepare import Data
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.inspect.trial_steps import losses_of, trial
from nanotorch.train.terminal.blas_threads import blas_threads
from nanotorch.train.terminal.standard_streams import printable
from nanotorch.train.terminal.text_report import duration, listed

TIMED_STEPS = 10
WIDTH = 80


def dry_run(config: Config) -> str:
    """Return the report, at most 80 columns wide as far as names allow."""
    with borrowed_generator():
        config, data = settled_data(config)
        setup = trial(config, data, constant_rate=True)
        model, train = setup.training.model, setup.parts["train"]
        with blas_threads(model, batch_size_of(config)):
            model.train()
            layers = torch.summary(model, train.features(batch_size_of(config)))
            return "\n\n".join(
                [_data(config, data, setup.parts), layers.text(WIDTH), _step(config, setup, layers.total_saved_bytes)]
            )


def _data(config: Config, data: Data, parts: dict[str, Part]) -> str:
    preprocessing = data.preprocessing
    names = [printable(name, kept="") for name in preprocessing.target_names]
    shown = listed(names, 5)
    one_of_classes = preprocessing.task in ("binary", "multiclass")
    what = f"{len(names)} classes: {shown}" if one_of_classes else f"{len(names)} to predict: {shown}"
    rows = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    size = sum(tensor.nbytes for part in parts.values() for tensor in part.dataset.tensors)
    lines = [
        f"{config.name}: seed {config.seed}, {config.dtype} on {parts['train'].device}",
        f"rows     {rows} ({bytes_text(size)} on the device)",
        f"columns  {len(preprocessing.feature_names)}, which give {preprocessing.in_features} inputs",
        f"targets  {what} ({preprocessing.task})",
        f"best by  {monitored(config, preprocessing)} of the validation part"
        if "validation" in parts
        else "best is  the last epoch, as there is no validation part",
    ]
    return "\n".join(lines)


def _step(config: Config, setup: Setup, saved: int) -> str:
    """Time and memory of an optimizer step, measured on steps of the run's own loop."""
    training, device = setup.training, setup.parts["train"].device
    steps = setup.steps_per_epoch
    wait = device.xp.synchronize
    times: list[float] = []
    traced, peak = not tracemalloc.is_tracing(), 0
    stepping = losses_of(setup, TIMED_STEPS + 2)
    next(stepping)  # the first one makes the optimizer's state
    if traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    next(stepping)
    peak = tracemalloc.get_traced_memory()[1] - before
    if traced:
        tracemalloc.stop()
    begun = time.perf_counter()
    for _ in stepping:
        wait()
        now = time.perf_counter()
        times.append(now - begun)
        begun = now
    step = statistics.median(times)
    parameters = list(training.model.parameters())
    weights = sum(p.nbytes for p in parameters)
    state = sum(
        value.nbytes
        for entry in training.optimizer.state.values()
        for value in entry.values()
        if isinstance(value, torch.Tensor)
    )
    options, batch_size, epochs = config.train, batch_size_of(config), epochs_of(config)
    pieces = f"{options.accumulate} batches of {batch_size}" if options.accumulate > 1 else f"a batch of {batch_size}"
    total = steps * epochs
    lines = [
        f"a step   {pieces} rows: {duration(step)}",
        f"memory   weights {bytes_text(weights)}, gradients {bytes_text(weights)}, optimizer {bytes_text(state)}",
        f"         kept for backward {bytes_text(saved)}",
    ]
    if device.type == "cpu":
        lines.append(f"         at most {bytes_text(peak)} more than before, while a step runs")
    lines += [
        (f"run      {steps:,} steps an epoch, {epochs:,} epochs: {total:,} steps, about {duration(step * total)}"),
        "         (validation, checkpoints and report not counted)",
        "nothing was written",
    ]
    several = (options.folds or 1) * options.repeats
    if several > 1:
        lines.insert(-2, f"         {several} such runs")
    return "\n".join(lines)
