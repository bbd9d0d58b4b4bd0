"""Every name that a run writes in its directory:
nothing else is ever deleted there, and nothing is written through a link.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanotorch.train.terminal.command import UsageError
from nanotorch.utils import files

Layout = Mapping[str, Any]
"""Patterns of names: with a Layout for a directory, None for a file, LINK for a link to a checkpoint."""
LINK = "link"
STEP = r"step-\d+(-\d+)?"
CHECKPOINT: Layout = {r"(model|training|optimizer)\.safetensors|(optimizer|state|MANIFEST)\.json": None}
TENSORBOARD: Layout = {"train|validation|test": {r"events\.out\.tfevents\.\d+(\.\d+)?\.nanotorch": None}}
HALF_WRITTEN = r"\.[0-9a-f]{8}\.writing"
RUN: dict[str, Any] = {
    r"(config|resolved)\.yaml|(env|summary|held_out)\.json|metrics\.(jsonl|csv)|train\.log": None,
    r"report\.html|learning_curve\.(svg|png)|trials\.csv|best\.yaml|\.lock": None,
    HALF_WRITTEN: None,
    "checkpoints": {
        STEP: CHECKPOINT,
        rf"\.{STEP}\.writing-\d+": CHECKPOINT,
        r"last|best|\.(last|best)\.writing-\d+": LINK,
        r"history\.jsonl": None,
        HALF_WRITTEN: None,
    },
    "tensorboard": TENSORBOARD,
}
RUN[r"repeat-\d+|(repeat-\d+-)?fold-\d+|trial-\d+"] = RUN


def strangers(place: Path, layout: Layout = RUN, names: bool = True) -> Iterator[Path]:
    """Return what no run wrote: links, pipes and the like under a run's names,
    and with `names` all that has other names.
    """
    for path, inner, mode in _entries(place, layout):
        if inner is Any:
            if names:
                yield path
        elif inner is LINK:
            if stat.S_ISDIR(mode):  # as a copy has it that knows no links
                yield from strangers(path, CHECKPOINT, names)
            elif not stat.S_ISLNK(mode) and not stat.S_ISREG(mode):
                yield path
        elif inner is None:
            if not stat.S_ISREG(mode):
                yield path
        elif stat.S_ISDIR(mode):
            yield from strangers(path, inner, names)
        else:
            yield path


def remove(place: Path, layout: Layout = RUN, keep: str = "") -> None:
    """Delete what a run wrote, and the directories that are empty then; the names of the pattern `keep` stay.

    `resolved.yaml`, by which a directory is known as a run's, goes last: where this is killed it can be done again.
    """
    for path, inner, mode in sorted(_entries(place, layout), key=lambda entry: entry[0].name == "resolved.yaml"):
        if inner is Any or re.fullmatch(keep, path.name):
            continue
        if stat.S_ISDIR(mode):
            if inner is not None:
                remove(path, CHECKPOINT if inner is LINK else inner)
                path.rmdir()
        else:
            path.unlink(missing_ok=True)


def refuse_to_replace(output: str | Path, inputs: Iterable[str | Path], runs: Iterable[Path]) -> None:
    """A UsageError if the output (`-` is standard output) is one of the inputs (`-` is standard input), a config or a
    file of a run, by whatever path or link.

    Of a run in whose directory the output lies, be it one of `runs` or not, it has to be another name than a run gives.
    """
    if str(output) == "-":
        output = "/dev/stdout"  # `>> rows.csv` would read on what it writes
    elif (within := _run_around(Path(output))) is not None:
        raise UsageError(f"{output} is a file of the run {within}: give another name to write to")
    if not os.path.isfile(output):
        return
    if Path(output).suffix.lower() in (".yaml", ".yml"):
        raise UsageError(f"{output} is there already, and by its name a config: give another name to write to")
    for name in inputs:
        if files.same(output, "/dev/stdin" if str(name) == "-" else name):
            known = "" if str(output) == str(name) else "standard input, " if str(name) == "-" else f"the file {name}, "
            raise UsageError(f"{output} is {known}an input: give another name to write to")
    for run in runs:
        if any(files.same(output, path) for path in _files_of_run(run)):
            raise UsageError(f"{output} is a file of the run {run}: give another name to write to")


def _run_around(path: Path) -> Path | None:
    """Return the run in whose directory a path has a name that a run gives; None where there is none."""
    place = Path(os.path.realpath(path.parent)) / path.name
    for root in place.parents:
        inner: Any = RUN
        for part in place.relative_to(root).parts:
            layout = CHECKPOINT if inner is LINK else inner if isinstance(inner, Mapping) else {}
            inner = next((below for pattern, below in layout.items() if re.fullmatch(pattern, part)), Any)
        if inner is None and (root / "resolved.yaml").is_file():
            return root
    return None


def _files_of_run(place: Path, layout: Layout = RUN) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        for path, inner, mode in _entries(place, layout):
            if inner is None:
                yield path
            elif inner is not Any and inner is not LINK and stat.S_ISDIR(mode):
                yield from _files_of_run(path, inner)
            elif inner is LINK and stat.S_ISDIR(mode):
                yield from _files_of_run(path, CHECKPOINT)


def _entries(place: Path, layout: Layout) -> Iterator[tuple[Path, Any, int]]:
    """Return what is there, with what the layout says of it (Any: nothing), and its kind."""
    for name in sorted(os.listdir(place)):
        inner = next((inner for pattern, inner in layout.items() if re.fullmatch(pattern, name)), Any)
        yield place / name, inner, os.lstat(place / name).st_mode
