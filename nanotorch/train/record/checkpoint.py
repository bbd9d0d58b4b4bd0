"""Checkpoints: a directory of safetensors and JSON with a manifest of checksums; no pickle anywhere.

    checkpoints/
        step-000120/
            model.safetensors        parameters and buffers: the weights for use
            training.safetensors     the weights in training, where those for use are their moving average
            optimizer.safetensors    the tensors of the optimizer's state ...
            optimizer.json           ... and its numbers, with the learning rates
            state.json               where the run stands: epoch, generators, schedule, scaling ...
            MANIFEST.json            size and sha256 of every file above, and of what the history then held
        history.jsonl                the record of every epoch: appended to, so that all checkpoints cost the same
        last -> step-000120          the newest checkpoint
        best -> step-000096          the one with the best validation score

A checkpoint is written under a temporary name, flushed to the disk and then renamed; `last` and `best` are
symbolic links, replaced in one operation; one that is saved again at the same step gets a name of its own
(`step-000120-2`) before the first goes. So whatever happens in between, both links lead to complete checkpoints.
Temporary names begin with a dot; `Checkpoints` deletes those that a killed process left. Where a run was copied by what
knows no links (zip, scp), `find` tells from the checkpoints themselves which they led to.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import stat
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.train.record import layout
from nanotorch.train.record.records import LARGEST_HISTORY, as_lines, lines_of, parsed
from nanotorch.utils import files
from nanotorch.utils.serialization import from_bytes, to_bytes

FORMAT = "nanotorch checkpoint"
VERSION = 2  # 1: state.json held the history, as those who read it may still find
LARGEST_MANIFEST = 2**16
LARGEST_FILE = 2**50  # of those that a manifest may list: no disk holds more
FILES = ("model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json")
KNOWN = (*FILES, "training.safetensors")
LONG_EPOCH = 60.0  # seconds after which a checkpoint is due in the middle of an epoch


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read or written; the message names the file and says what is wrong."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was saved: state_dicts, and the rest of the run's state as plain values.

    `training` holds the weights in training where `model`, those for use, are their moving average; else it is None.
    `past` says which part of the history belongs to the checkpoint (`history` reads it), or is None where there is none
    beside it.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: dict[str, Any]
    training: dict[str, Tensor] | None = None
    path: Path = Path()
    past: Mapping[str, Any] | None = None
    version: int = VERSION


def save(
    root: Path,
    step: int,
    model: dict[str, Tensor],
    optimizer: dict[str, Any],
    state: dict[str, Any],
    links: Sequence[str] = ("last",),
    training: dict[str, Tensor] | None = None,
    keep: int = 1,
    past: Mapping[str, Any] | None = None,
) -> Path:
    """Write `root/step-<step>` from the state_dicts and the state, and let the `links` lead to it.

    Of the checkpoints that neither `last` nor `best` leads to, the newest `keep - 1` stay. `past` is what
    `History.hold` returned.
    """
    tensors, numbers = _split_tensors(optimizer)
    contents = {
        "model.safetensors": to_bytes(model),
        "optimizer.safetensors": to_bytes(tensors),
        "optimizer.json": _to_json(numbers),
        "state.json": _to_json(state),
    }
    if training is not None:
        contents["training.safetensors"] = to_bytes(training)
    sums = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in contents.items()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "files": sums,
        **({} if past is None else {"history": dict(past)}),
    }
    contents["MANIFEST.json"] = _to_json(manifest)
    temporary, directory = root, root / f"step-{step:06d}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        directory = _free_name(directory)
        temporary = root / f".{directory.name}.writing-{os.getpid()}"
        temporary.mkdir()
        for name, data in contents.items():
            (temporary / name).write_bytes(data)
        for name in contents:
            _flush(temporary / name)
        _flush(temporary)
        temporary.rename(directory)
        _flush(root)
        for name in links:
            _link(root / name, directory)
        _flush(root)
    except BaseException as error:
        for leftover in root.glob(f".*.writing-{os.getpid()}"):
            _delete(leftover)
        if not isinstance(error, OSError):
            raise
        raise CheckpointError(_why_not_written(directory, error, sum(map(len, contents.values())))) from error
    saved = in_order(root)
    newest = {step_of(path): path for path in saved}  # of two at one step, the second
    stay = {*list(newest.values())[-keep:], _linked(root, "last"), _linked(root, "best")}
    for old in saved:
        if old not in stay:
            remove(old)
    return directory


def step_of(directory: Path) -> int:
    """Return the step at which a checkpoint was written, from its directory's name."""
    return int(directory.name.split("-")[1])


