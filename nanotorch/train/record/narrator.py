"""One voice over all that tells of a run: the terminal, train.log, metrics.jsonl, the bar, and TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from nanotorch.train.record.directory import RunDirectory
from nanotorch.train.record.progress import Progress
from nanotorch.train.record.tensorboard_log import TensorBoardLog


class Narrator:
    """Tells of a run what happens, to whoever wants to know it; to be used in a `with` block.

    Args:
        files: the run's directory, with its log and its metrics.
        progress: the bar, or a line for each epoch.
        curves: what TensorBoard shows.
        aloud: whether the terminal hears of it; of one run among several only its own files tell.
    """

    def __init__(self, files: RunDirectory, progress: Progress, curves: TensorBoardLog, aloud: bool = True) -> None:
        self._files, self._progress, self._curves, self._aloud = files, progress, curves, aloud
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Open the bar and the curves."""
        self._open.enter_context(self._progress)
        self._open.enter_context(self._curves)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands, and close the files of the curves."""
        self._open.__exit__(kind, error, trace)

    # ------------------------------------------------------------ words

    def log(self, text: str) -> None:
        """To the log alone."""
        self._files.log(text)

    def show(self, text: str) -> None:
        """To the terminal alone, at once."""
        if self._aloud:
            print(text, flush=True)

    def say(self, text: str, apart: bool = False) -> None:
        """To the terminal, after an empty line where it is a thing apart, and to the log."""
        if self._aloud:
            print(f"\n{text}" if apart else text)
        self.log(text)

    def warn(self, text: str) -> None:
        """To standard error; the log has it already, or is what cannot be written."""
        if self._aloud:
            print(text, file=sys.stderr)

    # ------------------------------------------------------------ what happens

    def begins(self, config: str, history: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
        """The run begins, or goes on after the epochs of its history; the log knows these notes from then on."""
        if self._files.notice:
            self.log(self._files.notice)
            self.warn(f"note: {self._files.notice}")
        for note in notes:
            self.log(note)
        for record in history:
            self._progress.remember(record)
        self._curves.begin(config, history)

    def steps(self, count: int, loss: float | None) -> None:
        """So many steps are done, and this is the latest loss that was read."""
        self._progress.steps(count, loss)

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done."""
        self._files.metrics(record)
        line = self._progress.epoch(record)
        self.log(line)
        if not self._progress.has_bar:
            self.show(line)
        self._curves.epoch(record)

    def training_is_over(self) -> None:
        """What is told from now on goes below the bar."""
        self._progress.close()

    def scores(self, scores: Mapping[str, float], step: int) -> None:
        """The scores that the run is judged by are known."""
        self._curves.finish(scores, step)
