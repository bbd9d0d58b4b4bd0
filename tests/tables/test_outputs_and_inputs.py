"""Commands never write onto what they read, and files that are damaged or made to do harm are one sentence."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nanotorch.train.cli.compare import main as compare
from nanotorch.train.cli.export import main as export
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.cli.train import main as train
from nanotorch.train.data.array_file import read_arrays
from nanotorch.train.data.input_rows import open_rows
from nanotorch.train.data.table import TableError
from own_runs import NUMBERS, trained, write_table
from trainer_process import TrainerProcess


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("numbers")
    table = "{file: TABLE, target: price, drop: [id, kind, sold, city]}"
    return trained(place, table, "MSELoss", epochs=1)


# ------------------------------------------------------------ arrays


def as_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def bomb(path: Path, features: bytes | None, name: str, zeros: int) -> None:
    """A .npz file with an array of a gigabyte or more, of which the file holds a small part."""
    with zipfile.ZipFile(path, "w") as archive:
        if features is not None:
            archive.writestr("X.npy", features)
        with archive.open(_deflated(name), "w") as member:
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<f8", "fortran_order": False, "shape": (zeros // 8,)}
            )
            member.write(header.getvalue())
            for _ in range(zeros // 2**22):
                member.write(bytes(2**22))


def _deflated(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@pytest.mark.slow
def test_an_archive_that_inflates_is_refused_by_its_sizes(tmp_path: Path) -> None:
    bomb(tmp_path / "a.npz", as_npy(np.ones((4, 2))), "y.npy", 2**28 + 2**23)
    assert (tmp_path / "a.npz").stat().st_size < 2**20
    with pytest.raises(TableError, match=r"is compressed and would take .* bytes"):
        read_arrays(tmp_path / "a.npz", "y")
    bomb(tmp_path / "b.npz", None, "features.npy", 2**28 + 2**23)
    with (
        pytest.raises(TableError, match=r"is compressed and would take .* bytes"),
        open_rows(str(tmp_path / "b.npz"), ["a"], {}),
    ):
        pass


@pytest.mark.parametrize(
    "descr, shape",
    [
        ("<f8", "(-1, 2)"),
        ("<f8", "(10**30,)"),
        ("<f8", "(3, 'a')"),
        ("<f8", "()"),
        ("<f8", "(99999999999999999999, 2)"),
        ("|O", "(4, 2)"),
        ("<U0", "(4, 2)"),
        ("<q9", "(4,)"),
        ("f8,f8", "(4,)"),
        ("<f8", "4"),
        ("<f8", "(4, 2)}{"),
        ("<f8", "(True, 2)"),
        ("<f8", "(4, 0)"),
        ("<f8", "(0, 0)"),
        ("<f8", "(10**9, 10**9)"),
        ("<c16", "(4, 2)"),
        ("<M8[ns]", "(4, 2)"),
        ("|V8", "(4, 2)"),
    ],
)
def test_headers_that_lie_are_one_sentence(descr: str, shape: str, tmp_path: Path) -> None:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    (tmp_path / "y.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(16))
    np.save(tmp_path / "X.npy", np.ones((4, 2)))
    with zipfile.ZipFile(tmp_path / "both.npz", "w") as archive:
        archive.write(tmp_path / "X.npy", "X.npy")
        archive.write(tmp_path / "y.npy", "y.npy")
    with pytest.raises(TableError):
        read_arrays(tmp_path / "y.npy", "x0")
    with pytest.raises(TableError):
        read_arrays(tmp_path / "X.npy", str(tmp_path / "y.npy"))
    with pytest.raises(TableError):
        read_arrays(tmp_path / "both.npz", "y")
    with pytest.raises(TableError), open_rows(str(tmp_path / "y.npy"), ["a", "b"], {}):
        pass


def test_damaged_arrays_are_read_or_refused(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.savez_compressed(tmp_path / "packed.npz", X=np.ones((4, 2)))
    np.save(tmp_path / "X.npy", generator.normal(size=(8, 2)))
    np.savez(tmp_path / "both.npz", X=generator.normal(size=(8, 2)), y=np.arange(8.0))
    contents = {name: (tmp_path / name).read_bytes() for name in ("packed.npz", "both.npz", "X.npy")}
    refused = 0
    for _ in range(300):
        for name, content in contents.items():
            damaged = bytearray(content[: generator.integers(len(content)) if generator.random() < 0.2 else None])
            for place in generator.integers(max(len(damaged), 1), size=3):
                damaged[place : place + 1] = bytes([generator.integers(256)])
            path = tmp_path / f"damaged-{name}"
            path.write_bytes(damaged)
            for read in (
                lambda path: read_arrays(path, "y"),
                lambda path: read_arrays(tmp_path / "X.npy", str(path)),
                rows_of,
            ):
                try:
                    read(path)
                except TableError as error:
                    assert "\n" not in str(error)
                    refused += 1
    assert refused > 300


def rows_of(path: Path) -> None:
    with open_rows(str(path), ["a", "b"], {}) as file:
        list(file.pieces(["a", "b"], []))


def test_predict_says_what_is_wrong_with_an_array(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.npy").write_bytes(as_npy(np.ones((4, 2)))[:100].replace(b"<f8", b"<f("))
    assert predict([str(run), "--input", str(tmp_path / "rows.npy"), "--output", str(tmp_path / "out.csv")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_changed_number_in_an_array_is_noticed_at_resume(kind: str, trainer: TrainerProcess, tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2

    def save(X: np.ndarray, y: np.ndarray) -> None:
        if kind == "npz":
            np.savez(tmp_path / "table.npz", X=X, y=y)
        else:
            np.save(tmp_path / "table.npy", X)
            np.save(tmp_path / "y.npy", y)

    save(X, y)
    (tmp_path / "c.yaml").write_text(
        f"name: own\nseed: 0\ndata: {{file: table.{kind}, target: {'y' if kind == 'npz' else 'y.npy'}, drop:"
        " [x2]}\nmodel: {hidden: [4]}\nloss: {name: BCEWithLogitsLoss}\noptimizer: {name: SGD, lr: 0.1}\ntrain:"
        " {epochs: 1, batch_size: 16}\n"
    )
    assert trainer("c.yaml", "--output", "run", cwd=str(tmp_path)).code == 0
    two, three = X.copy(), X.copy()
    two[[3, 9]] = two[[9, 3]]  # every mean and spread stays
    three[3, 2] += 1  # a column that is not used
    for features, targets, code in ((two, y, 1), (X, np.roll(y, 1), 1), (three, y, 0)):
        save(features, targets)
        ended = trainer("c.yaml", "--resume", "run", "train.epochs=2", cwd=str(tmp_path))
        assert ended.code == code, ended
        assert code == 0 or "run: the data are not what they were when this run was trained" in ended.err


# ------------------------------------------------------------ names of directories


def test_a_tilde_is_the_users_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    write_table(home / "table.csv")
    config = f"data: {NUMBERS.replace('TABLE', '~/table.csv')}\nmodel: {{hidden: [4]}}\nloss: {{name: MSELoss}}\n"
    (home / "c.yaml").write_text(
        f"name: own\n{config}optimizer: {{name: SGD, lr: 1e-3}}\noutput: ~/x\ntrain: {{epochs: 1, batch_size: 16}}\n"
    )
    assert train(["~/c.yaml", "--quiet"]) == 0
    (made,) = (home / "x").iterdir()
    assert predict([f"~/x/{made.name}", "--input", "~/table.csv", "--output", "~/out.csv"]) == 0
    assert (home / "out.csv").is_file() and not list(here.iterdir())
    capsys.readouterr()
    assert train(["~/c.yaml", "output=~nobody-of-this-name/x"]) == 2
    assert "there is no home directory ~nobody-of-this-name" in capsys.readouterr().err


def test_a_run_name_is_limited_in_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(
        f"name: {'字' * 100}\ndata: {{name: iris}}\nmodel: {{hidden: [4]}}\nloss: {{name: CrossEntropyLoss}}\n"
        "optimizer: {name: SGD, lr: 1e-3}\ntrain: {epochs: 1, batch_size: 16}\n",
        encoding="utf-8",
    )
    config = [str(tmp_path / "c.yaml"), f"output={tmp_path / 'runs'}", "--quiet"]
    assert train(config) == 2
    assert "at most 200 bytes, and in UTF-8 this one has 300" in capsys.readouterr().err
    assert train([*config, f"name={'字' * 66}"]) == 0


# ------------------------------------------------------------ outputs onto inputs


@pytest.mark.parametrize("way", ["itself", "dotted", "symbolic", "hard"])
@pytest.mark.parametrize("onto", ["input", "table", "run", "checkpoint"])
def test_outputs_do_not_replace_what_is_read(
    run: Path, onto: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "new.csv", 4)
    weights = next((run / "checkpoints").glob("step-*/model.safetensors"))
    victim = {
        "input": tmp_path / "new.csv",
        "table": run.parent / "table.csv",
        "run": run / "metrics.csv",
        "checkpoint": weights,
    }[onto]
    content = victim.read_bytes()
    monkeypatch.chdir(victim.parent)
    link = tmp_path / "link.csv"
    if way == "symbolic":
        link.symlink_to(victim)
    elif way == "hard":
        link.hardlink_to(victim)
    output = {"itself": str(victim), "dotted": f"./{victim.name}"}.get(way, str(link))
    if output.endswith(".csv"):
        assert predict([str(run), "--input", str(tmp_path / "new.csv"), "--output", output]) == 2
    if onto != "input":
        assert export([str(run), "--onnx", output]) == export([str(run), "--safetensors", output]) == 2
    if onto in ("run", "checkpoint"):
        other = tmp_path / "run"
        shutil.copytree(run, other, symlinks=True)
        assert compare([str(run), str(other), "--output", output]) == 2
    assert all(line.startswith("error: ") and "another name" in line for line in capsys.readouterr().err.splitlines())
    assert victim.read_bytes() == content
    if way == "hard":
        link.unlink()


def test_an_output_may_replace_an_older_one_and_no_config(run: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "new.csv", 4)
    arguments = [str(run), "--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "out.csv")]
    (tmp_path / "out.csv").write_text("older")
    assert predict(arguments) == predict(arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv"]
    (tmp_path / "c.yaml").write_text("name: mine")
    assert export([str(run), "--safetensors", str(tmp_path / "c.yaml")]) == 2
    assert (tmp_path / "c.yaml").read_text() == "name: mine"


def test_outputs_do_not_replace_files_of_other_runs_nor_standard_input(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "new.csv", 4)
    other, third = tmp_path / "other", tmp_path / "third"
    for copy in (other, third):
        shutil.copytree(run, copy, symlinks=True)
    before = {path: path.read_bytes() for path in [tmp_path / "new.csv", *other.rglob("*.*")] if path.is_file()}
    rows, last = ["--input", str(tmp_path / "new.csv")], other / "checkpoints" / "last"
    assert predict([str(run), *rows, "--output", str(other / "metrics.csv")]) == 2
    assert export([str(run), "--safetensors", str(last / "model.safetensors")]) == 2
    # a name of a checkpoint that is not there yet
    assert export([str(run), "--safetensors", str(last / "training.safetensors")]) == 2
    assert export([str(run), "--onnx", str(other / "report.html")]) == 2
    assert compare([str(run), str(third), "--output", str(other / "report.html")]) == 2
    assert (
        export([str(run), "--onnx", str(tmp_path / "new.csv")])
        == export([str(run), "--safetensors", str(tmp_path / "new.csv")])
        == 2
    )
    assert export([str(run), "--onnx", str(tmp_path / "m"), "--safetensors", str(tmp_path / "m")]) == 2
    assert all(line.startswith("error: ") and "name" in line for line in capsys.readouterr().err.splitlines())
    with open(tmp_path / "new.csv") as stdin:
        command = [
            sys.executable,
            "-m",
            "nanotorch.predict",
            str(run),
            "--input",
            "-",
            "--output",
            str(tmp_path / "new.csv"),
        ]
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True)
    assert done.returncode == 2 and "is standard input, an input: give another name" in done.stderr
    with open(tmp_path / "new.csv", "a") as stdout:  # it would read on what it writes
        done = subprocess.run(
            [*command[:-2], "--input", str(tmp_path / "new.csv"), "--output", "-"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2 and "new.csv, an input: give another name" in done.stderr
    assert before == {path: path.read_bytes() for path in before}
    assert predict([str(run), *rows, "--output", str(other / "mine.csv")]) == 0


@pytest.mark.parametrize(
    "command, code, said",
    [
        ("predict RUN --input TABLE --output - >&-", 2, "standard output is closed"),
        ("train --list > /dev/full", 1, "error: standard output: No space left on device"),
        ("train --schema > /dev/full", 1, "error: standard output: No space left on device"),
        ("train - --print-config <&-", 2, "-: cannot be read: standard input is closed"),
        ("predict nowhere --input TABLE --output - 2> /dev/full", 2, ""),
    ],
)
@pytest.mark.slow
def test_streams_that_are_closed_or_full_are_one_sentence(run: Path, command: str, code: int, said: str) -> None:
    line = f"{sys.executable} -m nanotorch.{command}".replace("RUN", str(run)).replace(
        "TABLE", str(run.parent / "table.csv")
    )
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr, done
