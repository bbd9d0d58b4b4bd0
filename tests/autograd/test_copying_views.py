"""Deep copies of tensors that share memory share the copy of it, as in PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import nanotorch
from oracle import pytorch

pytestmark = pytest.mark.parity


def parts(lib: Any) -> dict[str, Any]:
    """Containers of tensors that share memory, or do not."""
    x = lib.arange(6.0)
    parameter = lib.ones(4, requires_grad=True)
    (parameter * 2).sum().backward()
    with lib.no_grad():
        unrecorded = parameter[1:]
    linear = lib.nn.Linear(3, 2)
    lib.nn.init.constant_(linear.weight, 0.5)
    lib.nn.init.zeros_(linear.bias)
    linear.register_buffer("row", linear.weight.detach()[0])
    return {
        "view": [x, x[1:]],
        "view first": (x[1:], x),
        "two views": [x[:4], x[2:]],
        "columns": {"a": x.view(2, 3), "b": (x.view(2, 3).t(), [x[::2]])},
        "detached": [x, x.detach()],
        "gradient": [parameter, parameter.grad[1:]],
        "one element": [x, x[3]],
        "nothing": [x, x[3:3]],
        "data": [parameter, parameter.data],
        "unrecorded": [parameter, unrecorded],
        "expanded": [lib.ones(1).expand(3), lib.ones(2, 1).expand(2, 3)[:, 1:]],
        "parameter": [x, lib.nn.Parameter(x)],
        "module": [linear.weight, linear.row, linear.bias],
        "apart": [x, x.clone(), x.flip(0)],
        "alone": [x[2:4]],
        "twice": [x, x],
        "floats": [x.double(), x.int()[2:]],
    }


def flat(container: Any) -> list[Any]:
    if isinstance(container, dict):
        container = list(container.values())
    return [t for part in container for t in flat(part)] if isinstance(container, list | tuple) else [container]


def outcome(lib: Any, name: str) -> Any:
    original = parts(lib)[name]
    found, kept = flat(copy.deepcopy(original)), [t.tolist() for t in flat(original)]
    shown = [
        (
            list(t.shape),
            list(t.stride()),
            t.numel() and t.storage_offset(),
            t.requires_grad,
            t.is_leaf,
            type(t).__name__,
        )
        for t in found
    ]
    found[0].detach()[..., :1].mul_(-3).add_(1)
    return shown, [t.tolist() for t in found], [t.tolist() for t in flat(original)] == kept


@pytest.mark.parametrize("name", parts(nanotorch))
def test_what_is_shared_stays_shared(name: str) -> None:
    assert outcome(nanotorch, name) == outcome(pytorch, name)


def test_a_write_to_the_copy_of_a_view_is_noticed() -> None:
    """PyTorch computes a wrong gradient: its copies forget that they have one version."""
    a, b = copy.deepcopy([x := nanotorch.arange(3.0), x[1:]])
    loss = (a * nanotorch.ones(3, requires_grad=True)).sum()
    b.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
