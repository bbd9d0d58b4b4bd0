"""`preset: default`: what to take for a table where nobody says, by its rows, its columns and its task.

Note [Preset]
~~~~~~~~~~~~~
A preset fills in what a config does not state: whole sections, and single keys of those that it states in part. What is
stated wins; where another model, loss, optimizer or schedule is named, none of the preset's arguments for its own are
taken. The table is read for it once before the run. The config is an ordinary one then, with every value in it, and
says `preset: taken`: it stays what it is where the table has changed or is gone.

The recipe was found on half of the tables of `benchmarks.tables`, and is measured on the other half. It is an ensemble
of small networks side by side: a single one of as many epochs is worse on nearly every table. A length that suits most
tables and all rows to learn from are better there than the best of many epochs by a fifth of the rows, most so where
there are few; so there is no validation part, unless the config asks for what needs one.
"""

from __future__ import annotations

from typing import Any

from nanotorch.train.config.joint_checks import check_all
from nanotorch.train.config.sections import Config
from nanotorch.train.config.strict_yaml import Node
from nanotorch.train.config.value_checks import Check
from nanotorch.train.data import datasets
from nanotorch.train.data.split import about_training_rows
from nanotorch.train.model.usual_loss import USUAL

STEPS = 1500  # of a training, where that is not too many epochs
EPOCHS = (20, 100)  # at least and at most
FEW = 1000  # rows below which noise is learnt soon: more dropout and decay
MANY = 20_000  # rows from which wider networks are worth their time
WIDE = 500  # columns from which an ensemble takes long
JUDGING: tuple[tuple[str, ...], ...] = (
    ("sweep",),
    ("early_stopping",),
    ("train", "monitor"),
    ("train", "calibration"),
    ("data", "split"),
    ("data", "validation_file"),
)
"""Keys of a config that want a validation part, or say themselves which rows it has."""


def preset(rows: int, columns: int, task: str) -> dict[str, Any]:
    """Return the sections of a config for a training part of so many rows and columns, as a config has them.

    Epochs follow steps, so that small tables are not left half learnt.

    >>> preset(150, 4, "multiclass")["train"]
    {'epochs': 100, 'batch_size': 64}
    >>> preset(8000, 10, "regression")["train"]
    {'epochs': 24, 'batch_size': 128}
    """
    batch = usual_batch_size(rows)
    return {
        "data": {},
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
        "train": {"epochs": usual_epochs(rows, batch), "batch_size": batch},
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


def take_preset(root: Node) -> None:
    """Fill in a config that says `preset: default` (Note [Preset]); a DataError says why its table cannot be read.

    Where the config is wrong, it is filled in for any table, so that its own checks find all that is.
    """
    stated = root.value.get("preset")
    if stated is None or stated.value != "default":
        return
    rough = root.copy()
    _fill(rough, {key: values for key, values in preset(1000, 10, "multiclass").items() if key != "loss"})
    config = check_all(Check(rough))
    if config is None:
        root.value = rough.value
        return
    _fill(root, preset(*size(config)))
    stated.value = "taken"


def size(config: Config) -> tuple[int, int, str]:
    """Return how many rows the training part of a config has, about, how many columns, and the task."""
    section = config.data
    table = datasets.load(section.name, section.arguments, config.seed or 0)
    rows = about_training_rows(table, section.test_size, section.validation_size)
    return rows, table.features.shape[1], table.task


def _fill(root: Node, sections: dict[str, Any]) -> None:
    """Put values where the config states none."""
    mark = root.value["preset"]
    found = [root.nearest(path) for path in JUDGING]
    if any(way == path and node.value is not None for (node, way), path in zip(found, JUDGING, strict=True)):
        sections = {**sections, "data": {}}
    for key, values in sections.items():
        section = root.value.setdefault(key, Node({}, mark.mark, mark.key)) if values else None
        if section is not None and isinstance(section.value, dict):
            named = section.value.get("name")
            if named is None or values.get("name") in (None, named.value):
                for name, value in values.items():
                    section.value.setdefault(name, _node(value, mark))


def _node(value: Any, place: Node) -> Node:
    return Node([_node(item, place) for item in value] if isinstance(value, list) else value, place.mark, place.key)
