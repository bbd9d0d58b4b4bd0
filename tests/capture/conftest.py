"""Captured steps are NumPy programs, which give eager's bits, but where a test is about tables."""

from __future__ import annotations

import pytest

from nanotorch.capture.table.machine import MACHINE

OF_TABLES = {"test_recorded_ahead.py", "test_table.py", "test_random_networks.py"}


@pytest.fixture(autouse=True)
def no_tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.path.name not in OF_TABLES:
        monkeypatch.setattr(MACHINE, "start", lambda: None)
        monkeypatch.setattr(MACHINE, "soon", lambda: None)
