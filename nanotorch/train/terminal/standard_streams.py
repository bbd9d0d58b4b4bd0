"""Standard output and error: what cannot be printed is made visible, and training outlives them.

Note [What cannot be printed]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
Names of columns, classes and files come from others. A control character in one of them could clear a terminal, colour
it, or let one line look like another; marks of direction and halves of surrogate pairs do no better. So all that a
command prints goes through `Printable`, which shows them as `\\x1b`; a cell of a table shows the end of a line so,
too. What is no message but data (predictions, a config, JSON) goes to `data_of` as it is, unless that is a terminal.
The progress bar moves the cursor, and writes past it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO

# Spaces of every width, and the two letters without any that join or part others, as several scripts need them.
HARMLESS = (
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200c\u200d\u202f\u205f\u3000"
)


def printable(text: str, kept: str = "\n\t") -> str:
    r"""Return the text with what cannot be printed as escapes (Note [What cannot be printed]).

    >>> print(printable("\x1b[31mred"), printable("two\nlines", kept=""))
    \x1b[31mred two\nlines
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept or one in HARMLESS else ascii(one)[1:-1] for one in text)


class Printable:
    """A text stream that escapes what cannot be printed (Note [What cannot be printed])."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write it, escaped."""
        self.stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def only_printable() -> Iterator[None]:
    """Within `with`, standard output and error escape what cannot be printed,
    and what their encoding does not have.
    """
    with ExitStack() as held:
        for redirect, stream in ((redirect_stdout, sys.stdout), (redirect_stderr, sys.stderr)):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
            if stream is not None:
                held.enter_context(redirect(Printable(stream)))
        yield


def data_of(stream: Any) -> Any:
    """Return where data go that are written to a stream:
    past what escapes, unless somebody reads them on a terminal.
    """
    return stream if stream is None or stream.isatty() else past(stream)


def past(stream: Any) -> Any:
    """Return the stream itself, beneath what escapes."""
    while isinstance(stream, Printable | Lasting):
        stream = stream.stream
    return stream


class Lasting:
    """A text stream that falls silent once it cannot be written to, instead of raising.

    The reader of a pipe may go (`... | head -1`), a terminal may be closed, a disk may be full: none is a reason to
    lose hours of training, which leaves all that it has to say in files as well.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, if anybody still reads."""
        if self.stream is not None:
            try:
                self.stream.write(text)
            except (OSError, ValueError):
                self._fall_silent()
        return len(text)

    def flush(self) -> None:
        """Flush, if anybody still reads."""
        if self.stream is not None:
            try:
                self.stream.flush()
            except (OSError, ValueError):
                self._fall_silent()

    def isatty(self) -> bool:
        """Return whether somebody watches."""
        return self.stream is not None and not self.stream.closed and self.stream.isatty()

    def _fall_silent(self) -> None:
        stream, self.stream = self.stream, None
        with suppress(OSError, ValueError, AttributeError):  # what is still buffered goes nowhere when the process ends
            assert stream is not None
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
