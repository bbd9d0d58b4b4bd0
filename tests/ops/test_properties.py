"""Broadcasting, reductions, indexing and einsum over random shapes, against NumPy's values and PyTorch's gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nanotorch as torch
from oracle import pytorch

Array = np.ndarray[Any, Any]

quick = settings(
    max_examples=120, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
sides = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)
seeds = st.integers(0, 2**32 - 1)


def draw(shape: tuple[int, ...], seed: int, low: float = 0.5, high: float = 2.0) -> Array:
    return np.asarray(np.random.default_rng(seed).uniform(low, high, shape))


def both(function: Any, arrays: list[Array], expected: Array | None = None) -> None:
    """Compare a function of tensors with NumPy's value (where given) and with PyTorch's value and gradients."""
    found = []
    for library in (torch, pytorch):
        leaves = [library.tensor(array, dtype=library.float64).requires_grad_() for array in arrays]
        result = function(library, *leaves)
        weights = library.from_numpy(np.asarray(np.random.default_rng(1).uniform(-1, 1, tuple(result.shape))))
        grads = library.autograd.grad((result * weights).sum(), leaves, allow_unused=True)
        found.append([result.detach().numpy(), *(None if g is None else g.numpy() for g in grads)])
    if expected is not None:
        np.testing.assert_allclose(found[0][0], expected, rtol=1e-12, atol=1e-13)
    for actual, wanted in zip(*found, strict=True):
        assert (actual is None) == (wanted is None)
        if actual is not None:
            assert actual.shape == wanted.shape
            np.testing.assert_allclose(actual, wanted, rtol=1e-10, atol=1e-12)


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "atan2": np.arctan2,
    "remainder": np.remainder,
}


@pytest.mark.parity
@pytest.mark.parametrize("name", BINARY)
@settings(quick, max_examples=40)
@given(pair=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3), seed=seeds)
def test_broadcasting(name: str, pair: Any, seed: int) -> None:
    a, b = draw(pair.input_shapes[0], seed), draw(pair.input_shapes[1], seed + 1)
    both(lambda library, x, y: getattr(library, name)(x, y), [a, b], BINARY[name](a, b))


@pytest.mark.parity
@quick
@given(triple=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=1, max_side=3), seed=seeds)
def test_broadcasting_of_three(triple: Any, seed: int) -> None:
    a, b, c = (draw(shape, seed + k) for k, shape in enumerate(triple.input_shapes))
    mask = np.asarray(np.random.default_rng(seed).random(c.shape) < 0.5)
    both(lambda library, x, y: library.where(library.from_numpy(mask), x, y), [a, b], np.where(mask, a, b))
    both(lambda library, x, y, z: (x * y + z) / (x + y * z), [a, b, c], (a * b + c) / (a + b * c))


@quick
@given(first=shapes, second=shapes, seed=seeds)
def test_shapes_that_do_not_broadcast_are_refused_as_by_numpy(first: Any, second: Any, seed: int) -> None:
    x, y = torch.from_numpy(draw(first, seed)), torch.from_numpy(draw(second, seed))
    try:
        expected = np.broadcast_shapes(first, second)
    except ValueError:
        with pytest.raises(torch.ShapeError, match="add"):
            x + y
    else:
        assert (x + y).shape == expected


REDUCTIONS = {
    "sum": np.sum,
    "mean": np.mean,
    "amax": np.max,
    "amin": np.min,
    "prod": np.prod,
    "var": None,
    "std": None,
    "logsumexp": None,
    "norm": None,
}


@pytest.mark.parity
@pytest.mark.parametrize("name", REDUCTIONS)
@settings(quick, max_examples=40)
@given(data=st.data(), shape=sides, keepdim=st.booleans(), seed=seeds)
def test_reductions(name: str, data: Any, shape: Any, keepdim: bool, seed: int) -> None:
    dims: Any = data.draw(
        st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, unique_by=lambda d: d % len(shape))
    )
    array = draw(shape, seed)
    if name in ("prod", "norm"):  # PyTorch's take one dimension here
        dims = dims[0]
    if name in ("var", "std") and np.prod([shape[d] for d in dims]) < 2:
        return
    axes = dims if isinstance(dims, int) else tuple(dims)
    numpy = REDUCTIONS[name]
    expected = None if numpy is None else numpy(array, axis=axes, keepdims=keepdim)
    both(lambda library, x: getattr(library, name)(x, dim=dims, keepdim=keepdim), [array], expected)


@pytest.mark.parity
@quick
@given(data=st.data(), shape=sides, seed=seeds)
def test_running_sums_and_orders(data: Any, shape: Any, seed: int) -> None:
    dim, array = data.draw(st.integers(-len(shape), len(shape) - 1)), draw(shape, seed)
    both(lambda library, x: x.cumsum(dim), [array], np.cumsum(array, dim))
    both(lambda library, x: x.cumprod(dim), [array], np.cumprod(array, dim))
    both(lambda library, x: x.sort(dim)[0], [array], np.sort(array, dim))
    both(lambda library, x: x.max(dim)[0], [array], array.max(dim))


def basic(shape: tuple[int, ...]) -> Any:
    """Integers, slices with positive steps, None and Ellipsis."""
    parts = [
        st.one_of(
            st.integers(-n, n - 1),
            st.builds(slice, *[st.none() | st.integers(-n - 1, n + 1)] * 2, st.none() | st.integers(1, 3)),
        )
        for n in shape
    ]
    return st.tuples(st.integers(0, len(parts)), st.tuples(*parts), st.booleans(), st.integers(0, len(parts))).map(
        lambda t: _spread(t[1][: t[0]], t[2], t[3])
    )


def _spread(index: tuple[Any, ...], new: bool, place: int) -> tuple[Any, ...]:
    place = min(place, len(index))
    return (*index[:place], *((None,) if new else ()), *index[place:])


def advanced(shape: tuple[int, ...]) -> Any:
    """Integer arrays for some dimensions, full slices for others, or a mask."""
    sizes = st.integers(1, 4)
    lists = sizes.flatmap(
        lambda k: st.tuples(
            *[st.one_of(st.just(slice(None)), st.lists(st.integers(-n, n - 1), min_size=k, max_size=k)) for n in shape]
        )
    )
    masks = hnp.arrays(bool, st.integers(1, len(shape)).map(lambda d: shape[:d]))
    return st.one_of(lists, masks)


def converted(library: Any, index: Any) -> Any:
    if isinstance(index, np.ndarray):
        return library.from_numpy(index)
    return tuple(library.tensor(part) if isinstance(part, list) else part for part in index)


@pytest.mark.parity
@settings(quick, max_examples=200)
@given(data=st.data(), shape=sides, seed=seeds)
def test_reading_by_index(data: Any, shape: Any, seed: int) -> None:
    index = data.draw(st.one_of(basic(shape), advanced(shape)))
    array = draw(shape, seed)
    both(lambda library, x: (x * 1)[converted(library, index)], [array], array[index])


@pytest.mark.parity
@settings(quick, max_examples=200)
@given(data=st.data(), shape=sides, seed=seeds)
def test_writing_by_index(data: Any, shape: Any, seed: int) -> None:
    """Repeated indices leave the last value in NumPy, any in PyTorch: such indices are left out."""
    index = data.draw(st.one_of(basic(shape), advanced(shape)))
    count = np.arange(int(np.prod(shape))).reshape(shape)[index]
    if np.unique(count).size != count.size:
        return
    array = draw(shape, seed)
    value_shape = data.draw(st.sampled_from([(), count.shape, count.shape[-1:]]))
    value = draw(value_shape, seed + 1)
    expected = array * 2
    expected[index] = value

    def write(library: Any, x: Any, v: Any) -> Any:
        y = x * 2
        y[converted(library, index)] = v
        return y

    both(write, [array, value], expected)


EINSUM = [
    ("ij,jk->ik", "ij jk"),
    ("ij,ij->", "ij ij"),
    ("ij->ji", "ij"),
    ("ii->i", "ii"),
    ("ii", "ii"),
    ("bij,bjk->bik", "bij bjk"),
    ("i,j->ij", "i j"),
    ("ijk->j", "ijk"),
    ("ij,kj->", "ij kj"),
    ("ij,jk,kl->il", "ij jk kl"),
    ("bi,ij,bj->b", "bi ij bj"),
    ("ij,j", "ij j"),
    ("...ij,jk->...ik", "bcij jk"),
]


@pytest.mark.parity
@pytest.mark.parametrize("equation, operands", EINSUM, ids=[e for e, _ in EINSUM])
@settings(quick, max_examples=15)
@given(lengths=st.fixed_dictionaries({letter: st.integers(1, 4) for letter in "bcijkl"}), seed=seeds)
def test_einsum(equation: str, operands: str, lengths: Any, seed: int) -> None:
    arrays = [draw(tuple(lengths[c] for c in names), seed + k) for k, names in enumerate(operands.split())]
    both(lambda library, *x: library.einsum(equation, *x), arrays, np.asarray(np.einsum(equation, *arrays)))
