"""Pretended GPUs for tests: the stand-in for CuPy, and a package that has not yet looked for GPUs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import fake_cupy
import nanotorch.backend
from nanotorch.backend import device

NAME = "nanotorch.backend.cupy_backend"


@contextmanager
def forgotten_backend() -> Iterator[None]:
    """Let the package look for CuPy anew, and restore afterwards what it had found."""
    module, usable = sys.modules.pop(NAME, None), dict(device._usable)
    device._usable.clear()
    nanotorch.backend.__dict__.pop("cupy_backend", None)  # where `from nanotorch.backend import` would find it
    try:
        yield
    finally:
        device._usable.clear()
        device._usable.update(usable)
        sys.modules.pop(NAME, None)
        nanotorch.backend.__dict__.pop("cupy_backend", None)
        if module is not None:
            sys.modules[NAME] = module
            nanotorch.backend.cupy_backend = module  # type: ignore[attr-defined]


@contextmanager
def fake_gpu(device_count: int = 1, driver_works: bool = True) -> Iterator[fake_cupy.Counts]:
    """Give the machine so many GPUs, pretended by the stand-in; yield its counts of transfers."""
    with fake_cupy.installed(device_count, driver_works) as counts, forgotten_backend():
        nanotorch.backend.__dict__.pop("cupy_backend", None)
        yield counts
