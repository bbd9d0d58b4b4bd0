"""Indices of all kinds mixed, reading and writing, their errors,
and the rules of repeated indices, with PyTorch as pytorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nanotorch as torch
from fake_gpu import fake_gpu
from oracle import pytorch

pytestmark = pytest.mark.parity

quick = settings(
    max_examples=300, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def converted(library: Any, index: Any) -> Any:
    parts = index if isinstance(index, tuple) else (index,)
    return tuple([library.from_numpy(p) if isinstance(p, np.ndarray) else p for p in parts])


def both(function: Any, *arrays: Any) -> None:
    """Compare value, gradients and second derivatives of a function of float64 leaves
    in both libraries, or that both refuse.
    """
    found: list[Any] = []
    for library in (torch, pytorch):
        leaves = [library.tensor(a, dtype=library.float64).requires_grad_() for a in arrays]
        try:
            y = function(library, *leaves)
            weights = library.from_numpy(np.asarray(np.random.default_rng(1).uniform(-1, 1, tuple(y.shape))))
            first = library.autograd.grad((y * y * weights).sum(), leaves, create_graph=True, allow_unused=True)
            sums = [(g * g).sum() for g in first if g is not None and g.requires_grad]
            second = library.autograd.grad(sum(sums), leaves, allow_unused=True) if sums else ()
            found.append([None if t is None else t.detach().numpy() for t in (y, *first, *second)])
        except (RuntimeError, IndexError, ValueError) as error:
            found.append(error)
    ours, theirs = found
    if isinstance(theirs, Exception):
        assert isinstance(ours, Exception), f"PyTorch refuses: {theirs}"
        return
    assert not isinstance(ours, Exception), ours
    for a, e in zip(ours, theirs, strict=True):
        assert (a is None) == (e is None) or not np.any(a if e is None else e)
        if a is not None and e is not None:
            assert a.shape == e.shape
            np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-12)


@st.composite
def mixed(draw: Any) -> Any:
    """A shape and an index of integers, slices, None, Ellipsis, index arrays and masks."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=3))
    length, parts, dim = draw(st.integers(1, 3)), [], 0
    while dim < len(shape):
        n = shape[dim]
        kind = draw(st.sampled_from(["int", "slice", "full", "array", "matrix", "mask", "none", "dots", "stop"]))
        if kind == "stop":
            break
        if kind == "none":
            parts.append(None)
            continue
        if kind == "dots":
            if Ellipsis in [p for p in parts if not isinstance(p, np.ndarray)]:
                continue
            parts.append(Ellipsis)
            dim += draw(st.integers(0, len(shape) - dim))
            continue
        if kind == "int":
            parts.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            parts.append(
                slice(
                    draw(st.none() | st.integers(-n, n)),
                    draw(st.none() | st.integers(-n, n)),
                    draw(st.none() | st.integers(1, 2)),
                )
            )
        elif kind == "full":
            parts.append(slice(None))
        elif kind == "mask":
            parts.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))))
        else:
            size = (length,) if kind == "array" else (2, length)
            parts.append(draw(hnp.arrays(np.int64, size, elements=st.integers(-n, n - 1))))
        dim += 1
    return shape, tuple(parts)


@quick
@given(mixed())
def test_reading(case: Any) -> None:
    shape, index = case
    both(lambda library, x: (x * 1)[converted(library, index)] * 1, np.random.default_rng(0).uniform(0.5, 2, shape))


@quick
@given(mixed(), st.booleans())
def test_writing(case: Any, whole: bool) -> None:
    """A number, or values in the shape of what is written, where no element is named twice."""
    shape, index = case
    places = torch.arange(int(np.prod(shape))).reshape(shape)
    try:
        part = places[converted(torch, index)]
    except IndexError:
        return
    if np.unique(part.numpy()).size != part.numel():
        return
    value = np.random.default_rng(1).uniform(0.5, 2, tuple(part.shape) if whole else ())

    def write(library: Any, x: Any, v: Any) -> Any:
        y = x * 1
        y[converted(library, index)] = v
        return y

    both(write, np.random.default_rng(0).uniform(0.5, 2, shape), value)


X = np.arange(12.0).reshape(3, 4) + 0.5
INDEX, MASK = np.array([0, 2, 0, 0]), X % 2 > 1

