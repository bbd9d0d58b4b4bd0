"""Sweeps: every trial is the run that its config makes alone, whatever stops the sweep, and whoever leaves it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from nanotorch.train.cli import compare, evaluate, predict, report
from nanotorch.train.cli.train import main
from nanotorch.train.config.loading import load, loads
from nanotorch.train.record import checkpoint
from nanotorch.train.record.layout import strangers
from nanotorch.train.record.resume import ResumeError
from nanotorch.train.run import side_by_side
from nanotorch.train.run.run import run
from nanotorch.train.sweep.run_sweep import SweepResult, run_sweep
from nanotorch.train.sweep.trials import listing
from nanotorch.train.use.loaded_run import load_run
from run_results import assert_same, left, timeless
from trainer_process import TrainerProcess

CONFIG = """
name: tiny
seed: 3
device: cpu
data: {name: iris}
model: {hidden: [6], dropout: 0.2}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.02}
train: {epochs: 3, batch_size: 30}
checkpoint: {every_seconds: 0}
sweep: {optimizer.lr: [1e-3, 2e-2], model.dropout: [0.0, 0.3]}
"""
FOUR = ["trial-1", "trial-2", "trial-3", "trial-4"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """The sweep that nobody stopped."""
    return run_sweep(load(config), CONFIG, tmp_path_factory.mktemp("whole") / "sweep", progress_bar=False)


def sweep(directory: Path, *overrides: str) -> SweepResult:
    return run_sweep(loads(CONFIG, overrides=overrides), CONFIG, directory, progress_bar=False)


def alone(trial: Path, place: Path, *overrides: str) -> dict[str, Any]:
    """What the run leaves that the trial's own resolved.yaml makes."""
    return left(run(load(trial / "resolved.yaml", overrides), run_directory=place, progress_bar=False).directory)


def same_sweep(directory: Path, whole: SweepResult) -> None:
    for name in FOUR:
        assert_same(directory / name, left(whole.directory / name))
    summaries = [json.loads((place / "summary.json").read_text()) for place in (directory, whole.directory)]
    assert summaries[0] == summaries[1]
    assert (directory / "trials.csv").read_text() == (whole.directory / "trials.csv").read_text()


# ------------------------------------------------------------ trials are runs


def test_every_trial_is_its_own_separate_run(whole: SweepResult, tmp_path: Path) -> None:
    assert sorted(one.trial.name for one in whole.trials) == FOUR
    for name in FOUR:
        assert_same(whole.directory / name, alone(whole.directory / name, tmp_path / name))


def test_trials_that_share_no_program_and_stop_early_are_their_own_runs(tmp_path: Path) -> None:
    overrides = ["sweep={model.hidden: [[4], [5, 3]], train.batch_size: [16, 45]}"]
    found = sweep(tmp_path / "s", *overrides, "train.epochs=4", "early_stopping={patience: 1}", "train.ema=0.9")
    assert len(found.trials) == 4
    for one in found.trials:
        place = found.directory / one.trial.name
        assert_same(place, alone(place, tmp_path / one.trial.name))
        assert load(place / "resolved.yaml") == one.trial.config


def test_trials_in_one_program_are_their_own_runs(tmp_path: Path) -> None:
    more = ["train.compile=true", "train.epochs=2", "sweep={optimizer.lr: [1e-3, 2e-2], seed: 2}", "train.batch_size=7"]
    found = sweep(tmp_path / "s", *more)
    for one in found.trials:
        place = found.directory / one.trial.name
        assert_same(place, alone(place, tmp_path / one.trial.name))
        assert_same(place, alone(place, tmp_path / f"{one.trial.name}-plain", "train.compile=false"))


def test_more_trials_than_are_open_at_once(whole: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "AT_ONCE", 3)
    same_sweep(sweep(tmp_path / "s").directory, whole)


