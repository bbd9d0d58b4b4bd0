"""Steps of all kinds: 58 models, each with its optimizer, its loss and its batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import nn

F = nn.functional
optim = torch.optim


class Case:
    """A model, an optimizer and a step; `floats` and `classes` say what the batches are."""

    def __init__(
        self,
        layers: Callable[[], Any],
        loss: Callable[[Any, Any], Any] = lambda o, y: F.cross_entropy(o, y),
        optimizer: Callable[[Any], Any] = lambda parameters: optim.SGD(parameters, lr=0.05),
        x: Callable[[Any], Any] = lambda draw: draw.standard_normal((16, 4)),
        y: Callable[[Any], Any] = lambda draw: draw.integers(0, 3, 16),
        change: Callable[[Any], Any] = lambda model: None,
        steps: int = 1,
        dtype: str = "float32",
    ) -> None:
        self.layers, self.loss, self.optimizer, self.x, self.y = layers, loss, optimizer, x, y
        self.change, self.steps, self.dtype = change, steps, dtype

    def batches(self, count: int) -> list[tuple[Any, Any]]:
        draw = np.random.default_rng(0)
        return [tuple(self._tensor(make(draw)) for make in (self.x, self.y)) for _ in range(count)]  # type: ignore[misc]

    def _tensor(self, array: Any) -> Any:
        return torch.from_numpy(np.asarray(array).astype(self.dtype) if array.dtype.kind == "f" else array)


class Running:
    """A case with its own parameters."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case = case
        self.model = case.layers()
        if case.dtype != "float32":
            self.model = self.model.to(getattr(torch, case.dtype))
        self.optimizer = case.optimizer(self.model.parameters())

    def step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad()
        for _ in range(self.case.steps):
            result = self.model(x)
            loss = self.case.loss(result, y)
            loss.backward()
        self.case.change(self.model)
        self.optimizer.step()
        return loss, result

    def state(self) -> dict[str, Any]:
        kept = dict(self.model.state_dict())
        for name, parameter in self.model.named_parameters():
            kept[f"{name}.grad"] = parameter.grad
            for number, value in self.optimizer.state[parameter].items():
                kept[f"{name}.{number}"] = value
        return kept


def mlp(*middle: Callable[[], Any], width: int = 16, inputs: int = 4, classes: int = 3) -> Callable[[], Any]:
    return lambda: nn.Sequential(nn.Linear(inputs, width), *[layer() for layer in middle], nn.Linear(width, classes))


def floats(*shape: int) -> Callable[[Any], Any]:
    return lambda draw: draw.standard_normal(shape)


def whole(high: int, *shape: int) -> Callable[[Any], Any]:
    return lambda draw: draw.integers(0, high, shape)


class Attention(nn.Module):
    """Self-attention over an embedded sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.attention = nn.Embedding(11, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        embedded = self.embedding(x)
        return self.out(self.attention(embedded, embedded, embedded)[0].mean(1))


class Shared(nn.Module):
    """One layer used twice, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        x = x + self.inside(x).relu()
        return self.out(x + self.inside(x).relu())


