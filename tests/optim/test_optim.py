"""Optimizers: PyTorch's parameters after 50 steps, groups, state, and what goes wrong."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from fake_gpu import fake_gpu
from nanotorch.optim import segment, segment_plan
from nanotorch.registry import OPTIMIZERS
from optim_cases import CASES, always, ids, leaves, run, set_gradients, sometimes, values
from oracle import pytorch, to_numpy


@pytest.mark.parity
@pytest.mark.parametrize("absent", [always, sometimes], ids=["all", "some gradients None"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
def test_parameters_are_pytorchs(name: str, options: dict[str, Any], absent: Any) -> None:
    ours, optimizer = run(torch, name, options, absent)
    theirs, reference = run(pytorch, name, {**options, "foreach": False}, absent)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(to_numpy(mine), to_numpy(other), rtol=1e-12, atol=1e-12)
    for mine, other in zip(ours, theirs, strict=True):
        state, expected = optimizer.state[mine], reference.state[other]
        assert list(state) == list(expected)
        for key, value in expected.items():
            assert tuple(state[key].shape) == tuple(value.shape)
            np.testing.assert_allclose(to_numpy(state[key]), to_numpy(value), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
def test_large_parameters_in_blocks(name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone and in blocks or gathered and at once: the same numbers."""
    results = []
    for small, block in ((16384, 32768), (0, 5), (10, 7)):
        monkeypatch.setattr(segment_plan, "SMALL", small)
        monkeypatch.setattr(segment, "BLOCK", block)
        results.append([to_numpy(param) for param in run(torch, name, options, sometimes, steps=10)[0]])
    for first, second, third in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_float32_parameters_stay_float32(name: str) -> None:
    params = leaves(torch, values(), "float32")
    optimizer = OPTIMIZERS.get(name)(params, lr=0.1)
    set_gradients(torch, params, 0, always)
    optimizer.step()
    assert all(param.dtype is torch.float32 for param in params)
    for record in optimizer.state.values():
        assert all(value.dtype is torch.float32 for key, value in record.items() if key != "step")


@pytest.mark.parity
def test_mixed_dtypes_and_strides() -> None:
    """Parameters of two dtypes, transposed ones and views with gaps, small and large."""
    results = []
    for library in (torch, pytorch):
        base = library.tensor(values([(6, 300)])[0], dtype=library.float64)
        params = [
            library.tensor(values([(7, 2)])[0], dtype=library.float32),
            base.t(),
            library.tensor(values([(40, 10)])[0], dtype=library.float64)[::3, 1:4],
            library.tensor(values([(200, 200)])[0], dtype=library.float64).t(),
            library.tensor(values([(3,)])[0], dtype=library.float64),
        ]
        params = [param.detach().requires_grad_() for param in params]
        optimizer = library.optim.Adam(params, lr=0.1)
        for step in range(5):
            set_gradients(library, params, step, always)
            optimizer.step()
        results.append([to_numpy(param) for param in params])
        assert not params[1].is_contiguous()
        np.testing.assert_array_equal(to_numpy(base.t()), results[-1][1])
    for mine, other in zip(*results, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=1e-5 if mine.dtype == np.float32 else 1e-12, atol=1e-7)


@pytest.mark.parity
def test_parameters_that_share_memory() -> None:
    """Two leaves over one memory are updated one after the other, as in PyTorch."""
    results = []
    for library in (torch, pytorch):
        first = library.tensor(values([(4,)])[0], requires_grad=True)
        second = first.detach().requires_grad_()
        optimizer = library.optim.SGD([first, second], lr=0.1)
        first.grad, second.grad = library.ones(4, dtype=first.dtype), library.arange(4.0).to(first.dtype)
        optimizer.step()
        results.append(to_numpy(first))
    np.testing.assert_allclose(*results, rtol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
def test_a_second_device_gives_the_same_without_transfers(name: str, options: dict[str, Any]) -> None:
    expected, _ = run(torch, name, options, sometimes, steps=6)
    with fake_gpu() as counts:
        params = [param.detach().to("cuda").requires_grad_() for param in leaves(torch, values())]
        groups = [{"params": params[:3]}, {"params": params[3:], "lr": 0.02, "weight_decay": 0.03}]
        optimizer = getattr(torch.optim, name)(groups, **options)
        for step in range(6):
            set_gradients(torch, params, step, sometimes)
            if step == 4:
                saved = optimizer.state_dict()
                optimizer = getattr(torch.optim, name)([{"params": params[:3]}, {"params": params[3:]}])
                optimizer.load_state_dict(saved)
            counts.reset()
            optimizer.step()
            assert counts.transfers == counts.synchronizations == 0
        for mine, other in zip(params, expected, strict=True):
            np.testing.assert_allclose(to_numpy(mine), to_numpy(other), rtol=1e-12, atol=1e-12)


def test_updates_memory_in_place_and_counts_a_version() -> None:
    param = torch.zeros(3, requires_grad=True)
    memory, version = param.detach().numpy(), param._version
    optimizer = torch.optim.SGD([param], lr=1.0)
    param.grad = torch.ones(3)
    gradient = param.grad
    optimizer.step()
    assert memory.tolist() == [-1, -1, -1] and param._version == version + 1
    assert param.grad is gradient and gradient.tolist() == [1, 1, 1]


def test_a_step_between_forward_and_backward_is_found() -> None:
    param = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([param], lr=1.0)
    param.grad = torch.ones(3)
    loss = (param * param).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"SGD\.step"):
        loss.backward()


