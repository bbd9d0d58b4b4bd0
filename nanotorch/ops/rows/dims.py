"""Dimensions as arguments: what may be given, counted from the front or from the end.

Everything that takes a dimension comes here. Rows do so by the compiler, which knows their parameters (Note [Op rows]);
composites that use a dimension before a row sees it call these functions themselves.
"""

from __future__ import annotations

from typing import Any


def whole(name: str, argument: str, value: Any) -> int:
    """Return an integer argument as an int; booleans, floats and everything else raise a TypeError."""
    if type(value) is int:
        return value
    if (
        isinstance(value, bool)
        or not hasattr(value, "__index__")
        or getattr(getattr(value, "dtype", None), "kind", "") == "b"
    ):
        raise TypeError(f"{name}(): argument '{argument}' must be int, not {type(value).__name__}")
    return int(value.__index__())


def sizes_of(name: str, given: tuple[Any, ...], argument: str = "size") -> tuple[int, ...]:
    """Return the ints of a size or of a list of dims that was given as `f(x, 2, 3)` or as `f(x, (2, 3))`."""
    if len(given) == 1 and hasattr(given[0], "__iter__") and getattr(given[0], "ndim", True):
        given = tuple(given[0])
    return tuple([length if type(length) is int else whole(name, argument, length) for length in given])


def need_tuple(name: str, argument: str, value: Any) -> None:
    """Refuse a number, or anything else, where only a tuple or a list will do."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name}(): argument '{argument}' must be tuple of ints, not {type(value).__name__}")


def wrap_dim(name: str, dim: Any, ndim: int, argument: str = "dim") -> int:
    """Return a dimension counted from the front; a tensor without dimensions counts as one with one, as in PyTorch."""
    count = ndim or 1
    if type(dim) is not int:
        dim = whole(name, argument, dim)
    if not -count <= dim < count:
        raise IndexError(
            f"{name}: Dimension out of range (expected to be in range of [{-count}, {count - 1}], but got {dim})"
        )
    return dim if dim >= 0 else dim + count


def wrap_dims(name: str, dims: Any, ndim: int, argument: str = "dim") -> tuple[int, ...]:
    """Return one dimension or several, counted from the front; none may be given twice."""
    if not isinstance(dims, tuple | list):
        return (wrap_dim(name, dims, ndim, argument),)
    wrapped = tuple([wrap_dim(name, dim, ndim, argument) for dim in dims])
    if len(set(wrapped)) < len(wrapped):
        twice = next(dim for dim in wrapped if wrapped.count(dim) > 1)
        raise RuntimeError(f"{name}: dim {twice} appears multiple times in the list of dims {list(dims)}")
    return wrapped


def check_dim(name: str, argument: str, dim: Any, shape: tuple[int, ...], ndim: int) -> int:
    """Return a dimension of a row's argument as it was given, or raise with the input's shape."""
    try:
        wrap_dim(name, dim, ndim, argument)
    except IndexError as error:
        raise IndexError(f"{error}; input shape {tuple(shape)}") from None
    return int(dim.__index__())


def check_dims(name: str, argument: str, dims: Any, shape: tuple[int, ...], ndim: int) -> Any:
    """Return one dimension, or a tuple of several, as they were given, or raise with the input's shape."""
    if not isinstance(dims, tuple | list):
        return check_dim(name, argument, dims, shape, ndim)
    try:
        wrap_dims(name, dims, ndim, argument)
    except (IndexError, RuntimeError) as error:
        raise type(error)(f"{error}; input shape {tuple(shape)}") from None
    return tuple([int(dim.__index__()) for dim in dims])
