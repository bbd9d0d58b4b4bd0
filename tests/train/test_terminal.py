"""What others chose the letters of (names of columns, classes, files) reaches terminal
and log only as letters; Ctrl-C at any time.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nanotorch.train.cli.compare import main as compare
from nanotorch.train.cli.evaluate import main as evaluate
from nanotorch.train.cli.export import main as export
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.cli.train import main as train
from nanotorch.train.terminal import standard_streams as streams
from nanotorch.train.use.prediction_file import PredictionFile
from nanotorch.utils.serialization import from_bytes, to_bytes
from own_runs import damage
from trainer_process import TrainerProcess

RED, TITLE, LINE, BACK, C1, MIRROR = "\x1b[31m", "\x1b]0;owned\x07", "\nerror: forged", "\rok", "\x9b2J", "\u202e"
NAMES = [f"a{RED}", f"b{TITLE}", f"c{BACK}", f"d{C1}{MIRROR}"]
CLASSES = [f"yes{RED}{LINE}", f"no{TITLE}", f"perhaps{C1}{MIRROR}{BACK}"]
HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|^error: forged", re.MULTILINE
)


@pytest.fixture(scope="module")
def place(trainer: TrainerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose names and classes would colour, clear and forge, and two runs on it."""
    made = tmp_path_factory.mktemp("place")
    generator = np.random.default_rng(0)
    with (made / "table.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*NAMES, "kind"])
        for number in range(90):
            rows.writerow([*generator.normal(number % 3, size=3).round(3), f"x{RED}{number % 2}", CLASSES[number % 3]])
    (made / "own.yaml").write_text(
        "name: own\nseed: 1\ndevice: cpu\ndata: {file: table.csv, target: kind}\nmodel: {hidden: [4]}\nloss: {name:"
        " CrossEntropyLoss}\noptimizer: {name: Adam, lr: 0.01}\ntrain: {epochs: 2, batch_size: 40}\nlog: {tensorboard:"
        " true}\n"
    )
    for name in ("run", "other"):
        ended = trainer("own.yaml", "--output", name, cwd=str(made))
        assert ended.code == 0 and not HARMFUL.search(ended.out + ended.err), ended
        assert r"yes\x1b[31m\nerror: forged" in ended.out
    return made


def test_nothing_that_controls_a_terminal_is_printed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    (place / "rows.csv").write_text(f"{NAMES[0]},{NAMES[1]}\n1,2\n", newline="")
    (place / "few.csv").write_text(
        (place / "table.csv").read_bytes().decode().replace(f"x{RED}1", f"new{MIRROR}"), newline=""
    )
    odd = place / f"odd{RED}"
    odd.mkdir(exist_ok=True)
    for code, command, *arguments in (
        (0, train, "own.yaml", "--dry-run"),
        (0, train, "own.yaml", "--doctor"),
        (2, train, "own.yaml", f"optimizer.lr={RED}"),
        (2, train, "own.yaml", f"data.target=kin{RED}"),
        (2, train, "own.yaml", f"{TITLE}=1"),
        (2, train, f"no{RED}.yaml"),
        (1, train, "own.yaml", f"data.file=no{C1}.csv"),
        (1, train, "own.yaml", "--resume", f"no{RED}"),
        (1, train, "own.yaml", "--output", f"table.csv/{'x' * 3}"),
        (0, predict, "run", "--input", "few.csv", "--output", "out.csv"),
        (1, predict, "run", "--input", "rows.csv", "--output", "out.csv"),
        (2, predict, "run", "--input", "few.csv", "--output", "out.csv", "--keep", f"a{MIRROR}"),
        (2, predict, f"run{RED}", "--input", "few.csv", "--output", "o.csv"),
        (0, evaluate, "run"),
        (0, evaluate, "run", "--input", "few.csv"),
        (0, compare, "run", "other"),
        (2, compare, "run", "other", "--by", RED),
        (2, compare, "run", str(odd)),
        (2, export, str(odd), "--onnx", "a.onnx"),
        (2, export, "run", "--onnx", f"own.yaml{RED}/../own.yaml"),
    ):
        ended = command(list(arguments))
        shown = capsys.readouterr()
        assert ended in (1, 2) if code else ended == 0, (arguments, shown)
        assert not HARMFUL.search(shown.out + shown.err), (arguments, shown)
        assert shown.out + shown.err and (ended == 0 or shown.err)
    for command, arguments in (
        (train, ["own.yaml", f"--{RED}"]),
        (predict, ["run", f"--{RED}"]),
        (train, ["own.yaml", "--output", f"runs{RED}"]),
    ):
        with pytest.raises(SystemExit):
            command(arguments)
        shown = capsys.readouterr()
        assert shown.err and not HARMFUL.search(shown.err)


def test_log_and_report_hold_letters_only(place: Path) -> None:
    for name in ("train.log", "report.html"):
        text = (place / "run" / name).read_text(encoding="utf-8")
        assert not HARMFUL.search(text if name == "train.log" else text.replace("\nerror: forged", "")), name
        assert r"yes\x1b[31m" in text
    with (place / "run" / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2


def test_names_within_damaged_files_are_shown_as_letters(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    bad = f"x{RED}{LINE}"
    for file in (
        "MANIFEST.json",
        "state.json",
        "optimizer.json",
        "model.safetensors",
        "summary.json",
        "metrics.jsonl",
        "env.json",
        "resolved.yaml",
    ):
        run = shutil.copytree(place / "run", tmp_path / file, symlinks=True)
        for path in [run / file] if (run / file).exists() else sorted(run.glob(f"checkpoints/step-*/{file}")):
            if file.endswith(".safetensors"):
                tensors = from_bytes(path.read_bytes())
                content = to_bytes({bad: tensors.popitem()[1], **tensors})
            elif file.endswith(".yaml"):
                content = path.read_bytes() + json.dumps(bad).encode() + b": 1\n"
            else:
                first, *rest = (
                    [path.read_text()] if file.endswith(".json") else path.read_text().splitlines(keepends=True)
                )
                value = json.loads(first)
                value |= {"files": {**value["files"], bad: 1}} if file == "MANIFEST.json" else {bad: [], "epoch": bad}
                content = "\n".join([json.dumps(value), *rest]).encode()
            damage(run, path.relative_to(run), content)
        codes = [
            train(["own.yaml", "--resume", str(run), "train.epochs=3", "--quiet"]),
            compare([str(run), "other"]),
            predict([str(run), "--input", "table.csv", "--output", str(tmp_path / "out.csv")]),
        ]
        shown = capsys.readouterr()
        assert set(codes) <= {0, 1, 2} and not HARMFUL.search(shown.out + shown.err), (file, shown)


def test_a_file_name_that_is_no_text(place: Path, trainer: TrainerProcess, tmp_path: Path) -> None:
    """Half of a surrogate pair stands in Python for a byte that is not UTF-8."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff")
    os.mkdir(odd)
    for name in ("own.yaml", "table.csv"):
        (Path(odd) / name).write_bytes((place / name).read_bytes())
    ended = trainer("own.yaml", "output=runs", "log.tensorboard=false", cwd=odd)
    assert ended.code == 0 and not HARMFUL.search(ended.out + ended.err), ended
    (run,) = (Path(odd) / "runs").iterdir()
    assert json.loads((run / "env.json").read_text())["directory"] == odd
    assert trainer("own.yaml", "--resume", run, "train.epochs=3", cwd=odd).code == 0
    for arguments in (
        ("own.yaml", "--output", odd + "/run"),
        (f"{odd}/own.yaml", "--output", odd),
        ("own.yaml", f"data.file={odd}/table.csv"),
        (f"{odd}/no.yaml",),
    ):
        ended = trainer(*arguments, cwd=odd)
        assert ended.code in (1, 2) and "Traceback" not in ended.err and ended.err and not HARMFUL.search(ended.err), (
            ended
        )


def test_data_on_standard_output_stay_what_they_are(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert predict(["run", "--input", "table.csv", "--output", "-", "--keep", NAMES[3]]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    assert rows[1][NAMES[3]] == f"x{RED}1" and rows[0]["prediction"] in CLASSES


def test_on_a_terminal_they_are_shown_as_letters() -> None:
    here, there = pty.openpty()
    with os.fdopen(there, "w") as terminal:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "stdout", terminal)
            with streams.only_printable():
                print(f"{RED}one", file=streams.data_of(sys.stdout))
                print(f"{RED}two\tthree")
                print("\rbar", end="", file=streams.past(streams.Lasting(sys.stdout)))
        terminal.flush()
        shown = b""
        while b"bar" not in shown:
            shown += os.read(here, 1000)
        assert shown == b"\\x1b[31mone\r\n\\x1b[31mtwo\tthree\r\n\rbar"
    os.close(here)


@pytest.mark.parametrize("kept", ["=1+1", "+a", "-a", "+1", "-1", "@x", "-cmd|' /C calc'!A0", "plain", "1-1", "a\rb"])
def test_formulas_are_quoted_where_that_is_wanted(
    place: Path, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with (place / "table.csv").open(newline="") as file, (tmp_path / "rows.csv").open("w", newline="") as given:
        for number, row in enumerate(list(csv.reader(file))[:4]):
            csv.writer(given).writerow([*row, kept if number else "=note"])
    for options, quoted in ((["--quote-formulas"], True), ([], False)):
        arguments = [
            "run",
            "--input",
            str(tmp_path / "rows.csv"),
            "--output",
            str(tmp_path / "out.csv"),
            "--keep",
            "=note",
            *options,
        ]
        assert predict(arguments) == 0
        head, first, *_ = csv.reader(io.StringIO((tmp_path / "out.csv").read_bytes().decode(), newline=""))
        assert head[0] == ("'=note" if quoted else "=note")
        formula = kept.startswith(("=", "+", "-", "@")) and kept not in ("+1", "-1")  # those are numbers
        assert first[0] == (f"'{kept}" if quoted and formula else kept)
    assert predict([*arguments[:4], str(tmp_path / "out.parquet"), "--quote-formulas"]) == 2
    with PredictionFile(
        str(tmp_path / "out.csv"), ["a", "b"], quote_formulas=True
    ) as file:  # names of classes may begin with a space
        file.write({"a": np.array(["\tx", "\rx"], object), "b": np.array([-1.5, 2.0])})
    assert (tmp_path / "out.csv").read_bytes() == b'"a","b"\n"\'\tx",-1.5\n"\'\rx",2.0\n'.replace(b'"a","b"', b"a,b")


@pytest.mark.parametrize("module", ["numpy", "nanotorch.train.config.loading"])
def test_ctrl_c_while_a_command_is_imported(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    command = [sys.executable, "-m", "nanotorch.train", "no.yaml"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nanotorch.train", "no.yaml"], True),
        (["nanotorch", "train", "no.yaml"], True),
        (["nanotorch.train", "no.yaml", "--quiet"], False),
        (["nanotorch.train", "--list", "models"], False),
        (["nanotorch", "report", "no"], False),
    ],
)
def test_a_terminal_is_told_at_once_that_libraries_are_loaded(words: list[str], told: bool, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'numpy':\n"
        "            os._exit(7)\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    here, there = pty.openpty()
    ended = subprocess.run(
        [sys.executable, "-m", *words], env=environment, stdout=subprocess.PIPE, stderr=there, cwd=tmp_path
    )
    os.write(there, b"end")
    assert (ended.returncode, ended.stdout) == (7, b"")
    shown = b""
    while b"end" not in shown:
        shown += os.read(here, 1000)
    assert shown == b"loading the libraries ...\r\n" * told + b"end"
    os.close(here)
    os.close(there)
