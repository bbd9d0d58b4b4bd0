"""`preset: default`: what to take for a table where nobody says, by its rows, its columns and its task.

Note [Preset]
~~~~~~~~~~~~~
A preset fills in what a config does not state: whole sections, and single keys of those that it states in part. What is
stated wins; where another model, loss, optimizer or schedule is named, none of the preset's arguments for its own are
taken. The table is read for it once before the run. The config is an ordinary one then, with every value in it, and
says `preset: taken`: it stays what it is where the table has changed or is gone.

The recipe was found on half of the tables of `benchmarks.tables`, and is measured on the other half. It is an ensemble
of small networks side by side. The best epoch is that of the smallest loss: a few rows for validation tell losses apart
where many epochs have the same accuracy. The estimators take the recipe with all rows and its whole length.
"""

from __future__ import annotations

from typing import Any

from nanotorch.train.model.usual_loss import USUAL

STEPS = 1500  # of a training, where that is not too many epochs
EPOCHS = (20, 60)  # at least and at most
BATCHES = {300: 16, 1000: 32, 5000: 64}  # rows up to which a step takes so many of them; of more rows 128
FEW = 1000  # rows below which noise is learnt soon: more dropout and decay
MANY = 20_000  # rows from which wider networks are worth their time
WIDE = 500  # columns from which an ensemble takes long


def preset(rows: int, columns: int, task: str) -> dict[str, Any]:
    """Return the sections of a config for a training part of so many rows and columns, as a config has them.

    Epochs follow steps, and few rows are taken a few at a time, so that small tables are not left half learnt.

    >>> preset(150, 4, "multiclass")["train"]
    {'epochs': 60, 'batch_size': 16, 'monitor': 'loss'}
    >>> preset(8000, 10, "regression")["train"]
    {'epochs': 24, 'batch_size': 128, 'monitor': 'loss'}
    """
    batch = usual_batch_size(rows)
    return {
        "model": {
            "name": "tabm",
            "members": 8 if columns < WIDE else 4,
            "hidden": [64, 64] if rows < MANY else [256, 256],
            "dropout": 0.2 if rows < FEW else 0.1,
            "embedding": "none",
            "shared": False,
        },
        "loss": {"name": USUAL[task]},
        "optimizer": {"name": "AdamW", "lr": 3e-3, "weight_decay": 1.0 if rows < FEW else 0.3},
        "scheduler": {"name": "OneCycleLR", "interval": "step"},
        "train": {"epochs": usual_epochs(rows, batch), "batch_size": batch, "monitor": "loss"},
    }


def usual_batch_size(rows: int) -> int:
    """Return how many of so many rows for training to take in a step.

    >>> usual_batch_size(100), usual_batch_size(10_000)
    (16, 128)
    """
    return next((size for most, size in BATCHES.items() if rows <= most), 128)


def usual_epochs(rows: int, of_a_step: int) -> int:
    """Return how often to go over so many rows, of which a step takes some: a training has as many steps as it needs.

    >>> usual_epochs(100, 16), usual_epochs(1000, 32), usual_epochs(10_000, 128)
    (60, 48, 20)
    """
    return min(EPOCHS[1], max(EPOCHS[0], STEPS * of_a_step // rows))