def test_groups_and_defaults() -> None:
    weight, bias = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": weight, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": (p for p in [bias]), "betas": (0.5, 0.5)})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    assert optimizer.param_groups[1]["params"] == [bias] and optimizer.param_groups[1]["betas"] == (0.5, 0.5)
    assert optimizer.defaults["lr"] == 0.1
    assert repr(optimizer).splitlines()[:3] == ["Adam (", "Parameter Group 0", "    amsgrad: False"]


def test_options_may_be_tensors_and_numpy_numbers() -> None:
    weight = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=torch.tensor(0.5), momentum=np.float64(0.5))
    assert [type(optimizer.param_groups[0][name]) for name in ("lr", "momentum")] == [torch.Tensor, float]


def test_zero_grad() -> None:
    param = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([param])
    param.sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert param.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert param.grad is None
    optimizer.step()
    assert param.tolist() == [1, 1]


def test_closure() -> None:
    param = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([param], lr=0.5)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 2
    assert param.tolist() == [0, 0]


@pytest.mark.parity
def test_options_may_change_between_steps() -> None:
    """The learning rate, and options that add state, such as momentum and amsgrad."""
    for name, changes in (("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True, "lr": 0.3}), ("RMSprop", {"lr": 0.2})):
        results = []
        for library in (torch, pytorch):
            params = leaves(library, values())
            optimizer = getattr(library.optim, name)(params, lr=0.1)
            for step in range(8):
                if step == 4:
                    optimizer.param_groups[0].update(changes)
                    if name == "Adam" and library is not torch:
                        for record in optimizer.state.values():  # PyTorch makes it at the first step only
                            record["max_exp_avg_sq"] = library.zeros_like(record["exp_avg_sq"])
                set_gradients(library, params, step, always)
                optimizer.step()
            results.append([to_numpy(param) for param in params])
        for mine, other in zip(*results, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-12)


def test_state_can_be_read_and_written() -> None:
    params = leaves(torch, values())
    optimizer = torch.optim.Adam(params, lr=0.1)
    set_gradients(torch, params, 0, always)
    optimizer.step()
    record = optimizer.state[params[0]]
    assert record["step"].item() == 1 and record["exp_avg"].shape == (5, 3)
    np.testing.assert_allclose(to_numpy(record["exp_avg"]), 0.1 * to_numpy(params[0].grad), rtol=1e-12)
    record["exp_avg"].zero_()
    record["exp_avg_sq"] = torch.ones(5, 3, dtype=torch.float64)
    before = to_numpy(params[0])
    params[0].grad.zero_()
    optimizer.step()
    np.testing.assert_array_equal(to_numpy(params[0]), before)
    np.testing.assert_allclose(to_numpy(optimizer.state[params[0]]["exp_avg_sq"]), 0.999)
    optimizer.state[params[0]]["step"].fill_(6)
    optimizer.step()
    assert optimizer.state[params[0]]["step"].item() == 7
    optimizer.state.clear()
    optimizer.step()
    assert optimizer.state[params[0]]["step"].item() == 1


def test_memory_may_be_replaced() -> None:
    """`module.double()` and the like give a parameter other memory: the optimizer follows."""
    param = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([param], lr=1.0, momentum=0.5)
    param.grad = torch.ones(2)
    optimizer.step()
    param.data = param.data.double()
    param.grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()
    assert param.tolist() == [-2.5, -2.5] and param.dtype is torch.float64
    assert optimizer.state[param]["momentum_buffer"].dtype is torch.float64


@pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
def test_state_dict_round_trip(name: str, options: dict[str, Any]) -> None:
    """Saved after 10 steps and loaded into another optimizer, the next 10 steps are bit for bit the same."""
    straight, _ = run(torch, name, options, sometimes, steps=20)
    params, optimizer = run(torch, name, options, sometimes, steps=10)
    saved = copy.deepcopy(optimizer.state_dict())
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1, 2], [3, 4]]
    copies = leaves(torch, [to_numpy(param) for param in params])
    other = getattr(torch.optim, name)([{"params": copies[:3]}, {"params": copies[3:]}], lr=9.0)
    other.load_state_dict(saved)
    assert other.param_groups[1]["lr"] == 0.02
    assert list(map(list, other.state_dict()["param_groups"])) == list(map(list, saved["param_groups"]))
    before = {key: to_numpy(value) for key, value in saved["state"].get(0, {}).items()}
    for step in range(10, 20):
        set_gradients(torch, copies, step, sometimes)
        other.step()
    for mine, expected in zip(copies, straight, strict=True):
        np.testing.assert_array_equal(to_numpy(mine), to_numpy(expected))
    for key, value in before.items():
        np.testing.assert_array_equal(to_numpy(saved["state"][0][key]), value, err_msg="loading must copy")


