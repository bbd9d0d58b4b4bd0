"""The directory of several runs of one config, of folds and repeats as of a sweep: opened, new or to go on in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nanotorch.train.config.loading import resolved, settled_as, with_seed
from nanotorch.train.config.sections import Config
from nanotorch.train.record import directory
from nanotorch.train.record.resume import config_of
from nanotorch.train.run.run import files_of


class Asked(NamedTuple):
    """Where several runs are to be written, as `run` is asked for one."""

    source: str | None
    run_directory: Path | None
    overwrite: bool
    resume: bool
    needed: Sequence[str | Path]

    def begin(self, config: Config, called: str) -> Config:
        """Check the directory before anything is computed; return the config with a seed."""
        before = None
        if self.resume and self.run_directory is not None:
            before = config_of(self.run_directory)
            config = settled_as(config, before)
        if config.seed is None:
            config = with_seed(config, None if before is None else before.seed)
            print(f"seed {config.seed} {called if self.resume else 'drawn'}")
        if not self.resume:
            directory.check(config.output, self.run_directory, self.overwrite, [*self.needed, *files_of(config)])
        return config

    @contextmanager
    def opened(
        self, config: Config, here: dict[str, Any], going_on: Callable[[Path], None]
    ) -> Iterator[directory.RunDirectory]:
        """Open the directory and write what tells of all runs; `going_on` looks at one that is there first."""
        root = directory.create(config.output, config.name) if self.run_directory is None else self.run_directory
        root.mkdir(parents=True, exist_ok=True)
        with directory.RunDirectory(root) as files:
            if self.resume:
                going_on(root)
            else:
                files.claim(self.overwrite, [*self.needed, *files_of(config)])
            files.write("resolved.yaml", resolved(config))
            if self.source is not None:
                files.write("config.yaml", self.source)
            files.write_json("env.json", here)
            yield files
