"""`python -m nanotorch.evaluate`: the scores that training printed, bit for bit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nanotorch.train.use.evaluation as evaluation
from fake_gpu import fake_gpu
from nanotorch.train.cli.evaluate import main
from nanotorch.train.cli.train import main as train
from own_runs import CLASSES, write_table
from own_runs import trained as own_run

IRIS = """\
name: iris
data: {name: iris}
model: {hidden: [8], batch_norm: true, dropout: 0.1}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 1e-2}
train: {epochs: 6, batch_size: 32, ema: 0.9}
"""
LINNERUD = """\
name: linnerud
data: {name: linnerud}
model: {hidden: [4], activation: Tanh}
loss: {name: HuberLoss}
optimizer: {name: SGD, lr: 1e-1}
train: {epochs: 4, batch_size: 5}
"""


def trained(folder: Path, text: str) -> Path:
    (folder / "config.yaml").write_text(text)
    assert train([str(folder / "config.yaml"), "--output", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("iris"), IRIS)


@pytest.mark.parametrize("text", [IRIS, LINNERUD], ids=["iris", "linnerud"])
def test_scores_are_those_of_training_bit_for_bit(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path, text)
    assert main([str(run), "--json"]) == 0
    printed = capsys.readouterr()
    found, summary = json.loads(printed.out), json.loads((run / "summary.json").read_text())
    assert found["scores"] == summary["scores"]
    assert found["rows"] == summary["rows"]
    assert found["epoch"] == summary["best_epoch"]
    assert printed.err == ""


def test_the_table_is_the_one_that_training_logged(iris: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(iris)]) == 0
    lines = capsys.readouterr().out.splitlines()
    log = (iris / "train.log").read_text()
    assert lines[0].startswith("iris: scores of epoch ")
    assert all(line in log for line in lines[1:])
    assert [line.split()[0] for line in lines[2:]] == ["train", "validation", "test"]


def test_one_part_and_another_checkpoint(iris: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(iris), "--part", "test", "--checkpoint", "last", "--json"]) == 0
    last = json.loads(capsys.readouterr().out)
    assert list(last["scores"]) == ["test"] and last["epoch"] == 6
    assert (
        main([str(iris), "--part", "test", "--checkpoint", str(iris / "checkpoints" / last["checkpoint"]), "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out) == last


def test_a_run_is_scored_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    run = own_run(tmp_path, "{file: table.csv, target: kind, drop: [id, price, sold]}", "CrossEntropyLoss").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main([str(run), "--json"]) == 0
    printed = capsys.readouterr()
    assert (
        json.loads(printed.out)["scores"] == json.loads((run / "summary.json").read_text())["scores"]
        and printed.err == ""
    )
    (tmp_path / "table.csv").unlink()
    assert main([str(run)]) == 1
    assert "error: table.csv: there is no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_another_environment_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path, LINNERUD)
    facts = json.loads((run / "env.json").read_text())
    (run / "env.json").write_text(json.dumps(facts | {"threads": ["openblas 64"]}))
    assert main([str(run), "--part", "test"]) == 0
    assert (
        "the last digits may not be those of training, for these have changed: threads: ['openblas 64'] -> "
        in capsys.readouterr().err
    )


def test_data_that_changed_are_said_to_have(
    iris: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nanotorch.train.fit.prepare import prepare

    monkeypatch.setattr(evaluation, "prepare", lambda config: prepare(config.model_copy(update={"seed": 1})))
    assert main([str(iris), "--part", "test"]) == 0
    assert "not what they were when the run was trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 2, "nowhere is not the directory of a run: there is no such directory"),
        (["."], 2, ". is not the directory of a run: it has no resolved.yaml"),
        (["RUN/checkpoints/best"], 2, "it is a checkpoint; give its run, and --checkpoint "),
        (["RUN/.."], 2, "is not the directory of a run; did you mean "),
        (["RUN", "--part", "holdout"], 2, "this run has no part 'holdout'; it has train, validation, test"),
        (["RUN", "--checkpoint", "nowhere"], 1, "nowhere"),
        (["RUN", "--device", "tpu"], 2, "expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_mistakes_are_sentences(
    iris: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("RUN", str(iris)) for word in arguments]) == code
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and printed.out == ""


def test_a_damaged_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path, LINNERUD)
    path = run / "checkpoints" / "best" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert main([str(run)]) == 1
    assert "model.safetensors is truncated" in capsys.readouterr().err


def test_a_run_of_a_gpu_is_scored_there_and_used_without_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_gpu():
        run = trained(tmp_path, IRIS + "device: cuda\n")
        assert main([str(run), "--json"]) == 0
    scores = json.loads((run / "summary.json").read_text())["scores"]
    assert json.loads(capsys.readouterr().out)["scores"] == scores
    assert main([str(run), "--part", "test", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["test"]["loss"] == pytest.approx(
        scores["test"]["loss"], rel=1e-5
    )


@pytest.fixture
def table_run(tmp_path: Path) -> Path:
    """A run whose scores need no scikit-learn, whose import takes longer than the rest."""
    return own_run(tmp_path, CLASSES, "CrossEntropyLoss")


def unnoted(printed: str) -> str:
    """What was printed but for the note that without scikit-learn another BLAS is there than in training."""
    return re.sub(r"^note: the last digits may not be those of training, .* blas: .*\n", "", printed)


@pytest.mark.slow
def test_a_full_disk_behind_standard_output_is_one_sentence(table_run: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "nanotorch.evaluate", str(table_run), "--part", "test"]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert process.returncode == 1 and unnoted(process.stderr) == "error: [Errno 28] No space left on device\n"


def test_a_reader_that_stops_reading_is_no_error(table_run: Path) -> None:
    command = f"{sys.executable} -m nanotorch.evaluate {table_run} --part test | true; echo ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert process.stdout == "0\n" and unnoted(process.stderr) == ""
