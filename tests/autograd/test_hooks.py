"""Hooks of tensors, leaves and nodes, and what torch.autograd.graph offers: each program agrees with PyTorch."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from oracle import ones, programs


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@programs
class TestOrder:
    def everything_on_a_node(self, lib: Any) -> Any:
        x, log = ones(lib, 2), []
        y = x * 2
        y.retain_grad()
        y.grad_fn.register_hook(lambda inputs, outputs: log.append(("node", inputs[0].tolist(), outputs[0].tolist())))
        y.grad_fn.register_prehook(lambda grads: (log.append(("pre", grads[0].tolist())), (grads[0] * 7,))[1])
        y.register_hook(lambda grad: (log.append(("tensor", grad.tolist())), grad * 5)[1])
        y.register_hook(lambda grad: log.append(("second", grad.tolist())))
        y.sum().backward()
        return log, y.grad, x.grad

    def everything_on_a_leaf(self, lib: Any) -> Any:
        x, log = ones(lib, 2), []
        accumulator = (x + 1).grad_fn.next_functions[0][0]
        accumulator.register_hook(lambda inputs, outputs: log.append(("node", inputs, outputs[0].tolist())))
        x.register_post_accumulate_grad_hook(lambda leaf: log.append(("accumulated", leaf is x, leaf.grad.tolist())))
        accumulator.register_prehook(lambda grads: (log.append(("pre", grads[0].tolist())), (grads[0] + 1,))[1])
        x.register_hook(lambda grad: (log.append(("tensor", grad.tolist())), grad * 5)[1])
        (x * 2 + x).sum().backward()
        (x * 2).sum().backward(inputs=[x])
        log.append(lib.autograd.grad((x * 2).sum(), x)[0].tolist())
        return log, x.grad

    def tensors_of_one_node_in_turn(self, lib: Any) -> Any:
        log: list[str] = []
        a, b = ones(lib, 2).unbind(0)
        for name, tensor in (("b1", b), ("a1", a), ("b2", b), ("a2", a)):
            tensor.register_hook(lambda grad, name=name: log.append(name))
        (a + b).backward()
        return log

    def an_output_that_nobody_used(self, lib: Any) -> Any:
        log: list[Any] = []
        a, b = ones(lib, 2).unbind(0)
        b.register_hook(log.append)
        a.grad_fn.register_prehook(lambda grads: log.append([g is None for g in grads]))
        b.retain_grad()
        a.backward()
        return log, b.grad

    def none_cannot_be_replaced(self, lib: Any) -> Any:
        a, b = ones(lib, 2).unbind(0)
        b.register_hook(lambda grad: lib.ones(()))
        a.backward()

    def registered_twice_and_removed_twice(self, lib: Any) -> Any:
        x, log = ones(lib, 2), []
        hook = lambda value: log.append(tuple(value.shape))  # noqa: E731
        handles = [x.register_hook(hook), x.register_hook(hook), x.register_post_accumulate_grad_hook(hook)]
        handles += [x.register_post_accumulate_grad_hook(hook)]
        for _ in range(2):
            (x * 2).sum().backward()
            log.append("|")
            for handle in (handles[0], handles[2], handles[0], handles[2]):
                handle.remove()
        return log


@programs
class TestChanges:
    def a_hook_that_removes_another_during_backward(self, lib: Any) -> Any:
        y, log, handles = ones(lib, 2) * 2, [], {}
        y.register_hook(lambda grad: (log.append("first"), handles["tensor"].remove())[0])
        handles["tensor"] = y.register_hook(lambda grad: log.append("second"))
        y.grad_fn.register_prehook(lambda grads: (log.append("third"), handles["node"].remove())[0])
        handles["node"] = y.grad_fn.register_prehook(lambda grads: log.append("fourth"))
        for _ in range(2):
            y.sum().backward(retain_graph=True)
        return log

    def a_hook_that_adds_another_during_backward(self, lib: Any) -> Any:
        y, log = ones(lib, 2) * 2, []
        y.register_hook(lambda grad: (log.append(1), y.register_hook(lambda grad: log.append(2)))[0])
        for _ in range(3):
            y.sum().backward(retain_graph=True)
        return log

    def hooks_stay_with_the_old_value_and_retain_grad_moves(self, lib: Any) -> Any:
        x, log = ones(lib, 2), []
        y = x * 2
        old = y.register_hook(lambda grad: log.append(("old", grad.tolist())))
        y.retain_grad()
        y.mul_(3)
        y.register_hook(lambda grad: log.append(("new", grad.tolist())))
        y.sum().backward(retain_graph=True)
        old.remove()
        y.sum().backward()
        return log, y.grad, y.retains_grad

    def a_write_under_no_grad_moves_nothing(self, lib: Any) -> Any:
        x, log = ones(lib, 2), []
        x.register_hook(lambda grad: log.append(grad.tolist()))
        with lib.no_grad():
            x.mul_(2)
        (x * 2).sum().backward()
        return log

    def hooks_outlive_a_switched_off_leaf(self, lib: Any) -> Any:
        x, log = ones(lib, 2), []
        x.register_post_accumulate_grad_hook(lambda leaf: log.append(1))
        x.requires_grad_(False)
        x.requires_grad_(True)
        (x * 2).sum().backward()
        return log

    def nested_passes(self, lib: Any) -> Any:
        x, z = ones(lib, 2), ones(lib, 2)
        y = x * 2

        def hook(grad: Any) -> Any:
            with lib.enable_grad():
                (z * grad).sum().backward()

        y.register_hook(hook)
        y.sum().backward()
        return x.grad, z.grad

    def the_grad_mode_is_that_of_the_pass(self, lib: Any) -> Any:
        x, modes = ones(lib, 2), []
        y = x * x
        y.register_hook(lambda grad: modes.append(lib.is_grad_enabled()))
        y.grad_fn.register_hook(lambda inputs, outputs: modes.append(lib.is_grad_enabled()))
        x.register_post_accumulate_grad_hook(lambda leaf: modes.append(lib.is_grad_enabled()))
        y.sum().backward(retain_graph=True)
        y.sum().backward(create_graph=True)
        return modes


@programs
class TestErrors:
    def no_gradient(self, lib: Any) -> Any:
        lib.ones(2).register_post_accumulate_grad_hook(print)

    def no_leaf(self, lib: Any) -> Any:
        (ones(lib, 2) * 2).register_post_accumulate_grad_hook(print)

    def a_post_accumulate_hook_that_returns_a_number(self, lib: Any) -> Any:
        x = ones(lib, 2)
        x.register_post_accumulate_grad_hook(lambda leaf: 3)
        (x * 2).sum().backward()

    def prehooks_that_return_too_much(self, lib: Any) -> Any:
        y = ones(lib, 2) * 2
        y.grad_fn.register_prehook(lambda grads: (grads[0], grads[0]))
        y.sum().backward()

    def another_shape(self, lib: Any) -> Any:
        y = ones(lib, 2) * 2
        y.register_hook(lambda grad: lib.ones(3))
        y.sum().backward()


def test_post_accumulate_hooks_are_for_leaves() -> None:
    with pytest.raises(
        RuntimeError, match=r"post accumulate grad hooks cannot be registered on non-leaf tensors.*register_hook"
    ):
        (ones(torch, 2) * 2).register_post_accumulate_grad_hook(print)


class TestPostAccumulate:
    def test_the_optimizer_steps_within_the_backward_pass(self) -> None:
        """The parameters end as with an optimizer of all, and never is more than one layer's gradient in memory."""

        def train(in_backward: bool) -> tuple[list[Any], int]:
            torch.manual_seed(0)
            model = torch.nn.Sequential(
                *[layer for _ in range(4) for layer in (torch.nn.Linear(5, 5), torch.nn.Tanh())]
            )
            parameters = list(model.parameters())
            most = 0
            if in_backward:
                optimizers = {parameter: torch.optim.Adam([parameter], lr=0.1) for parameter in parameters}

                def step(parameter: Any) -> None:
                    nonlocal most
                    most = max(most, sum(p.grad is not None for p in parameters))
                    optimizers[parameter].step()
                    optimizers[parameter].zero_grad()

                for parameter in parameters:
                    parameter.register_post_accumulate_grad_hook(step)
            else:
                optimizer = torch.optim.Adam(parameters, lr=0.1)
            inputs = torch.randn(8, 5)
            for _ in range(3):
                (model(inputs) ** 2).sum().backward()
                if not in_backward:
                    optimizer.step()
                    optimizer.zero_grad()
            return [p.tolist() for p in parameters], most

        (mine, most), (expected, _) = train(True), train(False)
        for a, b in zip(mine, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert most == 1

    def test_a_shared_leaf_is_complete_when_its_hook_runs(self) -> None:
        x, seen = ones(torch, 1), []
        x.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.tolist()))
        old = x * 2.0
        y = (x * 3.0).sum() + (old * x).sum() + x.sum()
        torch.autograd.backward([y, x], [None, torch.tensor([100.0])])
        assert seen == [[108.0]]

    def test_a_branch_without_gradient_does_not_hold_it_up_for_ever(self) -> None:
        class Nothing(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 1

            @staticmethod
            def backward(ctx: Any, grad: Any) -> Any:
                return None

        x, seen = ones(torch, 1), []
        x.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.tolist()))
        (Nothing.apply(x * 5.0) + x * 2.0).sum().backward()
        assert seen == [[2.0]]

    def test_under_create_graph_the_gradient_has_a_history(self) -> None:
        x, seen = torch.tensor(2.0, requires_grad=True), []
        x.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad))
        (x**3).backward(create_graph=True)
        assert torch.autograd.grad(seen[0], x)[0].item() == 12.0

    def test_early_leaves_and_others_together(self) -> None:
        x, w, log = ones(torch, 1), ones(torch, 1), []
        y = x * w
        y.register_hook(lambda grad: log.append("y"))
        x.register_post_accumulate_grad_hook(lambda leaf: log.append("x"))
        z = ones(torch, 1)
        z.register_post_accumulate_grad_hook(lambda leaf: log.append("z"))
        (y * z).sum().backward()
        assert log == ["z", "y", "x"] and w.grad.tolist() == [1.0]


