"""Checkpoints: a directory of safetensors and JSON with a manifest of checksums; no pickle anywhere.

    checkpoints/
        step-000120/
            model.safetensors        parameters and buffers: the weights for use
            training.safetensors     the weights in training, where those for use are their moving average
            optimizer.safetensors    the tensors of the optimizer's state ...
            optimizer.json           ... and its numbers, with the learning rates
            state.json               where the run stands: epoch, generators, schedule, scaling ...
            MANIFEST.json            size and sha256 of every file above
        last -> step-000120          the newest checkpoint
        best -> step-000096          the one with the best validation score

A checkpoint is written under a temporary name, flushed to the disk and then renamed; `last` and `best` are
symbolic links, replaced in one operation; one that is saved again at the same step gets a name of its own
(`step-000120-2`) before the first goes. So whatever happens in between, both links lead to complete checkpoints.
Temporary names begin with a dot; `Checkpoints` deletes those that a killed process left.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nanotorch.autograd.tensor import Tensor
from nanotorch.utils.serialization import from_bytes, to_bytes

__all__ = ["Checkpoint", "CheckpointError", "Checkpoints", "load", "save"]

FORMAT = "nanotorch checkpoint"
VERSION = 1
FILES = ("model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json")
LONG_EPOCH = 60.0  # seconds after which a checkpoint is due in the middle of an epoch


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read or written; the message names the file and says what is wrong."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was saved: state_dicts, and the rest of the run's state as plain values.

    `training` holds the weights in training where `model`, those for use, are their moving average; else it is None.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: dict[str, Any]
    training: dict[str, Tensor] | None = None
    path: Path = Path()


def save(
    root: Path,
    step: int,
    model: dict[str, Tensor],
    optimizer: dict[str, Any],
    state: dict[str, Any],
    links: Sequence[str] = ("last",),
    training: dict[str, Tensor] | None = None,
    keep: int = 1,
) -> Path:
    """Write `root/step-<step>` from the state_dicts and the state, and let the `links` lead to it.

    Of the checkpoints that neither `last` nor `best` leads to, the newest `keep - 1` stay.
    """
    tensors, numbers = _split_tensors(optimizer)
    files = {
        "model.safetensors": to_bytes(model),
        "optimizer.safetensors": to_bytes(tensors),
        "optimizer.json": _to_json(numbers),
        "state.json": _to_json(state),
    }
    if training is not None:
        files["training.safetensors"] = to_bytes(training)
    sums = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in files.items()}
    manifest = {"format": FORMAT, "version": VERSION, "files": sums}
    files["MANIFEST.json"] = _to_json(manifest)
    temporary, directory = root, root / f"step-{step:06d}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        directory = _free_name(directory)
        temporary = root / f".{directory.name}.writing-{os.getpid()}"
        temporary.mkdir()
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        for name in files:
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
        raise CheckpointError(_why_not_written(directory, error, sum(map(len, files.values())))) from error
    linked = {os.readlink(link) for link in (root / "last", root / "best") if link.is_symlink()}
    saved = in_order(root)
    newest = {step_of(path): path for path in saved}  # of two at one step, the second
    stay = {*list(newest.values())[-keep:], *(path for path in saved if path.name in linked)}
    for old in saved:
        if old not in stay:
            remove(old)
    return directory


def step_of(directory: Path) -> int:
    """The step at which a checkpoint was written, from its directory's name."""
    return int(directory.name.split("-")[1])


def in_order(root: Path) -> list[Path]:
    """The checkpoints in a directory, the oldest first."""
    found = [path for path in root.glob("step-*") if re.fullmatch(r"step-\d+(-\d+)?", path.name)]
    return sorted(found, key=lambda path: [int(number) for number in path.name.split("-")[1:]])


def remove(directory: Path) -> None:
    """Delete a checkpoint: first its name, so that there is never half of one."""
    hidden = directory.with_name(f".{directory.name}.writing-{os.getpid()}")
    with suppress(OSError):
        directory.rename(hidden)
        shutil.rmtree(hidden)


