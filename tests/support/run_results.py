"""Runs to compare: a config with everything that a step may do, and all that a run leaves in its directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nanotorch.train.config.loading import loads
from nanotorch.train.run.run import run


def everything(epochs: int, patience: int, half_period: int, checkpoint: str = "every_seconds: 0") -> str:
    """Return a config: 90 rows are 12 batches, the last of 2 rows, and 4 steps an epoch."""
    return f"""
name: everything
seed: 3
device: cpu
data: {{name: iris}}
model: {{hidden: [12], dropout: 0.3, batch_norm: true}}
loss: {{name: CrossEntropyLoss, label_smoothing: 0.1}}
optimizer: {{name: Adam, lr: 0.02}}
scheduler: {{name: CosineAnnealingLR, T_max: {half_period}, interval: step}}
train: {{epochs: {epochs}, batch_size: 8, accumulate: 3, clip_norm: 0.8, ema: 0.9, metrics: [f1_macro]}}
early_stopping: {{patience: {patience}}}
checkpoint: {{{checkpoint}}}
"""


EVERYTHING = everything(8, 7, 40, "every_seconds: 0, every_steps: 3, keep: 100")


def trained(text: str, directory: Path, *overrides: str) -> dict[str, Any]:
    """Train as a config says; return what the run leaves, with every checkpoint."""
    run(loads(text, overrides=overrides), None, False, directory)
    return all_left(directory)


def left(directory: Path) -> dict[str, Any]:
    """All that a run leaves, but for times and what it ran on: bytes of the tensors, state, metrics, final scores; of
    its checkpoints the best and the last, for a run that was killed and went on may keep others.
    """
    checkpoints = {link: directory / "checkpoints" / link for link in ("best", "last")}
    result = {f"{link}/{name}": value for link, path in checkpoints.items() for name, value in saved(path).items()}
    result |= {link: path.resolve().name.split("-")[1] for link, path in checkpoints.items()}
    result["metrics"] = [timeless(json.loads(line)) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    result["table"] = [line.rsplit(",", 1)[0] for line in (directory / "metrics.csv").read_text().splitlines()]
    result["summary"] = timeless(json.loads((directory / "summary.json").read_text()))
    result["summary"].pop("verdict", None)  # a trial has none, as it has no page
    for path in directory.rglob("*"):
        assert "writing" not in path.name, f"{path} was left behind"
    return result


def all_left(directory: Path) -> dict[str, Any]:
    """All that a run leaves, with every checkpoint."""
    paths = directory.glob("checkpoints/step-*")
    return left(directory) | {f"{path.name}/{name}": value for path in paths for name, value in saved(path).items()}


def saved(checkpoint: Path) -> dict[str, Any]:
    """The files of a checkpoint."""
    paths = [path for path in sorted(checkpoint.iterdir()) if path.name != "MANIFEST.json"]
    return {
        path.name: path.read_bytes() if path.suffix == ".safetensors" else timeless(json.loads(path.read_text()))
        for path in paths
    }


def timeless(value: Any) -> Any:
    """Return plain values without how long things took."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key != "seconds"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def assert_same(directory: Path, whole: dict[str, Any]) -> None:
    """Compare what a run leaves with what another has left."""
    got = left(directory)
    assert got.keys() == whole.keys()
    different = [name for name in whole if got[name] != whole[name]]
    assert not different, different
