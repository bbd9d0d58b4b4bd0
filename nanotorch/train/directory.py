"""The directory of a run: made exclusively, and a file for every thing that one wants to know afterwards."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["append_metrics", "create"]


def create(output: str | Path, name: str) -> Path:
    """Make and return `<output>/<name>-<utc>-<4 hex digits>/`.

    Runs that start in the same second, on any number of machines, get directories of their own.
    """
    while True:
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        directory = Path(output) / f"{name}-{started}-{secrets.token_hex(2)}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        return directory


def append_metrics(directory: Path, record: dict[str, Any]) -> None:
    """Add one line of JSON to `metrics.jsonl`; it is on its way to the disk when this returns."""
    with (directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
