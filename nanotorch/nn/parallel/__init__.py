"""Modules that several processes train together."""

from nanotorch.nn.parallel.distributed import DistributedDataParallel

__all__ = ["DistributedDataParallel"]
