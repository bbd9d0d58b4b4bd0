"""A run's files, damaged or made to do harm one at a time:
every command shows the rest, or ends with one sentence that names the file.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nanotorch as torch
from nanotorch.train.cli.compare import main as compare
from nanotorch.train.cli.export import main as export
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.cli.train import main as train
from nanotorch.train.record.layout import strangers
from nanotorch.utils.serialization import from_bytes, to_bytes
from own_runs import damage, write_table
from trainer_process import TrainerProcess

CONFIG = """\
name: own
seed: 1
device: cpu
data: {file: table.csv, target: kind, drop: [id, price, sold]}
model: {hidden: [4]}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.01}
scheduler: {name: ReduceLROnPlateau}
train: {epochs: 2, batch_size: 40, ema: 0.9}
early_stopping: {patience: 9}
checkpoint: {every_seconds: 0}
"""


@pytest.fixture(scope="module")
def place(trainer: TrainerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and one with folds that was killed in its second fold."""
    made = tmp_path_factory.mktemp("place")
    write_table(made / "table.csv", 60)
    (made / "own.yaml").write_text(CONFIG)
    assert trainer("own.yaml", "--output", "run", cwd=str(made)).code == 0
    assert trainer("own.yaml", "--output", "other", "optimizer.lr=0.02", cwd=str(made)).code == 0
    assert trainer("own.yaml", "--output", "folds", "train.folds=2", cwd=str(made), at=("scores", 5, 9)).code == -9
    assert (made / "folds" / "fold-1" / "summary.json").exists() and not (
        made / "folds" / "fold-2" / "summary.json"
    ).exists()
    return made


# ------------------------------------------------------------ ways to damage a file

DEEP = json.loads("[" * 90 + "]" * 90)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "x",
    "\x1b[31m\n\ud800",
    [],
    {},
    [[]],
    {"a": 1},
    DEEP,
    {"!tuple": 3},
)


def values_of(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a value; of a list, the first and the last."""
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else sorted({0, len(node) - 1} & set(range(len(node)))):
            yield (*path, key)
            yield from values_of(node[key], (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a path; without it where the new one is `...`."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def damages_of_json(text: bytes) -> Iterator[tuple[str, bytes]]:
    value = json.loads(text)
    for path in values_of(value):
        for new in (..., *VALUES):
            yield (
                f"{path} = {'deleted' if new is ... else repr(new)[:20]}",
                json.dumps(changed(value, path, new)).encode(),
            )
    if isinstance(value, dict):
        yield "an unknown key", json.dumps({**value, "\x1b]0;x\x07": 1}).encode()
        yield "a key twice", text.rstrip()[:-1].rstrip() + b', "%s": 1}' % next(iter(value)).encode()


def damages(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """What a file may hold instead."""
    for size in (0, 1, len(content) // 2, len(content) - 1):
        yield f"the first {size} bytes", content[:size]
    yield "bytes", bytes(range(256))
    yield "NUL", content + b"\0"
    yield "deep nesting", b"[" * 100_000
    yield "deep object", b'{"a":' * 20_000
    yield "null", b"null"
    if name.endswith(".json"):
        yield from damages_of_json(content)
    elif name.endswith(".jsonl") and content:
        first, *rest = content.splitlines(keepends=True)
        for what, line in damages_of_json(first):
            yield f"line 1: {what}", line + b"\n" + b"".join(rest)
        yield "lines exchanged", b"".join([*rest, first])
        yield "a line twice", first + content
    elif name.endswith(".yaml"):
        lines = content.decode().splitlines(keepends=True)
        for number, line in enumerate(lines):
            key = line.partition(":")[0]
            for new in (
                "",
                line + line,
                *(
                    f"{key}: {new}\n"
                    for new in ("null", "-1", ".nan", "1e400", "[]", "{}", '"\\e[31m"', "x", "9" * 400)
                ),
            ):
                yield (
                    f"line {number + 1}: {new.strip()[:30] or 'deleted'}",
                    "".join([*lines[:number], new, *lines[number + 1 :]]).encode(),
                )
    elif name.endswith(".safetensors"):
        size = int.from_bytes(content[:8], "little")
        for what, header in damages_of_json(content[8 : 8 + size]):
            yield f"header: {what}", len(header).to_bytes(8, "little") + header + content[8 + size :]


def all_damages(run: Path) -> Iterator[tuple[Path, str, bytes]]:
    """Every damage of every file that is read of a run."""
    seen = set()
    for path in sorted(run.rglob("*")):
        name = path.name
        if (
            path.is_symlink()
            or any(parent.is_symlink() for parent in path.parents)
            or not path.is_file()
            or path.suffix in (".html", ".csv", ".log", ".svg")
        ):
            continue
        kind = (path.relative_to(run).parts[0], name)
        if kind in seen and path.parent.name != (run / "checkpoints" / "last").resolve().name:
            continue
        seen.add(kind)
        for what, content in damages(name, path.read_bytes()):
            yield path.relative_to(run), what, content


COMMANDS: dict[str, Callable[[Path], int]] = {
    "resume": lambda run: train(["own.yaml", "--resume", str(run), "train.epochs=3", "--quiet"]),
    "compare": lambda run: compare([str(run), "other"]),
    "compare page": lambda run: compare([str(run), "other", "--output", str(run.parent / "out.html")]),
    "resume folds": lambda run: train(["own.yaml", "--resume", str(run), "train.folds=2", "--quiet"]),
    "compare folds": lambda run: compare([str(run / "fold-1"), "other"]),
    "predict fold": lambda run: predict(
        [str(run / "fold-1"), "--input", "table.csv", "--output", str(run.parent / "out.csv")]
    ),
    "predict": lambda run: predict([str(run), "--input", "table.csv", "--output", str(run.parent / "out.csv")]),
    "export": lambda run: export([str(run), "--safetensors", str(run.parent / "out.safetensors")]),
}

RUN, FOLDS = (
    ("compare", "resume", "predict", "compare page", "export"),
    ("resume folds", "compare folds", "predict fold"),
)


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of the runs."""
    monkeypatch.chdir(place)
    return place


def faults_of(
    run: Path, draws: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], commands: tuple[str, ...]
) -> list[str]:
    """What goes wrong when a run's files are damaged, each by one of the commands:
    so many of the damages, or all of them by all commands.
    """
    every = [*all_damages(run)]
    if draws is not None:
        every = random.Random(0).sample(every, draws)
    found = []
    for number, (file, what, content) in enumerate(every):
        for command in commands if draws is None else (commands[number % len(commands)],):
            copy = shutil.copytree(run, tmp_path / "run", symlinks=True)
            damage(copy, file, content)
            try:
                code: int | str = COMMANDS[command](copy)
            except Exception as error:
                code = f"{type(error).__name__}: {error}"
            said = capsys.readouterr().err
            named = not code or file.stem.lower() in said.lower()
            if code not in (0, 1, 2, 3) or not named or "Traceback" in said:
                found.append(f"{file}: {what}: {command} ended with {code}: {said[:300]}")
            shutil.rmtree(copy)
    return found


