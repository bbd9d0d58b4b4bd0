"""One run by several ranks: rank 0 opens, saves, tells and judges it; the others take its steps with it.

Note [Runs of ranks]
~~~~~~~~~~~~~~~~~~~~
All ranks build the same model from the same config and data, and from then on do the same: they take the steps of Note
[Steps of ranks], score the validation part each for itself, and choose the best epoch. What is not the same is settled
in four meetings, to which each comes with a few words of JSON:

    begun    rank 0 says which seed it has drawn, and what a run that goes on has decided
    built    each says what it has built, or that it could not: a config, data or code of another kind is refused
    opened   rank 0 says from which checkpoint the run goes on; or it says that it could not open the directory

    ended    rank 0 has judged the model

Who fails at a meeting has told the others, and all of them end; rank 0 says why. Where all fail alike, as at a loss
that is not finite or after an interrupt that they have agreed on, they end by themselves too. Anything else that ends
one rank, such as a full disk of rank 0, ends all at once: `broken` says so to who started them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nanotorch as torch
from nanotorch import distributed, nn
from nanotorch.registry import describe_value
from nanotorch.train.config.loading import DECIDED, with_training
from nanotorch.train.config.sections import Config
from nanotorch.train.data.table import DataError
from nanotorch.train.fit.loop import DivergedError, fit
from nanotorch.train.fit.ranked_step import AgreedInterrupt, RankedStep
from nanotorch.train.record.records import by_key
from nanotorch.train.record.resume import whole
from nanotorch.train.run.open_run import Built, RunResult
from nanotorch.train.terminal.interrupt import Stopping, TrainingInterrupted

ROWS = 1000  # of a step, below which a program of one process is as fast as two ranks


class RanksError(RuntimeError):
    """Ranks that do not go together; the message names the rank and what is not the same."""


class FollowerEnded(Exception):
    """A rank ends because rank 0 does, which says why; `exit_code` is what rank 0 ends with."""

    def __init__(self, exit_code: int = 1) -> None:
        super().__init__("rank 0 has ended, and says why")
        self.exit_code = exit_code


broken = False  # whether this rank has left the others where they were


def several() -> bool:
    """Whether this process is one of several ranks."""
    return distributed.get_world_size() > 1


def is_first() -> bool:
    """Whether this is rank 0."""
    return distributed.get_rank() == 0


class Meeting:
    """Ranks that meet, to be used in a `with` block: within, each prepares what it says (Note [Runs of ranks]).

    Attributes:
        mine: what this rank says.
        heard: what all have said, by rank, once the block has ended.
    """

    def __init__(self) -> None:
        self.mine: dict[str, Any] = {}
        self.heard: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        """Nobody has said anything."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say it, also that this rank has failed; raise what ends this rank since another one has."""
        if error is not None:
            if id(error) not in _known:
                _known.add(id(error))
                _told({"failed": str(error) or type(error).__name__, "exit_code": getattr(error, "exit_code", 1)})
            return
        self.heard = _told(self.mine)
        failed = [(rank, said) for rank, said in enumerate(self.heard) if "failed" in said]
        if failed:
            rank, said = failed[0]
            raise _ended(
                RanksError(f"rank {rank}: {said['failed']}")
                if is_first()
                else FollowerEnded(self.heard[0].get("exit_code", 1))
            )


_known: set[int] = set()  # errors that all ranks know of, by their ids


def _ended(error: Exception) -> Exception:
    """Return an error that all ranks know of."""
    _known.add(id(error))
    return error


def _told(mine: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(said) for said in distributed.group().all_gather_bytes(json.dumps(mine).encode())]


def settled_by_first(config: Config, before: Config | None = None, check: Callable[[], None] | None = None) -> Config:
    """Return the config with the seed of rank 0, and with what the run that goes on has decided.

    On rank 0 `check` looks first whether the run can be written.
    """
    with Meeting() as begun:
        if is_first():
            if check is not None:
                check()
            open_keys = [key for key in DECIDED if getattr(config.train, key) == "auto"]
            decided = {} if before is None else {key: getattr(before.train, key) for key in open_keys}
            begun.mine |= {"seed": config.seed, "decided": decided}
    said = begun.heard[0]
    return with_training(config.model_copy(update={"seed": said["seed"]}), said["decided"])


