"""What PyTorch offers as ``torch.cuda``: questions about the GPUs, and waiting for them."""

from __future__ import annotations

from nanotorch.backend.device import Device, device_count

__all__ = ["device_count", "is_available", "synchronize"]


def is_available() -> bool:
    """Return whether tensors can be put on a GPU: CuPy is installed and finds one.

    ``nanotorch.backend.device.why_unavailable()`` says why not.
    """
    return device_count() > 0


def synchronize(device: Device | str = "cuda") -> None:
    """Wait until a GPU has done all the work it was given; it computes asynchronously."""
    Device(device).xp.synchronize()
