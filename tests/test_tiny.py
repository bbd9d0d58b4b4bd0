"""The library in one sitting: a tensor, a graph, a layer, a run. Every number here can be checked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.nn import functional as F


class TestTensor:
    """An array with a dtype, a shape, and PyTorch's names."""

    def test_is_made_of_numbers(self) -> None:
        x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        assert x.shape == (2, 3) and x.dtype is torch.float32 and not x.requires_grad
        assert x.sum().item() == 21 and x.mean(dim=0).tolist() == [2.5, 3.5, 4.5]

    def test_broadcasts(self) -> None:
        column, row = torch.tensor([[1.0], [10.0]]), torch.tensor([1.0, 2.0])
        assert (column * row).tolist() == [[1, 2], [10, 20]]

    def test_shares_memory_with_its_views(self) -> None:
        x = torch.zeros(2, 2)
        x[0].fill_(7)
        x.t()[1, 1] = 5
        assert x.tolist() == [[7, 7], [0, 5]]


class TestGraph:
    """What is computed from a tensor that requires grad is written down, and read backwards."""

    def test_knows_how_it_was_made(self) -> None:
        x = torch.tensor(3.0, requires_grad=True)
        y = x * x + 2 * x
        assert type(y.grad_fn).__name__ == "AddBackward0"
        assert [type(node).__name__ for node, _ in y.grad_fn.next_functions] == ["MulBackward0", "MulBackward0"]

    def test_gives_the_slope(self) -> None:
        x = torch.tensor(3.0, requires_grad=True)
        (x * x + 2 * x).backward()
        assert x.grad is not None and x.grad.item() == 2 * 3 + 2

    def test_adds_what_comes_along_several_paths(self) -> None:
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        (x + x + x).sum().backward()
        assert x.grad is not None and x.grad.tolist() == [3, 3]
        (10 * x).sum().backward()  # and adds to what is there, until zero_grad
        assert x.grad.tolist() == [13, 13]

    def test_multiplies_matrices(self) -> None:
        a = torch.tensor([[1.0, 2.0]], requires_grad=True)
        b = torch.tensor([[3.0], [4.0]], requires_grad=True)
        (a @ b).backward()
        assert (a @ b).item() == 11
        assert a.grad is not None and a.grad.tolist() == [[3, 4]]
        assert b.grad is not None and b.grad.tolist() == [[1], [2]]

    def test_has_a_graph_of_its_own(self) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        (slope,) = torch.autograd.grad(x**3, x, create_graph=True)
        (bend,) = torch.autograd.grad(slope, x)
        assert slope.item() == 3 * 2**2 and bend.item() == 6 * 2

    def test_writes_nothing_down_where_it_is_told_so(self) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        with torch.no_grad():
            assert (x * x).grad_fn is None

    def test_is_followed_once(self) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        y = x.exp()
        y.backward()
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()


class TestLayer:
    """A module has parameters; an optimizer moves them against their gradients."""

    def test_computes_what_its_parameters_say(self) -> None:
        layer = nn.Linear(2, 1)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[2.0, -1.0]]))
            layer.bias.fill_(0.5)
        assert layer(torch.tensor([[3.0, 4.0]])).tolist() == [[2 * 3 - 4 + 0.5]]
        assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]

    def test_loss_of_a_guess_among_four(self) -> None:
        scores = torch.zeros(1, 4, requires_grad=True)
        loss = F.cross_entropy(scores, torch.tensor([2]))
        loss.backward()
        assert loss.item() == pytest.approx(math.log(4))
        assert scores.grad is not None and scores.grad.tolist() == [[0.25, 0.25, -0.75, 0.25]]

    def test_one_step_downhill(self) -> None:
        w = nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = torch.optim.SGD([w], lr=0.1)
        (w * w).sum().backward()
        optimizer.step()
        assert w.tolist() == pytest.approx([1 - 0.1 * 2, -2 + 0.1 * 4])

    def test_learns_exclusive_or(self) -> None:
        torch.manual_seed(0)
        x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        assert loss.item() < 1e-3
        assert model(x).round().abs().tolist() == y.tolist()


class TestRun:
    """A config says what to train on what; a run leaves a directory with everything about it."""

    def test_trains_from_a_config(self, tmp_path: Path) -> None:
        from nanotorch.train.config import loading
        from nanotorch.train.run.run import run

        config = loading.loads(
            f"""
            name: tiny
            output: {tmp_path}
            data: {{name: iris}}
            model: {{hidden: [16]}}
            loss: {{name: CrossEntropyLoss}}
            optimizer: {{name: Adam, lr: 1e-2}}
            train: {{epochs: 40, batch_size: 16}}
            """
        )
        result = run(config, progress_bar=False)
        assert result.scores["test"]["accuracy"] >= 0.9
        assert {"resolved.yaml", "metrics.jsonl", "report.html", "checkpoints"} <= {
            p.name for p in result.directory.iterdir()
        }
        epochs = (result.directory / "metrics.jsonl").read_text().splitlines()
        assert len(epochs) == 40
