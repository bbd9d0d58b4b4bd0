"""What a config leaves open and its table decides: one decision for runs, folds and trials, stated, and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from nanotorch.train.config.loading import load, loads, settled_as
from nanotorch.train.fit.build import steps_per_epoch
from nanotorch.train.fit.decided import settled, settled_data
from nanotorch.train.fit.prepare import load as load_table
from nanotorch.train.record import resume
from nanotorch.train.run.folds import run_all
from nanotorch.train.run.run import run
from nanotorch.train.sweep.run_sweep import run_sweep

LEAST = "name: least\ndata: {name: iris}\nmodel: {}\n"
UNEVEN = "name: uneven\ndata: {name: make_classification, n_samples: 300, weights: [0.9]}\nmodel: {}\n"


def test_data_and_model_alone_train_as_well_as_a_linear_model(tmp_path: Path) -> None:
    config = loads(LEAST)
    result = run(config, None, False, tmp_path / "run")
    parts = settled_data(config)[1].parts
    train, held = ((np.asarray(parts[name].features), parts[name].targets) for name in ("train", "test"))
    scaler = StandardScaler().fit(train[0])
    linear = LogisticRegression().fit(scaler.transform(train[0]), train[1])
    assert result.scores["test"]["accuracy"] >= linear.score(scaler.transform(held[0]), held[1]) - 0.04


def test_what_was_chosen_is_said_and_resolved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(loads(LEAST, overrides=["train.accumulate=2"]), None, False, tmp_path / "run")
    note = (
        "note: chosen for about 90 rows of training, where the config leaves it open: AdamW with lr 0.003, weight_decay"
        " 0.01, train.epochs=60, train.batch_size=16\n"
    )
    assert note in capsys.readouterr().out
    assert note.removeprefix("note: ").strip() in (tmp_path / "run" / "train.log").read_text()
    kept = load(tmp_path / "run" / "resolved.yaml")
    assert (kept.train.epochs, kept.train.batch_size, kept.train.monitor) == (60, 16, "auto")
    assert settled(kept, load_table(kept))[0] == kept


def test_what_is_stated_is_kept_and_nothing_is_said() -> None:
    stated = ["train={epochs: 3, batch_size: 7, monitor: accuracy}", "optimizer={name: SGD, lr: 0.1}"]
    config = loads(UNEVEN, overrides=stated)
    assert settled(config, load_table(config)) == (config, [])


def test_epochs_follow_the_steps_that_a_stated_batch_makes() -> None:
    config = loads(UNEVEN, overrides=["train.batch_size=4"])
    assert settled_data(config)[0].train.epochs == 33  # 45 steps each, 1,485 in all
    config = loads(UNEVEN, overrides=["train={batch_size: 4, accumulate: 2}"])
    assert settled_data(config)[0].train.epochs == 60  # the most


@pytest.mark.parametrize("samples", [215, 216, 321])
def test_a_batch_that_the_table_decides_leaves_no_single_row(samples: int) -> None:
    """129, 130 and 193 rows for training: a batch of 16 rows would leave one or two, which folds make one."""
    text = (
        f"name: few\ndata: {{name: make_regression, n_samples: {samples}}}\nmodel: {{batch_norm: true}}\n"
        "train: {epochs: 1}\n"
    )
    config, data = settled_data(loads(text))
    assert isinstance(config.train.batch_size, int) and 16 < config.train.batch_size < 32
    assert len(data.parts["train"]) % config.train.batch_size != 1
    assert steps_per_epoch(len(data.parts["train"]), config) > 1
    for keep in ("train.drop_last=true", "model.batch_norm=false"):
        assert settled_data(loads(text, overrides=[keep]))[0].train.batch_size == 16


def test_uneven_classes_are_judged_by_the_loss() -> None:
    config, data = settled_data(loads(UNEVEN))
    assert config.train.monitor == "loss"
    assert data.notices[1].startswith("always '0' would have an accuracy of 89")
    assert settled_data(loads(UNEVEN.replace("0.9", "0.7")))[0].train.monitor == "auto"


def test_folds_and_trials_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fold's own counts could be on either side of the bound."""
    folds = loads(UNEVEN, overrides=["train.folds=3", "train.epochs=1"])
    run_all(folds, None, tmp_path / "folds", progress_bar=False)
    trials = loads(UNEVEN, overrides=["sweep.optimizer.lr=[1e-3, 1e-2]", "train.epochs=1"])
    run_sweep(trials, None, tmp_path / "sweep", progress_bar=False)
    for place in ("folds/fold-1", "folds/fold-3", "sweep/trial-1", "sweep/trial-2"):
        kept = load(tmp_path / place / "resolved.yaml").train
        assert (kept.monitor, kept.batch_size) == ("loss", 16)
    assert capsys.readouterr().out.count("note: always '0'") == 2
    for config, place in ((folds, "folds"), (trials, "sweep")):
        assert resume.differences(config, tmp_path / place) == []


def test_a_run_goes_on_as_it_was_decided(tmp_path: Path) -> None:
    whole = run(loads(UNEVEN, overrides=["train.epochs=4"]), None, False, tmp_path / "whole")
    run(loads(UNEVEN, overrides=["train.epochs=2"]), None, False, tmp_path / "part")
    longer = loads(UNEVEN, overrides=["train.epochs=4"])
    assert resume.differences(longer, tmp_path / "part") == []
    found = resume.find(longer, str(tmp_path / "part"), None)
    assert run(longer, None, False, resume=found).scores == whole.scores
    assert settled_as(loads(UNEVEN), load(tmp_path / "part" / "resolved.yaml")).train.epochs == 4
