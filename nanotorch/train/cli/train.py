"""The command line: `python -m nanotorch.train CONFIG [key=value ...]`.

Nothing but argparse is imported until the arguments are known to be good, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING

from nanotorch import command_start
from nanotorch.train.terminal.command import BAD_USAGE, FAILED, INTERRUPTED, OK, drop_output, fail, path_option
from nanotorch.train.terminal.standard_streams import data_of, only_printable

if TYPE_CHECKING:
    from pathlib import Path

    from nanotorch.train.config.sections import Config
    from nanotorch.train.data.table import DataError
    from nanotorch.train.run.workers import Workers

UNBROKEN = "\N{NO-BREAK SPACE}"
KINDS = ("datasets", "models", "activations", "initializations", "losses", "optimizers", "schedulers", "metrics")
EPILOG = """\
examples:
  {prog} configs/digits_mlp.yaml
  {prog} table.csv --target price
  {prog} configs/digits_mlp.yaml optimizer.lr=3e-3
  {prog} configs/digits_mlp.yaml 'model.hidden=[64, 64]'
  {prog} --list optimizers

exit codes:
  0 done   1 failed   2 bad config or usage
  3 diverged: the loss became NaN or infinite
  130 interrupted (Ctrl-C)   143 terminated (SIGTERM)
  after both, --resume goes on where the run stopped
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Train a model as a YAML config says; results go to a new directory under runs/.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("config", nargs="?", type=path_option, metavar="CONFIG", help="the config file ('-' is standard input)")
    add(
        "--target",
        action="append",
        metavar="COLUMN",
        help="train a table instead, given in the place of CONFIG, to predict this column, by a config that suits it",
    )
    add("overrides", nargs="*", metavar="key=value", help="set a value of the config: optimizer.lr=1e-3")
    add("--print-config", action="store_true", help="print the config with every default, and stop")
    add("--validate", action="store_true", help="check the config, and stop")
    add("--list", nargs="?", const="all", choices=(*KINDS, "all"), metavar="KIND", help=f"list {', '.join(KINDS)}")
    add("--dry-run", action="store_true", help="show data, model, and the time and memory of a step; write nothing")
    add("--find-lr", action="store_true", help="train while the learning rate rises, draw the loss, and name a rate")
    add("--doctor", action="store_true", help="look at the data and at some steps of training, and say what to change")
    add("--schema", action="store_true", help="print the JSON Schema of configs, for editors")
    add(
        "--output",
        type=path_option,
        metavar="DIR",
        help="the run's directory itself (output=DIR makes a new one in DIR)",
    )
    add("--overwrite", action="store_true", help="replace the run that is in --output")
    add(
        "--resume",
        type=path_option,
        metavar="auto|PATH",
        help="go on with the newest run of this config, or with that run or checkpoint",
    )
    add("--allow-config-change", action="store_true", help="resume although the config differs from the run's")
    add("--device", metavar="D", help="auto, cpu, cuda or cuda:N (short for device=D)")
    add("--jobs", type=int, metavar="N", help="train a sweep, folds or repeats in N processes (-1: one per core)")
    add("--cluster", metavar="ADDRESS", help="train them by the workers of a Dask scheduler, such as tcp://host:8786")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--no-progress", action="store_true", help="a plain line for each epoch instead of a progress bar")
    return made


def main(argv: Sequence[str] | None = None, prog: str = "python -m nanotorch.train") -> int:
    """Do what the arguments say and return the exit code."""
    with only_printable():
        return _main(argv, parser(prog))


