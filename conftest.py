"""Fixtures of all tests and doctests: devices, and a guard against tests that leave global state changed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "tests"))

import fake_gpu
from trainer_process import TrainerProcess

import nanotorch
from nanotorch.autograd import formatting
from nanotorch.backend.device import Device, why_unavailable

collect_ignore = [] if importlib.util.find_spec("cupy") else ["nanotorch/backend/cupy_backend.py"]  # it imports cupy


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a real GPU unless ``-m`` names it."""
    if "gpu" not in (config.option.markexpr or ""):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("gpu")])
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


@pytest.fixture(autouse=True)
def no_leaks(doctest_namespace: dict[str, Any]) -> Iterator[None]:
    """Fail a test that leaves the grad mode, the default dtype or the print options changed; seed the generator."""
    doctest_namespace["torch"] = nanotorch
    nanotorch.manual_seed(0)
    options = vars(formatting.options).copy()
    yield
    leaks = []
    if not nanotorch.is_grad_enabled():
        leaks.append("grad mode")
        nanotorch.set_grad_enabled(True)
    if nanotorch.get_default_dtype() is not nanotorch.float32:
        leaks.append("default dtype")
        nanotorch.set_default_dtype(nanotorch.float32)
    if vars(formatting.options) != options:
        leaks.append("print options")
        vars(formatting.options).update(options)
    assert not leaks, f"the test left changed: {', '.join(leaks)}"


@pytest.fixture(scope="session")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainerProcess]:
    """Runs the trainer's command line in real processes, quickly."""
    process = TrainerProcess(tmp_path_factory.mktemp("trainer"))
    yield process
    process.close()


@pytest.fixture(params=["cpu", "stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The CPU, the stand-in for a GPU (tests/fake_cupy.py), and with ``-m gpu`` a real one."""
    if request.param == "cpu":
        yield Device("cpu")
    elif request.param == "gpu":
        reason = why_unavailable()
        if reason is not None:
            pytest.skip(reason)
        yield Device("cuda")
    else:
        with fake_gpu.fake_gpu():
            yield Device("cuda")
