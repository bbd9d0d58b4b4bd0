"""What a run predicts for rows: class names with a probability each, or values in the units of the targets."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.registry import LOSSES, closest
from nanotorch.train.data.data_notices import Noticed
from nanotorch.train.data.input_rows import RowFile, open_rows
from nanotorch.train.data.table import FloatArray, TableError, quoted, shown
from nanotorch.train.score import conformal
from nanotorch.train.score.classification import predicted, probabilities
from nanotorch.train.score.spread import of_classes, of_numbers
from nanotorch.train.terminal.blas_threads import blas_threads
from nanotorch.train.terminal.command import UsageError
from nanotorch.train.terminal.text_report import listed
from nanotorch.train.use.loaded_run import ROWS_AT_ONCE, LoadedRun, refuse_to_replace
from nanotorch.train.use.prediction_file import PredictionFile

LISTED = 5  # columns in one message


def predicted_columns(run: LoadedRun) -> list[str]:
    """Return the names of the columns that `predict` gives."""
    names = run.preprocessing.target_names
    if run.preprocessing.classes:
        odds = [
            f"probability_{_before_class(name)}={one}"
            for name, classes in zip(names, run.preprocessing.classes, strict=True)
            for one in (classes[1:] if len(classes) == 2 else classes)
        ]
        return [*(f"prediction_{name}" for name in names), *odds]
    if run.preprocessing.task != "regression":
        return ["prediction", *(f"probability_{name}" for name in names)]
    return ["prediction"] if len(names) == 1 else [f"prediction_{name}" for name in names]


def _before_class(target: str) -> str:
    """Return the name of a target as it stands before `=` and a class: quoted where it has that sign itself."""
    return json.dumps(target, ensure_ascii=False) if "=" in target else target


def columns_of_intervals(run: LoadedRun) -> list[str]:
    """Return the names of the columns that `intervals` gives."""
    predicted = predicted_columns(run)
    if run.preprocessing.classes:
        return _unlike([f"prediction_{name}_set" for name in run.preprocessing.target_names], predicted)
    if run.preprocessing.task != "regression":
        return ["prediction_set"]
    return _unlike([f"{name}_{end}" for name in predicted for end in ("low", "high")], predicted)


def columns_of_spread(run: LoadedRun) -> list[str]:
    """Return the names of the columns that `spread` gives."""
    predicted = predicted_columns(run)
    if run.preprocessing.classes:
        return _unlike([f"prediction_{name}_spread" for name in run.preprocessing.target_names], predicted)
    if run.preprocessing.task != "regression":
        return ["prediction_spread"]
    return _unlike([f"{name}_spread" for name in predicted], predicted)


def _unlike(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return names that nobody else has: a target may be called `y` and another one `y_low`.

    >>> _unlike(["prediction_y_low", "prediction_y_high"], ["prediction_y", "prediction_y_low"])
    ['prediction_y_low (2)', 'prediction_y_high']
    """
    found: list[str] = []
    for name in names:
        own = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
        found.append(next(one for one in own if one not in taken and one not in found))
    return found


