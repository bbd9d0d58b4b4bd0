"""A fit between its two ends: what an estimator has prepared, what the loop makes of it, and what fits share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray

from nanotorch import Tensor
from nanotorch.train.fit.chunks import Chunks, Compile
from nanotorch.train.fit.loop import FitOptions, fit
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.training import Training
from nanotorch.utils.data import DataLoader

Array = NDArray[Any]
T = TypeVar("T")


class Shared(dict[Hashable, Any]):
    """What several fits to the same rows have in common, made by the first that asks."""

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made under a key, and make it if nothing was."""
        if key not in self:
            self[key] = make()
        made: T = self[key]
        return made


class Rows(NamedTuple):
    """Rows as a network learns them.

    Attributes:
        features: (n, features).
        targets: class numbers (n,), or values (n, k).
        weights: of each row, or None.
        outputs: how many a network for them has.
        stratify: whether a part that is set apart has as much of each class.
        out_activation: what makes predictions of outputs, by scikit-learn's name.
    """

    features: Array
    targets: Array
    weights: Array | None
    outputs: int
    stratify: bool
    out_activation: str

    def taken(self, which: Array) -> Rows:
        """Return some of the rows."""
        weights = None if self.weights is None else self.weights[which]
        return self._replace(features=self.features[which], targets=self.targets[which], weights=weights)


@dataclass
class Prepared:
    """A fit that can begin, and what has to be known of it when it has ended.

    Attributes:
        training, loader, validation, options: what the loop takes.
        rows: what is learnt from, without those set apart.
        seed: of the fit.
        best: the weights of the best epoch, where one is chosen.
        compile: whether its steps run as a program: "auto" where that pays for all fits that are
        alike: as many as there are.
    """

    training: Training
    loader: DataLoader[Any]
    validation: Part | None
    options: FitOptions
    rows: Rows
    seed: int
    best: dict[str, Tensor] | None = None
    compile: Compile = "auto"
    alike: int = 1

    def events(self) -> Iterator[Any]:
        """Train: yield what the loop yields."""
        training, options, watched = self.training, self.options, self.validation is not None
        chunks = Chunks(
            training,
            self.loader,
            options,
            options.accumulate,
            options.epochs,
            self.compile,
            watched=watched,
            alike=self.alike,
        )
        return fit(training, self.loader, self.validation, options, chunks=chunks)

    @property
    def rows_of_a_batch(self) -> int:
        """How many rows the largest batch has."""
        return self.loader.batch_size or 1

    @property
    def as_table(self) -> bool:
        """Whether steps ran as a table, from the first one on."""
        return self.training.table_from == 1

    @property
    def unfinished(self) -> bool:
        """Whether it had to end while scores that are watched were still becoming better."""
        training = self.training
        return training.patience is not None and training.epoch >= self.options.epochs and not training.stopped
