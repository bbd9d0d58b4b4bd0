"""Several runs open at once, trained side by side: the folds and repeats of a config, the trials of a sweep.

Note [Runs side by side]
~~~~~~~~~~~~~~~~~~~~~~~~
Each of them is an ordinary run, opened, trained, judged and closed by the same functions as one that is alone
(`open_run`), and its files are the same, times apart. What they share:

- What is made of alike sections of their configs: the table that was loaded, its parts, these on their device, and what
  is known of the environment. They are kept while runs that are open use them.
- The steps: `together` takes those of all runs that are open, many in one call.
- The disk. To write safely waits for it, K runs for K times as long as one. So a checkpoint on the way waits in memory
  until writing takes no more than `SHARE` of the time (`Pace`); at the end all of them wait for the disk at once, in
  `WRITERS` threads. The best and the last checkpoint of a run are always written.

At most `AT_ONCE` runs are open, and no more than keep their data and ten times their weights (gradients, moments,
copies that wait to be written) within `MEMORY`; the others come in later waves. A model that is worth threads of BLAS
is trained with its kind alone, since the number of threads decides bits.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from nanotorch.train.config.loading import batch_size_of
from nanotorch.train.config.sections import Config
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.chunks import Chunk
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.fit.together import End, together
from nanotorch.train.record.checkpoint import CheckpointError, Pace
from nanotorch.train.record.directory import is_empty
from nanotorch.train.record.resume import CompleteError, LostError, Resumed, ResumeError, find
from nanotorch.train.run.made import Made, MadeData
from nanotorch.train.run.open_run import Built, OpenRun, Wanted, chunks_of, interrupted, open_run
from nanotorch.train.run.several_progress import News, SeveralProgress
from nanotorch.train.terminal.blas_threads import blas_threads, worth_threads
from nanotorch.train.terminal.interrupt import Interrupt, Stopping, TrainingInterrupted

AT_ONCE = 64
MEMORY = 2**31
WRITERS = 8
ITS_OWN_FAULT = (DivergedError, DataError, MemoryError)  # what ends one run, and no other


Watch = Callable[[str, News], None]


class SideBySide:
    """Runs that are trained side by side (Note [Runs side by side]); to be used in a `with` block.

    Args:
        root: the directory of all of them.
        configs: by name that of each, which trains it in a directory of that name.
        source: the text of the config file, to be kept beside the results of each.
        interrupt: what they listen to.
        watch: is told what every run has done, once it is saved.
        in_full: write `report.html` of each, and look for what made a value that is not finite.
        made: what they share.

    Attributes:
        errors: by name what ended a run that could not be brought to its end.
        history: by name the record of every epoch of a run that was open.
    """

    def __init__(
        self,
        root: Path,
        configs: Mapping[str, Config],
        source: str | None,
        interrupt: Interrupt,
        watch: Watch,
        in_full: bool,
        made: Made,
    ) -> None:
        self.errors: dict[str, Exception] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self._root, self._configs, self._source = root, configs, source
        self._interrupt, self._watch, self._in_full = interrupt, watch, in_full
        self._open: dict[str, _Open] = {}
        self._made = made
        self._pace = Pace()
        self._threads = ExitStack()
        self._worth_threads = False

    def __enter__(self) -> Self:
        """Nothing is open yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what is open, with what waits to be written."""
        held = ExitStack()
        held.push(self._threads)
        for one in self._open.values():
            held.push(one.held)
        held.__exit__(kind, error, trace)

    def advance(self, names: Iterable[str], epochs: int) -> Iterator[str]:
        """Train these until so many epochs are done; yield the names of those that fail.

        They stay open if there is room for all of them. Raises `Stopping` after an interrupt, once all that is open is
        on the disk; so does `finish`.
        """
        for wave, failed, more in self._waves(names):
            yield from failed
            yield from self._trained(wave, epochs)
            if more:
                yield from [name for name in self._at_once(wave, lambda run: None) if name in self.errors]

    def finish(self, names: Iterable[str], stopped: Mapping[str, str] | None = None) -> Iterator[str]:
        """Train these to their ends, judge and close them; yield the name of each that is done or has failed.

        Those in `stopped`, which says why, end where they stand.
        """
        for wave, failed, _ in self._waves(names):
            yield from failed
            for name, one in wave.items():
                training = one.run.setup.training
                training.stopped = training.stopped or (stopped or {}).get(name)
            yield from self._trained(wave)
            yield from self._at_once(wave, lambda run: run.close(run.judge(), self._in_full))

    # ------------------------------------------------------------ open

    def _waves(self, names: Iterable[str]) -> Iterator[tuple[dict[str, _Open], list[str], bool]]:
        """Open these, as many at a time as there is room for; yield them, the names of those that cannot be opened, and
        whether there are more.
        """
        left = [name for name in names if name not in self.errors]
        while left:
            wave = {name: self._open[name] for name in left if name in self._open}
            failed, later, new = [], [], []
            for name in left:
                if name in wave:
                    continue
                if self._is_full():
                    later.append(name)
                    continue
                try:
                    wave[name] = self._open[name] = self._opened(name)
                    new.append(self._open[name])
                except _AnotherWave:
                    later.append(name)
                except CompleteError:  # another process has brought it to its end
                    failed.append(name)
                except ITS_OWN_FAULT as error:
                    self.errors[name] = error
                    failed.append(name)
            with ThreadPoolExecutor(WRITERS) as pool:
                for started in [pool.submit(one.run.start, one.wanted) for one in new]:
                    started.result()
            self._pace.runs = len(self._open)
            yield wave, failed, bool(later)
            left = later

    def _is_full(self) -> bool:
        weights = sum(10 * p.nbytes for one in self._open.values() for p in one.run.setup.training.model.parameters())
        data = {id(made): made.nbytes for one in self._open.values() for made in [one.made]}
        return len(self._open) >= AT_ONCE or (bool(self._open) and weights + sum(data.values()) >= MEMORY)

    def _opened(self, name: str) -> _Open:
        held = ExitStack()
        made: list[MadeData] = []

        def make(config: Config) -> Built:
            self._interrupt.check()
            made.append(self._made.of(config))
            setup = made[0].setup(config)
            model, rows = setup.training.model, batch_size_of(config)
            worth = worth_threads(model, rows)
            if self._open and worth != self._worth_threads:
                raise _AnotherWave
            if not self._open:
                self._threads.close()
                self._threads.enter_context(blas_threads(model, rows))
                self._worth_threads = worth
            here = self._made.environment(setup, worth)
            return Built(config, made[0].data, setup, chunks_of(config, setup), made[0].fingerprint, here)

        with held:  # given back where the run cannot be opened
            wanted = _wanted_in(self._root / name, self._configs[name], self._source)
            run = open_run(wanted, make, self._interrupt, held, pace=self._pace)
            self.history[name] = run.setup.training.history
            return _Open(run, held.pop_all(), made[0], wanted)

    # ------------------------------------------------------------ train, close

    def _trained(self, wave: dict[str, _Open], epochs: int | None = None) -> Iterator[str]:
        """Take the steps of a wave; yield the names of those that fail, which are no longer in it."""
        for name, event in together({name: one.run.events(epochs) for name, one in wave.items()}):
            if isinstance(event, End):
                continue
            run = wave[name].run
            try:
                run.take(event)
            except ITS_OWN_FAULT as error:
                if self._in_full and isinstance(error, DivergedError):
                    error = run.explained(error)
                else:
                    run.tell.log(str(error))
                self._failed(name, error)
                del wave[name]
                yield name
                continue
            if isinstance(event, dict):
                training = run.setup.training
                self._watch(name, News(0, 1, training.stopped is not None, training.best_score))
            else:
                self._watch(name, News(event.steps if isinstance(event, Chunk) else 1))
        if self._interrupt:
            for _ in self._at_once(wave, OpenRun.stopped):
                pass
            raise Stopping

    def _at_once(self, wave: dict[str, _Open], work: Callable[[OpenRun], object]) -> Iterator[str]:
        """Do this with the runs and close them, so that they wait for the disk at the same time; yield their names."""

        def done(name: str) -> None:
            with wave[name].held:
                work(wave[name].run)

        def yielded(name: str, result: Callable[[], None]) -> str:
            try:
                result()
                del self._open[name]
            except ITS_OWN_FAULT as error:
                self._failed(name, error)
            except TrainingInterrupted:
                raise Stopping from None
            return name

        names = list(wave)
        for name in names[:1]:  # what is made at the first call is made once
            yield yielded(name, partial(done, name))
        with ThreadPoolExecutor(WRITERS) as pool:
            for name, future in [(name, pool.submit(done, name)) for name in names[1:]]:
                yield yielded(name, future.result)

    def _failed(self, name: str, error: Exception) -> None:
        self.errors[name] = error
        with suppress(CheckpointError):
            self._open.pop(name).held.close()


def begun_in(place: Path, config: Config) -> Resumed | None:
    """Return the run in a directory, if one was begun there; a ResumeError where it cannot go on."""
    if not (place / "resolved.yaml").is_file():
        refuse_unknown(place)
        return None
    try:
        return find(config, str(place), None)
    except LostError as error:
        raise ResumeError(f"{error.fact}: delete {place}, and this run is trained anew, the others stay") from None


def refuse_unknown(place: Path) -> None:
    """A ResumeError where nobody can tell of which run the files of a directory are."""
    if place.is_dir() and not is_empty(place):
        raise ResumeError(
            f"{place} has files, but no resolved.yaml that says of which run they are: bring it back, or delete"
            f" {place}, and this run is trained anew, the others stay"
        )


def _wanted_in(place: Path, config: Config, source: str | None = None) -> Wanted:
    """Return the run that a config makes in a directory: one that goes on, if it was begun there."""
    begun = begun_in(place, config)
    for notice in () if begun is None else begun.notices:
        print(f"warning: {notice}", file=sys.stderr)
    return Wanted(config, source, None if begun else place, begun)


def stopped_all(interrupt: Interrupt, root: Path, progress: SeveralProgress) -> TrainingInterrupted:
    """Return what is raised after an interrupt of several runs."""
    return interrupted(
        interrupt,
        f"stopped; {progress.done} of {progress.count} {progress.what} are done, and what the others did is saved; the"
        f" same command with --resume {shlex.quote(str(root))} goes on",
    )


class _AnotherWave(Exception):
    """A run that is not to be open beside those that are."""


class _Open(NamedTuple):
    run: OpenRun
    held: ExitStack
    made: MadeData
    wanted: Wanted
