"""Captured steps are NumPy programs, which give eager's bits; only test_table.py has tables."""

from __future__ import annotations

import pytest

from nanotorch.capture.table.machine import MACHINE


@pytest.fixture(autouse=True)
def no_tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.path.name != "test_table.py":
        monkeypatch.setattr(MACHINE, "start", lambda: None)
        monkeypatch.setattr(MACHINE, "soon", lambda: None)
