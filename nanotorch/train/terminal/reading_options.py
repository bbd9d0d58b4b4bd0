"""The options of `predict` and `evaluate` that say how the file of `--input` is written."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXPLAINED = "if not as the table of the run"
KEYS = ("separator", "encoding", "decimal", "thousands", "sheet", "skip_rows", "names", "header")


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser, in a group of their own."""
    add = parser.add_argument_group(f"how --input is written, {EXPLAINED}").add_argument
    add("--separator", metavar="S", help="between two cells: auto, or one character")
    add("--encoding", metavar="NAME", help="of the text, such as utf-8 or latin-1")
    add("--decimal", choices=[".", ","], metavar="C", help="the decimal point: . or ,")
    add(
        "--thousands",
        choices=[",", ".", " ", "'", "_"],
        metavar="C",
        help="between groups of three digits: , or . or a space or ' or _",
    )
    add("--sheet", metavar="NAME", help="of a spreadsheet (default: the first)")
    add("--skip-rows", type=_count, metavar="N", help="so many lines come before the table")
    add("--names", type=_names, metavar="A,B,...", help="its columns, if its first line does not name them")
    add("--header", action=argparse.BooleanOptionalAction, help="whether its first line names the columns")


def reading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return those that were given, by the keys of `data`; names of the file and of the run are never mixed."""
    given = {key: getattr(options, key) for key in KEYS if getattr(options, key) is not None}
    return ({"names": ()} if given.get("header") else {}) | ({"header": None} if "names" in given else {}) | given


@contextmanager
def told_as_options() -> Iterator[None]:
    """Within `with`, have errors name these options in place of the keys of `data`."""
    try:
        yield
    except ValueError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (as_options(error.args[0]), *error.args[1:])
        raise


def as_options(message: str) -> str:
    """Return a message with options in place of the keys of `data` that they stand for.

    >>> as_options("1250 with data.thousands: ',' and 1.25 with data.decimal: ','; not data.drop")
    "1250 with --thousands ',' and 1.25 with --decimal ','; not data.drop"
    >>> as_options("set data.header: false, data.thousands: null")
    'set --no-header, no --thousands'
    """

    def option(found: re.Match[str]) -> str:
        name, value = f"--{found['key'].replace('_', '-')}", found["value"]
        words = {"true": name, "false": f"--no-{name[2:]}", "null": f"no {name}", None: name}
        return words.get(value, f"{name} {value}")

    value = r"'[^']*'|\"[^\"]*\"|true|false|null|auto"
    return re.sub(rf"\bdata\.(?P<key>{'|'.join(KEYS)})\b(?:: (?P<value>{value}))?", option, message)


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError
    return count


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
