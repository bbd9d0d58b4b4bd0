"""Recurrent layers and sequences of several lengths, against PyTorch in float64:
values, gradients, second derivatives.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from oracle import agree, close, in_both

pytestmark = pytest.mark.parity

LAYERS = ["RNN", "LSTM", "GRU"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False, "batch_first": True},
    {"num_layers": 3, "dropout": 0.5},
]
CASES = [(name, options) for name in LAYERS for options in OPTIONS] + [
    ("RNN", {"nonlinearity": "relu", "bidirectional": True}),
    ("LSTM", {"proj_size": 2}),
    ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True}),
]
SHAPES = {"plain": (5, 3, 4), "unbatched": (5, 4), "one": (1, 1, 4), "packed": (5, 3, 4), "packed unsorted": (5, 3, 4)}


def real(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def tensors(value: Any) -> list[Any]:
    """The floating tensors of a result, in order."""
    if isinstance(value, tuple | list):
        return [t for part in value for t in tensors(part)]
    return [value] if value is not None and value.is_floating_point() else []


def run(library: Any, module: Any, shape: str, given: bool, options: dict[str, Any]) -> list[Any]:
    """Outputs, first and second derivatives by input, state and parameters."""
    size = SHAPES[shape]
    x = library.tensor(real(*size), requires_grad=True)
    leaves, hx, arguments = [x, *module.parameters()], None, x
    if shape.startswith("packed"):
        lengths = [5, 3, 1] if shape == "packed" else [2, 5, 3]
        padded = x.transpose(0, 1) if options.get("batch_first") else x
        arguments = library.nn.utils.rnn.pack_padded_sequence(
            padded, lengths, options.get("batch_first", False), shape == "packed"
        )
    elif options.get("batch_first") and len(size) == 3:
        arguments = x.transpose(0, 1)
    if given:
        count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        batch = [] if len(size) == 2 else [size[1]]
        widths = [options.get("proj_size") or 3, 3] if isinstance(module, library.nn.LSTM) else [3]
        widths = [options.get("proj_size") or module.hidden_size, module.hidden_size][: len(widths)]
        states = [library.tensor(real(count, *batch, width), requires_grad=True) for width in widths]
        leaves += states
        hx = tuple(states) if len(states) > 1 else states[0]
    results = tensors(module(arguments, hx))
    seeds = [library.tensor(real(*result.shape, 1)[..., 0]) for result in results]
    total = sum((result * seed + result.tanh()).sum() for result, seed in zip(results, seeds, strict=True))
    first = library.autograd.grad(total, leaves, create_graph=True)
    second = library.autograd.grad(sum((g * g).sum() for g in first), leaves, allow_unused=True)
    return [*results, *first, *second]


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: str(v))
@pytest.mark.parametrize("shape", SHAPES)
def test_layers_are_pytorchs(name: str, options: dict[str, Any], shape: str) -> None:
    """Dropout draws other numbers, so layers with it are compared in evaluation."""
    results = []
    for library, module in in_both(lambda nn: getattr(nn, name)(4, 4, **options)):
        module.train("dropout" not in options)
        results.append([run(library, module, shape, given, options) for given in (False, True)])
        results[-1].append([repr(module), [key for key, _ in module.named_parameters()]])
    (*ours, mine), (*theirs, other) = results
    assert mine == other
    for a, b in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        if a is None or b is None:
            assert all(v is None or not v.any() for v in (a, b))
        else:
            close(a, b)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("options", [{}, {"bias": False}])
@pytest.mark.parametrize("lead", [(3,), ()])
def test_cells_are_pytorchs(name: str, options: dict[str, Any], lead: tuple[int, ...]) -> None:
    results = []
    for library, module in in_both(lambda nn: getattr(nn, name)(4, 5, **options)):
        x = library.tensor(real(*lead, 4), requires_grad=True)
        states = [
            library.tensor(real(*lead, 5 + 0 * k), requires_grad=True) for k in range(2 if name == "LSTMCell" else 1)
        ]
        found = tensors([module(x), module(x, tuple(states) if len(states) > 1 else states[0])])
        leaves = [x, *states, *module.parameters()]
        first = library.autograd.grad(sum((value * value).sum() for value in found), leaves, create_graph=True)
        second = library.autograd.grad(sum((g * g).sum() for g in first), leaves)
        results.append([*found, *first, *second])
        assert repr(module).startswith(f"{name}(4, 5")
    for a, b in zip(*results, strict=True):
        close(a, b)


def test_dropout_is_between_layers_in_training() -> None:
    x = torch.ones(4, 2, 3)
    layer = torch.nn.GRU(3, 6, 2, dropout=1.0)
    cut, _ = layer(x)
    weights = {key.replace("_l1", "_l0"): value for key, value in layer.state_dict().items() if "_l1" in key}
    second = torch.nn.GRU(6, 6)
    second.load_state_dict(weights)
    assert torch.allclose(cut, second(torch.zeros(4, 2, 6))[0]) and not torch.allclose(cut, layer.eval()(x)[0])
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        torch.nn.RNN(3, 4, dropout=0.5)


def test_float32_and_training() -> None:
    torch.manual_seed(0)
    layer, head = torch.nn.LSTM(1, 8, batch_first=True), torch.nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    x = torch.rand(32, 6, 1)
    losses = []
    for _ in range(60):
        output, _ = layer(x)
        loss = torch.nn.functional.mse_loss(head(output[:, -1]), x.sum(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert output.dtype is torch.float32 and losses[-1] < 0.1 * losses[0]
    assert layer.flatten_parameters() is None and [len(w) for w in layer.all_weights] == [4]


PROGRAMS = {
    "pad": lambda t: t.nn.utils.rnn.pad_sequence([t.ones(2, 3), t.ones(4, 3), t.ones(0, 3)], padding_value=7.0),
    "pad first": lambda t: t.nn.utils.rnn.pad_sequence([t.arange(2), t.arange(4)], batch_first=True),
    "pad left": lambda t: t.nn.utils.rnn.pad_sequence([t.arange(2), t.arange(4)], True, -1, "left"),
    "pad oddly": lambda t: t.nn.utils.rnn.pad_sequence([t.arange(2)], padding_side="top"),
    "pad nothing": lambda t: t.nn.utils.rnn.pad_sequence([]),
    "pack": lambda t: t.nn.utils.rnn.pack_sequence([t.arange(3), t.arange(2), t.arange(1)]),
    "pack unsorted": lambda t: t.nn.utils.rnn.pack_sequence(
        [t.arange(1), t.arange(3), t.arange(2)], enforce_sorted=False
    ),
    "pack refused": lambda t: t.nn.utils.rnn.pack_sequence([t.arange(1), t.arange(3)]),
    "pack of length 0": lambda t: t.nn.utils.rnn.pack_padded_sequence(t.ones(3, 2), [2, 0]),
    "pack of other lengths": lambda t: t.nn.utils.rnn.pack_padded_sequence(t.ones(3, 2), [2, 1, 1]),
    "back": lambda t: t.nn.utils.rnn.pad_packed_sequence(
        t.nn.utils.rnn.pack_padded_sequence(t.arange(24).reshape(3, 4, 2), t.tensor([1, 4, 2]), True, False), True, 9, 5
    ),
    "back too short": lambda t: t.nn.utils.rnn.pad_packed_sequence(
        t.nn.utils.rnn.pack_sequence([t.arange(3)]), total_length=2
    ),
    "unpad": lambda t: t.nn.utils.rnn.unpad_sequence(t.arange(6).reshape(3, 2), t.tensor([3, 1])),
    "unpack": lambda t: t.nn.utils.rnn.unpack_sequence(
        t.nn.utils.rnn.pack_sequence([t.arange(1.0), t.arange(3.0)], enforce_sorted=False)
    ),
    "moved": lambda t: str(t.nn.utils.rnn.pack_sequence([t.arange(3)]).to(t.float64).data.dtype),
    "wrong features": lambda t: t.nn.GRU(3, 2)(t.ones(2, 2, 4)),
    "wrong dimensions": lambda t: t.nn.GRU(3, 2)(t.ones(2, 2, 2, 3)),
    "wrong dtype": lambda t: t.nn.GRU(3, 2)(t.ones(2, 2, 3, dtype=t.float64)),
    "no steps": lambda t: t.nn.GRU(3, 2)(t.ones(0, 2, 3)),
    "wrong state": lambda t: t.nn.GRU(3, 2)(t.ones(2, 2, 3), t.ones(1, 3, 2)),
    "wrong state of an LSTM": lambda t: t.nn.LSTM(3, 2)(t.ones(2, 2, 3), (t.ones(1, 2, 2), t.ones(1, 2, 3))),
    "a state without batch": lambda t: t.nn.RNN(3, 2)(t.ones(2, 2, 3), t.ones(1, 2)),
    "unknown nonlinearity": lambda t: t.nn.RNN(3, 2, nonlinearity="sin"),
    "projected GRU": lambda t: t.nn.GRU(3, 4, proj_size=2),
    "wide projection": lambda t: t.nn.LSTM(3, 4, proj_size=4),
    "size of zero": lambda t: t.nn.LSTM(0, 4),
    "size of a float": lambda t: t.nn.LSTM(3.0, 4),
    "bias of a number": lambda t: t.nn.LSTM(3, 4, bias=1),
    "dropout of two": lambda t: t.nn.LSTM(3, 4, 2, dropout=2),
    "cell of wrong features": lambda t: t.nn.LSTMCell(3, 4)(t.ones(2, 2)),
    "cell of wrong dimensions": lambda t: t.nn.GRUCell(3, 4)(t.ones(2, 2, 3)),
    "reprs": lambda t: [
        repr(t.nn.RNN(3, 4, 2, "relu", False, True)),
        repr(t.nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True, dropout=0.25)),
        repr(t.nn.RNNCell(3, 4, False, "relu")),
        repr(t.nn.LSTMCell(3, 4)),
        repr(t.nn.GRUCell(3, 4, bias=False)),
    ],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_pytorchs(name: str) -> None:
    agree(PROGRAMS[name])
