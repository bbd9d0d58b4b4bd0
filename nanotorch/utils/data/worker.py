"""Worker processes of a DataLoader.

Note [Worker processes]
~~~~~~~~~~~~~~~~~~~~~~~
Every worker has a pipe of its own. The loader deals the batches of an epoch to the workers in turn, `prefetch_factor`
each ahead, and receives them in the same turn; a worker answers in the order in which it is asked. So batches arrive in
the order of their indices, and nothing has to be sorted::

    loader   indices 0, 2, 4 ... -->  worker 0  --> batches 0, 2, 4 ...  \
             indices 1, 3, 5 ... -->  worker 1  --> batches 1, 3, 5 ...  -- taken in turn: 0, 1, 2, 3 ...

Nobody waits for ever. The loader waits for a batch or for the end of the process that owes it, whichever comes first.
In a worker a thread listens to the pipe while the main thread makes batches: indices are always taken at once, so the
loader never waits with a full pipe for a worker that waits with a full pipe for the loader; and the same thread ends
the process when its parent is gone, however that died, even while a batch is being made.

Ctrl-C goes to all processes of a terminal. Workers ignore it (it is held back while they start), so that one traceback
is printed, the loader's, and the loader ends them.

Processes start as the platform's default has it (`multiprocessing_context` chooses another way). A forked worker is
there at once and needs no pickles, but has only the thread that forked; a spawned one imports the program and gets the
dataset by pickle.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from nanotorch.ops.create.random import manual_seed
from nanotorch.utils.data.fetch import END
from nanotorch.utils.data.worker_info import WorkerInfo, become

STOP, BEGIN = "stop", "begin"
PATIENCE = 2.0  # seconds that a worker gets to finish its batch when the loader is done with it

Fetch = Callable[[Any], Any]


class Pool:
    """The workers of one loader, and the batches that they owe (Note [Worker processes])."""

    def __init__(
        self,
        context: Any,
        count: int,
        timeout: float,
        seed: int,
        make_fetch: Callable[[], Fetch],
        dataset: Any,
        init: Callable[[int], Any] | None,
    ) -> None:
        self.timeout = timeout
        self.workers: list[tuple[Any, Connection]] = []
        self.owed: deque[int] = deque()  # the workers that owe a batch, in the order of the batches
        self.epochs = 0
        self.close = weakref.finalize(self, close, self.workers, os.getpid())
        for number in range(count):
            info = WorkerInfo(number, count, seed + number, dataset)
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(theirs, info, make_fetch, init), name=f"DataLoader worker {number}", daemon=True
            )
            with interrupts_held_back(context):
                process.start()
            theirs.close()
            self.workers.append((process, ours))

    def send(self, number: int, message: Any) -> None:
        """Send to a worker, or say that it is dead."""
        try:
            self.workers[number][1].send(message)
        except OSError:
            raise self.death(number) from None

    def receive(self) -> tuple[int, str, Any]:
        """Wait for the next batch that is owed; return the worker's number, what it sends and of which kind that is."""
        number = self.owed.popleft()
        process, connection = self.workers[number]
        ready = wait([connection, process.sentinel], self.timeout or None)
        if not ready:
            pid = process.pid
            process.kill()
            self.close()
            raise RuntimeError(
                f"DataLoader timed out after {self.timeout} seconds: worker {number} (pid {pid}) did not answer"
            )
        if connection not in ready:
            raise self.death(number)
        try:
            return number, *connection.recv()
        except (EOFError, OSError):
            raise self.death(number) from None

    def death(self, number: int) -> RuntimeError:
        """Say how a worker ended, and end the others."""
        process = self.workers[number][0]
        process.join(PATIENCE)
        pid, code = process.pid, process.exitcode
        self.close()
        if code is not None and code < 0:
            return RuntimeError(
                f"DataLoader worker (pid {pid}) is killed by signal: {signal.strsignal(-code)}. Where the machine ran"
                " out of memory, fewer workers or smaller batches help"
            )
        return RuntimeError(f"DataLoader worker (pid(s) {pid}) exited unexpectedly, with exit code {code}")


