"""The config of a table for which nobody wrote one: `nanotorch train table.csv --target y`."""

from __future__ import annotations

from collections.abc import Sequence

from nanotorch.train.config.loading import name_of_file
from nanotorch.train.config.strict_yaml import dump


def config_of_table(file: str, targets: Sequence[str]) -> str:
    """Return the text of a config for a table and the columns to predict."""
    target = targets[0] if len(targets) == 1 else list(targets)
    return dump({"name": name_of_file(file), "preset": "default", "data": {"file": file, "target": target}})
