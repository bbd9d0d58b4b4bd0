"""Numbers, names and tables as text, as messages and reports show them."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from nanotorch.train.terminal.standard_streams import printable

if TYPE_CHECKING:
    from nanotorch.train.score.classification import ClassScore, TargetScore

WORDS = {
    "r2": "R2",
    "rmse": "RMSE",
    "f1": "F1",
    "d2": "D2",
    "roc": "ROC",
    "auc": "AUC",
    "ovr": "OvR",
    "ovo": "OvO",
    "rand": "Rand",
}
MOST_CLASSES = 20
MOST_PROBLEMS = 25  # mistakes shown in one message


def table(scores: Mapping[str, Mapping[str, float]], rows: Mapping[str, int]) -> str:
    """Return the scores of every part of the data as aligned text.

    >>> print(table({"train": {"loss": 0.02, "accuracy": 1.0}, "test": {"loss": 0.1, "accuracy": 0.975}},
    ...             rows={"train": 120, "test": 40}))
           rows    loss  accuracy
    train   120  0.0200    1.0000
    test     40  0.1000    0.9750
    """
    names = list(next(iter(scores.values())))
    lines = [["", "rows", *(short(label(name), 30) for name in names)]]
    for part, values in scores.items():
        lines.append([part, str(rows[part]), *(number(values[name]) for name in names)])
    return aligned(lines)


def class_table(scores: Sequence[ClassScore]) -> str:
    """Precision, recall and F1 of every class; of many classes those that are found worst.

    >>> from nanotorch.train.score.classification import ClassScore
    >>> print(class_table([ClassScore("cat", 0.9, 1.0, 0.9474, 9), ClassScore("a dog", 1.0, 0.5, 0.6667, 2)]))
           precision  recall      F1  rows
    cat       0.9000  1.0000  0.9474     9
    a dog     1.0000  0.5000  0.6667     2
    """
    shown = scores if len(scores) <= MOST_CLASSES else sorted(scores, key=lambda score: score.f1)[:MOST_CLASSES]
    lines = [["", "precision", "recall", "F1", "rows"]]
    lines += [[short(s.name, 28), number(s.precision), number(s.recall), number(s.f1), str(s.support)] for s in shown]
    more = len(scores) - len(shown)
    return aligned(lines) + (f"\n({more} more classes, with F1 of {number(shown[-1].f1)} and above)" if more else "")


def target_table(scores: Sequence[TargetScore]) -> str:
    """Accuracy, mean recall and mean F1 of every one of several targets of classes; of many those found worst.

    >>> from nanotorch.train.score.classification import TargetScore
    >>> print(target_table([TargetScore("rain", 2, 0.9, 0.8, 0.75, 0.7), TargetScore("sky", 3, 0.5, 0.4, 0.5, 0.5)]))
          accuracy  most frequent  balanced  mean F1
    rain    0.9000         0.8000    0.7500   0.7000
    sky     0.5000         0.4000    0.5000   0.5000
    """
    shown = scores if len(scores) <= MOST_CLASSES else sorted(scores, key=lambda score: score.f1)[:MOST_CLASSES]
    lines = [["", "accuracy", "most frequent", "balanced", "mean F1"]]
    lines += [[short(one.name, 28), *map(number, one[2:])] for one in shown]
    more = len(scores) - len(shown)
    return aligned(lines) + (f"\n({more} more targets, with F1 of {number(shown[-1].f1)} and above)" if more else "")


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Cells as text in columns: the first `left` to the left, the others to the right."""
    lines = [[printable(cell, kept="") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def short(text: str, width: int) -> str:
    """Return the text in one line of at most `width` characters, shortened in its middle.

    >>> short("a very long name of a class", 15)
    'a very...class'
    """
    text = printable(text, kept="")
    if len(text) <= width:
        return text
    end = (width - 3) // 2 - 1
    return f"{text[: width - 3 - end].rstrip()}...{text[len(text) - end :].lstrip()}"


def in_short(keys: Collection[str]) -> dict[str, str]:
    """Return for each key of a config its last part, or all of it where another has the same.

    >>> in_short(["optimizer.lr", "model.name", "optimizer.name", "seed"])
    {'optimizer.lr': 'lr', 'model.name': 'model.name', 'optimizer.name': 'optimizer.name', 'seed': 'seed'}
    """
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def listed(names: Sequence[str], most: int) -> str:
    """Return the first names, and how many more there are.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def wrapped(text: str) -> str:
    """Return sentences in lines that the terminal has room for, of 100 characters at most."""
    return textwrap.fill(printable(text, kept=""), min(shutil.get_terminal_size().columns, 100))


def counted(number: int, what: str) -> str:
    """Return how many there are.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time with a unit that suits it.

    >>> duration(0.00042), duration(3.21), duration(4000)
    ('0.42 ms', '3.2 s', '1 h 7 min')
    """
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds >= 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes} min"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s"


def number(value: float) -> str:
    """Return a score with four decimals; in powers of ten one of 100,000 or more, as a loss that explodes is, and one
    that would look like 0, as an error in small units does.

    >>> number(0.25), number(123456789.0), number(2e-6)
    ('0.2500', '1.2346e+08', '2.0000e-06')
    """
    return f"{value:.4f}" if 5e-5 <= abs(value) < 1e5 or not value else f"{value:.4e}"


def label(name: str) -> str:
    """Return a score's name as people write it.

    >>> label("rmse_Weight"), label("f1_macro"), label("roc_auc_ovr")
    ('RMSE Weight', 'F1 macro', 'ROC AUC OvR')
    """
    if name.startswith("rmse_"):  # a target follows, whose name stays as it is
        return f"RMSE {printable(name.removeprefix('rmse_'), kept='')}"
    return " ".join(WORDS.get(word, word) for word in printable(name, kept="").split("_"))