REPEATED = {
    "index_add": lambda L, x, s: x.index_add(0, L.from_numpy(INDEX), s, alpha=2),
    "index_add_": lambda L, x, s: (x * 1).index_add_(0, L.from_numpy(INDEX), s),
    "index_copy": lambda L, x, s: x.index_copy(0, L.from_numpy(INDEX), s),
    "index_fill": lambda L, x, s: x.index_fill(0, L.from_numpy(INDEX), s[0, 0]),
    "index_put": lambda L, x, s: x.index_put((L.from_numpy(INDEX),), s),
    "index_put accumulate": lambda L, x, s: x.index_put((L.from_numpy(INDEX),), s, accumulate=True),
    "index_put_ accumulate": lambda L, x, s: (x * 1).index_put_(
        (L.from_numpy(INDEX), L.from_numpy(INDEX)), s[:, 0], accumulate=True
    ),
    "index_put by mask": lambda L, x, s: x.index_put((L.from_numpy(MASK),), s[0, 0]),
    "scatter": lambda L, x, s: x.scatter(0, L.from_numpy(np.stack([INDEX] * 4, 1)), s),
    "scatter_": lambda L, x, s: (x * 1).scatter_(0, L.from_numpy(np.stack([INDEX] * 4, 1)), s),
    "scatter_add": lambda L, x, s: x.scatter_add(0, L.from_numpy(np.stack([INDEX] * 4, 1)), s),
    "scatter_reduce": lambda L, x, s: (x * 1).scatter_reduce_(
        0, L.from_numpy(np.stack([INDEX] * 4, 1)), s, "amax", include_self=False
    ),
    "put": lambda L, x, s: x.put(L.from_numpy(INDEX), s[0]),
    "put accumulate": lambda L, x, s: (x * 1).put_(L.from_numpy(INDEX), s[0], accumulate=True),
    "take": lambda L, x, s: x.take(L.from_numpy(INDEX - 3)) * s[0],
    "masked_scatter_": lambda L, x, s: (x * 1).masked_scatter_(L.from_numpy(MASK), s),
    "setitem": lambda L, x, s: _set(x * 1, L.from_numpy(INDEX), s),
    "of a view": lambda L, x, s: _through_view(x * 1, L.from_numpy(INDEX), s),
    "repeat_interleave": lambda L, x, s: x.repeat_interleave(L.tensor([2, 0, 1]), 0),
    "unfold": lambda L, x, s: x.unfold(1, 2, 1).unfold(0, 2, 1),
    "unfold of size 0": lambda L, x, s: x.unfold(1, 0, 2),
    "index_add of a number": lambda L, x, s: x[0, 0].index_add(0, L.tensor([0]), s[0, 0]),
    "uint8 mask": lambda L, x, s: x[L.from_numpy(MASK)],
    "true": lambda L, x, s: x[True] * 1,
    "false": lambda L, x, s: x[False] * 1,
    "mask without dimension": lambda L, x, s: x[L.tensor(True)] * 1,
    "list": lambda L, x, s: x[[0, -1]] * 1,
    "several ellipses": lambda L, x, s: x[..., 0, ...] * x[L.tensor([1]), ..., 0, ...],
    "lists": lambda L, x, s: x[[0, 1], [1, -1]] * 1,
    "list of truth values": lambda L, x, s: x[[True, False, True]] * 1,
    "integer tensors": lambda L, x, s: x[L.tensor(1), L.tensor([2])] * x[L.tensor(-1)][1:2],
}


def _set(x: Any, index: Any, value: Any) -> Any:
    x[index] = value
    return x


def _through_view(x: Any, index: Any, value: Any) -> Any:
    x.t().index_add_(1, index, value.t()[:4])
    x[1:].index_fill_(0, index[:1], 0.25)
    return x


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_indices(name: str) -> None:
    both(lambda library, x, s: REPEATED[name](library, x, s), X, np.random.default_rng(2).uniform(0.5, 2, (4, 4)))


