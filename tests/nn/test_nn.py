"""Modules: registration, walking, modes, saving, hooks, containers, and errors that name the layer."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
import nanotorch.nn.functional as F
from fake_gpu import fake_gpu
from nanotorch import nn
from oracle import to_numpy


class Net(nn.Module):
    """Two layers, a buffer of each kind, and a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("offset", torch.zeros(3))
        self.register_buffer("cache", torch.zeros(2), persistent=False)
        self.extra: Any = None

    def forward(self, x: Any) -> Any:
        return self.net(x) * self.scale + self.offset


def names(pairs: Any) -> list[str]:
    return [name for name, _ in pairs]


# ------------------------------------------------------------------------------------------ registration


def test_parts_are_registered_in_order() -> None:
    net = Net()
    parameters = ["scale", "net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]
    assert names(net.named_parameters()) == parameters
    assert names(net.named_parameters(prefix="model")) == [f"model.{name}" for name in parameters]
    assert names(net.named_parameters(recurse=False)) == ["scale"]
    assert names(net.named_buffers()) == ["offset", "cache"]
    assert names(net.named_modules()) == ["", "net", "net.0", "net.1", "net.2"]
    assert names(net.named_children()) == ["net"] and list(net.children()) == [net.net]
    assert len(list(net.modules())) == 5 and len(list(net.buffers())) == 2
    assert next(net.parameters()) is net.scale


def test_shared_parts_are_visited_once() -> None:
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert names(net.named_parameters()) == ["0.weight", "0.bias"]
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    assert names(net.named_modules()) == ["", "0", "1"]
    assert names(net.named_children()) == ["0", "1"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    tied = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    tied[1].weight = tied[0].weight
    assert names(tied.named_parameters()) == ["0.weight", "0.bias", "1.bias"]


def test_assignment_replaces_what_a_name_stands_for() -> None:
    module = nn.Module()
    module.part = torch.ones(2)
    assert not list(module.named_parameters())
    module.part = nn.Parameter(torch.ones(2))
    assert names(module.named_parameters()) == ["part"]
    module.part = None
    assert not list(module.named_parameters()) and module.part is None
    module.part = nn.Parameter(torch.ones(3))
    module.part = nn.Linear(1, 1)
    assert names(module.named_parameters()) == ["part.weight", "part.bias"]
    del module.part
    assert not list(module.named_modules())[1:] and not hasattr(module, "part")
    with pytest.raises(AttributeError):
        del module.part


def test_buffers_stay_buffers() -> None:
    net = Net()
    net.offset = torch.ones(3)
    assert dict(net.named_buffers())["offset"].tolist() == [1, 1, 1]
    net.offset = None
    assert names(net.named_buffers()) == ["cache"]


def test_registration_errors() -> None:
    net = Net()
    with pytest.raises(TypeError, match="cannot assign a Tensor as parameter 'scale'"):
        net.scale = torch.ones(3)
    with pytest.raises(TypeError, match="cannot assign a int as submodule 'net'"):
        net.net = 3
    with pytest.raises(TypeError, match="cannot assign a float as buffer 'offset'"):
        net.offset = 0.5
    with pytest.raises(KeyError, match="already has an attribute 'forward'"):
        net.register_buffer("forward", torch.ones(1))
    with pytest.raises(KeyError, match=r"a\.b"):
        net.add_module("a.b", nn.ReLU())
    with pytest.raises(KeyError, match="empty"):
        net.register_parameter("", nn.Parameter(torch.ones(1)))
    with pytest.raises(TypeError, match="string"):
        net.register_buffer(3, torch.ones(1))
    with pytest.raises(ValueError, match="leaf"):
        leaf = nn.Parameter(torch.ones(1))
        leaf._edge = (torch.ones(1, requires_grad=True) * 2)._edge
        net.register_parameter("new", leaf)

    class Early(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) before"):
        Early()
    with pytest.raises(TypeError):
        net._parameters["scale"] = None  # a mapping to read


def test_lookup_by_path() -> None:
    net = Net()
    assert net.get_submodule("net.2") is net.net[2] and net.get_submodule("") is net
    assert net.get_parameter("net.2.bias") is net.net[2].bias and net.get_buffer("offset") is net.offset
    with pytest.raises(AttributeError, match="Sequential has no submodule '7'"):
        net.get_submodule("net.7")
    with pytest.raises(AttributeError, match="Linear has no parameter 'wait'"):
        net.get_parameter("net.0.wait")


def test_parameter() -> None:
    data = torch.ones(2)
    parameter = nn.Parameter(data)
    assert parameter.requires_grad and parameter.is_leaf and isinstance(parameter, torch.Tensor)
    with torch.no_grad():
        parameter.add_(1)
    assert data.tolist() == [2, 2]
    assert repr(parameter) == "Parameter containing:\ntensor([2., 2.], requires_grad=True)"
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert type(parameter * 2) is torch.Tensor
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(torch.tensor([1]))


# ------------------------------------------------------------------------------------------ modes and moves


def test_train_and_eval() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2)))
    assert all(module.training for module in net.modules())
    assert net.eval() is net and not any(module.training for module in net.modules())
    assert net.train()[1][0].training
    with pytest.raises(ValueError, match="True or False"):
        net.train("yes")


