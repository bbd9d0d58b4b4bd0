"""What backward() and grad() accept, the rules of retained graphs, and the .grad attribute, as in PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

import nanotorch as torch
from fake_gpu import fake_gpu
from oracle import ones, programs


@programs
class TestGrad:
    def the_same_input_twice(self, lib: Any) -> Any:
        x = ones(lib, 2)
        first, second = lib.autograd.grad((x * 2).sum(), (x, x))
        return first, first is second

    def an_output_that_is_an_input(self, lib: Any) -> Any:
        x = ones(lib)
        y = x * 2
        return lib.autograd.grad(x, x), lib.autograd.grad([y, y * 3], [y, x])

    def gradients_left_out_of_a_list(self, lib: Any) -> Any:
        x = ones(lib, 2)
        return lib.autograd.grad([(x * 2).sum(), x * 3], x, [None, lib.ones(2)])

    def gradients_left_out_where_they_are_needed(self, lib: Any) -> Any:
        x = ones(lib, 2)
        lib.autograd.grad([x * 2, x * 3], x, [None, lib.ones(2)])

    def one_gradient_for_two_outputs(self, lib: Any) -> Any:
        x = ones(lib, 2)
        lib.autograd.grad([x * 2, x * 3], x, lib.ones(2))

    def an_output_without_history(self, lib: Any) -> Any:
        x = ones(lib, 2)
        lib.autograd.grad([x * 2, lib.ones(2)], x, [lib.ones(2), lib.ones(2)])

    def an_input_without_gradient(self, lib: Any) -> Any:
        lib.autograd.grad((ones(lib, 2) * 2).sum(), lib.ones(2), allow_unused=True)

    def an_integer_output(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = x.long()
        assert not y.requires_grad
        lib.autograd.grad(y.sum(), x)

    def a_dictionary(self, lib: Any) -> Any:
        x, w = ones(lib, 2), ones(lib, 2)
        return lib.autograd.grad((x * 3 + w).sum(), {"x": x, "w": w})

    def nothing(self, lib: Any) -> Any:
        x = ones(lib, 2)
        lib.autograd.grad((x * 3).sum(), [])

    def views_that_are_no_leaves(self, lib: Any) -> Any:
        base = ones(lib, 2, 2) * 1
        view = base[0]
        return lib.autograd.grad(view.sum(), view), lib.autograd.grad((view * 2).sum(), [base, view])

    def a_view_beside_the_path(self, lib: Any) -> Any:
        base = ones(lib, 2, 2) * 1
        view = base[0]
        return lib.autograd.grad((base * 2).sum(), view, allow_unused=True)

    def a_view_of_a_leaf(self, lib: Any) -> Any:
        x = ones(lib, 2, 2)
        view = x[0]
        return lib.autograd.grad((view * 2).sum(), [x, view])

    def zeros_for_unused_inputs(self, lib: Any) -> Any:
        x, unused = ones(lib, 2), ones(lib, 3)
        plain = lib.autograd.grad((x * x).sum(), [x, unused], materialize_grads=True)
        recorded = lib.autograd.grad((x * x).sum(), [x, unused], materialize_grads=True, create_graph=True)
        return plain, [g.requires_grad for g in (*plain, *recorded)]

    def a_gradient_of_another_dtype(self, lib: Any) -> Any:
        x = ones(lib, 2)
        (g,) = lib.autograd.grad(x * 2, x, lib.ones(2, dtype=lib.float64))
        return g, str(g.dtype)

    def inside_no_grad(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = (x * x).sum()
        with lib.no_grad():
            (g,) = lib.autograd.grad(y, x, create_graph=True)
        return g.requires_grad, lib.autograd.grad(g.sum(), x)


@programs
class TestBackward:
    def inputs_that_are_no_leaves(self, lib: Any) -> Any:
        x, ran = ones(lib, 2), []
        y = x * 2
        y.grad_fn.register_hook(lambda inputs, outputs: ran.append(1))
        for _ in range(2):
            (y * 3).sum().backward(inputs=[y, y], retain_graph=True)
        return y.grad, x.grad, y.retains_grad, ran

    def leaves_and_others(self, lib: Any) -> Any:
        x, w = ones(lib, 2), ones(lib, 2)
        y = x * w
        (y * 3).sum().backward(inputs=[x, y, x])
        return x.grad, w.grad, y.grad

    def a_dictionary(self, lib: Any) -> Any:
        x, w = ones(lib, 2), ones(lib, 2)
        (x * w).sum().backward(inputs={"w": w})
        return x.grad, w.grad

    def unused_inputs(self, lib: Any) -> Any:
        x, unused = ones(lib, 2), ones(lib, 2)
        (x * 3).sum().backward(inputs=[unused])
        return x.grad, unused.grad

    def inputs_without_gradient(self, lib: Any) -> Any:
        (ones(lib, 2) * 3).sum().backward(inputs=[lib.ones(2)])

    def no_inputs(self, lib: Any) -> Any:
        (ones(lib, 2) * 3).sum().backward(inputs=[])

    def recorded(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = x * x
        (y * y).sum().backward(inputs=[x, y], create_graph=True)
        return x.grad, y.grad, lib.autograd.grad(x.grad.sum(), x)

    def accumulates_in_place_what_has_a_history(self, lib: Any) -> Any:
        x = ones(lib, 2)
        (x**3).sum().backward(create_graph=True)
        before = x.grad
        (x**2).sum().backward()
        return before, x.grad is before, x.grad.requires_grad

    def accumulates_into_what_was_assigned(self, lib: Any) -> Any:
        x, w, assigned, recorded = ones(lib, 2), ones(lib, 2), lib.ones(2), ones(lib, 2)
        x.grad, w.grad = assigned, recorded
        (x * w * 2).sum().backward()
        return assigned, x.grad is assigned, recorded, w.grad is recorded


@programs
class TestRetainGraph:
    def a_shared_part_is_freed_for_both(self, lib: Any) -> Any:
        shared = ones(lib, 2).square()
        shared.sum().backward()
        (shared * shared).sum().backward()

    def retained_by_the_first(self, lib: Any) -> Any:
        x = ones(lib, 2)
        shared = x.square()
        shared.sum().backward(retain_graph=True)
        (shared * shared).sum().backward()
        return x.grad

    def below_a_captured_tensor_nothing_is_freed(self, lib: Any) -> Any:
        x = ones(lib, 2)
        middle = x.square()
        lib.autograd.grad((middle * middle).sum(), middle)
        return lib.autograd.grad(middle.sum(), x)

    def backward_to_a_tensor_runs_its_node(self, lib: Any) -> Any:
        x = ones(lib, 2)
        middle = x.square()
        (middle * middle).sum().backward(inputs=[middle])
        lib.autograd.grad(middle.sum(), x)

    def create_graph_retains(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = x.square().sum()
        first = lib.autograd.grad(y, x, create_graph=True)
        second = lib.autograd.grad(y, x, create_graph=True, retain_graph=False)
        try:
            lib.autograd.grad(y, x)
        except RuntimeError:
            return first, second

    def what_saved_nothing_can_run_again(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = (x + 1).sum()
        y.backward()
        y.backward()
        return x.grad

    def a_backward_pass_inside_another(self, lib: Any) -> Any:
        class Inner(lib.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                with lib.enable_grad():
                    ctx.inner = x.detach().requires_grad_()
                    ctx.result = ctx.inner**2
                return ctx.result.detach()

            @staticmethod
            def backward(ctx: Any, grad: Any) -> Any:
                with lib.enable_grad():
                    ctx.result.backward(grad)
                return ctx.inner.grad

        x = ones(lib, 2)
        (Inner.apply(x) * 3).sum().backward()
        return x.grad


def test_arguments_that_are_refused() -> None:
    x = ones(torch, 2)
    with pytest.raises(NotImplementedError, match=r"is_grads_batched=True.*retain_graph=True.*jacobian"):
        torch.autograd.grad(x * x, x, torch.ones(3, 2), is_grads_batched=True)
    with pytest.raises(NotImplementedError, match=r"only_inputs=False.*backward\(\)"):
        torch.autograd.grad((x * x).sum(), x, only_inputs=False)
    with pytest.raises(ValueError, match=r"Expected allow_unused to be True or not passed when materialize_grads=True"):
        torch.autograd.grad((x * x).sum(), x, allow_unused=False, materialize_grads=True)


def test_a_gradient_on_another_device() -> None:
    with fake_gpu():
        x = ones(torch, 2)
        with pytest.raises(RuntimeError, match=r"grad_output\[0\] is on cuda:0 and output\[0\] on cpu; move one with"):
            (x * 2).backward(torch.ones(2, device="cuda"))
        with pytest.raises(
            RuntimeError, match=r"a gradient located on device cuda:0 to a tensor located on device cpu"
        ):
            x.grad = torch.ones(2, device="cuda")


@programs
class TestGradAttribute:
    def assigned(self, lib: Any) -> Any:
        x, y = ones(lib, 2), lib.ones(2)
        x.grad = lib.ones(2)
        y.grad = lib.zeros(2)
        before = x.grad
        del x.grad
        return before, x.grad, y.grad

    def a_number(self, lib: Any) -> Any:
        ones(lib, 2).grad = 3

    def another_shape(self, lib: Any) -> Any:
        ones(lib, 2).grad = lib.ones(3)

    def another_shape_that_would_broadcast(self, lib: Any) -> Any:
        ones(lib, 2).grad = lib.ones(1)

    def another_dtype(self, lib: Any) -> Any:
        ones(lib, 2).grad = lib.ones(2, dtype=lib.float64)

    def itself(self, lib: Any) -> Any:
        x = ones(lib, 2)
        x.grad = x

    def of_integers(self, lib: Any) -> Any:
        x = lib.tensor([1, 2])
        x.grad = lib.tensor([3, 4])
        return x.grad

    def of_a_tensor_that_is_no_leaf(self, lib: Any) -> Any:
        y = ones(lib, 2) * 2
        y.grad = lib.ones(2)
        z = ones(lib, 2) * 2
        z.retain_grad()
        with pytest.warns(
            UserWarning, match=r"The \.grad attribute of a Tensor that is not a leaf Tensor is being accessed"
        ):
            nothing = (ones(lib, 2) * 2).grad
        return y.grad, z.grad, nothing


def test_warnings_point_to_the_line_that_reads_the_attribute() -> None:
    y = ones(torch, 2) * 2
    with pytest.warns(UserWarning, match=r"retain_grad") as caught:
        y.grad  # noqa: B018
    assert caught[0].filename == __file__


@pytest.mark.parametrize("create_graph", [False, True])
def test_only_the_gradients_that_are_wanted_are_computed(create_graph: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The formula of a weight does not run for the gradient of an input, nor the other way round."""
    from nanotorch.ops.rows.row import ROWS

    x, w = ones(torch, 2), ones(torch, 2)
    y = (x * w * 3.0).sum()
    torch.autograd.grad(y, (x, w), create_graph=create_graph, retain_graph=True)  # compiles the formulas' caller

    def fail(**values: Any) -> Any:
        raise AssertionError

    for name, wanted in (("other", x), ("self", w)):
        with monkeypatch.context() as patch:
            if name == "self":  # the product with 3.0 needs its own
                y = (x * w).sum()
            patch.setitem(ROWS["mul"].compiler.namespace, f"formula_{name}", fail)
            (g,) = torch.autograd.grad(y, wanted, create_graph=create_graph, retain_graph=True)
            assert g.tolist() == ([3.0, 3.0] if name == "other" else [1.0, 1.0])
            y.backward(inputs=[wanted], retain_graph=True)
    assert x.grad.tolist() == [3.0, 3.0] and w.grad.tolist() == [1.0, 1.0]
