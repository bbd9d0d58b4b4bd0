"""The default generator of random numbers by the names of `torch.random`:
its seed, its state, and a scope that gives it back.

>>> state = torch.random.get_rng_state()
>>> first = torch.rand(3)
>>> torch.random.set_rng_state(state)
>>> torch.equal(torch.rand(3), first)
True
"""

from __future__ import annotations

from nanotorch.ops.create.counters import dropout_counters
from nanotorch.ops.create.random import (
    Generator,
    default_generator,
    fork_rng,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)

__all__ = [
    "Generator",
    "default_generator",
    "dropout_counters",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
]
