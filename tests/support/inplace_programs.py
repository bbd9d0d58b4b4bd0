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
    lambda x, k: x.narrow(-1, k % x.shape[-1], 1),
    lambda x, k: x.select(k % x.ndim, -1),
    lambda x, k: x.movedim(0, k % x.ndim),
    lambda x, k: x.swapaxes(0, k % x.ndim),
    lambda x, k: x.unfold(k % x.ndim, 2, 1 + k % 2),
    lambda x, k: x.as_strided((*x.shape[:-1], x.shape[-1] - 1, 2), (*x.stride()[:-1], x.stride()[-1], x.stride()[-1])),
    lambda x, k: x.as_strided(x.shape[:1], (sum(x.stride()),)) if min(x.shape) > 1 else x.squeeze(),
    lambda x, k: x.as_strided((2,), (k % 3,), x.storage_offset()),
    lambda x, k: x.unbind(0)[k % len(x)],
    lambda x, k: x.split(2)[k % 2],
    lambda x, k: x.split([1, len(x) - 1], 0)[k % 2],
    lambda x, k: x.chunk(2, -1)[0],
    lambda x, k: x.tensor_split(2)[k % 2],
    lambda x, k: next(iter(x)),
    lambda x, k: x.expand(2, *x.shape),
    lambda x, k: x.unflatten(-1, (1, x.shape[-1])),
    lambda x, k: x[None, ..., 0],
    lambda x, k: x.data,
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
    lambda x, y, k: x.index_put_((INDEX(y, [0, 0]),), y, accumulate=True),
    lambda x, y, k: x.index_put_((INDEX(y, [-1]),), y),
    lambda x, y, k: x.index_add_(
        k % x.ndim,
        INDEX(y, [0, 0]),
        (x[..., None] if not x.ndim else x).detach().index_select(k % x.ndim, INDEX(y, [0, 0])) * y,
    ),
    lambda x, y, k: x.index_copy_(0, INDEX(y, [0]), x.detach()[:1].clone() * y),
    lambda x, y, k: x.index_fill_(-1, INDEX(y, [0]), y),
    lambda x, y, k: x.scatter_(0, INDEX(y, [[0] * 8] * 1)[:, : x.shape[-1]], 0.4),
    lambda x, y, k: x.scatter_add_(0, INDEX(y, [0, 0]), y.expand(2)),
    lambda x, y, k: x.scatter_reduce_(0, INDEX(y, [0, 0]), y.expand(2), "mean"),
    lambda x, y, k: x.masked_fill_(x.detach() > 0, y),
    lambda x, y, k: x.masked_fill_(x.detach() > 0, 0.2),
    lambda x, y, k: x.masked_scatter_(x.detach() > 0, y.expand(x.numel())),
    lambda x, y, k: x.tril_(),
    lambda x, y, k: x.data.mul_(1.1),
    lambda x, y, k: x.data.__setitem__(0, 0.7),
    lambda x, y, k: x.detach().mul_(1.1),
    lambda x, y, k: x.t_(),
    lambda x, y, k: x.transpose_(0, -1),
    lambda x, y, k: x.squeeze_(),
    lambda x, y, k: x.squeeze_(0),
    lambda x, y, k: x.unsqueeze_(k % (x.ndim + 1)),
    lambda x, y, k: x.addcmul_(y, y, value=0.5),
    lambda x, y, k: x.lerp_(y, 0.3),
    lambda x, y, k: x.pow_(2),
    lambda x, y, k: x[0].copy_(y),
    lambda x, y, k: x.requires_grad_(),
]
OF_SHAPES = range(36, 41)  # t_ and the like: unrecorded, they leave a history that does not fit
# zero_ and fill_: other writes to elements that share a place have no defined result, nor gradient
OF_VIEWS_OF_ONE_PLACE = (8, 9)


def INDEX(like: Any, values: Any) -> Any:
    """Make a tensor of indices with the library of another tensor."""
    return like.detach().new_tensor(values).long()


def shares_places(x: Any) -> bool:
    """Whether elements of a tensor share places of its memory."""
    places = np.zeros((1,) * x.ndim, np.int64)
    for dim, (length, step) in enumerate(zip(x.shape, x.stride(), strict=True)):
        places = places + (np.arange(length) * step).reshape([-1] + [1] * (x.ndim - 1 - dim))
    return len(np.unique(places)) < places.size


programs = st.lists(
    st.tuples(st.integers(0, 13), st.integers(0, 7), st.integers(0, 7), st.integers(0, 95)), min_size=2, max_size=9
)


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
            result = step(torch, kind, x, other, (first, second), choice)
            if result.ndim > 4:
                continue
            log.append((result.requires_grad, result.is_leaf, result._version, np.array(result.detach().numpy())))
        except (RuntimeError, IndexError, ValueError, TypeError, ZeroDivisionError) as error:
            log.append("leaf error" if "leaf Variable" in str(error) else "error")
            continue
        if not any(result is tensor for tensor in tensors):
            tensors.append(result)
    values = [(t.requires_grad, t._version, np.array(t.detach().numpy())) for t in tensors]
    return [*log, *values], derivatives(torch, leaves, tensors)


def step(torch: Any, kind: int, x: Any, other: Any, numbers: tuple[int, int], choice: int) -> Any:
    """Run one step: a view, a view in no_grad, an operation, a write, or a write in no_grad."""
    if kind < 5:
        return VIEWS[choice % len(VIEWS)](x, numbers[1])
    if kind == 5:
        with torch.no_grad():
            return VIEWS[choice % len(VIEWS)](x, numbers[1])
    if kind < 8:
        return OPERATIONS[choice % len(OPERATIONS)](x, other, numbers[1])
    write = choice % len(WRITES)
    if (shares_places(x) and (write not in OF_VIEWS_OF_ONE_PLACE or x.requires_grad)) or (
        kind == 13 and write in OF_SHAPES
    ):
        raise ValueError("no defined result")
    number = (other * 0.5).mean()  # of the other tensor: nothing that shares the memory that is written
    if kind == 13:
        with torch.no_grad():
            result = WRITES[write](x, number, numbers[0])
    else:
        result = WRITES[write](x, number, numbers[0])
    return x if result is None else result


def derivatives(torch: Any, leaves: list[Any], tensors: list[Any]) -> list[Any]:
    try:
        loss = sum(
            ((tensor * (k + 1)) ** 2).sum()
            for k, tensor in enumerate(tensors)
            if tensor.requires_grad and not lost(tensor)
        )
        first = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first if g is not None), leaves, allow_unused=True)
    except RuntimeError:
        return ["error"]
    return [None if g is None else np.array(g.detach().numpy()) for g in (*first, *second)]


def lost(tensor: Any) -> bool:
    """Whether a view cannot be used any more because its base was written."""
    try:
        tensor.grad_fn  # noqa: B018
    except RuntimeError:
        return True
    return False
