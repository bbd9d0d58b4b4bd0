"""Tensors and plain values in files, in the safetensors format:
names, shapes, dtypes and bytes, nothing that could run.

Note [Files]
~~~~~~~~~~~~
A mapping from names to tensors, such as a `state_dict()`, is a safetensors file as other frameworks write and read it.
Any other value is one too: its tensors and arrays go by their place in it (`model.weight`), and the header's metadata
say in JSON how it is made of them. There None, truth values, finite numbers and texts are JSON's own, and what JSON
lacks is an object with one entry:

    {"tensor": name}  {"array": name}  {"bytes": name}      what lies in the file under the name
    {"list": [...]}  {"tuple": [...]}  {"set": [...]}  {"frozenset": [...]}  {"size": [...]}
    {"dict": [[key, value], ...]}
    {"float": "nan"}  {"complex": [real, imaginary]}  {"scalar": ["float32", number]}
    {"dtype": "float32"}  {"device": "cuda:0"}

Each comes back as what it was: an array as a NumPy array, a NumPy scalar as a NumPy scalar. What is read is checked
against exactly this; a tensor or array that is in the value twice is one in the file and again afterwards.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Size, Tensor, from_array
from nanotorch.backend.device import Device
from nanotorch.utils import files

STRUCTURE = "nanotorch"
DEEPEST = 100
MOST_VALUES = 2_000_000
LARGEST_HEADER = 100_000_000  # what the format allows
CHUNK = 1 << 24
MOST_NAMED = 20

ARRAYS = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "complex64",
)  # fmt: skip
"""The dtypes of arrays that a file holds, and"""
SCALARS = (*ARRAYS, "complex128")
"""those of single numbers."""
SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "size": Size, "set": set, "frozenset": frozenset}


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write tensors and plain values to one safetensors file; named tensors are read by other frameworks too.

    The file is written beside and renamed: a full disk leaves the one that was there. Values are copied from their
    device; views, transposed and strided tensors are written in row order, without history. See Note [Files].

    Args:
        obj: a tensor, NumPy array or scalar, number, text, bytes, truth value, None, dtype or device, or lists, tuples,
            sets and dicts of these in any nesting.
        f: a path, or an object with `write`.

    Raises:
        TypeError: something else is inside; the message says where, of all such places, and the file is as it was.
        OSError: the file cannot be written.

    >>> import io
    >>> file = io.BytesIO()
    >>> torch.save({"step": 3, "weights": [torch.ones(2), None]}, file)
    >>> position = file.seek(0)
    >>> torch.load(file)
    {'step': 3, 'weights': [tensor([1., 1.]), None]}
    """
    if not _is_path(f) and not hasattr(f, "write"):
        raise TypeError(
            f"save: expected a path or an object with write() as its second argument, got {type(f).__name__}"
        )
    named = isinstance(obj, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in obj.items())
    data = to_bytes(obj) if named else _structured(obj)
    if _is_path(f):
        files.write(f, data)  # type: ignore[arg-type]  # a path
    else:
        f.write(data)  # type: ignore[union-attr]  # no path


def load(f: str | os.PathLike[str] | IO[bytes], map_location: Any = None, *, weights_only: bool = True) -> Any:
    """Return the value that `save` wrote, or the named tensors of any safetensors file.

    Nothing is ever unpickled: a file cannot run code.

    Args:
        f: a path, or an object with `read`, from which exactly one saved value is read.
        map_location: the device of the tensors, the CPU by default.
        weights_only: accepted, since there is nothing but values in a file.

    Raises:
        ValueError: one sentence that says why the file cannot be read.
    """
    if _is_path(f):
        source = os.fspath(f)  # type: ignore[arg-type]  # a path
        with open(source, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{source} is no plain file, so it is not read")
            data = _read(file, str(source), status.st_size)
            if status.st_size > len(data):
                raise ValueError(
                    f"{source} is not a safetensors file, or a damaged one: {status.st_size - len(data):,} bytes follow"
                    " its end"
                )
    elif hasattr(f, "read"):
        source = str(getattr(f, "name", "the file object"))
        data = _read(f, source)
    else:
        raise TypeError(f"load: expected a path or an object with read(), got {type(f).__name__}")
    value = _value(data, str(source))
    return value if map_location is None else _moved(value, map_location)


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of a safetensors file that holds the named tensors."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{name!r} is a {type(tensor).__name__}: only tensors can be saved to a safetensors file by their names"
            )
        if name == "__metadata__" or not _is_text(name):
            raise ValueError(f"{name!r} cannot be the name of a tensor in a safetensors file")
    return _serialize(tensors, {"order": json.dumps(list(tensors))})


