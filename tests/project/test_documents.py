"""The documents that nanotorch implements, snippet by snippet, with the outputs that they show.

Five texts about PyTorch's autograd: the outline of the paper "Automatic differentiation in PyTorch", a book chapter on
automatic differentiation, notes on the autograd tutorial, a lecture on grad_fn, and a tutorial of ten sections. Every
snippet runs with `import nanotorch as torch`. Where a document shows the name of a node with the number of an older
PyTorch (`MeanBackward1`), today's name is expected; it is said at the place.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

import nanotorch as torch


def shown(value: Any) -> str:
    """What a prompt prints for a value, with addresses left out."""
    return re.sub(r"0x[0-9a-f]+", "0x...", repr(value))


# ---------------------------------------------------------------------------------- the paper's outline


class TestPaper:
    def test_the_graph_is_defined_by_running_the_computation(self) -> None:
        """Dynamic: the same code, with another branch taken, gives another graph."""

        def compute(x: Any) -> Any:
            return x * 2 if x.sum() > 0 else x.exp()

        positive, negative = torch.ones(1, requires_grad=True), torch.full((1,), -1.0, requires_grad=True)
        assert compute(positive).grad_fn.name() == "MulBackward0"
        assert compute(negative).grad_fn.name() == "ExpBackward0"

    def test_operations_run_immediately(self) -> None:
        x = torch.tensor([1.0], requires_grad=True)
        assert (x + 1).item() == 2.0

    def test_no_tape_only_the_relevant_subset_of_the_graph_is_kept(self) -> None:
        """What does not lead to the result is no part of its graph, and is gone with its own last reference."""
        import weakref

        x = torch.ones(1, requires_grad=True)
        unused = x.exp()
        node = weakref.ref(unused.grad_fn)
        y = x * 2
        del unused
        assert node() is None
        seen, stack = set(), [y.grad_fn]
        while stack:
            current = stack.pop()
            seen.add(current.name())
            stack += [n for n, _ in current.next_functions if n is not None]
        assert seen == {"MulBackward0", "AccumulateGrad"}

    def test_backward_computes_the_gradient_of_all_variables_involved(self) -> None:
        a, b, c = (torch.tensor(v, requires_grad=True) for v in (2.0, 3.0, 4.0))
        (a * b + c).backward()
        assert (a.grad.item(), b.grad.item(), c.grad.item()) == (3.0, 2.0, 1.0)

    def test_variable_grad_accumulates_the_gradient(self) -> None:
        x = torch.tensor(3.0, requires_grad=True)
        for _ in range(2):
            (x * x).backward()
        assert x.grad.item() == 12.0

    def test_users_write_forward_and_backward_functions(self) -> None:
        """backward extends the vector-Jacobian product."""

        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx: Any, vector: Any) -> Any:
                (x,) = ctx.saved_tensors
                return vector * 2 * x

        x = torch.tensor([1.0, 2.0], requires_grad=True)
        Square.apply(x).backward(torch.tensor([1.0, 10.0]))
        assert x.grad.tolist() == [2.0, 40.0]

    def test_variables_are_mutable_pointers_to_an_immutable_graph(self) -> None:
        """An in-place operation moves the variable to a new node; the old node stays as it was, below it."""
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        before = y.grad_fn
        y.add_(1)
        assert y.grad_fn is not before and y.grad_fn.next_functions[0][0] is before
        y.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]

    def test_inplace_on_a_value_that_backward_needs_fails_at_run_time(self) -> None:
        x = torch.tensor(0.5, requires_grad=True)
        y = x.tanh()
        y.add_(3)
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
            y.backward()
        text = str(caught.value)
        assert "TanhBackward0" in text and "add_" in text and text.count("test_documents.py") == 2

    def test_a_version_counter_per_variable(self) -> None:
        y = torch.zeros(3)
        assert y._version == 0
        y.add_(3)
        assert y._version == 1
        assert y[:2]._version == 1

    def test_aliasing(self) -> None:
        """`y = x[:2]; x.add_(3); y.backward()`: the write to x reaches y, and its history is followed.

        The paper's PyTorch rejected this program and said the restriction might be relaxed; today's accepts it where
        x is no leaf, and rejects it where it is one.
        """
        leaf = torch.ones(3, requires_grad=True)
        y = leaf[:2]
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            leaf.add_(3)
        x = leaf * 1
        y = x[:2]
        x.add_(3)
        assert y.tolist() == [4.0, 4.0]
        y.sum().backward()
        assert leaf.grad.tolist() == [1.0, 1.0, 0.0]


# ---------------------------------------------------------------------------------- the book chapter


class TestBookChapter:
    def test_a_simple_function(self) -> None:
        x = torch.arange(4.0, requires_grad=True)
        assert shown(x) == "tensor([0., 1., 2., 3.], requires_grad=True)"
        assert x.grad is None
        y = 2 * torch.dot(x, x)
        assert shown(y) == "tensor(28., grad_fn=<MulBackward0>)"
        y.backward()
        assert shown(x.grad) == "tensor([ 0.,  4.,  8., 12.])"
        assert shown(x.grad == 4 * x) == "tensor([True, True, True, True])"
        assert shown(x) == "tensor([0., 1., 2., 3.], requires_grad=True)"
        x.grad.zero_()
        y = x.sum()
        assert shown(y) == "tensor(6., grad_fn=<SumBackward0>)"
        y.backward()
        assert shown(x.grad) == "tensor([1., 1., 1., 1.])"

    def test_backward_for_non_scalar_variables(self) -> None:
        x = torch.arange(4.0, requires_grad=True)
        y = x * x
        with pytest.raises(RuntimeError, match="scalar outputs"):
            y.backward()
        y.backward(gradient=torch.ones(len(y)))
        assert shown(x.grad) == "tensor([0., 2., 4., 6.])"

    def test_the_memory_of_the_gradient_is_reused(self) -> None:
        """We want to avoid allocating new memory every time we take a derivative."""
        x = torch.arange(4.0, requires_grad=True)
        x.sum().backward()
        memory = x.grad.data_ptr()
        x.grad.zero_()
        x.sum().backward()
        assert x.grad.data_ptr() == memory

    def test_detaching_computation(self) -> None:
        x = torch.arange(4.0, requires_grad=True)
        y = x * x
        u = y.detach()
        z = u * x
        assert shown(x) == "tensor([0., 1., 2., 3.], requires_grad=True)"
        assert shown(y) == "tensor([0., 1., 4., 9.], grad_fn=<MulBackward0>)"
        assert shown(u) == "tensor([0., 1., 4., 9.])"
        assert shown(z) == "tensor([ 0.,  1.,  8., 27.], grad_fn=<MulBackward0>)"
        z.sum().backward()
        assert shown(x.grad) == "tensor([0., 1., 4., 9.])"


# ---------------------------------------------------------------------------------- the tutorial notes


class TestTutorialNotes:
    def test_every_single_iteration_can_be_different(self) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        for power in (1, 2, 3):
            x.grad = None
            y = x
            for _ in range(power - 1):
                y = y * x
            y.backward()
            assert x.grad.item() == power * 2.0 ** (power - 1)

    def test_grad_fn_references_the_function_that_created_the_tensor(self) -> None:
        x = torch.ones(2, 2)
        x.requires_grad = True
        assert x.grad_fn is None
        assert (x + 3).grad_fn.name() == "AddBackward0"

    def test_detach_and_no_grad_stop_tracking(self) -> None:
        x = torch.ones(2, requires_grad=True)
        assert not (x.detach() * 2).requires_grad
        with torch.no_grad():
            assert not (x * 2).requires_grad
        model = torch.nn.Linear(2, 1)
        with torch.no_grad():
            assert not model(torch.ones(1, 2)).requires_grad
        assert model(torch.ones(1, 2)).requires_grad

    def test_the_session(self) -> None:
        x = torch.ones(2, 2, requires_grad=True)
        assert shown(x) == "tensor([[1., 1.],\n        [1., 1.]], requires_grad=True)"
        assert str(x.grad) == "None"
        y = x + 3
        assert shown(y) == "tensor([[4., 4.],\n        [4., 4.]], grad_fn=<AddBackward0>)"
        z = y * y * 3
        assert z.tolist() == [[48.0, 48.0], [48.0, 48.0]]
        out = x.mean()
        assert shown(out) == "tensor(1., grad_fn=<MeanBackward0>)"  # the notes' PyTorch of 2019 said MeanBackward1
        out.backward()
        assert shown(x.grad) == "tensor([[0.2500, 0.2500],\n        [0.2500, 0.2500]])"


# ---------------------------------------------------------------------------------- the lecture on grad_fn


class TestGradFnLecture:
    def session(self) -> tuple[Any, Any, Any, Any]:
        x = torch.tensor(1.0, requires_grad=True)
        z0 = x * 2
        z1 = z0 + 2
        z2 = z1 / 5
        return x, z0, z1, z2

    def test_walking_back_through_the_graph(self) -> None:
        _, _, _, z2 = self.session()
        assert shown(z2) == "tensor(0.8000, grad_fn=<DivBackward0>)"
        node = z2.grad_fn
        assert shown(node) == "<DivBackward0 object at 0x...>"
        node = node.next_functions[0][0]
        assert shown(node) == "<AddBackward0 object at 0x...>"
        node = node.next_functions[0][0]
        assert shown(node) == "<MulBackward0 object at 0x...>"
        node = node.next_functions[0][0]
        assert shown(node) == "<AccumulateGrad object at 0x...>"
        assert node.next_functions == ()

    def test_calling_nodes_applies_the_chain_rule(self) -> None:
        _, z0, z1, z2 = self.session()
        input_grad = torch.tensor(1.0)
        assert shown(z2.grad_fn(input_grad)[0]) == "tensor(0.2000)"
        assert shown(z1.grad_fn(input_grad)[0]) == "tensor(1.)"
        assert shown(z0.grad_fn(input_grad)[0]) == "tensor(2.)"
        chained = z0.grad_fn(z1.grad_fn(z2.grad_fn(input_grad)[0])[0])[0]
        assert shown(chained) == "tensor(0.4000)"

    def test_the_general_loop(self, capsys: pytest.CaptureFixture[str]) -> None:
        _, _, _, z2 = self.session()
        grad_fn = z2.grad_fn
        grad = torch.tensor(1.0)
        while True:
            print("before applying grad_fn:", grad)
            print("grad_fn:", grad_fn)
            grad = grad_fn(grad)
            if len(grad) > 0:
                grad = grad[0]
            else:
                break
            print("after applying grad_fn:", grad)
            print()
            grad_fn = grad_fn.next_functions[0][0]
        printed = re.sub(r"0x[0-9a-f]+", "0x...", capsys.readouterr().out)
        assert printed == (
            "before applying grad_fn: tensor(1.)\n"
            "grad_fn: <DivBackward0 object at 0x...>\n"
            "after applying grad_fn: tensor(0.2000)\n\n"
            "before applying grad_fn: tensor(0.2000)\n"
            "grad_fn: <AddBackward0 object at 0x...>\n"
            "after applying grad_fn: tensor(0.2000)\n\n"
            "before applying grad_fn: tensor(0.2000)\n"
            "grad_fn: <MulBackward0 object at 0x...>\n"
            "after applying grad_fn: tensor(0.4000)\n\n"
            "before applying grad_fn: tensor(0.4000)\n"
            "grad_fn: <AccumulateGrad object at 0x...>\n"
        )

    def test_the_closed_form(self) -> None:
        """z = ((x + 2) * 2) / 5 = 2x/5 + 4/5, dz/dx = 2/5: exactly what automatic differentiation gives."""
        x = torch.tensor(1.0, requires_grad=True)
        z = ((x + 2) * 2) / 5
        assert z.item() == pytest.approx(2 * 1.0 / 5 + 4 / 5)
        z.backward()
        assert x.grad.item() == pytest.approx(2 / 5)

    def test_local_derivatives(self) -> None:
        """d(a+b) = (1, 1), d(a*b) = (b, a), d(a/b) by a = 1/b."""
        a, b = torch.tensor(3.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
        assert [g.item() for g in torch.autograd.grad(a + b, (a, b))] == [1.0, 1.0]
        assert [g.item() for g in torch.autograd.grad(a * b, (a, b))] == [4.0, 3.0]
        assert torch.autograd.grad(a / b, (a, b))[0].item() == 0.25

    def test_only_the_path_to_inputs_that_require_grad_is_computed(self) -> None:
        x = torch.tensor(1.0, requires_grad=True)
        constant = torch.tensor(2.0)
        assert (x * constant).grad_fn.next_functions[1] == (None, 0)

    def test_training_reduces_the_loss(self) -> None:
        """We update the weights in the direction of the negative gradient, until the network converges."""
        torch.manual_seed(0)
        inputs, weight = torch.randn(20, 1), torch.zeros(1, requires_grad=True)
        losses = []
        for _ in range(50):
            loss = ((inputs * weight - inputs * 3) ** 2).mean()
            loss.backward()
            with torch.no_grad():
                weight -= 0.1 * weight.grad
            weight.grad.zero_()
            losses.append(loss.item())
        assert losses == sorted(losses, reverse=True) and weight.item() == pytest.approx(3.0, abs=1e-2)


# ---------------------------------------------------------------------------------- the tutorial of ten sections


class TestTenSections:
    def test_2_basic_gradient_computation(self, capsys: pytest.CaptureFixture[str]) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        y = torch.tensor(3.0, requires_grad=True)
        z = x**2 + y**3
        assert z.item() == 31.0
        z.backward()
        print(f"x: {x}, Gradient dz/dx: {x.grad}")
        print(f"y: {y}, Gradient dz/dy: {y.grad}")
        print(f"z.grad_fn: {z.grad_fn}")
        print(f"x.grad_fn: {x.grad_fn}")
        lines = re.sub(r" at 0x[0-9a-f]+", "", capsys.readouterr().out).splitlines()
        assert lines == [
            "x: 2.0, Gradient dz/dx: 4.0",
            "y: 3.0, Gradient dz/dy: 27.0",
            "z.grad_fn: <AddBackward0 object>",
            "x.grad_fn: None",
        ]

    def test_2_requires_grad_can_be_set_at_creation_or_later(self) -> None:
        assert torch.tensor(1.0, requires_grad=True).requires_grad
        late = torch.tensor(1.0)
        assert late.requires_grad_(True) is late and late.requires_grad

    def test_3_leaves_and_intermediate_tensors(self) -> None:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        z = y.sum()
        assert x.is_leaf and not y.is_leaf
        y.retain_grad()
        z.backward()
        assert y.grad.tolist() == [1.0, 1.0] and x.grad.tolist() == [2.0, 2.0]
        w = x * 3
        w.sum().backward()
        with pytest.warns(UserWarning, match="not a leaf Tensor is being accessed"):
            assert w.grad is None

    def test_4_gradient_accumulation(self, capsys: pytest.CaptureFixture[str]) -> None:
        x = torch.tensor(1.0, requires_grad=True)
        y1 = x * 2
        y2 = x * 3
        y1.backward(retain_graph=True)
        print(f"After y1.backward(), x.grad: {x.grad}")
        y2.backward()
        print(f"After y2.backward(), x.grad: {x.grad}")
        x.grad.zero_()
        print(f"After x.grad.zero_(), x.grad: {x.grad}")
        assert capsys.readouterr().out.splitlines() == [
            "After y1.backward(), x.grad: 2.0",
            "After y2.backward(), x.grad: 5.0",
            "After x.grad.zero_(), x.grad: 0.0",
        ]

    def test_4_zeroing_with_the_optimizer_and_a_larger_effective_batch(self) -> None:
        """Several passes that accumulate, then one step: the same as one pass over the larger batch."""
        torch.manual_seed(0)
        inputs, targets = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 1, dtype=torch.float64)
        weights = []
        for parts in (1, 4):
            torch.manual_seed(1)
            model = torch.nn.Linear(3, 1).double()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            optimizer.zero_grad()
            for x, y in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
                loss = torch.nn.functional.mse_loss(model(x), y) / parts
                loss.backward()
            optimizer.step()
            weights.append(model.weight.detach().clone())
            optimizer.zero_grad()
            assert model.weight.grad is None
        assert torch.allclose(weights[0], weights[1], rtol=1e-12, atol=1e-14)

    def test_5_excluding_tensors(self) -> None:
        a = torch.tensor([1.0, 2.0], requires_grad=True)
        b = a * 2
        with torch.no_grad():
            c = a * 3
            assert c.requires_grad is False
        d = b.detach()
        assert b.requires_grad is True and d.requires_grad is False
        d[0] = 7.0
        assert b[0].item() == 7.0  # detach shares the data

    def test_5_freezing_layers(self) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        model[0].requires_grad_(False)
        model(torch.ones(1, 2)).sum().backward()
        assert model[0].weight.grad is None and model[1].weight.grad is not None

    def test_6_vector_jacobian_product(self) -> None:
        x = torch.randn(3, requires_grad=True)
        y = x * 2
        with pytest.raises(RuntimeError, match="scalar"):
            y.backward()
        v = torch.tensor([0.1, 1.0, 0.001], dtype=torch.float)
        y.backward(gradient=v)
        assert shown(x.grad) == "tensor([0.2000, 2.0000, 0.0020])"

    def test_6_the_full_jacobian_row_by_row(self) -> None:
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        y = x**2
        rows = [torch.autograd.grad(y, x, torch.eye(2)[k], retain_graph=True)[0].tolist() for k in range(2)]
        assert rows == [[2.0, 0.0], [0.0, 4.0]]

    def test_7_higher_order_derivatives(self, capsys: pytest.CaptureFixture[str]) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        y = x**3
        grad_y_x = torch.autograd.grad(outputs=y, inputs=x, create_graph=True)[0]
        print(f"dy/dx = 3*x^2 = {grad_y_x}")
        grad2_y_x2 = torch.autograd.grad(outputs=grad_y_x, inputs=x)[0]
        print(f"d^2y/dx^2 = 6*x = {grad2_y_x2}")
        assert capsys.readouterr().out.splitlines() == ["dy/dx = 3*x^2 = 12.0", "d^2y/dx^2 = 6*x = 12.0"]

    def test_7_create_graph_in_backward(self) -> None:
        x = torch.tensor(2.0, requires_grad=True)
        (x**3).backward(create_graph=True)
        (second,) = torch.autograd.grad(x.grad, x)
        assert second.item() == 12.0

    def test_8_inplace_operations(self) -> None:
        leaf = torch.ones(2, requires_grad=True)
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            leaf.add_(1)
        y = torch.tensor([-1.0, 2.0])
        assert y.relu_() is y and y.tolist() == [0.0, 2.0]
        x = torch.ones(2, requires_grad=True)
        safe = (x * 2).add_(1)  # nothing needs the old value
        safe.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]
        z = x.exp()
        z.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            z.sum().backward()

    def test_9_custom_relu(self, capsys: pytest.CaptureFixture[str]) -> None:
        class MyCustomReLU(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, input_tensor: Any) -> Any:
                ctx.save_for_backward(input_tensor)
                return input_tensor.clamp(min=0)

            @staticmethod
            def backward(ctx: Any, grad_output: Any) -> Any:
                (input_tensor,) = ctx.saved_tensors
                grad_input = grad_output.clone()
                grad_input[input_tensor < 0] = 0
                return grad_input

        my_relu_fn = MyCustomReLU.apply
        x = torch.tensor([-1.0, 2.0, -0.5], requires_grad=True)
        y = my_relu_fn(x)
        print(f"Custom ReLU Output: {y}")
        y.backward(torch.tensor([1.0, 1.0, 1.0]))
        print(f"Gradients for x after custom ReLU: {x.grad}")
        assert capsys.readouterr().out.splitlines() == [
            "Custom ReLU Output: tensor([0., 2., 0.], grad_fn=<MyCustomReLUBackward>)",
            "Gradients for x after custom ReLU: tensor([0., 1., 0.])",
        ]

    def test_9_none_for_inputs_without_a_gradient(self) -> None:
        class Scale(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any, factor: float) -> Any:
                ctx.factor = factor
                return x * factor

            @staticmethod
            def backward(ctx: Any, grad_output: Any) -> Any:
                return grad_output * ctx.factor, None

        x = torch.ones(2, requires_grad=True)
        Scale.apply(x, 3.0).sum().backward()
        assert x.grad.tolist() == [3.0, 3.0]

    def test_10_practical_tips(self) -> None:
        x = torch.ones(2, requires_grad=True)
        y = (x * x).sum()
        assert y.requires_grad and not y.is_leaf
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.tolist() == [4.0, 4.0]
        with pytest.raises(RuntimeError, match=r"a second time.*retain_graph=True"):
            y.backward()
