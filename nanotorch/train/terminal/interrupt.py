"""Ctrl-C and SIGTERM as a flag that the training loop looks at between steps."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self


class Stopping(Exception):
    """An interrupt was seen between steps: what was begun is given up, and nothing is lost by it."""


class TrainingInterrupted(Exception):
    """Training was asked to stop and has stopped cleanly; `exit_code` is 128 + the signal's number."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupt:
    """Within `with Interrupt() as interrupt:`, true once SIGINT or SIGTERM has arrived.

    The handler only sets a flag, so that no step and no file is left half-done, and puts the previous
    handlers back: a second signal acts at once, as if this class did not exist. A signal that is ignored, as the shell
    has Ctrl-C ignored by what runs in the background, stays so. Signals reach only the main thread of a program; in any
    other thread the flag stays down.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def check(self) -> None:
        """Raise `Stopping` if a signal has arrived."""
        if self:
            raise Stopping

    def __enter__(self) -> Self:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._raise_flag)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the previous handlers back."""
        self._restore()

    def _raise_flag(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        with suppress(KeyError):  # a second signal may come in the middle, and empty it
            while True:
                number, handler = self._previous.popitem()
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
