"""The directory of a run: made exclusively, locked while it is written, with a file for every thing one wants to know.

runs/<name>-<utc>-<4 hex digits>/
    config.yaml      the config as it was given
    resolved.yaml    every value of it: trains the same run again by itself
    env.json         versions, device, threads: what the bits of the result depend on
    train.log        what happened, with the time
    metrics.jsonl    a line for every epoch (metrics.csv: the same as a table)
    checkpoints/     see checkpoint.py (all names: layout.py)
    summary.json     the final scores; there only when the run is complete
    report.html      all of it to look at (learning_curve.svg: a part of it as a picture)
    tensorboard/     the curves for TensorBoard, with `log: {tensorboard: true}`
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import math
import os
import re
import secrets
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nanotorch.train.record import layout
from nanotorch.train.record.records import as_lines
from nanotorch.train.terminal.standard_streams import printable
from nanotorch.utils import files


class DirectoryError(RuntimeError):
    """A directory that a run cannot be written to; the message says why and what to do."""


LOCK = ".lock"
GIVEN_UP = "given up\n"
STAMP = "%Y%m%dT%H%M%SZ"


def create(output: str | Path, name: str) -> Path:
    """Make and return `<output>/<name>-<utc>-<4 hex digits>/`.

    Runs that start in the same second, on any number of machines, get directories of their own. The names tell the
    order in which the runs began: where the clock went back, a new one is a second later than the newest.
    """
    Path(output).mkdir(parents=True, exist_ok=True)
    while True:
        now = datetime.now(UTC).replace(microsecond=0)
        newest = max((started(path, name) or now for path in Path(output).iterdir()), default=now)
        stamp = (now if newest <= now else newest + timedelta(seconds=1)).strftime(STAMP)
        directory = Path(output) / f"{name}-{stamp}-{secrets.token_hex(2)}"
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory


def started(path: Path, name: str) -> datetime | None:
    """When the run began whose directory `create` made under this name; None if it is no such directory."""
    if path.name[: len(name) + 1] == f"{name}-" and re.fullmatch(
        r"\d{8}T\d{6}Z-[0-9a-f]{4}", path.name[len(name) + 1 :]
    ):
        with suppress(ValueError):  # the 99th of a month
            return datetime.strptime(path.name[len(name) + 1 : -5], STAMP).replace(tzinfo=UTC)
    return None


def check(
    output: str | Path, directory: Path | None = None, overwrite: bool = False, needed: Iterable[str | Path] = ()
) -> None:
    """Say, before anything is computed, why a run could not be written:
    to this very directory, or to a new one in `output`.

    With `overwrite`, a run in the directory may be replaced, unless it is not alone there, or files that are `needed`
    lie in it.
    """
    place = Path(output) if directory is None else directory
    if place.is_symlink() and not place.exists():
        raise DirectoryError(f"{place} is a link to {os.readlink(place)}, which does not exist")
    nearest = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not nearest.is_dir():
        what = "" if nearest == place else f", so there can be no {place}"
        raise DirectoryError(f"{nearest} is not a directory{what}: give another --output")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise DirectoryError(
            f"{nearest} cannot be written to (no permission, or a read-only disk): give another --output"
        )
    if directory is None or not directory.is_dir():
        return
    _refuse_links(directory)
    if is_empty(directory):
        return
    if not overwrite:
        raise DirectoryError(
            f"{directory} is not empty: give another --output, or --overwrite to replace the run in it, or --resume"
            " auto to go on with it"
        )
    if not (directory / "resolved.yaml").is_file():
        raise DirectoryError(f"{directory} holds no run (it has no resolved.yaml), so --overwrite leaves it alone")
    inside = next((file for file in needed if Path(file).resolve().is_relative_to(directory.resolve())), None)
    if inside is not None:
        raise DirectoryError(
            f"{inside} lies in {directory} and is needed to train: give another --output, or move the file away"
        )
    others = [str(path.relative_to(directory)) for path in islice(layout.strangers(directory), 6)]
    if others:
        more = ", ..." if len(others) > 5 else ""
        raise DirectoryError(
            f"{directory} holds more than a run: {', '.join(others[:5])}{more}; --overwrite removes what a run wrote"
            " and nothing else, so move the rest away, or give another --output"
        )


def _refuse_links(directory: Path) -> None:
    """Refuse to write where a link or the like has one of a run's names: it could lead anywhere."""
    for path in layout.strangers(directory, names=False):
        raise DirectoryError(
            f"{path} is a link, or no plain file or directory as a run has it: nothing is written through it"
        )


def is_empty(directory: Path) -> bool:
    """Return whether nothing of a run lies in a directory."""
    return all(_is_leftover(path) for path in directory.iterdir())


def _is_leftover(path: Path) -> bool:
    """Return whether this is the lock, or what a process left that was killed while it wrote."""
    return path.name == LOCK or re.fullmatch(layout.HALF_WRITTEN, path.name) is not None


