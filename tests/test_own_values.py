"""Values from the tensor's own memory, values that must be one number, and what can be shown of tensors that are gone."""

from __future__ import annotations

import gc

import pytest

import nanotorch as torch
from nanotorch import nn, viz


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
