"""How a process begins that one of the package's commands is: with the import, which is what takes time in a short one.

A terminal is told at once that training begins. Ctrl-C ends it as it does later, without a traceback, though no `main`
is there yet to answer. And garbage is not looked for: an import leaves none, and Python would look through all that it
makes again and again, and once more at the end.
A program of somebody else's that imports the package is left alone.
"""

import gc
import os
import signal
import sys


def imported() -> None:
    """The package is there to stay: from here on garbage is looked for, but not in it."""
    if _is_command:
        gc.freeze()
        gc.enable()


def ctrl_c_raises() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, as whoever calls this answers it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


def _say_that_it_begins() -> None:
    """Tell a terminal that training begins: from a cold disk the libraries take seconds to come."""
    at_once = ("-h", "--help", "--quiet", "--list", "--schema", "--print-config", "--validate")
    if not any(word.startswith(at_once) for word in sys.argv) and os.isatty(2):
        os.write(2, b"loading the libraries ...\n")


_started = os.path.basename("".join(sys.argv[:1]))
_modules = [word.removeprefix("-m") for word in sys.orig_argv]
_is_command = _started == "nanotorch" or (_started == "-m" and any(f"{m}.".startswith("nanotorch.") for m in _modules))
if _is_command:
    gc.disable()
    if "nanotorch.train" in _modules or sys.argv[1:2] == ["train"]:
        _say_that_it_begins()
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