@programs
class TestMultiGradHook:
    def all_of_those_that_have_a_part(self, lib: Any) -> Any:
        a, b, log = ones(lib, 2), ones(lib, 2), []
        c, d = a * b, a * b
        handle = lib.autograd.graph.register_multi_grad_hook(
            (a, b, c, d), lambda grads: log.append([plain_or_none(g) for g in grads])
        )
        c.sum().backward(retain_graph=True)
        c.sum().backward(inputs=(a,), retain_graph=True)
        (c * d).sum().backward(retain_graph=True)
        handle.remove()
        c.sum().backward()
        return log

    def the_first_of_any(self, lib: Any) -> Any:
        a, b, log = ones(lib, 2), ones(lib, 2), []
        c = a * b
        lib.autograd.graph.register_multi_grad_hook(
            (a, c, lib.ones(2)), lambda grad: log.append(grad.tolist()), mode="any"
        )
        for _ in range(2):
            (c * 3).sum().backward(retain_graph=True)
        return log

    def unknown_mode(self, lib: Any) -> Any:
        lib.autograd.graph.register_multi_grad_hook((ones(lib, 2),), print, mode="some")


def plain_or_none(grad: Any) -> Any:
    return None if grad is None else grad.tolist()


def test_multi_grad_hooks_on_outputs_of_one_node() -> None:
    log: list[Any] = []
    a, b = ones(torch, 2).unbind(0)
    torch.autograd.graph.register_multi_grad_hook((a, b), lambda grads: log.append([plain_or_none(g) for g in grads]))
    b.backward()
    assert log == [[None, 1.0]]


