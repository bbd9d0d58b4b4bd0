"""Custom operations: subclasses of autograd.Function."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import nanotorch as torch
from nanotorch.autograd import Function
from nanotorch.autograd.function import once_differentiable
from oracle import pytorch


def function(forward: Callable[..., Any], backward: Callable[..., Any], name: str = "Custom") -> Any:
    return type(name, (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def ones(*shape: int) -> Any:
    return torch.ones(shape, dtype=torch.float64, requires_grad=True)


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grad * y


class Double(Function):
    """Writes its input in place."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad * 2


class TestContext:
    def test_what_is_stored_on_ctx_is_the_users(self) -> None:
        """No name that a user may choose collides with one of ours."""
        names = ("outputs", "inputs", "edges", "device", "name", "function", "saved", "materialize", "node", "dirty")

        def forward(ctx: Any, x: Any) -> Any:
            for name in names:
                setattr(ctx, name, name)
            return x * 2

        def backward(ctx: Any, grad: Any) -> Any:
            assert all(getattr(ctx, name) == name for name in names)
            return grad * 2

        x = ones(2)
        y = function(forward, backward).apply(x)
        assert y.grad_fn.name() == "CustomBackward" == type(y.grad_fn).__name__ and y.grad_fn.dirty == "dirty"
        y.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]

    @pytest.mark.parity
    def test_nodes_are_named_and_linked_as_in_pytorch(self) -> None:
        shown = []
        for library in (pytorch, torch):
            base = library.autograd.Function
            scope: dict[str, Any] = {
                "forward": staticmethod(lambda ctx, k, x, y: (x * k + y, x + y)),
                "backward": staticmethod(lambda ctx, g, h: (None, g * 2 + h, g + h)),
            }
            x = library.ones(2, requires_grad=True)
            a, b = type("Mix", (base,), scope).apply(2, x, library.ones(2))
            node = a.grad_fn
            following = [(n and n.name().split("::")[-1], k) for n, k in node.next_functions]
            shown.append((node.name(), node is b.grad_fn, a.output_nr, b.output_nr, following, node.needs_input_grad))
            (a.sum() + b.sum()).backward()
            shown[-1] += (x.grad.tolist(),)
        assert shown[0] == shown[1]

    def test_needs_input_grad(self) -> None:
        seen = []

        def forward(ctx: Any, *args: Any) -> Any:
            seen.append(ctx.needs_input_grad)
            return args[0] * 1

        F = function(forward, lambda ctx, grad: (grad, None, None))
        F.apply(ones(2), 3, torch.ones(2))
        with torch.no_grad():
            assert not F.apply(torch.ones(2), None, ones(2)).requires_grad
        assert seen == [(True, False, False), (False, False, True)]

    def test_backward_may_skip_what_is_not_needed(self) -> None:
        def backward(ctx: Any, grad: Any) -> Any:
            return tuple(grad if needed else None for needed in ctx.needs_input_grad)

        x = ones(2)
        function(lambda ctx, x, y: x + y, backward).apply(x, torch.ones(2, dtype=torch.float64)).sum().backward()
        assert x.grad.tolist() == [1.0, 1.0]

    def test_arguments_that_are_no_tensors(self) -> None:
        def forward(ctx: Any, factor: float, x: Any, options: dict[str, int]) -> Any:
            ctx.scale = factor * options["power"]
            return x * ctx.scale

        x = ones(2)
        y = function(forward, lambda ctx, grad: (None, grad * ctx.scale, None)).apply(2.0, x, {"power": 3})
        y.sum().backward()
        assert x.grad.tolist() == [6.0, 6.0]

    def test_setup_context(self) -> None:
        class Scale(Function):
            @staticmethod
            def forward(x: Any, factor: float) -> Any:
                return x * factor

            @staticmethod
            def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
                x, ctx.factor = inputs
                ctx.save_for_backward(x, output)

            @staticmethod
            def backward(ctx: Any, grad: Any) -> Any:
                _, output = ctx.saved_tensors
                return grad * ctx.factor * output / output, None

        x = ones(2)
        Scale.apply(x, 4.0).sum().backward()
        assert x.grad.tolist() == [4.0, 4.0]

    def test_nothing_is_recorded_inside_forward(self) -> None:
        def forward(ctx: Any, x: Any) -> Any:
            assert not torch.is_grad_enabled()
            with torch.enable_grad():
                inner = x.detach().requires_grad_()
                (ctx.slope,) = torch.autograd.grad((inner**3).sum(), inner)
                outside = x * 100
            return outside

        x = ones(2)
        y = function(forward, lambda ctx, grad: grad * ctx.slope).apply(x)
        assert y.grad_fn.name() == "CustomBackward"
        y.sum().backward()
        assert x.grad.tolist() == [3.0, 3.0]


