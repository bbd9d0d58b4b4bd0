"""Going on with a run that stopped: which run, which of its checkpoints, and whether the config is still the same."""

from __future__ import annotations

import glob
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanotorch.registry import describe_value
from nanotorch.train.config.loading import epochs_of, read_resolved, settled_as, with_seed
from nanotorch.train.config.sections import Config
from nanotorch.train.record import checkpoint
from nanotorch.train.record.checkpoint import Checkpoint, CheckpointError
from nanotorch.train.record.records import (
    Environment,
    RecordError,
    RunState,
    SeveralSummary,
    Summary,
    SweepSummary,
    by_key,
    checked,
    read_json,
)

# Values that may change between the parts of a run: they decide how long it is and where it writes, not what it
# computes. A change of the device is found, with all else that the bits depend on, by comparing env.json.
FREE = ("output", "name", "device", "train.epochs", "train.compile", "checkpoint", "early_stopping.patience", "log")


class ResumeError(RuntimeError):
    """A run that cannot be continued; the message says why and what to do."""


class LostError(ResumeError):
    """A run of which nothing is left to go on with: the `fact`, and what to do where it is the only one."""

    def __init__(self, fact: str, advice: str) -> None:
        super().__init__(f"{fact}: {advice}")
        self.fact = fact


class CompleteError(ResumeError):
    """A run that another process has brought to its end in the meantime."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run to go on with.

    Attributes:
        directory: the directory of the run.
        checkpoint: where to go on; None where the run was killed before its first checkpoint.
        notices: what the user should know, such as damaged checkpoints that were passed over.
        finished: whether the run ended by itself.
        changed: the keys of the config that differ, but for what may change freely, as `differences` gives them.
        where: what was asked for: the directory of the run, or one of its checkpoints.
    """

    directory: Path
    checkpoint: Checkpoint | None
    notices: tuple[str, ...] = ()
    finished: bool = False
    changed: tuple[str, ...] = ()
    where: Path = Path()

    def covers(self, config: Config) -> bool:
        """Return whether a finished run is finished for this config too:
        it may ask for more epochs, or for more patience.
        """
        if self.checkpoint is None or not self.finished:
            return False
        state, stopping = self.checkpoint.state, config.early_stopping
        impatient = stopping is not None and state["best"]["waited"] >= stopping.patience
        between_epochs = state["step_in_epoch"] == 0
        return between_epochs and (impatient or state["epoch"] >= epochs_of(config))


def find(config: Config, where: str, directory: Path | None) -> Resumed | None:
    """Return the run that `--resume auto` or `--resume PATH` means; None where auto finds none, and a new one begins.

    auto takes the run in `directory` if one is given, else the newest of the config's name under its output.
    """
    if where == "auto":
        pattern = f"{glob.escape(config.name)}-*-*"
        named = [path for path in Path(config.output).glob(pattern) if path.name.rsplit("-", 2)[0] == config.name]
        candidates = [directory] if directory is not None else sorted(named, key=_started)
        runs = [path for path in candidates if (path / "resolved.yaml").is_file()]
        return _of_run(runs[-1]) if runs else None
    path, notices = Path(where), tuple[str, ...]()
    # links, which a copy of the run may have lost
    if path.name in ("last", "best") and path.parent.name == "checkpoints":
        path = checkpoint.find(path.parent, path.name) or path
    if not path.exists():
        raise ResumeError(
            f"{where} does not exist: --resume takes the directory of a run, one of its checkpoints, or auto"
        )
    if (path / "resolved.yaml").is_file():
        root, saved = path, None
    elif (path / "MANIFEST.json").exists() or path.parent.name == "checkpoints":  # one checkpoint of a run
        root, (saved, notices) = path.resolve().parent.parent, whole(path)
        if not (root / "resolved.yaml").is_file():
            raise ResumeError(f"{where} lies in no run: there is no {root / 'resolved.yaml'}")
    else:
        raise ResumeError(
            f"{where} is neither the directory of a run (it has no resolved.yaml) nor a nanotorch checkpoint (it has no"
            " MANIFEST.json)"
        )
    if directory is not None and directory.resolve() != root.resolve():
        raise ResumeError(f"a resumed run goes on in its own directory {root}: leave --output {directory} away")
    if saved is None:
        return _of_run(path)
    finished, told = _finished(root)
    return Resumed(root, saved, (*notices, *told), finished, where=path)


