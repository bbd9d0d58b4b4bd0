"""Whatever is not finite ends a run with exit code 3 and a sentence:
in a loss, a part, a score, or in weights alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanotorch import no_grad
from nanotorch.optim import SGD
from nanotorch.registry import METRICS
from nanotorch.train.cli.train import main
from nanotorch.train.data.datasets import load
from nanotorch.train.data.split import split


def write(rows: list[tuple[Any, ...]]) -> None:
    """A table of these rows, the target last."""
    names = ["a", "b"][: len(rows[0]) - 1]
    Path("t.csv").write_text("\n".join(",".join(map(str, row)) for row in [(*names, "y"), *rows]), encoding="utf-8")


def ended(
    capsys: pytest.CaptureFixture[str], loss: str, rows: list[tuple[Any, ...]], **changes: Any
) -> tuple[int, str]:
    """Exit code and message of a run on a table, with every score that its task has."""
    write(rows)
    task = {"MSELoss": "regression", "L1Loss": "regression", "BCEWithLogitsLoss": "binary"}.get(loss, "multiclass")
    config: dict[str, Any] = {
        "name": "d",
        "data": {"file": "t.csv", "target": "y"},
        "model": {"hidden": [4], "activation": "Tanh"},
        "loss": {"name": loss},
        "optimizer": {"name": "SGD", "lr": 0.1},
        "train": {"epochs": 2, "batch_size": 10},
    }
    config["train"]["metrics"] = [name for name in METRICS if task in METRICS.entry(name).facts["tasks"]]
    for key, value in changes.items():
        config[key] |= value
    Path("run.yaml").write_text(json.dumps(config), encoding="utf-8")
    code = main(["run.yaml", "--quiet", "--output", "run"])
    return code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs in a folder of their own."""
    monkeypatch.chdir(tmp_path)


def table(loss: str, columns: int = 2) -> list[tuple[Any, ...]]:
    """Sixty rows for a loss."""
    numbers = np.random.default_rng(0).normal(size=(60, columns)).round(3).tolist()
    label = {"MSELoss": lambda x: x, "L1Loss": lambda x: x, "BCEWithLogitsLoss": lambda x: "pn"[x > 0]}.get(
        loss, lambda x: "abc"[(x > -0.5) + (x > 0.5)]
    )
    return [(*row, label(row[0])) for row in numbers]


LOSSES = ["MSELoss", "L1Loss", "BCEWithLogitsLoss", "CrossEntropyLoss", "MultiMarginLoss"]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("loss", LOSSES)
def test_in_training(capsys: pytest.CaptureFixture[str], loss: str) -> None:
    code, message = ended(capsys, loss, table(loss), optimizer={"lr": 1e300})
    assert code == 3 and "step" in message, message


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("loss", ["L1Loss", "CrossEntropyLoss", "MultiMarginLoss"])
@pytest.mark.slow
def test_in_one_part_alone(capsys: pytest.CaptureFixture[str], loss: str, part: str) -> None:
    rows = table(loss)
    write(rows)
    numbers = getattr(split(load("file", {"file": "t.csv", "target": "y"}, 0), 0.2, 0.2, 0), part).numbers
    rows[numbers[0]] = (1e308, *rows[numbers[0]][1:])  # more than float32 holds
    code, message = ended(capsys, loss, rows, model={"activation": "ReLU"})
    assert code == 3 and re.match(f"the {part} (loss|accuracy) is", message), message


def test_in_weights_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    step = SGD.step

    def overflow(self: SGD) -> None:
        step(self)
        with no_grad():
            self.param_groups[0]["params"][0].fill_(float("inf"))  # the outputs are finite: tanh of it is 1 or -1

    monkeypatch.setattr(SGD, "step", overflow)
    code, message = ended(capsys, "MSELoss", table("MSELoss", 1), train={"epochs": 1})
    assert code == 3 and message.startswith("the weights of 0.weight are not finite after step "), message
    assert not Path("run/checkpoints").exists()
