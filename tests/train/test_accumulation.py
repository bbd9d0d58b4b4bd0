"""Gradient accumulation is exact: pieces of a batch make the step of the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.registry import LOSSES
from nanotorch.train.config import loading as config
from nanotorch.train.record import checkpoint
from nanotorch.train.run.run import run
from nanotorch.train.score.meter import mean_weights

CONFIG = """
name: accumulation
seed: 3
dtype: float64
device: cpu
data: {{name: {data}}}
model: {{hidden: [12, 7], activation: Tanh{layers}}}
loss: {{name: {loss}}}
optimizer: {{name: {optimizer}}}
train: {{epochs: 3, batch_size: {batch_size}, accumulate: {accumulate}{train}}}
output: {output}
{more}
"""


def parameters_after(output: Path, **values: object) -> np.ndarray:
    """All parameters after the last epoch, as one vector."""
    filled = {"optimizer": "Adam, lr: 0.01", "layers": "", "train": "", "more": "", "output": output, **values}
    result = run(config.loads(CONFIG.format(**filled)))
    last = checkpoint.load(result.directory / "checkpoints" / "last").model
    return np.concatenate([tensor.numpy().reshape(-1) for tensor in last.values()])


CASES = {
    # 90 training rows: windows of 28 rows end with one of 6 rows, which is a single, smaller piece
    "cross entropy": {"data": "iris", "loss": "CrossEntropyLoss", "pieces": (7, 4), "whole": 28},
    # windows of 32 rows end with one of 26 rows: two pieces of 12 and one of 2
    "unequal last piece": {"data": "iris", "loss": "CrossEntropyLoss", "pieces": (12, 3), "whole": 36},
    "pieces of one row": {"data": "iris", "loss": "CrossEntropyLoss", "pieces": (1, 16), "whole": 16},
    "one window an epoch": {"data": "iris", "loss": "CrossEntropyLoss", "pieces": (40, 100), "whole": 4000},
    "class weights": {
        "data": "iris",
        "loss": "CrossEntropyLoss, weight: [1.0, 5.0, 0.25]",
        "pieces": (7, 4),
        "whole": 28,
    },
    "ignored class": {
        "data": "iris",
        "loss": "CrossEntropyLoss, ignore_index: 1, weight: [1.0, 9.0, 3.0]",
        "pieces": (7, 4),
        "whole": 28,
    },
    "label smoothing": {
        "data": "iris",
        "loss": "CrossEntropyLoss, label_smoothing: 0.1, weight: [1.0, 5.0, 0.25]",
        "pieces": (7, 4),
        "whole": 28,
    },
    "binary": {
        "data": "make_moons, n_samples: 150, noise: 0.2",
        "loss": "BCEWithLogitsLoss, pos_weight: [3.0]",
        "pieces": (7, 4),
        "whole": 28,
    },
    "dropout": {"data": "iris", "loss": "CrossEntropyLoss", "layers": ", dropout: 0.3", "pieces": (7, 4), "whole": 28},
    "regression": {"data": "linnerud", "loss": "MSELoss", "pieces": (2, 3), "whole": 6},
    "momentum, clipping, a schedule by steps": {
        "data": "iris",
        "loss": "CrossEntropyLoss",
        "optimizer": "SGD, lr: 0.1, momentum: 0.9, nesterov: true",
        "train": ", clip_norm: 0.5",
        "more": "scheduler: {name: StepLR, step_size: 3, gamma: 0.7, interval: step}",
        "pieces": (7, 4),
        "whole": 28,
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_pieces_equal_the_whole_batch(tmp_path: Path, case: str) -> None:
    values = dict(CASES[case])
    (piece, accumulate), whole = values.pop("pieces"), values.pop("whole")
    in_pieces = parameters_after(tmp_path, batch_size=piece, accumulate=accumulate, **values)
    at_once = parameters_after(tmp_path, batch_size=whole, accumulate=1, **values)
    assert np.abs(in_pieces - at_once).max() < 1e-12
    # the equality is no accident of parameters that hardly move
    other = parameters_after(tmp_path, batch_size=piece, accumulate=max(1, accumulate // 2), **values)
    assert case == "one window an epoch" or np.abs(other - at_once).max() > 1e-6


def test_the_mean_of_means_would_not_be_equal() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    features, labels = torch.randn(10, 3, dtype=torch.float64), torch.randint(0, 2, (10,))

    def gradient(shares: list[tuple[slice, float]]) -> torch.Tensor:
        model.zero_grad()
        for rows, share in shares:
            (nn.functional.cross_entropy(model(features[rows]), labels[rows]) * share).backward()
        return model.weight.grad.clone()

    whole = gradient([(slice(0, 10), 1.0)])
    weighted = gradient([(slice(0, 8), 0.8), (slice(8, 10), 0.2)])
    means = gradient([(slice(0, 8), 0.5), (slice(8, 10), 0.5)])
    assert (weighted - whole).abs().max().item() < 1e-15
    assert (means - whole).abs().max().item() > 1e-3


def test_the_last_incomplete_window_is_stepped(tmp_path: Path) -> None:
    values = {"output": tmp_path, "data": "iris", "loss": "CrossEntropyLoss", "optimizer": "SGD, lr: 0.1"}
    text = CONFIG.format(**values, batch_size=10, accumulate=4, layers="", train="", more="")
    result = run(config.loads(text))  # 90 rows are 9 batches, which are windows of 4, 4 and 1
    assert [record["step"] for record in result.history] == [3, 6, 9]


def criteria() -> dict[str, tuple[nn.Module, nn.Module, torch.Tensor, torch.Tensor]]:
    """Every registered loss with its summing twin, outputs and targets."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(12, 3, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 3, (12,), generator=generator)
    weight = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    values = torch.rand(12, 3, dtype=torch.float64, generator=generator)
    probabilities = values / values.sum(1, keepdim=True)
    cases = {
        "CrossEntropyLoss": ({}, outputs, labels),
        "CrossEntropyLoss weight": ({"weight": weight}, outputs, labels),
        "CrossEntropyLoss ignore": ({"ignore_index": 2}, outputs, labels),
        "CrossEntropyLoss ignore -100": ({"weight": weight}, outputs, labels.masked_fill(labels == 0, -100)),
        "CrossEntropyLoss all": ({"weight": weight, "ignore_index": 0, "label_smoothing": 0.2}, outputs, labels),
        "CrossEntropyLoss probabilities": ({"weight": weight}, outputs, probabilities),
        "NLLLoss": ({"weight": weight, "ignore_index": 1}, outputs.log_softmax(1), labels),
        "BCELoss": ({}, outputs.sigmoid(), values),
        "BCEWithLogitsLoss": ({"pos_weight": weight}, outputs, values),
        "BCEWithLogitsLoss weight": ({"weight": weight}, outputs, values),
        "MultiMarginLoss": ({"weight": weight, "p": 2}, outputs, labels),
        "MSELoss": ({}, outputs, values),
        "L1Loss": ({}, outputs, values),
        "SmoothL1Loss": ({}, outputs, values),
        "HuberLoss": ({}, outputs, values),
    }
    built = {}
    for case, (arguments, case_outputs, targets) in cases.items():
        loss_class = getattr(nn, case.split()[0])
        built[case] = (loss_class(**arguments), loss_class(**arguments, reduction="sum"), case_outputs, targets)
    return built


@pytest.mark.parametrize("case", criteria())
def test_sum_divided_by_mean_weights_is_the_mean(case: str) -> None:
    mean, total, outputs, targets = criteria()[case]
    weights = mean_weights(total, targets, torch.float64)
    assert weights.shape == (12,)
    assert (total(outputs, targets) / weights.sum()).item() == pytest.approx(mean(outputs, targets).item(), rel=1e-13)


def test_every_registered_loss_is_covered() -> None:
    assert set(LOSSES.names()) - {"auto"} <= {case.split()[0] for case in criteria()}
