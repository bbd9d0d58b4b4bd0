"""Flat parameters (Note [Flat parameters]): the same training, in fewer calls; and what befalls them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from fake_gpu import fake_gpu
from nanotorch import nn
from nanotorch.nn.utils import clip_grad_norm_, clip_grad_value_, flatten_parameters, parametrizations
from optim_cases import CASES, ids


def network(seed: int = 0, wide: int = 6) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, wide), nn.Tanh(), nn.Linear(wide, 3))


def rows(seed: int = 1, dtype: Any = torch.float32, device: Any = "cpu") -> Any:
    return torch.tensor(np.random.default_rng(seed).standard_normal((5, 4)), dtype=dtype, device=device)


def train(model: nn.Module, optimizer: Any, steps: int, parts: int = 1, **clear: Any) -> list[Any]:
    """Train for some steps, each in some backward passes; the parameters."""
    first = next(model.parameters())
    for step in range(steps):
        optimizer.zero_grad(**clear)
        for part in range(parts):
            model(rows(step * parts + part, first.dtype, first.device)).square().sum().backward()
        optimizer.step()
    return values(model)


def values(model: nn.Module) -> list[Any]:
    return [parameter.detach().cpu().numpy().copy() for parameter in model.parameters()]


def same(first: list[Any], second: list[Any]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def calls_of_the_rule(optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the arrays with which the rule is called from here on."""
    sizes: list[int] = []
    rule = type(optimizer).rule

    def spied(xp: Any, param: Any, *rest: Any, **named: Any) -> None:
        sizes.append(param.size)
        rule(xp, param, *rest, **named)

    monkeypatch.setattr(type(optimizer), "rule", staticmethod(spied))
    return sizes


@pytest.mark.parametrize("wide", [6, 4000], ids=["small", "large"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
def test_training_is_the_same_bit_for_bit(name: str, options: dict[str, Any], wide: int) -> None:
    results = []
    for flat in (False, True):
        model = network(wide=wide)
        if flat:
            flatten_parameters(model.parameters())
        groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.02}]
        results.append(train(model, getattr(torch.optim, name)(groups, **options), 3, parts=2))
    same(*results)


def test_one_call_updates_all_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    (flat,) = flatten_parameters(model.parameters())
    optimizer = torch.optim.Adam(model.parameters())
    sizes = calls_of_the_rule(optimizer, monkeypatch)
    model(rows()).sum().backward()
    expected = flat.data - 1e-3 * flat.grad.sign()
    optimizer.step()
    assert sizes == [flat.data.numel()] == [51]
    np.testing.assert_allclose(flat.data.numpy(), expected.numpy(), atol=1e-6)
    assert flat.data[:24].tolist() == model[0].weight.reshape(-1).tolist()


def test_gradients_are_parts_of_one_vector() -> None:
    model = network()
    (flat,) = flatten_parameters(model.parameters())
    assert flat.grad is None
    model(rows()).sum().backward()
    first, vector = model[0].weight.grad, flat.grad.clone()
    assert vector.tolist() == torch.cat([p.grad.reshape(-1) for p in model.parameters()]).tolist()
    model(rows()).sum().backward()
    assert model[0].weight.grad is first and flat.grad.tolist() == (2 * vector).tolist()
    model.zero_grad(set_to_none=False)
    assert not flat.grad.any() and model[0].weight.grad is first
    model.zero_grad()
    assert flat.grad is None and model[0].weight.grad is None
    model(rows()).sum().backward()
    assert flat.grad.tolist() == vector.tolist()
    torch.autograd.grad(model(2 * rows()).sum(), list(model.parameters()))
    assert flat.grad.tolist() == vector.tolist(), "grad() leaves .grad alone"


@pytest.mark.parametrize("clear", [True, False])
def test_zero_grad_both_ways_trains_alike(clear: bool) -> None:
    results = []
    for flat in (False, True):
        model = network()
        if flat:
            flatten_parameters(model.parameters())
        results.append(train(model, torch.optim.SGD(model.parameters(), 0.1, 0.9), 4, set_to_none=clear))
    same(*results)


