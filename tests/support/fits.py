"""Fits of small configs, and what they leave: to compare fits that are trained together with fits of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nanotorch.train.config.loading import loads
from nanotorch.train.fit.build import Setup, build
from nanotorch.train.fit.chunks import Chunks
from nanotorch.train.fit.loop import fit
from nanotorch.train.fit.prepare import prepare

BASE = """
name: one
seed: 3
device: cpu
data: {name: iris}
model: {hidden: [6], dropout: 0.3}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.02}
train: {epochs: 4, batch_size: 16}
"""  # 90 rows: 6 steps an epoch, the last of 10 rows


def made(*overrides: str, compile: Any = True) -> tuple[Setup, Chunks]:
    config = loads(BASE, overrides=overrides)
    setup = build(config, prepare(config))
    training, loader, _, options = setup
    return setup, Chunks(training, loader, options, options.accumulate, options.epochs, compile)


def events_of(setup: Setup, chunks: Chunks | None) -> Iterator[Any]:
    return fit(setup.training, setup.loader, setup.parts["validation"], setup.options, chunks=chunks)


def left(setup: Setup) -> dict[str, Any]:
    """All that a training decides by: its state, its weights, those of its optimizer, its records."""
    training = setup.training
    found: dict[str, Any] = {"state": repr(training.state())}
    for name, tensor in {**training.model.state_dict(), **training.weights()}.items():
        found[name] = tensor.numpy().tobytes()
    for number, state in training.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            found[f"{number}.{name}"] = value.numpy().tobytes()
    found["records"] = [{k: v for k, v in record.items() if k != "seconds"} for record in training.history]
    return found


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


SCHEDULES = [
    "scheduler={name: CosineAnnealingLR, T_max: 24, interval: step}",
    "scheduler={name: StepLR, step_size: 2}",
    "scheduler={name: OneCycleLR, max_lr: 0.05, interval: step, warmup: 3}",
    "scheduler={name: ReduceLROnPlateau, patience: 0}",
    "scheduler=null",
]
