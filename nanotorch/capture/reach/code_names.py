"""The names that the code of a function mentions: variables, attributes, modules, and what texts may stand for."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from types import CodeType, ModuleType
from typing import Any

SPELLING = {"__str__", "__repr__", "__format__"}
SPELLED_BY = {"str", "repr", "format", "ascii"}


@functools.cache
def words_of(code: CodeType) -> frozenset[str]:
    """Return the names that a code object and those within it may read: of globals, attributes, and in strings."""
    inner = [words_of(part) for part in code.co_consts if isinstance(part, CodeType)]
    in_texts = spelled([part for part in code.co_consts if isinstance(part, str)])
    found = frozenset(code.co_names).union(in_texts, *inner)
    done = {instruction.opname for instruction in dis.get_instructions(code)}
    if "MATCH_CLASS" in done:
        found |= {"getattr"}
    if "getenv" in found:
        found |= {"environ"}
    formats = any([isinstance(part, str) and "%" in part for part in code.co_consts])
    if formats or any([each.startswith("FORMAT_") for each in done]) or not SPELLED_BY.isdisjoint(found):
        found |= SPELLING
    return found


def spelled(value: Any) -> set[str]:
    """Return the names in texts, however these are nested."""
    if isinstance(value, str):
        return {name for name in value.split(".") if name.isidentifier()}
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return set().union(*map(spelled, parts))


def imported(code: CodeType, variables: Mapping[str, Any]) -> Iterator[tuple[str, ModuleType]]:
    """Give the modules that code imports, in its own scope and within."""
    package = variables.get("__package__") or ""
    for name in names_of(code, "IMPORT_NAME"):
        for full in (name, f"{package}.{name}".strip("."), f"{package.rpartition('.')[0]}.{name}".strip(".")):
            if full in sys.modules:
                yield f"import {full}", sys.modules[full]


@functools.cache
def names_of(code: CodeType, *operations: str) -> tuple[str, ...]:
    """Return the names to which code does one of some operations, in its own scope and within."""
    found = {i.argval: None for i in dis.get_instructions(code) if i.opname in operations}
    inner = [names_of(part, *operations) for part in code.co_consts if isinstance(part, CodeType)]
    return tuple(dict.fromkeys(chain(found, *inner)))


def line_of_write(code: CodeType, name: str) -> int | None:
    """Return the line in which code writes to a variable or an attribute, or calls a method of it."""
    line, read = code.co_firstlineno, None
    for instruction in dis.get_instructions(code):
        line = instruction.starts_line or line
        if instruction.argval == name:
            if instruction.opname.startswith("STORE_"):
                return line
            read = read or line
    for part in code.co_consts:
        if isinstance(part, CodeType):
            read = line_of_write(part, name) or read
    return read