def test_clipping_sees_one_gradient() -> None:
    model, twin = network(), network()
    (flat,) = flatten_parameters(model.parameters())
    for one in (model, twin):
        one(rows()).square().sum().backward()
    norms = [clip_grad_norm_(flat, 0.5), clip_grad_norm_(twin.parameters(), 0.5)]
    np.testing.assert_allclose(*[float(norm) for norm in norms], rtol=1e-6)
    clip_grad_value_([flat], 0.1)
    clip_grad_value_(twin.parameters(), 0.1)
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-5)


def test_a_parameter_without_a_gradient_counts_as_zeros_and_is_not_updated() -> None:
    model = network()
    (flat,) = flatten_parameters(model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    train(model, optimizer, 2)
    before = values(model)
    optimizer.zero_grad()
    model[0](rows()).sum().backward()  # what is left of the gradient of the second layer is old
    assert flat.grad[-21:].tolist() == [0.0] * 21 and flat.grad[:30].all()
    optimizer.step()
    after = values(model)
    same(before[2:], after[2:])
    assert (before[0] != after[0]).all()
    assert optimizer.state[model[2].bias]["step"].item() == 2


def test_frozen_parameters_stay() -> None:
    results = []
    for flat in (False, True):
        model = network()
        model[0].bias.requires_grad_(False)
        if flat:
            flatten_parameters(model.parameters())
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        train(model, optimizer, 2)
        model[0].bias.requires_grad_(True)
        model[2].weight.requires_grad_(False)
        results.append(train(model, optimizer, 2))
    same(*results)


def test_gradients_from_elsewhere_are_brought_to_their_place() -> None:
    model = network()
    (flat,) = flatten_parameters(model.parameters())
    model[0].bias.grad = torch.full((6,), 2.0)
    assert flat.grad.sum().item() == 12
    model.zero_grad()
    model(rows()).square().sum().backward(create_graph=True)
    recorded = [parameter.grad.detach().clone() for parameter in model.parameters()]
    assert model[0].weight.grad.requires_grad
    assert flat.grad.tolist() == torch.cat([grad.reshape(-1) for grad in recorded]).tolist()
    assert not model[0].weight.grad.requires_grad


def test_the_memory_of_a_gradient_may_be_replaced() -> None:
    model = network()
    (flat,) = flatten_parameters(model.parameters())
    model(rows()).sum().backward()
    expected = model[0].bias.grad.clone()
    mine = torch.full((6,), 2.0)
    model[0].bias.grad.data = mine
    assert flat.grad.tolist() == torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()]).tolist()
    clip_grad_value_(flat, 0.5)
    assert model[0].bias.grad.tolist() == [0.5] * 6
    model[0].bias.grad.data = mine
    model.zero_grad()
    model(rows()).sum().backward()
    assert mine.tolist() == [2.0] * 6, "the next backward wrote to memory that somebody else holds"
    assert model[0].bias.grad.tolist() == expected.tolist() == flat.grad[24:30].tolist()


def test_gradients_that_were_there_are_kept() -> None:
    model = network()
    model(rows()).sum().backward()
    before = [parameter.grad.tolist() for parameter in model.parameters()]
    flatten_parameters(model.parameters())
    assert [parameter.grad.tolist() for parameter in model.parameters()] == before


def test_versions_notice_writes() -> None:
    model = network()
    flatten_parameters(model.parameters())
    x = rows()
    loss = model(x).sum()
    loss.backward(retain_graph=True)
    penalty = (model[2].weight.grad * torch.ones((), requires_grad=True)).sum()
    model.zero_grad()
    loss.backward()  # writes over the gradient that `penalty` has saved
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        penalty.backward()
    loss = model(x).sum()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    with pytest.raises(RuntimeError, match=r"SGD\.step"):
        loss.backward()


def test_a_gradient_that_was_written_with_history_is_plain_at_the_next_backward() -> None:
    model = network()
    flatten_parameters(model.parameters())
    model(rows()).sum().backward()
    model[2].bias.grad.mul_(torch.ones(3, requires_grad=True))
    model.zero_grad()
    model(rows()).sum().backward()
    assert model[2].bias.grad.grad_fn is None and not model[2].bias.grad.requires_grad


