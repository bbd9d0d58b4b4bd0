"""The command `nanotorch`, which the others stand behind: `nanotorch train` is `python -m nanotorch.train`.

A command is a module of this folder with `parser(prog)` and `main(argv, prog)`, imported when it is asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

import nanotorch
from nanotorch.registry import closest
from nanotorch.train.terminal.command import BAD_USAGE, OK, drop_output

COMMANDS = {
    "init": "write an example config to begin with",
    "train": "train a model as a YAML config says",
    "predict": "predict new rows with the model of a run",
    "evaluate": "compute the scores of a run again",
    "report": "make the page of a run anew",
    "compare": "show several runs, the best first",
    "export": "write the model of a run for other programs",
    "compile": "make compiled steps ready on this machine",
    "completion": "let the shell complete these commands",
}
EPILOG = """\
`nanotorch COMMAND --help` says more.

to begin with:
  nanotorch init iris_mlp
  nanotorch train iris_mlp.yaml
"""


def parser(prog: str = "nanotorch") -> argparse.ArgumentParser:
    """Return what reads the arguments before a command."""
    made = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [-h] [--version] COMMAND ...",
        description="\n".join(
            ["Train models from configs, and use what was trained.", "", "commands:"]
            + [f"  {name:12}{summary}" for name, summary in COMMANDS.items()]
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"nanotorch {nanotorch.__version__}")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        run: Callable[..., int] = import_module(f"nanotorch.train.cli.{arguments[0]}").main
        return run(arguments[1:], f"nanotorch {arguments[0]}")
    own = parser()
    if not arguments:
        own.print_help(sys.stderr)
        return BAD_USAGE
    try:
        own.parse_known_args(arguments)
    except BrokenPipeError:  # `... | head -1`: nobody reads on
        drop_output()
        return OK
    own.error(_unknown(arguments[0]))


def _unknown(word: str) -> str:
    """Return what is said of a word that is no command."""
    if word.startswith("-"):
        return f"there is no option {word}; options of a command come after it"
    if near := closest(word, COMMANDS):
        return f"there is no command {word!r} (did you mean {near!r}?)"
    if word.endswith((".yaml", ".yml")):
        return f"there is no command {word!r}; a config is trained by: nanotorch train {word}"
    return f"there is no command {word!r}; there are {', '.join(COMMANDS)}"
