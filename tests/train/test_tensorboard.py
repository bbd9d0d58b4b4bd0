"""Logs for TensorBoard: what TensorBoard itself reads from them, and the records to the bit."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from nanotorch.train.cli.train import main as train
from nanotorch.train.record.event_file import EventFile, crc32c
from nanotorch.train.record.tensorboard_log import TensorBoardLog

CONFIG = """\
name: iris
data: {name: iris}
model: {hidden: [4]}
loss: {name: CrossEntropyLoss}
optimizer: {name: SGD, lr: 1e-2}
train: {epochs: 3, batch_size: 32}
log: {tensorboard: true}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorboard")
    (folder / "config.yaml").write_text(CONFIG)
    assert train([str(folder / "config.yaml"), "--output", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves in a folder, by a reader of our own that checks every checksum."""
    (path,) = folder.iterdir()
    data, curves, place = path.read_bytes(), {}, 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        for start, size in ((place, 8), (place + 12, length)):
            value = crc32c(data[start : start + size])
            masked = ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
            assert masked == struct.unpack_from("<I", data, start + size)[0]
        event = fields(data[place + 12 : place + 12 + length])
        place += 16 + length
        if 5 in event:
            point = fields(fields(event[5])[1])
            if 2 in point:
                curves.setdefault(point[1].decode(), []).append((event[2], struct.unpack("<f", point[2])[0]))
    return curves


def fields(message: bytes) -> dict[int, object]:
    """The fields of a message: numbers for varints, bytes for all else."""

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    found: dict[int, object] = {}
    place = 0
    while place < len(message):
        field, kind = divmod(varint(), 8)
        if kind == 0:
            found[field] = varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        found[field] = message[place : place + size]
        place += size
    return found


def records(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_checksum_is_that_of_the_standard(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum  # RFC 3720, B.4


def test_every_curve_of_the_run_is_there(run: Path) -> None:
    for part in ("train", "validation"):
        curves = read(run / "tensorboard" / part)
        for name in ("loss", "accuracy"):
            expected = [(record["step"], float(np.float32(record[f"{part}_{name}"]))) for record in records(run)]
            assert curves[name] == expected
    assert [value for _, value in read(run / "tensorboard" / "train")["learning_rate"]] == [float(np.float32(0.01))] * 3
    scores = json.loads((run / "summary.json").read_text())["scores"]["test"]
    assert read(run / "tensorboard" / "test")["loss"] == [(records(run)[-1]["step"], float(np.float32(scores["loss"])))]


def test_a_run_that_goes_on_has_every_epoch_once(run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run, tmp_path / "run")  # the other tests read the run as it is
    arguments = ["train.epochs=5", "--resume", str(run), "--quiet"]
    assert train([str(run / "config.yaml"), *arguments]) == 0
    steps = [step for step, _ in read(run / "tensorboard" / "validation")["loss"]]
    assert steps == [record["step"] for record in records(run)]
    assert len(steps) == 5


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    with TensorBoardLog(None) as log:
        log.begin("", [])
        log.epoch({"step": 1, "train_loss": 1.0, "seconds": 1.0})
        log.finish({"loss": 1.0}, 1)
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_32_bits_and_not_finite(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "events.out.tfevents.1.x", 1.0)
    for step, value in enumerate((1e300, -1e300, math.inf, math.nan, 5e-324)):
        file.scalar("größe", value, step * 2**40, 2.0)
    file.close()
    (points,) = read(tmp_path).values()
    assert [value for _, value in points][:3] == [3.4028234663852886e38, -3.4028234663852886e38, math.inf]
    assert [step for step, _ in points] == [k * 2**40 for k in range(5)]


def test_a_log_that_cannot_be_written_does_not_stop_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with TensorBoardLog(tmp_path) as log:
        log.begin("", [])
        log.epoch({"step": 1, "train_loss": 1.0, "seconds": 1.0})
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_tensorboard_reads_it(run: Path) -> None:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "tensorboard" / "train"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "accuracy", "learning_rate", "gradient_norm", "seconds"}
    expected = [(record["step"], float(np.float32(record["train_loss"]))) for record in records(run)]
    assert [(point.step, point.value) for point in events.Scalars("loss")] == expected
    (text,) = events.Tensors("config/text_summary" if "config/text_summary" in events.Tags()["tensors"] else "config")
    assert b"name: iris" in text.tensor_proto.string_val[0]
