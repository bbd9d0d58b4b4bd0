"""What is made of configs once, however many runs share it: data, their parts on the device, the environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from nanotorch.train.config.sections import Config
from nanotorch.train.data.datasets import takes_seed
from nanotorch.train.data.table import Table
from nanotorch.train.fit.build import Setup, build
from nanotorch.train.fit.decided import settled
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.prepare import Data, load, prepare, table_arguments
from nanotorch.train.record.environment import environment
from nanotorch.train.terminal.interrupt import Interrupt


class MadeData:
    """Data, as runs of alike configs share them."""

    def __init__(self, data: Data) -> None:
        self.data, self.fingerprint = data, data.fingerprint()
        self._parts: dict[str, dict[str, Part]] = {}

    def setup(self, config: Config) -> Setup:
        """Build what the config asks for, on parts that are there already where they are the same."""
        train = config.train
        decisive = [config.dtype, config.device, config.loss.model_dump(mode="json"), train.metrics, train.monitor]
        key = json.dumps([*decisive, train.batch_size])
        setup = build(config, self.data, self._parts.get(key))
        self._parts[key] = setup.parts
        return setup

    @property
    def nbytes(self) -> int:
        """What the rows take in memory, prepared."""
        parts = [part for parts in self._parts.values() for part in parts.values()]
        return sum(tensor.nbytes for part in parts for tensor in part.dataset.tensors)


def _kind(config: Config) -> str:
    """Return what says which table it is."""
    name, arguments = config.data.name, table_arguments(config)
    return json.dumps([name, arguments, takes_seed(name, arguments) and config.seed])


class Made:
    """What was made of configs, as long as a run that is open needs it, and what was made last.

    `notes` are what a table has decided of them, of which each run tells.
    """

    def __init__(self, interrupt: Interrupt, notes: Sequence[str] = ()) -> None:
        self._interrupt, self.notes = interrupt, notes
        self._data: WeakValueDictionary[str, MadeData] = WeakValueDictionary()
        self._latest: MadeData | None = None
        self._table: tuple[str, Table] | None = None
        self._environments: dict[tuple[str, bool], dict[str, Any]] = {}

    def of(self, config: Config) -> MadeData:
        """Return the data of a config."""
        key = json.dumps([_kind(config), config.data.model_dump(mode="json"), config.seed])
        found = self._data.get(key)
        if found is None:
            table = self.table(config)
            self._interrupt.check()
            found = self._data[key] = MadeData(prepare(config, table, self.notes))
        self._latest = found
        return found

    def settled(self, config: Config) -> Config:
        """Return the config of several runs with what its table decides, which they are told."""
        config, self.notes = settled(config, self.table(config))
        for sentence in self.notes:
            print(f"note: {sentence}")
        return config

    def table(self, config: Config) -> Table:
        """Return the table of a config, all rows of it; the last one is kept."""
        kind = _kind(config)
        if self._table is None or self._table[0] != kind:
            self._table = kind, load(config)
        return self._table[1]

    def environment(self, setup: Setup, worth: bool) -> dict[str, Any]:
        """Return what the bits depend on beside the config, with as many threads as a model is worth."""
        device = setup.parts["train"].device
        key = str(device), worth
        if key not in self._environments:
            self._environments[key] = environment(device)
        return self._environments[key]
