"""Fixtures of all tests and doctests: devices, and a guard against tests that leave global state changed."""

from __future__ import annotations

import gc
import importlib.util
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fake_gpu
import nanotorch
import oracle
from nanotorch.autograd.graph import formatting
from nanotorch.autograd.graph.grad_mode import recording, set_recording
from nanotorch.backend.device import Device, why_unavailable
from nanotorch.capture.table.machine import MACHINE
from trainer_process import TrainerProcess

collect_ignore = [] if importlib.util.find_spec("cupy") else ["nanotorch/backend/cupy_backend.py"]  # it imports cupy

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's background job has it, and its children after it
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent / "tests"
KINDS = ("slow", "parity", "gpu")
OF_TABLES = {
    "test_gradients_between_calls.py",
    "test_random_networks.py",
    "test_recorded_ahead.py",
    "test_epochs_ahead.py",
    "test_sweep_table.py",
    "test_table.py",
    "test_search_processes.py",
    "test_search_tables.py",
    "test_table_fit.py",
    "test_workers.py",
}


def named(config: pytest.Config) -> bool:
    """Whether the command line names files or tests, which run whatever their marker (but for those of a GPU)."""
    return any(".py" in argument for argument in config.args)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run what is named in this process: starting others takes longer than most files do."""
    if named(config):
        config.option.dist = "no"
        return 0
    return None


def left_out(config: pytest.Config) -> tuple[str, ...]:
    """Return the markers whose tests this session leaves out: without `-m` what is slow and what compares with
    PyTorch; and what needs a GPU unless it is asked for.
    """
    chosen = config.option.markexpr
    return KINDS if not chosen and not named(config) else () if "gpu" in chosen else ("gpu",)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect without the garbage collector, and keep what was collected out of its later rounds: it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> list[pytest.Item] | None:
    """Make no test of a function or class that is left out, where each of its parameters would make one."""
    if not name.lower().startswith("test"):
        return None
    marks = {mark.name for mark in (*collector.iter_markers(), *getattr(obj, "pytestmark", ()))}
    return [] if marks.intersection(left_out(collector.config)) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the parameters that are marked."""
    out = {item for item in items if any(item.get_closest_marker(kind) for kind in left_out(config))}
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, Any, list[pytest.Collector]]:
    """Look for doctests where there are some: in files of the package that show a prompt."""
    found = yield
    if TESTS not in file_path.parents and b">>> " in file_path.read_bytes():
        return found
    return [file for file in found if type(file) is pytest.Module]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what was left out and how to run it."""
    if "slow" in left_out(config):
        terminalreporter.write_line("left out: -m slow, -m parity and -m gpu run the tests so marked (tests/README.md)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Tell `oracle.require` which test asks."""
    oracle.running.append(item)
    try:
        return (yield)
    finally:
        oracle.running.pop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Count a comparison with PyTorch that skips as failed where all of them have to run."""
    report = yield
    if oracle.CI and report.skipped and item.get_closest_marker("parity"):
        report.outcome = "failed"
        report.longrepr = f"CI_PARITY=1, but {item.nodeid} was skipped: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def no_leaks(doctest_namespace: dict[str, Any]) -> Iterator[None]:
    """Fail a test that leaves the grad mode, an observer,
    the default dtype or the print options changed; seed the generator.
    """
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
    if recording() is not True:
        leaks.append("observers of the graph, such as anomaly mode")
        set_recording(True)
    if vars(formatting.options) != options:
        leaks.append("print options")
        vars(formatting.options).update(options)
    assert not leaks, f"the test left changed: {', '.join(leaks)}"


@pytest.fixture(autouse=True)
def no_tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have programs be those of NumPy, which give eager's bits, but where a test is about tables."""
    if request.path.name not in OF_TABLES:
        monkeypatch.setattr(MACHINE, "start", lambda: None)
        monkeypatch.setattr(MACHINE, "soon", lambda: None)


@pytest.fixture(scope="session")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainerProcess]:
    """Runs the trainer's command line in real processes, quickly."""
    process = TrainerProcess(tmp_path_factory.mktemp("trainer"))
    yield process
    process.close()


@contextmanager
def opened(kind: str) -> Iterator[Device]:
    """Give the device of one parameter: the stand-in for a GPU
    (tests/support/fake_cupy.py) for the time of the test.
    """
    if kind == "stand-in":
        with fake_gpu.fake_gpu():
            yield Device("cuda")
        return
    if kind == "gpu" and (reason := why_unavailable()) is not None:
        pytest.skip(reason)
    yield Device("cpu" if kind == "cpu" else "cuda")


GPUS = ["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)]


@pytest.fixture(params=GPUS)
def gpu(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The stand-in for a GPU, and with `-m gpu` a real one."""
    with opened(request.param) as found:
        yield found


@pytest.fixture(params=["cpu", *GPUS])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The CPU, the stand-in for a GPU, and with `-m gpu` a real one."""
    with opened(request.param) as found:
        yield found