def test_apply_goes_children_first() -> None:
    seen = []
    net = Net()
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Linear", "ReLU", "Linear", "Sequential", "Net"]


def test_requires_grad_and_zero_grad() -> None:
    net = Net()
    net(torch.ones(2, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(parameter.grad.abs().sum().item() == 0 for parameter in net.parameters())
    net.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())
    net.requires_grad_(False)
    assert not net(torch.ones(2, 4)).requires_grad


def test_conversion_keeps_the_parameters() -> None:
    net = Net()
    parameters = list(net.parameters())
    net(torch.ones(2, 4)).sum().backward()
    net.register_buffer("count", torch.tensor(3))
    assert net.double() is net
    assert all(mine is other for mine, other in zip(net.parameters(), parameters, strict=True))
    assert {tensor.dtype for tensor in [*parameters, *net.buffers()]} == {torch.float64, torch.int64}
    assert parameters[0].grad.dtype is torch.float64 and parameters[0].is_leaf and parameters[0].requires_grad
    assert net(torch.ones(2, 4, dtype=torch.float64)).dtype is torch.float64
    assert net.half().scale.dtype is torch.float16 and net.float().scale.dtype is torch.float32
    assert net.to(torch.float64).to("cpu").to(torch.ones(1)).scale.dtype is torch.float32
    assert net.to(device="cpu", dtype=torch.float64).cpu().offset.dtype is torch.float64
    with pytest.raises(TypeError, match="floating point"):
        net.to(torch.int64)
    with pytest.raises(TypeError, match="device"):
        net.to(3.0)


def test_a_second_device_gives_the_same() -> None:
    """The same seed, the same training step: initialisation, dropout, gradients, clipping and buffers agree."""
    results = []
    for device in ("cpu", "cuda"):
        with fake_gpu() as counts:
            torch.manual_seed(0)
            net = nn.Sequential(
                nn.Linear(4, 8, device=device),
                nn.BatchNorm1d(8),
                nn.Dropout(0.3),
                nn.LayerNorm(8),
                nn.GELU(),
                nn.Linear(8, 3),
            ).to(device)
            nn.init.trunc_normal_(net[5].weight)
            x, y = torch.randn(6, 4).to(device), torch.tensor([0, 1, 2, 2, 1, 0], device=device)
            loss = nn.CrossEntropyLoss()(net(x), y)
            loss.backward()
            counts.reset()
            norm = nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            nn.utils.clip_grad_value_(net.parameters(), 0.1)
            assert counts.transfers == counts.synchronizations == 0
            assert {str(tensor.device) for tensor in (*net.state_dict().values(), norm)} == {
                "cpu" if device == "cpu" else "cuda:0"
            }
            gradients = [to_numpy(parameter.grad) for parameter in net.cpu().parameters()]
            results.append([to_numpy(loss), to_numpy(norm), *gradients, *map(to_numpy, net.state_dict().values())])
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


def test_deepcopy() -> None:
    net = Net()
    net.scale.grad = torch.ones(3)
    twin = copy.deepcopy(net)
    assert names(twin.named_parameters()) == names(net.named_parameters())
    assert (
        twin.scale is not net.scale and isinstance(twin.scale, nn.Parameter) and twin.scale.grad.tolist() == [1, 1, 1]
    )
    with torch.no_grad():
        twin.scale.zero_()
    assert net.scale.tolist() == [1, 1, 1]
    tied = nn.Sequential(net, net)
    twins = copy.deepcopy(tied)
    assert twins[0] is twins[1]


def test_a_module_dies_with_its_last_reference() -> None:
    gc.disable()
    try:
        net = Net()
        net(torch.ones(2, 4)).sum().backward()
        torch.optim.Adam(net.parameters()).step()
        dead = weakref.ref(net)
        del net
        assert dead() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------ state_dict


def test_state_dict_shares_memory_and_leaves_out_what_is_not_persistent() -> None:
    net = Net()
    state = net.state_dict()
    assert isinstance(state, OrderedDict)
    assert list(state) == ["scale", "offset", "net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]
    assert next(iter(net.net.state_dict(prefix="net."))) == "net.0.weight"
    assert not any(value.requires_grad for value in state.values())
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    state["scale"].fill_(7)
    assert net.scale.tolist() == [7, 7, 7]


def test_load_state_dict_copies() -> None:
    source, target = Net(), Net()
    scale = target.scale
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>" and result.missing_keys == []
    assert target.scale is scale
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        assert mine.tolist() == other.tolist() and mine.requires_grad
    with torch.no_grad():
        source.scale.fill_(9)
    assert target.scale.tolist() == [1, 1, 1]
    arrays = {key: to_numpy(value).astype(np.float64) for key, value in source.state_dict().items()}
    target.load_state_dict(arrays)
    assert target.scale.tolist() == [9, 9, 9] and target.scale.dtype is torch.float32


def test_load_state_dict_reports_everything_at_once_and_changes_nothing() -> None:
    net = Net()
    state = {key: torch.zeros(*value.shape) for key, value in net.state_dict().items()}
    state["net.0.weight"] = torch.zeros(8, 5)
    state["net.2.bias"] = torch.zeros(4)
    state["offset"] = [0, 0, 0]
    del state["scale"], state["net.0.bias"]
    state["head.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    for part in (
        "Error(s) in loading state_dict for Net:",
        'Missing key(s) in state_dict: "scale", "net.0.bias"',
        'Unexpected key(s) in state_dict: "head.weight"',
        "size mismatch for net.0.weight: (8, 5) in the state_dict, (8, 4) in this model",
        "size mismatch for net.2.bias: (4,) in the state_dict, (3,) in this model",
        "value of offset is a list",
    ):
        assert part in text
    assert net.net[2].weight.abs().sum().item() > 0
    with pytest.raises(RuntimeError, match="size mismatch"):
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match="dict"):
        net.load_state_dict([1])


def test_load_state_dict_says_why_a_value_is_no_tensor() -> None:
    class Elsewhere:
        shape = (3,)

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    net = Net()
    state = {**net.state_dict(), "scale": Elsewhere(), "offset": np.array(["a", "b", "c"]), "net.2.bias": None}
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    for part in (
        "value of scale is a Elsewhere: can't convert cuda:0",
        "value of offset is a ndarray: tensors cannot hold NumPy dtype <U1",
        "value of net.2.bias is a NoneType: not a tensor or an array",
    ):
        assert part in str(caught.value)


def test_load_state_dict_not_strict() -> None:
    net = Net()
    missing, unexpected = net.load_state_dict({"scale": torch.zeros(3), "other": torch.zeros(1)}, strict=False)
    assert unexpected == ["other"] and "net.0.weight" in missing and "scale" not in missing
    assert net.scale.tolist() == [0, 0, 0]


@pytest.mark.parametrize("given", ["tensors", "arrays", "parameters"])
def test_load_state_dict_assigns(given: str) -> None:
    source, target = Net().double(), Net()
    target.scale.requires_grad_(False)
    state = source.state_dict(keep_vars=given == "parameters")
    target.load_state_dict({k: to_numpy(v) for k, v in state.items()} if given == "arrays" else state, assign=True)
    assert target.scale.dtype is torch.float64 and target.offset.dtype is torch.float64
    assert (
        isinstance(target.scale, nn.Parameter) and not target.scale.requires_grad and target.net[0].weight.requires_grad
    )
    assert names(target.named_parameters()) == names(source.named_parameters())
    assert names(target.named_buffers()) == names(source.named_buffers())
    assert (target.net[0].weight is source.net[0].weight) == (given == "parameters")
    with torch.no_grad():
        source.scale.fill_(9)
    assert target.scale.tolist() == ([1, 1, 1] if given == "arrays" else [9, 9, 9])


# ------------------------------------------------------------------------------------------ hooks


def test_forward_hooks() -> None:
    layer, seen = nn.Linear(2, 2), []
    pre = layer.register_forward_pre_hook(lambda module, args: seen.append((module, args)))
    post = layer.register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
    x = torch.ones(1, 2)
    y = layer(x)
    assert seen[0] == (layer, (x,)) and seen[1][1] == (x,) and seen[1][2] is y
    pre.remove()
    with post:
        layer(x)
    assert len(seen) == 3
    layer(x)
    assert len(seen) == 3


def test_forward_hooks_replace_and_order() -> None:
    layer = nn.Identity()
    layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
    layer.register_forward_pre_hook(lambda module, args: (args[0] * 10,))
    layer.register_forward_hook(lambda module, args, output: output + 3)
    layer.register_forward_hook(lambda module, args, output: output * 2, prepend=True)
    assert layer(torch.tensor(1.0)).item() == (1 + 1) * 10 * 2 + 3


def test_forward_hooks_with_kwargs() -> None:
    class Scale(nn.Module):
        def forward(self, x: Any, by: float = 1.0) -> Any:
            return x * by

    layer = Scale()
    layer.register_forward_pre_hook(lambda module, args, kwargs: (args, {"by": kwargs["by"] + 1}), with_kwargs=True)
    layer.register_forward_hook(lambda module, args, kwargs, output: output + kwargs["by"], with_kwargs=True)
    assert layer(torch.tensor(2.0), by=2).item() == 2 * 3 + 3


def test_forward_hooks_that_are_always_called() -> None:
    class Fails(nn.Module):
        def forward(self, x: Any) -> Any:
            raise ValueError("forward failed")

    seen: list[Any] = []
    layer = Fails()
    layer.register_forward_hook(lambda module, args, output: seen.append("never"))
    layer.register_forward_hook(lambda module, args, output: seen.append(output), always_call=True)
    layer.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs), always_call=True, with_kwargs=True
    )
    with pytest.raises(ValueError, match="forward failed"):
        layer(x=1)
    assert seen == [None, {"x": 1}]
    layer.register_forward_hook(lambda module, args, output: 1 / 0, always_call=True)
    with pytest.warns(UserWarning, match="division by zero"), pytest.raises(ValueError, match="forward failed"):
        layer(1)
    seen.clear()
    fine = nn.Identity()
    fine.register_forward_hook(lambda module, args, output: seen.append(output), always_call=True)
    fine.register_forward_hook(lambda module, args, output: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fine(3)
    assert seen == [3]  # once


def test_a_pre_hook_with_kwargs_returns_both() -> None:
    layer = nn.Identity()
    layer.register_forward_pre_hook(lambda module, args, kwargs: args[0], with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"tuple \(args, kwargs\), got int"):
        layer(3)


def test_full_backward_hook() -> None:
    layer, seen = nn.Linear(3, 2), []
    handle = layer.register_full_backward_hook(
        lambda module, grad_input, grad_output: seen.append((grad_input, grad_output))
    )
    x = torch.ones(4, 3, requires_grad=True)
    layer(x).sum().backward()
    ((grad_input,), (grad_output,)) = seen[0]
    assert grad_output.tolist() == torch.ones(4, 2).tolist()
    np.testing.assert_allclose(to_numpy(grad_input), to_numpy(x.grad))
    handle.remove()
    layer(x).sum().backward()
    assert len(seen) == 1


def test_full_backward_hook_replaces_grad_input() -> None:
    layer = nn.Linear(3, 2)
    layer.register_full_backward_hook(lambda module, grad_input, grad_output: (grad_input[0] * 0 + 5,))
    layer.register_full_backward_pre_hook(lambda module, grad_output: (grad_output[0] * 2,))
    x = torch.ones(4, 3, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.tolist() == torch.full((4, 3), 5.0).tolist()
    np.testing.assert_allclose(to_numpy(layer.bias.grad), [8, 8])


def test_full_backward_hook_without_input_gradient() -> None:
    layer, seen = nn.Linear(3, 2), []
    layer.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append(grad_input))
    layer(torch.ones(4, 3)).sum().backward()
    assert seen == [(None,)]
    with torch.no_grad():
        layer(torch.ones(4, 3))


# ------------------------------------------------------------------------------------------ containers


def test_sequential() -> None:
    a, b, c, d = (nn.Linear(2, 2) for _ in range(4))
    net = nn.Sequential(a, b)
    assert net.append(c) is net and net.insert(1, d) is net
    assert list(net) == [a, d, b, c] and len(net) == 4 and net[-1] is c and d in net
    assert names(net.named_children()) == ["0", "1", "2", "3"]
    part = net[1:3]
    assert isinstance(part, nn.Sequential) and list(part) == [d, b] and names(part.named_children()) == ["1", "2"]
    del net[0]
    assert list(net) == [d, b, c] and names(net.named_children()) == ["0", "1", "2"]
    net[0] = a
    assert net.pop(1) is b and list(net) == [a, c]
    assert list(net.extend([b, d])) == [a, c, b, d]
    del net[1:3]
    assert list(net) == [a, d]
    with pytest.raises(IndexError, match="this Sequential has 2 modules"):
        net[2]
    with pytest.raises(TypeError, match="submodule"):
        nn.Sequential(lambda x: x)
    named = nn.Sequential(OrderedDict(first=a, second=b))
    assert named.first is a and names(named[:1].named_children()) == ["first"]
    x = torch.ones(1, 2)
    assert named(x).tolist() == b(a(x)).tolist()


def test_module_list() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    layers.append(nn.ReLU())
    layers.insert(0, nn.Dropout())
    assert [type(layer).__name__ for layer in layers] == ["Dropout", "Linear", "Linear", "ReLU"]
    assert isinstance(layers[1:], nn.ModuleList) and names(layers[1:].named_children()) == ["0", "1", "2"]
    with pytest.raises(NotImplementedError, match=r"ModuleList does not define forward"):
        layers(torch.ones(1))


def test_module_dict() -> None:
    layers = nn.ModuleDict({"relu": nn.ReLU(), "linear": nn.Linear(2, 2)})
    layers["tanh"] = nn.Tanh()
    assert list(layers) == ["relu", "linear", "tanh"] and "tanh" in layers and len(layers) == 3
    assert names(layers.named_parameters()) == ["linear.weight", "linear.bias"]
    layers.update([("relu", nn.SiLU())])
    assert isinstance(layers.pop("relu"), nn.SiLU) and list(layers.keys()) == ["linear", "tanh"]
    del layers["linear"]
    assert [name for name, _ in layers.items()] == ["tanh"] and len(list(layers.values())) == 1
    layers.clear()
    assert not len(layers)
    with pytest.raises(KeyError):
        layers["gone"]
    with pytest.raises(KeyError):
        del layers["gone"]


def test_lists_add_up() -> None:
    a, b, c = nn.Linear(2, 2), nn.ReLU(), nn.Tanh()
    net = nn.Sequential(a, b)
    assert list(net + nn.Sequential(c)) == [a, b, c] and isinstance(net + nn.ModuleList([c]), nn.Sequential)
    assert list(net * 2) == [a, b, a, b]
    net += [c]
    assert isinstance(net, nn.Sequential) and list(net) == [a, b, c]
    layers = nn.ModuleList([a])
    both = layers + nn.Sequential(b)
    assert isinstance(both, nn.ModuleList) and list(both) == [a, b]
    layers += layers
    assert list(layers) == [a, a]


def test_parameter_list() -> None:
    first = nn.Parameter(torch.ones(2))
    values = nn.ParameterList([first, torch.zeros(3)])
    assert values[0] is first and isinstance(values[1], nn.Parameter) and values[1].requires_grad
    values.append(torch.ones(1)).extend([torch.ones(4), first])
    assert names(values.named_parameters()) == ["0", "1", "2", "3"] and len(values) == 5 and values[-1] is first
    assert isinstance(values[1:3], nn.ParameterList) and len(values[1:3]) == 2 and values[1:3][0] is values[1]
    values[1] = torch.ones(7)
    assert values[1].shape == (7,) and isinstance(values[1], nn.Parameter) and first in values
    del values[0]
    assert [p.shape[0] for p in values] == [7, 1, 4, 2] and list(values.state_dict()) == ["0", "1", "2", "3"]
    with pytest.raises(IndexError, match="this ParameterList has 4 parameters"):
        values[4]
    with pytest.raises(TypeError, match="cannot assign a int as parameter '4'"):
        values.append(3)


def test_parameter_dict() -> None:
    values = nn.ParameterDict({"left": torch.ones(2), "right": nn.Parameter(torch.ones(3), requires_grad=False)})
    assert values["left"].requires_grad and not values["right"].requires_grad
    values["top"] = torch.zeros(1)
    values.update({"left": torch.zeros(2)})
    assert list(values) == ["left", "right", "top"] and names(values.named_parameters()) == list(values.keys())
    assert values["left"].tolist() == [0, 0] and values.get("gone") is None and values.get("top", 3) is values["top"]
    assert values.pop("top").tolist() == [0] and "top" not in values and len(values) == 2
    assert [key for key, _ in values.items()] == ["left", "right"] and len(list(values.values())) == 2
    with pytest.raises(KeyError, match="already has an attribute 'keys'"):
        values["keys"] = torch.zeros(1)
    assert repr(nn.ParameterDict({"a": torch.ones(2, 3), "b": torch.tensor(1.0)})) == (
        "ParameterDict(\n    (a): Parameter containing: [torch.float32 of size 2x3]\n"
        "    (b): Parameter containing: [torch.float32 of size ]\n)"
    )


def test_set_submodule() -> None:
    net, layer = Net(), nn.Linear(8, 3)
    net.set_submodule("net.2", layer)
    assert net.net[2] is layer and names(net.net.named_children()) == ["0", "1", "2"]
    with pytest.raises(AttributeError, match="Sequential has no submodule '3'"):
        net.set_submodule("net.3", layer)
    with pytest.raises(TypeError, match="cannot assign a Tensor as submodule 'net'"):
        net.set_submodule("net", torch.ones(1))


# ------------------------------------------------------------------------------------------ layers


def test_batch_norm_statistics() -> None:
    layer = nn.BatchNorm1d(2, momentum=None)
    batches = [torch.randn(5, 2) * 3 + 1 for _ in range(4)]
    for batch in batches:
        layer(batch)
    assert layer.num_batches_tracked.item() == 4
    np.testing.assert_allclose(
        to_numpy(layer.running_mean), np.mean([to_numpy(b).mean(0) for b in batches], axis=0), rtol=1e-5
    )
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0] and layer.num_batches_tracked.item() == 0
    layer.eval()(batches[0])
    assert layer.num_batches_tracked.item() == 0
    untracked = nn.BatchNorm1d(2, track_running_stats=False, affine=False).eval()
    assert not untracked.state_dict()
    np.testing.assert_allclose(to_numpy(untracked(batches[0])).mean(0), [0, 0], atol=1e-6)


