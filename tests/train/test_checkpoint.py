"""Tensors in files and checkpoints: exact, complete, without pickle, and never half-written."""

from __future__ import annotations

import importlib
import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.train.record import checkpoint
from nanotorch.train.record.checkpoint import CheckpointError
from nanotorch.utils import serialization
from oracle import require

DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal in dtype, shape and every bit."""
    first, second = one.detach().cpu().numpy(), other.detach().cpu().numpy()
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


# ------------------------------------------------------------ safetensors


@pytest.mark.parametrize("dtype", DTYPES)
def test_safetensors_keep_every_dtype(tmp_path: Path, dtype: str) -> None:
    tensor = torch.tensor(np.arange(6).reshape(2, 3) % 2, dtype=getattr(torch, dtype))
    serialization.save({"tensor": tensor}, tmp_path / "file.safetensors")
    assert same(serialization.load(tmp_path / "file.safetensors")["tensor"], tensor)


def strided_views() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "reversed": base.flip(0, 1),
        "fortran": torch.from_numpy(np.asfortranarray(base.numpy())),
        "expanded": base[:, :1].expand(4, 5),
        "zero-dimensional": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "not a number": torch.tensor([math.nan, math.inf, -0.0]),
        "parameter": nn.Parameter(base.t()),
    }


@pytest.mark.parametrize("name", strided_views())
def test_safetensors_keep_values_and_shapes_whatever_the_strides(tmp_path: Path, name: str) -> None:
    tensor = strided_views()[name]
    serialization.save({name: tensor}, tmp_path / "file.safetensors")
    loaded = serialization.load(tmp_path / "file.safetensors")[name]
    assert same(loaded, tensor)
    assert not loaded.requires_grad
    loaded.fill_(7.0)  # what is loaded can be written to


@pytest.mark.parity
def test_pytorch_reads_the_same_tensors(tmp_path: Path) -> None:
    safetensors_torch = require("safetensors.torch")
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    tensors = {**model.state_dict(), **strided_views()}
    serialization.save(tensors, tmp_path / "file.safetensors")
    read = safetensors_torch.load_file(tmp_path / "file.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name].numpy(), tensor.detach().numpy(), strict=True)


def test_names_keep_their_order(tmp_path: Path) -> None:
    names = ["10.weight", "2.bias", "z", "a", "2.weight"]
    serialization.save({name: torch.zeros(1) for name in names}, tmp_path / "file.safetensors")
    assert list(serialization.load(tmp_path / "file.safetensors")) == names
    numpy_safetensors = importlib.import_module("safetensors.numpy")
    numpy_safetensors.save_file({name: np.zeros(1) for name in names}, tmp_path / "other.safetensors")
    assert list(serialization.load(tmp_path / "other.safetensors")) == sorted(names)


def test_named_tensors_are_tensors() -> None:
    with pytest.raises(TypeError, match=r"'step' is a int: only tensors"):
        serialization.to_bytes({"step": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="holds other values than named tensors"):
        serialization.from_bytes(serialization._structured({"step": 3}))


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"PK\x03\x04", b"\xff" * 64, b"name,value\n"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a safetensors file") as caught:
        serialization.load(path)
    assert str(path) in str(caught.value)


# ------------------------------------------------------------ checkpoints


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2.5, True, "text", [], {}],
        (0.9, 0.999),
        {"betas": (0.9, 0.999), "nested": [(1,), {"a": ()}]},
        {0: "integer keys", (1, 2): "tuple keys"},
        {"!tuple": [1], "!x": {"!float": "nan"}},
        Counter({30: 1, 80: 2}),
        [math.inf, -math.inf, 0.1, 1e-323, 1.7976931348623157e308, -0.0],
        2**63 + 1,
    ],
    ids=repr,
)
def test_json_gives_back_exactly_what_it_got(value: object) -> None:
    back = checkpoint._from_json(checkpoint._to_json(value))
    assert back == value
    assert repr(back) == repr(value)


def test_json_keeps_nan_and_refuses_what_it_cannot_hold() -> None:
    assert math.isnan(checkpoint._from_json(checkpoint._to_json({"x": math.nan}))["x"])
    with pytest.raises(TypeError, match=r"a checkpoint cannot hold .* of type ndarray"):
        checkpoint._to_json({"x": np.zeros(2)})


def trained(optimizer_class: str = "Adam", steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    options = {"momentum": 0.9} if optimizer_class in ("SGD", "RMSprop") else {}
    optimizer = getattr(torch.optim, optimizer_class)(model.parameters(), lr=0.05, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("optimizer_class", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_a_checkpoint_gives_back_every_bit(tmp_path: Path, optimizer_class: str) -> None:
    model, optimizer = trained(optimizer_class)
    before = optimizer.state_dict()
    checkpoint.save(tmp_path, 3, model.state_dict(), before, {"epoch": 1, "rates": (0.1, math.inf)})
    loaded = checkpoint.load(tmp_path / "last")

    assert loaded.state == {"epoch": 1, "rates": (0.1, math.inf)}
    assert list(loaded.model) == list(model.state_dict())
    assert all(same(loaded.model[name], tensor) for name, tensor in model.state_dict().items())
    assert loaded.optimizer["param_groups"] == before["param_groups"]
    assert loaded.optimizer["state"].keys() == before["state"].keys()
    for index, entries in before["state"].items():
        assert loaded.optimizer["state"][index].keys() == entries.keys()
        for name, value in entries.items():
            got = loaded.optimizer["state"][index][name]
            assert same(got, value) if isinstance(value, torch.Tensor) else got == value

    other_model, other_optimizer = trained(optimizer_class, steps=1)
    other_model.load_state_dict(loaded.model)
    other_optimizer.load_state_dict(loaded.optimizer)
    features = torch.randn(6, 4)
    for one, its_optimizer in ((model, optimizer), (other_model, other_optimizer)):
        its_optimizer.zero_grad()
        one(features).square().mean().backward()
        its_optimizer.step()
    pairs = zip(model.state_dict().values(), other_model.state_dict().values(), strict=True)
    assert all(same(one, other) for one, other in pairs)


def save_one(root: Path, step: int = 1, best: bool = False) -> Path:
    model, optimizer = trained(steps=1)
    links = ("last", "best") if best else ("last",)
    return checkpoint.save(root, step, model.state_dict(), optimizer.state_dict(), {"step": step}, links)


def test_links_lead_to_the_newest_and_the_best_and_the_rest_is_deleted(tmp_path: Path) -> None:
    for step, best in ((10, True), (20, False), (30, True), (40, False), (50, False)):
        save_one(tmp_path, step, best)
    assert checkpoint.load(tmp_path / "last").state["step"] == 50
    assert checkpoint.load(tmp_path / "best").state["step"] == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last", "step-000030", "step-000050"]


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    directory = save_one(tmp_path)
    names = {path.name for path in directory.iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json", "MANIFEST.json"}
    for path in directory.glob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    for path in directory.glob("*.safetensors"):
        serialization.load(path)


FILES = ["model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json"]


@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_and_named(tmp_path: Path, name: str) -> None:
    path = save_one(tmp_path) / name
    good = path.read_bytes()
    for position in (0, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(CheckpointError, match=f"{name} is damaged: its sha256"):
            checkpoint.load(tmp_path / "last")
    for length in (0, 4, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(
            CheckpointError, match=f"{name} is truncated: MANIFEST.json expects {len(good)} bytes, and it has {length}"
        ):
            checkpoint.load(tmp_path / "last")
    path.write_bytes(good + b"\n")
    with pytest.raises(CheckpointError, match=f"{name} is too long"):
        checkpoint.load(tmp_path / "last")
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{name} cannot be read: No such file"):
        checkpoint.load(tmp_path / "last")


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a checkpoint: it has no MANIFEST\.json"):
        checkpoint.load(tmp_path)
    manifest = save_one(tmp_path) / "MANIFEST.json"
    good = json.loads(manifest.read_text())
    for content in ("", "[]", "{", '{"format": "something else"}'):
        manifest.write_text(content)
        with pytest.raises(CheckpointError, match=r"MANIFEST\.json (cannot be read|is not the manifest)"):
            checkpoint.load(tmp_path / "last")
    manifest.write_text(json.dumps({**good, "version": 99}))
    with pytest.raises(CheckpointError, match="format version 99, and this nanotorch reads version 2 and those before"):
        checkpoint.load(tmp_path / "last")
    del good["files"]["state.json"]
    manifest.write_text(json.dumps(good))
    with pytest.raises(CheckpointError, match=r"incomplete: its manifest has no 'state\.json'"):
        checkpoint.load(tmp_path / "last")


@pytest.mark.parametrize("failing", ["fsync", "rename", "symlink"])
def test_a_save_that_fails_leaves_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    save_one(tmp_path, 1, best=True)

    def no_space(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, no_space)
    with pytest.raises(
        CheckpointError, match=r"step-000002 cannot be written: No space left on device \([\d,]+ bytes are needed, "
    ):
        save_one(tmp_path, 2, best=True)
    monkeypatch.undo()
    for link in ("last", "best"):
        assert checkpoint.load(tmp_path / link).state == {"step": 1}
    assert not [path for path in tmp_path.iterdir() if "writing" in path.name]
    save_one(tmp_path, 3)
    assert checkpoint.load(tmp_path / "last").state == {"step": 3}


def test_files_reach_the_disk_before_their_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def recorded(kind: str, function):
        def call(*arguments: object, **options: object) -> object:
            named = os.readlink(f"/proc/self/fd/{arguments[0]}") if kind == "flush" else str(arguments[-1])
            events.append(f"{kind} {Path(named).name}")
            return function(*arguments, **options)

        return call

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to know which file a descriptor belongs to")
    monkeypatch.setattr(os, "fsync", recorded("flush", fsync))
    monkeypatch.setattr(os, "rename", recorded("rename to", rename))
    monkeypatch.setattr(os, "replace", recorded("rename to", replace))
    save_one(tmp_path, 7)
    temporary = f".step-000007.writing-{os.getpid()}"
    expected = [f"flush {name}" for name in [*FILES, "MANIFEST.json", temporary]]
    assert events == [
        *expected,
        "rename to step-000007",
        f"flush {tmp_path.name}",
        "rename to last",
        f"flush {tmp_path.name}",
    ]


# ------------------------------------------------------------ not more often than the disk can bear


def test_what_comes_too_soon_waits_in_memory_and_is_written_at_the_end(tmp_path: Path) -> None:
    model, optimizer = trained()
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for step in (10, 20, 30, 40):
            with torch.no_grad():
                model[0].weight.fill_(step)
            state = {"step": step}
            checkpoints.save(step, model.state_dict(), optimizer.state_dict(), state, best=step in (10, 30))
            state["step"] = None
        assert checkpoint.load(tmp_path / "last").state == {"step": 10}
        with torch.no_grad():
            model[0].weight.fill_(0.0)
    for link, step in (("best", 30), ("last", 40)):
        loaded = checkpoint.load(tmp_path / link)
        assert loaded.state == {"step": step}
        assert (loaded.model["0.weight"] == step).all()


@pytest.mark.parametrize("kind, written", [(RuntimeError, 2), (KeyboardInterrupt, 1)])
def test_what_waits_is_written_when_training_fails_but_not_when_somebody_wants_to_leave_at_once(
    tmp_path: Path, kind: type[BaseException], written: int
) -> None:
    model, optimizer = trained()

    def fail() -> None:
        with checkpoint.Checkpoints(tmp_path) as checkpoints:
            for step in (1, 2):
                checkpoints.save(step, model.state_dict(), optimizer.state_dict(), {"step": step}, best=True)
            raise kind

    with pytest.raises(kind):
        fail()
    for link in ("last", "best"):
        assert checkpoint.load(tmp_path / link).state == {"step": written}
    assert len(list(tmp_path.glob("step-*"))) == written  # the newest, and the one before it


def test_after_a_second_a_checkpoint_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    model, optimizer = trained()
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for step, time, written in ((1, 0.0, 1), (2, 0.5, 1), (3, 1.1, 3), (4, 1.2, 3), (5, 2.2, 5)):
            now[0] = time
            best = step == 2
            checkpoints.save(step, model.state_dict(), optimizer.state_dict(), {"step": step}, best)
            assert checkpoint.load(tmp_path / "last").state == {"step": written}
        assert checkpoint.load(tmp_path / "best").state == {"step": 2}
