"""Going on with a run that stopped: which run, which of its checkpoints, and whether the config is still the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotorch.train import checkpoint
from nanotorch.train.checkpoint import Checkpoint, CheckpointError
from nanotorch.train.config import Config, loads, with_seed

__all__ = ["ResumeError", "Resumed", "differences", "find", "newest"]

# Values that may change between the parts of a run: they decide how long it is and where it writes, not what it computes.
FREE = ("output", "name", "train.epochs", "checkpoint", "early_stopping.patience")


class ResumeError(RuntimeError):
    """A run that cannot be continued; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run to go on with.

    Attributes:
        directory: the directory of the run.
        checkpoint: where to go on; None where the run was killed before its first checkpoint.
        notices: what the user should know, such as damaged checkpoints that were passed over.
        finished: whether the run ended by itself.
    """

    directory: Path
    checkpoint: Checkpoint | None
    notices: tuple[str, ...]
    finished: bool

    def covers(self, config: Config) -> bool:
        """Whether a finished run is finished for this config too: it may ask for more epochs."""
        if self.checkpoint is None:
            return False
        state = self.checkpoint.state
        return state["stopped"] is not None or state["epoch"] >= config.train.epochs


def find(config: Config, where: str, directory: Path | None) -> Resumed | None:
    """The run that ``--resume auto`` or ``--resume PATH`` means; None where auto finds none, and a new one begins.

    auto takes the run in `directory` if one is given, else the newest of the config's name under its output.
    """
    if where == "auto":
        candidates = [directory] if directory is not None else sorted(Path(config.output).glob(f"{config.name}-*"), key=_started)
        runs = [path for path in candidates if (path / "resolved.yaml").is_file()]
        return _of_run(runs[-1]) if runs else None
    path = Path(where)
    if (path / "MANIFEST.json").exists():  # one checkpoint of a run
        saved = checkpoint.load(path)
        root = path.resolve().parent.parent
        return Resumed(root, saved, (), _finished(root))
    if not (path / "resolved.yaml").is_file():
        raise ResumeError(f"{where} is neither the directory of a run (it has no resolved.yaml) nor one of its checkpoints")
    return _of_run(path)


def newest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of a run that is whole, and a sentence for each newer one that is not."""
    notices: list[str] = []
    for path in sorted((root / "checkpoints").glob("step-*"), key=checkpoint.step_of, reverse=True):
        try:
            saved = checkpoint.load(path)
        except CheckpointError as error:
            notices.append(f"passing over a damaged checkpoint: {error}")
            continue
        if notices:
            notices.append(f"going on from {path}, the newest that is whole")
        return saved, notices
    return None, notices


def differences(config: Config, directory: Path) -> list[str]:
    """What the config says otherwise than the run did, but for what may change: ``key: before -> now``."""
    before: Config = loads((directory / "resolved.yaml").read_text(encoding="utf-8"), str(directory / "resolved.yaml"))
    config = with_seed(config, before.seed)
    old, new = dict(_flat(before.model_dump(mode="json"))), dict(_flat(config.model_dump(mode="json")))
    keys = [key for key in {**old, **new} if old.get(key, "absent") != new.get(key, "absent")]
    return [f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}" for key in keys if not _is_free(key)]


def _of_run(root: Path) -> Resumed:
    saved, notices = newest(root)
    if saved is None and notices:
        raise ResumeError("\n".join([*notices, f"no checkpoint of {root} is whole: start the run again without --resume"]))
    return Resumed(root, saved, tuple(notices), _finished(root))


def _finished(root: Path) -> bool:
    return (root / "summary.json").is_file()


def _started(path: Path) -> tuple[str, float]:
    parts = path.name.rsplit("-", 2)
    return (parts[1] if len(parts) == 3 else "", path.stat().st_mtime)


def _flat(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _flat(value, f"{key}.{name}" if key else name)
    else:
        yield key, values


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


