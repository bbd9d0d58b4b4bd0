"""The command `nanotorch`: what it dispatches to, the examples that it writes, and the completion of shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nanotorch
from nanotorch.train.cli import evaluate, predict, train
from nanotorch.train.cli.commands import COMMANDS, main
from nanotorch.train.cli.init import examples

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stopped(arguments: list[str]) -> int:
    """The exit code of a command that argparse ends."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def test_every_command_is_a_file_of_the_room_and_the_script_is_there() -> None:
    room = {path.stem for path in (ROOT / "nanotorch" / "train" / "cli").glob("*.py")}
    assert room == {*COMMANDS, "__init__", "commands"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"nanotorch": "nanotorch.__main__:main"}
    from nanotorch.__main__ import main as door

    assert door is main


def test_version_and_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert stopped(["--version"]) == 0
    assert capsys.readouterr().out == f"nanotorch {nanotorch.__version__}\n"
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        assert stopped([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: nanotorch {command} ")
        assert "python -m nanotorch" not in text
        assert not [line for line in text.splitlines() if len(line) > 82], command
    assert stopped(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("command", ["predict", "evaluate", "report", "export", "compare"])
def test_a_run_that_is_missing_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stopped([command]) == 2
    assert f"nanotorch {command}: error: the following arguments are required: RUN" in capsys.readouterr().err


def test_help_of_commands_imports_nothing_heavy() -> None:
    code = f"""
import contextlib, os, sys
from nanotorch.__main__ import main
for command in {list(COMMANDS)}:
    with contextlib.redirect_stdout(open(os.devnull, "w")), contextlib.suppress(SystemExit):
        main([command, "--help"])
heavy = ["sklearn", "scipy", "yaml", "pydantic", "tqdm", "matplotlib", "safetensors", "cupy", "shtab"]
print([name for name in heavy if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, text=True) == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "there is no command 'trian' (did you mean 'train'?)"),
        (["iris.yaml"], "there is no command 'iris.yaml'; a config is trained by: nanotorch train iris.yaml"),
        (["frobnicate"], "there is no command 'frobnicate'; there are init, train, predict"),
        (["--quiet", "train"], "there is no option --quiet; options of a command come after it"),
    ],
)
def test_what_is_no_command_is_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stopped(arguments) == 2
    assert f"nanotorch: error: {said}" in capsys.readouterr().err


def test_without_a_command_the_help_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert all(name in told.err for name in COMMANDS)


def test_commands_do_what_the_modules_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.yaml").write_text("name: x\n")
    for door, name, arguments in (
        (train.main, "train", ["bad.yaml"]),
        (train.main, "train", ["--list", "optimizers"]),
        (predict.main, "predict", ["nowhere", "--input", "-", "--output", "-"]),
        (evaluate.main, "evaluate", ["nowhere"]),
    ):
        both = []
        for run in (lambda door=door, a=arguments: door(a), lambda name=name, a=arguments: main([name, *a])):
            both.append((run(), *capsys.readouterr()))
        assert both[0] == both[1]


# ------------------------------------------------------------ examples


def test_init_lists_the_configs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(examples()) == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    for columns in (80, 50):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["init"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert {line for line in lines if line and not line.startswith((" ", "`"))} == set(examples())
        assert max(map(len, lines)) < columns


def test_init_writes_a_config_that_trains(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "iris_mlp"]) == 0
    assert capsys.readouterr().out == "iris_mlp.yaml: train it by `nanotorch train iris_mlp.yaml`\n"
    assert "configs/" not in (here / "iris_mlp.yaml").read_text()
    assert main(["train", "iris_mlp.yaml", "--validate"]) == 0
    assert main(["init", "iris_mlp.yaml", "-o", "my flowers.yaml"]) == 0
    assert "nanotorch.train 'my flowers.yaml'" in (here / "my flowers.yaml").read_text()
    capsys.readouterr()
    assert main(["init", "iris_mlp", "-o", "-"]) == 0
    assert capsys.readouterr().out == (ROOT / "configs" / "iris_mlp.yaml").read_text()


def test_init_leaves_what_is_there_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "iris_mlp.yaml").write_text("mine")
    (here / "link.yaml").symlink_to(here / "elsewhere.yaml")
    for output in ("iris_mlp.yaml", "link.yaml"):
        assert main(["init", "iris_mlp", "-o", output]) == 2
        assert capsys.readouterr().err == f"error: {output} is there already; -o FILE names another\n"
    assert (here / "iris_mlp.yaml").read_text() == "mine"
    assert not (here / "elsewhere.yaml").exists()
    assert main(["init", "iris_mlp", "-o", "no/such/place.yaml"]) == 1
    assert capsys.readouterr().err == "error: no/such/place.yaml: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["irs_mlp"], "there is no example 'irs_mlp' (did you mean 'iris_mlp'?)"),
        (["frobnicate"], "there is no example 'frobnicate' (`nanotorch init` lists them)"),
        (["-o", "x.yaml"], "-o is the file for an example: give its NAME too"),
    ],
)
def test_init_tells_what_it_cannot_mean(
    arguments: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
    assert list(here.iterdir()) == []


# ------------------------------------------------------------ completion


def completed(script: str, words: str, folder: Path) -> set[str]:
    """What bash offers for the last of the words."""
    ask = f"""
source <(cat <<'END'
{script}
END
)
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="{words}"; COMP_POINT=${{#COMP_LINE}}
$(complete -p nanotorch | sed 's/.*-F \\([^ ]*\\).*/\\1/') nanotorch "${{COMP_WORDS[COMP_CWORD]}}" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    return set(subprocess.check_output([str(shutil.which("bash")), "-c", ask], cwd=folder, text=True).split())


def test_bash_completes_commands_options_choices_and_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    (here / "mine.yaml").touch()
    assert completed(script, "nanotorch e", here) == {"evaluate", "export"}
    assert completed(script, "nanotorch train --dry", here) == {"--dry-run"}
    assert completed(script, "nanotorch train --list opt", here) == {"optimizers"}
    assert completed(script, "nanotorch train mi", here) == {"mine.yaml"}
    assert completed(script, "nanotorch predict --out", here) == {"--output"}
    assert completed(script, "nanotorch init di", here) == {n for n in examples() if n.startswith("di")}


def test_zsh_shows_what_a_command_does_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert all(f"{name}:'{summary}'" in script for name, summary in COMMANDS.items())


def test_completion_without_shtab_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 1
    assert "pip install shtab" in capsys.readouterr().err
    assert stopped(["completion", "fish"]) == 2
