"""Modules and plain functions, forward alone and differentiated through: values and gradients are the eager ones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.recorder import CaptureError
from tests.support.captured_steps import F, Run, adam, batch, differing, programs, state


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 3))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


class Net(nn.Module):
    """Shared weights, several results, and one that is no floating-point number."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.bias = nn.Linear(4, 4), nn.Parameter(torch.randn(4))

    def forward(self, x: Any) -> Any:
        hidden = self.shared(x).relu()
        logits = self.shared(hidden) + self.bias
        return {"logits": logits, "rest": [hidden, logits.argmax(1)]}


MODELS = [mlp, normed]


def pair(make: Any) -> tuple[Any, Any]:
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(make())
    return models[0], models[1]


def assert_same_gradients(model: Any, eager: Any) -> None:
    for (name, one), other in zip(model.named_parameters(), eager.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            np.testing.assert_array_equal(one.grad.numpy(), other.grad.numpy(), err_msg=name)
    for (name, one), other in zip(model.named_buffers(), eager.buffers(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=name)
        assert one._version == other._version


@pytest.mark.parametrize("make", MODELS)
def test_a_model_is_trained_through(make: Any) -> None:
    model, eager = pair(make)
    optimizers = adam(model.parameters()), adam(eager.parameters())
    compiled = torch.compile(model)
    for number in range(9):
        x, y = batch(number)
        results = []
        for each, optimizer in ((compiled, optimizers[0]), (eager, optimizers[1])):
            torch.manual_seed(number)
            optimizer.zero_grad()
            loss = F.cross_entropy(each(x), y)
            loss.backward()
            optimizer.step()
            results.append((loss.item(), torch.get_rng_state()))
        assert results[0] == results[1]
        assert_same_gradients(model, eager)
    assert programs(compiled) == 1


@pytest.mark.parametrize("make", MODELS)
def test_gradients_of_arguments(make: Any) -> None:
    model, eager = pair(make)
    compiled = torch.compile(model)
    for number in range(6):
        inputs = [batch(number)[0].requires_grad_() for _ in range(2)]
        weights = [(x * 2).tanh() for x in inputs]  # no leaves
        for each, x, weight in zip((compiled, eager), inputs, weights, strict=True):
            torch.manual_seed(number)
            (each(weight) * torch.arange(3.0)).sum().backward()
            torch.manual_seed(number)
            assert each(x).requires_grad
        np.testing.assert_array_equal(inputs[0].grad.numpy(), inputs[1].grad.numpy())
        assert_same_gradients(model, eager)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_forward_alone(mode: Any) -> None:
    model, eager = pair(mlp)
    compiled = torch.compile(model.eval())
    eager.eval()
    for number in range(6):
        x, _ = batch(number)
        with mode():
            one, other = compiled(x), eager(x)
        assert one.tolist() == other.tolist()
        assert one.requires_grad == other.requires_grad and one.is_inference() == other.is_inference()
    assert programs(compiled) == 1


def test_several_results_and_which_of_them_are_used() -> None:
    model, eager = pair(Net)
    compiled = torch.compile(model)
    uses = [
        lambda found: found["logits"].sum(),
        lambda found: found["rest"][0].sum() + (found["logits"] * found["logits"]).mean(),
        lambda found: found["rest"][0].sum(),
    ]
    order = [0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 1, 1]
    for number, use in enumerate(order):
        x, _ = batch(number)
        found, expected = compiled(x), eager(x)
        assert found["logits"].tolist() == expected["logits"].tolist()
        assert found["rest"][1].tolist() == expected["rest"][1].tolist()
        assert not found["rest"][1].requires_grad
        for each, results in ((model, found), (eager, expected)):
            each.zero_grad()
            uses[use](results).backward()
        assert_same_gradients(model, eager)


def test_several_calls_before_one_backward() -> None:
    model, eager = pair(mlp)
    compiled = torch.compile(model)
    for number in range(6):
        for each, call in ((model, compiled), (eager, eager)):
            torch.manual_seed(number)
            each.zero_grad()
            distance = sum((call(batch(3 * number + k)[0]) ** 2).sum() for k in range(3))
            distance.backward()
        assert_same_gradients(model, eager)
    assert programs(compiled) >= 1


def test_backward_twice_needs_a_kept_graph() -> None:
    model, eager = pair(mlp)
    compiled = torch.compile(model.eval())
    eager.eval()
    for number in range(6):
        x, _ = batch(number)
        for each in (compiled, eager):
            loss = each(x).sum()
            loss.backward(retain_graph=True)
            loss.backward()
            with pytest.raises(RuntimeError, match="second time"):
                loss.backward()
        assert_same_gradients(model, eager)


def test_a_parameter_that_was_written_to_since_is_told() -> None:
    model, eager = pair(mlp)
    compiled = torch.compile(model.eval())
    eager.eval()
    for number in range(6):
        x, _ = batch(number)
        for each, parameters in ((compiled, model), (eager, eager)):
            loss = each(x).sum()
            if number > 3:
                with torch.no_grad():
                    parameters[4].weight.mul_(2)
                with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                    loss.backward()
            else:
                loss.backward()


def test_second_derivatives_are_refused_with_advice() -> None:
    square = torch.compile(lambda x: (x * x * x).sum())
    for number in range(6):
        x = batch(number)[0].requires_grad_()
        if number < 1:
            square(x).backward()
            continue
        if number > 3:
            with pytest.raises(CaptureError, match=r"compiled\.function"):
                torch.autograd.grad(square(x), x, create_graph=True)
        else:
            (found,) = torch.autograd.grad(square(x), x)
            (expected,) = torch.autograd.grad((x * x * x).sum(), x)
            assert found.tolist() == expected.tolist()


def test_an_error_within_is_the_plain_error() -> None:
    model, eager = pair(mlp)
    compiled = torch.compile(model)
    for number in range(6):
        compiled(batch(number)[0]).sum().backward()
        errors = []
        for each in (compiled, eager):
            with pytest.raises(Exception) as caught:
                each(torch.zeros(6, 5))
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]


def test_a_step_around_a_compiled_model() -> None:
    run, eager = Run(), Run()
    model = run.model
    run.model = torch.compile(model)
    step = torch.compile(run.step)
    for number in range(6):
        assert step(*batch(number)).item() == eager.step(*batch(number)).item()
    run.model = model
    assert differing(state(run), state(eager)) == []


def test_a_custom_function_and_a_mode_within() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            (x,) = ctx.saved_tensors
            return grad * 3 * x * x

    weight = nn.Parameter(torch.ones(4))

    def function(x: Any) -> Any:
        with torch.no_grad():
            scale = weight.sum()
        return Cube.apply(x * weight) * scale

    compiled = torch.compile(function)
    for number in range(6):
        x, _ = batch(number)
        found = []
        for each in (compiled, function):
            weight.grad = None
            result = each(x)
            result.mean().backward()
            found.append((result.tolist(), weight.grad.tolist()))
        assert found[0] == found[1]
    assert programs(compiled) == 1


def test_a_history_from_outside_is_refused() -> None:
    weight = nn.Parameter(torch.ones(4))
    doubled = [weight * 2]
    compiled = torch.compile(lambda x: x * doubled[0])
    x, _ = batch(0)
    compiled(x)
    with pytest.raises(CaptureError, match="history of its own: pass it as an argument"):
        compiled(x)


def test_results_after_a_step_that_could_be_differentiated_are_refused() -> None:
    run = Run()

    def step(x: Any, y: Any) -> Any:
        return run.step(x, y), run.model(x)

    compiled = torch.compile(step)
    compiled(*batch(0))
    with pytest.raises(CaptureError, match=r"return tensor.detach\(\)"):
        compiled(*batch(1))


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    compiled = torch.compile(mlp())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(6):
            compiled(batch(number)[0]).sum().backward()
