"""explain(): the walk is the pass that backward makes, its numbers are those of the gradients, and nothing changes."""

from __future__ import annotations

import math
from typing import Any

import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.autograd.graph.node import nodes_below
from nanotorch.autograd.graph.tensor import gradient_edge
from nanotorch.ops.docs.source import formulas_of
from op_cases import CASES, Call, Case, each, floating_outputs, ours


def mlp() -> tuple[Any, Any]:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    loss = nn.functional.cross_entropy(model(torch.randn(5, 4)), torch.tensor([0, 1, 2, 0, 1]))
    return model, loss


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


def test_steps_shapes_formulas_and_destinations() -> None:
    model, loss = mlp()
    walk = torch.explain(loss, model=model)
    assert [step.name for step in walk.steps] == [
        "NllLossBackward0",
        "AddmmBackward0",
        "TanhBackward0",
        "AddmmBackward0",
    ]
    assert [step.shapes for step in walk.steps] == [((),), ((5, 3),), ((5, 8),), ((5, 8),)]
    last = walk.steps[1]
    assert [(h.input, h.shape, h.to) for h in last.handed] == [
        ("self", (5, 8), "step 3"),
        ("weight", (3, 8), "2.weight"),
        ("bias", (3,), "2.bias"),
    ]
    assert last.handed[0].formula == "xp.matmul(grad, weight)"
    assert [h.input for h in walk.steps[3].handed] == ["weight", "bias"]  # the data needs no gradient
    assert 'test_explain.py", line' in last.line and last.line.endswith("in mlp")


def test_norms_are_those_of_the_gradients() -> None:
    model, loss = mlp()
    walk = torch.explain(loss, model=model)
    loss.backward()
    expected = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert {leaf.name: leaf.norm for leaf in walk.leaves} == pytest.approx(expected, rel=1e-5)
    handed = {h.to: h.norm for step in walk.steps for h in step.handed if not h.to.startswith("step")}
    assert handed == pytest.approx(expected, rel=1e-5)
    assert walk.steps[0].norms == (1.0,)


def test_nothing_changes() -> None:
    model, loss = mlp()
    hidden = model[0](torch.randn(2, 4))
    hidden.retain_grad()
    other = hidden.sum() + loss
    torch.explain(other)
    assert hidden.grad is None and all(p.grad is None for p in model.parameters())
    other.backward()  # the graph is still there, and so is the hook that retains the gradient
    assert hidden.grad.tolist() == [[1.0] * 8] * 2


def test_hooks_that_change_gradients_take_part() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    y.grad_fn.register_prehook(lambda gs: (gs[0] * 10,))
    y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 10, *inputs[1:]))
    walk = torch.explain(y.sum(), params={"x": x})
    assert walk.steps[1].norms[0] == pytest.approx(100 * math.sqrt(3))
    assert walk.steps[1].handed[0].norm == walk.leaves[0].norm == pytest.approx(2000 * math.sqrt(3))


def test_roots_that_are_not_scalar() -> None:
    x = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="only for scalar outputs"):
        torch.explain(x * 2)
    walk = torch.explain(x * 2, gradient=torch.full((2, 2), 3.0))
    assert walk.shape == (2, 2) and walk.leaves == (("leaf 1", (2, 2), 12.0),)


def test_roots_without_history() -> None:
    x = torch.ones((), requires_grad=True)
    walk = torch.explain(x)
    assert (
        walk.steps == ()
        and walk.leaves[0].norm == 1.0
        and str(walk).startswith("backward from a tensor of shape (): 0 steps")
    )
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.explain(torch.ones(()))


def test_a_released_graph_says_so() -> None:
    _, loss = mlp()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        torch.explain(loss)


def test_custom_functions_slices_and_many_outputs() -> None:
    x = torch.rand(4, 3, requires_grad=True)
    y = x * 1
    y[0].mul_(2)
    first, second = Cube.apply(y).split([1, 2], 1)
    walk = torch.explain(torch.cat([first, second], 1).sum(), params=[("x", x)])
    names = [step.name for step in walk.steps]
    assert names == [
        "SumBackward0",
        "CatBackward0",
        "SplitWithSizesBackward0",
        "CubeBackward",
        "CopySlices",
        "MulBackward0",
    ]
    cat, split, cube, slices = walk.steps[1:5]
    assert [h.input for h in cat.handed] == ["tensors[0]", "tensors[1]"] and {h.to for h in cat.handed} == {"step 3"}
    assert split.shapes == ((4, 1), (4, 2))
    assert cube.handed[0].formula == "Cube.backward"
    assert slices.handed[0].input == "base" and slices.handed[0].formula.endswith("grad * other")


def test_long_passes_are_shortened() -> None:
    x = torch.ones((), requires_grad=True)
    y = x
    for _ in range(5000):
        y = y * 1.0
    walk = torch.explain(y, limit=6)
    assert walk.total == 5000 and [step.number for step in walk.steps] == [1, 2, 3, 4, 4999, 5000]
    assert "... 4994 steps left out" in walk.text() and len(walk.text().splitlines()) < 60
    with pytest.raises(ValueError, match="limit must be at least 1"):
        torch.explain(y, limit=0)


def test_text() -> None:
    model, loss = mlp()
    text = torch.explain(loss, model=model).text(100)
    assert text.startswith("backward from a tensor of shape (): 4 steps, 4 leaves")
    assert "> loss = nn.functional.cross_entropy(model(torch.randn(5, 4))" in text  # the line of code itself
    assert "= grad * (1 - result * result)" in text
    assert "return _slope * (grad / _total_weight" in text  # the body of a helper that is the formula
    assert max(map(len, text.splitlines())) <= 100
    assert max(map(len, torch.explain(loss).text(70).splitlines())) <= 100


def test_the_step_that_makes_a_nan_is_marked() -> None:
    x = torch.zeros(2, requires_grad=True)
    text = torch.explain((x.sqrt() * 0).sum()).text()
    (marked,) = [line for line in text.splitlines() if "no longer finite" in line]
    assert "norm nan" in marked


def test_names_that_are_none() -> None:
    x = torch.ones((), requires_grad=True)
    with pytest.raises(TypeError, match="params must map names to tensors"):
        torch.explain(x * 2, params=[x])


@each(CASES)
@pytest.mark.slow
def test_every_node_of_every_op_can_be_explained(case: Case) -> None:
    """Each edge has a formula, and the walk has a step for each node; what is left for backward stays."""
    call = Call(case, ours())
    for output in floating_outputs(case.entry.function(*call.args, **call.kwargs)):
        if not output.requires_grad or output.grad_fn is None:
            continue
        nodes = [
            node
            for node in nodes_below([gradient_edge(output)])
            if not isinstance(node, torch.autograd.graph.AccumulateGrad)
        ]
        for node in nodes:
            formulas = formulas_of(node)
            assert len(formulas) == len(node.edges) and all(formula.expression for _, formula in formulas), node
        walk = torch.explain(output, gradient=torch.ones_like(output), limit=1000)
        assert walk.total == len(walk.steps) == len(nodes)
        assert walk.text()
        output.backward(torch.ones_like(output), retain_graph=True)


def test_on_a_device(device: Any) -> None:
    x = torch.ones(3, device=device, requires_grad=True)
    assert torch.explain((x * 2).sum()).leaves[0].norm == pytest.approx(2 * math.sqrt(3))