def built(make: Callable[[Config], Built], interrupt: AgreedInterrupt, config: Config) -> Built:
    """Return what `make` makes, once all ranks have made the same."""
    with Meeting() as met:
        if config.train.compile is True:
            raise DataError(
                "train.compile: programs are steps of one process, and this is one of several ranks", "train", "compile"
            )
        found = make(config.model_copy(update={"train": config.train.model_copy(update={"compile": False})}))
        _refuse_what_ranks_cannot(found)
        form = dict(by_key(config.model_dump(mode="json"))) | {"the data": found.fingerprint, "the code": _code()}
        met.mine["form"] = {key: describe_value(value) for key, value in form.items()}
    first, *others = [said["form"] for said in met.heard]
    for rank, form in enumerate(others, 1):
        for key in {**first, **form}:
            if first.get(key) != form.get(key):
                raise _ended(
                    RanksError(
                        f"rank {rank}: {key} is {form.get(key, 'missing')}, and {first.get(key, 'missing')} on rank 0:"
                        " ranks train one run, with the same config, data and code"
                    )
                    if is_first()
                    else FollowerEnded()
                )
    found.chunks.refused = "several ranks take each step together"
    if is_first():
        _say_what_it_is_for(found)
    return found._replace(config=config, step=RankedStep(interrupt, config.train.reduce == "ordered"))


def _refuse_what_ranks_cannot(found: Built) -> None:
    """A DataError where the rows lie on a GPU, or a batch norm would see a single row on some rank."""
    device = found.setup.parts["train"].device
    if device.type != "cpu":
        raise DataError(
            f"device: several ranks train on the CPU, and this is {device}: device=cpu, or one process", "device"
        )
    loader, size = found.setup.loader, distributed.get_world_size()
    batch, rows = loader.batch_size or 1, len(loader.dataset)
    window = batch * found.setup.options.accumulate
    smallest = min(window, rows if rows < window or loader.drop_last else rows % window or window)
    norms = any(isinstance(module, nn.BatchNorm1d) for module in found.setup.training.model.modules())
    if norms and smallest // size < 2:
        raise DataError(
            f"a step of {smallest} rows leaves fewer than two for some of {size} ranks, and a batch norm needs two:"
            " take fewer ranks, a larger train.batch_size, or train.drop_last",
            "train",
            "batch_size",
        )


def _say_what_it_is_for(found: Built) -> None:
    rows = (found.setup.loader.batch_size or 1) * found.setup.options.accumulate
    size = distributed.get_world_size()
    told = f"{size} ranks take each step together, {-(-rows // size)} of its {rows} rows each"
    few = f"; on the cores of one machine that pays from some {ROWS:,} rows a step on"
    print(f"note: {told}{few * (rows < ROWS)}")


@cache
def _code() -> str:
    """Return a digest of the package's source."""
    root, digest = Path(torch.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def opening() -> Iterator[dict[str, Any]]:
    """Within, rank 0 does what the others wait for, and puts what they are told into the dictionary; alone it tells
    nobody.
    """
    if not several():
        yield {}
        return
    with Meeting() as met:
        yield met.mine


@contextmanager
def together() -> Iterator[None]:
    """Within, all ranks take the steps; an error that they do not share leaves the group `broken`."""
    global broken
    try:
        yield
    except (DivergedError, TrainingInterrupted, FollowerEnded) as error:
        _known.add(id(error))
        raise
    except BaseException:
        broken = True
        raise


def follow(config: Config, make: Callable[[Config], Built], interrupt: AgreedInterrupt) -> RunResult:
    """Train as one of the ranks behind rank 0; ends by FollowerEnded where rank 0 ends before its time."""
    found = built(make, interrupt, settled_by_first(config))
    with Meeting() as opened:
        pass
    training, loader, parts, options = found.setup
    place = opened.heard[0]["checkpoint"]
    with together():
        if place is not None:
            training.load(whole(Path(place))[0], opened.heard[0]["changed"])
        try:
            for _ in fit(training, loader, parts.get("validation"), options, interrupt, found.step):
                if interrupt:
                    break
        except Stopping:
            pass
        except DivergedError as error:
            raise FollowerEnded(error.exit_code) from None
    if interrupt.signal is not None:
        raise _ended(FollowerEnded(128 + interrupt.signal))
    with Meeting() as ended:
        pass
    said = ended.heard[0]
    return RunResult(Path(said["directory"]), training.model, said["scores"], training.history, training.best_epoch)


def command(train: Callable[[], int], alone: bool) -> int:
    """Run a command as one of several ranks, or `alone` on rank 0, which is heard alone; return its exit code."""
    distributed.init_process_group()
    said, code = StringIO(), 0
    try:
        if is_first():
            code = train()
        elif not alone:
            with redirect_stdout(StringIO()), redirect_stderr(said):
                code = train()
    except FollowerEnded as ended:
        code = ended.exit_code
    except BaseException:
        distributed.group().abort(1)
        raise
    if broken:
        if not is_first() and sys.__stderr__ is not None:
            sys.__stderr__.write(f"rank {distributed.get_rank()}: {said.getvalue()}")
        distributed.group().abort(code)
    if code and not alone and not _known:  # before the first meeting, where the others may wait
        heard = _told({"failed": said.getvalue().strip(), "exit_code": code})
        if is_first():
            return code
        code = heard[0].get("exit_code", code)
    distributed.destroy_process_group()
    return code
