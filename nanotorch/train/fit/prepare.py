"""From a config to tables: loaded, split, and with what was learnt from the training part on how to prepare rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nanotorch.registry import LOSSES
from nanotorch.train.config.sections import Config
from nanotorch.train.data import datasets
from nanotorch.train.data.columns.notation import missing_values
from nanotorch.train.data.data_findings import Oddity, oddities
from nanotorch.train.data.data_notices import Noticed
from nanotorch.train.data.preprocessing import MOST_ONE_HOT, Preprocessing
from nanotorch.train.data.split import split, without_rare
from nanotorch.train.data.table import Table


@dataclass(frozen=True)
class Data:
    """The parts of a table by name ("train", and where there are some "validation" and "test"),
    what was learnt from the first, and what to tell.
    """

    parts: dict[str, Table]
    preprocessing: Preprocessing
    notices: tuple[str, ...] = ()

    @cached_property
    def oddities(self) -> list[Oddity]:
        """What is odd about the rows."""
        return oddities(self.parts)

    def fingerprint(self) -> str:
        """Return a hash of every number that is trained on or scored by,
        of rows that stay on the disk with one of their own behind it.
        """
        found = hashlib.sha256(json.dumps(self.preprocessing.state()).encode())
        for name, table in self.parts.items():
            found.update(f"{name} {table.features.shape} {table.categories}".encode())
            found.update(table.targets.tobytes())
            if table.weights is not None:
                found.update(table.weights.tobytes())
            if isinstance(table.features, np.ndarray):
                found.update(table.features.tobytes())
        features = self.parts["train"].features
        return found.hexdigest() if isinstance(features, np.ndarray) else f"{found.hexdigest()}-{features.digest}"


def load(config: Config) -> Table:
    """Load the table of a config."""
    return datasets.load(config.data.name, table_arguments(config), seed_of(config))


def table_arguments(config: Config) -> dict[str, Any]:
    """Return the arguments of the dataset of a config; a loss for numbers alone says what whole numbers are."""
    arguments, tasks = config.data.arguments, LOSSES.entry(config.loss.name).facts.get("tasks", ())
    if arguments.get("task") == "auto" and tuple(tasks) == ("regression",):
        return {**arguments, "task": "regression"}
    return arguments


def prepare(config: Config, table: Table | None = None, notes: Sequence[str] = ()) -> Data:
    """Split the table of a config, which is loaded where it is not given; then learn, from the training part alone, how
    to prepare rows. The notices begin with `notes`.
    """
    section = config.data
    table = without_rare_classes(config, load(config) if table is None else table)
    splits = split(table, section.test_size, section.validation_size, seed_of(config), section.fold)
    several = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    parts = {name: part for name, part in several.items() if part is not None}
    given = section.arguments
    kept: dict[str, Any] = {}
    if "file" in given:
        most, encoding = given["max_categories"], given["categories"]
        most = (MOST_ONE_HOT if encoding == "one_hot" else None) if most == "auto" else most
        missing = missing_values(given["missing_values"])
        kept = {"encoding": encoding, "max_categories": most, "missing_values": missing}
    preprocessing = Preprocessing.fit(
        splits.train, section.standardize, section.standardize_target is not False, **kept
    )
    notices = [*notes, *table.notices, *splits.notices, *preprocessing.grouped(splits.train)]
    for name in list(parts)[1:]:
        noticed = Noticed()
        preprocessing.notice(parts[name], noticed)
        notices += [f"{name} part: {sentence}" for sentence in noticed.sentences()]
    if table.weights is not None:
        notices.append(
            f"rows count as column {given['weight']!r} says, in the loss and in the scores; tables by class and"
            " pictures of the report count each row once"
        )
    if "validation" not in parts:
        going = " and early stopping goes by the training part" if config.early_stopping is not None else ""
        notices.append(f"there is no validation part: the last epoch is taken for the best{going and ','}{going}")
    if "test" not in parts:
        notices.append("there is no test part: no score at the end is of rows that had no part in training")
    return Data(parts, preprocessing, tuple(notices))


def without_rare_classes(config: Config, table: Table) -> Table:
    """Return a table without the classes that are too rare for its division, where the config says what to do."""
    section = config.data
    if section.rare == "refuse":
        return table
    return without_rare(table, section.test_size, section.validation_size, section.fold, section.rare, seed_of(config))


def seed_of(config: Config) -> int:
    """Return the seed of a config, from which all its random numbers come."""
    if config.seed is None:
        raise ValueError("the config has no seed yet; nanotorch.train.config.loading.with_seed draws one")
    return config.seed
