"""Saved tensor hooks: every row under them, PyTorch's rules, and memory that really leaves."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.autograd.graph import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks
from op_cases import CASES, Call, Case, differentiable, each, floating_outputs, host, ordinary, ours, run, second
from oracle import pytorch


def copying() -> saved_tensors_hooks:
    """Hooks after which nothing that a node uses is what it saved."""
    return saved_tensors_hooks(lambda tensor: tensor.numpy().copy(), lambda array: torch.from_numpy(array.copy()))


@each(CASES, when=differentiable)
@pytest.mark.slow
def test_every_op_gives_the_same_through_hooks(case: Case) -> None:
    """First and second derivatives, with every saved value packed."""
    expected = ordinary(case)
    with copying():
        actual = run(case, Call(case, ours()))
    for got, want in zip((*actual[0], *actual[1]), (*expected[0], *expected[1]), strict=True):
        np.testing.assert_array_equal(got, want)

    def derivatives() -> list[Any]:
        call = Call(case, ours())
        tracked = floating_outputs(case.entry.function(*call.args, **call.kwargs))
        return [host(g) for g in second(torch, tracked, call, ours())]

    expected_second = derivatives()
    with copying():
        actual_second = derivatives()
    for got, want in zip(actual_second, expected_second, strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def counted(torch: Any, program: Any) -> tuple[list[int], int, list[float]]:
    """Run a program under hooks of either library: sizes packed, number of unpackings, the gradient."""
    packed: list[int] = []
    unpacked = [0]

    def pack(tensor: Any) -> Any:
        packed.append(tensor.numel())
        return tensor

    def unpack(tensor: Any) -> Any:
        unpacked[0] += 1
        return tensor

    x = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([[1.0, 2.0, 3.0], [0.1, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        loss = program(torch, x, w)
    loss.backward(retain_graph=True)
    loss.backward()
    return packed, unpacked[0], [*x.grad.tolist(), *w.grad.reshape(-1).tolist()]


class Cube:
    """The same Function for either library."""

    @staticmethod
    def of(torch: Any) -> Any:
        class Cubed(torch.autograd.Function):  # type: ignore[name-defined, misc]
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                result = x * x * x
                ctx.save_for_backward(x, result)
                return result

            @staticmethod
            def backward(ctx: Any, grad: Any) -> Any:
                x, result = ctx.saved_tensors
                return grad * (3 * x * x) + 0 * result

        return Cubed


PROGRAMS = {
    "leaves and results": lambda torch, x, w: (w @ x).tanh().exp().sum() + x.detach().sum(),
    "the same twice": lambda torch, x, w: (x * x).sum() + w.sum(),
    "a constant factor": lambda torch, x, w: (x * 3.0).sum() + w.mul(2.0).sum(),
    "in place": lambda torch, x, w: (x * 1.0).sigmoid_().sum() + (w * 2).tanh_().sum(),
    "a Function": lambda torch, x, w: Cube.of(torch).apply(x * 2).sum() + w.sum(),
    "linear": lambda torch, x, w: torch.nn.functional.linear(x.unsqueeze(0), w).relu().sum(),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", PROGRAMS)
def test_hooks_see_what_those_of_pytorch_see(name: str) -> None:
    mine, theirs = counted(torch, PROGRAMS[name]), counted(pytorch, PROGRAMS[name])
    assert sorted(mine[0]) == sorted(theirs[0])
    assert mine[1] == theirs[1]
    np.testing.assert_allclose(mine[2], theirs[2], rtol=1e-12)


def test_offload_to_disk(tmp_path: Path) -> None:
    """The example of the docs: saved values go to files, and the memory that they took is free."""
    made = 0

    def pack(tensor: Any) -> Path:
        nonlocal made
        made += 1
        path = tmp_path / f"{made}.safetensors"
        torch.save({"value": tensor}, path)
        return path

    x = torch.linspace(-1, 1, 1000, requires_grad=True)
    with saved_tensors_hooks(pack, lambda path: torch.load(path)["value"]):
        h = (x * 3).sin()
        inner = weakref.ref(h)
        y = (h * h).sum()
    gc.disable()
    try:
        del h
        assert inner() is None
    finally:
        gc.enable()
    y.backward()
    assert made == 3 and len(list(tmp_path.iterdir())) == 3
    reference = torch.linspace(-1, 1, 1000, requires_grad=True)
    h = (reference * 3).sin()
    (h * h).sum().backward()
    assert torch.equal(x.grad, reference.grad)


def test_the_innermost_hooks_apply_and_the_outer_ones_come_back() -> None:
    log: list[str] = []

    def hooks(name: str) -> saved_tensors_hooks:
        return saved_tensors_hooks(lambda t: (log.append(name), t)[1], lambda t: t)

    x = torch.ones(2, requires_grad=True)
    with hooks("outer"):
        x.exp()
        with hooks("inner"):
            x.exp()
            with torch.no_grad():
                x.exp()
                with torch.enable_grad():
                    x.exp()
        x.exp()
    x.exp()
    assert log == ["outer", "inner", "inner", "outer"]


def test_a_pack_hook_that_writes_is_refused() -> None:
    x = torch.ones(2, requires_grad=True) * 1
    x.requires_grad_()
    with (
        saved_tensors_hooks(lambda t: t.add_(1), lambda t: t),
        pytest.raises(RuntimeError, match="modifying its input in place"),
    ):
        x.square()


def test_an_unpack_hook_that_gives_no_tensor_is_named() -> None:
    x = torch.ones(2, requires_grad=True)
    with saved_tensors_hooks(lambda t: t.numpy(), lambda a: a):
        y = x.square().sum()
    with pytest.raises(TypeError, match=r"unpack_hook expected to be a Tensor but got result of type ndarray"):
        y.backward()


def test_packed_values_are_not_checked_for_versions() -> None:
    """As in PyTorch: a hook that copied the value is right to give it back."""
    x = torch.tensor([2.0], requires_grad=True)
    h = x * 1
    with saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y = h * h
    with torch.no_grad():
        h.add_(5)
    y.backward()
    assert x.grad.tolist() == [4.0]


def test_second_backward_after_release_says_so() -> None:
    x = torch.ones(2, requires_grad=True)
    with copying():
        y = x.exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_refused_where_disabled() -> None:
    x = torch.ones(2, requires_grad=True)
    with disable_saved_tensors_hooks("not in here"), pytest.raises(RuntimeError, match="not in here"), copying():
        x.exp()
    with copying():
        assert x.exp().requires_grad


def test_hooks_leave_the_grad_mode_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError), copying():
        _ = 1 / 0
    calls: list[Any] = []
    with saved_tensors_hooks(lambda t: calls.append(t), lambda t: t), torch.no_grad():
        torch.ones(2, requires_grad=True).exp()
    torch.ones(2, requires_grad=True).exp()
    assert calls == [] and torch.is_grad_enabled()


def test_save_on_cpu_brings_values_back(device: Any) -> None:
    x = torch.linspace(0, 1, 5).to(device).requires_grad_()
    with save_on_cpu(pin_memory=True):
        y = x.exp().square().sum()
    assert all(n._saved_self.device is device for n in [y.grad_fn.next_functions[0][0]])
    y.backward()
    expected = torch.linspace(0, 1, 5).requires_grad_()
    expected.exp().square().sum().backward()
    np.testing.assert_allclose(host(x.grad), host(expected.grad), rtol=1e-6)


def test_what_nodes_saved_can_be_seen() -> None:
    """By PyTorch's names, versions checked."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    h = x * 2
    y = h * x
    assert y.grad_fn._saved_self is h and y.grad_fn._saved_other is x
    z = h.exp()
    assert torch.equal(z.grad_fn._saved_result, z) and h.sum(0).grad_fn._saved_dim == 0
    with torch.no_grad():
        h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        _ = y.grad_fn._saved_self
    z.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        _ = z.grad_fn._saved_result
    assert not hasattr(z.grad_fn, "_saved_nothing")
    loss = torch.nn.functional.cross_entropy(torch.ones(2, 3, requires_grad=True), torch.tensor([0, 1]))
    assert loss.grad_fn._saved__total_weight == 2 and str(loss.grad_fn._saved__total_weight).startswith("tensor(2")
