"""A run of the trainer: a config becomes a trained, tested and saved model, and a directory that tells all about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from nanotorch.train.config.loading import batch_size_of, settled_as, with_seed
from nanotorch.train.config.sections import Config
from nanotorch.train.fit.build import build
from nanotorch.train.fit.decided import settled_data
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.fit.ranked_step import AgreedInterrupt
from nanotorch.train.record import directory
from nanotorch.train.record.environment import environment
from nanotorch.train.record.resume import Resumed, config_of
from nanotorch.train.run import ranks
from nanotorch.train.run.open_run import Built, RunResult, Wanted, chunks_of, interrupted, open_run
from nanotorch.train.terminal.blas_threads import blas_threads
from nanotorch.train.terminal.interrupt import Interrupt, Stopping


def run(
    config: Config,
    source: str | None = None,
    progress_bar: bool = True,
    run_directory: Path | None = None,
    resume: Resumed | None = None,
    overwrite: bool = False,
    needed: Sequence[str | Path] = (),
) -> RunResult:
    """Train as the config says, keep the epoch with the best validation score, and test that one.

    Args:
        config: what to do.
        source: the text of the config file, to be kept beside the results.
        progress_bar: allow a bar where the output is a terminal.
        run_directory: where to write, a directory that is new or empty; without it a new one is made.
        resume: go on with this run in its own directory, bit for bit, instead of beginning one.
        overwrite: replace the run that is in `run_directory`.
        needed: files that are not to be replaced with it, such as the config's; those that the config names never are.

    Raises:
        DataError: the data cannot be trained on; nothing was written.
        DirectoryError: the directory cannot be written to, or belongs to another run; nothing was written.
        ResumeError: the run cannot go on so; a CompleteError where another process has finished it in the meantime.
        CheckpointError: a checkpoint cannot be written, or the one to go on from does not fit; those before it are
            intact.
        DivergedError: the loss is not finite any more.
        TrainingInterrupted: after Ctrl-C or SIGTERM, once the step is done and saved.
        RanksError: several ranks train, and do not go together; on those behind rank 0 a FollowerEnded in its place,
            and where rank 0 ends before its time (Note [Runs of ranks]). These return the model as it is after the last
            step, and what rank 0 says of the rest.
    """
    if config.sweep is not None:
        raise ValueError(
            "this config is of a sweep, not of one run: run_sweep trains its trials; sweep=null leaves it out"
        )
    before = None if resume is None else config_of(resume.directory)
    first = not ranks.several() or ranks.is_first()
    if config.seed is None and first:
        config = with_seed(config, None if before is None else before.seed)
        print(f"seed {config.seed} {'drawn' if before is None else 'of the run that goes on'}")
    config = config if before is None else settled_as(config, before)
    needed = [*needed, *files_of(config)]
    check = None if resume is not None else partial(directory.check, config.output, run_directory, overwrite, needed)
    with borrowed_generator(), ExitStack() as held:
        interrupt = held.enter_context(AgreedInterrupt() if ranks.several() else Interrupt())
        make = partial(_built, interrupt=interrupt, held=held)
        if isinstance(interrupt, AgreedInterrupt):
            if not first:
                return ranks.follow(config, make, interrupt)
            config = ranks.settled_by_first(config, before, check)
            make = partial(ranks.built, make, interrupt)
        elif check is not None:
            check()
        wanted = Wanted(config, source, run_directory, resume, overwrite, needed)
        return _trained(wanted, make, interrupt, held, progress_bar)


def _trained(
    wanted: Wanted, make: Callable[[Config], Built], interrupt: Interrupt, held: ExitStack, progress_bar: bool
) -> RunResult:
    """Open a run, train to its end and judge it."""
    with ranks.opening() as opened:
        current = open_run(wanted, make, interrupt, held, progress_bar)
        current.start(wanted)
        opened |= current.goes_on_from()
    with ranks.together():
        try:
            for event in current.events():
                current.take(event)
        except DivergedError as error:
            raise current.explained(error) from None
        if interrupt:
            raise current.stopped()
    with ranks.opening() as ended:
        result = current.close(current.judge())
        ended |= {"directory": str(result.directory), "scores": result.scores}
    return result


def _built(config: Config, interrupt: Interrupt, held: ExitStack) -> Built:
    """Make what the config asks for, with few threads in a small model until the run is closed."""
    try:
        interrupt.check()
        config, data = settled_data(config)
        interrupt.check()
        setup = build(config, data)
        chunks = chunks_of(config, setup)
        interrupt.check()
    except Stopping:
        raise interrupted(interrupt, "stopped before the first step; nothing was written") from None
    held.enter_context(blas_threads(setup.training.model, batch_size_of(config)))
    return Built(config, data, setup, chunks, data.fingerprint(), environment(setup.parts["train"].device))


def files_of(config: Config) -> list[str]:
    """Return the files that the data of a config are read from."""
    words = [os.path.expanduser(value) for value in config.data.arguments.values() if isinstance(value, str)]
    return [word for word in words if os.path.isfile(word)]
