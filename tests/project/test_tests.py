"""What holds for the tests themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FOLDERS = sorted(path for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith("_"))


def files_with(pattern: str) -> list[str]:
    found = re.compile(pattern, flags=re.MULTILINE)
    return [path.name for path in TESTS.rglob("*.py") if found.search(path.read_text())]


def test_pytorch_is_imported_in_one_file_only() -> None:
    assert files_with(r"^\s*(import|from) torch\b") == [], "take it from tests/support/oracle.py"


def test_tests_take_nothing_from_each_other() -> None:
    """What two of them need stands in tests/support."""
    assert files_with(r"^(from|import) (tests\.\w+\.)?test_") == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_folder_is_small_and_named_in_the_readme(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= 20
    assert f"`{folder.name}/`" in (TESTS / "README.md").read_text()
