"""Devices: where a tensor's elements live and which array module computes with them."""

from __future__ import annotations

import functools
import importlib.util
import re
from typing import Any

from nanotorch.backend import numpy_backend

_devices: dict[tuple[str, int | None], Device] = {}


class Device:
    """A place for tensors: `Device("cpu")`, `Device("cuda")` or `Device("cuda", 1)`.

    Devices are interned: equal devices are the same object, so comparing them is a pointer comparison. Naming
    a GPU is always possible; computing on it raises RuntimeError with the reason where it cannot be used.

    Attributes:
        type: `"cpu"` or `"cuda"`.
        index: None on the CPU, the number of the GPU otherwise.
        xp: the array primitives on this device (Note [Array primitives] in `backend/primitives.py`).

    >>> torch.device("cuda:1")
    device(type='cuda', index=1)
    """

    __slots__ = ("index", "type", "xp")
    type: str
    index: int | None
    xp: Any

    def __new__(cls, type: str | Device, index: int | None = None) -> Device:
        """Return the one device of this type and index."""
        if isinstance(type, Device):
            return type
        name, _, number = type.partition(":")
        if name not in ("cpu", "cuda") or (number and not number.isdecimal()):
            raise RuntimeError(f"unknown device {type!r}: use 'cpu', 'cuda' or 'cuda:N'")
        if number:
            index = int(number)
        if name == "cpu":
            index = None
        elif index is None:
            index = 0
        found = _devices.get((name, index))
        if found is None:
            found = object.__new__(cls)
            found.type, found.index = name, index
            if name == "cpu":
                found.xp = numpy_backend.xp
            _devices[name, index] = found
        return found

    def __getattr__(self, name: str) -> Any:
        """Give a GPU's `xp`: asking for it makes the GPU the current one, for CuPy computes on that one.

        The CPU's `xp` is a plain attribute and never comes here.
        """
        if name != "xp":
            raise AttributeError(f"'Device' object has no attribute {name!r}")
        backend = _cupy_backend(self.index)
        backend.make_current(self.index)
        return backend.xp

    def __repr__(self) -> str:
        return (
            f"device(type='{self.type}')" if self.index is None else f"device(type='{self.type}', index={self.index})"
        )

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Device, (str(self),)


_usable: dict[int | None, Any] = {}


def _cupy_backend(index: int | None) -> Any:
    """Import the GPU backend when it is first needed, or raise the reason why this GPU cannot be used."""
    backend = _usable.get(index)
    if backend is None:
        reason = why_unavailable(index or 0)
        if reason is not None:
            raise RuntimeError(f"device 'cuda:{index}' cannot be used: {reason}")
        from nanotorch.backend import cupy_backend

        backend = _usable[index] = cupy_backend
    return backend


def why_unavailable(index: int = 0) -> str | None:
    """Say in one line why GPU number `index` cannot be used, and what to do; None if it can be used."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed; run pip install -e '.[cuda13]' (or '.[cuda12]' for older drivers)"
    installed = _cupy_packages()
    if len(installed) > 1:
        return (
            f"{len(installed)} CuPy packages are installed ({', '.join(installed)}) and break each other; "
            f"run pip uninstall {' '.join(installed)}, then install one of them"
        )
    try:
        from nanotorch.backend import cupy_backend

        count = cupy_backend.device_count()
    except (ImportError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        detail = lines[-1] if lines else type(error).__name__
        return f"CuPy is installed but finds no usable GPU ({detail}); see whether nvidia-smi lists one"
    if not 0 <= index < count:
        found = {0: "no GPU", 1: "1 GPU, cuda:0"}.get(count, f"{count} GPUs, cuda:0 to cuda:{count - 1}")
        return f"there is no GPU number {index}; found {found}"
    return None


@functools.cache
def _cupy_packages() -> list[str]:
    """Return the names of all installed distributions that provide `cupy`; there must be at most one."""
    from importlib import metadata  # slow to import, and seldom needed

    names = {str(distribution.name).lower() for distribution in metadata.distributions()}
    return sorted(name for name in names if re.fullmatch(r"(amd-)?cupy(-cuda\w+|-rocm[-\w]+)?", name))


def device_count() -> int:
    """Return the number of GPUs that can be used, 0 where CuPy or a driver is missing."""
    if why_unavailable() is not None:
        return 0
    return int(_cupy_backend(0).device_count())


def best_device() -> Device:
    """Return the first GPU if it can be used, the CPU otherwise: what `device: auto` means."""
    return CPU if why_unavailable() is not None else Device("cuda")


CPU = Device("cpu")
