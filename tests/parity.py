"""PyTorch as the oracle of parity tests: where it comes from, and how values go there and back."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import pytest


def require_torch() -> Any:
    """The real PyTorch; skips the test (or module) where it is not installed, and fails instead if CI_PARITY=1."""
    try:
        oracle = importlib.import_module("torch")
    except ImportError:
        if os.environ.get("CI_PARITY") == "1":
            pytest.fail("CI_PARITY=1, but PyTorch, the oracle of the parity tests, cannot be imported")
        pytest.skip("parity tests need PyTorch", allow_module_level=True)
    oracle.set_num_threads(1)
    return oracle


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """The values of a tensor, ours or PyTorch's, as an array of their own."""
    return np.array(value.detach().cpu().numpy())
