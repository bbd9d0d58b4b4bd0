"""Run benchmarks one after the other, write their results, and bring pages and figures up to date.

    python -m benchmarks [NAME ...]

Each one has a process of its own, on the CPU. Without names all of them run, which takes about half an hour on a quiet
core; read the ratios, and let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import pages


def names() -> list[str]:
    """Return the benchmarks: the modules here that have options."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem for file in files if file.stem[0] != "_" and "common.arguments(" in file.read_text()]


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks and write their results.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    asked = parser.parse_args().names
    for name in asked:
        if name not in names():
            parser.error(f"there is no benchmark {name!r}: {', '.join(names())}")
    for name in asked or names():
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(pages.RESULTS / f"{name}-cpu.json")]
        print(f"\n{name}", flush=True)
        status = subprocess.run(command, cwd=pages.ROOT).returncode
        if status:
            return status
    pages.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
