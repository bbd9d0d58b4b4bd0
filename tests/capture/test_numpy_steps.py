"""Steps of all kinds as NumPy programs: what they return and leave behind has the bits of the eager step."""

from __future__ import annotations

import numpy as np
import pytest

import nanotorch as torch
from step_cases import CASES, Running


@pytest.mark.parametrize("name", CASES)
def test_bits_of_the_eager_step(name: str) -> None:
    case = CASES[name]
    compiled, eager = Running(case), Running(case)
    step = torch.compile(compiled.step, backend="numpy")
    for number, batch in enumerate(case.batches(6)):
        for running in (compiled, eager):
            running.optimizer.param_groups[0]["lr"] *= 0.9 if number == 4 else 1.0
        for ours, theirs in zip(step(*batch), eager.step(*batch), strict=True):
            np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
        mine, others = compiled.state(), eager.state()
        for key in mine:
            np.testing.assert_array_equal(mine[key].numpy(), others[key].numpy(), err_msg=f"{key}, step {number}")
    assert any([captured.confirmed for programs in step._programs.values() for captured in programs])
