"""The directory of a run: made exclusively, locked while it is written, with a file for every thing one wants to know.

    runs/<name>-<utc>-<4 hex digits>/
        config.yaml      the config as it was given
        resolved.yaml    every value of it: trains the same run again by itself
        env.json         versions, device, threads: what the bits of the result depend on
        train.log        what happened, with the time
        metrics.jsonl    a line for every epoch (metrics.csv: the same as a table)
        checkpoints/     see checkpoint.py
        summary.json     the final scores; there only when the run is complete
        report.html      all of it to look at (learning_curve.png: a part of it as a picture)
        tensorboard/     the curves for TensorBoard, with `log: {tensorboard: true}`
"""

from __future__ import annotations

import csv
import fcntl
import io
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

__all__ = ["DirectoryError", "RunDirectory", "check", "create"]


class DirectoryError(RuntimeError):
    """A directory that a run cannot be written to; the message says why and what to do."""


LOCK = ".lock"


def create(output: str | Path, name: str) -> Path:
    """Make and return `<output>/<name>-<utc>-<4 hex digits>/`.

    Runs that start in the same second, on any number of machines, get directories of their own.
    """
    Path(output).mkdir(parents=True, exist_ok=True)
    while True:
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        directory = Path(output) / f"{name}-{started}-{secrets.token_hex(2)}"
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory


def check(output: str | Path, directory: Path | None = None, overwrite: bool = False) -> None:
    """Say, before anything is computed, why a run could not be written: to this very directory, or to a new one in `output`."""
    place = Path(output) if directory is None else directory
    if place.is_symlink() and not place.exists():
        raise DirectoryError(f"{place} is a link to {os.readlink(place)}, which does not exist")
    nearest = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not nearest.is_dir():
        what = "" if nearest == place else f", so there can be no {place}"
        raise DirectoryError(f"{nearest} is not a directory{what}: give another --output")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise DirectoryError(f"{nearest} cannot be written to (no permission, or a read-only disk): give another --output")
    if directory is None or not directory.is_dir() or all(_is_leftover(path) for path in directory.iterdir()):
        return
    if not overwrite:
        raise DirectoryError(
            f"{directory} is not empty: give another --output, or --overwrite to replace the run in it, or --resume auto to "
            "go on with it"
        )
    if not (directory / "resolved.yaml").is_file():
        raise DirectoryError(f"{directory} holds no run (it has no resolved.yaml), so --overwrite leaves it alone")


def _is_leftover(path: Path) -> bool:
    """Whether this is the lock, or what a process left that was killed while it wrote."""
    return path.name == LOCK or (path.name.startswith(".") and path.name.endswith(".writing"))


class RunDirectory:
    """The files of a run, locked against other processes within a ``with`` block.

    A log or a line of metrics that cannot be written (a full disk) is said once on stderr and does not stop training; what a
    run cannot do without raises.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice: str | None = None
        self._lock: Any = None
        self._complained = False

    def __enter__(self) -> Self:
        """Take the lock, or say who has it; `notice` tells of a process that was killed with it."""
        while True:
            file = open(self.path / LOCK, "a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                file.close()
                raise DirectoryError(f"{self.path} is in use by {holder}: two runs cannot write to one directory") from None
            except OSError as error:
                self.notice = f"{self.path} cannot be locked ({error.strerror}): take care that no other run writes to it"
            with suppress(OSError):  # the one before may have deleted the file between our opening and our locking it
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path / LOCK)):
                    break
            file.close()
        file.seek(0)
        holder = file.read().strip()
        if holder and self.notice is None:
            self.notice = f"{holder} ended without giving {self.path} back; its lock is broken"
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        self._lock = file
        for leftover in self.path.glob(".*.writing"):
            leftover.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give the lock back."""
        with suppress(OSError):
            (self.path / LOCK).unlink()
        self._lock.close()

    def claim(self, overwrite: bool) -> None:
        """Make sure, under the lock, that nothing but this run is in the directory; `overwrite` empties it of another run."""
        check(self.path, self.path, overwrite)
        # resolved.yaml, by which a directory is known as a run's, goes last: where this is killed it can be done again.
        for path in sorted(self.path.iterdir(), key=lambda path: path.name == "resolved.yaml"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def begin(
        self,
        source: str | None,
        resolved: str,
        environment: Mapping[str, Any],
        history: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write what is known before the first step, and the records of the epochs that are done already."""
        self.write("resolved.yaml", resolved)
        if source is not None:
            self.write("config.yaml", source)
        self.write_json("env.json", environment)
        self.write("metrics.jsonl", _lines(history))
        (self.path / "summary.json").unlink(missing_ok=True)  # of a run that now goes on for more epochs

    def write(self, name: str, text: str) -> None:
        """Write a file, all of it or nothing, and wait until it is on the disk."""
        temporary = self.path / f".{name}.writing"
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / name)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise DirectoryError(f"{self.path / name} cannot be written: {error.strerror}") from error

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a file of JSON, all of it or nothing."""
        self.write(name, json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    def metrics(self, record: Mapping[str, Any]) -> None:
        """Add the record of an epoch to `metrics.jsonl`."""
        self._append("metrics.jsonl", json.dumps(dict(record)))

    def log(self, message: str) -> None:
        """Add a line to `train.log`, with the time."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._append("train.log", "\n".join(f"{now}  {line}" for line in message.splitlines()))

    def finish(self, history: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
        """Write the metrics once more, with a table of them, and at last the summary, which makes the run complete."""
        columns = list(dict.fromkeys(name for record in history for name in record))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns)
        writer.writeheader()
        writer.writerows(history)
        for name, text in (("metrics.jsonl", _lines(history)), ("metrics.csv", table.getvalue())):
            try:
                self.write(name, text)
            except DirectoryError as error:
                self._complain(str(error))
        self.write_json("summary.json", summary)

    def _append(self, name: str, line: str) -> None:
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            self._complain(f"{self.path / name} cannot be written: {error.strerror}")

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            print(f"warning: {what}; training goes on", file=sys.stderr)


def _lines(history: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(dict(record)) + "\n" for record in history)
