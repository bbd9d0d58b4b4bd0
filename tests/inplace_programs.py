"""Random programs of views, in-place writes and operations, run the same way with PyTorch and with nanotorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Step = tuple[int, int, int, int]

VIEWS: list[Callable[[Any, int], Any]] = [
    lambda x, k: x[k % len(x)],
    lambda x, k: x[k % len(x) :],
    lambda x, k: x[:: 1 + k % 2],
    lambda x, k: x[..., -1:],
    lambda x, k: x[..., k % x.shape[-1]],
    lambda x, k: x[None],
    lambda x, k: x[(k % len(x),) * x.ndim],
    lambda x, k: x.transpose(0, -1),
    lambda x, k: x.t(),
    lambda x, k: x.permute(tuple(range(x.ndim))[::-1]),
    lambda x, k: x.view(-1),
    lambda x, k: x.reshape(-1),
    lambda x, k: x.flatten(),
    lambda x, k: x.squeeze(),
    lambda x, k: x.unsqueeze(k % (x.ndim + 1)),
    lambda x, k: x.diagonal(),
    lambda x, k: x.expand(x.shape),
    lambda x, k: x.detach(),
]

OPERATIONS: list[Callable[[Any, Any, int], Any]] = [
    lambda x, y, k: x * 0.9,
    lambda x, y, k: (x * y).contiguous(),
    lambda x, y, k: (x + y).contiguous(),
    lambda x, y, k: (x - y).contiguous(),
    lambda x, y, k: x.tanh(),
    lambda x, y, k: x.sin(),
    lambda x, y, k: x.sigmoid(),
    lambda x, y, k: x**2,
    lambda x, y, k: x.clone(),
    lambda x, y, k: x.sum(0),
]

WRITES: list[Callable[[Any, Any, int], Any]] = [
    lambda x, y, k: x.mul_(1.5),
    lambda x, y, k: x.mul_(y),
    lambda x, y, k: x.add_(y),
    lambda x, y, k: x.sub_(0.5),
    lambda x, y, k: x.div_(2.0 + y * y),
    lambda x, y, k: x.tanh_(),
    lambda x, y, k: x.sin_(),
    lambda x, y, k: x.sigmoid_(),
    lambda x, y, k: x.zero_(),
    lambda x, y, k: x.fill_(0.3),
    lambda x, y, k: x.copy_(y),
    lambda x, y, k: x.clamp_(-0.5, 0.5),
    lambda x, y, k: x.neg_(),
    lambda x, y, k: x.__setitem__(k % len(x), y),
    lambda x, y, k: x.__setitem__(slice(None, None, 2), y),
    lambda x, y, k: x.__setitem__(slice(0, 1), 0.25),
    lambda x, y, k: x.__setitem__((0,) * x.ndim, y),
    lambda x, y, k: x.__setitem__(x > 0, y),
    lambda x, y, k: x.__setitem__(x < 0, 0.1),
    lambda x, y, k: x.__setitem__([0, -1], y),
    lambda x, y, k: x.__iadd__(y),
]

programs = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 7), st.integers(0, 7), st.integers(0, 59)), min_size=2, max_size=9)


def execute(torch: Any, program: list[Step]) -> tuple[list[Any], list[Any]]:
    """Run a program; return what every step gave, and the first and second derivatives by the two leaves.

    A step gives (requires_grad, is_leaf, version, value), or says that it raised.
    """
    rng = np.random.default_rng(0)
    leaves = [torch.from_numpy(rng.uniform(-1.5, 1.5, (3, 3))).requires_grad_() for _ in range(2)]
    constant = torch.from_numpy(rng.uniform(-1.5, 1.5, (3, 3)))
    tensors = [*leaves, leaves[0] * 1.0, leaves[1].t() * 1.0, constant]
    log: list[Any] = []
    for kind, first, second, choice in program:
        x, other = tensors[-1 - first % len(tensors)], tensors[-1 - second % len(tensors)]
        try:
            if kind < 5:
                result = VIEWS[choice % len(VIEWS)](x, second)
            elif kind < 7:
                result = OPERATIONS[choice % len(OPERATIONS)](x, other, second)
            else:
                # A number of the other tensor: nothing that shares the memory that is written.
                number = (other * 0.5).mean()
                if kind == 11:
                    with torch.no_grad():
                        result = WRITES[choice % len(WRITES)](x, number, first)
                else:
                    result = WRITES[choice % len(WRITES)](x, number, first)
                result = x if result is None else result
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            log.append("leaf error" if "leaf Variable" in str(error) else "error")
            continue
        if result.ndim > 4:
            continue
        if not any(result is tensor for tensor in tensors):
            tensors.append(result)
        log.append((result.requires_grad, result.is_leaf, result._version, np.array(result.detach().numpy())))
    values = [np.array(tensor.detach().numpy()) for tensor in tensors]
    return [*log, *values], derivatives(torch, leaves, tensors)


def derivatives(torch: Any, leaves: list[Any], tensors: list[Any]) -> list[Any]:
    try:
        loss = sum(((tensor * (k + 1)) ** 2).sum() for k, tensor in enumerate(tensors) if tensor.requires_grad)
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), leaves, allow_unused=True)
    except RuntimeError:
        return ["error"]
    return [None if g is None else np.array(g.detach().numpy()) for g in (*first, *second)]
