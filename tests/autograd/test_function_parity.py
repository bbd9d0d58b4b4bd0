"""Custom Functions do what they do in PyTorch: each program is run by both and has to come to the same result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from fake_gpu import fake_gpu
from oracle import ones, programs


def make(lib: Any, forward: Callable[..., Any], backward: Callable[..., Any], **more: Any) -> Any:
    scope = {"forward": staticmethod(forward), "backward": staticmethod(backward), **more}
    return type("Custom", (lib.autograd.Function,), scope).apply


def shapes(gradients: Any) -> Any:
    return [None if g is None else tuple(g.shape) for g in gradients]


def scalar(lib: Any, value: float) -> Any:
    return lib.tensor(value, dtype=lib.float64, requires_grad=True)


@programs
class TestArguments:
    def by_name(self, lib: Any) -> Any:
        x = ones(lib, 2)
        apply = make(lib, lambda ctx, x, factor=1.0: x * factor, lambda ctx, grad: (grad * 3, None))
        apply(x, factor=3.0).sum().backward()
        apply(factor=2.0, x=x).sum().backward()
        return x.grad

    def by_name_every_parameter_needs_a_gradient(self, lib: Any) -> Any:
        apply = make(lib, lambda ctx, x, factor=1.0: x * factor, lambda ctx, grad: grad * 3)
        apply(ones(lib, 2), factor=3.0).sum().backward()

    def defaults_are_no_arguments(self, lib: Any) -> Any:
        x, seen = ones(lib, 2), []

        def forward(ctx: Any, x: Any, factor: float = 2.0) -> Any:
            seen.append(ctx.needs_input_grad)
            return x * factor

        make(lib, forward, lambda ctx, grad: grad * 2)(x).sum().backward()
        return seen, x.grad

    def defaults_with_setup_context(self, lib: Any) -> Any:
        x, seen = ones(lib, 2), []

        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            _, ctx.factor = inputs
            seen.append(ctx.needs_input_grad)

        apply = make(
            lib,
            lambda x, factor=2.0: x * factor,
            lambda ctx, grad: (grad * ctx.factor, None),
            setup_context=staticmethod(setup_context),
        )
        for result in (apply(x), apply(x, 3.0), apply(x, factor=5.0), apply(factor=7.0, x=x)):
            result.sum().backward()
        return seen, x.grad

    def the_same_tensor_twice(self, lib: Any) -> Any:
        x = ones(lib, 2)
        make(lib, lambda ctx, a, b: a * b, lambda ctx, grad: (grad * 2, grad * 3))(x, x).sum().backward()
        return x.grad

    def tensors_in_a_tuple_are_constants(self, lib: Any) -> Any:
        x, w, seen = ones(lib, 2), ones(lib, 2), []

        def forward(ctx: Any, x: Any, pair: Any) -> Any:
            seen.append(ctx.needs_input_grad)
            return x * pair[0]

        make(lib, forward, lambda ctx, grad: (grad, None))(x, (w,)).sum().backward()
        only = make(lib, lambda ctx, pair: pair[0] * 2, lambda ctx, grad: None)((w,))
        return seen, x.grad, w.grad, only.requires_grad

    def no_tensors(self, lib: Any) -> Any:
        y = make(lib, lambda ctx, value: lib.ones(2) * value, lambda ctx, grad: None)(3.0)
        return y, y.requires_grad

    def needs_input_grad_in_both_directions(self, lib: Any) -> Any:
        x, seen = ones(lib, 2), []

        def forward(ctx: Any, *args: Any) -> Any:
            seen.append(ctx.needs_input_grad)
            return args[0] * 1

        def backward(ctx: Any, grad: Any) -> Any:
            seen.append(ctx.needs_input_grad)
            return grad, grad, None, None

        apply = make(lib, forward, backward)
        apply(x, lib.ones(2), 3, "text").sum().backward()
        with lib.no_grad():
            apply(x, lib.ones(2), 3, "text")
        return seen, x.grad


@programs
class TestOutputs:
    def containers(self, lib: Any) -> Any:
        kinds = []
        for results in (
            lambda x: [x * 1, x * 2],
            lambda x: (x * 1,),
            lambda x: (),
            lambda x: 3,
            lambda x: None,
            lambda x: (x, {"a": 1}, "s"),
        ):
            result = make(lib, lambda ctx, x, results=results: results(x), lambda ctx, *grads: grads[0])(ones(lib, 2))
            inner = [type(r).__name__ for r in result] if isinstance(result, tuple | list) else None
            kinds.append((type(result).__name__, inner))
        return kinds

    def gradients_of_what_is_no_floating_tensor(self, lib: Any) -> Any:
        seen: list[Any] = []
        results = lambda ctx, x: (x * 1, None, "text", lib.arange(2), x.sum(), lib.ones(2) > 0)  # noqa: E731
        y = make(lib, results, lambda ctx, *grads: (seen.append(shapes(grads)), grads[0])[1])(ones(lib, 2))
        y[0].sum().backward()
        return seen, [t.requires_grad for t in (y[3], y[5])]

    def an_input_as_it_is(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = make(lib, lambda ctx, x: x, lambda ctx, grad: grad * 5)(x)
        found = y is x, y._is_view(), y.is_leaf, y.data_ptr() == x.data_ptr()
        y.sum().backward()
        return found, x.grad

    def an_input_as_it_is_and_another_result(self, lib: Any) -> Any:
        x = ones(lib, 2)
        a, b = make(lib, lambda ctx, x: (x, x * 2), lambda ctx, g, h: g * 5 + h * 2)(x)
        (a + b).sum().backward()
        return x.grad, a is x, a._is_view(), b._is_view()

    def a_constant_input_as_it_is(self, lib: Any) -> Any:
        constant, index = lib.ones(2), lib.arange(2)
        y, c, i = make(lib, lambda ctx, x, c, i: (x * 1, c, i), lambda ctx, g, h, k: (g * 5, h, None))(
            ones(lib, 2), constant, index
        )
        return (
            c is constant,
            c.requires_grad,
            c.grad_fn is y.grad_fn,
            constant.requires_grad,
            i.requires_grad,
            i.grad_fn,
        )

    def an_input_that_is_marked(self, lib: Any) -> Any:
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_non_differentiable(x)
            return x

        x = ones(lib, 2)
        y = make(lib, forward, lambda ctx, grad: grad)(x)
        return y is x, y.requires_grad, x.requires_grad

    def zeros_for_a_marked_output(self, lib: Any) -> Any:
        seen: list[Any] = []

        def forward(ctx: Any, x: Any) -> Any:
            marked = x * 3
            ctx.mark_non_differentiable(marked)
            return x * 2, marked

        a, b = make(lib, forward, lambda ctx, g, h: (seen.append(h), g)[1])(ones(lib, 2))
        a.sum().backward()
        return seen, b.requires_grad

    def what_an_enable_grad_inside_recorded_is_cut_off(self, lib: Any) -> Any:
        w, x = ones(lib, 2), ones(lib, 2)

        def forward(ctx: Any, factor: Any) -> Any:
            with lib.enable_grad():
                return w * factor

        apply = make(lib, forward, lambda ctx, grad: grad * 7)
        y = apply(x)
        y.sum().backward()
        return w.grad, x.grad, y.grad_fn.name(), apply(3.0).requires_grad

    def writing_to_a_view_output(self, lib: Any) -> Any:
        y = make(lib, lambda ctx, x: x.view(-1), lambda ctx, grad: grad.view(2, 2))(ones(lib, 2, 2) * 1)
        assert y._is_view() and y.requires_grad
        y.mul_(2)

    def a_view_made_under_no_grad(self, lib: Any) -> Any:
        x = ones(lib, 2) * 1
        with lib.no_grad():
            y = make(lib, lambda ctx, x: x[:1], lambda ctx, grad: grad)(x)
        assert y._is_view() and y.requires_grad
        y.mul_(2)

    def integers_have_no_history(self, lib: Any) -> Any:
        y = make(lib, lambda ctx, x: x.long(), lambda ctx, grad: grad)(ones(lib, 2))
        return y.requires_grad, y.grad_fn

    def inside_no_grad(self, lib: Any) -> Any:
        with lib.no_grad():
            y = make(lib, lambda ctx, x: x * 2, lambda ctx, grad: grad)(ones(lib, 2))
        return y.requires_grad, y.grad_fn

    def retain_grad(self, lib: Any) -> Any:
        y = make(lib, lambda ctx, x: x * 2, lambda ctx, grad: grad)(ones(lib, 2))
        y.retain_grad()
        (y * 3).sum().backward()
        return y.grad


@programs
class TestDirty:
    def an_input_without_gradient(self, lib: Any) -> Any:
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            a.add_(b)
            ctx.mark_dirty(a)
            return a

        a, b = lib.ones(2), ones(lib, 2)
        y = make(lib, forward, lambda ctx, grad: (grad, grad * 3))(a, b)
        y.sum().backward()
        return y is a, a.requires_grad, a.grad_fn.name(), b.grad, a._version

    def an_input_of_integers(self, lib: Any) -> Any:
        def forward(ctx: Any, x: Any, index: Any) -> Any:
            index.add_(1)
            ctx.mark_dirty(index)
            return x * 1, index

        index = lib.arange(2)
        _, result = make(lib, forward, lambda ctx, g, h: (g, None))(ones(lib, 2), index)
        return result is index, result.requires_grad, index

    def two_outputs(self, lib: Any) -> Any:
        def forward(ctx: Any, a: Any) -> Any:
            a.mul_(2)
            ctx.mark_dirty(a)
            return a, a * 3

        x = ones(lib, 2)
        y = x * 1
        a, b = make(lib, forward, lambda ctx, g, h: g * 2 + h * 6)(y)
        (a + b).sum().backward()
        return a is y, x.grad

    def a_view_and_two_outputs(self, lib: Any) -> Any:
        def forward(ctx: Any, a: Any) -> Any:
            a.mul_(2)
            ctx.mark_dirty(a)
            return a, a * 3

        make(lib, forward, lambda ctx, g, h: g)((ones(lib, 2) * 1)[0])

    def a_leaf(self, lib: Any) -> Any:
        def forward(ctx: Any, a: Any) -> Any:
            a.mul_(2)
            ctx.mark_dirty(a)
            return a

        make(lib, forward, lambda ctx, grad: grad)(ones(lib, 2))

    def what_is_no_input(self, lib: Any) -> Any:
        def forward(ctx: Any, a: Any) -> Any:
            b = a * 2
            ctx.mark_dirty(b)
            return b

        with pytest.warns(UserWarning, match="received a tensor that was not an input"):
            return make(lib, forward, lambda ctx, grad: grad)(ones(lib, 2)).requires_grad


@programs
class TestSaved:
    def accessed_twice_and_after_they_were_freed(self, lib: Any) -> Any:
        log: list[Any] = []

        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x, None)
            log.append(len(ctx.saved_tensors))
            return x * 1

        def backward(ctx: Any, grad: Any) -> Any:
            log.append((ctx.saved_tensors[0] is ctx.saved_tensors[0], ctx.saved_tensors[1]))
            return grad

        y = make(lib, forward, backward)(ones(lib, 2))
        y.sum().backward(retain_graph=True)
        y.sum().backward()
        for again in (lambda: y.sum().backward(), lambda: y.grad_fn.saved_tensors):
            try:
                again()
            except RuntimeError as error:
                log.append("second time" in str(error))
        return log

    def nothing_saved_runs_again(self, lib: Any) -> Any:
        x = ones(lib, 2)
        y = make(lib, lambda ctx, x: x * 1, lambda ctx, grad: grad)(x)
        y.sum().backward()
        y.sum().backward()
        return x.grad

    def the_last_call_counts(self, lib: Any) -> Any:
        seen: list[int] = []

        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            ctx.save_for_backward(x, x)
            return x * 1

        make(lib, forward, lambda ctx, grad: (seen.append(len(ctx.saved_tensors)), grad)[1])(
            ones(lib, 2)
        ).sum().backward()
        return seen

    def an_output_overwritten(self, lib: Any) -> Any:
        def forward(ctx: Any, x: Any) -> Any:
            y = x.square()
            ctx.save_for_backward(y)
            return y

        y = make(lib, forward, lambda ctx, grad: grad * ctx.saved_tensors[0])(ones(lib, 2))
        y.add_(1)
        y.sum().backward()

    def what_forward_made_overwritten(self, lib: Any) -> Any:
        made: list[Any] = []

        def forward(ctx: Any, x: Any) -> Any:
            made.append(x * 2)
            ctx.save_for_backward(made[0])
            return x * 1

        y = make(lib, forward, lambda ctx, grad: grad * ctx.saved_tensors[0])(ones(lib, 2))
        made[0].add_(1)
        y.sum().backward()

    def attributes_are_read_from_the_node(self, lib: Any) -> Any:
        def forward(ctx: Any, x: Any) -> Any:
            ctx.factor = 3.0
            return x * ctx.factor

        return make(lib, forward, lambda ctx, grad: grad)(ones(lib, 2)).grad_fn.factor


@programs
class TestGradients:
    def expanded_ones_are_summed(self, lib: Any) -> Any:
        x = ones(lib, 2)
        make(lib, lambda ctx, x: x * 1, lambda ctx, grad: lib.ones(3, 2))(x).sum().backward()
        return x.grad

    def too_small(self, lib: Any) -> Any:
        make(lib, lambda ctx, x: x * 1, lambda ctx, grad: lib.ones(()))(ones(lib, 2)).sum().backward()

    def of_another_shape(self, lib: Any) -> Any:
        make(lib, lambda ctx, x: x * 1, lambda ctx, grad: lib.ones(3))(ones(lib, 2)).sum().backward()

    def of_another_dtype(self, lib: Any) -> Any:
        x = ones(lib, 2)
        make(lib, lambda ctx, x: x * 1, lambda ctx, grad: grad.double())(x).sum().backward()
        return x.grad, str(x.grad.dtype)

    def too_few(self, lib: Any) -> Any:
        make(lib, lambda ctx, a, b: a * b, lambda ctx, grad: grad)(ones(lib, 2), ones(lib, 2)).sum().backward()

    def too_many(self, lib: Any) -> Any:
        make(lib, lambda ctx, x: x * 1, lambda ctx, grad: (grad, grad))(ones(lib, 2)).sum().backward()

    def too_many_none(self, lib: Any) -> Any:
        x = ones(lib, 2)
        make(lib, lambda ctx, x: x * 1, lambda ctx, grad: (grad, None, None))(x).sum().backward()
        return x.grad

    def for_a_number(self, lib: Any) -> Any:
        make(lib, lambda ctx, x, factor: x * factor, lambda ctx, grad: (grad, grad))(ones(lib, 2), 3.0).sum().backward()

    def none_where_one_was_wanted(self, lib: Any) -> Any:
        x = ones(lib, 2)
        apply = make(lib, lambda ctx, x: x * 1, lambda ctx, grad: None)
        apply(x).sum().backward()
        return x.grad, lib.autograd.grad(apply(x).sum(), x, allow_unused=True)

    def none_instead_of_zeros(self, lib: Any) -> Any:
        x, seen = ones(lib, 2), []

        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(False)
            return x * 1, x * 2

        a, _ = make(lib, forward, lambda ctx, g, h: (seen.append((g, h)), None)[1])(x)
        a.sum().backward()
        return seen, x.grad

    def written_in_place(self, lib: Any) -> Any:
        x = ones(lib, 2)
        z = make(lib, lambda ctx, x: x * 1, lambda ctx, grad: grad.mul_(3))(x) * 1
        z.retain_grad()
        z.backward(lib.ones(2))
        return x.grad, z.grad

    def one_tensor_for_two_inputs(self, lib: Any) -> Any:
        a, b = ones(lib, 2), ones(lib, 2)
        make(lib, lambda ctx, a, b: a + b, lambda ctx, grad: (grad, grad))(a, b).sum().backward()
        a.grad.zero_()
        return b.grad

    def the_grad_mode(self, lib: Any) -> Any:
        x, seen = ones(lib, 2), []
        apply = make(
            lib,
            lambda ctx, x: (seen.append((lib.is_grad_enabled(), x.requires_grad)), x * 1)[1],
            lambda ctx, grad: (seen.append((lib.is_grad_enabled(), grad.requires_grad)), grad)[1],
        )
        apply(x).sum().backward()
        lib.autograd.grad(apply(x).sum(), x, create_graph=True)
        return seen

    def an_error_leaves_everything_as_it_was(self, lib: Any) -> Any:
        failing = [True]

        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * 1

        def backward(ctx: Any, grad: Any) -> Any:
            if failing[0]:
                raise ZeroDivisionError
            return grad * ctx.saved_tensors[0]

        x = ones(lib, 2)
        y = (make(lib, forward, backward)(x * 2) * 1).sum()
        try:
            y.backward()
        except ZeroDivisionError:
            failing[0] = False
        enabled = lib.is_grad_enabled()
        make(lib, forward, backward)(x).sum().backward()
        return enabled, x.grad


@programs
class TestRules:
    def vjp_stands_for_backward(self, lib: Any) -> Any:
        class Twice(lib.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

            @staticmethod
            def vjp(ctx: Any, grad: Any) -> Any:
                return grad * 2

        x = ones(lib, 2)
        Twice.apply(x).sum().backward()
        return x.grad

    def not_both(self, lib: Any) -> Any:
        class Both(lib.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

            @staticmethod
            def vjp(ctx: Any, grad: Any) -> Any:
                return grad * 2

            @staticmethod
            def backward(ctx: Any, grad: Any) -> Any:
                return grad * 2

        Both.apply(ones(lib, 2)).sum().backward()

    def a_jvp_is_not_needed(self, lib: Any) -> Any:
        x = ones(lib, 2)
        apply = make(
            lib,
            lambda ctx, x: (ctx.save_for_forward(x), x * 2)[1],
            lambda ctx, grad: grad * 2,
            jvp=staticmethod(lambda ctx, t: t),
        )
        apply(x).sum().backward()
        return x.grad

    def inherited(self, lib: Any) -> Any:
        class Base(lib.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

            @classmethod
            def backward(cls, ctx: Any, grad: Any) -> Any:
                return grad * 2

        class Derived(Base):  # type: ignore[misc, valid-type]
            pass

        x = ones(lib, 2)
        y = Derived.apply(x)
        y.sum().backward()
        return y.grad_fn.name(), x.grad

    def methods_that_are_not_marked_static(self, lib: Any) -> Any:
        class Plain(lib.autograd.Function):
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

            def backward(ctx: Any, grad: Any) -> Any:
                return grad * 2

        x = ones(lib, 2)
        Plain.apply(x).sum().backward()
        return x.grad


@programs
class TestTwice:
    """Double backward."""

    def two_inputs_and_outputs(self, lib: Any) -> Any:
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a, b)
            return a * b, a * a

        def backward(ctx: Any, g: Any, h: Any) -> Any:
            a, b = ctx.saved_tensors
            return g * b + h * 2 * a, g * a

        a, b = scalar(lib, 2.0), scalar(lib, 3.0)
        p, q = make(lib, forward, backward)(a, b)
        first = lib.autograd.grad(p * q, (a, b), create_graph=True)
        return first, lib.autograd.grad(first[0] + first[1], (a, b))

    def through_a_saved_input_and_an_attribute(self, lib: Any) -> Any:
        def by_attribute(ctx: Any, x: Any) -> Any:
            ctx.x = x
            return x**3

        def by_saving(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        found = []
        for forward, read in ((by_attribute, lambda ctx: ctx.x), (by_saving, lambda ctx: ctx.saved_tensors[0])):
            x = scalar(lib, 2.0)
            apply = make(lib, forward, lambda ctx, grad, read=read: grad * 3 * read(ctx) ** 2)
            (first,) = lib.autograd.grad(apply(x), x, create_graph=True)
            (second,) = lib.autograd.grad(first, x, create_graph=True)
            found.append((first, second, lib.autograd.grad(second, x)))
        return found

    def through_a_saved_output(self, lib: Any) -> Any:
        def forward(ctx: Any, x: Any) -> Any:
            y = x.square()
            ctx.save_for_backward(x, y)
            return y

        def backward(ctx: Any, grad: Any) -> Any:
            x, y = ctx.saved_tensors
            return grad * 2 * y / x

        x = scalar(lib, 3.0)
        (first,) = lib.autograd.grad(make(lib, forward, backward)(x), x, create_graph=True)
        return first, lib.autograd.grad(first, x)

    def what_forward_made_is_a_constant(self, lib: Any) -> Any:
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x**2)
            return x**3

        x = scalar(lib, 2.0)
        (first,) = lib.autograd.grad(
            make(lib, forward, lambda ctx, grad: grad * 3 * ctx.saved_tensors[0])(x), x, create_graph=True
        )
        return first, first.requires_grad

    def what_forward_made_is_returned_to_have_a_gradient(self, lib: Any) -> Any:
        def forward(ctx: Any, x: Any) -> Any:
            square = x**2
            ctx.save_for_backward(x, square)
            return x**3, square

        def backward(ctx: Any, g: Any, h: Any) -> Any:
            x, square = ctx.saved_tensors
            return g * 3 * square + h * 2 * x

        x = scalar(lib, 2.0)
        (first,) = lib.autograd.grad(make(lib, forward, backward)(x)[0], x, create_graph=True)
        return first, lib.autograd.grad(first, x)

    def functions_in_each_other(self, lib: Any) -> Any:
        def save(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x

        square = make(lib, lambda ctx, x: save(ctx, x) ** 2, lambda ctx, grad: grad * 2 * ctx.saved_tensors[0])
        cube = make(lib, lambda ctx, x: save(ctx, x) ** 3, lambda ctx, grad: grad * 3 * square(ctx.saved_tensors[0]))
        outer = make(
            lib, lambda ctx, x: cube(save(ctx, x)) * 2, lambda ctx, grad: grad * 6 * square(ctx.saved_tensors[0])
        )
        x = scalar(lib, 2.0)
        y = outer(x)
        (first,) = lib.autograd.grad(y, x, create_graph=True)
        return y.grad_fn.name(), first, lib.autograd.grad(first, x)


def test_a_gradient_on_another_device_is_refused() -> None:
    with fake_gpu():
        apply = make(torch, lambda ctx, x: x * 1, lambda ctx, grad: grad.to("cuda"))
        y = apply(ones(torch, 2))
        with pytest.raises(
            RuntimeError, match=r"Custom.backward \(forward called at .*index 0: expected device cpu but got cuda:0"
        ):
            y.sum().backward()


def test_a_function_that_moves_between_devices() -> None:
    with fake_gpu():
        x = ones(torch, 2)
        make(torch, lambda ctx, x: x.to("cuda") * 2, lambda ctx, grad: grad.to("cpu") * 2)(x).sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]


def test_instances_are_refused() -> None:
    class Twice(torch.autograd.Function):
        pass

    with pytest.raises(TypeError, match=r"Twice should not be instantiated.*Twice.apply"):
        Twice()


def test_arguments_that_forward_takes_by_name_only() -> None:
    def forward(ctx: Any, x: Any, *, factor: float = 1.0) -> Any:
        return x * factor

    with pytest.raises(TypeError, match="got factor by name, which forward takes by name only"):
        make(torch, forward, lambda ctx, grad: grad)(ones(torch, 2), factor=2.0)


def test_one_tensor_returned_twice_is_two_outputs() -> None:
    """PyTorch makes both the last output; here each has its own gradient."""

    def forward(ctx: Any, x: Any) -> Any:
        y = x * 2
        return y, y

    x = ones(torch, 1)
    a, b = make(torch, forward, lambda ctx, g, h: g * 2 + h * 20)(x)
    (a + b * 10).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [202.0])
