"""The table of a registered dataset: scikit-learn's (`sklearn_sets`) or a file (`table_file`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nanotorch.registry import DATASETS
from nanotorch.train.data import sklearn_sets, table_file  # noqa: F401, they fill the registry
from nanotorch.train.data.table import DataError, Table, one_line


def load(name: str, arguments: Mapping[str, Any], seed: int) -> Table:
    """Return the table of a registered dataset.

    A generator of random data whose `random_state` is not given takes the `seed` of the run. Arguments that
    the dataset refuses, and data that cannot be fetched or used, are a DataError.
    """
    given = dict(arguments)
    if takes_seed(name, arguments):
        given["random_state"] = seed
    try:
        table = DATASETS.get(name)(**given)
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        facts = DATASETS.entry(name).facts
        if facts.get("own") and isinstance(error, DataError):  # its messages name the file already
            raise
        path = [] if {"own", "download"} & set(facts) else ["data", _argument(name, given, str(error))]
        raise DataError(f"dataset {name!r}: {one_line(error)}", *path) from error
    assert isinstance(table, Table), f"dataset {name!r} returned {type(table).__name__}, not a Table"
    return table


def takes_seed(name: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether the table depends on the seed of the run."""
    return "random_state" in DATASETS.arguments(name) and arguments.get("random_state") is None


def _argument(name: str, given: Mapping[str, Any], message: str) -> str:
    """Return the argument of a dataset that a message of scikit-learn is about:
    of several that it names the first that was changed.
    """
    arguments = DATASETS.arguments(name)
    changed = [
        key
        for key in arguments
        if key != "random_state" and given.get(key, arguments[key].default) != arguments[key].default
    ]
    places = {
        key: re.search(rf"\b({re.escape(key)}|{re.escape(key.removeprefix('n_'))})\b", message) for key in arguments
    }
    named = sorted((key not in changed, place.start(), key) for key, place in places.items() if place)
    return named[0][2] if named else changed[0] if len(changed) == 1 else "name"
