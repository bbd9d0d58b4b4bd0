"""Columns of free text as numbers: words and pairs of words, counted in as many columns as are to be had.

Note [Hashed texts]
~~~~~~~~~~~~~~~~~~~
Every word of a text in small letters, and every pair of neighbours, goes to one of `WIDTH` columns, chosen by its
CRC-32, which also says whether it counts 1 or -1 there, so that words that meet by chance cancel on average; the row is
then brought to length 1. Nothing is learnt from the rows, no word is unknown later, and a missing text is a row of
zeros.
Weinberger, Dasgupta, Langford, Smola and Attenberg, "Feature Hashing for Large Scale Multitask Learning" (2009).
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.columns.notation import is_missing
from nanotorch.train.data.table import FloatArray

WIDTH = 64
WORD = re.compile(r"\w+")
WORDS_OF_TEXTS = 3.0  # a name of a category has fewer, on average
FEWEST = 100  # different ones
MOST_REMEMBERED = 2**17  # words and pairs


def hashed_columns(name: str) -> tuple[str, ...]:
    """Return the names of the columns of numbers."""
    return tuple(f"{name}: words {number}" for number in range(WIDTH))


def hashed(values: Sequence[Any] | NDArray[Any], missing: frozenset[str] = frozenset()) -> FloatArray:
    """Return texts as rows of `WIDTH` numbers (Note [Hashed texts]).

    >>> first, second, none = hashed(["Red wine, dry", "red WINE dry", None])
    >>> bool((first == second).all()), float((first**2).sum()), none.any()
    (True, 1.0, np.False_)
    """
    places, found, counts = _Places(), list[int](), np.zeros(len(values), np.int64)
    for row, value in enumerate(np.asarray(values, object).tolist()):
        if is_missing(value) or str(value).strip() in missing:
            continue
        words = WORD.findall(str(value).lower())
        found += map(places.__getitem__, words)
        found += map(places.__getitem__, map(" ".join, pairwise(words)))
        counts[row] = max(0, 2 * len(words) - 1)
    at, signs = np.divmod(np.array(found, np.int64), 2)
    at += WIDTH * np.repeat(np.arange(len(values)), counts)
    rows = np.bincount(at, 2.0 * signs - 1, minlength=WIDTH * len(values)).reshape(-1, WIDTH)
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return rows / np.where(length > 0, length, 1.0)


class _Places(dict[str, int]):
    """Maps words to twice their column, and one more where they count 1; the last ones are remembered."""

    def __missing__(self, word: str) -> int:
        """Find the column of a word."""
        if len(self) == MOST_REMEMBERED:
            self.clear()
        place = zlib.crc32(word.encode("utf-8", "replace"))
        self[word] = found = place % WIDTH * 2 + (place >> 31)
        return found


def is_free_text(column: NDArray[Any]) -> bool:
    """Return whether a column of texts looks written for people: mostly different, and of several words."""
    counts = Counter(text for text in column.tolist() if text is not None)
    if len(counts) <= max(FEWEST, counts.total() / 2):
        return False
    return sum(len(WORD.findall(text)) for text in counts) >= WORDS_OF_TEXTS * len(counts)