def test_dropout() -> None:
    torch.manual_seed(0)
    layer, x = nn.Dropout(0.25), torch.ones(100, 100)
    y = layer(x)
    assert set(np.unique(to_numpy(y))) == {0, np.float32(1 / 0.75)}
    assert abs(to_numpy(y == 0).mean() - 0.25) < 0.02
    assert layer.eval()(x).tolist() == x.tolist()
    assert nn.Dropout(0.0)(x).tolist() == x.tolist() and nn.Dropout(1.0)(x).abs().sum().item() == 0
    torch.manual_seed(0)
    assert layer.train()(x).tolist() == y.tolist()
    inplace = nn.Dropout(0.5, inplace=True)
    inplace(x)
    assert (x == 0).any()
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(1.5)


@pytest.mark.parametrize(
    ("name", "shape"), [("Dropout1d", (50, 4, 6)), ("Dropout2d", (50, 4, 2, 3)), ("Dropout3d", (50, 4, 1, 2, 3))]
)
def test_dropout_of_channels(name: str, shape: tuple[int, ...]) -> None:
    layer, x = getattr(nn, name)(0.25), torch.ones(*shape)
    channels = to_numpy(layer(x)).reshape(200, 6)
    assert (channels == channels[:, :1]).all() and set(np.unique(channels)) == {0, np.float32(1 / 0.75)}
    assert abs((channels[:, 0] == 0).mean() - 0.25) < 0.1
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match=f"{name}: p is a probability"):
        getattr(nn, name)(-0.1)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    y = to_numpy(nn.AlphaDropout(0.3)(torch.randn(100, 100)))
    assert abs(y.mean()) < 0.05 and abs(y.std() - 1) < 0.05 and len(np.unique(y)) < 0.75 * y.size


