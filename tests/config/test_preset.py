"""`preset: default`: what it fills in, what wins over it, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanotorch.train.cli.train import main as train
from nanotorch.train.config.loading import loads, read_resolved, resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.config.strict_yaml import ConfigError
from nanotorch.train.data.table import DataError
from nanotorch.train.model.preset import preset


def config(more: str = "", data: str = "", *overrides: str) -> Config:
    return loads(f"name: t\npreset: default\ndata: {{name: iris{data}}}\n{more}", overrides=overrides)


def test_a_preset_fills_in_what_nobody_states() -> None:
    made = config()
    assert made.preset == "taken" and made.data.test_size == 0.2
    assert (made.model.name, made.model.shared, made.model.members) == ("tabm", False, 8)  # type: ignore[attr-defined]
    assert made.loss.name == "CrossEntropyLoss" and made.optimizer.name == "AdamW"
    assert made.scheduler is not None and made.scheduler.name == "OneCycleLR"
    assert (made.train.epochs, made.train.batch_size) == (60, 16)  # 120 rows
    assert loads("name: t\npreset: default\ndata: {name: diabetes}").loss.name == "MSELoss"


def test_what_is_stated_wins() -> None:
    made = config("model: {hidden: [5]}\nscheduler: null\ntrain: {epochs: 3}", "", "optimizer.lr=0.5")
    assert made.model.name == "tabm" and made.model.hidden == (5,)  # type: ignore[attr-defined]
    assert made.scheduler is None and (made.train.epochs, made.train.batch_size) == (3, 16)
    assert made.optimizer.arguments["lr"] == 0.5 and made.optimizer.arguments["weight_decay"] == 1.0
    other = config("model: {name: mlp, dropout: 0.3}\noptimizer: {name: SGD, lr: 0.1}")
    assert other.model.arguments["hidden"] == (64,) and other.model.arguments["dropout"] == 0.3
    assert other.optimizer.arguments["weight_decay"] == 0


def test_rows_and_columns_decide() -> None:
    small, large, wide = preset(200, 10, "binary"), preset(50_000, 10, "binary"), preset(200, 3000, "binary")
    assert small["optimizer"]["weight_decay"] > large["optimizer"]["weight_decay"]
    assert small["model"]["dropout"] > large["model"]["dropout"] and small["model"]["hidden"] < large["model"]["hidden"]
    assert wide["model"]["members"] < small["model"]["members"]
    assert small["train"]["epochs"] > large["train"]["epochs"]


def test_the_resolved_config_needs_no_table_any_more(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,y\n" + "".join(f"{row},{row % 7},{'pq'[row % 2]}\n" for row in range(60)))
    made = loads(f"name: t\npreset: default\ndata: {{file: {table}, target: y}}")
    table.unlink()
    assert loads(resolved(made)) == made
    with pytest.raises((DataError, OSError), match=r"t\.csv"):
        loads(f"name: t\npreset: default\ndata: {{file: {table}, target: y}}")


def test_mistakes_are_those_of_the_config_alone() -> None:
    with pytest.raises(ConfigError) as refused:
        config("model: {hiden: [3]}\ntrain: {epochs: many}")
    assert len(refused.value.problems) == 2 and "did you mean 'hidden'" in str(refused.value)
    with pytest.raises(ConfigError, match="default"):
        loads("name: t\npreset: best\ndata: {name: iris}")
    with pytest.raises(ConfigError, match=r"data"):
        loads("name: t\npreset: default")


def test_a_run_says_what_the_preset_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "c.yaml"
    given.write_text("name: t\npreset: default\ndata: {name: iris}\ntrain: {epochs: 1}\n")
    assert train([str(given), "--output", str(tmp_path / "run"), "--no-progress"]) == 0
    said = capsys.readouterr().out
    assert "the preset chose" in said and "model tabm" in said and "1 epochs of batches of 16 rows" in said
    kept = read_resolved(tmp_path / "run" / "resolved.yaml")
    assert kept.preset == "taken" and kept.train.epochs == 1
    assert np.isclose(kept.optimizer.arguments["lr"], 3e-3)
