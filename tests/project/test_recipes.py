"""Every recipe runs, and prints what its header says it prints."""

from __future__ import annotations

import re
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {
    "optuna_search": "optuna",
    "optuna_storage": "optuna",
    "ray_search": "ray",
}  # what no test installs: where it is missing the recipe is not run
RECIPES = sorted(
    recipe for recipe in (ROOT / "recipes").glob("**/*.py") if find_spec(NEEDED.get(recipe.stem, "nanotorch"))
)
CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))
NUMBER = re.compile(r"[+-]?\d+\.\d+(?:e[+-]\d+)?")
LONGEST = 120  # lines; a recipe is read from top to bottom, and copied


def header(recipe: Path) -> tuple[str, list[str]]:
    """The command and the expected output that the recipe's docstring states, indented by four spaces."""
    docstring = recipe.read_text().split('"""')[1]
    command, *_, expected = re.findall(r"(?:^ {4}\S.*\n)(?:^ {4}.*\n)*", docstring, re.M)
    assert len(command.splitlines()) == 1, "a line with the command, then the output"
    return command.strip(), [line[4:] for line in expected.splitlines()]


def run(recipe: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", [str(recipe), *arguments])
    runpy.run_path(str(recipe), run_name="__main__")


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 6


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
@pytest.mark.slow
def test_a_recipe_does_what_its_header_says(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(recipe.read_text().splitlines()) <= LONGEST
    command, expected = header(recipe)
    interpreter, script, *arguments = re.sub(r"\[.*\]", "", command).split()
    assert (interpreter, script) == ("python", f"recipes/{recipe.name}")
    if arguments:  # a config: its header shows a short run
        arguments.append("train.epochs=3")
    run(recipe, arguments, monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    assert [NUMBER.sub("#", line) for line in printed] == [NUMBER.sub("#", line) for line in expected]
    assert not [line for line in printed if line.endswith("False")]
    for got, stated in zip(printed, expected, strict=True):
        numbers = [float(number) for number in NUMBER.findall(got)]
        assert numbers == pytest.approx([float(n) for n in NUMBER.findall(stated)], rel=0.2, abs=0.02)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_the_open_loop_trains_every_config(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(ROOT / "recipes" / "train_mlp.py", [str(config), "train.epochs=1"], monkeypatch)
    assert "best epoch 1  test loss" in capsys.readouterr().out
