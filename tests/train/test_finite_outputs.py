"""Outputs that are not finite end a run with exit code 3, whatever looks at them first;
many classes take memory by the row.
"""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.registry import LOSSES
from nanotorch.train.cli.train import main
from nanotorch.train.config.loading import loads
from nanotorch.train.fit.build import build
from nanotorch.train.fit.loop import evaluate
from nanotorch.train.fit.prepare import prepare
from nanotorch.train.report.run_summary import gather
from nanotorch.train.score import classification
from nanotorch.train.score.sklearn_scores import too_large

CONFIG = """\
name: run
output: {output}
data: {{name: {data}}}
model: {{hidden: [8]}}
loss: {{name: {loss}}}
optimizer: {{name: SGD, lr: 1e20}}
train: {{epochs: 3, batch_size: 60, metrics: [{metric}]}}
"""


@pytest.mark.parametrize(
    ("data", "loss", "metric"),
    [
        ("diabetes", "MSELoss", "neg_median_absolute_error"),
        ("diabetes", "HuberLoss", "d2_absolute_error_score"),
        ("iris", "CrossEntropyLoss", "roc_auc_ovr"),
        ("iris", "CrossEntropyLoss", "f1_macro"),
        ("iris", "CrossEntropyLoss", "top_k_accuracy"),
        ("breast_cancer", "BCEWithLogitsLoss", "roc_auc"),
    ],
)
def test_divergence_with_scores_is_divergence(
    data: str, loss: str, metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(output=tmp_path, data=data, loss=loss, metric=metric))
    assert main([str(config), "--quiet"]) == 3
    assert "loss is" in capsys.readouterr().err


class BlindLoss(torch.nn.Module):
    """A loss that takes no notice of outputs that are not finite."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.isfinite(input), input, torch.zeros_like(input)).square().sum()


@pytest.mark.parametrize(
    ("data", "metric"), [("iris", ""), ("iris", "roc_auc_ovr"), ("breast_cancer", "f1"), ("diabetes", "")]
)
def test_a_loss_that_ignores_what_is_not_finite(
    data: str, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LOSSES, "entries", dict(LOSSES.entries))
    LOSSES.register("BlindLoss", tasks=("binary", "multiclass", "regression"))(BlindLoss)
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(output=tmp_path, data=data, loss="BlindLoss", metric=metric))
    spoilt = torch.nn.Linear.forward

    def forward(self: torch.nn.Linear, input: torch.Tensor) -> torch.Tensor:
        out = spoilt(self, input)
        return out if self.training else out * float("nan")

    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    assert main([str(config), "--quiet", "optimizer.lr=1e-3"]) == 3
    assert "the validation " in capsys.readouterr().err


def test_a_test_part_that_is_not_finite_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(output=tmp_path, data="iris", loss="CrossEntropyLoss", metric=""))

    def scores(model: Any, criterion: Any, part: Any, interrupt: Any = None) -> dict[str, float]:
        found = evaluate(model, criterion, part, interrupt)
        return found | {"loss": float("nan")} if len(part) == 30 else found  # test and validation are of one size

    monkeypatch.setattr("nanotorch.train.run.open_run.evaluate", scores)
    assert main([str(config), "--quiet", "optimizer.lr=1e-3"]) == 3
    assert not list(tmp_path.glob("run-*/summary.json"))


def many_classes(tmp_path: Path, classes: int) -> Any:
    table = tmp_path / "table.csv"
    table.write_text("x,y\n" + "".join(f"{k % 7},c{k % classes}\n" for k in range(4 * classes)))
    return loads(
        CONFIG.format(output=tmp_path, data="file", loss="CrossEntropyLoss", metric="f1_macro")
        .replace("name: file", f"file: {table}, target: y")
        .replace("1e20", "1e-3")
        .replace("[8]", "[2]")
    )


def test_many_classes_take_memory_by_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = 3000
    monkeypatch.setattr("nanotorch.train.fit.loop.EVALUATION_OUTPUTS", 2**18)
    monkeypatch.setattr("nanotorch.train.score.meter.MOST_UNREAD", 2**18)
    config = many_classes(tmp_path, classes)
    data = prepare(config)
    build(config, data)  # imports what scores need, which is no memory of the classes
    tracemalloc.start()
    try:
        training, _, parts, _ = build(config, data)
        found = evaluate(training.model, training.criterion, parts["train"])
        told = gather(config, data, training.model, parts)
        facts = json.dumps(told.facts())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(told.classes) == classes and facts and 0 <= found["f1_macro"] <= 1
    assert peak < 60e6 < 8 * classes**2  # neither classes x classes nor rows x classes


def test_scores_of_too_many_classes_are_refused() -> None:
    assert too_large("f1_macro", 10**6, 18_000) is None
    assert too_large("neg_log_loss", 2000, 18_000) is None
    assert "54,000 rows and 18,000 classes" in str(too_large("neg_log_loss", 54_000, 18_000))
    assert "pair of 18,000 classes" in str(too_large("matthews_corrcoef", 54_000, 18_000))


def test_counts_by_class_are_those_of_the_matrix() -> None:
    draw = np.random.default_rng(0)
    true, guessed, names = draw.integers(0, 6, 500), draw.integers(0, 6, 500), "abcdef"
    matrix = classification.confusion(true, guessed, 6)
    mistakes = {(names[i], names[j]): int(matrix[i, j]) for i in range(6) for j in range(6) if i != j}
    most = classification.confusions(true, guessed, names, 40)
    assert {(one, other): count for one, other, count in most} == mistakes
    assert [count for _, _, count in most] == sorted(mistakes.values(), reverse=True)
    assert [score.support for score in classification.class_scores(true, guessed, names)] == matrix.sum(1).tolist()
