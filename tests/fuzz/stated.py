"""What differs from PyTorch on purpose: each entry names calls, what is found there, and its line in docs/differences.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .calls import Call


def always(call: Call) -> bool:
    return True


@dataclass(frozen=True)
class Stated:
    """Calls whose name and finding match, and that `when` holds of, differ for the reason in the line that `line` begins."""

    line: str
    names: str
    finding: str
    when: Callable[[Call], bool] = always


STATED: tuple[Stated, ...] = ()


def stated(call: Call, finding: str) -> str:
    """The line of the page that a finding is stated in, "" if none."""
    for entry in STATED:
        if re.fullmatch(entry.names, call.name) and re.match(entry.finding, finding, re.DOTALL) and entry.when(call):
            return entry.line
    return ""
