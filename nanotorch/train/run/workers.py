"""Runs that are trained side by side in several processes: on the cores of this machine, or on a cluster's machines.

Note [Runs in several processes]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A worker is asked for what one process would do with some of the runs: to train them side by side (Note [Runs side by
side]), until so many epochs are done or to their ends. It opens each in its directory and leaves it closed, with all
that was done on the disk; whoever is asked for it next goes on there, as after a stop, bit for bit. So nothing goes
between the processes but names, configs and errors, and the directory is what all of them have to see.

- Runs that are likely to be one program are asked for together, in lists short enough for all workers to have some.
- What a run has done is read from its `metrics.jsonl`.
- A worker goes on as long as the directory of all runs is locked by who asked for them (`directory.is_held`). So it
  saves and stops soon after Ctrl-C, and after the process that asked was killed.
- What a worker was at that dies, others are asked for again; they go on from the last checkpoints. Whoever kills every
  worker, as what takes more memory than there is, is not asked for a fourth time.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from nanotorch.autograd.graph.locks import give_lock
from nanotorch.capture.table.machine import share
from nanotorch.train.config.sections import Config
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.fit.together import dealt
from nanotorch.train.record.directory import RunDirectory, is_held
from nanotorch.train.record.records import read_lines
from nanotorch.train.run.made import Made
from nanotorch.train.run.several_progress import News
from nanotorch.train.run.side_by_side import SideBySide, Watch
from nanotorch.train.terminal.interrupt import Interrupt, Stopping

SOON = 0.3  # seconds until somebody looks again
TRIES = 3
PATIENCE = 10  # seconds until a cluster has to answer


class Workers(NamedTuple):
    """Who trains the runs of a sweep, of folds or of repeats.

    Attributes:
        jobs: so many processes of this machine; -1 is one for each of its cores.
        cluster: the address of a Dask scheduler, whose workers train instead, such as "tcp://host:8786".
    """

    jobs: int = 1
    cluster: str | None = None


class WorkersError(RuntimeError):
    """Workers that cannot be had, or that die; the message says what to do."""


class Runs(Protocol):
    """What trains runs: in this process (`SideBySide`) or in others; to be used in a `with` block.

    Attributes:
        errors: by name what ended a run that could not be brought to its end.
        history: by name the record of every epoch.
    """

    errors: dict[str, Exception]
    history: dict[str, list[dict[str, Any]]]

    def advance(self, names: Iterable[str], epochs: int) -> Iterator[str]:
        """Train these until so many epochs are done; yield the names of those that fail."""

    def finish(self, names: Iterable[str], stopped: Mapping[str, str] | None = None) -> Iterator[str]:
        """Train these to their ends and close them; yield the name of each."""


@contextmanager
def hired(workers: Workers | None) -> Iterator[Staff | None]:
    """Return the processes that are to train; None where that is this one. A WorkersError where there are none."""
    if workers is None or workers == Workers():
        yield None
    elif workers.cluster is None:
        with _Cores(workers.jobs) as cores:
            yield cores
    else:
        with _Cluster(workers.cluster) as cluster:
            yield cluster


@contextmanager
def opened(
    staff: Staff | None,
    files: RunDirectory,
    configs: Mapping[str, Config],
    source: str | None,
    interrupt: Interrupt,
    watch: Watch,
    in_full: bool,
    made: Made,
) -> Iterator[Runs]:
    """Return what trains the runs in a directory; the arguments are those of `SideBySide`."""
    if staff is None:
        with SideBySide(files.path, configs, source, interrupt, watch, in_full, made) as here:
            yield here
    else:
        with _Elsewhere(staff, files, configs, source, interrupt, watch, in_full, made) as elsewhere:
            yield elsewhere


# --------------------------------------------------------------------------------------------------- who is asked


class _Task(NamedTuple):
    """What a worker is asked for.

    Attributes:
        directory: in which the process works that asks.
        root: where the runs are, and
        holder: who holds that directory.
        source, in_full: as of `SideBySide`.
        notes: what the table has decided, of which each run tells.
        sharing: how many workers a machine has.
        configs: by name those of the runs.
        epochs: so many are to be done; None to the end.
        stopped: why some end where they stand.
    """

    directory: str
    root: Path
    holder: str
    source: str | None
    in_full: bool
    notes: Sequence[str]
    sharing: int
    configs: Mapping[str, Config]
    epochs: int | None
    stopped: Mapping[str, str]


class _Done(NamedTuple):
    """What a worker answers: the names of runs that are done or have failed, the errors, and what it would print."""

    ended: list[str]
    errors: Mapping[str, Exception]
    said: str


class _Leash(Interrupt):
    """True once nobody holds the directory any more who asks for what is done in it."""

    def __init__(self, root: Path, holder: str) -> None:
        super().__init__()
        self._root, self._holder, self._looked = root, holder, -math.inf

    def __bool__(self) -> bool:
        if self.signal is None and time.monotonic() - self._looked > SOON:
            self._looked = time.monotonic()
            if not is_held(self._root, self._holder):
                self.signal = signal.SIGTERM
        return self.signal is not None


class _Desk:
    """Where a process works, at one task at a time: a worker of Dask has threads, and a process one default generator.

    Attributes:
        of: of which directory, and who holds it,
        made: is what was made of configs.
    """

    _lock: Any

    def __init__(self) -> None:
        give_lock(self)
        self.of, self.made = "", Made(Interrupt())

    def made_for(self, task: _Task, leash: Interrupt) -> Made:
        """Return what was made for the same directory before, or begin anew."""
        of = f"{task.holder} {task.root}"
        if self.of != of:
            self.of, self.made = of, Made(leash, task.notes)
        return self.made


_desk = _Desk()


def _work(task: _Task) -> _Done:
    """Do what a worker is asked for."""
    said = StringIO()
    ended: list[str] = []
    with (
        _desk._lock,
        chdir(task.directory),
        redirect_stdout(said),
        redirect_stderr(said),
        borrowed_generator(),
        share(task.sharing),
    ):
        if not (task.root / "resolved.yaml").is_file():
            raise WorkersError(
                f"a worker does not see {task.root}: it has to lie on a file system that all of them share"
            )
        leash = _Leash(task.root, task.holder)
        made = _desk.made_for(task, leash)
        with SideBySide(
            task.root, task.configs, task.source, leash, lambda name, news: None, task.in_full, made
        ) as side:
            try:
                if task.epochs is None:
                    ended += side.finish(task.configs, task.stopped)
                else:
                    ended += side.advance(task.configs, task.epochs)
            except Stopping:
                pass
    return _Done(ended, side.errors, said.getvalue())


# ---------------------------------------------------------------------------------------------------------- who asks


class _Elsewhere:
    """Runs that other processes train (Note [Runs in several processes])."""

    def __init__(
        self,
        staff: Staff,
        files: RunDirectory,
        configs: Mapping[str, Config],
        source: str | None,
        interrupt: Interrupt,
        watch: Watch,
        in_full: bool,
        made: Made,
    ) -> None:
        self.errors: dict[str, Exception] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self._files, self._configs, self._interrupt, self._watch = files, configs, interrupt, watch
        self._stopped = False
        self._staff = staff
        root = files.path.absolute()
        self._task = partial(_Task, os.getcwd(), root, files.holder, source, in_full, made.notes, self._staff.sharing)
        self._left: dict[Future[_Done], _Task] = {}
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Nobody is asked yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have all that is under way saved, unless somebody cannot wait."""
        if self._left and isinstance(error, Exception | GeneratorExit):
            self._stop()
            wait(self._left)

    def advance(self, names: Iterable[str], epochs: int) -> Iterator[str]:
        """Train these until so many epochs are done; yield the names of those that fail."""
        return self._done(names, epochs, {})

    def finish(self, names: Iterable[str], stopped: Mapping[str, str] | None = None) -> Iterator[str]:
        """Train these to their ends and close them; yield the name of each that is done or has failed."""
        return self._done(names, None, stopped or {})

    def _done(self, names: Iterable[str], epochs: int | None, stopped: Mapping[str, str]) -> Iterator[str]:
        """Ask workers for these, and yield what they are done with."""
        kinds: dict[str, list[str]] = {}
        for name in names:
            if name not in self.errors:
                kinds.setdefault(_kind(self._configs[name]), []).append(name)
        again = [
            self._task(
                {name: self._configs[name] for name in several},
                epochs,
                {name: stopped[name] for name in several if name in stopped},
            )
            for several in dealt(list(kinds.values()), self._staff.count)
        ]
        failures = 0
        while again or self._left:
            self._left |= {self._staff.submit(task): task for task in again}
            again = []
            done, _ = wait(self._left, SOON, FIRST_COMPLETED)
            if self._interrupt:
                self._stop()
            for text in self._staff.news():
                print(text, file=sys.stderr, flush=True)
            self._look([name for task in self._left.values() for name in task.configs])
            for future in done:
                task = self._left.pop(future)
                try:
                    answer = future.result()
                except self._staff.died as error:
                    again.append(task)
                    cause = error
                    continue
                self._look(task.configs)
                self.errors |= answer.errors
                if answer.said:
                    print(answer.said, end="", file=sys.stderr, flush=True)
                yield from answer.ended
            if again:
                failures += 1
                if failures > TRIES:
                    raise WorkersError(
                        f"workers died {failures} times over the same runs ({', '.join(again[0].configs)}), as those do"
                        " that the system stops for their memory: take fewer of them (--jobs), or a smaller batch;"
                        f" --resume {self._files.path} goes on"
                    ) from cause
                self._staff.renew()
        if self._interrupt:
            raise Stopping

    def _stop(self) -> None:
        """Have all workers save and stop."""
        if not self._stopped:
            self._files.give_up()
        self._stopped = True

    def _look(self, names: Collection[str]) -> None:
        """See what runs have done."""
        for name in names:
            path = self._files.path / name / "metrics.jsonl"
            try:
                size = path.stat().st_size
            except OSError:
                continue
            if size == self._sizes.get(name):
                continue
            before, self._sizes[name] = len(self.history.get(name, ())), size
            self.history[name] = read_lines(path)[0]
            if len(self.history[name]) > before:
                self._watch(name, News(epochs=len(self.history[name]) - before))


