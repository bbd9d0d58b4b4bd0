"""Random training runs: a network, its data, a loss, an optimizer, and what happens to them from step to step.

A run is drawn as plain values, so that a failure shows all of it. `trained` runs it, with the step as it is or
compiled, and returns everything that a step leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.compiled import Compiled
from nanotorch.train.fit.moving_average import MovingAverage

F = nn.functional

ACTIVATIONS = [
    "ReLU", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Tanh", "Sigmoid", "Softplus", "Softsign",
    "Hardtanh", "Hardswish", "Hardsigmoid", "ReLU6", "LogSigmoid", "Tanhshrink", "Softshrink", "Hardshrink", "PReLU",
    "RReLU", "Softmax", "Identity",
]  # fmt: skip
NORMS = ["LayerNorm", "RMSNorm", "BatchNorm1d", "GroupNorm"]
LOSSES = {
    "classes": ["CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"],
    "labels": ["BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"],
    "numbers": ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "PoissonNLLLoss"],
}
OPTIMIZERS: dict[str, list[dict[str, Any]]] = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"maximize": True}],
    "Adam": [{}, {"weight_decay": 0.01}, {"amsgrad": True}],
    "AdamW": [{}, {"amsgrad": True}],
    "NAdam": [{}, {"weight_decay": 0.01}],
    "RAdam": [{}, {"weight_decay": 0.01}],
    "Adamax": [{}],
    "Adagrad": [{}, {"lr_decay": 0.1}],
    "Adadelta": [{}],
    "RMSprop": [{}, {"centered": True, "momentum": 0.9}],
    "Rprop": [{}],
    "ASGD": [{}],
}


@dataclass(frozen=True)
class Plan:
    """A training run as plain values; `steps` says of each step how many rows it has and what happens before it."""

    kind: str
    features: int
    width: int
    outputs: int
    layers: tuple[tuple[str, str, float], ...]
    residual: bool
    shared: bool
    flat: bool
    loss: str
    target: str
    reduction: str
    optimizer: str
    options: tuple[tuple[str, Any], ...]
    pieces: int
    set_to_none: bool
    clip: str
    average: bool
    dtype: str
    steps: tuple[tuple[int, str], ...]


@st.composite
def plans(draw: Any) -> Plan:
    """Draw a run."""
    kind = draw(st.sampled_from(["dense", "dense", "dense", "tokens", "image", "sequence", "recurrent"]))
    target = draw(st.sampled_from(sorted(LOSSES)))
    optimizer = draw(st.sampled_from(sorted(OPTIMIZERS)))
    pieces = draw(st.sampled_from([1, 1, 2, 3]))
    layer = st.tuples(
        st.sampled_from(ACTIVATIONS), st.sampled_from(["", "", *NORMS]), st.sampled_from([0.0, 0.0, 0.25])
    )
    rows = pieces * draw(st.sampled_from([2, 3, 8, 24]))
    events = st.sampled_from(["", "", "", "rate", "eager", "load", "ragged", "weight"])
    return Plan(
        kind=kind,
        features=draw(st.sampled_from([1, 3, 4, 20])),
        width=draw(st.sampled_from([2, 8, 16, 64])),
        outputs=draw(st.sampled_from([2, 3, 10])),
        layers=tuple(draw(st.lists(layer, min_size=0, max_size=3))),
        residual=draw(st.booleans()),
        shared=draw(st.booleans()),
        flat=draw(st.booleans()),
        loss=draw(st.sampled_from(LOSSES[target])),
        target=target,
        reduction=draw(st.sampled_from(["mean", "sum"])),
        optimizer=optimizer,
        options=tuple(sorted(draw(st.sampled_from(OPTIMIZERS[optimizer])).items())),
        pieces=pieces,
        set_to_none=draw(st.booleans()),
        clip=draw(st.sampled_from(["", "", "norm", "value", "both"])),
        average=draw(st.booleans()),
        dtype=draw(st.sampled_from(["float32", "float32", "float64", "float16"])),
        steps=tuple([(rows, draw(events)) for _ in range(draw(st.integers(5, 9)))]),
    )


class Network(nn.Module):
    """The network of a plan."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        width = plan.width
        if plan.kind == "tokens":
            self.enter: Any = nn.Embedding(7, width)
        elif plan.kind == "image":
            self.enter = nn.Conv2d(1, 2, 3, padding=1)
            self.pool = nn.MaxPool2d(2)
            self.join = nn.Linear(2 * 2 * 2, width)
        elif plan.kind == "sequence":
            self.enter = nn.Linear(plan.features, width)
            self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        elif plan.kind == "recurrent":
            self.enter = nn.GRU(plan.features, width, batch_first=True)
        else:
            self.enter = nn.Linear(plan.features, width)
        self.blocks = nn.ModuleList()
        linear = nn.Linear(width, width)
        for activation, norm, dropout in plan.layers:
            sizes = (1, width) if norm == "GroupNorm" else (width,)
            layers: list[nn.Module] = [linear if plan.shared else nn.Linear(width, width)]
            layers += [getattr(nn, norm)(*sizes)] if norm else []
            layers += [nn.Softmax(-1) if activation == "Softmax" else getattr(nn, activation)()]
            layers += [nn.Dropout(dropout)] if dropout else []
            self.blocks.append(nn.Sequential(*layers))
        self.leave = nn.Linear(width, plan.outputs)

    def forward(self, x: Any) -> Any:
        kind = self.plan.kind
        if kind == "image":
            x = self.join(self.pool(self.enter(x)).flatten(1))
        elif kind == "sequence":
            x = self.enter(x)
            x = self.attention(x, x, x, need_weights=False)[0].mean(1)
        elif kind == "recurrent":
            x = self.enter(x)[0][:, -1]
        else:
            x = self.enter(x)
        for block in self.blocks:
            x = x + block(x) if self.plan.residual else block(x)
        return self.leave(x)


