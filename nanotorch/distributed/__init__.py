"""Processes that train together, with PyTorch's names (Note [Ranks]).

`mpiexec -n 4 python script.py` starts four; the extra `mpi` brings mpi4py and an MPI with its `mpiexec`. Where
nobody has started several, the group has one process, and the same script runs alone.

>>> import nanotorch.distributed as dist
>>> dist.init_process_group()
>>> dist.get_rank(), dist.get_world_size(), dist.get_backend()
(0, 1, 'serial')
>>> mean = torch.tensor([1.0, 2.0])
>>> dist.all_reduce(mean, dist.ReduceOp.AVG)
>>> mean
tensor([1., 2.])
>>> dist.destroy_process_group()
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.distributed.communicator import Alone, Communicator, ordered
from nanotorch.ops.create.creation import from_numpy

__all__ = [
    "ReduceOp",
    "all_gather",
    "all_reduce",
    "barrier",
    "broadcast",
    "destroy_process_group",
    "get_backend",
    "get_rank",
    "get_world_size",
    "init_process_group",
    "is_available",
    "is_initialized",
    "is_mpi_available",
]

BACKENDS = ("serial", "mpi")
_group: Communicator | None = None


class ReduceOp(Enum):
    """How the tensors of all ranks become one."""

    SUM = "sum"
    AVG = "mean"
    PRODUCT = "product"
    MIN = "min"
    MAX = "max"


def is_available() -> bool:
    """Whether there is this package, as PyTorch may be built without."""
    return True


def is_mpi_available() -> bool:
    """Whether mpi4py is installed."""
    from importlib.util import find_spec

    return find_spec("mpi4py") is not None


def init_process_group(backend: str | None = None) -> None:
    """Join the group of all processes that were started together.

    Args:
        backend: "mpi" or "serial"; by default the one by which they were started.

    Raises:
        RuntimeError: where the group is there already, several processes were started without mpi4py, or "serial"
            is asked for by several.
    """
    from nanotorch.distributed import mpi

    global _group
    if _group is not None:
        raise RuntimeError("the process group is there already: destroy_process_group() leaves it")
    if backend not in (None, *BACKENDS):
        raise ValueError(f"backend {backend!r}: there are {' and '.join(map(repr, BACKENDS))}")
    several = mpi.started()
    if backend == "serial" and several > 1:
        raise RuntimeError(f"backend 'serial' is one process, and {several} were started: leave it out, or say 'mpi'")
    _group = mpi.Mpi() if backend == "mpi" or several > 1 else Alone()


def destroy_process_group() -> None:
    """Leave the group; a new one may be joined then."""
    global _group
    group().close()
    _group = None


def is_initialized() -> bool:
    """Whether there is a group."""
    return _group is not None


def group() -> Communicator:
    """Return the group; a RuntimeError says how to join it."""
    if _group is None:
        raise RuntimeError("there is no process group: call torch.distributed.init_process_group() first")
    return _group


def get_backend() -> str:
    """Return what carries what the processes say, "mpi" or "serial"."""
    return group().name


def get_rank() -> int:
    """Return the number of this process; -1 where there is no group."""
    return -1 if _group is None else _group.rank


def get_world_size() -> int:
    """Return how many processes there are; -1 where there is no group."""
    return -1 if _group is None else _group.size


def barrier() -> None:
    """Wait until all processes have come here."""
    group().barrier()


@no_grad()
def broadcast(tensor: Tensor, src: int) -> None:
    """Give a tensor, in place, the values that it has on the rank `src`; of one shape and dtype on all ranks."""
    _refuse_rank(src)
    array = tensor.detach().cpu().contiguous().numpy()
    group().broadcast(array, src)
    tensor.copy_(from_numpy(array))


@no_grad()
def all_reduce(tensor: Tensor, op: ReduceOp = ReduceOp.SUM, ordered: bool = False) -> None:
    """Give a tensor, in place, the sum over all ranks, or what else `op` says; of one shape and dtype on all ranks.

    With `ordered` the ranks are added up in their order (Note [Ranks]). No gradient flows through it. A mean of whole
    numbers is refused, as in PyTorch.
    """
    if op is ReduceOp.AVG and not tensor.is_floating_point():
        raise ValueError(f"ReduceOp.AVG is a mean, which {tensor.dtype} does not hold: take the sum")
    how = "sum" if op is ReduceOp.AVG else op.value
    array = tensor.detach().cpu().contiguous().numpy()
    reduce_array(array, how, ordered)
    result = from_numpy(array)
    tensor.copy_(result / get_world_size() if op is ReduceOp.AVG else result)


def reduce_array(array: object, how: str, in_order: bool) -> None:
    """Reduce an array without gaps, in place."""
    if in_order:
        ordered(group(), array, how)  # type: ignore[arg-type]
    else:
        group().all_reduce(array, how)  # type: ignore[arg-type]


@no_grad()
def all_gather(tensor_list: Sequence[Tensor], tensor: Tensor) -> None:
    """Write the tensors of all ranks, of one shape and dtype, into those of a list, one for each rank."""
    if len(tensor_list) != get_world_size():
        raise ValueError(f"all_gather writes a tensor for each of {get_world_size()} ranks, got {len(tensor_list)}")
    for place, found in zip(tensor_list, group().all_gather(tensor.detach().cpu().numpy()), strict=True):
        place.copy_(from_numpy(found))


def _refuse_rank(rank: int) -> None:
    if not 0 <= rank < group().size:
        raise ValueError(f"rank {rank}: there are {group().size}, from 0 on")