def test_embedding() -> None:
    layer = nn.Embedding(5, 2, padding_idx=1)
    out = layer(torch.tensor([[1, 4], [4, 0]]))
    out.sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1], [0, 0], [0, 0], [0, 0], [2, 2]]
    frozen = nn.Embedding.from_pretrained(torch.eye(3))
    assert frozen(torch.tensor(2)).tolist() == [0, 0, 1] and not frozen.weight.requires_grad
    with pytest.raises(ValueError, match="padding_idx 7"):
        nn.Embedding(5, 2, padding_idx=7)


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "SELU", "SiLU", "Mish", "Hardtanh"])
def test_inplace_activations(name: str) -> None:
    x = torch.randn(10)
    expected = getattr(nn, name)()(x)
    assert getattr(nn, name)(inplace=True)(x) is x
    assert x.tolist() == expected.tolist()


# ------------------------------------------------------------------------------------------ errors


def test_shape_error_names_the_layer() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Sequential(nn.Linear(64, 3)))
            self.head = nn.Linear(32, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.net(x))

    model = Model()
    with pytest.raises(torch.ShapeError, match=r"^Linear 'net\.0': expected last dimension 30, got input \(4, 31\)$"):
        model(torch.zeros(4, 31))
    with pytest.raises(torch.ShapeError, match=r"^Linear 'head': expected last dimension 32, got input \(4, 3\)$"):
        model(torch.zeros(4, 30))
    with pytest.raises(torch.ShapeError, match=r"^Linear 'net\.0': expected last dimension 30, got input \(\)$"):
        model(torch.tensor(1.0))
    with pytest.raises(torch.ShapeError, match=r"^Linear '2\.0': expected"):
        model.net[1:](torch.zeros(4, 30))
    with pytest.raises(torch.ShapeError, match=r"^Linear: expected last dimension 32"):
        model.head(torch.zeros(2, 2))