def test_the_best_trial_has_the_best_validation_score(whole: SweepResult) -> None:
    summary = json.loads((whole.directory / "summary.json").read_text())
    of_each = {}
    for name in FOUR:
        records = [json.loads(line) for line in (whole.directory / name / "metrics.jsonl").read_text().splitlines()]
        of_each[name] = max((record["validation_accuracy"], -record["validation_loss"]) for record in records)
    order = sorted(FOUR, key=lambda name: of_each[name], reverse=True)
    assert [one["name"] for one in summary["trials"]] == order
    assert summary["best"] == order[0] == whole.best.trial.name
    assert whole.best.score == of_each[order[0]][0]
    with (whole.directory / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == order
    assert [float(row["optimizer.lr"]) for row in rows] == [one.trial.values["optimizer.lr"] for one in whole.trials]


def test_losses_that_measure_different_things_rank_no_equals(tmp_path: Path) -> None:
    """With a rate of 0 all trials have one accuracy, and by its size another loss would be the best."""
    swept = "sweep={loss.label_smoothing: [0.1, 0.3, 0.0]}"
    found = sweep(tmp_path / "s", "optimizer.lr=0", swept)
    assert len({one.score for one in found.trials}) == 1
    assert found.trials[1].loss != found.trials[2].loss
    assert [one.trial.name for one in found.trials] == ["trial-1", "trial-2", "trial-3"]
    assert "no smaller loss" not in (found.directory / "report.html").read_text()


def test_that_seeds_change_the_rows_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sweep(tmp_path / "s", "train.epochs=1", "sweep={seed: 2}")
    said = "Trials of another seed are judged on other rows"
    assert said in capsys.readouterr().out
    assert said in (found.directory / "report.html").read_text()
    assert said in listing(loads(CONFIG, overrides=["sweep={seed: 2}"]))
    assert said not in listing(loads(CONFIG))


def test_trials_of_folds_are_cross_validated(tmp_path: Path) -> None:
    found = sweep(tmp_path / "s", "train.folds=2", "sweep={optimizer.lr: [1e-3, 2e-2]}", "train.epochs=2")
    means = []
    for name in FOUR[:2]:
        place = tmp_path / "s" / name
        assert_same(place / "fold-2", alone(place / "fold-2", tmp_path / name))
        records = [
            [json.loads(line) for line in (place / fold / "metrics.jsonl").read_text().splitlines()]
            for fold in ("fold-1", "fold-2")
        ]
        best = [max(record["validation_accuracy"] for record in history) for history in records]
        means.append(sum(best) / 2)
        summary = json.loads((place / "summary.json").read_text())
        assert summary["folds"] == 2 and set(summary["runs"]) == {"fold-1", "fold-2"}
    assert {one.trial.name: one.score for one in found.trials} == pytest.approx(dict(zip(FOUR, means, strict=False)))


# ------------------------------------------------------------ halving


@pytest.mark.parametrize("at_once", [64, 3])
def test_halving_lets_the_best_go_on(tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "AT_ONCE", at_once)
    given = "sweep={halving: 2, optimizer.lr: [1e-4, 1e-3, 1e-2, 5e-2]}"
    found = sweep(tmp_path / "s", given, "train.epochs=4", "checkpoint.keep=9")
    full = sweep(tmp_path / "full", "sweep={optimizer.lr: [1e-4, 1e-3, 1e-2, 5e-2]}", "train.epochs=4")

    def until(name: str, epochs: int) -> tuple[float, float]:
        lines = (full.directory / name / "metrics.jsonl").read_text().splitlines()[:epochs]
        records = map(json.loads, lines)
        return max((record["validation_accuracy"], -record["validation_loss"]) for record in records)

    first = sorted(FOUR, key=lambda name: until(name, 1), reverse=True)
    second = sorted(first[:2], key=lambda name: until(name, 2), reverse=True)
    epochs = {**dict.fromkeys(first[2:], 1), second[1]: 2, second[0]: 4}
    for name, count in epochs.items():
        summary = json.loads((found.directory / name / "summary.json").read_text())
        assert summary["epochs"] == count
        assert (summary["stopped"] or "").startswith("left the sweep after") == (count < 4)
    assert_same(found.directory / second[0], left(full.directory / second[0]))
    # who left stands where its own run stood then
    for name in first[2:]:
        steps = epochs[name] * 3
        kept = checkpoint.load(found.directory / name / "checkpoints" / f"step-{steps:06d}")
        own = run(
            load(found.directory / name / "resolved.yaml", ["train.epochs=1"]), run_directory=tmp_path / name,
            progress_bar=False,
        )  # fmt: skip
        other = checkpoint.load(own.directory / "checkpoints" / "last")
        assert {key: value.tolist() for key, value in kept.model.items()} == {
            key: value.tolist() for key, value in other.model.items()
        }
        assert timeless(kept.state) == timeless(other.state)


@pytest.mark.parametrize("call", [5, *(pytest.param(call, marks=pytest.mark.slow) for call in (2, 4, 8))])
def test_a_killed_halving_goes_on_with_the_same(
    trainer: TrainerProcess, config: Path, tmp_path: Path, call: int
) -> None:
    arguments = [config, "train.epochs=4", "sweep={halving: 2, optimizer.lr: [1e-4, 1e-3, 1e-2, 5e-2]}", "--resume"]
    arguments += ["auto", "--output"]
    assert trainer(*arguments, tmp_path / "killed", at=("evaluate", call, signal.SIGKILL)).code == -signal.SIGKILL
    assert trainer(*arguments, tmp_path / "killed").code == 0
    assert trainer(*arguments, tmp_path / "whole").code == 0
    for name in FOUR:
        assert_same(tmp_path / "killed" / name, left(tmp_path / "whole" / name))


# ------------------------------------------------------------ killed, interrupted, resumed


@pytest.mark.parametrize(
    "at",
    [
        ("evaluate", 8, signal.SIGKILL),
        ("scores", 5, signal.SIGKILL),
        ("file", 150, signal.SIGKILL),
        *(pytest.param(("file", call, signal.SIGKILL), marks=pytest.mark.slow) for call in (9, 60, 250, 300)),
        pytest.param(("evaluate", 3, signal.SIGKILL), marks=pytest.mark.slow),
    ],
    ids=lambda at: f"{at[0]}-{at[1]}",
)
def test_a_killed_sweep_goes_on(
    trainer: TrainerProcess, config: Path, whole: SweepResult, tmp_path: Path, at: Any
) -> None:
    command = (config, "--output", tmp_path / "s", "--resume", "auto")
    assert trainer(*command, at=at).code == -signal.SIGKILL
    ended = trainer(*command)
    assert ended.code == 0, ended.err
    same_sweep(tmp_path / "s", whole)
    assert trainer(*command).out == f"already complete: {tmp_path / 's'}\n"


# Of the trials that are judged, the first is in the main thread, where signals are heard at once.
@pytest.mark.parametrize(("at", "number"), [(("evaluate", 3), signal.SIGINT), (("scores", 2), signal.SIGTERM)])
def test_an_interrupt_saves_all_trials_and_says_how_to_go_on(
    trainer: TrainerProcess, config: Path, whole: SweepResult, tmp_path: Path, at: Any, number: signal.Signals
) -> None:
    ended = trainer(config, "--output", tmp_path / "s", at=(*at, number))
    assert ended.code == 128 + number
    assert ended.err.count("\n") == 1 and f"{number.name}: stopped; " in ended.err, ended.err
    assert f"--resume {tmp_path / 's'} goes on" in ended.err
    assert trainer(config, "--resume", tmp_path / "s").code == 0
    same_sweep(tmp_path / "s", whole)


def test_another_config_is_refused_and_more_trials_are_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, place = tmp_path / "tiny.yaml", str(tmp_path / "s")
    path.write_text(CONFIG)
    drawn = "sweep={trials: 2, optimizer.lr: {loguniform: [1e-3, 1e-1]}}"
    first = [str(path), "--output", place, "train.epochs=1", "--no-progress"]
    assert main([*first, drawn]) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "s" / "trial-1").rglob("*") if file.is_file()}
    capsys.readouterr()
    again = [*first, "--resume", "auto"]
    assert main([*again, drawn.replace("1e-1", "1e-2"), "batch=1"]) == 2
    capsys.readouterr()
    assert main([*again, drawn.replace("1e-1", "1e-2"), "--allow-config-change"]) == 1
    message = capsys.readouterr().err
    assert f"{place} is a sweep with another config" in message and "sweep.optimizer.lr.loguniform: " in message
    assert main([*again, "sweep=null"]) == 1
    assert "is a sweep, and this config is of one run" in capsys.readouterr().err
    assert main([*again, drawn.replace("trials: 2", "trials: 3")]) == 0
    assert len(json.loads((tmp_path / "s" / "summary.json").read_text())["trials"]) == 3
    assert before == {file: file.read_bytes() for file in before}
    assert main([*again, drawn.replace("trials: 2", "trials: 3"), "train.epochs=2"]) == 0
    assert {one["epochs"] for one in json.loads((tmp_path / "s" / "summary.json").read_text())["trials"]} == {2}


