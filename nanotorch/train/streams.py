"""Standard output and error that training outlives."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, TextIO

__all__ = ["Lasting"]


class Lasting:
    """A text stream that falls silent once it cannot be written to, instead of raising.

    The reader of a pipe may go (``... | head -1``), a terminal may be closed, a disk may be full: none is a reason to lose
    hours of training, which leaves all that it has to say in files as well.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if anybody still reads."""
        if self._stream is not None:
            try:
                self._stream.write(text)
            except (OSError, ValueError):
                self._fall_silent()
        return len(text)

    def flush(self) -> None:
        """Flush, if anybody still reads."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._fall_silent()

    def isatty(self) -> bool:
        """Whether somebody watches."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def _fall_silent(self) -> None:
        stream, self._stream = self._stream, None
        with suppress(OSError, ValueError, AttributeError):  # what is still buffered goes nowhere when the process ends
            assert stream is not None
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
