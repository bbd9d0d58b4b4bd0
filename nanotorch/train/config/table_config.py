"""The config of a table for which nobody wrote one: `nanotorch train table.csv --target y`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nanotorch.train.config.strict_yaml import dump


def config_of_table(file: str, targets: Sequence[str]) -> str:
    """Return the text of a config for a table and the columns to predict."""
    name = re.sub(r"\W+", "_", Path(file).stem).strip("_")[:60] or "table"
    target = targets[0] if len(targets) == 1 else list(targets)
    return dump({"name": name, "preset": "default", "data": {"file": file, "target": target}})
