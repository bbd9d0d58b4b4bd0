"""Several ranks are one: their sums are NumPy's, and what they train is what one process trains with all rows."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
import ranks
from nanotorch import distributed, nn
from nanotorch.nn.parallel import DistributedDataParallel
from nanotorch.utils.data import DistributedSampler

OPERATIONS = {"SUM": np.add, "PRODUCT": np.multiply, "MIN": np.minimum, "MAX": np.maximum}


@pytest.fixture(params=[1, 2, 3])
def found(request: pytest.FixtureRequest) -> list[Any]:
    return ranks.run("collectives", request.param)


def test_collectives_are_numpys(found: list[Any]) -> None:
    size = len(found)
    for dtype in (*ranks.REAL, "int64", "bool"):
        arrays = [ranks.of_rank(rank, dtype) for rank in range(size)]
        wide = [array.astype(np.float64) if dtype in ranks.REAL else array for array in arrays]
        close = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-15}.get(dtype, 0)
        for rank, of in enumerate(found):
            assert (of["rank"], of["size"], of["backend"]) == (rank, size, "serial" if size == 1 else "mpi")
            assert of[f"gather {dtype}"] == [array.tolist() for array in arrays]
            assert of[f"broadcast {dtype}"] == arrays[-1].tolist()
            for name, operation in OPERATIONS.items():
                expected = wide[0]
                for other in wide[1:]:
                    expected = operation(expected, other)
                for ordered in (False, True):
                    got = np.array(of[f"{name} {dtype} {ordered}"])
                    np.testing.assert_allclose(got, expected, rtol=close, atol=close)
            if dtype in ranks.REAL:
                np.testing.assert_allclose(of[f"AVG {dtype} True"], np.mean(wide, 0), rtol=close, atol=close)
        assert len({str(of[f"SUM {dtype} True"]) for of in found}) == 1
    assert [of["single"] for of in found] == [float(sum(range(size)))] * size
    assert found[0]["texts"] == ["x" * rank for rank in range(size)]


def test_the_order_of_ranks_decides_the_bits_of_an_ordered_sum(found: list[Any]) -> None:
    for dtype in ("float32", "float64"):
        total = ranks.of_rank(0, dtype)
        for rank in range(1, len(found)):
            total = total + ranks.of_rank(rank, dtype)
        assert all(of[f"SUM {dtype} True"] == total.tolist() for of in found)


@pytest.mark.parametrize("size", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_train_what_one_process_trains(size: int) -> None:
    alone = ranks.trained(0, 1, lambda model: model)
    for of in ranks.run("data_parallel", size):
        for way in of:
            assert way["seen"] == alone["seen"]
            for name, weights in alone["weights"].items():
                np.testing.assert_allclose(way["weights"][name], weights, rtol=1e-12, atol=1e-14, err_msg=name)


def test_a_layer_that_some_ranks_use_has_zeros_of_the_others() -> None:
    model = ranks.Branches()
    sums: dict[str, Any] = {}
    for extra in (False, True):
        model.zero_grad()
        model(torch.ones(2, 4), extra).sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                sums[name] = sums.get(name, 0) + parameter.grad.numpy()
    for of in ranks.run("some_use_a_layer", 2):
        for name, grad in of.items():
            if name.startswith("never"):
                assert grad is None
            else:
                np.testing.assert_allclose(grad, sums[name] / 2, rtol=1e-6)


def test_buffers_are_those_of_rank_0() -> None:
    # of the means 1.5 and 2.5 of rank 0, and of a third pass: 0.1 of each new one
    assert ranks.run("buffers", 2)[1] == pytest.approx([((0.1 * 1.5) * 0.9 + 0.1 * 2.5) * 0.9] * 2)


def test_a_module_of_another_form_is_refused() -> None:
    here, there = "(2, 3) torch.float32 on rank 0", "(4, 3) torch.float32 there"
    for said in ranks.run("another_form", 3):
        assert said == (
            f"the module of rank 2 is not that of rank 0: 1.weight is {there}, and {here}; build it alike on all ranks"
        )


@pytest.mark.parametrize(("program", "said"), [("fails", "rank 1 of 3:\nTraceback"), ("killed", "BAD TERMINATION")])
def test_the_end_of_one_rank_is_that_of_all(program: str, said: str) -> None:
    started = time.monotonic()
    ended = ranks.started(program, 3, RESULTS="/nowhere")
    assert time.monotonic() - started < 30
    assert ended.returncode != 0
    assert said in (ended.stderr + ended.stdout).replace("\r", "")
    if program == "fails":
        assert "ValueError: rows that nobody expected" in ended.stderr


def test_without_mpi4py_several_processes_are_told_what_to_do() -> None:
    ended = ranks.started("without_mpi4py", 2)
    assert ended.returncode != 0
    assert "2 processes were started by mpiexec, which need mpi4py: pip install mpi4py mpich" in ended.stderr


# ------------------------------------------------------------ one process


def test_one_process_imports_no_mpi() -> None:
    code = (
        "import sys, nanotorch.distributed as d; d.init_process_group(); d.barrier(); sys.exit('mpi4py' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_group_is_joined_once_and_left() -> None:
    assert not distributed.is_initialized()
    assert (distributed.get_rank(), distributed.get_world_size()) == (-1, -1)
    with pytest.raises(RuntimeError, match=r"call torch.distributed.init_process_group\(\) first"):
        DistributedDataParallel(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="backend 'gloo': there are 'serial' and 'mpi'"):
        distributed.init_process_group("gloo")
    distributed.init_process_group("serial")
    try:
        with pytest.raises(RuntimeError, match="there already"):
            distributed.init_process_group()
        with pytest.raises(ValueError, match=r"ReduceOp.AVG is a mean, which int64 does not hold|does not hold"):
            distributed.all_reduce(torch.tensor([1, 2]), distributed.ReduceOp.AVG)
        with pytest.raises(ValueError, match="rank 1: there are 1, from 0 on"):
            distributed.broadcast(torch.zeros(2), 1)
        with pytest.raises(RuntimeError, match="no parameter that requires grad"):
            DistributedDataParallel(nn.ReLU())
        model = DistributedDataParallel(nn.Linear(2, 1))
        model(torch.ones(3, 2)).sum().backward()
        assert model.module.weight.grad is not None
        assert list(model.state_dict()) == ["module.weight", "module.bias"]
    finally:
        distributed.destroy_process_group()
    assert not distributed.is_initialized()


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("count", "size"), [(7, 2), (8, 4), (2, 3), (0, 2), (10, 1)])
def test_samplers_share_out_an_epoch(count: int, size: int, drop_last: bool) -> None:
    samplers = [DistributedSampler(range(count), size, rank, drop_last=drop_last) for rank in range(size)]
    first = [list(sampler) for sampler in samplers]
    assert {len(order) for order in first} == {len(samplers[0])}
    together = [index for order in first for index in order]
    assert set(together) <= set(range(count)) and (drop_last or set(together) == set(range(count)))
    assert not drop_last or len(set(together)) == len(together)
    assert [list(sampler) for sampler in samplers] == first
    for sampler in samplers:
        sampler.set_epoch(1)
    assert count < 4 or [list(sampler) for sampler in samplers] != first
    with pytest.raises(ValueError, match=r"rank should be in the interval \[0, 1\]"):
        DistributedSampler(range(3), 2, 2)