@pytest.mark.parity
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS.names() if name != "auto"])
def test_state_dict_has_pytorchs_format(name: str) -> None:
    dicts = []
    for library in (torch, pytorch):
        saved = run(library, name, {}, always, steps=2)[1].state_dict()
        dicts.append((set(saved), {k: list(v) for k, v in saved["state"].items()}, saved["param_groups"]))
    assert dicts[0][:2] == dicts[1][:2]
    for ours, theirs in zip(dicts[0][2], dicts[1][2], strict=True):
        assert ours == {key: theirs[key] for key in ours}


def test_load_state_dict_refuses_what_does_not_fit() -> None:
    params, optimizer = run(torch, "Adam", {}, always, steps=1)
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"groups of \[3, 2\] parameters, but this optimizer has groups of \[5\]"):
        torch.optim.Adam(params).load_state_dict(saved)
    swapped = torch.optim.Adam([{"params": params[1:4]}, {"params": params[:1] + params[4:]}])
    with pytest.raises(ValueError, match=r"'exp_avg' of shape \(5, 3\) for parameter 0, whose shape is \(3,\)"):
        swapped.load_state_dict(saved)
    assert not swapped.state


def test_load_state_dict_converts_dtype() -> None:
    _, optimizer = run(torch, "Adam", {}, always, steps=1)
    singles = leaves(torch, values(), "float32")
    other = torch.optim.Adam([{"params": singles[:3]}, {"params": singles[3:]}])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[singles[0]]["exp_avg"].dtype is torch.float32


def test_deepcopy() -> None:
    params, optimizer = run(torch, "Adam", {}, always, steps=3)
    twin = copy.deepcopy(optimizer)
    copies = [param for group in twin.param_groups for param in group["params"]]
    for index in range(2):
        for library_params, one in ((params, optimizer), (copies, twin)):
            set_gradients(torch, library_params, index, always)
            one.step()
    assert copies[0] is not params[0]
    for mine, other in zip(copies, params, strict=True):
        np.testing.assert_array_equal(to_numpy(mine), to_numpy(other))


def test_errors() -> None:
    param = torch.zeros(2, requires_grad=True)
    sgd = torch.optim.SGD
    with pytest.raises(ValueError, match="empty list of parameters"):
        sgd([])
    with pytest.raises(TypeError, match="single tensor"):
        sgd(param)
    with pytest.raises(TypeError, match="got str"):
        sgd(["weight"])
    with pytest.raises(TypeError, match="no fixed order"):
        sgd([{"params": {param}}])
    with pytest.raises(ValueError, match="leaf"):
        sgd([param * 2])
    with pytest.raises(ValueError, match="twice"):
        sgd([param, param])
    with pytest.raises(ValueError, match="more than one parameter group"):
        sgd([{"params": [param]}, {"params": [param]}])
    with pytest.raises(ValueError, match="lr must be >= 0, got -1"):
        sgd([param], lr=-1)
    with pytest.raises(ValueError, match="lr must be >= 0, got -1"):
        sgd([{"params": [param], "lr": -1}])
    with pytest.raises(ValueError, match="nesterov"):
        sgd([param], nesterov=True)
    with pytest.raises(ValueError, match="betas must be >= 0 and < 1"):
        torch.optim.Adam([param], betas=(0.9, 1.0))
    with pytest.raises(TypeError, match="dict"):
        sgd([param]).add_param_group([param])


def test_an_optimizer_of_ones_own() -> None:
    """The two ways: a rule, and PyTorch's, a step() of one's own."""

    def sign_descent(xp: Any, param: Any, grad: Any, count: Any, *, lr: float) -> None:
        count += 1
        param -= lr * xp.sign(grad)

    class SignDescent(torch.optim.Optimizer):
        rule = staticmethod(sign_descent)

        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        def state_names(self, group: Any) -> tuple[str, ...]:
            return ("count",)

    class Plain(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for param in group["params"]:
                    param.sub_(group["lr"] * param.grad.sign())
                    self.state[param]["count"] = self.state[param].get("count", 0) + 1

    results = []
    for kind in (SignDescent, Plain):
        params = leaves(torch, values())
        optimizer = kind(params, lr=0.5)
        for step in range(3):
            set_gradients(torch, params, step, always)
            optimizer.step()
        results.append([to_numpy(param) for param in params])
        assert float(np.asarray(optimizer.state[params[0]]["count"]).flat[0]) == 3
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