def _kind(config: Config) -> str:
    """Return what is the same for runs that are likely to be one program."""
    of_model = config.model.model_dump(mode="json")
    of_model.get("arguments", {}).pop("dropout", None)
    batch = config.train.batch_size, config.train.accumulate
    return json.dumps([of_model, config.optimizer.name, config.loss.model_dump(mode="json"), config.dtype, batch])


class Staff(Protocol):
    """Processes that do what they are asked for; to be used in a `with` block.

    Attributes:
        count: how many there are, and
        sharing: how many of them share a machine.
        died: the errors of those that have died.
    """

    count: int
    sharing: int
    died: tuple[type[BaseException], ...]

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: Any) -> None: ...
    def submit(self, task: _Task) -> Future[_Done]:
        """Have somebody do it."""

    def renew(self) -> None:
        """Find others for those that have died, and say so."""

    def news(self) -> Iterable[str]:
        """Give what there is to be said of them."""


class _Cores:
    """Processes of this machine."""

    def __init__(self, jobs: int) -> None:
        from joblib import cpu_count
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        self.count = self.sharing = jobs if jobs > 0 else cpu_count()
        self.died: tuple[type[BaseException], ...] = (TerminatedWorkerError,)
        self._said: list[str] = []
        self._executor: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None

    def submit(self, task: _Task) -> Future[_Done]:
        """Have one of them do it."""
        if self._executor is None:
            from joblib.externals.loky import ProcessPoolExecutor

            self._executor = ProcessPoolExecutor(self.count, initializer=_begin_worker)
        future: Future[_Done] = self._executor.submit(_work, task)
        return future

    def renew(self) -> None:
        """Begin new ones: where one has died, the others are ended too."""
        self._said.append("warning: a worker has died; what it had saved is taken, and others go on")
        self.__exit__()

    def news(self) -> Iterable[str]:
        """Give what there is to be said."""
        said, self._said = self._said, []
        return said