def _free_name(directory: Path) -> Path:
    """The name, or where it is taken (an epoch ends with a step that was saved already) the next one like it."""
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
        f"{directory} cannot be written: {error.strerror} ({needed:,} bytes are needed{free}); the checkpoints before it are intact"
    )


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
    """

    def __init__(self, root: Path, every_seconds: float = 1.0, every_steps: int | None = None, keep: int = 2) -> None:
        self.root, self.every_seconds, self.every_steps, self.keep = root, every_seconds, every_steps, keep
        self._written, self._started = -math.inf, time.monotonic()
        self._waiting: dict[str, tuple[Any, ...]] = {}

    def __enter__(self) -> Self:
        """Begin: delete what a process left that was killed while it wrote. The run's directory must be locked."""
        for leftover in self.root.glob(".*.writing-*"):
            _delete(leftover)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write what waits, unless the user wants to leave at once (a second Ctrl-C)."""
        if kind is None:
            self.flush()
        elif issubclass(kind, Exception):
            try:
                self.flush()
            except CheckpointError as failed:  # what ended the block is said after this
                print(f"warning: {failed}", file=sys.stderr)

    @property
    def holds_any(self) -> bool:
        """Whether there is a checkpoint, in memory or on the disk."""
        return bool(self._waiting) or (self.root / "last").exists()

    def waits(self, link: str) -> bool:
        """Whether the checkpoint `last` or `best` is in memory and not yet on the disk."""
        return link in self._waiting

    def due(self, step: int) -> bool:
        """Whether to save in the middle of an epoch, after this step."""
        if self.every_steps is not None and step % self.every_steps == 0:
            return True
        return time.monotonic() - max(self._written, self._started) > max(LONG_EPOCH, self.every_seconds)

    def save(
        self,
        step: int,
        model: dict[str, Tensor],
        optimizer: dict[str, Any],
        state: dict[str, Any],
        best: bool = False,
        training: dict[str, Tensor] | None = None,
    ) -> None:
        """Make this the checkpoint `last`, and `best` too if it is; the values in `state` must not change any more."""
        links = ("last", "best") if best else ("last",)
        if time.monotonic() - self._written < self.every_seconds and not self.due(step):
            model, optimizer, training = copy.deepcopy((model, optimizer, training))
            self._waiting.update(dict.fromkeys(links, (step, model, optimizer, dict(state), training)))
        else:
            self._waiting.update(dict.fromkeys(links, (step, model, optimizer, state, training)))
            self.flush()

    def rewind(self, to: Checkpoint, same_future: bool) -> bool:
        """Make this checkpoint the newest: those after it belong to a future that is now computed anew.

        Return whether the run has its best epoch: that checkpoint is whole, or was made in a future that will be the same.
        """
        saved, best, best_epoch = in_order(self.root), self.root / "best", to.state["best"]["epoch"]
        directory = to.path.resolve()
        _link(self.root / "last", directory)
        after = saved[[path.name for path in saved].index(directory.name) + 1 :]
        lies_ahead = best.is_symlink() and os.readlink(best) in [path.name for path in after]
        for path in after:
            remove(path)
        if to.state["epoch"] == best_epoch and to.state["step_in_epoch"] == 0:
            _link(best, directory)  # the process may have died between the writing and the linking
            return True
        try:
            has_best: bool = not lies_ahead and load(best).state["epoch"] == best_epoch
        except CheckpointError:
            has_best = False
        if not has_best:
            best.unlink(missing_ok=True)
        return has_best or best_epoch == 0 or (lies_ahead and same_future)

    def flush(self) -> None:
        """Write what waits, the oldest first, and one that is both `last` and `best` only once."""
        while self._waiting:
            contents = min(self._waiting.values(), key=lambda waiting: waiting[0])
            links = [link for link, waiting in self._waiting.items() if waiting is contents]
            for link in links:
                del self._waiting[link]
            step, model, optimizer, state, training = contents
            try:
                save(self.root, step, model, optimizer, state, links, training, self.keep)
            except CheckpointError:
                self._waiting.clear()  # said once, and not tried again on the way out
                raise
            self._written = time.monotonic()


def load(directory: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint, compare every file with the manifest; a CheckpointError says what is wrong."""
    directory = Path(directory)
    manifest = _read_manifest(directory)
    files = {}
    for name, expected in manifest["files"].items():
        try:
            size = (directory / name).stat().st_size
            data = b"" if size != expected["bytes"] else (directory / name).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{directory / name} cannot be read: {error.strerror}") from None
        if size != expected["bytes"]:
            kind = "truncated" if size < expected["bytes"] else "too long"
            raise CheckpointError(f"{directory / name} is {kind}: {expected['bytes']} bytes expected, {size} found")
        if _sha256(data) != expected["sha256"]:
            raise CheckpointError(f"{directory / name} is damaged: its sha256 differs from the manifest's")
        files[name] = data
    missing = [name for name in FILES if name not in files]
    if missing:
        raise CheckpointError(f"{directory} is incomplete: its manifest has no {missing[0]!r}")
    # Whoever writes a file can write its checksum: what is in it is not trusted to be well-formed either.
    tensors, values = {}, {}
    for name, data in files.items():
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
    try:
        optimizer = _join_tensors(tensors["optimizer.safetensors"], values["optimizer.json"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointError(f"{directory / 'optimizer.json'} does not fit optimizer.safetensors") from None
    if not isinstance(values["state.json"], dict):
        raise CheckpointError(f"{directory / 'state.json'} holds no state of a run")
    training = tensors.get("training.safetensors")
    return Checkpoint(tensors["model.safetensors"], optimizer, values["state.json"], training, directory)


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / "MANIFEST.json"
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{directory} is not a checkpoint: it has no MANIFEST.json") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not the manifest of a {FORMAT}")
    if manifest.get("version") != VERSION:
        raise CheckpointError(
            f"{directory} has format version {manifest.get('version')}, and this nanotorch reads version "
            f"{VERSION}: use the nanotorch that wrote it, or a newer one"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(_is_entry(name, expected) for name, expected in files.items()):
        raise CheckpointError(f"{path} is damaged: its list of files cannot be understood")
    return manifest


def _is_entry(name: str, expected: Any) -> bool:
    known = name in (*FILES, "training.safetensors")
    return known and isinstance(expected, dict) and type(expected.get("bytes")) is int and "sha256" in expected


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
    temporary.replace(link)


# ------------------------------------------------------------ state_dict <-> tensors and JSON


def _split_tensors(optimizer: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of an optimizer's state_dict under the names `<parameter>.<entry>`, and everything else."""
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
    return _decode(json.loads(data))


def _encode(value: Any) -> Any:
    """A value as JSON can hold it, so that `_decode` gives back exactly the same.

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
    if kind == "!tuple":
        return tuple(_decode(item) for item in content)
    pairs = {_decode(key): _decode(item) for key, item in content}
    return Counter(pairs) if kind == "!counter" else pairs
