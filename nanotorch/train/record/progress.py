"""What is seen while training runs: a bar on a terminal, one plain line per epoch anywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from nanotorch.train.terminal.standard_streams import past, printable
from nanotorch.train.terminal.text_report import number


class Progress:
    """Shows steps, loss and validation score; `bar` allows a bar if both output streams are terminals."""

    def __init__(self, epochs: int, steps_per_epoch: int, metric: str, bar: bool = True, done: int = 0) -> None:
        self.epochs = epochs
        self.metric = printable(metric, kept="")
        self._bar: Any = None
        self._draw: Callable[[], Any] | None = None  # until the first step: what is said before it stays above the bar
        self._postfix: dict[str, str] = {}
        if bar and sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            from tqdm import tqdm

            # a pseudo-terminal without a window says that it has 0 columns or lines, and tqdm would show nothing
            has_size = min(os.get_terminal_size(sys.stderr.fileno())) > 0
            size = {"dynamic_ncols": True} if has_size else {"ncols": 80, "nrows": 24}
            form = "{desc}{percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"  # fits 80 columns
            total = epochs * steps_per_epoch
            self._draw = lambda: tqdm(total=total, initial=done, bar_format=form, file=past(sys.stderr), **size)

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
                self._postfix["loss"] = number(loss)
                self._bar.set_postfix(self._postfix, refresh=False)

    def epoch(self, record: dict[str, Any]) -> str:
        """Show that an epoch is done, whose line of `metrics.jsonl` is `record`; return it as a line of text."""
        train, validation = record["train_loss"], record.get("validation_loss")
        part = "train" if validation is None else "validation"
        score = record.get(f"{part}_{self.metric}")
        if self._bar is not None:
            self._bar.set_description(f"epoch {record['epoch']}/{self.epochs}", refresh=False)
            self._postfix |= {"loss": number(train)}
            if score is not None:
                self._postfix[f"{'train' if validation is None else 'val'}_{self.metric}"] = number(score)
            self._bar.set_postfix(self._postfix, refresh=False)
        count = f"{record['epoch']:{len(str(self.epochs))}}/{self.epochs}"
        shown = "" if validation is None else f"  validation loss {number(validation)}"
        shown += "" if score is None else f"  {part} {self.metric} {number(score)}"
        return f"epoch {count}  loss {number(train)}{shown}"
