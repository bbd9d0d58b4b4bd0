"""Random training runs, compiled and eager: the same bits with `numpy`, the same losses with `table`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import nanotorch as torch
from nanotorch.capture.table.machine import MACHINE
from random_networks import Plan, plans, trained

few = settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
many = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def both(plan: Plan, backend: Any) -> list[tuple[list[Any], list[Any]]]:
    """Return what each step leaves, compiled and eager."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # float16 overflows
        eager = trained(plan, None)
        compiled = trained(plan, lambda step: torch.compile(step, backend=backend))
    return list(zip(compiled, eager, strict=True))


def check_bits(plan: Plan) -> None:
    for number, (ours, theirs) in enumerate(both(plan, "numpy")):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"step {number}")


@few
@given(plans())
def test_a_compiled_run_is_the_eager_run(plan: Plan) -> None:
    check_bits(plan)


@pytest.mark.slow
@many
@given(plans())
def test_many_compiled_runs_are_the_eager_ones(plan: Plan) -> None:
    check_bits(plan)


@pytest.mark.slow
@many
@given(plans())
def test_losses_of_tables_are_those_of_eager_runs(plan: Plan) -> None:
    """In float64, and losses alone: where a gradient is 0 but for rounding, Adam and Rprop take whole steps by it."""
    assert MACHINE.wait() is not None, MACHINE.reason
    for number, (ours, theirs) in enumerate(both(replace(plan, dtype="float64"), "table")):
        for one, other in zip(ours[: plan.pieces], theirs[: plan.pieces], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9, err_msg=f"step {number}")