class TestOutputs:
    def test_gradients_of_unused_outputs(self) -> None:
        seen: list[Any] = []

        def make(materialize: bool) -> Any:
            def forward(ctx: Any, x: Any) -> Any:
                ctx.set_materialize_grads(materialize)
                return x * 2, x.sum()

            def backward(ctx: Any, first: Any, second: Any) -> Any:
                seen.append(None if second is None else second.tolist())
                return first * 2

            return function(forward, backward)

        for materialize in (True, False):
            make(materialize).apply(ones(2))[0].sum().backward()
        assert seen == [0.0, None]

    def test_non_differentiable_outputs(self) -> None:
        def forward(ctx: Any, x: Any) -> Any:
            order, copy = x.argsort(), x.clone()
            ctx.mark_non_differentiable(copy)
            return x * 2, copy, order, "text"

        x = ones(2)
        y, copy, order, text = function(forward, lambda ctx, g, *others: g * 2).apply(x)
        assert y.requires_grad and not copy.requires_grad and not order.requires_grad and text == "text"
        y.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]

    def test_an_input_returned_as_it_is(self) -> None:
        F = function(lambda ctx, x: x, lambda ctx, grad: grad * 5)
        x = ones(2)
        middle = x * 1
        y = F.apply(middle)
        assert y is not middle and y.grad_fn.name() == "CustomBackward" and y.data_ptr() == middle.data_ptr()
        with pytest.raises(RuntimeError, match="Output 0 of Custom is a view and is being modified inplace"):
            y.mul_(2)
        y.sum().backward()
        assert x.grad.tolist() == [5.0, 5.0]
        plain = torch.ones(2)
        assert F.apply(plain) is not plain

    def test_a_view_of_an_input(self) -> None:
        F = function(lambda ctx, x: x.view(-1), lambda ctx, grad: grad.view(2, 2) * 5)
        middle = ones(2, 2) * 1
        y = F.apply(middle)
        middle.mul_(3)
        with pytest.raises(RuntimeError, match="is a view and its base or another view of its base has been modified"):
            y.sum()

    def test_in_place(self) -> None:
        x = ones(2)
        y = x * 1
        view = y[:1]
        assert Double.apply(y) is y and y.grad_fn.name() == "DoubleBackward" and y.tolist() == [2.0, 2.0]
        assert torch.autograd.grad(view.sum(), x, retain_graph=True)[0].tolist() == [2.0, 0.0]
        y.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]

    def test_in_place_on_a_view(self) -> None:
        x = ones(3)
        y = x * 1
        view = y[1:]
        assert Double.apply(view) is view and y.tolist() == [1.0, 2.0, 2.0] and y.grad_fn.name() == "CopySlices"
        (first,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
        assert first.tolist() == [2.0, 8.0, 8.0]
        assert torch.autograd.grad(first.sum(), x)[0].tolist() == [2.0, 8.0, 8.0]

    def test_in_place_on_leaves_and_without_return(self) -> None:
        x = ones(2)
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            Double.apply(x)
        with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
            Double.apply(x[:1])
        with torch.no_grad():
            assert Double.apply(x) is x

        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x * 1

        with pytest.raises(RuntimeError, match="marked an input as dirty but did not return it"):
            function(forward, lambda ctx, grad: grad).apply(ones(2) * 1)


class TestSavedTensors:
    def test_inputs_come_back_themselves(self) -> None:
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x, None, x * 3)
            return x**2

        def backward(ctx: Any, grad: Any) -> Any:
            saved, nothing, made = ctx.saved_tensors
            assert saved is x and nothing is None and not made.requires_grad
            return grad * 2 * saved

        x = ones(2)
        function(forward, backward).apply(x).sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]

    def test_an_output_comes_back_with_its_history(self) -> None:
        x = torch.tensor([0.5, 1.0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(Exp.apply, (x,)) and torch.autograd.gradgradcheck(Exp.apply, (x,))
        (first,) = torch.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        (third,) = torch.autograd.grad(second.sum(), x)
        assert torch.allclose(third, x.exp())

    @pytest.mark.parametrize("save", ["output", "view of the output", "made", "input"])
    def test_no_reference_cycle(self, save: str) -> None:
        def forward(ctx: Any, x: Any) -> Any:
            y = x * 2
            ctx.save_for_backward({"output": y, "view of the output": y.view(-1), "made": y[0] * 1, "input": x}[save])
            return y

        x = ones(2)
        gc.disable()
        try:
            y = function(forward, lambda ctx, grad: grad).apply(x)
            references = [weakref.ref(y), weakref.ref(y.grad_fn)]
            del y
            assert [r() for r in references] == [None, None]
        finally:
            gc.enable()

    def test_they_are_freed_by_backward(self) -> None:
        x = ones(2)
        y = Exp.apply(x)
        assert len(y.grad_fn.saved_tensors) == 1
        y.sum().backward(retain_graph=True)
        y.sum().backward()
        with pytest.raises(RuntimeError, match=r"a second time.*ExpBackward.*retain_graph=True"):
            y.sum().backward()
        with pytest.raises(RuntimeError, match="a second time"):
            _ = y.grad_fn.saved_tensors

    def test_overwriting_them_raises(self) -> None:
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * 2

        middle = ones(2) * 1
        y = function(forward, lambda ctx, grad: grad * ctx.saved_tensors[0]).apply(middle)
        middle.add_(1)
        with pytest.raises(
            RuntimeError, match=r"modified by an inplace operation.*\n.*test_function.*\n.*add_.*test_function"
        ):
            y.sum().backward()
        y = Exp.apply(ones(2))
        y.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    def test_only_tensors_can_be_saved(self) -> None:
        with pytest.raises(TypeError, match="save_for_backward can only save tensors"):
            function(lambda ctx, x: ctx.save_for_backward(3), lambda ctx, g: g).apply(ones(2))


class TestBackward:
    def test_gradients_are_brought_to_shape_and_dtype_of_the_input(self) -> None:
        x = torch.ones(1, 2, requires_grad=True)
        F = function(lambda ctx, x: x.expand(3, 2) * 1, lambda ctx, grad: grad.double())
        F.apply(x).sum().backward()
        assert x.grad.tolist() == [[3.0, 3.0]] and x.grad.dtype is torch.float32

    @pytest.mark.parametrize(
        "forward, backward, error, message",
        [
            (lambda ctx, x: x * 2, lambda ctx, g: (g, g), RuntimeError, "incorrect number of gradients: expected 1"),
            (
                lambda ctx, x: x * 2,
                lambda ctx, g: torch.ones(3),
                RuntimeError,
                r"index 0: got shape \(3,\), expected \(2,\)",
            ),
            (lambda ctx, x: x * 2, lambda ctx, g: 2.0, TypeError, "must return Tensors or None, got float at index 0"),
        ],
    )
    def test_errors_say_where_forward_was_called(self, forward: Any, backward: Any, error: Any, message: str) -> None:
        y = function(forward, backward, "Wrong").apply(ones(2))
        with pytest.raises(error, match=rf"Wrong.backward \(forward called at .*test_function\.py.*{message}"):
            y.sum().backward()

    def test_a_gradient_for_an_argument_that_is_no_tensor(self) -> None:
        y = function(lambda ctx, x, k: x * k, lambda ctx, g: (g, g)).apply(ones(2), 3)
        with pytest.raises(RuntimeError, match="index 1, but that argument of forward was not a Tensor"):
            y.sum().backward()

    def test_surplus_none_is_ignored(self) -> None:
        x = ones(2)
        function(lambda ctx, x: x * 2, lambda ctx, g: (g, None)).apply(x).sum().backward()
        assert x.grad.tolist() == [1.0, 1.0]

    def test_what_backward_returns_is_not_taken_over(self) -> None:
        """A tensor that backward returns may live on: nobody adds to its memory."""
        keep = torch.ones(2, dtype=torch.float64)
        x = ones(2)
        F = function(lambda ctx, x: x * 2, lambda ctx, g: keep)
        (F.apply(x) + F.apply(x)).sum().backward()
        assert x.grad.tolist() == [2.0, 2.0] and keep.tolist() == [1.0, 1.0]

    def test_missing_methods(self) -> None:
        class Empty(Function):
            pass

        class OnlyForward(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

        with pytest.raises(NotImplementedError, match="implement the forward"):
            Empty.apply(ones(2))
        with pytest.raises(NotImplementedError, match="implement either the backward or vjp method"):
            OnlyForward.apply(ones(2)).sum().backward()


class TestOnceDifferentiable:
    def make(self) -> Any:
        class Square(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            @once_differentiable
            def backward(ctx: Any, grad: Any) -> Any:
                assert not torch.is_grad_enabled()
                return 2 * grad * ctx.saved_tensors[0]

        return Square

    def test_first_derivative(self) -> None:
        assert torch.autograd.function.once_differentiable is once_differentiable
        x = ones(2)
        self.make().apply(x).sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]

    def test_second_derivative_raises(self) -> None:
        x = ones(2)
        (first,) = torch.autograd.grad(self.make().apply(x).sum(), x, create_graph=True)
        with pytest.raises(
            RuntimeError, match="differentiate twice a function that was marked with @once_differentiable"
        ):
            first.sum().backward()
