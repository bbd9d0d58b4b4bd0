"""What there is to tell of a run when it is done: gathered once, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch import nn
from nanotorch.summary import Summary, summary
from nanotorch.train.config.loading import batch_size_of, resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.data.class_targets import Classes
from nanotorch.train.data.data_findings import Oddity
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import Table, spread_rows
from nanotorch.train.fit.loop import rows_at_once
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.prepare import Data
from nanotorch.train.model.members import apart, mean_of
from nanotorch.train.model.tempered import Tempered
from nanotorch.train.score import classification, conformal, spread
from nanotorch.train.score.classification import Calibration, ClassScore, TargetScore
from nanotorch.train.score.temperature import temperature
from nanotorch.utils.data import DataLoader

MOST_KEPT = 1000  # rows of the judged part of a regression
MOST_HELD = 2**21  # values for as many rows of the validation part


class Untempered(NamedTuple):
    """What a classifier says without its temperature.

    Attributes:
        temperature: by which its logits are divided.
        stated: what `Findings.stated` would be without.
        chances: what `Findings.chances` would be.
    """

    temperature: float
    stated: NDArray[np.float64]
    chances: NDArray[np.float64]


class Apart(NamedTuple):
    """How far the members of an ensemble are apart.

    Attributes:
        members: how many there are.
        spread: on each row, of the probability of the class that is called, (n,), or of the targets, (n, targets).
    """

    members: int
    spread: NDArray[np.float64]


@dataclass(frozen=True)
class Findings:
    """All about a run.

    Attributes:
        config: what the run did.
        parts: the rows, by the name of their part.
        preprocessing: how rows are prepared for the model.
        layers: the table of the model.
        judged: the name of the part whose predictions are looked at: "test", where there is one.
        guessed: what the best model says of the rows of that part: class numbers (n,), or outputs (n, targets); class
            numbers (n, targets) of several targets of classes.
        stated: the probability that it gives the second of two classes, or of more the one that it chose, (n,); of
            several targets of classes for each of them, (n, targets).
        chances: the probability that it gives the class of each row, (n,); of several targets (n, targets).
        sizes: how many classes the set of each row has at every one of LEVELS (Note [Conformal prediction]), (n, 3); of
            several targets (n, targets, 3).
        untempered: what it would say without its temperature, where it has one.
        apart: how far its members are apart on these rows, where it is an ensemble.
        held_out: how far off it is on rows of the validation part, (m, 1) for classes, else (m, targets).
        outputs_of: what the best model gives for rows as it sees them, (n, in_features).
        notices: what is to be known of the data.
        oddities: what is odd about its rows.
    """

    config: Config
    parts: Mapping[str, Table]
    preprocessing: Preprocessing
    layers: Summary
    judged: str
    guessed: NDArray[Any]
    stated: NDArray[np.float64]
    chances: NDArray[np.float64]
    sizes: NDArray[np.int64]
    untempered: Untempered | None
    apart: Apart | None
    held_out: NDArray[np.float64]
    outputs_of: Callable[[NDArray[np.float64]], NDArray[Any]]
    notices: Sequence[str] = ()
    oddities: Sequence[Oddity] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, or the targets."""
        return self.preprocessing.target_names

    @property
    def is_regression(self) -> bool:
        """Whether numbers are predicted, not classes."""
        return self.preprocessing.task == "regression"

    @property
    def several(self) -> Classes:
        """The classes of each target, where there are several targets of classes."""
        return self.preprocessing.classes

    @property
    def resolved(self) -> str:
        """The config with every value, as YAML."""
        return resolved(self.config)

    @property
    def true(self) -> NDArray[Any]:
        """The targets of the judged part: class numbers (n,), or values (n, targets)."""
        return self.parts[self.judged].targets

    @property
    def weights(self) -> NDArray[np.float64] | None:
        """How much each row of the judged part counts; None where all count once."""
        return self.parts[self.judged].weights

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """What a regression predicts for the judged part, in the units of the targets."""
        return self.preprocessing.in_units(self.guessed)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether a classifier has found the class of each row of the judged part; of several targets of all."""
        found: NDArray[np.bool_] = (self.true == self.guessed).reshape(len(self.true), -1).all(axis=1)
        return found

    @property
    def certainty(self) -> NDArray[np.float64]:
        """The probability of the chosen class, for each row of the judged part."""
        return np.maximum(self.stated, 1 - self.stated) if len(self.names) == 2 else self.stated

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix of a classifier, on the judged part: classes times classes numbers."""
        return classification.confusion(self.true, self.guessed, len(self.names))

    @cached_property
    def classes(self) -> list[ClassScore]:
        """The scores of every class of one target, on the judged part; none for a regression."""
        return (
            []
            if self.is_regression or self.several
            else classification.class_scores(self.true, self.guessed, self.names)
        )

    @cached_property
    def targets(self) -> list[TargetScore]:
        """The scores of several targets of classes, on the judged part; else none."""
        return classification.target_scores(self.true, self.guessed, self.names, self.several) if self.several else []

    @cached_property
    def calibration(self) -> Calibration:
        """How far the probabilities of a classifier can be believed, on the judged part."""
        return self.calibration_of(self.stated)

    def calibration_of(self, stated: NDArray[np.float64]) -> Calibration:
        """Return how far other probabilities of the same classes can be believed."""
        return classification.calibration(stated, self.true == 1 if len(self.names) == 2 else self.right)

    def facts(self) -> dict[str, Any]:
        """Return what `summary.json` says beside the scores; nothing for a regression."""
        if self.several:
            return {"targets": [score._asdict() for score in self.targets]}
        if self.is_regression:
            return {}
        return {"classes": [score._asdict() for score in self.classes], "calibration_error": self.calibration.error}

    def kept(self) -> dict[str, Any]:
        """Return what `held_out.json` says, for intervals of new rows, and for the page of folds."""
        plain: dict[str, Any] = {"held_out": self.held_out.T.tolist()}
        if self.is_regression:
            some = spread_rows(len(self.true), MOST_KEPT)
            varying = self.parts["validation"].targets.var(axis=0).tolist() if len(self.held_out) else None
            return plain | {
                "variance": varying,
                "true": self.true[some].T.tolist(),
                "predicted": self.values[some].T.tolist(),
            }
        if self.several:
            return plain
        many = len(self.names)
        pairs, rows = np.unique(self.true * many + self.guessed, return_counts=True)
        return plain | {"called": np.stack([pairs // many, pairs % many, rows], axis=1).tolist()}


def gather(config: Config, data: Data, model: nn.Module, parts: Mapping[str, Part]) -> Findings:
    """Let the model predict the last part of the data, and look at its layers."""
    judged = list(parts)[-1]
    held_out = _held_out(model, data, parts)
    said = _outputs(model, parts[judged], data.parts[judged], held_out, data.preprocessing)
    return Findings(
        config,
        data.parts,
        data.preprocessing,
        _layers(model, parts["train"], batch_size_of(config)),
        judged,
        *said,
        _apart(model, parts[judged], data.preprocessing, said.guessed),
        held_out,
        partial(_outputs_of, model, parts[judged]),
        getattr(data, "notices", ()),
        getattr(data, "oddities", ()),
    )


def outputs_of_some(
    model: nn.Module, part: Part, rows: Table, most: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[Any]]]:
    """Iterate over what the model gives for rows of a part, all or so many of them drawn by chance, and their targets,
    some rows at a time.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(part))[:most])
    at_once = rows_at_once(part)
    model.eval()
    for start in range(0, len(chosen), at_once):
        some = chosen[start : start + at_once]
        with torch.no_grad():
            outputs = model(part.dataset.__getitems__(some.tolist()).fields[0])
        yield outputs.cpu().numpy().astype(np.float64), rows.targets[some]


def tempered(model: nn.Module, part: Part, rows: Table) -> Tempered:
    """Return a classifier with the temperature that suits the rows of a part best (Note [Temperature])."""
    most = max(1, MOST_HELD // len(rows.target_names))
    outputs, targets = zip(*outputs_of_some(model, part, rows, most), strict=True)
    return Tempered(model, temperature(np.concatenate(outputs), np.concatenate(targets)))


def _held_out(model: nn.Module, data: Data, parts: Mapping[str, Part]) -> NDArray[np.float64]:
    """Return how far off the model is on rows of the validation part (Note [Conformal prediction])."""
    of_classes = data.preprocessing.of_classes
    if "validation" not in parts:
        return np.empty((0, len(of_classes) or len(data.preprocessing.target_names)))
    part, rows = parts["validation"], data.parts["validation"]
    most = max(1, min(conformal.MOST_SCORES, MOST_HELD // len(data.preprocessing.target_names)))

    def scores(outputs: NDArray[np.float64], true: NDArray[Any]) -> NDArray[np.float64]:
        if data.preprocessing.task == "regression":
            return np.abs(data.preprocessing.in_units(outputs) - true)
        return 1 - _chances(data.preprocessing, outputs, true)

    return np.concatenate([scores(*some) for some in outputs_of_some(model, part, rows, most)])


class Predictions(NamedTuple):
    """What the model says of the judged rows: see Findings."""

    guessed: NDArray[Any]
    stated: NDArray[np.float64]
    chances: NDArray[np.float64]
    sizes: NDArray[np.int64]
    untempered: Untempered | None


def _outputs(
    model: nn.Module, part: Part, rows: Table, held_out: NDArray[np.float64], preprocessing: Preprocessing
) -> Predictions:
    """Return what the model says of the rows, and how sure it is of their classes: see Findings."""
    limits = np.stack([conformal.limits(held_out, level) for level in conformal.LEVELS], axis=1)  # of each target
    guessed, stated, chances, sizes, raw = [], [], [], [], []
    model.eval()
    start = 0
    with torch.no_grad():
        for features, *_ in DataLoader(part.dataset, rows_at_once(part)):
            outputs = model(features).cpu().numpy()
            if part.scored_as["task"] == "regression":
                guessed.append(outputs)
                continue
            true = rows.targets[start : (start := start + len(outputs))]
            if preprocessing.classes:
                pieces = preprocessing.each(outputs)
                guessed.append(np.stack([classification.predicted(one) for one in pieces], axis=1))
                stated.append(np.stack([_stated(classification.probabilities(one)) for one in pieces], axis=1))
                chances.append(_chances(preprocessing, outputs, true))
                sizes.append(
                    np.stack(
                        [_sizes(classification.probabilities(one), of) for one, of in zip(pieces, limits, strict=True)],
                        axis=1,
                    )
                )
                continue
            guessed.append(classification.predicted(outputs))
            odds = classification.probabilities(outputs)
            stated.append(_stated(odds))
            chances.append(odds[np.arange(len(true)), true])
            sizes.append(_sizes(odds, limits[0]))
            if isinstance(model, Tempered):
                odds = classification.probabilities(outputs * model.temperature)
                raw.append((_stated(odds), odds[np.arange(len(true)), true]))
    empty = [np.empty(0)]
    return Predictions(
        np.concatenate(guessed),
        np.concatenate(stated or empty),
        np.concatenate(chances or empty),
        np.concatenate(sizes) if sizes else np.empty((0, len(conformal.LEVELS)), np.int64),
        Untempered(model.temperature, *map(np.concatenate, zip(*raw, strict=True)))
        if isinstance(model, Tempered)
        else None,
    )


def _apart(model: nn.Module, part: Part, preprocessing: Preprocessing, guessed: NDArray[Any]) -> Apart | None:
    """Return how far the members of a model are apart on the rows of a part, of which their mean says `guessed`; None
    where it is one model.
    """
    mean = mean_of(model)
    if mean is None:
        return None
    pieces, members, start = [], 0, 0
    model.eval()
    with torch.no_grad(), apart(mean):
        for features, *_ in DataLoader(part.dataset, rows_at_once(part)):
            said = model(features).cpu().numpy().swapaxes(0, 1).astype(np.float64)
            members, called = len(said), guessed[start : (start := start + said.shape[1])]
            if preprocessing.task == "regression":
                pieces.append(spread.of_numbers(np.stack([preprocessing.in_units(one) for one in said])))
            else:
                pieces.append(spread.of_classes(said, called, preprocessing.each))
    return Apart(members, np.concatenate(pieces))


def _chances(preprocessing: Preprocessing, outputs: NDArray[Any], true: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability of the true class of each target of classes, (n, targets)."""
    numbers = true.reshape(len(true), -1).T
    pieces = zip(preprocessing.each(outputs), numbers, strict=True)
    return np.stack([classification.probabilities(one)[np.arange(len(of)), of] for one, of in pieces], axis=1)


def _sizes(odds: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many classes the set of each row has within every limit, (n, limits)."""
    return np.stack([conformal.in_set(odds, limit).sum(axis=1) for limit in limits.tolist()], axis=1)


def _stated(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return odds[:, 1] if odds.shape[1] == 2 else odds.max(axis=1)


def _outputs_of(model: nn.Module, part: Part, features: NDArray[np.float64]) -> NDArray[Any]:
    """Return what the model gives for prepared rows, some at once."""
    like, at_once = part.features(1), rows_at_once(part)
    pieces = []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(features), at_once):
            rows = torch.tensor(features[start : start + at_once], dtype=like.dtype, device=like.device)
            pieces.append(model(rows).cpu().numpy())
    return np.concatenate(pieces)


def _layers(model: nn.Module, part: Part, batch_size: int) -> Summary:
    """Return the table of the model for a training batch;
    what layers are and hold, for their times change from run to run.
    """
    rows = part.features(batch_size)
    model.train(len(rows) > 1)  # a batch norm cannot train on a single row
    try:
        return summary(model, rows, repeats=1)
    finally:
        model.eval()
