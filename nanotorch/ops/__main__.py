"""The command line of the op table: `python -m nanotorch.ops [NAME ...]`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

from nanotorch.ops.docs.table import Entry, as_markdown, as_text, entries, find
from nanotorch.ops.rows.row import ROWS
from nanotorch.registry import UnknownNameError

OK, UNKNOWN = 0, 2
WIDEST = 120  # columns: beyond, the eye loses the line
LEGEND = (
    "Each op with its signature, grad node, in-place variant and operators, and for every differentiable input the"
    " formula of its gradient as the row writes it: grad is the gradient of the result, xp the array module. Name ops"
    " to see the helpers of their formulas too: python -m nanotorch.ops pow"
)
EPILOG = """\
examples:
  python -m nanotorch.ops                        every op
  python -m nanotorch.ops mul softmax            two, with helpers of formulas
  python -m nanotorch.ops 'cum*' MulBackward0    by pattern, and by a grad node
  python -m nanotorch.ops mul --source           what the row is compiled to

exit codes:
  0 done   2 unknown op or bad usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Print what the arguments ask for and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nanotorch.ops",
        description="Print the op table.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="an op, a grad node, or a pattern such as '*softmax*'")
    add("--view", action="store_true", help="only views")
    add("--inplace", action="store_true", help="only ops with an in-place variant")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--list", action="store_true", help="print names only")
    form.add_argument("--source", action="store_true", help="print what rows are compiled to (NAME needed)")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_intermixed_args(argv)
    if options.source and not options.names:
        parser.error("--source needs the NAME of an op")
    table = entries()
    try:
        chosen = [entry for name in options.names for entry in find(name, table)] if options.names else table
    except UnknownNameError as error:
        print(f"{error}; `python -m nanotorch.ops --list` prints all names", file=sys.stderr)
        return UNKNOWN
    names = {
        entry.name for entry in chosen if (entry.view or not options.view) and (entry.inplace or not options.inplace)
    }
    chosen = [entry for entry in table if entry.name in names]
    try:
        _print(chosen, options)
        sys.stdout.flush()
    except BrokenPipeError:  # `... | head -1`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _columns() -> int:
    """Return the width of the terminal, also where the output is piped to a pager."""
    for stream in (sys.stdout, sys.stderr):
        try:
            return os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError, AttributeError):
            continue
    return shutil.get_terminal_size((100, 24)).columns


def _print(chosen: list[Entry], options: argparse.Namespace) -> None:
    width = max(60, min(_columns() - 1, WIDEST))
    if options.markdown:
        print(as_markdown(chosen), end="")
    elif options.list:
        print("\n".join(entry.name for entry in chosen))
    elif options.source:
        print("\n".join(ROWS[entry.name].source for entry in chosen if entry.name in ROWS), end="")
    elif options.names:
        print(as_text(chosen, width, helpers=True))
    else:
        print(textwrap.fill(LEGEND, width), as_text(chosen, width), sep="\n\n")


if __name__ == "__main__":
    sys.exit(main())