def in_order(root: Path) -> list[Path]:
    """Return the checkpoints in a directory, the oldest first."""
    found = [
        path
        for path in root.glob("step-*")
        if re.fullmatch(layout.STEP, path.name)
        and not path.is_symlink()
        and any((path / name).exists() for name in ("MANIFEST.json", *FILES))
    ]
    return sorted(found, key=lambda path: [int(number) for number in path.name.split("-")[1:]])


def remove(directory: Path) -> None:
    """Delete a checkpoint: first its name, so that there is never half of one; what somebody else put into it stays."""
    hidden = directory.with_name(f".{directory.name}.writing-{os.getpid()}")
    with suppress(OSError):
        if any(layout.strangers(directory, layout.CHECKPOINT)):
            _delete(directory)
        else:
            directory.rename(hidden)
            _delete(hidden)


def _linked(root: Path, name: str) -> Path | None:
    """Return the checkpoint beside them that `last` or `best` leads to;
    a copy of a checkpoint stands for the one that it equals.
    """
    link = root / name
    try:
        mode = os.lstat(link).st_mode
        if stat.S_ISDIR(mode):
            manifest = files.read_own(link / "MANIFEST.json", LARGEST_MANIFEST)
            return next(
                (one for one in in_order(root) if files.read_own(one / "MANIFEST.json", LARGEST_MANIFEST) == manifest),
                link,
            )
        # Some archives and disks keep a link as a file with its text.
        target = (
            os.readlink(link) if stat.S_ISLNK(mode) else files.read_own(link, 100).decode("utf-8", "replace").strip()
        )
    except OSError:
        return None
    return root / target if re.fullmatch(layout.STEP, target) and root / target in in_order(root) else None


def find(root: Path, name: str) -> Path | None:
    """Return the checkpoint `last` or `best` of a run, also where the links were lost on the way;
    None where there is none.
    """
    linked = _linked(root, name)
    if linked is not None:
        return linked
    best = 0
    for path in reversed(in_order(root)):
        with suppress(CheckpointError, LookupError, TypeError):
            state = load(path).state
            if name == "last":
                return path
            best = best or state["best"]["epoch"]
            if state["epoch"] == best and state["step_in_epoch"] == 0:
                return path
    return None


def _free_name(directory: Path) -> Path:
    """Return the name, or where it is taken (an epoch ends with a step that was saved already) the next one like it."""
    number, free = 1, directory
    while free.exists():
        number += 1
        free = directory.with_name(f"{directory.name}-{number}")
    return free


def _why_not_written(directory: Path, error: OSError, needed: int) -> str:
    free = ""
    with suppress(OSError):
        free = f", {shutil.disk_usage(directory.parent).free:,} are free on its disk"
    return (
        f"{directory} cannot be written: {error.strerror} ({needed:,} bytes are needed{free}); the checkpoints before"
        " it are intact"
    )


def _delete(path: Path) -> None:
    """Delete a file, a link, or the directory of a checkpoint with what a run wrote in it."""
    if path.is_dir() and not path.is_symlink():
        with suppress(OSError):
            layout.remove(path, layout.CHECKPOINT)
            path.rmdir()
    else:
        path.unlink(missing_ok=True)


