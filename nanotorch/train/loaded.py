"""A finished (or stopped) run, read back: its config, how it prepares rows, and its best model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import nn
from nanotorch.train import checkpoint
from nanotorch.train.build import build_model
from nanotorch.train.config import Config, loads
from nanotorch.train.datasets import FloatArray
from nanotorch.train.preprocessing import Preprocessing

__all__ = ["LoadedRun", "RunError", "load_run"]

ROWS_AT_ONCE = 4096


class RunError(RuntimeError):
    """A directory that holds no run that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """What `load_run` found.

    Attributes:
        directory: the run's directory.
        config: its config, every value of it.
        preprocessing: from rows to what the model sees.
        model: the model of the checkpoint, in evaluation mode, on the CPU.
        state: the rest of the checkpoint's state: epoch, history ...
    """

    directory: Path
    config: Config
    preprocessing: Preprocessing
    model: nn.Module
    state: Mapping[str, Any]

    def outputs(self, features: FloatArray) -> FloatArray:
        """What the model gives for prepared rows, (n, out_features) float64: logits, or targets in the units of the loss."""
        dtype = getattr(torch, self.config.dtype)
        pieces = []
        with torch.no_grad():
            for start in range(0, len(features), ROWS_AT_ONCE):
                rows = torch.tensor(features[start : start + ROWS_AT_ONCE], dtype=dtype)
                pieces.append(self.model(rows).numpy().astype(np.float64))
        return np.concatenate(pieces) if pieces else np.zeros((0, self.preprocessing.out_features))


def load_run(directory: str | Path, which: str = "best") -> LoadedRun:
    """Read a run's directory, with the checkpoint `best` (or `last`); a RunError or CheckpointError says what is wrong."""
    root = Path(directory)
    if not (root / "resolved.yaml").is_file():
        raise RunError(f"{root} is not the directory of a run: it has no resolved.yaml")
    config = loads((root / "resolved.yaml").read_text(encoding="utf-8"), str(root / "resolved.yaml"))
    if not (root / "checkpoints" / which).exists():
        raise RunError(f"{root} has no checkpoint {which!r} yet: the run stopped before its first one was written")
    saved = checkpoint.load(root / "checkpoints" / which)
    preprocessing = Preprocessing.from_state(saved.state["preprocessing"])
    state = torch.default_generator.get_state()
    try:
        model = build_model(config, preprocessing).to(getattr(torch, config.dtype))
    finally:
        torch.default_generator.set_state(state)
    model.load_state_dict(saved.model)
    return LoadedRun(root, config, preprocessing, model.eval(), saved.state)
