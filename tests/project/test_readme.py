"""The README keeps its word: its Python runs, its YAML trains, its commands and paths exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import nanotorch

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_two_commands_are_marked_for_ci() -> None:
    for name in ("train", "test"):
        assert len(re.findall(rf"<!-- command: {name} -->\n```bash\n[^`]+```", README)) == 1


def test_python_example(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    assert len(code.splitlines()) <= 14
    namespace: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), namespace)
    loss = float(capsys.readouterr().out.split()[1])
    assert loss < 1e-3


def test_yaml_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nanotorch.train.config import loading as config
    from nanotorch.train.run.run import run

    text, _ = blocks("yaml")
    path = tmp_path / "readme.yaml"
    path.write_text(text)
    result = run(config.load(path, [f"output={tmp_path}"]), progress_bar=False)
    assert result.scores["test"]["accuracy"] >= 0.9
    assert "accuracy" in capsys.readouterr().out


def test_sweep_example() -> None:
    """The section that the README shows makes 64 trials of its config, each valid."""
    from nanotorch.train.config.loading import loads
    from nanotorch.train.sweep.trials import trials

    text, section = blocks("yaml")
    found = trials(loads(text + section))
    assert [trial.number for trial in found] == list(range(1, 65))
    assert {tuple(trial.values["model.hidden"]) for trial in found} == {(32,), (64, 64)}
    assert all(1e-4 <= trial.config.optimizer.arguments["lr"] <= 1e-1 for trial in found)


def test_error_example() -> None:
    """The error that the README shows is the one that is raised."""

    class Model(nanotorch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            linear = nanotorch.nn.Linear
            self.net = nanotorch.nn.Sequential(linear(8, 30), nanotorch.nn.ReLU(), linear(64, 2))

        def forward(self, x: Any) -> Any:
            return self.net(x)

    with pytest.raises(nanotorch.ShapeError) as caught:
        Model()(nanotorch.ones(32, 8))
    assert f"ShapeError: {caught.value}".startswith(blocks("text")[0].strip())


def test_the_program_is_the_one_that_the_recipe_prints() -> None:
    recipe = (ROOT / "recipes" / "compiled_step.py").read_text()
    [program] = [block for block in blocks("text") if "xp.matmul(x" in block]
    assert program in recipe.replace("\n    ", "\n")


def test_paths_exist() -> None:
    names = re.findall(r"`((?:nanotorch|configs|recipes|benchmarks|tests|docs)/[\w./]*)`", README)
    names += re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert names
    for name in names:
        assert (ROOT / name).exists(), name
