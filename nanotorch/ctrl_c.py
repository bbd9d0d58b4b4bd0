"""Ctrl-C while the package is imported for one of its commands: the process ends as it does later, without a traceback.

What takes time in a short command is the import, before its `main` can answer anything. A program of somebody else's
that imports the package is left alone.
"""

import os
import signal
import sys


def raises() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, as whoever calls this answers it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


_started = os.path.basename("".join(sys.argv[:1]))
_modules = [word.removeprefix("-m") for word in sys.orig_argv]
_is_command = _started == "nanotorch" or (_started == "-m" and any(f"{m}.".startswith("nanotorch.") for m in _modules))
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
