"""Tensors in files, in the safetensors format: names, shapes, dtypes and bytes, nothing that could run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nanotorch.autograd.tensor import Tensor, from_array

__all__ = ["from_bytes", "load", "save", "to_bytes"]


def save(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write named tensors, such as a `state_dict()`, to one safetensors file; other frameworks read it too.

    Values are copied from their device; views, transposed and strided tensors are written in row order.

    >>> import tempfile
    >>> linear = torch.nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save(linear.state_dict(), f"{directory}/linear.safetensors")
    ...     loaded = load(f"{directory}/linear.safetensors")
    >>> loaded["weight"].shape, torch.equal(loaded["weight"], linear.weight)
    (torch.Size([2, 3]), True)
    """
    Path(path).write_bytes(to_bytes(tensors))


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, on the CPU; a ValueError says why a file is unreadable.

    Nothing is ever unpickled: a file cannot run code.
    """
    return from_bytes(Path(path).read_bytes(), source=str(path))


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file that holds the named tensors."""
    from safetensors.numpy import save as serialize

    arrays = {name: _in_row_order(name, tensor) for name, tensor in tensors.items()}
    return serialize(arrays, metadata={"order": json.dumps(list(arrays))})


def from_bytes(data: bytes, source: str = "the data") -> dict[str, Tensor]:
    """The named tensors in the bytes of a safetensors file; `source` names the file in errors."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    try:
        arrays = deserialize(data)
    except SafetensorError as error:
        raise ValueError(_not_safetensors(data, source, error)) from None
    except KeyError as error:
        raise ValueError(f"{source} holds a tensor of dtype {error}, which NumPy does not have") from None
    return {name: from_array(arrays[name].copy()) for name in _order(data, arrays)}


def _order(data: bytes, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """The names as they were given to `to_bytes`: the format sorts them, and its reader shuffles them."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        order = json.loads(header["__metadata__"]["order"])
    except (KeyError, ValueError):
        order = []
    return order if sorted(order) == sorted(arrays) else sorted(arrays)


def _not_safetensors(data: bytes, source: str, error: Exception) -> str:
    """Why `data` cannot be read; a pickle, which PyTorch and joblib write, is recognised but never loaded."""
    pickled = data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    kind = "a zip archive, as torch.save writes it" if data[:4] == b"PK\x03\x04" else "a pickle" if pickled else ""
    if not kind:
        return f"{source} is not a safetensors file, or a damaged one: {error}"
    return (
        f"{source} is not a safetensors file but {kind}: loading it could run any code, so it is refused. Where the "
        "file is trusted, load it with what wrote it and save the tensors with safetensors.torch.save_file or nanotorch.save"
    )


def _in_row_order(name: str, tensor: Tensor) -> np.ndarray:
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name!r} is a {type(tensor).__name__}: only tensors can be saved to a safetensors file"
        )
    array = tensor.detach().cpu().numpy()
    # safetensors writes the memory of an array as it lies, whatever its strides: it has to lie in row order.
    # ascontiguousarray turns 0-d arrays into 1-d ones, hence the reshape.
    return np.ascontiguousarray(array).reshape(array.shape)
