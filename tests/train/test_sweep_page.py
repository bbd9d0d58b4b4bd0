"""The page of a sweep: ranks by the validation score, true to its trials' files, and what it links to is there."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from html_page import Page
from nanotorch.train.config.loading import load, loads
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.report import figures, run_page
from nanotorch.train.report.comparison import ComparedRun
from nanotorch.train.report.parallel import scale
from nanotorch.train.report.sweep_page import Tried, lead, page, ranked
from nanotorch.train.run.run import run
from nanotorch.train.sweep.report import standing, write
from nanotorch.train.sweep.trials import trials

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
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A sweep whose last two trials diverge; the one before was never begun."""
    root, ended = tmp_path_factory.mktemp("sweep"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_page.figures, "matplotlib_is_there", lambda: False)
        for trial in trials(loads(SWEEP)):
            if trial.number == 4:
                continue
            try:
                run(trial.config, progress_bar=False, run_directory=root / trial.name)
            except DivergedError as error:
                ended[trial.name] = str(error).splitlines()[0]
        write(root, loads(SWEEP), ended)
    assert list(ended) == ["trial-5", "trial-6"]
    return root, ended


def summary(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / name / "summary.json").read_text())
    return found


def validation(root: Path, name: str) -> tuple[float, float]:
    scores = summary(root, name)["scores"]["validation"]
    return -scores["accuracy"], scores["loss"]


def test_trials_are_ranked_by_their_validation_score(swept: tuple[Path, dict[str, str]]) -> None:
    root, ended = swept
    found = standing(root, loads(SWEEP), ended)
    complete = ["trial-1", "trial-2", "trial-3"]
    expected = sorted(complete, key=lambda name: validation(root, name))
    assert [one.name for one in found.tried] == [*expected, "trial-4", "trial-5", "trial-6"]
    assert (found.by, len(found.complete)) == ("accuracy", 3)
    assert lead(found).startswith(f"{expected[0]} is the best by validation accuracy: ")
    assert lead(found).endswith("3 trials did not come to their end.")


def test_the_page_is_true_to_the_files_and_says_how_trials_ended(swept: tuple[Path, dict[str, str]]) -> None:
    root, ended = swept
    source = (root / "report.html").read_text()
    parsed = Page(source)
    text = " ".join("".join(parsed.text).split())
    shown = {float(each["value"] or "nan") for each in parsed.all("data")}
    for name in ("trial-1", "trial-2", "trial-3"):
        scores = summary(root, name)["scores"]
        assert {scores["validation"]["accuracy"], scores["test"]["accuracy"], scores["test"]["loss"]} <= shown
    assert {1e-3, 1e-1, 1e38} <= shown
    assert "Ranked by validation accuracy: the test scores had no part in it" in text
    assert "not begun" in text
    assert all(" ".join(reason.split()) in text for reason in ended.values())
    assert "tried & true" in text and "tried &amp; true" in source
    assert not re.search(r"https?:|<script", source)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_its_links_lead_somewhere(swept: tuple[Path, dict[str, str]]) -> None:
    root, _ = swept
    parsed = Page((root / "report.html").read_text())
    targets = [each["href"] or "" for each in parsed.all("a")]
    files = [target for target in targets if not target.startswith("#")]
    assert len(files) == 6  # five trials and best.yaml
    assert all((root / unquote(target)).exists() for target in files)
    assert all(target[1:] in parsed.ids for target in targets if target.startswith("#"))


def test_the_best_config_trains_the_best_trial_again(swept: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    root, ended = swept
    best = standing(root, loads(SWEEP), ended).tried[0].name
    config = load(root / "best.yaml", [f"output={tmp_path}"])
    assert config.sweep is None
    assert run(config, progress_bar=False).scores == summary(root, best)["scores"]
    assert (root / "best.yaml").read_text().partition("\n")[2] == (root / best / "resolved.yaml").read_text()


def test_every_line_of_the_drawing_is_a_trial(swept: tuple[Path, dict[str, str]]) -> None:
    parsed = Page((swept[0] / "report.html").read_text())
    lines = parsed.all("polyline")
    assert len(lines) == 3
    assert [line["class"] for line in lines] == ["", "", "best"]
    assert all(len((line["points"] or "").split()) == 3 for line in lines)  # rate, schedule and score
    (drawing,) = [each for each in parsed.all("svg") if "parallel" in (each["class"] or "")]
    assert "Parallel coordinates of 3 trials over optimizer.lr, scheduler and validation accuracy" in (
        drawing["aria-label"] or ""
    )


def test_nothing_is_complete_yet(tmp_path: Path) -> None:
    found = write(tmp_path, loads(SWEEP))
    assert lead(found) == "None of 6 trials has come to its end."
    assert "No trial has a validation score yet." in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "best.yaml").exists()


@pytest.mark.drawn
def test_the_curves_of_the_best_are_drawn(swept: tuple[Path, dict[str, str]]) -> None:
    root, ended = swept
    assert figures.matplotlib_is_there()
    parsed = Page(page(standing(root, loads(SWEEP), ended)))
    labels = [each["aria-label"] or "" for each in parsed.all("svg")]
    assert [name.partition(" over")[0] for name in labels[1:]] == [
        "validation accuracy of 3 runs",
        "validation loss of 3 runs",
    ]


def test_equal_scores_are_ranked_by_the_loss_and_losses_the_other_way() -> None:
    def tried(name: str, accuracy: float, loss: float) -> Tried:
        scores = {"validation": {"loss": loss, "accuracy": accuracy}}
        return Tried(name, {}, ComparedRun(Path(name), {}, [], {"scores": scores}))

    every = [tried("a", 0.9, 0.5), tried("b", 0.9, 0.4), tried("c", math.nan, 0.1), tried("d", 0.95, 9.0)]
    assert [one.name for one in ranked(every, "accuracy")] == ["d", "b", "a", "c"]
    assert [one.name for one in ranked(every, "loss")] == ["c", "b", "a", "d"]


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