def test_state_dicts_are_those_of_any_model(tmp_path: Any) -> None:
    model, twin = network(), network(1)
    flatten_parameters(model.parameters())
    (flat,) = flatten_parameters(twin.parameters())
    optimizer, other = torch.optim.Adam(model.parameters()), torch.optim.Adam(twin.parameters())
    train(model, optimizer, 2)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {
        "0.weight": (6, 4),
        "0.bias": (6,),
        "2.weight": (3, 6),
        "2.bias": (3,),
    }
    torch.save(model.state_dict(), tmp_path / "model.safetensors")
    twin.load_state_dict(torch.load(tmp_path / "model.safetensors"))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert flat.data.tolist() == torch.cat([p.detach().reshape(-1) for p in model.parameters()]).tolist()
    same(train(model, optimizer, 2), train(twin, other, 2))
    plain = network(2)
    plain.load_state_dict(model.state_dict())
    ordinary = torch.optim.Adam(plain.parameters())
    ordinary.load_state_dict(optimizer.state_dict())
    same(train(model, optimizer, 2), train(plain, ordinary, 2))


def test_copies_are_ordinary_models() -> None:
    model = network()
    (flat,) = flatten_parameters(model.parameters())
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, 2)
    twin, twins = copy.deepcopy((model, optimizer))
    assert twin[0].weight.grad.tolist() == model[0].weight.grad.tolist()
    same(train(model, optimizer, 2), train(twin, twins, 2))
    with pytest.raises(TypeError, match=r"copy the module, and call flatten_parameters\(\) for the copy"):
        copy.deepcopy(flat)


def test_a_tied_parameter_lies_there_once_and_shared_memory_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    (flat,) = flatten_parameters([*model[0].parameters(), *model[2].parameters()])
    assert flat.data.numel() == 24
    train(model, torch.optim.Adam(model.parameters()), 2)
    assert model[2].weight is model[0].weight
    first = torch.zeros(4, requires_grad=True)
    with pytest.raises(ValueError, match=r"share memory.*use one Parameter in both places"):
        flatten_parameters([first, first.detach()[1:].requires_grad_()])


def test_parametrizations() -> None:
    results = []
    for flat in (False, True):
        model = network()
        parametrizations.weight_norm(model[0])
        if flat:
            flatten_parameters(model.parameters())
        parametrizations.weight_norm(model[2])
        results.append(train(model, torch.optim.Adam(model.parameters(), lr=0.1), 3))
    same(*results)


def test_parameters_that_come_later() -> None:
    results = []
    for flat in (False, True):
        model = network()
        if flat:
            flatten_parameters(model.parameters())
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        train(model, optimizer, 2)
        torch.manual_seed(5)
        model.append(nn.Linear(3, 2))
        optimizer.add_param_group({"params": model[3].parameters()})
        train(model, optimizer, 2)
        if flat:
            (both,) = flatten_parameters(model.parameters())
            assert both.data.numel() == 59
        results.append(train(model, optimizer, 2))
    same(*results)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_moving_a_module_makes_its_parameters_ordinary(dtype: Any) -> None:
    results = []
    for flat in (False, True):
        model = network()
        if flat:
            (vector,) = flatten_parameters(model.parameters())
        optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
        train(model, optimizer, 2)
        model.to(dtype)
        model(rows(9, dtype)).sum().backward()
        if flat:
            for what in ("data", "grad"):
                with pytest.raises(RuntimeError, match=r"parameter 0, of shape \(6, 4\).*flatten_parameters\(\) again"):
                    getattr(vector, what)
            (vector,) = flatten_parameters(model.parameters())
            assert vector.data.dtype is dtype and vector.grad.any()
        results.append(train(model, optimizer, 2))
    same(*results)


