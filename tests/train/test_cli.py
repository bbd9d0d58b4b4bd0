"""The command line: what it prints, what it imports, and how it exits."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nanotorch.train.run.folds  # noqa: F401  (it must not remember what a test puts in the place of run)
from nanotorch.registry import DATASETS, OPTIMIZERS
from nanotorch.train.cli.train import KINDS, main
from nanotorch.train.config.loading import load
from nanotorch.train.config.sections import REGISTRIES, Config
from nanotorch.train.data.table import DataError
from nanotorch.train.fit import loop
from nanotorch.train.run import run as run_module
from nanotorch.train.terminal.interrupt import TrainingInterrupted
from own_runs import write_table

GOOD = """\
name: iris
data: {name: iris}
model: {hidden: [8]}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 1e-2}
train: {epochs: 2, batch_size: 32}
"""


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    return str(path)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Instead of training, remember what was asked for."""
    calls: list[Any] = []
    monkeypatch.setattr(run_module, "run", lambda *args, **kwargs: calls.append((*args, kwargs)))
    return calls


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nanotorch.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


# ------------------------------------------------------------ what is imported, and how fast


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "compare", "export", "ops"])
def test_help_fits_80_columns_and_imports_nothing_heavy(command: str) -> None:
    code = f"""
import runpy, sys
sys.argv = ["nanotorch.{command}", "--help"]
try:
    runpy.run_module("nanotorch.{command}", run_name="__main__")
except SystemExit as stopped:
    assert stopped.code == 0
heavy = {{"sklearn", "scipy", "yaml", "pydantic", "tqdm", "matplotlib", "safetensors", "onnx", "pyarrow"}}
heavy |= {{"pandas", "cupy", "torch"}}
print(sorted(heavy & set(sys.modules)))
"""
    environment = {**os.environ, "COLUMNS": "80"}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.startswith(f"usage: python -m nanotorch.{command}")
    assert process.stdout.endswith("[]\n")
    assert not [line for line in process.stdout.splitlines() if len(line) > 80]