def data(plan: Plan) -> list[tuple[Any, Any]]:
    """Return the batches of a plan as arrays."""
    source = np.random.default_rng(1)
    batches = []
    for rows, event in plan.steps:
        rows -= plan.pieces if event == "ragged" and rows > 2 * plan.pieces else 0
        shape = {"image": (rows, 1, 4, 4), "sequence": (rows, 3, plan.features), "recurrent": (rows, 3, plan.features)}
        x: Any = source.standard_normal(shape.get(plan.kind, (rows, plan.features))).astype(plan.dtype)
        if plan.kind == "tokens":
            x = source.integers(0, 7, rows)
        if plan.target == "classes":
            y: Any = source.integers(0, plan.outputs, rows)
        elif plan.target == "labels":
            y = source.integers(0, 2, (rows, plan.outputs)).astype(plan.dtype)
        else:
            y = source.random((rows, plan.outputs)).astype(plan.dtype)
        batches.append((x, y))
    return batches


def trained(plan: Plan, compiled: Callable[[Callable[..., Any]], Callable[..., Any]] | None) -> list[list[Any]]:
    """Train as a plan says; return for each step all arrays that it leaves."""
    torch.manual_seed(0)
    model = Network(plan).to(getattr(torch, plan.dtype))
    parameters: Any = list(model.parameters())
    clipped = nn.utils.flatten_parameters(parameters) if plan.flat else parameters
    optimizer = getattr(torch.optim, plan.optimizer)(model.parameters(), **dict(plan.options))
    criterion = getattr(nn, plan.loss)(reduction=plan.reduction)
    average = MovingAverage(model, 0.9) if plan.average else None

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=plan.set_to_none)
        size, losses = len(x) // plan.pieces, []
        for start in range(0, len(x), size):
            outputs = model(x[start : start + size])
            if plan.loss == "NLLLoss":
                outputs = outputs.log_softmax(-1)
            loss = criterion(outputs, y[start : start + size])
            loss.backward()
            losses.append(loss.detach())
        norm = None
        if plan.clip in ("norm", "both"):
            norm = nn.utils.clip_grad_norm_(clipped, 0.5)
        if plan.clip in ("value", "both"):
            nn.utils.clip_grad_value_(clipped, 0.1)
        optimizer.step()
        if average is not None:
            average.update(model)
        return {"losses": losses, "norm": norm}

    taken: Any = step if compiled is None else compiled(step)
    saved: Any = None
    left = []
    torch.manual_seed(1)
    for number, ((_, event), (x, y)) in enumerate(zip(plan.steps, data(plan), strict=True)):
        if number == 2:
            state = optimizer.state_dict()
            saved = ({name: value.clone() for name, value in model.state_dict().items()}, _copied(state))
        if event == "rate":
            optimizer.param_groups[0]["lr"] *= 0.5
        elif event == "load" and saved is not None:
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
        elif event == "weight":
            with torch.no_grad():
                model.leave.bias.add_(0.1)
        found = (step if event == "eager" else taken)(torch.from_numpy(x), torch.from_numpy(y))
        tensors = [*found["losses"], *([] if found["norm"] is None else [found["norm"]]), *model.state_dict().values()]
        tensors += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        tensors += [optimizer.state[p][name] for p in model.parameters() for name in sorted(optimizer.state[p])]
        if average is not None:
            tensors += average.module.state_dict().values()
        left.append([np.array(tensor.detach().numpy()) for tensor in tensors])
    if isinstance(taken, Compiled) and all(event in ("", "rate", "weight") for _, event in plan.steps):
        assert any(captured.confirmed for programs in taken._programs.values() for captured in programs)
    return left


def _copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)([_copied(value) for value in state])
    return state.clone() if isinstance(state, torch.Tensor) else state
