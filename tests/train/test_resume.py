"""Runs that are killed and go on: bit for bit the run that was never killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fake_gpu import fake_gpu
from nanotorch.train.config.loading import loads
from nanotorch.train.record.resume import find
from nanotorch.train.run.run import run
from run_results import assert_same, everything, left
from trainer_process import TrainerProcess

CONFIG = everything(5, 4, 20)  # 20 steps in all
STEPS = 20


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "everything.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(trainer: TrainerProcess, config: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run that nobody stopped leaves."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    ended = trainer(config, "--output", directory)
    assert ended.code == 0, ended.err
    assert json.loads((directory / "summary.json").read_text())["steps"] == STEPS
    return left(directory)


# ------------------------------------------------------------ killed at a chosen moment


@pytest.mark.parametrize(
    ("every_steps", "steps"),
    [
        (1, range(2, STEPS, 5)),
        (3, range(1, STEPS + 1, 5)),  # every place after a checkpoint, every place in an epoch
        pytest.param(3, range(1, STEPS + 1), marks=pytest.mark.slow),
    ],
)
def test_killed_at_every_step(
    trainer: TrainerProcess, config: Path, whole: dict[str, Any], tmp_path: Path, every_steps: int, steps: range
) -> None:
    for step in steps:
        directory = tmp_path / str(step)
        command = (config, "--output", directory, "--resume", "auto", f"checkpoint.every_steps={every_steps}")
        assert trainer(*command, at=("step", step, signal.SIGKILL)).code == -signal.SIGKILL
        ended = trainer(*command)
        assert ended.code == 0, ended.err
        assert_same(directory, whole)


@pytest.mark.parametrize(
    "at",
    [
        *[("loss", call, signal.SIGKILL) for call in (2, 13, 14, 27, 65)],  # in a window; 13 and 65: in a validation
        *[("evaluate", call, signal.SIGKILL) for call in (1, 5)],
        *[("scores", call, signal.SIGKILL) for call in (1, 3)],
        ("load", 1, signal.SIGKILL),
        ("write", 3, "half"),
        ("write", 14, "half"),
    ],
    ids=lambda at: f"{at[0]}-{at[1]}",
)
def test_killed_within_a_step_a_validation_a_write_and_the_final_scores(
    trainer: TrainerProcess, config: Path, whole: dict[str, Any], tmp_path: Path, at: tuple[str, int, Any]
) -> None:
    command = (config, "--output", tmp_path / "run", "--resume", "auto")
    assert trainer(*command, at=at).code == -signal.SIGKILL
    ended = trainer(*command)
    assert ended.code == 0, ended.err
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_killed_at_every_call_that_changes_the_disk(
    trainer: TrainerProcess, config: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    """One run, killed at its 1st such call, then at the 2nd of the next process,
    and so on until a process reaches the end.
    """
    command = (config, "--output", tmp_path / "run", "--resume", "auto", "checkpoint.every_steps=4")
    for call in range(1, 200):
        ended = trainer(*command, at=("file", call, signal.SIGKILL))
        if ended.code != -signal.SIGKILL:
            break
    assert ended.code == 0, ended.err
    assert call > 25
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_killed_at_random_times_until_it_is_done(trainer: TrainerProcess, config: Path, tmp_path: Path) -> None:
    changes = ("train.epochs=25", "scheduler.T_max=100", "checkpoint.every_steps=5", "early_stopping.patience=20")
    ended = trainer(config, "--output", tmp_path / "whole", *changes)
    assert ended.code == 0, ended.err
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["steps"] == 100
    random.seed(5)
    # a part of the time that the whole run took, which a busy machine makes too long: then a shorter one
    kills, part = 0, 1.2
    while kills < 2:
        kills, part = 0, part / 2
        directory = tmp_path / f"run-{part}"
        while True:
            after = random.uniform(part / 3, part) * summary["seconds"]
            ended = trainer(config, "--output", directory, "--resume", "auto", *changes, after=after)
            if ended.code != -signal.SIGKILL:
                break
            kills += 1
            assert kills < 200
        assert ended.code == 0, ended.err
    assert_same(directory, left(tmp_path / "whole"))


REGRESSION = """
name: other
seed: 4
device: cpu
dtype: float64
data: {name: diabetes}
model: {hidden: [10], dropout: 0.2}
loss: {name: HuberLoss}
optimizer: {name: Adam, lr: 0.03}
scheduler: {name: ReduceLROnPlateau, patience: 0, factor: 0.3}
train: {epochs: 4, batch_size: 50, accumulate: 2, drop_last: true, on_nonfinite: skip}
early_stopping: {patience: 1}
checkpoint: {every_seconds: 0, every_steps: 1}
"""
WARM = ("scheduler={name: StepLR, step_size: 2, warmup: 3}", "train.monitor=rmse", "loss.name=MSELoss")


@pytest.mark.parametrize("changes", [(), WARM], ids=["plateau", "warmup"])
@pytest.mark.slow
def test_killed_in_a_regression(trainer: TrainerProcess, tmp_path: Path, changes: tuple[str, ...]) -> None:
    (tmp_path / "other.yaml").write_text(REGRESSION)
    ended = trainer(tmp_path / "other.yaml", "--output", tmp_path / "whole", *changes)
    assert ended.code == 0, ended.err
    expected = left(tmp_path / "whole")
    command = (tmp_path / "other.yaml", "--output", tmp_path / "run", *changes, "--resume", "auto")
    for _ in range(20):  # after every second step
        ended = trainer(*command, at=("step", 2, signal.SIGKILL))
        if ended.code == 0:
            break
    assert ended.code == 0, ended.err
    assert_same(tmp_path / "run", expected)


@pytest.mark.slow
def test_killed_twice_as_a_command(config: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "nanotorch.train",
        str(config),
        "--output",
        str(tmp_path / "run"),
        "--resume",
        "auto",
    ]
    seen: set[Path] = set()
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while (
            not (found := set((tmp_path / "run" / "checkpoints").glob("step-*")) - seen) and time.monotonic() < deadline
        ):
            time.sleep(0.002)
        process.kill()
        process.communicate()
        seen |= found
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_on_a_gpu_too(tmp_path: Path) -> None:
    """On the stand-in for one (tests/support/fake_cupy.py):
    stopped after every epoch but the last, and gone on with.
    """
    with fake_gpu():
        changes = ["device=cuda", "early_stopping=null"]
        run(loads(CONFIG, overrides=[*changes, "train.epochs=3"]), run_directory=tmp_path / "whole", progress_bar=False)
        for epochs in (1, 2, 3):
            changed = loads(CONFIG, overrides=[*changes, f"train.epochs={epochs}"])
            begun = None if epochs == 1 else find(changed, str(tmp_path / "run"), None)
            run(changed, run_directory=tmp_path / "run", progress_bar=False, resume=begun)
    one, other = left(tmp_path / "run"), left(tmp_path / "whole")
    assert [name for name in one if one[name] != other[name]] == []
