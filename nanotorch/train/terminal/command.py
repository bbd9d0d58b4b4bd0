"""What the commands beside training share: their exit codes, and how a user's mistake and a closed pipe end them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from nanotorch import command_start
from nanotorch.train.terminal.standard_streams import only_printable

OK, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(ValueError):
    """Arguments that cannot be meant as they stand: exit code 2."""


def path_option(text: str) -> str:
    """Return what argparse makes of an option that is a path: a leading `~` is the user's directory, as in a shell."""
    from nanotorch.utils import files

    try:
        return files.expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def note(message: str) -> None:
    """Tell the user something that is no result: on standard error, so that piped results stay clean."""
    _say(f"note: {message}")


def fail(message: str, code: int) -> int:
    """Say what went wrong, and return the exit code."""
    _say(message)
    return code


def _say(message: str) -> None:
    with suppress(OSError):  # nobody may be there to read it; the exit code says it too
        print(message, file=sys.stderr, flush=True)


def run_command(
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    work: Callable[[argparse.Namespace], None],
    argv: Sequence[str] | None,
) -> int:
    """Parse the arguments, do the work and return the exit code;
    a mistake of the user becomes a sentence, not a traceback.
    """
    with only_printable():
        return _run_command(parse, work, argv)


def _run_command(
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    work: Callable[[argparse.Namespace], None],
    argv: Sequence[str] | None,
) -> int:
    options = parse(argv)
    try:
        command_start.ctrl_c_raises()
        with _terminable():
            work(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # `... | head -1`: nobody reads on, and what was read is right
        drop_output()
        return OK
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except OSError as error:
        drop_output()
        return fail(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}", FAILED)
    except (MemoryError, RuntimeError, ValueError) as error:
        bad_usage = isinstance(error, UsageError) or type(error).__name__ == "ConfigError"
        return fail(
            f"error: {error}" if str(error) else f"error: {type(error).__name__}", BAD_USAGE if bad_usage else FAILED
        )
    return OK


def drop_output() -> None:
    """Let what standard output still holds go nowhere:
    it cannot be written, and would fail again when the process ends.
    """
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as an exception does, so that no half-written file stays behind; exit code 143."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