class RunDirectory:
    """The files of a run, locked against other processes within a `with` block.

    A log or a line of metrics that cannot be written (a full disk) is said once on stderr and does not stop training;
    what a run cannot do without raises.

    Args:
        path: the directory, which is there.
        patience: seconds that lines of the log and of the metrics may wait for others, to be written together.
    """

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        self.path, self.patience, self.holder = path, patience, ""
        self.notice: str | None = None
        self._lines: dict[str, list[str]] = {}
        self._appended = -math.inf
        self._lock: Any = None
        self._complained = False

    def __enter__(self) -> Self:
        """Take the lock, or say who has it; `notice` tells of a process that was killed with it."""
        _refuse_links(self.path)
        while True:
            try:
                file = os.fdopen(
                    files.open_own(self.path / LOCK, os.O_RDWR | os.O_CREAT), "r+", encoding="utf-8", errors="replace"
                )
            except OSError as error:
                raise DirectoryError(f"{self.path / LOCK} cannot be opened: {error.strerror}") from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(file)
                file.close()
                raise DirectoryError(
                    f"{self.path} is in use by {holder or 'another process'}: two runs cannot write to one directory"
                ) from None
            except OSError as error:
                self.notice = (
                    f"{self.path} cannot be locked ({error.strerror}): take care that no other run writes to it"
                )
            with suppress(OSError):  # the one before may have deleted the file between our opening and our locking it
                if os.path.samestat(os.fstat(file.fileno()), os.lstat(self.path / LOCK)):
                    break
            file.close()
        holder = _holder(file)
        if holder and self.notice is None:
            self.notice = f"{holder} ended without giving {self.path} back; its lock is broken"
        file.seek(0)
        file.truncate(0)
        self.holder = f"process {os.getpid()} on {os.uname().nodename}"
        file.write(f"{self.holder}\n")
        file.flush()
        self._lock = file
        for leftover in self.path.iterdir():
            if re.fullmatch(layout.HALF_WRITTEN, leftover.name):
                leftover.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        self._append_all()
        with suppress(OSError):
            (self.path / LOCK).unlink()
        self._lock.close()

    def give_up(self) -> None:
        """Let those know who work in it for this process that they are to stop (`is_held`)."""
        self._lock.write(GIVEN_UP)
        self._lock.flush()

    def claim(self, overwrite: bool, needed: Iterable[str | Path] = ()) -> None:
        """Make sure, under the lock, that nothing but this run is in the directory;
        `overwrite` removes another run from it.
        """
        check(self.path, self.path, overwrite, needed)
        layout.remove(self.path, keep=r"\.lock")

    def begin(
        self, source: str | None, resolved: str, environment: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write what is known before the first step, and the records of the epochs that are done already."""
        self.write("resolved.yaml", resolved)
        if source is not None:
            self.write("config.yaml", source)
        self.write_json("env.json", environment)
        self.write("metrics.jsonl", as_lines(history))
        for name in ("summary.json", "held_out.json"):
            (self.path / name).unlink(missing_ok=True)  # of a run that now goes on for more epochs

    def write(self, name: str, text: str | bytes) -> None:
        """Write a file, all of it or nothing, and wait until it is on the disk."""
        try:
            files.write(self.path / name, text, own=True)
        except OSError as error:
            raise DirectoryError(f"{self.path / name} cannot be written: {error.strerror}") from error

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a file of JSON, all of it or nothing."""
        text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
        # names of files need not be UTF-8; \\udc80 is JSON's own escape
        self.write(name, text.encode("utf-8", "backslashreplace"))

    def metrics(self, record: Mapping[str, Any]) -> None:
        """Add the record of an epoch to `metrics.jsonl`."""
        self._append("metrics.jsonl", as_lines([record]))

    def log(self, message: str) -> None:
        """Add a line to `train.log`, with the time."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._append("train.log", "".join(f"{now}  {line}\n" for line in printable(message).split("\n")))

    def finish(
        self, history: Sequence[Mapping[str, Any]], held_out: Mapping[str, Any], summary: Mapping[str, Any]
    ) -> None:
        """Write the metrics once more, with a table of them, what is kept of rows that were held out, and at last the
        summary, which makes the run complete.
        """
        self._append_all()
        columns = list(dict.fromkeys(name for record in history for name in record))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns)
        writer.writeheader()
        writer.writerows(history)
        for name, text in (("metrics.jsonl", as_lines(history)), ("metrics.csv", table.getvalue())):
            try:
                self.write(name, text)
            except DirectoryError as error:
                self._complain(str(error))
        self.write("held_out.json", json.dumps(held_out) + "\n")
        self.write_json("summary.json", summary)

    def _append(self, name: str, lines: str) -> None:
        self._lines.setdefault(name, []).append(lines)
        if time.monotonic() - self._appended >= self.patience:
            self._append_all()

    def _append_all(self) -> None:
        while self._lines:
            name, lines = self._lines.popitem()
            try:
                files.append(self.path / name, "".join(lines))
            except OSError as error:
                self._complain(f"{self.path / name} cannot be written: {error.strerror}")
        self._appended = time.monotonic()

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            print(f"warning: {what}; training goes on", file=sys.stderr)


def _holder(lock: Any) -> str:
    """Who says in the file of the lock that it is theirs."""
    lock.seek(0)
    return str(lock.read(200)).strip().removesuffix(GIVEN_UP.strip()).strip()


def is_held(path: Path, holder: str) -> bool:
    """Whether a directory is locked by this holder still, who has not given it up."""
    try:
        file = os.fdopen(files.open_own(path / LOCK, os.O_RDONLY), "r", encoding="utf-8", errors="replace")
    except OSError:
        return False
    with file:
        if file.read(200).strip() != holder:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # it is locked, or nothing can be
            return True
    return False
