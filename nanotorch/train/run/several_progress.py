"""What is seen while several runs are trained: one bar for all of them, or a plain line where something is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from nanotorch.train.terminal.bar import can_show_bar, drawn_bar
from nanotorch.train.terminal.standard_streams import past

WIDE, NARROW = 76, 64  # columns of a terminal from which on there is room for the speed, and for words


class News(NamedTuple):
    """What a run has done: steps, or epochs.

    Attributes:
        steps: how many of them, and
        epochs: how many of these.
        stopped: whether it has come to its end before its time.
        best: its best score so far, of which the larger is the better; None where nobody has looked.
    """

    steps: int = 0
    epochs: int = 0
    stopped: bool = False
    best: tuple[float, float] | None = None


class SeveralProgress:
    """Shows how many are done of all, the best so far and the time left; to be used in a `with` block.

    Args:
        count: of how many.
        what: what they are, such as "trials".
        bar: allow a bar if both output streams are terminals.

    Attributes:
        best: what is shown of the best so far: the name of its score, which is left out of a narrow bar, and the rest.
        done: how many have ended.
    """

    def __init__(self, count: int, what: str, bar: bool = True) -> None:
        self.count, self.what, self.done = count, what, 0
        self.best: tuple[str, str] | None = None
        self._epochs, self._steps, self._started = 0, 0, time.monotonic()
        self._bar: Any = None
        if bar and can_show_bar():
            self._bar = drawn_bar("{desc}{percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]", 1)

    def __enter__(self) -> Self:
        """Nothing is done yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands and go to the next line."""
        self.close()

    def close(self) -> None:
        """What is printed from now on goes below the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def has_bar(self) -> bool:
        """Whether a bar is seen."""
        return self._bar is not None

    def plan(self, epochs: Mapping[str, float]) -> None:
        """So many epochs are to come, of each run."""
        if self._bar is not None:
            self._left = dict(epochs)
            self._bar.total = max(1.0, self._epochs + sum(self._left.values()))
            self._show()

    def event(self, name: str, news: News) -> None:
        """A run has done something."""
        if self._bar is None:
            return
        self._steps += news.steps
        if news.epochs:
            self._epochs += news.epochs
            self._left[name] = 0.0 if news.stopped else max(0.0, self._left.get(name, 0.0) - news.epochs)
            self._bar.total = max(1.0, self._epochs + sum(self._left.values()))
            self._bar.update(news.epochs)
        self._show()

    def ended(self, name: str) -> None:
        """A run has come to its end, maybe before its time."""
        self.done += 1
        if self._bar is not None:
            self._left.pop(name, None)
            self._bar.total = max(1.0, self._epochs + sum(self._left.values()))
            self._show()

    def say(self, text: str) -> None:
        """Print a line, above the bar."""
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.write(text, file=past(sys.stdout))

    def _show(self) -> None:
        columns = self._bar.ncols or 80
        self._bar.set_description_str(
            f"{self.done}/{self.count}{f' {self.what}' * (columns >= NARROW)}: ", refresh=False
        )
        parts = []
        if self.best is not None:
            parts.append(" ".join(self.best[columns < NARROW :]))
        if columns >= WIDE and self._steps:
            parts.append(f"{self._steps / max(1e-9, time.monotonic() - self._started):,.0f} steps/s")
        self._bar.set_postfix_str(", ".join(parts), refresh=False)
