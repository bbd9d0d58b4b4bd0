"""What the sections of a run's page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotorch.train.report.markup import Html, fill
from nanotorch.train.terminal.text_report import number, short

MOST_COLUMNS = 60  # of the data card
OPEN_COLUMNS = 24  # of more, the table is folded
MOST_CLASSES = 200  # of the tables of classes


@dataclass(frozen=True)
class Record:
    """What the files of a run hold.

    Attributes:
        directory: the run's.
        source: the config as it was given, or None.
        history: the record of every epoch.
        summary: what `summary.json` holds.
        environment: what `env.json` holds.
    """

    directory: Path
    source: str | None
    history: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def metrics(self) -> list[str]:
        """The names of all scores that the epochs have, the loss first."""
        keys = {key.partition("_")[2]: None for key in self.history[-1] if key.startswith(("train_", "validation_"))}
        return sorted(keys, key=lambda key: key != "loss")


def abbreviated(name: str, most: int) -> Html:
    """Return a name that is short enough for the head of a column; the whole shows where the pointer rests."""
    if len(name) <= most:
        return fill("{name}", name=name)
    return fill('<abbr title="{name}">{short}</abbr>', name=name, short=short(name, most))


def exact(value: float) -> Html:
    """Return a number, short to look at and kept whole."""
    return fill('<data value="{exact}">{shown}</data>', exact=repr(value), shown=number(value))
