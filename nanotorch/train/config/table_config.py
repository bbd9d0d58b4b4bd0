"""The config of a table for which nobody wrote one: `nanotorch train table.csv --target y`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanotorch.train.config.loading import loads
from nanotorch.train.config.preset import preset
from nanotorch.train.config.strict_yaml import dump
from nanotorch.train.data import datasets


def config_of_table(file: str, targets: Sequence[str], overrides: Sequence[str] = ()) -> str:
    """Return the text of a config for a table and the columns to predict, by what the table holds.

    Of the overrides, those of `data` say how it is read. A ConfigError or DataError says what is wrong.
    """
    name = re.sub(r"\W+", "_", Path(file).stem).strip("_")[:60] or "table"
    begun: dict[str, Any] = {
        "name": name,
        "data": {"file": file, "target": targets[0] if len(targets) == 1 else list(targets)},
    }
    least = {
        "model": {},
        "loss": {"name": "auto"},
        "optimizer": {"name": "AdamW"},
        "train": {"epochs": 1, "batch_size": 1},
    }
    of_data = [text for text in overrides if re.match(r"\s*data\s*[.=]", text)]
    config = loads(dump({**begun, **least}), "<preset>", of_data)
    section = config.data
    table = datasets.load(section.name, section.arguments, config.seed or 0)
    rows = max(1, round(len(table) * (1 - section.test_size - section.validation_size)))
    return dump({**begun, **preset(rows, table.task)})