def from_bytes(data: bytes, source: str = "the data") -> dict[str, Tensor]:
    """Return the named tensors in the bytes of a safetensors file; `source` names the file in errors."""
    metadata, arrays = _arrays(data, source)
    if STRUCTURE in metadata:
        raise ValueError(f"{source} holds other values than named tensors, which are expected here")
    return _named(metadata, arrays, source)


def _serialize(tensors: Mapping[str, Tensor | np.ndarray], metadata: dict[str, str]) -> bytes:
    from safetensors.numpy import save as serialize

    data = serialize({name: _in_row_order(tensor) for name, tensor in tensors.items()}, metadata=metadata)
    if int.from_bytes(data[:8], "little") > LARGEST_HEADER:
        raise ValueError(
            f"save: the names and plain values take more than the {LARGEST_HEADER:,} bytes that a safetensors file has"
            " for them"
        )
    return data


def _in_row_order(held: Tensor | np.ndarray) -> np.ndarray:
    array = (
        held.detach().cpu().numpy()
        if isinstance(held, Tensor)
        else held.astype(held.dtype.newbyteorder("="), copy=False)
    )
    # safetensors writes the memory of an array as it lies, whatever its strides: it has to lie in row order.
    # ascontiguousarray turns 0-d arrays into 1-d ones, hence the reshape.
    return np.ascontiguousarray(array).reshape(array.shape)


# ------------------------------------------------------------------------------------------------- writing a value


