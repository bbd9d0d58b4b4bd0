"""What PyTorch offers as `torch.cuda`: questions about the GPUs, and waiting for them."""

from __future__ import annotations

from nanotorch.backend.device import Device, device_count
from nanotorch.ops.create.random import default_generator

__all__ = ["device_count", "is_available", "manual_seed", "manual_seed_all", "synchronize"]


def is_available() -> bool:
    """Return whether tensors can be put on a GPU: CuPy is installed and finds one.

    `nanotorch.backend.device.why_unavailable()` says why not.
    """
    return device_count() > 0


def manual_seed(seed: int) -> None:
    """Seed the default generator: the numbers of GPU tensors are drawn from it too, on the CPU."""
    default_generator.manual_seed(seed)


manual_seed_all = manual_seed


def synchronize(device: Device | str = "cuda") -> None:
    """Wait until a GPU has done all the work it was given; it computes asynchronously."""
    Device(device).xp.synchronize()
