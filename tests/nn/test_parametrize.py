"""Parametrized weights: values, gradients, state dicts and refusals are PyTorch's."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from oracle import agree, close, in_both

pytestmark = pytest.mark.parity

WAYS: dict[str, Any] = {
    "weight_norm": lambda u, m: u.parametrizations.weight_norm(m),
    "weight_norm of all": lambda u, m: u.parametrizations.weight_norm(m, dim=None),
    "weight_norm of columns": lambda u, m: u.parametrizations.weight_norm(m, dim=1),
    "weight_norm of the bias": lambda u, m: u.parametrizations.weight_norm(m, "bias"),
    "spectral_norm": lambda u, m: u.parametrizations.spectral_norm(m),
    "spectral_norm, more steps": lambda u, m: u.parametrizations.spectral_norm(
        m, n_power_iterations=3, dim=1, eps=1e-6
    ),
    "spectral_norm of the bias": lambda u, m: u.parametrizations.spectral_norm(m, "bias", dim=0),
    "both": lambda u, m: u.parametrizations.spectral_norm(u.parametrizations.weight_norm(m)),
    "hook spectral_norm": lambda u, m: u.spectral_norm(m, n_power_iterations=2),
    "hook weight_norm": lambda u, m: u.weight_norm(m),
    "hook weight_norm of all": lambda u, m: u.weight_norm(m, dim=None),
}
LAYERS: dict[str, Any] = {
    "Linear": (lambda nn: nn.Linear(4, 3), (5, 4)),
    "Conv2d": (lambda nn: nn.Conv2d(2, 3, 2), (2, 2, 4, 3)),
    "ConvTranspose1d": (lambda nn: nn.ConvTranspose1d(2, 3, 2), (2, 2, 4)),
}


def real(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape)


@pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated", "ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("way", WAYS)
def test_weights_are_pytorchs(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of training, with second derivatives, and an evaluation; the vectors of the power method are given.

    PyTorch's own second derivative of a weight norm is wrong (docs/differences.md), so there it is written out.
    """

    def written_out(direction: Any, length: Any, dim: int) -> Any:
        over = [d for d in range(direction.ndim) if dim == -1 or d != dim]
        return direction * (length / (direction.square().sum(over, keepdim=True).sqrt() if over else direction.abs()))

    for place in ("torch", "torch.nn.utils.weight_norm"):
        monkeypatch.setattr(importlib.import_module(place), "_weight_norm", written_out)
    for name, (make, shape) in LAYERS.items():
        results: list[list[Any]] = [[], []]
        given: dict[str, Any] = {}
        for found, (library, module) in zip(results, reversed(in_both(make)), strict=True):
            module = WAYS[way](library.nn.utils, module)
            given = given or {key: np.array(value.detach().numpy()) for key, value in module.state_dict().items()}
            assert list(given) == list(module.state_dict()), name
            module.load_state_dict({key: library.tensor(value) for key, value in given.items()})
            x = library.tensor(real(*shape), requires_grad=True)
            for training in (True, True, False):
                module.train(training)
                parameters = [x, *module.parameters()]
                output = module(x)
                first = library.autograd.grad((output * output).sum(), parameters, create_graph=True)
                second = library.autograd.grad(sum((g * g).sum() for g in first), parameters)
                found += [output, *first, *second, *module.buffers()]
        for ours, theirs in zip(*reversed(results), strict=True):
            close(ours, theirs)


class Symmetric:
    """Made for both libraries."""

    @staticmethod
    def of(library: Any, inverse: bool = True, shape: bool = True) -> Any:
        class Made(library.nn.Module):  # type: ignore[misc]
            def forward(self, x: Any) -> Any:
                return x.triu() + x.triu(1).transpose(-1, -2) if shape else x[0]

        class Invertible(Made):
            def right_inverse(self, x: Any) -> Any:
                return x.triu()

        return Invertible() if inverse else Made()


def parametrized(t: Any, inverse: bool = True) -> Any:
    layer = t.nn.Linear(3, 3)
    with t.no_grad():
        layer.weight.copy_(t.arange(9.0).reshape(3, 3))
        layer.bias.zero_()
    importlib.import_module(f"{t.__name__}.nn.utils.parametrize").register_parametrization(
        layer, "weight", Symmetric.of(t, inverse)
    )
    return layer


def assigned(t: Any, inverse: bool = True) -> Any:
    layer = parametrized(t, inverse)
    layer.weight = t.arange(9.0).reshape(3, 3) * 2
    return layer.weight, layer.parametrizations.weight.original


