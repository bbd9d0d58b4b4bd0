"""Guards as code: what has to be as it was, in one function of identity tests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


@functools.lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    """Compile once what is said in the same words of many things, as of the models of a sweep."""
    return compile(text, "<conditions>", "exec")


class Conditions:
    """A function that says whether things are as they were, written term by term: nothing else is as quick."""

    def __init__(self) -> None:
        self._terms: list[str] = []
        self._values: dict[str, Any] = {"__name__": "nanotorch.capture.conditions"}
        self._names: dict[int, str] = {}

    def add(self, term: str, *values: Any) -> None:
        """Add a term, with the names of values in the place of its braces."""
        names, spelled = self._names, []
        for value in values:
            name = names.get(id(value))
            if name is None:
                name = names[id(value)] = f"v{len(names)}"
                self._values[name] = value
            spelled.append(name)
        self._terms.append(term.format(*spelled))

    def build(self, parameters: str = "") -> Callable[..., bool]:
        """Return the function of these parameters: it says no, too, where something is no longer there at all."""
        terms = " and\n            ".join([*self._terms, "True"])
        caught = "except (LookupError, ValueError, TypeError):\n        return False\n"
        exec(_compiled(f"def hold({parameters}):\n    try:\n        return ({terms})\n    {caught}"), self._values)
        return self._values["hold"]
