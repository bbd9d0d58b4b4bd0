"""An example config to begin with: `nanotorch init NAME`."""

from __future__ import annotations

import argparse
import shlex
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from nanotorch.registry import closest
from nanotorch.train.terminal.command import UsageError, path_option, run_command

EPILOG = """\
examples:
  {prog}
  {prog} iris_mlp
  {prog} iris_mlp -o flowers.yaml

exit codes:
  0 done   1 failed   2 bad usage, or no such example
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="List the example configs, or write one to a new file.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("name", nargs="?", metavar="NAME", help="the example; all are listed without it")
    made.add_argument(
        "-o",
        "--output",
        type=path_option,
        metavar="FILE",
        help="the new file (default: NAME.yaml); '-' is standard output",
    )
    return made


def main(argv: Sequence[str] | None = None, prog: str = "nanotorch init") -> int:
    """Do what the arguments say and return the exit code."""
    return run_command(parser(prog).parse_intermixed_args, _init, argv)


def _init(options: argparse.Namespace) -> None:
    known = examples()
    if options.name is None:
        if options.output is not None:
            raise UsageError("-o is the file for an example: give its NAME too")
        print("\n".join(_listed(known)))
        return
    name = options.name.removesuffix(".yaml")
    if name not in known:
        near = closest(name, known)
        hint = f"did you mean {near!r}?" if near else "`nanotorch init` lists them"
        raise UsageError(f"there is no example {name!r} ({hint})")
    output = options.output or f"{name}.yaml"
    text = known[name].read_text(encoding="utf-8")
    if output == "-":
        print(text, end="")
        return
    quoted = shlex.quote(output)
    try:
        with open(output, "x", encoding="utf-8") as file:  # x: what is there, a link too, is left alone
            file.write(text.replace(f"configs/{name}.yaml", quoted))
    except FileExistsError:
        raise UsageError(f"{output} is there already; -o FILE names another") from None
    print(f"{output}: train it by `nanotorch train {quoted}`")


def examples() -> dict[str, Path]:
    """Return the example configs by name: of the installed package, or of the repository around it."""
    package = Path(__file__).parents[2]
    folder = next((f for f in (package / "configs", package.parent / "configs") if f.is_dir()), None)
    if folder is None:
        raise RuntimeError(f"the example configs are neither in {package} nor beside it")
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _listed(known: dict[str, Path]) -> Iterator[str]:
    """Iterate over the lines of the list: names, and the first sentence of what each example says about itself."""
    width = max(30, min(100, shutil.get_terminal_size((80, 24)).columns - 1))
    for name, path in known.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        about = " ".join(line.strip("# ") for line in lines[: lines.index("#")])
        yield name
        sentence = f"{about.partition('. ')[0].rstrip('.')}."
        yield from textwrap.wrap(sentence, width, initial_indent="    ", subsequent_indent="    ")
    yield ""
    yield "`nanotorch init NAME` writes one to NAME.yaml."
