"""Devices: naming them, the four reasons for having no GPU, and the GPU backend's names."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_gpu import fake_gpu, forgotten_backend
from nanotorch.backend import device as devices
from nanotorch.backend.device import CPU, Device, best_device, device_count, why_unavailable
from nanotorch.backend.primitives import PRIMITIVES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with forgotten_backend():
        for name in [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupyx")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "cupy", None)
        yield


def reason(call: Any) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- naming ----------------------------------------------------------------------------------------
def test_devices_are_interned_and_print_as_in_pytorch() -> None:
    assert Device("cpu") is CPU is Device("cpu", 0) is Device(CPU)
    assert Device("cuda") is Device("cuda:0") is Device("cuda", 0) is not Device("cuda:1")
    assert (str(CPU), repr(CPU)) == ("cpu", "device(type='cpu')")
    assert (str(Device("cuda", 3)), repr(Device("cuda:3"))) == ("cuda:3", "device(type='cuda', index=3)")
    for device in (CPU, Device("cuda:1")):
        assert pickle.loads(pickle.dumps(device)) is device


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "", "CPU"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match="use 'cpu', 'cuda' or 'cuda:N'"):
        Device(name)


def test_unknown_attributes_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'name'"):
        CPU.name  # noqa: B018


# -- the four reasons ------------------------------------------------------------------------------
def test_reason_not_installed(no_cupy: None) -> None:
    message = reason(lambda: Device("cuda").xp)
    assert message == f"device 'cuda:0' cannot be used: {why_unavailable()}"
    assert "CuPy is not installed" in message and "pip install -e '.[cuda13]'" in message and "cuda12" in message
    assert (device_count(), best_device()) == (0, CPU)


def test_reason_no_driver() -> None:
    with fake_gpu(driver_works=False):
        message = reason(lambda: Device("cuda").xp)
        assert (
            "CuPy is installed but finds no usable GPU (cudaErrorInsufficientDriver" in message
            and "nvidia-smi" in message
        )
        assert (device_count(), best_device()) == (0, CPU)


def test_reason_no_gpu_beside_a_driver() -> None:
    with fake_gpu(device_count=0):
        assert "finds no usable GPU (cudaErrorNoDevice" in reason(lambda: Device("cuda").xp)


def test_reason_broken_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "====\\nFailed to import CuPy.\\n\\nOriginal error:\\n  ImportError: libcuda.so.1: cannot open\\n"
    (tmp_path / "cupy.py").write_text(f'raise ImportError("{text}")')
    with forgotten_backend():
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        assert "no usable GPU (ImportError: libcuda.so.1: cannot open)" in reason(lambda: Device("cuda").xp)


@pytest.mark.parametrize(("count", "found"), [(1, "found 1 GPU, cuda:0"), (2, "found 2 GPUs, cuda:0 to cuda:1")])
def test_reason_out_of_range(count: int, found: str) -> None:
    with fake_gpu(device_count=count):
        message = reason(lambda: Device("cuda:7").xp)
        assert message == f"device 'cuda:7' cannot be used: there is no GPU number 7; {found}"
        assert device_count() == count
        assert best_device() is Device("cuda:0")


def test_reason_installed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cupy-cuda12x", "cupy-cuda13x"):
        folder = tmp_path / f"{name.replace('-', '_')}-14.2.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 14.2.0\n")
    with fake_gpu():
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(devices, "_cupy_packages", devices._cupy_packages.__wrapped__)  # which remembers
        message = reason(lambda: Device("cuda").xp)
        assert "2 CuPy packages are installed (cupy-cuda12x, cupy-cuda13x)" in message
        assert "pip uninstall cupy-cuda12x cupy-cuda13x" in message
        assert best_device() is CPU


def test_a_failed_look_is_not_remembered() -> None:
    with fake_gpu(driver_works=False):
        assert device_count() == 0
    with fake_gpu():
        assert device_count() == 1


def test_cupy_is_not_imported_before_a_gpu_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "cupy.py").write_text("raise SystemExit('cupy was imported')")
    code = "import nanotorch; from nanotorch.backend.device import Device; Device('cuda'); print('fine')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    )
    assert done.stdout.strip() == "fine", done.stderr


# -- the GPU backend -------------------------------------------------------------------------------
def test_a_gpu_has_all_primitives() -> None:
    with fake_gpu():
        xp = Device("cuda").xp
        assert [name for name in PRIMITIVES if not callable(getattr(xp, name))] == []


def test_asking_for_xp_makes_the_gpu_current() -> None:
    with fake_gpu(device_count=2):
        second = Device("cuda:1").xp.zeros(3)
        first = Device("cuda:0").xp.zeros(3)
        assert (first.device.id, second.device.id) == (0, 1)
        assert (Device("cuda:1").xp.asarray(first) + second).device.id == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
def test_add_at_works_for_every_dtype(dtype: str) -> None:
    start, index, values = (np.array([1, 0, 1]).astype(dtype), np.array([0, 2, 0]), np.array([1, 1, 1]).astype(dtype))
    expected = CPU.xp.add_at(start, index, values)
    with fake_gpu():
        xp = Device("cuda").xp
        result = xp.add_at(xp.asarray(start), xp.asarray(index), xp.asarray(values))
        assert result.dtype == expected.dtype
        assert np.array_equal(xp.to_numpy(result), expected)


def test_add_at_of_negative_int64() -> None:
    with fake_gpu():
        xp = Device("cuda").xp
        result = xp.add_at(xp.asarray(np.array([5, -5])), xp.asarray(np.array([0, 0, 1])), xp.asarray([-7, -1, -2]))
        assert xp.to_numpy(result).tolist() == [-3, -7]


def test_named_differences_agree() -> None:
    x = np.linspace(-2, 2, 6).reshape(2, 3)
    with fake_gpu():
        gpu = Device("cuda").xp
        on_gpu = gpu.asarray(x)
        for dtype in ("float16", "float32", "float64"):
            expected, result = CPU.xp.erf(x.astype(dtype)), gpu.erf(gpu.astype(on_gpu, dtype))
            assert result.dtype == expected.dtype == dtype
            np.testing.assert_allclose(gpu.to_numpy(result), expected, rtol=1e-3 if dtype == "float16" else 1e-6)
        for index in ((0, slice(1, 3)), (np.array([1, 1]), np.array([0, 0]))):
            values = x[index]
            there = tuple(gpu.asarray(part) if isinstance(part, np.ndarray) else part for part in index)
            result = gpu.scatter_to_zeros(gpu.asarray(values), x.shape, there)
            assert np.array_equal(gpu.to_numpy(result), CPU.xp.scatter_to_zeros(values, x.shape, index))
        assert gpu.view_as(on_gpu, (6,)).base is on_gpu
        with pytest.raises(ValueError, match="copy"):
            gpu.view_as(on_gpu.T, (6,))
        gpu.synchronize()