# ------------------------------------------------------------ trials that fail


def test_a_trial_that_diverges_does_not_end_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.replace("Adam", "SGD"))
    given = [str(path), "--output", str(tmp_path / "s"), "--no-progress", "sweep={optimizer.lr: [1e30, 2e-2]}"]
    assert main(given) == 0
    found = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert (found["best"], found["trials"][1]["name"]) == ("trial-2", "trial-1")
    assert "training loss is " in found["trials"][1]["error"] or "weights of " in found["trials"][1]["error"]
    out = capsys.readouterr().out
    assert "1 of 2 trials failed" in out and "trial-1 (1 of 2)  failed: " in out
    assert not (tmp_path / "s" / "trial-1" / "summary.json").exists()
    assert_same(tmp_path / "s" / "trial-2", alone(tmp_path / "s" / "trial-2", tmp_path / "own"))


def test_where_all_trials_fail_the_message_and_the_exit_code_say_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.replace("Adam", "SGD"))
    given = [str(path), "--output", str(tmp_path / "s"), "--no-progress"]
    assert main([*given, "sweep={optimizer.lr: [1e30, 1e31]}"]) == 3
    assert "all 2 trials failed; the first: " in capsys.readouterr().err


# ------------------------------------------------------------ what can be done with its directory


def test_commands_take_the_best_trial_of_a_sweep(
    whole: SweepResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, rows = whole.directory / whole.best.trial.name, tmp_path / "rows.csv"
    names = load_run(best).preprocessing.feature_names
    rows.write_text(f"{','.join(names)}\n5.1,3.5,1.4,0.2\n")
    said = f"note: {whole.directory} is a sweep, and this is of its best trial, {best.name}\n"
    for command, more in ((evaluate.main, ["--json"]), (predict.main, ["--input", str(rows), "--output", "-"])):
        assert command([str(best), *more]) == 0
        expected = capsys.readouterr().out
        assert command([str(whole.directory), *more]) == 0
        assert capsys.readouterr() == (expected, said)
    assert compare.main([str(whole.directory)]) == 0
    shown = capsys.readouterr().out
    ranks = [line.split()[1] for line in shown.splitlines() if re.match(r"#\d+ ", line)]
    assert ranks == [one.trial.name for one in whole.trials]
    assert 0 < shown.index("validation accuracy") < shown.index("test accuracy")  # by which they are ranked comes first
    assert (best / "report.html").is_file()
    assert not [*strangers(whole.directory)]  # so that --overwrite may take its place


def test_trials_of_other_data_are_never_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, path = tmp_path / "t.csv", tmp_path / "tiny.yaml"
    table.write_text("a,b,y\n" + "".join(f"{row},{row % 7},{row * 0.5}\n" for row in range(40)))
    path.write_text(
        f"name: t\ndata: {{file: {table}, target: y}}\nmodel: {{hidden: []}}\nloss: {{name: MSELoss}}\n"
        "optimizer: {name: SGD, lr: 1e-3}\ntrain: {epochs: 1, batch_size: 8}\nsweep: {trials: 1, optimizer.lr:"
        " {uniform: [1e-3, 1e-2]}}\n"
    )
    given = [str(path), "--output", str(tmp_path / "s"), "--resume", "auto", "--quiet"]
    assert main(given) == 0
    table.write_text(table.read_text().replace("5,5,2.5", "5,5,3.5"))
    assert main([*given, "sweep.trials=2"]) == 1
    assert f"{tmp_path / 's' / 'trial-1'}: the data are not what they were" in capsys.readouterr().err


def test_the_page_of_a_trial_is_made_when_it_is_asked_for(whole: SweepResult, tmp_path: Path) -> None:
    place = tmp_path / "trial"
    shutil.copytree(whole.directory / whole.trials[-1].trial.name, place, symlinks=True)
    assert not (place / "report.html").exists()
    assert report.main([str(place)]) == 0
    page = (place / "report.html").read_text()
    scores = json.loads((place / "summary.json").read_text())["scores"]["test"]
    assert f"{scores['loss']:.4f}" in page


@pytest.mark.parametrize("left_of_it", [None, 0, 200])
def test_a_trial_that_lost_its_metrics_writes_them_again(
    left_of_it: int | None, whole: SweepResult, tmp_path: Path
) -> None:
    place = tmp_path / "s"
    shutil.copytree(whole.directory, place, symlinks=True)
    (place / "summary.json").unlink()
    metrics = place / whole.best.trial.name / "metrics.jsonl"
    if left_of_it is None:
        metrics.unlink()
    else:
        metrics.write_bytes(metrics.read_bytes()[:left_of_it])
    run_sweep(load(place / "resolved.yaml"), run_directory=place, resume=True, progress_bar=False)
    same_sweep(place, whole)


def test_other_trials_under_the_same_names_are_refused(whole: SweepResult, tmp_path: Path) -> None:
    """The first of the draws, and those of keys in another order, have other values than those that are there."""
    place = tmp_path / "s"
    shutil.copytree(whole.directory, place, symlinks=True)
    drawn = loads(CONFIG, overrides=["sweep.trials=3"])
    with pytest.raises(ResumeError, match=r"sweep\.trials: null -> 3"):
        run_sweep(drawn, run_directory=place, resume=True, progress_bar=False)
    swapped = loads(CONFIG, overrides=["sweep=null", "sweep={model.dropout: [0.0, 0.3], optimizer.lr: [1e-3, 2e-2]}"])
    with pytest.raises(ResumeError, match="the keys in another order"):
        run_sweep(swapped, run_directory=place, resume=True, progress_bar=False)


def test_a_run_of_another_config_is_not_taken_for_a_trial(whole: SweepResult, tmp_path: Path) -> None:
    place = tmp_path / "s"
    shutil.copytree(whole.directory, place, symlinks=True)
    (place / "summary.json").unlink()
    shutil.rmtree(place / "trial-2")
    shutil.copytree(place / "trial-3", place / "trial-2", symlinks=True)
    with pytest.raises(ResumeError, match=r"trial-2 is the run of another config(.|\n)*delete the directory"):
        run_sweep(load(place / "resolved.yaml"), run_directory=place, resume=True, progress_bar=False)
    shutil.rmtree(place / "trial-2")
    run_sweep(load(place / "resolved.yaml"), run_directory=place, resume=True, progress_bar=False)
    same_sweep(place, whole)


DAMAGES = {
    "no resolved.yaml": ("resolved.yaml", r"trial-2 has files, but no resolved\.yaml"),
    "no checkpoints": ("checkpoints", "says that the run is complete, but its checkpoints are gone"),
    "no whole checkpoint": ("checkpoints/*/MANIFEST.json", r"no checkpoint of .*trial-2 is whole"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_trial_is_told_with_what_to_do_in_a_sweep(damage: str, whole: SweepResult, tmp_path: Path) -> None:
    place, (pattern, said) = tmp_path / "s", DAMAGES[damage]
    shutil.copytree(whole.directory, place, symlinks=True)
    (place / "summary.json").unlink()
    for path in (place / "trial-2").glob(pattern):
        shutil.rmtree(path) if path.is_dir() else path.write_text("") if "*" in pattern else path.unlink()
    with pytest.raises(ResumeError, match=rf"{said}(.|\n)*delete .*trial-2, and this run is trained anew") as caught:
        run_sweep(load(place / "resolved.yaml"), run_directory=place, resume=True, progress_bar=False)
    assert "--overwrite" not in str(caught.value) and "without --resume" not in str(caught.value)
    shutil.rmtree(place / "trial-2")
    run_sweep(load(place / "resolved.yaml"), run_directory=place, resume=True, progress_bar=False)
    same_sweep(place, whole)
