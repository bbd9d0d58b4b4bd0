"""Training on a GPU: the same numbers as on the CPU, and nothing crosses between host and device unasked.

The GPU is the stand-in for CuPy everywhere, and a real one with `-m gpu`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from fake_cupy import Counts
from fake_gpu import fake_gpu
from nanotorch import nn
from nanotorch.backend.device import why_unavailable

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def counts() -> Iterator[Counts]:
    with fake_gpu() as counts:
        yield counts


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "stand-in":
        with fake_gpu():
            yield torch.device("cuda")
    else:
        reason = why_unavailable()
        if reason is not None:
            pytest.skip(reason)
        yield torch.device("cuda")


def classifier() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))


def normalised() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.3), nn.LayerNorm(8), nn.Linear(8, 3)
    )


PROBLEMS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "cross entropy": (classifier, nn.CrossEntropyLoss),
    "smoothed cross entropy": (classifier, lambda: nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=1)),
    "norms and dropout": (normalised, nn.CrossEntropyLoss),
    "regression": (classifier, nn.SmoothL1Loss),
    "binary": (classifier, nn.BCEWithLogitsLoss),
}
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Adam": lambda params: torch.optim.Adam(params, lr=1e-2),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=1e-2, amsgrad=True),
    "SGD": lambda params: torch.optim.SGD(params, lr=1e-2, momentum=0.9, nesterov=True),
    "RMSprop": lambda params: torch.optim.RMSprop(params, lr=1e-3, momentum=0.5, centered=True),
    "Adagrad": lambda params: torch.optim.Adagrad(params, lr=1e-2),
}


class Run:
    """A model on a device with one batch; each call of `step` trains once and reads nothing back."""

    def __init__(self, device: Any, problem: str = "cross entropy", optimizer: str = "Adam") -> None:
        torch.manual_seed(1)
        rng = np.random.default_rng(0)
        make_model, make_loss = PROBLEMS[problem]
        self.model = make_model().to(torch.float64).to(device)
        self.loss_function = make_loss()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        targets = rng.integers(0, 3, 16)
        if problem in ("regression", "binary"):
            targets = np.eye(3)[targets]
        self.x = torch.from_numpy(rng.standard_normal((16, 4))).to(device)
        self.y = torch.from_numpy(targets).to(device)

    def step(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.loss_function(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


@pytest.mark.parametrize(
    ("problem", "optimizer"),
    [(problem, "Adam") for problem in PROBLEMS] + [("cross entropy", name) for name in OPTIMIZERS],
)
def test_training_gives_the_same_as_on_the_cpu(problem: str, optimizer: str, gpu: torch.device) -> None:
    here, there = Run("cpu", problem, optimizer), Run(gpu, problem, optimizer)
    torch.manual_seed(2)
    expected = [here.step().item() for _ in range(5)]
    torch.manual_seed(2)
    assert [there.step().item() for _ in range(5)] == pytest.approx(expected, rel=1e-9)
    assert expected[-1] < expected[0] or problem == "norms and dropout"
    for name, value in here.model.state_dict().items():
        other = there.model.state_dict()[name]
        assert other.device is gpu
        np.testing.assert_allclose(other.cpu().numpy(), value.numpy(), rtol=1e-8, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p != "norms and dropout"])
def test_a_step_moves_nothing_between_host_and_device(problem: str, optimizer: str, counts: Counts) -> None:
    run = Run("cuda", problem, optimizer)
    run.step()
    counts.reset()
    losses = [run.step() for _ in range(10)]
    assert (counts.host_to_device, counts.device_to_host, counts.synchronizations) == (0, 0, 0)
    losses[-1].item()
    assert counts.device_to_host == 1


def test_a_step_with_dropout_sends_only_the_masks(counts: Counts) -> None:
    run = Run("cuda", "norms and dropout")
    run.step()
    counts.reset()
    for _ in range(10):
        run.step()
    assert (counts.host_to_device, counts.device_to_host) == (10, 0)


def test_clipping_and_accumulating_stay_on_the_device(counts: Counts) -> None:
    run = Run("cuda")
    run.step()
    counts.reset()
    for _ in range(3):
        run.optimizer.zero_grad()
        for _ in range(2):
            (run.loss_function(run.model(run.x), run.y) / 2).backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        run.optimizer.step()
    assert counts.transfers == 0


def test_batches_of_a_device_dataset_send_only_their_indices(counts: Counts) -> None:
    run = Run("cuda")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(run.x, run.y), 4, shuffle=True)
    for _ in loader:
        pass
    counts.reset()
    for inputs, targets in loader:
        assert inputs.device is targets.device is torch.device("cuda")
    assert counts.device_to_host == 0
    assert counts.host_to_device <= 2 * len(loader)


def test_labels_out_of_range_do_not_wrap(counts: Counts) -> None:
    """CuPy's indexing would take class 3 of 3 for class 0; no gradient may come from a wrong class silently."""
    run = Run("cuda")
    run.y[0] = 3
    loss = run.loss_function(run.model(run.x), run.y)
    assert not np.isfinite(loss.item())


@pytest.mark.parametrize("name", ["iris_mlp", "linnerud_mlp", "breast_cancer_mlp", "digits_accumulate"])
@pytest.mark.slow
def test_a_configured_run_gives_the_same_as_on_the_cpu(name: str, tmp_path: Path, gpu: torch.device) -> None:
    from nanotorch.train.config import loading as config
    from nanotorch.train.run.run import run

    def history(device: str) -> list[dict[str, Any]]:
        overrides = [f"device={device}", "dtype=float64", "train.epochs=2", f"output={tmp_path / device}"]
        return run(config.load(CONFIGS / f"{name}.yaml", overrides), progress_bar=False).history

    for there, here in zip(history("cuda"), history("cpu"), strict=True):
        for key, value in here.items():
            if isinstance(value, float) and "second" not in key and "time" not in key:
                assert there[key] == pytest.approx(value, rel=1e-6), key


@pytest.mark.slow
def test_a_configured_run_reads_the_device_rarely(tmp_path: Path, counts: Counts) -> None:
    from nanotorch.train.config import loading as config
    from nanotorch.train.run.run import run

    def transfers(epochs: int) -> int:
        counts.reset()
        overrides = ["device=cuda", f"train.epochs={epochs}", "train.batch_size=2", f"output={tmp_path}"]
        run(config.load(CONFIGS / "iris_mlp.yaml", overrides), progress_bar=False)
        return counts.device_to_host

    steps_per_epoch = 38
    assert (transfers(3) - transfers(2)) < steps_per_epoch


def test_work_happens_on_the_gpu_of_the_tensors_not_on_the_current_one() -> None:
    with fake_gpu(device_count=2):

        def use_the_other_gpu() -> None:
            torch.zeros(2, device="cuda:0")

        x = torch.ones(3, device="cuda:1").requires_grad_()
        optimizer = torch.optim.SGD([x], lr=0.1, momentum=0.9)
        y = (-x * x).sum()
        use_the_other_gpu()
        y.backward()
        assert x.grad is not None and x.grad._array.device.id == 1
        crossing = (-x).sum().to("cuda:0") * 2
        use_the_other_gpu()
        crossing.backward()
        use_the_other_gpu()
        optimizer.step()
        use_the_other_gpu()
        assert x.tolist() == pytest.approx([1.4] * 3)