def test_a_second_device() -> None:
    plain = network()
    expected = train(plain, torch.optim.Adam(plain.parameters()), 3)
    with fake_gpu() as counts:
        model = network().to("cuda")
        (flat,) = flatten_parameters(model.parameters())
        optimizer = torch.optim.Adam(model.parameters())
        train(model, optimizer, 2)
        optimizer.zero_grad()
        model(rows(2, device="cuda")).square().sum().backward()
        counts.reset()
        clip_grad_norm_(flat, 1e6)
        optimizer.step()
        assert counts.transfers == counts.synchronizations == 0
        for mine, other in zip(values(model), expected, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_flattened_in_inference_mode_they_can_be_trained() -> None:
    model = torch.nn.Linear(2, 1)
    with torch.inference_mode():
        (flat,) = flatten_parameters(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert flat.grad.tolist() == [1.0, 1.0, 1.0]
    assert not (flat.data.is_inference() or flat.grad.is_inference())


def test_parameters_that_are_assigned_by_load_state_dict_are_others() -> None:
    model = torch.nn.Linear(2, 1)
    (flat,) = flatten_parameters(model.parameters())
    former = flat.data.tolist()
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}, assign=True)
    model(torch.ones(1, 2)).sum().backward()
    assert (flat.data.tolist(), flat.grad) == (former, None)
    (flat,) = flatten_parameters(model.parameters())
    assert (flat.data - 1).tolist() == pytest.approx(former, rel=1e-6)
    assert flat.grad.tolist() == [1.0, 1.0, 1.0]


def test_dtypes_lie_apart_and_only_leaves_move() -> None:
    model = network()
    model[2].double()
    first, second = flatten_parameters(model.parameters())
    assert (first.data.dtype, second.data.dtype) == (torch.float32, torch.float64)
    assert repr(second) == "FlatParameters(2 parameters, 21 elements)"
    assert flatten_parameters([]) == []
    with pytest.raises(ValueError, match="leaf tensors"):
        flatten_parameters([torch.ones(2, requires_grad=True) * 2])
    with torch.no_grad():
        view = torch.ones(2, 2, requires_grad=True)[0]
    with pytest.raises(ValueError, match="leaf tensors"):
        flatten_parameters([view])


ACTIONS: dict[str, Any] = {
    "backward": lambda model, optimizer, i: model(rows(i)).square().sum().backward() if trains(model) else None,
    "partial backward": lambda model, optimizer, i: model[0](rows(i)).sum().backward() if trains(model[0]) else None,
    "step": lambda model, optimizer, i: optimizer.step(),
    "forget": lambda model, optimizer, i: optimizer.zero_grad(),
    "zero": lambda model, optimizer, i: optimizer.zero_grad(set_to_none=False),
    "forget one": lambda model, optimizer, i: setattr(pick(model, i), "grad", None),
    "assign one": lambda model, optimizer, i: setattr(pick(model, i), "grad", torch.full_like(pick(model, i), 0.5)),
    "freeze": lambda model, optimizer, i: pick(model, i).requires_grad_(not pick(model, i).requires_grad),
    "replace": lambda model, optimizer, i: setattr(pick(model, i), "data", pick(model, i).data.clone()),
    "clip": lambda model, optimizer, i: clip_grad_norm_(model.parameters(), 1.0),
    "load": lambda model, optimizer, i: model.load_state_dict(network(i).state_dict()),
    "reload": lambda model, optimizer, i: optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict())),
}


def trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def pick(model: nn.Module, number: int) -> Any:
    return list(model.parameters())[number % 4]


@pytest.mark.parametrize("seed", range(20))
def test_any_program_leaves_the_same_numbers(seed: int) -> None:
    """Actions in any order, flattened anew at any time, or not at all."""
    numbers = np.random.default_rng(seed)
    models = [network(), network()]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1) for model in models]
    flatten_parameters(models[1].parameters())
    for _ in range(40):
        name = numbers.choice(["backward", "step", *ACTIONS])
        number = int(numbers.integers(100))
        for model, optimizer in zip(models, optimizers, strict=True):
            ACTIONS[name](model, optimizer, number)
        if numbers.random() < 0.1:
            flatten_parameters(models[1].parameters())
        same(*map(values, models))
        for mine, other in zip(*[model.parameters() for model in models], strict=True):
            assert (mine.grad is None) == (other.grad is None)
            if mine.grad is not None:
                np.testing.assert_array_equal(mine.grad.numpy(), other.grad.numpy())
