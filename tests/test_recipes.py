"""Every recipe runs, and prints what its header says it prints."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from nanotorch.ops.random import default_generator

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "recipes").glob("**/*.py"))
NUMBER = re.compile(r"[+-]?\d+\.\d+(?:e[+-]\d+)?")
CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))
LONGEST = 120  # lines; a recipe is read from top to bottom, and copied


def header(recipe: Path) -> tuple[str, list[str]]:
    """The command and the expected output that the recipe's docstring states, indented by four spaces."""
    docstring = recipe.read_text().split('"""')[1]
    blocks = re.findall(r"(?:^ {4}\S.*\n)(?:^ {4}.*\n)*", docstring, re.M)
    command, expected = blocks[0], blocks[-1]
    assert len(command.splitlines()) == 1, f"{recipe.name}: one line with the command, then the output"
    return command.strip(), [line[4:] for line in expected.splitlines()]


def arguments(command: str) -> list[str]:
    """The command without the interpreter and without the optional part in brackets; short for a config."""
    words = re.sub(r"\[.*\]", "", command).split()
    assert words[0] == "python"
    return [*words[1:], "train.epochs=3"] if any(word.endswith(".yaml") for word in words) else words[1:]


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 6


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_does_what_its_header_says(recipe: Path) -> None:
    assert len(recipe.read_text().splitlines()) <= LONGEST
    command, expected = header(recipe)
    assert recipe.name in command
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments(command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = done.stdout.splitlines()
    assert [NUMBER.sub("#", line) for line in printed] == [NUMBER.sub("#", line) for line in expected]
    assert not [line for line in printed if line.endswith("False")]
    for got, stated in zip(printed, expected, strict=True):
        numbers = [float(number) for number in NUMBER.findall(got)]
        assert numbers == pytest.approx(
            [float(number) for number in NUMBER.findall(stated)], rel=0.2, abs=0.02
        )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_the_open_loop_trains_every_config(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = default_generator.get_state()
    try:
        runpy.run_path(str(ROOT / "recipes" / "train_mlp.py"))["main"](str(config), ["train.epochs=1"])
    finally:
        default_generator.set_state(state)
    assert "best epoch 1  test loss" in capsys.readouterr().out
