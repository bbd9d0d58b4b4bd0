"""From a list of samples to a batch, and from arrays to tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from copy import copy
from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.dtypes import float64
from nanotorch.ops.create.creation import as_tensor
from nanotorch.ops.create.creation import tensor as make_tensor
from nanotorch.ops.shape.join import stack
from nanotorch.utils.data.dataset import Stacked


def default_collate(batch: Sequence[Any]) -> Any:
    """Make one batch of a sequence of samples: tensors, arrays and numbers are stacked, field by field.

    >>> default_collate([(torch.tensor([1.0]), 3), (torch.tensor([2.0]), 4)])
    [tensor([[1.],
            [2.]]), tensor([3, 4])]
    """
    if isinstance(batch, Stacked):
        return batch.fields
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, np.ndarray):
        if first.dtype.kind in "SaUO":
            raise TypeError(
                f"default_collate stacks arrays of numbers, got dtype {first.dtype}; give the DataLoader a collate_fn"
            )
        return stack([as_tensor(sample) for sample in batch])
    if isinstance(first, np.number | np.bool_):
        return as_tensor(np.asarray(batch))
    if isinstance(first, float):
        return make_tensor(batch, dtype=float64)
    if isinstance(first, int):
        return make_tensor(batch)
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return _like_mapping(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError(
                f"samples of one batch have different numbers of fields: {[len(s) for s in batch]}; each element in"
                " list of batch should be of equal size"
            )
        return _like_sequence(first, [default_collate(field) for field in zip(*batch, strict=True)])
    raise TypeError(
        "default_collate stacks tensors, arrays, numbers, strings, and sequences or dicts of them, got "
        f"{type(first).__name__}; give the DataLoader a collate_fn"
    )


def default_convert(data: Any) -> Any:
    """Return a single sample as it leaves a loader without batches: its arrays as tensors, everything else as it is.

    >>> import numpy as np
    >>> default_convert({"x": np.arange(3), "name": "first"})
    {'x': tensor([0, 1, 2]), 'name': 'first'}
    """
    if isinstance(data, np.ndarray):
        return data if data.dtype.kind in "SaUO" else as_tensor(data)
    if isinstance(data, np.number | np.bool_):
        return as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _like_sequence(data, [default_convert(value) for value in data])
    return data


def _like_mapping(first: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """Return the values in a mapping of the type that the samples have."""
    if isinstance(first, MutableMapping):
        return _or_plain(lambda: _updated(copy(first), values), values)
    return _or_plain(lambda: type(first)(values), values)  # type: ignore[call-arg]


def _like_sequence(first: Sequence[Any], values: list[Any]) -> Any:
    """Return the values in a sequence of the type that the samples have;
    tuples become lists, unless they have names.
    """
    if isinstance(first, tuple):
        return type(first)(*values) if hasattr(first, "_fields") else values
    if isinstance(first, MutableSequence):
        return _or_plain(lambda: _filled(copy(first), values), values)
    return _or_plain(lambda: type(first)(values), values)  # type: ignore[call-arg]


def _or_plain(make: Callable[[], Any], plain: Any) -> Any:
    """Return what `make` makes, or a plain dict or list where a type can neither be copied nor made of one."""
    try:
        return make()
    except TypeError:
        return plain


def _updated(mapping: Any, values: dict[Any, Any]) -> Any:
    mapping.update(values)
    return mapping


def _filled(sequence: Any, values: list[Any]) -> Any:
    for position, value in enumerate(values):
        sequence[position] = value
    return sequence
