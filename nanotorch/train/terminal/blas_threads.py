"""How many threads the BLAS library uses: small products are slower with several."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nanotorch import nn

WORTH_THREADS = 50e6  # floating point operations of a product below which a second thread costs more than it does


def worth_threads(model: nn.Module, rows: int) -> bool:
    """Return whether the largest product of a model that is trained in batches of so many rows is worth threads."""
    return max((2.0 * rows * p.numel() for p in model.parameters() if p.ndim == 2), default=0.0) >= WORTH_THREADS


def blas_threads(model: nn.Module, rows: int) -> AbstractContextManager[Any]:
    """Limit BLAS to one thread while a model is trained whose largest product is small.

    Threads wait for each other by spinning, so on a busy machine a second one can make a small model many times
    slower. Large models keep the library's choice, which `OMP_NUM_THREADS` and its kin decide.
    """
    if worth_threads(model, rows):
        return nullcontext()
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit


@functools.cache
def _libraries() -> Any:
    """Return the libraries of this process, NumPy's BLAS among them; to find them reads files, for milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