def counted(t: Any) -> Any:
    """How often a weight is computed that is read twice."""
    parametrize = importlib.import_module(f"{t.__name__}.nn.utils.parametrize")
    layer, calls = t.nn.Linear(2, 2), []

    class Counting(t.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            calls.append(1)
            return x * 2

    parametrize.register_parametrization(layer, "weight", Counting())
    calls.clear()
    with parametrize.cached():
        _ = layer.weight + layer.weight
        with parametrize.cached():
            _ = layer.weight
    cached = len(calls)
    _ = layer.weight + layer.weight
    return cached, len(calls)


def removed(t: Any, leave: bool, of: str = "own") -> Any:
    parametrize = importlib.import_module(f"{t.__name__}.nn.utils.parametrize")
    layer = parametrized(t) if of == "own" else t.nn.utils.parametrizations.weight_norm(t.nn.Linear(2, 2))
    before = dict(layer.named_parameters())
    result = parametrize.remove_parametrizations(layer, "weight", leave)
    kept = layer.weight is before.get("parametrizations.weight.original")
    value = layer.weight.detach() if of == "own" else 0
    return (
        value,
        kept,
        type(result).__name__,
        list(layer.state_dict()),
        layer.weight.requires_grad,
        parametrize.is_parametrized(layer),
    )


def facts(t: Any) -> Any:
    parametrize = importlib.import_module(f"{t.__name__}.nn.utils.parametrize")
    layer = parametrized(t)
    twin = copy.deepcopy(layer)
    twin.weight = t.zeros(3, 3)
    return [
        repr(layer),
        list(layer.state_dict()),
        parametrize.is_parametrized(layer),
        parametrize.is_parametrized(layer, "bias"),
        layer.weight,
        twin.weight,
        parametrize.type_before_parametrizations(layer).__name__,
        layer.parametrizations.weight.is_tensor,
        isinstance(layer, t.nn.Linear),
    ]


def twice(t: Any) -> Any:
    parametrize = importlib.import_module(f"{t.__name__}.nn.utils.parametrize")
    layer = parametrized(t)
    parametrize.register_parametrization(layer, "weight", t.nn.Tanh())
    return layer.weight, len(layer.parametrizations.weight)


def register(t: Any, name: str, part: Any, unsafe: bool = False) -> Any:
    parametrize = importlib.import_module(f"{t.__name__}.nn.utils.parametrize")
    return parametrize.register_parametrization(t.nn.Linear(3, 3), name, part, unsafe=unsafe)


PROGRAMS = {
    "facts": facts,
    "assigned": assigned,
    "not invertible": lambda t: assigned(t, False),
    "cached": counted,
    "twice": twice,
    "removed": lambda t: removed(t, True),
    "removed to the original": lambda t: removed(t, False),
    "removed of two": lambda t: removed(t, True, "two"),
    "no original": lambda t: removed(t, False, "two"),
    "nothing to remove": lambda t: importlib.import_module(
        f"{t.__name__}.nn.utils.parametrize"
    ).remove_parametrizations(t.nn.Linear(1, 1), "weight"),
    "unknown name": lambda t: register(t, "weights", t.nn.ReLU()),
    "another shape": lambda t: register(t, "weight", Symmetric.of(t, False, False)),
    "another shape, unsafe": lambda t: register(t, "weight", Symmetric.of(t, False, False), True).weight.shape,
    "buffer": lambda t: [
        list(
            importlib.import_module(f"{t.__name__}.nn.utils.parametrize")
            .register_parametrization(t.nn.BatchNorm1d(2), "running_mean", t.nn.ReLU())
            .state_dict()
        )
    ],
    "spectral_norm twice": lambda t: t.nn.utils.spectral_norm(t.nn.utils.spectral_norm(t.nn.Linear(2, 2))),
    "no spectral_norm": lambda t: t.nn.utils.remove_spectral_norm(t.nn.Linear(2, 2)),
    "no steps": lambda t: t.nn.utils.parametrizations.spectral_norm(t.nn.Linear(2, 2), n_power_iterations=0),
    "removed spectral_norm": lambda t: list(
        t.nn.utils.remove_spectral_norm(t.nn.utils.spectral_norm(t.nn.Linear(2, 2))).state_dict()
    ),
    "reprs": lambda t: [
        repr(t.nn.utils.parametrizations.spectral_norm(t.nn.Linear(2, 2))),
        repr(t.nn.utils.parametrizations.weight_norm(t.nn.Conv1d(2, 2, 1))),
    ],
    "a recurrent layer": lambda t: list(
        t.nn.utils.parametrizations.weight_norm(t.nn.LSTM(2, 3), "weight_hh_l0")(t.ones(2, 2))[0].shape
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_pytorchs(name: str) -> None:
    agree(PROGRAMS[name])


def test_errors() -> None:
    spectral_norm = torch.nn.utils.parametrizations.spectral_norm
    with pytest.raises(IndexError, match=r"expected to be in range of \[-2, 1\] but got 2"):
        spectral_norm(torch.nn.Linear(2, 2), dim=2)
    with pytest.raises(ValueError, match="ReLU has no parameter or buffer 'weight'"):
        spectral_norm(torch.nn.ReLU())
    with pytest.raises(ValueError, match="spectral_norm: ReLU has no parameter 'weight'"):
        torch.nn.utils.spectral_norm(torch.nn.ReLU())


def test_removed_hooks_leave_the_weight() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4)
    with pytest.warns(FutureWarning, match="parametrizations.weight_norm"):
        layer = torch.nn.utils.weight_norm(torch.nn.Linear(4, 2))
    layer.weight_g.data.mul_(2)
    expected = layer(x)
    assert torch.allclose(torch.nn.utils.remove_weight_norm(layer)(x), expected) and list(layer.state_dict()) == [
        "bias",
        "weight",
    ]
    with pytest.raises(ValueError, match="weight_norm of 'weight' not found"):
        torch.nn.utils.remove_weight_norm(layer)


@pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated")
def test_weights_of_the_hook_load_into_the_parametrization() -> None:
    older = torch.nn.Sequential(torch.nn.utils.weight_norm(torch.nn.Linear(3, 2)))
    newer = torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2)))
    copy.deepcopy(newer).load_state_dict(older.state_dict())
    newer.load_state_dict(older.state_dict())
    assert torch.equal(newer(torch.ones(1, 3)), older(torch.ones(1, 3)))


def test_an_optimizer_trains_what_the_weight_is_made_of() -> None:
    torch.manual_seed(0)
    layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 4))
    optimizer = torch.optim.SGD(layer.named_parameters(), lr=1.0)
    for _ in range(30):
        optimizer.zero_grad()
        layer(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert abs(torch.linalg.svdvals(layer.weight)[0].item() - 1) < 0.05