class History:
    """The records of the epochs in a file to which the new ones are appended.

    A checkpoint holds how much of the file belongs to it. What is beyond is of a future that was lost, and goes when
    the first record of another process is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count, self._bytes, self._sum = 0, 0, hashlib.sha256()

    def hold(self, records: Sequence[Mapping[str, Any]], count: int) -> dict[str, Any]:
        """Have the first `count` records on the disk; returns their number, their bytes and the sha256 of these."""
        new = as_lines(records[self._count : count])
        try:
            if self._count == 0:  # the first time in this process
                files.write(self.path, new, own=True)
            elif new:
                files.append(self.path, new)
                _flush(self.path)
        except OSError:
            self._count, self._bytes, self._sum = 0, 0, hashlib.sha256()  # whatever is in the file now
            raise
        self._sum.update(new.encode())
        self._count, self._bytes = max(count, self._count), self._bytes + len(new.encode())
        return {"epochs": self._count, "bytes": self._bytes, "sha256": self._sum.hexdigest()}


def history(saved: Checkpoint) -> tuple[list[Any], list[str]]:
    """Return the records of the epochs until a checkpoint, and what to tell of their file;
    a CheckpointError where they are lost.

    `metrics.jsonl` holds the same lines, so that it can take the place of a damaged file.
    """
    if saved.past is None:
        return list(saved.state.get("history", ())), []
    root = saved.path.resolve().parent
    told: list[str] = []
    for path in (root / "history.jsonl", root.parent / "metrics.jsonl"):
        try:
            data = files.read_own(path, LARGEST_HISTORY)[: saved.past["bytes"]]
        except OSError as error:
            told.append(f"{path} cannot be read: {error.strerror}")
            continue
        if len(data) == saved.past["bytes"] and _sha256(data) == saved.past["sha256"]:
            found, problem = lines_of(data, path)
            if problem is not None:
                raise CheckpointError(problem)
            return found, [*told, f"the records of the epochs are taken from {path}"] if told else []
        told.append(
            f"{path} is damaged: its first {saved.past['bytes']:,} bytes are not the records of {saved.past['epochs']}"
            " epochs"
        )
    raise CheckpointError("; ".join(told))


class Pace:
    """How often runs that are open together may write checkpoints: so that it takes no more than `SHARE` of the time.

    Attributes:
        runs: how many are open.
        seconds: how long one takes to be written.
    """

    SHARE = 0.05

    def __init__(self) -> None:
        self.runs, self.seconds, self._turns = 0, 0.05, 0

    @property
    def gap(self) -> float:
        """Seconds between two checkpoints of one of the runs."""
        return self.runs * self.seconds / self.SHARE

    def turn(self) -> float:
        """Return which part of the first gap another run waits, so that not all write at once."""
        self._turns += 1
        return self._turns * 0.618 % 1

    def wrote(self, seconds: float) -> None:
        """Take in how long a checkpoint took."""
        self.seconds = (self.seconds + seconds) / 2


class Checkpoints:
    """Keeps `last` and `best` of a run: in memory at once, on the disk when it is time, and at the end.

    Writing safely waits for the disk, for longer than a small model takes for an epoch. So what is saved within
    `every_seconds` of the last writing is only copied, and written later: by a later call, or when the
    `with` block ends, however it ends.

    Args:
        root: the directory of the checkpoints.
        every_seconds: how long what was saved may wait in memory.
        every_steps: make a checkpoint due after so many steps, which then does not wait.
        keep: how many of the newest checkpoints stay, beside the best.
        pace: of runs that are open together; it may let what was saved wait for longer, unless `every_seconds` is 0.
    """

    def __init__(
        self,
        root: Path,
        every_seconds: float = 1.0,
        every_steps: int | None = None,
        keep: int = 2,
        pace: Pace | None = None,
    ) -> None:
        self.root, self.every_seconds, self.every_steps, self.keep = root, every_seconds, every_steps, keep
        self._pace = pace if every_seconds > 0 else None
        self._written, self._started = -math.inf, time.monotonic()
        if self._pace is not None:
            self._written = self._started - self._wait * self._pace.turn()
        self._waiting: dict[str, tuple[Any, ...]] = {}
        self._history = History(root / "history.jsonl")

    def __enter__(self) -> Self:
        """Begin: delete what a process left that was killed while it wrote. The run's directory must be locked."""
        for leftover in self.root.glob(".*.writing*"):
            if re.fullmatch(rf"\.({layout.STEP}|last|best)\.writing-\d+|{layout.HALF_WRITTEN}", leftover.name):
                _delete(leftover)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, unless the user wants to leave at once (a second Ctrl-C)."""
        if kind is None:
            self.flush()
        elif issubclass(kind, Exception):
            try:
                self.flush()
            except CheckpointError as failed:  # what ended the block is said after this
                print(f"warning: {failed}", file=sys.stderr)

    def waits(self, link: str) -> bool:
        """Return whether the checkpoint `last` or `best` is in memory and not yet on the disk."""
        return link in self._waiting

    def due(self, step: int) -> bool:
        """Return whether to save in the middle of an epoch, after this step."""
        if self.every_steps is not None and step % self.every_steps == 0:
            return True
        return time.monotonic() - max(self._written, self._started) > max(LONG_EPOCH, self._wait)

    @property
    def _wait(self) -> float:
        """Seconds between two checkpoints."""
        return self.every_seconds if self._pace is None else max(self.every_seconds, self._pace.gap)

    def save(
        self,
        step: int,
        model: dict[str, Tensor],
        optimizer: dict[str, Any],
        state: dict[str, Any],
        best: bool = False,
        training: dict[str, Tensor] | None = None,
        history: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Make this the checkpoint `last`, and `best` too if it is; the values in `state` must not change any more.

        `history` holds the records of the epochs so far, in a list to which later ones are appended.
        """
        links = ("last", "best") if best else ("last",)
        past = None if history is None else (history, len(history))
        if time.monotonic() - self._written < self._wait and not self.due(step):
            model, optimizer, training = _copied(model), _copied(optimizer), _copied(training)
            self._waiting.update(dict.fromkeys(links, (step, model, optimizer, dict(state), training, past)))
        else:
            self._waiting.update(dict.fromkeys(links, (step, model, optimizer, state, training, past)))
            self.flush()

    def rewind(self, to: Checkpoint, same_future: bool) -> bool:
        """Make this checkpoint the newest: those after it belong to a future that is now computed anew.

        Return whether the run has its best epoch: that checkpoint is whole, or was made in a future that will be the
        same.
        """
        saved, best_epoch = in_order(self.root), to.state["best"]["epoch"]
        directory = next((path for path in saved if path.name == to.path.resolve().name), None)
        if directory is None:
            raise CheckpointError(f"{to.path} is no checkpoint of this run (any more): {self.root} does not hold it")
        best, after = find(self.root, "best"), saved[saved.index(directory) + 1 :]
        lies_ahead = best in after
        _link(self.root / "last", directory)
        for path in after:
            remove(path)
        if to.state["epoch"] == best_epoch and to.state["step_in_epoch"] == 0:
            _link(self.root / "best", directory)  # the process may have died between the writing and the linking
            return True
        has_best = False
        with suppress(CheckpointError):
            has_best = best is not None and not lies_ahead and load(best).state.get("epoch") == best_epoch
        if has_best and best is not None and best.name != "best":
            _link(self.root / "best", best)
        elif not has_best:
            _delete(self.root / "best")
        return has_best or best_epoch == 0 or (lies_ahead and same_future)

    def flush(self) -> None:
        """Write what waits, the oldest first, and one that is both `last` and `best` only once."""
        while self._waiting:
            contents = min(self._waiting.values(), key=lambda waiting: waiting[0])
            links = [link for link, waiting in self._waiting.items() if waiting is contents]
            for link in links:
                del self._waiting[link]
            step, model, optimizer, state, training, records = contents
            started = time.monotonic()
            try:
                past = None if records is None else self._hold(*records)
                save(self.root, step, model, optimizer, state, links, training, self.keep, past)
            except CheckpointError:
                self._waiting.clear()  # said once, and not tried again on the way out
                raise
            self._written = time.monotonic()
            if self._pace is not None:
                self._pace.wrote(self._written - started)

    def _hold(self, records: Sequence[Mapping[str, Any]], count: int) -> dict[str, Any]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return self._history.hold(records, count)
        except OSError as error:
            raise CheckpointError(
                f"{self._history.path} cannot be written: {error.strerror}; the checkpoints before are intact"
            ) from error


