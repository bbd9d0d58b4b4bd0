"""The bar of what runs: where a terminal can show one, and one that is drawn there."""

from __future__ import annotations

import os
import sys
from typing import Any

from nanotorch.train.terminal.standard_streams import past


def can_show_bar() -> bool:
    """Return whether both output streams are a terminal that moves its cursor."""
    return sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def drawn_bar(form: str, total: float, done: float = 0) -> Any:
    """Return a bar of tqdm, which is seen from now on; `form` is its `bar_format`."""
    from tqdm import tqdm

    # a pseudo-terminal without a window says that it has 0 columns or lines, and tqdm would show nothing
    has_size = min(os.get_terminal_size(sys.stderr.fileno())) > 0
    size = {"dynamic_ncols": True} if has_size else {"ncols": 80, "nrows": 24}
    return tqdm(total=total, initial=done, bar_format=form, file=past(sys.stderr), **size)
