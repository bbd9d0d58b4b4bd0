"""A program as a user of strict mypy or an editor writes it: it has to check without an error, and to run.

`assert_type` is what the checker knows of an expression, to the letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

import nanotorch as torch
import nanotorch.nn.functional as F
from nanotorch import Tensor, nn, optim
from nanotorch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, features: int, hidden: int, classes: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, hidden, dtype=dtype), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(hidden, classes, dtype=dtype)
        self.scale = nn.Parameter(torch.ones(1, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)) * self.scale


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float = 1.0) -> Tensor:
        ctx.save_for_backward(x)
        return x**3 * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2, None


def batches(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    assert_type(loader, DataLoader[tuple[Tensor, ...]])
    yield from loader


def train(net: Net, x: Tensor, y: Tensor, epochs: int = 2) -> list[float]:
    optimizer = optim.AdamW(net.parameters(), lr=1e-2)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    losses: list[float] = []
    for _ in range(epochs):
        for inputs, targets in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(inputs), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
    return losses


def typed(x: Tensor) -> None:
    assert_type(F.softmax(x, 1), Tensor)
    assert_type(torch.stack([x, x]), Tensor)
    assert_type(torch.where(x > 0, x, 0.0), Tensor)
    assert_type(x.max(), Tensor)
    assert_type(x.max(dim=1).values, Tensor)
    assert_type(torch.sort(x, descending=True).indices, Tensor)
    assert_type(x.topk(2), torch.return_types.topk)
    assert_type(torch.linalg.svd(x).S, Tensor)
    assert_type(torch.split(x, 2), tuple[Tensor, ...])
    assert_type(torch.nonzero(x, as_tuple=True), tuple[Tensor, ...])
    assert_type(1 - x @ x.T / 2, Tensor)
    assert_type(x[0, 1:], Tensor)
    assert_type(x.size(0), int)
    assert_type(x.shape, torch.Size)
    assert_type(x.dtype, torch.dtype)
    assert_type(x.grad, Tensor | None)
    assert_type(x.add_(1.0).clamp(min=0, max=1), Tensor)
    assert_type(nn.Linear(4, 3).weight, nn.Parameter)
    assert_type(nn.ReLU()(x), Tensor)
    assert_type(Net(4, 8, 3)(x), Tensor)
    assert_type(nn.Sequential(nn.ReLU())(x), Any)
    assert_type(torch.float32, torch.dtype)
    assert_type(torch.func.grad(lambda t: t.sum())(x), Any)
    assert_type(nn.Linear(4, 3).weight, nn.parameter.Parameter)
    assert_type(optim.adam.Adam([x], lr=optim.sgd.SGD([x]).param_groups[0]["lr"]), optim.Adam)
    assert_type(torch.utils.data.dataset.TensorDataset(x)[0], tuple[Tensor, ...])
    torch.utils.data.dataloader.DataLoader(TensorDataset(x), sampler=torch.utils.data.sampler.SequentialSampler(x))
    assert_type(torch.autograd.function.Function, type[torch.autograd.Function])
    assert_type(torch.compile.sweep([x.add, x.sub], in_dims=0).drop(0), None)
    assert_type(torch.compile(x.add, backend="numpy").run([x], batch_size=1), Any)


def main() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(24, 4), torch.randint(0, 3, (24,))
    net = Net(4, 8, 3).train()
    typed(torch.rand(3, 4))
    losses = train(net, x, y)
    with torch.no_grad():
        accuracy = (net.eval()(x).argmax(dim=1) == y).float().mean()
    print(len(losses), 0 <= accuracy.item() <= 1)


if __name__ == "__main__":
    main()
