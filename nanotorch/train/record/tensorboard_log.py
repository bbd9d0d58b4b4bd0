"""What TensorBoard shows of a run: `log: {tensorboard: true}`, then `tensorboard --logdir runs`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nanotorch.train.record import layout
from nanotorch.train.record.event_file import EventFile

OF_TRAINING = ("learning_rate", "gradient_norm", "seconds")  # values of an epoch that belong to no part of the data


class TensorBoardLog:
    """The curves of a run under `tensorboard/` in its directory, to be used in a `with` block.

    Each part of the data is a run of its own there, so that TensorBoard draws their losses into one chart. Steps are
    optimizer steps. The log of a run that goes on is written anew, from its history. A log that cannot be written is
    said once on stderr, and training goes on.

    Args:
        directory: the run's; None logs nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._root = None if directory is None else directory / "tensorboard"
        self._files: dict[str, EventFile] = {}

    def __enter__(self) -> Self:
        """Ready to log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        for part in list(self._files):
            self._write(part, EventFile.close)

    def begin(self, config: str, history: Sequence[Mapping[str, Any]]) -> None:
        """Log the text of the config, and the records of the epochs that are done already."""
        if self._root is None:
            return
        with suppress(OSError):  # what cannot be removed is said when the first curve cannot be written
            layout.remove(self._root, layout.TENSORBOARD)
        then = time.time() - sum(record["seconds"] for record in history)
        indented = "\n".join(f"    {line}" for line in config.splitlines())
        self._write("train", lambda file: file.text("config", indented, 0, then))
        for record in history:
            then += record["seconds"]
            self.epoch(record, then)

    def epoch(self, record: Mapping[str, Any], wall_time: float | None = None) -> None:
        """Log the record of an epoch."""
        now, step = time.time() if wall_time is None else wall_time, record["step"]
        for part in ("train", "validation"):
            start = f"{part}_"
            values = {key.removeprefix(start): value for key, value in record.items() if key.startswith(start)}
            if part == "train":
                values |= {key: record.get(key) for key in OF_TRAINING}
            self._scalars(part, values, step, now)

    def finish(self, scores: Mapping[str, float], step: int) -> None:
        """Log the scores of the test part."""
        self._scalars("test", scores, step, time.time())

    def _scalars(self, part: str, values: Mapping[str, float | None], step: int, now: float) -> None:
        def write(file: EventFile) -> None:
            for tag, value in values.items():
                if value is not None:
                    file.scalar(tag, value, step, now)
            file.flush()

        if any(value is not None for value in values.values()):
            self._write(part, write)

    def _write(self, part: str, write: Callable[[EventFile], None]) -> None:
        """Let `write` write to the file of a part."""
        if self._root is None:
            return
        try:
            if part not in self._files:
                now = time.time()
                (self._root / part).mkdir(parents=True, exist_ok=True)
                self._files[part] = EventFile(self._root / part / f"events.out.tfevents.{now:.0f}.nanotorch", now)
            write(self._files[part])
        except OSError as error:
            print(
                f"warning: {self._root} cannot be written ({error.strerror}); training goes on without it",
                file=sys.stderr,
            )
            self._root, self._files = None, {}
