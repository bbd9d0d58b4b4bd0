"""What the rows of recurrent layers keep beside PyTorch's numbers: devices, derivatives, memory, float16."""

from __future__ import annotations

from typing import Any

import pytest

import nanotorch as torch
from nanotorch.nn.utils.rnn import PackedSequence, pack_padded_sequence

LAYERS: dict[str, dict[str, Any]] = {
    "RNN": {},
    "RNN relu": {"nonlinearity": "relu"},
    "LSTM": {},
    "LSTM projected": {"proj_size": 2},
    "GRU": {},
}


def layer(case: str, dtype: Any = torch.float64, **options: Any) -> Any:
    torch.manual_seed(0)
    return getattr(torch.nn, case.split()[0])(3, 4, dtype=dtype, **LAYERS[case], **options)


def results(output: Any) -> list[Any]:
    """All tensors of what a layer returned."""
    values, state = output
    return [
        values.data if isinstance(values, PackedSequence) else values,
        *(state if isinstance(state, tuple) else (state,)),
    ]


@pytest.mark.parametrize("case", LAYERS)
def test_devices_agree(case: str, device: Any) -> None:
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    found = []
    for place in ("cpu", device):
        module = layer(case, num_layers=2, bidirectional=True).to(place)
        outputs = results(module(pack_padded_sequence(x.to(place), [5, 2, 1])))
        sum(value.square().sum() for value in outputs).backward()
        found.append([t.detach().to("cpu") for t in (*outputs, *(p.grad for p in module.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", LAYERS)
def test_derivatives_of_any_order(case: str) -> None:
    """Against finite differences, over sequences that end at different times."""
    module = layer(case)
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)

    def call(x: Any, *weights: Any) -> Any:
        parameters = dict(zip(dict(module.named_parameters()), weights, strict=True))
        outputs = results(torch.func.functional_call(module, parameters, (pack_padded_sequence(x, [3, 1]),)))
        return sum((value * value).sum() for value in outputs)

    inputs = (x, *module.parameters())
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("case", LAYERS)
def test_results_may_be_written_to_and_saved_values_offloaded(case: str) -> None:
    """What backward needs is its own memory, and hooks see it."""
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    found = []
    for edit in (False, True):
        module = layer(case)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
            outputs = results(module(x))
        total = sum(value.sum() for value in outputs)
        if edit:
            for value in outputs:
                value.mul_(0)
        total.backward()
        found.append([p.grad for p in module.parameters()])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("case", LAYERS)
def test_half_precision_rounds_once(case: str) -> None:
    wide, half = layer(case, torch.float32), layer(case, torch.float16)
    half.load_state_dict({name: value.half() for name, value in wide.state_dict().items()})
    wide.load_state_dict({name: value.float() for name, value in half.state_dict().items()})
    x = torch.randn(200, 2, 3).half()
    for ours, exact in zip(results(half(x)), results(wide(x.float())), strict=True):
        assert ours.dtype is torch.float16 and torch.allclose(ours.float(), exact, rtol=2e-3, atol=2e-3)


def test_only_one_node_per_layer_and_direction() -> None:
    output, _ = torch.nn.GRU(3, 4, num_layers=2)(torch.ones(50, 2, 3))
    nodes, names = [output.grad_fn], []
    while nodes:
        node = nodes.pop()
        names.append(node.name())
        nodes += [below for below, _ in node.next_functions if below is not None]
    assert names.count("GruBackward0") == 2 and len(names) < 60