ERRORS = {
    "integer": (lambda L, x: x[5], r"index 5 is out of bounds for dimension 0 with size 3"),
    "second integer": (lambda L, x: x[:, -7], r"index -7 is out of bounds for dimension 1 with size 4"),
    "two integers": (lambda L, x: x[0, 9], r"index 9 is out of bounds for dimension 1 with size 4"),
    "index tensor": (lambda L, x: x[L.tensor([0, 3])], r"index 3 is out of bounds for dimension 0 with size 3"),
    "second index tensor": (
        lambda L, x: x[:, L.tensor([0, -5])],
        r"index -5 is out of bounds for dimension 1 with size 4",
    ),
    "written": (
        lambda L, x: x.__setitem__((slice(None), L.tensor([4])), 1.0),
        r"index 4 is out of bounds for dimension 1 with size 4",
    ),
    "mask": (lambda L, x: x[L.tensor([True, False])], r"shape of the mask \[2\] at index 0 does not match.*\[3, 4\]"),
    "second mask": (
        lambda L, x: x[1:, L.tensor([True, False])],
        r"shape of the mask \[2\] at index 0 does not match.*\[3, 4\] at index 1",
    ),
    "too many": (lambda L, x: x[0, 0, 0], r"too many indices for tensor"),
    "too many tensors": (
        lambda L, x: x[L.tensor([0]), 0, L.tensor([0])],
        r"too many indices for tensor of dimension 2",
    ),
    "of a number": (lambda L, x: x[0, 0][0], r"0-dim tensor"),
    "floats": (lambda L, x: x[L.tensor([1.0])], r"must be long, int, byte or bool tensors"),
    "gather": (
        lambda L, x: x.gather(1, L.tensor([[4]])),
        r"gather: .*index 4 is out of bounds for dimension 1 with size 4",
    ),
    "index_add": (
        lambda L, x: x.index_add(0, L.tensor([-1]), L.ones(1, 4)),
        r"index_add: .*index -1 is out of bounds for dimension 0 with size 3",
    ),
    "index_select": (
        lambda L, x: x.index_select(1, L.tensor([7])),
        r"index_select: .*index 7 is out of bounds for dimension 1 with size 4",
    ),
    "scatter": (
        lambda L, x: x.scatter(0, L.tensor([[3]]), 1.0),
        r"scatter.*: .*index 3 is out of bounds for dimension 0 with size 3",
    ),
    "scatter shape": (
        lambda L, x: x.scatter(0, L.zeros(1, 5).long(), 1.0),
        r"index \[1, 5\] to be no larger than self \[3, 4\]",
    ),
    "take": (lambda L, x: x.take(L.tensor([12])), r"take: .*index 12 is out of bounds"),
    "dim": (
        lambda L, x: x.index_fill(2, L.tensor([0]), 1.0),
        r"Dimension out of range \(expected to be in range of \[-2, 1\], but got 2\)",
    ),
    "source": (lambda L, x: x.index_add(0, L.tensor([0]), L.ones(2, 4)), r"index_add: source tensor shape must match"),
    "masked_scatter": (
        lambda L, x: x.masked_scatter(x > 0, x[0]),
        r"Number of elements of source < number of ones in mask",
    ),
}


@pytest.mark.parametrize("place", ["cpu", "stand-in"])
@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_index_and_dimension(name: str, place: str) -> None:
    function, text = ERRORS[name]
    with fake_gpu():
        x = torch.from_numpy(X).to("cpu" if place == "cpu" else "cuda")

        class Place:
            """The library, with tensors on the device."""

            tensor = staticmethod(lambda data: torch.tensor(data, device=x.device))
            ones = staticmethod(lambda *size: torch.ones(*size, dtype=torch.float64, device=x.device))
            zeros = staticmethod(lambda *size: torch.zeros(*size, device=x.device))

        with pytest.raises((IndexError, RuntimeError, ValueError), match=text):
            function(Place, x)
    if place == "cpu":
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            function(pytorch, pytorch.from_numpy(X))


def test_distinct_elements_and_ranks_of_nan() -> None:

    def results(library: Any) -> Any:
        x = library.tensor([float("nan"), 1.0, float("nan"), float("inf"), 1.0])
        found = [
            *library.unique(x, return_inverse=True, return_counts=True),
            *library.unique_consecutive(x, return_inverse=True, return_counts=True),
        ]
        found += [library.searchsorted(library.tensor([1.0, 2.0]), x, right=r) for r in (False, True)] + [
            library.isin(x, x[:2])
        ]
        found += [library.bucketize(x, library.tensor([0.0, 1.0, float("inf")]))]
        return [str(f) for f in found]

    assert results(torch) == results(pytorch)