def test_dtype_error_names_the_layer() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Linear(2, 1))
    with pytest.raises(RuntimeError, match=r"^Linear '1': .*dtype.*float64.*float32"):
        net(torch.zeros(3, 2, dtype=torch.float64))


def test_errors_in_user_code_are_left_alone_unless_about_shapes() -> None:
    class Odd(nn.Module):
        def __init__(self, error: Exception | None) -> None:
            super().__init__()
            self.error = error

        def forward(self, x: Any) -> Any:
            if self.error is not None:
                raise self.error
            return x @ x

    for error in (ValueError("mine"), RuntimeError("mine")):
        with pytest.raises(type(error), match=r"^mine$"):
            nn.Sequential(nn.ReLU(), nn.Sequential(Odd(error)))(torch.zeros(2, 3))
    with pytest.raises(torch.ShapeError, match=r"^Odd '0': .*\(2, 3\)"):
        nn.Sequential(Odd(None))(torch.zeros(2, 3))


def test_other_layers_name_themselves() -> None:
    net = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(3), embedding=nn.Embedding(4, 2)))
    with pytest.raises(
        torch.ShapeError, match=r"^BatchNorm1d 'norm': batch_norm: expected more than 1 value per channel.*\(1, 3\)"
    ):
        net(torch.zeros(1, 3))
    with pytest.raises(torch.ShapeError, match=r"^BatchNorm1d 'norm': expected \(N, 3\)"):
        net(torch.zeros(4, 2))
    with pytest.raises(IndexError, match=r"^Embedding: .*4"):
        net.embedding(torch.tensor([1, 4]))
    with pytest.raises(torch.ShapeError, match=r"^LayerNorm: .*\(5,\).*\(2, 4\)"):
        nn.LayerNorm(5)(torch.zeros(2, 4))


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), nn.SmoothL1Loss(), nn.HuberLoss()])
def test_losses_refuse_to_broadcast(loss: Any) -> None:
    with pytest.raises(torch.ShapeError, match=r"(?s)^\w+Loss: .*\(5, 1\).*\(5,\).*(unsqueeze|reshape|squeeze)"):
        loss(torch.zeros(5, 1), torch.zeros(5))
    with pytest.raises(torch.ShapeError):
        loss(torch.zeros(5), torch.zeros(5, 1))
    with pytest.raises(torch.ShapeError):
        loss(torch.zeros(5, 2), torch.zeros(2))