def _main(argv: Sequence[str] | None, parser: argparse.ArgumentParser) -> int:
    options = parser.parse_intermixed_args(argv)
    try:
        command_start.ctrl_c_raises()
        if options.list:
            code = _list(options.list)
        elif options.schema:
            code = _schema()
        elif options.config is None:
            parser.error("a CONFIG is needed, such as configs/digits_mlp.yaml")
        elif options.output is not None and not options.output.strip():
            parser.error("--output needs the path of a directory")
        elif options.output is not None and not options.output.isprintable():
            parser.error(f"--output {options.output}: the path of a directory has characters that can be printed")
        elif options.jobs is not None and (options.jobs == 0 or options.jobs < -1):
            parser.error(f"--jobs {options.jobs}: a number of processes is needed, or -1 for one per core")
        elif options.jobs is not None and options.cluster is not None:
            parser.error("--jobs takes processes of this machine, --cluster those of others: give one of them")
        elif options.overwrite and (options.resume is not None or options.output is None):
            parser.error("--overwrite replaces the run in --output DIR: it goes with --output, and not with --resume")
        else:
            code = _as_rank(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # `... | head -1`: nobody reads on
        drop_output()
        return OK if options.list or options.print_config or options.validate or options.schema else FAILED
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except OSError as error:  # standard output, on a full disk
        drop_output()
        return fail(f"error: standard output: {error.strerror or error}", FAILED)
    return code


def _as_rank(options: argparse.Namespace) -> int:
    """Train, alone or as one of the processes that mpiexec has started; what else is asked for rank 0 answers."""
    from nanotorch.distributed import mpi

    if mpi.started() == 1:
        return _train(options)
    from nanotorch.train.run import ranks

    looks = options.print_config or options.validate or options.dry_run or options.find_lr or options.doctor
    try:
        return ranks.command(partial(_train, options), alone=looks)
    except RuntimeError as error:
        return fail(f"error: {error}", FAILED)


def _train(options: argparse.Namespace) -> int:
    """Check the config, and train unless only the config was asked for."""
    from nanotorch.train.config.loading import loads, resolved
    from nanotorch.train.config.strict_yaml import ConfigError, read
    from nanotorch.train.config.table_config import config_of_table
    from nanotorch.train.data.table import DataError

    overrides = list(options.overrides)
    if options.device is not None:
        overrides.append(f"device={json.dumps(options.device)}")
    source = "<stdin>" if options.config == "-" else options.config
    try:
        if options.target is not None:
            source = "<preset>"
            text = config_of_table(options.config, options.target)
        else:
            text = read(options.config)
        config = loads(text, source, overrides)
    except ConfigError as error:
        count = len(error.problems)
        return fail(f"{error}\n\n{count} problems in the config" if count > 1 else str(error), BAD_USAGE)
    except DataError as error:  # a preset looks at the table
        return _refused(error, text, source, overrides)
    except OSError as error:
        return fail(f"error: {error.filename}: {error.strerror}", FAILED)
    except (ImportError, MemoryError) as error:
        return fail(f"error: {error}", FAILED)
    if options.print_config:
        print(resolved(config), end="", file=data_of(sys.stdout))
        return OK
    if options.validate:
        print(f"{options.config}: valid")
        return OK

    from nanotorch.train.fit.loop import DivergedError
    from nanotorch.train.terminal.interrupt import TrainingInterrupted
    from nanotorch.train.terminal.standard_streams import Lasting

    try:
        with (
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere if options.quiet else Lasting(sys.stdout)),
            redirect_stderr(Lasting(sys.stderr)),
        ):
            look = options.dry_run or options.find_lr or options.doctor
            return _look(options, config) if look else _run(options, config, text)
    except (DivergedError, TrainingInterrupted) as stopped:
        return fail(str(stopped), stopped.exit_code)
    except OSError as error:
        return fail(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}", FAILED)
    except ImportError as error:
        return fail(f"error: {error}: this needs {error.name}; pip install it", FAILED)
    except DataError as error:
        return _refused(error, text, source, overrides)
    except (MemoryError, RuntimeError, ValueError) as error:
        return fail(f"error: {error}" if str(error) else f"error: {type(error).__name__}", FAILED)


def _refused(error: DataError, text: str, source: str, overrides: Sequence[str]) -> int:
    """Say what is wrong with the data, with the line of the config that asked for it."""
    from nanotorch.train.config.loading import located
    from nanotorch.train.terminal.text_report import MOST_PROBLEMS

    told = [
        str(located(problem.path, str(problem), text, source, overrides)) if problem.path else f"error: {problem}"
        for problem in error.problems[:MOST_PROBLEMS]
    ]
    count = len(error.problems)
    told += [f"... and {count - MOST_PROBLEMS} more"] if count > MOST_PROBLEMS else []
    told += [f"\n{count} problems in the data"] if count > 1 else []
    return fail("\n".join(told), BAD_USAGE if any(problem.path for problem in error.problems) else FAILED)