def test_multi_grad_hooks_do_not_wait_for_a_gradient_that_never_comes() -> None:
    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return None

    a, b, log = ones(torch, 1), ones(torch, 1), []
    torch.autograd.graph.register_multi_grad_hook((a, b), lambda grads: log.append([plain_or_none(g) for g in grads]))
    (Nothing.apply(a) + b).sum().backward()
    assert log == [[None, [1.0]]]


@programs
class TestGradientEdge:
    def as_inputs(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = x * 2
        edges = [lib.autograd.graph.get_gradient_edge(t) for t in (x, y)]
        z = (y * 3).sum()
        return lib.autograd.grad(z, edges, retain_graph=True), lib.autograd.grad(z, [edges[0], y])

    def as_outputs(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = x * 2
        edge, scalar = lib.autograd.graph.get_gradient_edge(y), lib.autograd.graph.get_gradient_edge(y.sum())
        first = lib.autograd.grad(edge, x, lib.ones(2), retain_graph=True)
        lib.autograd.backward(scalar, retain_graph=True)
        lib.autograd.backward([edge, scalar], [lib.ones(2), None], retain_graph=True)
        return first, x.grad

    def as_inputs_of_backward(self, lib: Any) -> Any:
        x, w = ones(lib, 2), ones(lib, 2)
        (x * w).sum().backward(inputs=[lib.autograd.graph.get_gradient_edge(x)])
        return x.grad, w.grad

    def of_several_outputs(self, lib: Any) -> Any:
        x = ones(lib, 2)
        return lib.autograd.grad(lib.autograd.graph.get_gradient_edge(x.unbind(0)[1]), x)

    def no_scalar(self, lib: Any) -> Any:
        x = ones(lib, 2)
        lib.autograd.grad(lib.autograd.graph.get_gradient_edge(x * 2), x)

    def another_shape(self, lib: Any) -> Any:
        x = ones(lib, 2)
        lib.autograd.grad(lib.autograd.graph.get_gradient_edge(x * 2), x, lib.ones(3))

    def unused(self, lib: Any) -> Any:
        x, edge = ones(lib, 2), lib.autograd.graph.get_gradient_edge(ones(lib, 2))
        assert lib.autograd.grad((x * 2).sum(), edge, allow_unused=True) == (None,)
        lib.autograd.grad((x * 2).sum(), edge)

    def no_zeros(self, lib: Any) -> Any:
        x, edge = ones(lib, 2), lib.autograd.graph.get_gradient_edge(ones(lib, 2))
        lib.autograd.grad((x * 2).sum(), edge, materialize_grads=True)

    def no_gradient(self, lib: Any) -> Any:
        lib.autograd.graph.get_gradient_edge(lib.ones(2))

    def fields(self, lib: Any) -> Any:
        y = ones(lib, 2) * 2
        edge = lib.autograd.graph.get_gradient_edge(y)
        return edge.node is y.grad_fn, edge.output_nr, isinstance(edge, lib.autograd.graph.GradientEdge)


def test_an_edge_made_by_hand_does_not_know_its_shape() -> None:
    x = ones(torch, 1)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"only for scalar outputs: this tensor has an unknown shape.*gradient="):
        torch.autograd.grad(torch.autograd.graph.GradientEdge(y.grad_fn, 0), x)


def test_nodes_of_the_graph_module() -> None:
    node = (ones(torch, 2) * 2).grad_fn
    assert isinstance(node, torch.autograd.graph.Node)
    node.metadata["note"] = 3
    assert node.metadata == {"note": 3}
    older, newer = (ones(torch, 2) * 2).grad_fn, (ones(torch, 2) * 2).grad_fn
    assert 0 <= older._sequence_nr() < newer._sequence_nr()


def test_increment_version() -> None:
    x, y = torch.zeros(2), ones(torch, 2) * 1
    z = y.exp()
    torch.autograd.graph.increment_version(x)
    torch.autograd.graph.increment_version([x, z])
    assert x._version == 2
    with pytest.raises(
        RuntimeError,
        match=r"modified by an inplace operation.*\n.*\n.*overwritten by increment_version at .*test_hooks",
    ):
        z.sum().backward()


@pytest.mark.usefixtures("without_collector")
def test_hooks_close_no_cycle() -> None:
    x, w = ones(torch, 2), ones(torch, 2)
    y = x * w
    z = y * 2
    log: list[Any] = []
    torch.autograd.graph.register_multi_grad_hook((x, y, z), log.append)
    torch.autograd.graph.register_multi_grad_hook((x, y, z), log.append, mode="any")
    x.register_post_accumulate_grad_hook(lambda leaf: None)
    y.grad_fn.register_hook(lambda inputs, outputs: None)
    y.grad_fn.metadata["note"] = "kept"
    edge = torch.autograd.graph.get_gradient_edge(z)
    z.sum().backward(retain_graph=True)
    references = [weakref.ref(o) for o in (x, y, z, y.grad_fn, z.grad_fn)]
    del x, y, z, edge, log
    assert [r() for r in references] == [None] * 5