def _copied(value: Any) -> Any:
    """Return a state_dict with tensors of its own, in a tenth of the time that deepcopy takes."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def load(directory: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint, compare every file with the manifest; a CheckpointError says what is wrong."""
    directory = Path(directory)
    manifest = _read_manifest(directory)
    contents = {}
    for name, expected in manifest["files"].items():
        path = directory / name
        try:
            size = os.lstat(path).st_size
            data = b"" if size != expected["bytes"] else files.read_own(path, size)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
        except MemoryError:
            raise CheckpointError(f"{path} cannot be read: its {size:,} bytes do not fit into memory") from None
        if size != expected["bytes"]:
            kind = "truncated" if size < expected["bytes"] else "too long"
            raise CheckpointError(
                f"{path} is {kind}: MANIFEST.json expects {expected['bytes']} bytes, and it has {size}"
            )
        if _sha256(data) != expected["sha256"]:
            raise CheckpointError(f"{path} is damaged: its sha256 differs from the manifest's")
        contents[name] = data
    missing = [name for name in FILES if name not in contents]
    if missing:
        raise CheckpointError(f"{directory} is incomplete: its manifest has no {missing[0]!r}")
    # Whoever writes a file can write its checksum: what is in it is not trusted to be well-formed either.
    tensors, values = {}, {}
    for name, data in contents.items():
        try:
            if name.endswith(".json"):
                values[name] = _from_json(data)
            else:
                tensors[name] = from_bytes(data, source=str(directory / name))
        except RecursionError:
            raise CheckpointError(f"{directory / name} is no {FORMAT}: it is nested too deeply") from None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, MemoryError) as error:
            told = str(error) if str(directory / name) in str(error) else f"{directory / name} cannot be read: {error}"
            raise CheckpointError(told) from None
    numbers = values["optimizer.json"]
    if not isinstance(numbers, dict) or not isinstance(numbers.get("state"), dict):
        raise CheckpointError(f"{directory / 'optimizer.json'} holds no state of an optimizer")
    try:
        optimizer = _join_tensors(tensors["optimizer.safetensors"], numbers)
    except (ValueError, TypeError, KeyError):
        raise CheckpointError(f"{directory / 'optimizer.json'} does not fit optimizer.safetensors") from None
    if not isinstance(values["state.json"], dict):
        raise CheckpointError(f"{directory / 'state.json'} holds no state of a run")
    training = tensors.get("training.safetensors")
    return Checkpoint(
        tensors["model.safetensors"],
        optimizer,
        values["state.json"],
        training,
        directory,
        manifest.get("history"),
        manifest["version"],
    )


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / "MANIFEST.json"
    try:
        manifest = parsed(files.read_own(path, LARGEST_MANIFEST))
    except FileNotFoundError:
        raise CheckpointError(f"{directory} is not a checkpoint: it has no MANIFEST.json") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not the manifest of a {FORMAT}")
    version = manifest.get("version")
    if type(version) is not int or version not in (1, VERSION):
        raise CheckpointError(
            f"{path} has format version {str(version)[:20]}, and this nanotorch reads version {VERSION} and those"
            " before: use the nanotorch that wrote it, or a newer one"
        )
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not all(
        name in KNOWN and _is_entry(expected) for name, expected in listed.items()
    ):
        raise CheckpointError(f"{path} is damaged: its list of files cannot be understood")
    past = manifest.get("history")
    if past is not None and not (_is_entry(past) and type(past.get("epochs")) is int):
        raise CheckpointError(f"{path} is damaged: what it says of the history cannot be understood")
    return manifest


