"""The page of a sweep: ranks by the validation score, true to its trials' files, and what it links to is there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from html_page import Page
from nanotorch.train.cli.report import main as report
from nanotorch.train.config.loading import load, loads
from nanotorch.train.report.parallel import scale
from nanotorch.train.report.sweep_page import page
from nanotorch.train.run.run import run
from nanotorch.train.sweep.report import found
from nanotorch.train.sweep.run_sweep import SweepResult, run_sweep

SWEEP = """\
name: tried & true
data: {name: iris}
model: {hidden: [4]}
loss: {name: CrossEntropyLoss}
optimizer: {name: SGD, lr: 1e-2}
train: {epochs: 2, batch_size: 32}
early_stopping: {patience: 1}
sweep: {optimizer.lr: [1e-3, 1e-1, 1e38], scheduler: [null, {name: StepLR, step_size: 1}]}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """A sweep whose last two trials diverge."""
    result = run_sweep(loads(SWEEP), run_directory=tmp_path_factory.mktemp("sweep"), progress_bar=False)
    assert [one.trial.name for one in result.trials if one.error] == ["trial-5", "trial-6"]
    return result


def scores(result: SweepResult, name: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((result.directory / name / "summary.json").read_text())["scores"]
    return found


def html(result: SweepResult) -> str:
    return (result.directory / "report.html").read_text(encoding="utf-8")


def words(source: str) -> str:
    return " ".join("".join(Page(source).text).split())


def test_trials_are_ranked_by_their_validation_score(swept: SweepResult) -> None:
    done = [scores(swept, f"trial-{number}")["validation"] | {"number": number} for number in range(1, 5)]
    done.sort(key=lambda one: (-one["accuracy"], one["loss"]))
    expected = [f"trial-{one['number']:.0f}" for one in done]
    text = words(html(swept))
    assert re.findall(r">#\d+ (trial-\d)</a>", html(swept)) == [*expected, "trial-5", "trial-6"]
    middle = sorted(one["accuracy"] for one in done[1:])[1]
    assert f"{expected[0]} is the best by validation accuracy: {done[0]['accuracy']:.4f}, with" in text
    assert f"of 3 other trials the middle one has {middle:.4f} and the worst {done[-1]['accuracy']:.4f}. " in text
    assert "2 trials failed." in text
    assert "Ranked by validation accuracy, of the best epoch of each trial. The test scores had no part in that" in text


def test_the_page_is_true_to_the_files_and_says_how_trials_ended(swept: SweepResult) -> None:
    source = html(swept)
    parsed = Page(source)
    shown = {float(each["value"] or "nan") for each in parsed.all("data")}
    for number in range(1, 5):
        found = scores(swept, f"trial-{number}")
        assert {found["validation"]["accuracy"], found["test"]["accuracy"], found["test"]["loss"]} <= shown
    assert {1e-3, 1e-1, 1e38} <= shown
    assert all(f"failed: {one.error}" in words(source) for one in swept.trials if one.error)
    assert any("stopped early" in (one.stopped or "") and one.stopped in words(source) for one in swept.trials)
    assert "tried & true" in words(source) and "tried &amp; true" in source
    assert not re.search(r"https?:|<script", source)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_its_links_lead_somewhere(swept: SweepResult) -> None:
    parsed = Page(html(swept))
    targets = [each["href"] or "" for each in parsed.all("a")]
    files = [target for target in targets if not target.startswith("#")]
    assert len(files) == 7  # six trials and best.yaml
    assert all((swept.directory / unquote(target)).exists() for target in files)
    assert all(target[1:] in parsed.ids for target in targets if target.startswith("#"))


def test_the_best_config_trains_the_best_trial_again(swept: SweepResult, tmp_path: Path) -> None:
    text = (swept.directory / "best.yaml").read_text()
    head = (
        f"# tried & true: {swept.best.trial.name}, the best of 6 trials by validation accuracy: {swept.best.score:.4f}"
    )
    assert text.partition("\n")[0] == head
    assert text.partition("\n")[2] == (swept.directory / swept.best.trial.name / "resolved.yaml").read_text()
    again = run(load(swept.directory / "best.yaml"), progress_bar=False, run_directory=tmp_path / "again")
    assert again.scores == scores(swept, swept.best.trial.name)
    weights = "checkpoints/best/model.safetensors"
    trained = (swept.directory / swept.best.trial.name / weights).read_bytes()
    assert (tmp_path / "again" / weights).read_bytes() == trained


def test_the_page_of_a_trial_is_made_by_the_command_that_is_shown(swept: SweepResult) -> None:
    (command,) = re.findall(r"python -m nanotorch.report ([^ <]+)", words(html(swept)))
    assert report([command]) == 0
    assert (Path(command) / "report.html").is_file() and Path(command).parent == swept.directory


def test_a_page_of_trials_that_ran_in_two_ways_says_so(swept: SweepResult, tmp_path: Path) -> None:
    """As of a sweep that began before the interpreter of tables was ready, and went on when it was."""
    place = tmp_path / "s"
    shutil.copytree(swept.directory, place, symlinks=True)
    config = load(place / "resolved.yaml")

    def told(*ran: str) -> str:
        for one, text in zip(swept.trials, ran * len(swept.trials), strict=False):
            file = place / one.trial.name / "env.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "compile": text}))
        return words(str(page(found(place, config, swept.trials, "accuracy", ""))))

    assert "did not run as tables" not in told("table") and "did not run as tables" not in told("numpy")
    others = [one.trial.name for one in swept.trials[1::2]]
    said = (
        f"{len(others)} trial{'s' * (len(others) > 1)} did not run as tables ({', '.join(others)}), and the others did"
    )
    assert said in told("table", "no: 30 steps are sure to come")


def test_every_line_of_the_drawing_is_a_trial(swept: SweepResult) -> None:
    parsed = Page(html(swept))
    lines = parsed.all("polyline")
    lines = [line for line in lines if not (line["class"] or "").startswith("line ")]  # of the learning curves
    assert [line["class"] for line in lines] == ["", "", "", "best"]
    assert all(len((line["points"] or "").split()) == 3 for line in lines)  # rate, schedule and score
    (drawing,) = [each for each in parsed.all("svg") if "parallel" in (each.get("class") or "")]
    said = "Parallel coordinates of 4 trials over optimizer.lr, scheduler, validation accuracy"
    assert (drawing["aria-label"] or "").startswith(said)
    assert "2 trials failed and have no line." in words(html(swept))


def test_the_curves_of_the_best_are_drawn(swept: SweepResult) -> None:
    labels = [each["aria-label"] or "" for each in Page(html(swept)).all("svg")]
    assert [name.partition(" over")[0] for name in labels[1:]] == [
        "validation accuracy of 4 runs",
        "validation loss of 4 runs",
    ]


def test_trials_of_several_runs_show_their_spread_and_those_that_left_are_told(tmp_path: Path) -> None:
    rungs = ["sweep={optimizer.lr: [1e-3, 1e-2, 1e-1], halving: 3}", "train.folds=2", "train.monitor=loss"]
    result = run_sweep(loads(SWEEP, overrides=rungs), run_directory=tmp_path / "folds", progress_bar=False)
    spread = json.loads((tmp_path / "folds" / result.best.trial.name / "summary.json").read_text())["spread"]
    text, source = words(html(result)), html(result)
    assert spread["validation"]["loss"] in {float(each["value"] or "nan") for each in Page(source).all("data")}
    assert re.search("left early ?2", text) and "Broken lines left the sweep early." in text
    assert all(one.stopped is not None and one.stopped in text for one in result.trials[1:])
    assert [line["class"] for line in Page(source).all("polyline")] == ["left", "left", "best"]
    assert "Every trial is several runs" in text
    assert load(tmp_path / "folds" / "best.yaml").train.folds == 2


def test_one_run_is_not_trained_in_place_of_a_sweep() -> None:
    with pytest.raises(ValueError, match="run_sweep trains its trials"):
        run(loads(SWEEP))


# ------------------------------------------------------------ axes


def test_scales() -> None:
    rates = scale("lr", [1e-4, 1e-2, 1.0, 3e-3])
    assert (rates.place(1e-4), rates.place(1e-2), rates.place(1.0)) == (0.0, 0.5, 1.0)
    assert 0.36 < rates.place(3e-3) < 0.38
    assert scale("p", [0.0, 0.1, 0.4]).place(0.1) == 0.25
    assert scale("loss", [1.0, 2.0, 5.0], down=True).place(2.0) == 0.75
    assert scale("lr", [1, 10, 100], log=False).place(10) == 9 / 99
    assert scale("seed", [3]).place(3) == 0.5
    words = scale("scheduler", [{"name": "StepLR"}, None], order=[None, {"name": "StepLR"}, [1, 2]])
    assert [words.place(value) for value in (None, {"name": "StepLR"}, [1, 2])] == [1 - 0.5 / 3, 0.5, 1 - 2.5 / 3]
    assert [text for _, text in words.labels] == ["null", "{name: StepLR}", "[1, 2]"]
    assert scale("mixed", [1, "auto"]).place("auto") == 0.25


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (1e-4, 1e-1, True, ["0.0001", "0.001", "0.01", "0.1"]),
        (2e-3, 5e-2, True, ["0.003", "0.01", "0.03"]),
        (0.13, 0.97, None, ["0.2", "0.4", "0.6", "0.8"]),
        (-3.0, 11.0, None, ["0", "5", "10"]),
        (0.0, 1e-300, None, ["0", "2e-301", "4e-301", "6e-301", "8e-301", "1e-300"]),
    ],
)
def test_labels_are_round_and_few(low: float, high: float, log: bool | None, expected: list[str]) -> None:
    values = [low + (high - low) * share / 9 for share in range(10)]
    assert [text for _, text in scale("x", values, log=log).labels] == expected
