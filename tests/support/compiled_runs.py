"""A run with everything that a step may do, and all that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nanotorch.train.config.loading import loads
from nanotorch.train.run.run import run

EVERYTHING = """
name: everything
seed: 3
device: cpu
data: {name: iris}
model: {hidden: [12], dropout: 0.3, batch_norm: true}
loss: {name: CrossEntropyLoss, label_smoothing: 0.1}
optimizer: {name: Adam, lr: 0.02}
scheduler: {name: CosineAnnealingLR, T_max: 40, interval: step}
train: {epochs: 8, batch_size: 8, accumulate: 3, clip_norm: 0.8, ema: 0.9, metrics: [f1_macro]}
early_stopping: {patience: 7}
checkpoint: {every_seconds: 0, every_steps: 3, keep: 100}
"""  # 90 rows: 12 batches, the last of 2 rows, 4 steps an epoch


def left(directory: Path) -> dict[str, Any]:
    """All that a run leaves, but for times, what it ran on, and the choice itself."""
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*.safetensors")):
        found[str(path.relative_to(directory))] = path.read_bytes()
    for path in sorted([*directory.glob("checkpoints/*/*.json"), directory / "summary.json"]):
        if path.name != "MANIFEST.json":
            found[str(path.relative_to(directory))] = timeless(json.loads(path.read_text()))
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return {**found, "metrics": [timeless(json.loads(line)) for line in lines]}


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key != "seconds"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def trained(text: str, directory: Path, *overrides: str) -> dict[str, Any]:
    run(loads(text, overrides=overrides), None, False, directory)
    return left(directory)
