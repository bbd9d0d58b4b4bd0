"""The options of `predict` and `evaluate` that say how the file of `--input` is written."""

from __future__ import annotations

import argparse
from typing import Any

EXPLAINED = "if not as the table of the run"


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser, in a group of their own."""
    add = parser.add_argument_group(f"how --input is written, {EXPLAINED}").add_argument
    add("--separator", metavar="S", help="between two cells: auto, or one character")
    add("--encoding", metavar="NAME", help="of the text, such as utf-8 or latin-1")
    add("--decimal", choices=[".", ","], help="the decimal point")
    add("--thousands", choices=[",", ".", " ", "'", "_"], help="between groups of three digits")
    add("--sheet", metavar="NAME", help="of a spreadsheet (default: the first)")
    add("--skip-rows", type=_count, metavar="N", help="so many lines come before the table")
    add("--names", type=_names, metavar="A,B,...", help="its columns, if its first line does not name them")
    add("--header", action=argparse.BooleanOptionalAction, help="whether its first line names the columns")


def reading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return those that were given, by the keys of `data`; names of the file and of the run are never mixed."""
    keys = ("separator", "encoding", "decimal", "thousands", "sheet", "skip_rows", "names", "header")
    given = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    return ({"names": ()} if given.get("header") else {}) | ({"header": None} if "names" in given else {}) | given


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError
    return count


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