def again(before: Resumed, config: Config) -> Resumed:
    """Return the same decision once more, now that the directory is locked:
    what was found before may be another process's past.

    A CompleteError where that one has finished the run, a ResumeError where it has changed the config in between.
    """
    found = find(config, str(before.where), None)
    assert found is not None
    changed = tuple(differences(config, found.directory))
    if changed != before.changed:
        raise ResumeError(
            f"{found.directory}: another process has gone on with this run, with another config, in the meantime"
        )
    if found.covers(config) and not before.covers(config) and not changed:
        raise CompleteError(f"already complete: {found.directory}")
    return replace(found, changed=changed)


def whole(path: Path) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return a checkpoint of a run with the records of its epochs, and what to tell of them;
    a CheckpointError where one is damaged.
    """
    saved = checkpoint.load(path)
    try:
        checked(saved.state, RunState, path / "state.json")
    except RecordError as error:
        raise CheckpointError(str(error)) from None
    records, told = checkpoint.history(saved)
    complete = saved.state["epoch"] - (saved.state["step_in_epoch"] > 0)
    if len(records) != complete:
        raise CheckpointError(
            f"{path / 'state.json'}: epoch {saved.state['epoch']} does not fit a history of {len(records)} epochs"
        )
    return replace(saved, state={**saved.state, "history": records}), tuple(told)


def newest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint of a run that is whole, and a sentence for each newer one that is not."""
    notices: list[str] = []
    for path in reversed(checkpoint.in_order(root / "checkpoints")):
        try:
            saved, told = whole(path)
        except CheckpointError as error:
            notices.append(f"passing over a damaged checkpoint: {error}")
            continue
        if notices:
            notices.append(f"going on from {path}, the newest that is whole")
        return saved, [*notices, *told]
    return None, notices


def config_of(directory: Path) -> Config:
    """Return the config that a run was trained with."""
    config: Config = read_resolved(directory / "resolved.yaml")
    return config


def environment_of(directory: Path) -> tuple[dict[str, Any], str | None]:
    """Return what `env.json` of a run says, and why it says nothing where it cannot be read."""
    path = directory / "env.json"
    try:
        return read_json(path, Environment), None
    except FileNotFoundError:
        return {}, f"{path} is missing"
    except RecordError as error:
        return {}, str(error)


def differences(config: Config, directory: Path, free: bool = False) -> list[str]:
    """Return what the config says otherwise than the run did: `key: before -> now`;
    with `free`, also of what may change freely.
    """
    before = config_of(directory)
    config = settled_as(with_seed(config, before.seed), before)
    old, new = dict(by_key(before.model_dump(mode="json"))), dict(by_key(config.model_dump(mode="json")))
    keys = [key for key in {**old, **new} if old.get(key, "absent") != new.get(key, "absent")]
    return [
        f"{key}: {describe_value(old.get(key, 'absent'))} -> {describe_value(new.get(key, 'absent'))}"
        for key in keys
        if free or not _is_free(key)
    ]


def _of_run(root: Path) -> Resumed:
    saved, notices = newest(root)
    if saved is None and notices:
        fact = "\n".join([*notices, f"no checkpoint of {root} is whole"])
        raise LostError(fact, "start the run again without --resume")
    finished, told = _finished(root)
    # several runs have theirs in directories of their own
    if saved is None and finished and (root / "metrics.jsonl").exists():
        raise LostError(
            f"{root / 'summary.json'} says that the run is complete, but its checkpoints are gone, so that it cannot go"
            " on",
            "begin a new run, or replace this one with --overwrite",
        )
    return Resumed(root, saved, (*notices, *told), finished, where=root)


def _finished(root: Path) -> tuple[bool, tuple[str, ...]]:
    """Return whether a run has ended by itself, and what is wrong with the file that says so."""
    try:
        read_json(root / "summary.json", Summary, SeveralSummary, SweepSummary)
    except FileNotFoundError:
        return False, ()
    except RecordError as error:
        return False, (f"{error}; the scores are computed anew",)
    return True, ()


def _started(path: Path) -> tuple[str, float]:
    return path.name.rsplit("-", 2)[1], path.stat().st_mtime


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)
