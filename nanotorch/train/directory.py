"""The directory of a run: made exclusively, locked while it is written, with a file for every thing one wants to know.

    runs/<name>-<utc>-<4 hex digits>/
        config.yaml      the config as it was given
        resolved.yaml    every value of it: trains the same run again by itself
        env.json         versions, device, threads: what the bits of the result depend on
        train.log        what happened, with the time
        metrics.jsonl    a line for every epoch (metrics.csv: the same as a table)
        checkpoints/     see checkpoint.py
        summary.json     the final scores; there only when the run is complete
        report.html      all of it to look at
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["DirectoryError", "RunDirectory", "create", "take"]


class DirectoryError(RuntimeError):
    """A directory that a run cannot be written to; the message says why and what to do."""


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


def take(directory: Path, overwrite: bool) -> Path:
    """Make this very directory the one of a run; `overwrite` empties it first if it holds a run, and nothing else."""
    if directory.is_dir() and any(directory.iterdir()):
        if not overwrite:
            raise DirectoryError(
                f"{directory} is not empty: give another --output, or --overwrite to replace the run in it, or --resume auto to "
                "go on with it"
            )
        if not (directory / "resolved.yaml").is_file():
            raise DirectoryError(f"{directory} holds no run (it has no resolved.yaml), so --overwrite leaves it alone")
        with RunDirectory(directory):
            for path in directory.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != LOCK:
                    path.unlink()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


LOCK = ".lock"


class RunDirectory:
    """The files of a run, locked against other processes within a ``with`` block.

    A log or a line of metrics that cannot be written (a full disk) is said once on stderr and does not stop training; what a
    run cannot do without raises.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: Any = None
        self._complained = False

    def __enter__(self) -> Self:
        """Take the lock, or say who has it."""
        file = open(self.path / LOCK, "a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise DirectoryError(f"{self.path} is in use by {holder}: two runs cannot write to one directory") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        self._lock = file
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give the lock back."""
        with suppress(OSError):
            (self.path / LOCK).unlink()
        self._lock.close()

    def begin(self, source: str | None, resolved: str, environment: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Write what is known before the first step, and the records of the epochs that are done already."""
        if source is not None:
            (self.path / "config.yaml").write_text(source, encoding="utf-8")
        (self.path / "resolved.yaml").write_text(resolved, encoding="utf-8")
        self.write_json("env.json", environment)
        (self.path / "metrics.jsonl").write_text("".join(json.dumps(dict(record)) + "\n" for record in history), encoding="utf-8")

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a file of JSON, all of it or nothing."""
        temporary = self.path / f".{name}.writing"
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(self.path / name)

    def metrics(self, record: Mapping[str, Any]) -> None:
        """Add the record of an epoch to `metrics.jsonl`."""
        self._append("metrics.jsonl", json.dumps(dict(record)))

    def log(self, message: str) -> None:
        """Add a line to `train.log`, with the time."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._append("train.log", "\n".join(f"{now}  {line}" for line in message.splitlines()))

    def finish(self, history: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
        """Write the table of metrics, and at last the summary, which makes the run complete."""
        with (self.path / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(history[0]))
            writer.writeheader()
            writer.writerows(history)
        self.write_json("summary.json", summary)

    def _append(self, name: str, line: str) -> None:
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            if not self._complained:
                self._complained = True
                print(f"warning: {self.path / name} cannot be written ({error.strerror}); training goes on", file=sys.stderr)
