"""Random training runs, compiled and eager: the same bits."""

from __future__ import annotations

import os
import warnings

import numpy as np
from hypothesis import HealthCheck, given, settings

import nanotorch as torch
from random_networks import Plan, plans, trained

DRAWS = int(os.environ.get("RANDOM_NETWORKS", "12"))


@settings(max_examples=DRAWS, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans())
def test_a_compiled_run_is_the_eager_run(plan: Plan) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # float16 overflows
        eager = trained(plan, None)
        compiled = trained(plan, lambda step: torch.compile(step, backend="numpy"))
    for number, (ours, theirs) in enumerate(zip(compiled, eager, strict=True)):
        assert len(ours) == len(theirs), number
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"step {number}")
