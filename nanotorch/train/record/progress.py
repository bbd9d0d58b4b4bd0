"""What is seen while training runs: a bar on a terminal, one plain line per epoch anywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from nanotorch.train.score.meter import is_loss
from nanotorch.train.terminal.bar import can_show_bar, drawn_bar
from nanotorch.train.terminal.standard_streams import past, printable
from nanotorch.train.terminal.text_report import number

KEPT = 20  # epochs whose lines stay above the bar, beside those that are the best so far
BESIDE = 28  # columns that the bar takes with epoch, share and times, where it is shortest


class Progress:
    """Shows steps, loss and validation score; `bar` allows a bar if both output streams are terminals."""

    def __init__(self, epochs: int, steps_per_epoch: int, metric: str, bar: bool = True, done: int = 0) -> None:
        self.epochs = epochs
        self.metric = printable(metric, kept="")
        self._score = f"validation_{metric}"
        self._bar: Any = None
        self._draw: Callable[[], Any] | None = None  # until the first step: what is said before it stays above the bar
        self._told: dict[str, str] = {}
        self._best: tuple[float, int] | None = None
        if bar and can_show_bar():
            form = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
            total = epochs * steps_per_epoch
            self._draw = lambda: drawn_bar(form, total, done)
            self._columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80

    def __enter__(self) -> Self:
        """Start with the first epoch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands and go to the next line."""
        self.close()

    @property
    def has_bar(self) -> bool:
        """Whether a bar is seen; else whoever has the line of an epoch shows it."""
        return self._bar is not None

    def close(self) -> None:
        """The bar is at its end: what is printed from now on goes below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def steps(self, count: int, loss: float | None) -> None:
        """So many optimizer steps are done, and this is the latest training loss that was read."""
        if self._draw is not None:
            self._bar, self._draw = self._draw(), None
        if self._bar is not None:
            self._bar.update(count)
            if loss is not None:
                self._told["loss"] = number(loss)
                self._tell()

    def remember(self, record: Mapping[str, Any]) -> bool:
        """Take an epoch that is done into what is the best so far; return whether it is."""
        score, best = record.get(self._score), self._best  # epochs of before may have been scored otherwise
        if score is None:
            return False
        better = best is None or (score < best[0] if is_loss(self.metric) else score > best[0])
        if better:
            self._best = score, record["epoch"]
        return better

    def epoch(self, record: dict[str, Any]) -> str:
        """Show that an epoch is done, whose line of `metrics.jsonl` is `record`; return it as a line of text."""
        train, validation = record["train_loss"], record.get("validation_loss")
        part = "train" if validation is None else "validation"
        score = record.get(f"{part}_{self.metric}")
        better = self.remember(record)
        count = f"{record['epoch']:{len(str(self.epochs))}}/{self.epochs}"
        shown = "" if validation is None else f"  validation loss {number(validation)}"
        shown += "" if score is None else f"  {part} {self.metric} {number(score)}"
        line = f"epoch {count}  loss {number(train)}{shown}"
        if self._bar is not None:
            if better or record["epoch"] % max(1, self.epochs // KEPT) == 0:
                losses = number(train) if validation is None else f"{number(train)} / {number(validation)}"
                narrow = f"{count}  loss {losses}" + ("" if score is None else f"  {self.metric} {number(score)}")
                self._bar.write(line if len(line) < self._columns else narrow, file=past(sys.stderr))
            self._bar.set_description_str(f"{record['epoch']}/{self.epochs} ", refresh=False)
            self._told |= {"loss": number(train), "lr": f"{record['learning_rate']:.2g}"}
            if score is not None:
                self._told[self.metric] = number(score)
            if self._best is not None:
                self._told["best"] = f"{number(self._best[0])} in {self._best[1]}"
            self._tell()
        return line

    def _tell(self) -> None:
        """Put beside the bar as much as fits, the most wanted first."""
        wanted = [f"{name} {self._told[name]}" for name in (self.metric, "best", "loss", "lr") if name in self._told]
        while wanted and len("  ".join(wanted)) + 2 * len(str(self.epochs)) + BESIDE > self._columns:
            wanted.pop()
        self._bar.set_postfix_str("  ".join(wanted), refresh=False)