def _is_entry(expected: Any) -> bool:
    if (
        not isinstance(expected, dict)
        or type(expected.get("bytes")) is not int
        or not isinstance(expected.get("sha256"), str)
    ):
        return False
    return 0 <= expected["bytes"] <= LARGEST_FILE


# ------------------------------------------------------------ files


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _flush(path: Path) -> None:
    """Wait until a file's content, or a directory's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(link: Path, directory: Path) -> None:
    temporary = link.with_name(f".{link.name}.writing-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(directory.name)
    if link.is_dir() and not link.is_symlink():  # a copy of a checkpoint, in a copy of the run
        _delete(link)
    temporary.replace(link)


# ------------------------------------------------------------ state_dict <-> tensors and JSON


def _split_tensors(optimizer: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of an optimizer's state_dict under the names `<parameter>.<entry>`, and everything else."""
    tensors, numbers = {}, {}
    for parameter, entries in optimizer["state"].items():
        numbers[parameter] = {name: value for name, value in entries.items() if not isinstance(value, Tensor)}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}.{name}"] = value
    return tensors, {**optimizer, "state": numbers}


def _join_tensors(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> dict[str, Any]:
    for key, tensor in tensors.items():
        parameter, _, name = key.partition(".")
        numbers["state"][int(parameter)][name] = tensor
    return numbers


def _to_json(value: Any) -> bytes:
    return (json.dumps(_encode(value), indent=1, allow_nan=False) + "\n").encode()


def _from_json(data: bytes) -> Any:
    return _decode(parsed(data))


def _encode(value: Any) -> Any:
    """Return a value as JSON can hold it, so that `_decode` gives back exactly the same.

    JSON has no tuples, no integer keys, no infinities; such values become an object with one key that starts
    with "!". Floats need no care: Python prints and reads them without loss.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return {"!float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return {"!tuple": [_encode(item) for item in value]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        plain = all(isinstance(key, str) and not key.startswith("!") for key in value)
        if plain and not isinstance(value, Counter):
            return {key: _encode(item) for key, item in value.items()}
        kind = "!counter" if isinstance(value, Counter) else "!dict"
        return {kind: [[_encode(key), _encode(item)] for key, item in value.items()]}
    raise TypeError(f"a checkpoint cannot hold {value!r} of type {type(value).__name__}")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), "")
    if len(value) != 1 or not kind.startswith("!"):
        return {key: _decode(item) for key, item in value.items()}
    content = value[kind]
    if kind == "!float":
        return float(content)
    if not isinstance(content, list):
        raise ValueError(f"{kind} is a list, not {type(content).__name__}")
    if kind == "!tuple":
        return tuple(_decode(item) for item in content)
    pairs = {_decode(key): _decode(item) for key, item in content}
    return Counter(pairs) if kind == "!counter" else pairs