def test_validate_and_print_config_do_not_import_scikit_learn(good: str) -> None:
    code = f"""
import sys
from nanotorch.train.cli.train import main
assert main([{good!r}, "--validate"]) == 0
assert main([{good!r}, "--print-config"]) == 0
assert main(["--list"]) == 0
assert not {{"sklearn", "scipy", "matplotlib", "tqdm"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# ------------------------------------------------------------ printing


def test_validate(good: str, capsys: pytest.CaptureFixture[str], trained: list[Any]) -> None:
    assert main([good, "--validate"]) == 0
    assert capsys.readouterr().out == f"{good}: valid\n"
    assert main([good, "train.epochs=0", "--validate"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("override 'train.epochs=0': train.epochs: expected int >= 1 or 'auto', got 0\n")
    assert not trained


def test_print_config_round_trips(good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([good, "--print-config", "seed=5", "optimizer.eps=1e-7"]) == 0
    printed = capsys.readouterr().out
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert load(again) == load(good, ["seed=5", "optimizer.eps=1e-7"])
    assert main([str(again), "--print-config"]) == 0
    assert capsys.readouterr().out == printed


def test_the_config_can_come_from_standard_input(
    good: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(GOOD.encode() + b"sed: 3\n")))
    assert main(["-", "--validate"]) == 2
    assert capsys.readouterr().err.startswith("<stdin>:7:1: sed: unknown key (did you mean 'seed'?)\n")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    everything = capsys.readouterr().out
    for kind in KINDS:
        assert main(["--list", kind]) == 0
        part = capsys.readouterr().out
        assert part in everything
        assert part.startswith(f"{kind}:\n  ")
    for name in (*DATASETS, *OPTIMIZERS):
        assert f"\n  {name}: " in everything
    assert "\n  digits: 1,797 handwritten digits" in everything
    assert "\n      n_class=10 (int >= 2 and <= 10)\n" in everything
    assert max(map(len, everything.splitlines())) < 130
    assert "\n      lr=0.001 (float >= 0), betas=[0.9, 0.999] (list of 2 float >= 0 and < 1)," in everything


def test_the_kinds_are_those_of_the_config() -> None:
    assert tuple(REGISTRIES) == KINDS


# ------------------------------------------------------------ options


def test_options_may_stand_anywhere(good: str, trained: list[tuple[Config, str, dict[str, Any]]]) -> None:
    assert main(["--no-progress", good, "seed=3", "--device", "cpu", "train.epochs=4", "output='1: é'"]) == 0
    ((config, text, options),) = trained
    assert (config.seed, config.device, config.train.epochs, config.output) == (3, "cpu", 4, "1: é")
    assert text == GOOD
    assert options == {"progress_bar": False, "run_directory": None, "overwrite": False, "needed": [good]}


def test_quiet_prints_nothing(good: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run_module, "run", lambda *args, **kwargs: print("chatter"))
    assert main([good, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main([good]) == 0
    assert capsys.readouterr().out == "chatter\n"


# ------------------------------------------------------------ exit codes


@pytest.mark.parametrize(
    "arguments", [[], ["--nonsense"], ["--list", "spoons"], ["--output"], ["--output", ""], ["--quie"]]
)
def test_bad_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m nanotorch.train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["missing.yaml"], "missing.yaml: cannot be read: No such file or directory\n"),
        (["."], ".: cannot be read: Is a directory\n"),
        (["a\0b"], "a b: cannot be read: embedded null byte\n"),
        (["{good}", "--device", "gpu"], "override 'device=\"gpu\"': device: expected auto, cpu, cuda or cuda:N"),
        (["{good}", "output=''"], "override 'output=''': output: expected the path of a directory"),
        (["{good}", "nonsense"], "override 'nonsense': an override is written key=value"),
        (["{good}", "name=\udcff"], "override 'name= ': name: the character U+DCFF is not allowed in YAML"),
        (["{good}", "\udcff=1"], "override ' =1': an override is written key=value"),
    ],
)
def test_a_bad_config_is_2(
    arguments: list[str], expected: str, good: str, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(good=good) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(expected)
    assert not trained


def test_problems_are_counted(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([good, "a=1", "b=1"]) == 2
    assert capsys.readouterr().err.endswith("\n\n2 problems in the config\n")


def failing(error: BaseException) -> Callable[..., None]:
    def run(*args: Any, **kwargs: Any) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("dataset 'x': gone"), 1, "error: dataset 'x': gone\n"),
        (RuntimeError("no such device"), 1, "error: no such device\n"),
        (OSError(28, "No space left on device", "runs"), 1, "error: runs: No space left on device\n"),
        (MemoryError(), 1, "error: MemoryError\n"),
        (loop.DivergedError("the loss is nan"), 3, "the loss is nan\n"),
        (TrainingInterrupted("stopped", 130), 130, "stopped\n"),
        (TrainingInterrupted("stopped", 143), 143, "stopped\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_failures(
    error: BaseException,
    code: int,
    message: str,
    good: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run_module, "run", failing(error))
    assert main([good]) == code
    assert capsys.readouterr().err == message


def test_a_mistake_in_the_program_is_not_hidden(good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run", failing(AttributeError("a bug")))
    with pytest.raises(AttributeError, match="a bug"):
        main([good])


# ------------------------------------------------------------ as a process


def test_train_and_leave_a_directory(good: str, tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv")  # without scikit-learn, whose import takes longer than the rest
    changes = [f"output={tmp_path / 'runs'}", f"data={{file: {tmp_path / 'table.csv'}, target: kind}}"]
    changes.append("data.task=classification")
    process = python(good, *changes, "--device", "cpu")
    assert (process.returncode, process.stderr) == (0, "")
    assert "epoch 2/2" in process.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("iris-")
    assert (run / "config.yaml").read_text() == GOOD
    assert load(run / "resolved.yaml") == load(good, [*changes, "device=cpu"])
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]


@pytest.mark.slow
def test_one_clear_line_for_what_goes_wrong_later(good: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, code, expected in (
        (
            ["data={name: make_moons, n_samples: 4}", "loss={name: BCEWithLogitsLoss}"],
            2,
            "".join(
                rf"override 'data=.*': data\.test_size: class '{number}' has 2 rows: too few .*\n"
                r"      \| data=.*\n      \| +\^\n"
                for number in range(2)
            )
            + r"\n2 problems in the data\n",
        ),
        (["output=" + str(tmp_path / "file")], 1, r"error: .*\n"),
    ):
        process = python(good, "device=cpu", *arguments)
        assert process.returncode == code
        assert re.fullmatch(expected, process.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell with pipes")
@pytest.mark.parametrize("arguments", ["--list", "{good} --print-config"])
def test_a_closed_pipe_is_no_traceback(arguments: str, good: str) -> None:
    train = f"{sys.executable} -m nanotorch.train {arguments.format(good=good)}"
    command = f"{train} | head -0; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, "")


def test_closed_streams_and_a_plain_locale(good: str, tmp_path: Path) -> None:
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (tmp_path / "german.yaml").write_text(GOOD.replace("iris", "übung/", 1), encoding="utf-8")
    process = python(str(tmp_path / "german.yaml"), env=environment)
    assert process.returncode == 2
    assert r"\xfcbung" in process.stderr
    command = f"{sys.executable} -m nanotorch.train {good} --validate >&-"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, "")
