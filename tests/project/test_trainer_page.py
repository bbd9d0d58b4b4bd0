"""docs/trainer.md keeps its word: its commands run one after the other and print what it shows,
its tables are complete.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from nanotorch.registry import describe_type, describe_value
from nanotorch.train.cli import train as command_line
from nanotorch.train.config.sections import SECTIONS, Config, NamedSection

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "trainer.md").read_text()
COMMANDS = re.findall(r"^```bash\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", PAGE, flags=re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")


def session(directory: Path) -> Iterator[tuple[str, str, str]]:
    """Run the page's commands one after the other in this directory;
    yield each with what is shown and what was printed.
    """
    programs, work = directory / "bin", directory / "work"
    programs.mkdir()
    work.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for commands, shown in COMMANDS:
        done = subprocess.run(
            ["bash", "-eu", "-c", commands],
            cwd=work,
            env=environment,
            text=True,
            timeout=300,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}"
        yield commands, shown, done.stdout


def agrees(shown: str, printed: str) -> bool:
    """Whether every shown line was printed, in this order, whatever the numbers; `...` stands for anything."""
    pattern = re.escape(NUMBER.sub("#", shown)).replace(re.escape("..."), ".*")
    return re.search(pattern, NUMBER.sub("#", printed), flags=re.DOTALL) is not None


@pytest.mark.slow
def test_the_commands_run_and_print_what_the_page_shows(tmp_path: Path) -> None:
    assert len(COMMANDS) >= 8
    for commands, shown, printed in session(tmp_path):
        assert agrees(shown, printed), f"{commands}\nthe page shows:\n{shown}\nbut this was printed:\n{printed}"
    files = re.findall(r"^\| `([^`]+)` ", section("The files of a run"), flags=re.MULTILINE)
    for file in files:
        assert (tmp_path / "work" / "runs" / "first" / file).exists(), file
    found = {path.name for path in (tmp_path / "work" / "runs" / "first").iterdir() if not path.name.startswith(".")}
    assert found == {file.partition("/")[0] for file in files}


def section(heading: str) -> str:
    """The text under a heading."""
    return PAGE.split(f"\n## {heading}\n")[1].partition("\n## ")[0]


def options() -> Iterator[tuple[str, str, str]]:
    """Every option of a config with its default and the values it takes, as the schema has them."""
    for key, field in Config.model_fields.items():
        if key not in SECTIONS:
            yield key, _default(field), describe_type(get_type_hints(Config, include_extras=True)[key])
            continue
        part = SECTIONS[key]
        hints = get_type_hints(part, include_extras=True)
        for name, inner in part.model_fields.items():
            yield f"{key}.{name}", _default(inner), describe_type(hints[name])
        for entry in {"data": ("file",), "model": ("mlp", "residual_mlp")}.get(key, ()):
            assert issubclass(part, NamedSection)
            for argument in part.registry.arguments(entry).values():
                default = "required" if argument.required else describe_value(argument.default)
                yield f"{key}.{argument.name}", default, describe_type(argument.annotation)


def _default(field: Any) -> str:
    return "required" if field.is_required() else describe_value(field.default)


def test_the_table_of_options_is_that_of_the_schema() -> None:
    cells = [
        [cell.strip() for cell in line.split(" | ")]
        for line in section("Every option").splitlines()
        if line.startswith("| `")
    ]
    stated = [(row[0].strip("| `"), row[1].strip("`"), row[2]) for row in cells]
    known = list(dict.fromkeys(options()))
    missing = "\n".join(
        f"| `{key}` | `{default}` | {values} | ... |"
        for key, default, values in known
        if (key, default, values) not in stated
    )
    assert stated == known, f"docs/trainer.md lacks these lines, or has too many, or another order:\n{missing}"
    assert all(len(row) == 4 and row[3].rstrip(" |") for row in cells), "every option is explained"


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    stated = re.findall(r"^\| (\d+) ", section("Exit codes"), flags=re.MULTILINE)
    assert stated == re.findall(r"(?:^|\s{2,})(\d+) (?=[a-z])", command_line.EPILOG.partition("exit codes:")[2])


FAULTS = {
    "the directory holds another run": (["--output", "done", "train.epochs=1"], "pets.csv"),
    "resumed with another config": (
        ["--output", "done", "--resume", "auto", "train.epochs=1", "optimizer.lr=1e-2"],
        "pets.csv",
    ),
    "resumed when complete": (["--output", "done", "--resume", "auto", "train.epochs=1"], "pets.csv"),
    "the target has no value in a row": ([], "age,species\n1,cat\n2,\n3,dog\n"),
    "a text among numbers": ([], "age,species\n1,cat\n2,dog\nold,cat\n4,dog\n"),
    "a column is misspelt": (["data.target=spezies"], "pets.csv"),
    "a header and no row": ([], "age,species\n"),
    "not UTF-8": ([], "age,species\n1,k\udce4tzchen\n"),
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the page's table and config, and a complete run of one epoch."""
    directory = tmp_path_factory.mktemp("reader")
    table, config = COMMANDS[0][0], COMMANDS[1][0].partition("\npython -m nanotorch.train ")[0]
    subprocess.run(
        ["bash", "-c", f'python() {{ "{sys.executable}" "$@"; }}\n{table}\n{config}'],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert command_line.main(["pets.yaml", "--output", "done", "train.epochs=1", "--quiet"]) == 0
    return directory


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_ends_as_the_page_says(
    case: str, reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader)
    arguments, table = FAULTS[case]
    if table != "pets.csv":
        Path("bad.csv").write_bytes(table.encode("utf-8", "surrogateescape"))
        arguments = [*arguments, "data.file=bad.csv"]
    (said,) = re.findall(
        rf"^\| {re.escape(case)} \| (.*) \|$", section("When something goes wrong"), flags=re.MULTILINE
    )
    (code,) = re.findall(r"exit code (\d)", said) or ["1"]
    assert command_line.main(["pets.yaml", *arguments]) == int(code)
    printed = capsys.readouterr()
    for words in re.findall(r'"([^"]+)"', said):
        assert words in printed.out + printed.err
    if "line" in said:
        assert re.search(r"bad.csv, line \d", printed.err)