def _run(options: argparse.Namespace, config: Config, text: str) -> int:
    """Find or make the run's directory, and train in it."""
    from dataclasses import replace
    from pathlib import Path

    from nanotorch.train.config.loading import epochs_of, settled_as
    from nanotorch.train.record import resume
    from nanotorch.train.run import folds, ranks
    from nanotorch.train.run.run import run
    from nanotorch.train.sweep.run_sweep import run_sweep

    if ranks.several():
        if config.sweep is not None or folds.is_several(config):
            return fail("error: mpiexec trains one run, and this config has several: --jobs shares them out", BAD_USAGE)
        if not ranks.is_first():
            run(config)
            return OK
    place = None if options.output is None else Path(options.output)
    needed = [os.path.realpath("/dev/stdin") if options.config == "-" else options.config]
    bar = not options.no_progress
    workers = None
    if options.jobs is not None or options.cluster is not None:
        from nanotorch.train.run.workers import Workers

        workers = Workers(options.jobs or 1, options.cluster)
        if config.sweep is None and not folds.is_several(config):
            given = "--jobs" if options.cluster is None else "--cluster"
            return fail(
                f"error: {given} is for sweep, train.folds and train.repeats: this config is one run", BAD_USAGE
            )
    found = None if options.resume is None else resume.find(config, options.resume, place)
    if found is None:
        if options.resume is not None:
            print("nothing to resume: a new run begins")
        if config.sweep is not None:
            run_sweep(
                config, text, place, overwrite=options.overwrite, needed=needed, progress_bar=bar, workers=workers
            )
        elif folds.is_several(config):
            folds.run_all(
                config, text, place, overwrite=options.overwrite, needed=needed, progress_bar=bar, workers=workers
            )
        else:
            run(config, text, progress_bar=bar, run_directory=place, overwrite=options.overwrite, needed=needed)
        return OK
    for notice in found.notices:
        print(f"warning: {notice}", file=sys.stderr)
    config = settled_as(config, resume.config_of(found.directory))
    if config.sweep is not None or resume.config_of(found.directory).sweep is not None:
        return _go_on_with_sweep(config, text, found.directory, bar, workers)
    changed = resume.differences(config, found.directory)
    if changed and not options.allow_config_change:
        raise resume.ResumeError(
            "\n  ".join([f"{found.directory} was trained with another config:", *changed])
            + "\nGo on with its own resolved.yaml, or give --allow-config-change"
        )
    if folds.is_several(config) or folds.is_several(resume.config_of(found.directory)):
        folds.run_all(config, text, found.directory, resume=True, progress_bar=bar, workers=workers)
        return OK
    if found.covers(config) and not changed:
        assert found.checkpoint is not None
        done, asked = found.checkpoint.state["epoch"], epochs_of(config)
        more = "train.epochs" if done >= asked else "early_stopping.patience"
        print(f"already complete: {found.directory} ({done} of {asked} epochs; a larger {more} goes on)")
        return OK
    try:
        run(config, text, progress_bar=bar, resume=replace(found, changed=tuple(changed)))
    except resume.CompleteError as complete:
        print(complete)
    return OK


def _go_on_with_sweep(config: Config, text: str, place: Path, bar: bool, workers: Workers | None) -> int:
    from nanotorch.train.record.resume import ResumeError
    from nanotorch.train.sweep.run_sweep import is_complete, run_sweep

    if config.sweep is None:
        raise ResumeError(f"{place} is a sweep, and this config is of one run: go on with its own resolved.yaml")
    if is_complete(config, place):
        print(f"already complete: {place}")
    else:
        run_sweep(config, text, place, resume=True, progress_bar=bar, workers=workers)
    return OK


def _look(options: argparse.Namespace, config: Config) -> int:
    """Show what was asked about a run, without running it."""
    from pathlib import Path

    from nanotorch.train.config.loading import with_seed

    config = with_seed(config)
    if config.sweep is not None:
        print(f"{config.name} has a sweep: this looks at the config without it\n")
    if options.dry_run:
        from nanotorch.train.inspect.dry_run import dry_run

        print(dry_run(config))
        if config.sweep is not None:
            from nanotorch.train.sweep.trials import listing

            print(f"\n{listing(config)}")
    if options.doctor:
        import shlex

        from nanotorch.train.inspect.doctor import examine

        diagnosis = examine(config)
        kept = [one for one in options.overrides if one.partition("=")[0].strip() not in diagnosis.lines]
        given = [options.config, *(f"--target={name}" for name in options.target or ()), *kept]
        print(diagnosis.text(f"python -m nanotorch.train {shlex.join(given)}"))
    if options.find_lr:
        from nanotorch.train.fit.build import key_of_rate
        from nanotorch.train.inspect.lr_finder import range_test
        from nanotorch.train.record import directory, layout
        from nanotorch.train.report import pictures
        from nanotorch.train.run.run import files_of

        folder = Path(options.output or config.output)
        picture = folder / f"{config.name}-find-lr.svg"
        directory.check(folder)
        layout.refuse_to_replace(picture, [*files_of(config), options.config], [])
        found = range_test(config)
        folder.mkdir(parents=True, exist_ok=True)
        pictures.save(picture, [found.chart()], f"{config.name}: learning-rate range test", own=True)
        print(
            f"{found.text()}\n\n{len(found.rates)} steps, until {found.end}; drawn in"
            f" {picture}\n{key_of_rate(config)}={found.suggested:g}"
        )
    return OK


def _schema() -> int:
    """Print the JSON Schema of configs."""
    from nanotorch.train.config.schema import schema

    print(json.dumps(schema(), indent=1, ensure_ascii=False))
    return OK


def _list(kind: str) -> int:
    """Print the names that a config can give, each with its arguments."""
    import textwrap

    from nanotorch.train.config.sections import REGISTRIES

    for word, registry in REGISTRIES.items():
        if kind in (word, "all"):
            print(f"{word}:")
            # a config gives the name, no more
            kind_has_arguments = word not in ("activations", "initializations", "metrics")
            for name in registry:
                print(f"  {name}: {registry.summary(name)}")
                given = registry.arguments(name).values() if kind_has_arguments else ()
                words = [str(argument).replace(" ", UNBROKEN) for argument in given]
                for line in textwrap.wrap(", ".join(words), 94):
                    print(f"      {line.replace(UNBROKEN, ' ')}")
    return OK