def test_loss_options_are_checked() -> None:
    with pytest.raises(ValueError, match="reduction"):
        nn.MSELoss(reduction="average")
    with pytest.raises(ValueError, match="label_smoothing"):
        nn.CrossEntropyLoss(label_smoothing=2)
    assert list(nn.CrossEntropyLoss(weight=torch.ones(3)).state_dict()) == ["weight"]


# ------------------------------------------------------------------------------------------ utils


def test_clip_grad_norm() -> None:
    a, b, c = (torch.zeros(*shape, requires_grad=True) for shape in ((2, 2), (3,), (1,)))
    a.grad, b.grad = torch.full((2, 2), 3.0), torch.full((3,), 4.0)
    norm = nn.utils.clip_grad_norm_([a, b, c], 1.0)
    assert norm.item() == pytest.approx(np.sqrt(4 * 9 + 3 * 16), rel=1e-6) and c.grad is None
    total = np.sqrt((to_numpy(a.grad) ** 2).sum() + (to_numpy(b.grad) ** 2).sum())
    assert total == pytest.approx(1.0, rel=1e-5)
    before = a.grad.tolist()
    nn.utils.clip_grad_norm_((p for p in (a, b)), 100.0)
    assert a.grad.tolist() == before
    assert nn.utils.clip_grad_norm_(c, 1.0).item() == 0
    a.grad = torch.full((2, 2), float("inf"))
    with pytest.raises(RuntimeError, match="norm of the gradients"):
        nn.utils.clip_grad_norm_([a], 1.0, error_if_nonfinite=True)


