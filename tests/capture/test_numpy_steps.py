"""Steps of all kinds as NumPy programs: what they return and leave behind has the bits of the eager step."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize("seed", [0, 1, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12)]])
def test_sums_of_all_layouts(seed: int) -> None:
    """Random shapes, orders of axes and axes: a long sum is several calls, which add up as the eager one does."""
    draw = np.random.default_rng(seed)
    for _ in range(12):
        shape = draw.choice([1, 2, 3, 16, 33, 65, 130], draw.integers(1, 5)).tolist()
        while np.prod(shape) > 100_000:
            shape[int(draw.integers(0, len(shape)))] = 2
        order = draw.permutation(len(shape)).tolist()
        axes = tuple(axis for axis in range(len(shape)) if draw.random() < 0.5) or (0,)
        dims = [axes, axes[0], None][draw.integers(0, 3)]
        first, keepdim = int(draw.random() < 0.3), bool(draw.random() < 0.5)

        def summed(x: Any, order: Any = order, dims: Any = dims, first: int = first, keep: bool = keepdim) -> Any:
            x = (x * 1).permute(order)[first:]
            return x.sum() if dims is None else x.sum(dims, keepdim=keep)

        compiled = torch.compile(summed, backend="numpy")
        x = torch.from_numpy(draw.standard_normal(shape).astype(np.float32))
        for _ in range(4):
            np.testing.assert_array_equal(compiled(x).numpy(), summed(x).numpy())
