"""Rows of a table, with what is true of them and what a model says: the worst, and those that divide an ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import Table
from nanotorch.train.report import verdict
from nanotorch.train.report.markup import Html, fill, measured, percent, table, titled
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.sections.pieces import abbreviated
from nanotorch.train.score import judgement
from nanotorch.train.score.judgement import Worth
from nanotorch.train.terminal.text_report import counted

MOST_ROWS, MOST_COLUMNS = 10, 6
LONGEST_COLUMN = 24  # of a name over values of rows
TENTH = 50  # rows of which a tenth are enough to count among


def chosen_columns(part: Table, worths: Sequence[Worth] = ()) -> tuple[list[str], str]:
    """Return the columns that rows are shown with, and in words which these are."""
    if worths:
        return [worth.name for worth in worths[:MOST_COLUMNS]], "the columns that are worth most"
    few = len(part.feature_names) <= MOST_COLUMNS
    return list(part.feature_names[:MOST_COLUMNS]), "their columns" if few else "the first columns"


def heads(part: Table, measure: str, columns: Sequence[str]) -> list[str]:
    """Return what stands over rows that are shown."""
    several = ["target"] if part.targets.ndim == 2 and len(part.target_names) > 1 else []
    words = ["true", "predicted"] if part.task == "regression" else ["class", "called"]
    return ["row", *several, *words, measure, *(abbreviated(name, LONGEST_COLUMN) for name in columns)]


def line(part: Table, row: int, guessed: NDArray[Any], target: int, measure: Html, columns: Sequence[str]) -> list[Any]:
    """Return a row as it is shown: its number in the whole table, what is true, what was said, and its columns.

    Args:
        part: the table that it is of.
        row: its place there.
        guessed: what was said of all rows, class numbers (n,) or (n, targets), or values (n, targets).
        target: which of several targets is shown.
        measure: the cell for which the row was chosen.
        columns: that are shown.
    """
    place = f"{row if part.numbers is None else int(part.numbers[row]):,}"
    names = part.target_names
    if part.task == "regression":
        said: list[Any] = [names[target]] if len(names) > 1 else []
        said += [measured(float(part.targets[row, target])), measured(float(guessed[row, target]))]
    elif part.classes:
        classes = part.classes[target]
        said = [names[target], classes[part.targets[row, target]], classes[guessed[row, target]]]
    else:
        said = [names[part.targets[row]], names[guessed[row]]]
    return [place, *said, measure, *(verdict.cell(part, row, name) for name in columns)]


def worst(found: Findings, worths: Sequence[Worth]) -> Html:
    """Return the rows that the model gets most wrong, with their values."""
    losses, part = verdict.row_losses(found), found.parts[found.judged]
    worst = np.argsort(-losses, kind="stable")[:MOST_ROWS].tolist()
    columns, which = chosen_columns(part, worths)
    if found.is_regression:
        off = found.true - found.values
        furthest = np.abs(verdict.scaled(found.true, off)).argmax(axis=1)
        lines = [line(part, k, found.values, j := furthest[k], measured(float(off[k, j])), columns) for k in worst]
    else:
        worst = [row for row in worst if not found.right[row]]
        wrong = (found.guessed != found.true).reshape(len(losses), -1)
        chances = np.where(wrong, found.chances.reshape(wrong.shape), 2.0)
        least = chances.argmin(axis=1)
        lines = [line(part, k, found.guessed, j := least[k], percent(float(chances[k, j])), columns) for k in worst]
    if not lines:
        return titled("Largest mistakes", Html("<p>There are none.</p>"))
    caption = f"Rows of the {found.judged} part, counted from 0 in the whole table, with {which}"
    measure = "off by" if found.is_regression else "chance of its class"
    return titled("Largest mistakes", table(caption, heads(part, measure, columns), lines))


def disagreement(found: Findings, worths: Sequence[Worth]) -> Iterator[Html]:
    """Give the rows on which the members of an ensemble disagree most; nothing of a single model."""
    if found.apart is None:
        return
    part, (members, spread) = found.parts[found.judged], found.apart
    guessed = found.values if found.is_regression else found.guessed
    columns, which = chosen_columns(part, worths)
    caption = f"Rows of the {found.judged} part, counted from 0 in the whole table, with {which}"
    lines = [cells for _, cells in furthest_apart(part, found.true, guessed, spread, columns)]
    yield titled(
        "Where the members disagree",
        fill(
            "<p>{members} members answer, and their mean counts; their spread is the standard deviation of {what}."
            "{doubt} <code>predict --spread</code> gives it for new rows.</p>",
            members=members,
            what=what_spreads(part),
            doubt=_doubt(found, guessed, spread),
        ),
        table(caption, heads(part, "spread", columns), lines),
    )


def what_spreads(part: Table) -> str:
    """Say what the spread of an ensemble is of."""
    return "what they predict" if part.task == "regression" else "the probability of the class that is called"


def furthest_apart(
    part: Table, true: NDArray[Any], guessed: NDArray[Any], spread: NDArray[np.float64], columns: Sequence[str]
) -> list[tuple[float, list[Any]]]:
    """Return the rows of a part with the largest spread, the largest first, each with its `line`.

    Args:
        part: the rows.
        true: the targets, of these rows or of more, whose deviation is the unit in which targets are compared.
        guessed: what their mean says, class numbers (n,) or (n, targets), or values (n, targets).
        spread: (n,) of classes, (n, targets) of values, or classes of several targets.
        columns: that are shown.
    """
    cells = spread.reshape(len(spread), -1)
    each = verdict.scaled(true, cells) if part.task == "regression" else cells
    furthest, size = each.argmax(axis=1), each.max(axis=1)
    order = [k for k in np.argsort(-size, kind="stable")[:MOST_ROWS].tolist() if size[k] > 0]
    return [
        (float(size[k]), line(part, k, guessed, j := furthest[k], measured(float(cells[k, j])), columns)) for k in order
    ]


def _doubt(found: Findings, guessed: NDArray[Any], spread: NDArray[np.float64]) -> str:
    """Say whether rows on which members are far apart are those that are wrong."""
    if len(spread) < TENTH or spread.size > len(spread):
        return ""
    order = np.argsort(-spread.ravel(), kind="stable")
    few, rest = order[: len(order) // 10], order[len(order) // 10 :]
    if not found.is_regression:
        shares = [f"{1 - found.right[some].mean():.0%}" for some in (few, rest)]
        told = f"the model is wrong in {shares[0]}, of the others in {shares[1]}"
    else:
        errors = [f"{judgement.rmse(found.true[some], guessed[some]):.3g}" for some in (few, rest)]
        told = f"the typical error (RMSE) is {errors[0]}, of the others {errors[1]}"
    return f" Of the tenth of the rows with the largest spread ({counted(len(few), 'row')}) {told}."
