"""What to take for a table where nobody says: model, optimizer and length, by its rows and its task.

Found on half of the tables of `benchmarks.tables`, and measured on the other half.
"""

from __future__ import annotations

from typing import Any

from nanotorch.train.model.usual_loss import USUAL

STEPS = 1500  # of a training, where that is not too many epochs
EPOCHS = (20, 100)  # at least and at most


def preset(rows: int, task: str) -> dict[str, Any]:
    """Return the sections of a config for a training part of so many rows, as a config has them.

    Epochs follow steps, so that small tables are not left half learnt. The best epoch is that of the smallest loss: a
    few rows for validation tell losses apart where many epochs have the same accuracy.

    >>> preset(105, "multiclass")["train"]
    {'epochs': 100, 'batch_size': 64, 'monitor': 'loss'}
    >>> preset(8000, "regression")["train"]
    {'epochs': 24, 'batch_size': 128, 'monitor': 'loss'}
    """
    batch = usual_batch_size(rows)
    smoothing = {"label_smoothing": 0.1} if task == "multiclass" else {}
    return {
        "model": {"hidden": [128, 128], "dropout": 0.15},
        "loss": {"name": USUAL[task], **smoothing},
        "optimizer": {"name": "AdamW", "lr": 3e-3, "weight_decay": 0.02},
        "scheduler": {"name": "OneCycleLR", "interval": "step"},
        "train": {"epochs": usual_epochs(rows, batch), "batch_size": batch, "monitor": "loss"},
    }


def usual_batch_size(rows: int) -> int:
    """Return how many of so many rows for training to take in a step.

    >>> usual_batch_size(100), usual_batch_size(10_000)
    (64, 128)
    """
    return 64 if rows <= 5000 else 128


def usual_epochs(rows: int, of_a_step: int) -> int:
    """Return how often to go over so many rows, of which a step takes some: a training has as many steps as it needs.

    >>> usual_epochs(100, 64), usual_epochs(1000, 64), usual_epochs(10_000, 128)
    (100, 96, 20)
    """
    return min(EPOCHS[1], max(EPOCHS[0], STEPS * of_a_step // rows))
