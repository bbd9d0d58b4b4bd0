"""The scores of a run, computed again from what it left: the same code as at its end, so the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.config.loading import batch_size_of
from nanotorch.train.data.columns.columns import Columns
from nanotorch.train.data.columns.notation import spellings
from nanotorch.train.data.columns.raw_cells import as_numbers
from nanotorch.train.data.data_notices import Noticed
from nanotorch.train.data.division.from_file import refuse_weights
from nanotorch.train.data.input_rows import open_rows
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import Mistakes, Table, TableError, shown
from nanotorch.train.data.table_file import lacks_target
from nanotorch.train.fit.build import device_of
from nanotorch.train.fit.loop import evaluate
from nanotorch.train.fit.loss_and_parts import loss_and_parts
from nanotorch.train.fit.prepare import Data, prepare
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.record.environment import environment, same_bits
from nanotorch.train.record.resume import environment_of
from nanotorch.train.terminal.blas_threads import blas_threads
from nanotorch.train.terminal.command import UsageError
from nanotorch.train.use.loaded_run import LoadedRun, with_its_files
from nanotorch.train.use.prediction import further_columns, target_columns


@dataclass(frozen=True, slots=True)
class Scores:
    """Loss and scores by the name of the part of the data, how many rows each has, and what the user should know."""

    scores: dict[str, dict[str, float]]
    rows: dict[str, int]
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)


def score(run: LoadedRun, names: Sequence[str] = ()) -> Scores:
    """Return the scores of these parts of the run's own data, or of all of them.

    The data are loaded and split as for training. Where they are not what the run was trained on, a note says so.
    """
    if run.members:
        raise UsageError(
            f"each row of the run's own data was trained on by some of the {len(run.members)} runs of {run.directory}:"
            " --input gives other rows to score their mean on; the summary.json there has the scores of each on its own"
            " test part"
        )
    data = prepare(with_its_files(run))
    unknown = [name for name in names if name not in data.parts]
    if unknown:
        raise UsageError(f"this run has no part {unknown[0]!r}; it has {', '.join(data.parts)}")
    notes = []
    if not _alike(data.preprocessing.state(), run.preprocessing.state()):
        notes.append("the data are not what they were when the run was trained, so neither are its parts")
    chosen = [name for name in data.parts if name in (names or data.parts)]
    found = _scores(run, Data(data.parts, run.preprocessing), chosen, notes)
    before, lost = environment_of(run.directory)
    if lost is not None:
        notes.append(lost)
    changes = same_bits(before, found.environment) if before else []
    if changes and not notes:
        notes.append(f"the last digits may not be those of training, for these have changed: {'; '.join(changes)}")
    return replace(found, notes=tuple(notes))


def score_rows(
    run: LoadedRun, path: str, target: str | None = None, written_as: Mapping[str, Any] | None = None
) -> Scores:
    """Return the scores of the rows of a file (`-` is CSV on standard input), which has to hold the truth too.

    `target` names the column of the true class where the run has no name for it, as for scikit-learn's datasets.
    `written_as` has keys of `data` where the file is written in another way than the table of the run.
    """
    preprocessing, noticed = run.preprocessing, Noticed()
    targets = [target] if target is not None else target_columns(run) or ["target"]
    if len(targets) != (len(preprocessing.of_classes) or len(preprocessing.target_names)):
        raise UsageError(f"--target names one column, and this run has {len(preprocessing.target_names)} targets")
    drop = run.config.data.arguments.get("missing_target") == "drop"
    with open_rows(path, preprocessing.column_names, {**run.reading, **(written_as or {})}) as file:
        further_columns(run, file)
        for name in targets:
            if name not in file.names:
                raise UsageError(
                    f"scores need the truth, and {file.source} has no column {shown(name)}; --target names another"
                    " column"
                )
        numbers = list(targets) if preprocessing.task == "regression" else []
        stated: str | None = run.config.data.arguments.get("weight")
        weight = stated if stated in file.names else None
        numbers += [] if weight is None else [weight]
        texts = [*preprocessing.columns_of_texts, *(name for name in targets if name not in numbers)]
        tables, left_out, of_rare = [], 0, 0
        for piece in file.pieces([*preprocessing.columns_of_numbers, *numbers], texts):
            if drop:
                lacking = np.any([lacks_target(piece, name) for name in targets], axis=0)
                left_out += int(lacking.sum())
                piece = piece.take(np.flatnonzero(~lacking))
            mistakes = Mistakes()
            with mistakes.gathered():
                features = preprocessing.encode_piece(piece.only(preprocessing.column_names), noticed)
            with mistakes.gathered():
                truth = _truth(run, piece, targets)
            weights = np.ones(piece.rows)
            if weight is not None:
                with mistakes.gathered():
                    weights = as_numbers(piece[weight], weight, piece.where, piece.notation)
                    refuse_weights(weights, weight, piece)
            mistakes.tell()
            if preprocessing.rare is not None:
                kept = truth >= 0
                of_rare += int((~kept).sum())
                features, truth, weights = features[kept], truth[kept], weights[kept]
            tables.append((features, truth, weights))
    features, truth, weights = (np.concatenate(pieces) for pieces in zip(*tables, strict=True))
    if not len(truth):
        raise TableError(f"{path} has no row")
    inputs = preprocessing.input_names
    of_rows = None if weight is None else weights
    as_known = preprocessing.task, inputs, preprocessing.target_names
    parts = {"rows": Table(features, truth, *as_known, weights=of_rows, classes=preprocessing.classes)}
    parts["train"] = parts["rows"]
    if run.config.loss.class_weight == "balanced":  # by the classes of the rows that were trained on
        train = prepare(with_its_files((run.members or (run,))[0])).parts["train"]
        encoded = preprocessing.features(train)
        parts["train"] = Table(encoded, train.targets, *as_known, weights=train.weights)
    as_it_is = Preprocessing(
        preprocessing.task,
        inputs,
        preprocessing.target_names,
        None,
        preprocessing.target_scaler,
        (0.0,) * len(inputs),
        encoding=preprocessing.encoding,
        missing_values=preprocessing.missing_values,
        rare=preprocessing.rare,
        classes=preprocessing.classes,
    )
    notes = [f"{path} has no column {shown(stated)}: each row counts once"] if stated != weight else []
    notes += [f"{of_rare} rows of classes that were left out of training are not scored"] if of_rare else []
    notes += [f"{left_out} rows without a target are left out (data.missing_target: drop)"] if left_out else []
    return _scores(run, Data(parts, as_it_is), ["rows"], [*notes, *noticed.sentences()])


def _scores(run: LoadedRun, data: Data, names: Sequence[str], notes: Sequence[str]) -> Scores:
    """Return the scores of some parts, computed as training does."""
    with borrowed_generator():
        criterion, parts = loss_and_parts(run.config, data, device_of(run.config))
        model = run.model.to(device_of(run.config))
        with blas_threads(model, batch_size_of(run.config)):
            scores = {name: evaluate(model, criterion, parts[name]) for name in names}
            here = environment(device_of(run.config))
    return Scores(scores, {name: len(parts[name]) for name in names}, tuple(notes), here)


def _truth(run: LoadedRun, piece: Columns, targets: Sequence[str]) -> NDArray[Any]:
    """Return the targets of some rows, as a Table wants them; -1 for a class that was left out of training."""
    preprocessing = run.preprocessing
    if preprocessing.task == "regression":
        columns = []
        for name, known in zip(targets, preprocessing.target_names, strict=True):
            unit = preprocessing.units.get(known, "")
            columns.append(as_numbers(piece[name], name, piece.where, piece.notation, unit))
            if np.isnan(columns[-1]).any():
                row = int(np.argmax(np.isnan(columns[-1])))
                raise TableError(f"{piece.where(row)}: the target {shown(name)} has no value")
        return np.stack(columns, axis=1)
    mistakes, numbers = Mistakes(), list[NDArray[np.int64]]()
    for name, classes in zip(targets, preprocessing.of_classes, strict=True):
        with mistakes.gathered():
            numbers.append(_class_numbers(preprocessing, piece, name, classes))
    mistakes.tell()
    return np.stack(numbers, axis=1) if preprocessing.classes else numbers[0]


def _class_numbers(
    preprocessing: Preprocessing, piece: Columns, target: str, classes_of: Sequence[str]
) -> NDArray[np.int64]:
    """Return the classes of some rows in a column of targets."""
    known_labels = spellings(classes_of)
    if preprocessing.rare is not None:
        classes, other = preprocessing.rare
        known_labels = dict.fromkeys(classes, known_labels.get(other, -1)) | known_labels
    labels = [
        None if text is None else text if text in known_labels else piece.notation.label(text)
        for text in piece[target].tolist()
    ]
    strange = next((row for row, label in enumerate(labels) if label not in known_labels), None)
    if strange is not None:
        what = (
            "has no value"
            if labels[strange] is None
            else f"is {shown(piece[target][strange])}, which is none of the model's classes"
        )
        known = ", ".join(classes_of[:20])
        raise TableError(f"{piece.where(strange)}: the target {shown(target)} {what} ({known})")
    return np.array([known_labels[label] for label in labels if label is not None], np.int64)


def _alike(one: Any, other: Any) -> bool:
    """Return whether plain values agree, numbers up to what another machine's sums may change."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)
