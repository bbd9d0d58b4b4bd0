"""The shipped configs: each is commented, valid, trains, and reaches the score that it states."""

from __future__ import annotations

import math
import operator
import re
from pathlib import Path

import pytest

from nanotorch.train.config.loading import load, loads, resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.data.table import DataError
from nanotorch.train.run.run import run
from nanotorch.train.sweep.run_sweep import run_sweep

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(FOLDER.rglob("*.yaml"))
EXPECTATION = re.compile(r"^# expect: (train|validation|test) (\w+) (>=|<=) ([0-9.]+)$", re.MULTILINE)
COMPARE = {">=": operator.ge, "<=": operator.le}

each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def trained(config: Config) -> tuple[dict[str, dict[str, float]], Path]:
    """The scores of a run, or of the best trial of a sweep, and its directory."""
    if config.sweep is None:
        result = run(config)
        return result.scores, result.directory
    swept = run_sweep(config)
    return swept.best.scores, swept.directory / swept.best.trial.name


def test_there_are_sixteen() -> None:
    assert len(CONFIGS) == 16


@each_config
def test_the_header_says_what_it_shows_how_to_run_it_and_what_to_expect(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    header = text.partition("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"\n#   python -m nanotorch.train configs/{path.relative_to(FOLDER)}\n" in header
    assert len(EXPECTATION.findall(header)) == 1
    assert max(map(len, text.splitlines())) <= 110


@each_config
def test_it_is_valid_and_so_is_its_resolved_form(path: Path) -> None:
    config = load(path)
    assert config.name == path.stem
    assert loads(resolved(config)) == config
    for command in re.findall(r"^#   python -m nanotorch.train (.*)$", path.read_text("utf-8"), re.MULTILINE):
        _, *overrides = command.partition("  #")[0].replace("'", "").split()
        load(path, overrides)


@each_config
@pytest.mark.slow
def test_it_trains(path: Path, tmp_path: Path) -> None:
    config = load(path, [f"output={tmp_path}", "device=cpu", "train.epochs=3"])
    scores, directory = trained(config)
    assert math.isfinite(scores["test"]["loss"])
    files = {"resolved.yaml", "metrics.jsonl", "checkpoints"} | ({"learning_curve.svg"} if not config.sweep else set())
    assert {file.name for file in directory.iterdir()} >= files


@pytest.mark.slow
@each_config
def test_it_reaches_the_score_that_it_states(path: Path, tmp_path: Path) -> None:
    ((part, name, sign, bound),) = EXPECTATION.findall(path.read_text("utf-8"))
    score = trained(load(path, [f"output={tmp_path}", "device=cpu"]))[0][part][name]
    assert COMPARE[sign](score, float(bound)), f"{part} {name} is {score}"


@pytest.mark.slow
def test_accumulating_gives_the_result_of_the_large_batch(tmp_path: Path) -> None:
    """The two commands in the header of digits_accumulate, for two epochs."""
    path = FOLDER / "digits_accumulate.yaml"
    short = [f"output={tmp_path}", "device=cpu", "train.epochs=2"]
    pieces = run(load(path, short))
    whole = run(load(path, [*short, "train.batch_size=64", "train.accumulate=1"]))
    for (name, mine), (_, other) in zip(pieces.model.named_parameters(), whole.model.named_parameters(), strict=True):
        assert abs(mine.detach().numpy() - other.detach().numpy()).max() < 1e-12, name


def test_a_split_that_cannot_be_stratified_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = load(
        FOLDER / "iris_mlp.yaml", [f"output={tmp_path / 'runs'}", "data.test_size=0.99", "data.validation_size=0.001"]
    )
    with pytest.raises(DataError, match="class 'setosa' has 50 rows: too few"):
        run(config)
    assert not (tmp_path / "runs").exists()
