"""Faults provoked for real: killed processes, full disks, damaged files, signals, closed pipes, missing libraries.

What can go wrong, what the trainer does then, and the test that makes it happen:

 1. SIGKILL while a checkpoint is written: the one before loads, leftovers go
    test_killed_at_every_call_that_changes_the_disk
 2. power loss: flushed before and after the renaming
    test_files_reach_the_disk_before_their_name_does
 3. disk full in a checkpoint: named, with bytes; old files intact
    test_a_full_disk_ends_the_run_and_keeps_what_was_saved
 4. disk full in metrics and log: said once, training goes on
    test_metrics_that_cannot_be_written_do_not_stop_training
 5. truncated checkpoint: the last good one is taken, and said
    test_a_damaged_checkpoint_is_passed_over_and_said
 6. flipped bit: the file is named
    test_damage_is_found_and_named
 7. file of another kind: refused, never unpickled
    test_a_pickle_is_refused_and_never_loaded
 8. hostile file: an error, whatever its checksum says
    test_hostile_files_are_refused
 9. checkpoint of another architecture: every name with both shapes
    test_a_checkpoint_of_another_architecture_is_listed
10. checkpoint of a newer format: says which version
    test_a_newer_format_says_so
11. resume with another config: the keys that differ
    test_a_changed_config_is_shown_and_needs_consent
12. resume of a finished run: "already complete", nothing is written
    test_a_finished_run_is_left_alone
13. resume in the middle of an epoch: bit for bit
    test_killed_at_every_step
14. checkpoint while accumulating: only between optimizer steps
    test_killed_within_a_step_a_validation_a_write_and_the_final_scores
15. SIGINT once, twice: saves, 130; leaves at once, files valid
    test_a_signal_in_any_phase
16. SIGTERM in any phase: saves, 143
    test_a_signal_in_any_phase
17. loss not finite: step, rows, layer, operation, line; 3
    test_the_first_operation_that_is_not_finite_is_named
22. dotted import path in the config: unknown name, nothing is imported
    test_an_import_path_is_no_name
23. name with a path in it, linked output: refused; links are followed
    test_names_that_lead_elsewhere_are_refused
24. two runs in one directory: the second names the first
    test_two_runs_in_one_directory
25. directory that is not empty: refused without --overwrite
    test_a_directory_in_use_is_not_overwritten_by_accident
26. no permission: said before anything is computed
    test_a_directory_without_permission_is_refused_before_training
27. closed pipe, plain terminal, C locale: no traceback, no bar, training goes on
    test_output_that_nobody_reads
28. too few rows, one class, constant: an error or defined behaviour
    test_odd_shapes_of_data
29. missing GPU: says which; auto alone falls back
    test_a_missing_gpu_is_an_error
32. same second, clock: directories differ, times are monotonic
    test_directories_of_the_same_second_differ
35. no network: says what to do, nothing partial is used
    test_no_network_is_one_sentence_that_says_what_to_do
36. optional library absent: feature off, with a hint
    test_no_extra_is_needed_for_a_run_and_its_figures
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanotorch.train.config import loading as config
from nanotorch.train.data import datasets
from nanotorch.train.data.split import split
from nanotorch.train.record import checkpoint, directory, resume
from nanotorch.train.record.checkpoint import CheckpointError
from nanotorch.train.run import run
from nanotorch.utils import files
from own_runs import write_table
from trainer_process import TrainerProcess

CONFIG = """\
name: faulty
seed: 1
device: cpu
data: {name: iris}
model: {hidden: [8], dropout: 0.1}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.01}
train: {epochs: 4, batch_size: 15, accumulate: 2}
checkpoint: {every_seconds: 0}
"""  # 90 rows: 6 batches, 3 steps an epoch


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "faulty.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def finished(trainer: TrainerProcess, given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, not to be changed."""
    place = tmp_path_factory.mktemp("finished") / "run"
    assert trainer(given, "--output", place, "checkpoint.keep=4").code == 0
    return place