class Epoch(Iterator[Any]):
    """The batches of a pool for one iteration over the tasks, in their order."""

    def __init__(self, pool: Pool, tasks: Iterable[Any], prefetch: int, keep: bool, length: Callable[[], int]) -> None:
        self.pool, self.tasks, self.keep, self.length = pool, iter(tasks), keep, length
        self.active = deque(range(len(pool.workers)))
        pool.epochs += 1
        self.number = pool.epochs  # not the epoch itself: a pool ends with the last reference to it
        while pool.owed:  # by an epoch that was left early
            pool.receive()
        for number in self.active:
            pool.send(number, BEGIN)
        for _ in range(prefetch * len(pool.workers)):
            self.ask()

    def ask(self) -> None:
        """Give the next task to the next worker that still has samples."""
        if self.active and (task := next(self.tasks, END)) is not END:
            self.active.rotate(-1)
            self.pool.send(self.active[-1], (task,))
            self.pool.owed.append(self.active[-1])

    def __next__(self) -> Any:
        if self.pool.epochs != self.number:
            raise RuntimeError("another iteration over this DataLoader began: persistent workers serve one at a time")
        while self.pool.owed and self.pool.workers:
            number, kind, value = self.pool.receive()
            if kind != "end":
                self.ask()
                if kind == "error":
                    raise rebuilt(*value)
                return value
            if number in self.active:
                self.active.remove(number)
                self.ask()
        if self.pool.owed:
            raise RuntimeError("the workers of this DataLoader are gone: iterate anew")
        if not self.keep:
            self.pool.close()
        raise StopIteration

    def __len__(self) -> int:
        return self.length()


def close(workers: list[tuple[Any, Connection]], owner: int) -> None:
    """End the workers, patiently first; nothing in a process that inherited them by a fork."""
    if os.getpid() != owner:
        return
    deadline = time.monotonic() + PATIENCE
    for _, connection in workers:
        with suppress(OSError):
            connection.send(STOP)
    for process, connection in workers:
        with suppress(EOFError, OSError):
            while connection in wait([connection, process.sentinel], max(deadline - time.monotonic(), 0.0)):
                connection.recv_bytes()  # a worker that is sending could not stop otherwise
        connection.close()
        process.join(max(deadline - time.monotonic(), 0.1))
        if process.exitcode is None:
            process.kill()
            process.join()
        process.close()
    workers.clear()


@contextmanager
def interrupts_held_back(context: Any) -> Iterator[None]:
    """Let a process start that gets no Ctrl-C before it has said that it ignores it; ours comes afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if context.get_start_method() != "fork":
        from multiprocessing.resource_tracker import ensure_running  # not on Windows

        ensure_running()  # before: it lets signals through when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ------------------------------------------------------------------------------------------- in the worker


def serve(
    connection: Connection, info: WorkerInfo, make_fetch: Callable[[], Fetch], init: Callable[[int], Any] | None
) -> None:
    """Make batches until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks: SimpleQueue[Any] = SimpleQueue()
    Thread(target=listen, args=(connection, tasks), daemon=True).start()
    random.seed(info.seed)
    manual_seed(info.seed)
    np.random.seed(info.seed % 2**32)  # the legacy generator, which datasets may use
    become(info)
    failed: Any = None
    fetch: Fetch | None = None
    try:
        if init is not None:
            init(info.id)
    except Exception as error:
        failed = report(error, info)
    while (task := tasks.get()) != STOP:
        if task == BEGIN:
            fetch = None
            continue
        answer = failed
        try:
            if answer is None:
                fetch = fetch or make_fetch()
                batch = fetch(task[0])
                answer = ("end", None) if batch is END else ("batch", batch)
        except Exception as error:
            answer = report(error, info)
        try:
            connection.send(answer)
        except OSError:  # the loader is gone
            return
        except Exception as error:  # a batch, or a type of errors, that pickle cannot send
            kind, text = report(error, info)[1] if answer[0] == "batch" else (RuntimeError, answer[1][1])
            connection.send(("error", (kind if kind.__module__ == "builtins" else RuntimeError, text)))


def listen(connection: Connection, tasks: SimpleQueue[Any]) -> None:
    """Pass on what comes from the loader; end this process when the loader's is gone."""
    parent, started = parent_process(), os.getppid()
    sentinel = connection if parent is None else parent.sentinel
    while True:
        ready = wait([connection, sentinel], 1.0)
        try:
            if connection in ready:
                tasks.put(connection.recv())
            elif ready or os.getppid() != started:  # a sentinel that another fork inherited tells nothing
                os._exit(1)
        except (EOFError, OSError):
            os._exit(1)


def report(error: Exception, info: WorkerInfo) -> tuple[str, tuple[type[Exception], str]]:
    """Return what is sent in place of a batch that could not be made."""
    lines = "".join(traceback.format_exception(error))
    return "error", (
        type(error),
        f"Caught {type(error).__name__} in DataLoader worker process {info.id}.\nOriginal {lines}",
    )


def rebuilt(kind: type[Exception], text: str) -> Exception:
    """Return an error as the worker had it, with the worker's traceback as its text."""
    try:
        return kind(Lines(text))
    except Exception:  # a type whose errors are made of something else
        return RuntimeError(text)


class Lines(str):
    """A text whose lines stay lines in the message of a KeyError, which is the repr of its argument."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
