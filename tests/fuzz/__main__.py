"""Run the fuzzer from the root of the repository: `PYTHONPATH=.:tests/support python -m tests.fuzz --draws 100000`."""

from __future__ import annotations

import argparse
import importlib.util
from collections import Counter

from .compare import compare
from .draw import draw
from .shrink import kind_of, shrink


def main() -> int:
    """Draw calls, print one shrunken program of every kind of finding, and count the rest."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random calls, compared with PyTorch.")
    parser.add_argument("--draws", type=int, default=2000, metavar="N", help="how many calls (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other calls (default: 0)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first call")
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is what calls are compared with: pip install torch==2.13.0")
    found: Counter[tuple[str, str]] = Counter()
    for number in range(options.first, options.first + options.draws):
        call = draw(options.seed, number)
        finding = compare(call)
        if not finding:
            continue
        kind = (call.name, kind_of(finding))
        found[kind] += 1
        if found[kind] == 1:
            call, finding = shrink(call, finding)
            print(f"# draw {number}: {call.name} ({call.form}) {finding}\n{call.program()}\n", flush=True)
    print(f"{found.total()} of {options.draws} calls differ, in {len(found)} kinds")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