class _Writer:
    """Turns a value into JSON, and gathers its tensors and arrays by name, and what a file cannot hold."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor | np.ndarray] = {}
        self.names: dict[int, str] = {}
        self.refused: list[str] = []
        self.count = 0

    def describe(self, value: Any, path: tuple[str, ...]) -> Any:
        """Return the JSON of a value (Note [Files])."""
        self.count += 1
        if len(path) > DEEPEST or self.count > MOST_VALUES:
            raise ValueError(
                f"save: {_place(path)} lies deeper than {DEEPEST} levels, or the value has more than {MOST_VALUES:,}"
                " parts; does it contain itself?"
            )
        if _is_plain(value):
            return self._plain(value, path)
        if isinstance(value, Tensor):
            return {"tensor": self._name(value, path)}
        if type(value) in (np.ndarray, np.memmap) and value.dtype.name in ARRAYS:
            return {"array": self._name(value, path)}
        if isinstance(value, bytes):
            return {"bytes": self._name(np.frombuffer(value, np.uint8), path)}
        if isinstance(value, set | frozenset):
            parts = [self._key(part, path, "an element") for part in value]
            return {"set" if isinstance(value, set) else "frozenset": sorted(parts, key=json.dumps)}
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            parts = [self.describe(part, (*path, str(k))) for k, part in enumerate(value)]
            return {"size" if isinstance(value, Size) else "tuple" if isinstance(value, tuple) else "list": parts}
        if type(value) in (dict, OrderedDict):
            return {
                "dict": [
                    [self._key(key, path, "a key"), self.describe(part, (*path, str(key)))]
                    for key, part in value.items()
                ]
            }
        kind = type(value).__name__
        if isinstance(value, np.ndarray):
            kind = f"{kind} of dtype {value.dtype}"
            hint = "make numbers of it, or lists with .tolist()"
        elif isinstance(value, Mapping):
            hint = "make a dict of it"
        elif hasattr(value, "state_dict"):
            hint = "save its state_dict()"
        elif hasattr(value, "_fields"):
            hint = "make a tuple of it"
        else:
            hint = "make it of tensors, arrays, numbers, texts, bytes, None, lists, tuples, sets and dicts"
        self.refused.append(f"{_place(path)} is a {kind}, which a file cannot hold; {hint}")
        return None

    def _plain(self, value: Any, path: tuple[str, ...]) -> Any:
        """Return the JSON of a value without parts."""
        if isinstance(value, np.generic) and not isinstance(value, np.str_):
            return {"scalar": [value.dtype.name, self._plain(value.item(), path)]}
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int):
            if value.bit_length() > 4096:
                raise ValueError(f"save: {_place(path)} is an int of more than 4096 bits")
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, complex):
            return {"complex": [self._plain(value.real, path), self._plain(value.imag, path)]}
        return {"dtype": value.name} if isinstance(value, dtypes.DType) else {"device": str(value)}

    def _key(self, key: Any, path: tuple[str, ...], what: str) -> Any:
        """Return the JSON of a dict's key, or a set's element: what can be one and is not a tensor."""
        if not (_is_plain(key) or (type(key) is tuple and all(map(_is_plain, key)))):
            self.refused.append(
                f"{_place(path)} has {what} of type {type(key).__name__}, which a file cannot hold; keys and elements"
                " of sets are texts, numbers, None or tuples of these"
            )
            return None
        return self.describe(key, path)

    def _name(self, held: Tensor | np.ndarray, path: tuple[str, ...]) -> str:
        """Return the name of a tensor in the file: its place in the value, with a number where that is taken."""
        name = self.names.get(id(held))
        if name is None:
            place = ".".join(path) or "value"
            name = place = place if _is_text(place) and place != "__metadata__" else "value"
            while name in self.tensors:
                name = f"{place}-{len(self.tensors)}"
            self.names[id(held)], self.tensors[name] = name, held
        return name


def _is_plain(value: Any) -> bool:
    """Whether a value has no parts and goes into JSON."""
    if isinstance(value, np.generic) and not isinstance(value, np.str_):
        return value.dtype.name in SCALARS
    return value is None or isinstance(value, str | int | float | complex | dtypes.DType | Device)


def _structured(value: Any) -> bytes:
    """Return the bytes of a safetensors file that holds any value `save` takes."""
    writer = _Writer()
    described = writer.describe(value, ())
    if len(writer.refused) == 1:
        raise TypeError(f"save: {writer.refused[0]}")
    if writer.refused:
        shown = "".join(f"\n  {line}" for line in writer.refused[:MOST_NAMED])
        rest = len(writer.refused) - MOST_NAMED
        raise TypeError(
            f"save: {len(writer.refused)} parts of the value cannot be in a file:{shown}"
            + (f"\n  and {rest} more" if rest > 0 else "")
        )
    return _serialize(writer.tensors, {STRUCTURE: json.dumps(described, allow_nan=False)})


def _place(path: tuple[str, ...]) -> str:
    return "value" + "".join(f"[{part[:40]!r}]" for part in path[:8]) + "[...]" * (len(path) > 8)


def _is_text(name: str) -> bool:
    try:
        return len(name.encode()) < 10_000
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


# ------------------------------------------------------------------------------------------------- reading a value


def _is_path(f: Any) -> bool:
    return isinstance(f, str | os.PathLike)


def _read(file: Any, source: str, size: int | None = None) -> bytes:
    """Return the bytes of one safetensors file: no more than its header announces,
    and for a file no more than there are.
    """
    start = file.read(8)
    if not isinstance(start, bytes):
        raise TypeError(
            f"load: {source} gives {type(start).__name__}; open files in binary mode, as in open(path, 'rb')"
        )
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > LARGEST_HEADER or (size is not None and length > size - 8):
        raise ValueError(
            _not_safetensors(start, source, "it is cut off" if len(start) < 8 else "its header has no plausible length")
        )
    header = _bytes_of(file, length)
    try:
        entries = json.loads(header)
        end = max([0, *(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        end = -1
    if not isinstance(end, int) or end < 0:
        raise ValueError(
            f"{source} is not a safetensors file, or a damaged one: its header is not the JSON that it should be"
        )
    if size is not None and end > size - 8 - length:
        raise ValueError(
            f"{source} is not a safetensors file, or a damaged one: it is cut off, {end - (size - 8 - length):,} bytes"
            " are missing"
        )
    return start + header + _bytes_of(file, end)


def _bytes_of(file: Any, count: int) -> bytes:
    """Return the next bytes of a file, taken in parts so that a wrong count does not ask for memory."""
    parts, left = [], count
    while left > 0:
        part = file.read(min(left, CHUNK))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _arrays(data: bytes, source: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return the metadata and the arrays in the bytes of a safetensors file, checked by the format's own reader."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    try:
        arrays = deserialize(data)
    except SafetensorError as error:
        raise ValueError(_not_safetensors(data, source, error)) from None
    except KeyError as error:
        raise ValueError(f"{source} holds a tensor of dtype {error}, which NumPy does not have") from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header.get("__metadata__", {}), arrays


def _tensor(name: str, array: np.ndarray, source: str) -> Tensor:
    """Return the tensor that lies in a file under a name."""
    if array.dtype not in dtypes.DTYPES:
        raise _Damaged(
            f"{source} holds the tensor {name!r} of dtype {array.dtype}, which tensors do not have; write it in another"
            " one"
        )
    return from_array(array.copy())


def _named(metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray], source: str) -> dict[str, Tensor]:
    """Return the named tensors of a file."""
    return {name: _tensor(name, arrays[name], source) for name in _order(metadata, arrays, source)}


def _order(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray], source: str) -> list[str]:
    """Return the names as they were given to `to_bytes`: the format sorts them, and its reader shuffles them."""
    if "order" not in metadata:
        return sorted(tensors)
    try:
        order = json.loads(metadata["order"])
    except (ValueError, RecursionError):
        order = None
    if (
        not isinstance(order, list)
        or not all(isinstance(name, str) for name in order)
        or sorted(order) != sorted(tensors)
    ):
        raise ValueError(f"{source} is damaged: 'order' in its metadata is not the list of its tensors")
    return order


def _value(data: bytes, source: str) -> Any:
    """Return the value in the bytes of a file that `save` wrote, or the named tensors in any other safetensors file."""
    metadata, arrays = _arrays(data, source)
    if STRUCTURE not in metadata:
        return _named(metadata, arrays, source)

    def refused(constant: str) -> Any:
        raise ValueError(constant)

    reader = _Reader(arrays, source)
    try:
        value = reader.value(json.loads(metadata[STRUCTURE], parse_constant=refused), 0)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _Damaged) else "it is not valid JSON"
        raise ValueError(
            f"{source} is damaged: {STRUCTURE!r} in its metadata does not describe a value: {reason}"
        ) from None
    if unused := arrays.keys() - {name for _, name in reader.held}:
        raise ValueError(
            f"{source} is damaged: {STRUCTURE!r} in its metadata does not mention the tensor {min(unused)!r}"
        )
    return value


class _Damaged(ValueError):
    """What is wrong in the description of a value."""


class _Reader:
    """Makes a value from its JSON and the arrays of the file (Note [Files])."""

    def __init__(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        self.arrays, self.source = arrays, source
        self.held: dict[tuple[str, str], Any] = {}

    def value(self, node: Any, depth: int) -> Any:
        """Return the value that the JSON describes."""
        if node is None or isinstance(node, str | bool | int | float):
            if isinstance(node, float) and not math.isfinite(node):
                raise _Damaged("a number is too large")
            return node
        if depth > DEEPEST:
            raise _Damaged(f"it is nested deeper than {DEEPEST} levels")
        if not isinstance(node, dict) or len(node) != 1:
            raise _Damaged("expected a plain value, or an object with one entry, such as 'list', 'dict' or 'tensor'")
        ((kind, content),) = node.items()
        made = self._made(kind, content, depth)
        if made is NotImplemented:
            raise _Damaged(f"{str(kind)[:40]!r} with {str(content)[:40]!r} is not one of its parts")
        return made

    def _made(self, kind: str, content: Any, depth: int) -> Any:
        if kind in ("tensor", "array", "bytes") and isinstance(content, str) and content in self.arrays:
            return self._held(kind, content)
        if kind == "float" and content in ("nan", "inf", "-inf"):
            return float(content)
        if kind == "dtype":
            return next((dtype for dtype in dtypes.DTYPES.values() if dtype.name == content), NotImplemented)
        if kind == "device" and isinstance(content, str) and re.fullmatch(r"cpu|cuda:\d{1,4}", content, re.ASCII):
            return Device(content)
        if not isinstance(content, list):
            return NotImplemented
        if kind in SEQUENCES:
            part = self._key if "set" in kind else self.value
            return self._hashed(SEQUENCES[kind], [part(each, depth + 1) for each in content])
        if kind == "complex" and len(content) == 2:
            real, imaginary = [self.value(part, depth + 1) for part in content]
            return complex(real, imaginary) if type(real) is type(imaginary) is float else NotImplemented
        if kind == "scalar" and len(content) == 2 and content[0] in SCALARS:
            return self._scalar(content[0], self.value(content[1], depth + 1))
        if kind == "dict" and all(isinstance(pair, list) and len(pair) == 2 for pair in content):
            return self._dict(content, depth)
        return NotImplemented

    def _held(self, kind: str, name: str) -> Any:
        array = self.arrays[name]
        if kind == "bytes":
            if array.dtype != np.uint8:
                return NotImplemented
            self.held[kind, name] = True
            return array.tobytes()
        if (kind, name) not in self.held:
            self.held[kind, name] = _tensor(name, array, self.source) if kind == "tensor" else array.copy()
        return self.held[kind, name]

    def _scalar(self, dtype: str, number: Any) -> Any:
        kind = {"b": bool, "i": int, "u": int, "f": float, "c": complex}[np.dtype(dtype).kind]
        if type(number) is not kind:
            return NotImplemented
        try:
            with np.errstate(over="raise"):
                return np.dtype(dtype).type(number)
        except (OverflowError, FloatingPointError):
            raise _Damaged(f"{str(number)[:40]} is no {dtype}") from None

    def _key(self, node: Any, depth: int) -> Any:
        """Return what a key of a dict, or an element of a set, is: something without arrays."""
        return _Reader({}, self.source).value(node, depth)

    def _hashed(self, kind: Callable[[Any], Any], parts: Any) -> Any:
        try:
            made = kind(parts)
        except TypeError:
            raise _Damaged(
                "a key of a dict, or an element of a set, is neither a plain value nor a tuple of these"
            ) from None
        if len(made) != len(parts):
            raise _Damaged("a key of a dict, or an element of a set, is there twice")
        return made

    def _dict(self, pairs: list[Any], depth: int) -> Any:
        return self._hashed(dict, [(self._key(key, depth + 1), self.value(part, depth + 1)) for key, part in pairs])


def _moved(value: Any, device: Any, made: dict[int, Tensor] | None = None) -> Any:
    """Return a value with its tensors on a device; one that is there twice stays one."""
    made = {} if made is None else made
    if isinstance(value, Tensor):
        return made.setdefault(id(value), value.to(device))
    if isinstance(value, dict):
        return {key: _moved(part, device, made) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_moved(part, device, made) for part in value])
    return value


def _not_safetensors(data: bytes, source: str, error: Any) -> str:
    """Return why `data` cannot be read; a pickle, which PyTorch and joblib write, is recognised but never loaded."""
    pickled = data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    kind = "a zip archive, as torch.save writes it" if data[:4] == b"PK\x03\x04" else "a pickle" if pickled else ""
    if not kind:
        return f"{source} is not a safetensors file, or a damaged one: {error}"
    return (
        f"{source} is not a safetensors file but {kind}: loading it could run any code, so it is refused. Where the"
        " file is trusted, load it with what wrote it and save the tensors with safetensors.torch.save_file or"
        " nanotorch.save"
    )
