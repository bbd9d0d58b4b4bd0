"""One run by several ranks is the run of one process, whatever the step does, and whoever is stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranks
from fake_gpu import fake_gpu
from nanotorch import distributed
from nanotorch.train.cli.train import main
from nanotorch.train.config.loading import loads, with_seed
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.ranked_step import AgreedInterrupt
from nanotorch.train.run import ranks as ranks_of_runs
from nanotorch.train.run.run import _built
from run_results import timeless

CONFIG = """
name: shared
seed: 3
dtype: float64
device: cpu
data: {name: iris}
model: {hidden: [8], dropout: 0.3, activation: GELU}
loss: {name: CrossEntropyLoss, label_smoothing: 0.1}
optimizer: {name: AdamW, lr: 0.02}
scheduler: {name: OneCycleLR, interval: step}
early_stopping: {patience: 3}
train: {epochs: 8, batch_size: 14, accumulate: 3, clip_norm: 0.8, ema: 0.9, metrics: [f1_macro]}
"""
ALONE = "train.compile=false"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "shared.yaml"
    path.write_text(CONFIG)
    return path


def command(size: int, *arguments: object) -> list[str]:
    trainer = [sys.executable, "-m", "nanotorch.train", *map(str, arguments)]
    return [str(ranks.MPIEXEC), "-n", str(size), *trainer]


def ended(size: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(size, *arguments), capture_output=True, text=True, timeout=90, check=False)


def history(place: Path) -> list[dict[str, Any]]:
    return [timeless(json.loads(line)) for line in (place / "metrics.jsonl").read_text().splitlines()]


def near(place: Path, other: Path) -> None:
    """Compare the records, scores and weights of two runs."""
    from nanotorch.train.record import checkpoint

    one, two = history(place), history(other)
    assert len(one) == len(two)
    for of, expected in zip(one, two, strict=True):
        assert of == {key: pytest.approx(value, rel=1e-9, abs=1e-12) for key, value in expected.items()}
    for name in ("best", "last"):
        mine, theirs = (checkpoint.load(root / "checkpoints" / name) for root in (place, other))
        assert mine.state["step"] == theirs.state["step"]
        for key, value in theirs.model.items():
            np.testing.assert_allclose(mine.model[key].numpy(), value.numpy(), rtol=1e-9, atol=1e-12, err_msg=key)
    mine, theirs = (json.loads((root / "summary.json").read_text())["scores"] for root in (place, other))
    for part, scores in theirs.items():
        assert mine[part] == pytest.approx(scores, rel=1e-9)


@pytest.mark.parametrize(
    ("size", "overrides"),
    [
        (2, []),
        pytest.param(3, ["train.accumulate=1"], marks=pytest.mark.slow),
        pytest.param(4, ["train.reduce=ordered"], marks=pytest.mark.slow),
        # of the last step, of two rows, one of three ranks has none
        pytest.param(3, ["train.batch_size=44", "train.accumulate=2", "data.test_size=0.2"], marks=pytest.mark.slow),
        pytest.param(3, ["train.batch_size=2", "train.accumulate=1", "train.epochs=2"], marks=pytest.mark.slow),
        pytest.param(2, ["train.on_nonfinite=skip", "train.clip_norm=null"], marks=pytest.mark.slow),
        pytest.param(2, ["model={name: tabm, hidden: [6], members: 3}"], marks=pytest.mark.slow),
        pytest.param(
            2,
            [
                "data={name: diabetes}",
                "loss={name: HuberLoss}",
                "train.clip_norm=null",
                "train.clip_value=0.1",
                "train.metrics=[]",
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_ranks_train_the_run_of_one_process(config: Path, tmp_path: Path, size: int, overrides: list[str]) -> None:
    assert main([str(config), *overrides, ALONE, "--output", str(tmp_path / "one"), "--quiet"]) == 0
    of_ranks = ended(size, config, *overrides, "--output", tmp_path / "several")
    assert of_ranks.returncode == 0, of_ranks.stderr
    assert of_ranks.stdout.count(f"note: {size} ranks take each step together") == 1
    assert of_ranks.stdout.count("epoch 2/") == 1
    near(tmp_path / "several", tmp_path / "one")


@pytest.mark.slow
def test_ordered_sums_have_the_same_bits_each_time(config: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        assert ended(3, config, "train.reduce=ordered", "--output", tmp_path / name, "--quiet").returncode == 0
        found.append((tmp_path / name / "checkpoints" / "last" / "model.safetensors").read_bytes())
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_batch_norm_has_the_statistics_of_rank_0_and_needs_two_rows(config: Path, tmp_path: Path) -> None:
    normed = [config, "model.batch_norm=true", "--output", tmp_path / "normed"]
    assert ended(2, *normed, "--quiet").returncode == 0
    refused = ended(3, *normed[:2], "train.batch_size=5", "train.accumulate=1", "--output", tmp_path / "few")
    assert refused.returncode == 2
    assert "a step of 5 rows leaves fewer than two for some of 3 ranks, and a batch norm needs two" in refused.stderr
    assert refused.stderr.count("batch norm") == 1


# ------------------------------------------------------------ what is refused, once


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["optimizer.lr=-1"], 2, "optimizer.lr: expected float >= 0, got -1"),
        (["train.compile=true"], 2, "train.compile: programs are steps of one process"),
        (["sweep={optimizer.lr: [1e-3, 1e-2]}"], 2, "mpiexec trains one run, and this config has several: --jobs"),
        (["train.folds=3"], 2, "mpiexec trains one run"),
        (["data={file: gone.csv, target: y}"], 2, "there is no such file"),
        (["optimizer={name: SGD, lr: 1e300}"], 3, "last good checkpoint: none"),
    ],
)
def test_rank_0_alone_says_what_is_wrong(
    config: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    of_ranks = ended(2, config, *arguments, "--output", tmp_path / "r", "--quiet")
    assert of_ranks.returncode == code, of_ranks.stderr
    assert of_ranks.stderr.count(said) == 1, of_ranks.stderr


def test_ranks_that_do_not_train_the_same_are_refused(config: Path, tmp_path: Path) -> None:
    given = ["--output", str(tmp_path / "r"), "--quiet"]
    first, second = command(1, config, *given), command(1, config, "train.epochs=4", *given)
    of_ranks = subprocess.run([*first, ":", *second[1:]], capture_output=True, text=True, timeout=60, check=False)
    assert of_ranks.returncode == 1
    assert "rank 1: train.epochs is 4, and 8 on rank 0: ranks train one run" in of_ranks.stderr
    assert not (tmp_path / "r").exists()
    second = command(1, tmp_path / "gone.yaml", *given)
    of_ranks = subprocess.run([*first, ":", *second[1:]], capture_output=True, text=True, timeout=60, check=False)
    assert of_ranks.returncode != 0
    assert f"rank 1: {tmp_path / 'gone.yaml'}: cannot be read" in of_ranks.stderr


def test_what_is_looked_at_is_shown_once(config: Path) -> None:
    assert ended(2, config, "--validate").stdout == f"{config}: valid\n"


# ------------------------------------------------------------ stopped, killed


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.02)


def trainers_of(launcher: int) -> list[int]:
    """Return the ranks below a launcher, in their order."""
    found, waiting = [], [launcher]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").iterdir():
            for child in (task / "children").read_text().split():
                waiting.append(int(child))
                if b"nanotorch.train" in Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" "):
                    found.append(int(child))
    return sorted(found)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


LONG = ["train.epochs=60", "early_stopping=null", "checkpoint.every_seconds=0", "--quiet"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_goes_on_with_another_number_of_ranks(config: Path, tmp_path: Path, number: signal.Signals) -> None:
    assert main([str(config), *LONG, ALONE, "--output", str(tmp_path / "one")]) == 0
    place = tmp_path / "several"
    launcher = subprocess.Popen(
        command(2, config, *LONG, "--output", place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: (place / "metrics.jsonl").exists() and len(history(place)) > 3)
    trainers = trainers_of(launcher.pid)
    started = time.monotonic()
    os.kill(trainers[1], number)  # of the ranks behind rank 0
    _, err = launcher.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert launcher.returncode != 0
    if number == signal.SIGTERM:
        assert launcher.returncode == 143 and err.count("SIGTERM: stopped after step") == 1
    wait_for(lambda: not any(map(is_alive, trainers)))
    assert len(history(place)) < 60
    of_ranks = ended(3, config, *LONG, "--resume", place)
    assert of_ranks.returncode == 0, of_ranks.stderr
    near(place, tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_by_itself_ends_all(config: Path, tmp_path: Path, rank: int) -> None:
    """As where the disk of rank 0 is full, or another one has no memory left."""
    arguments = json.dumps([str(config), "--output", str(tmp_path / "r"), "--quiet"])
    started = time.monotonic()
    of_ranks = ranks.started("fails_in_training", 2, ARGUMENTS=arguments, FAILING=str(rank))
    assert time.monotonic() - started < 20
    assert of_ranks.returncode != 0
    assert "No space left on device" in of_ranks.stderr
    assert rank == 0 or "rank 1: error: " in of_ranks.stderr
    assert main([str(config), "--resume", str(tmp_path / "r"), "--quiet"]) == 0


def test_ranks_train_on_the_cpu() -> None:
    """In one process, whose group is serial: what is refused is refused before anybody is asked."""
    with fake_gpu():
        distributed.init_process_group("serial")
        try:
            config = with_seed(loads(CONFIG, overrides=['device="cuda"']))
            with (
                ExitStack() as held,
                pytest.raises(DataError, match="several ranks train on the CPU, and this is cuda"),
            ):
                interrupt = AgreedInterrupt()
                ranks_of_runs.built(partial(_built, interrupt=interrupt, held=held), interrupt, config)
        finally:
            distributed.destroy_process_group()
