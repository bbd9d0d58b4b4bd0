"""What the size table counts."""

from __future__ import annotations

from pathlib import Path

from lines_of_code import lines_of_code

SOURCE = '''"""A module
of two lines."""

# a comment

LIMIT = 3
"""What it limits."""

TEXT = """counted

as it stands"""


def f(
    x,  # counted once
):
    """A docstring."""

    return [
        x,
        # not this one
    ]
'''


def test_blanks_comments_and_docstrings_are_no_code(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(SOURCE)
    assert lines_of_code(tmp_path / "module.py") == 1 + 3 + 3 + 3