class Pieces(nn.Module):
    """Views, joins, slices and reductions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Any) -> Any:
        h = x @ self.weight
        left, right = h[:, :3], h[:, 3:]
        joined = torch.cat([left, right.flip(1), left * right], 1)
        stacked = torch.stack([left, right], 1)
        return joined.reshape(16, 3, 3).sum(2) + stacked.amax(1) + stacked.mean(1) + F.pad(left[:, 1:], (1, 0))


def function(of: Callable[[Any], Any]) -> Callable[[], Any]:
    class Applied(nn.Module):
        def forward(self, x: Any) -> Any:
            return of(x)

    return Applied


ACTIVATIONS = [
    nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.SELU, nn.Mish, nn.Hardtanh,
    nn.Softsign, nn.ReLU6, nn.Hardswish, nn.LogSigmoid, nn.PReLU,
]  # fmt: skip
OPTIMIZERS = {
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.05),
    "Adadelta": lambda p: optim.Adadelta(p),
    "Adamax": lambda p: optim.Adamax(p),
    "NAdam": lambda p: optim.NAdam(p),
    "RAdam": lambda p: optim.RAdam(p),
    "maximize": lambda p: optim.SGD(p, lr=0.01, maximize=True),
}
CASES: dict[str, Case] = {
    **{layer.__name__: Case(mlp(layer)) for layer in ACTIVATIONS},
    **{name: Case(mlp(nn.ReLU), optimizer=make) for name, make in OPTIMIZERS.items() if name},
    "LayerNorm": Case(mlp(lambda: nn.LayerNorm(16), nn.ReLU)),
    "BatchNorm": Case(mlp(lambda: nn.BatchNorm1d(16), nn.ReLU)),
    "GroupNorm": Case(mlp(lambda: nn.GroupNorm(4, 16), nn.ReLU)),
    "RMSNorm": Case(mlp(lambda: nn.RMSNorm(16), nn.Tanh)),
    "Softmax": Case(mlp(lambda: nn.Softmax(1))),
    "mse": Case(mlp(nn.Tanh), lambda o, y: F.mse_loss(o, y), y=floats(16, 3)),
    "l1": Case(mlp(nn.Tanh), lambda o, y: F.l1_loss(o, y), y=floats(16, 3)),
    "huber": Case(mlp(nn.Tanh), lambda o, y: F.smooth_l1_loss(o, y), y=floats(16, 3)),
    "bce": Case(mlp(nn.Tanh), lambda o, y: F.binary_cross_entropy_with_logits(o, y), y=lambda d: d.random((16, 3))),
    "kl": Case(
        mlp(lambda: nn.LogSoftmax(1)), lambda o, y: F.kl_div(o, y.softmax(1), reduction="batchmean"), y=floats(16, 3)
    ),
    "nll": Case(mlp(nn.ReLU, nn.Identity), lambda o, y: F.nll_loss(o.log_softmax(1), y)),
    "label smoothing": Case(mlp(nn.ReLU), lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1)),
    "clipped": Case(mlp(nn.ReLU), change=lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.1)),
    "clipped values": Case(mlp(nn.ReLU), change=lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.01)),
    "accumulated": Case(mlp(nn.ReLU), steps=3),
    "convolution": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, stride=2), nn.Flatten(),
            nn.Linear(3, 3),
        ),
        x=floats(16, 2, 8, 8),
    ),
    "convolution in one dimension": Case(
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(12, 3)
        ),
        x=floats(16, 2, 8),
    ),
    "embedding": Case(lambda: nn.Sequential(nn.Embedding(11, 5), nn.Flatten(), nn.Linear(20, 3)), x=whole(11, 16, 4)),
    "attention": Case(Attention, x=whole(11, 16, 4)),
    "shared": Case(Shared),
    "pieces": Case(Pieces),
    "powers": Case(mlp(lambda: function(lambda x: x**2 + (x * x + 1) ** 0.5 + (x * x + 1) ** -1 + x**3)())),
    "extremes": Case(mlp(lambda: function(lambda x: x.amax(1, keepdim=True) + x.min() + x.sort(1)[0] + x.cumsum(1))())),
    "choices": Case(mlp(lambda: function(lambda x: torch.where(x > 0, x, x * 0.1).clamp(-1, 1).sign() * x.abs())())),
    "transposed input": Case(
        mlp(lambda: function(lambda x: x.T.contiguous().T.tanh())()), x=lambda d: d.standard_normal((4, 16)).T
    ),
    "half": Case(mlp(nn.ReLU), dtype="float16"),
    "double": Case(mlp(nn.GELU, lambda: nn.LayerNorm(16)), dtype="float64", optimizer=OPTIMIZERS["Adam"]),
    "large": Case(
        mlp(nn.ReLU, width=300, inputs=200), optimizer=OPTIMIZERS["AdamW"], x=floats(257, 200), y=whole(3, 257)
    ),
    "many rows": Case(mlp(nn.GELU, lambda: nn.LayerNorm(40), width=40), x=floats(1500, 4), y=whole(3, 1500)),
    "very many rows": Case(mlp(nn.ReLU, width=24), x=floats(9000, 4), y=whole(3, 9000)),
    "many classes": Case(mlp(nn.ReLU, width=24, classes=600), x=floats(64, 4), y=whole(600, 64)),
}  # fmt: skip