@pytest.mark.slow
def test_damaged_files_of_a_run(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not faults_of(here / "run", 40, tmp_path, capsys, RUN)


@pytest.mark.slow
def test_damaged_files_of_folds(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not faults_of(here / "folds", 12, tmp_path, capsys, FOLDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "folds"])
def test_more_damaged_files(here: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not faults_of(here / name, 300 if name == "run" else 60, tmp_path, capsys, RUN if name == "run" else FOLDS)


# ------------------------------------------------------------ weights


def first(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[dict[str, torch.Tensor], str], dict[str, torch.Tensor]]:
    return lambda tensors, name: {**tensors, name: change(tensors[name])}


def with_first(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        flat = tensor.reshape(-1).clone()
        flat[0] = value
        return flat.reshape(tensor.shape)

    return change


WEIGHTS: dict[str, Callable[[dict[str, torch.Tensor], str], dict[str, torch.Tensor]]] = {
    "half": first(lambda tensor: tensor.half()),
    "integers": first(lambda tensor: tensor.long()),
    "nan": first(with_first(float("nan"))),
    "one dimension more": first(lambda tensor: tensor.unsqueeze(0)),
    "one number": first(lambda tensor: tensor.reshape(-1)[:1].unsqueeze(0)),
    "no number": first(lambda tensor: tensor.reshape(-1)[:0]),
    "missing": lambda tensors, name: {key: tensor for key, tensor in tensors.items() if key != name},
    "another": lambda tensors, name: {**tensors, name + "x": tensors[name]},
    "nothing": lambda tensors, name: {},
}


@pytest.mark.parametrize("file", ["model", "training", "optimizer"])
def test_weights_that_cannot_be_are_refused(
    here: Path, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what, change in WEIGHTS.items():
        run = shutil.copytree(here / "run", tmp_path / what, symlinks=True)
        for step in run.glob("checkpoints/step-*"):
            path = step / f"{file}.safetensors"
            tensors = from_bytes(path.read_bytes())
            damage(
                run, path.relative_to(run), to_bytes(change(tensors, list(tensors)[0 if what == "integers" else -1]))
            )
        for command in ("resume", "predict") if file == "model" else ("resume",):
            assert COMMANDS[command](run) == 1, what
            error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
            assert error[0].startswith(f"error: {run}") and all(line.startswith("  ") for line in error[1:]), what
            assert f"{file}.safetensors" in error[0], what


# ------------------------------------------------------------ copies


@pytest.mark.parametrize("way", ["followed", "as texts", "left out", "both of one"])
def test_a_copy_without_links_goes_on_as_the_run_itself(
    trainer: TrainerProcess, place: Path, way: str, tmp_path: Path
) -> None:
    """As zip, scp -r, a cloud drive or a FAT disk leave them."""
    assert (
        trainer("own.yaml", "--output", tmp_path / "a", "checkpoint.keep=3", at=("step", 2, 9), cwd=str(place)).code
        == -9
    )
    shutil.copytree(tmp_path / "a", tmp_path / "b", symlinks=way != "followed")
    for name in ("last", "best") if way != "followed" else ():
        link = tmp_path / "b" / "checkpoints" / name
        target = os.readlink(link)
        link.unlink()
        if way == "as texts" or (way == "both of one" and name == "best"):
            link.write_text(target)
    for name in ("a", "b"):
        ended = trainer("own.yaml", "--output", tmp_path / name, "--resume", "auto", cwd=str(place))
        assert ended.code == 0 and "training goes on after step 1" in ended.out and "damaged" not in ended.err, ended
    left = [
        [
            (tmp_path / name / "checkpoints" / "last" / f"{file}.safetensors").read_bytes()
            for file in ("model", "training", "optimizer")
        ]
        for name in "ab"
    ]
    assert left[0] == left[1]
    assert not [*strangers(tmp_path / "b")] and (tmp_path / "b" / "checkpoints" / "best").is_symlink()


# ------------------------------------------------------------ older versions


@pytest.mark.parametrize("killed", [2, 3])
def test_a_checkpoint_of_the_first_version_goes_on_as_the_run_itself(
    trainer: TrainerProcess, place: Path, killed: int, tmp_path: Path
) -> None:
    """state.json held the history then, did not count the moments, and optimizers and schedules had fewer options."""
    assert (
        trainer("own.yaml", "--output", tmp_path / "a", "train.epochs=3", at=("step", killed, 9), cwd=str(place)).code
        == -9
    )
    old = shutil.copytree(tmp_path / "a", tmp_path / "b", symlinks=True)
    lines = (old / "checkpoints" / "history.jsonl").read_text().splitlines()
    for step in old.glob("checkpoints/step-*"):
        state, optimizer = (json.loads((step / name).read_text()) for name in ("state.json", "optimizer.json"))
        state["history"] = [json.loads(line) for line in lines][: state["epoch"]]
        del state["moments"]
        state["scheduler"] = {key: value for key, value in state["scheduler"].items() if key != "min_lrs"} | {
            "min_lr": 0.0
        }
        for group in optimizer["param_groups"]:
            group.pop("decoupled_weight_decay", None)
        for name, value in (("state.json", state), ("optimizer.json", optimizer)):
            damage(old, (step / name).relative_to(old), json.dumps(value).encode())
        manifest = {**json.loads((step / "MANIFEST.json").read_text()), "version": 1}
        del manifest["history"]
        (step / "MANIFEST.json").write_text(json.dumps(manifest))
    (old / "checkpoints" / "history.jsonl").unlink()
    for name in "ab":
        ended = trainer("own.yaml", "--resume", tmp_path / name, "train.epochs=3", cwd=str(place))
        assert ended.code == 0 and f"training goes on after step {killed - 1}" in ended.out, ended
    left = [
        [
            (tmp_path / name / "checkpoints" / "last" / f"{file}.safetensors").read_bytes()
            for file in ("model", "training", "optimizer")
        ]
        for name in "ab"
    ]
    assert left[0] == left[1]
    assert json.loads((tmp_path / "b" / "checkpoints" / "last" / "MANIFEST.json").read_text())["version"] == 2


def test_sums_of_an_epoch_that_do_not_say_whether_outputs_were_finite_go_on(
    trainer: TrainerProcess, place: Path, tmp_path: Path
) -> None:
    """Checkpoints within an epoch did not say so before; the numbers that they hold are all that is asked of them."""
    settings = ("train.batch_size=15", "checkpoint.every_steps=1")
    command = ("own.yaml", "--output", tmp_path / "a", *settings)
    assert trainer(*command, at=("step", 2, 9), cwd=str(place)).code == -9
    old = shutil.copytree(tmp_path / "a", tmp_path / "b", symlinks=True)
    for step in old.glob("checkpoints/step-*"):
        state = json.loads((step / "state.json").read_text())
        assert state["training_sums"].pop("finite") is True
        damage(old, (step / "state.json").relative_to(old), json.dumps(state).encode())
    for name in "ab":
        ended = trainer("own.yaml", "--resume", tmp_path / name, *settings, cwd=str(place))
        assert ended.code == 0 and "training goes on after step 1" in ended.out, ended
    last = [tmp_path / name / "checkpoints" / "last" for name in "ab"]
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (last[0] / file).read_bytes() == (last[1] / file).read_bytes()
