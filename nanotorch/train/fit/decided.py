"""What a config leaves open and its table decides: how long to train, and by what the best epoch is chosen.

Note [What a table decides]
~~~~~~~~~~~~~~~~~~~~~~~~~~~
`train.epochs`, `train.batch_size` and `train.monitor` may be "auto". Before anything is built they are decided, once
for a run and for all folds, repeats and trials of one config, and the resolved config has what was decided, so that it
trains the same again. What goes on takes what was decided when it began (`settled_as`).

Epochs follow steps: a small table is passed over more often. The best epoch is that of the largest accuracy, or R2, of
the validation part, which cannot tell whether a network has learnt a rare class: where one class has more than three
times the rows of another (in the whole table, so that all folds agree), it is that of the smallest loss, to which every
row of a rare class matters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.config.loading import with_training
from nanotorch.train.config.sections import Config
from nanotorch.train.data.split import about_training_rows, without_rare
from nanotorch.train.data.table import Table
from nanotorch.train.fit.prepare import Data, load, prepare
from nanotorch.train.model.preset import usual_batch_size, usual_epochs

NEAR = 4  # rows by which parts of one size may differ
UNEVEN = 3  # times as many rows of one class as of another


def settled(config: Config, table: Table) -> tuple[Config, list[str]]:
    """Return the config with what its table decides (Note [What a table decides]), and sentences that say so."""
    options, section, chosen, notes = config.train, config.data, dict[str, Any](), list[str]()
    folds = options.folds or (section.fold[1] if section.fold else None)
    tested = 1 / folds if folds else section.test_size
    rows = about_training_rows(table, tested, section.validation_size)
    batch = options.batch_size
    if batch == "auto":
        batch = usual_batch_size(rows)
        if getattr(config.model, "batch_norm", False) and not options.drop_last:
            batch = _without_lone_row(batch, rows)
        chosen["batch_size"] = batch
    if options.epochs == "auto":
        chosen["epochs"] = usual_epochs(rows, batch * options.accumulate)
    told = [f"train.{key}={value}" for key, value in sorted(chosen.items(), reverse=True)]
    if config.optimizer.name == "auto":
        numbers = ", ".join(f"{key} {value:g}" for key, value in config.optimizer.arguments.items())
        told.insert(0, f"AdamW with {numbers}")
    if told:
        notes.append(f"chosen for about {rows:,} rows of training, where the config leaves it open: {', '.join(told)}")
    if options.monitor == "auto" and table.task != "regression":
        counted = table
        if section.rare != "refuse":
            sizes = section.test_size, section.validation_size
            counted = without_rare(table, *sizes, section.fold, section.rare, config.seed or 0)
        for target, (names, labels) in enumerate(counted.class_numbers):
            counts = np.bincount(labels, minlength=len(names))
            if is_uneven(counts) and "monitor" not in chosen:
                chosen["monitor"] = "loss"
                of = f" for target {counted.target_names[target]!r}" if counted.classes else ""
                notes.append(
                    f"always {names[int(counts.argmax())]!r} would have an accuracy of"
                    f" {counts.max() / counts.sum():.1%}{of}, so the best epoch is that of the smallest validation loss"
                    " (train.monitor states another score)"
                )
    config = with_training(config, chosen)
    if config.preset is not None:
        schedule = "no schedule" if config.scheduler is None else config.scheduler.name
        notes.insert(
            0,
            f"with what the preset chose for this table: model {config.model.name}, {config.loss.name},"
            f" {config.optimizer.name}, {schedule}, {config.train.epochs} epochs of batches of"
            f" {config.train.batch_size} rows; --print-config and resolved.yaml have all of it",
        )
    return config, notes


def _without_lone_row(batch: int, rows: int) -> int:
    """Return the rows of a batch, or the next number that leaves no single row for the last one, as batch normalisation
    needs; nor where a part has some rows more or fewer, as folds have.

    >>> _without_lone_row(64, 129), _without_lone_row(64, 160), _without_lone_row(64, 40)
    (67, 64, 64)
    """
    near = range(rows - NEAR, rows + NEAR + 1)
    return next((size for size in range(batch, 2 * batch) if all(count % size != 1 for count in near)), batch)


def is_uneven(counts: NDArray[np.int64]) -> bool:
    """Return whether one class has so many more rows than another that an accuracy says little."""
    return bool(counts.max() > UNEVEN * counts.min())


def settled_data(config: Config) -> tuple[Config, Data]:
    """Load and prepare the table of a config, and return the config with what the table decides."""
    table = load(config)
    config, notes = settled(config, table)
    return config, prepare(config, table, notes)
