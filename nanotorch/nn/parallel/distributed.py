"""A module whose gradients are the mean over the processes that train it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nanotorch import distributed
from nanotorch.autograd.graph.grad_mode import is_grad_enabled, no_grad
from nanotorch.autograd.graph.hooks import queue_callback
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn.module import Module
from nanotorch.nn.utils.flat import FlatParameters, flatten_parameters
from nanotorch.ops.create.creation import from_numpy


class DistributedDataParallel(Module):
    """`module`, trained by all processes of the group: each computes with its own rows, and when a backward pass ends,
    every `.grad` is the mean over the processes.

    All begin with the parameters and buffers of rank 0, and take the same steps from then on. The loss of a rank is to
    be the mean over its rows, and all ranks are to have as many rows: then the mean of their gradients is that of all
    rows. A parameter that no rank has used keeps a `.grad` of None; one that some have used counts as zero for the
    others.

    Args:
        module: what is trained; its parameters move side by side (`flatten_parameters`), so that one sum over the
            processes does for all.
        broadcast_buffers: buffers, such as the statistics of batch norm, are those of rank 0 before every forward pass
            in training mode.
        ordered: add up in the order of the ranks: the same bits wherever as many ranks run (Note [Ranks]).

    Raises:
        RuntimeError: where there is no process group, nothing to train, or a module of another form on some rank.

    Note [Gradients of ranks]
    ~~~~~~~~~~~~~~~~~~~~~~~~~
    There are no buckets, as PyTorch has, which send the first gradients while the last ones are computed: on shared
    cores that gained nothing (8 MB by two ranks: 31.1 ms one after the other, 32.7 overlapped), and the model is small.
    One sum at the end of the pass takes all gradients, and with them for each parameter how many ranks have one.
    Between the passes of a larger batch nobody needs the mean: `no_sync()` leaves it out, and the pass after it takes
    the mean of what all of them have added up.
    """

    def __init__(self, module: Module, broadcast_buffers: bool = True, ordered: bool = False) -> None:
        super().__init__()
        group = distributed.group()
        self.module, self.broadcast_buffers, self.ordered = module, broadcast_buffers, ordered
        self.require_backward_grad_sync = True
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not trained:
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module has no parameter that requires grad"
            )
        _refuse_other_forms(module)
        self._flat: list[FlatParameters] = flatten_parameters(trained)
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.broadcast(tensor, 0)
        self._queued = False
        if group.size > 1:
            for parameter in trained:
                parameter.register_post_accumulate_grad_hook(self._accumulated)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives."""
        if self.training and self.broadcast_buffers and self.require_backward_grad_sync and is_grad_enabled():
            for buffer in self.module.buffers():
                distributed.broadcast(buffer, 0)
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within, backward passes add to the gradients of this process alone."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def _accumulated(self, parameter: Tensor) -> None:
        if self.require_backward_grad_sync and not self._queued:
            self._queued = True
            queue_callback(self._take_the_mean)

    @no_grad()
    def _take_the_mean(self) -> None:
        """Make the gradients of this process the mean over all (Note [Gradients of ranks])."""
        self._queued = False
        for flat in self._flat:
            there = np.array([parameter.grad is not None for parameter in flat.parameters])
            grad = flat.grad
            mine = np.zeros(flat.data.numel(), flat.data.detach().cpu().numpy().dtype)
            if grad is not None:
                mine[:] = grad.cpu().numpy()
            sent = np.concatenate([mine, there.astype(mine.dtype)])
            distributed.reduce_array(sent, "sum", self.ordered)
            mean = from_numpy(sent[: len(mine)] / mine.dtype.type(distributed.get_world_size()))
            start = 0
            for parameter, count in zip(flat.parameters, sent[len(mine) :].tolist(), strict=True):
                part, start = mean[start : start + parameter.numel()].view(parameter.shape), start + parameter.numel()
                if not count:
                    continue
                if parameter.grad is None:
                    parameter.grad = part.to(parameter.device, copy=True)
                else:
                    parameter.grad.copy_(part)


def _refuse_other_forms(module: Module) -> None:
    """A RuntimeError where the parameters and buffers of some rank are others than those of rank 0."""
    named = [*module.named_parameters(), *module.named_buffers()]
    form = {name: f"{tuple(tensor.shape)} {tensor.dtype}" for name, tensor in named}
    first, *others = [json.loads(said) for said in distributed.group().all_gather_bytes(json.dumps(form).encode())]
    for rank, other in enumerate(others, 1):
        if list(other.items()) != list(first.items()):
            name = next((n for n in (*first, *other) if first.get(n) != other.get(n)), "the order")
            raise RuntimeError(
                f"the module of rank {rank} is not that of rank 0: {name} is {other.get(name, 'missing')} there, and"
                f" {first.get(name, 'missing')} on rank 0; build it alike on all ranks"
            )
