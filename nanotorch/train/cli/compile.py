"""What compiles the interpreter of tables ahead, so that no training begins without it: `nanotorch compile`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from nanotorch.train.terminal.command import run_command


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    return argparse.ArgumentParser(
        prog=prog,
        description="Compile the interpreter of compiled steps for this machine, and keep it in the user's cache.",
        epilog="It needs numba, and is done once for each version of Python, numba and nanotorch. A training compiles"
        " it as well, beside its first run, which cannot use it yet. NANOTORCH_CACHE_DIR names another folder.",
        allow_abbrev=False,
    )


def main(argv: Sequence[str] | None = None, prog: str = "nanotorch compile") -> int:
    """Do what the arguments say and return the exit code."""
    return run_command(parser(prog).parse_args, _compile, argv)


def _compile(options: argparse.Namespace) -> None:
    from nanotorch.capture.table.machine import MACHINE, cache_file, installed

    started = time.perf_counter()
    if installed() and MACHINE.soon() is None:
        print("compiling the interpreter of compiled steps: some seconds, once for this machine", flush=True)
    if MACHINE.wait() is None:
        raise RuntimeError(MACHINE.reason)
    path = cache_file()
    if not path.exists():
        raise RuntimeError(
            f"it is compiled, but {path.parent} cannot be written to, so each process would compile it again;"
            " NANOTORCH_CACHE_DIR names another folder"
        )
    print(f"ready after {time.perf_counter() - started:.1f} s: {path}")