def spread(run: LoadedRun, features: FloatArray, answer: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return, by name, how far the members of an ensemble are apart on prepared rows: the standard deviation (with
    n - 1) of what they predict, and for classes of the probability of the one that their mean calls.
    """
    said, names = run.outputs_of_members(features), columns_of_spread(run)
    if run.preprocessing.task == "regression":
        values = np.stack([run.preprocessing.in_units(one) for one in said])
        return dict(zip(names, of_numbers(values).T, strict=True))
    every, columns = run.preprocessing.of_classes, list(answer.values())
    numbers = [{name: k for k, name in enumerate(classes)} for classes in every]
    called = np.array([[of[name] for name in column] for of, column in zip(numbers, columns, strict=False)], np.int64).T
    spreads = of_classes(said, called, run.preprocessing.each)
    return dict(zip(names, spreads.reshape(len(called), -1).T, strict=True))


def predict(run: LoadedRun, features: FloatArray) -> dict[str, NDArray[Any]]:
    """For prepared rows, the columns of the answer by name: texts for the class, float64 for everything else.

    A class is the one with the largest probability; of two classes, the second where its probability is above a half,
    as the scores of training have it.
    """
    outputs, preprocessing = run.outputs(features), run.preprocessing
    if preprocessing.task == "regression":
        return dict(zip(predicted_columns(run), preprocessing.in_units(outputs).T, strict=True))
    pieces = list(zip(preprocessing.of_classes, preprocessing.each(outputs), strict=True))
    labels = [np.array(classes, dtype=object)[predicted(one)] for classes, one in pieces]
    odds = [column for _, one in pieces for column in probabilities(one).T[int(_second_alone(run, one)) :]]
    return dict(zip(predicted_columns(run), [*labels, *odds], strict=True))


def _second_alone(run: LoadedRun, outputs: NDArray[Any]) -> bool:
    """Return whether of the probabilities of a target only that of its second class is told: of several targets, where
    it has two.
    """
    return bool(run.preprocessing.classes) and outputs.shape[1] == 1


def intervals(run: LoadedRun, answer: Mapping[str, NDArray[Any]], limits: FloatArray) -> dict[str, NDArray[Any]]:
    """Return, by name, the columns that say what the truth is not beyond (Note [Conformal prediction]): the ends of an
    interval for numbers; for classes a JSON list of those that it may be, the likeliest first.

    Args:
        run: whose answer it is.
        answer: what `predict` gives.
        limits: what `run.limits` gives.
    """
    names, columns = columns_of_intervals(run), list(answer.values())
    if run.preprocessing.task == "regression":
        ends = [end for values, far in zip(columns, limits, strict=True) for end in (values - far, values + far)]
        return dict(zip(names, ends, strict=True))
    every = run.preprocessing.of_classes
    rest, found = columns[len(every) :], []
    for classes, limit in zip(every, limits.tolist(), strict=True):
        width = 1 if run.preprocessing.classes and len(classes) == 2 else len(classes)
        odds, rest = np.stack(rest[:width], axis=1), rest[width:]
        if width == 1:
            odds = np.concatenate([1 - odds, odds], axis=1)
        held, likeliest = conformal.in_set(odds, limit), np.argsort(-odds, axis=1, kind="stable").tolist()
        said = [
            json.dumps([classes[k] for k in order if of_row[k]], ensure_ascii=False)
            for order, of_row in zip(likeliest, held.tolist(), strict=True)
        ]
        found.append(np.array(said, dtype=object))
    return dict(zip(names, found, strict=True))


# ------------------------------------------------------------ whole files


@dataclass
class Predicted:
    """What `predict_file` did: how many rows, how many of each class, and what the user should know."""

    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def predict_file(
    run: LoadedRun,
    rows: str,
    output: str,
    keep: Sequence[str] = (),
    quote_formulas: bool = False,
    written_as: Mapping[str, Any] | None = None,
    interval: float | None = None,
    with_spread: bool = False,
) -> Predicted:
    """Predict the rows of a file (`-` is standard input) into another, some thousand rows at a time.

    The columns named by `keep` are copied from the input as they stand, before the predictions; `quote_formulas` puts
    an apostrophe before texts that a spreadsheet would compute; `written_as` has keys of `data` (separator, encoding
    ...) where the file is written in another way than the table of the run; `interval` is a probability, such as 0.9,
    with which columns of `intervals` hold the truth; `with_spread` adds those of `spread`. A column that the model
    needs and that is not there, and a cell that is no number where one is needed, are a TableError that names the
    place.
    """
    refuse_to_replace(run, output, rows)
    limits = None if interval is None else run.limits(interval)
    done, noticed = Predicted(), Noticed()
    features, texts = run.preprocessing.column_names, run.preprocessing.columns_of_texts
    columns = [*keep, *predicted_columns(run), *([] if limits is None else columns_of_intervals(run))]
    columns += columns_of_spread(run) if with_spread else []
    with open_rows(rows, features, {**run.reading, **(written_as or {})}) as file:
        further = further_columns(run, file)
        for name in keep:
            if name not in file.names:
                near = closest(name, file.names)
                hint = f" (did you mean {shown(near)}?)" if near else ""
                raise UsageError(f"{file.source} has no column {shown(name)} to keep{hint}")
        done.notes += _notes(run, [name for name in further if name not in keep])
        loss = run.config.loss.name
        if not LOSSES.entry(loss).facts.get("probabilities", True):
            done.notes.append(f"{loss} trains scores, not probabilities: take the probabilities as a ranking")
        with PredictionFile(output, columns, quote_formulas) as written, blas_threads(run.model, ROWS_AT_ONCE):
            for piece in file.pieces(run.preprocessing.columns_of_numbers, texts, keep):
                encoded = run.preprocessing.encode_piece(piece, noticed)
                answer = predict(run, encoded)
                added = {} if limits is None else intervals(run, answer, limits)
                if with_spread:
                    added |= spread(run, encoded, answer)
                written.write({**answer, **added, **piece.kept})
                done.rows += piece.rows
                for name, column in zip(run.preprocessing.target_names, answer.values(), strict=False):
                    if run.preprocessing.classes:
                        done.classes.update(f"{_before_class(name)}={label}" for label in column.tolist())
                if run.preprocessing.task in ("binary", "multiclass"):
                    done.classes.update(answer["prediction"].tolist())
    if not done.rows:
        done.notes.append(f"{file.source} has no row")
    done.notes += noticed.sentences()
    return done


def target_columns(run: LoadedRun) -> list[str]:
    """Return the columns that hold the truth, as far as they have names."""
    given = run.config.data.arguments.get("target")
    if given is not None:
        return [given] if isinstance(given, str) else list(given)
    several = run.preprocessing.task == "regression" or run.preprocessing.classes
    return list(run.preprocessing.target_names) if several else []


def further_columns(run: LoadedRun, file: RowFile) -> list[str]:
    """Return the columns of the file that the model does not take;
    one that it takes and that is not there is a TableError.
    """
    wanted = run.preprocessing.column_names
    present = set(file.names)
    further = [name for name in file.names if name not in wanted]
    absent = [name for name in wanted if name not in present]
    if absent:
        hints = []
        for name in absent[:LISTED]:
            near = closest(name, further)
            hints.append(f"{shown(name)} (did you mean {shown(near)}?)" if near else shown(name))
        one = "column" if len(absent) == 1 else "columns"
        raise TableError(
            f"{file.source} lacks {len(absent)} {one} that the model was trained on:"
            f" {listed([*hints, *absent[LISTED:]], LISTED)}; it has {quoted(file.names)}"
        )
    return further


def _notes(run: LoadedRun, further: Sequence[str]) -> Iterator[str]:
    targets = [name for name in further if name in target_columns(run)]
    arguments = run.config.data.arguments
    of_training = [arguments.get("weight"), *(arguments.get("split") or {}).values(), *arguments.get("drop", ())]
    rest = [name for name in further if name not in (*targets, *of_training)]
    if targets:
        one = len(targets) == 1
        yield (
            f"the target{'s' * (not one)} {quoted(targets)} {'is' if one else 'are'} in the file and"
            f" {'is' if one else 'are'} not looked at; python -m nanotorch.evaluate scores {'it' if one else 'them'}"
        )
    if rest:
        yield f"{len(rest)} {'column is' if len(rest) == 1 else 'columns are'} not used: {quoted(rest)}"