@pytest.fixture
def stopped(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run as if it had been killed just before its end."""
    place = tmp_path / "stopped"
    shutil.copytree(finished, place, symlinks=True)
    (place / "summary.json").unlink()
    return place


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def saved(place: Path) -> list[str]:
    return [path.name for path in checkpoint.in_order(place / "checkpoints")]


def test_the_table_names_tests_that_exist() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert __doc__ is not None
    names = re.findall(r"\btest_\w+", __doc__)
    assert len(names) > 25
    assert not [name for name in names if f"def {name}(" not in text]


# ------------------------------------------------------------ full disks


def test_a_full_disk_ends_the_run_and_keeps_what_was_saved(
    trainer: TrainerProcess, given: Path, tmp_path: Path
) -> None:
    command = (given, "--output", tmp_path / "run", "model.hidden=[64, 64]")  # 19 kB of weights
    assert trainer(*command, at=("step", 5, signal.SIGTERM)).code == 143
    before = contents(tmp_path / "run" / "checkpoints")
    ended = trainer(*command, "--resume", "auto", file_size=12_000)
    assert ended.code == 1
    assert re.search(
        r"error: \S+step-000006 cannot be written: File too large \([\d,]+ bytes are needed, [\d,]+ are free", ended.err
    )
    assert ended.err.count("cannot be written") == 1
    assert "Traceback" not in ended.err
    after = contents(tmp_path / "run" / "checkpoints")
    assert after.pop("history.jsonl").startswith(before.pop("history.jsonl"))
    assert after == before
    assert not [path for path in (tmp_path / "run").rglob("*") if "writing" in path.name]
    assert trainer(*command, "--resume", "auto").code == 0


def test_metrics_that_cannot_be_written_do_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    append = files.append

    def on_a_full_disk(path: Path, content: str) -> None:
        if path.name in ("metrics.jsonl", "train.log"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(path, content)

    monkeypatch.setattr(files, "append", on_a_full_disk)
    result = run.run(config.loads(CONFIG), run_directory=tmp_path / "run")
    assert len(result.history) == 4
    errors = capsys.readouterr().err
    assert errors.count("cannot be written: No space left on device; training goes on") == 1
    # once more at the end, where there is room
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4


# ------------------------------------------------------------ damaged checkpoints


@pytest.mark.parametrize("cut", [0, 4, 50, -1])
def test_a_damaged_checkpoint_is_passed_over_and_said(
    trainer: TrainerProcess, given: Path, stopped: Path, cut: int
) -> None:
    whole = (stopped / "metrics.jsonl").read_text().splitlines()
    newest = stopped / "checkpoints" / "step-000012"
    good = (newest / "model.safetensors").read_bytes()
    (newest / "model.safetensors").write_bytes(good[:cut])
    length = len(good[:cut])
    ended = trainer(given, "--resume", newest)
    assert ended.code == 1
    assert (
        f"step-000012/model.safetensors is truncated: MANIFEST.json expects {len(good)} bytes, and it has {length}"
        in ended.err
    )
    ended = trainer(given, "checkpoint.keep=4", "--output", stopped, "--resume", "auto")
    assert ended.code == 0
    assert f"passing over a damaged checkpoint: {newest}/model.safetensors is truncated" in ended.err
    assert f"going on from {stopped}/checkpoints/step-000009, the newest that is whole" in ended.err
    again = (stopped / "metrics.jsonl").read_text().splitlines()
    assert [{**json.loads(line), "seconds": 0} for line in again] == [
        {**json.loads(line), "seconds": 0} for line in whole
    ]
    assert (newest / "model.safetensors").read_bytes() == good


def test_where_no_checkpoint_is_whole_there_is_nothing_to_go_on_with(
    trainer: TrainerProcess, given: Path, stopped: Path
) -> None:
    for path in (stopped / "checkpoints").glob("step-*"):
        (path / "state.json").unlink()
    ended = trainer(given, "--resume", stopped)
    assert ended.code == 1
    assert ended.err.count("passing over a damaged checkpoint") == 4
    assert "no checkpoint of" in ended.err


def test_a_lost_best_checkpoint_is_said(trainer: TrainerProcess, given: Path, stopped: Path) -> None:
    best = (stopped / "checkpoints" / "best").resolve()
    (best / "model.safetensors").write_bytes(b"")
    (stopped / "checkpoints" / "step-000012" / "model.safetensors").write_bytes(b"")
    last_whole = [name for name in saved(stopped) if name not in (best.name, "step-000012")][-1]
    ended = trainer(given, "--resume", stopped, "train.epochs=6")
    assert ended.code == 0, ended.err
    assert f"going on from {stopped}/checkpoints/{last_whole}" in ended.err
    assert checkpoint.load(stopped / "checkpoints" / "best")


class Canary:
    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["CANARY"],))


def test_a_pickle_is_refused_and_never_loaded(
    trainer: TrainerProcess, given: Path, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    newest = stopped / "checkpoints" / "step-000012"
    forge(newest, "model.safetensors", pickle.dumps(Canary()))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a safetensors file but a pickle"):
        checkpoint.load(newest)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Canary()))
    for content in (pickle.dumps(Canary()), b"PK\x03\x04", b"some text", b""):
        (tmp_path / "model.pkl").write_bytes(content)
        ended = trainer(given, "--resume", tmp_path / "model.pkl")
        assert ended.code == 1
        assert "is neither the directory of a run" in ended.err
        assert "nor a nanotorch checkpoint" in ended.err
    assert not (tmp_path / "canary").exists()


def forge(place: Path, name: str, content: bytes) -> None:
    """Put content into a checkpoint, with a checksum that fits."""
    (place / name).write_bytes(content)
    manifest = json.loads((place / "MANIFEST.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (place / "MANIFEST.json").write_text(json.dumps(manifest))


def with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "length of 2^60": struct.pack("<Q", 2**60) + b"{}",
    "negative shape": with_header({"a": {**F32, "shape": [-1]}}, bytes(4)),
    "overflowing shape": with_header({"a": {**F32, "shape": [2**63, 2**63]}}, bytes(4)),
    "overlapping tensors": with_header({"a": F32, "b": F32}, bytes(4)),
    "trailing bytes": with_header({"a": F32}, bytes(8)),
    "outside of the file": with_header({"a": {**F32, "data_offsets": [4, 8]}}, bytes(4)),
    "deep nesting": with_header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no JSON": with_header(b"{nonsense"),
    "a list": with_header([1, 2]),
    "many tensors": with_header(
        b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(100_000)) + b"}"
    )[:-1],
}
HOSTILE_JSON = {
    "deep nesting": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "a list": b"[]",
    "odd tuple": b'{"!tuple": 3}',
    "odd float": b'{"!float": []}',
    "odd dict": b'{"!dict": [[[], 1]]}',
    "not UTF-8": b"\xff\xfe",
    "empty": b"",
}


def test_hostile_files_are_refused(stopped: Path) -> None:
    place = stopped / "checkpoints" / "step-000012"
    good = {path.name: path.read_bytes() for path in place.iterdir()}
    cases = [("model.safetensors", name, content) for name, content in HOSTILE.items()]
    cases += [("state.json", name, content) for name, content in HOSTILE_JSON.items()]
    cases += [("optimizer.json", name, content) for name, content in HOSTILE_JSON.items()]
    for file, name, content in cases:
        forge(place, file, content)
        with pytest.raises(CheckpointError, match=r"step-000012") as caught:
            checkpoint.load(place)
        assert len(str(caught.value)) < 2000, name
        (place / file).write_bytes(good[file])
        (place / "MANIFEST.json").write_bytes(good["MANIFEST.json"])
    assert checkpoint.load(place).state["epoch"] == 4


def test_a_state_that_says_nothing_is_refused(trainer: TrainerProcess, given: Path, stopped: Path) -> None:
    for content, message in (
        (b"{}", "epoch is missing"),
        (b'{"best": {"epoch": 1}, "epoch": []}', "epoch: should be a valid integer"),
    ):
        for place in (stopped / "checkpoints").glob("step-*"):
            forge(place, "state.json", content)
        ended = trainer(given, "--resume", stopped)
        assert ended.code == 1
        assert f"state.json: {message}" in ended.err
        assert "Traceback" not in ended.err


def test_flipped_bytes_of_a_manifest_never_get_through(stopped: Path) -> None:
    place = stopped / "checkpoints" / "step-000012"
    good = (place / "MANIFEST.json").read_bytes()
    for position in range(0, len(good), 3):
        for bit in (1, 32):
            (place / "MANIFEST.json").write_bytes(
                good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :]
            )
            try:
                loaded = checkpoint.load(place)
            except CheckpointError:
                continue
            assert loaded.state["step"] == 12  # a space became another one


def test_a_newer_format_says_so(trainer: TrainerProcess, given: Path, stopped: Path) -> None:
    for place in (stopped / "checkpoints").glob("step-*"):
        manifest = json.loads((place / "MANIFEST.json").read_text())
        (place / "MANIFEST.json").write_text(json.dumps({**manifest, "version": 7}))
    ended = trainer(given, "--resume", stopped / "checkpoints" / "last")
    assert ended.code == 1
    assert "has format version 7, and this nanotorch reads version 2 and those before" in ended.err


def test_a_checkpoint_of_another_architecture_is_listed(trainer: TrainerProcess, given: Path, stopped: Path) -> None:
    before = contents(stopped)
    ended = trainer(given, "--resume", stopped, "--allow-config-change", "model.hidden=[6, 5]", "train.epochs=9")
    assert ended.code == 1
    for line in (
        "0.weight: (8, 4) in the checkpoint, (6, 4) in the model",
        "0.bias: (8,) in the checkpoint, (6,) in the model",
        "6.weight: absent in the checkpoint, (3, 5) in the model",
    ):
        assert line in ended.err
    assert contents(stopped) == before


# ------------------------------------------------------------ what may change when a run goes on


def test_a_changed_config_is_shown_and_needs_consent(trainer: TrainerProcess, given: Path, stopped: Path) -> None:
    before = contents(stopped)
    changes = ("optimizer.lr=0.5", "model.dropout=0.2", "train.epochs=5")
    ended = trainer(given, "--resume", stopped, *changes)
    assert ended.code == 1
    assert "was trained with another config:\n  model.dropout: 0.1 -> 0.2\n  optimizer.lr: 0.01 -> 0.5\n" in ended.err
    assert "epochs" not in ended.err  # what only decides how long
    assert contents(stopped) == before
    assert trainer(given, "--resume", stopped, *changes, "--allow-config-change").code == 0
    last = checkpoint.load(stopped / "checkpoints" / "last")
    assert (last.state["epoch"], last.optimizer["param_groups"][0]["lr"]) == (5, 0.5)
    log = (stopped / "train.log").read_text()
    assert "changed: optimizer.lr: 0.01 -> 0.5" in log
    assert "changed: train.epochs: 4 -> 5" in log


def test_with_consent_the_new_schedule_and_optimizer_hold(trainer: TrainerProcess, given: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    command = (given, "--output", place, "--resume", "auto", "train.epochs=6", "checkpoint.keep=9")
    assert (
        trainer(*command, "scheduler={name: StepLR, step_size: 1, gamma: 0.5}", at=("step", 7, signal.SIGTERM)).code
        == 143
    )
    ended = trainer(
        *command, "scheduler={name: StepLR, step_size: 1, gamma: 0.1}", "--allow-config-change", "train.ema=0.9"
    )
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in lines] == pytest.approx([1e-2, 5e-3, 2.5e-3, 1e-5, 1e-6, 1e-7])
    ended = trainer(*command, "optimizer={name: SGD, lr: 0.02}", "--allow-config-change", "train.epochs=7")
    assert ended.code == 0, ended.err
    last = checkpoint.load(place / "checkpoints" / "last")
    assert (last.state["optimizer"], last.optimizer["param_groups"][0]["lr"]) == ("SGD", 0.02)


@pytest.mark.parametrize("warmup", [0, 2])
def test_a_schedule_made_for_the_length_of_the_run_is_made_anew_for_more_epochs(
    trainer: TrainerProcess, given: Path, tmp_path: Path, warmup: int
) -> None:
    schedule = f"scheduler={{name: OneCycleLR, max_lr: 0.1, interval: step, warmup: {warmup}}}"
    for name, epochs in (("run", 4), ("whole", 6)):
        assert trainer(given, "--output", tmp_path / name, schedule, f"train.epochs={epochs}").code == 0
    ended = trainer(given, "--resume", tmp_path / "run", schedule, "train.epochs=6")
    assert ended.code == 0, ended.err
    rates = []
    for name in ("run", "whole"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        rates.append([json.loads(line)["learning_rate"] for line in lines])
    assert rates[0][5:] == pytest.approx(rates[1][5:])  # the first epochs had the schedule of the shorter run


def test_more_epochs_continue_a_finished_run(
    trainer: TrainerProcess, given: Path, stopped: Path, tmp_path: Path
) -> None:
    (stopped / "summary.json").write_text("{}")
    ended = trainer(given, "--resume", stopped, "train.epochs=6")
    assert ended.code == 0, ended.err
    assert trainer(given, "--output", tmp_path / "whole", "train.epochs=6").code == 0
    names = ("model.safetensors", "optimizer.safetensors")
    for link in ("last", "best"):
        one, other = (place / "checkpoints" / link for place in (stopped, tmp_path / "whole"))
        assert [(one / name).read_bytes() for name in names] == [(other / name).read_bytes() for name in names]


def test_a_finished_run_is_left_alone(trainer: TrainerProcess, given: Path, finished: Path) -> None:
    before = contents(finished)
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    for where in ("auto", finished, finished / "checkpoints" / "last"):
        ended = trainer(given, "checkpoint.keep=4", "--output", finished, "--resume", where)
        assert ended.code == 0 and ended.out.startswith(f"already complete: {finished} (")
        assert ended.out.endswith(" epochs; a larger train.epochs goes on)\n")
    assert contents(finished) == before
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == times


def test_a_finished_run_without_its_checkpoints_is_not_trained_anew(
    trainer: TrainerProcess, given: Path, finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))
    shutil.rmtree(run / "checkpoints")
    before = contents(run)
    for where in ("auto", run):
        ended = trainer(given, "checkpoint.keep=4", "--output", run, "--resume", where)
        assert ended.code == 1 and "says that the run is complete, but its checkpoints are gone" in ended.err
    assert contents(run) == before


def test_an_explicit_older_checkpoint_replaces_the_future(trainer: TrainerProcess, given: Path, stopped: Path) -> None:
    ended = trainer(given, "--resume", stopped / "checkpoints" / "step-000006", at=("step", 1, signal.SIGTERM))
    assert ended.code == 143
    assert (stopped / "checkpoints" / "last").resolve().name == "step-000007"
    assert "step-000012" not in saved(stopped)


def test_a_changed_environment_warns(trainer: TrainerProcess, given: Path, stopped: Path) -> None:
    environment = json.loads((stopped / "env.json").read_text())
    environment["libraries"]["numpy"] = "1.0"
    environment["threads"] = ["openblas 64"]
    (stopped / "env.json").write_text(json.dumps(environment))
    ended = trainer(given, "--resume", stopped, "train.epochs=5")
    assert ended.code == 0
    assert f"since this changed: numpy: 1.0 -> {np.__version__}; threads: ['openblas 64'] -> " in ended.err
    assert json.loads((stopped / "env.json").read_text())["before"]["threads"] == ["openblas 64"]


def test_a_drawn_seed_is_taken_again(trainer: TrainerProcess, given: Path, tmp_path: Path) -> None:
    command = (given, "--output", tmp_path / "run", "seed=null", "--resume", "auto")
    assert trainer(*command, at=("step", 4, signal.SIGKILL)).code == -9
    seed = resume.config_of(tmp_path / "run").seed
    ended = trainer(*command)
    assert ended.code == 0, ended.err
    assert resume.config_of(tmp_path / "run").seed == seed
    assert trainer(given, "--output", tmp_path / "same", f"seed={seed}").code == 0
    for place in ("run", "same"):
        assert (tmp_path / place / "summary.json").exists()
    files = [tmp_path / place / "checkpoints" / "last" / "model.safetensors" for place in ("run", "same")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_resume_says_what_it_cannot_find(trainer: TrainerProcess, given: Path, finished: Path, tmp_path: Path) -> None:
    for where, message in (
        (tmp_path / "nothing", "does not exist: --resume takes"),
        (tmp_path, "is neither the directory of a run"),
        (finished / "checkpoints" / "step-000099", "does not exist"),
    ):
        ended = trainer(given, "--resume", where)
        assert ended.code == 1
        assert message in ended.err
    ended = trainer(given, "--resume", finished, "--output", tmp_path / "elsewhere")
    assert "goes on in its own directory" in ended.err
    assert trainer(given, "--resume", "auto", f"output={tmp_path / 'runs'}").out.startswith(
        "nothing to resume: a new run begins\n"
    )


def test_auto_takes_the_newest_run_of_that_very_name(tmp_path: Path) -> None:
    for name in (
        "a-20260101T000000Z-ffff",
        "a-20260102T000000Z-0000",
        "a-b-20270101T000000Z-0000",
        "a-20280101T000000Z-1111",
    ):
        (tmp_path / name).mkdir()
        if "2028" not in name:  # that one was killed before it wrote anything
            (tmp_path / name / "resolved.yaml").touch()
    found = resume.find(config.loads(CONFIG, overrides=["name=a", f"output={tmp_path}"]), "auto", None)
    assert found is not None
    assert found.directory.name == "a-20260102T000000Z-0000"


# ------------------------------------------------------------ signals


@pytest.mark.parametrize(
    "number, at, message",
    [
        (signal.SIGTERM, ("load", 1), "SIGTERM: stopped before the first step; nothing was written"),
        (signal.SIGINT, ("loss", 3), "SIGINT: stopped after step 2, in epoch 1 of 4"),  # in the middle of a window
        (signal.SIGTERM, ("step", 4), "SIGTERM: stopped after step 4, in epoch 2 of 4"),
        (signal.SIGTERM, ("evaluate", 2), "SIGTERM: stopped after step 6, in epoch 2 of 4"),
        (signal.SIGINT, ("write", 3), "SIGINT: stopped after step 3, in epoch 1 of 4"),
        (signal.SIGTERM, ("file", 12), "SIGTERM: stopped after step"),
        (signal.SIGINT, ("scores", 2), "SIGINT: stopped after the last step, before the scores were complete"),
    ],
    ids=["load", "window", "step", "evaluation", "write", "file", "scores"],
)
@pytest.mark.slow
def test_a_signal_in_any_phase(
    trainer: TrainerProcess, given: Path, finished: Path, tmp_path: Path, number: int, at: tuple[str, int], message: str
) -> None:
    place = tmp_path / "run"
    command = (given, "--output", place, "--resume", "auto", "checkpoint.keep=4")
    ended = trainer(*command, at=(*at, number))
    assert ended.code == 128 + number
    assert message in ended.err
    assert "Traceback" not in ended.err
    if at[0] == "load":
        assert not place.exists()
        return
    assert checkpoint.load(place / "checkpoints" / "last").state["step"] > 0
    # The same signal twice: the second acts at once.
    ended = trainer(*command, at=[("step", 1, number), ("step", 1, number)])
    if at[0] != "scores":
        assert ended.code == (130 if number == signal.SIGINT else -signal.SIGTERM)
        assert "Traceback" not in ended.err
    checkpoint.load(place / "checkpoints" / "last")
    ended = trainer(*command)
    assert ended.code == 0, ended.err
    for link in ("last", "best"):
        one, other = (which / "checkpoints" / link / "model.safetensors" for which in (place, finished))
        assert one.read_bytes() == other.read_bytes()


def test_a_second_ctrl_c_during_a_slow_save_leaves_valid_files(
    trainer: TrainerProcess, given: Path, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    assert trainer(given, "--output", place, at=[("step", 5, signal.SIGINT), ("write", 7, signal.SIGINT)]).code == 130
    assert saved(place) == ["step-000003"]
    assert not [path for path in place.rglob("*") if "writing" in path.name]
    assert checkpoint.load(place / "checkpoints" / "last").state["step"] == 3


# ------------------------------------------------------------ values that are not finite


def test_the_first_operation_that_is_not_finite_is_named(trainer: TrainerProcess, given: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    changes = ("optimizer={name: SGD, lr: 0.01}", "scheduler={name: ExponentialLR, gamma: 1e20}", "model.dropout=0.4")
    ended = trainer(given, "--output", place, *changes, "checkpoint.every_steps=1")
    assert ended.code == 3
    match = re.search(
        r"the (training loss is (nan|inf) at|weights of .* are not finite after) step (\d), in epoch \d", ended.err
    )
    assert match, ended.err
    step = int(match[3])
    assert re.search(r"first: .* returned (inf|nan) values", ended.err)
    assert "in layer '" in ended.err
    assert 'called at "' in ended.err
    last = checkpoint.load(place / "checkpoints" / "last")
    assert f"last good checkpoint: {place / 'checkpoints' / 'last'}" in ended.err
    assert last.state["step"] < step
    assert all(np.isfinite(tensor.numpy()).all() for tensor in last.model.values())
    rows = re.search(rf"rows of step {step}: (.*)", (place / "train.log").read_text())
    assert rows
    assert len({int(row) for row in rows[1].split(",")}) == 30
    # The rows are those of the step: training to it once more sees just these.
    assert rows[1] == rows_of_step(step)


def rows_of_step(step: int) -> str:
    from sklearn.datasets import load_iris

    from nanotorch.ops.create.random import Generator
    from nanotorch.train.fit.random_numbers import seeds

    order = Generator().manual_seed(seeds(1, 3)[2]).numpy
    for _ in range((step - 1) // 3 + 1):
        permutation = order.permutation(90)
    start = 30 * ((step - 1) % 3)
    features = load_iris().data
    train = split(datasets.load("iris", {}, 1), 0.2, 0.2, 1).train
    assert train.numbers is not None
    assert np.array_equal(features[train.numbers], train.features)
    return ", ".join(map(str, train.numbers[permutation[start : start + 30]].tolist()))


def test_a_validation_loss_that_is_not_finite_is_explained(
    trainer: TrainerProcess, given: Path, tmp_path: Path
) -> None:
    ended = trainer(
        given, "--output", tmp_path / "run", "optimizer={name: SGD, lr: 1e20}", "train.epochs=3", "train.batch_size=90"
    )
    assert ended.code == 3
    assert "first: " in ended.err


# ------------------------------------------------------------ the config


def test_an_import_path_is_no_name(trainer: TrainerProcess, given: Path) -> None:
    ended = trainer(given, "optimizer={name: os.system}")
    assert ended.code == 2
    assert "unknown optimizer 'os.system'" in ended.err


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a/b", "..", "nul", "a\\b", "~root", "-rf"])
def test_names_that_lead_elsewhere_are_refused(trainer: TrainerProcess, given: Path, tmp_path: Path, name: str) -> None:
    ended = trainer(given, f"name='{name}'", f"output={tmp_path / 'runs'}")
    assert ended.code == 2
    assert "name: " in ended.err
    assert not list(tmp_path.iterdir())


def test_a_linked_output_is_followed(trainer: TrainerProcess, given: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert trainer(given, f"output={tmp_path / 'link'}", "train.epochs=1").code == 0
    assert trainer(given, "--output", tmp_path / "link", "train.epochs=1").code == 1  # it is not empty
    (made,) = (tmp_path / "real").iterdir()
    assert (made / "summary.json").exists()
    (tmp_path / "nowhere").symlink_to("missing")
    for arguments in ((f"output={tmp_path / 'nowhere'}",), ("--output", tmp_path / "nowhere")):
        ended = trainer(given, *arguments)
        assert ended.code == 1
        assert "nowhere is a link to missing, which does not exist" in ended.err


# ------------------------------------------------------------ directories


def test_two_runs_in_one_directory(trainer: TrainerProcess, given: Path, stopped: Path, tmp_path: Path) -> None:
    with directory.RunDirectory(stopped):
        ended = trainer(given, "--resume", stopped, "train.epochs=9")
        assert ended.code == 1
        assert f"{stopped} is in use by process {os.getpid()} on {os.uname().nodename}" in ended.err
    assert not (stopped / ".lock").exists()
    assert trainer(given, "--output", tmp_path / "killed", at=("step", 1, signal.SIGKILL)).code == -9
    ended = trainer(given, "--output", tmp_path / "killed", "--resume", "auto")
    assert ended.code == 0
    assert re.search(r"note: process \d+ on \S+ ended without giving \S+killed back; its lock is broken", ended.err)
    assert not (tmp_path / "killed" / ".lock").exists()


def test_a_directory_in_use_is_not_overwritten_by_accident(
    trainer: TrainerProcess, given: Path, stopped: Path, tmp_path: Path
) -> None:
    before = contents(stopped)
    ended = trainer(given, "--output", stopped)
    assert ended.code == 1
    assert "is not empty: give another --output, or --overwrite to replace the run in it, or --resume auto" in ended.err
    # What cannot be trained does not cost the run that is there.
    ended = trainer(given, "--output", stopped, "--overwrite", "train.batch_size=500", "train.drop_last=true")
    assert ended.code == 2
    assert contents(stopped) == before
    (stopped / "checkpoints" / "notes").touch()
    ended = trainer(given, "--output", stopped, "--overwrite", "train.epochs=1")
    assert ended.code == 1
    assert (
        "holds more than a run: checkpoints/notes; --overwrite removes what a run wrote and nothing else" in ended.err
    )
    (stopped / "checkpoints" / "notes").unlink()
    assert contents(stopped) == before
    assert trainer(given, "--output", stopped, "--overwrite", "train.epochs=1").code == 0
    assert len((stopped / "metrics.jsonl").read_text().splitlines()) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    ended = trainer(given, "--output", tmp_path / "mine", "--overwrite")
    assert ended.code == 1
    assert "holds no run" in ended.err
    ended = trainer(given, "--output", tmp_path / "mine" / "thesis.tex")
    assert "thesis.tex is not a directory" in ended.err
    assert trainer(given, "--output", stopped, "--overwrite", "--resume", "auto").code == 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody without permissions")
def test_a_directory_without_permission_is_refused_before_training(trainer: TrainerProcess, given: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copy(given, place / "faulty.yaml")
        (place / "faulty.yaml").chmod(0o644)
        for arguments in ((f"output={place / 'runs'}",), ("--output", place / "run"), ("--output", place)):
            ended = trainer(place / "faulty.yaml", *arguments, uid=65534, at=("load", 1, signal.SIGKILL))
            assert ended.code == 1  # and not killed where it loads the data
            assert re.search(r"cannot be written to \(no permission|is not empty", ended.err)
            assert "Traceback" not in ended.err


# ------------------------------------------------------------ output


@pytest.mark.parametrize(
    "end",
    [
        "| head -1",
        *(pytest.param(end, marks=pytest.mark.slow) for end in (">&-", "> /dev/full", "2>&1 | head -0", "2>&-")),
    ],
)
def test_output_that_nobody_reads(given: Path, tmp_path: Path, end: str) -> None:
    if "full" in end and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    write_table(tmp_path / "table.csv")  # without scikit-learn, whose import takes longer than the rest
    table = f"{{file: {tmp_path / 'table.csv'}, target: sold, task: classification, drop: [id]}}"
    data = f"'data={table}' loss.name=BCEWithLogitsLoss"
    train = f"{sys.executable} -m nanotorch.train {given} --output {tmp_path / 'run'} train.epochs=2 {data}"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TERM": "dumb"}
    command = f"{train} {end}; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, env=environment, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("epoch 1/2") == (end in ("| head -1", "2>&-"))
    assert (tmp_path / "run" / "summary.json").exists()


# ------------------------------------------------------------ data and devices


@pytest.mark.parametrize(
    "changes, code, message",
    [
        (["train.batch_size=5000"], 0, ""),
        (
            ["train.batch_size=5000", "train.drop_last=true"],
            2,
            "train.drop_last: drops the only batch: 90 rows are fewer",
        ),
        (["train.batch_size=1"], 0, ""),
        (["train.batch_size=1", "model.batch_norm=true"], 2, "batch normalisation needs 2 rows or more"),
        (["train.batch_size=89", "model.batch_norm=true"], 2, "batch norm"),  # the last batch has one row
        (["train.batch_size=89", "model.batch_norm=true", "train.drop_last=true"], 0, ""),
        (["train.accumulate=1000"], 0, ""),
        (["data={name: digits, n_class: 1}"], 2, "n_class"),
    ],
)
def test_odd_shapes_of_data(
    trainer: TrainerProcess, given: Path, tmp_path: Path, changes: list[str], code: int, message: str
) -> None:
    ended = trainer(given, "--output", tmp_path / "run", "train.epochs=1", *changes)
    assert ended.code == code, ended.err
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert (tmp_path / "run").exists() == (code == 0)


def test_a_missing_gpu_is_an_error(trainer: TrainerProcess, given: Path, tmp_path: Path) -> None:
    ended = trainer(given, "--output", tmp_path / "run", "--device", "cuda:7")
    assert ended.code == 1
    assert "device 'cuda:7' cannot be used" in ended.err
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------ optional libraries


def test_no_extra_is_needed_for_a_run_and_its_figures(trainer: TrainerProcess, given: Path, tmp_path: Path) -> None:
    ended = trainer(
        given, "--output", tmp_path / "run", "train.epochs=1", without=["matplotlib", "pandas", "onnx", "tensorboard"]
    )
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "learning_curve.svg").exists()


@pytest.mark.parametrize("library", ["sklearn", "safetensors"])
def test_without_what_it_needs_the_trainer_says_what_to_install(
    trainer: TrainerProcess, given: Path, tmp_path: Path, library: str
) -> None:
    ended = trainer(given, "--output", tmp_path / "run", without=[library])
    assert ended.code == 1
    assert "pip install" in ended.err
    assert "Traceback" not in ended.err


def test_the_seconds_of_an_epoch_survive_a_clock_that_jumps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    result = run.run(config.loads(CONFIG), run_directory=tmp_path / "run")
    assert all(0 < record["seconds"] < 60 for record in result.history)
