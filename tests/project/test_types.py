"""What type checkers and editors see: a program in strict mypy, every public name, and how much of it has a type."""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("typed_program.py")
FACES = [
    "nanotorch",
    "nanotorch.nn",
    "nanotorch.nn.functional",
    "nanotorch.nn.init",
    "nanotorch.nn.utils",
    "nanotorch.nn.utils.rnn",
    "nanotorch.nn.utils.parametrize",
    "nanotorch.nn.utils.parametrizations",
    "nanotorch.optim",
    "nanotorch.optim.lr_scheduler",
    "nanotorch.optim.swa_utils",
    "nanotorch.linalg",
    "nanotorch.special",
    "nanotorch.random",
    "nanotorch.func",
    "nanotorch.autograd",
    "nanotorch.autograd.functional",
    "nanotorch.utils.data",
    "nanotorch.utils.checkpoint",
    "nanotorch.viz",
    "nanotorch.cuda",
    "nanotorch.estimators",
]
COMPLETE = 0.89  # of the public symbols have a type that all checkers see alike; it may only rise


WRONG = """\
import nanotorch as torch
x = torch.rand(2)
torch.softmax(x)
torch.stack(x, dimension=1)
x.max(dim=0).vals
x.sum(keepdims=True)
torch.nn.functional.relu("text")
torch.nope
x.nope()
torch.nn.Linear(2, 2)(x, 1)
"""


@pytest.mark.slow
def test_strict_mypy_sees_every_public_name_and_the_mistakes_of_users(tmp_path: Path) -> None:
    """What a checker sees is what completion offers; a program without mistakes passes, and one with them does not."""
    names, wrong = tmp_path / "names.py", tmp_path / "wrong.py"
    lines = [f"import {face}" for face in FACES]
    for face in FACES:
        module = importlib.import_module(face)
        lines += [f"{face}.{name}" for name in (dir(module) if face == "nanotorch" else module.__all__)]
    names.write_text("\n".join(lines))
    wrong.write_text(WRONG)
    # As it is run in another directory; the cache stays, because to read the package takes mypy ten seconds.
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "--no-pretty"]
    environment = {**os.environ, "MYPYPATH": str(ROOT), "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache" / "users")}
    files = [str(PROGRAM), str(names), str(wrong)]
    said = subprocess.run([*command, *files], cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    errors = [line for line in said.splitlines() if ": error: " in line]
    assert [line for line in errors if not line.startswith("wrong.py:")] == []
    assert sorted({int(line.split(":")[1]) for line in errors}) == [3, 4, 5, 6, 7, 8, 9, 10], said


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(PROGRAM), run_name="__main__")
    assert capsys.readouterr().out == "6 True\n"


@pytest.mark.slow
def test_editors_accept_the_program(tmp_path: Path) -> None:
    """As VS Code checks it, with what it calls the standard rules, which want overrides to fit."""
    options = {"extraPaths": [str(ROOT)], "typeCheckingMode": "standard", "include": [str(PROGRAM)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(options))
    command = ["basedpyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_typed_share_of_the_surface_only_rises() -> None:
    """`basedpyright --verifytypes nanotorch --ignoreexternal` lists what lacks a type."""
    command = ["basedpyright", "--pythonpath", sys.executable, "--verifytypes", "nanotorch", "--ignoreexternal"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([*command, "--outputjson"], cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    found = [symbol for symbol in json.loads(out)["typeCompleteness"]["symbols"] if is_public(symbol["name"])]
    lacking = sorted(s["name"] for s in found if not s["isTypeKnown"] or s["isTypeAmbiguous"])
    share = 1 - len(lacking) / len(found)
    assert len(found) > 1_500
    assert share >= COMPLETE, f"{share:.3f} of {len(found)}; without: {lacking}"


def is_public(symbol: str) -> bool:
    """Whether a symbol is a public name, or an attribute without underscore of a public class."""
    parts = symbol.split(".")
    homes = {".".join(parts[:n]) for n in range(1, len(parts))} & public_classes()
    face = symbol.rpartition(".")[0] in FACES and parts[-1] in dir(importlib.import_module(symbol.rpartition(".")[0]))
    return not parts[-1].startswith("_") and (bool(homes) or face)


@functools.cache
def public_classes() -> set[str]:
    """The classes that are public, by where they are declared; Tensor's methods are those of a class of their own."""
    values = [getattr(module, name) for module in map(importlib.import_module, FACES) for name in module.__all__]
    classes = {f"{value.__module__}.{value.__qualname__}" for value in values if isinstance(value, type)}
    return classes | {"nanotorch.autograd.graph.methods.TensorMethods"}
