"""The processes that `mpiexec` has started, by mpi4py."""

from __future__ import annotations

import os
import sys
import time
import traceback
from types import TracebackType

import numpy as np

from nanotorch.distributed.communicator import Array, ordered

PASSED_ON = 0.5  # seconds
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "PMIX_SIZE")
"""Variables by which the launchers of MPICH, Open MPI and their kin tell how many processes they have started."""


def started() -> int:
    """Return how many processes a launcher of MPI has started; 1 where there was none."""
    return max([int(said) for name in SIZES if (said := os.environ.get(name, "")).isdigit()], default=1)


class Mpi:
    """All processes of `mpiexec`.

    An exception that ends one of them ends all, with its traceback: others would wait for it for ever.
    """

    name = "mpi"

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise RuntimeError(
                f"{started()} processes were started by mpiexec, which need mpi4py: pip install mpi4py mpich ({error})"
            ) from None
        self._mpi, self._group = MPI, MPI.COMM_WORLD.Dup()
        self.rank, self.size = int(self._group.rank), int(self._group.size)
        if self.size < started():
            raise RuntimeError(
                f"a launcher has started {started()} processes, and MPI knows of {self.size}: mpiexec and mpi4py are of"
                " two libraries; the extra mpi brings one that fits, whose mpiexec lies beside python"
            )
        self._hook, sys.excepthook = sys.excepthook, self._ended

    def _ended(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        told = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(f"rank {self.rank} of {self.size}:\n{told}")
        sys.stderr.flush()
        self.abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def barrier(self) -> None:
        """Wait until all have come here."""
        self._group.Barrier()

    def broadcast(self, array: Array, root: int) -> None:
        """Give an array, without gaps, the numbers that it has on the rank `root`."""
        self._group.Bcast(array.reshape(-1).view(np.uint8), root)

    def all_reduce(self, array: Array, how: str) -> None:
        """Give an array, without gaps, the sum over all ranks, or another one of `REDUCTIONS`."""
        operations = {"sum": self._mpi.SUM, "product": self._mpi.PROD, "min": self._mpi.MIN, "max": self._mpi.MAX}
        if array.dtype in (np.float16, np.bool_):  # which MPI does not know, or not to add up
            ordered(self, array, how)
        else:
            self._group.Allreduce(self._mpi.IN_PLACE, array, operations[how])

    def all_gather(self, array: Array) -> Array:
        """Return the arrays of all ranks, which have one shape and dtype, with one more axis in front."""
        found = np.empty((self.size, *array.shape), array.dtype)
        self._group.Allgather(np.ascontiguousarray(array).reshape(-1).view(np.uint8), found.reshape(-1).view(np.uint8))
        return found

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        """Return what all ranks give, of any length."""
        lengths = self.all_gather(np.array(len(data)))
        mine = np.zeros(max(1, int(lengths.max())), np.uint8)
        mine[: len(data)] = np.frombuffer(data, np.uint8)
        return [row[:n].tobytes() for row, n in zip(self.all_gather(mine), lengths.tolist(), strict=True)]

    def abort(self, code: int) -> None:
        """End all processes, once the launcher has had time to pass on what was written: it drops the rest."""
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        time.sleep(PASSED_ON)
        self._mpi.COMM_WORLD.Abort(code)

    def close(self) -> None:
        """Leave the group."""
        sys.excepthook = self._hook
        self._group.Free()
