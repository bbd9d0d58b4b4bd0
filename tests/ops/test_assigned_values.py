"""Values from the tensor's own memory, values that must be one number,
and what can be shown of tensors that are gone.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest

import nanotorch as torch
from nanotorch import nn, viz
from nanotorch.ops.rows.row import ROWS
from oracle import pytorch


def temporary(kind: str) -> torch.Tensor:
    x = torch.ones(2, 3)
    if kind == "module":
        return nn.Linear(3, 1)(x).sum()
    if kind == "some":
        return (nn.Linear(3, 1)(x) * torch.ones(1, requires_grad=True)).sum()
    return (x * torch.ones(3, requires_grad=True)).sum()


@pytest.mark.parametrize("kind", ["module", "some", "tensor"])
def test_graphs_whose_leaves_are_gone_are_shown(kind: str) -> None:
    loss = temporary(kind)
    gc.collect()
    assert "a leaf that is gone" in str(torch.explain(loss))
    assert "a leaf that is gone" in viz.graph(loss).svg
    loss.backward()


def test_leaves_that_are_gone_show_what_arrives() -> None:
    (leaf,) = torch.explain(temporary("tensor")).leaves
    assert (leaf.name, leaf.shape) == ("a leaf that is gone", (3,))
    assert leaf.norm == pytest.approx(2 * 3**0.5)


def outcome(lib: Any, program: str, recorded: bool) -> Any:
    """The tensor that a program writes, and the gradient of what it was made from; or that it raises."""
    leaf = lib.arange(1.0, 10.0, dtype=lib.float64, requires_grad=recorded)
    x = (leaf * 1.5).reshape(3, 3)
    scope = {"x": x, "lib": lib, "mask": x.detach() > 2, "index": lib.tensor([1])}
    try:
        exec(program, scope)  # one of the texts below
    except RuntimeError as error:
        return "0-dim" in str(error) or "single memory location" in str(error)
    if recorded:
        (x * lib.arange(1.0, 10.0, dtype=lib.float64).reshape(3, 3)).sum().backward()
    return x.tolist(), leaf.grad.tolist() if recorded else None


OWN = [
    "x[:] = x[0, 1]",
    "x[:] = x[0, 1:2]",
    "x[:] = x[0]",
    "x[:] = x[:, 1:2]",
    "x[...] = x",
    "x[0] = x[:, 0]",
    "x[0, :2] = x[0, 1]",
    "x[0, 1] = x[0, 1]",
    "x[:1, :1] = x[0, 0]",
    "x[:1] = x[0]",
    "x[:, 1] = x[0, 0]",
    "x[::2] = x[1]",
    "x[mask] = x[0, 0]",
    "x[mask] = x[2, :1]",
    "x.fill_(x[1, 1])",
    "x[0].fill_(x[0, 2])",
    "x.t().fill_(x[2, 1])",
    "x.masked_fill_(mask, x[0, 1])",
    "x.masked_fill_(mask[0], x[0, 1])",
    "x[1:].masked_fill_(mask[0], x[2, 2])",
    "x.index_fill_(0, index, x[0, 1])",
    "x.index_fill_(-1, index, x[2, 1])",
    "x.index_put_((mask,), x[0, 0])",
    "x.masked_scatter_(mask, x.clone())",
    "x[1:] = x[:-1]",
    "x[:] = x.t()",
    "x.add_(x[0, 1])",
    "x.mul_(x[0])",
    "x.copy_(x[0])",
]


@pytest.mark.parity
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("program", OWN)
def test_values_from_the_memory_that_is_written(program: str, recorded: bool) -> None:
    assert outcome(torch, program, recorded) == outcome(pytorch, program, recorded)


MANY = [
    f"x.{name}{end}({start}lib.{value})"
    for name, start in [("fill", ""), ("masked_fill", "mask, "), ("index_fill", "0, index, ")]
    for end in ("", "_")
    for value in (
        "ones(3)",
        "ones(1)",
        "ones(1, 1)",
        "zeros(0)",
        "ones(3, 3, dtype=lib.float64)",
        "tensor(2.0, dtype=lib.float64)",
    )
    if name != "fill" or end
] + [
    "x.fill_(x[0])",
    "x.masked_fill_(mask, x[0])",
    "x.index_fill_(0, index, x[0])",
    "lib.masked_fill(x, mask, x[0])",
    "lib.index_fill(x, 1, index, x[:1, 0])",
]


@pytest.mark.parity
@pytest.mark.parametrize("program", MANY)
def test_a_value_that_fills_is_one_number(program: str) -> None:
    ours = outcome(torch, program, True)
    assert ours == outcome(pytorch, program, True)
    assert ours is not False


def refusal(lib: Any, program: str, recorded: bool) -> str:
    """What a program without a derivative for `w` raises, or the shape of what it returns."""
    x = lib.tensor([[0.2, 0.5, 0.3], [0.1, 0.6, 0.4]], dtype=lib.float64)
    scope = {
        "lib": lib,
        "F": lib.nn.functional,
        "x": x,
        "p": x.clone(),
        "g": x.clone().requires_grad_(),
        "t": lib.tensor([0, 2]),
        "w": lib.tensor([1.0, 2.0, 3.0], dtype=lib.float64, requires_grad=True),
    }
    try:
        with lib.set_grad_enabled(recorded):
            return str(tuple(eval(program, scope).shape))  # one of the texts below
    except (RuntimeError, NotImplementedError) as error:
        assert "not differentiable with respect to argument" in str(error) or "is not implemented" in str(error)
        return type(error).__name__


CONSTANT = [
    "F.cross_entropy(x, t, weight=w)",
    "F.cross_entropy(g, t, w, label_smoothing=0.1)",
    "lib.nn.CrossEntropyLoss(weight=w)(g, t)",
    "F.nll_loss(g, t, w)",
    "F.nll_loss(x, t, w, reduction='none')",
    "F.nll_loss(g[..., None], t[..., None], w)",
    "F.binary_cross_entropy(x, p, w)",
    "F.binary_cross_entropy(g, p, weight=w, reduction='none')",
    "F.binary_cross_entropy_with_logits(g, p, w)",
    "F.binary_cross_entropy_with_logits(x, p, pos_weight=w)",
    "lib.nn.BCEWithLogitsLoss(pos_weight=w)(g, p)",
    "F.cross_entropy(g, t, w.detach())",
    "F.cross_entropy(g, p, w)",
]


@pytest.mark.parity
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("program", CONSTANT)
def test_what_has_no_derivative_says_so(program: str, recorded: bool) -> None:
    assert refusal(torch, program, recorded) == refusal(pytorch, program, recorded)


def test_every_array_of_a_recorded_row_has_a_formula_or_is_refused() -> None:
    for row in ROWS.values():
        row.compile()
        for p in row.tensors:
            if row.formulas and p.value and p.name not in row.formulas:
                assert f"raise not_differentiable(row.public_name, {p.public!r})" in row.source, row.name


def backward_of(lib: Any, program: str) -> Any:
    w = lib.tensor([1.0, 1.0, 3.0], dtype=lib.float64, requires_grad=True)
    values = eval(program, {"lib": lib, "w": w})
    values = values[0] if isinstance(values, tuple) else values
    shown = values.tolist(), values.requires_grad
    try:
        values.sum().backward()
    except (RuntimeError, NotImplementedError) as error:
        return *shown, type(error).__name__
    return shown


@pytest.mark.parity
@pytest.mark.parametrize(
    "program",
    [
        "lib.unique(w)",
        "w.unique()",
        "lib.unique(w, dim=0)",
        "lib.unique(w, return_inverse=True)",
        "lib.unique_consecutive(w)",
        "lib.unique(w.detach())",
    ],
)
def test_distinct_values_refuse_the_backward(program: str) -> None:
    assert backward_of(torch, program) == backward_of(pytorch, program)
