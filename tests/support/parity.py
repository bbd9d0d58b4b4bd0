"""PyTorch as the oracle of parity tests: where it comes from, and how values go there and back."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import pytest

CI = os.environ.get("CI_PARITY") == "1"
"""Whether PyTorch is installed and every test of its kind has to run."""

running: list[pytest.Item] = []
"""The test that runs now, so that none gets the oracle without the marker by which CI finds it (see conftest.py)."""


def require_torch() -> Any:
    """The real PyTorch; skips the test (or module) where it is not installed, and fails instead if CI_PARITY=1."""
    if running and running[-1].get_closest_marker("parity") is None:
        pytest.fail("this test compares with PyTorch: mark it with @pytest.mark.parity, or CI does not run it")
    try:
        oracle = importlib.import_module("torch")
    except ImportError:
        if CI:
            pytest.fail("CI_PARITY=1, but PyTorch, the oracle of the parity tests, cannot be imported")
        pytest.skip("parity tests need PyTorch", allow_module_level=True)
    oracle.set_num_threads(1)
    return oracle


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """The values of a tensor, ours or PyTorch's, as an array of their own."""
    return np.array(value.detach().cpu().numpy())
