"""The directory of a run: made exclusively, and a file for every thing that one wants to know afterwards."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["append_metrics", "begin", "create"]


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


def begin(directory: Path, source: str | None, resolved: str, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the config as given and with every default, and the records of the epochs that are done."""
    if source is not None:
        (directory / "config.yaml").write_text(source, encoding="utf-8")
    (directory / "resolved.yaml").write_text(resolved, encoding="utf-8")
    (directory / "metrics.jsonl").unlink(missing_ok=True)
    for record in history:
        append_metrics(directory, record)


def append_metrics(directory: Path, record: Mapping[str, Any]) -> None:
    """Add one line of JSON to `metrics.jsonl`; it is on its way to the disk when this returns."""
    with (directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(record)) + "\n")