def test_clip_grad_norm_scales_a_shared_gradient_once() -> None:
    a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    a.grad = b.grad = torch.tensor([3.0])
    nn.utils.clip_grad_norm_([a, b], 1.0)
    assert a.grad.item() == pytest.approx(3 / np.sqrt(18), rel=1e-5)


def test_clipping_in_two_steps_is_clipping_in_one() -> None:
    a, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    results = []
    for way in ("one", "two"):
        a.grad, b.grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
        if way == "one":
            norm = nn.utils.clip_grad_norm_([a, b], 2.0, foreach=True)
        else:
            norm = nn.utils.get_total_norm([a.grad, b.grad], foreach=False)
            nn.utils.clip_grads_with_norm_([a, b], 2.0, norm)
        results.append([norm.item(), a.grad.tolist(), b.grad.tolist()])
    assert results[0] == results[1] and results[0][0] == 13


def test_clip_grad_value() -> None:
    a = torch.zeros(3, requires_grad=True)
    a.grad = torch.tensor([-5.0, 0.5, 2.0])
    nn.utils.clip_grad_value_(a, 1.0)
    assert a.grad.tolist() == [-1, 0.5, 1]


def test_parameters_as_a_vector() -> None:
    net = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (8,) and vector.requires_grad
    nn.utils.vector_to_parameters(torch.arange(8.0), net.parameters())
    assert net.weight.tolist() == [[0, 1, 2], [3, 4, 5]] and net.bias.tolist() == [6, 7]
    with pytest.raises(ValueError, match="8 elements"):
        nn.utils.vector_to_parameters(torch.zeros(9), net.parameters())


def test_functional_has_what_the_modules_use() -> None:
    x = torch.randn(4, 3)
    assert F.relu(x).tolist() == nn.ReLU()(x).tolist()
    assert F.linear(x, torch.eye(3)).tolist() == x.tolist()
    assert F.one_hot(torch.tensor([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
