"""Runs that several processes train are those that one process trains, whoever of them is stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from nanotorch.train.cli.train import main
from nanotorch.train.config.loading import loads
from nanotorch.train.record.directory import RunDirectory, is_held
from nanotorch.train.record.layout import strangers
from nanotorch.train.run import folds, workers
from nanotorch.train.run.workers import Workers, WorkersError
from nanotorch.train.sweep.run_sweep import run_sweep
from run_results import assert_same, left

CONFIG = """
name: tiny
seed: 3
device: cpu
data: {name: iris}
model: {hidden: [6], dropout: 0.2}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.02}
train: {epochs: 3, batch_size: 30}
checkpoint: {every_seconds: 0}
sweep: {optimizer.lr: [1e-3, 2e-2], model.dropout: [0.0, 0.3]}
"""
LONG = ("train.epochs=400", "train.compile=false")
TWO = Workers(2)


def same(one: Path, other: Path) -> None:
    """Compare all runs below two directories, and what is told of all of them."""
    runs = [path.parent.relative_to(other) for path in other.rglob("checkpoints")]
    assert runs
    for run in runs:
        assert_same(one / run, left(other / run))
    assert json.loads((one / "summary.json").read_text()) == json.loads((other / "summary.json").read_text())
    assert not [*strangers(one)]


def made(directory: Path, workers: Workers | None, *overrides: str) -> Path:
    config = loads(CONFIG, overrides=overrides)
    begin = folds.run_all if config.sweep is None else run_sweep
    return begin(config, CONFIG, directory, progress_bar=False, workers=workers).directory


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        (
            "train.epochs=4",
            "sweep={halving: 2, optimizer.lr: [1e-4, 1e-3, 1e-2, 5e-2]}",
            "early_stopping={patience: 2}",
        ),
        ("train.folds=2", "sweep={optimizer.lr: [1e-3, 2e-2]}"),
        ("sweep=null", "train.folds=3", "train.compile=true"),
        ("sweep=null", "train.repeats=3", "train.ema=0.9"),
        ("sweep={model.hidden: [[4], [5, 3]], train.batch_size: [16, 45]}", "train.compile=true"),
    ],
    ids=["sweep", "halving", "sweep of folds", "folds", "repeats", "unlike"],
)
def test_two_processes_leave_what_one_leaves(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    same(made(tmp_path / "two", TWO, *overrides), made(tmp_path / "one", None, *overrides))


def test_the_pages_of_folds_are_written_by_whoever_trains_them(tmp_path: Path) -> None:
    place = made(tmp_path / "two", TWO, "sweep=null", "train.folds=2")
    assert all((place / name / "report.html").is_file() for name in ("", "fold-1", "fold-2"))


# ------------------------------------------------------------ trials that fail


def test_a_trial_that_diverges_fails_as_it_does_in_one_process(tmp_path: Path) -> None:
    rates = ["optimizer={name: SGD, lr: 1}", "sweep={optimizer.lr: [1e30, 2e-2, 1e-2]}"]
    for name, given in (("one", None), ("two", TWO)):
        made(tmp_path / name, given, *rates)
    found, expected = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("two", "one"))
    assert found == expected
    assert found["trials"][-1]["error"]


@pytest.mark.parametrize("more", [[], ["--jobs=2"]], ids=["one", "two"])
def test_where_all_fail_the_first_error_is_that_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.replace("Adam", "SGD"))
    given = [str(path), "--output", str(tmp_path / "s"), "--no-progress", *more]
    assert main([*given, "sweep={optimizer.lr: [1e30, 1e31]}"]) == 3
    assert "all 2 trials failed; the first: " in capsys.readouterr().err
    given[2] = str(tmp_path / "f")
    assert main([*given, "sweep=null", "train.folds=2", "optimizer.lr=1e30"]) == 3
    message = capsys.readouterr().err
    assert "first: " in message and "last good checkpoint" in message


# ------------------------------------------------------------ stopped, killed


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def begun(*arguments: object) -> subprocess.Popen[str]:
    """Begin training in a process of its own, where Ctrl-C reaches it and its workers, as in a terminal."""
    command = [sys.executable, "-m", "nanotorch.train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.02)


def is_under_way(root: Path, epochs: int = 5) -> bool:
    """Whether some trial has done some epochs, and none has ended."""
    return any(len(path.read_text().splitlines()) > epochs for path in root.glob("trial-*/metrics.jsonl"))


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that it has begun to train with."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"popen_loky" in command:
                found.append(int(child))
    return found


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long sweep that nobody stopped, of one process."""
    return made(tmp_path_factory.mktemp("whole") / "sweep", None, *LONG)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_that_is_said(config: Path, whole: Path, tmp_path: Path) -> None:
    process = begun(config, *LONG, "--jobs", 2, "--output", tmp_path / "s")
    wait_for(lambda: is_under_way(tmp_path / "s"))
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == "warning: a worker has died; what it had saved is taken, and others go on\n"
    same(tmp_path / "s", whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_has_all_workers_save_and_stop(
    config: Path, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = begun(config, *LONG, "--jobs", 2, "--output", tmp_path / "s")
    wait_for(lambda: is_under_way(tmp_path / "s"))
    children = workers_of(process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends it to all
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert err.count("\n") == 1 and f"{number.name}: stopped; " in err and f"--resume {tmp_path / 's'} goes on" in err
    assert len(children) == 2 and not any(map(is_alive, children))
    assert main([str(config), *LONG, "--resume", str(tmp_path / "s"), "--jobs=2", "--quiet"]) == 0
    same(tmp_path / "s", whole)


@pytest.mark.slow
def test_workers_end_when_who_asks_is_killed(config: Path, whole: Path, tmp_path: Path) -> None:
    process = begun(config, *LONG, "--jobs", 2, "--output", tmp_path / "s")
    wait_for(lambda: is_under_way(tmp_path / "s"))
    children = workers_of(process)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not any(map(is_alive, children)))
    assert not (tmp_path / "s" / "summary.json").exists()
    assert main([str(config), *LONG, "--resume", str(tmp_path / "s"), "--quiet"]) == 0
    same(tmp_path / "s", whole)


def die(task: Any) -> None:
    """What a worker does that the system stops."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_what_kills_every_worker_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_work", die)
    with pytest.raises(WorkersError, match=r"workers died 4 times over the same runs \(fold-..*take fewer of them"):
        made(tmp_path / "s", TWO, "sweep=null", "train.folds=2")


def test_a_directory_is_held_by_who_has_locked_it_and_has_not_given_it_up(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as files:
        assert is_held(tmp_path, files.holder)
        assert not is_held(tmp_path, "process 1 on another")
        files.give_up()
        assert not is_held(tmp_path, files.holder)
        with pytest.raises(RuntimeError, match=f"in use by {files.holder}:"), RunDirectory(tmp_path):
            pass
    assert not is_held(tmp_path, files.holder)
    (tmp_path / ".lock").write_text(f"{files.holder}\n")  # of one that was killed
    assert not is_held(tmp_path, files.holder)


# ------------------------------------------------------------ a cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """Two workers of Dask, which work in another directory."""
    with LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=":0", local_directory=str(tmp_path / "dask")
    ) as made:
        yield made


@pytest.mark.slow
def test_the_workers_of_a_cluster_leave_what_one_process_leaves(cluster: Any, tmp_path: Path) -> None:
    given = Workers(cluster=cluster.scheduler_address)
    for name, overrides in (("sweep", ()), ("folds", ("sweep=null", "train.folds=3"))):
        same(made(tmp_path / name, given, *overrides), made(tmp_path / f"{name} of one", None, *overrides))


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_is_killed_is_replaced(
    cluster: Any, config: Path, whole: Path, tmp_path: Path
) -> None:
    process = begun(config, *LONG, "--cluster", cluster.scheduler_address, "--output", tmp_path / "s")
    wait_for(lambda: is_under_way(tmp_path / "s"))
    os.kill(cluster.workers[0].pid, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count("\n") == 1 and "is gone; what it had saved is taken, and others go on" in err
    same(tmp_path / "s", whole)


@pytest.mark.slow
def test_an_interrupt_stops_the_workers_of_a_cluster(cluster: Any, config: Path, whole: Path, tmp_path: Path) -> None:
    process = begun(config, *LONG, "--cluster", cluster.scheduler_address, "--output", tmp_path / "s")
    wait_for(lambda: is_under_way(tmp_path / "s"))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert main([str(config), *LONG, "--resume", str(tmp_path / "s"), "--quiet"]) == 0
    same(tmp_path / "s", whole)


# ------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--jobs=0"], "--jobs 0: a number of processes is needed, or -1 for one per core"),
        (["--jobs=2", "--cluster=tcp://127.0.0.1:1"], "give one of them"),
        (["--jobs=2", "sweep=null"], "--jobs is for sweep, train.folds and train.repeats: this config is one run"),
        (["--cluster=nowhere://x"], "--cluster nowhere://x: no Dask scheduler answers there"),
    ],
)
def test_what_cannot_be_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    arguments = [str(config), *given, "--output", str(tmp_path / "s")]
    try:
        code = main(arguments)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        code = ended.code
    assert code in (1, 2)
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "s").exists()
