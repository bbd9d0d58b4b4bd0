"""What was noticed about raw rows on their way into a model: counted while they come, told once at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from nanotorch.train.data.table import shown
from nanotorch.train.terminal.text_report import listed

LISTED = 5  # values in one sentence


@dataclass
class Noticed:
    """What the user should know of rows that were encoded, in one piece or in many.

    Attributes:
        missing: missing values, by column, where the training part had none.
        unknown: by column, the categories that the model does not know.
        taken: by column, what was taken instead.
        units: numbers without the unit that the column had in training, by column and unit.
    """

    missing: Counter[str] = field(default_factory=Counter)
    unknown: dict[str, Counter[str]] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    units: Counter[tuple[str, str]] = field(default_factory=Counter)

    def lacks(self, column: str, count: int, instead: str) -> None:
        """Count missing values of a column."""
        if count:
            self.missing[column] += count
            self.taken[column] = instead

    def bare(self, column: str, count: int, unit: str) -> None:
        """Count numbers without the unit that they had in training."""
        if count:
            self.units[column, unit] += count

    def strange(self, column: str, texts: Counter[str], instead: str) -> None:
        """Count categories that are not known."""
        if texts:
            self.unknown.setdefault(column, Counter()).update(texts)
            self.taken[column] = instead

    def add_most(self, several: Sequence[Noticed]) -> None:
        """Count what several models noticed of the same rows: of each thing what the one noticed that did most."""
        self.missing += reduce(or_, [one.missing for one in several])
        self.units += reduce(or_, [one.units for one in several])
        for column in dict.fromkeys(name for one in several for name in one.unknown):
            most = reduce(or_, [one.unknown.get(column, Counter()) for one in several])
            self.unknown.setdefault(column, Counter()).update(most)
        for one in several:
            self.taken |= {name: self.taken.get(name, taken) for name, taken in one.taken.items()}

    def sentences(self) -> list[str]:
        """Return all of it, a sentence for each column and kind."""
        told = [
            f"column {shown(column)}: {count} {'number' if count == 1 else 'numbers'} without the unit {unit!r} that"
            " all had in training, taken as they stand"
            for (column, unit), count in self.units.items()
        ]
        for column, taken in self.taken.items():
            texts, lacking = self.unknown.get(column, Counter()), self.missing[column]
            if texts:
                rows = texts.total()
                most = sorted(texts.items(), key=lambda item: (-item[1], item[0]))
                most_told = listed([f"{shown(text)} ({count})" for text, count in most], LISTED)
                told.append(
                    f"column {shown(column)}: {rows} {'row' if rows == 1 else 'rows'} with {len(texts)} "
                    f"{'category' if len(texts) == 1 else 'categories'} unknown to the model, {taken}: {most_told}"
                )
            if lacking:
                told.append(
                    f"column {shown(column)}: {lacking} missing {'value' if lacking == 1 else 'values'}, though none"
                    f" was missing in training; {taken}"
                )
        return told