def _begin_worker() -> None:
    """Leave Ctrl-C to the process that asks, and end when it has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asking = os.getppid()

    def watch() -> None:
        while os.getppid() == asking:
            time.sleep(SOON)
        with _desk._lock:  # what is under way is saved
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Cluster:
    """Workers of Dask."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
            from distributed.scheduler import KilledWorker
        except ImportError as error:
            raise WorkersError(f"--cluster needs Dask: pip install distributed ({error})") from None
        self.died: tuple[type[BaseException], ...] = (KilledWorker,)
        self._executor: Executor
        try:
            self._client = Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise WorkersError(
                f"--cluster {address}: no Dask scheduler answers there: `dask scheduler` begins one, and says its"
                f" address ({error})"
            ) from None
        self._known = set(self._client.nthreads())
        self._looked = time.monotonic()
        self.count = len(self._known)
        self.sharing = max(Counter(address.rpartition(":")[0] for address in self._known).values(), default=1)

    def __enter__(self) -> Self:
        if not self.count:
            self._client.close()
            raise WorkersError("the scheduler has no workers: `dask worker ADDRESS --nthreads 1` begins one")
        self._executor = self._client.get_executor(pure=False)
        return self

    def __exit__(self, *error: Any) -> None:
        self._client.close()

    def submit(self, task: _Task) -> Future[_Done]:
        """Have one of them do it."""
        return self._executor.submit(_work, task)

    def renew(self) -> None:
        """Leave it to the scheduler."""

    def news(self) -> Iterable[str]:
        """Say which of them have gone, and who has come."""
        if time.monotonic() - self._looked < 1:
            return
        self._looked, before = time.monotonic(), self._known
        self._known = set(self._client.nthreads())
        for one in sorted(before - self._known):
            yield f"warning: the worker {one} is gone; what it had saved is taken, and others go on"
        if before and not self._known:
            yield "warning: no worker is left; whoever comes goes on, and Ctrl-C stops"
