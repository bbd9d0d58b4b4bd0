"""Whose file it is: what a run may remove, write and follow in a directory that somebody else may have prepared."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.train.cli.compare import main as compare
from nanotorch.train.cli.export import main as export
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.cli.train import main
from nanotorch.train.record import directory
from nanotorch.train.record.environment import environment
from nanotorch.train.record.layout import strangers
from own_runs import write_table
from trainer_process import Ended, TrainerProcess

CONFIG = """\
name: own
seed: 1
device: cpu
data: {file: table.csv, target: kind, drop: [id, price, sold, city]}
model: {hidden: [4]}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.01}
train: {epochs: 2, batch_size: 40}
checkpoint: {every_seconds: 0}
log: {tensorboard: true}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a config and its table."""
    made = tmp_path_factory.mktemp("place")
    write_table(made / "table.csv", 60)
    (made / "own.yaml").write_text(CONFIG)
    return made


@pytest.fixture(scope="module")
def finished(trainer: TrainerProcess, place: Path) -> Path:
    """A complete run, not to be changed."""
    assert trainer("own.yaml", "--output", "run", cwd=str(place)).code == 0
    return place / "run"


@pytest.fixture(scope="module")
def folds(trainer: TrainerProcess, place: Path) -> Path:
    """Three runs in one directory, not to be changed."""
    assert trainer("own.yaml", "--output", "folds", "train.folds=3", "train.epochs=1", cwd=str(place)).code == 0
    return place / "folds"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path / "run")


@pytest.fixture
def train(trainer: TrainerProcess, place: Path) -> Callable[..., Ended]:
    """Train in the place of the config and the table."""
    return lambda *arguments, **plan: trainer("own.yaml", *arguments, **{"cwd": str(place), **plan})


def copied(run: Path, to: Path) -> Path:
    shutil.copytree(run, to, symlinks=True)
    return to


def contents(place: Path) -> dict[str, bytes | str | None]:
    """Everything below a directory: the bytes of files, the targets of links, None for directories and pipes."""
    found: dict[str, bytes | str | None] = {}
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def sentence(ended: Ended, code: int = 1) -> str:
    """What a command that failed said: one sentence."""
    assert ended.code == code and "Traceback" not in ended.err, ended
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1, ended.err
    return ended.err


# ------------------------------------------------------------ --overwrite


def test_every_name_that_a_run_writes_is_known(finished: Path, folds: Path) -> None:
    assert not [*strangers(finished), *strangers(folds)]


STRANGERS = [
    "thesis.tex",
    "notes/",
    ".git/HEAD",
    "resolved.yaml.bak",
    "resolved.yml",
    "runs/own/resolved.yaml",
    ".lock2",
    "train.log.1",
    "fold-x/a",
    "fold-1.zip",
    ".abc.writing",
    "checkpoints/notes",
    "checkpoints/step-abc/",
    "checkpoints/old/model.safetensors",
    "checkpoints/step-000002/model.bin",
    "checkpoints/step-000002/deeper/MANIFEST.json",
    "checkpoints/last.txt",
    "tensorboard/notes",
    "tensorboard/train/other.tfevents",
    "tensorboard/mine/",
    "fold-1/thesis.tex",
    "repeat-2-fold-3/checkpoints/x",
    "fold-1/.git/HEAD",
    "metrics.csv/a",
    "train.log/",
    "report.html/a",
]


def test_overwrite_leaves_what_no_run_wrote(train: Callable[..., Ended], finished: Path, tmp_path: Path) -> None:
    for number, name in enumerate(STRANGERS):
        run = copied(finished, tmp_path / str(number))
        if (run / name.split("/")[0]).is_file():
            (run / name.split("/")[0]).unlink()
        place = run / name
        place.mkdir(parents=True) if name.endswith("/") else place.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            place.write_text("mine")
        with pytest.raises(directory.DirectoryError, match=r"holds more than a run: |is a link, or no plain file"):
            directory.check(run.parent, run, overwrite=True)
        shutil.rmtree(run)
    run = copied(finished, tmp_path / "run")
    (run / "checkpoints" / "notes").write_text("mine")
    before = contents(run)
    assert "checkpoints/notes; --overwrite removes what a run wrote and nothing else" in sentence(
        train("--output", run, "--overwrite")
    )
    assert contents(run) == before


def test_overwrite_of_the_directory_one_is_in(
    trainer: TrainerProcess, place: Path, finished: Path, tmp_path: Path
) -> None:
    """The table, the config and .git lie beside the files of a run: nothing is removed."""
    here = copied(finished, tmp_path / "here")
    for name in ("own.yaml", "table.csv"):
        shutil.copy(place / name, here)
    (here / ".git").mkdir()
    (here / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    before = contents(here)
    (tmp_path / "link").symlink_to(here)
    for output, cwd in (
        (".", here),
        (here, here),
        ("../here", here),
        ("link", tmp_path),
        (tmp_path / "link" / ".", tmp_path),
    ):
        for more in ((), ("train.folds=3",)):
            message = sentence(
                trainer(
                    here / "own.yaml",
                    "--output",
                    output,
                    "--overwrite",
                    f"data.file={here / 'table.csv'}",
                    *more,
                    cwd=str(cwd),
                )
            )
            assert "is needed to train" in message
    assert contents(here) == before
    shutil.move(here / "own.yaml", tmp_path)
    shutil.move(here / "table.csv", tmp_path)
    assert "holds more than a run: .git;" in sentence(
        trainer("../own.yaml", "--output", ".", "--overwrite", "data.file=../table.csv", cwd=str(here))
    )
    shutil.rmtree(here / ".git")
    assert (
        trainer(
            "../own.yaml", "--output", ".", "--overwrite", "data.file=../table.csv", "train.epochs=1", cwd=str(here)
        ).code
        == 0
    )
    assert (here / "metrics.jsonl").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("several", [(), ("train.folds=2",)], ids=["one", "folds"])
def test_a_config_or_a_table_under_a_runs_names_stays(
    trainer: TrainerProcess, place: Path, run: Path, several: tuple[str, ...]
) -> None:
    shutil.copy(place / "table.csv", run / "metrics.csv")
    (run / "config.yaml").write_text(CONFIG)
    np.save(run / "X", np.ones((4, 2)))
    before = contents(run)
    for arguments in ((run / "config.yaml", "data.file=table.csv"), ("own.yaml", f"data.file={run / 'metrics.csv'}")):
        assert "is needed to train" in sentence(
            trainer(*arguments, "--output", run, "--overwrite", *several, cwd=str(place))
        )
    # Who goes on with a run needs its own config too, and that stays where it is.
    assert contents(run) == before


def test_overwrite_replaces_all_of_what_runs_wrote(train: Callable[..., Ended], folds: Path, tmp_path: Path) -> None:
    there = copied(folds, tmp_path / "there")
    (there / ".01234567.writing").write_text("half")
    (there / "fold-2" / "checkpoints" / ".step-000001.writing-77").mkdir()
    assert train("--output", there, "--overwrite", "train.epochs=1").code == 0
    assert not list(there.glob("fold-*")) and (there / "summary.json").exists()
    assert train("--output", there, "--overwrite", "train.folds=2", "train.epochs=1").code == 0
    assert sorted(path.name for path in there.iterdir() if path.is_dir()) == ["fold-1", "fold-2"]


def test_a_killed_overwrite_can_be_done_again(train: Callable[..., Ended], finished: Path, tmp_path: Path) -> None:
    for number in (1, 9, 19):
        there = copied(finished, tmp_path / str(number))
        assert train("--output", there, "--overwrite", "train.epochs=1", at=("file", number, 9)).code == -9
        assert train("--output", there, "--overwrite", "train.epochs=1").code == 0
        assert not list(strangers(there)) and (there / "metrics.jsonl").read_bytes().count(b"\n") == 1


# ------------------------------------------------------------ links


class Trap:
    """Something that has a name of a run's and is no file of the run's."""

    def __init__(self, folder: Path) -> None:
        self.victim, self.directory = folder / "victim", folder / "victims"
        self.directory.mkdir()
        self.victim.write_bytes(b"precious")
        (self.directory / "thesis.tex").write_bytes(b"precious")
        for name in ("train", "step-000002"):
            (self.directory / name).mkdir()
        self.before = contents(folder)
        self.folder = folder

    def set(self, place: Path, kind: str) -> None:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(place)
        elif kind == "hard":
            place.hardlink_to(self.victim)
        else:
            place.symlink_to(
                {"symbolic": self.victim, "device": "/dev/zero", "directory": self.directory, "nowhere": "nowhere"}[
                    kind
                ]
            )


FILES = [
    "config.yaml",
    "resolved.yaml",
    "env.json",
    "metrics.jsonl",
    "metrics.csv",
    "train.log",
    "summary.json",
    "report.html",
    "learning_curve.svg",
    "learning_curve.png",
    ".lock",
    "checkpoints/history.jsonl",
    "checkpoints/last",
    "checkpoints/best",
    "checkpoints/step-000002/MANIFEST.json",
    "checkpoints/step-000002/state.json",
    "checkpoints/step-000002/model.safetensors",
    "tensorboard/train/events.out.tfevents.1.nanotorch",
]
DIRECTORIES = ["checkpoints", "checkpoints/step-000002", "tensorboard", "tensorboard/train", "fold-1"]


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In the place of the config, for no longer than a minute: a device can be read without end."""
    monkeypatch.chdir(place)
    before = signal.signal(signal.SIGALRM, lambda number, frame: pytest.fail("this takes without end"))
    signal.alarm(60)
    yield place
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_nothing_is_written_or_read_through_a_link(
    here: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    trap = Trap(tmp_path / "elsewhere")
    for number, name in enumerate([*FILES, *DIRECTORIES]):
        for kind in ("symbolic", ("device", "pipe", "directory", "nowhere")[number % 4]):
            run = copied(finished, tmp_path / "run")
            trap.set(run / name, kind)
            before = contents(run)
            codes = [main(["own.yaml", "--resume", str(run), "train.epochs=3"])]
            if kind != "symbolic":
                codes += [
                    predict([str(run), "--input", "table.csv", "--output", str(tmp_path / "out.csv")]),
                    compare([str(run), str(finished)]),
                ]
            error = capsys.readouterr().err
            assert set(codes) <= {0, 1, 2} and "Traceback" not in error, (name, kind, error)
            assert contents(trap.folder) == trap.before, (name, kind)
            # `last` and `best` are links of a run's, and made anew.
            assert name in ("checkpoints/last", "checkpoints/best") or (codes[0] != 0 and contents(run) == before), (
                name,
                kind,
                error,
            )
            shutil.rmtree(run)


def test_a_file_with_a_second_name_is_replaced_or_refused(
    here: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    trap = Trap(tmp_path / "elsewhere")
    for name in (
        ".lock",
        "train.log",
        "metrics.jsonl",
        "env.json",
        "resolved.yaml",
        "checkpoints/history.jsonl",
        "checkpoints/last",
    ):
        run = copied(finished, tmp_path / "run")
        trap.set(run / name, "hard")
        code = main(["own.yaml", "--resume", str(run), "train.epochs=3"])
        assert code in (0, 1) and "Traceback" not in capsys.readouterr().err, name
        assert contents(trap.folder) == trap.before, name
        assert code == 1 or name == "train.log" or not (run / name).samefile(trap.victim), name
        shutil.rmtree(run)


# ------------------------------------------------------------ full disks


def test_a_full_disk_leaves_the_file_that_was_there(
    here: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run, rows = str(finished), ["--input", "table.csv"]
    commands: dict[str, Callable[[str], int]] = {
        "p.csv": lambda path: predict([run, *rows, "--output", path]),
        "p.parquet": lambda path: predict([run, *rows, "--output", path]),
        "e.onnx": lambda path: export([run, "--onnx", path]),
        "e.safetensors": lambda path: export([run, "--safetensors", path]),
        "c.html": lambda path: compare([run, str(copied(finished, tmp_path.parent / "other")), "--output", path]),
    }
    for name in commands:
        (tmp_path / name).write_text("older")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        for name, command in commands.items():
            assert command(str(tmp_path / name)) == 1
            assert capsys.readouterr().err.splitlines()[-1] == f"error: {tmp_path / name}: {os.strerror(errno.ENOSPC)}"
        with pytest.raises(OSError, match="No space") as caught:
            torch.save({"a": torch.ones(2)}, tmp_path / "p.csv")
        assert "None" not in str(caught.value) and str(tmp_path / "p.csv") in str(caught.value)
    assert contents(tmp_path) == dict.fromkeys(commands, b"older")
    for name, command in commands.items():
        shutil.rmtree(tmp_path.parent / "other", ignore_errors=True)
        assert command(str(tmp_path / name)) == 0
        assert (tmp_path / name).read_bytes() != b"older"


def test_what_stands_beside_exported_weights_replaces_only_its_own_kind(
    here: Path, finished: Path, tmp_path: Path
) -> None:
    assert (
        export([str(finished), "--safetensors", str(tmp_path / "m.bin")])
        == export([str(finished), "--safetensors", str(tmp_path / "m.bin")])
        == 0
    )
    for content in ("{}", "[]", "precious", ""):
        (tmp_path / "package.json").write_text(content)
        assert export([str(finished), "--safetensors", str(tmp_path / "package.bin")]) == 2
        assert (tmp_path / "package.json").read_text() == content and not (tmp_path / "package.bin").exists()


# ------------------------------------------------------------ who decides, holds the lock


def test_what_another_process_did_before_the_lock_is_seen(
    trainer: TrainerProcess,
    here: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A second `--resume auto` looks while the first one trains, and is let in when that has ended."""
    waiting = directory.RunDirectory.__enter__
    others: list[tuple[str, ...]] = []

    def slowly(self: directory.RunDirectory) -> directory.RunDirectory:
        monkeypatch.setattr(directory.RunDirectory, "__enter__", waiting)
        assert trainer("own.yaml", "--output", tmp_path / "run", *others.pop(), cwd=str(here)).code == 0
        return waiting(self)

    def second(*first: str) -> tuple[int, str, str]:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        assert trainer("own.yaml", "--output", tmp_path / "run", at=("step", 2, 9), cwd=str(here)).code == -9
        others.append(first)
        monkeypatch.setattr(directory.RunDirectory, "__enter__", slowly)
        capsys.readouterr()
        code = main(["own.yaml", "--output", str(tmp_path / "run"), "--resume", "auto"])
        assert not others and (tmp_path / "run" / "checkpoints" / "last").resolve().is_dir()
        assert not (tmp_path / "run" / ".lock").exists() and not list(strangers(tmp_path / "run"))
        return (code, *capsys.readouterr())

    code, out, _ = second("--resume", "auto")
    assert code == 0 and f"already complete: {tmp_path / 'run'}" in out
    code, _, error = second("--overwrite", "train.epochs=1")
    assert code == 0 or "in the meantime" in error
    code, _, error = second("--resume", "auto", "--allow-config-change", "optimizer.lr=0.02")
    assert code == 1 and "another process has gone on with this run, with another config, in the meantime" in error
    code, out, error = second("--resume", "auto", "train.epochs=1")
    assert code == 0 and "Traceback" not in error


# ------------------------------------------------------------ pictures


def test_the_picture_of_find_lr_is_checked_before_it_is_computed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    asked: list[str] = []
    monkeypatch.setattr("nanotorch.train.inspect.lr_finder.range_test", lambda config: asked.append(config.name))
    (tmp_path / "file").write_text("precious")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for output in ("file", "file/x", "nowhere"):
        assert main(["own.yaml", "--find-lr", "--output", str(tmp_path / output)]) == 1
        assert capsys.readouterr().err.startswith("error: ")
    assert not asked and sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere"]


def test_numbers_that_cannot_be_drawn_cost_no_run(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: object) -> str:
        raise OverflowError("cannot draw 1e400")

    monkeypatch.setattr("nanotorch.train.report.run_page.page", fails)
    assert main(["own.yaml", "--output", str(tmp_path / "run"), "train.epochs=1", "--quiet"]) == 0
    assert "report.html cannot be made (OverflowError: cannot draw 1e400)" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").is_file() and not (tmp_path / "run" / "report.html").exists()


# ------------------------------------------------------------ the commit


@pytest.mark.parametrize(
    ("files", "commit"),
    [
        ({"HEAD": "ref: refs/heads/main\n", "refs/heads/main": "a" * 40 + "\n"}, "a" * 40),
        ({"HEAD": "ref: refs/heads/main\n", "packed-refs": f"# packed\n{'b' * 40} refs/heads/main\n"}, "b" * 40),
        ({"HEAD": "c" * 40 + "\n"}, "c" * 40),
        ({"HEAD": "ref: refs/heads/main\n"}, None),
        ({"HEAD": "ref: ../../secret\n", "../secret": "not a commit\n"}, None),
        ({"HEAD": "\x00\xff"}, None),
        ({}, None),
    ],
)
def test_the_environment_knows_the_commit_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], commit: str | None
) -> None:
    (tmp_path / ".git").mkdir()
    for name, content in files.items():
        (tmp_path / ".git" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".git" / name).write_text(content, encoding="latin-1")
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    found = environment(torch.device("cpu"))
    assert found.get("git_commit") == commit
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", found["date"])
