"""What lets a shell complete the commands: `nanotorch completion bash`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from nanotorch.train.cli import commands, init
from nanotorch.train.terminal.command import path_option, run_command

SHELLS = ("bash", "zsh", "tcsh")
EPILOG = """\
bash, for all new shells:
  {prog} bash > ~/.local/share/bash-completion/completions/nanotorch
zsh, where ~/.zfunc is in $fpath:
  {prog} zsh > ~/.zfunc/_nanotorch

It needs shtab: pip install shtab. The completion itself needs nothing.
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Print a script that lets a shell complete the commands.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    return made


def main(argv: Sequence[str] | None = None, prog: str = "nanotorch completion") -> int:
    """Do what the arguments say and return the exit code."""
    return run_command(parser(prog).parse_args, _print, argv)


def _print(options: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError:
        raise RuntimeError("the completion is made by shtab, which is not installed: pip install shtab") from None
    print(shtab.complete(_whole(), options.shell), end="")


def _whole() -> argparse.ArgumentParser:
    """Return one parser of all commands; what takes a path is completed by the names of files, an example by theirs."""
    import shtab

    whole = commands.parser()
    inner = whole.add_subparsers(dest="command")
    for name, summary in commands.COMMANDS.items():
        own = import_module(f"nanotorch.train.cli.{name}").parser(f"nanotorch {name}")
        # zsh shows the description beside the name, in one line
        made = inner.add_parser(name, help=summary, description=summary, parents=[own], add_help=False)
        for action in made._actions:
            if action.type is path_option:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            if (name, action.dest) == ("init", "name"):
                action.choices = list(init.examples())
    return whole
